//! Asks every rule and makes one verdict of their answers.

use super::{
    facts::{Evidence, Facts},
    listener, relay, scope, session, udp,
};
use crate::output::{Spoken, Verdict};

/// One rule: a public id and a pure function of the facts.
pub struct Rule {
    /// Public id; it never changes.
    pub id: &'static str,
    /// What the rule says, if it speaks.
    pub check: fn(&Facts<'_>) -> Option<Evidence>,
}

/// All rules, in the order in which equally bad ones are told.
pub const RULES: &[Rule] = &[
    Rule { id: "listen-with-remote", check: listener::listen_with_remote },
    Rule { id: "active-without-remote", check: session::active_without_remote },
    Rule { id: "loopback-relay", check: relay::loopback_relay },
    Rule { id: "twin-other-owner", check: udp::twin_other_owner },
    Rule { id: "unexplained-listener", check: listener::unexplained_listener },
    Rule { id: "unexplained-session", check: session::unexplained_session },
    Rule { id: "unexplained-udp", check: udp::unexplained_udp },
    Rule { id: "udp-twin", check: udp::udp_twin },
    Rule { id: "loopback-only", check: scope::loopback_only },
    Rule { id: "unknown-service", check: scope::unknown_service },
];

/// The rule that hands the verdict over to the twin.
const TWIN: &str = "udp-twin";

/// What the rules come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The verdict.
    pub verdict: Verdict,
    /// False where the verdict is a twin's, which is flagged itself.
    pub flagged: bool,
}

/// What the rules come to, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// What they come to.
    pub weight: Weight,
    /// Name of the policy entry that explains the socket, or its session.
    pub explained_by: Option<&'a str>,
}

/// Weighs a socket without a word; `twin` weighs the listener that a UDP port shares its port with.
pub fn weigh<'a>(facts: &Facts<'a>, twin: impl FnOnce(&Facts<'a>) -> Option<Verdict>) -> Weight {
    let (mut worst, mut has_twin) = (None, false);
    for rule in RULES {
        let Some(evidence) = (rule.check)(facts) else { continue };
        worst = worst.max(evidence.verdict);
        has_twin |= rule.id == TWIN;
    }
    conclude(facts, worst, has_twin.then(|| twin(facts)).flatten())
}

/// Judges a socket, as [`weigh`] does; `rules`, emptied before, are those that spoke, worst first.
pub fn judge<'a>(
    facts: &Facts<'a>,
    twin: impl FnOnce(&Facts<'a>) -> Option<Verdict>,
    rules: &mut Vec<Spoken>,
) -> Judgement<'a> {
    rules.clear();
    let mut ranks = [None; RULES.len()];
    for rule in RULES {
        let Some(Evidence { verdict, why }) = (rule.check)(facts) else { continue };
        // Behind those that are as bad: they are told in the order of `RULES`.
        let told = rules.len();
        let at = ranks[..told].iter().position(|rank| *rank < verdict).unwrap_or(told);
        ranks.copy_within(at..told, at + 1);
        ranks[at] = verdict;
        rules.insert(at, Spoken { rule: rule.id, why });
    }
    let has_twin = rules.iter().any(|spoken| spoken.rule == TWIN);
    Judgement {
        weight: conclude(facts, ranks[0], has_twin.then(|| twin(facts)).flatten()),
        explained_by: explained(facts),
    }
}

fn conclude(facts: &Facts<'_>, worst: Option<Verdict>, twin: Option<Verdict>) -> Weight {
    let ground = if explained(facts).is_some() { Verdict::Explained } else { Verdict::Ok };
    let own = worst.map_or(ground, |worst| worst.max(ground));
    Weight { verdict: twin.map_or(own, |twin| twin.max(own)), flagged: own.is_flagged() }
}

fn explained<'a>(facts: &Facts<'a>) -> Option<&'a str> {
    facts.explained.or(facts.session.and_then(|session| session.explained))
}

#[cfg(test)]
mod tests {
    use super::RULES;
    use crate::triage::explain;

    #[test]
    fn every_rule_has_its_text_and_every_text_its_rule() {
        let mut rules: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
        let mut texts: Vec<_> = explain::RULES.iter().map(|text| text.id).collect();
        rules.sort_unstable();
        texts.sort_unstable();
        assert_eq!(rules, texts);
    }
}
