//! `health`

mod verdict;

use std::time::Duration;

use dynkv::client::Client;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, Out, count};
use verdict::Health;

/// Between two looks under --watch.
const LOOK: Duration = Duration::from_secs(1);

/// Say whether the cluster is well: exit 0 if it is, 8 if it is degraded.
///
/// A node is up if most of the nodes that answer have a live link to it and do not hold it for dead. Looked at besides:
/// ranges without a quorum of live primaries, hints that wait, disks nearly full or read-only, rings that differ.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli health
  dynkv-cli health --watch
  dynkv-cli health --watch --exit-when-healthy --within 2m    # after a restart, in a script")]
pub struct Args {
    /// Look again each second.
    #[arg(long)]
    watch: bool,
    /// Under --watch: end as soon as the cluster is well.
    #[arg(long, requires = "watch")]
    exit_when_healthy: bool,
    /// Under --watch: end with 8 if it is not well after this time.
    #[arg(long, requires = "exit_when_healthy", value_name = "TIME", value_parser = humantime::parse_duration)]
    within: Option<Duration>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.open()?;
    let watch = watch(context, &client, &args);
    match args.within {
        None => watch.await,
        Some(within) => tokio::time::timeout(within, watch).await.unwrap_or(Ok(Exit::Degraded)),
    }
}

async fn watch(context: &Context, client: &Client, args: &Args) -> Result<Exit, Failure> {
    // a document a look: only lines can be told apart
    let format = match context.table_format() {
        Format::Json if args.watch => Format::Jsonl,
        format => format,
    };
    loop {
        let health = look(client).await;
        let is_well = health.as_ref().is_ok_and(|health| health.healthy);
        match health {
            Ok(health) => context.show_as(format, &health, print)?,
            // a cluster that is being started answers later
            Err(failure) if args.watch => failure.report(),
            Err(failure) => return Err(failure),
        }
        if !args.watch || args.exit_when_healthy && is_well {
            return Ok(if is_well { Exit::Ok } else { Exit::Degraded });
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(client: &Client) -> Result<Health, Failure> {
    let ring = client.refresh_ring().await;
    let answers = client.status_all().await;
    if answers.iter().all(|(_, answer)| answer.is_err()) {
        let first = answers.into_iter().find_map(|(_, answer)| answer.err());
        return Err(first.map_or_else(|| Failure::new(Exit::Error, "no node is known"), Failure::from));
    }
    Ok(Health::of(ring.ok().as_deref(), &answers))
}

fn print(health: &Health, out: &mut Out) -> Result<(), Failure> {
    let up = health.nodes.iter().filter(|node| node.up).count();
    let (word, nodes) = (if health.healthy { "healthy" } else { "degraded" }, health.nodes.len());
    let hints = count(health.hints, "hint");
    out.line(format!("{word}: {up} of {nodes} nodes up, {} ranges, {hints} waiting", health.ranges))?;
    health.problems.iter().try_for_each(|problem| out.line(format!("  {problem}")))
}
