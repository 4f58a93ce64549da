//! `make bench-check`: instructions of a put and a get through the core, held to the committed `baseline.txt`.
//!
//! Three nodes' shards in one thread on the memory engine, with everything between them and to their clients as encoded frames: what
//! the daemon does, but for the network, the disk and the threads. Instructions are counted by valgrind, and are the same for the same program on
//! the same kind of machine, where times differ by a third from one minute to the next.
//!
//! `cargo bench --bench core` compares, with `--no-default-features` where RocksDB is not built (the counts are the same within a fiftieth); with
//! `-- --renew` it writes the base line anew. `-- run WHAT COUNT` is what valgrind runs.
#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark prints")]

mod cluster;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use self::cluster::Cluster;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/core/baseline.txt");
/// More than this over the base line is too much; less than this below it means that the base line is old.
const TOLERATED: f64 = 0.05;
/// Operations of two runs, whose difference leaves out the start.
const COUNTS: [u64; 2] = [2_000, 6_000];
const CASES: [&str; 4] = ["put-100", "put-1024", "get-100", "get-1024"];

fn main() -> Result<()> {
    // Cargo adds one of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", case, count] => run(case, count.parse()?),
        ["--renew"] => renew(&measure()?),
        [] => check(&measure()?),
        _ => bail!("nothing, or --renew, or: run {} COUNT", CASES.join("|")),
    }
}

fn run(case: &str, count: u64) -> Result<()> {
    let (op, size) = case.split_once('-').context("WHAT is an operation and a size")?;
    let mut cluster = Cluster::new(size.parse()?);
    match op {
        "put" => cluster.puts(count),
        "get" => {
            cluster.puts(cluster::KEYS)?;
            cluster.gets(count)
        }
        _ => bail!("{op} is neither put nor get"),
    }
}

/// Instructions of one operation, by case.
fn measure() -> Result<BTreeMap<String, f64>> {
    let mut costs = BTreeMap::new();
    for case in CASES {
        let [few, many] = COUNTS;
        let difference = counted(case, many)? - counted(case, few)?;
        costs.insert(case.to_owned(), difference as f64 / (many - few) as f64);
    }
    Ok(costs)
}

/// Instructions of a whole run.
fn counted(case: &str, count: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", case, &count.to_string()])
        .output()
        .context("valgrind counts the instructions: install it (Debian: apt-get install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{case}: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).context("valgrind names a count")?;
    Ok(line.1.trim().parse()?)
}

fn check(costs: &BTreeMap<String, f64>) -> Result<()> {
    let baseline = baseline(&fs::read_to_string(BASELINE).with_context(|| format!("reading {BASELINE}"))?)?;
    println!("{:<10} {:>14} {:>10} {:>7}", "operation", "instructions", "base line", "ratio");
    let mut worse = Vec::new();
    for (case, cost) in costs {
        let before = baseline.get(case).with_context(|| format!("{case} is not in the base line: renew it"))?;
        let ratio = cost / before;
        println!("{case:<10} {cost:>14.0} {before:>10.0} {ratio:>7.3}");
        if ratio > 1.0 + TOLERATED {
            worse.push(case.as_str());
        } else if ratio < 1.0 - TOLERATED {
            println!(
                "  {case} has become cheaper: renew the base line (make bench-check RENEW=1), lest that be lost unnoticed"
            );
        }
    }
    let tolerated = TOLERATED * 100.0;
    ensure!(
        worse.is_empty(),
        "more than {tolerated:.0} % over the base line: {}. If that is meant, say why in the commit that renews it: make bench-check RENEW=1",
        worse.join(", ")
    );
    Ok(())
}

fn baseline(text: &str) -> Result<BTreeMap<String, f64>> {
    let line = |line: &str| {
        let (case, cost) = line.split_once(' ').with_context(|| format!("an operation and a count, not {line:?}"))?;
        anyhow::Ok((case.to_owned(), cost.trim().parse()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

fn renew(costs: &BTreeMap<String, f64>) -> Result<()> {
    let mut text = "# Instructions of one operation through the core, by `make bench-check RENEW=1`.\n".to_owned();
    for (case, cost) in costs {
        text.push_str(&format!("{case} {cost:.0}\n"));
    }
    fs::write(Path::new(BASELINE), &text).with_context(|| format!("writing {BASELINE}"))?;
    print!("{text}");
    Ok(())
}
