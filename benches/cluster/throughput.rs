//! Throughput and CPU of an operation over the requests in flight, against the floor.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;

use crate::cluster::{Cluster, Measured, spec};
use crate::floor::{Floor, Stores};
use crate::plot::{Chart, Scale, Series};
use crate::rounds::{ROUNDS, Rounds};
use crate::trees::{self, Upkeep};
use crate::{BUSY, KEYS, Settings, op, verdict};

const IN_FLIGHT: [usize; 5] = [1, 8, 64, 256, BUSY];
const KIB: usize = 1024;
const SIZES: [usize; 2] = [100, KIB];
/// At most so many times the floor.
const RATIO: f64 = 2.0;
/// Of the throughput without syncs.
const SYNCED: f64 = 0.8;

/// What is put on a cluster.
#[derive(Clone, Copy)]
struct Load<'a> {
    cluster: &'a Cluster,
    reads: bool,
    size: usize,
}

pub async fn run(settings: &Settings) -> Result<()> {
    let (mut charts, mut put_us) = (Vec::new(), BTreeMap::new());
    for size in SIZES {
        let stores = Arc::new(settings.blocking(move || Stores::fill(size, KEYS)).await?);
        let os = Cluster::filled(3, "os", KEYS, size).await?;
        let always = Cluster::filled(3, "always", KEYS, size).await?;
        put_us.insert(size, against_floor(settings, &stores, size, [&os, &always]).await?);
        drop(stores);
        head();
        for reads in [false, true] {
            charts.push(over_in_flight(settings, Load { cluster: &os, reads, size }).await?);
            // Its lines are printed, and not drawn.
            over_in_flight(settings, Load { cluster: &always, reads, size }).await?;
        }
        os.close().await;
        always.close().await;
    }
    let Upkeep { with, without } = settings.blocking(|| trees::measure(KIB)).await?;
    let share = 3.0 * (with - without) / put_us[&KIB] * 100.0;
    println!(
        "Merkle trees: {with:.2} us a write in a store with them, {without:.2} without; three: {share:.1} % of a put of 1 KiB"
    );
    let chart = Chart {
        title: "Throughput over requests in flight (3 nodes, 2 cores)",
        x: ("requests in flight", Scale::Log),
        y: ("requests a second", Scale::Linear),
    };
    chart.write("throughput", &charts)
}

/// With many in flight: the cluster over its floor, and with syncs over without. Returns the CPU of a put without, us.
async fn against_floor(
    settings: &Settings,
    stores: &Arc<Stores>,
    size: usize,
    [os, always]: [&Cluster; 2],
) -> Result<f64> {
    let load = |cluster, reads| Load { cluster, reads, size };
    let (mut puts, mut gets, mut synced) = (Rounds::default(), Rounds::default(), Rounds::default());
    let mut put_us = 0.0;
    for _ in 0..ROUNDS {
        let stores = stores.clone();
        let floor = settings.blocking(move || Floor::of(&stores, size)).await?;
        show(size, &floor);
        let put = load(os, false).measure(settings, BUSY).await?;
        let get = load(os, true).measure(settings, BUSY).await?;
        let put_synced = load(always, false).measure(settings, BUSY).await?;
        puts.push(put.cpu_us, floor.put());
        gets.push(get.cpu_us, floor.get());
        synced.push(put_synced.report.throughput(), put.report.throughput());
        put_us += put.cpu_us / ROUNDS as f64;
    }
    for (op, rounds) in [("puts", puts), ("gets", gets)] {
        let what = format!("{op} of {size} B, CPU over the floor's, all together ({rounds})");
        verdict(&what, rounds.of_sums(), RATIO, true);
    }
    let what = format!("puts of {size} B a second, sync = always over os, the middle one ({synced})");
    verdict(&what, synced.middle(), SYNCED, false);
    Ok(put_us)
}

fn show(size: usize, floor: &Floor) {
    let Floor { rewrite, read, send, fetch } = floor;
    println!("\nfloor at {size} B and {KEYS} keys, CPU us (operations a second):");
    for (part, cost) in [("rewrite", rewrite), ("read", read), ("send", send), ("fetch", fetch)] {
        println!("  {part:<8} {:>6.2} ({:.0}k)", cost.cpu_us, cost.per_second / 1000.0);
    }
    println!("  put = 3 rewrites + 3 sends {:.1}, get = 2 reads + 2 fetches {:.1}", floor.put(), floor.get());
    head();
}

fn head() {
    println!(
        "{:<4} {:<7} {:>6} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "op", "sync", "value", "in flight", "ops/s", "CPU us", "p50 us", "p99 us", "p99.9"
    );
}

async fn over_in_flight(settings: &Settings, load: Load<'_>) -> Result<Series> {
    let mut series = Series::new(format!("{} of {} B", op(load.reads), load.size));
    for in_flight in IN_FLIGHT {
        let measured = load.measure(settings, in_flight).await?;
        series.points.push((in_flight as f64, measured.report.throughput()));
    }
    Ok(series)
}

impl Load<'_> {
    /// A closed loop, and its line.
    async fn measure(self, settings: &Settings, in_flight: usize) -> Result<Measured> {
        let Load { cluster, reads, size } = self;
        let measured = cluster.run(&spec(reads, KEYS, size, in_flight, settings.span)).await?;
        println!(
            "{:<4} {:<7} {size:>6} {in_flight:>9} {:>10.0} {:>8.1} {:>8} {:>8} {:>8}",
            op(reads),
            cluster.sync,
            measured.report.throughput(),
            measured.cpu_us,
            measured.at(0.5),
            measured.at(0.99),
            measured.at(0.999)
        );
        Ok(measured)
    }
}
