//! Faults that event, and their end.

use super::coverage::Mark;
use super::disk::Disk;
use super::host::Step;
use super::network::Weather;
use super::process::Node;
use super::schedule::{Fault, Shape};
use super::trace::Happening;
use super::world::World;
use crate::node::ShardInput;
use crate::storage;
use crate::storage::Engine;

/// What a slow disk and a slow node take longer, in microseconds, at most.
const DISK_DRAG_US: u64 = 250_000;
const NODE_DRAG_US: u64 = 60_000;
/// Keys on a disk without objects, at most: identity, generation, layout, vote, clean stop, and a grant for each peer.
const FACTS_ABOUT_A_NODE: u64 = 16;

impl<D: Disk> World<D> {
    fn index(&self, node: u8) -> usize {
        usize::from(node) % self.nodes.len()
    }

    /// Whether a fault finds somebody whom it can befall.
    pub(super) fn can_inject(&self, fault: Fault) -> bool {
        let runs = |node: u8| self.nodes[self.index(node)].process.is_some();
        match fault {
            Fault::KillAll | Fault::PowerLossAll { .. } => self.nodes.iter().any(|node| node.process.is_some()),
            Fault::Weather { loss, doubled, late } => u32::from(loss) + u32::from(doubled) + u32::from(late) > 0,
            fault => fault.node().is_none_or(runs),
        }
    }

    /// A fault begins; `index` tells it from others of its kind.
    pub(super) fn inject(&mut self, index: usize, fault: Fault) {
        self.trace.event(self.now, Happening::Fault, index, &[]);
        match fault {
            Fault::KillAll => {
                self.coverage.add(Mark::AllKilled, u64::from(self.nodes.iter().all(|node| node.process.is_some())));
                (0..self.nodes.len()).for_each(|node| self.kill(node));
            }
            Fault::PowerLossAll { amid: true } => {
                for node in self.nodes.iter_mut().filter(|node| node.process.is_some()) {
                    node.die_after = Some(Step::Released);
                    node.dies_by_power = true;
                }
            }
            Fault::PowerLossAll { amid: false } => {
                self.coverage.add(Mark::AllPowerLost, u64::from(self.nodes.iter().all(|node| node.process.is_some())));
                (0..self.nodes.len()).for_each(|node| self.power_loss(node));
            }
            Fault::Weather { loss, doubled, late } => {
                let (loss, duplication) = (f64::from(loss) / 100.0, f64::from(doubled) / 100.0);
                let storm = Weather { loss, duplication, late: f64::from(late) / 1000.0, ..self.network.weather };
                self.network.storms.insert(index, storm);
                self.trace.announce(self.now, || format!("the weather turns: {storm:?}"));
            }
            Fault::Partition { shape, node } => self.partition(shape, self.index(node), true),
            fault => {
                let node = fault.node().expect("all other faults befall one node");
                self.inject_into(self.index(node), fault);
            }
        }
    }

    fn inject_into(&mut self, node: usize, fault: Fault) {
        let runs = self.nodes[node].process.is_some();
        match fault {
            Fault::Kill { .. } => self.kill(node),
            Fault::Stop { .. } if runs => {
                self.drain(node);
                self.nodes[node].stopping = Some(self.nodes[node].run);
            }
            Fault::PowerLoss { .. } => self.power_loss(node),
            Fault::DieWithin { step, power, .. } if runs => {
                let steps = [Step::Written, Step::Released, Step::Synced];
                self.nodes[node].die_after = Some(steps[usize::from(step) % steps.len()]);
                self.nodes[node].dies_by_power = power;
            }
            Fault::Wipe { .. } => {
                let held = self.nodes[node].disk.engine().stats().estimated_keys;
                self.coverage.add(Mark::Wiped, u64::from(held > FACTS_ABOUT_A_NODE));
                self.wipe(node);
            }
            Fault::OldCopy { .. } => self.give_old_copy(node),
            Fault::Pause { .. } => self.pause(node),
            Fault::ClockJump { ms, .. } => self.nodes[node].clocks.wall_ahead_ms += ms,
            Fault::ReadError { .. } => self.nodes[node].disk.arm(storage::Fault::Read),
            Fault::CommitError { in_log, .. } => self.nodes[node].disk.arm(storage::Fault::Commit { in_log }),
            Fault::SyncError { .. } => self.nodes[node].disk.arm(storage::Fault::Sync),
            Fault::FullDisk { noticed, .. } => {
                self.nodes[node].disk.fill(true);
                if noticed && runs {
                    self.input_all(node, &ShardInput::ReadOnly(Some("its disk is almost full".into())));
                }
            }
            Fault::SlowDisk { .. } => self.nodes[node].pace.disk_drag = DISK_DRAG_US,
            Fault::SlowNode { .. } => self.nodes[node].pace.node_drag = NODE_DRAG_US,
            // Nobody is there to be told.
            Fault::Stop { .. } | Fault::DieWithin { .. } => {}
            Fault::BitFlip { .. }
            | Fault::RangeRot { .. }
            | Fault::KillAll
            | Fault::PowerLossAll { .. }
            | Fault::Weather { .. }
            | Fault::Partition { .. } => unreachable!("the callers take {fault:?}"),
        }
    }

    fn give_old_copy(&mut self, node: usize) {
        if self.restore(node) {
            self.witness.old_copies.insert(node);
            self.start(node);
        }
    }

    /// A fault ends.
    pub(super) fn lift(&mut self, index: usize, fault: Fault) {
        match fault {
            Fault::PowerLossAll { amid: true } => {
                for node in 0..self.nodes.len() {
                    // Whoever had nothing to do loses power at rest.
                    if self.nodes[node].die_after.is_some() {
                        self.power_loss(node);
                    }
                    self.revive(node);
                }
            }
            Fault::KillAll | Fault::PowerLossAll { amid: false } => {
                (0..self.nodes.len()).for_each(|node| self.revive(node));
            }
            Fault::Weather { .. } => {
                self.network.storms.remove(&index);
            }
            // A flapping link has been mended by its last flap.
            Fault::Partition { shape: Shape::Flapping, .. } => {}
            Fault::Partition { shape, node } => self.partition(shape, self.index(node), false),
            Fault::Kill { node }
            | Fault::PowerLoss { node }
            | Fault::Wipe { node }
            | Fault::OldCopy { node }
            | Fault::SyncError { node } => self.revive(self.index(node)),
            Fault::DieWithin { node, .. } => {
                let node = self.index(node);
                self.nodes[node].die_after = None;
                self.revive(node);
            }
            Fault::Stop { node } => self.end_in_order(self.index(node)),
            Fault::Pause { node } => self.resume(self.index(node)),
            Fault::ClockJump { node, ms } => {
                let node = self.index(node);
                self.nodes[node].clocks.wall_ahead_ms -= ms;
            }
            Fault::CommitError { node, .. } => {
                let node = self.index(node);
                self.kill(node);
                self.revive(node);
            }
            Fault::FullDisk { node, noticed } => {
                let node = self.index(node);
                self.nodes[node].disk.fill(false);
                if !self.nodes[node].engine_is_sound() {
                    self.kill(node);
                } else if noticed && self.nodes[node].process.is_some() {
                    self.input_all(node, &ShardInput::ReadOnly(None));
                }
                self.revive(node);
            }
            Fault::SlowDisk { node } => {
                let node = self.index(node);
                self.nodes[node].pace.disk_drag = 0;
            }
            Fault::SlowNode { node } => {
                let node = self.index(node);
                self.nodes[node].pace.node_drag = 0;
            }
            Fault::ReadError { .. } | Fault::BitFlip { .. } | Fault::RangeRot { .. } => {}
        }
    }

    /// A node that has been told to stop does so, and starts again.
    fn end_in_order(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            self.nodes[node].mark_clean();
            let ordered = self.nodes[node].stopping.take() == Some(self.nodes[node].run);
            self.coverage.add(Mark::Stopped, u64::from(ordered && self.nodes[node].engine_is_sound()));
            self.kill(node);
        }
        self.revive(node);
    }

    /// Starts a node that does not run. What the peers have refused as an old copy is wiped first, as its operator is told to.
    pub(super) fn revive(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let condemned = self.nodes[node].fatal.is_some() || self.nodes[node].refused;
        if condemned && !self.witness.old_copies.remove(&node) {
            let Node { fatal, start_error, .. } = &self.nodes[node];
            let evidence = || format!("n{} has ended itself: {fatal:?} {start_error:?}", node + 1);
            self.witness.breach(self.now, "no healthy node is condemned", None, evidence);
        }
        if condemned {
            self.coverage.hit(Mark::OldCopyRefused);
            self.wipe(node);
        }
        self.start(node);
    }

    /// Makes or mends a cut.
    pub(super) fn partition(&mut self, shape: Shape, pivot: usize, cut: bool) {
        self.trace.announce(self.now, || {
            format!("{} around n{}: {shape:?}", if cut { "a cut" } else { "the end of a cut" }, pivot + 1)
        });
        let count = self.nodes.len();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                if !parts(shape, count, pivot, from, to) {
                    continue;
                }
                if cut {
                    self.cut_as(from, to, shape);
                } else {
                    self.network.unblock(from, to, shape);
                }
            }
        }
    }
}

/// Whether a cut of this shape around `pivot` stands between a sender and a receiver, among `count` nodes.
fn parts(shape: Shape, count: usize, pivot: usize, from: usize, to: usize) -> bool {
    let place = |node: usize| (node + count - pivot) % count;
    let half = |node: usize| place(node) <= count / 2;
    match shape {
        Shape::Single | Shape::Flapping => from == pivot || to == pivot,
        Shape::Halves => half(from) != half(to),
        Shape::Bridge => half(from) != half(to) && from != pivot && to != pivot,
        Shape::Ring => ![1, count - 1].contains(&((to + count - from) % count)),
        Shape::OneWay => from == pivot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who cannot reach whom, as pairs of sender and receiver.
    fn cuts(shape: Shape, count: usize, pivot: usize) -> Vec<(usize, usize)> {
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to && parts(shape, count, pivot, *from, *to)).collect()
    }

    #[test]
    fn each_shape_cuts_what_its_name_says() {
        assert_eq!(cuts(Shape::Single, 3, 1), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(cuts(Shape::OneWay, 3, 2), [(2, 0), (2, 1)]);
        assert_eq!(cuts(Shape::Halves, 4, 0), [(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)]);
        assert_eq!(cuts(Shape::Bridge, 4, 0), [(1, 3), (2, 3), (3, 1), (3, 2)]);
        assert_eq!(cuts(Shape::Ring, 4, 0), [(0, 2), (1, 3), (2, 0), (3, 1)]);
    }
}
