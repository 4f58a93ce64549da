//! Runs a shard's drains as the daemon does, but for what leaves: the world carries that.

use std::sync::Arc;

use dynkv::node::{ColdRead, Host, Output};
use dynkv::storage::{Engine, MemoryEngine, StorageError};
use dynkv::types::BatchNumber;

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

/// One drain's surroundings.
pub struct DrainHost<'a> {
    pub engine: &'a Arc<MemoryEngine>,
    /// The file that outlives the process but not the power.
    pub survived: &'a mut Option<BatchNumber>,
    pub outputs: Vec<Output>,
    pub reads: Vec<ColdRead>,
    /// What has happened, in order.
    pub steps: Vec<Step>,
    /// The process dies right behind this step.
    pub die_after: Option<Step>,
    pub dead: bool,
    pub write_failed: bool,
    /// A failed sync ends the process, as in the daemon.
    pub sync_failure_ends: bool,
}

impl<'a> DrainHost<'a> {
    pub fn new(engine: &'a Arc<MemoryEngine>, survived: &'a mut Option<BatchNumber>) -> DrainHost<'a> {
        DrainHost {
            engine,
            survived,
            outputs: Vec::new(),
            reads: Vec::new(),
            steps: Vec::new(),
            die_after: None,
            dead: false,
            write_failed: false,
            sync_failure_ends: true,
        }
    }

    fn step(&mut self, step: Step) {
        if !self.dead {
            self.steps.push(step);
        }
        self.dead |= self.die_after.is_some_and(|last| step >= last);
    }
}

impl Host for DrainHost<'_> {
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
        self.outputs.append(outputs);
        self.step(Step::Released);
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if self.dead {
            return Ok(());
        }
        let result = self.engine.sync();
        match &result {
            Ok(()) => self.step(Step::Synced),
            Err(_) => self.dead |= self.sync_failure_ends,
        }
        result
    }

    fn write_failed(&mut self, _: &StorageError) {
        self.write_failed = true;
    }

    fn read(&mut self, read: ColdRead) {
        self.reads.push(read);
    }
}
