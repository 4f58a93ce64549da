//! A disk in memory that hangs when it is told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::storage::{
    Batch, Engine, EngineStats, Family, Fault, Lookup, MemoryConfig, MemoryEngine, ReadTier, ScanLimit, StorageError,
    Visit,
};
use crate::types::BatchNumber;

/// Longer than any machine needs to come to another task.
const DEADLINE: Duration = Duration::from_secs(10);

/// What does not end until the disk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hangs {
    Nothing,
    Syncs,
    All,
}

/// A disk that can be made to hang.
pub struct Hanging {
    engine: MemoryEngine,
    hangs: Mutex<Hangs>,
    goes_on: Condvar,
    /// Somebody waits for it.
    waited_for: AtomicBool,
}

impl Hanging {
    pub fn new() -> Arc<Hanging> {
        let (engine, goes_on) = (MemoryEngine::new(MemoryConfig::default()), Condvar::new());
        Arc::new(Hanging { engine, hangs: Mutex::new(Hangs::Nothing), goes_on, waited_for: AtomicBool::new(false) })
    }

    pub fn hang(&self) {
        *self.hangs.lock().unwrap() = Hangs::All;
    }

    /// Syncs hang, and nothing else does.
    pub fn hang_syncs(&self) {
        *self.hangs.lock().unwrap() = Hangs::Syncs;
    }

    pub fn go_on(&self) {
        *self.hangs.lock().unwrap() = Hangs::Nothing;
        self.goes_on.notify_all();
    }

    /// A commit fails, and nothing is written any more.
    pub fn stop(&self) {
        self.engine.arm(Fault::Commit { in_log: false });
        let mut batch = Batch::new();
        batch.put(Family::Objects, b"in vain", b"");
        self.engine.commit(&mut batch).expect_err("the fault is armed");
    }

    /// Whether somebody waits for it to go on.
    pub fn is_waited_for(&self) -> bool {
        self.waited_for.load(Ordering::SeqCst)
    }

    /// Returns once somebody does.
    pub fn await_waiter(&self) {
        let start = std::time::Instant::now();
        while !self.is_waited_for() {
            assert!(start.elapsed() < DEADLINE, "nobody comes to the disk");
            std::thread::yield_now();
        }
    }

    fn pass(&self, is_sync: bool) {
        let is_held = |hangs: &mut Hangs| *hangs == Hangs::All || is_sync && *hangs == Hangs::Syncs;
        let mut hangs = self.hangs.lock().unwrap();
        if !is_held(&mut hangs) {
            return;
        }
        self.waited_for.store(true, Ordering::SeqCst);
        let (mut hangs, _) = self.goes_on.wait_timeout_while(hangs, DEADLINE, is_held).unwrap();
        assert!(!is_held(&mut hangs), "whoever ends the wait does not come to it: the thread is held up");
        self.waited_for.store(false, Ordering::SeqCst);
    }
}

impl Engine for Hanging {
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError> {
        if tier == ReadTier::Disk {
            self.pass(false);
        }
        self.engine.get(family, key, tier)
    }

    fn damage(&self) -> u64 {
        self.engine.damage()
    }

    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        self.pass(false);
        self.engine.commit(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.pass(true);
        self.engine.sync()
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        self.pass(false);
        self.engine.scan(family, start, end, limit, visit)
    }

    fn salvage(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.pass(false);
        self.engine.salvage(start, end, visit)
    }

    fn latest(&self) -> BatchNumber {
        self.engine.latest()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}
