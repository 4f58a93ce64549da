//! `bench`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use dynkv::client::load::{self, Distribution, LoadReport, LoadSpec};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::context::{BucketArg, Context};
use super::exit::{Exit, Failure};
use super::output::{Columns, Out, count};
use super::quorum::{ReadQuorum, WriteQuorum};

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// What `net.max_value` may be at most.
const LARGEST: ByteSize = ByteSize::mib(64);

/// Load the cluster and measure.
///
/// With --rate an open loop: requests are due at fixed times whatever becomes of earlier ones, and latency counts from the time
/// a request was due, so that a stall shows in full. Without it a closed loop: --in-flight requests at all times, for throughput.
/// It writes keys key-0000000000 and so on: use a bucket of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli bench --mix 95:5 --duration 30s
  dynkv-cli bench --rate 20000 --dist zipf --hist latency.hgrm
  dynkv-cli bench --mix 0:100 --keys 1000000 --value-size 100B --no-context")]
pub struct Args {
    #[command(flatten)]
    bucket: BucketArg,
    /// Requests a second: an open loop.
    #[arg(long, value_parser = parse_rate)]
    rate: Option<f64>,
    /// Requests under way at the same time; in an open loop the most there may be.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: Option<u16>,
    /// Reads to writes, in hundred requests.
    #[arg(long, default_value = "95:5", value_parser = parse_mix, value_name = "READS:WRITES")]
    mix: u8,
    /// How keys are picked.
    #[arg(long, value_enum, default_value_t)]
    dist: Dist,
    /// Distinct keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// For how long.
    #[arg(long, default_value = "10s", value_parser = parse_span)]
    duration: Duration,
    /// Bytes of a value.
    #[arg(long, default_value = "1KiB", value_parser = parse_size)]
    value_size: ByteSize,
    /// Write the latency distribution to this file (.hgrm, which HdrHistogram's plotters read; milliseconds).
    #[arg(long, value_name = "FILE")]
    hist: Option<PathBuf>,
    /// Do not read before each write: each is a sibling of all before it, up to the most a key may have.
    #[arg(long)]
    no_context: bool,
    /// The same seed makes the same sequence of keys and kinds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    read: ReadQuorum,
    #[command(flatten)]
    write: WriteQuorum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Dist {
    /// All alike.
    #[default]
    Uniform,
    /// Few keys get most requests, as in YCSB.
    Zipf,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.1 to 10000000".to_owned()),
    }
}

fn parse_span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span <= LONGEST => Ok(span),
        Ok(_) => Err("at most 30days".to_owned()),
        Err(error) => Err(format!("{error}, for example 30s or 5m")),
    }
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size <= LARGEST => Ok(size),
        Ok(_) => Err(format!("at most {LARGEST}")),
        Err(error) => Err(format!("{error}, for example 1KiB")),
    }
}

fn parse_mix(text: &str) -> Result<u8, String> {
    let number = |text: &str| text.parse::<u8>().ok();
    let parts = text.split_once(':').and_then(|(reads, writes)| Some((number(reads)?, number(writes)?)));
    match parts {
        Some((reads, writes)) if u16::from(reads) + u16::from(writes) == 100 => Ok(reads),
        _ => Err("two numbers that make 100, as in 95:5".to_owned()),
    }
}

#[derive(Serialize)]
struct Document {
    open_loop: bool,
    ops: u64,
    ops_per_second: f64,
    missing: u64,
    errors: u64,
    unsent: u64,
    seconds: f64,
    latency: Percentiles,
    reads: Percentiles,
    writes: Percentiles,
}

/// Milliseconds.
#[derive(Serialize)]
struct Percentiles {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Percentiles {
    fn new(histogram: &Histogram<u64>) -> Percentiles {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }

    fn cells(&self, what: &str) -> Vec<String> {
        let Percentiles { count, p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = self;
        let times = [p50_ms, p90_ms, p99_ms, p999_ms, max_ms].map(|ms| format!("{ms:.2}"));
        [what.to_owned(), count.to_string()].into_iter().chain(times).collect()
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let spec = spec(&args);
    let client = context.connect().await?;
    if !context.quiet() {
        eprintln!("{}", describe(&spec));
    }
    let bar = context.progress(None, "running");
    bar.enable_steady_tick(Duration::from_millis(200));
    let report = load::run(&client, &spec).await;
    bar.finish_and_clear();
    if let Some(path) = &args.hist {
        std::fs::write(path, hgrm(&report.latency))
            .map_err(|error| Failure::new(Exit::Error, format!("cannot write {}: {error}", path.display())))?;
    }
    context.show(&document(&report, spec.rate.is_some()), print)?;
    if let Some(error) = &report.last_error {
        let failed = format!("{} failed, the last one so: {error}", count(report.errors, "request"));
        let exit = if report.ops == 0 { Exit::Unavailable } else { Exit::Partly };
        return Err(Failure::new(exit, failed));
    }
    Ok(Exit::Ok)
}

fn spec(args: &Args) -> LoadSpec {
    // an open loop is bounded by what the client can have under way, and should not be by less
    let in_flight = args.in_flight.unwrap_or(if args.rate.is_some() { 1024 } else { 64 });
    LoadSpec {
        bucket: args.bucket.bucket.clone(),
        in_flight: in_flight.into(),
        rate: args.rate,
        duration: args.duration,
        reads_percent: args.mix,
        keys: args.keys,
        distribution: match args.dist {
            Dist::Uniform => Distribution::Uniform,
            Dist::Zipf => Distribution::Zipf,
        },
        value_size: args.value_size.as_u64() as usize,
        read: args.read.options(),
        write: args.write.options(),
        read_before_write: !args.no_context,
        seed: args.seed,
    }
}

fn describe(spec: &LoadSpec) -> String {
    let how = match spec.rate {
        Some(rate) => format!("open loop, {rate} requests a second, at most {} in flight", spec.in_flight),
        None => format!("closed loop, {} in flight", spec.in_flight),
    };
    let keys = match spec.distribution {
        Distribution::Uniform => "evenly",
        Distribution::Zipf => "zipf",
    };
    format!(
        "{how}, {}: {} % reads, {} picked {keys}, values of {}",
        humantime::format_duration(spec.duration),
        spec.reads_percent,
        count(spec.keys, "key"),
        ByteSize(spec.value_size as u64),
    )
}

fn document(report: &LoadReport, open_loop: bool) -> Document {
    Document {
        open_loop,
        ops: report.ops,
        ops_per_second: report.throughput(),
        missing: report.missing,
        errors: report.errors,
        unsent: report.unsent,
        seconds: report.elapsed.as_secs_f64(),
        latency: Percentiles::new(&report.latency),
        reads: Percentiles::new(&report.reads),
        writes: Percentiles::new(&report.writes),
    }
}

fn print(document: &Document, out: &mut Out) -> Result<(), Failure> {
    let Document { ops, ops_per_second, missing, errors, unsent, seconds, .. } = document;
    out.line(format!(
        "{ops_per_second:.0} requests a second  ({ops} in {seconds:.1} s, {errors} failed, {missing} found nothing)"
    ))?;
    if *unsent > 0 {
        out.line(format!("{unsent} requests were due and never sent: the cluster is slower than the rate"))?;
    }
    out.line("")?;
    let headings = ["MILLISECONDS", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"];
    let mut columns = Columns::new(&headings).right(&[1, 2, 3, 4, 5, 6]);
    for (what, percentiles) in [("all", &document.latency), ("reads", &document.reads), ("writes", &document.writes)] {
        if percentiles.count > 0 || what == "all" {
            columns.row(percentiles.cells(what));
        }
    }
    columns.print(out)
}

/// HdrHistogram's own text form of a distribution.
fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1000.0, step.quantile_iterated_to());
        let written = if quantile < 1.0 {
            writeln!(text, "{value:12.3} {quantile:14.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, "{value:12.3} {quantile:14.12} {total:10}")
        };
        written.expect("writing to a string does not fail");
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    let (max, len) = (histogram.max() as f64 / 1000.0, histogram.len());
    text + &format!(
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n#[Max     = {max:12.3}, Total count    = {len:12}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_make_a_hundred() {
        assert_eq!((parse_mix("95:5"), parse_mix("0:100")), (Ok(95), Ok(0)));
        for bad in ["95", "95:6", "a:b", "101:-1", "200:156", ""] {
            assert!(parse_mix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_durations_have_bounds() {
        assert_eq!((parse_span("5m"), parse_size("64MiB")), (Ok(Duration::from_secs(300)), Ok(LARGEST)));
        assert!(parse_span("1000years").is_err() && parse_span("5").is_err());
        assert!(parse_size("65MiB").is_err() && parse_size("x").is_err());
    }

    #[test]
    fn rates_have_bounds() {
        assert_eq!(parse_rate("20000"), Ok(20000.0));
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn distributions_end_at_the_maximum() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000).for_each(|micros| histogram.record(micros * 1000).unwrap());
        let text = hgrm(&histogram);
        let last = text.lines().rev().find(|line| !line.starts_with('#')).unwrap();
        assert!(last.contains("1.000000000000       1000"), "{last}");
        assert!(text.starts_with("       Value     Percentile"));
    }
}
