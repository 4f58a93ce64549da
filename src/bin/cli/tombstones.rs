//! `tombstones`

mod stats;

use super::context::Context;
use super::exit::{Exit, Failure};

/// Show the deletions that nodes remember until nothing is left that could bring back what was deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli tombstones stats
  dynkv-cli tombstones stats --node n1 -o json")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Count them on each node, by age, and say what they wait for.
    ///
    /// Each node walks over its index of tombstones for that. A deleted key is counted on each node that holds it. Exit 7 if a node did
    /// not answer, or could not count all.
    #[command(after_help = "\
EXAMPLES
  dynkv-cli tombstones stats
  dynkv-cli tombstones stats -o json | jq '.nodes[] | select(.ages.older > 0)'")]
    Stats(stats::Args),
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Stats(args) => stats::run(context, args).await,
    }
}
