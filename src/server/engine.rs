//! [`AnyEngine`]: whichever engine the node was started with.

use std::sync::Arc;

use crate::storage::{
    Batch, Engine, EngineStats, Family, Lookup, MendWith, Mending, ReadTier, ScanLimit, StorageError, Visit,
};
use crate::types::BatchNumber;

/// An engine whose kind is known at run time only, so that one server serves RocksDB and, in tests, memory.
#[derive(Clone)]
pub struct AnyEngine(pub Arc<dyn Engine>);

impl Engine for AnyEngine {
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError> {
        self.0.get(family, key, tier)
    }

    fn damage(&self) -> u64 {
        self.0.damage()
    }

    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        self.0.commit(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.0.sync()
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.scan(family, start, end, limit, visit)
    }

    fn salvage(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.0.salvage(start, end, visit)
    }

    fn mend(&self, with: &mut MendWith<'_>) -> Result<Mending, StorageError> {
        self.0.mend(with)
    }

    fn latest(&self) -> BatchNumber {
        self.0.latest()
    }

    fn stats(&self) -> EngineStats {
        self.0.stats()
    }
}
