//! `make bench`: what the parts cost alone, and what the cluster makes of them, in one run.
//!
//! The floor is raw RocksDB (read, change, write) and a raw QUIC stream, both in this process; for a request that is
//! alone the stream's other end is a process of its own, as nodes are. The cluster is node processes at N = 3, W = 2,
//! R = 2 and this process as the client; its CPU is that of all of them, so that the ratio to the floor compares like
//! with like. A line that begins with "ok" or "MISS" holds a figure to its bound. What is compared is measured in
//! turns, where the machine's pace would otherwise decide: CPU over the floor's, the open load (not its peaks), few
//! keys and many, three nodes and nine, large values.
//!
//! `make bench SECTIONS="SECTION.."` runs some of the sections (see [`Section`]). `DYNKV_BENCH_SECONDS` sets how long each row is measured
//! (5), `DYNKV_BENCH_TAIL` how long each round of the open load that is held to a bound is (60; its other loads a third of that),
//! `DYNKV_BENCH_KEYS` how many "many keys" are (5,000,000).
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads clocks, starts tasks and prints"
)]

mod cluster;
mod coordination;
mod cpu;
mod durable;
mod extremes;
mod floor;
mod hot;
mod latency;
#[path = "../../tests/processes/nodes.rs"]
#[allow(dead_code, reason = "the tests also kill and restart")]
mod nodes;
mod plot;
mod rounds;
mod scale;
mod throughput;
mod trees;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use tokio::runtime::{Builder, Runtime};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keys that the load is spread over where a section does not say otherwise; all are written before anything is measured.
const KEYS: u64 = 50_000;
/// Requests in flight of which more bring little, as far as the throughput goes.
const BUSY: usize = 512;
/// Bytes of a node's cache of blocks, and of the floor's.
const BLOCK_CACHE: usize = 512 << 20;
/// Bytes of a node's cache of records; the floor has none, so that what this saves counts in the cluster's favour.
const RECORD_CACHE: usize = 256 << 20;

#[derive(Parser)]
struct Args {
    /// Which; all, one after the other, if none is named.
    sections: Vec<Section>,
    /// Answers a connection of the floor's: messages of so many bytes, with so many.
    #[arg(long, hide = true, num_args = 2, value_names = ["ASK", "ANSWER"])]
    echo: Option<Vec<usize>>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// CPU of an operation against the floor, and throughput, over the requests in flight.
    Throughput,
    /// One request in flight.
    Alone,
    /// Latency over an open load.
    Tail,
    /// From few keys to many.
    Keys,
    /// From three nodes to nine.
    Nodes,
    /// One hot key.
    Hot,
    /// Fewer durable copies than acknowledged ones.
    Durable,
    /// Requests to primaries, or to any node.
    Coordination,
    /// Nothing to do.
    Idle,
    /// Values of 1 MiB.
    Large,
}

/// How long and how much.
struct Settings {
    span: Duration,
    tail: Duration,
    many_keys: u64,
}

impl Settings {
    fn from_env() -> Result<Settings> {
        Ok(Settings {
            span: Duration::from_secs(number("DYNKV_BENCH_SECONDS", 5)?),
            tail: Duration::from_secs(number("DYNKV_BENCH_TAIL", 60)?),
            many_keys: number("DYNKV_BENCH_KEYS", 5_000_000)?,
        })
    }

    /// How long an open load lasts that is held to no bound, and the taking of its peak at least.
    fn unheld(&self) -> Duration {
        self.tail / 3
    }

    /// Measures something that takes threads for itself.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        tokio::task::spawn_blocking(work).await?
    }
}

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}: a whole number is wanted")),
        Err(_) => Ok(default),
    }
}

fn main() -> Result<()> {
    let Args { sections, echo, bench: _ } = Args::parse();
    if let Some([ask, answer]) = echo.as_deref() {
        return runtime()?.block_on(floor::Echo { ask: *ask, answer: *answer }.serve());
    }
    let sections = if sections.is_empty() { Section::value_variants().to_vec() } else { sections };
    let settings = Settings::from_env()?;
    runtime()?.block_on(async {
        for section in sections {
            match section {
                Section::Throughput => throughput::run(&settings).await,
                Section::Alone => latency::alone(&settings).await,
                Section::Tail => latency::tail(&settings).await,
                Section::Keys => scale::keys(&settings).await,
                Section::Nodes => scale::nodes(&settings).await,
                Section::Hot => hot::run(&settings).await,
                Section::Durable => durable::run(&settings).await,
                Section::Coordination => coordination::run(&settings).await,
                Section::Idle => extremes::idle(&settings).await,
                Section::Large => extremes::large(&settings).await,
            }?;
        }
        Ok(())
    })
}

fn runtime() -> Result<Runtime> {
    // As the daemon has them.
    let threads = std::thread::available_parallelism()?.get().div_ceil(2);
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

/// What a load is made of.
fn op(reads: bool) -> &'static str {
    if reads { "gets" } else { "puts" }
}

/// A figure and its bound, the most or the least that it should be.
fn verdict(what: &str, figure: f64, bound: f64, is_most: bool) {
    let holds = if is_most { figure <= bound } else { figure >= bound };
    let (word, limit) = (if holds { "ok  " } else { "MISS" }, if is_most { "at most" } else { "at least" });
    println!("{word} {what}: {figure:.3} ({limit} {bound})");
}

/// Bytes that do not compress, so that the disks have as much to do as it seems.
fn value_of(size: usize) -> bytes::Bytes {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..size).map(|_| (next() >> 24) as u8).collect::<Vec<_>>().into()
}
