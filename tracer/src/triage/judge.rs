//! Asks every rule and makes one verdict of their answers.

use super::{
    facts::{Evidence, Facts, Reason},
    listener, program, relay, scope, session, shell, udp,
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
    Rule { id: "shell-on-socket", check: shell::shell_on_socket },
    Rule { id: "loopback-relay", check: relay::loopback_relay },
    Rule { id: "twin-other-owner", check: udp::twin_other_owner },
    Rule { id: "memory-executable", check: program::memory_executable },
    Rule { id: "deleted-executable", check: program::deleted_executable },
    Rule { id: "modified-executable", check: program::modified_executable },
    Rule { id: "temp-executable", check: program::temp_executable },
    Rule { id: "unexplained-listener", check: listener::unexplained_listener },
    Rule { id: "unexplained-session", check: session::unexplained_session },
    Rule { id: "unexplained-udp", check: udp::unexplained_udp },
    Rule { id: "udp-twin", check: udp::udp_twin },
    Rule { id: "loopback-only", check: scope::loopback_only },
    Rule { id: "unpackaged-executable", check: program::unpackaged_executable },
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
    /// What explains the socket, or its session.
    pub explained_by: Option<Reason<'a>>,
}

/// Weighs a socket without a word; `twin` weighs the listener that a UDP port shares its port with.
pub fn weigh<'a>(facts: &Facts<'a>, twin: impl FnOnce(&Facts<'a>) -> Option<Verdict>) -> Weight {
    let (mut worst, mut raised, mut has_twin) = (None, false, false);
    for rule in RULES {
        let Some(evidence) = (rule.check)(facts) else { continue };
        worst = worst.max(evidence.verdict);
        raised |= evidence.raises;
        has_twin |= rule.id == TWIN;
    }
    conclude(facts, raise(worst, raised), has_twin.then(|| twin(facts)).flatten())
}

/// Judges a socket, as [`weigh`] does; `rules`, emptied before, are those that spoke, worst first.
pub fn judge<'a>(
    facts: &Facts<'a>,
    twin: impl FnOnce(&Facts<'a>) -> Option<Verdict>,
    rules: &mut Vec<Spoken>,
) -> Judgement<'a> {
    rules.clear();
    let mut ranks = [None; RULES.len()];
    let (mut worst, mut raised) = (None, false);
    for rule in RULES {
        let Some(Evidence { verdict, raises, why }) = (rule.check)(facts) else { continue };
        worst = worst.max(verdict);
        raised |= raises;
        // Behind those that are as bad: they are told in the order of `RULES`.
        let rank = if raises { Some(Verdict::Suspicious) } else { verdict };
        let told = rules.len();
        let at = ranks[..told].iter().position(|other| *other < rank).unwrap_or(told);
        ranks.copy_within(at..told, at + 1);
        ranks[at] = rank;
        rules.insert(at, Spoken { rule: rule.id, why });
    }
    let has_twin = rules.iter().any(|spoken| spoken.rule == TWIN);
    Judgement {
        weight: conclude(facts, raise(worst, raised), has_twin.then(|| twin(facts)).flatten()),
        explained_by: explained(facts),
    }
}

/// What is wrong with the owner's program makes research suspicious, and nothing else.
fn raise(worst: Option<Verdict>, raised: bool) -> Option<Verdict> {
    if raised && worst == Some(Verdict::Research) { Some(Verdict::Suspicious) } else { worst }
}

fn conclude(facts: &Facts<'_>, worst: Option<Verdict>, twin: Option<Verdict>) -> Weight {
    let ground = if explained(facts).is_some() { Verdict::Explained } else { Verdict::Ok };
    let own = worst.map_or(ground, |worst| worst.max(ground));
    Weight { verdict: twin.map_or(own, |twin| twin.max(own)), flagged: own.is_flagged() }
}

fn explained<'a>(facts: &Facts<'a>) -> Option<Reason<'a>> {
    facts.explained.or_else(|| facts.session?.explained.map(Reason::Entry))
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
