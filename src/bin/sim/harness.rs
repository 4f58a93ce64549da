//! Proof that a simulation which proves nothing is noticed: each harness bug shows the sign that is its own, which the same
//! seeds do not show without it.

use std::collections::BTreeSet;

use dynkv::sim::oracle::Sufficiency;
use dynkv::sim::{HarnessBug, Kind, Mark, Violation};

use super::rig::{Minutes, Order, Rig};
use super::tally::{Finished, Tally};
use super::{crew, emit};

/// Seeds from 1 on, of one minute each.
const SEEDS: u64 = 10;
/// What is violated by frames that go past the network.
const LEDGER: &str = "network ledger";
/// Without faults at least so many of their effects are at zero; a few come of what the cluster does by itself.
const EFFECTS_AT_ZERO: usize = 20;

/// Prints what noticed each of them; whether all were noticed.
pub fn run(rig: Rig, jobs: usize) -> bool {
    let sound = Signs::of(&tally(rig, jobs));
    let mut noticed = true;
    emit(&format!("\nharness bugs, {SEEDS} seeds each; what these seeds show without one does not count\n"));
    for bug in HarnessBug::ALL {
        let signs = Signs::of(&tally(Rig { harness_bug: Some(bug), ..rig }, jobs));
        let given_away = signs.give_away(bug, &sound);
        noticed &= given_away;
        emit(&format!("  {:<20} {}\n", bug.name(), signs.beyond(&sound).text(given_away)));
    }
    noticed
}

fn tally(rig: Rig, jobs: usize) -> Tally {
    let mut tally = Tally::on(rig.engine);
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
        let broken = |(order, violation): &(Order, Violation)| (order.seed, violation.invariant.clone());
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

    /// Whether the sign that is this bug's own is here, and not without it: any other may be of something else.
    fn give_away(&self, bug: HarnessBug, sound: &Signs) -> bool {
        self.show(bug) && !sound.show(bug)
    }

    fn show(&self, bug: HarnessBug) -> bool {
        let all_insufficient = self.insufficient.len() as u64 == SEEDS;
        match bug {
            HarnessBug::FaultsOff => all_insufficient && self.missing.len() >= EFFECTS_AT_ZERO,
            HarnessBug::EmptyHistory => all_insufficient,
            HarnessBug::PastTheNetwork => self.violations.iter().any(|(_, invariant)| invariant == LEDGER),
        }
    }

    fn text(&self, given_away: bool) -> String {
        let mut signs = Vec::new();
        if !given_away {
            signs.push("NOT NOTICED".to_owned());
        }
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

    fn violated(invariants: &[(u64, &str)]) -> Signs {
        let violations = invariants.iter().map(|(seed, invariant)| (*seed, (*invariant).to_owned()));
        Signs { violations: violations.collect(), ..Signs::default() }
    }

    fn insufficient(seeds: u64) -> Signs {
        Signs { insufficient: (1..=seeds).collect(), ..Signs::default() }
    }

    /// With so many effects at zero.
    fn missing(effects: usize, signs: Signs) -> Signs {
        let marks = Mark::ALL.iter().copied().filter(|mark| mark.kind() == Kind::Effect);
        let signs = Signs { missing: marks.take(effects).collect(), ..signs };
        assert_eq!(signs.missing.len(), effects);
        signs
    }

    #[test]
    fn what_sound_seeds_show_too_is_no_sign() {
        let sound =
            Signs { insufficient: BTreeSet::from([3]), missing: BTreeSet::from([Mark::DiskFull]), ..Signs::default() };
        assert_eq!(sound.beyond(&sound), Signs::default());
        let red = Signs {
            violations: BTreeSet::from([(2, LEDGER.to_owned())]),
            insufficient: BTreeSet::from([3, 4]),
            missing: BTreeSet::from([Mark::DiskFull, Mark::Killed]),
        };
        let text = red.beyond(&sound).text(true);
        let expected = "1 violations, the first of network ledger in seed 2; 1 seeds with too little in them; \
                        1 effects at zero, such as kills with requests under way";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_bug_has_a_sign_of_its_own() {
        let few = missing(EFFECTS_AT_ZERO - 1, insufficient(SEEDS - 1));
        for sound in [Signs::default(), few, violated(&[(2, "phantom")])] {
            for (bug, signs) in [
                (HarnessBug::PastTheNetwork, violated(&[(2, "phantom"), (3, LEDGER)])),
                (HarnessBug::EmptyHistory, insufficient(SEEDS)),
                (HarnessBug::FaultsOff, missing(EFFECTS_AT_ZERO, insufficient(SEEDS))),
            ] {
                assert!(signs.give_away(bug, &sound), "{}: {signs:?} beyond {sound:?}", bug.name());
                assert!(!signs.give_away(bug, &signs), "{}: {signs:?}", bug.name());
            }
        }
    }

    #[test]
    fn other_signs_alone_are_not_noticed() {
        for (bug, signs) in [
            (HarnessBug::PastTheNetwork, missing(EFFECTS_AT_ZERO, insufficient(SEEDS))),
            (HarnessBug::PastTheNetwork, violated(&[(2, "phantom")])),
            (HarnessBug::EmptyHistory, insufficient(SEEDS - 1)),
            (HarnessBug::EmptyHistory, violated(&[(2, LEDGER)])),
            (HarnessBug::FaultsOff, missing(EFFECTS_AT_ZERO, insufficient(SEEDS - 1))),
            (HarnessBug::FaultsOff, missing(EFFECTS_AT_ZERO - 1, insufficient(SEEDS))),
            (HarnessBug::FaultsOff, violated(&[(2, LEDGER)])),
        ] {
            assert!(!signs.give_away(bug, &Signs::default()), "{}: {signs:?}", bug.name());
            let text = signs.text(false);
            assert!(text.starts_with("NOT NOTICED; "), "{text}");
        }
        assert_eq!(Signs::default().text(false), "NOT NOTICED");
    }
}
