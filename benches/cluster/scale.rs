//! How the cost of an operation grows with the keys, and with the nodes.

use std::sync::Arc;

use anyhow::Result;

use crate::cluster::{Cluster, spec};
use crate::floor::{Floor, Stores};
use crate::rounds::{ROUNDS, Rounds};
use crate::{BUSY, KEYS, Settings, verdict};

const SIZE: usize = 100;
/// Of these and the next, the ratio to the floor may grow so much.
const FEW_KEYS: u64 = 10_000;
const MORE_FOR_KEYS: f64 = 1.25;
const NODES: [usize; 2] = [3, 9];
const MORE_FOR_NODES: f64 = 1.15;

/// Of a put and of a get: CPU us, or that over the floor's.
type Costs = [f64; 2];

/// From few keys to many.
pub async fn keys(settings: &Settings) -> Result<()> {
    println!("\nCPU us an operation of {SIZE} B at {BUSY} in flight, its floor at as many keys, and the ratio");
    let counts = [FEW_KEYS, settings.many_keys];
    let mut sides = Vec::new();
    for keys in counts {
        let stores = settings.blocking(move || Stores::fill(SIZE, keys)).await?;
        sides.push((Arc::new(stores), Cluster::filled(3, "os", keys, SIZE).await?));
    }
    let mut growth = Growth::default();
    for _ in 0..ROUNDS {
        let mut ratios = [[0.0; 2]; 2];
        for ((keys, (stores, cluster)), ratios) in counts.into_iter().zip(&sides).zip(&mut ratios) {
            let stores = stores.clone();
            let floor = settings.blocking(move || Floor::of(&stores, SIZE)).await?;
            let [put, get] = costs(settings, cluster, keys, BUSY).await?;
            *ratios = [put / floor.put(), get / floor.get()];
            println!("{keys:>9} keys  put {put:.1} over {:.1}: {:.2}", floor.put(), ratios[0]);
            println!("{keys:>9} keys  get {get:.1} over {:.1}: {:.2}", floor.get(), ratios[1]);
        }
        growth.push(ratios);
    }
    for (_, cluster) in sides {
        cluster.close().await;
    }
    growth.verdicts("ratio at many keys over that at few", MORE_FOR_KEYS);
    Ok(())
}

/// From three nodes to nine, with as many requests in flight at each.
pub async fn nodes(settings: &Settings) -> Result<()> {
    println!("\nCPU us an operation of {SIZE} B, {} in flight for each node", BUSY / 3);
    let mut clusters = Vec::new();
    for nodes in NODES {
        clusters.push(Cluster::filled(nodes, "os", KEYS, SIZE).await?);
    }
    let mut growth = Growth::default();
    for _ in 0..ROUNDS {
        let mut both = [[0.0; 2]; 2];
        for ((nodes, cluster), measured) in NODES.into_iter().zip(&clusters).zip(&mut both) {
            *measured = costs(settings, cluster, KEYS, BUSY / 3 * nodes).await?;
            println!("{nodes} nodes  put {:.1}  get {:.1}", measured[0], measured[1]);
        }
        growth.push(both);
    }
    for cluster in clusters {
        cluster.close().await;
    }
    growth.verdicts("nine nodes over three", MORE_FOR_NODES);
    Ok(())
}

/// CPU us of a put and of a get.
async fn costs(settings: &Settings, cluster: &Cluster, keys: u64, in_flight: usize) -> Result<Costs> {
    let put = cluster.run(&spec(false, keys, SIZE, in_flight, settings.span)).await?;
    let get = cluster.run(&spec(true, keys, SIZE, in_flight, settings.span)).await?;
    Ok([put.cpu_us, get.cpu_us])
}

/// By how much the second side of each round is dearer than the first, of puts and of gets.
#[derive(Default)]
struct Growth([Rounds; 2]);

impl Growth {
    fn push(&mut self, [first, second]: [Costs; 2]) {
        self.0.iter_mut().zip(second).zip(first).for_each(|((rounds, second), first)| rounds.push(second, first));
    }

    fn verdicts(&self, what: &str, most: f64) {
        for (op, rounds) in ["puts", "gets"].into_iter().zip(&self.0) {
            verdict(&format!("{op}, {what}, the middle one ({rounds})"), rounds.middle(), most, true);
        }
    }
}
