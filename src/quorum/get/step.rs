//! What a get is told and what it says: its terms, and the steps that it asks for.

use std::sync::Arc;

use crate::quorum::{Ack, ReadQuorum};
use crate::ring::Slot;
use crate::types::{NodeId, Round};
use crate::version::{CausalContext, Digest, Object};

/// What a replica says that it holds of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// No record.
    #[default]
    Nothing,
    /// The very object that the asker named by this digest.
    Same(Digest),
    /// This object.
    Object(Arc<Object>),
}

/// What is asked of the replicas together.
#[derive(Clone, Debug)]
pub struct GetTerms {
    /// How many must answer.
    pub quorum: ReadQuorum,
    /// The primaries' slots in the order in which to ask them.
    pub order: Vec<Slot>,
    /// The coordinator, if it is a primary: it reads its own store by itself, once.
    pub own: Option<NodeId>,
    /// Who may stand in for primaries, the first to ask first.
    pub stand_ins: Vec<NodeId>,
    /// All primaries are asked, so that all who are behind are found.
    pub all: bool,
    /// N-R+1 primaries must hold the result on their disks before it is given.
    pub blocking: bool,
    /// The result must cover this.
    pub after: Option<CausalContext>,
    /// The stand-ins are all members that are no primaries.
    pub everybody: bool,
    /// A look again, after [`GetVerdict::LookAgain`]: that no primary holds anything is an answer.
    pub second: bool,
}

/// A node that is to be asked what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The slot that its answer is for.
    pub slot: Slot,
    /// Whom.
    pub node: NodeId,
    /// If it holds just this, its digest is answer enough.
    pub known: Option<Digest>,
    /// It is not the slot's primary.
    pub stand_in: bool,
    /// The read may do without it.
    pub hedge: bool,
    /// It was asked before.
    pub again: bool,
}

/// Primaries that are to merge what the read has found; the coordinator may be one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The merge of all that was found.
    pub object: Arc<Object>,
    /// The reaping round at which that was read; of a merge, the lowest of its parts'.
    pub round: Round,
    /// Who is behind it.
    pub to: Vec<(Slot, NodeId)>,
    /// The read waits until it is on their disks.
    pub sync: bool,
    /// They were sent it before.
    pub again: bool,
}

/// What the client is told; each get says it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetVerdict {
    /// The merge of what the counted (and the merely heard) replicas hold.
    Answer {
        /// `None`: none of them has a record.
        object: Option<Arc<Object>>,
        /// Who counted.
        acks: Vec<Ack>,
        /// Primaries that were found behind, by slot.
        repaired: Vec<NodeId>,
    },
    /// Too few answers.
    Timeout {
        /// Replies that counted.
        replies: u8,
    },
    /// Too few nodes are there to answer, or to be repaired.
    Unavailable {
        /// How many are, of the kind that falls short.
        able: u8,
        /// How many of them are needed.
        wanted: u8,
        /// Which kind falls short.
        kind: &'static str,
    },
    /// Enough have answered, and what they hold is older than what the reader has seen.
    Stale,
    /// Nobody holds anything of what the reader has seen, and it may have been reaped: that is known once all primaries are asked once
    /// more.
    LookAgain,
    /// Enough have answered, and too few primaries hold the result on their disks.
    Unrepaired {
        /// How many do.
        durable: u8,
        /// How many should.
        wanted: u8,
    },
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetStep {
    /// Who is to be asked.
    pub asks: Vec<Ask>,
    /// Who is to be repaired.
    pub repairs: Vec<Repair>,
    /// What the client is told.
    pub verdict: Option<GetVerdict>,
}
