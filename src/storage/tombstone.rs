//! The index of tombstones: which keys hold nothing else, so that whoever reaps them need not look at all data.
//!
//! For each record with nothing but tombstones (of deletions that did not know of one another there may be several) there is an entry in [`Family::Tombstones`](super::Family::Tombstones), under the
//! object's key, whether somebody still waits for the tombstone or not. The entry is a function of the record's object and is written
//! in the record's batch: the two never disagree. A directory that is older than the index comes to have it as the scrub reads its
//! records (`merkle/count.rs`). An entry's value:
//!
//! ```text
//! format u8 = 1 | wall_ms u64 BE | digest 16 bytes | xxh3-64 of all before, BE
//! ```

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::{Batch, Family, Record, StorageError};
use crate::version::Digest;

const FORMAT: u8 = 1;
const CHECKSUM: usize = 8;
const ENTRY: usize = 1 + 8 + 16 + CHECKSUM;

/// What the index says of a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TombstoneEntry {
    /// The wall clock of whoever coordinated the newest deletion, in milliseconds since the epoch: for people, it decides nothing.
    pub wall_ms: u64,
    /// The tombstones' object.
    pub digest: Digest,
}

impl TombstoneEntry {
    /// What there is to be said of a record.
    pub(super) fn of(record: &Record) -> Option<TombstoneEntry> {
        let object = &record.object;
        let newest = || object.siblings().iter().map(|tombstone| tombstone.wall_ms).max().unwrap_or_default();
        object.is_deleted().then(|| TombstoneEntry { wall_ms: newest(), digest: object.digest() })
    }

    /// Appends the entry's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(FORMAT);
        out.extend_from_slice(&self.wall_ms.to_be_bytes());
        out.extend_from_slice(&self.digest.0);
        let sum = xxh3_64(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for whatever [`TombstoneEntry::encode_into`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<TombstoneEntry, StorageError> {
        let corrupt = |what: &str| StorageError::Corrupt { detail: format!("a tombstone's entry {what}") };
        let entry: &[u8; ENTRY] = bytes.try_into().map_err(|_| corrupt("of another length"))?;
        let (covered, sum) = entry.split_at(ENTRY - CHECKSUM);
        if xxh3_64(covered).to_be_bytes() != sum {
            return Err(corrupt("whose checksum does not match"));
        }
        if covered[0] != FORMAT {
            return Err(corrupt("of another format"));
        }
        let (clock, digest) = covered[1..].split_at(8);
        Ok(TombstoneEntry {
            wall_ms: u64::from_be_bytes(clock.try_into().expect("it was cut to eight bytes")),
            digest: Digest(digest.try_into().expect("sixteen bytes are left of a fixed length")),
        })
    }
}

/// Brings the index, with the batch, from what it says of `old` to what it has to say of `new`.
pub(super) fn reindex_tombstone(batch: &mut Batch, key: &[u8], old: Option<&Record>, new: Option<&Record>) {
    if let (Some(old), Some(new)) = (old, new)
        && Arc::ptr_eq(&old.object, &new.object)
    {
        return;
    }
    match new.and_then(TombstoneEntry::of) {
        Some(entry) => put_entry(batch, key, &entry),
        None if old.is_some_and(|old| old.object.is_deleted()) => batch.delete(Family::Tombstones, key),
        None => {}
    }
}

/// Puts an entry, with the batch.
pub(super) fn put_entry(batch: &mut Batch, key: &[u8], entry: &TombstoneEntry) {
    batch.put_with(Family::Tombstones, key, |out| entry.encode_into(out));
}

#[cfg(test)]
mod tests;
