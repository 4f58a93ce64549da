//! Stretches of keys that the engine cannot read: no record of them can be told from the others, so all of them are wiped.
//!
//! A scan meets them, and a record's own checksum does not help: what the engine cannot read is a part of one of its files. The range
//! goes in one batch with the indexes of its hints and of its tombstones, and with the marks on its leaves, which from then on say nothing of their keys until all
//! replicas agree, as for a single rotten record. A newer record of one of its keys may be readable by itself; it goes too, and
//! comes back with the rest.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::{Store, Wiped};
use crate::storage::merkle::{Counted, Stretch, TreeId};
use crate::storage::{Engine, Family, HintChange, HintEntry, ScanLimit, StorageError, hint_key, parse_hint_key};
use crate::types::NodeId;

/// What becomes of the stretches that a count has met.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// So many are wiped with the next commit.
    pub wiped: u64,
    /// The leaves of those that stay, for now or for good.
    pub stay: Vec<Range<u32>>,
    /// Where those begin that stay for good: of some of their keys no other node is a primary.
    pub hopeless: Vec<Bytes>,
}

impl<E: Engine + ?Sized, P> Store<E, P> {
    /// Wipes what could not be read, with the batch, unless that is all there is of it, or somebody works on it at this moment.
    pub(super) fn wipe_stretches(&mut self, counted: &Counted) -> Stretches {
        let mut found = Stretches::default();
        let Some(shape) = self.trees.shape().cloned() else { return found };
        let healing = &self.healing;
        let may_go = |tree: TreeId| healing.shared.contains(&tree) || healing.foreign.contains(&tree);
        let may_go = shape.trees_of(counted.partition).all(may_go);
        for stretch in &counted.unreadable {
            if !may_go {
                found.stay.push(stretch.leaves.clone());
                found.hopeless.push(stretch.start.clone());
            } else if self.is_at_rest(stretch) && self.wipe_stretch(counted, stretch).is_ok() {
                found.wiped += 1;
            } else {
                found.stay.push(stretch.leaves.clone());
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

    /// # Errors
    /// As the index of hints cannot be read; nothing is wiped.
    fn wipe_stretch(&mut self, counted: &Counted, stretch: &Stretch) -> Result<(), StorageError> {
        let Some(shape) = self.trees.shape() else { return Ok(()) };
        let (start, end) = stretch.up_to_bounds(counted.partition, self.trees.leaves(), shape);
        let leaves = &stretch.leaves;
        let members = self.healing.members.clone();
        let mut changes = Vec::new();
        for target in &members {
            changes.append(&mut self.hints_within(*target, &start, &end)?);
        }
        self.hint_changes.append(&mut changes);
        for target in members {
            self.batch.delete_range(Family::Hints, &hint_key(target, &start), &hint_key(target, &end));
        }
        self.batch.delete_range(Family::Objects, &start, &end);
        // Which of them were tombstones, nobody can tell any more.
        self.batch.delete_range(Family::Tombstones, &start, &end);
        self.voided.insert(start, end);
        let shared = &self.healing.shared;
        let lacks = |tree: TreeId| shared.contains(&tree);
        let places = self.trees.on_stretch_wiped(counted.partition, leaves.clone(), lacks, &mut self.batch);
        self.wiped.extend(places.into_iter().map(|(place, lacks)| Wiped { place, lacks, stretch: true }));
        Ok(())
    }

    /// The hints for one node that go with a stretch. It blocks for the disk, as seldom as a file rots.
    fn hints_within(&self, target: NodeId, start: &[u8], end: &[u8]) -> Result<Vec<HintChange>, StorageError> {
        let mut changes = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            if let (Ok((_, object, _)), Ok(entry)) =
                (parse_hint_key(key), HintEntry::decode(&Bytes::copy_from_slice(value)))
            {
                let key = Bytes::copy_from_slice(object);
                changes.push(HintChange { target, key, old: Some(entry), new: None });
            }
            ControlFlow::Continue(())
        };
        let (start, end) = (hint_key(target, start), hint_key(target, end));
        self.engine.scan(Family::Hints, &start, Some(&end), ScanLimit::NONE, &mut visit)?;
        Ok(changes)
    }
}
