//! `dynkv-chaos`: clusters of real processes under faults, judged by the simulation's oracle.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes: it reads clocks and starts tasks")]

mod chaos;

use std::process::ExitCode;

fn main() -> ExitCode {
    chaos::main()
}
