//! What a shard has under way, one entry a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::transfer::TransferEntry;
use crate::antientropy::{JobId, Step};
use crate::api::{self, Ack, HintKept, Holding};
use crate::message::{Address, AskRounds, ExchangeRequest, Range, Reaping};
use crate::node::effects::Lack;
use crate::node::{ClientRef, PeerRef};
use crate::quorum::{Get, Put, Scan};
use crate::ring::Slot;
use crate::storage::merkle::TreeId;
use crate::types::{NodeId, Round, Time, Token, WriteId};
use crate::version::{CausalContext, Dot, Object};

/// Who waits for a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this node.
    Client(ClientRef),
    /// A node that asked this one to coordinate.
    Peer(PeerRef),
}

/// Where a request's key lives, as this shard sees it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// For the replicas.
    pub address: Address,
    /// The object's key in the store.
    pub key: Bytes,
    /// Where the key lies on the ring.
    pub token: Token,
    /// The preference list's slots.
    pub slots: Vec<NodeId>,
    /// This node's slot, if it has one.
    pub own: Option<Slot>,
    /// The bucket keeps only the latest write.
    pub last_write_wins: bool,
}

/// How far a put's write has come.
#[derive(Debug)]
pub(super) enum Mint {
    /// The store mints its dot. The put is to be found until that is known: a retry would mint a second dot.
    Awaited,
    /// It was minted for an earlier attempt, and the store reads what became of it.
    Reread,
    /// It goes to the replicas.
    Done(Minted),
    /// All primaries had it, or what has replaced it, and it was reaped: nobody may be sent it any more.
    Reaped(Dot),
}

/// A write that has its dot.
#[derive(Clone, Debug)]
pub(super) struct Minted {
    pub dot: Dot,
    /// What goes to the replicas: it contains the write.
    pub object: Arc<Object>,
    /// The round of this node's store when that was what it held.
    pub round: Round,
}

/// A put that this node coordinates.
#[derive(Debug)]
pub(super) struct PutEntry {
    pub origins: Vec<Origin>,
    pub place: Place,
    pub machine: Put,
    pub write_id: WriteId,
    pub hash: u64,
    /// What the writer had been shown.
    pub client: CausalContext,
    pub mint: Mint,
    /// Slots for whose primaries this node keeps hints.
    pub hinted: Vec<Slot>,
}

impl PutEntry {
    /// Its dot and its object, once they are there to be sent.
    pub fn minted(&self) -> Option<&Minted> {
        match &self.mint {
            Mint::Done(minted) => Some(minted),
            Mint::Awaited | Mint::Reread | Mint::Reaped(_) => None,
        }
    }

    /// Its dot, once it is known.
    pub fn dot(&self) -> Option<Dot> {
        match &self.mint {
            Mint::Done(Minted { dot, .. }) | Mint::Reaped(dot) => Some(*dot),
            Mint::Awaited | Mint::Reread => None,
        }
    }

    /// Whether a copy that this node keeps is to be on its disk.
    pub fn syncs_here(&self) -> bool {
        self.machine.quorum().must_sync(true, self.place.own.is_some())
    }

    /// Whether those who are sent it are to have it on their disks.
    pub fn syncs_elsewhere(&self) -> bool {
        self.machine.quorum().must_sync(false, self.place.own.is_some())
    }

    /// Whether nothing more is waited for: all have been told, and all have answered or will get it by a hint of this node.
    pub fn is_finished(&self) -> bool {
        let mut open = self.machine.tally().open();
        self.machine.is_told() && open.all(|(slot, node)| self.awaits_hint(slot, node))
    }

    /// Whether it may not be given up for lack of room: somebody waits for it, or a retry would mint it once more.
    pub fn is_needed(&self) -> bool {
        !self.origins.is_empty() || matches!(self.mint, Mint::Awaited)
    }

    fn awaits_hint(&self, slot: Slot, node: NodeId) -> bool {
        self.hinted.contains(&slot) && self.place.slots[usize::from(slot.0)] == node
    }

    /// The hints that stand when these slots count: on stand-ins, and on `own`, the coordinator.
    pub fn hints_kept(&self, acks: &[Ack], own: NodeId) -> Vec<HintKept> {
        let target = |slot: u8| self.place.slots[usize::from(slot)];
        let stood_in = acks.iter().filter(|ack| ack.stand_in);
        let stood_in = stood_in.map(|ack| HintKept { holder: ack.node, target: target(ack.slot) });
        stood_in.chain(self.hinted.iter().map(|slot| HintKept { holder: own, target: target(slot.0) })).collect()
    }
}

/// A get that this node coordinates.
#[derive(Debug)]
pub(super) struct GetEntry {
    pub client: ClientRef,
    pub place: Place,
    pub machine: Get,
    /// Who has been asked when and has not answered within an attempt's time.
    pub asked: Vec<(NodeId, Time)>,
    /// The machine has been asked whom to ask.
    pub begun: bool,
    /// The drain in which this node's own record was read.
    pub shown_in: Option<u64>,
    /// How long an attempt takes: twice as long as the one before.
    pub attempt: Duration,
    pub attempt_at: Time,
    /// When one more is asked than is needed; never again once it has been.
    pub hedge_at: Option<Time>,
}

/// A question of where a key's versions are.
#[derive(Debug)]
pub(super) struct WhereEntry {
    pub client: ClientRef,
    pub place: Place,
    pub token: u64,
    pub stand_ins: Vec<NodeId>,
    pub holdings: Vec<Option<Holding>>,
}

/// A page of a scan that this node coordinates.
#[derive(Debug)]
pub(super) struct ScanEntry {
    pub client: ClientRef,
    pub range: Range,
    pub keys_only: bool,
    pub last_write_wins: bool,
    pub own: Option<Slot>,
    /// Of this node's own page.
    pub lack: Lack,
    pub machine: Scan,
}

/// A put that another node is asked to coordinate.
#[derive(Debug)]
pub(super) struct ForwardEntry {
    pub client: ClientRef,
    pub place: Place,
    /// Whom it was sent to.
    pub to: NodeId,
    pub put: api::Put,
    pub context: CausalContext,
    pub machine: Put,
}

/// An object on its way to where a hint says that it is missed. Nobody waits for it.
#[derive(Debug)]
pub(super) struct HandoffEntry {
    pub job: JobId,
    /// By the slot of its request.
    pub to: Vec<NodeId>,
    /// Those that do not hold it on their disks, as far as is known.
    pub missing: Vec<Slot>,
}

/// A question of the exchange to one peer. Nobody else waits for it.
#[derive(Debug)]
pub(super) struct AskEntry {
    pub step: Step,
    pub peer: NodeId,
    pub request: ExchangeRequest,
    /// All trees that the exchange wants compared, be their own roots known or not.
    pub trees: Vec<TreeId>,
}

/// What a member is asked in a reaping round.
#[derive(Debug)]
pub(super) struct MemberEntry {
    /// Of the reaper.
    pub step: Step,
    pub member: NodeId,
    pub request: Reaping,
}

/// What a new disk asks a member.
#[derive(Debug)]
pub(super) struct RoundsEntry {
    pub peer: NodeId,
    /// Without what it has told.
    pub request: AskRounds,
}

#[derive(Debug)]
pub(super) enum Work {
    Put(Box<PutEntry>),
    Get(Box<GetEntry>),
    Where(Box<WhereEntry>),
    Scan(Box<ScanEntry>),
    Forward(Box<ForwardEntry>),
    Hint(Box<HandoffEntry>),
    Ask(Box<AskEntry>),
    Transfer(Box<TransferEntry>),
    Member(Box<MemberEntry>),
    Rounds(Box<RoundsEntry>),
}

impl Work {
    pub fn is_of_exchange(&self) -> bool {
        matches!(self, Work::Ask(_) | Work::Transfer(_))
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Entry {
    pub work: Work,
    /// When the client waits no longer.
    pub deadline: Time,
    /// When something is to be done about it: the deadline, or the next attempt. Never for a put that waits for nobody but
    /// its own disk.
    pub wake: Option<Time>,
    /// Attempts whose time is over.
    pub attempts: u32,
}
