//! How a run is made: engine, seeded bug, harness bug; and what names it, so that it can be made again.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;
use std::time::Duration;

use dynkv::sim::oracle::{Findings, Sufficiency};
use dynkv::sim::{Availability, Coverage, HarnessBug, Options, Outcome, Report, Schedule, TraceFilter, Violation};

use super::engine::Engine;
use super::panics;
use super::sabotage::{self, Mutant};

/// The name of a violation that is a panic.
pub const PANIC: &str = "panic";
/// Any run is worth something: for runs that are only asked whether they fail.
pub const ANYTHING: Sufficiency = Sufficiency { acked: 0, under_fault_percent: 0 };

/// Virtual minutes of the safety phase, exact to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minutes(Duration);

impl Minutes {
    pub const ONE: Minutes = Minutes(Duration::from_secs(60));

    pub fn span(self) -> Duration {
        self.0
    }
}

impl FromStr for Minutes {
    type Err = String;

    fn from_str(text: &str) -> Result<Minutes, String> {
        const MOST: f64 = 100_000.0;
        let minutes: f64 = text.parse().map_err(|_| format!("{text:?} is no number of minutes"))?;
        if !(0.01..=MOST).contains(&minutes) {
            return Err(format!("{text} minutes: it is 0.01 to {MOST}"));
        }
        // both ends were just checked, so that it fits
        Ok(Minutes(Duration::from_millis((minutes * 60_000.0).round() as u64)))
    }
}

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0.as_secs_f64() / 60.0).fmt(f)
    }
}

/// What all runs of a campaign have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rig {
    pub engine: Engine,
    pub mutant: Option<Mutant>,
    pub harness_bug: Option<HarnessBug>,
}

impl Rig {
    pub const PLAIN: Rig = Rig { engine: Engine::Memory, mutant: None, harness_bug: None };

    /// Makes the run on this thread. A panic is a violation.
    pub fn run(self, schedule: &Schedule, trace: Option<TraceFilter>, enough: Sufficiency) -> Report {
        let options = Options { trace, enough, harness_bug: self.harness_bug };
        sabotage::activate(self.mutant);
        let ended = panics::caught(|| self.engine.run(schedule, &options));
        sabotage::activate(None);
        ended.unwrap_or_else(|evidence| panicked(schedule, evidence))
    }
}

/// What is known of a run that did not come to its end.
fn panicked(schedule: &Schedule, evidence: String) -> Report {
    let mut hasher = DefaultHasher::new();
    evidence.hash(&mut hasher);
    Report {
        seed: schedule.seed,
        elapsed: Duration::ZERO,
        trace_hash: hasher.finish(),
        operations: 0,
        findings: Findings::default(),
        coverage: Coverage::default(),
        availability: Availability::default(),
        outcome: Outcome::Violation(Violation { invariant: PANIC.to_owned(), key: None, evidence }),
        trace: Vec::new(),
    }
}

/// Whether two violations are the same thing gone wrong: the same invariant, the same place of a panic.
pub fn same(a: &Violation, b: &Violation) -> bool {
    let place = |violation: &Violation| {
        let place = violation.evidence.split_once(": ").map(|(place, _)| place.to_owned());
        place.filter(|_| violation.invariant == PANIC)
    };
    a.invariant == b.invariant && place(a) == place(b)
}

/// One run that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub seed: u64,
    pub minutes: Minutes,
    pub rig: Rig,
}

impl Order {
    pub fn schedule(self) -> Schedule {
        Schedule::draw(self.seed, self.minutes.span())
    }

    /// The command that makes this run again, or again twice.
    pub fn replay(self, twice: bool) -> String {
        let Order { seed, minutes, rig } = self;
        if rig.mutant.is_none() && rig.harness_bug.is_none() {
            let engine = rig.engine.unusual_name().map(|name| format!(" ENGINE={name}")).unwrap_or_default();
            let twice = if twice { " TWICE=1" } else { "" };
            return format!("make sim SEED={seed} MINUTES={minutes}{engine}{twice}");
        }
        let build = rig.engine.build();
        let feature = if rig.mutant.is_some() { "mutants" } else { "sim" };
        let mut line = format!("cargo run {build} --features {feature} --bin dynkv-sim --");
        line += &format!(" --seed {seed} --minutes {minutes}");
        let mut option = |name: &str, value: Option<&str>| {
            line += &value.map(|value| format!(" --{name} {value}")).unwrap_or_default();
        };
        option("engine", rig.engine.unusual_name());
        option("mutant", rig.mutant.map(Mutant::name));
        option("harness-bug", rig.harness_bug.map(HarnessBug::name));
        line += if twice { " --twice" } else { "" };
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_read_as_they_are_printed() {
        for text in ["1", "10", "0.5", "0.1", "2.25", "0.333", "100000"] {
            let minutes: Minutes = text.parse().unwrap();
            assert_eq!(minutes.to_string().parse(), Ok(minutes), "{text}");
        }
        assert_eq!("0.5".parse::<Minutes>().unwrap().span(), Duration::from_secs(30));
        assert_eq!("10".parse::<Minutes>().unwrap().to_string(), "10");
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "a minute"] {
            assert!(wrong.parse::<Minutes>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_replay_line_names_all_that_makes_a_run() {
        let plain = Order { seed: 17, minutes: "10".parse().unwrap(), rig: Rig::PLAIN };
        assert_eq!(plain.replay(false), "make sim SEED=17 MINUTES=10");
        assert_eq!(plain.replay(true), "make sim SEED=17 MINUTES=10 TWICE=1");
        let harness_bug = Some(HarnessBug::EmptyHistory);
        let broken = Order { rig: Rig { harness_bug, ..Rig::PLAIN }, ..plain };
        let expected = "cargo run --profile sim --no-default-features --features sim --bin dynkv-sim -- \
                        --seed 17 --minutes 10 --harness-bug empty-history";
        assert_eq!(broken.replay(false), expected);
        assert_eq!(broken.replay(true), format!("{expected} --twice"));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_replay_line_of_a_seeded_bug_builds_it_in() {
        let mutant = Mutant::ALL[0];
        let order = Order { seed: 17, minutes: Minutes::ONE, rig: Rig { mutant: Some(mutant), ..Rig::PLAIN } };
        let expected = format!(
            "cargo run --profile sim --no-default-features --features mutants --bin dynkv-sim -- \
             --seed 17 --minutes 1 --mutant {}",
            mutant.name()
        );
        assert_eq!(order.replay(false), expected);
        assert_eq!(order.replay(true), format!("{expected} --twice"));
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn a_replay_line_on_rocks_builds_rocks_in() {
        let rig = Rig { engine: Engine::Rocks, ..Rig::PLAIN };
        let plain = Order { seed: 17, minutes: Minutes::ONE, rig };
        assert_eq!(plain.replay(true), "make sim SEED=17 MINUTES=1 ENGINE=rocks TWICE=1");
        let broken = Order { rig: Rig { harness_bug: Some(HarnessBug::FaultsOff), ..rig }, ..plain };
        let expected = "cargo run --release --features sim --bin dynkv-sim -- \
                        --seed 17 --minutes 1 --engine rocks --harness-bug faults-off";
        assert_eq!(broken.replay(false), expected);
        #[cfg(feature = "mutants")]
        {
            let mutated = Order { rig: Rig { mutant: Some(Mutant::ALL[0]), ..rig }, ..plain };
            let replay = mutated.replay(false);
            assert!(replay.starts_with("cargo run --release --features mutants --bin dynkv-sim -- "), "{replay}");
        }
    }

    #[test]
    fn panics_are_told_apart_by_their_place() {
        let violation = |invariant: &str, evidence: &str| Violation {
            invariant: invariant.to_owned(),
            key: None,
            evidence: evidence.to_owned(),
        };
        assert!(same(&violation(PANIC, "src/a.rs:1:2: got 3"), &violation(PANIC, "src/a.rs:1:2: got 4")));
        assert!(!same(&violation(PANIC, "src/a.rs:1:2: got 3"), &violation(PANIC, "src/b.rs:1:2: got 3")));
        assert!(same(&violation("phantom", "k1: v1"), &violation("phantom", "k2: v2")));
        assert!(!same(&violation("phantom", "k1: v1"), &violation("antichain", "k1: v1")));
    }
}
