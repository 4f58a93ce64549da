//! How the cost of an operation grows with the keys, and with the nodes.

use std::sync::Arc;

use anyhow::Result;

use crate::cluster::{Cluster, spec};
use crate::floor::{Floor, Stores};
use crate::{KEYS, Settings, verdict};

const SIZE: usize = 100;
const IN_FLIGHT: usize = 512;
/// Of these and the next, the ratio to the floor may grow so much.
const FEW_KEYS: u64 = 10_000;
const MORE_FOR_KEYS: f64 = 1.25;
const NODES: [usize; 2] = [3, 9];
const MORE_FOR_NODES: f64 = 1.15;
/// How often both are measured in turns: the machine's pace drifts by more than what is looked for.
const ROUNDS: usize = 5;

/// Of a put and of a get: CPU us, or that over the floor's.
type Costs = [f64; 2];

/// From few keys to many.
pub async fn keys(settings: &Settings) -> Result<()> {
    println!("\nCPU us an operation of {SIZE} B at {IN_FLIGHT} in flight, its floor at as many keys, and the ratio");
    let counts = [FEW_KEYS, settings.many_keys];
    let mut sides = Vec::new();
    for keys in counts {
        let stores = settings.blocking(move || Stores::fill(SIZE, keys)).await?;
        sides.push((Arc::new(stores), Cluster::filled(3, "os", keys, SIZE).await?));
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut ratios = [[0.0; 2]; 2];
        for ((keys, (stores, cluster)), ratios) in counts.into_iter().zip(&sides).zip(&mut ratios) {
            let stores = stores.clone();
            let floor = settings.blocking(move || Floor::of(&stores, SIZE)).await?;
            let [put, get] = costs(settings, cluster, keys, IN_FLIGHT).await?;
            *ratios = [put / floor.put(), get / floor.get()];
            println!("{keys:>9} keys  put {put:.1} over {:.1}: {:.2}", floor.put(), ratios[0]);
            println!("{keys:>9} keys  get {get:.1} over {:.1}: {:.2}", floor.get(), ratios[1]);
        }
        rounds.push(ratios);
    }
    for (_, cluster) in sides {
        cluster.close().await;
    }
    let [puts, gets] = growth(&rounds);
    verdict("puts, ratio at many keys over that at few", puts, MORE_FOR_KEYS, true);
    verdict("gets, ratio at many keys over that at few", gets, MORE_FOR_KEYS, true);
    Ok(())
}

/// From three nodes to nine, with as many requests in flight at each.
pub async fn nodes(settings: &Settings) -> Result<()> {
    println!("\nCPU us an operation of {SIZE} B, {} in flight for each node", IN_FLIGHT / 3);
    let mut clusters = Vec::new();
    for nodes in NODES {
        clusters.push(Cluster::filled(nodes, "os", KEYS, SIZE).await?);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut both = [[0.0; 2]; 2];
        for ((nodes, cluster), measured) in NODES.into_iter().zip(&clusters).zip(&mut both) {
            *measured = costs(settings, cluster, KEYS, IN_FLIGHT / 3 * nodes).await?;
            println!("{nodes} nodes  put {:.1}  get {:.1}", measured[0], measured[1]);
        }
        rounds.push(both);
    }
    for cluster in clusters {
        cluster.close().await;
    }
    let [puts, gets] = growth(&rounds);
    verdict("puts, nine nodes over three", puts, MORE_FOR_NODES, true);
    verdict("gets, nine nodes over three", gets, MORE_FOR_NODES, true);
    Ok(())
}

/// CPU us of a put and of a get.
async fn costs(settings: &Settings, cluster: &Cluster, keys: u64, in_flight: usize) -> Result<Costs> {
    let put = cluster.run(&spec(false, keys, SIZE, in_flight, settings.span)).await?;
    let get = cluster.run(&spec(true, keys, SIZE, in_flight, settings.span)).await?;
    Ok([put.cpu_us, get.cpu_us])
}

/// By how much the second of each round is dearer than the first: the middle one of all rounds, of puts and of gets.
fn growth(rounds: &[[Costs; 2]]) -> Costs {
    [0, 1].map(|op| {
        let mut ratios: Vec<f64> = rounds.iter().map(|[few, many]| many[op] / few[op]).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    })
}
