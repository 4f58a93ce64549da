//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use super::load::LoadSpec;
use super::recorder::REPLICAS;
use super::sabotage::Sabotage;
use super::scenario::{Kind, Times};

/// Clients at least: one alone contends with nobody.
const FEWEST_CLIENTS: usize = 2;
/// No node is stopped for longer: that is half of the longest fault.
const LONGEST_FAULT: Duration = Duration::from_secs(60);

/// Starts five real nodes on loopback, lets clients loose on them, injects faults, heals, and has the simulation's oracle judge
/// all that clients were told.
#[derive(Debug, Parser)]
#[command(name = "dynkv-chaos", version, max_term_width = 100)]
#[command(after_help = "\
EXIT CODES
  0 every promise was kept, and tried   1 a promise was broken, a fault had no effect, or too little happened
  2 usage   3 skipped: this machine cannot inject the fault (0 with --allow-skip)

EXAMPLES
  dynkv-chaos kill-one
  dynkv-chaos mixed --seed 7 --json
  dynkv-chaos kill-one --sabotage lose-write     # must fail")]
pub struct Args {
    /// What happens to the cluster
    pub scenario: Kind,
    /// What clients and the mixed scenario draw from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The load before the first fault
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// The length of a long fault, 3 to 60 s; short ones are parts of it
    #[arg(long, default_value = "16s", value_parser = humantime::parse_duration)]
    pub fault: Duration,
    /// The load after the last fault
    #[arg(long, default_value = "8s", value_parser = humantime::parse_duration)]
    pub after: Duration,
    /// Clients, each doing one thing at a time
    #[arg(long, default_value_t = 6)]
    pub clients: usize,
    /// Replicas of three that must answer a read
    #[arg(short, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(REPLICAS)))]
    pub r: u8,
    /// Replicas of three that must acknowledge a write
    #[arg(short, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(REPLICAS)))]
    pub w: u8,
    /// Hints that the hints scenario makes, each time
    #[arg(long, default_value_t = 100_000)]
    pub hints: u64,
    /// The directory of the daemon's binary [default: that of this program]
    #[arg(long, env = "DYNKV_BIN", value_name = "DIR")]
    pub bin: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// A scenario that this machine cannot run is no failure
    #[arg(long)]
    pub allow_skip: bool,
    /// Keep the nodes' directory, with their logs
    #[arg(long)]
    pub keep: bool,
    /// Break the suite itself, to see it fail
    #[arg(long, value_name = "HOW")]
    pub sabotage: Option<Sabotage>,
}

impl Args {
    /// Refuses what makes no sense.
    pub fn check(&self) -> Result<(), String> {
        let fault = Duration::from_secs(3)..=LONGEST_FAULT;
        if !fault.contains(&self.fault) {
            return Err(format!("--fault: 3 s to {LONGEST_FAULT:?}"));
        }
        if self.hints == 0 {
            return Err("--hints: 1 at least".to_owned());
        }
        if self.clients < FEWEST_CLIENTS {
            return Err(format!("--clients: {FEWEST_CLIENTS} at least"));
        }
        Ok(())
    }

    /// The scenario's times.
    pub fn times(&self) -> Times {
        Times { warm_up: self.warm_up, fault: self.fault, after: self.after }
    }

    /// The load.
    pub fn load(&self) -> LoadSpec {
        LoadSpec { clients: self.clients, r: self.r, w: self.w, seed: self.seed }
    }

    /// The daemon.
    pub fn program(&self) -> Result<PathBuf> {
        let own = || -> Result<PathBuf> {
            let program = std::env::current_exe().context("finding this program")?;
            Ok(program.parent().context("a program lies in a directory")?.to_owned())
        };
        let program = self.bin.clone().map_or_else(own, Ok)?.join("dynkv");
        ensure!(
            program.is_file(),
            "{} is not there: build it beside this program (make build, for programs in dist/), or name its directory (--bin)",
            program.display()
        );
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |words: &[&str]| {
            let parsed = Args::try_parse_from([&["dynkv-chaos"], words].concat());
            parsed.map_err(|error| error.to_string()).and_then(|args| args.check())
        };
        assert_eq!(check(&["kill-one"]), Ok(()));
        for words in [
            &["no-such"][..],
            &[],
            &["pause", "--fault", "61s"],
            &["pause", "--clients", "1"],
            &["hints", "--hints", "0"],
            &["pause", "-w", "4"],
            &["pause", "-r", "0"],
            &["pause", "--sabotage", "x"],
        ] {
            assert!(check(words).is_err(), "{words:?}");
        }
    }
}
