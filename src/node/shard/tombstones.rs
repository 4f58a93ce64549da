//! What tombstones a shard holds, and how old they are: counted when an operator asks, by a walk over their index. Nothing is kept
//! in between.

use std::collections::BTreeMap;

use super::Shard;
use crate::antientropy::primaries;
use crate::api::{Reply, Response, RunnerShare, TombstoneStats};
use crate::node::effects::{ClientRef, Effects, Output, TombstonePurpose};
use crate::storage::{OpFailure, TombstonePage, TombstoneSpec};
use crate::types::{NodeId, Now, PartitionId};

/// Tombstones of a page at most.
const PAGE: usize = 4096;
/// Tombstones of a walk at most, about: with more, the count is of the first ones, and says so.
const MAX_COUNTED: u64 = if cfg!(test) { 10_000 } else { 1 << 22 };
/// Why a node that is being stopped counts nothing.
const STOPPING: &str = "it is about to stop";
/// Who may wait for one walk.
const MAX_ASKERS: usize = 64;

/// A walk over the tombstones of a shard's partitions, one after the other.
#[derive(Debug)]
pub(super) struct Walk {
    askers: Vec<ClientRef>,
    /// When it began.
    wall_ms: u64,
    /// Where it is.
    partition: PartitionId,
    stats: TombstoneStats,
    shares: BTreeMap<NodeId, Share>,
}

#[derive(Debug, Default)]
struct Share {
    partitions: u64,
    count: u64,
    /// The last of the partitions.
    last: Option<PartitionId>,
}

impl Walk {
    fn spec(&self, after: Option<bytes::Bytes>) -> TombstoneSpec {
        TombstoneSpec { partition: self.partition, n: None, after, limit: PAGE }
    }

    fn is_full(&self) -> bool {
        self.stats.count + self.stats.unreadable >= MAX_COUNTED
    }
}

impl Shard {
    /// Counts the tombstones, and tells whoever asks; who asks while they are being counted is told the outcome of that.
    pub(super) fn count_tombstones(&mut self, now: Now, from: ClientRef, fx: &mut Effects) {
        let partition = PartitionId(self.config.shard);
        let partitions = self.serving_partitions();
        let reason = match (&mut self.tombstone_walk, partitions) {
            _ if self.draining => STOPPING,
            (Some(walk), _) if walk.askers.len() < MAX_ASKERS => return walk.askers.push(from),
            (Some(_), _) => "too many ask for that at once",
            (None, None) => "it has no ring yet",
            // More shards than partitions: this one has none.
            (None, Some(partitions)) if u32::from(partition.0) >= partitions => {
                return tell(from, TombstoneStats::default(), fx);
            }
            (None, Some(_)) => {
                let (stats, shares) = (TombstoneStats::default(), BTreeMap::new());
                let walk = Walk { askers: vec![from], wall_ms: now.wall_ms, partition, stats, shares };
                fx.tombstone_reads.push((TombstonePurpose::Stats, walk.spec(None)));
                self.tombstone_walk = Some(walk);
                return;
            }
        };
        tell(from, TombstoneStats { incomplete: Some(reason.to_owned()), ..TombstoneStats::default() }, fx);
    }

    /// A page of the walk has been read.
    pub(super) fn on_tombstones_read(&mut self, page: Result<TombstonePage, OpFailure>, fx: &mut Effects) {
        let Some(mut walk) = self.tombstone_walk.take() else {
            self.counters.stray_answers += 1;
            return;
        };
        let mut after = None;
        match page {
            Ok(page) => {
                self.add_to_walk(&page, &mut walk);
                after = page.next;
            }
            Err(failure @ (OpFailure::Overloaded | OpFailure::Stopped)) => {
                return self.end_walk(walk, Some(failure.to_string()), fx);
            }
            // What cannot be read of one partition hides no other.
            Err(OpFailure::Unreadable { detail, .. } | OpFailure::Newer { detail }) => {
                let reason = || format!("partition {} cannot be read: {detail}", walk.partition.0);
                walk.stats.incomplete.get_or_insert_with(reason);
            }
        }
        let next = if after.is_some() { Some(walk.partition) } else { self.partition_after(walk.partition) };
        match next {
            None => self.end_walk(walk, None, fx),
            Some(_) if walk.is_full() => {
                self.end_walk(walk, Some(format!("a shard counts no more than {MAX_COUNTED}")), fx);
            }
            Some(next) => {
                walk.partition = next;
                fx.tombstone_reads.push((TombstonePurpose::Stats, walk.spec(after)));
                self.tombstone_walk = Some(walk);
            }
        }
    }

    /// The node is about to stop: whoever waits is told what has been counted.
    pub(super) fn stop_tombstone_walk(&mut self, fx: &mut Effects) {
        if let Some(walk) = self.tombstone_walk.take() {
            self.end_walk(walk, Some(STOPPING.to_owned()), fx);
        }
    }

    fn add_to_walk(&self, page: &TombstonePage, walk: &mut Walk) {
        walk.stats.unreadable += page.unreadable;
        let view = self.serving_view();
        for item in &page.items {
            walk.stats.add(walk.wall_ms.saturating_sub(item.entry.wall_ms));
            let runner = view.and_then(|view| primaries(view, item.tree).first());
            let Some(runner) = runner else { continue };
            let share = walk.shares.entry(*runner).or_default();
            share.count += 1;
            share.partitions += u64::from(share.last != Some(walk.partition));
            share.last = Some(walk.partition);
        }
    }

    /// Tells all who wait for the walk what it has found, and why that is not all.
    fn end_walk(&self, walk: Walk, incomplete: Option<String>, fx: &mut Effects) {
        let Walk { askers, mut stats, shares, .. } = walk;
        let runner = |(node, share): (NodeId, Share)| RunnerShare {
            node,
            name: self.name_of(node),
            is_asked: node == self.node,
            partitions: share.partitions,
            count: share.count,
        };
        stats.runners = shares.into_iter().map(runner).collect();
        stats.reaper = self.reaper_status();
        stats.incomplete = incomplete.or(stats.incomplete);
        askers.into_iter().for_each(|asker| tell(asker, stats.clone(), fx));
    }

    fn serving_partitions(&self) -> Option<u32> {
        self.serving_view().map(|view| view.layout().partitions().count())
    }

    /// The next of this shard's partitions.
    fn partition_after(&self, partition: PartitionId) -> Option<PartitionId> {
        let next = partition.0.checked_add(self.config.shards.max(1))?;
        (u32::from(next) < self.serving_partitions()?).then_some(PartitionId(next))
    }
}

/// It rests on nothing that the batch holds.
fn tell(to: ClientRef, stats: TombstoneStats, fx: &mut Effects) {
    fx.unbound.push(Output::Respond { to, response: Response::plain(Reply::Tombstones(Box::new(stats))) });
}
