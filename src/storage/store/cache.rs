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
use std::hint::black_box;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use xxhash_rust::xxh3::xxh3_64;

use crate::storage::batch::Op;
use crate::storage::{Batch, Family, Record};

/// What an entry is expected to take, by which room is reserved for the table; it is not touched before it is used.
const EXPECTED_ENTRY: usize = 512;

/// Longer records are kept without their values: what they cost is their bytes, which are copied here too.
const LONGEST: usize = 64 << 10;

/// So are those that would take more than one part in so many of the cache.
const PARTS: usize = 64;

/// What is still longer without its values is not kept: so many versions are seldom replaced at once.
const LONGEST_HOLLOW: usize = 1 << 10;

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

const ABSENT: u8 = 0;
const WHOLE: u8 = 1;
const HOLLOW: u8 = 2;

impl Entry {
    const PREFIX: usize = 5;

    fn new(key: &[u8], kept: Kept<'_>) -> Entry {
        let (kind, record) = match kept {
            Kept::Absent => (ABSENT, &[][..]),
            Kept::Whole(record) => (WHOLE, record),
            Kept::Hollow(record) => (HOLLOW, record),
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
        let kept = match *kind {
            ABSENT => Kept::Absent,
            WHOLE => Kept::Whole(record),
            HOLLOW => Kept::Hollow(record),
            _ => return None,
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
        RecordCache { entries: (bytes > 0).then(new), longest: LONGEST.min(bytes / PARTS) }
    }

    /// What the engine has under the key; it counts as used. `None`: only the engine knows.
    pub fn get(&self, key: &[u8]) -> Option<Kept<'_>> {
        self.entries.as_ref()?.get(&xxh3_64(key))?.of(key)
    }

    /// Has the processor fetch what is kept under these keys. A search waits for memory several times, and each of those waits rests on the one
    /// before; those of different keys do not, and pass together.
    pub fn warm<'k>(&self, keys: impl ExactSizeIterator<Item = &'k [u8]>) {
        /// Bytes of a cache line.
        const LINE: usize = 64;
        /// What is longer is fetched as it is copied.
        const LINES: usize = 8;
        let Some(entries) = &self.entries else { return };
        if keys.len() < 2 {
            return;
        }
        let lines = |entry: &Entry| entry.0.iter().step_by(LINE).take(LINES).fold(0, |sum, byte| sum ^ byte);
        let found = keys.filter_map(|key| entries.peek(&xxh3_64(key)));
        black_box(found.map(lines).fold(0, |sum, line| sum ^ line));
    }

    /// The engine has this under the key. A long record leaves what is kept of it as it is: to read it is no reason to expect that it is replaced.
    pub fn keep(&mut self, key: &[u8], record: Option<&[u8]>) {
        match record {
            None => self.insert(key, Kept::Absent),
            Some(record) if record.len() <= self.longest => self.insert(key, Kept::Whole(record)),
            Some(_) => {}
        }
    }

    /// The engine has this from now on, if it takes the batch. `left` tells the record that the batch leaves under a key.
    pub fn follow<'a>(&mut self, batch: &Batch, left: impl Fn(&[u8]) -> Option<&'a Record>) {
        if self.entries.is_none() {
            return;
        }
        for (_, op) in batch.ops().filter(|(family, _)| *family == Family::Objects) {
            match op {
                Op::Put { .. } if mutant!(CacheFallsBehind) => {}
                Op::Put { key, value } if value.len() <= self.longest => self.insert(key, Kept::Whole(value)),
                Op::Put { key, .. } => self.keep_hollow(key, left(key)),
                // Whether the engine says that there is nothing, or that it cannot tell, it is asked.
                Op::Delete { key } => self.forget(key),
                // All of it, for few keys: ranges go as seldom as files rot.
                Op::DeleteRange { .. } => self.clear(),
            }
        }
    }

    /// Keeps a record without its values, if that is worth it. It is made from the record, not from its bytes: what memory has spoilt in these
    /// would get a checksum that is right.
    fn keep_hollow(&mut self, key: &[u8], record: Option<&Record>) {
        let encode = |record: Record| {
            let mut bytes = Vec::new();
            record.encode_into(&mut bytes);
            bytes
        };
        let hollow = record.and_then(Record::without_values).map(encode);
        match hollow.filter(|bytes| bytes.len() <= LONGEST_HOLLOW) {
            Some(bytes) => self.insert(key, Kept::Hollow(&bytes)),
            None => self.forget(key),
        }
    }

    fn insert(&mut self, key: &[u8], kept: Kept<'_>) {
        if let Some(entries) = &mut self.entries {
            entries.insert(xxh3_64(key), Entry::new(key, kept));
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
