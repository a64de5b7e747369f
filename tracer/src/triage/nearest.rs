//! "Did you mean …?": the known word nearest to one that was typed.
//!
//! Kept out: what the words are for, and how the question is put.

/// Words longer than this, in characters, are not compared: no known word is near them, and the cost grows with
/// the product of both lengths.
const LONGEST: usize = 64;

/// The candidate with the fewest edits to `word`, the first of equals; none when all are too far to be meant: more than
/// a third of the longer word's characters, and more than one.
///
/// Case is ignored, and `_` counts as `-`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = folded(word)?;
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let known = folded(candidate)?;
            let allowed = (word.len().max(known.len()) / 3).max(1);
            let distance = distance(&word, &known);
            (distance <= allowed && distance < known.len()).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour to make `b` of `a`
/// (optimal string alignment). Time and memory grow with the product and the sum of both lengths.
pub fn edit_distance(a: &str, b: &str) -> usize {
    distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
}

fn folded(word: &str) -> Option<Vec<char>> {
    let fold = |c: char| if c == '_' { '-' } else { c.to_ascii_lowercase() };
    let chars: Vec<char> = word.chars().take(LONGEST + 1).map(fold).collect();
    (chars.len() <= LONGEST).then_some(chars)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("exee", "exe", 1),
            ("exe", "exec", 1),
            ("user", "usre", 1),
            ("kind", "king", 1),
            ("kitten", "sitting", 3),
            ("ä", "a", 1),
        ] {
            assert_eq!(edit_distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let known = ["name", "exe", "local_port", "remote_port", "remote_cidr"];
        for (word, meant) in [
            ("exee", Some("exe")),
            ("EXE", Some("exe")),
            ("local-port", Some("local_port")),
            ("locl_prot", Some("local_port")),
            ("remote_pot", Some("remote_port")),
            ("colour", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn an_overlong_word_is_not_compared() {
        assert_eq!(nearest(&"a".repeat(1 << 20), ["aaa"]), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_bounded(a in ".{0,20}", b in ".{0,20}") {
            let edits = edit_distance(&a, &b);
            prop_assert_eq!(edits, edit_distance(&b, &a));
            prop_assert!(edits <= a.chars().count().max(b.chars().count()));
            prop_assert_eq!(edits == 0, a == b);
        }

        #[test]
        fn a_known_word_is_its_own_nearest(index in 0usize..3) {
            let known = ["loopback-only", "udp-twin", "unknown-service"];
            prop_assert_eq!(nearest(known[index], known), Some(known[index]));
        }
    }
}
