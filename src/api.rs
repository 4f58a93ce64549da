//! What a client asks and what it is answered: one plain type each, the same in the wire header and in the library.
//!
//! | request | answer | body of the request | body of the answer |
//! |---|---|---|---|
//! | [`Get`] | [`GetReply`] | | the siblings' values, one after the other |
//! | [`Put`] (a delete is a put of a tombstone) | [`Receipt`] | the value | |
//! | [`Scan`] | [`ScanReply`] | | the items' values, one after the other |
//! | [`Where`] | [`WhereReply`] | | |
//! | `Ring` | [`RingReply`] | | the encoded layout |
//! | `Status` | [`StatusReply`] | | |
//! | [`Explain`] | [`ExplainReply`] | | |
//! | [`HintOrder`] | [`HintsOrdered`] | | |
//! | [`RepairOrder`] | [`RepairOrdered`] | | |
//! | [`TombstoneOrder`] | [`TombstoneStats`] | | |
//!
//! Any request may be answered by an [`ApiError`] instead.

mod error;
mod explain;
mod hints;
mod repair;
mod scrub;
mod shown;
mod tombstones;
mod trace;
mod whereabouts;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::error::{ApiError, Retry};
pub use self::explain::{Explain, ExplainReply};
pub use self::hints::{HintOrder, HintsOrdered};
pub use self::repair::{Rebuilding, RepairOrder, RepairOrdered, RepairStatus, RunningRepair};
pub use self::scrub::ScrubStatus;
pub use self::shown::{newest_of, siblings_of};
pub use self::tombstones::{
    ReaperStatus, RunnerShare, TOMBSTONE_AGES_MS, TombstoneOrder, TombstoneStats, TombstoneWait,
};
pub use self::trace::{HandedOn, Role, Span, SpanOutcome, Timing, Trace, Why};
pub use self::whereabouts::{Holding, Where, WhereReply};
use crate::antientropy::HintBacklog;
pub use crate::quorum::Ack;
use crate::quorum::Level;
use crate::types::{Bucket, ClusterId, DiskId, Generation, Key, NodeId, PartitionId, RingVersion, WriteId};
use crate::version::Dot;

/// When a request's answer stops being of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Milliseconds left when the request was sent.
    pub remaining_ms: u32,
    /// A lower bound of the server's tick (microseconds of its monotonic clock) at that moment, computed from the tick of its
    /// last reply; 0 if none has been seen. A request that lay in a buffer past its deadline is dropped by it, not executed.
    pub server_tick: u64,
}

impl Deadline {
    /// `remaining` from now, for a server whose tick is at least `server_tick` (0: not known).
    pub fn after(remaining: Duration, server_tick: u64) -> Deadline {
        Deadline { remaining_ms: u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX), server_tick }
    }
}

/// Reads one key from R of its N replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// Where the key lives.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
    /// Replicas that must answer; the node's default if absent.
    pub r: Option<Level>,
    /// How many of them must be primaries.
    pub pr: Option<Level>,
    /// Ask primaries only: no stand-in answers for one that is away.
    pub strict: bool,
    /// Answer only when so many primaries durably hold the result that any later read of R meets one of them.
    pub blocking_repair: bool,
    /// A context token of this key: the answer is at least that new.
    pub after: Option<Bytes>,
    /// Say in the answer what became of it, step by step.
    pub trace: bool,
    /// When to give up.
    pub deadline: Deadline,
}

impl Get {
    /// One that leaves all to the node that is asked.
    pub fn new(bucket: Bucket, key: Key) -> Get {
        Get {
            bucket,
            key,
            r: None,
            pr: None,
            strict: false,
            blocking_repair: false,
            after: None,
            trace: false,
            deadline: Deadline::default(),
        }
    }
}

/// Writes a value or a tombstone to W of a key's N replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// What travels in the header.
    pub header: PutHeader,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
}

/// The header of a [`Put`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutHeader {
    /// Where the key lives.
    pub bucket: Bucket,
    /// The key.
    pub key: Key,
    /// The same for all attempts at this write.
    pub write_id: WriteId,
    /// The context token of the read that this write follows; without one it is concurrent with all that it has not seen.
    pub context: Option<Bytes>,
    /// Whether this is a delete.
    pub delete: bool,
    /// Replicas that must have written it; the node's default if absent.
    pub w: Option<Level>,
    /// How many of them must be primaries.
    pub pw: Option<Level>,
    /// How many must have it on disk. Absent: W under `sync = always`, else none.
    pub dw: Option<u8>,
    /// Write to primaries only: nobody stands in for one that is away.
    pub strict: bool,
    /// Say in the answer what became of it, step by step.
    pub trace: bool,
    /// When to give up.
    pub deadline: Deadline,
}

impl PutHeader {
    /// Of a write that follows no read, and leaves all else to the node that is asked.
    pub fn new(bucket: Bucket, key: Key, write_id: WriteId) -> PutHeader {
        PutHeader {
            bucket,
            key,
            write_id,
            context: None,
            delete: false,
            w: None,
            pw: None,
            dw: None,
            strict: false,
            trace: false,
            deadline: Deadline::default(),
        }
    }
}

/// Reads one page of a partition's keys from R replicas, merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Only this bucket's keys.
    pub bucket: Bucket,
    /// Which partition.
    pub partition: PartitionId,
    /// The cursor of the page before; absent for the first.
    pub after: Option<Bytes>,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// At most so many items (a page may hold fewer and still not be the last).
    pub limit: u32,
    /// Leave the values out.
    pub keys_only: bool,
    /// Replicas that must answer; the node's default if absent.
    pub r: Option<Level>,
    /// When to give up.
    pub deadline: Deadline,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// See [`Get`].
    Get(Get),
    /// See [`Put`].
    Put(Put),
    /// See [`Scan`].
    Scan(Scan),
    /// See [`Where`].
    Where(Where),
    /// The layout, so that the client can go to a primary directly.
    Ring,
    /// What this node knows of itself and the others.
    Status,
    /// See [`HintOrder`].
    Hints(HintOrder),
    /// See [`RepairOrder`].
    Repair(RepairOrder),
    /// See [`TombstoneOrder`].
    Tombstones(TombstoneOrder),
    /// See [`Explain`].
    Explain(Explain),
}

impl Request {
    /// Whether it writes: its attempts are to be one write.
    pub fn is_write(&self) -> bool {
        matches!(self, Request::Put(_))
    }

    /// Whether it is for the node that coordinates the key's writes, and not for any that has the key.
    pub fn is_for_coordinator(&self) -> bool {
        matches!(self, Request::Put(_) | Request::Explain(_))
    }

    /// Whether its answer is to carry a [`Trace`].
    pub fn is_traced(&self) -> bool {
        match self {
            Request::Get(get) => get.trace,
            Request::Put(put) => put.header.trace,
            _ => false,
        }
    }

    /// The request as it is sent at one moment.
    pub fn with_deadline(&self, deadline: Deadline) -> Request {
        let mut request = self.clone();
        match &mut request {
            Request::Get(get) => get.deadline = deadline,
            Request::Put(put) => put.header.deadline = deadline,
            Request::Scan(scan) => scan.deadline = deadline,
            Request::Where(whereabouts) => whereabouts.deadline = deadline,
            Request::Ring
            | Request::Status
            | Request::Hints(_)
            | Request::Repair(_)
            | Request::Tombstones(_)
            | Request::Explain(_) => {}
        }
        request
    }
}

/// One sibling of an answer; its value, if any, stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiblingMeta {
    /// The event that wrote it.
    pub dot: Dot,
    /// The client's id of that write.
    pub write_id: WriteId,
    /// The node that coordinated it.
    pub node: NodeId,
    /// That node's wall clock then, in milliseconds since 1970: for people, it orders nothing (but see last-write-wins).
    pub wall_ms: u64,
    /// Bytes of the value; `None` for a tombstone.
    pub len: Option<u32>,
}

/// A key as a read found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// Values and tombstones that no other supersedes; a key that was never written has none.
    pub siblings: Vec<SiblingMeta>,
    /// To be handed to the next write of this key; covers exactly what is shown here (and what that replaced).
    pub context: Option<Bytes>,
    /// Who was counted.
    pub acks: Vec<Ack>,
    /// Replicas that were found behind by then, and are being brought up to date.
    pub repaired: Vec<NodeId>,
    /// Replicas of the key.
    pub n: u8,
    /// Replicas that had to answer.
    pub r: u8,
}

/// A node keeps a hint: a note that another has missed a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintKept {
    /// Who keeps it.
    pub holder: NodeId,
    /// Whom it is for.
    pub target: NodeId,
}

/// Where a write has got to when it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The replicas that have it. Others may follow.
    pub acks: Vec<Ack>,
    /// Replicas of the key.
    pub n: u8,
    /// Replicas that had to have it.
    pub w: u8,
    /// Hints that were kept for it by then: on stand-ins that count, and on the coordinator.
    pub hints: Vec<HintKept>,
    /// The writer's own context plus this write: it covers no sibling that the writer was not shown.
    pub context: Bytes,
    /// The event that this write became.
    pub dot: Dot,
    /// Who coordinated it.
    pub coordinator: NodeId,
}

/// One key of a scan's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanItem {
    /// The key.
    pub key: Key,
    /// As in [`GetReply`].
    pub siblings: Vec<SiblingMeta>,
    /// As in [`GetReply`].
    pub context: Bytes,
}

/// One page of a scan: keys with at least one value, in ring order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReply {
    /// May be empty although more follows.
    pub items: Vec<ScanItem>,
    /// The cursor to go on from; `None` at the partition's end.
    pub next: Option<Bytes>,
}

/// The layout's place and identity; the layout itself is the answer's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The layout's version.
    pub version: RingVersion,
}

/// What the answering node knows of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its identity.
    pub node: NodeId,
    /// Its name in the layout.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Its address for peers and clients.
    pub address: String,
    /// Whether the answering node has a live link to it (always true of itself).
    pub up: bool,
    /// The answering node holds it for dead: it has been silent for an unlikely time, and answers no probe.
    pub convicted: bool,
    /// How unlikely its silence is, as -log10 of the probability; `None` of the answering node itself, and before it has
    /// been heard of. Never NaN.
    pub phi: Option<f64>,
    /// Since its latest heartbeat came, in milliseconds; `None` as for `phi`.
    pub heartbeat_age_ms: Option<u64>,
    /// It has lost its disk and is not rebuilt yet.
    pub rebuilding: bool,
    /// Its run, if it has been met.
    pub generation: Option<Generation>,
    /// Its data directory, if it has been met.
    pub disk: Option<DiskId>,
    /// Partitions whose vnode it owns.
    pub partitions: u32,
    /// Digest of the ring that it follows, in hexadecimal, if it has been met.
    pub ring: Option<String>,
}

// phi is never NaN
impl Eq for MemberStatus {}

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waiting for the other founders, or for the cluster that it belongs to.
    Joining,
    /// Taking requests.
    Serving,
    /// Taking no new requests; about to stop.
    Draining,
    /// Reads only: a write to its disk has failed, or the disk is full.
    ReadOnly,
}

/// What a node knows of itself and the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The answering node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The cluster, once born.
    pub cluster: Option<ClusterId>,
    /// The cluster's name.
    pub cluster_name: String,
    /// The ring that it follows.
    pub ring_version: Option<RingVersion>,
    /// How far it has come.
    pub phase: Phase,
    /// What it waits for, for people; empty when it serves.
    pub waiting_for: String,
    /// Seconds since its process started.
    pub uptime_s: u64,
    /// Keys on its disk, estimated by the engine.
    pub keys: u64,
    /// Bytes on its disk.
    pub disk_bytes: u64,
    /// Free bytes of its file system.
    pub free_bytes: u64,
    /// Bytes of its file system; 0 if that is not known.
    pub capacity_bytes: u64,
    /// Every member, in the layout's order.
    pub members: Vec<MemberStatus>,
    /// What it keeps for others, by target; whoever waits for nothing is not in it.
    pub hints: Vec<HintBacklog>,
    /// Whether `hints` is all: a node counts what it kept before its start anew.
    pub hints_counted: bool,
    /// How far it has come with comparing its replicas with others'; `None` until its shards have begun.
    pub repair: Option<RepairStatus>,
}

impl StatusReply {
    /// A node's name; its identity if it is no member.
    pub fn name_of(&self, node: NodeId) -> String {
        let member = self.members.iter().find(|member| member.node == node);
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    }
}

/// An answer without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a get.
    Get(GetReply),
    /// To a put or delete.
    Put(Receipt),
    /// To a scan.
    Scan(ScanReply),
    /// To a where.
    Where(WhereReply),
    /// To a ring.
    Ring(RingReply),
    /// To a status.
    Status(Box<StatusReply>),
    /// To an order about hints.
    Hints(HintsOrdered),
    /// To an order about repair.
    Repair(RepairOrdered),
    /// To an order about tombstones.
    Tombstones(Box<TombstoneStats>),
    /// To an explain.
    Explain(Box<ExplainReply>),
}

/// What goes back to a client: the outcome and the values that it names, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The answer or why there is none.
    pub result: Result<Reply, ApiError>,
    /// The values, in the order in which the reply names them.
    pub values: Vec<Bytes>,
    /// What became of a get or a put that asked for it, whether it succeeded or not.
    pub trace: Option<Box<Trace>>,
}

impl Response {
    /// An answer with its values.
    pub fn of(result: Result<Reply, ApiError>, values: Vec<Bytes>) -> Response {
        Response { result, values, trace: None }
    }

    /// An answer that carries no values.
    pub fn plain(reply: Reply) -> Response {
        Response::of(Ok(reply), Vec::new())
    }

    /// A refusal.
    pub fn error(error: ApiError) -> Response {
        Response::of(Err(error), Vec::new())
    }
}
