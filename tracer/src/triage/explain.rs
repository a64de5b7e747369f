//! What `tracer explain` says: for each rule when it speaks, why it matters, what is innocent, what to check next.
//!
//! Kept out: the rules themselves, and the wrapping and colouring of the text.

use std::fmt;

use super::nearest;

mod rules;

pub use rules::RULES;

/// One rule, explained to the person who has to act on it. Texts are whole sentences without line breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The rule's public name.
    pub id: &'static str,
    /// What the rule does to the verdict.
    pub verdict: &'static str,
    /// The state of affairs in which the rule speaks.
    pub speaks_when: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// How it comes about without harm; empty where the rule flags nothing.
    pub innocent_causes: &'static [&'static str],
    /// What to do next, most telling first. In commands, PID, PORT, REMOTE, USER, PATH and PACKAGE stand for the flag's own.
    pub check_next: &'static [&'static str],
}

impl fmt::Display for Explanation {
    /// Several lines: the rule's name and verdict, then one paragraph or list for each part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.id, self.verdict)?;
        writeln!(f, "\nSpeaks when: {}", self.speaks_when)?;
        writeln!(f, "\nWhy it matters: {}", self.why)?;
        list(f, "Innocent causes", self.innocent_causes)?;
        list(f, "Check next", self.check_next)
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, points: &[&str]) -> fmt::Result {
    if points.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}:")?;
    points.iter().try_for_each(|point| writeln!(f, "  - {point}"))
}

/// The explanation of the rule with this name.
pub fn find(id: &str) -> Option<&'static Explanation> {
    RULES.iter().find(|rule| rule.id == id)
}

/// The name of the rule that was probably meant.
pub fn nearest(id: &str) -> Option<&'static str> {
    nearest::nearest(id, RULES.iter().map(|rule| rule.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_the_ones_of_the_contract_in_its_order() {
        let ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(
            ids,
            [
                "loopback-only",
                "unexplained-listener",
                "unexplained-session",
                "unexplained-udp",
                "udp-twin",
                "twin-other-owner",
                "listen-with-remote",
                "active-without-remote",
                "unknown-service",
                "loopback-relay",
                "deleted-executable",
                "memory-executable",
                "temp-executable",
                "unpackaged-executable",
                "modified-executable",
                "shell-on-socket",
            ]
        );
    }

    #[test]
    fn every_rule_is_found_by_its_name_and_by_a_slip_of_it() {
        for rule in RULES {
            assert_eq!(find(rule.id), Some(rule));
            assert_eq!(nearest(&rule.id[1..]), Some(rule.id));
            assert_eq!(nearest(&rule.id.replace('-', "_").to_uppercase()), Some(rule.id));
        }
        assert_eq!(find("udp-twins"), None);
        assert_eq!(nearest("udp-twins"), Some("udp-twin"));
        assert_eq!(nearest("firewall"), None);
    }

    #[test]
    fn every_text_is_whole_sentences_on_one_line() {
        for rule in RULES {
            let lists = rule.innocent_causes.iter().chain(rule.check_next);
            for text in [rule.speaks_when, rule.why].iter().chain(lists) {
                assert!(text.ends_with(['.', '`', '?']), "{}: {text}", rule.id);
                assert!(!text.contains(['\n', '\t']) && !text.contains("  "), "{}: {text}", rule.id);
            }
            assert!(!rule.check_next.is_empty(), "{}", rule.id);
        }
    }

    #[test]
    fn rules_that_flag_name_innocent_causes_and_a_command() {
        for rule in RULES.iter().filter(|rule| rule.verdict == "research" || rule.verdict == "suspicious") {
            assert!(!rule.innocent_causes.is_empty(), "{}", rule.id);
            assert!(rule.check_next.iter().any(|step| step.contains('`')), "{}", rule.id);
        }
    }

    #[test]
    fn text_holds_every_part() {
        let rule = find("unexplained-listener").unwrap();
        let text = rule.to_string();
        assert!(text.starts_with("unexplained-listener (research)\n"), "{text}");
        assert!(text.contains(rule.speaks_when) && text.contains(rule.why), "{text}");
        assert!(
            rule.innocent_causes.iter().chain(rule.check_next).all(|point| text.contains(point)),
            "{text}"
        );
    }
}
