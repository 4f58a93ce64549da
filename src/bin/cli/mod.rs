//! The command line: one file a verb, each with its arguments, what it does and how it prints.

mod answers;
mod batch;
mod bench;
mod completions;
mod context;
mod delete;
mod encoding;
mod exists;
mod exit;
mod explain;
mod export;
mod get;
mod health;
mod hints;
mod import;
mod nodes;
mod orders;
mod output;
mod pool;
mod put;
mod quorum;
mod record;
mod repair;
mod ring;
mod scan;
mod status;
mod tombstones;
mod trace;
mod version;
mod whereabouts;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use context::{Context, Globals};
use exit::{Exit, Failure};

/// Reads and writes a dynkv cluster, and shows how it is.
#[derive(Debug, Parser)]
#[command(name = "dynkv-cli", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
EXIT CODES
  0 ok   1 error   2 usage   3 not found   4 siblings   5 quorum, timeout or nobody reached
  6 certificates   7 partly done   8 degraded

EXAMPLES
  export DYNKV_CLUSTER=/tmp/dynkv/cluster.json     # as `dynkv dev --dir /tmp/dynkv` wrote it
  dynkv-cli put cart:7 '{\"apples\": 2}'
  dynkv-cli get cart:7
  dynkv-cli put cart:7 '{\"apples\": 3}' -c CONTEXT  # the context that get printed
  dynkv-cli status")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    // data
    Get(get::Args),
    Put(put::Args),
    Delete(delete::Args),
    Exists(exists::Args),
    Scan(scan::Args),
    Batch(batch::Args),
    Import(import::Args),
    Export(export::Args),
    // cluster
    Where(whereabouts::Args),
    Status(status::Args),
    Ring(ring::Args),
    Nodes(nodes::Args),
    // repair
    Repair(repair::Args),
    Hints(hints::Args),
    Tombstones(tombstones::Args),
    // diagnosis
    Health(health::Args),
    Explain(explain::Args),
    Trace(trace::Args),
    Bench(bench::Args),
    // meta
    Completions(completions::Args),
    Version(version::Args),
}

/// Parses, runs, prints what failed; the exit code says how it went.
pub fn main() -> ExitCode {
    // clap itself ends the process with 2 on a usage error, and with 0 after help
    let Cli { globals, verb } = Cli::parse();
    init_log(&globals);
    let context = Context::new(globals);
    let ended = match verb {
        Verb::Completions(args) => completions::run(&context, &args),
        Verb::Version(args) => version::run(&context, &args),
        verb => runtime().and_then(|runtime| {
            let ended = runtime.block_on(run(&context, verb));
            // a read of stdin that nobody waits for any more does not end before its input does
            runtime.shutdown_background();
            ended
        }),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}

async fn run(context: &Context, verb: Verb) -> Result<Exit, Failure> {
    let ended = match verb {
        Verb::Get(args) => get::run(context, args).await,
        Verb::Put(args) => put::run(context, args).await,
        Verb::Delete(args) => delete::run(context, args).await,
        Verb::Exists(args) => exists::run(context, args).await,
        Verb::Scan(args) => scan::run(context, args).await,
        Verb::Batch(args) => batch::run(context, args).await,
        Verb::Import(args) => import::run(context, args).await,
        Verb::Export(args) => export::run(context, args).await,
        Verb::Where(args) => whereabouts::run(context, args).await,
        Verb::Status(args) => status::run(context, args).await,
        Verb::Ring(args) => ring::run(context, args).await,
        Verb::Nodes(args) => nodes::run(context, args).await,
        Verb::Repair(args) => repair::run(context, args).await,
        Verb::Hints(args) => hints::run(context, args).await,
        Verb::Tombstones(args) => tombstones::run(context, args).await,
        Verb::Health(args) => health::run(context, args).await,
        Verb::Explain(args) => explain::run(context, args).await,
        Verb::Trace(args) => trace::run(context, args).await,
        Verb::Bench(args) => bench::run(context, args).await,
        Verb::Completions(args) => completions::run(context, &args),
        Verb::Version(args) => version::run(context, &args),
    };
    context.close().await;
    ended
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // One for two cores: fewer threads that are awake send larger packets.
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .thread_name("dynkv-cli")
        .build()
        .map_err(|error| Failure::new(Exit::Error, format!("cannot start threads: {error}")))
}

/// Logs go to stderr, warnings only unless asked for more.
fn init_log(globals: &Globals) {
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_is_told_from_flags() {
        let value =
            |args: &[&str]| match Cli::try_parse_from(["dynkv-cli", "put", "k"].iter().chain(args)).unwrap().verb {
                Verb::Put(args) => (args.value, args.context),
                other => panic!("{other:?}"),
            };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(value(&["-c", "ctx"]), (None, text("ctx")));
        assert_eq!(value(&["-5", "-c", "ctx"]), (text("-5"), text("ctx")));
        assert_eq!(value(&["-"]), (text("-"), None));
        assert_eq!(value(&["--", "-x"]), (text("-x"), None));
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        let mut command = Cli::command();
        command.build();
        for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
            let help = verb.render_long_help().to_string();
            assert!(help.contains("EXAMPLE"), "{}", verb.get_name());
        }
    }
}
