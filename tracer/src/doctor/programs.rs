//! `tracer doctor --programs`: what each program costs the verifier here, or why it does not load, as lines
//! for other programs and for golden files.

use std::fmt::Write as _;

use crate::{
    bpf::{
        kernel::Kernel,
        loader,
        plan::PLANS,
        survey::{Surveyed, survey},
    },
    refusal::Machine,
    sink::escape::escape,
    source::sockdiag,
};

/// Tab-separated: for each program its plan, name, attach point, `loaded` or the reason why not, verified
/// instructions and size in bytes (`-` where the kernel does not tell); then for each plan the word `plan`, its
/// name, and `loads` or the reason why not; then the word `uses` and the plan that `live` would use.
///
/// # Errors
/// A kernel whose types cannot be read.
pub fn programs() -> Result<String, loader::LoadError> {
    let kernel = Kernel::read()?;
    let mut text: String = survey(&kernel).iter().map(line).collect();
    let machine = Machine::read();
    let mut uses = None;
    for plan in PLANS {
        let loaded = loader::load(&kernel, plan, loader::settings(None, None), sockdiag::name_all);
        let outcome = match loaded {
            Ok(_) => {
                uses.get_or_insert(plan.name);
                "loads".to_owned()
            }
            Err(why) => escape(machine.explain(plan.name, &why.to_string()).as_bytes()),
        };
        let _ = writeln!(text, "plan\t{}\t{outcome}", plan.name);
    }
    let _ = writeln!(text, "plan\tpoll\tloads\nuses\t{}", uses.unwrap_or("poll"));
    Ok(text)
}

fn line(surveyed: &Surveyed) -> String {
    let Surveyed { plan, program, place, outcome } = surveyed;
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let (outcome, verified, size) = match outcome {
        Ok(cost) => ("loaded".to_owned(), cost.verified, cost.size),
        Err(why) => (escape(why.as_bytes()), None, None),
    };
    format!("{plan}\t{program}\t{place}\t{outcome}\t{}\t{}\n", number(verified), number(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::survey::Cost;

    fn surveyed(outcome: Result<Cost, String>) -> Surveyed {
        let place = "fentry tcp_connect".to_owned();
        Surveyed { plan: "fentry", program: "tcp_connect", place, outcome }
    }

    #[test]
    fn a_line_has_six_fields_whatever_the_kernel_says() {
        let loaded = surveyed(Ok(Cost { verified: Some(412), size: None }));
        assert_eq!(line(&loaded), "fentry\ttcp_connect\tfentry tcp_connect\tloaded\t412\t-\n");
        let refused = line(&surveyed(Err("R1\tinvalid\nmem".to_owned())));
        assert_eq!(refused, "fentry\ttcp_connect\tfentry tcp_connect\tR1\\tinvalid\\nmem\t-\t-\n");
    }
}
