//! What a drain of the bench calls, and the disk's part in it: when reads and syncs come to their ends.

use std::sync::Arc;

use super::Bench;
use crate::node::{ColdRead, Host, Output, ShardInput};
use crate::storage::{Engine, MemoryEngine, OpFailure, StorageError};
use crate::types::{BatchNumber, Time};

/// Runs the drains.
pub(super) struct Tape {
    pub engine: Arc<MemoryEngine>,
    pub now: Time,
    pub left: Vec<Output>,
    /// Records that are to be read from the disk.
    pub cold: Vec<bytes::Bytes>,
    /// Other reads, whose results the next drain is given.
    pub paged: Vec<ShardInput>,
    /// Keys whose objects no frame holds.
    pub too_long: Vec<bytes::Bytes>,
    /// Syncs that are begun take until [`Bench::end_sync`].
    pub syncs_last: bool,
}

impl Host for Tape {
    fn time(&mut self) -> Time {
        self.now
    }
    fn written(&mut self, _number: BatchNumber) {}
    fn release(&mut self, outputs: &mut Vec<Output>) {
        self.left.append(outputs);
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.engine.sync()
    }
    fn begin_sync(&mut self) -> Option<Result<(), StorageError>> {
        if self.syncs_last { None } else { Some(self.sync()) }
    }
    fn write_failed(&mut self, _error: &StorageError) {}
    fn hopeless(&mut self, _keys: &[bytes::Bytes]) {}
    fn too_long(&mut self, keys: &[bytes::Bytes]) {
        self.too_long.extend_from_slice(keys);
    }
    fn read(&mut self, read: ColdRead) {
        match read {
            ColdRead::Record { key } => self.cold.push(key),
            other => self.paged.push(other.run(&*self.engine)),
        }
    }
}

impl Bench {
    /// Syncs take until [`end_sync`](Bench::end_sync) from now on.
    pub fn slow_syncs(&mut self) {
        self.tape.syncs_last = true;
    }

    /// The disk has done what the sync asks for that is under way, or has failed to.
    pub fn end_sync(&mut self) -> Vec<String> {
        assert!(self.core.awaits_sync(), "no sync is under way");
        let result = self.tape.sync();
        self.input(ShardInput::Synced(result))
    }

    pub fn awaits_sync(&self) -> bool {
        self.core.awaits_sync()
    }

    /// The disk has read the records that were asked for; or has failed to.
    pub fn read(&mut self, failure: Option<OpFailure>) -> Vec<String> {
        let cold = std::mem::take(&mut self.tape.cold);
        assert!(!cold.is_empty(), "nothing is read");
        self.read_of(cold, failure)
    }

    /// The same of the newest of them only.
    pub fn read_newest(&mut self) -> Vec<String> {
        let newest = self.tape.cold.pop().expect("something is read");
        self.read_of(vec![newest], None)
    }

    fn read_of(&mut self, cold: Vec<bytes::Bytes>, failure: Option<OpFailure>) -> Vec<String> {
        let fetched = |key: bytes::Bytes| match &failure {
            Some(failure) => ShardInput::Fetched { key, read: Err(failure.clone()) },
            None => ColdRead::Record { key }.run(&*self.engine),
        };
        let inputs = cold.into_iter().map(fetched).collect();
        self.drain(inputs)
    }

    /// How many records are being read.
    pub fn reads(&self) -> usize {
        self.tape.cold.len()
    }
}
