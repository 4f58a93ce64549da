//! What Merkle trees cost a write: a shard's store on RocksDB with them and without, in turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use dynkv::storage::merkle::{Forest, ItemHasher, Leaves, TreeShape, Trees};
use dynkv::storage::{Op, RocksConfig, RocksEngine, Rounds, Store, StoreLimits, Task, Update, object_key};
use dynkv::types::{Bucket, Generation, Key, NodeId, PartitionId, Token, WriteId};
use dynkv::version::{Actor, Body, CausalContext, Trust};

use crate::cpu;

/// How long each turn takes, and how many there are of each kind.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 4;
const KEYS: u64 = 50_000;
/// Operations in a batch, as a drain of a shard under load has them.
const BATCH: u64 = 64;
/// As in a ring by default.
const PARTITIONS: u32 = 256;

/// CPU of one write, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    pub with: f64,
    pub without: f64,
}

/// Measures writes of values of `size` bytes.
pub fn measure(size: usize) -> Result<Upkeep> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [mut with, mut without] = [Bench::open(dirs[0].path(), size, true)?, Bench::open(dirs[1].path(), size, false)?];
    let (mut on, mut off) = (0.0, 0.0);
    for _ in 0..TURNS {
        on += with.turn()? / TURNS as f64;
        off += without.turn()? / TURNS as f64;
    }
    Ok(Upkeep { with: on, without: off })
}

struct Bench {
    store: Store<RocksEngine, ()>,
    value: Bytes,
    next: u64,
}

impl Bench {
    /// A store with all keys in it. Without the ring's shape its trees take no part.
    fn open(dir: &std::path::Path, size: usize, with_trees: bool) -> Result<Bench> {
        let engine = Arc::new(RocksEngine::open(dir, &RocksConfig::default())?);
        let forest = Forest::load(&*engine, Leaves::default(), None)?;
        let mut trees = Trees::of(&forest, 0, 1, Leaves::default(), ItemHasher::new(&[1; 32]));
        if with_trees {
            let buckets = [(Bucket::DEFAULT.to_owned(), 3)].into();
            trees.set_shape(Arc::new(TreeShape::new(PARTITIONS, buckets)));
        }
        let store = Store::new(engine, StoreLimits { parked: BATCH as usize, cached: 0 }, trees, Rounds::default());
        let mut bench = Bench { store, value: vec![0xa5; size].into(), next: 0 };
        for _ in 0..KEYS.div_ceil(BATCH) {
            bench.batch()?;
        }
        Ok(bench)
    }

    fn turn(&mut self) -> Result<f64> {
        let (start, before) = (Instant::now(), cpu::used(&[]));
        let mut writes = 0;
        while start.elapsed() < TURN {
            writes += self.batch()?;
        }
        Ok((cpu::used(&[]) - before).as_secs_f64() * 1e6 / writes as f64)
    }

    /// Writes over the next keys, as a coordinator does that has seen what is there.
    fn batch(&mut self) -> Result<u64> {
        let mut done = Vec::new();
        for _ in 0..BATCH {
            self.next += 1;
            let task = Task { purpose: (), key: key(self.next % KEYS)?, op: Op::Update(Box::new(self.update())) };
            if let Some(key) = self.store.submit(task, &mut done) {
                let read = Store::<RocksEngine, ()>::read(self.store.engine(), &key)?;
                self.store.resume(&key, Ok(read), &mut done);
            }
        }
        ensure!(done.len() as u64 == BATCH && done.iter().all(|(_, outcome)| outcome.is_ok()), "writes fail");
        self.store.commit().context("a batch")?;
        Ok(BATCH)
    }

    fn update(&self) -> Update {
        Update {
            client: CausalContext::default(),
            write_id: WriteId(self.next.into()),
            node: NodeId(1),
            wall_ms: self.next,
            body: Body::Value(self.value.clone()),
            // each takes the place of the one before
            last_write_wins: true,
            max_siblings: 50,
            trust: Trust { generation: Generation(1), trusted_since: Generation(1), granted: true },
            fresh: Actor(self.next),
        }
    }
}

/// Keys over all partitions, in an order that no cache likes.
fn key(index: u64) -> Result<Bytes> {
    let token = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let partition = PartitionId((token >> (u64::BITS - PARTITIONS.trailing_zeros())) as u16);
    let name = Key::new(format!("key-{index}"))?;
    Ok(object_key(partition, Token(token), &Bucket::default(), &name).into())
}
