//! Hostile text made visible: process names, paths, arguments and host names, which may hold any byte.
//!
//! The scheme, which [`unescape`] takes back exactly:
//!
//! | input | output |
//! | --- | --- |
//! | backslash | `\\` |
//! | newline, tab, carriage return | `\n`, `\t`, `\r` |
//! | any other control byte below 0x20, 0x7f, and each byte that is not part of valid UTF-8 | `\xNN`, two hex digits |
//! | a valid character that is invisible, reorders text, or has no agreed meaning | `\u{N}`, hex digits |
//! | everything else | itself |
//!
//! Kept out: quoting, colour and truncation. Combining marks stay: languages need them, and they cannot leave their
//! line.

use std::fmt::Write;
use std::str::Utf8Chunk;

/// Ranges of characters that are escaped as `\u{N}`, sorted: general categories Cc (beyond ASCII), Cf, Zl, Zp, Zs
/// (beyond the ASCII space), Co and Cn as far as blocks are concerned, and Default_Ignorable_Code_Point (Unicode 16).
///
/// This holds every bidi control (U+061C, U+200E, U+200F, U+202A–U+202E, U+2066–U+2069), zero-width and filler
/// characters, the byte-order mark, variation selectors, the tags, private use and noncharacters.
const HIDDEN: &[(char, char)] = &[
    ('\u{80}', '\u{a0}'),        // C1 controls and the no-break space
    ('\u{ad}', '\u{ad}'),        // soft hyphen
    ('\u{34f}', '\u{34f}'),      // combining grapheme joiner
    ('\u{600}', '\u{605}'),      // Arabic number signs
    ('\u{61c}', '\u{61c}'),      // Arabic letter mark
    ('\u{6dd}', '\u{6dd}'),      // Arabic end of ayah
    ('\u{70f}', '\u{70f}'),      // Syriac abbreviation mark
    ('\u{890}', '\u{891}'),      // Arabic pound and piastre marks
    ('\u{8e2}', '\u{8e2}'),      // Arabic disputed end of ayah
    ('\u{115f}', '\u{1160}'),    // Hangul fillers
    ('\u{1680}', '\u{1680}'),    // Ogham space
    ('\u{17b4}', '\u{17b5}'),    // Khmer inherent vowels
    ('\u{180b}', '\u{180f}'),    // Mongolian variation selectors and vowel separator
    ('\u{2000}', '\u{200f}'),    // spaces, zero-width characters, direction marks
    ('\u{2028}', '\u{202f}'),    // line and paragraph separators, bidi embeddings, narrow no-break space
    ('\u{205f}', '\u{206f}'),    // mathematical space, invisible operators, bidi isolates
    ('\u{2800}', '\u{2800}'),    // blank Braille pattern
    ('\u{3000}', '\u{3000}'),    // ideographic space
    ('\u{3164}', '\u{3164}'),    // Hangul filler
    ('\u{e000}', '\u{f8ff}'),    // private use
    ('\u{fdd0}', '\u{fdef}'),    // noncharacters
    ('\u{fe00}', '\u{fe0f}'),    // variation selectors
    ('\u{feff}', '\u{feff}'),    // byte-order mark
    ('\u{ffa0}', '\u{ffa0}'),    // half-width Hangul filler
    ('\u{fff0}', '\u{fffb}'),    // unassigned, interlinear annotation
    ('\u{fffe}', '\u{ffff}'),    // noncharacters
    ('\u{110bd}', '\u{110bd}'),  // Kaithi number sign
    ('\u{110cd}', '\u{110cd}'),  // Kaithi number sign above
    ('\u{13430}', '\u{1343f}'),  // Egyptian hieroglyph format controls
    ('\u{1bca0}', '\u{1bca3}'),  // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'),  // musical format controls
    ('\u{1fffe}', '\u{1ffff}'),  // noncharacters
    ('\u{2fffe}', '\u{2ffff}'),  // noncharacters
    ('\u{3fffe}', '\u{10ffff}'), // unassigned planes, tags, variation selectors, private use
];

/// `bytes` as text without a control, bidi, invisible or invalid character; see the scheme above.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    match str::from_utf8(bytes) {
        Ok(text) => push_text(&mut out, text),
        Err(_) => bytes.utf8_chunks().for_each(|chunk| push_chunk(&mut out, &chunk)),
    }
    out
}

fn push_chunk(out: &mut String, chunk: &Utf8Chunk<'_>) {
    push_text(out, chunk.valid());
    chunk.invalid().iter().for_each(|&byte| push_byte(out, byte));
}

/// Appends valid text; a run of plain ASCII is copied whole.
fn push_text(out: &mut String, mut text: &str) {
    loop {
        let plain = text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len());
        let (copied, rest) = text.split_at(plain);
        out.push_str(copied);
        let mut chars = rest.chars();
        let Some(special) = chars.next() else { return };
        push_special(out, special);
        text = chars.as_str();
    }
}

/// Whether the byte is an ASCII character that stands for itself.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\'
}

fn push_special(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\0'..='\u{7f}' => push_byte(out, c as u8),
        _ if is_hidden(c) => push_formatted(out, format_args!("\\u{{{:x}}}", u32::from(c))),
        _ => out.push(c),
    }
}

fn push_byte(out: &mut String, byte: u8) {
    push_formatted(out, format_args!("\\x{byte:02x}"));
}

fn push_formatted(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail: it reports no error of its own.
    let _ = out.write_fmt(text);
}

fn is_hidden(c: char) -> bool {
    let after = HIDDEN.partition_point(|&(first, _)| first <= c);
    after.checked_sub(1).is_some_and(|index| c <= HIDDEN[index].1)
}

/// The bytes that [`escape`] was given; none when `text` holds a malformed escape.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        rest = take_escape(&mut out, escaped)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

/// Appends what the escape at the start of `text`, its backslash removed, stands for; returns what follows it.
fn take_escape<'a>(out: &mut Vec<u8>, text: &'a str) -> Option<&'a str> {
    let mut chars = text.chars();
    match chars.next()? {
        '\\' => out.push(b'\\'),
        'n' => out.push(b'\n'),
        't' => out.push(b'\t'),
        'r' => out.push(b'\r'),
        'x' => {
            let (digits, rest) = chars.as_str().split_at_checked(2)?;
            out.push(u8::try_from(hex(digits)?).ok()?);
            return Some(rest);
        }
        'u' => {
            let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
            let c = char::from_u32(hex(digits)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    }
    Some(chars.as_str())
}

/// One to six hex digits; `from_str_radix` alone would take a sign as well.
fn hex(digits: &str) -> Option<u32> {
    let well_formed = (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    well_formed.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn readable_text_stays_as_it_is() {
        for text in ["", "nginx: worker process", "/usr/bin/python3.11", "日本語", "Grüße", "привет", "🦀"]
        {
            assert_eq!(escape(text.as_bytes()), text);
        }
    }

    #[test]
    fn each_kind_of_hostile_byte_is_visible() {
        for (bytes, shown) in [
            (&b"a\\b"[..], r"a\\b"),
            (b"\n\t\r", r"\n\t\r"),
            (b"\0\x1b[31m\x7f", r"\x00\x1b[31m\x7f"),
            (b"\x80ok\xff\xfe", r"\x80ok\xff\xfe"),
            (b"\xe2\x80", r"\xe2\x80"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            ("\u{85}\u{9b}31m".as_bytes(), r"\u{85}\u{9b}31m"),
            ("a\u{202e}b\u{2066}\u{200f}\u{61c}".as_bytes(), r"a\u{202e}b\u{2066}\u{200f}\u{61c}"),
            ("\u{200b}\u{feff}\u{ad}\u{a0}".as_bytes(), r"\u{200b}\u{feff}\u{ad}\u{a0}"),
            ("\u{2028}\u{2029}\u{e0041}\u{f8ff}".as_bytes(), r"\u{2028}\u{2029}\u{e0041}\u{f8ff}"),
        ] {
            assert_eq!(escape(bytes), shown);
            assert_eq!(unescape(shown).unwrap(), bytes);
        }
    }

    #[test]
    fn text_that_looks_like_an_escape_is_not_taken_for_one() {
        assert_eq!(escape(br"\x1b"), r"\\x1b");
        assert_eq!(unescape(r"\\x1b").unwrap(), br"\x1b");
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for text in [
            r"\",
            r"\q",
            r"\x",
            r"\x1",
            r"\xg0",
            r"\x+1",
            r"\xä",
            r"\u202e",
            r"\u{}",
            r"\u{d800}",
            r"\u{110000}",
            r"\u{1",
        ] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn hidden_ranges_are_sorted_and_apart() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    /// Independent of the table: what a terminal or a reader could be misled by.
    fn is_misleading(c: char) -> bool {
        c.is_control()
            || (c.is_whitespace() && c != ' ')
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{e000}'..='\u{f8ff}')
    }

    fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<Vec<u8>>(),
            any::<String>().prop_map(String::into_bytes),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            (0..0x2100u32)
                .prop_filter_map("surrogate", char::from_u32)
                .prop_map(|c| c.to_string().into_bytes()),
            Just(br"\x1b\u{202e}\\n".to_vec()),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn escape_is_reversible(bytes in hostile_bytes()) {
            prop_assert_eq!(unescape(&escape(&bytes)), Some(bytes));
        }

        #[test]
        fn escaped_text_holds_nothing_misleading(bytes in hostile_bytes()) {
            prop_assert!(!escape(&bytes).chars().any(is_misleading));
        }

        #[test]
        fn unescape_never_panics(text in "(\\\\[xu{}0-9a-f]{0,4}|.){0,12}") {
            let _ = unescape(&text);
        }
    }

    #[test]
    fn no_character_at_all_slips_through() {
        for c in '\0'..=char::MAX {
            let shown = escape(c.encode_utf8(&mut [0; 4]).as_bytes());
            assert!(!shown.chars().any(is_misleading), "U+{:04X}", u32::from(c));
        }
    }
}
