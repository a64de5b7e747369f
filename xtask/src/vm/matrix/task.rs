//! What a guest of the matrix is asked to run, as commands of the guest.

use super::super::variant::Variant;
use super::cells::Guest;

/// One command of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// List what loads.
    Programs,
    /// Run all scenarios under this plan.
    Scenarios(String),
    /// Run those whose outcome depends on the plan.
    OfPlan(String),
    /// Compare these plans on the same traffic.
    Parity(Vec<String>),
}

impl Task {
    /// Everything that the table asks of `guest`; of its scenarios only those of `plans`, if any are named. What is the same
    /// whatever the plan runs once on each kernel: as it is, under the first plan.
    pub(crate) fn all(guest: &Guest, plans: &[String]) -> Vec<Self> {
        let wanted = |plan: &str| plans.is_empty() || plans.iter().any(|wanted| wanted == plan);
        let mut tasks = vec![Self::Programs];
        let cells = guest.cells.iter().filter(|cell| cell.scenarios && wanted(&cell.plan));
        tasks.extend(cells.enumerate().map(|(n, cell)| match (n, guest.variant) {
            (0, Variant::Plain) => Self::Scenarios(cell.plan.clone()),
            _ => Self::OfPlan(cell.plan.clone()),
        }));
        if plans.is_empty() && !guest.parity.is_empty() {
            tasks.push(Self::Parity(guest.parity.clone()));
        }
        tasks
    }

    /// Its words in the guest called `name`. An emulated machine is slow: the tests make smaller loads there.
    pub(crate) fn command(&self, name: &str, live_args: &[String]) -> Vec<String> {
        let live = |mode: &str, plans: &str| {
            let fixed = ["/bin/live", "--tracer", "/bin/tracer", "--quick", "--cell", name, mode, plans];
            fixed.map(str::to_owned).into_iter().chain(live_args.iter().cloned()).collect()
        };
        match self {
            Self::Programs => ["/bin/tracer", "doctor", "--programs"].map(str::to_owned).to_vec(),
            Self::Scenarios(plan) => live("--plan", plan),
            Self::OfPlan(plan) => {
                let mut words = live("--plan", plan);
                words.push("--of-plan".to_owned());
                words
            }
            Self::Parity(plans) => live("--parity", &plans.join(",")),
        }
    }

    /// As the report says it.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Programs => "programs".to_owned(),
            Self::Scenarios(plan) | Self::OfPlan(plan) => plan.clone(),
            Self::Parity(plans) => plans.join(" = "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::Cell;
    use super::*;

    fn guest() -> Guest {
        let cell = |plan: &str, scenarios| Cell { plan: plan.into(), loads: true, refused: None, scenarios };
        Guest {
            kernel: "6.12".into(),
            variant: Variant::Plain,
            parity: vec!["fentry".into(), "tracepoint".into()],
            cells: vec![cell("fentry", true), cell("kprobe", false), cell("tracepoint", true)],
        }
    }

    #[test]
    fn scenarios_run_where_the_table_says_so() {
        let tasks = Task::all(&guest(), &[]);
        let titles: Vec<_> = tasks.iter().map(Task::title).collect();
        assert_eq!(titles, ["programs", "fentry", "tracepoint", "fentry = tracepoint"]);
        assert_eq!(
            tasks[1].command("6.12/plain", &["--filter".into(), "udp".into()]).join(" "),
            "/bin/live --tracer /bin/tracer --quick --cell 6.12/plain --plan fentry --filter udp"
        );
        assert!(tasks[2].command("6.12/plain", &[]).ends_with(&["tracepoint".into(), "--of-plan".into()]));
        assert!(
            tasks[3].command("6.12/plain", &[]).ends_with(&["--parity".into(), "fentry,tracepoint".into()])
        );
    }

    #[test]
    fn one_plan_has_no_parity() {
        let tasks = Task::all(&guest(), &["fentry".to_owned(), "kprobe".to_owned()]);
        assert_eq!(tasks, [Task::Programs, Task::Scenarios("fentry".into())]);
    }
}
