//! What the command line asks for.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use dynkv::sim::{HarnessBug, TraceFilter};

use super::engine::Engine;
use super::gossip::GossipArgs;
use super::regressions::Regressions;
use super::rig::{Minutes, Order, Rig};
use super::sabotage::{self, Mutant};

/// Runs seeds of the whole-cluster simulation: one seed, one run, always the same.
#[derive(Debug, Parser)]
#[command(name = "dynkv-sim", version, max_term_width = 100)]
#[command(after_help = "\
EXIT CODES
  0 every run is green   1 a violation, a run with too little in it, a mark at zero, or hashes that differ   2 usage

EXAMPLES
  dynkv-sim --seeds 1000 --minutes 10
  dynkv-sim --seed 17 --minutes 10 --trace=k3.0
  RUST_BACKTRACE=1 dynkv-sim --seed 17 --no-shrink
  dynkv-sim --seeds 20 --twice
  dynkv-sim gossip --nodes 50 --loss 5 --crashes 20")]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    measurement: Option<Measurement>,
    /// How many seeds; with --mutants, how many may pass before a bug counts as not caught [default: 100, with --mutants 500]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..u64::MAX / 2))]
    first: u64,
    /// This seed alone
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Virtual minutes in which faults event
    #[arg(long, default_value_t = Minutes::ONE)]
    minutes: Minutes,
    /// Run each seed twice, on different threads, and compare the hashes of what happened
    #[arg(long)]
    twice: bool,
    /// Print what happened, to one key if there is one: they are called k3.0, k3.1, k4.0 ...
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true, default_missing_value = "", requires = "seed")]
    trace: Option<String>,
    /// Runs at a time [default: as many as there are cores]
    #[arg(long, value_parser = parse_jobs)]
    jobs: Option<NonZeroUsize>,
    /// Before anything else, the seeds in this file: lines `SEED MINUTES ENGINE? # what it once found`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mutant", "harness_bug"])]
    regressions: Option<PathBuf>,
    /// What nodes keep their objects in: memory, or rocks in a build that has it
    #[arg(long, default_value = "memory")]
    engine: Engine,
    /// Seed a bug, in a build with the feature mutants
    #[arg(long, value_name = "NAME", value_parser = sabotage::parse)]
    mutant: Option<Mutant>,
    /// Seed every bug, each until a seed catches it, and every harness bug, in a build with the feature mutants
    #[arg(long, conflicts_with_all = ["seed", "first", "twice", "regressions", "mutant", "harness_bug", "no_shrink", "allow_missing"])]
    mutants: bool,
    /// Break the simulation itself
    #[arg(long, value_name = "NAME", value_parser = parse_harness_bug)]
    harness_bug: Option<HarnessBug>,
    /// Do not cut failing runs down
    #[arg(long)]
    no_shrink: bool,
    /// What never happened is no failure: for small runs
    #[arg(long)]
    allow_missing: bool,
}

/// What is measured instead of checked.
#[derive(Debug, clap::Subcommand)]
enum Measurement {
    /// How fast gossip spreads news, what it costs, how soon the dead are found, how often the living are taken for dead
    Gossip(GossipArgs),
}

/// Runs of a number of seeds.
pub struct SeedsPlan {
    pub regressions: Vec<Order>,
    pub first: Order,
    pub seeds: u64,
    pub twice: bool,
    /// Asked for with a single seed only.
    pub trace: Option<TraceFilter>,
    pub jobs: usize,
    pub shrink: bool,
    pub allow_missing: bool,
}

/// Seeded bugs, each to be caught.
#[cfg(feature = "mutants")]
pub struct MutantsPlan {
    pub rig: Rig,
    pub seeds: u64,
    pub minutes: Minutes,
    pub jobs: usize,
}

/// What is to be done.
pub enum Mode {
    Seeds(SeedsPlan),
    Gossip(GossipArgs),
    #[cfg(feature = "mutants")]
    Mutants(MutantsPlan),
}

impl Mode {
    /// One run is made, for somebody who wants to see its panic, with a backtrace under `RUST_BACKTRACE`.
    pub fn is_close_look(&self) -> bool {
        matches!(self, Mode::Seeds(SeedsPlan { seeds: 1, shrink: false, .. }))
    }
}

/// What the command line asks for; ends the process if it is wrong.
pub fn parse() -> Mode {
    let checked = Args::parse().check();
    checked.unwrap_or_else(|message| Args::command().error(ErrorKind::ValueValidation, message).exit())
}

impl Args {
    /// The jobs that the machine has cores for, if nobody says otherwise.
    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.jobs.unwrap_or_else(cores).get()
    }

    fn check(self) -> Result<Mode, String> {
        if let Some(Measurement::Gossip(gossip)) = self.measurement {
            return Ok(Mode::Gossip(gossip));
        }
        if self.mutants {
            return self.check_mutants();
        }
        let jobs = self.jobs();
        let rig = Rig { engine: self.engine, mutant: self.mutant, harness_bug: self.harness_bug };
        let mut regressions = Vec::new();
        if let Some(path) = &self.regressions {
            let read = Regressions::read(path)?;
            if read.not_built > 0 {
                let (left_out, path) = (read.not_built, path.display());
                eprintln!("dynkv-sim: {left_out} seeds of {path} are left out: they need the engine rocks");
            }
            regressions = read.orders;
        }
        Ok(Mode::Seeds(SeedsPlan {
            regressions,
            first: Order { seed: self.seed.unwrap_or(self.first), minutes: self.minutes, rig },
            seeds: if self.seed.is_some() { 1 } else { self.seeds.unwrap_or(100) },
            twice: self.twice,
            trace: self.trace.map(|key| TraceFilter { key: Some(key).filter(|key| !key.is_empty()) }),
            jobs,
            shrink: !self.no_shrink,
            allow_missing: self.allow_missing || self.seed.is_some(),
        }))
    }

    #[cfg(feature = "mutants")]
    fn check_mutants(self) -> Result<Mode, String> {
        let rig = Rig { engine: self.engine, ..Rig::PLAIN };
        let (jobs, seeds) = (self.jobs(), self.seeds.unwrap_or(500));
        Ok(Mode::Mutants(MutantsPlan { rig, seeds, minutes: self.minutes, jobs }))
    }

    #[cfg(not(feature = "mutants"))]
    fn check_mutants(self) -> Result<Mode, String> {
        Err(format!("--mutants {}", sabotage::NEEDS_FEATURE))
    }
}

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 1024;
    let jobs: Option<NonZeroUsize> = text.parse().ok();
    jobs.filter(|jobs| jobs.get() <= MOST).ok_or_else(|| format!("it is 1 to {MOST}"))
}

fn parse_harness_bug(name: &str) -> Result<HarnessBug, String> {
    let names = HarnessBug::ALL.map(HarnessBug::name).join(", ");
    HarnessBug::ALL.into_iter().find(|bug| bug.name() == name).ok_or(format!("it is one of: {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &[&str]) -> Result<SeedsPlan, String> {
        let args = Args::try_parse_from([&["dynkv-sim"], words].concat()).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })?;
        match args.check()? {
            Mode::Seeds(plan) => Ok(plan),
            Mode::Gossip(plan) => Err(format!("gossip of {:?}", plan.nodes)),
            #[cfg(feature = "mutants")]
            Mode::Mutants(plan) => Err(format!("{} seeds of mutants", plan.seeds)),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_word_a_hundred_seeds_run_and_must_meet_everything() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.seeds, plan.first.seed, plan.first.minutes), (100, 1, Minutes::ONE));
        assert_eq!(plan.first.rig, Rig::PLAIN);
        assert!(!plan.allow_missing && !plan.twice && plan.shrink && plan.trace.is_none());
    }

    #[test]
    fn one_seed_need_not_meet_everything_and_may_be_traced() {
        let key = |words: &[&str]| plan(words).unwrap().trace.map(|filter| filter.key);
        assert_eq!(key(&["--seed", "7"]), None);
        assert_eq!(key(&["--seed", "7", "--trace"]), Some(None));
        assert_eq!(key(&["--seed", "7", "--trace=k3.0"]), Some(Some("k3.0".to_owned())));
        let plan = plan(&["--seed", "7", "--minutes", "0.5"]).unwrap();
        assert_eq!((plan.seeds, plan.first.seed, plan.first.minutes.to_string()), (1, 7, "0.5".to_owned()));
        assert!(plan.allow_missing);
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for (words, what) in [
            (&["--trace"][..], "--seed"),
            (&["--seed", "1", "--seeds", "2"], "cannot be used"),
            (&["--seeds", "0"], "0"),
            (&["--minutes", "-1"], "-1"),
            (&["--minutes", "soon"], "no number"),
            (&["--jobs", "0"], "1 to"),
            (&["--engine", "paper"], "memory or rocks"),
            (&["--harness-bug", "x"], "faults-off"),
            (&["--mutants", "--seed", "3"], "cannot be used"),
            (&["--mutants", "--no-shrink"], "cannot be used"),
            (&["--regressions", "/nonexistent"], "/nonexistent"),
            (&["--regressions", "/nonexistent", "--harness-bug", "faults-off"], "cannot be used"),
            #[cfg(feature = "mutants")]
            (&["--regressions", "/nonexistent", "--mutant", Mutant::ALL[0].name()], "cannot be used"),
            (&["17"], "17"),
            (&["gossip", "--nodes", "1"], "1"),
            (&["gossip", "--loss", "101"], "101"),
            (&["gossip", "--nodes", "50,5"], "gossip of [50, 5]"),
            #[cfg(not(feature = "rocksdb"))]
            (&["--engine", "rocks"], "feature rocksdb"),
            #[cfg(not(feature = "mutants"))]
            (&["--mutant", "any"], "feature mutants"),
            #[cfg(not(feature = "mutants"))]
            (&["--mutants"], "feature mutants"),
        ] {
            let message = plan(words).err().unwrap_or_else(|| panic!("{words:?} is accepted"));
            assert!(message.contains(what), "{words:?}: {message}");
        }
    }
}
