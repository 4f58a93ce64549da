//! Proof that the checks can fail: every seeded bug is caught, by an invariant that it breaks, by the seeds that are green
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
use super::rig::{ANYTHING, Order, PANIC, Rig};
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
        let mut trial = Trial { mutant, caught: None, others: BTreeMap::new() };
        let run = |index: u64| {
            let order = Order { seed: index + 1, minutes: plan.minutes, rig };
            (order.seed, rig.run(&order.schedule(), None, ANYTHING).outcome)
        };
        crew::in_order(plan.jobs, plan.seeds, run, |news| {
            if let News::Done((seed, outcome)) = news {
                trial.hear(seed, outcome);
            }
            if trial.caught.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let ended = trial.caught.as_ref().map_or_else(|| "not caught".to_owned(), |(seeds, _)| format!("seed {seeds}"));
        eprintln!("{}: {ended}, {:.1} s", mutant.name(), started.elapsed().as_secs_f64());
        trial
    }

    fn hear(&mut self, seed: u64, outcome: Outcome) {
        let Outcome::Violation(violation) = outcome else { return };
        let invariant = violation.invariant.as_str();
        if invariant == PANIC || self.mutant.caught_by().contains(&invariant) {
            self.caught = Some((seed, violation));
        } else {
            *self.others.entry(violation.invariant).or_default() += 1;
        }
    }

    fn row(&self, seeds: u64) -> [String; 5] {
        let others: Vec<String> = self.others.iter().map(|(name, count)| format!("{name} x{count}")).collect();
        let others = if others.is_empty() { String::new() } else { format!("by another: {}", others.join(", ")) };
        let expected = self.mutant.caught_by().join(" or ");
        let (by, took, evidence) = match &self.caught {
            Some((seed, violation)) => (violation.invariant.clone(), seed.to_string(), in_short(&violation.evidence)),
            None => ("NOBODY".to_owned(), format!("over {seeds}"), String::new()),
        };
        let evidence = if others.is_empty() { evidence } else { format!("{evidence} ({others})").trim().to_owned() };
        [self.mutant.name().to_owned(), expected, by, took, evidence]
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
    use super::*;

    fn trial() -> Trial {
        Trial { mutant: Mutant::ALL[0], caught: None, others: BTreeMap::new() }
    }

    fn violation(invariant: &str) -> Outcome {
        Outcome::Violation(Violation { invariant: invariant.to_owned(), key: None, evidence: "e".to_owned() })
    }

    #[test]
    fn only_what_is_expected_counts_as_caught() {
        let mut trial = trial();
        trial.hear(1, Outcome::Ok);
        trial.hear(2, violation("no invariant of this name"));
        assert!(trial.caught.is_none());
        assert_eq!(trial.row(9)[2..4], ["NOBODY", "over 9"]);
        assert!(trial.row(9)[4].contains("by another: no invariant of this name x1"));
        trial.hear(3, violation(trial.mutant.caught_by()[0]));
        assert_eq!(trial.row(9)[3], "3");
        let mut panicked = super::tests::trial();
        panicked.hear(4, violation(PANIC));
        assert_eq!(panicked.row(9)[2..4], ["panic", "4"]);
    }

    #[test]
    fn the_median_counts_what_was_not_caught_as_never() {
        let took = |seeds: &[u64]| -> Vec<Trial> {
            let caught = |seed: u64| {
                let mut trial = trial();
                if seed > 0 {
                    trial.hear(seed, violation(PANIC));
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
