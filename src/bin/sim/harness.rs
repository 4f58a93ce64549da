//! Proof that a simulation which proves nothing is noticed: each harness bug turns a few seeds red that are not without it.

use std::collections::BTreeSet;

use dynkv::sim::HarnessBug;
use dynkv::sim::oracle::Sufficiency;
use dynkv::sim::{Kind, Mark};

use super::rig::{Minutes, Order, Rig};
use super::tally::{Finished, Tally};
use super::{crew, emit};

/// Seeds from 1 on, of one minute each.
const SEEDS: u64 = 10;

/// Prints what noticed each of them; whether all were noticed.
pub fn run(rig: Rig, jobs: usize) -> bool {
    let sound = Signs::of(&tally(rig, jobs));
    let mut noticed = true;
    emit(&format!("\nharness bugs, {SEEDS} seeds each; what these seeds show without one does not count\n"));
    for bug in HarnessBug::ALL {
        let signs = Signs::of(&tally(Rig { harness_bug: Some(bug), ..rig }, jobs)).beyond(&sound);
        noticed &= !signs.is_empty();
        emit(&format!("  {:<20} {}\n", bug.name(), signs.text()));
    }
    noticed
}

fn tally(rig: Rig, jobs: usize) -> Tally {
    let mut tally = Tally::default();
    let runs = crew::map(jobs, SEEDS, |index| {
        let order = Order { seed: index + 1, minutes: Minutes::ONE, rig };
        Finished { order, report: rig.run(&order.schedule(), None, Sufficiency::default()), again: None }
    });
    runs.iter().for_each(|finished| tally.add(finished));
    tally
}

/// What is red about some runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Signs {
    /// Seed and invariant.
    violations: BTreeSet<(u64, String)>,
    /// Seeds with too little in them.
    insufficient: BTreeSet<u64>,
    /// Effects that no run has met.
    missing: BTreeSet<Mark>,
}

impl Signs {
    fn of(tally: &Tally) -> Signs {
        let broken = |(order, violation): &(Order, dynkv::sim::Violation)| (order.seed, violation.invariant.clone());
        Signs {
            violations: tally.violations.iter().map(broken).collect(),
            insufficient: tally.insufficient.iter().map(|(order, _)| order.seed).collect(),
            missing: tally.coverage.missing().filter(|mark| mark.kind() == Kind::Effect).collect(),
        }
    }

    /// Those that `sound` has not: few seeds do not meet every effect.
    fn beyond(&self, sound: &Signs) -> Signs {
        Signs {
            violations: self.violations.difference(&sound.violations).cloned().collect(),
            insufficient: self.insufficient.difference(&sound.insufficient).copied().collect(),
            missing: self.missing.difference(&sound.missing).copied().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Signs::default()
    }

    fn text(&self) -> String {
        if self.is_empty() {
            return "NOT NOTICED".to_owned();
        }
        let mut signs = Vec::new();
        if let Some((seed, invariant)) = self.violations.first() {
            signs.push(format!("{} violations, the first of {invariant} in seed {seed}", self.violations.len()));
        }
        if !self.insufficient.is_empty() {
            signs.push(format!("{} seeds with too little in them", self.insufficient.len()));
        }
        if let Some(mark) = self.missing.first() {
            signs.push(format!("{} effects at zero, such as {}", self.missing.len(), mark.name()));
        }
        signs.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sound_seeds_show_too_is_no_sign() {
        let sound =
            Signs { insufficient: BTreeSet::from([3]), missing: BTreeSet::from([Mark::DiskFull]), ..Signs::default() };
        let same = sound.beyond(&sound);
        assert!(same.is_empty());
        assert_eq!(same.text(), "NOT NOTICED");
        let red = Signs {
            violations: BTreeSet::from([(2, "phantom".to_owned())]),
            insufficient: BTreeSet::from([3, 4]),
            missing: BTreeSet::from([Mark::DiskFull, Mark::Killed]),
        };
        let text = red.beyond(&sound).text();
        let expected = "1 violations, the first of phantom in seed 2; 1 seeds with too little in them; \
                        1 effects at zero, such as kills with requests under way";
        assert_eq!(text, expected);
    }
}
