//! What goes into Control and what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::gossip::Verdict;
use crate::message::{ControlMessage, HelloRefusal};
use crate::node::Standing;
use crate::ring::RingView;
use crate::storage::MetaKey;
use crate::types::{BatchNumber, Generation, NodeId, NodeRun};

/// A connection to a peer, as the driver numbers it. The dialer asks, the other side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What happens to Control.
#[derive(Clone, Debug)]
pub enum ControlInput {
    /// A link stands and its certificates have been checked.
    LinkUp {
        /// Which.
        link: LinkId,
        /// The address that this node dialed; `None`: the peer dialed.
        dialed: Option<String>,
        /// The peer's name by its certificate.
        certified: String,
    },
    /// A link is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A peer's control says something.
    Message {
        /// On which link.
        link: LinkId,
        /// The id of the request.
        id: u64,
        /// What.
        message: ControlMessage,
    },
    /// This node has lost its disk, and has since filled all its trees from their other primaries.
    Rebuilt,
    /// Everything up to this number is on this node's disk.
    Synced(BatchNumber),
    /// Time has passed: the moment that `poll_timeout` named.
    Timer,
}

/// Which peers the shards can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The peer has welcomed this node on a link that this node dialed: open the shards' lanes on it.
    Up {
        /// Who, in which run.
        peer: NodeRun,
        /// By which link.
        link: LinkId,
    },
    /// The link is gone.
    Down {
        /// Who.
        node: NodeId,
    },
}

/// Why the process must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// A peer refuses this node for good.
    #[error("{peer} refuses this node: {reason}")]
    Refused {
        /// The peer's name.
        peer: String,
        /// Its reason.
        reason: HelloRefusal,
    },
    /// A later run of this node is about.
    #[error("another process runs as this node with generation {}, this one has {}", .theirs.0, .ours.0)]
    Superseded {
        /// The other's.
        theirs: Generation,
        /// This one's.
        ours: Generation,
    },
    /// The cluster has a layout that this node's vote or identity contradicts.
    #[error("{reason}")]
    Layout {
        /// In which way.
        reason: String,
    },
}

/// What comes of an input. The records are written and synced before anything else here takes place.
#[derive(Debug, Default)]
pub struct ControlEffects {
    /// To be written and synced first.
    pub persist: Vec<(MetaKey, Vec<u8>)>,
    /// To be said on a link's control lane; the number is the request's id.
    pub sends: Vec<(LinkId, u64, ControlMessage)>,
    /// Peers whose shards may open lanes on a link that they dialed.
    pub admit: Vec<(LinkId, NodeRun)>,
    /// The latest runs that this node has granted, for the shards; each before its shards' lanes are let in.
    pub met: Vec<NodeRun>,
    /// Links to be closed after the sends, and why.
    pub close: Vec<(LinkId, String)>,
    /// Changes of reachability, for the shards.
    pub routes: Vec<Route>,
    /// The addresses that are to be kept dialed from now on.
    pub dial: Option<BTreeSet<String>>,
    /// A new ring, for the shards and listeners.
    pub ring: Option<Arc<RingView>>,
    /// A new standing, for the shards.
    pub standing: Option<Standing>,
    /// Changes of opinion about who lives, for the shards.
    pub verdicts: Vec<Verdict>,
    /// The process must end.
    pub fatal: Option<Fatal>,
}
