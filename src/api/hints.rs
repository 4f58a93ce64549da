//! What a node keeps for others, and what an operator may order to be done about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// What one node keeps for another that missed writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintStatus {
    /// Who waits.
    pub target: NodeId,
    /// Its name in the layout; its identity if it has left.
    pub name: String,
    /// Keys that wait.
    pub hints: u64,
    /// Of these, those by which a write was acknowledged: they stay until their target holds them.
    pub counted: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    /// The holder's wall clock when the longest-waiting one was given, or earlier, in milliseconds since 1970.
    pub oldest_wall_ms: u64,
    /// Keys that the target has got since it was last away, or since the holder's process began.
    pub replayed: u64,
    /// Bytes a second that it got lately; 0 while nothing is sent.
    pub rate: u64,
}

impl HintStatus {
    /// For how long the replay goes on at today's rate; `None` while nothing is sent.
    pub fn drains_in(&self) -> Option<Duration> {
        (self.rate > 0).then(|| Duration::from_secs(self.bytes.div_ceil(self.rate)))
    }
}

/// What an operator wants done about hints on the asked node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HintOrder {
    /// Replay at once, however often it has failed.
    Flush {
        /// What waits for this node; `None`: for all.
        target: Option<NodeId>,
    },
    /// Drop all that waits for a node which is never to return, writes included that were acknowledged because of it.
    Drop {
        /// The node.
        target: NodeId,
    },
}

impl HintOrder {
    /// The one node that it concerns; `None`: all.
    pub fn target(self) -> Option<NodeId> {
        match self {
            HintOrder::Flush { target } => target,
            HintOrder::Drop { target } => Some(target),
        }
    }
}

/// A [`HintOrder`] has been handed to the asked node's shards, which carry it out after this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintsOrdered {
    /// Hints that the order was about, as last counted.
    pub hints: u64,
    /// Of these, those by which a write was acknowledged.
    pub counted: u64,
    /// Bytes of the objects.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_move_has_no_end() {
        let status = |bytes, rate| HintStatus {
            target: NodeId(1),
            name: "n1".into(),
            hints: 1,
            counted: 0,
            bytes,
            oldest_wall_ms: 0,
            replayed: 0,
            rate,
        };
        assert_eq!(status(1000, 0).drains_in(), None);
        assert_eq!(status(1001, 100).drains_in(), Some(Duration::from_secs(11)));
        assert_eq!(status(u64::MAX, 1).drains_in(), Some(Duration::from_secs(u64::MAX)));
    }
}
