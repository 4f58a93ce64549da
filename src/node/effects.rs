//! What goes into a shard and what comes out, with the order of its release in the types.

mod input;
mod revoke;

use std::sync::Arc;

use bytes::Bytes;

pub use self::input::{ClientRef, PeerRef, ShardInput, Standing};
pub(super) use self::revoke::{read_failed, revoked};
use super::shard::OwnShares;
use crate::antientropy::{JobId, Step, Ticket};
use crate::api::Response;
use crate::message::{PeerAnswer, PeerRequest};
use crate::ring::Slot;
use crate::storage::merkle::{Leaves, Place, SumsSpec, TreeId};
use crate::storage::{Done, HintChange, HintSpec, PageSpec, Task, TombstoneSpec, Wiped};
use crate::types::{NodeId, PartitionId, Round};
use crate::version::{Digest, Object};

/// What an operation on the store is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A put's dot.
    Mint(u64),
    /// A known write, to be replicated again.
    Rewrite(u64),
    /// The dot of a put whose key has no slot here.
    MintAway(u64),
    /// A put that a holder has refused since a round has passed it by: what this node's store holds now.
    Refresh {
        /// The put.
        entry: u64,
        /// The slot.
        slot: Slot,
        /// The holder.
        holder: NodeId,
    },
    /// The same for a get's repair.
    RefreshRepair {
        /// The get.
        entry: u64,
        /// The slot.
        slot: Slot,
        /// The holder.
        holder: NodeId,
    },
    /// A peer's round, taken over; what depends on it comes after.
    Adopt,
    /// A put's copy here, where this node stands in for a slot.
    StandIn {
        /// The put.
        entry: u64,
        /// The slot.
        slot: Slot,
    },
    /// Hints for those whom a put has missed.
    KeepHints,
    /// This node's own reply to a read it coordinates.
    Read(u64),
    /// This node's own page of a scan it coordinates.
    Page(u64),
    /// A peer's replicate.
    Merge {
        /// Who asked.
        asker: PeerRef,
        /// To be acknowledged only when it is on the disk.
        sync: bool,
    },
    /// This node's own share of a repair by a get that it coordinates.
    Repair {
        /// The get.
        entry: u64,
        /// It waits until that is on the disk.
        sync: bool,
    },
    /// A tombstone that a runner of a reaping round asks about.
    Candidate {
        /// The question.
        of: u64,
        /// Its place in that.
        nth: usize,
    },
    /// A peer's fetch.
    Fetch {
        /// Who asked.
        asker: PeerRef,
        /// The version that it has.
        known: Option<Digest>,
        /// The key's leaf; `None` if this node may have lost what it once held, when it was asked.
        place: Option<Place>,
    },
    /// An object that another primary lacks.
    Transfer {
        /// The transfer.
        entry: u64,
        /// Its request's.
        slot: Slot,
    },
    /// A peer's range.
    Range {
        /// Who asked.
        asker: PeerRef,
        /// What this node may lack of it, as far as was known when it was asked.
        lack: Lack,
    },
    /// A record that has rotted: it is read once more, and wiped if that is so.
    Rotten,
    /// What is kept for a node that is back.
    Hint(JobId),
    /// The end of what was kept for a node.
    HintEnd(JobId),
}

/// What a page may lack that is read in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// This node may have lost what it once held of it.
    pub may: bool,
    /// Records that had been wiped by then: whatever is wiped meanwhile may be missing too.
    pub wiped: u64,
}

/// What Merkle trees are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreePurpose {
    /// Own roots, to be compared with a peer's.
    Compare {
        /// Of the exchange.
        step: Step,
        /// Who is to be told.
        peer: NodeId,
        /// The trees.
        trees: Vec<TreeId>,
    },
    /// Own sums, for the exchange.
    Own(Step),
    /// Own roots, for a peer that has told its own.
    Compared {
        /// Who asked.
        asker: PeerRef,
        /// Its trees and their roots.
        trees: Vec<(TreeId, u128)>,
    },
    /// Own sums, for a peer.
    Summed {
        /// Who asked.
        asker: PeerRef,
        /// How many leaves they are of.
        leaves: Leaves,
    },
}

/// What is asked of Merkle trees. They are in memory: the drain answers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeQuery {
    /// The roots of these.
    Roots(Vec<TreeId>),
    /// Sums of one.
    Sums(SumsSpec),
}

/// The answer; `None` for a tree of which it is not known what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeReply {
    /// In the order of the trees.
    Roots(Vec<Option<u128>>),
    /// As [`Trees::sums`](crate::storage::merkle::Trees::sums).
    Sums(Option<Vec<u64>>),
}

/// Who has asked something in a reaping round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// This node's own reaper, for this step.
    Own(Step),
    /// Another node's.
    Peer(PeerRef),
}

impl Asker {
    /// Whether both are of one shard of one node.
    pub fn is_of_same_runner(self, other: Asker) -> bool {
        match (self, other) {
            (Asker::Own(_), Asker::Own(_)) => true,
            (Asker::Peer(one), Asker::Peer(two)) => (one.node, one.lane) == (two.node, two.lane),
            _ => false,
        }
    }
}

/// What is to be done with reaping rounds.
#[derive(Clone, Debug)]
pub enum RoundTask {
    /// Raise this node's, and look what stands then: as [`Store::fence`](crate::storage::Store::fence).
    Fence {
        /// The partition.
        partition: PartitionId,
        /// To which round.
        round: Round,
        /// Of the candidates.
        inspections: Vec<Task<Purpose>>,
    },
    /// Take over another member's.
    Adopt {
        /// The partition.
        partition: PartitionId,
        /// Its round there.
        round: Round,
    },
    /// Tell a new disk what they are.
    Tell {
        /// Who asks.
        asker: PeerRef,
        /// Of these.
        partitions: Vec<PartitionId>,
    },
}

/// What keys of leaves are read for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemPurpose {
    /// For the exchange.
    Own(Step),
    /// For a peer.
    Peer {
        /// Who asks.
        asker: PeerRef,
        /// Shorter hashes of what it has itself.
        known: Vec<u64>,
    },
}

/// What tombstones are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TombstonePurpose {
    /// To be reaped.
    Find(Step),
    /// To be counted, for operators.
    Stats,
}

/// Which keys are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemQuery {
    /// The tree.
    pub tree: TreeId,
    /// How many leaves it is taken to have.
    pub leaves: Leaves,
    /// Those leaves, ascending.
    pub of: Vec<u32>,
    /// Only what lies behind this key.
    pub after: Option<Bytes>,
    /// Only what lies up to this key, that one included.
    pub until: Option<Bytes>,
    /// At most so many keys.
    pub limit: usize,
}

/// What leaves a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A request to a peer's shard; dropped if there is no live lane to it.
    Request {
        /// To whom.
        node: NodeId,
        /// This shard's id, for the answer.
        id: u64,
        /// What.
        request: PeerRequest,
    },
    /// An answer to a peer.
    Answer {
        /// To whom.
        to: PeerRef,
        /// What.
        answer: PeerAnswer,
    },
    /// An answer to a client.
    Respond {
        /// To whom.
        to: ClientRef,
        /// What.
        response: Response,
    },
}

/// What one drain of a shard has brought forth. The fields are released in their order, each only after the step named:
/// the order is what "durable before acknowledged" rests on.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be run on the store, in this order.
    pub tasks: Vec<Task<Purpose>>,
    /// To be read from the disk, by a pool.
    pub pages: Vec<(Purpose, PageSpec)>,
    /// Pages of the index of hints, to be read likewise.
    pub hint_pages: Vec<(Ticket, HintSpec)>,
    /// What is asked of the store's Merkle trees, once the operations before it have been run.
    pub tree_queries: Vec<(TreePurpose, TreeQuery)>,
    /// What is to be done with reaping rounds, once the operations before it have been run.
    pub round_tasks: Vec<RoundTask>,
    /// Keys of leaves, to be read by a pool.
    pub item_reads: Vec<(ItemPurpose, ItemQuery)>,
    /// Pages of the index of tombstones, to be read by a pool; not before the ring is known.
    pub tombstone_reads: Vec<(TombstonePurpose, TombstoneSpec)>,
    /// Leaves of a partition to be counted once this batch is written, by a pool; as [`Trees::begin_count`](crate::storage::merkle::Trees::begin_count).
    pub counts: Vec<(Step, PartitionId, Option<u32>)>,
    /// Tombstones that this batch deletes.
    pub reaped: Vec<(Bytes, Arc<Object>)>,
    /// Trees that lack nothing more of what was wiped.
    pub healed: Vec<TreeId>,
    /// Keys to be removed from the index of hints, which nobody can have written: with this batch, or never.
    pub unindex: Vec<Bytes>,
    /// Keys whose objects no frame holds: they are sent to nobody, and whoever runs the node should know.
    pub too_long: Vec<Bytes>,
    /// Rests on nothing that this batch holds, and leaves even if that cannot be written: answers to readers.
    pub unbound: Vec<Output>,
    /// May leave once the batch is written to the log.
    pub after_written: Vec<Output>,
    /// Somebody asks that the batch be synced.
    pub sync: bool,
    /// May leave only once the batch is synced.
    pub after_durable: Vec<Output>,
}

impl Effects {
    /// Whether nothing but operations is to be done before the next input is handled. What leaves waits for the end of the drain, and so does a count.
    pub fn has_only_tasks(&self) -> bool {
        let Effects {
            tasks: _,
            pages,
            hint_pages,
            tree_queries,
            round_tasks,
            item_reads,
            tombstone_reads,
            counts: _,
            reaped: _,
            healed,
            unindex,
            too_long: _,
            unbound: _,
            after_written: _,
            sync: _,
            after_durable: _,
        } = self;
        let reads = pages.len() + hint_pages.len() + item_reads.len() + tombstone_reads.len();
        reads + tree_queries.len() + round_tasks.len() + healed.len() + unindex.len() == 0
    }
}

/// What the drain reports back to the shard, apart from its inputs.
#[derive(Clone, Debug)]
pub enum Feedback {
    /// All inputs of this drain have been handled, and what the store could do at once is done.
    Gathered,
    /// An operation has been run.
    Done(Done<Purpose>),
    /// Merkle trees have been asked.
    Trees(TreePurpose, TreeReply),
    /// Rounds have been looked up for a new disk.
    Rounds(PeerRef, Vec<(PartitionId, Round)>),
    /// Operations have given, changed or dropped hints.
    Hinted(Vec<HintChange>),
    /// Operations have found records rotten, and wiped them; told before what came of the operations.
    Wiped(Vec<Wiped>),
    /// A batch that holds this node's own shares is written; `synced`: and on the disk.
    Committed {
        /// The shares.
        own: OwnShares,
        /// Whether it is on the disk.
        synced: bool,
    },
    /// The batch could not be written, nor is anything from here on. It may surface after a restart.
    WriteFailed,
    /// Batches were written that hold these shares, and could not be synced; nothing is written from here on.
    SyncFailed(OwnShares),
}
