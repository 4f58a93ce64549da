//! What an operator may order to be done about what a node keeps for others.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

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
