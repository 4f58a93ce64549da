//! This node's own shares of what it coordinates: they count once their batch is written, or once it is on the disk.

use super::Shard;
use super::entry::{Entry, Work};
use crate::api::ApiError;
use crate::node::effects::Effects;
use crate::ring::Slot;
use crate::types::{Now, Time};

/// Answers and own shares that may wait for a sync, for each request that may wait for an answer.
const UNSYNCED_PER_INFLIGHT: usize = 4;
const DISK_FAILED: &str = "the coordinator's disk failed";

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

/// A sync that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syncing {
    /// When the first of what it is for was written.
    pub held: Time,
    /// When it was begun.
    pub begun: Time,
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

    /// So many answers and shares wait for a sync, and this one is under way.
    pub fn note_unsynced(&mut self, unsynced: usize, syncing: Option<Syncing>) {
        (self.unsynced, self.syncing) = (unsynced, syncing);
    }

    /// Whether so much waits for the disk that nothing more may: it is slower than its writers.
    pub(super) fn is_behind_with_syncs(&self) -> bool {
        self.unsynced >= self.unsynced_room()
    }

    /// The same of what nobody waits for, which may take half of the room.
    pub(super) fn is_half_behind_with_syncs(&self) -> bool {
        self.unsynced >= self.unsynced_room() / 2
    }

    fn unsynced_room(&self) -> usize {
        self.config.max_inflight.saturating_mul(UNSYNCED_PER_INFLIGHT)
    }

    /// Whether the sync that is under way takes longer than any request: the disk hangs, and nobody should wait for it.
    pub(super) fn is_stuck_syncing(&self) -> bool {
        self.syncing.is_some_and(|syncing| self.time.since(syncing.begun) >= self.config.request_timeout)
    }

    /// These are in the log, or on the disk.
    pub(super) fn on_committed(&mut self, now: Now, own: OwnShares, synced: bool, fx: &mut Effects) {
        let OwnShares { puts, repairs, mut hints } = own;
        // A client's write that waits for the sync before its own is kept waiting like one that waits for its turn.
        if let Some(Syncing { held, begun }) = self.syncing.filter(|_| synced && !puts.is_empty()) {
            self.note_turn(now, held, begun, fx);
        }
        let node = self.node;
        for (entry, slot) in puts {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { continue };
            if put.minted().is_some() {
                let verdict = put.machine.on_ack(slot, node, synced);
                self.tell_put(entry, verdict, fx);
            }
        }
        assert!(
            synced || hints.is_empty() && repairs.is_empty(),
            "these are told of what is on the disk, and ask for it"
        );
        self.synced_hints.append(&mut hints);
        self.on_repairs_durable(now, repairs, fx);
    }

    /// The batch could not be written: what rests on it is indeterminate, and its objects are sent nowhere any more.
    pub(super) fn on_write_failed(&mut self, fx: &mut Effects) {
        self.drains += 1;
        self.stop_writing();
        for (entry, _) in std::mem::take(&mut self.unwritten).puts {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { continue };
            let w = put.machine.quorum().w();
            self.refuse_put(entry, &ApiError::Indeterminate { acks: 0, w, detail: DISK_FAILED.into() }, fx);
        }
        for entry in std::mem::take(&mut self.unwritten_reads) {
            self.revoke_read(entry, fx);
        }
    }

    /// These could not be synced. What they were to count for has gone to others, who may yet be enough.
    pub(super) fn on_sync_failed(&mut self, now: Now, own: OwnShares, fx: &mut Effects) {
        self.stop_writing();
        // The handoff has been stopped: its hints stay.
        let OwnShares { puts, repairs, hints: _ } = own;
        let node = self.node;
        for (entry, slot) in puts {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { continue };
            let refused = put.machine.on_refusal(slot, node, DISK_FAILED.into(), false);
            // Nobody else was asked to sync it.
            let rests_on_this_disk = put.syncs_here() && !put.syncs_elsewhere();
            let verdict = refused.or_else(|| if rests_on_this_disk { put.machine.on_deadline() } else { None });
            self.after_refusal(entry, verdict, fx);
        }
        for entry in repairs {
            self.on_own_repair_failed(now, entry, false, fx);
        }
    }

    fn stop_writing(&mut self) {
        self.stop_background();
        // What was to be raised may not be on the disk: nobody is vouched for.
        self.forget_runners(|_| true);
        self.read_only = Some("a write to its disk has failed; restart it once the disk is sound".into());
    }
}
