//! Nodes with nothing to do, and nodes with large values.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::{Cluster, spec};
use crate::floor::stream_bytes;
use crate::rounds::{ROUNDS, Rounds};
use crate::{Settings, cpu, op, verdict};

const MIB: usize = 1 << 20;
/// Caches of an idle node, which do not count.
const IDLE_CACHE: usize = 8 * MIB;
/// After which a new cluster has nothing more to do.
const STARTED: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(20);
/// Of a core, and MiB.
const IDLE_CPU: f64 = 0.01;
const IDLE_MIB: f64 = 64.0;
const LARGE_KEYS: u64 = 64;
const LARGE_IN_FLIGHT: usize = 8;
/// Of what a raw stream carries for as much CPU.
const LARGE_SHARE: f64 = 0.6;

pub async fn idle(_: &Settings) -> Result<()> {
    let cluster = Cluster::with_caches(3, "always", IDLE_CACHE, IDLE_CACHE).await?;
    let Cluster { nodes, client, .. } = cluster;
    client.close().await;
    let pids = nodes.pids();
    tokio::time::sleep(STARTED).await;
    let used = || pids.iter().map(|pid| cpu::used_by(*pid)).collect::<Vec<_>>();
    let before = used();
    tokio::time::sleep(WATCHED).await;
    let shares =
        used().into_iter().zip(before).map(|(after, before)| (after - before).as_secs_f64() / WATCHED.as_secs_f64());
    let busiest = shares.fold(0.0, f64::max);
    let largest = pids.iter().map(|pid| cpu::resident(*pid)).max().unwrap_or(0) as f64 / MIB as f64;
    ensure!(largest > 0.0, "no node runs");
    println!("\nidle, the busiest and the largest of three nodes");
    verdict("part of a core", busiest, IDLE_CPU, true);
    verdict("MiB resident, caches of 16 MiB included", largest, IDLE_MIB, true);
    Ok(())
}

/// Values of 1 MiB.
pub async fn large(settings: &Settings) -> Result<()> {
    let cluster = Cluster::filled(3, "os", LARGE_KEYS, MIB).await?;
    println!("\nvalues of 1 MiB, {LARGE_IN_FLIGHT} in flight, MB a second of CPU over all hops");
    // What a byte costs alone, and what it costs the cluster.
    let (mut puts, mut gets) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let raw = stream_bytes(MIB, settings.span).await?;
        println!("a raw stream {:.0}", raw / 1e6);
        // A put goes to a coordinator and from there to two replicas; of a get two replicas' values are read, and one has to travel to
        // the coordinator only if it differs.
        puts.push(1.0 / raw, 1.0 / carried(settings, &cluster, false, 3.0).await?);
        gets.push(1.0 / raw, 1.0 / carried(settings, &cluster, true, 1.0).await?);
    }
    cluster.close().await;
    for (op, rounds) in [("puts", puts), ("gets", gets)] {
        let what = format!("{op}, bytes over all hops over a raw stream's, all together ({rounds})");
        verdict(&what, rounds.of_sums(), LARGE_SHARE, false);
    }
    Ok(())
}

/// Bytes that the values of gets or puts bring over so many hops, a second of CPU.
async fn carried(settings: &Settings, cluster: &Cluster, reads: bool, hops: f64) -> Result<f64> {
    let measured = cluster.run(&spec(reads, LARGE_KEYS, MIB, LARGE_IN_FLIGHT, settings.span)).await?;
    let carried = hops * MIB as f64 / (measured.cpu_us / 1e6);
    let largest = cluster.nodes.pids().into_iter().map(cpu::resident).max().unwrap_or(0) / MIB as u64;
    let (op, throughput) = (op(reads), measured.report.throughput());
    println!("{op} {:.0}, {throughput:.0} a second, largest node {largest} MiB", carried / 1e6);
    Ok(carried)
}
