//! Counting leaves from the data, exactly, while writes go on.
//!
//! A [`Watch`] begins when everything written before is in the engine. What a write changes from then on is noted: of each
//! key the newest item. A scan that begins later sees everything that is not noted as it still is, so the true sum is that of
//! the scanned items that were not touched and of the newest of those that were. Nothing is locked, and nothing is tried again.
//! The index of tombstones is held against the same records (`index.rs`).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Mend, mends};
use super::{ItemHash, ItemHasher, Leaves, Stretch, TreeId, TreeShape};
use crate::storage::keys::token_of;
use crate::storage::{Engine, Family, OpFailure, Record, ScanLimit, StorageError, TombstoneEntry};
use crate::types::PartitionId;

/// Leaves that are counted at a time, at most.
pub const COUNTED_LEAVES: u32 = 64;
/// Bytes of records that are read at a time: a leaf that exceeds it is counted alone.
const MAX_BYTES: u64 = 4 << 20;
/// Stretches that cannot be read in one count. The leaf with one more is given up.
const MAX_STRETCHES: usize = 64;
/// Keys that may change during a count; with more it is given up.
const MAX_TOUCHED: usize = 4096;

/// Which leaves are counted, of all trees of a partition.
#[derive(Clone, Debug)]
pub struct CountSpec {
    /// The partition.
    pub partition: PartitionId,
    /// How many leaves its trees have.
    pub leaves: Leaves,
    /// These of them.
    pub of: Range<u32>,
    /// How keys fall into trees.
    pub shape: Arc<TreeShape>,
    /// How items are hashed.
    pub hasher: ItemHasher,
}

/// Where a record counts: a leaf of a tree.
pub type Place = (TreeId, u32);

/// What lies in some leaves of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The partition.
    pub partition: PartitionId,
    /// The leaves that were counted: the first ones of those asked for, at least one.
    pub of: Range<u32>,
    /// Each key, with what stands under it.
    pub items: Vec<(Bytes, Place, ItemHash)>,
    /// Keys whose records are not what was written.
    pub rotten: Vec<(Bytes, Place)>,
    /// Keys whose records a newer version has written: they stay, and what they add to sums is not known.
    pub newer: Vec<(Bytes, Place)>,
    /// Where nothing could be read.
    pub unreadable: Vec<Stretch>,
    /// Entries of the index of tombstones that are not what these records say.
    pub mends: Vec<Mend>,
    /// Where the index could not be read: what it has there goes, and what it has to say is in `mends`.
    pub lost_index: Option<Stretch>,
    /// The disk has failed to answer about the index.
    pub index_failed: bool,
    /// Records that were looked at.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts leaves, each key at a moment after the call. Where nothing can be read, it goes on behind.
///
/// # Errors
/// [`OpFailure::Unreadable`] if the disk fails to answer before the first leaf has been read.
pub fn count_leaves(engine: &dyn Engine, spec: CountSpec) -> Result<Counted, OpFailure> {
    let (start, _) = spec.shape.leaf_bounds(spec.partition, spec.of.start, spec.leaves);
    let (_, end) = spec.shape.leaf_bounds(spec.partition, spec.of.end - 1, spec.leaves);
    let mut reader = Reader::new(spec);
    let mut from = start;
    while from < end {
        match reader.read(engine, &from, &end) {
            Ok(()) => break,
            Err(StorageError::Corrupt { .. }) => {
                let start = reader.last.take().map_or(from, |last| [&last[..], &[0]].concat());
                if reader.counted.unreadable.len() >= MAX_STRETCHES {
                    reader.give_up(start);
                    break;
                }
                let stretch = Stretch::find(engine, &reader.spec, start, &end)?;
                from = stretch.end.to_vec();
                reader.counted.unreadable.push(stretch);
            }
            Err(error) => {
                reader.fail(error)?;
                break;
            }
        }
    }
    Ok(reader.finish(engine))
}

/// What has been read so far.
struct Reader {
    spec: CountSpec,
    counted: Counted,
    /// Records with nothing but tombstones, and what the index is to say of them.
    sole: BTreeMap<Bytes, TombstoneEntry>,
    /// The leaf that is being read: those before it are whole.
    leaf: u32,
    /// The key that was read last, since the scan began.
    last: Option<Bytes>,
}

impl Reader {
    fn new(spec: CountSpec) -> Reader {
        let counted = Counted::nothing(spec.partition, spec.of.clone());
        let leaf = spec.of.start;
        Reader { spec, counted, sole: BTreeMap::new(), leaf, last: None }
    }

    fn read(&mut self, engine: &dyn Engine, from: &[u8], end: &[u8]) -> Result<(), StorageError> {
        let mut visit = |key: &[u8], record: &[u8]| self.take(key, record);
        engine.scan(Family::Objects, from, Some(end), ScanLimit::NONE, &mut visit).map(drop)
    }

    fn take(&mut self, key: &[u8], record: &[u8]) -> ControlFlow<()> {
        let Reader { spec, counted, sole, leaf, last } = self;
        let key = Bytes::copy_from_slice(key);
        *last = Some(key.clone());
        let Some((tree, token)) = spec.shape.place(&key) else { return ControlFlow::Continue(()) };
        let at = spec.shape.leaf_of(token, spec.leaves);
        if at > *leaf && counted.bytes >= MAX_BYTES {
            counted.of.end = at;
            return ControlFlow::Break(());
        }
        *leaf = at;
        counted.records += 1;
        counted.bytes += (key.len() + record.len()) as u64;
        match Record::decode(Bytes::copy_from_slice(record)) {
            Ok(record) => {
                let hash = spec.hasher.hash(&key, &record.object);
                sole.extend(TombstoneEntry::of(&record).map(|entry| (key.clone(), entry)));
                counted.items.push((key, (tree, at), hash));
            }
            Err(StorageError::NewerRecord { .. }) => counted.newer.push((key, (tree, at))),
            Err(_) => counted.rotten.push((key, (tree, at))),
        }
        ControlFlow::Continue(())
    }

    /// Nothing more can be read. What was read before is sound.
    fn fail(&mut self, error: StorageError) -> Result<(), OpFailure> {
        let leaf = self.leaf;
        if leaf == self.spec.of.start {
            return Err(error.into());
        }
        self.counted.of.end = leaf;
        self.counted.items.retain(|(_, (_, at), _)| *at < leaf);
        self.counted.rotten.retain(|(_, (_, at))| *at < leaf);
        self.counted.newer.retain(|(_, (_, at))| *at < leaf);
        Ok(())
    }

    /// Too little of this leaf can be read to go on: what is left of it counts as unreadable, and the next count begins behind it.
    fn give_up(&mut self, start: Vec<u8>) {
        let Reader { spec, counted, .. } = self;
        let leaf = spec.shape.leaf_of(token_of(&start), spec.leaves);
        let (_, end) = spec.shape.leaf_bounds(spec.partition, leaf, spec.leaves);
        counted.unreadable.push(Stretch { start: start.into(), end: end.into(), leaves: leaf..leaf + 1 });
        counted.of.end = leaf + 1;
    }

    /// Holds the index of tombstones against what was read.
    fn finish(self, engine: &dyn Engine) -> Counted {
        let Reader { spec, mut counted, mut sole, .. } = self;
        let unreadable = std::mem::take(&mut counted.unreadable).into_iter();
        counted.unreadable = unreadable.filter_map(|stretch| stretch.within(&spec, counted.of.end)).collect();
        let (_, end) = spec.shape.leaf_bounds(spec.partition, counted.of.end - 1, spec.leaves);
        sole.retain(|key, _| key[..] < end[..]);
        let found = mends(engine, &spec.shape, spec.leaves, &counted, sole);
        (counted.mends, counted.lost_index, counted.index_failed) = (found.mends, found.lost, found.failed);
        counted
    }
}

impl Counted {
    fn nothing(partition: PartitionId, of: Range<u32>) -> Counted {
        Counted {
            partition,
            of,
            items: Vec::new(),
            rotten: Vec::new(),
            newer: Vec::new(),
            unreadable: Vec::new(),
            mends: Vec::new(),
            lost_index: None,
            index_failed: false,
            records: 0,
            bytes: 0,
        }
    }

    /// Whether it cannot be told what stands under a key, in the leaves that were counted.
    pub(super) fn is_unknown(&self, key: &[u8]) -> bool {
        let is_among = |keys: &[(Bytes, Place)]| keys.binary_search_by(|(of, _)| of[..].cmp(key)).is_ok();
        is_among(&self.rotten)
            || is_among(&self.newer)
            || self.unreadable.iter().any(|stretch| stretch.start[..] <= *key && *key < stretch.end[..])
    }
}

/// What stands under a key that was written since: its leaf, its item, and what the index of tombstones is to say.
#[derive(Debug)]
struct Touched {
    place: Place,
    item: Option<ItemHash>,
    entry: Option<TombstoneEntry>,
}

/// Notes what changes in some leaves of a partition while they are counted.
#[derive(Debug)]
pub(super) struct Watch {
    partition: PartitionId,
    of: Range<u32>,
    touched: BTreeMap<Bytes, Touched>,
    most: usize,
}

impl Watch {
    pub fn new(partition: PartitionId, of: Range<u32>) -> Watch {
        Watch { partition, of, touched: BTreeMap::new(), most: MAX_TOUCHED }
    }

    /// What stands under a key from now on; `None`: nothing.
    pub fn note(&mut self, key: &[u8], place: Place, item: Option<ItemHash>, record: Option<&Record>) {
        if place.0.partition == self.partition && self.of.contains(&place.1) && self.touched.len() <= self.most {
            let entry = record.and_then(TombstoneEntry::of);
            self.touched.insert(Bytes::copy_from_slice(key), Touched { place, item, entry });
        }
    }

    /// What the leaves hold now; `None` if too much has changed meanwhile to be sure.
    pub fn sums(&self, counted: &Counted) -> Option<BTreeMap<Place, u128>> {
        if self.touched.len() > self.most {
            return None;
        }
        let mut sums: BTreeMap<Place, u128> = BTreeMap::new();
        let scanned = counted.items.iter().filter(|(key, ..)| !self.touched.contains_key(key));
        let scanned = scanned.map(|(_, place, hash)| (*place, *hash));
        let touched = self.touched.values().filter_map(|touched| Some((touched.place, touched.item?)));
        for (place, hash) in scanned.chain(touched.filter(|((_, leaf), _)| counted.of.contains(leaf))) {
            let sum = sums.entry(place).or_default();
            *sum = sum.wrapping_add(hash.0);
        }
        Some(sums)
    }

    /// What the index of tombstones is to say of a key that was written since; `None`: it was not.
    pub fn newest_entry(&self, key: &[u8]) -> Option<Option<TombstoneEntry>> {
        self.touched.get(key).map(|touched| touched.entry)
    }

    /// Keys in `[start, end)` that were written since and hold nothing but tombstones.
    pub fn entries_within<'a>(
        &'a self,
        start: &'a Bytes,
        end: &'a Bytes,
    ) -> impl Iterator<Item = (&'a Bytes, TombstoneEntry)> {
        let range = (Bound::Included(start), Bound::Excluded(end));
        self.touched.range::<Bytes, _>(range).filter_map(|(key, touched)| Some((key, touched.entry?)))
    }

    /// Keys that were rotten, and that nothing has been written under since.
    pub fn rotten<'a>(&'a self, counted: &'a Counted) -> impl Iterator<Item = &'a (Bytes, Place)> {
        counted.rotten.iter().filter(|(key, _)| !self.touched.contains_key(key))
    }

    /// Whether nothing between these keys has changed; false if that is not known.
    pub fn is_untouched(&self, start: &Bytes, end: &Bytes) -> bool {
        let range = (Bound::Included(start), Bound::Excluded(end));
        self.touched.len() <= self.most && self.touched.range::<Bytes, _>(range).next().is_none()
    }

    #[cfg(test)]
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }
}
