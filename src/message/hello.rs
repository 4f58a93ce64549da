//! The first words on a link: who dials, and whether he is let in.

use serde::{Deserialize, Serialize};

use crate::types::{BatchNumber, ClusterId, DiskId, Generation, NodeId, Nonce};

/// Who dials: the first frame on every link between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`](super::PROTOCOL).
    pub protocol: u16,
    /// The cluster, once the sender belongs to one; another cluster's nodes are refused.
    pub cluster: Option<ClusterId>,
    /// The sender's ring slot.
    pub node: NodeId,
    /// The sender's name, as in its certificate.
    pub name: String,
    /// The sender's data directory.
    pub disk: DiskId,
    /// The generation that the directory held when the process opened it.
    pub stored: Generation,
    /// The generation of this run.
    pub generation: Generation,
    /// This process.
    pub nonce: Nonce,
    /// The batch number that the directory recovered.
    pub recovered: BatchNumber,
    /// The directory has taken the place of a lost one, and is not rebuilt yet.
    pub rebuilding: bool,
    /// With which generation it did so, so that of two directories the later one is known; 0: of none.
    pub took_over: Generation,
}

/// Why a hello is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HelloRefusal {
    /// It speaks another protocol.
    #[error("it speaks protocol {theirs}, this node speaks {ours}")]
    Protocol {
        /// The dialer's.
        theirs: u16,
        /// The answerer's.
        ours: u16,
    },
    /// It belongs to another cluster.
    #[error("it belongs to cluster {theirs}, this node to {ours}")]
    OtherCluster {
        /// The dialer's.
        theirs: ClusterId,
        /// The answerer's.
        ours: ClusterId,
    },
    /// Its name is not its certificate's.
    #[error("it calls itself {claimed:?}, its certificate says {certified:?}")]
    WrongName {
        /// In the hello.
        claimed: String,
        /// In the certificate.
        certified: String,
    },
    /// The layout has no such member.
    #[error("the cluster has no member {name:?}")]
    NotAMember {
        /// The dialer's name.
        name: String,
    },
    /// The member has left for good.
    #[error("this node has left the cluster for good; a departed id never returns")]
    Departed,
    /// The name is bound to another identity; a node without data takes that one.
    #[error("the name is bound to node {node}")]
    BoundTo {
        /// The ring slot of that name.
        node: NodeId,
        /// The highest generation that was granted to it.
        generation: Generation,
    },
    /// The directory is older than what this node has seen of it.
    #[error(
        "its data directory is an old copy: it recovered generation {stored}, batch {recovered}, but generation {granted}, batch {synced} was seen; wipe it, it rebuilds",
        stored = stored.0, recovered = recovered.0, granted = granted.0, synced = synced.0
    )]
    OldCopy {
        /// What the directory held.
        stored: Generation,
        /// The batch that it recovered.
        recovered: BatchNumber,
        /// The highest generation granted.
        granted: Generation,
        /// The highest batch that was seen as synced.
        synced: BatchNumber,
    },
    /// Another process runs with the same identity and generation.
    #[error(
        "another process has been granted generation {generation} of this node: the data directory is an old copy, or another runs on a copy of it; stop the other, or wipe this one, it rebuilds",
        generation = generation.0
    )]
    Twin {
        /// That generation.
        generation: Generation,
    },
    /// A new disk must start above what its predecessor was granted.
    #[error("a new disk of this node starts above generation {granted}", granted = granted.0)]
    RaiseGeneration {
        /// The highest generation granted.
        granted: Generation,
    },
    /// The dialer has reached itself.
    #[error("a node has dialed itself")]
    Yourself,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// The generation is granted, durably, to the hello's nonce.
    Welcome {
        /// Who answers.
        node: NodeId,
        /// Its name.
        name: String,
        /// Its data directory.
        disk: DiskId,
        /// Its run.
        generation: Generation,
        /// It has a new disk and is not rebuilt: its grant does not count.
        rebuilding: bool,
    },
    /// Go away, and why.
    Refused(HelloRefusal),
}
