//! Has tables mended that cannot be read: what they held is looked for by the scrub, and wiped, so that it comes back from others.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::board::Board;
use super::disk::Disk;
use super::shard::Shards;
use crate::antientropy::{healing, tree_shape};
use crate::api::RepairOrder;
use crate::node::ShardInput;
use crate::ring::RingView;
use crate::storage::{Engine, Family, KeptBecause, MendWith, Mending, ScanLimit, Unreadable};
use crate::types::{NodeId, PartitionId};

/// Failures of background work after which everything is read: the first, and then every so many. RocksDB does not say which table it was,
/// and tries again each second.
const FAILURES: u64 = 600;
/// More partitions than this are read in one order.
const SINGLY: usize = 32;
/// Bytes of the tables whose range is written anew for one of them to go. They are flushed a memtable at a time while no compaction runs: with the
/// least that nodes draw where memory is not capped, as 53 tables of the first level, or more of what compresses well. At 40 RocksDB slows writes down, at 72 it stops them.
const MOST_REWRITTEN: u64 = 1 << 30;
/// And of what the file system has free, no more than this part.
const PART_OF_FREE: u64 = 4;
/// What the scrub does not read.
const SMALL: [Family; 3] = [Family::Hints, Family::Merkle, Family::Meta];

/// See the module.
pub struct Mender {
    disk: Arc<Disk>,
    shards: Arc<Shards>,
    board: Arc<Board>,
    failures: u64,
}

impl Mender {
    /// One that has met nothing yet.
    pub fn new(disk: Arc<Disk>, shards: Arc<Shards>, board: Arc<Board>) -> Mender {
        Mender { disk, shards, board, failures: 0 }
    }

    /// Looks once, unless `stopping` says so. Not before the shards know the ring: until then nobody can say what others hold, and
    /// shards have nothing that they could be ordered to read.
    pub fn look(&mut self, stopping: impl Fn() -> bool) {
        let Some(ring) = self.board.ring() else { return };
        self.mend(&ring, &stopping);
        let failures = self.disk.stats().background_errors;
        if failures / FAILURES != self.failures / FAILURES || self.failures == 0 && failures > 0 {
            warn!(
                failures,
                "work in the background of the storage engine fails: everything is read, to see whether it can be"
            );
            self.read(None);
            self.read_small(&stopping);
        }
        self.failures = failures;
    }

    fn mend(&self, ring: &RingView, stopping: &dyn Fn() -> bool) {
        let node = self.board.node();
        let mut sync = || self.disk.sync_all();
        let most_rewritten = MOST_REWRITTEN.min(self.disk.stats().free_bytes / PART_OF_FREE);
        let may_go = |start: &[u8], end: &[u8]| may_go(ring, node, start, end);
        let mut with = MendWith { may_go: &may_go, sync: &mut sync, most_rewritten, stopping };
        let mending = match self.disk.engine().mend(&mut with) {
            Ok(mending) => mending,
            Err(err) => return warn!(%err, "tables that cannot be read are not mended"),
        };
        let Mending { unreadable, dropped, stuck, kept, failed } = mending;
        for found in &unreadable {
            self.met(found);
        }
        for table in dropped {
            info!(table, "a table that could not be read is gone");
        }
        for (table, err) in failed {
            warn!(table, %err, "a table that cannot be read is not mended yet");
        }
        for table in stuck {
            error!(
                table,
                "a table cannot be read, and cannot be dropped: it is of the first level, or too much lies in its range. Reads and writes go on \
                 until too many tables wait behind it. When all replicas are up, stop this node, remove its data directory and start it: it fetches what it held from them"
            );
        }
        for (table, because) in kept {
            let (reason, advice) = explain(because);
            error!(
                table,
                reason,
                advice,
                "a table cannot be read and is kept; reads and writes go on until too many tables wait behind it"
            );
        }
    }

    /// Reads what the scrub does not, for the engine to note what it cannot read.
    fn read_small(&self, stopping: &dyn Fn() -> bool) {
        for family in SMALL {
            let mut visit =
                |_: &[u8], _: &[u8]| if stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            if let Err(err) = self.disk.engine().scan(family, &[], None, ScanLimit::NONE, &mut visit) {
                warn!(family = family.name(), %err, "a part of a table cannot be read");
            }
        }
    }

    fn met(&self, Unreadable { family, start, last }: &Unreadable) {
        // The index of tombstones has the keys of its objects.
        let has_partitions = matches!(family, Family::Objects | Family::Tombstones);
        let partitions = if has_partitions { partitions(start, last) } else { None };
        let shown = partitions.as_ref().and_then(|all| Some((all.first()?.0, all.last()?.0)));
        warn!(family = family.name(), partitions = ?shown, "a part of a table cannot be read");
        if has_partitions {
            self.read(partitions);
        }
    }

    /// Has these partitions read by the scrub, or all.
    fn read(&self, partitions: Option<BTreeSet<PartitionId>>) {
        let order = |partition| self.shards.notify(&ShardInput::Repair(RepairOrder::Scrub { partition }));
        match partitions.filter(|partitions| partitions.len() <= SINGLY) {
            Some(partitions) => partitions.into_iter().for_each(|partition| order(Some(partition))),
            None => order(None),
        }
    }
}

/// Why a table is kept, and what its operator can do.
fn explain(because: KeptBecause) -> (&'static str, &'static str) {
    const DELIVER_AND_WIPE: &str = "have the nodes up that hints wait for, so that what can be read is delivered; then, when all replicas are up, \
                                    stop this node, remove its data directory and start it: it fetches what it held from them";
    match because {
        KeptBecause::OnlyHere => (
            "no other node is to hold what is in its range",
            "save what can be read (dynkv-cli export), stop this node, remove its data directory, start it and import that again",
        ),
        KeptBecause::NamedTooMuch => (
            "too much of its range waits for other nodes, or is deletions that are not reaped",
            "have all members up; it is tried again",
        ),
        KeptBecause::HintsUnreadable => {
            ("the hints cannot be read that say what of its range waits for other nodes", DELIVER_AND_WIPE)
        }
        KeptBecause::NotObjects(Family::Hints) => ("it holds hints, and no other node does", DELIVER_AND_WIPE),
        KeptBecause::NotObjects(Family::Merkle) => {
            ("it holds Merkle trees", "restart this node, which makes them anew")
        }
        KeptBecause::NotObjects(_) => (
            "it holds the node's own records",
            "save what can be read (dynkv-cli export) before anything else, as the node may not start again; then, when all replicas are up, stop \
             it, remove its data directory and start it: it fetches what it held from them",
        ),
    }
}

/// Whether all that this node holds of these partitions is held by others too, or for others.
fn may_go(ring: &RingView, node: NodeId, start: &[u8], end: &[u8]) -> bool {
    let (shape, healing) = (tree_shape(ring.layout()), healing(ring, node));
    let all = |partitions: BTreeSet<PartitionId>| {
        partitions.into_iter().flat_map(|partition| shape.trees_of(partition)).all(|tree| healing.may_go(tree))
    };
    // To one that is no member all would be others'.
    let is_member = ring.layout().members().iter().any(|member| member.id == node);
    is_member && partitions(start, end).is_some_and(all)
}

/// Those of the keys from the first to the last; `None` if they are not object keys.
fn partitions(first: &[u8], last: &[u8]) -> Option<BTreeSet<PartitionId>> {
    let of = |key: &[u8]| key.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    Some((of(first)?..=of(last)?).map(PartitionId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_a_table_are_those_of_its_keys() {
        let of = |first: &[u8], last: &[u8]| {
            partitions(first, last).map(|all| all.into_iter().map(|one| one.0).collect::<Vec<_>>())
        };
        assert_eq!(of(&[0, 3, 9], &[0, 5]), Some(vec![3, 4, 5]));
        assert_eq!(of(&[1, 0], &[1, 0]), Some(vec![256]));
        assert_eq!(of(&[1], &[1, 0]), None);
    }
}
