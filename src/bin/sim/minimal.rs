//! Violations, cut down to what matters, and what happened there.

use std::fmt::Write as _;

use dynkv::sim::shrink::shrink;
use dynkv::sim::{Outcome, Report, Schedule, TraceFilter, Violation};

use super::rig::{ANYTHING, Order, same};
use super::{crew, emit};

/// So many violations are cut down: more of them seldom say more.
const MOST: usize = 3;
/// Runs for each.
const BUDGET: usize = 600;
/// Lines of a trace, of faults, of operations: the last ones.
const LINES: usize = 300;

/// Cuts the first violations down and prints what is left of them.
pub fn print(jobs: usize, violations: &[(Order, Violation)]) {
    let chosen = &violations[..violations.len().min(MOST)];
    if chosen.is_empty() {
        return;
    }
    eprintln!("cutting {} of {} violations down, {BUDGET} runs each at most", chosen.len(), violations.len());
    let texts = crew::map(jobs, chosen.len() as u64, |index| {
        let (order, violation) = &chosen[usize::try_from(index).expect("an index of the list")];
        cut_down(*order, violation)
    });
    texts.iter().for_each(|text| emit(text));
}

/// The smallest run that was found to break the same, and what happens in it.
fn cut_down(order: Order, violation: &Violation) -> String {
    let schedule = order.schedule();
    let run = |candidate: &Schedule| order.rig.run(candidate, None, ANYTHING);
    let breaks = |report: &Report| matches!(&report.outcome, Outcome::Violation(other) if same(violation, other));
    let mut runs = 0;
    let small = shrink(&schedule, BUDGET, &mut |candidate| {
        runs += 1;
        breaks(&run(candidate))
    });
    let key = match run(&small).outcome {
        Outcome::Violation(violation) => violation.key,
        Outcome::Ok | Outcome::Insufficient(_) => violation.key.clone(),
    };
    let report = order.rig.run(&small, Some(TraceFilter { key }), ANYTHING);
    describe(order, violation, &schedule, &small, runs, &report)
}

fn describe(
    order: Order,
    violation: &Violation,
    whole: &Schedule,
    small: &Schedule,
    runs: usize,
    report: &Report,
) -> String {
    let size = |schedule: &Schedule| {
        let (nodes, faults) = (schedule.cluster.shards.len(), schedule.faults.len());
        let (births, operations) = (schedule.cluster.birth_kills, schedule.operations.len());
        let seconds = schedule.span.as_secs_f64();
        format!(
            "{nodes} nodes, {births} kills before the birth, {faults} faults, {operations} operations, {seconds:.3} s"
        )
    };
    let mut text = format!("\nSHRUNK: seed {}: {}, in {runs} runs\n", order.seed, violation.invariant);
    let mut line = |line: &str| {
        let written = writeln!(text, "  {line}");
        written.expect("a string takes everything");
    };
    line(&format!("from {}", size(whole)));
    line(&format!("to   {}", size(small)));
    match &report.outcome {
        Outcome::Violation(last) => last.evidence.lines().for_each(&mut line),
        Outcome::Ok | Outcome::Insufficient(_) => {
            line("it does not break when it is run again: a run depends on more than its schedule");
        }
    }
    line(&format!("{:?}", small.cluster));
    let faults = small.faults.iter();
    last_lines(&mut line, faults.map(|event| format!("{:?} for {:?}: {:?}", event.at, event.lasts, event.fault)));
    let operations = small.operations.iter();
    last_lines(
        &mut line,
        operations.map(|operation| {
            let (at, client, act) = (operation.at, operation.client, operation.act);
            format!("{at:?} client {client}: {act:?} key {} at {}", operation.key, operation.level)
        }),
    );
    line(if report.trace.is_empty() { "what happened: unknown, as ever after a panic" } else { "what happened:" });
    last_lines(&mut line, report.trace.iter().cloned());
    text
}

/// Where there are too many, the end is where it went wrong.
fn last_lines(line: &mut impl FnMut(&str), lines: impl ExactSizeIterator<Item = String>) {
    let left_out = lines.len().saturating_sub(LINES);
    if left_out > 0 {
        line(&format!("... {left_out} lines before"));
    }
    lines.skip(left_out).for_each(|text| line(&text));
}
