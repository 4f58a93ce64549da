//! RocksDB under the simulated cluster: the same schedules, the daemon's engine.
//!
//! A kill closes the database and opens it again. The kernel keeps what was written, so a power loss is no more than a
//! kill here, and nothing fails on demand: those faults are the modelled disk's. What is in RocksDB's cache depends on its
//! own threads, so two runs of one schedule may differ.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;

use super::Disk;
use crate::storage::{Crash, Engine, Failures, Family, Fault, Lookup, ReadTier, RocksConfig, RocksEngine, ScanLimit};

/// A directory with a database in it.
pub(in crate::sim) struct RocksDisk {
    dir: PathBuf,
    /// Given up only while the database is opened anew.
    engine: Option<Arc<RocksEngine>>,
}

impl RocksDisk {
    /// An empty database in `dir`, which is made.
    ///
    /// # Panics
    /// If it cannot be made: a simulation without its disk proves nothing.
    pub(in crate::sim) fn new(dir: &Path) -> RocksDisk {
        let mut disk = RocksDisk { dir: dir.to_owned(), engine: None };
        disk.open();
        disk
    }

    fn open(&mut self) {
        let small = RocksConfig { block_cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20, ..RocksConfig::default() };
        let opened = fs::create_dir_all(&self.dir)
            .map_err(|error| error.to_string())
            .and_then(|()| RocksEngine::open(&self.dir, &small).map_err(|error| error.to_string()));
        let engine = opened.unwrap_or_else(|error| panic!("{} cannot be opened: {error}", self.dir.display()));
        self.engine = Some(Arc::new(engine));
    }

    /// The process is gone, and the database with it.
    fn close(&mut self) {
        let engine = self.engine.take().expect("it is given up only within a call");
        assert!(Arc::into_inner(engine).is_some(), "a process that has ended still holds its database");
    }
}

impl Disk for RocksDisk {
    type Engine = RocksEngine;

    fn engine(&self) -> &Arc<RocksEngine> {
        self.engine.as_ref().expect("it is given up only within a call")
    }

    fn kill(&mut self) -> Crash {
        self.close();
        self.open();
        Crash::default()
    }

    fn power_loss(&mut self, _: &mut Xoshiro256PlusPlus) -> Crash {
        self.kill()
    }

    fn wipe(&mut self) {
        self.close();
        fs::remove_dir_all(&self.dir).unwrap_or_else(|error| panic!("{} cannot be wiped: {error}", self.dir.display()));
        self.open();
    }

    fn back_up(&mut self) {}

    fn restore(&mut self) -> bool {
        false
    }

    fn arm(&self, _: Fault) {}

    fn disarm(&self) {}

    fn fill(&self, _: bool) {}

    fn flip_bit(&self, _: &mut Xoshiro256PlusPlus) -> Option<Bytes> {
        None
    }

    fn rot_range(&self, _: &mut Xoshiro256PlusPlus) -> Vec<Bytes> {
        Vec::new()
    }

    fn failures(&self) -> Failures {
        Failures::default()
    }

    fn peek(&self, key: &[u8], _synced: bool) -> Option<Bytes> {
        match self.engine().get(Family::Objects, key, ReadTier::Disk) {
            Ok(Lookup::Found(bytes)) => Some(bytes),
            Ok(Lookup::Absent | Lookup::Miss) => None,
            Err(error) => panic!("a sound disk is read: {error}"),
        }
    }

    fn survey_of(&self, family: Family) -> Vec<(Bytes, Bytes)> {
        let mut all = Vec::new();
        let mut visit = |key: &[u8], record: &[u8]| {
            all.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(record)));
            ControlFlow::Continue(())
        };
        let scanned = self.engine().scan(family, &[], None, ScanLimit::NONE, &mut visit);
        scanned.unwrap_or_else(|error| panic!("a sound disk is read: {error}"));
        all
    }
}
