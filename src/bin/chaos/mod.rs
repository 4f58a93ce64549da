//! The suite: faults on real processes, judged by what clients were told.
//!
//! ```text
//! Args        the command line                                       args.rs
//! run         start, load, strike, heal, read back, judge            run.rs
//!   Scenario  which faults strike when, and what is promised         scenario.rs, scenario/mixed.rs, fault.rs
//!   Cluster   processes on loopback                                  cluster.rs, node.rs
//!     Proxy   datagrams between them: late, lost, doubled, cut       proxy/
//!   Load      clients, all they ask and are told on record           load.rs, choice.rs, recorder.rs
//!   Injector  carries faults out and takes them back                 inject.rs, disk.rs, clock.rs
//!   Watch     what shows of the faults from outside                  watch.rs, effect.rs
//!   settle    waits until the cluster has healed; the last reads     settle.rs, finale.rs
//!   verdict   the oracle's and the suite's own checks                verdict.rs, tally.rs
//! drill       hints by the hundred thousand, no other load           drill.rs
//! Report      what is printed                                        report.rs
//! Sabotage    bugs of the suite itself, planted to see it fail       sabotage.rs
//! ```

mod args;
mod choice;
mod clock;
mod cluster;
mod disk;
mod drill;
mod effect;
mod fault;
mod finale;
mod inject;
mod load;
mod node;
mod proxy;
mod recorder;
mod report;
mod run;
mod sabotage;
mod scenario;
mod settle;
mod tally;
mod verdict;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::args::Args;
use self::run::Outcome;

/// This machine cannot inject a fault.
const SKIPPED: u8 = 3;

/// Parses, runs, prints. See the exit codes in the help.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(message) = args.check() {
        Args::command().error(ErrorKind::ValueValidation, message).exit()
    }
    match Runtime::new().context("starting the runtime").and_then(|runtime| runtime.block_on(until_told_to_stop(&args)))
    {
        Ok(Outcome::Judged(report)) => {
            let text = if args.json { format!("{:#}\n", report.json()) } else { report.text() };
            emit(&text);
            if report.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(Outcome::Skipped(lacking)) => {
            let lacking: Vec<String> = lacking.iter().map(ToString::to_string).collect();
            let name = args.scenario.name();
            eprintln!("dynkv-chaos: SKIPPED {name}: this machine lacks {}", lacking.join(", and "));
            emit(&format!("{name}: SKIPPED\n"));
            if args.allow_skip { ExitCode::SUCCESS } else { ExitCode::from(SKIPPED) }
        }
        Err(error) => {
            eprintln!("dynkv-chaos: {error:#}");
            emit(&format!("{}: FAILED\n", args.scenario.name()));
            ExitCode::FAILURE
        }
    }
}

/// A run that is interrupted is dropped, and its nodes with it.
async fn until_told_to_stop(args: &Args) -> Result<Outcome> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    tokio::select! {
        outcome = run::run(args) => outcome,
        _ = terminate.recv() => bail!("told to stop"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}

/// Results go to stdout. Who reads them may have left: that is no reason to fail.
fn emit(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
