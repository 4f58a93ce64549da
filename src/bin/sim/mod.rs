//! The command line: which runs are made, on how many threads, and what is printed about them.

mod args;
mod campaign;
mod crew;
mod engine;
mod gossip;
#[cfg(feature = "mutants")]
mod harness;
mod minimal;
mod panics;
mod progress;
#[cfg(feature = "mutants")]
mod proof;
mod regressions;
mod rig;
mod sabotage;
mod summary;
mod tally;

use std::io::Write as _;
use std::process::ExitCode;

use args::Mode;

/// Parses, runs, prints. 0: all is green; 1: something is not; 2: the command line or a file it names is wrong.
pub fn main() -> ExitCode {
    // clap itself ends the process with 2 on a usage error, and with 0 after help
    let mode = args::parse();
    panics::install_hook(mode.is_close_look());
    let green = match mode {
        Mode::Seeds(plan) => campaign::run(&plan),
        Mode::Gossip(plan) => gossip::run(&plan),
        #[cfg(feature = "mutants")]
        Mode::Mutants(plan) => proof::run(&plan),
    };
    if green { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Results go to stdout. Who reads them may have left: that is no reason to fail.
fn emit(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("dynkv-sim: cannot write to stdout: {error}");
    }
}
