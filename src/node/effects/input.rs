//! What goes into a shard.

use std::sync::Arc;

use bytes::Bytes;

use super::{ItemPurpose, Purpose, TombstonePurpose};
use crate::antientropy::{Step, Ticket};
use crate::api::{HintOrder, RepairOrder, Request, TombstoneOrder};
use crate::message::{PeerAnswer, PeerRequest};
use crate::ring::RingView;
use crate::storage::merkle::{Counted, ItemPage};
use crate::storage::{HintPage, OpFailure, Page, StorageError, TombstonePage};
use crate::types::{Generation, NodeId, NodeRun, PartitionId, Time, WriteId};
use crate::version::Trust;

/// A client's request on one of its lanes: what its answer is sent back by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientRef {
    /// The lane, as the driver numbers it.
    pub lane: u64,
    /// The client's id of the request.
    pub id: u64,
}

/// A peer's request on one of its lanes: what its answer is sent back by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerRef {
    /// Who asks.
    pub node: NodeId,
    /// The lane, as the driver numbers it.
    pub lane: u64,
    /// The peer's id of the request.
    pub id: u64,
}

/// What happens to a shard.
#[derive(Clone, Debug)]
pub enum ShardInput {
    /// A client asks; `arrived` is when the frame was taken from the network.
    Client {
        /// Who.
        from: ClientRef,
        /// When.
        arrived: Time,
        /// What.
        request: Request,
    },
    /// A peer asks.
    Peer {
        /// Who.
        from: PeerRef,
        /// Which run of it.
        generation: Generation,
        /// When the frame was taken from the network, if the request is traced.
        arrived: Option<Time>,
        /// What.
        request: PeerRequest,
    },
    /// A peer answers a request of this shard.
    Answer {
        /// Who.
        from: NodeRun,
        /// This shard's id of the request.
        id: u64,
        /// What.
        answer: PeerAnswer,
    },
    /// This node has durably granted this run of a node: what earlier ones say is not heard any more.
    Met(NodeRun),
    /// A peer can be reached now, or no longer.
    Link {
        /// Who.
        node: NodeId,
        /// Whether it can.
        up: bool,
    },
    /// A member is held for dead from now on, or no longer: this node's own opinion.
    Verdict {
        /// Who.
        node: NodeId,
        /// Whether it is.
        convicted: bool,
    },
    /// A new ring.
    Ring(Arc<RingView>),
    /// How far this node trusts its own records, and whether it lost its disk.
    Standing(Standing),
    /// The disk takes no writes (why), or takes them again.
    ReadOnly(Option<String>),
    /// The node is about to stop: take no new requests.
    Drain,
    /// Time has passed: the moment that `poll_timeout` named.
    Timer,
    /// A record has been read from the disk for a parked key.
    Fetched {
        /// The object's key.
        key: Bytes,
        /// The record, if there is one.
        read: Result<Option<Bytes>, OpFailure>,
    },
    /// A page has been read from the disk.
    Paged {
        /// Who wanted it.
        purpose: Purpose,
        /// Of which partition.
        partition: PartitionId,
        /// The page.
        page: Result<Page, OpFailure>,
    },
    /// A page of the index of hints has been read from the disk.
    HintsRead {
        /// Which one it is.
        ticket: Ticket,
        /// The page.
        page: Result<HintPage, OpFailure>,
    },
    /// Keys of leaves have been read from the disk.
    ItemsRead {
        /// What for.
        purpose: ItemPurpose,
        /// Of which partition.
        partition: PartitionId,
        /// The keys.
        page: Result<ItemPage, OpFailure>,
    },
    /// A page of the index of tombstones has been read from the disk.
    TombstonesRead {
        /// What for.
        purpose: TombstonePurpose,
        /// Of which partition.
        partition: PartitionId,
        /// The page.
        page: Result<TombstonePage, OpFailure>,
    },
    /// The sync has ended that a drain has begun ([`Host::begin_sync`](crate::node::Host::begin_sync)).
    Synced(Result<(), StorageError>),
    /// Leaves have been counted from the disk.
    Counted {
        /// Of the scrub.
        step: Step,
        /// What lies in them.
        counted: Result<Box<Counted>, OpFailure>,
    },
    /// An operator's order.
    Hints(HintOrder),
    /// An operator's order.
    Repair(RepairOrder),
    /// An operator's order to all shards, which each answer with their part of [`Reply::Tombstones`], never with an error.
    Tombstones {
        /// To whom all parts go.
        from: ClientRef,
        /// What.
        order: TombstoneOrder,
    },
}

impl ShardInput {
    /// Of the put that it asks for.
    pub fn write_id(&self) -> Option<WriteId> {
        match self {
            ShardInput::Client { request: Request::Put(put), .. } => Some(put.header.write_id),
            ShardInput::Peer { request: PeerRequest::Coordinate(coordinate), .. } => {
                Some(coordinate.put.header.write_id)
            }
            _ => None,
        }
    }
}

/// What Control tells the shards about this node's own records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which ring slot this node holds: a node with a new disk learns it at its first contact.
    pub node: NodeId,
    /// Which of its actors it may continue.
    pub trust: Trust,
    /// It has a new disk: what it does not find, it may have lost.
    pub rebuilding: bool,
}
