//! Runs a shard's drains as the daemon does, but for what leaves: the world carries that.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::Disk;
use super::witness::{Promise, Promises};
use crate::message::PeerAnswer;
use crate::node::{ColdRead, Host, Output, PeerRef};
use crate::storage::{Engine, StorageError};
use crate::types::{BatchNumber, Time};
use crate::version::Object;

/// A moment in a drain at which a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The batch is in the log; nothing has left.
    Written,
    /// What needs no sync has left.
    Released,
    /// The batch is on the disk; nothing that waited for it has left.
    Synced,
}

/// When a disk does what a sync asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncs {
    /// At once, and the sync is over.
    AtOnce,
    /// At once, and the sync takes its time: what is written meanwhile is none of its business.
    First,
    /// At its end, with all that was written meanwhile; until then the power may take what it is about.
    Last,
}

/// A sync that is under way.
#[derive(Debug)]
pub(super) enum Begun {
    /// What will be told of it.
    Done(Result<(), StorageError>),
    /// The disk has done nothing yet.
    Due,
}

/// One drain's surroundings.
pub(super) struct DrainHost<'a, D> {
    pub(super) disk: &'a D,
    /// When the drain runs.
    pub(super) now: Time,
    /// What peers have asked to be on the disk before it is acknowledged.
    pub(super) promises: &'a Promises,
    /// Acknowledgements that left too early.
    pub(super) broken: Vec<(PeerRef, Promise)>,
    /// The file that outlives the process but not the power.
    pub(super) survived: &'a mut Option<BatchNumber>,
    /// What leaves at once, and what leaves after a sync that the drain has waited for.
    pub(super) outputs: [Vec<Output>; 2],
    pub(super) reads: Vec<ColdRead>,
    /// What has happened, in order.
    pub(super) steps: Vec<Step>,
    /// What leaves from here on has waited for a sync.
    pub(super) waited: bool,
    /// How a sync goes that the drain does not wait for.
    pub(super) syncs: Syncs,
    /// It has begun one.
    pub(super) begun: Option<Begun>,
    /// The process dies right behind this step.
    pub(super) die_after: Option<Step>,
    pub(super) dead: bool,
    pub(super) write_failed: bool,
    /// Tombstones that were deleted.
    pub(super) reaped: Vec<(Bytes, Arc<Object>)>,
    /// What the last sync has put on the disk: a batch that follows it in the same drain is not in it.
    pub(super) synced: Option<BatchNumber>,
    /// A failed sync ends the process, as in the daemon.
    pub(super) sync_failure_ends: bool,
}

impl<'a, D: Disk> DrainHost<'a, D> {
    pub(super) fn new(
        now: Time,
        disk: &'a D,
        promises: &'a Promises,
        survived: &'a mut Option<BatchNumber>,
    ) -> DrainHost<'a, D> {
        DrainHost {
            disk,
            now,
            promises,
            broken: Vec::new(),
            survived,
            outputs: [Vec::new(), Vec::new()],
            reads: Vec::new(),
            steps: Vec::new(),
            waited: false,
            syncs: Syncs::AtOnce,
            begun: None,
            die_after: None,
            dead: false,
            write_failed: false,
            reaped: Vec::new(),
            synced: None,
            sync_failure_ends: true,
        }
    }

    /// What is acknowledged as durable is on the disk at this very moment.
    fn check(&mut self, output: &Output) {
        let Output::Answer { to, answer: PeerAnswer::Replicated(replicated) } = output else { return };
        if replicated.outcome != Ok(true) {
            return;
        }
        if let Some(promise) = self.promises.broken(to, |place| self.disk.peek(place, true)) {
            self.broken.push((*to, promise));
        }
    }

    fn step(&mut self, step: Step) {
        if !self.dead {
            self.steps.push(step);
        }
        self.dead |= self.die_after.is_some_and(|last| step >= last);
    }
}

impl<D: Disk> Host for DrainHost<'_, D> {
    fn time(&mut self) -> Time {
        self.now
    }

    fn written(&mut self, number: BatchNumber) {
        *self.survived = Some(number);
        self.step(Step::Written);
    }

    fn release(&mut self, outputs: &mut Vec<Output>) {
        if outputs.is_empty() {
            return;
        }
        if self.dead {
            outputs.clear();
            return;
        }
        outputs.iter().for_each(|output| self.check(output));
        self.outputs[usize::from(self.waited)].append(outputs);
        self.step(Step::Released);
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.waited = true;
        self.sync_disk()
    }

    fn begin_sync(&mut self) -> Option<Result<(), StorageError>> {
        match self.syncs {
            Syncs::AtOnce => return Some(self.sync_disk()),
            Syncs::First => self.begun = Some(Begun::Done(self.sync_disk())),
            Syncs::Last => self.begun = Some(Begun::Due),
        }
        None
    }

    fn write_failed(&mut self, _: &StorageError) {
        self.write_failed = true;
    }

    fn reaped(&mut self, key: &Bytes, object: &Arc<Object>) {
        self.reaped.push((key.clone(), object.clone()));
    }
    fn hopeless(&mut self, _: &[Bytes]) {}

    fn read(&mut self, read: ColdRead) {
        self.reads.push(read);
    }
}

impl<D: Disk> DrainHost<'_, D> {
    fn sync_disk(&mut self) -> Result<(), StorageError> {
        if self.dead {
            return Ok(());
        }
        let result = self.disk.engine().sync();
        match &result {
            Ok(()) => {
                self.synced = Some(self.disk.engine().latest());
                self.step(Step::Synced);
            }
            // The disk has stopped before, and was not asked.
            Err(StorageError::Stopped { .. }) => {}
            Err(_) => self.dead |= self.sync_failure_ends,
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::disk::MemoryDisk;
    use crate::storage::{Batch, Family, MemoryConfig};

    #[test]
    fn what_follows_a_sync_is_not_said_to_be_synced() {
        let (disk, promises, mut survived) = (MemoryDisk::new(MemoryConfig::default()), Promises::default(), None);
        let mut host = DrainHost::new(Time::ZERO, &disk, &promises, &mut survived);
        let write = |host: &mut DrainHost<'_, MemoryDisk>| {
            let mut batch = Batch::new();
            batch.put(Family::Objects, b"k", b"v");
            let number = disk.engine().commit(&mut batch).unwrap();
            host.written(number);
            number
        };
        let first = write(&mut host);
        host.sync().unwrap();
        assert!(write(&mut host) > first);
        assert_eq!(host.synced, Some(first));
    }
}
