//! The scrub, carried out: its commands become counts, and what they find is wiped.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Shard, ShardCounters};
use crate::antientropy::{Scrub, ScrubCommand, Step};
use crate::api::ScrubStatus;
use crate::node::effects::{Effects, Purpose};
use crate::ring::RingView;
use crate::storage::merkle::Place;
use crate::storage::{Op, OpFailure, Scrubbed, Task, Wiped};
use crate::types::{NodeId, Now, PartitionId};

impl Shard {
    /// What an earlier run has left: leaves that lack what was wiped, partitions that have to be counted, and those with a reaping
    /// round.
    pub fn restore(
        &mut self,
        lacking: impl Iterator<Item = Place>,
        uncounted: BTreeSet<PartitionId>,
        rounds: impl Iterator<Item = PartitionId>,
    ) {
        self.restore_lacking(lacking);
        self.restore_rounds(rounds);
        // Nothing is begun before the ring is known, which tells the time too.
        self.uncounted = uncounted;
    }

    /// The ring, and this node's place in it, once both are known.
    pub fn place_in_ring(&self) -> Option<(&RingView, NodeId)> {
        Some((self.serving_view()?, self.node))
    }

    /// Lets the scrub act, and carries out what it says.
    pub(super) fn scrub(&mut self, fx: &mut Effects, act: impl FnOnce(&mut Scrub, &mut Vec<ScrubCommand>)) {
        let mut commands = Vec::new();
        act(&mut self.scrub, &mut commands);
        let counts = commands.into_iter().map(|ScrubCommand::Count { step, partition, from }| (step, partition, from));
        fx.counts.extend(counts);
    }

    pub(super) fn on_scrub_ring(&mut self, now: Now, fx: &mut Effects) {
        let Some(partitions) = self.serving_view().map(|view| view.layout().partitions().count()) else { return };
        let uncounted = std::mem::take(&mut self.uncounted);
        self.scrub(fx, |scrub, out| {
            scrub.on_ring(now, partitions, out);
            scrub.on_uncounted(now, &uncounted, out);
        });
    }

    /// Leaves have been counted; `None`: there was nothing to be counted.
    pub fn on_scrubbed(
        &mut self,
        now: Now,
        step: Step,
        scrubbed: Result<Option<Scrubbed>, OpFailure>,
        fx: &mut Effects,
    ) {
        let rotten = scrubbed.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], |scrubbed| &scrubbed.rotten);
        see_to_rotten(rotten, fx);
        self.scrub(fx, |scrub, out| scrub.on_scrubbed(now, step, scrubbed, out));
    }

    /// A read of several keys has failed: if that is since something of the partition cannot be read, it is looked for.
    pub fn note_unreadable(&mut self, now: Now, partition: PartitionId, failure: Option<&OpFailure>, fx: &mut Effects) {
        if let Some(OpFailure::Unreadable { rotten: true, .. }) = failure {
            self.scrub(fx, |scrub, out| scrub.on_unreadable(now, partition, out));
        }
    }

    /// Records that had rotted are gone with the batch that is being gathered.
    pub(super) fn on_wiped(&mut self, now: Now, wiped: &[Wiped], fx: &mut Effects) {
        self.counters.records_wiped += wiped.iter().filter(|wiped| !wiped.stretch).count() as u64;
        for Wiped { place, .. } in wiped.iter().filter(|wiped| wiped.lacks) {
            self.on_lack(now, *place, fx);
        }
        let partitions = wiped.iter().map(|wiped| wiped.place.0.partition).collect();
        self.scrub(fx, |scrub, out| scrub.on_uncounted(now, &partitions, out));
    }

    /// How far it has come with reading what it holds.
    pub(super) fn scrub_status(&self, now: Now) -> ScrubStatus {
        let (done, progress) = (self.scrub.counters(), self.scrub.progress());
        ScrubStatus {
            running: progress.running.into_iter().collect(),
            done: progress.done,
            of: progress.of,
            walked: progress.walked,
            leaves: progress.leaves,
            walk_ends_s: progress.walk_ends.map(|ends| ends.since(now.time).as_secs()),
            records: done.records,
            bytes: done.bytes,
            rotten: done.rotten,
            hopeless: done.hopeless,
            wiped: self.counters.records_wiped,
            stretches: done.stretches,
            lacking: self.lacking(),
            corrected: done.corrected,
            failed: done.failed,
        }
    }

    pub(super) fn scrub_counters(&self, others: ShardCounters) -> ShardCounters {
        let done = self.scrub.counters();
        ShardCounters {
            scrubbed_records: done.records,
            scrubbed_bytes: done.bytes,
            records_rotten: done.rotten,
            records_hopeless: done.hopeless,
            stretches_wiped: done.stretches,
            leaves_corrected: done.corrected,
            tombstones_reindexed: done.reindexed,
            scrubs_failed: done.failed,
            scrubs_left: self.scrub.left(),
            leaves_lacking: self.lacking(),
            ..others
        }
    }
}

/// Has records wiped that were found rotten: the next operation on a key does it, if it finds the same.
pub(super) fn see_to_rotten(keys: &[Bytes], fx: &mut Effects) {
    fx.tasks.extend(keys.iter().map(|key| Task { purpose: Purpose::Rotten, key: key.clone(), op: Op::Read }));
}
