//! `gossip`: one line for each size and loss.

use std::time::{Duration, Instant};

use dynkv::gossip::config::GossipConfig;
use dynkv::sim::gossip::{GossipFindings, GossipPlan, measure};

use super::emit;
use super::rig::Minutes;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct GossipArgs {
    /// Members
    #[arg(long, value_delimiter = ',', default_values_t = [5, 50, 500], value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub nodes: Vec<u32>,
    /// Per cent of all frames that are lost
    #[arg(long, value_delimiter = ',', default_values_t = [0, 5, 20], value_parser = clap::value_parser!(u8).range(0..=100))]
    loss: Vec<u8>,
    /// Virtual minutes in which nothing befalls anybody [default: 10, with more than 100 members 1]
    #[arg(long)]
    minutes: Option<Minutes>,
    /// Members that crash, one after the other [default: 20, with more than 100 members 3]
    #[arg(long)]
    crashes: Option<u32>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// `gossip.phi_threshold`
    #[arg(long, default_value_t = GossipConfig::default().phi_threshold)]
    phi: f64,
}

/// Measures and prints; whether all news has reached everybody, and every crash was found by everybody.
pub fn run(args: &GossipArgs) -> bool {
    emit(
        "nodes  loss  rounds to all  bytes/node  crash convicted after, s      lost   false     watched,      pings  took\n",
    );
    emit("         %    median    max     a round    p50    p99    max  (of)          verdicts  node hours\n");
    let mut all = true;
    for &nodes in &args.nodes {
        for &loss in &args.loss {
            let large = nodes > 100;
            let plan = GossipPlan {
                nodes: nodes as usize,
                loss: f64::from(loss) / 100.0,
                healthy: args.minutes.map_or(Duration::from_secs(if large { 60 } else { 600 }), Minutes::span),
                crashes: args.crashes.unwrap_or(if large { 3 } else { 20 }),
                seed: args.seed,
                config: GossipConfig { phi_threshold: args.phi, ..GossipConfig::default() },
            };
            let began = Instant::now();
            let findings = measure(&plan);
            all &= findings.failures.is_empty();
            emit(&line(&plan, loss, &findings, began.elapsed()));
            findings.failures.iter().for_each(|failure| emit(&format!("RED: {failure}\n")));
        }
    }
    all
}

fn line(plan: &GossipPlan, loss: u8, findings: &GossipFindings, took: Duration) -> String {
    let GossipFindings { rounds, bytes_a_round, detection, failures, false_verdicts, watched, pings } = findings;
    let seconds = |percent: usize| at(detection, percent).map_or(f64::NAN, Duration::as_secs_f64);
    let rounds = |percent: usize| at(rounds, percent).copied().unwrap_or(f64::NAN);
    let hours = watched.as_secs_f64() / 3600.0 * plan.nodes as f64;
    format!(
        "{:>5}  {loss:>4}  {:>8.1}  {:>5.1}  {bytes_a_round:>10.0}  {:>5.2}  {:>5.2}  {:>5.2}  ({:>4})  {:>4}  {false_verdicts:>8}  {hours:>10.1}  {pings:>9}  {:.0} s\n",
        plan.nodes,
        rounds(50),
        rounds(100),
        seconds(50),
        seconds(99),
        seconds(100),
        detection.len(),
        failures.len(),
        took.as_secs_f64(),
    )
}

/// The smallest value that so many per cent of the sorted values do not exceed.
fn at<T>(sorted: &[T], percent: usize) -> Option<&T> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!([50, 99, 100].map(|percent| at(&values, percent).copied()), [Some(100), Some(198), Some(200)]);
        assert_eq!(at(&[7], 50), Some(&7));
        assert_eq!(at::<u32>(&[], 50), None);
    }
}
