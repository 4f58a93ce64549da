//! This node's own shares of what it coordinates: they count once their batch is written, or once it is on the disk.

use super::Shard;
use super::entry::{Entry, Work};
use crate::api::ApiError;
use crate::node::effects::Effects;
use crate::ring::Slot;
use crate::types::Now;

/// Shares that are in the same batch, or in batches that the same sync puts on the disk.
#[derive(Clone, Debug, Default)]
pub struct OwnShares {
    /// Puts, and the slots that the copies here fill.
    pub(super) puts: Vec<(u64, Slot)>,
    /// Gets that wait for what this node merges of their repairs.
    pub(super) repairs: Vec<u64>,
    /// Entries of the handoff whose objects are this node's own too.
    pub(super) hints: Vec<u64>,
}

impl OwnShares {
    /// How many.
    pub fn len(&self) -> usize {
        self.puts.len() + self.repairs.len() + self.hints.len()
    }

    /// Takes those of a later batch in.
    pub fn append(&mut self, later: &mut OwnShares) {
        self.puts.append(&mut later.puts);
        self.repairs.append(&mut later.repairs);
        self.hints.append(&mut later.hints);
    }
}

impl Shard {
    /// The batch is in the log: what it holds of this node's own, to be given back by
    /// [`Feedback::Committed`](crate::node::Feedback::Committed) when it counts.
    pub fn on_written(&mut self) -> OwnShares {
        self.drains += 1;
        self.unwritten_reads.clear();
        std::mem::take(&mut self.unwritten)
    }

    /// So many answers and shares wait for a sync.
    pub fn note_unsynced(&mut self, unsynced: usize) {
        self.unsynced = unsynced;
    }

    /// Whether so much waits for the disk that nothing more may: it is slower than its writers.
    pub(super) fn is_behind_with_syncs(&self) -> bool {
        self.unsynced >= self.config.max_inflight.saturating_mul(super::UNSYNCED_PER_INFLIGHT)
    }

    /// These are in the log, or on the disk.
    pub(super) fn on_committed(&mut self, now: Now, own: OwnShares, synced: bool, fx: &mut Effects) {
        let OwnShares { puts, repairs, mut hints } = own;
        let node = self.node;
        for (entry, slot) in puts {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { continue };
            if put.minted().is_some() {
                let verdict = put.machine.on_ack(slot, node, synced);
                self.tell_put(entry, verdict, fx);
            }
        }
        // A batch that holds one of these is synced.
        debug_assert!(synced || hints.is_empty() && repairs.is_empty());
        self.synced_hints.append(&mut hints);
        self.on_repairs_durable(now, repairs, fx);
    }

    /// The batch could not be written: what rests on it is indeterminate, and its objects are sent nowhere any more.
    pub(super) fn on_write_failed(&mut self, fx: &mut Effects) {
        self.drains += 1;
        let own = std::mem::take(&mut self.unwritten);
        self.on_disk_failed(own, fx);
        for entry in std::mem::take(&mut self.unwritten_reads) {
            self.revoke_read(entry, fx);
        }
    }

    /// Nothing is written from here on. What these were to count for is indeterminate.
    pub(super) fn on_disk_failed(&mut self, own: OwnShares, fx: &mut Effects) {
        self.stop_background();
        self.forget_runners();
        self.read_only = Some("a write to its disk has failed; restart it once the disk is sound".into());
        for (entry, _) in own.puts {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { continue };
            let w = put.machine.quorum().w();
            let detail = "the coordinator's disk failed".into();
            self.refuse_put(entry, &ApiError::Indeterminate { acks: 0, w, detail }, fx);
        }
    }
}
