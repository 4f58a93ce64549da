//! Replicas that differ are found and made alike at a cost that goes by what differs, and a lost disk is filled under load.
//!
//! On the scale for which figures are promised:
//! `EXCHANGE_KEYS=1000000 cargo test --release --test exchange -- --nocapture --test-threads 1`.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod nodes;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynkv::api::{RepairOrder, RepairStatus};
use dynkv::client::load::{self, LoadReport, LoadSpec};
use dynkv::client::{Client, GetOptions, PutOptions};
use dynkv::local::probe;
use dynkv::quorum::Level;
use dynkv::types::{Bucket, Key, NodeId, WriteId};
use dynkv::version::{Actor, Body, CausalContext, Dot, Object, Sibling};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use self::nodes::{Nodes, settings};

/// The node that misses what the others write, or loses its disk.
const LAST: usize = 2;
const VALUE: usize = 100;
/// Requests under way while keys are written.
const AT_ONCE: usize = 256;
/// One key in so many is made to differ.
const DIFFERS: u64 = 100;
/// Bytes moved, at most, for each byte of the objects that differ.
const TIMES: u64 = 4;
/// Of the roots of two equal replicas.
const EQUAL_BYTES: u64 = 100_000;
/// Four times `net.request_timeout`, for which coordinators go on sending.
const HEARD_WITHIN: Duration = Duration::from_secs(20);
const CONVERGED_WITHIN: Duration = Duration::from_secs(120);
const REBUILT_WITHIN: Duration = Duration::from_secs(600);
/// How much later one request in a hundred may be answered while a disk is filled.
const SLOWER: f64 = 2.0;

/// The keys of a test: few, unless figures are asked for.
fn keys() -> u64 {
    std::env::var("EXCHANGE_KEYS").map_or(10_000, |text| text.parse().expect("a number of keys is a whole number"))
}

fn is_measured() -> bool {
    std::env::var_os("EXCHANGE_KEYS").is_some()
}

/// Nothing but the exchange brings anything over, and it only by order.
async fn start() -> Result<Nodes> {
    let lines = [
        ("hints", "max_bytes = \"0B\""),
        ("antientropy", "interval = \"0s\""),
        ("replication", "read_repair_chance = 0"),
        ("storage", "sync = \"os\"\nblock_cache = \"256MiB\""),
        ("log", "level = \"warn\""),
    ];
    Nodes::start(3, &settings(&lines)).await
}

fn key(number: u64) -> Key {
    Key::new(format!("key-{number}")).expect("a short key")
}

/// Writes these keys: `first`, or over what is there.
async fn write(client: &Client, numbers: Range<u64>, step: usize, first: bool, w: Level) -> Result<()> {
    let mut waiting = numbers.step_by(step);
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(number) = waiting.next()
        {
            let client = client.clone();
            under_way.spawn(async move {
                let bucket = Bucket::default();
                let context = match first {
                    true => None,
                    false => client.get(&bucket, &key(number), GetOptions::default()).await?.context,
                };
                let options = PutOptions { w: Some(w), context, ..PutOptions::default() };
                client.put(&bucket, &key(number), vec![b'v'; VALUE].into(), options).await
            });
        }
        let Some(written) = under_way.join_next().await else { return Ok(()) };
        written.context("a write does not panic")?.context("writing")?;
    }
}

/// Bytes of an object that was written twice by one coordinator, as these are.
fn object_bytes() -> u64 {
    let sibling = |counter| Sibling {
        dot: Dot { actor: Actor(u64::MAX), counter },
        write_id: WriteId(u128::MAX),
        node: NodeId(u64::MAX),
        wall_ms: 1 << 40,
        body: Body::Value(vec![b'v'; VALUE].into()),
    };
    let first = Object::update(None, &CausalContext::default(), sibling(1));
    Object::update(Some(&first), first.context(), sibling(2)).encoded_len() as u64
}

async fn repairs(nodes: &Nodes, client: &Client) -> Result<Vec<RepairStatus>> {
    let mut all = Vec::new();
    for node in &nodes.nodes {
        let deadline = Instant::now() + Duration::from_secs(5);
        all.push(loop {
            // a node serves a moment before all of its shards do
            match client.status(&node.endpoint).await?.repair {
                Some(repair) => break repair,
                None => ensure!(Instant::now() < deadline, "a node that serves tells of its repairs"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        });
    }
    Ok(all)
}

fn bytes(repairs: &[RepairStatus]) -> u64 {
    repairs.iter().map(|repair| repair.bytes).sum()
}

/// Has everything compared; how long that took, and how many bytes were moved.
async fn repair(nodes: &Nodes, client: &Client) -> Result<(Duration, u64)> {
    let before = bytes(&repairs(nodes, client).await?);
    let members: Vec<NodeId> =
        client.status(&nodes.nodes[0].endpoint).await?.members.iter().map(|one| one.node).collect();
    let began = Instant::now();
    for ordered in client.order_repair(&members, RepairOrder::Start { partition: None }).await {
        ordered?;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = repairs(nodes, client).await?;
        if now.iter().all(|repair| repair.of > 0 && repair.is_done()) {
            return Ok((began.elapsed(), bytes(&now) - before));
        }
        ensure!(began.elapsed() < CONVERGED_WITHIN * 2, "replicas are not alike after {:?}: {now:#?}", began.elapsed());
    }
}

/// Coordinators go on sending when a write is acknowledged: what they bring is not the exchange's.
async fn wait_until_nothing_is_sent(nodes: &Nodes) -> Result<()> {
    let lingering = async || {
        let mut lingering = 0;
        for node in &nodes.nodes[..LAST] {
            let page = probe::get(node.endpoint.parse()?, "/metrics").await?;
            lingering += probe::metric(&page.body, "dynkv_requests_lingering").context("it is counted")?;
        }
        anyhow::Ok(lingering)
    };
    let heard = async {
        while lingering().await? > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(HEARD_WITHIN, heard).await.context("requests wait for a node that is away")?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_has_missed_is_brought_over_at_a_cost_that_goes_by_it() -> Result<()> {
    let keys = keys();
    let mut nodes = start().await?;
    let client = nodes.client().await?;
    write(&client, 0..keys, 1, true, Level::All).await?;

    let (took, moved) = repair(&nodes, &client).await?;
    // Each of three pairs is compared from both sides.
    println!("{keys} equal keys: {took:.1?}, {moved} bytes in six comparisons of all roots");
    ensure!(moved <= 6 * EQUAL_BYTES, "{moved} bytes were moved for equal replicas");

    nodes.kill(LAST);
    write(&client, 0..keys, usize::try_from(DIFFERS)?, false, Level::Number(2)).await?;
    wait_until_nothing_is_sent(&nodes).await?;
    nodes.start_node(LAST)?;
    nodes.wait_until_served().await?;
    let (took, moved) = repair(&nodes, &client).await?;
    let differ = keys.div_ceil(DIFFERS);
    let found: u64 = repairs(&nodes, &client).await?.iter().map(|repair| repair.keys_differing).sum();
    ensure!(found >= differ, "the exchange has found {found} of {differ} keys that differ");
    let objects = differ * object_bytes();
    let times = moved as f64 / objects as f64;
    println!("{differ} of them differ: {took:.1?}, {moved} bytes, {times:.2} times those of the objects ({objects})");
    ensure!(took <= CONVERGED_WITHIN, "alike only after {took:?}");
    // Few keys have few leaves between them: their sums weigh more than on the scale that is promised.
    ensure!(!is_measured() || moved <= TIMES * objects, "{moved} bytes were moved, the objects have {objects}");
    Ok(())
}

/// Reads and writes at a rate that leaves the machine half idle.
fn spec(rate: f64, duration: Duration) -> LoadSpec {
    LoadSpec {
        in_flight: 256,
        rate: Some(rate),
        duration,
        reads_percent: 50,
        keys: keys(),
        value_size: VALUE,
        read_before_write: true,
        ..LoadSpec::default()
    }
}

/// Milliseconds.
fn p99(latency: &Histogram<u64>) -> f64 {
    latency.value_at_quantile(0.99) as f64 / 1000.0
}

/// Windows of load, one after the other.
struct Windows {
    all: Histogram<u64>,
    /// The highest p99 of one of them.
    worst: f64,
    errors: u64,
}

impl Windows {
    fn new() -> Result<Windows> {
        Ok(Windows { all: Histogram::new(3)?, worst: 0.0, errors: 0 })
    }

    fn add(&mut self, report: &LoadReport) -> Result<()> {
        self.all.add(&report.latency)?;
        self.worst = self.worst.max(p99(&report.latency));
        self.errors += report.errors;
        Ok(())
    }
}

/// Has a node lose its disk, and waits until it serves again.
async fn lose_the_disk(nodes: &mut Nodes) -> Result<()> {
    nodes.kill(LAST);
    std::fs::remove_dir_all(nodes.nodes[LAST].dir.join("data")).context("the disk that is lost")?;
    nodes.start_node(LAST)?;
    nodes.wait_until_served().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_filled_under_load() -> Result<()> {
    let rate = std::env::var("EXCHANGE_RATE").map_or(Ok(1_000.0), |text| text.parse())?;
    let mut nodes = start().await?;
    let client = nodes.client().await?;
    write(&client, 0..keys(), 1, true, Level::All).await?;
    let window = spec(rate, Duration::from_secs(5));
    let mut calm = Windows::new()?;
    for _ in 0..if is_measured() { 9 } else { 1 } {
        calm.add(&load::run(&client, &window).await)?;
    }
    let (killed, lost) = tokio::join!(load::run(&client, &window), lose_the_disk(&mut nodes));
    lost?;
    let began = Instant::now();
    let mut filling = Windows::new()?;
    loop {
        filling.add(&load::run(&client, &window).await)?;
        let repair = &repairs(&nodes, &client).await?[LAST];
        if repair.rebuilding.is_none() {
            break;
        }
        ensure!(began.elapsed() < REBUILT_WITHIN, "not filled after {:?}: {repair:#?}", began.elapsed());
    }
    let (before, during, took) = (p99(&calm.all), p99(&filling.all), began.elapsed());
    println!(
        "filled in {took:.1?}; p99 {before:.2} ms before ({:.2} in the worst 5 s), {during:.2} ms while it is filled ({:.2} in the worst \
         5 s), {:.2} ms in the 5 s of the loss, {} failed",
        calm.worst,
        filling.worst,
        p99(&killed.latency),
        killed.errors + filling.errors
    );
    ensure!(!is_measured() || during <= SLOWER * before, "one request in a hundred took {during} ms");
    // All of it is there, and equal.
    let (_, moved) = repair(&nodes, &client).await?;
    println!("compared once more: {moved} bytes");
    let status = client.status(&nodes.nodes[0].endpoint).await?;
    ensure!(status.members.iter().all(|member| !member.rebuilding), "it counts again");
    Ok(())
}
