//! Many seeds: run, counted, judged.

use std::ops::ControlFlow;
use std::time::Duration;

use dynkv::sim::oracle::Sufficiency;
use dynkv::sim::{Outcome, TraceFilter};

use super::args::SeedsPlan;
use super::crew::{self, News};
use super::progress::Progress;
use super::rig::{ANYTHING, Order};
use super::summary::{Shown, Summary};
use super::tally::{Finished, Tally};
use super::{emit, minimal};

/// Runs regressions and seeds, prints what came of them; whether all is green.
pub fn run(plan: &SeedsPlan) -> bool {
    let regressed = !plan.regressions.is_empty() && !regressions(plan);
    let green = seeds(plan);
    green && !regressed
}

/// Whether what was once found is still gone. How much happens in these runs is no matter.
fn regressions(plan: &SeedsPlan) -> bool {
    let of = |index: u64| plan.regressions[usize::try_from(index).expect("an index of the list")];
    let count = plan.regressions.len() as u64;
    let (tally, wall) = all(plan, count, |index| finish(of(index), plan.twice, None, ANYTHING));
    emit("regressions\n");
    let judged = judge(plan, &Summary { tally: &tally, wall, twice: plan.twice, marks: Shown::Nothing }, true);
    emit("\n");
    judged
}

fn seeds(plan: &SeedsPlan) -> bool {
    let of = |index: u64| Order { seed: plan.first.seed.saturating_add(index), ..plan.first };
    let (tally, wall) =
        all(plan, plan.seeds, |index| finish(of(index), plan.twice, plan.trace.clone(), Sufficiency::default()));
    let marks = if plan.seeds == 1 && plan.allow_missing { Shown::Met } else { Shown::All };
    judge(plan, &Summary { tally: &tally, wall, twice: plan.twice, marks }, plan.allow_missing)
}

/// Makes one run, or the same twice, each on a thread of its own.
fn finish(order: Order, twice: bool, trace: Option<TraceFilter>, enough: Sufficiency) -> Finished {
    let schedule = order.schedule();
    let key = trace.as_ref().and_then(|filter| filter.key.clone());
    let report = order.rig.run(&schedule, trace, enough);
    if let Some(key) = key.filter(|key| !names(&report.trace, key)) {
        eprintln!(
            "dynkv-sim: nothing is known to have happened to the key {key:?}: keys are called k3.0, k3.1, k4.0 ..."
        );
    }
    let again = twice.then(|| crew::on_fresh_thread(|| order.rig.run(&schedule, None, enough)));
    Finished { order, report, again }
}

/// Whether a line of the trace is about the key: others are about everybody, whatever key was asked for.
fn names(trace: &[String], key: &str) -> bool {
    let about = format!(" s  {key}  ");
    trace.iter().any(|line| line.contains(&about))
}

/// The sum of all runs, and the time it took.
fn all(plan: &SeedsPlan, count: u64, work: impl Fn(u64) -> Finished + Sync) -> (Tally, Duration) {
    let (mut tally, mut progress) = (Tally::on(plan.first.rig.engine), Progress::new(count));
    crew::in_order(plan.jobs, count, work, |news| {
        if let News::Done(finished) = news {
            tally.add(&finished);
            if let Outcome::Violation(violation) = &finished.report.outcome {
                progress.note(&format!("VIOLATION: {}: {}", violation.invariant, finished.order.replay(false)));
            }
            emit(&finished.report.trace.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
        progress.show(&tally);
        ControlFlow::Continue(())
    });
    progress.finish();
    (tally, progress.wall())
}

fn judge(plan: &SeedsPlan, summary: &Summary<'_>, allow_missing: bool) -> bool {
    emit(&summary.to_string());
    if plan.shrink {
        minimal::print(plan.jobs, &summary.tally.violations);
    }
    let faults = summary.tally.faults(allow_missing);
    match faults.is_empty() {
        true => emit("\nGREEN\n"),
        false => emit(&format!("\nRED: {}\n", faults.join(", "))),
    }
    faults.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Minutes, Rig};
    use super::*;

    #[test]
    fn a_key_is_told_from_what_concerns_everybody() {
        let trace = ["   1.000000 s  n1 is killed", "   1.000001 s  k3.0  n1 has written"].map(str::to_owned);
        assert!(names(&trace, "k3.0"));
        for other in ["k3", "k3.1", "3.0", "n1", ""] {
            assert!(!names(&trace, other), "{other:?}");
        }
        assert!(!names(&trace[..1], "k3.0"));
    }

    #[test]
    fn keys_are_called_as_the_help_says() {
        let order = Order { seed: 1, minutes: Minutes::ONE, rig: Rig::PLAIN };
        let traced = |key: &str| {
            let filter = TraceFilter { key: Some(key.to_owned()) };
            order.rig.run(&order.schedule(), Some(filter), ANYTHING).trace
        };
        assert!(names(&traced("k0.0"), "k0.0"));
        assert!(!names(&traced("k0"), "k0"));
    }
}
