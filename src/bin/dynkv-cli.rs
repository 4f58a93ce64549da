//! `dynkv-cli`: parses, calls the client library, prints.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
