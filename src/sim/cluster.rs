//! Putting a schedule's cluster together.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::disk::Disk;
use super::network::Weather;
use super::process::{Clocks, Node, NodeConfig, Pace};
use super::report::Options;
use super::schedule::{ClusterPlan, Schedule};
use super::workload::LATEST;
use super::world::{Reads, World};
use crate::antientropy::config::{ExchangeConfig, HintsConfig};
use crate::gossip::config::GossipConfig;
use crate::node::{ControlConfig, ShardConfig, Terms};
use crate::quorum::Level;
use crate::ring::{BucketConfig, Conflict, Partitions};
use crate::types::Bucket;

/// A day in November 2023; each node is up to a second behind it or ahead of another.
const WALL_MS: u64 = 1_700_000_000_000;
/// The largest value that a node takes: more than any that the workload writes.
const MAX_VALUE: usize = 4096;

/// A world of the schedule's nodes, on disks that `disk` makes; none of them runs.
pub(super) fn assemble<D: Disk>(schedule: &Schedule, options: &Options, mut disk: impl FnMut(usize) -> D) -> World<D> {
    let plan = &schedule.cluster;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(schedule.seed ^ 0x5eed);
    let nodes = (0..plan.shards.len()).map(|index| {
        let mut node = Node::new(config_of(plan, index), disk(index));
        node.clocks = Clocks {
            drift_ppm: plan.drift_ppm[index],
            started_us: rng.random_range(0..1 << 40),
            wall_started_ms: WALL_MS + rng.random_range(0..1000),
            wall_ahead_ms: 0,
        };
        node.pace =
            Pace { sync: plan.sync_us, read: plan.read_us, release: plan.buggify.release_us, ..Pace::default() };
        node.batch = plan.buggify.batch.unwrap_or(usize::MAX);
        node
    });
    let nodes = nodes.collect();
    let mut world = World::new(schedule.seed, nodes, options.trace.clone());
    world.reads = Reads::Paced;
    world.network.weather = Weather { delay: plan.delay_us, ..Weather::default() };
    world
}

fn config_of(plan: &ClusterPlan, index: usize) -> NodeConfig {
    let lww = BucketConfig { n: 3, conflict: Conflict::Lww };
    let bucket = |name: &str| Bucket::new(name).expect("it is a good name");
    let terms = Terms {
        cluster: "simulated".into(),
        partitions: Partitions::new(plan.partitions).expect("a schedule has a power of two"),
        buckets: [(bucket(Bucket::DEFAULT), BucketConfig::default()), (bucket(LATEST), lww)].into(),
    };
    NodeConfig {
        name: format!("n{}", index + 1),
        shards: plan.shards[index],
        control: ControlConfig {
            zone: "default".into(),
            weight: 1000,
            address: address(index),
            seeds: vec![address(0), address(1)],
            expect: u32::try_from(plan.shards.len()).expect("few nodes"),
            terms,
            gossip: GossipConfig { interval: plan.gossip_interval, ..GossipConfig::default() },
        },
        shard: ShardConfig {
            shard: 0,
            shards: plan.shards[index],
            max_inflight: plan.max_inflight,
            record_cache: plan.record_cache / usize::from(plan.shards[index]),
            max_siblings: plan.max_siblings,
            sloppy: plan.sloppy,
            max_value: MAX_VALUE,
            max_object: 64 << 20,
            r: Level::Quorum,
            w: Level::Quorum,
            sync_by_default: plan.sync,
            request_timeout: plan.request_timeout,
            attempt_timeout: plan.attempt_timeout.max(Duration::from_millis(20)),
            read_repair_chance: plan.read_repair_chance,
            hedge_after: plan.hedge_after,
            secret: [7; 32],
            antientropy: ExchangeConfig {
                leaves: 32,
                interval: Duration::from_secs(20),
                reap_interval: Duration::from_secs(1),
                ..ExchangeConfig::default()
            },
            hints: HintsConfig::default(),
        },
    }
}

fn address(index: usize) -> String {
    format!("10.0.0.{}:7400", index + 1)
}
