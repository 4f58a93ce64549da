//! Where a key lives, and who holds what of it.

use serde::{Deserialize, Serialize};

use super::{Deadline, SiblingMeta};
use crate::types::{Bucket, Key, NodeId, PartitionId};

/// Asks every replica of a key which version it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Where {
    /// Where the key lives.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
    /// When to give up.
    pub deadline: Deadline,
}

/// What one replica holds of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holding {
    /// No record.
    Nothing,
    /// This version.
    Version {
        /// The digest of context and dots, in hexadecimal: equal digests are equal objects.
        digest: String,
        /// Its siblings.
        siblings: Vec<SiblingMeta>,
    },
    /// No answer within the deadline, or the reason it gave.
    NoAnswer {
        /// Why.
        reason: String,
    },
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereReply {
    /// The key's place on the ring.
    pub token: u64,
    /// Its partition.
    pub partition: PartitionId,
    /// The slots in order, and what each node holds.
    pub slots: Vec<(NodeId, Holding)>,
    /// Who would stand in, in order.
    pub stand_ins: Vec<NodeId>,
}
