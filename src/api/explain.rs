//! The question of what a read and a write of a key would come to now.

use serde::{Deserialize, Serialize};

use crate::quorum::{Candidate, Forecast, Level};
use crate::types::{Bucket, Key, NodeId, PartitionId};

/// Asks a node what it would do with a get and a put of a key, without doing either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// Where the key lives.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
    /// As in [`super::Get`].
    pub r: Option<Level>,
    /// As in [`super::Get`].
    pub pr: Option<Level>,
    /// As in [`super::PutHeader`].
    pub w: Option<Level>,
    /// As in [`super::PutHeader`].
    pub pw: Option<Level>,
    /// As in [`super::PutHeader`].
    pub dw: Option<u8>,
    /// Nobody stands in for a primary that is away.
    pub strict: bool,
}

/// What the asked node would do, and whom it relies on for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReply {
    /// The asked node: all is as it sees it.
    pub node: NodeId,
    /// Who would coordinate a put: the asked node, or the primary that it would hand it to.
    pub coordinator: NodeId,
    /// The key's place on the ring.
    pub token: u64,
    /// Its partition.
    pub partition: PartitionId,
    /// Replicas of the key.
    pub n: u8,
    /// Replicas that must answer a read, primaries among them.
    pub r: (u8, u8),
    /// Replicas that must have a write, primaries among them, and how many must have it on disk.
    pub w: (u8, u8, u8),
    /// The preference list: the primaries by slot, then who would stand in, in order.
    pub candidates: Vec<Candidate>,
    /// What a get would come to.
    pub read: Forecast,
    /// What a put would come to.
    pub write: Forecast,
}
