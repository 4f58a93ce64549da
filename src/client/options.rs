//! What calls take and give.

use std::time::Duration;

use bytes::Bytes;

use crate::api::{Ack, Receipt, SiblingMeta, Trace, WhereReply};
use crate::quorum::Level;
use crate::types::{Bucket, Key, NodeId, PartitionId, WriteId};

/// How a key is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Replicas that must answer; the node's default if absent.
    pub r: Option<Level>,
    /// How many of them must be primaries.
    pub pr: Option<Level>,
    /// Ask primaries only: nobody stands in for one that is away.
    pub strict: bool,
    /// Answer only when N-R+1 primaries have the result on their disks, so that no later strict read of R goes behind it.
    pub blocking_repair: bool,
    /// A context of this key, of an earlier read or write: the result is at least that new, or the read fails as stale.
    pub after: Option<Bytes>,
    /// Have the answer say what became of the read, step by step.
    pub trace: bool,
}

/// How a key is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The context of the read that this write follows: it replaces what that read showed. Without one it is concurrent
    /// with everything it has not seen, and becomes a sibling of it.
    pub context: Option<Bytes>,
    /// Replicas that must have written it; the node's default if absent.
    pub w: Option<Level>,
    /// How many of them must be primaries.
    pub pw: Option<Level>,
    /// How many must have it on disk; W if absent and the nodes sync always.
    pub dw: Option<u8>,
    /// Write to primaries only: nobody stands in for one that is away.
    pub strict: bool,
    /// Drawn if absent. To repeat a write whose fate is unknown, give the same id (of
    /// [`Client::new_write_id`](super::Client::new_write_id)) and the same value again: no twin is made.
    pub write_id: Option<WriteId>,
    /// Have the answer say what became of the write, step by step.
    pub trace: bool,
}

/// One of a key's concurrent values, or the tombstone of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Who wrote it when.
    pub meta: SiblingMeta,
    /// The value; `None` for a tombstone.
    pub bytes: Option<Bytes>,
}

/// A key as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetResult {
    /// Values and tombstones that no other supersedes. Empty: never written, as far as R replicas know.
    pub siblings: Vec<Value>,
    /// For the next write of this key; absent if there is nothing to replace.
    pub context: Option<Bytes>,
    /// The replicas counted.
    pub acks: Vec<Ack>,
    /// Replicas that were found behind, and are being brought up to date.
    pub repaired: Vec<NodeId>,
    /// Replicas of the key.
    pub n: u8,
    /// Replicas that had to answer.
    pub r: u8,
    /// Whom the answer came from, for people.
    pub from: String,
    /// From the call to the answer.
    pub elapsed: Duration,
    /// Nodes asked.
    pub attempts: u32,
    /// If it was asked for.
    pub trace: Option<Box<Trace>>,
}

impl GetResult {
    /// The values, tombstones left out.
    pub fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.siblings.iter().filter_map(|sibling| sibling.bytes.as_ref())
    }

    /// Whether there is no value.
    pub fn is_missing(&self) -> bool {
        self.values().next().is_none()
    }

    /// Whether there is no value because somebody deleted it.
    pub fn is_deleted(&self) -> bool {
        self.is_missing() && !self.siblings.is_empty()
    }
}

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResult {
    /// Who has it, how durably, and the context for the next write.
    pub receipt: Receipt,
    /// The id that it went under.
    pub write_id: WriteId,
    /// From the call to the answer.
    pub elapsed: Duration,
    /// Nodes asked.
    pub attempts: u32,
    /// If it was asked for.
    pub trace: Option<Box<Trace>>,
}

/// Where a key lives, and what its replicas hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhereResult {
    /// The answer.
    pub reply: WhereReply,
    /// Whom it came from, for people.
    pub from: String,
    /// From the call to the answer.
    pub elapsed: Duration,
}

/// Which page of a partition's keys is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Only this bucket's keys.
    pub bucket: Bucket,
    /// Which partition.
    pub partition: PartitionId,
    /// The cursor of the page before; absent for the first.
    pub after: Option<Bytes>,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// At most so many keys.
    pub limit: u32,
    /// Leave the values out.
    pub keys_only: bool,
    /// Replicas that must answer; the node's default if absent.
    pub r: Option<Level>,
}

/// One key of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEntry {
    /// The key.
    pub key: Key,
    /// As in [`GetResult`]; under `keys_only` without the values' bytes.
    pub siblings: Vec<Value>,
    /// For the next write of this key.
    pub context: Bytes,
}

/// Some keys of one partition, in ring order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// May be empty although more follows.
    pub entries: Vec<ScanEntry>,
    /// Where to go on; `None` at the partition's end.
    pub next: Option<Bytes>,
}
