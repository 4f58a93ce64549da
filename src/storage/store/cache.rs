//! The bytes of records that were lately read or written, as the last commit has left them: most requests are for few keys, and find them
//! here without a search of the engine's memtables and blocks.
//!
//! An entry is one allocation, key and bytes, because what is kept long lies far apart in memory, and each piece of it costs the processor
//! a wait: decoded records are six. That there is no record is kept as well, and a long one without its values: that is enough for a write
//! that replaces them all.
//!
//! The cache follows the batches: it is never newer than the engine, nor older. What a drain has changed is in the store's overlay until then.
//! It is for whoever wants to know a record, or writes it anew, and no witness of what is on the disk. Damage there it may hide until somebody
//! meets that: from then on nothing in it counts ([`Engine::damage`]), and the key of a rotten record that a scrub has met leaves it.
//!
//! [`Engine::damage`]: crate::storage::Engine::damage

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use xxhash_rust::xxh3::xxh3_64;

use crate::storage::batch::Op;
use crate::storage::{Batch, Family, Record};

/// What an entry is expected to take, by which room is reserved for the table; it is not touched before it is used.
const EXPECTED_ENTRY: usize = 512;

/// Longer records are kept without their values: what they cost is their bytes, which are copied here too.
const LONGEST: usize = 64 << 10;

/// Of the cache, at most such a part is for one record.
const SHARE: usize = 64;

type Entries = Cache<u64, Entry, Weight, BuildHasherDefault<HashedAlready>>;

/// A bounded number of bytes of records; those that are used again stay longest (CLOCK-Pro).
pub(super) struct RecordCache {
    /// By the keys' hashes; of two keys with the same one, the last to come is kept. `None`: nothing is kept.
    entries: Option<Entries>,
    /// Longer records are kept without their values.
    longest: usize,
}

/// What is known of a key's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept<'a> {
    /// There is none.
    Absent,
    /// Its bytes.
    Whole(&'a [u8]),
    /// The bytes of what is left of it when all its values are taken for empty ones.
    Hollow(&'a [u8]),
}

/// A key and what is known of its record: `key length u32 | kind u8 | key | record`.
#[derive(Debug)]
struct Entry(Box<[u8]>);

impl Entry {
    const PREFIX: usize = 5;

    fn new(key: &[u8], kept: Kept<'_>) -> Entry {
        let (kind, record) = match kept {
            Kept::Absent => (0, &[][..]),
            Kept::Whole(record) => (1, record),
            Kept::Hollow(record) => (2, record),
        };
        let key_len = u32::try_from(key.len()).expect("a key has a few kilobytes at most");
        let mut bytes = Vec::with_capacity(Entry::PREFIX + key.len() + record.len());
        bytes.extend_from_slice(&key_len.to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(record);
        Entry(bytes.into_boxed_slice())
    }

    /// What stands under this key, if it is the entry's.
    fn of(&self, key: &[u8]) -> Option<Kept<'_>> {
        let ([key_len @ .., kind], rest) = self.0.split_first_chunk::<{ Entry::PREFIX }>()?;
        let (own, record) = rest.split_at_checked(u32::from_be_bytes(*key_len) as usize)?;
        let kept = match kind {
            0 => Kept::Absent,
            1 => Kept::Whole(record),
            _ => Kept::Hollow(record),
        };
        (own == key).then_some(kept)
    }
}

impl RecordCache {
    /// At most about so many bytes, what the allocator rounds up aside.
    pub fn new(bytes: usize) -> RecordCache {
        let expected = (bytes / EXPECTED_ENTRY).max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(expected)
            .weight_capacity(bytes as u64)
            .build()
            .expect("both capacities are given");
        let new = || {
            let mut entries =
                Cache::with_options(options, Weight, BuildHasherDefault::default(), DefaultLifecycle::default());
            // A table that grows by itself stops the shard while all of it is copied.
            entries.reserve(expected);
            entries
        };
        RecordCache { entries: (bytes > 0).then(new), longest: LONGEST.min(bytes / SHARE) }
    }

    /// What the engine has under the key; it counts as used. `None`: only the engine knows.
    pub fn get(&self, key: &[u8]) -> Option<Kept<'_>> {
        self.entries.as_ref()?.get(&xxh3_64(key))?.of(key)
    }

    /// The engine has this under the key; a record is one that its checksum was compared with, or made for.
    pub fn keep(&mut self, key: &[u8], record: Option<&[u8]>) {
        let Some(entries) = &mut self.entries else { return };
        let mut hollow = Vec::new();
        let kept = match record {
            None => Some(Kept::Absent),
            Some(record) if record.len() <= self.longest => Some(Kept::Whole(record)),
            Some(record) => Record::without_values(record).map(|record| {
                record.encode_into(&mut hollow);
                Kept::Hollow(&hollow)
            }),
        };
        match kept {
            Some(kept) => entries.insert(xxh3_64(key), Entry::new(key, kept)),
            None => drop(entries.remove(&xxh3_64(key))),
        }
    }

    /// The engine has this from now on, if it takes the batch.
    pub fn follow(&mut self, batch: &Batch) {
        if self.entries.is_none() {
            return;
        }
        for (_, op) in batch.ops().filter(|(family, _)| *family == Family::Objects) {
            match op {
                Op::Put { .. } if mutant!(CacheFallsBehind) => {}
                Op::Put { key, value } => self.keep(key, Some(value)),
                // Whether the engine says that there is nothing, or that it cannot tell, it is asked.
                Op::Delete { key } => self.forget(key),
                // All of it, for few keys: ranges go as seldom as files rot.
                Op::DeleteRange { .. } => self.clear(),
            }
        }
    }

    /// The next operation on the key is to ask the engine.
    pub fn forget(&mut self, key: &[u8]) {
        if let Some(entries) = &mut self.entries {
            entries.remove(&xxh3_64(key));
        }
    }

    /// The same for all keys.
    pub fn clear(&mut self) {
        if let Some(entries) = &mut self.entries {
            entries.clear();
        }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.entries.as_ref().map_or(0, Cache::weight)
    }
}

impl fmt::Debug for RecordCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// What an entry takes, its place in the table included.
#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<u64, Entry> for Weight {
    fn weight(&self, _: &u64, entry: &Entry) -> u64 {
        const PLACE: usize = 64;
        (PLACE + entry.0.len()) as u64
    }
}

/// The table's keys are hashes.
#[derive(Clone, Copy, Debug, Default)]
struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
