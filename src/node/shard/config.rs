//! What a shard is told at its start.

use std::time::Duration;

use crate::antientropy::ExchangeSettings;
use crate::antientropy::config::{ExchangeConfig, HintsConfig};
use crate::quorum::{HedgeAfter, Level};
use crate::storage::merkle::Leaves;
use crate::types::NodeId;

/// See the module.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Its index in the node.
    pub shard: u16,
    /// How many shards the node has: which partitions are this one's, and its part of what they share.
    pub shards: u16,
    /// Requests of clients that may wait for an answer at a time; more are `Overloaded`.
    pub max_inflight: usize,
    /// Bytes of records that the shard keeps in memory; 0 keeps none.
    pub record_cache: usize,
    /// Siblings that a write may leave.
    pub max_siblings: u32,
    /// Bytes of a value.
    pub max_value: usize,
    /// Bytes of the longest object that a frame holds: merges leave longer ones, which stay where they are.
    pub max_object: usize,
    /// R where a request names none.
    pub r: Level,
    /// W where a request names none.
    pub w: Level,
    /// Other nodes stand in for primaries that cannot be reached, unless a request forbids it.
    pub sloppy: bool,
    /// A write is by default durable at W replicas before it is acknowledged.
    pub sync_by_default: bool,
    /// How long a request may take that names no deadline; write ids are remembered twice as long.
    pub request_timeout: Duration,
    /// After which a replica that has not answered is asked again.
    pub attempt_timeout: Duration,
    /// How likely a get asks all replicas, so that all that are behind are repaired: 0 to 1.
    pub read_repair_chance: f64,
    /// When a get asks one replica more than it needs.
    pub hedge_after: HedgeAfter,
    /// The cluster's secret, for context tokens.
    pub secret: [u8; 32],
    /// The node's, for what is compared with other replicas.
    pub antientropy: ExchangeConfig,
    /// The node's, for what is kept for others.
    pub hints: HintsConfig,
}

impl ShardConfig {
    /// Of each Merkle tree.
    pub fn leaves(&self) -> Leaves {
        self.antientropy.tree_leaves().unwrap_or_default()
    }

    /// What the exchange is told.
    pub(super) fn exchange(&self, node: NodeId) -> ExchangeSettings {
        ExchangeSettings {
            node,
            shard: self.shard,
            shards: self.shards,
            leaves: self.leaves(),
            max_object: self.max_object as u64,
            config: self.antientropy.clone(),
        }
    }
}
