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

impl Args {
    /// A document a look: under --watch, only lines can be told apart.
    fn format(&self, asked: Format) -> Format {
        if self.watch && asked == Format::Json { Format::Jsonl } else { asked }
    }

    /// How the verb ends after a look that found the cluster well, or not; `None`: it looks again.
    fn end(&self, looked: Result<bool, Failure>) -> Result<Option<Exit>, Failure> {
        let is_well = match looked {
            Ok(is_well) => is_well,
            // a cluster that is being started answers later
            Err(failure) if self.watch => {
                failure.report();
                false
            }
            Err(failure) => return Err(failure),
        };
        let exit = if is_well { Exit::Ok } else { Exit::Degraded };
        Ok((!self.watch || self.exit_when_healthy && is_well).then_some(exit))
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.open()?;
    within(args.within, watch(context, &client, &args)).await
}

/// Gives up waiting for a cluster that becomes well too late.
async fn within(limit: Option<Duration>, watch: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    match limit {
        None => watch.await,
        Some(limit) => tokio::time::timeout(limit, watch).await.unwrap_or(Ok(Exit::Degraded)),
    }
}

async fn watch(context: &Context, client: &Client, args: &Args) -> Result<Exit, Failure> {
    let format = args.format(context.table_format());
    loop {
        let looked = look(client).await;
        if let Ok(health) = &looked {
            context.show_as(format, health, print)?;
        }
        if let Some(exit) = args.end(looked.map(|health| health.healthy))? {
            return Ok(exit);
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
    out.line(summary(health))?;
    health.problems.iter().try_for_each(|problem| out.line(format!("  {problem}")))
}

fn summary(health: &Health) -> String {
    let up = health.nodes.iter().filter(|node| node.up).count();
    let (word, nodes) = (if health.healthy { "healthy" } else { "degraded" }, health.nodes.len());
    let hints = count(health.hints, "hint");
    format!("{word}: {up} of {nodes} nodes up, {} ranges, {hints} waiting", health.ranges)
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::{backlog, lost, member, reply};
    use super::*;

    #[track_caller]
    fn check_end((watch, exit_when_healthy): (bool, bool), well: Option<Exit>, ill: Option<Exit>) {
        let args = Args { watch, exit_when_healthy, within: None };
        assert_eq!((args.end(Ok(true)), args.end(Ok(false))), (Ok(well), Ok(ill)));
        let failure = || Failure::new(Exit::Unavailable, "nobody answers");
        assert_eq!(args.end(Err(failure())), if watch { Ok(None) } else { Err(failure()) });
    }

    #[test]
    fn one_look_says_all_and_a_watch_ends_with_a_well_cluster_if_at_all() {
        check_end((false, false), Some(Exit::Ok), Some(Exit::Degraded));
        check_end((true, false), None, None);
        check_end((true, true), Some(Exit::Ok), None);
    }

    #[test]
    fn looks_that_follow_each_other_are_lines() {
        let format = |watch, asked| Args { watch, exit_when_healthy: false, within: None }.format(asked);
        assert_eq!((format(false, Format::Json), format(true, Format::Json)), (Format::Json, Format::Jsonl));
        assert_eq!((format(false, Format::Table), format(true, Format::Table)), (Format::Table, Format::Table));
    }

    #[tokio::test]
    async fn a_cluster_that_is_not_well_in_time_is_degraded() {
        let never = std::future::pending;
        assert_eq!(within(Some(Duration::ZERO), never()).await, Ok(Exit::Degraded));
        for limit in [None, Some(Duration::ZERO)] {
            assert_eq!(within(limit, async { Ok(Exit::Ok) }).await, Ok(Exit::Ok));
        }
    }

    #[test]
    fn the_first_line_counts_who_is_up_and_what_waits() {
        let mut one = reply(1, vec![member(1, true, "aa"), member(2, false, "aa")]);
        let summary_of = |one| summary(&Health::of(None, &[("h:1".to_owned(), Ok(one)), ("h:2".to_owned(), lost())]));
        one.hints = vec![backlog(2, 7, 0)];
        assert_eq!(summary_of(one), "degraded: 1 of 2 nodes up, 0 ranges, 7 hints waiting");
    }
}
