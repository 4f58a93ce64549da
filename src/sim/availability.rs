//! Availability: once failures are detected, a sloppy put succeeds if the client reaches a node that reaches W healthy ones.
//! A promise about most puts, so it is counted over many runs.

use std::time::Duration;

use super::disk::Disk;
use super::schedule::{Fault, Shape};
use super::world::World;
use crate::types::Time;

/// After this time without a new failure, everybody knows of all there are.
const DETECTED_WITHIN: Duration = Duration::from_secs(5);
/// With less room, a burst of clients is lawfully refused.
pub(super) const ROOM: usize = 16;
/// Below this bound blind writes are lawfully refused, and a client that was refused by some and met silence elsewhere is
/// told that the outcome is unknown.
pub(super) const SIBLINGS: u32 = 50;

/// Puts that had to succeed, and those of them that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Availability {
    /// Puts to which success was promised.
    pub promised: u64,
    /// Of them, those that failed.
    pub failed: u64,
}

impl Availability {
    /// Whether the promise was kept: 99.9 of 100.
    pub fn is_kept(self) -> bool {
        self.failed * 1000 <= self.promised
    }

    /// Adds another run's.
    pub fn join(&mut self, other: Availability) {
        self.promised += other.promised;
        self.failed += other.failed;
    }
}

/// What upsets a cluster: when something last changed, and what promises nothing while it lasts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unrest {
    changed: Time,
    /// Active faults by which a node is neither well nor away.
    sick: u32,
}

impl Unrest {
    /// Something fails, or recovers.
    pub(super) fn change(&mut self, now: Time) {
        self.changed = now;
    }

    /// A fault begins.
    pub(super) fn begin(&mut self, now: Time, fault: Fault) {
        self.changed = now;
        self.sick += u32::from(leaves_sick(fault));
    }

    /// A fault ends.
    pub(super) fn end(&mut self, now: Time, fault: Fault) {
        self.changed = now;
        self.sick -= u32::from(leaves_sick(fault));
    }
}

/// Whether a fault leaves somebody who answers, and not as he should.
fn leaves_sick(fault: Fault) -> bool {
    match fault {
        Fault::Kill { .. }
        | Fault::KillAll
        | Fault::PowerLoss { .. }
        | Fault::PowerLossAll { .. }
        | Fault::Stop { .. }
        | Fault::Pause { .. }
        | Fault::Wipe { .. }
        | Fault::OldCopy { .. }
        | Fault::ClockJump { .. } => false,
        Fault::Partition { shape, .. } => matches!(shape, Shape::OneWay | Shape::Flapping),
        Fault::DieWithin { .. }
        | Fault::ReadError { .. }
        | Fault::CommitError { .. }
        | Fault::SyncError { .. }
        | Fault::FullDisk { .. }
        | Fault::BitFlip { .. }
        | Fault::RangeRot { .. }
        | Fault::SlowDisk { .. }
        | Fault::SlowNode { .. }
        | Fault::Weather { .. } => true,
    }
}

/// Success was promised to a put that began now, as long as nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    changed: Time,
}

impl<D: Disk> World<D> {
    /// Whether a put of W replicas has to succeed.
    pub(super) fn promise(&self, w: usize) -> Option<Promise> {
        let calm = self.unrest.sick == 0 && self.now.since(self.unrest.changed) >= DETECTED_WITHIN;
        let reach = |a: usize| {
            let reached = |b: &usize| self.is_well(*b) && (*b == a || !self.network.is_cut(a, *b));
            (0..self.nodes.len()).filter(reached).count()
        };
        let able = |node: usize| self.is_well(node) && reach(node) >= w;
        (calm && (0..self.nodes.len()).any(able)).then_some(Promise { changed: self.unrest.changed })
    }

    /// Whether nothing has come between a promise and its keeping.
    pub(super) fn still_holds(&self, promise: Promise) -> bool {
        promise.changed == self.unrest.changed && self.unrest.sick == 0
    }

    fn is_well(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.process.is_some() && node.paused.is_none() && node.stopping != Some(node.run) && node.engine_is_sound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_in_a_thousand_is_let_pass() {
        assert!(Availability { promised: 1000, failed: 1 }.is_kept());
        assert!(!Availability { promised: 999, failed: 1 }.is_kept());
        assert!(Availability::default().is_kept());
    }

    #[test]
    fn whoever_is_sick_takes_back_all_promises() {
        let mut unrest = Unrest::default();
        let slow = Fault::SlowDisk { node: 1 };
        unrest.begin(Time::from_micros(5), slow);
        unrest.begin(Time::from_micros(6), Fault::Kill { node: 2 });
        assert_eq!((unrest.sick, unrest.changed), (1, Time::from_micros(6)));
        unrest.end(Time::from_micros(9), slow);
        assert_eq!((unrest.sick, unrest.changed), (0, Time::from_micros(9)));
    }
}
