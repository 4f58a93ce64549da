//! What came of many runs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use dynkv::sim::oracle::Findings;
use dynkv::sim::{Availability, Coverage, Mark, Outcome, Report, Violation};

use super::engine::Engine;
use super::rig::Order;

/// An order, and what came of it.
pub struct Finished {
    pub order: Order,
    pub report: Report,
    /// What came of it the second time, where it was run twice.
    pub again: Option<Report>,
}

/// The sum of all runs so far, in the order of their seeds.
#[derive(Default)]
pub struct Tally {
    pub engine: Engine,
    pub seeds: u64,
    pub elapsed: Duration,
    pub operations: u64,
    pub findings: Findings,
    pub coverage: Coverage,
    pub availability: Availability,
    pub violations: Vec<(Order, Violation)>,
    pub insufficient: Vec<(Order, String)>,
    /// Runs whose second time was not like their first.
    pub differing: Vec<Order>,
    hasher: DefaultHasher,
    only: Option<u64>,
}

impl Tally {
    /// Nothing has run yet on this engine.
    pub fn on(engine: Engine) -> Tally {
        Tally { engine, ..Tally::default() }
    }

    pub fn add(&mut self, finished: &Finished) {
        let Finished { order, report, again } = finished;
        self.seeds += 1;
        self.elapsed += report.elapsed;
        self.operations += report.operations;
        self.coverage.join(&report.coverage);
        self.availability.join(report.availability);
        self.join_findings(&report.findings);
        match &report.outcome {
            Outcome::Ok => {}
            Outcome::Insufficient(what) => self.insufficient.push((*order, what.clone())),
            Outcome::Violation(violation) => self.violations.push((*order, violation.clone())),
        }
        let differs = |again: &Report| again.trace_hash != report.trace_hash || again.outcome != report.outcome;
        if again.as_ref().is_some_and(differs) {
            self.differing.push(*order);
        }
        (order.seed, report.trace_hash).hash(&mut self.hasher);
        self.only = Some(report.trace_hash).filter(|_| self.seeds == 1);
    }

    fn join_findings(&mut self, more: &Findings) {
        let sum = &mut self.findings;
        sum.acked += more.acked;
        sum.acked_under_fault += more.acked_under_fault;
        sum.refused += more.refused;
        sum.unknown += more.unknown;
        sum.reads += more.reads;
        sum.late_surfaced += more.late_surfaced;
        sum.siblings_resolved += more.siblings_resolved;
        sum.most_siblings = sum.most_siblings.max(more.most_siblings);
    }

    /// The hash of one run, or of the hashes of all: equal in two processes that made the same runs.
    pub fn hash(&self) -> u64 {
        self.only.unwrap_or_else(|| self.hasher.finish())
    }

    /// Marks that no run has met, of those that the engine lets a run meet.
    pub fn missing(&self) -> Vec<Mark> {
        self.coverage.missing().filter(|mark| self.engine.can_meet(*mark)).collect()
    }

    /// Why this is not green; empty if it is.
    pub fn faults(&self, allow_missing: bool) -> Vec<String> {
        let missing = if allow_missing { 0 } else { self.missing().len() };
        let counted = [
            (self.violations.len(), "violations"),
            (self.insufficient.len(), "runs with too little in them"),
            (self.differing.len(), "runs that differ the second time"),
            (missing, "marks at zero"),
            (usize::from(!self.availability.is_kept()), "promise of availability not kept"),
        ];
        let found = counted.into_iter().filter(|(count, _)| *count > 0);
        found.map(|(count, what)| format!("{count} {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Minutes, Rig};
    use super::*;

    pub fn finished(seed: u64, outcome: Outcome) -> Finished {
        let mut coverage = Coverage::default();
        coverage.add(Mark::Killed, seed);
        let findings = Findings {
            acked: 10 * seed,
            acked_under_fault: seed,
            most_siblings: u32::try_from(9 - seed).unwrap(),
            ..Findings::default()
        };
        let elapsed = Duration::from_secs(seed);
        let availability = Availability { promised: 1000, failed: 1 };
        let report = Report {
            seed,
            elapsed,
            trace_hash: seed,
            operations: 100,
            findings,
            coverage,
            availability,
            outcome,
            trace: vec![],
        };
        Finished { order: Order { seed, minutes: Minutes::ONE, rig: Rig::PLAIN }, report, again: None }
    }

    #[test]
    fn runs_are_summed() {
        let mut tally = Tally::default();
        [1, 2, 3].into_iter().for_each(|seed| tally.add(&finished(seed, Outcome::Ok)));
        assert_eq!((tally.seeds, tally.elapsed, tally.operations), (3, Duration::from_secs(6), 300));
        let Findings { acked, acked_under_fault, most_siblings, .. } = tally.findings;
        assert_eq!((acked, acked_under_fault, most_siblings), (60, 6, 8));
        assert_eq!(tally.coverage.of(Mark::Killed), 6);
        assert_eq!(tally.missing().len(), Mark::ALL.len() - 1);
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn what_rocks_cannot_meet_is_not_missing() {
        let mut tally = Tally::on(Engine::Rocks);
        tally.add(&finished(1, Outcome::Ok));
        let missing = tally.missing();
        assert!(!missing.contains(&Mark::TornTail) && !missing.contains(&Mark::Killed));
        let others = Mark::ALL.iter().filter(|mark| **mark != Mark::Killed && Engine::Rocks.can_meet(**mark));
        assert!(missing.iter().eq(others), "{missing:?}");
    }

    #[test]
    fn each_kind_of_failure_is_one() {
        let mut tally = Tally::default();
        tally.add(&finished(1, Outcome::Ok));
        assert_eq!(tally.faults(true), Vec::<String>::new());
        assert_eq!(tally.faults(false), [format!("{} marks at zero", Mark::ALL.len() - 1)]);

        let violation = Violation { invariant: "phantom".to_owned(), key: None, evidence: "v".to_owned() };
        tally.add(&finished(2, Outcome::Violation(violation.clone())));
        assert_eq!(tally.faults(true), ["1 violations"]);
        assert_eq!(tally.violations[0].0.seed, 2);
        tally.add(&finished(3, Outcome::Insufficient("3 acked".to_owned())));
        assert_eq!(tally.faults(true).len(), 2);

        let mut same = finished(4, Outcome::Ok);
        same.again = Some(same.report.clone());
        same.report.availability.failed = 0;
        tally.add(&same);
        assert!(tally.differing.is_empty());
        let mut other_hash = finished(5, Outcome::Ok);
        other_hash.again = Some(Report { trace_hash: 6, ..other_hash.report.clone() });
        tally.add(&other_hash);
        let mut other_end = finished(6, Outcome::Ok);
        other_end.again = Some(Report { outcome: Outcome::Violation(violation), ..other_end.report.clone() });
        tally.add(&other_end);
        assert_eq!(tally.differing.iter().map(|order| order.seed).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn the_hash_is_that_of_one_run_or_of_all_in_order() {
        let hash = |seeds: &[u64]| {
            let mut tally = Tally::default();
            seeds.iter().for_each(|seed| tally.add(&finished(*seed, Outcome::Ok)));
            tally.hash()
        };
        assert_eq!(hash(&[7]), 7);
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[1, 2]), hash(&[2]));
    }
}
