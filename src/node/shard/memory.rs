//! Writes that were seen lately, so that a retry of one is recognised and mints nothing.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::types::{RingVersion, Round, Time, WriteId};
use crate::version::{CausalContext, Dot, Object};

/// Reapings at most that are remembered.
const MAX_REAPED: usize = 1 << 16;

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

/// What was taken in when, the oldest first.
#[derive(Debug)]
struct Ages<T>(VecDeque<(Time, T)>);

impl<T> Default for Ages<T> {
    fn default() -> Ages<T> {
        Ages(VecDeque::new())
    }
}

impl<T> Ages<T> {
    fn push(&mut self, now: Time, item: T) {
        self.0.push_back((now, item));
    }

    /// Takes the oldest out, if it is as old as that or there are more than `most`.
    fn pop_old(&mut self, now: Time, keep: Duration, most: usize) -> Option<(Time, T)> {
        let too_many = self.0.len() > most;
        self.0.pop_front_if(|(born, _)| too_many || now.since(*born) >= keep)
    }
}

/// What the tombstones had seen that were reaped here of late: all of that ring's primaries had had them on their disks.
#[derive(Debug, Default)]
struct Reaped {
    ring: RingVersion,
    /// By key, with when one of it was reaped last.
    seen: BTreeMap<Bytes, (Time, CausalContext)>,
    ages: Ages<Bytes>,
}

impl Reaped {
    fn insert(&mut self, now: Time, ring: RingVersion, key: Bytes, tombstone: &Object) {
        if ring < self.ring {
            return;
        }
        if ring > self.ring {
            // its primaries may be others now
            *self = Reaped { ring, ..Reaped::default() };
        }
        self.ages.push(now, key.clone());
        let (last, seen) = self.seen.entry(key).or_default();
        *last = now;
        seen.join(tombstone.context());
    }

    fn forget_old(&mut self, now: Time, keep: Duration) {
        while let Some((born, key)) = self.ages.pop_old(now, keep, MAX_REAPED) {
            // unless another of its tombstones has been reaped since
            if self.seen.get(&key).is_some_and(|(last, _)| *last == born) {
                self.seen.remove(&key);
            }
        }
    }
}

/// Write ids with an age and a count bound; the oldest go first. A write forgotten too early may become twin siblings
/// when it is retried, which readers collapse.
#[derive(Debug)]
pub struct WriteMemory {
    keep: Duration,
    most: usize,
    writes: Writes,
    ages: Ages<WriteId>,
    reaped: Reaped,
}

impl WriteMemory {
    /// Remembers at most `most` writes for `keep` each; nobody else knows `seed`.
    pub fn new(keep: Duration, most: usize, seed: u64) -> WriteMemory {
        WriteMemory {
            keep,
            most,
            writes: Writes::with_hasher(IdHashing { seed }),
            ages: Ages::default(),
            reaped: Reaped::default(),
        }
    }

    /// What is remembered of a write.
    pub fn get(&self, id: WriteId) -> Option<&Remembered> {
        self.writes.get(&id)
    }

    /// Remembers a write minted here.
    pub fn insert(&mut self, now: Time, id: WriteId, write: Remembered) {
        if self.writes.insert(id, write).is_none() {
            self.ages.push(now, id);
        }
        while let Some((_, id)) = self.ages.pop_old(now, self.keep, self.most) {
            self.writes.remove(&id);
        }
        self.reaped.forget_old(now, self.keep);
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

    /// Remembers, for as long as a write, that a key's tombstone was reaped here: all primaries had it on their disks.
    pub fn on_reaped(&mut self, now: Time, ring: RingVersion, key: Bytes, tombstone: &Object) {
        self.reaped.insert(now, ring, key, tombstone);
        self.reaped.forget_old(now, self.keep);
    }

    /// Whether all of this ring's primaries of the key are known to have had on their disks what this write had become, or what has
    /// replaced it since.
    pub fn is_reaped(&self, ring: RingVersion, key: &Bytes, dot: Dot) -> bool {
        self.reaped.ring == ring && self.reaped.seen.get(key).is_some_and(|(_, seen)| seen.contains(dot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use crate::version::{Actor, Body, Sibling};

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

    fn tombstone(actor: u64) -> Object {
        let dot = Dot { actor: Actor(actor), counter: 1 };
        let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: 0, body: Body::Tombstone };
        Object::update(None, &CausalContext::new(), sibling)
    }

    /// A key's tombstone is reaped, whose dot is this actor's first.
    fn reap(memory: &mut WriteMemory, seconds: u64, ring: u64, key: &Bytes, actor: u64) {
        let now = Time::ZERO + Duration::from_secs(seconds);
        memory.on_reaped(now, RingVersion(ring), key.clone(), &tombstone(actor));
    }

    fn dot(actor: u64) -> Dot {
        Dot { actor: Actor(actor), counter: 1 }
    }

    #[test]
    fn what_was_reaped_is_remembered_by_key_and_for_its_ring() {
        let (ring, other) = (RingVersion(1), RingVersion(2));
        let [key, beside] = ["key", "beside"].map(Bytes::from);
        let mut memory = WriteMemory::new(Duration::from_secs(10), 100, 1);
        assert!(!memory.is_reaped(other, &key, dot(1)));
        reap(&mut memory, 0, 1, &key, 1);
        reap(&mut memory, 0, 1, &key, 2);
        assert!(memory.is_reaped(ring, &key, dot(1)) && memory.is_reaped(ring, &key, dot(2)));
        let later = Dot { counter: 2, ..dot(1) };
        assert!(!memory.is_reaped(ring, &key, later) && !memory.is_reaped(ring, &beside, dot(1)));
        assert!(!memory.is_reaped(other, &key, dot(1)), "the primaries of then are not those of now");
        reap(&mut memory, 0, 2, &beside, 1);
        assert!(!memory.is_reaped(ring, &key, dot(1)) && !memory.is_reaped(other, &key, dot(1)));
        reap(&mut memory, 0, 1, &key, 1);
        assert!(!memory.is_reaped(ring, &key, dot(1)) && !memory.is_reaped(other, &key, dot(1)), "it came too late");
        assert!(memory.is_reaped(other, &beside, dot(1)));
    }

    #[test]
    fn what_was_reaped_is_forgotten_by_age() {
        let (ring, [key, beside]) = (RingVersion(1), ["key", "beside"].map(Bytes::from));
        let mut memory = WriteMemory::new(Duration::from_secs(10), 100, 1);
        reap(&mut memory, 0, 1, &key, 1);
        reap(&mut memory, 9, 1, &beside, 1);
        assert!(memory.is_reaped(ring, &key, dot(1)));
        reap(&mut memory, 10, 1, &beside, 2);
        assert!(!memory.is_reaped(ring, &key, dot(1)) && memory.is_reaped(ring, &beside, dot(1)));
        memory.insert(Time::ZERO + Duration::from_secs(20), WriteId(1), write(1));
        assert!(memory.reaped.seen.is_empty() && memory.reaped.ages.0.is_empty(), "writes make it forget too");
    }

    /// The age of the first is not that of the last.
    #[test]
    fn what_was_reaped_again_is_remembered_for_as_long_again() {
        for times in [[0, 10, 10], [0, 9, 10], [0, 9, 18]] {
            let (ring, key) = (RingVersion(1), Bytes::from("key"));
            let mut memory = WriteMemory::new(Duration::from_secs(10), 100, 1);
            times.into_iter().zip(1..).for_each(|(seconds, actor)| reap(&mut memory, seconds, 1, &key, actor));
            assert!(memory.is_reaped(ring, &key, dot(3)), "{times:?}");
            reap(&mut memory, times[2] + 10, 1, &Bytes::from("beside"), 1);
            assert!(!memory.is_reaped(ring, &key, dot(3)), "{times:?}");
        }
    }

    #[test]
    fn what_was_reaped_is_forgotten_by_number() {
        let key = |nth: usize| Bytes::from(nth.to_be_bytes().to_vec());
        let ring = RingVersion(1);
        let mut memory = WriteMemory::new(Duration::from_secs(10), 100, 1);
        (0..=MAX_REAPED).for_each(|nth| reap(&mut memory, 0, 1, &key(nth), 1));
        assert!(!memory.is_reaped(ring, &key(0), dot(1)) && memory.is_reaped(ring, &key(1), dot(1)));
        assert_eq!((memory.reaped.seen.len(), memory.reaped.ages.0.len()), (MAX_REAPED, MAX_REAPED));
    }

    #[test]
    fn a_tombstone_is_not_an_empty_value() {
        assert_ne!(body_hash(None), body_hash(Some(&Bytes::new())));
    }
}
