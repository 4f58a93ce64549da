//! What a reaper has done by others, and what they tell it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::antientropy::exchange::Step;
use crate::storage::Holds;
use crate::storage::merkle::TreeId;
use crate::types::{Generation, NodeId, NodeRun, RingVersion, Round};
use crate::version::Digest;

/// A key, as the store has it, and the digest of its tombstone's object.
pub type Candidate = (Bytes, Digest);

/// What is to be done. Each is answered once, however late, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaperCommand {
    /// Find tombstones of the tree in this store, and call [`Reaper::on_found`].
    Find {
        /// For the call.
        step: Step,
        /// The tree.
        tree: TreeId,
        /// Only what lies behind this key.
        after: Option<Bytes>,
        /// At most so many.
        limit: usize,
    },
    /// Ask a member, this node perhaps, and call [`Reaper::on_inquired`].
    Inquire {
        /// For the call.
        step: Step,
        /// Whom.
        member: NodeId,
        /// Of which tree.
        tree: TreeId,
        /// What it holds of these.
        candidates: Vec<Candidate>,
    },
    /// Have a member raise its round ([`Store::fence`](crate::storage::Store::fence)), once: a second request is refused. Call
    /// [`Reaper::on_vouched`].
    Fence {
        /// For the call.
        step: Step,
        /// Whom.
        member: NodeId,
        /// Of which tree.
        tree: TreeId,
        /// The round.
        round: Round,
        /// What it is to vouch for.
        candidates: Vec<Candidate>,
    },
    /// Have a member delete these ([`Op::Reap`](crate::storage::Op::Reap)), and call [`Reaper::on_reaped`].
    Reap {
        /// For the call.
        step: Step,
        /// Whom.
        member: NodeId,
        /// Of which tree.
        tree: TreeId,
        /// The round.
        round: Round,
        /// What.
        candidates: Vec<Candidate>,
    },
}

/// Tombstones that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// Nothing else stands under these keys.
    pub candidates: Vec<Candidate>,
    /// Where to go on; `None`: the tree has been walked over.
    pub next: Option<Bytes>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquired {
    /// Which run of it this is.
    pub generation: Generation,
    /// Its ring.
    pub ring: RingVersion,
    /// The partition's round in its store.
    pub round: Round,
    /// It can vouch for nothing: it has lost its disk, and may lack what it once held, or it takes no writes.
    pub may_lack: bool,
    /// The latest run of each other node that it has granted: it does not listen to earlier ones.
    pub met: Vec<NodeRun>,
    /// Of each candidate.
    pub holds: Vec<Holds>,
}

/// What a member vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Which run of it this is.
    pub generation: Generation,
    /// Its ring.
    pub ring: RingVersion,
    /// For each candidate.
    pub yes: Vec<bool>,
}
