//! Deletes on real processes: nothing of them goes while a replica is away, and nothing of them stays once it is back.
//!
//! On the scale for which figures are promised: `REAPED_DELETES=100000 cargo test --release --test reaping -- --nocapture`.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod nodes;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dynkv::api::RepairOrder;
use dynkv::client::{Client, PutOptions};
use dynkv::quorum::Level;
use dynkv::storage::{Engine, Family, RocksConfig, RocksEngine, ScanLimit};
use dynkv::types::{Bucket, Key, NodeId};
use tokio::task::JoinSet;

use self::nodes::{Nodes, settings};

/// The replica that is away when keys are deleted.
const LAST: usize = 2;
/// Requests under way at a time.
const AT_ONCE: usize = 256;
/// For how long nothing may be reaped while it is away.
const AWAY: Duration = Duration::from_secs(5);
const REAPED_WITHIN: Duration = Duration::from_secs(300);

fn deletes() -> u64 {
    std::env::var("REAPED_DELETES").map_or(2_000, |text| text.parse().expect("a number of deletes is a whole number"))
}

/// Does something for each key, many at a time.
async fn for_each_key<F: Future<Output = Result<()>> + Send + 'static>(act: impl Fn(Key) -> F) -> Result<()> {
    let mut waiting = 0..deletes();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(number) = waiting.next()
        {
            under_way.spawn(act(Key::new(format!("key-{number}")).expect("a short key")));
        }
        let Some(done) = under_way.join_next().await else { return Ok(()) };
        done.context("a request does not panic")??;
    }
}

fn options(w: Level) -> PutOptions {
    PutOptions { w: Some(w), ..PutOptions::default() }
}

/// Tombstones by node, as each counts them.
async fn tombstones(client: &Client, members: &[NodeId]) -> Result<Vec<u64>> {
    let told = client.tombstones(members).await;
    told.into_iter().map(|stats| Ok(stats?.count)).collect()
}

async fn order(client: &Client, members: &[NodeId], order: RepairOrder) -> Result<()> {
    for ordered in client.order_repair(members, order).await {
        ordered?;
    }
    Ok(())
}

/// Records of a node that does not run.
fn records(nodes: &Nodes, index: usize) -> Result<(u64, u64)> {
    let engine = RocksEngine::open(&nodes.nodes[index].dir.join("data"), &RocksConfig::default())?;
    let count = |family| -> Result<u64> {
        let mut count = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        engine.scan(family, &[], None, ScanLimit::NONE, &mut visit)?;
        Ok(count)
    };
    Ok((count(Family::Objects)?, count(Family::Tombstones)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_wait_for_a_replica_that_is_away_and_leave_nothing_behind() -> Result<()> {
    let lines = [
        ("antientropy", "interval = \"0s\"\nreap_interval = \"1s\""),
        ("storage", "sync = \"os\"\nblock_cache = \"256MiB\""),
        ("log", "level = \"warn\""),
    ];
    let mut nodes = Nodes::start(3, &settings(&lines)).await?;
    let client = nodes.client().await?;
    let members: Vec<NodeId> =
        client.status(&nodes.nodes[0].endpoint).await?.members.iter().map(|one| one.node).collect();
    let bucket = Bucket::default();
    let contexts = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::new()));
    for_each_key(|key| {
        let (client, bucket, contexts) = (client.clone(), bucket.clone(), contexts.clone());
        async move {
            let put = client.put(&bucket, &key, vec![b'v'; 100].into(), options(Level::All)).await?;
            contexts.lock().expect("nobody panics").insert(key, put.receipt.context);
            Ok(())
        }
    })
    .await?;
    nodes.kill(LAST);
    let began = Instant::now();
    for_each_key(|key| {
        let (client, bucket, contexts) = (client.clone(), bucket.clone(), contexts.clone());
        async move {
            let context = contexts.lock().expect("nobody panics")[&key].clone();
            client.delete(&bucket, &key, context, options(Level::Quorum)).await?;
            Ok(())
        }
    })
    .await?;
    println!("{} deletes with a replica away in {:.1?}", deletes(), began.elapsed());
    let others = &client.status(&nodes.nodes[0].endpoint).await?.members;
    let here: Vec<NodeId> =
        others.iter().filter(|one| one.name != nodes.nodes[LAST].name).map(|one| one.node).collect();
    order(&client, &here, RepairOrder::Reap { partition: None }).await?;
    tokio::time::sleep(AWAY).await;
    let waiting = tombstones(&client, &here).await?;
    println!("{waiting:?} tombstones wait after {AWAY:?}");
    ensure!(waiting == [deletes(); 2], "some were reaped while a member was away, or not deleted: {waiting:?}");
    nodes.start_node(LAST)?;
    nodes.wait_until_served().await?;
    let began = Instant::now();
    loop {
        order(&client, &members, RepairOrder::Start { partition: None }).await?;
        order(&client, &members, RepairOrder::Reap { partition: None }).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = tombstones(&client, &members).await?;
        if left == [0; 3] {
            break;
        }
        ensure!(began.elapsed() < REAPED_WITHIN, "tombstones are left after {:?}: {left:?}", began.elapsed());
    }
    println!("all reaped {:.1?} after its return", began.elapsed());
    nodes.kill_all();
    for index in 0..3 {
        ensure!(records(&nodes, index)? == (0, 0), "records are left on n{}: {:?}", index + 1, records(&nodes, index)?);
    }
    Ok(())
}
