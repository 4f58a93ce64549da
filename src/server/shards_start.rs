//! What waits for the ring: the shards' tasks, and the check of what was fixed at the cluster's birth.

use std::sync::Arc;

use super::ServerError;
use super::birth_terms::BirthTerms;
use super::shard::{ShardTask, Shards, Surroundings};
use super::supervise::{OnEnd, Supervisor};
use crate::node::ShardConfig;
use crate::ring::Layout;
use crate::storage::Rounds;
use crate::storage::merkle::Forest;
use crate::types::NodeId;

/// The name of the shards' tasks.
pub const SHARD_TASK: &str = "shard";

/// Starts the shards once the node knows its ring, and with it, for good, who it is.
pub struct ShardsStart {
    /// The shards' ends that others see.
    pub shards: Arc<Shards>,
    /// Of the first; the others' differ in the index.
    pub config: ShardConfig,
    /// What they share.
    pub with: Surroundings,
    /// What their random numbers come from.
    pub seed: u64,
    /// What the configuration says of the birth.
    pub terms: BirthTerms,
}

impl ShardsStart {
    /// Compares the configuration with what the cluster was born with.
    ///
    /// # Errors
    /// [`ServerError::FixedAtBirth`].
    pub fn check_birth(&self, layout: &Layout) -> Result<(), ServerError> {
        self.terms.check(layout)
    }

    /// Starts the tasks.
    pub fn start(self, node: NodeId, (forest, rounds): (&Forest, &Rounds), supervisor: &Supervisor) {
        for (index, shard) in (0..).zip(self.shards.all()) {
            let config = ShardConfig { shard: index, ..self.config.clone() };
            let seed = self.seed.wrapping_add(u64::from(index));
            let task = ShardTask::new(shard.clone(), config, node, self.with.clone(), (forest, rounds), seed);
            supervisor.joined_task(SHARD_TASK, OnEnd::StopNode, async move {
                task.run().await;
                Ok(())
            });
        }
    }
}
