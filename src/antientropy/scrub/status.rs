//! How far a scrub is.

use std::time::Duration;

use super::Scrub;
use crate::storage::merkle::COUNTED_LEAVES;
use crate::types::{PartitionId, Time};

/// See the module. A leaf is a part of a partition, in all trees of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// What is being read now.
    pub running: Option<PartitionId>,
    /// Leaves that were read by the order under way,
    pub done: u64,
    /// of so many; 0 without one.
    pub of: u64,
    /// Leaves that the slow walk has read since it was last everywhere,
    pub walked: u64,
    /// of so many.
    pub leaves: u64,
    /// When it will have been everywhere, at its pace; `None`: it does not walk.
    pub walk_ends: Option<Time>,
}

impl Scrub {
    /// How far it is.
    pub fn progress(&self) -> ScrubProgress {
        let of = if self.ordered.is_empty() { 0 } else { self.order * self.leaves() };
        let left: u64 = self.ordered.values().map(|from| self.leaves().saturating_sub((*from).into())).sum();
        ScrubProgress {
            running: self.running.map(|(_, job)| job.partition()),
            done: of.saturating_sub(left),
            of,
            walked: self.walked,
            leaves: self.all_leaves(),
            walk_ends: self.walk_at.map(|next| next + self.rest_of_walk()),
        }
    }

    fn leaves(&self) -> u64 {
        u64::from(self.settings.leaves.count())
    }

    /// Of all own partitions.
    pub(super) fn all_leaves(&self) -> u64 {
        self.own.len() as u64 * self.leaves()
    }

    /// How long the walk takes from its next stretch to its last, without the part by which its pauses differ.
    fn rest_of_walk(&self) -> Duration {
        let (all, each) = (self.all_leaves().max(1), u64::from(COUNTED_LEAVES));
        let left = all.saturating_sub(self.walked).saturating_sub(each);
        let micros = self.settings.config.scrub_interval.as_micros() * u128::from(left) / u128::from(all);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}
