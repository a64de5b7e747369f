//! The proof that hooks deliver: after each round of the self-test's traffic every attached hook must have
//! left its mark. What changed since the round before becomes a `degraded` event.

use std::{collections::BTreeSet, time::Duration};

use super::{
    live::boot_now,
    selftest::{Exercised, SelfTest, Traffic},
};
use crate::{
    bpf::{loader::Attached, proof::Proof},
    model::event::{BootNanos, Degraded},
};

/// A round that leaves a hook unproven is repeated once after this time: nanoseconds.
const AGAIN: BootNanos = 100_000_000;
/// Stands for the traffic itself, which may fail as a hook may.
const TRAFFIC: &str = "self-test";

/// The self-test and what it proved so far.
pub struct Proofs {
    selftest: SelfTest,
    /// Between two proofs, nanoseconds; nothing when the first is the only one.
    period: Option<BootNanos>,
    /// When the next round begins; nothing while one is under way, or when there is none to come.
    next: Option<BootNanos>,
    /// The round before left something unproven, and is being repeated.
    repeated: bool,
    verdicts: Verdicts,
}

impl Proofs {
    /// The first proof is due at once, each further one `period` later; with a period of 0 there is no
    /// further one.
    #[must_use]
    pub fn new(selftest: SelfTest, period: Duration) -> Self {
        let period = BootNanos::try_from(period.as_nanos()).ok().filter(|nanos| *nanos > 0);
        Self { selftest, period, next: Some(0), repeated: false, verdicts: Verdicts::default() }
    }

    /// When [`Proofs::begin`] is due.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNanos> {
        self.next
    }

    /// Begins a round: wipes the marks and orders the traffic.
    pub fn begin(&mut self, marks: &mut Proof) {
        self.next = None;
        if let Err(error) = marks.clear() {
            tracing::warn!("the marks of hooks cannot be wiped: {error}");
        }
        self.selftest.start();
    }

    /// The outcome of the round that is under way.
    pub async fn report(&mut self) -> Traffic {
        self.selftest.report().await
    }

    /// Looks at the marks after a round; gives what is to be told.
    pub fn judge(&mut self, traffic: &Traffic, hooks: &[Attached], marks: &Proof) -> Vec<Degraded> {
        let quiet = quiet(traffic, hooks, marks);
        let now = boot_now();
        if !self.repeated && self.verdicts.has_worse(&quiet) {
            self.repeated = true;
            self.next = Some(now + AGAIN);
            return Vec::new();
        }
        self.repeated = false;
        self.next = self.period.map(|period| now + period);
        self.verdicts.take(quiet, hooks)
    }

    /// Makes the first proof while nobody else waits; gives what it told.
    pub fn prove_now(&mut self, hooks: &[Attached], marks: &mut Proof) -> Vec<Degraded> {
        loop {
            self.begin(marks);
            let traffic = self.selftest.wait();
            let told = self.judge(&traffic, hooks, marks);
            if !self.repeated {
                return told;
            }
            std::thread::sleep(Duration::from_nanos(AGAIN));
        }
    }
}

/// Programs without a mark, with the reason; none is quiet for which there was no traffic.
fn quiet(traffic: &Traffic, hooks: &[Attached], marks: &Proof) -> BTreeSet<Quiet> {
    let exercised = match traffic {
        Ok(exercised) => *exercised,
        Err(why) => {
            let why = format!("its traffic failed ({why}): whether the hooks deliver is not known");
            return BTreeSet::from([Quiet { program: TRAFFIC, why }]);
        }
    };
    unmarked(hooks, exercised, |program| marks.ran(program).map_err(|e| e.to_string()))
}

fn unmarked(
    hooks: &[Attached],
    exercised: Exercised,
    ran: impl Fn(&str) -> Result<bool, String>,
) -> BTreeSet<Quiet> {
    let expected = hooks.iter().filter(|hook| exercised.v6 || !hook.v6);
    expected
        .filter_map(|hook| {
            let why = match ran(hook.program) {
                Ok(true) => return None,
                Ok(false) => "its program did not run for the self-test's traffic: it was detached, or the \
                              kernel runs it no more"
                    .to_owned(),
                Err(error) => format!("its mark cannot be read: {error}"),
            };
            Some(Quiet { program: hook.program, why })
        })
        .collect()
}

/// A program that did not prove itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Quiet {
    program: &'static str,
    why: String,
}

/// What was told last of each hook that is quiet.
#[derive(Default)]
struct Verdicts(BTreeSet<&'static str>);

impl Verdicts {
    /// Whether something is quiet that was not.
    fn has_worse(&self, quiet: &BTreeSet<Quiet>) -> bool {
        quiet.iter().any(|quiet| !self.0.contains(quiet.program))
    }

    fn take(&mut self, quiet: BTreeSet<Quiet>, hooks: &[Attached]) -> Vec<Degraded> {
        let traffic_failed = quiet.iter().any(|quiet| quiet.program == TRAFFIC);
        let programs: BTreeSet<_> = quiet.iter().map(|quiet| quiet.program).collect();
        let mut told: Vec<Degraded> = Vec::new();
        // Without traffic nothing new is known of the hooks.
        let back = self.0.extract_if(.., |program| !traffic_failed && !programs.contains(program));
        told.extend(back.map(|program| Degraded {
            hook: place(program, hooks),
            unseen: Vec::new(),
            why: "delivers again".to_owned(),
            delivers: true,
        }));
        for Quiet { program, why } in quiet {
            if self.0.insert(program) {
                let unseen = unseen(program, hooks);
                told.push(Degraded { hook: place(program, hooks), unseen, why, delivers: false });
            }
        }
        told
    }
}

fn place(program: &'static str, hooks: &[Attached]) -> String {
    let hook = hooks.iter().find(|hook| hook.program == program);
    hook.map_or_else(|| program.to_owned(), |hook| hook.place.clone())
}

/// The events that a hook sees, and so may be missed.
fn unseen(program: &'static str, hooks: &[Attached]) -> Vec<String> {
    let hook = hooks.iter().filter(|hook| hook.program == program);
    hook.flat_map(|hook| hook.covers.iter().map(|event| ipv6_only(event, hook.v6))).collect()
}

fn ipv6_only(event: &str, v6: bool) -> String {
    if v6 { format!("{event} (IPv6)") } else { event.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(program: &'static str, v6: bool) -> Attached {
        Attached { program, place: format!("cgroup {program}"), covers: &["udp"], v6 }
    }

    fn hooks() -> Vec<Attached> {
        vec![hook("sendmsg4", false), hook("sendmsg6", true)]
    }

    fn after(verdicts: &mut Verdicts, ran: &[&str], v6: bool) -> Vec<(String, Vec<String>, bool)> {
        let quiet = unmarked(&hooks(), Exercised { v6 }, |program| Ok(ran.contains(&program)));
        let told = verdicts.take(quiet, &hooks());
        told.into_iter().map(|told| (told.hook, told.unseen, told.delivers)).collect()
    }

    #[test]
    fn a_hook_that_went_quiet_is_told_once_and_once_when_it_is_back() {
        let mut verdicts = Verdicts::default();
        let both = ["sendmsg4", "sendmsg6"];
        assert_eq!(after(&mut verdicts, &both, true), []);
        let lost = ("cgroup sendmsg6".to_owned(), vec!["udp (IPv6)".to_owned()], false);
        assert_eq!(after(&mut verdicts, &["sendmsg4"], true), [lost]);
        assert_eq!(after(&mut verdicts, &["sendmsg4"], true), []);
        assert_eq!(after(&mut verdicts, &both, true), [("cgroup sendmsg6".to_owned(), vec![], true)]);
        assert_eq!(after(&mut verdicts, &both, true), []);
    }

    #[test]
    fn ipv6_hooks_are_not_asked_of_a_kernel_without_it() {
        assert_eq!(after(&mut Verdicts::default(), &["sendmsg4"], false), []);
    }

    #[test]
    fn a_failed_traffic_is_told_itself_and_says_nothing_of_the_hooks() {
        let mut verdicts = Verdicts(BTreeSet::from(["sendmsg4"]));
        let failed = || BTreeSet::from([Quiet { program: TRAFFIC, why: "no route".to_owned() }]);
        assert!(verdicts.has_worse(&failed()));
        let told = verdicts.take(failed(), &hooks());
        assert_eq!(told.iter().map(|told| told.hook.as_str()).collect::<Vec<_>>(), ["self-test"]);
        let back = after(&mut verdicts, &["sendmsg4", "sendmsg6"], true);
        assert_eq!(back.iter().filter(|(_, _, delivers)| *delivers).count(), 2);
    }
}
