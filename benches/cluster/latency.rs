//! Latency: of a request that is alone, and over an open load.

use std::time::Duration;

use anyhow::Result;
use dynkv::client::load::LoadSpec;

use crate::cluster::{Cluster, Measured, spec};
use crate::floor::{Echo, Other, Stores};
use crate::plot::{Chart, Scale, Series};
use crate::{KEYS, Settings, verdict};

const SIZE: usize = 1024;
const SHORT: usize = 64;
/// Of its two round trips, a get that is alone may take so much.
const ALONE: f64 = 2.0;
/// Where the peak is looked for, and how many requests of an open load may be under way.
const AT_PEAK: usize = 512;
const UNDER_WAY: usize = 4096;
/// Parts of the peak that the chart shows, and the one that is held to a bound.
const SHARES: [f64; 5] = [0.1, 0.3, 0.5, 0.6, 0.7];
const SHARE: f64 = 0.7;
/// Over the floor's at the same share.
const TAIL: f64 = 2.0;

/// One request in flight.
pub async fn alone(settings: &Settings) -> Result<()> {
    let echo = Echo { ask: SHORT, answer: SIZE };
    let here = echo.alone(settings.span, Other::Here).await?.value_at_quantile(0.5);
    let trip = echo.alone(settings.span, Other::Apart).await?.value_at_quantile(0.5);
    let cluster = Cluster::filled(3, "os", KEYS, SIZE).await?;
    let get = cluster.run(&spec(true, KEYS, SIZE, 1, settings.span)).await?;
    let put = cluster.run(&spec(false, KEYS, SIZE, 1, settings.span)).await?;
    cluster.close().await;
    println!(
        "\none in flight, {SIZE} B, p50 us: get {}, put {}; a raw round trip between processes {trip}, within one {here}",
        get.at(0.5),
        put.at(0.5)
    );
    verdict("a get alone over its two round trips", get.at(0.5) as f64 / (2 * trip) as f64, ALONE, true);
    Ok(())
}

/// An open load, so heavy that tables are flushed and compacted meanwhile.
pub async fn tail(settings: &Settings) -> Result<()> {
    println!("\nopen load of {SIZE} B, us from when a request is due");
    let mut charts = Vec::new();
    for reads in [false, true] {
        let floor = floor_tail(settings, reads).await?;
        let cluster = Cluster::filled(3, "os", KEYS, SIZE).await?;
        let peak = cluster.run(&spec(reads, KEYS, SIZE, AT_PEAK, at_peak(settings))).await?.report.throughput();
        let op = if reads { "gets" } else { "puts" };
        let [mut p50, mut p99] = [("p50", op), ("p99", op)].map(|(part, op)| Series::new(format!("{op}, {part}")));
        for share in SHARES {
            let span = if share == SHARE { settings.tail } else { settings.span };
            let measured = cluster.run(&open(reads, peak * share, span)).await?;
            line(&format!("{op} at {:.0} % of {peak:.0} a second", share * 100.0), &measured);
            p50.points.push((share * peak, measured.at(0.5) as f64));
            p99.points.push((share * peak, measured.at(0.99) as f64));
            if share == SHARE {
                for (quantile, floor) in [(0.99, floor[0]), (0.999, floor[1])] {
                    let name = format!("{op}, p{} over the floor's", quantile * 100.0);
                    verdict(&name, measured.over(floor, quantile), TAIL, true);
                }
            }
        }
        charts.extend([p50, p99]);
        cluster.close().await;
    }
    let chart = Chart {
        title: "Latency over an open load (3 nodes, 2 cores, 1 KiB)",
        x: ("requests a second", Scale::Linear),
        y: ("microseconds", Scale::Log),
    };
    chart.write("latency", &charts)
}

/// How long a peak has to hold: one that leaves its flushes and compactions for later is none.
fn at_peak(settings: &Settings) -> Duration {
    settings.span.max(settings.tail / 3)
}

fn open(reads: bool, rate: f64, span: Duration) -> LoadSpec {
    LoadSpec { rate: Some(rate), ..spec(reads, KEYS, SIZE, UNDER_WAY, span) }
}

fn line(what: &str, measured: &Measured) {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| measured.at(quantile));
    let (cpu_us, unsent) = (measured.cpu_us, measured.report.unsent);
    println!("{what:<40} p50 {p50:>7}  p99 {p99:>7}  p99.9 {p999:>7}  CPU us {cpu_us:.1}, {unsent} never sent");
}

/// p99 and p99.9 of the parts at the same share of their own peaks: of the stream and of the store, whichever is longer.
async fn floor_tail(settings: &Settings, reads: bool) -> Result<[u64; 2]> {
    let echo = if reads { Echo { ask: SHORT, answer: SIZE } } else { Echo { ask: SIZE, answer: SHORT } };
    let peak = echo.closed(at_peak(settings)).await?.per_second;
    let stream = echo.paced(settings.tail, peak * SHARE).await?;
    let (span, tail) = (at_peak(settings), settings.tail);
    let store = settings
        .blocking(move || {
            let stores = Stores::fill(SIZE, KEYS)?;
            let peak = if reads { stores.read(span)? } else { stores.rewrite(span)? }.per_second;
            stores.paced(tail, peak * SHARE, !reads)
        })
        .await?;
    for (part, latency) in [("echo", &stream), ("store", &store)] {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| latency.value_at_quantile(quantile));
        println!("floor: {part:<5} at 70 % of its peak{:>10} p50 {p50:>7}  p99 {p99:>7}  p99.9 {p999:>7}", "");
    }
    Ok([0.99, 0.999].map(|quantile| stream.value_at_quantile(quantile).max(store.value_at_quantile(quantile))))
}
