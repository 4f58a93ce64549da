//! What a reaper has done, and what is in its way.

use super::Reaper;
use crate::types::NodeId;

/// What it has done, in plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaperCounters {
    /// Rounds that have come to their end.
    pub rounds: u64,
    /// Rounds that somebody was in the way of.
    pub given_up: u64,
    /// Tombstones that all members have been told to delete.
    pub reaped: u64,
    /// Tombstones left for another round, since not all vouched for them.
    pub left: u64,
}

/// Why tombstones stay where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReapWait {
    /// An operator's order.
    Paused,
    /// Clients keep the node busy.
    Load,
    /// Members that cannot be reached: they may hold what a tombstone deletes.
    Away(Vec<NodeId>),
    /// A member has not answered, or has refused to.
    Silent(NodeId),
    /// A member has lost its disk and is not filled again, or takes no writes.
    Lacks(NodeId),
    /// A member follows another ring.
    OtherRing(NodeId),
    /// A member has started anew during the round.
    Restarted(NodeId),
    /// A member may still listen to an earlier run of another one.
    Unmet {
        /// The member.
        member: NodeId,
        /// The other one.
        of: NodeId,
    },
    /// This node could not read its own tombstones.
    Unreadable,
}

/// What it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaperStatus {
    /// Trees whose tombstones this shard has reaped.
    pub trees: u64,
    /// Why it does nothing, or what has ended the last round; `None`: nothing is in its way.
    pub waiting: Option<ReapWait>,
    /// Candidates of the last walk over each tree that not all members vouched for.
    pub left: u64,
}

impl Reaper {
    /// What it is about; `None` before the ring is known.
    pub fn status(&self) -> Option<ReaperStatus> {
        self.view.as_ref()?;
        let away: Vec<NodeId> = self.away().collect();
        let waiting = if self.paused {
            Some(ReapWait::Paused)
        } else if !away.is_empty() {
            Some(ReapWait::Away(away))
        } else if self.busy {
            Some(ReapWait::Load)
        } else {
            self.obstacle.clone()
        };
        Some(ReaperStatus { trees: self.trees.len() as u64, waiting, left: self.trees.values().sum() })
    }
}
