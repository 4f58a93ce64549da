//! A shard's core on its own, with nobody to send to.

use std::sync::Arc;

use bytes::Bytes;
use dynkv::node::{ColdRead, Host, Output};
use dynkv::storage::{Engine, MemoryEngine, StorageError};
use dynkv::types::{BatchNumber, Time};

/// Keeps what a drain releases.
pub struct Outbox {
    pub outputs: Vec<Output>,
    engine: Arc<MemoryEngine>,
}

impl Outbox {
    /// `engine` is the one that the core stores on.
    pub fn new(engine: Arc<MemoryEngine>) -> Outbox {
        Outbox { outputs: Vec::new(), engine }
    }
}

impl Host for Outbox {
    fn time(&mut self) -> Time {
        Time::ZERO
    }

    fn written(&mut self, _: BatchNumber) {}

    fn release(&mut self, outputs: &mut Vec<Output>) {
        self.outputs.append(outputs);
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.engine.sync()
    }

    fn begin_sync(&mut self) -> Option<Result<(), StorageError>> {
        Some(self.sync())
    }

    fn write_failed(&mut self, error: &StorageError) {
        panic!("no write fails here: {error}");
    }

    fn hopeless(&mut self, keys: &[Bytes]) {
        panic!("nothing rots here: {keys:?}");
    }

    fn read(&mut self, read: ColdRead) {
        // Each shard looks once whether it keeps anything for others.
        assert!(matches!(read, ColdRead::Hints { .. }), "nothing here has to be fetched: {read:?}");
    }
}
