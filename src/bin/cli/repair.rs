//! `repair`

mod order;
mod status;

use super::context::Context;
use super::exit::{Exit, Failure};

/// Show, start, pause or resume the comparison of replicas, which mends what they lack.
///
/// Nodes compare by themselves, a partition at a time and slower under load. What is counted are trees: a tree stands for
/// a partition's keys in all buckets of one n, and is compared with each other node that holds them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli repair status
  dynkv-cli repair start                     # all nodes, all partitions, now
  dynkv-cli repair start --partition 17
  dynkv-cli repair scrub --node n1
  dynkv-cli repair pause; dynkv-cli repair resume")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Compare at once, whatever has been compared of late.
    ///
    /// The nodes answer before it is done: `repair status -w` shows how far they are.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli repair start
  dynkv-cli repair start --node n1
  dynkv-cli repair start --partition 17      # on the nodes that hold it")]
    Start(order::StartArgs),
    /// Read all records at once, whatever has been read of late.
    ///
    /// A record that is not what was written is wiped, and comes back from the other nodes that hold its key. Each node does so by
    /// itself too, once in antientropy.scrub_interval.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli repair scrub
  dynkv-cli repair scrub --node n1 --partition 17")]
    Scrub(order::StartArgs),
    /// Delete at once those tombstones that nothing needs any more.
    ///
    /// All members have to be there for that: `tombstones stats` tells what is in the way. Each node does so by itself too, every
    /// antientropy.reap_interval.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli repair reap
  dynkv-cli repair reap --partition 17")]
    Reap(order::StartArgs),
    /// Show how far each node has come, and what it waits for.
    ///
    /// Exit 7 if a node did not answer, or has not begun.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli repair status
  dynkv-cli repair status -w
  dynkv-cli repair status -o json | jq '.nodes[] | {node, done, of, waiting}'")]
    Status(status::Args),
    /// Begin no more comparisons; a restart forgets it.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli repair pause
  dynkv-cli repair pause --node n1")]
    Pause(order::NodeArg),
    /// Go on after a pause.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli repair resume")]
    Resume(order::NodeArg),
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Start(args) => order::start(context, args).await,
        Verb::Scrub(args) => order::scrub(context, args).await,
        Verb::Reap(args) => order::reap(context, args).await,
        Verb::Status(args) => status::run(context, args).await,
        Verb::Pause(args) => order::pause(context, args).await,
        Verb::Resume(args) => order::resume(context, args).await,
    }
}
