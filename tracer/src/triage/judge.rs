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

/// What the rules come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The rules that spoke, worst first.
    pub rules: Vec<Spoken>,
    /// Name of the policy entry that explains the socket, or its session.
    pub explained_by: Option<String>,
    /// False where the verdict is a twin's, which is flagged itself.
    pub flagged: bool,
}

/// Judges a socket; `twin` judges the listener that a UDP port shares its port with.
#[must_use]
pub fn judge<'a>(facts: &Facts<'a>, twin: impl FnOnce(&Facts<'a>) -> Option<Judgement>) -> Judgement {
    let mut spoken: Vec<(Evidence, &'static str)> =
        RULES.iter().filter_map(|rule| Some(((rule.check)(facts)?, rule.id))).collect();
    spoken.sort_by_key(|(evidence, _)| std::cmp::Reverse(evidence.verdict));
    let own = spoken.iter().filter_map(|(evidence, _)| evidence.verdict).max();
    let explained = facts.explained.or(facts.session.and_then(|session| session.explained));
    let ground = if explained.is_some() { Verdict::Explained } else { Verdict::Ok };
    let own = own.map_or(ground, |own| own.max(ground));
    let twins = spoken.iter().any(|(_, id)| *id == "udp-twin").then(|| twin(facts)).flatten();
    let rules = spoken.into_iter().map(|(evidence, rule)| Spoken { rule, why: evidence.why }).collect();
    Judgement {
        verdict: twins.map_or(own, |twin| twin.verdict.max(own)),
        rules,
        explained_by: explained.map(str::to_owned),
        flagged: own.is_flagged(),
    }
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
