//! What an operator sees of the comparison of replicas, and may order about it.

use serde::{Deserialize, Serialize};

use super::ScrubStatus;
use crate::types::{NodeId, PartitionId};

/// What an operator wants done about the comparison of the asked node's replicas with others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairOrder {
    /// Compare at once, whatever has been compared of late. While paused, it waits for a [`RepairOrder::Resume`].
    Start {
        /// This partition; `None`: all.
        partition: Option<PartitionId>,
    },
    /// Begin no more comparisons, reads of what is held, and reaping rounds. Forgotten by a restart.
    Pause,
    /// Go on.
    Resume,
    /// Read all records at once, whatever has been read of late: those that are not what was written are wiped, and come back from other
    /// nodes. While paused, it waits for a [`RepairOrder::Resume`].
    Scrub {
        /// This partition; `None`: all.
        partition: Option<PartitionId>,
    },
    /// Delete at once those tombstones that nothing needs any more, of the partitions whose rounds the node runs. While paused, it
    /// waits for a [`RepairOrder::Resume`].
    Reap {
        /// This partition; `None`: all.
        partition: Option<PartitionId>,
    },
}

/// A [`RepairOrder`] has been handed to the asked node's shards, which carry it out after this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairOrdered {
    /// What the order is about: trees of the node (one for each partition and n of its buckets) that another node holds too.
    pub trees: u64,
    /// Whether it is paused with the order carried out.
    pub paused: bool,
}

/// How far a node, or one of its shards, has come with comparing its replicas with others'. Counts are since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// By an operator's order.
    pub paused: bool,
    /// Why nothing is begun although something is due, for people.
    pub waiting: Option<String>,
    /// Trees that are compared in depth now.
    pub running: Vec<RunningRepair>,
    /// Trees whose turn it is.
    pub due: u64,
    /// Trees that have been compared with a peer's.
    pub compared: u64,
    /// Of these, those that differed.
    pub differing: u64,
    /// Keys that were found to differ.
    pub keys_differing: u64,
    /// Bytes sent and fetched.
    pub bytes: u64,
    /// Trees that agree with those of all their peers since the last start was ordered, or the node began.
    pub done: u64,
    /// How many there are.
    pub of: u64,
    /// Seconds until all are done, at today's rate; `None` if that is not known, and once they are.
    pub eta_s: Option<u64>,
    /// How far it has rebuilt what it lost with its disk.
    pub rebuilding: Option<Rebuilding>,
    /// How far it has come with reading what it holds.
    pub scrub: ScrubStatus,
}

/// A tree that is compared with a peer's, leaf by leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRepair {
    /// Its partition.
    pub partition: PartitionId,
    /// The n of its buckets.
    pub n: u8,
    /// With whom.
    pub peer: NodeId,
    /// Keys that were found to differ so far.
    pub keys_differing: u64,
    /// Bytes sent and fetched so far.
    pub bytes: u64,
}

/// How far a node has come that has lost its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilding {
    /// Trees that hold what all their peers hold.
    pub done: u64,
    /// How many it had.
    pub of: u64,
}

impl RepairStatus {
    /// Adds another shard's of the same node.
    pub fn join(&mut self, other: RepairStatus) {
        self.eta_s = match (self.eta_s, other.eta_s) {
            (Some(one), Some(two)) => Some(one.max(two)),
            (one, None) if other.is_done() => one,
            (None, two) if self.is_done() => two,
            _ => None,
        };
        self.paused &= other.paused;
        self.waiting = match (self.waiting.take(), other.waiting) {
            (Some(one), Some(two)) if !one.split("; ").any(|known| known == two) => Some(format!("{one}; {two}")),
            (one, two) => one.or(two),
        };
        self.running.extend(other.running);
        self.due += other.due;
        self.compared += other.compared;
        self.differing += other.differing;
        self.keys_differing += other.keys_differing;
        self.bytes += other.bytes;
        self.done += other.done;
        self.of += other.of;
        self.rebuilding = match (self.rebuilding, other.rebuilding) {
            (Some(one), Some(two)) => Some(Rebuilding { done: one.done + two.done, of: one.of + two.of }),
            (one, two) => one.or(two),
        };
        self.scrub.join(other.scrub);
    }

    /// Whether all agrees with all peers.
    pub fn is_done(&self) -> bool {
        self.done >= self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(mut one: RepairStatus, other: RepairStatus) -> RepairStatus {
        one.join(other);
        one
    }

    #[test]
    fn a_node_has_done_what_its_shards_have_done() {
        let running = |partition| RunningRepair {
            partition: PartitionId(partition),
            n: 3,
            peer: NodeId(2),
            keys_differing: 5,
            bytes: 6,
        };
        let part = |partition| RepairStatus {
            paused: false,
            waiting: None,
            running: vec![running(partition)],
            due: 1,
            compared: 20,
            differing: 3,
            keys_differing: 40,
            bytes: 500,
            done: 6,
            of: 70,
            eta_s: Some(u64::from(partition)),
            rebuilding: Some(Rebuilding { done: 1, of: 9 }),
            scrub: ScrubStatus { records: 7, ..ScrubStatus::default() },
        };
        let whole = RepairStatus {
            paused: false,
            waiting: None,
            running: vec![running(8), running(5)],
            due: 2,
            compared: 40,
            differing: 6,
            keys_differing: 80,
            bytes: 1000,
            done: 12,
            of: 140,
            eta_s: Some(8),
            rebuilding: Some(Rebuilding { done: 2, of: 18 }),
            scrub: ScrubStatus { records: 14, ..ScrubStatus::default() },
        };
        assert_eq!(joined(part(8), part(5)), whole);
        let rebuilt = RepairStatus { rebuilding: None, ..part(5) };
        let one = Some(Rebuilding { done: 1, of: 9 });
        assert_eq!(joined(part(8), rebuilt.clone()).rebuilding, one);
        assert_eq!(joined(rebuilt, part(8)).rebuilding, one);
    }

    #[track_caller]
    fn check_eta(one: (u64, Option<u64>), two: (u64, Option<u64>), both: Option<u64>) {
        let part = |(done, eta_s)| RepairStatus { done, of: 9, eta_s, ..RepairStatus::default() };
        assert_eq!(joined(part(one), part(two)).eta_s, both);
        assert_eq!(joined(part(two), part(one)).eta_s, both);
    }

    /// A shard that cannot say when it ends leaves the whole open, unless it has ended.
    #[test]
    fn the_last_shard_ends_the_round_and_who_has_ended_is_not_waited_for() {
        check_eta((1, Some(7)), (1, Some(3)), Some(7));
        check_eta((1, Some(7)), (1, None), None);
        check_eta((1, Some(7)), (9, None), Some(7));
        check_eta((9, None), (9, None), None);
        check_eta((1, None), (9, None), None);
    }

    #[test]
    fn it_is_paused_once_all_are_and_waits_for_whatever_any_waits_for() {
        let part = |paused, waiting: Option<&str>| RepairStatus {
            paused,
            waiting: waiting.map(str::to_owned),
            ..RepairStatus::default()
        };
        let both = |one, two| {
            let joined = joined(one, two);
            (joined.paused, joined.waiting)
        };
        assert_eq!(both(part(true, None), part(true, None)), (true, None));
        assert_eq!(both(part(true, None), part(false, Some("a"))), (false, Some("a".into())));
        assert_eq!(both(part(false, Some("a")), part(true, None)), (false, Some("a".into())));
        assert_eq!(both(part(true, Some("a")), part(true, Some("a"))), (true, Some("a".into())));
        assert_eq!(both(part(true, Some("a; b")), part(true, Some("b"))), (true, Some("a; b".into())));
        assert_eq!(both(part(true, Some("a")), part(true, Some("b"))), (true, Some("a; b".into())));
    }
}
