//! `make bench`: what the parts cost alone, and what the cluster makes of them, in one run.
//!
//! The floor is raw RocksDB (read, change, write) and a raw QUIC stream, both in this process. The cluster is three node
//! processes at N = 3, W = 2, R = 2 and this process as the client; its CPU is that of all four, so that the ratio to the
//! floor compares like with like. `DYNKV_BENCH_SECONDS` sets how long each row is measured.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads clocks and prints"
)]

mod cpu;
mod floor;
#[path = "../../tests/processes/nodes.rs"]
#[allow(dead_code, reason = "the tests also kill and restart")]
mod nodes;
mod trees;

use std::time::Duration;

use anyhow::Result;
use dynkv::client::load::{self, LoadReport, LoadSpec};
use dynkv::client::{Client, GetOptions, PutOptions};
use dynkv::quorum::Level;
use dynkv::types::Bucket;

use self::floor::Floor;
use self::nodes::{Nodes, settings};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where the load goes: the latest write wins, so that blind writes do not pile up as siblings.
const BUCKET: &str = "bench";

/// Keys that the load is spread over; all are written before anything is measured.
const KEYS: u64 = 50_000;
/// The closed loop's requests in flight.
const IN_FLIGHT: [usize; 3] = [1, 64, 512];
/// The open loop's share of the peak.
const SHARE: f64 = 0.7;

/// What is measured in one row.
#[derive(Clone, Copy)]
struct Case {
    size: usize,
    sync: &'static str,
    reads: bool,
}

fn main() -> Result<()> {
    let seconds = std::env::var("DYNKV_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let span = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut floors = Vec::new();
    println!("floor, CPU us an operation (operations a second)");
    println!("{:>8} {:>20} {:>20} {:>20} {:>20} {:>20}", "value", "rewrite", "rewrite+fsync", "read", "send", "fetch");
    for size in [100, 1024] {
        let floor = floor::measure(size)?;
        let cell = |cost: floor::Cost| format!("{:.2} ({:.0}k)", cost.cpu_us, cost.per_second / 1000.0);
        println!(
            "{size:>8} {:>20} {:>20} {:>20} {:>20} {:>20}",
            cell(floor.rewrite),
            cell(floor.rewrite_synced),
            cell(floor.read),
            cell(floor.send),
            cell(floor.fetch)
        );
        floors.push((size, floor));
    }
    println!("floor of a put at N=3 (3 rewrites, 3 sends) and of a get at R=2 (2 reads, 2 fetches), CPU us:");
    for (size, floor) in &floors {
        println!("{size:>8} put {:.1}  get {:.1}", floor.put(), floor.get());
    }
    header();
    let mut whole = f64::NAN;
    for sync in ["os", "always"] {
        for (size, floor) in &floors {
            let put_us = runtime.block_on(measure_cluster(sync, *size, floor, span))?;
            if (sync, *size) == ("os", 1024) {
                whole = put_us;
            }
        }
    }
    let trees::Upkeep { with, without } = trees::measure(1024)?;
    let share = 3.0 * (with - without) / whole * 100.0;
    println!("\nMerkle trees, CPU us a write of 1024 bytes in a shard's store: {with:.2} with, {without:.2} without");
    println!("three replicas of a put: {share:.1} % of its {whole:.1} us (os, {} in flight)", IN_FLIGHT[2]);
    Ok(())
}

fn header() {
    println!(
        "\n{:<6} {:<7} {:>6} {:>9} {:>10} {:>8} {:>7} {:>8} {:>8} {:>8} {:>7}",
        "op", "sync", "value", "load", "ops/s", "CPU us", "ratio", "p50 us", "p99 us", "p99.9", "errors"
    );
}

/// Measures puts and gets of one size on a cluster of its own; CPU of a put with most in flight.
async fn measure_cluster(sync: &'static str, size: usize, floor: &Floor, span: Duration) -> Result<f64> {
    let sync_line = format!("sync = {sync:?}");
    let settings = settings(&[
        // One shard a node: three nodes and a client share two cores.
        ("node", "shards = 1"),
        ("cluster.buckets.bench", "conflict = \"lww\""),
        ("storage", &sync_line),
        ("storage", "block_cache = \"512MiB\""),
        ("log", "level = \"warn\""),
    ]);
    let nodes = Nodes::start(3, &settings).await?;
    let client = nodes.client().await?;
    let mut put_us = f64::NAN;
    fill(&client, size).await?;
    for reads in [false, true] {
        let case = Case { size, sync, reads };
        let least = if reads { floor.get() } else { floor.put() };
        let mut peak = 0f64;
        for in_flight in IN_FLIGHT {
            let (report, cpu_us) = run(&client, &nodes, spec(case, span, in_flight, None)).await;
            peak = peak.max(report.throughput());
            row(case, &format!("{in_flight}"), &report, cpu_us, least);
            put_us = if reads { put_us } else { cpu_us };
        }
        let rate = peak * SHARE;
        let (report, cpu_us) = run(&client, &nodes, spec(case, span, 4096, Some(rate))).await;
        row(case, &format!("{:.0}%", SHARE * 100.0), &report, cpu_us, least);
    }
    client.close().await;
    Ok(put_us)
}

fn spec(case: Case, span: Duration, in_flight: usize, rate: Option<f64>) -> LoadSpec {
    LoadSpec {
        bucket: bucket(),
        in_flight,
        rate,
        duration: span,
        reads_percent: if case.reads { 100 } else { 0 },
        keys: KEYS,
        value_size: case.size,
        read: GetOptions { r: Some(Level::Number(2)), ..GetOptions::default() },
        write: PutOptions { w: Some(Level::Number(2)), ..PutOptions::default() },
        read_before_write: false,
        ..LoadSpec::default()
    }
}

fn bucket() -> Bucket {
    Bucket::new(BUCKET).expect("a plain word is a bucket's name")
}

/// Writes for long enough that nearly every key is there.
async fn fill(client: &Client, size: usize) -> Result<()> {
    let case = Case { size, sync: "", reads: false };
    let report = load::run(client, &spec(case, Duration::from_secs(5), 512, None)).await;
    anyhow::ensure!(report.errors == 0, "{} writes failed: {}", report.errors, report.last_error.unwrap_or_default());
    Ok(())
}

/// Runs a load; CPU microseconds of all processes an operation.
async fn run(client: &Client, nodes: &Nodes, spec: LoadSpec) -> (LoadReport, f64) {
    let pids = nodes.pids();
    let before = cpu::used(&pids);
    let report = load::run(client, &spec).await;
    let used = cpu::used(&pids) - before;
    let cpu_us = used.as_secs_f64() * 1e6 / (report.ops.max(1)) as f64;
    (report, cpu_us)
}

fn row(case: Case, load: &str, report: &LoadReport, cpu_us: f64, least: f64) {
    let at = |percentile: f64| report.latency.value_at_quantile(percentile);
    println!(
        "{:<6} {:<7} {:>6} {:>9} {:>10.0} {:>8.1} {:>7.2} {:>8} {:>8} {:>8} {:>7}",
        if case.reads { "get" } else { "put" },
        case.sync,
        case.size,
        load,
        report.throughput(),
        cpu_us,
        cpu_us / least,
        at(0.5),
        at(0.99),
        at(0.999),
        report.errors
    );
}
