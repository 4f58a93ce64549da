//! What an exchange asks to be done, and what it is told of the outcome.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::storage::merkle::{Leaves, SumsSpec, TreeId};
use crate::types::NodeId;
use crate::version::Versions;

/// Which command an answer is for; those that nobody waits for any more are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u64);

/// What is to be done. Each that has a step is answered once, however late, by the call that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeCommand {
    /// Tell a peer the roots of these trees, and call [`Exchange::on_compared`](super::Exchange::on_compared). They are
    /// of one of the peer's shards, once it is known how many it has.
    Compare {
        /// For the call.
        step: Step,
        /// Who is asked.
        peer: NodeId,
        /// At most [`MAX_TREES`](super::MAX_TREES).
        trees: Vec<TreeId>,
    },
    /// Ask a peer for sums, and call [`Exchange::on_peer_sums`](super::Exchange::on_peer_sums). Those of the branches are the
    /// first that is asked for in an exchange: they engage the tree at the peer.
    PeerSums {
        /// For the call.
        step: Step,
        /// Who is asked.
        peer: NodeId,
        /// Which.
        spec: SumsSpec,
    },
    /// Look up own sums, and call [`Exchange::on_own_sums`](super::Exchange::on_own_sums).
    OwnSums {
        /// For the call.
        step: Step,
        /// Which.
        spec: SumsSpec,
    },
    /// Ask a peer for the keys under which it has something else, and call [`Exchange::on_peer_items`](super::Exchange::on_peer_items).
    PeerItems {
        /// For the call.
        step: Step,
        /// Who is asked.
        peer: NodeId,
        /// The tree.
        tree: TreeId,
        /// How many leaves it is taken to have.
        leaves: Leaves,
        /// Those leaves, ascending; at most [`MAX_LEAVES`](super::MAX_LEAVES).
        of: Vec<u32>,
        /// Only what lies behind this key, as the store has it.
        after: Option<Bytes>,
        /// Only what lies up to this key, that one included.
        until: Option<Bytes>,
        /// Shorter hashes of what this node has of that, by key: at most [`MAX_PAGE`](super::MAX_PAGE).
        known: Vec<u64>,
        /// At most so many keys.
        limit: u32,
    },
    /// Read own keys, and call [`Exchange::on_own_items`](super::Exchange::on_own_items).
    OwnItems {
        /// For the call.
        step: Step,
        /// The tree.
        tree: TreeId,
        /// How many leaves it is taken to have.
        leaves: Leaves,
        /// Those leaves, ascending.
        of: Vec<u32>,
        /// Only what lies behind this key, as the store has it.
        after: Option<Bytes>,
        /// At most so many keys.
        limit: u32,
    },
    /// Have a peer send its objects of these keys, and call [`Exchange::on_wanted`](super::Exchange::on_wanted) once this
    /// node has merged them or refused.
    Want {
        /// For the call.
        step: Step,
        /// Who has them.
        peer: NodeId,
        /// The tree.
        tree: TreeId,
        /// As the store has them; at most [`MAX_KEYS`](super::MAX_KEYS).
        keys: Vec<Bytes>,
    },
    /// Send a peer own objects of these keys, and call [`Exchange::on_pushed`](super::Exchange::on_pushed) once it has merged
    /// them or refused.
    Push {
        /// For the call.
        step: Step,
        /// Who lacks them.
        peer: NodeId,
        /// The tree.
        tree: TreeId,
        /// As the store has them; at most [`MAX_KEYS`](super::MAX_KEYS).
        keys: Vec<Bytes>,
    },
    /// Whatever this node or the peer held of a tree when they began to compare it is with both.
    Agreed {
        /// The tree.
        tree: TreeId,
        /// The peer.
        peer: NodeId,
    },
}

/// Why a step has come to nothing. None says anything of what has been merged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFailure {
    /// The peer did not answer in time, or cannot be reached.
    #[error("no answer")]
    Unanswered,
    /// The peer compares this tree with another node.
    #[error("the peer compares this tree with another node")]
    Busy,
    /// The peer, or this node, has no room for background work now.
    #[error("no room for background work")]
    Overloaded,
    /// What one of them holds cannot be read.
    #[error("unreadable data")]
    Unreadable,
    /// It is not known yet what the tree holds.
    #[error("the tree is being counted")]
    Unknown,
    /// The answer is none to what was asked.
    #[error("an answer that does not fit the question")]
    Malformed,
    /// Whoever was to merge something takes no writes now: its disk is full, perhaps.
    #[error("takes no writes now")]
    ReadOnly,
    /// The peer has refused for another reason: its ring is another, perhaps.
    #[error("refused")]
    Refused,
}

/// What a peer says of a tree whose root it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TreeVerdict {
    /// Its root is the same.
    Same,
    /// Its root is another.
    Differs,
    /// Another of its shards has the tree.
    Elsewhere,
    /// It has to count the tree first. Also said by the own side, of a tree whose own root is not known.
    Unknown,
    /// It is no primary of the tree.
    NotAReplica,
}

/// A peer's answer about the roots of some trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How many shards it has, at least 1.
    pub shards: u16,
    /// It has lost its disk, and does not hold all that it ought to.
    pub rebuilding: bool,
    /// One for each tree, in the order in which they were asked about.
    pub verdicts: Vec<TreeVerdict>,
}

/// A key of a peer's under which it does not have what this node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerItem {
    /// As the store has it.
    pub key: Bytes,
    /// Half of its hash.
    pub hash: u64,
    /// The object, but for its values; none if that is too long to be told.
    pub versions: Option<Versions>,
}

/// What a peer has of some keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPage {
    /// Which of the hashes that it was told are of something that it has as well, in their order.
    pub same: Vec<bool>,
    /// All others that it has, ascending.
    pub items: Vec<PeerItem>,
    /// Keys whose records it cannot read; they are not among the items.
    pub rotten: u32,
    /// The key up to which, that one included, it has looked at all; `None`: all.
    pub next: Option<Bytes>,
}

/// What became of objects that were to be sent. Of keys that the sender no longer has, nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Objects that the receiver has merged.
    pub sent: u32,
    /// Objects that cannot be read, or cannot be merged, each for a reason of its own. What holds for all of them is a failure
    /// of the step.
    pub failed: u32,
    /// Bytes of the objects sent.
    pub bytes: u64,
}
