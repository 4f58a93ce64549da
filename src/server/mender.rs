//! Has tables mended that cannot be read: what they hold is looked for by the scrub, and wiped; then they can go.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::disk::Disk;
use super::shard::Shards;
use crate::api::RepairOrder;
use crate::node::ShardInput;
use crate::storage::{Engine, Family, Mending, Unreadable};
use crate::types::PartitionId;

/// Failures of background work after which everything is read: the first, and then every so many. RocksDB does not say which table it was,
/// and tries again each second.
const FAILURES: u64 = 600;
/// More partitions than this are read in one order.
const SINGLY: usize = 32;

/// See the module.
pub struct Mender {
    disk: Arc<Disk>,
    shards: Arc<Shards>,
    failures: u64,
}

impl Mender {
    /// One that has met nothing yet.
    pub fn new(disk: Arc<Disk>, shards: Arc<Shards>) -> Mender {
        Mender { disk, shards, failures: 0 }
    }

    /// Looks once; for as long as there is something to be done, unless `stopping` says so.
    pub fn look(&mut self, stopping: impl Fn() -> bool) {
        while self.mend() && !stopping() {}
        let failures = self.disk.stats().background_errors;
        if failures / FAILURES != self.failures / FAILURES || self.failures == 0 && failures > 0 {
            warn!(
                failures,
                "work in the background of the storage engine fails: everything is read, to see whether it can be"
            );
            self.read(None);
        }
        self.failures = failures;
    }

    /// Whether there is more to be done at once.
    fn mend(&self) -> bool {
        let mending = match self.disk.engine().mend(&mut || self.disk.sync_all()) {
            Ok(mending) => mending,
            Err(err) => {
                warn!(%err, "a table that cannot be read is not mended");
                return false;
            }
        };
        let Mending { unreadable, dropped, stuck, goes_on } = mending;
        for found in &unreadable {
            self.met(found);
        }
        for table in dropped {
            info!(table, "a table that could not be read is gone");
        }
        for table in stuck {
            error!(
                table,
                "a table of the first level cannot be read, and RocksDB cannot drop it: reads and writes go on until too many tables wait \
                 behind it. When all replicas are up, stop this node, remove its data directory and start it: it fetches what it held from them"
            );
        }
        goes_on
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
