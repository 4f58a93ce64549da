//! A node's disk: what is left of it after each kind of crash, and the ways in which it fails.

#[cfg(feature = "rocksdb")]
pub(super) mod rocks;

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;

use crate::storage::{Crash, Engine, Failures, Family, Fault, MemoryConfig, MemoryEngine};

/// A disk with an engine on it. The engine is given up at each crash, so nobody may keep it over one.
pub trait Disk {
    /// The engine.
    type Engine: Engine;

    /// The engine, open.
    fn engine(&self) -> &Arc<Self::Engine>;

    /// The process is gone; the engine opens again with all that was committed.
    fn kill(&mut self) -> Crash;

    /// The power is gone; what was not synced is lost but for a random prefix. A disk that cannot model that loses nothing.
    fn power_loss(&mut self, rng: &mut Xoshiro256PlusPlus) -> Crash;

    /// An empty disk in its place.
    fn wipe(&mut self);

    /// Remembers the disk as it stands.
    fn back_up(&mut self);

    /// The disk as it was at the last backup; false if there is none.
    fn restore(&mut self) -> bool;

    /// Arms a failure.
    fn arm(&self, fault: Fault);

    /// Takes back what is armed and has not taken place.
    fn disarm(&self);

    /// Takes all room, or gives it back.
    fn fill(&self, full: bool);

    /// Turns a bit of an object's record; its key.
    fn flip_bit(&self, rng: &mut Xoshiro256PlusPlus) -> Option<Bytes>;

    /// Makes a part of the disk unreadable that holds neighbouring objects; their keys.
    fn rot_range(&self, rng: &mut Xoshiro256PlusPlus) -> Vec<Bytes>;

    /// Failures that have taken place since it was new.
    fn failures(&self) -> Failures;

    /// An object's record, seen from outside; `synced`: what a power loss would leave of it at least.
    fn peek(&self, key: &[u8], synced: bool) -> Option<Bytes>;

    /// All that a family holds, seen from outside.
    fn survey_of(&self, family: Family) -> Vec<(Bytes, Bytes)>;

    /// All objects' keys and records, seen from outside.
    fn survey(&self) -> Vec<(Bytes, Bytes)> {
        self.survey_of(Family::Objects)
    }
}

/// Objects in a part of the disk that cannot be read, at most.
const MOST_ROTTEN: usize = 4;

/// Room on a disk that is not full.
const ROOM_BYTES: u64 = 1 << 40;

/// A modelled disk.
pub struct MemoryDisk {
    engine: Arc<MemoryEngine>,
    config: MemoryConfig,
    backup: Option<MemoryEngine>,
    /// Of the disks before this one.
    failures: Failures,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new(config: MemoryConfig) -> MemoryDisk {
        let engine = Arc::new(MemoryEngine::new(config));
        MemoryDisk { engine, config, backup: None, failures: Failures::default() }
    }

    /// Another disk in its place.
    pub fn swap(&mut self, engine: MemoryEngine) {
        self.failures = self.failures();
        self.engine = Arc::new(engine);
    }
}

impl Disk for MemoryDisk {
    type Engine = MemoryEngine;

    fn engine(&self) -> &Arc<MemoryEngine> {
        &self.engine
    }

    fn kill(&mut self) -> Crash {
        self.engine.kill()
    }

    fn power_loss(&mut self, rng: &mut Xoshiro256PlusPlus) -> Crash {
        self.engine.power_loss(rng)
    }

    fn wipe(&mut self) {
        self.config.seed = self.config.seed.wrapping_add(7);
        self.swap(MemoryEngine::new(self.config));
    }

    fn back_up(&mut self) {
        self.config.seed = self.config.seed.wrapping_add(7);
        self.backup = Some(self.engine.backup(self.config.seed));
    }

    fn restore(&mut self) -> bool {
        let Some(backup) = self.backup.take() else { return false };
        self.swap(backup);
        true
    }

    fn arm(&self, fault: Fault) {
        self.engine.arm(fault);
    }

    fn disarm(&self) {
        self.engine.disarm();
    }

    fn fill(&self, full: bool) {
        self.engine.set_free_bytes(if full { 0 } else { ROOM_BYTES });
    }

    fn flip_bit(&self, rng: &mut Xoshiro256PlusPlus) -> Option<Bytes> {
        self.engine.flip_bit(Family::Objects, rng)
    }

    fn rot_range(&self, rng: &mut Xoshiro256PlusPlus) -> Vec<Bytes> {
        self.engine.rot_range(Family::Objects, MOST_ROTTEN, rng)
    }

    fn failures(&self) -> Failures {
        let now = self.engine.failures();
        let before = self.failures;
        Failures {
            reads: before.reads + now.reads,
            commits: before.commits + now.commits,
            full: before.full + now.full,
            syncs: before.syncs + now.syncs,
        }
    }

    fn peek(&self, key: &[u8], synced: bool) -> Option<Bytes> {
        if synced { self.engine.peek_synced(Family::Objects, key) } else { self.engine.peek(Family::Objects, key) }
    }

    fn survey_of(&self, family: Family) -> Vec<(Bytes, Bytes)> {
        self.engine.survey(family)
    }
}
