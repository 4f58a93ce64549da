//! Ranges of objects that could not be read when their table was given up: known to be unknown, whatever the database says of them.
//!
//! The list is in the database, under the node's own records, and changes in the batches that make it true: a range comes onto it with the
//! deletion that hides what cannot be read, and goes from it with the deletion by which whoever knows what that means gives it up. A key in
//! such a range can be read if it was written since, and is never absent; no scan passes one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{RocksEngine, classify};
use crate::storage::batch::{Batch, Op};
use crate::storage::engine::{Family, KeptBecause, ScanLimit};
use crate::storage::error::StorageError;
use crate::storage::keys::{hint_bounds, hint_key, split_hint_key};

/// What the keys of the list begin with, and the first key behind it.
const LISTED: (&[u8], &[u8]) = (b"unreadable/", b"unreadable0");
/// Bytes of records that stay in a range when it is hidden, at most: they are one batch, and commits wait for it.
const MOST_KEPT: usize = 64 << 20;
const POISON: &str = "nothing panics while it changes the list";

/// A key, and the bytes of its record.
pub(super) type KeyRecord = (Vec<u8>, Vec<u8>);
/// `[start, end)`.
type Range = (Vec<u8>, Vec<u8>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// How many there are: as good as always none, which readers learn without a lock.
    count: AtomicUsize,
    ranges: RwLock<Vec<Range>>,
}

impl Quarantine {
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// All of them.
    pub fn ranges(&self) -> Vec<Range> {
        self.ranges.read().expect(POISON).clone()
    }

    /// Whether a key is in one.
    pub fn holds(&self, family: Family, key: &[u8]) -> bool {
        let within = |(start, end): &Range| start[..] <= *key && *key < end[..];
        family == Family::Objects && !self.is_empty() && self.ranges.read().expect(POISON).iter().any(within)
    }

    /// Where a scan of `[start, end)` has to stop; `None`: nowhere.
    pub fn stops(&self, family: Family, start: &[u8], end: Option<&[u8]>) -> Option<Vec<u8>> {
        if family != Family::Objects || self.is_empty() {
            return None;
        }
        let ranges = self.ranges.read().expect(POISON);
        let met = ranges.iter().filter(|(from, to)| to[..] > *start && end.is_none_or(|end| from[..] < *end));
        met.map(|(from, _)| from.clone()).min()
    }

    pub(super) fn set(&self, ranges: Vec<Range>) {
        let mut listed = self.ranges.write().expect(POISON);
        self.count.store(ranges.len(), Ordering::Release);
        *listed = ranges;
    }
}

/// What is left of ranges without `[start, end)`.
fn without(ranges: &[Range], start: &[u8], end: &[u8]) -> Vec<Range> {
    let mut left = Vec::new();
    for (from, to) in ranges {
        if to[..] <= *start || *end <= from[..] {
            left.push((from.clone(), to.clone()));
            continue;
        }
        if from[..] < *start {
            left.push((from.clone(), start.to_vec()));
        }
        if *end < to[..] {
            left.push((end.to_vec(), to.clone()));
        }
    }
    left
}

/// Makes one list of another, in a batch.
fn relist(before: &[Range], after: &[Range], batch: &mut Batch) {
    let key = |start: &[u8]| [LISTED.0, start].concat();
    for (start, _) in before.iter().filter(|range| !after.contains(range)) {
        batch.delete(Family::Meta, &key(start));
    }
    for (start, end) in after.iter().filter(|range| !before.contains(range)) {
        batch.put(Family::Meta, &key(start), end);
    }
}

impl RocksEngine {
    /// Reads the list: when the database has been opened.
    pub(super) fn load_quarantine(&self) -> Result<(), StorageError> {
        let mut ranges = Vec::new();
        let mut visit = |key: &[u8], end: &[u8]| {
            ranges.push((key[LISTED.0.len()..].to_vec(), end.to_vec()));
            ControlFlow::Continue(())
        };
        self.scan_database(Family::Meta, LISTED.0, Some(LISTED.1), ScanLimit::NONE, &mut visit)?;
        self.quarantine.set(ranges);
        Ok(())
    }

    /// Lists a range of objects that cannot be read, in the batch that hides it, unless there is something against that: then nothing is
    /// written. The caller lets nobody commit meanwhile.
    ///
    /// Newer records of it may be readable, one by one. Nobody can list them yet, but the indexes name those that may be on no other disk,
    /// or that say of something that it is deleted: these stay.
    ///
    /// # Errors
    /// As [`named_records`](RocksEngine::named_records); nothing is hidden.
    pub(super) fn put_in_quarantine(
        &self,
        mut batch: Batch,
        start: &[u8],
        end: &[u8],
    ) -> Result<Option<KeptBecause>, StorageError> {
        let stay = match self.named_records(start, end)? {
            Ok(stay) => stay,
            Err(because) => return Ok(Some(because)),
        };
        let before = self.quarantine.ranges();
        let mut after = without(&before, start, end);
        after.push((start.to_vec(), end.to_vec()));
        stay.iter().for_each(|(key, record)| batch.put(Family::Objects, key, record));
        relist(&before, &after, &mut batch);
        // First: nobody may find the range empty.
        self.quarantine.set(after);
        self.write_or_stop(&batch)?;
        // From now on it has what it had, or cannot tell.
        self.damage.fetch_add(1, Ordering::Release);
        Ok(None)
    }

    /// Of the keys of a range that an index names, what can be read by itself, unless that is more than fits into a batch, or nobody can tell.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`]: the index of tombstones cannot be read, which heals by itself. Any other: the disk does not answer.
    pub(super) fn named_records(
        &self,
        start: &[u8],
        end: &[u8],
    ) -> Result<Result<Vec<KeyRecord>, KeptBecause>, StorageError> {
        let mut named = match self.named_by_hints(start, end) {
            Err(StorageError::Corrupt { .. }) => return Ok(Err(KeptBecause::HintsUnreadable)),
            named => named?,
        };
        let mut visit = |key: &[u8], _: &[u8]| {
            named.insert(key.to_vec());
            ControlFlow::Continue(())
        };
        self.scan_database(Family::Tombstones, start, Some(end), ScanLimit::NONE, &mut visit)?;
        let objects = self.family(Family::Objects);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for key in named {
            match self.db.get_cf(objects, &key).map_err(|error| classify("get", &error)) {
                Ok(Some(record)) if bytes + record.len() > MOST_KEPT => return Ok(Err(KeptBecause::NamedTooMuch)),
                Ok(Some(record)) => {
                    bytes += key.len() + record.len();
                    records.push((key, record));
                }
                Ok(None) | Err(StorageError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(records))
    }

    /// The keys of a range of which a hint waits for somebody.
    fn named_by_hints(&self, start: &[u8], end: &[u8]) -> Result<BTreeSet<Vec<u8>>, StorageError> {
        let mut named = BTreeSet::new();
        let mut from = Some(Vec::new());
        while let Some(begin) = from {
            let mut target = None;
            let mut visit = |key: &[u8], _: &[u8]| {
                target = split_hint_key(key).map(|(target, _)| target);
                ControlFlow::Break(())
            };
            self.scan_database(Family::Hints, &begin, None, ScanLimit::entries(1), &mut visit)?;
            let Some(target) = target else { break };
            let mut visit = |key: &[u8], _: &[u8]| {
                named.extend(split_hint_key(key).map(|(_, object)| object.to_vec()));
                ControlFlow::Continue(())
            };
            let (first, last) = (hint_key(target, start), hint_key(target, end));
            self.scan_database(Family::Hints, &first, Some(&last), ScanLimit::NONE, &mut visit)?;
            from = hint_bounds(target).1;
        }
        Ok(named)
    }

    /// Writes a batch that may give up what is listed. A deletion of a listed range becomes one of the keys that were written there since:
    /// what the range hides is hidden already, and a second deletion that ends elsewhere would have readers look at it again.
    pub(super) fn write_past_quarantine(&self, batch: &Batch) -> Result<(), StorageError> {
        let gives_up = |(family, op): (Family, Op<'_>)| match op {
            Op::DeleteRange { start, end } if family == Family::Objects => {
                self.quarantine.stops(family, start, Some(end)).is_some()
            }
            _ => false,
        };
        if !batch.ops().any(gives_up) {
            return self.write(batch);
        }
        // It reads the disk, and may wait for another that does.
        self.wait_aside(|| self.write_given_up(batch))
    }

    fn write_given_up(&self, batch: &Batch) -> Result<(), StorageError> {
        let _alone = self.giving_up.lock().expect(POISON);
        let before = self.quarantine.ranges();
        let mut after = before.clone();
        let mut translated = Batch::new();
        for (family, op) in batch.ops() {
            match op {
                Op::Put { key, value } => translated.put(family, key, value),
                Op::Delete { key } => translated.delete(family, key),
                Op::DeleteRange { start, end } if family == Family::Objects => {
                    self.delete_around(&after, start, end, &mut translated);
                    after = without(&after, start, end);
                }
                Op::DeleteRange { start, end } => translated.delete_range(family, start, end),
            }
        }
        relist(&before, &after, &mut translated);
        self.write(&translated)?;
        self.quarantine.set(after);
        Ok(())
    }

    fn delete_around(&self, listed: &[Range], start: &[u8], end: &[u8], batch: &mut Batch) {
        let mut outside = vec![(start.to_vec(), end.to_vec())];
        for (from, to) in listed {
            let (from, to) = (start.max(&from[..]), end.min(&to[..]));
            if from >= to {
                continue;
            }
            let mut keys = Vec::new();
            let mut visit = |key: &[u8], _: &[u8]| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            };
            if self.scan_database(Family::Objects, from, Some(to), ScanLimit::NONE, &mut visit).is_ok() {
                keys.iter().for_each(|key| batch.delete(Family::Objects, key));
                outside = without(&outside, from, to);
            }
        }
        outside.iter().for_each(|(from, to)| batch.delete_range(Family::Objects, from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> Range {
        (start.into(), end.into())
    }

    #[test]
    fn what_is_given_up_is_listed_no_more() {
        let listed = [range("b", "f"), range("h", "k")];
        assert_eq!(without(&listed, b"c", b"d"), [range("b", "c"), range("d", "f"), range("h", "k")]);
        assert_eq!(without(&listed, b"a", b"i"), [range("i", "k")]);
        assert_eq!(without(&listed, b"f", b"h"), listed);
        assert_eq!(without(&listed, b"a", b"z"), []);
        let mut batch = Batch::new();
        relist(&listed, &without(&listed, b"a", b"i"), &mut batch);
        let ops: Vec<_> = batch.ops().map(|(_, op)| op).collect();
        let deleted = |key| Op::Delete { key };
        assert_eq!(
            ops,
            [deleted(b"unreadable/b"), deleted(b"unreadable/h"), Op::Put { key: b"unreadable/i", value: b"k" }]
        );
    }

    #[test]
    fn keys_and_scans_meet_what_is_listed() {
        let quarantine = Quarantine::default();
        assert!(!quarantine.holds(Family::Objects, b"c"));
        quarantine.set(vec![range("b", "f")]);
        assert!(quarantine.holds(Family::Objects, b"c") && !quarantine.holds(Family::Hints, b"c"));
        assert_eq!(quarantine.stops(Family::Objects, b"a", Some(b"c")), Some(b"b".to_vec()));
        assert_eq!(quarantine.stops(Family::Objects, b"a", Some(b"b")), None);
        assert_eq!(quarantine.stops(Family::Objects, b"f", None), None);
    }
}
