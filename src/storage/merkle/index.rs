//! The index of tombstones against the records that a count has read: what is missing, wrong or of no tombstone.
//!
//! Records and index are read one after the other, at several snapshots. What is written in between, or later, the count's [`Watch`] has
//! noted: where an entry was wrong, the newest record says what it has to be. All else stands in both as it still is.
//!
//! All that the index says follows from the records. So where it cannot be read, it is emptied, and filled again from them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::count::{Counted, Watch};
use super::{Leaves, Stretch, TreeShape};
use crate::storage::tombstone::put_entry;
use crate::storage::{Batch, Engine, Family, ScanLimit, StorageError, TombstoneEntry, parse_object_key};

/// An entry that is not what its record says: what it has to be, if any.
pub type Mend = (Bytes, Option<TombstoneEntry>);

/// What is wrong with a part of the index.
#[derive(Debug)]
pub(super) struct Mends {
    /// By entry, in any order.
    pub mends: Vec<Mend>,
    /// Here it could not be read, or is of no use behind what could not: it is to be emptied before anything is put.
    pub lost: Option<Stretch>,
    /// The disk has failed to answer: some are put which are there, and some stay which are wrong.
    pub failed: bool,
}

/// What is wrong with the index in the leaves that were `counted`, where the `sole` tombstones stand. Of what is unknown there, nobody
/// knows what to say.
pub(super) fn mends(
    engine: &dyn Engine,
    shape: &TreeShape,
    leaves: Leaves,
    counted: &Counted,
    mut sole: BTreeMap<Bytes, TombstoneEntry>,
) -> Mends {
    let (partition, of) = (counted.partition, counted.of.clone());
    let (start, _) = shape.leaf_bounds(partition, of.start, leaves);
    let (_, end) = shape.leaf_bounds(partition, of.end - 1, leaves);
    let (mut mends, mut last) = (Vec::new(), None);
    let mut visit = |key: &[u8], value: &[u8]| {
        last = Some([key, &[0]].concat());
        // Records of buckets that the ring does not know have not been read.
        if counted.is_unknown(key) || shape.place(key).is_none() && parse_object_key(key).is_ok() {
            return ControlFlow::Continue(());
        }
        let due = sole.remove(key);
        if due != TombstoneEntry::decode(value).ok() || due.is_none() {
            mends.push((Bytes::copy_from_slice(key), due));
        }
        ControlFlow::Continue(())
    };
    let scanned = engine.scan(Family::Tombstones, &start, Some(&end), ScanLimit::NONE, &mut visit);
    let lost = matches!(scanned, Err(StorageError::Corrupt { .. })).then(|| {
        let stretch = Stretch { start: last.unwrap_or(start).into(), end: end.into(), leaves: of };
        let (start, end) = stretch.up_to_bounds(partition, leaves, shape);
        Stretch { start, end, ..stretch }
    });
    mends.extend(sole.into_iter().map(|(key, entry)| (key, Some(entry))));
    Mends { mends, failed: scanned.is_err() && lost.is_none(), lost }
}

/// Brings the index, with the batch, to what the records say; how many entries were wrong, what could not be read for one more. Of what
/// was written between the snapshots nobody knows whether it was, so that is not counted.
pub(super) fn mend_index(counted: &Counted, watch: &Watch, batch: &mut Batch) -> u64 {
    let mut mended = 0;
    if let Some(Stretch { start, end, .. }) = &counted.lost_index {
        mended += 1;
        batch.delete_range(Family::Tombstones, start, end);
        // What was written since was there already, or comes with this very batch.
        watch.entries_within(start, end).for_each(|(key, entry)| put_entry(batch, key, &entry));
    }
    for (key, scanned) in &counted.mends {
        let newest = watch.newest_entry(key);
        mended += u64::from(newest.is_none());
        match newest.unwrap_or(*scanned) {
            Some(entry) => put_entry(batch, key, &entry),
            None => batch.delete(Family::Tombstones, key),
        }
    }
    mended
}
