//! Stretches of keys that the engine cannot read: no record of them can be told from the others, so all of them are wiped.
//!
//! A scan meets them, and a record's own checksum does not help: what the engine cannot read is a part of one of its files. The range
//! goes in one batch with the indexes of its hints and of its tombstones, and with the marks on its leaves, which from then on say nothing of their keys until all
//! replicas agree, as for a single rotten record.
//!
//! Newer records of its keys came after the damage, and may be on no other disk. Nobody can tell them from what is lost before the engine has
//! given that up: the stretch waits for it. From then on the engine can list what stands there ([`Engine::salvage`]), and all of that stays,
//! put back behind the deletion in the same batch.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Store, Wiped};
use crate::storage::hint::restore_index;
use crate::storage::merkle::{Counted, Stretch, TreeId, Unread};
use crate::storage::tombstone::reindex_tombstone;
use crate::storage::{Engine, Family, HintEntry, Record, ScanLimit, StorageError, hint_key, parse_hint_key};
use crate::types::NodeId;

/// Keys that the indexes name, with what the index of hints says of each.
type Named = BTreeMap<Bytes, Vec<(NodeId, HintEntry)>>;

/// What becomes of the stretches that a count has met.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// So many are wiped with the next commit.
    pub wiped: u64,
    /// The leaves of those that stay.
    pub unread: Unread,
    /// Where those begin that stay for good.
    pub hopeless: Vec<Bytes>,
}

impl<E: Engine + ?Sized, P> Store<E, P> {
    /// Wipes what could not be read, with the batch, unless that is all there is of it, or somebody works on it at this moment.
    pub(super) fn wipe_stretches(&mut self, counted: &Counted) -> Stretches {
        let mut found = Stretches::default();
        let Some(shape) = self.trees.shape().cloned() else { return found };
        let may_go = shape.trees_of(counted.partition).all(|tree| self.healing.may_go(tree));
        for stretch in &counted.unreadable {
            if !may_go {
                found.unread.for_good.push(stretch.leaves.clone());
                found.hopeless.push(stretch.start.clone());
            } else if self.is_at_rest(stretch) && self.wipe_stretch(counted, stretch).is_ok() {
                found.wiped += 1;
            } else {
                found.unread.for_now.push(stretch.leaves.clone());
            }
        }
        found
    }

    /// Whether nothing in the stretch has changed since the count began, is about to, or is being read.
    fn is_at_rest(&self, Stretch { start, end, .. }: &Stretch) -> bool {
        let (start, end) = (start.clone(), end.clone());
        self.trees.is_untouched(&start, &end)
            && self.overlay.range(start.clone()..end.clone()).next().is_none()
            && self.parked.range(start..end).next().is_none()
    }

    /// It blocks for the disk, as seldom as a file rots.
    ///
    /// # Errors
    /// As the engine has not given the stretch up yet, the index of hints cannot be read, or the disk fails to answer; nothing is wiped.
    fn wipe_stretch(&mut self, counted: &Counted, stretch: &Stretch) -> Result<(), StorageError> {
        let Some(shape) = self.trees.shape() else { return Ok(()) };
        let (start, end) = stretch.up_to_bounds(counted.partition, self.trees.leaves(), shape);
        let named = self.named_within(&start, &end)?;
        let kept = self.salvaged(&start, &end)?;
        for target in &self.healing.members {
            self.batch.delete_range(Family::Hints, &hint_key(*target, &start), &hint_key(*target, &end));
        }
        self.batch.delete_range(Family::Objects, &start, &end);
        // Which of the others were tombstones, nobody can tell any more.
        self.batch.delete_range(Family::Tombstones, &start, &end);
        self.voided.insert(start, end);
        let shared = &self.healing.shared;
        let lacks = |tree: TreeId| shared.contains(&tree);
        let leaves = stretch.leaves.clone();
        let places = self.trees.on_stretch_wiped(counted.partition, leaves, lacks, &mut self.batch);
        self.wiped.extend(places.into_iter().map(|(place, lacks)| Wiped { place, lacks, stretch: true }));
        for (key, said) in &named {
            restore_index(&mut self.batch, key, said, kept.get(key), &mut self.hint_changes);
        }
        for (key, record) in kept {
            self.put_back(key, record);
        }
        Ok(())
    }

    /// A record that could be read by itself stands behind the deletion, in this drain too.
    fn put_back(&mut self, key: Bytes, record: Record) {
        self.batch.put_with(Family::Objects, &key, |out| record.encode_into(out));
        reindex_tombstone(&mut self.batch, &key, None, Some(&record));
        self.trees.on_kept(&key, &record);
        self.overlay.insert(key, Some(record));
    }

    /// The keys between these of which an index has an entry.
    fn named_within(&self, start: &[u8], end: &[u8]) -> Result<Named, StorageError> {
        let mut named = Named::new();
        for target in &self.healing.members {
            let mut visit = |key: &[u8], value: &[u8]| {
                if let Ok((_, object, _)) = parse_hint_key(key) {
                    let entry = HintEntry::decode(value).ok().map(|entry| (*target, entry));
                    named.entry(Bytes::copy_from_slice(object)).or_default().extend(entry);
                }
                ControlFlow::Continue(())
            };
            let (start, end) = (hint_key(*target, start), hint_key(*target, end));
            self.engine.scan(Family::Hints, &start, Some(&end), ScanLimit::NONE, &mut visit)?;
        }
        let mut visit = |key: &[u8], _: &[u8]| {
            named.entry(Bytes::copy_from_slice(key)).or_default();
            ControlFlow::Continue(())
        };
        match self.engine.scan(Family::Tombstones, start, Some(end), ScanLimit::NONE, &mut visit) {
            // Of the deletions that it names behind that, those stay that somebody waits for.
            Ok(_) | Err(StorageError::Corrupt { .. }) => Ok(named),
            Err(error) => Err(error),
        }
    }

    /// The records that stand there in spite of all. Nothing about them waits to be written, so the disk has the newest.
    fn salvaged(&self, start: &[u8], end: &[u8]) -> Result<BTreeMap<Bytes, Record>, StorageError> {
        let mut salvaged = BTreeMap::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            salvaged.insert(Bytes::copy_from_slice(key), Record::decode(Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        };
        self.engine.salvage(start, end, &mut visit)?;
        let sound = |(key, decoded)| match decoded {
            Ok(record) => Some(Ok((key, record))),
            Err(StorageError::Corrupt { .. }) => None,
            Err(error) => Some(Err(error)),
        };
        salvaged.into_iter().filter_map(sound).collect()
    }
}
