//! `dynkv-sim`: runs seeds of the whole-cluster simulation, on all cores.
#![allow(clippy::disallowed_methods, reason = "a driver: it reads the clock for its own progress and starts threads")]

mod sim;

use std::process::ExitCode;

fn main() -> ExitCode {
    sim::main()
}
