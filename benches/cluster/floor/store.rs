//! Raw RocksDB with the daemon's options, but for larger memtables, and nothing above it.
//!
//! As many stores as a key has replicas, each with all keys and a thread of its own, at work at the same time: the three nodes
//! of the cluster share the machine's caches too. One store that has them for itself reads three times as fast.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dynkv::storage::{Batch, Engine, Family, Lookup, ReadTier, RocksConfig, RocksEngine, ScanLimit};
use hdrhistogram::Histogram;

use super::{Cost, histogram};
use crate::cpu;

/// Operations in a batch, as a drain of a shard under load has them.
const BATCH: usize = 64;
const REPLICAS: usize = 3;

/// RocksDB's own default, twice the daemon's greatest: that one is smaller for its requests' sake, and is not to make the floor slower.
const MEMTABLE: usize = 64 << 20;

/// See the module.
pub struct Stores {
    stores: Vec<RawStore>,
}

impl Stores {
    /// Writes every key once in each store.
    pub fn fill(size: usize, keys: u64) -> Result<Stores> {
        let open = |_| RawStore::open(size, keys);
        let stores = Stores { stores: (0..REPLICAS).map(open).collect::<Result<_>>()? };
        stores.on_each(RawStore::fill)?;
        cpu::settle(&[]);
        Ok(stores)
    }

    /// Read a record, change it, write it, in batches.
    pub fn rewrite(&self, span: Duration) -> Result<Cost> {
        self.measure(span, |store, random| {
            let mut batch = Batch::new();
            (0..BATCH).try_for_each(|_| store.change(random, &mut batch))?;
            store.engine.commit(&mut batch)?;
            Ok(BATCH as u64)
        })
    }

    /// Read a record.
    pub fn read(&self, span: Duration) -> Result<Cost> {
        self.measure(span, |store, random| {
            (0..BATCH).try_for_each(|_| store.look(store.pick(random)).map(drop))?;
            Ok(BATCH as u64)
        })
    }

    /// Microseconds from when an operation is due until it is done, at `rate` a second in all: a drain takes what is due.
    pub fn paced(&self, span: Duration, rate: f64, writes: bool) -> Result<Histogram<u64>> {
        let rate = rate / REPLICAS as f64;
        let latencies = self.on_each(|store| store.paced(span, rate, writes))?;
        let mut all = histogram();
        latencies.into_iter().for_each(|latency| all += latency);
        // what it leaves to be done is not to burden what is measured next
        cpu::settle(&[]);
        Ok(all)
    }

    fn measure(&self, span: Duration, work: impl Fn(&RawStore, &mut u64) -> Result<u64> + Sync) -> Result<Cost> {
        let (start, before) = (Instant::now(), cpu::used(&[]));
        let done = self.on_each(|store| {
            let (mut random, mut done) = (1, 0);
            while start.elapsed() < span {
                done += work(store, &mut random)?;
            }
            Ok(done)
        })?;
        let elapsed = start.elapsed();
        cpu::settle(&[]);
        Ok(Cost::of(done.iter().sum(), elapsed, cpu::used(&[]) - before))
    }

    fn on_each<T: Send>(&self, work: impl Fn(&RawStore) -> Result<T> + Sync) -> Result<Vec<T>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.stores.iter().map(|store| scope.spawn(|| work(store))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a measurement does not panic")).collect()
        })
    }
}

struct RawStore {
    engine: RocksEngine,
    size: usize,
    keys: u64,
    /// Removed after the engine is closed.
    _dir: tempfile::TempDir,
}

/// As long as the cluster's with its partition, token and bucket; they are in an order of their own, as tokens are.
fn key(index: u64) -> [u8; 32] {
    let mut key = [b'k'; 32];
    key[..8].copy_from_slice(&index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

impl RawStore {
    fn open(size: usize, keys: u64) -> Result<RawStore> {
        let dir = tempfile::tempdir().context("a directory for the raw store")?;
        let (block_cache_bytes, write_buffer_bytes) = (crate::BLOCK_CACHE, MEMTABLE);
        let config = RocksConfig { block_cache_bytes, write_buffer_bytes, ..RocksConfig::default() };
        Ok(RawStore { engine: RocksEngine::open(dir.path(), &config)?, size, keys, _dir: dir })
    }

    fn fill(&self) -> Result<()> {
        let value = crate::value_of(self.size);
        let mut batch = Batch::new();
        for index in 0..self.keys {
            batch.put(Family::Objects, &key(index), &value);
            if batch.len() == BATCH {
                self.engine.commit(&mut batch)?;
            }
        }
        self.engine.commit(&mut batch)?;
        let mut seen = 0u64;
        self.engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut |_, _| {
            seen += 1;
            ControlFlow::Continue(())
        })?;
        anyhow::ensure!(seen == self.keys, "{seen} keys of {}", self.keys);
        Ok(())
    }

    fn pick(&self, random: &mut u64) -> u64 {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 16) % self.keys
    }

    fn look(&self, index: u64) -> Result<bytes::Bytes> {
        match self.engine.get(Family::Objects, &key(index), ReadTier::Disk)? {
            Lookup::Found(found) => Ok(found),
            _ => anyhow::bail!("key {index} is missing"),
        }
    }

    fn change(&self, random: &mut u64, batch: &mut Batch) -> Result<()> {
        let index = self.pick(random);
        let mut value = self.look(index)?.to_vec();
        value[self.size / 2] ^= 1;
        batch.put(Family::Objects, &key(index), &value);
        Ok(())
    }

    fn paced(&self, span: Duration, rate: f64, writes: bool) -> Result<Histogram<u64>> {
        let (start, mut done, mut random) = (Instant::now(), 0u64, 1);
        let (mut latency, mut batch) = (histogram(), Batch::new());
        while start.elapsed() < span {
            let due = (start.elapsed().as_secs_f64() * rate) as u64;
            if due == done {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let taken = (due - done).min(BATCH as u64);
            for _ in 0..taken {
                if writes { self.change(&mut random, &mut batch)? } else { drop(self.look(self.pick(&mut random))?) }
            }
            if writes {
                self.engine.commit(&mut batch)?;
            }
            let now = start.elapsed();
            for number in done..done + taken {
                let waited = now.saturating_sub(Duration::from_secs_f64(number as f64 / rate));
                latency.saturating_record(waited.as_micros().max(1) as u64);
            }
            done += taken;
        }
        Ok(latency)
    }
}
