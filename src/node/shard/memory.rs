//! Writes that were seen lately, so that a retry of one is recognised and mints nothing.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::types::{Round, Time, WriteId};
use crate::version::{Dot, Object};

/// What is remembered of a write.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// What it became.
    pub dot: Dot,
    /// Of what it wrote: another body under the same id is somebody's mistake.
    pub hash: u64,
    /// The object as minted, and the round of then, if this node holds no copy of the key to read it from.
    pub object: Option<(Arc<Object>, Round)>,
}

/// A value's or tombstone's hash, to tell one body from another. A value has the tombstone's, 0, by a chance of one in 2^64, or because whoever
/// chose the write's id wanted that.
pub fn body_hash(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| xxh3_64(value))
}

/// As many writes as there are in ten seconds, of which one is sought for every write at every replica: a tree would be searched far apart
/// in memory.
type Writes = HashMap<WriteId, Remembered, IdHashing>;

/// Of write ids, which clients draw at random, or should: the seed keeps them from choosing ids that fall together.
#[derive(Clone, Copy, Debug)]
struct IdHashing {
    seed: u64,
}

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.seed)
    }
}

#[derive(Clone, Copy, Debug)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.chunks(8).for_each(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        });
    }

    fn write_u64(&mut self, word: u64) {
        // An odd constant of many bits (2^64 over the golden ratio): ids that somebody counts up are spread too.
        self.0 = (self.0.rotate_left(32) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, id: u128) {
        let [high, low] = [(id >> 64) as u64, id as u64];
        self.write_u64(high);
        self.write_u64(low);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Write ids with an age and a count bound; the oldest go first. A write forgotten too early may become twin siblings
/// when it is retried, which readers collapse.
#[derive(Debug)]
pub struct WriteMemory {
    keep: Duration,
    most: usize,
    writes: Writes,
    ages: VecDeque<(Time, WriteId)>,
}

impl WriteMemory {
    /// Remembers at most `most` writes for `keep` each; nobody else knows `seed`.
    pub fn new(keep: Duration, most: usize, seed: u64) -> WriteMemory {
        WriteMemory { keep, most, writes: Writes::with_hasher(IdHashing { seed }), ages: VecDeque::new() }
    }

    /// What is remembered of a write.
    pub fn get(&self, id: WriteId) -> Option<&Remembered> {
        self.writes.get(&id)
    }

    /// Remembers a write minted here.
    pub fn insert(&mut self, now: Time, id: WriteId, write: Remembered) {
        if self.writes.insert(id, write).is_none() {
            self.ages.push_back((now, id));
        }
        self.forget(now);
    }

    /// Remembers the writes that stand in an object from elsewhere.
    pub fn learn(&mut self, now: Time, object: &Object) {
        for sibling in object.siblings() {
            if self.writes.contains_key(&sibling.write_id) {
                continue;
            }
            let hash = body_hash(sibling.body.value());
            self.insert(now, sibling.write_id, Remembered { dot: sibling.dot, hash, object: None });
        }
    }

    fn forget(&mut self, now: Time) {
        while let Some(&(born, id)) = self.ages.front() {
            if self.ages.len() <= self.most && now.since(born) < self.keep {
                break;
            }
            self.ages.pop_front();
            self.writes.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Actor;

    fn write(counter: u64) -> Remembered {
        Remembered { dot: Dot { actor: Actor(1), counter }, hash: counter, object: None }
    }

    #[test]
    fn writes_are_forgotten_by_age() {
        let mut memory = WriteMemory::new(Duration::from_secs(10), 100, 1);
        memory.insert(Time::ZERO, WriteId(1), write(1));
        memory.insert(Time::ZERO + Duration::from_secs(9), WriteId(2), write(2));
        assert!(memory.get(WriteId(1)).is_some());
        memory.insert(Time::ZERO + Duration::from_secs(10), WriteId(3), write(3));
        assert!(memory.get(WriteId(1)).is_none());
        assert!(memory.get(WriteId(2)).is_some());
    }

    #[test]
    fn writes_are_forgotten_by_number() {
        let mut memory = WriteMemory::new(Duration::from_secs(10), 2, 1);
        (1..=3).for_each(|id| memory.insert(Time::ZERO, WriteId(id), write(1)));
        assert!(memory.get(WriteId(1)).is_none());
        assert!(memory.get(WriteId(2)).is_some() && memory.get(WriteId(3)).is_some());
    }

    #[test]
    fn a_tombstone_is_not_an_empty_value() {
        assert_ne!(body_hash(None), body_hash(Some(&Bytes::new())));
    }
}
