//! Lines of a text, without keeping it in memory.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use memchr::memchr_iter;

/// Longest line that is looked at, bytes: twice the longest path. Longer ones are passed over.
const LINE: usize = 8192;
const PIECE: usize = 32 * 1024;

/// Calls `take` with each line, without its end. Only what lies over the end of a piece is copied: the lists of a machine's
/// packages are a hundred thousand lines.
pub(super) fn each_line(text: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut text = BufReader::with_capacity(PIECE, text);
    let mut take = |line: &[u8]| {
        if line.len() < LINE {
            take(line)
        }
    };
    let mut begun = Vec::new();
    loop {
        let piece = match text.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            piece => piece?,
        };
        if piece.is_empty() {
            break;
        }
        let mut from = 0;
        for end in memchr_iter(b'\n', piece) {
            let line = &piece[from..end];
            from = end + 1;
            if begun.is_empty() {
                take(line);
            } else {
                go_on(&mut begun, line);
                take(&begun);
                begun.clear();
            }
        }
        go_on(&mut begun, &piece[from..]);
        let read = piece.len();
        text.consume(read);
    }
    if !begun.is_empty() {
        take(&begun);
    }
    Ok(())
}

/// Of a line that is too long no more is kept than shows that.
fn go_on(begun: &mut Vec<u8>, rest: &[u8]) {
    let room = LINE - begun.len();
    begun.extend_from_slice(&rest[..rest.len().min(room)]);
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
    fn lines_are_whole_wherever_a_piece_of_the_text_ends() {
        let text: Vec<_> = (0..20_000).map(|number| "x".repeat(number % 70).into_bytes()).collect();
        let ended = [text.join(&b'\n').as_slice(), b"\n"].concat();
        assert!(ended.len() > 10 * PIECE);
        assert_eq!(lines(&ended), text);
        let longest = vec![b'y'; LINE - 1];
        let text = [vec![b'x'; PIECE - 100], longest.clone(), vec![b'z'; LINE], b"last".to_vec()];
        assert_eq!(lines(&text.join(&b'\n')), [longest, b"last".to_vec()]);
    }

    #[test]
    fn hex_is_pairs_of_digits_alone() {
        assert_eq!(from_hex(b"00fFa1"), Some(vec![0, 255, 161]));
        for text in [&b"0"[..], b"0g", b"+1", b" 1"] {
            assert_eq!(from_hex(text), None);
        }
    }
}
