//! The end of a drain: its batch is written, and what rested on that leaves; what rests on a sync leaves when that has ended.

use super::unsynced::Rests;
use super::{Core, Host};
use crate::node::effects::{Effects, Feedback, revoked};
use crate::node::shard::{OwnShares, Step};
use crate::storage::{Engine, StorageError};
use crate::types::Now;

impl<E: Engine> Core<E> {
    /// Writes what the tasks have changed, and releases what waited for that.
    pub(super) fn commit(&mut self, now: Now, host: &mut impl Host) {
        match self.store.commit() {
            Ok(number) => {
                if let Some(number) = number {
                    host.written(number);
                }
                for (key, object) in self.effects.reaped.drain(..) {
                    host.reaped(&key, &object);
                }
                if self.sync_rounds(now, host) {
                    self.trace(Step::Written { syncs: self.effects.sync }, host);
                    let own = self.shard.on_written();
                    if self.effects.sync { self.hold(now, own, host) } else { self.confirm(now, own, host) }
                }
            }
            Err(error) => {
                self.effects.reaped.clear();
                host.write_failed(&error);
                if mutant!(FailedBatchAcked) {
                    let own = self.shard.on_written();
                    self.confirm(now, own, host);
                } else {
                    self.revoke(now, host);
                }
            }
        }
        self.begin_sync(now, host);
        self.shard.note_unsynced(self.unsynced.len(), self.unsynced.syncing());
    }

    /// A round that was raised is on the disk before anything leaves, whatever else it is: this drain's labels and answers may
    /// name it. False if the disk has failed.
    fn sync_rounds(&mut self, now: Now, host: &mut impl Host) -> bool {
        if !self.store.owes_sync() {
            return true;
        }
        match host.sync() {
            Ok(()) => {
                self.store.on_synced();
                true
            }
            Err(error) => {
                self.store.on_sync_failed();
                host.write_failed(&error);
                self.revoke(now, host);
                false
            }
        }
    }

    /// The batch is written and has to be synced: keeps what rests on that, and releases the rest.
    fn hold(&mut self, now: Now, mut own: OwnShares, host: &mut impl Host) {
        if mutant!(AckBeforeSync) {
            self.confirm(now, std::mem::take(&mut own), host);
        }
        self.effects.sync = false;
        self.unsynced.hold(now.time, &mut self.effects.after_durable, own);
        // Before the sync, not after it: peers write while this node's disk does.
        self.release(now, host);
    }

    /// Has a sync begun if something waits for one and none is under way. It may be over at once.
    fn begin_sync(&mut self, now: Now, host: &mut impl Host) {
        if !self.unsynced.begin(now.time) {
            return;
        }
        self.trace(Step::SyncBegun, host);
        if let Some(result) = host.begin_sync() {
            self.end_sync(now, result, host);
            self.release(now, host);
        }
    }

    /// The sync that was under way has ended: what waited for it leaves with this drain.
    pub(super) fn end_sync(&mut self, now: Now, result: Result<(), StorageError>, host: &mut impl Host) {
        match result {
            Ok(()) => {
                self.trace(Step::Synced, host);
                let Rests { mut outputs, own } = self.unsynced.end();
                self.effects.unbound.append(&mut outputs);
                self.shard.on_feedback(now, Feedback::Committed { own, synced: true }, &mut self.effects);
            }
            Err(error) => {
                host.write_failed(&error);
                self.trace(Step::NotSynced, host);
                let Rests { outputs, own } = self.unsynced.fail();
                self.effects.unbound.extend(outputs.into_iter().filter_map(revoked));
                self.shard.on_feedback(now, Feedback::SyncFailed(own), &mut self.effects);
            }
        }
        self.shard.note_unsynced(self.unsynced.len(), None);
    }

    /// The batch is written, and nothing asks that it be synced: releases what waited for it.
    fn confirm(&mut self, now: Now, own: OwnShares, host: &mut impl Host) {
        let synced = std::mem::take(&mut self.effects.sync);
        // Nothing can fail any more before all of it has left, and requests stand before the responses that follow from the commit.
        let Effects { unbound, after_written, after_durable, .. } = &mut self.effects;
        unbound.append(after_written);
        unbound.append(after_durable);
        self.shard.on_feedback(now, Feedback::Committed { own, synced }, &mut self.effects);
        self.release(now, host);
    }

    /// Releases what may leave once the batch is written.
    fn release(&mut self, now: Now, host: &mut impl Host) {
        self.effects.unbound.append(&mut self.effects.after_written);
        self.shard.on_leaving(now, &mut self.effects.unbound);
        let outputs = &mut self.effects.unbound;
        if self.shard.is_tracing() && !outputs.is_empty() {
            self.shard.trace_leaving(host.time(), outputs);
        }
        host.release(outputs);
    }

    pub(super) fn trace(&mut self, step: Step, host: &mut impl Host) {
        if self.shard.is_tracing() {
            self.shard.trace_step(step, host.time());
        }
    }

    /// Takes back what rests on a batch that could not be written, or whose round could not be synced.
    fn revoke(&mut self, now: Now, host: &mut impl Host) {
        self.effects.revoke();
        self.trace(Step::NotWritten, host);
        self.shard.on_feedback(now, Feedback::WriteFailed, &mut self.effects);
        self.release(now, host);
    }
}
