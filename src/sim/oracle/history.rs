//! What a run records for the oracle: what clients asked and were told, and what befell the nodes.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{Time, WriteId};

/// A key of the history: an index into [`History::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub u32);

/// One operation of a client: a read, or one attempt at a write. Unique in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u32);

/// What the store calls the effect of one attempt at a write: opaque here, and unique within a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(pub (u64, u64));

/// What a key's bucket does with concurrent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// All are kept until a client merges them.
    Siblings,
    /// One wins, the others go.
    LastWriteWins,
}

/// A run, as seen from outside.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The keys that clients used; a [`KeyId`] is an index.
    pub keys: Vec<Conflict>,
    /// How many replicas a key has.
    pub replicas: u8,
    /// How long before an attempt at a write its acknowledgements may date from: an attempt may join an earlier one that is
    /// still under way. What a holder lost before that excuses nothing.
    pub grace: Duration,
    /// Whether tombstones may be reaped without a [`Event::Reaped`], since nobody outside learns of it. What a delete had replaced may then be
    /// missing, and the delete itself, where nothing shows that it was not reaped.
    pub reaps_unseen: bool,
    /// The events in the order in which they happened, so in the order of time.
    pub events: Vec<(Time, Event)>,
}

/// One sibling of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The write that it is said to come from.
    pub write: WriteId,
    /// The effect of that write that is shown.
    pub label: Label,
    /// The value; none is a tombstone.
    pub body: Option<Bytes>,
}

/// A node that held a write before the write was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node: u16,
    /// Whether its log was synced with the write in it, so that the write outlives a power loss.
    pub synced: bool,
    /// It stood in for this node, to which its copy goes as soon as that is possible.
    pub heir: Option<u16>,
}

/// How an attempt at a write ended. An attempt that has no ending ended as [`Ending::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client was told that the write is done.
    Acked {
        /// The effect that the acknowledgement names.
        label: Label,
        /// The nodes that the acknowledgement counts on.
        by: Vec<Holder>,
    },
    /// The attempt was surely not applied, and never will be.
    Refused,
    /// The client cannot know: a timeout, a lost connection.
    Unknown,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An attempt at a write begins. A write id that was seen before is a retry: its key, body and basis are the same.
    Write {
        /// The attempt.
        op: OpId,
        /// The key written.
        key: KeyId,
        /// The write, the same for all attempts at it.
        write: WriteId,
        /// The value; none is a delete.
        body: Option<Bytes>,
        /// The answered read or acknowledged write whose context the write carries; none is a blind write.
        basis: Option<OpId>,
    },
    /// An attempt at a write ended.
    Wrote {
        /// The attempt.
        op: OpId,
        /// How it ended.
        ending: Ending,
    },
    /// A read begins.
    Read {
        /// The read.
        op: OpId,
        /// The key read.
        key: KeyId,
        /// How many distinct replicas were asked for; 0 if that is not known.
        replicas: u8,
    },
    /// A read demands to be shown at least what an operation before it led to: what that read showed, or that write.
    Demanded {
        /// The read.
        op: OpId,
        /// The answered read or acknowledged write before it.
        after: OpId,
    },
    /// A read was answered. A read that failed has no such event.
    Answered {
        /// The read.
        op: OpId,
        /// All siblings, tombstones included; empty if the key holds nothing.
        siblings: Vec<Shown>,
        /// Of the replicas that were counted, how many only stood in for one. A replica's place is not taken by who stands in
        /// and has nothing, so there is none of them in an answer without siblings.
        stood_in: u8,
    },
    /// What an answered read showed was by then on the disks of so many replicas.
    Settled {
        /// The read.
        op: OpId,
        /// How many.
        replicas: u8,
    },
    /// A node lost its disk.
    Wiped {
        /// The node.
        node: u16,
    },
    /// A node lost what it had not synced.
    PowerLost {
        /// The node.
        node: u16,
    },
    /// A node's copy of one key was damaged on disk.
    Damaged {
        /// The node.
        node: u16,
        /// The key.
        key: KeyId,
    },
    /// Tombstones are deleted, and with them the last trace of what they replaced: a reader may be shown nothing of it from now on.
    Reaped {
        /// The key.
        key: KeyId,
        /// The tombstones.
        tombstones: Vec<Shown>,
    },
    /// From now on nodes may tell of a key that there is nothing, whoever has seen something: a reaping round was raised that it falls
    /// into, whether or not its own tombstones were reaped. Before that nothing can have been reaped.
    RoundRaised {
        /// The key.
        key: KeyId,
    },
    /// A fault became active; several may be at once.
    FaultBegan,
    /// One of the active faults ended.
    FaultEnded,
    /// What all replicas of a key hold at the very end, merged; once a key, for every key.
    Final {
        /// The key.
        key: KeyId,
        /// All siblings and tombstones.
        siblings: Vec<Shown>,
    },
}
