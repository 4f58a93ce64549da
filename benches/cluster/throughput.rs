//! Throughput and CPU of an operation over the requests in flight, against the floor.

use anyhow::Result;

use crate::cluster::{Cluster, spec};
use crate::floor::{self, Floor};
use crate::plot::{Chart, Scale, Series};
use crate::trees::{self, Upkeep};
use crate::{KEYS, Settings, verdict};

const IN_FLIGHT: [usize; 5] = [1, 8, 64, 256, 512];
const SIZES: [usize; 2] = [100, 1024];
/// At most so many times the floor.
const RATIO: f64 = 2.0;
/// Of the throughput without syncs.
const SYNCED: f64 = 0.8;

/// A series of the chart, and its last point.
struct Rows {
    series: Series,
    cpu_us: f64,
    peak: f64,
}

pub async fn run(settings: &Settings) -> Result<()> {
    let mut charts = Vec::new();
    let mut put_of_a_kib = f64::NAN;
    for size in SIZES {
        let floor = settings.blocking(move || floor::measure(size, KEYS)).await?;
        show(size, &floor);
        let mut peaks = Vec::new();
        for sync in ["os", "always"] {
            let cluster = Cluster::filled(3, sync, KEYS, size).await?;
            for reads in [false, true] {
                let least = if reads { floor.get() } else { floor.put() };
                let rows = rows(settings, &cluster, (reads, sync, size), least).await?;
                if sync == "os" {
                    let op = name(reads);
                    verdict(&format!("{op} of {size} B, CPU over the floor's"), rows.cpu_us / least, RATIO, true);
                    charts.push(rows.series);
                }
                if (reads, sync, size) == (false, "os", 1024) {
                    put_of_a_kib = rows.cpu_us;
                }
                peaks.extend((!reads).then_some(rows.peak));
            }
            cluster.close().await;
        }
        verdict(&format!("puts of {size} B, sync = always over os"), peaks[1] / peaks[0], SYNCED, false);
    }
    let Upkeep { with, without } = settings.blocking(|| trees::measure(1024)).await?;
    let share = 3.0 * (with - without) / put_of_a_kib * 100.0;
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

fn name(reads: bool) -> &'static str {
    if reads { "get" } else { "put" }
}

fn show(size: usize, floor: &Floor) {
    let Floor { rewrite, read, send, fetch } = floor;
    println!("\nfloor at {size} B and {KEYS} keys, CPU us (operations a second):");
    for (part, cost) in [("rewrite", rewrite), ("read", read), ("send", send), ("fetch", fetch)] {
        println!("  {part:<8} {:>6.2} ({:.0}k)", cost.cpu_us, cost.per_second / 1000.0);
    }
    println!("  put = 3 rewrites + 3 sends {:.1}, get = 2 reads + 2 fetches {:.1}", floor.put(), floor.get());
    println!(
        "{:<4} {:<7} {:>6} {:>9} {:>10} {:>8} {:>7} {:>8} {:>8} {:>8}",
        "op", "sync", "value", "in flight", "ops/s", "CPU us", "ratio", "p50 us", "p99 us", "p99.9"
    );
}

async fn rows(
    settings: &Settings,
    cluster: &Cluster,
    (reads, sync, size): (bool, &str, usize),
    least: f64,
) -> Result<Rows> {
    let mut rows = Rows { series: Series::new(format!("{} {size} B", name(reads))), cpu_us: f64::NAN, peak: 0.0 };
    for in_flight in IN_FLIGHT {
        let measured = cluster.run(&spec(reads, KEYS, size, in_flight, settings.span)).await?;
        let throughput = measured.report.throughput();
        println!(
            "{:<4} {sync:<7} {size:>6} {in_flight:>9} {throughput:>10.0} {:>8.1} {:>7.2} {:>8} {:>8} {:>8}",
            name(reads),
            measured.cpu_us,
            measured.cpu_us / least,
            measured.at(0.5),
            measured.at(0.99),
            measured.at(0.999)
        );
        rows.series.points.push((in_flight as f64, throughput));
        rows.peak = rows.peak.max(throughput);
        rows.cpu_us = measured.cpu_us;
    }
    Ok(rows)
}
