//! Lines of a text, without keeping it in memory.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line that is looked at, bytes: twice the longest path. Longer ones are passed over.
const LINE: u64 = 8192;

/// Calls `take` with each line, without its end.
pub(super) fn each_line(text: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut text = BufReader::with_capacity(32 * 1024, text);
    let mut line = Vec::new();
    loop {
        line.clear();
        if text.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Some(line) = line.strip_suffix(b"\n") {
            take(line);
        } else if (line.len() as u64) < LINE {
            take(&line);
        } else {
            text.skip_until(b'\n')?;
        }
    }
}

/// The bytes that hex digits stand for.
pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        each_line(text, |line| lines.push(line.to_vec())).unwrap();
        lines
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(lines(b"a\n\nb"), [&b"a"[..], b"", b"b"]);
        assert_eq!(lines(b"a\n"), [b"a"]);
        assert_eq!(lines(b""), [b""; 0]);
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let long = vec![b'x'; 100_000];
        assert_eq!(lines(&[b"a\n", long.as_slice(), b"\nb\n"].concat()), [b"a", b"b"]);
        assert_eq!(lines(&long), [b""; 0]);
    }

    #[test]
    fn hex_is_pairs_of_digits_alone() {
        assert_eq!(from_hex(b"00fFa1"), Some(vec![0, 255, 161]));
        for text in [&b"0"[..], b"0g", b"+1", b" 1"] {
            assert_eq!(from_hex(text), None);
        }
    }
}
