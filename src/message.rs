//! Every message between nodes.
//!
//! | message | sender | answer | what its loss means |
//! |---|---|---|---|
//! | [`Hello`] | control, first on a link it dialed | [`HelloAnswer`] | the link is dialed anew |
//! | [`GossipSyn`] | control, each interval to one peer, and first on each link that it dialed | [`GossipAck`] | the next interval's does its work |
//! | [`GossipDelta`] | control, on a `GossipAck` that shows a gap | none | as above |
//! | [`Ping`] | control, to a member that has fallen silent | [`Pong`] | sent again a few times; with all lost, silence is taken for death |
//! | [`Coordinate`] | shard without the key, for a client | [`Coordinated`] | the sender coordinates itself, with the same write id |
//! | [`Replicate`] | coordinator, to each other slot | [`Replicated`] | sent again each attempt until the deadline; the write counts one replica less |
//! | [`Fetch`] | coordinator of a read, to as many as it needs | [`Fetched`] | another is asked, and it is asked again |
//! | [`Range`] | coordinator of a scan, to each slot | [`Ranged`] | as for a fetch |
//! | [`Compare`] | primary, to another one of the same partitions | [`Compared`] | the trees are compared again after a while |
//! | [`Sums`] | primary, of a tree that differs | [`Summed`] | the exchange of the tree ends; its next one finds what is left |
//! | [`Items`] | primary, of leaves that differ | [`Itemized`] | as for sums |
//! | [`Want`] | primary, for objects that it lacks | [`Wanted`] | as for sums; what was sent has been merged |
//!
//! | [`Reaping`] | runner of a reaping round, to each member | [`ReapingSaid`] | the round ends; the next one is another |
//! | [`AskRounds`] | shard of a new disk, to each member | [`RoundsTold`] | asked again; until then it takes nothing in |
//!
//! `Compare` to `Want` are in `message/exchange.rs`, the last two in `message/reaping.rs`.

mod exchange;
mod hello;
mod reaping;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::exchange::{
    Compare, Compared, ExchangeAnswer, ExchangeRequest, Itemized, Items, MAX_COMPARED, MAX_ITEMS, MAX_LEAVES, MAX_SUMS,
    MAX_WANTED, OtherItem, Summed, Sums, TreeKey, TreeVerdict, Want, Wanted,
};
pub use self::hello::{Hello, HelloAnswer, HelloRefusal};
pub use self::reaping::{
    AskRounds, Inquired, MAX_CANDIDATES, MAX_MEMBERS, MAX_PARTITIONS, Reaping, ReapingSaid, ReapingStep, RoundsTold,
    Vouched,
};
use crate::api::{ApiError, Put, Receipt, Timing, Trace};
use crate::gossip::{Known, MemberState};
pub use crate::quorum::Found;
use crate::storage::Page;
use crate::types::{Bucket, Key, NodeId, PartitionId, RingVersion, Round};
use crate::version::{Digest, Object};

/// The version of the protocol between nodes, and between clients and nodes. Another major one is refused.
pub const PROTOCOL: u16 = 4;

/// Asks a member that nobody has heard of for a while whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Which ping, by the sender's count.
    pub number: u64,
}

/// It does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// As in the [`Ping`].
    pub number: u64,
}

/// Asks for what the sender does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipSyn {
    /// What it knows.
    pub digest: Vec<Known>,
    /// The ring that it follows.
    pub ring: Option<RingVersion>,
}

/// What the asker does not know, and what the answerer knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipAck {
    /// The states that the asker lacks.
    pub delta: Vec<MemberState>,
    /// What the answerer knows.
    pub digest: Vec<Known>,
    /// The ring that the answerer follows.
    pub ring: Option<RingVersion>,
    /// Its layout, if the asker's is older; encoded.
    pub layout: Option<Bytes>,
}

/// What the answerer lacks in turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipDelta {
    /// The states that it lacks.
    pub delta: Vec<MemberState>,
    /// The layout, if its is older; encoded.
    pub layout: Option<Bytes>,
}

/// Between controls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`HelloAnswer`].
    HelloAnswer(HelloAnswer),
    /// See [`GossipSyn`].
    GossipSyn(GossipSyn),
    /// See [`GossipAck`].
    GossipAck(GossipAck),
    /// See [`GossipDelta`].
    GossipDelta(GossipDelta),
    /// See [`Ping`].
    Ping(Ping),
    /// See [`Pong`].
    Pong(Pong),
}

/// Why an object travels. The receiver treats all alike; it decides about urgency and accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Reason {
    /// A client's write.
    Write,
    /// A read has found the receiver behind.
    Repair,
    /// A hint: the receiver, or a slot of its, missed a write.
    Hint,
    /// An exchange: the receiver was found to lack it, or asked for it.
    Exchange,
}

impl Reason {
    /// Whether a loaded node does it last: nobody waits for it.
    pub fn is_background(self) -> bool {
        matches!(self, Reason::Hint | Reason::Exchange)
    }
}

impl From<Reason> for u8 {
    fn from(reason: Reason) -> u8 {
        match reason {
            Reason::Write => 0,
            Reason::Repair => 1,
            Reason::Hint => 2,
            Reason::Exchange => 3,
        }
    }
}

impl TryFrom<u8> for Reason {
    type Error = String;
    fn try_from(code: u8) -> Result<Reason, String> {
        match code {
            0 => Ok(Reason::Write),
            1 => Ok(Reason::Repair),
            2 => Ok(Reason::Hint),
            3 => Ok(Reason::Exchange),
            _ => Err(format!("{code} is no reason to replicate")),
        }
    }
}

/// A key and the ring by which its sender found the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The key's partition.
    pub partition: PartitionId,
    /// The bucket.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
}

/// Asks a primary to coordinate a client's put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinate {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The key's partition.
    pub partition: PartitionId,
    /// The client's request, its deadline lessened by the time it took so far.
    pub put: Put,
}

/// The one write message: merge this object into what you hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicate {
    /// Which key.
    pub to: Address,
    /// Why.
    pub reason: Reason,
    /// The receiver stands in for this primary: it keeps a hint for it with the object.
    pub hint_for: Option<NodeId>,
    /// Acknowledge only when it is on the disk.
    pub sync: bool,
    /// The reaping round at which the sender read its store; the fence of reaping compares it.
    pub round: Round,
    /// Its answer is to carry a [`Timing`].
    pub trace: bool,
    /// The object.
    pub object: Arc<Object>,
}

/// Asks for what a replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Which key.
    pub of: Address,
    /// A version that the asker has: a replica that holds just this one says so and sends no object.
    pub known: Option<Digest>,
    /// The receiver is asked in place of a primary.
    pub stand_in: bool,
    /// The read may do without this answer: a loaded node does it last.
    pub hedge: bool,
    /// Its answer is to carry a [`Timing`].
    pub trace: bool,
}

/// Asks for a page of a partition, in key order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The partition.
    pub partition: PartitionId,
    /// Only this bucket's keys.
    pub bucket: Bucket,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Only what lies behind this cursor.
    pub after: Option<Bytes>,
    /// At most so many objects.
    pub limit: u32,
}

/// Why a replica does not do what it is asked. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It follows another ring.
    #[error("it follows ring {}", .0.0)]
    Ring(RingVersion),
    /// It is no replica of the key.
    #[error("it is no replica of the key")]
    NotAReplica,
    /// Its queue is full.
    #[error("it is overloaded")]
    Overloaded,
    /// It takes no writes.
    #[error("it takes no writes")]
    ReadOnly,
    /// Its disk did not answer.
    #[error("its disk failed")]
    Storage,
    /// It holds what a newer version has written.
    #[error("a newer dynkv has written what it holds of this")]
    Newer,
    /// It does not serve yet, or no longer.
    #[error("it does not serve")]
    NotReady,
    /// The tree takes part in another exchange.
    #[error("it compares this partition with another node")]
    Busy,
    /// The object was read before this round, which the receiver has met: it may hold what has been reaped since. Whoever
    /// sent it takes the round over, durably, and reads it again.
    #[error("it has met reaping round {}, and the object is older", .0.0)]
    Fenced(Round),
}

/// The answer to a [`Replicate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicated {
    /// Written (`true`: and on the disk), or why not.
    pub outcome: Result<bool, Refusal>,
    /// If it was asked for.
    pub timing: Option<Timing>,
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What the replica holds, or why it does not say.
    pub outcome: Result<Held, Refusal>,
    /// If it was asked for.
    pub timing: Option<Timing>,
}

/// What a replica holds of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The object, or what is said in place of it.
    pub found: Found,
    /// The reaping round at which it was read.
    pub round: Round,
    /// The replica has lost its disk: merge what it has, but do not count it.
    pub rebuilding: bool,
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranged {
    /// The page (and whether the replica is rebuilding, as in [`Held`]), or why there is none.
    pub outcome: Result<(Page, bool), Refusal>,
}

/// From a shard to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    /// See [`Coordinate`].
    Coordinate(Coordinate),
    /// See [`Replicate`].
    Replicate(Replicate),
    /// See [`Fetch`].
    Fetch(Fetch),
    /// See [`Range`].
    Range(Range),
    /// See [`ExchangeRequest`].
    Exchange(ExchangeRequest),
    /// See [`Reaping`].
    Reaping(Reaping),
    /// See [`AskRounds`].
    Rounds(AskRounds),
}

impl PeerRequest {
    /// Whether its answer is to say how long it took.
    pub fn is_traced(&self) -> bool {
        match self {
            PeerRequest::Coordinate(coordinate) => coordinate.put.header.trace,
            PeerRequest::Replicate(replicate) => replicate.trace,
            PeerRequest::Fetch(fetch) => fetch.trace,
            PeerRequest::Range(_) | PeerRequest::Exchange(_) | PeerRequest::Reaping(_) | PeerRequest::Rounds(_) => {
                false
            }
        }
    }

    /// Whether a loaded node does it last: nobody waits for it.
    pub fn is_background(&self) -> bool {
        match self {
            PeerRequest::Replicate(replicate) => replicate.reason.is_background(),
            PeerRequest::Exchange(_) | PeerRequest::Reaping(_) | PeerRequest::Rounds(_) => true,
            PeerRequest::Coordinate(_) | PeerRequest::Fetch(_) | PeerRequest::Range(_) => false,
        }
    }

    /// The partition that it concerns, by which the receiver finds the shard.
    pub fn partition(&self) -> PartitionId {
        match self {
            PeerRequest::Coordinate(coordinate) => coordinate.partition,
            PeerRequest::Replicate(replicate) => replicate.to.partition,
            PeerRequest::Fetch(fetch) => fetch.of.partition,
            PeerRequest::Range(range) => range.partition,
            PeerRequest::Exchange(request) => request.partition(),
            PeerRequest::Reaping(reaping) => reaping.tree.partition,
            PeerRequest::Rounds(asked) => asked.partitions.first().copied().unwrap_or_default(),
        }
    }

    /// The answer that refuses it.
    pub fn refuse(&self, why: Refusal) -> PeerAnswer {
        match self {
            PeerRequest::Coordinate(_) => {
                let error = match why {
                    Refusal::Overloaded => ApiError::Overloaded,
                    other => ApiError::NotReady { reason: other.to_string() },
                };
                PeerAnswer::Coordinated(Coordinated { outcome: Err(error), trace: None })
            }
            PeerRequest::Replicate(_) => PeerAnswer::Replicated(Replicated { outcome: Err(why), timing: None }),
            PeerRequest::Fetch(_) => PeerAnswer::Fetched(Fetched { outcome: Err(why), timing: None }),
            PeerRequest::Range(_) => PeerAnswer::Ranged(Ranged { outcome: Err(why) }),
            PeerRequest::Exchange(request) => PeerAnswer::Exchange(request.refuse(why)),
            PeerRequest::Reaping(_) => PeerAnswer::Reaping(Err(why)),
            PeerRequest::Rounds(_) => PeerAnswer::Rounds(Err(why)),
        }
    }
}

/// The answers, on the lane on which the request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// To a [`Coordinate`].
    Coordinated(Coordinated),
    /// To a [`Replicate`].
    Replicated(Replicated),
    /// To a [`Fetch`].
    Fetched(Fetched),
    /// To a [`Range`].
    Ranged(Ranged),
    /// To an [`ExchangeRequest`].
    Exchange(ExchangeAnswer),
    /// To a [`Reaping`].
    Reaping(Result<ReapingSaid, Refusal>),
    /// To an [`AskRounds`]: of those of the partitions that fall to the answering shard, its rounds; `None`: it has none itself.
    Rounds(RoundsTold),
}

/// The answer to a [`Coordinate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinated {
    /// What the client is told.
    pub outcome: Result<Receipt, ApiError>,
    /// If the put asked for it.
    pub trace: Option<Box<Trace>>,
}
