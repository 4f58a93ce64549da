//! A cluster of node processes under load, with its CPU time.

use std::time::Duration;

use anyhow::{Result, ensure};
use dynkv::client::load::{self, LoadReport, LoadSpec};
use dynkv::client::{Client, GetOptions, PutOptions};
use dynkv::quorum::Level;
use dynkv::types::{Bucket, Key};
use tokio::task::JoinSet;

use crate::nodes::{Nodes, settings};
use crate::{BLOCK_CACHE, RECORD_CACHE, cpu};

/// Where the load goes: the latest write wins, so that blind writes do not pile up as siblings.
const BUCKET: &str = "bench";
/// Writers that fill a cluster.
const FILLERS: u64 = 256;

/// Three nodes at N = 3, or more.
pub struct Cluster {
    pub nodes: Nodes,
    pub client: Client,
    /// `storage.sync`.
    pub sync: String,
}

/// A load, and what it cost.
pub struct Measured {
    pub report: LoadReport,
    /// CPU microseconds of all processes an operation; of writes with all that they have left to be done.
    pub cpu_us: f64,
}

impl Measured {
    pub fn at(&self, quantile: f64) -> u64 {
        self.report.latency.value_at_quantile(quantile)
    }
}

impl Cluster {
    /// Nodes of one shard each, since all share the machine.
    pub async fn start(count: usize, sync: &str) -> Result<Cluster> {
        Cluster::with_caches(count, sync, BLOCK_CACHE, RECORD_CACHE).await
    }

    pub async fn with_caches(count: usize, sync: &str, blocks: usize, records: usize) -> Result<Cluster> {
        let storage = format!("sync = {sync:?}\nblock_cache = \"{blocks}B\"\nrecord_cache = \"{records}B\"");
        let lines = [
            ("node", "shards = 1"),
            ("cluster.buckets.bench", "conflict = \"lww\""),
            ("storage", &storage),
            ("log", "level = \"warn\""),
        ];
        let nodes = Nodes::start(count, &settings(&lines)).await?;
        let client = nodes.client().await?;
        Ok(Cluster { nodes, client, sync: sync.to_owned() })
    }

    /// A cluster with all keys in it.
    pub async fn filled(count: usize, sync: &str, keys: u64, size: usize) -> Result<Cluster> {
        let cluster = Cluster::start(count, sync).await?;
        cluster.fill(keys, size).await?;
        cluster.settle().await?;
        Ok(cluster)
    }

    /// Writes every key once.
    pub async fn fill(&self, keys: u64, size: usize) -> Result<()> {
        let value = crate::value_of(size);
        let mut writers = JoinSet::new();
        for writer in 0..FILLERS {
            let (client, value) = (self.client.clone(), value.clone());
            writers.spawn(async move {
                for index in (writer..keys).step_by(FILLERS as usize) {
                    let key = Key::new(format!("key-{index:010}"))?;
                    client.put(&bucket(), &key, value.clone(), PutOptions::default()).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(written) = writers.join_next().await {
            written??;
        }
        Ok(())
    }

    pub async fn run(&self, spec: &LoadSpec) -> Result<Measured> {
        self.run_by(&self.client, spec).await
    }

    /// By a client of its own.
    pub async fn run_by(&self, client: &Client, spec: &LoadSpec) -> Result<Measured> {
        let pids = self.nodes.pids();
        let before = cpu::used(&pids);
        let report = load::run(client, spec).await;
        if spec.reads_percent < 100 {
            self.settle().await?;
        }
        let used = cpu::used(&pids) - before;
        let LoadReport { ops, errors, missing, last_error, .. } = &report;
        // An open load offers what it offers; whoever makes one looks at what became of it.
        let may_fail = spec.rate.is_some();
        ensure!(
            may_fail || *errors == 0,
            "{errors} of {ops} requests failed: {}",
            last_error.clone().unwrap_or_default()
        );
        ensure!(*missing == 0, "{missing} of {ops} reads found nothing");
        let cpu_us = used.as_secs_f64() * 1e6 / (*ops).max(1) as f64;
        Ok(Measured { report, cpu_us })
    }

    async fn settle(&self) -> Result<()> {
        let pids = self.nodes.pids();
        Ok(tokio::task::spawn_blocking(move || cpu::settle(&pids)).await?)
    }

    pub async fn close(self) {
        self.client.close().await;
    }
}

pub fn bucket() -> Bucket {
    Bucket::new(BUCKET).expect("a plain word is a bucket's name")
}

/// Requests at W = 2 or R = 2, in a closed loop.
pub fn spec(reads: bool, keys: u64, size: usize, in_flight: usize, span: Duration) -> LoadSpec {
    LoadSpec {
        bucket: bucket(),
        in_flight,
        duration: span,
        reads_percent: if reads { 100 } else { 0 },
        keys,
        value_size: size,
        read: GetOptions { r: Some(Level::Number(2)), ..GetOptions::default() },
        write: PutOptions { w: Some(Level::Number(2)), ..PutOptions::default() },
        read_before_write: false,
        ..LoadSpec::default()
    }
}
