//! Latency: of a request that is alone, and over an open load.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dynkv::client::load::LoadSpec;
use hdrhistogram::Histogram;

use crate::cluster::{Cluster, Measured, spec};
use crate::floor::{Echo, Other, Stores, histogram};
use crate::plot::{Chart, Scale, Series};
use crate::rounds::Rounds;
use crate::{BUSY, KEYS, Settings, op, verdict};

const SIZE: usize = 1024;
const SHORT: usize = 64;
/// Of its two round trips, a get that is alone may take so much.
const ALONE: f64 = 2.0;
/// How many requests of an open load may be under way.
const UNDER_WAY: usize = 4096;
/// How often the open load that is held to a bound is made, and those of the parts before and after it.
const TAIL_ROUNDS: usize = 3;
/// Parts of the peak that the chart shows, and the one that is held to a bound.
const SHARES: [f64; 5] = [0.1, 0.3, 0.5, 0.6, 0.7];
const SHARE: f64 = 0.7;
/// Over the floor's at the same share.
const TAIL: f64 = 2.0;
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
/// Those that are held to a bound.
const HELD: [f64; 2] = [0.99, 0.999];

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
        let loaded = Loaded::at_peak(settings, reads).await?;
        let at_share = loaded.against_floor(settings).await?;
        let [mut p50, mut p99] = ["p50", "p99"].map(|part| Series::new(format!("{}, {part}", op(reads))));
        for share in SHARES {
            let latency = if share == SHARE { at_share.clone() } else { loaded.at(share, settings.unheld()).await? };
            for (series, quantile) in [(&mut p50, 0.5), (&mut p99, 0.99)] {
                let at = done(&latency, quantile).map(|us| (share * loaded.peaks.cluster, us as f64));
                series.points.extend(at);
            }
        }
        charts.extend([p50, p99]);
        loaded.cluster.close().await;
    }
    let chart = Chart {
        title: "Latency over an open load (3 nodes, 2 cores, 1 KiB)",
        x: ("requests a second", Scale::Linear),
        y: ("microseconds", Scale::Log),
    };
    chart.write("latency", &charts)
}

/// The cluster and the parts, with gets or puts, and the peak of each.
struct Loaded {
    reads: bool,
    echo: Echo,
    stores: Arc<Stores>,
    cluster: Cluster,
    peaks: Peaks,
}

/// Operations a second.
struct Peaks {
    echo: f64,
    stores: f64,
    cluster: f64,
}

impl Loaded {
    /// A peak has to last: one that leaves its flushes and compactions for later is none.
    async fn at_peak(settings: &Settings, reads: bool) -> Result<Loaded> {
        let span = settings.span.max(settings.unheld());
        let echo = if reads { Echo { ask: SHORT, answer: SIZE } } else { Echo { ask: SIZE, answer: SHORT } };
        let stores = Arc::new(settings.blocking(|| Stores::fill(SIZE, KEYS)).await?);
        let cluster = Cluster::filled(3, "os", KEYS, SIZE).await?;
        let raw = stores.clone();
        let peaks = Peaks {
            echo: echo.closed(span).await?.per_second,
            stores: settings.blocking(move || if reads { raw.read(span) } else { raw.rewrite(span) }).await?.per_second,
            cluster: cluster.run(&spec(reads, KEYS, SIZE, BUSY, span)).await?.report.throughput(),
        };
        Ok(Loaded { reads, echo, stores, cluster, peaks })
    }

    /// Rounds of the cluster's open load between those of the parts. The middle latency is held to the bound, and no round may leave
    /// so much undone that the quantile would be of that. The cluster's load is not cut up: what it leaves to do would be done
    /// between the pieces. Returns its latencies in all rounds.
    async fn against_floor(&self, settings: &Settings) -> Result<Histogram<u64>> {
        let span = settings.unheld();
        let mut all = histogram();
        let mut over = HELD.map(|_| Rounds::default());
        for _ in 0..TAIL_ROUNDS {
            let stream = self.echo.paced(span, self.peaks.echo * SHARE).await?;
            line("floor: echo", &stream);
            let latency = self.at(SHARE, settings.tail).await?;
            let (raw, rate, writes) = (self.stores.clone(), self.peaks.stores * SHARE, !self.reads);
            let stores = settings.blocking(move || raw.paced(span, rate, writes)).await?;
            line("floor: stores", &stores);
            for (rounds, quantile) in over.iter_mut().zip(HELD) {
                let figure = done(&latency, quantile).map_or(f64::INFINITY, |us| us as f64);
                let floor = stream.value_at_quantile(quantile).max(stores.value_at_quantile(quantile));
                rounds.push(figure, floor as f64);
            }
            all += &latency;
        }
        for (rounds, quantile) in over.iter().zip(HELD) {
            let percent = quantile * 100.0;
            let what =
                format!("{}, p{percent}, the middle one over the middle one of the floor's ({rounds})", op(self.reads));
            verdict(&what, rounds.of_middles(), TAIL, true);
        }
        Ok(all)
    }

    /// The cluster's latencies at this share of its peak. What was never sent or failed counts as the latest of all.
    async fn at(&self, share: f64, span: Duration) -> Result<Histogram<u64>> {
        let rate = Some(self.peaks.cluster * share);
        let load = LoadSpec { rate, ..spec(self.reads, KEYS, SIZE, UNDER_WAY, span) };
        let Measured { mut report, cpu_us } = self.cluster.run(&load).await?;
        let (percent, peak) = (share * 100.0, self.peaks.cluster);
        let what = format!("{} at {percent:.0} % of {peak:.0} a second, CPU us {cpu_us:.1}", op(self.reads));
        report.latency.record_n(report.latency.high(), report.unsent + report.errors)?;
        line(&format!("{what}, {} never sent", report.unsent), &report.latency);
        if let Some(error) = &report.last_error {
            println!("{} more failed: {error}", report.errors);
        }
        Ok(report.latency)
    }
}

/// Microseconds, unless the quantile is of requests that were never done, or there were none.
fn done(latency: &Histogram<u64>, quantile: f64) -> Option<u64> {
    Some(latency.value_at_quantile(quantile)).filter(|us| *us < latency.high() && !latency.is_empty())
}

fn line(what: &str, latency: &Histogram<u64>) {
    let [p50, p99, p999] =
        QUANTILES.map(|quantile| done(latency, quantile).map_or_else(|| "never".to_owned(), |us| us.to_string()));
    println!("{what:<64} p50 {p50:>7}  p99 {p99:>7}  p99.9 {p999:>7}");
}
