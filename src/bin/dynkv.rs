//! The daemon: parses, calls the library, prints.
#![allow(clippy::disallowed_methods, reason = "a driver: it reads clocks and starts tasks and processes")]

#[path = "dynkv/certs.rs"]
mod certs;
#[path = "dynkv/config.rs"]
mod config;
#[path = "dynkv/dev.rs"]
mod dev;
#[path = "dynkv/exit.rs"]
mod exit;
#[path = "dynkv/logging.rs"]
mod logging;
#[path = "dynkv/node.rs"]
mod node;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use self::config::Setting;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A Dynamo-style, leaderless, always-writable key-value store: the daemon.
///
/// Without a command it runs a node in the foreground. The first SIGTERM or SIGINT drains and stops it, a second ends it
/// at once; SIGHUP reads certificates and log level again.
#[derive(Parser)]
#[command(name = "dynkv", version)]
struct Cli {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Where the configuration comes from.
#[derive(Args, Clone)]
struct SourceArgs {
    /// The configuration file.
    #[arg(long, env = "DYNKV_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Sets one key, e.g. `--set net.listen=127.0.0.1:7400`; stronger than files and the environment. Under `dev`: of all nodes.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    set: Vec<Setting>,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a local cluster of real processes until Ctrl-C.
    Dev(dev::DevArgs),
    /// Makes certificates and the cluster's secret.
    #[command(subcommand)]
    Certs(certs::CertsVerb),
    /// Shows or checks the configuration.
    #[command(subcommand)]
    Config(config::ConfigVerb),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = run(cli);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("dynkv: {err:#}");
            exit::code_of(&err)
        }
    }
}

fn run(Cli { sources, verb }: Cli) -> Result<()> {
    match verb {
        None => node::run(sources),
        Some(Verb::Dev(args)) => dev::run(args, sources),
        Some(Verb::Certs(verb)) => certs::run(verb),
        Some(Verb::Config(verb)) => config::run(verb, sources),
    }
}
