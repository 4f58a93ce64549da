//! Five times the load that a cluster can take: it goes on working at its peak, within its memory, and is itself again
//! soon afterwards.
//!
//! The cluster's peak is capped (`net.max_inflight`, a sync for each batch), so that the load's own process has the machine
//! to itself for making five times as much. A minute of it:
//! `OVERLOAD_SECONDS=60 cargo test --release --test overload -- --nocapture`.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "other tests kill nodes and restart them")]
mod nodes;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynkv::client::load::{self, LoadReport, LoadSpec};
use dynkv::client::{Client, ClientConfig};

use self::nodes::{Nodes, settings};

/// What each node may have of memory, in MiB.
const MEMORY_MIB: u64 = 512;
/// Requests that each node takes of one client at a time: what caps the peak.
const INFLIGHT: usize = 1;
/// Requests under way in calm.
const IN_CALM: usize = 2;
/// How many times the peak is offered.
const TIMES: f64 = 5.0;
/// Requests that may be under way under overload, those that wait to be asked again included.
const IN_STORM: usize = 4096;
/// Of the peak, what must be left under overload.
const LEAST_GOODPUT: f64 = 0.8;
/// After which everything must be as before.
const RECOVERY: Duration = Duration::from_secs(10);

/// Seconds from the environment.
fn seconds(name: &str, default: u64) -> Duration {
    let given = std::env::var(name).ok().map(|text| text.parse().expect("seconds are a whole number"));
    Duration::from_secs(given.unwrap_or(default))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_the_peak_costs_neither_the_work_nor_the_memory() -> Result<()> {
    let memory = format!("memory = \"{MEMORY_MIB}MiB\"");
    let inflight = std::env::var("OVERLOAD_INFLIGHT").map_or(Ok(INFLIGHT), |text| text.parse())?;
    let max_inflight = format!("max_inflight = {inflight}");
    let lines = [
        ("node", "shards = 1"),
        ("net", max_inflight.as_str()),
        ("storage", "block_cache = \"64MiB\"\nrecord_cache = \"32MiB\""),
        ("limits", memory.as_str()),
        ("log", "level = \"warn\""),
    ];
    let nodes = Nodes::start(3, &settings(&lines)).await?;
    let client =
        Client::connect(ClientConfig { request_timeout: Duration::from_secs(1), ..nodes.client_config() }).await?;

    let calm = load::run(&client, &spec(IN_CALM, None, seconds("OVERLOAD_CALM", 3))).await;
    show("calm", &calm);
    let peak = load::run(&client, &spec(3 * inflight, None, seconds("OVERLOAD_PEAK", 5))).await;
    show("peak, closed loop", &peak);
    let offered = peak.throughput() * TIMES;
    let span = seconds("OVERLOAD_SECONDS", 10);
    let over = load::run(&client, &spec(IN_STORM, Some(offered), span)).await;
    show(&format!("{offered:.0}/s offered for {span:?}"), &over);
    let recovered = recover(&client, &calm).await?;
    let highest = nodes.pids().into_iter().map(peak_resident_mib).collect::<Result<Vec<u64>>>()?;
    // For whoever reads a failure: a machine that others slow down meanwhile has another peak by now.
    show("peak, once more", &load::run(&client, &spec(3 * inflight, None, seconds("OVERLOAD_PEAK", 5))).await);
    println!("recovered within {recovered:?}; resident at most {highest:?} MiB of {MEMORY_MIB}");

    // A figure is asked for with a span of its own, on a machine that does nothing else.
    let is_measured = std::env::var_os("OVERLOAD_SECONDS").is_some();
    let goodput = over.ops as f64 / span.as_secs_f64().max(over.elapsed.as_secs_f64());
    ensure!(
        !is_measured || goodput >= LEAST_GOODPUT * peak.throughput(),
        "goodput under overload is {goodput:.0}/s, the peak was {:.0}/s",
        peak.throughput()
    );
    ensure!(
        highest.iter().all(|mib| *mib <= MEMORY_MIB),
        "resident memory in MiB: {highest:?}, the cap is {MEMORY_MIB}"
    );
    ensure!(over.errors + over.unsent > 0, "nothing was refused: this was no overload");
    Ok(())
}

/// Reads and writes of 1 KiB, so many in flight; in the open loop at this rate.
fn spec(in_flight: usize, rate: Option<f64>, duration: Duration) -> LoadSpec {
    LoadSpec {
        in_flight,
        rate,
        duration,
        reads_percent: 50,
        // so many that few are written twice, which would leave siblings
        keys: 10_000_000,
        read_before_write: false,
        ..LoadSpec::default()
    }
}

fn show(what: &str, report: &LoadReport) {
    let ms = |quantile| report.latency.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{what}: {:.0}/s, {} errors, {} never sent, p50 {:.2} ms, p99 {:.2} ms; {}",
        report.throughput(),
        report.errors,
        report.unsent,
        ms(0.5),
        ms(0.99),
        report.last_error.as_deref().unwrap_or("no failure"),
    );
}

/// Loads the cluster as in calm until it answers everything as fast as then; how long that took.
async fn recover(client: &Client, calm: &LoadReport) -> Result<Duration> {
    let start = Instant::now();
    let p99 = |report: &LoadReport| report.latency.value_at_quantile(0.99);
    loop {
        let report = load::run(client, &spec(IN_CALM, None, Duration::from_millis(500))).await;
        // Half a second is short: of the few hundred requests a hiccup of the machine is more than a hundredth.
        if report.errors == 0 && p99(&report) <= p99(calm) * 3 && report.throughput() >= calm.throughput() / 2.0 {
            return Ok(start.elapsed());
        }
        show("not recovered yet", &report);
        ensure!(start.elapsed() < RECOVERY, "not recovered within {RECOVERY:?}");
    }
}

/// The most that a process has ever had in memory, as the kernel counts it; one that has ended has none, and fails the test.
fn peak_resident_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("it is a zombie")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib.div_ceil(1024))
}
