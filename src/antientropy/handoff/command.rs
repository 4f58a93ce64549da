//! What a handoff asks to be done.

use std::sync::Arc;

use bytes::Bytes;

#[cfg(doc)]
use super::Handoff;
use crate::storage::HintSpec;
use crate::types::{NodeId, Round};
use crate::version::{Digest, Object};

/// A hint that is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Which page was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read a page, and call [`Handoff::on_page`].
    Read {
        /// For the call.
        ticket: Ticket,
        /// Which.
        spec: HintSpec,
    },
    /// Read a hint's record, and call [`Handoff::on_found`].
    Look {
        /// For the call.
        job: JobId,
        /// Whose hint.
        target: NodeId,
        /// Of which object.
        key: Bytes,
    },
    /// See to it that all of these hold the object on their disks, this node perhaps among them, then call
    /// [`Handoff::on_acknowledged`]; or [`Handoff::on_failed`].
    Send {
        /// For the call.
        job: JobId,
        /// The primaries.
        to: Vec<NodeId>,
        /// The object's key.
        key: Bytes,
        /// The object.
        object: Arc<Object>,
        /// The reaping round at which it was read.
        round: Round,
    },
    /// One of them has met this reaping round, and the object is older: take the round over, durably, then read the hint's
    /// record again, and call [`Handoff::on_found`].
    LookAgain {
        /// For the call.
        job: JobId,
        /// Whose hint.
        target: NodeId,
        /// Of which object.
        key: Bytes,
        /// The round.
        round: Round,
    },
    /// Drop a hint that is where it belongs, and call [`Handoff::on_dropped`].
    Drop {
        /// For the call.
        job: JobId,
        /// Whose.
        target: NodeId,
        /// Of which object.
        key: Bytes,
        /// The hint's when it was read.
        digest: Digest,
        /// The object's that was sent.
        sent: Digest,
        /// This node is a primary of the object.
        keep_object: bool,
    },
    /// Remove a key from the index that nobody can have written.
    Forget {
        /// As it stands there.
        index_key: Bytes,
    },
    /// Drop a hint that nobody has acknowledged, and call [`Handoff::on_dropped`].
    Discard {
        /// For the call.
        job: JobId,
        /// Whose.
        target: NodeId,
        /// Of which object.
        key: Bytes,
        /// Even if a write was acknowledged because of it.
        counted_too: bool,
        /// This node is a primary of the object.
        keep_object: bool,
    },
}
