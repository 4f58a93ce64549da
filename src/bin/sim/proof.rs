//! Proof that the checks can fail: every seeded bug is caught, by an invariant that it breaks, in a run that breaks none
//! without it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use dynkv::mutant::Mutant;
use dynkv::sim::{Outcome, Violation};

use super::args::MutantsPlan;
use super::crew::{self, News};
use super::rig::{ANYTHING, Order, Rig};
use super::{emit, harness};

/// Characters of evidence in the table.
const SHORT: usize = 70;

/// What the seeds said about a seeded bug.
struct Trial {
    mutant: Mutant,
    /// The violation that counts, and how many seeds it took.
    caught: Option<(u64, Violation)>,
    /// Violations of invariants that it is not said to break.
    others: BTreeMap<String, u64>,
    /// Runs that would have caught it, if something were not violated without the bug too.
    red_anyway: u64,
}

/// What one run says about a seeded bug.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was violated.
    Silent,
    /// An invariant was that the bug is said to break, and none is without the bug.
    Caught(Violation),
    /// The same, but something is violated without the bug too.
    RedAnyway,
    /// Another invariant was.
    Other(Violation),
}

/// Tries every seeded bug and every harness bug; whether all were noticed.
pub fn run(plan: &MutantsPlan) -> bool {
    let trials: Vec<Trial> = Mutant::ALL.iter().map(|mutant| Trial::of(*mutant, plan)).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["MUTANT", "EXPECTED", "CAUGHT BY", "SEEDS", "EVIDENCE"]);
    table.add_rows(trials.iter().map(|trial| trial.row(plan.seeds)));
    let caught = trials.iter().filter(|trial| trial.caught.is_some()).count();
    emit(&format!("{table}\n\n{caught} of {} caught, median {} seeds\n", trials.len(), median(&trials)));
    for trial in trials.iter().filter(|trial| trial.caught.is_none()) {
        emit(&format!("NOT CAUGHT: {}\n", trial.mutant.name()));
    }
    let noticed = harness::run(plan.rig, plan.jobs);
    let green = caught == trials.len() && noticed;
    emit(if green { "\nGREEN\n" } else { "\nRED\n" });
    green
}

impl Trial {
    /// Runs seeds from 1 on until one catches it.
    fn of(mutant: Mutant, plan: &MutantsPlan) -> Trial {
        let started = Instant::now();
        let rig = Rig { mutant: Some(mutant), ..plan.rig };
        let mut trial = Trial::begin(mutant);
        let run = |index: u64| {
            let order = Order { seed: index + 1, minutes: plan.minutes, rig };
            let schedule = order.schedule();
            let outcome = rig.run(&schedule, None, ANYTHING).outcome;
            (order.seed, Verdict::of(mutant, outcome, || plan.rig.run(&schedule, None, ANYTHING).outcome))
        };
        crew::in_order(plan.jobs, plan.seeds, run, |news| {
            if let News::Done((seed, verdict)) = news {
                trial.hear(seed, verdict);
            }
            if trial.caught.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let ended = trial.caught.as_ref().map_or_else(|| "not caught".to_owned(), |(seeds, _)| format!("seed {seeds}"));
        eprintln!("{}: {ended}, {:.1} s", mutant.name(), started.elapsed().as_secs_f64());
        trial
    }

    fn begin(mutant: Mutant) -> Trial {
        Trial { mutant, caught: None, others: BTreeMap::new(), red_anyway: 0 }
    }

    fn hear(&mut self, seed: u64, verdict: Verdict) {
        match verdict {
            Verdict::Silent => {}
            Verdict::Caught(violation) => self.caught = Some((seed, violation)),
            Verdict::RedAnyway => self.red_anyway += 1,
            Verdict::Other(violation) => *self.others.entry(violation.invariant).or_default() += 1,
        }
    }

    fn row(&self, seeds: u64) -> [String; 5] {
        let others: Vec<String> = self.others.iter().map(|(name, count)| format!("{name} x{count}")).collect();
        let mut asides = Vec::new();
        if !others.is_empty() {
            asides.push(format!("by another: {}", others.join(", ")));
        }
        if self.red_anyway > 0 {
            asides.push(format!("red without the bug too x{}", self.red_anyway));
        }
        let expected = self.mutant.caught_by().join(" or ");
        let (by, took, evidence) = match &self.caught {
            Some((seed, violation)) => (violation.invariant.clone(), seed.to_string(), in_short(&violation.evidence)),
            None => ("NOBODY".to_owned(), format!("over {seeds}"), String::new()),
        };
        let evidence = match asides.is_empty() {
            true => evidence,
            false => format!("{evidence} ({})", asides.join("; ")).trim().to_owned(),
        };
        [self.mutant.name().to_owned(), expected, by, took, evidence]
    }
}

impl Verdict {
    /// The outcome of a run with the bug, and, where it matters, of the same run without it.
    fn of(mutant: Mutant, outcome: Outcome, without: impl FnOnce() -> Outcome) -> Verdict {
        let Outcome::Violation(violation) = outcome else { return Verdict::Silent };
        if !mutant.caught_by().contains(&violation.invariant.as_str()) {
            return Verdict::Other(violation);
        }
        match without() {
            Outcome::Ok | Outcome::Insufficient(_) => Verdict::Caught(violation),
            Outcome::Violation(_) => Verdict::RedAnyway,
        }
    }
}

/// One line of it.
fn in_short(evidence: &str) -> String {
    let line = evidence.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(SHORT).collect();
    if cut.len() < evidence.len() { format!("{cut}...") } else { cut }
}

/// Half of the bugs take no more seeds than this; those that were not caught take more than any number.
fn median(trials: &[Trial]) -> String {
    let mut took: Vec<u64> =
        trials.iter().map(|trial| trial.caught.as_ref().map_or(u64::MAX, |(seed, _)| *seed)).collect();
    took.sort_unstable();
    match took.get(took.len().saturating_sub(1) / 2) {
        None | Some(&u64::MAX) => "unknown".to_owned(),
        Some(seeds) => seeds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::PANIC;
    use super::*;

    const MUTANT: Mutant = Mutant::ALL[0];

    fn violation(invariant: &str) -> Violation {
        Violation { invariant: invariant.to_owned(), key: None, evidence: "e".to_owned() }
    }

    fn expected() -> Violation {
        violation(MUTANT.caught_by()[0])
    }

    #[test]
    fn only_what_is_expected_counts_as_caught() {
        let unasked = || panic!("a run that proves nothing is made again");
        let insufficient = Outcome::Insufficient("3 acked".to_owned());
        for outcome in [Outcome::Ok, insufficient.clone()] {
            assert_eq!(Verdict::of(MUTANT, outcome, unasked), Verdict::Silent);
        }
        for other in ["no invariant of this name", PANIC] {
            let verdict = Verdict::of(MUTANT, Outcome::Violation(violation(other)), unasked);
            assert_eq!(verdict, Verdict::Other(violation(other)));
        }
        for sound in [Outcome::Ok, insufficient] {
            let verdict = Verdict::of(MUTANT, Outcome::Violation(expected()), || sound);
            assert_eq!(verdict, Verdict::Caught(expected()));
        }
    }

    #[test]
    fn a_run_that_is_red_without_the_bug_does_not_count() {
        for invariant in [MUTANT.caught_by()[0], "no invariant of this name", PANIC] {
            let without = || Outcome::Violation(violation(invariant));
            assert_eq!(Verdict::of(MUTANT, Outcome::Violation(expected()), without), Verdict::RedAnyway);
        }
    }

    #[test]
    fn the_table_tells_what_counted_and_what_did_not() {
        let mut trial = Trial::begin(MUTANT);
        trial.hear(1, Verdict::Silent);
        trial.hear(2, Verdict::Other(violation(PANIC)));
        trial.hear(3, Verdict::RedAnyway);
        assert!(trial.caught.is_none());
        assert_eq!(trial.row(9)[2..], ["NOBODY", "over 9", "(by another: panic x1; red without the bug too x1)"]);
        trial.hear(4, Verdict::Caught(expected()));
        assert_eq!(trial.row(9)[2..4], [MUTANT.caught_by()[0], "4"]);
        assert_eq!(trial.row(9)[4], "e (by another: panic x1; red without the bug too x1)");
    }

    #[test]
    fn the_median_counts_what_was_not_caught_as_never() {
        let took = |seeds: &[u64]| -> Vec<Trial> {
            let caught = |seed: u64| {
                let mut trial = Trial::begin(MUTANT);
                if seed > 0 {
                    trial.hear(seed, Verdict::Caught(expected()));
                }
                trial
            };
            seeds.iter().map(|seed| caught(*seed)).collect()
        };
        assert_eq!(median(&took(&[9, 1, 4])), "4");
        assert_eq!(median(&took(&[9, 1, 4, 0])), "4");
        assert_eq!(median(&took(&[0, 1, 0])), "unknown");
        assert_eq!(median(&[]), "unknown");
    }

    #[test]
    fn evidence_is_one_line() {
        assert_eq!(in_short("lost"), "lost");
        assert_eq!(in_short("lost\nand more"), "lost...");
        assert_eq!(in_short(&"x".repeat(SHORT + 1)).len(), SHORT + 3);
    }
}
