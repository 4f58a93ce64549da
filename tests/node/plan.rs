//! What a cluster under test is made of.

use std::time::Duration;

use dynkv::antientropy::config::{ExchangeConfig, HintsConfig};
use dynkv::gossip::config::GossipConfig;
use dynkv::node::{ControlConfig, ShardConfig, Terms};
use dynkv::quorum::{HedgeAfter, Level};
use dynkv::ring::{BucketConfig, Conflict, Partitions};
use dynkv::sim::{MemoryDisk, Node, NodeConfig, World};
use dynkv::storage::MemoryConfig;
use dynkv::types::Bucket;

/// See the module.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    /// Shards of each node.
    pub shards: Vec<u16>,
    pub shard: ShardConfig,
    pub memory: MemoryConfig,
    pub partitions: u32,
    /// How long a sync takes at most, in microseconds.
    pub sync_us: u64,
}

impl Plan {
    /// `nodes` nodes with different counts of shards, whose clocks agree and whose parts take no time, but for syncs.
    pub fn new(nodes: usize) -> Plan {
        Plan {
            seed: 1,
            shards: (0..nodes).map(|node| [2, 1, 3][node % 3]).collect(),
            shard: ShardConfig {
                shard: 0,
                shards: 1,
                max_inflight: 256,
                record_cache: 0,
                max_siblings: 50,
                sloppy: true,
                max_value: 4096,
                max_object: 64 << 20,
                r: Level::Quorum,
                w: Level::Quorum,
                sync_by_default: true,
                request_timeout: Duration::from_secs(2),
                attempt_timeout: Duration::from_millis(300),
                read_repair_chance: 0.0,
                hedge_after: HedgeAfter::P95,
                secret: [7; 32],
                antientropy: ExchangeConfig {
                    interval: Duration::ZERO,
                    scrub_interval: Duration::ZERO,
                    leaves: 64,
                    ..ExchangeConfig::default()
                },
                hints: HintsConfig::default(),
            },
            memory: MemoryConfig::default(),
            partitions: 16,
            sync_us: 300,
        }
    }

    pub fn seed(mut self, seed: u64) -> Plan {
        self.seed = seed;
        self
    }

    /// Syncs take up to so many microseconds, and drains go on meanwhile; with none they are over at once.
    pub fn syncs(mut self, sync_us: u64) -> Plan {
        self.sync_us = sync_us;
        self
    }

    fn terms(&self) -> Terms {
        let bucket = |name: &str, config| (Bucket::new(name).unwrap(), config);
        let lww = BucketConfig { n: 3, conflict: Conflict::Lww };
        Terms {
            cluster: "test".into(),
            partitions: Partitions::new(self.partitions).unwrap(),
            buckets: [bucket(Bucket::DEFAULT, BucketConfig::default()), bucket("latest", lww)].into(),
        }
    }

    pub fn node(&self, index: usize) -> Node<MemoryDisk> {
        let control = ControlConfig {
            zone: "default".into(),
            weight: 1000,
            address: address(index),
            seeds: vec![address(0), address(1.min(self.shards.len() - 1))],
            expect: u32::try_from(self.shards.len()).unwrap(),
            terms: self.terms(),
            gossip: GossipConfig { interval: Duration::from_millis(100), ..GossipConfig::default() },
        };
        let (shards, shard) = (self.shards[index], self.shard.clone());
        let config = NodeConfig { name: format!("n{}", index + 1), shards, control, shard };
        let disk = MemoryDisk::new(MemoryConfig { seed: self.seed * 100 + index as u64, ..self.memory });
        let mut node = Node::new(config, disk);
        node.pace.sync = self.sync_us;
        node
    }

    /// The nodes, none of which runs.
    pub fn asleep(self) -> World {
        let nodes = (0..self.shards.len()).map(|index| self.node(index)).collect();
        World::new(self.seed, nodes, None)
    }

    /// The cluster, born and connected.
    pub fn born(self) -> World {
        let mut world = self.asleep();
        (0..world.nodes.len()).for_each(|node| world.start(node));
        world.settle();
        world
    }
}

fn address(index: usize) -> String {
    format!("10.0.0.{}:7400", index + 1)
}
