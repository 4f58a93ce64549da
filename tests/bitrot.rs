//! Bits that turn in the files of a node's disk: nothing wrong is ever read, and all of it comes back from the other replicas.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a driver of real processes, and of real files")]

#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod nodes;
#[path = "processes/tables.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use dynkv::api::{RepairOrder, RepairStatus};
use dynkv::client::{Client, GetOptions, PutOptions};
use dynkv::quorum::Level;
use dynkv::storage::{Engine, Family, Record, RocksConfig, RocksEngine, ScanLimit};
use dynkv::types::{Bucket, Key, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use self::nodes::{Nodes, settings};
use self::tables::{compact, tables};

/// The node whose disk rots.
const LAST: usize = 2;
const KEYS: u64 = 12_000;
const BITS: usize = 200;
const AT_ONCE: usize = 128;
/// One read in so many asks all three replicas, and fails if one of them may lack the key.
const FEW: u64 = 20;
const MENDED_WITHIN: Duration = Duration::from_secs(60);

/// Turns bits at random places of these files, taken together.
fn flip(files: &[PathBuf], bits: usize, seed: u64) -> Result<BTreeSet<PathBuf>> {
    let mut contents: Vec<Vec<u8>> = files.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    let (total, mut rng) = (contents.iter().map(Vec::len).sum::<usize>(), StdRng::seed_from_u64(seed));
    let mut hit = BTreeSet::new();
    for _ in 0..bits {
        let mut at = rng.random_range(0..total);
        let file = contents.iter().position(|bytes| {
            let within = at < bytes.len();
            at -= if within { 0 } else { bytes.len() };
            within
        });
        let file = file.context("a place lies in one of the files")?;
        contents[file][at] ^= 1 << rng.random_range(0..8);
        hit.insert(files[file].clone());
    }
    for (file, bytes) in files.iter().zip(&contents) {
        std::fs::write(file, bytes)?;
    }
    Ok(hit)
}

fn key(number: u64) -> Key {
    Key::new(format!("key-{number}")).unwrap()
}

/// Random bytes, so that nothing makes them fewer.
fn value(number: u64) -> Bytes {
    let mut bytes = vec![0; 300];
    StdRng::seed_from_u64(number).fill(&mut bytes[..]);
    bytes.into()
}

async fn write(client: &Client) -> Result<()> {
    let (mut waiting, mut under_way) = (0..KEYS, JoinSet::new());
    loop {
        while under_way.len() < AT_ONCE
            && let Some(number) = waiting.next()
        {
            let client = client.clone();
            under_way.spawn(async move {
                let options = PutOptions { w: Some(Level::All), ..PutOptions::default() };
                client.put(&Bucket::default(), &key(number), value(number), options).await
            });
        }
        let Some(written) = under_way.join_next().await else { return Ok(()) };
        written??;
    }
}

/// What reads have brought.
#[derive(Debug, Default)]
struct Read {
    right: u64,
    failed: u64,
}

/// Reads each key once, at R of 1, 2 or (few of them) 3, at whichever node: what is read is right, or the read has failed.
async fn read_all(client: &Client) -> Result<Read> {
    let (mut waiting, mut under_way, mut read) = (0..KEYS, JoinSet::new(), Read::default());
    loop {
        while under_way.len() < AT_ONCE
            && let Some(number) = waiting.next()
        {
            let client = client.clone();
            under_way.spawn(async move {
                let r = if number % FEW == 0 { 3 } else { u8::try_from(number % 2 + 1).unwrap() };
                let options = GetOptions { r: Some(Level::Number(r)), ..GetOptions::default() };
                (number, client.get(&Bucket::default(), &key(number), options).await)
            });
        }
        let Some(done) = under_way.join_next().await else { return Ok(read) };
        match done? {
            (number, Ok(found)) => {
                ensure!(found.values().eq([value(number)].iter()), "key {number} is {:?}", found.siblings);
                read.right += 1;
            }
            (_, Err(_)) => read.failed += 1,
        }
    }
}

async fn statuses(nodes: &Nodes, client: &Client) -> Result<Vec<RepairStatus>> {
    let mut all = Vec::new();
    for node in &nodes.nodes {
        all.push(client.status(&node.endpoint).await?.repair.context("a node that serves tells of its repairs")?);
    }
    Ok(all)
}

async fn order(nodes: &Nodes, client: &Client, order: RepairOrder) -> Result<()> {
    let status = client.status(&nodes.nodes[0].endpoint).await?;
    let members: Vec<NodeId> = status.members.iter().map(|one| one.node).collect();
    for ordered in client.order_repair(&members, order).await {
        ordered?;
    }
    Ok(())
}

/// Waits until this holds of all nodes.
async fn until(nodes: &Nodes, client: &Client, what: &str, holds: impl Fn(&RepairStatus) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let now = statuses(nodes, client).await?;
        if now.iter().all(&holds) {
            return Ok(());
        }
        if began.elapsed() >= MENDED_WITHIN {
            let log = std::fs::read_to_string(nodes.nodes[LAST].dir.join("log"))?;
            anyhow::bail!("not {what} after {:?}: {now:#?}\n{log}", began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// What a node that does not run holds: objects by key, encoded.
fn held(dir: &Path) -> Result<BTreeMap<Bytes, Bytes>> {
    let engine = RocksEngine::open(dir, &RocksConfig::default())?;
    let (mut all, mut rotten) = (BTreeMap::new(), 0);
    let mut visit = |key: &[u8], record: &[u8]| {
        match Record::decode(Bytes::copy_from_slice(record)) {
            Ok(record) => drop(all.insert(Bytes::copy_from_slice(key), record.object.encode())),
            Err(_) => rotten += 1,
        }
        ControlFlow::Continue(())
    };
    engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut visit)?;
    ensure!(rotten == 0, "{rotten} records in {} are rotten", dir.display());
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_is_never_read_and_comes_back() -> Result<()> {
    let lines = [
        ("hints", "max_bytes = \"0B\""),
        ("antientropy", "interval = \"0s\"\nrate = \"1GiB/s\"\nleaves = 64"),
        ("replication", "read_repair_chance = 0"),
        ("storage", "sync = \"os\"\nblock_cache = \"16MiB\"\nrecord_cache = \"1MiB\""),
        ("log", "level = \"info\""),
    ];
    let mut nodes = Nodes::start(3, &settings(&lines)).await?;
    let client = nodes.client().await?;
    write(&client).await?;
    let dir = nodes.nodes[LAST].dir.join("data/db");
    nodes.stop(LAST)?;
    compact(&dir)?;
    let files: Vec<PathBuf> = tables(&dir, &["objects", "merkle"])?.into_iter().map(|(path, _)| path).collect();
    let hit = flip(&files, BITS, 17)?;
    println!("{BITS} bits in {} of {} tables", hit.len(), files.len());
    nodes.start_node(LAST)?;
    nodes.wait_until_served().await?;
    client.refresh_ring().await?;
    let during = read_all(&client).await?;
    println!("while it rots: {during:?}");
    ensure!(during.failed <= KEYS / FEW, "what two replicas can answer is answered: {during:?}");

    // The table goes by itself; what it held is looked for by itself, and by order.
    let log = nodes.nodes[LAST].dir.join("log");
    let began = Instant::now();
    while gone(&log)? < hit.len() {
        ensure!(began.elapsed() < MENDED_WITHIN, "damaged tables stay:\n{}", std::fs::read_to_string(&log)?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    order(&nodes, &client, RepairOrder::Scrub { partition: None }).await?;
    let is_read = |repair: &RepairStatus| repair.scrub.of == 0 && repair.scrub.running.is_empty();
    until(&nodes, &client, "read", is_read).await?;
    let during = read_all(&client).await?;
    println!("while it heals: {during:?}");
    order(&nodes, &client, RepairOrder::Start { partition: None }).await?;
    until(&nodes, &client, "alike", |repair| repair.of > 0 && repair.is_done() && repair.scrub.lacking == 0).await?;
    let scrub = &statuses(&nodes, &client).await?[LAST].scrub;
    println!("{scrub:?}");
    ensure!(scrub.stretches > 0 && scrub.hopeless == 0, "{scrub:?}");
    let after = read_all(&client).await?;
    ensure!(after.failed == 0, "{after:?}");
    client.close().await;
    for index in 0..3 {
        nodes.stop(index)?;
    }
    let all: Vec<_> = nodes.nodes.iter().map(|node| held(&node.dir.join("data/db"))).collect::<Result<_>>()?;
    ensure!(all[0].len() as u64 == KEYS && all.iter().all(|one| *one == all[0]), "all replicas hold the same");
    Ok(())
}

/// Damaged tables that a node has dropped.
fn gone(log: &Path) -> Result<usize> {
    Ok(std::fs::read_to_string(log)?.matches("a table that could not be read is gone").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_read_who_it_is_says_what_to_do() -> Result<()> {
    let mut nodes = Nodes::start(1, &settings(&[("log", "level = \"warn\"")])).await?;
    let dir = nodes.nodes[0].dir.join("data/db");
    nodes.stop(0)?;
    compact(&dir)?;
    let files: Vec<PathBuf> = tables(&dir, &["meta"])?.into_iter().map(|(path, _)| path).collect();
    let bits = files.iter().map(|file| file.metadata().unwrap().len() as usize / 4).sum();
    flip(&files, bits, 3)?;
    nodes.start_node(0)?;
    let ended = nodes.wait_until_served().await.unwrap_err().to_string();
    ensure!(ended.contains("wipe the directory, the node rebuilds from its peers"), "{ended}");
    Ok(())
}
