//! How the cost of an operation grows with the keys, and with the nodes.

use anyhow::Result;

use crate::cluster::{Cluster, spec};
use crate::floor;
use crate::{KEYS, Settings, verdict};

const SIZE: usize = 100;
const IN_FLIGHT: usize = 512;
/// Of these and the next, the ratio to the floor may grow so much.
const FEW_KEYS: u64 = 10_000;
const MORE_FOR_KEYS: f64 = 1.25;
const NODES: [usize; 2] = [3, 9];
const MORE_FOR_NODES: f64 = 1.15;

/// From few keys to many.
pub async fn keys(settings: &Settings) -> Result<()> {
    println!("\nCPU us an operation of {SIZE} B at {IN_FLIGHT} in flight, its floor at as many keys, and the ratio");
    let mut ratios = Vec::new();
    for keys in [FEW_KEYS, settings.many_keys] {
        let floor = settings.blocking(move || floor::measure(SIZE, keys)).await?;
        let cluster = Cluster::filled(3, "os", keys, SIZE).await?;
        let put = cluster.run(&spec(false, keys, SIZE, IN_FLIGHT, settings.span)).await?.cpu_us;
        let get = cluster.run(&spec(true, keys, SIZE, IN_FLIGHT, settings.span)).await?.cpu_us;
        cluster.close().await;
        let [of_put, of_get] = [put / floor.put(), get / floor.get()];
        println!("{keys:>9} keys  put {put:.1} over {:.1}: {of_put:.2}", floor.put());
        println!("{keys:>9} keys  get {get:.1} over {:.1}: {of_get:.2}", floor.get());
        ratios.push([of_put, of_get]);
    }
    verdict("puts, ratio at many keys over that at few", ratios[1][0] / ratios[0][0], MORE_FOR_KEYS, true);
    verdict("gets, ratio at many keys over that at few", ratios[1][1] / ratios[0][1], MORE_FOR_KEYS, true);
    Ok(())
}

/// From three nodes to nine, with as many requests in flight at each.
pub async fn nodes(settings: &Settings) -> Result<()> {
    println!("\nCPU us an operation of {SIZE} B, {} in flight for each node", IN_FLIGHT / 3);
    let mut costs = Vec::new();
    for nodes in NODES {
        let cluster = Cluster::filled(nodes, "os", KEYS, SIZE).await?;
        let in_flight = IN_FLIGHT / 3 * nodes;
        let put = cluster.run(&spec(false, KEYS, SIZE, in_flight, settings.span)).await?;
        let get = cluster.run(&spec(true, KEYS, SIZE, in_flight, settings.span)).await?;
        cluster.close().await;
        println!("{nodes} nodes  put {:.1}  get {:.1}", put.cpu_us, get.cpu_us);
        costs.push([put.cpu_us, get.cpu_us]);
    }
    verdict("puts, nine nodes over three", costs[1][0] / costs[0][0], MORE_FOR_NODES, true);
    verdict("gets, nine nodes over three", costs[1][1] / costs[0][1], MORE_FOR_NODES, true);
    Ok(())
}
