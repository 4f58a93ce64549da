//! Hints: which other nodes still wait for what a record holds.
//!
//! A record names the nodes that missed it, and for each there is an entry in [`Family::Hints`](super::Family::Hints), so that all that
//! waits for one node is one range. The entry is a function of the record and is written in the record's batch: the two
//! never disagree. An entry's value:
//!
//! ```text
//! format u8 = 1 | counted u8 | bytes u32 BE | hinted_ms u64 BE | xxh3-64 of all before, BE
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{Batch, Family, Record, StorageError, hint_key};
use crate::types::{NodeId, Round};
use crate::version::{Digest, Object};

const FORMAT: u8 = 1;
const CHECKSUM: usize = 8;
const ENTRY: usize = 1 + 1 + 4 + 8 + CHECKSUM;

/// A node that missed a write of a key: part of the key's record. Local, never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Who missed it.
    pub target: NodeId,
    /// A write was acknowledged to its writer because this hint stands for the target's copy. Once true, always.
    pub counted: bool,
    /// The object when the hint was last given: tells whether more was missed since somebody looked.
    pub digest: Digest,
    /// This node's wall clock when the target first missed something, in milliseconds since the epoch.
    pub hinted_ms: u64,
}

/// A hint to be kept with what is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHint {
    /// Who misses it.
    pub target: NodeId,
    /// The write is acknowledged because of it.
    pub counted: bool,
    /// This node's wall clock, in milliseconds since the epoch.
    pub wall_ms: u64,
}

/// What the index says of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintEntry {
    /// As in [`Hint::counted`].
    pub counted: bool,
    /// Bytes of the encoded object.
    pub bytes: u32,
    /// As in [`Hint::hinted_ms`].
    pub hinted_ms: u64,
}

/// A hint and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintFound {
    /// The object as it stands: it contains whatever the hint was given for.
    pub object: Arc<Object>,
    /// The hint.
    pub hint: Hint,
    /// The round of the object's partition.
    pub round: Round,
}

/// What became of a hint that was to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintDrop {
    /// It is gone; so is the record, if nothing else kept it.
    Dropped,
    /// It stays: more was missed since, or it may not be dropped.
    Kept,
    /// There was none.
    Absent,
}

/// A hint came, went, or changed: for whoever keeps account of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintChange {
    /// Who waits.
    pub target: NodeId,
    /// The object's key.
    pub key: Bytes,
    /// What the index said.
    pub old: Option<HintEntry>,
    /// What it says now.
    pub new: Option<HintEntry>,
}

impl NewHint {
    /// For a node for which the holder stands in.
    pub fn counted(target: NodeId, wall_ms: u64) -> NewHint {
        NewHint { target, counted: true, wall_ms }
    }

    /// For a node that a write has missed although enough others have it.
    pub fn uncounted(target: NodeId, wall_ms: u64) -> NewHint {
        NewHint { target, counted: false, wall_ms }
    }
}

impl HintEntry {
    fn of(hint: &Hint, object: &Object) -> HintEntry {
        let bytes = u32::try_from(object.encoded_len()).unwrap_or(u32::MAX);
        HintEntry { counted: hint.counted, bytes, hinted_ms: hint.hinted_ms }
    }

    /// Appends the entry's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[FORMAT, u8::from(self.counted)]);
        out.extend_from_slice(&self.bytes.to_be_bytes());
        out.extend_from_slice(&self.hinted_ms.to_be_bytes());
        let sum = xxh3_64(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for whatever [`HintEntry::encode_into`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<HintEntry, StorageError> {
        let corrupt = |what: &str| StorageError::Corrupt { detail: format!("a hint's entry {what}") };
        let entry: &[u8; ENTRY] = bytes.try_into().map_err(|_| corrupt("of another length"))?;
        let (covered, sum) = entry.split_at(ENTRY - CHECKSUM);
        if xxh3_64(covered).to_be_bytes() != sum {
            return Err(corrupt("whose checksum does not match"));
        }
        let (FORMAT, counted @ 0..=1) = (covered[0], covered[1]) else { return Err(corrupt("of another format")) };
        let (size, clock) = covered[2..].split_at(4);
        Ok(HintEntry {
            counted: counted == 1,
            bytes: u32::from_be_bytes(size.try_into().expect("it was cut to four bytes")),
            hinted_ms: u64::from_be_bytes(clock.try_into().expect("eight bytes are left of a fixed length")),
        })
    }
}

/// What the index says of a record: empty for most, without a look at the object.
fn entries(record: Option<&Record>) -> impl Iterator<Item = (NodeId, HintEntry)> {
    let hints = record.into_iter().flat_map(|record| record.hints.iter().map(|hint| (hint, &record.object)));
    hints.map(|(hint, object)| (hint.target, HintEntry::of(hint, object)))
}

/// Brings the index from what it says of `old` to what it has to say of `new`, and notes what has changed.
pub(super) fn reindex(
    batch: &mut Batch,
    key: &Bytes,
    old: Option<&Record>,
    new: Option<&Record>,
    changes: &mut Vec<HintChange>,
) {
    let before: Vec<_> = entries(old).collect();
    let after: Vec<_> = entries(new).collect();
    let of = |entries: &[(NodeId, HintEntry)], target| {
        entries.iter().find(|(node, _)| *node == target).map(|(_, entry)| *entry)
    };
    for &(target, entry) in &after {
        let old = of(&before, target);
        if old != Some(entry) {
            batch.put_with(Family::Hints, &hint_key(target, key), |out| entry.encode_into(out));
            changes.push(HintChange { target, key: key.clone(), old, new: Some(entry) });
        }
    }
    for &(target, entry) in before.iter().filter(|(target, _)| of(&after, *target).is_none()) {
        batch.delete(Family::Hints, &hint_key(target, key));
        changes.push(HintChange { target, key: key.clone(), old: Some(entry), new: None });
    }
}

/// Puts what the index has to say of a record that stays while the index is emptied all around, and notes what differs from what it `said`.
/// Without a record its entries are gone.
pub(super) fn restore_index(
    batch: &mut Batch,
    key: &Bytes,
    said: &[(NodeId, HintEntry)],
    record: Option<&Record>,
    changes: &mut Vec<HintChange>,
) {
    let mut gone: BTreeMap<NodeId, HintEntry> = said.iter().copied().collect();
    for (target, entry) in entries(record) {
        batch.put_with(Family::Hints, &hint_key(target, key), |out| entry.encode_into(out));
        let old = gone.remove(&target);
        if old != Some(entry) {
            changes.push(HintChange { target, key: key.clone(), old, new: Some(entry) });
        }
    }
    let gone = gone.into_iter();
    changes.extend(gone.map(|(target, old)| HintChange { target, key: key.clone(), old: Some(old), new: None }));
}

#[cfg(test)]
mod tests;
