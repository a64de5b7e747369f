//! What is wrong in a policy file, and where: byte offsets become lines and columns.

use std::fmt;

/// A mistake in a policy file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyError {
    /// The file, as it was given to the parser.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right; one line without control characters.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for PolicyError {}

/// Line and column, both from 1, of the character at a byte offset; past the end counts as the end.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_counted_in_characters() {
        let text = "a\näö=x\r\n\nend";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 1), (1, 2));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, text.find('=').unwrap()), (2, 3));
        assert_eq!(position(text, text.find("end").unwrap()), (4, 1));
        assert_eq!(position(text, 1000), (4, 4));
        assert_eq!(position("", 0), (1, 1));
    }

    proptest! {
        #[test]
        fn every_offset_has_a_position_inside_the_text(text in "(?s).{0,60}", offset in 0usize..300) {
            let (line, column) = position(&text, offset);
            let found = text.split('\n').nth(line - 1).unwrap();
            prop_assert!(column <= found.chars().count() + 1);
        }
    }
}
