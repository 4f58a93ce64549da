//! What is printed in the end.

use std::fmt::{self, Display};
use std::time::Duration;

use dynkv::sim::{Kind, Mark};

use super::progress::{hours, times_real};
use super::tally::Tally;

/// The table, what was met, and what went wrong.
pub struct Summary<'a> {
    pub tally: &'a Tally,
    /// Wall time.
    pub wall: Duration,
    pub twice: bool,
    pub marks: Shown,
}

/// Which marks the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// None: what was met is not of interest.
    Nothing,
    /// Those that were met: a lone seed meets few.
    Met,
    /// All, and zeros stand out.
    All,
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(f)?;
        if self.marks != Shown::Nothing {
            self.met(f, Kind::Effect, "effects of faults")?;
            self.met(f, Kind::Probe, "situations met")?;
        }
        self.failures(f)
    }
}

impl Summary<'_> {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { tally, wall, .. } = self;
        let findings = &tally.findings;
        let per_second = tally.operations as f64 / tally.elapsed.as_secs_f64().max(1e-6);
        let percent = 100.0 * findings.acked_under_fault as f64 / (findings.acked as f64).max(1.0);
        row(f, "seeds", tally.seeds)?;
        row(f, "virtual hours", format_args!("{:.2}", hours(tally.elapsed)))?;
        row(f, "wall seconds", format_args!("{:.1}", wall.as_secs_f64()))?;
        row(f, "times real time", format_args!("{:.0}", times_real(tally.elapsed, *wall)))?;
        row(f, "operations", tally.operations)?;
        row(f, "operations per virtual second", format_args!("{per_second:.1}"))?;
        row(f, "writes acked", findings.acked)?;
        row(f, "writes acked under a fault", format_args!("{} ({percent:.0} %)", findings.acked_under_fault))?;
        row(f, "writes refused", findings.refused)?;
        row(f, "writes of unknown fate", findings.unknown)?;
        row(f, "of them seen later", findings.late_surfaced)?;
        row(f, "puts promised success", tally.availability.promised)?;
        row(f, "of them failed", tally.availability.failed)?;
        row(f, "reads", findings.reads)?;
        row(f, "most siblings", findings.most_siblings)?;
        row(f, "three siblings or more made one", findings.siblings_resolved)?;
        row(f, "trace hash", format_args!("{:016x}", tally.hash()))?;
        if self.twice {
            let same = tally.seeds - tally.differing.len() as u64;
            row(f, "same the second time", format_args!("{same} of {}", tally.seeds))?;
        }
        Ok(())
    }

    fn met(&self, f: &mut fmt::Formatter<'_>, kind: Kind, title: &str) -> fmt::Result {
        writeln!(f, "\n{title}")?;
        Mark::ALL.iter().copied().filter(|mark| mark.kind() == kind).try_for_each(|mark| {
            match self.tally.coverage.of(mark) {
                0 if self.marks == Shown::Met => Ok(()),
                0 if !self.tally.engine.can_meet(mark) => row(f, mark.name(), "-"),
                0 => row(f, mark.name(), "ZERO"),
                count => row(f, mark.name(), count),
            }
        })
    }

    fn failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (order, violation) in &self.tally.violations {
            writeln!(f, "\nVIOLATION in seed {}: {}", order.seed, violation.invariant)?;
            if let Some(key) = &violation.key {
                writeln!(f, "  key {key}")?;
            }
            violation.evidence.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
            writeln!(f, "  replay: {}", order.replay(false))?;
        }
        for order in &self.tally.differing {
            writeln!(f, "\nDIFFERENT the second time: seed {}\n  replay: {}", order.seed, order.replay(true))?;
        }
        for (order, what) in &self.tally.insufficient {
            writeln!(f, "\nINSUFFICIENT: seed {}: {what}\n  replay: {}", order.seed, order.replay(false))?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl Display) -> fmt::Result {
    // width is honoured by what is formatted as text only
    writeln!(f, "  {name:<40} {:>14}", value.to_string())
}

#[cfg(test)]
mod tests {
    use dynkv::sim::{Coverage, HarnessBug, Violation};

    use super::super::rig::{Minutes, Order, Rig};
    use super::*;

    fn summary(tally: &Tally, marks: Shown) -> String {
        Summary { tally, wall: Duration::from_secs(72), twice: true, marks }.to_string()
    }

    #[test]
    fn zeros_and_failures_stand_out() {
        let mut coverage = Coverage::default();
        coverage.add(Mark::TornTail, 12);
        let order = Order { seed: 17, minutes: Minutes::ONE, rig: Rig::PLAIN };
        let violation =
            Violation { invariant: "phantom".to_owned(), key: Some("k3".to_owned()), evidence: "one\ntwo".to_owned() };
        let mut tally = Tally::default();
        (tally.seeds, tally.elapsed, tally.coverage) = (1, Duration::from_secs(7200), coverage);
        tally.violations.push((order, violation));
        tally.insufficient.push((order, "3 acked".to_owned()));
        tally.differing.push(order);
        let text = summary(&tally, Shown::All);
        let line = |start: &str| {
            let found = text.lines().find(|line| line.trim_start().starts_with(start));
            found.unwrap_or_else(|| panic!("no {start:?} in\n{text}")).split_whitespace().last().unwrap().to_owned()
        };
        assert_eq!(line("times real time"), "100");
        assert_eq!(line(Mark::TornTail.name()), "12");
        assert_eq!(line(Mark::Killed.name()), "ZERO");
        assert_eq!(text.matches("ZERO").count(), Mark::ALL.len() - 1);
        let failure = "VIOLATION in seed 17: phantom\n  key k3\n  one\n  two\n  replay: make sim SEED=17 MINUTES=1\n";
        assert!(text.contains(failure), "{text}");
        assert!(text.contains("INSUFFICIENT: seed 17: 3 acked\n"), "{text}");
        assert!(text.contains("replay: make sim SEED=17 MINUTES=1 TWICE=1\n"), "{text}");
    }

    #[test]
    fn a_lone_seed_shows_what_it_has_met() {
        let mut tally = Tally::default();
        tally.coverage.add(Mark::TornTail, 12);
        let text = summary(&tally, Shown::Met);
        assert!(text.contains(Mark::TornTail.name()) && !text.contains(Mark::Killed.name()), "{text}");
        assert!(!text.contains("ZERO"), "{text}");
        assert!(!summary(&tally, Shown::Nothing).contains(Mark::TornTail.name()));
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn what_rocks_cannot_meet_is_no_zero() {
        let text = summary(&Tally::on(super::super::engine::Engine::Rocks), Shown::All);
        let of = |mark: Mark| text.lines().find_map(|line| line.trim_start().strip_prefix(mark.name())).map(str::trim);
        assert_eq!((of(Mark::SyncFailed), of(Mark::TornTail), of(Mark::Killed)), (Some("-"), Some("-"), Some("ZERO")));
    }

    #[test]
    fn a_harness_bug_is_replayed_twice_in_its_own_words() {
        let rig = Rig { harness_bug: Some(HarnessBug::FaultsOff), ..Rig::PLAIN };
        let mut tally = Tally::default();
        tally.seeds = 1;
        tally.differing.push(Order { seed: 17, minutes: Minutes::ONE, rig });
        let text = summary(&tally, Shown::Nothing);
        assert!(text.ends_with(" --seed 17 --minutes 1 --harness-bug faults-off --twice\n"), "{text}");
    }
}
