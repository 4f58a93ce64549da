//! Learning what waits, at a start: a walk over the whole index, while hints come and go.
//!
//! A change at a key that the walk has passed is counted as it comes; what lies ahead of it is left to the walk. A page
//! may have been read before or after a change that was made while it was under way, or just before it was asked for: for
//! such keys the change is right and the page is not asked. So the numbers are exact when the walk is done.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::backlog::Backlog;
use crate::storage::{HintChange, HintEntry, HintPage, hint_key};
use crate::types::NodeId;

type Changes = BTreeMap<Vec<u8>, (NodeId, Option<HintEntry>)>;

#[derive(Debug, Default)]
pub(super) struct Census {
    /// Counted up to and including this key of the index; `None`: nothing yet.
    pub passed: Option<Bytes>,
    /// All is counted.
    pub done: bool,
    /// Ahead of the walk, made before the page under way was asked for; maybe not yet committed at that moment.
    before: Changes,
    /// Ahead of the walk, made since.
    during: Changes,
}

impl Census {
    pub fn on_change(&mut self, change: &HintChange, backlog: &mut Backlog) {
        let HintChange { target, key, old, new } = change;
        let place = hint_key(*target, key);
        if self.done || self.passed.as_ref().is_some_and(|passed| place[..] <= passed[..]) {
            backlog.on_change(*target, old.as_ref(), new.as_ref());
        } else {
            self.during.insert(place, (*target, *new));
        }
    }

    pub fn on_page(&mut self, page: HintPage, backlog: &mut Backlog) {
        let (before, during) = (std::mem::take(&mut self.before), std::mem::take(&mut self.during));
        for item in page.items {
            let place = hint_key(item.target, &item.key);
            if !before.contains_key(&place) && !during.contains_key(&place) {
                backlog.on_change(item.target, None, Some(&item.entry));
            }
        }
        self.passed = page.next;
        self.done = self.passed.is_none();
        let is_passed = |place: &[u8]| self.passed.as_ref().is_none_or(|passed| *place <= passed[..]);
        // What was made before this page was asked for is committed by now: the next one shows it.
        let superseded = |place: &Vec<u8>| during.contains_key(place);
        let settled = before.into_iter().filter(|(place, _)| is_passed(place) && !superseded(place));
        for (_, (target, entry)) in settled.collect::<Vec<_>>() {
            backlog.on_change(target, None, entry.as_ref());
        }
        for (place, (target, entry)) in during {
            if is_passed(&place) {
                backlog.on_change(target, None, entry.as_ref());
            } else {
                self.before.insert(place, (target, entry));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::HintItem;

    /// The index as one drain after the other leaves it, and as an engine shows it: a drain later, or not.
    #[derive(Default)]
    struct Disk {
        written: BTreeMap<Vec<u8>, HintItem>,
        committed: BTreeMap<Vec<u8>, HintItem>,
    }

    impl Disk {
        fn set(&mut self, place: u8, entry: Option<HintEntry>) -> HintChange {
            let (target, key) = (NodeId(u64::from(place / 4)), Bytes::copy_from_slice(&[place % 4]));
            let index_key = hint_key(target, &key);
            let old = match entry {
                Some(entry) => self.written.insert(index_key, HintItem { target, key: key.clone(), entry }),
                None => self.written.remove(&index_key),
            };
            HintChange { target, key, old: old.map(|item| item.entry), new: entry }
        }

        fn page(&self, after: Option<&Bytes>, limit: usize) -> HintPage {
            let ahead = |place: &[u8]| after.is_none_or(|after| *place > after[..]);
            let shown: Vec<_> = self.committed.iter().filter(|(place, _)| ahead(place)).take(limit).collect();
            let next = (shown.len() == limit).then(|| shown.last().expect("a page holds something").0.clone().into());
            let items = shown.into_iter().map(|(_, item)| item.clone()).collect();
            HintPage { items, next, ..HintPage::default() }
        }
    }

    proptest! {
        /// A step is a drain: changes, and maybe the page that was under way comes, read early or late.
        #[test]
        fn the_numbers_are_exact_whenever_pages_are_read(
            first in proptest::collection::btree_map(0u8..16, 1u32..9, 0..12),
            steps in proptest::collection::vec(
                (proptest::collection::vec((0u8..16, proptest::option::of(1u32..9)), 0..4), any::<bool>(), any::<bool>()), 1..40),
        ) {
            let entry = |bytes| HintEntry { counted: bytes % 2 == 0, bytes, hinted_ms: bytes.into() };
            let mut disk = Disk::default();
            for (place, bytes) in first {
                disk.set(place, Some(entry(bytes)));
            }
            disk.committed = disk.written.clone();
            let (mut census, mut backlog) = (Census::default(), Backlog::default());
            // Read the moment it is asked for, before that drain's commit.
            let mut early = disk.page(None, 3);
            for (changes, comes, late) in steps {
                for (place, bytes) in changes {
                    let change = disk.set(place, bytes.map(entry));
                    if change.old != change.new {
                        census.on_change(&change, &mut backlog);
                    }
                }
                if comes && !census.done {
                    let page = if late { disk.page(census.passed.as_ref(), 3) } else { early };
                    census.on_page(page, &mut backlog);
                    early = disk.page(census.passed.as_ref(), 3);
                }
                disk.committed = disk.written.clone();
            }
            while !census.done {
                census.on_page(early, &mut backlog);
                early = disk.page(census.passed.as_ref(), 3);
                disk.committed = disk.written.clone();
            }
            let mut exact = Backlog::default();
            disk.written.values().for_each(|item| exact.on_change(item.target, None, Some(&item.entry)));
            let numbers = |backlog: &Backlog| {
                let sums = |(target, waiting): (NodeId, &super::super::backlog::Waiting)| {
                    (target, waiting.hints, waiting.counted, waiting.bytes, waiting.uncounted_bytes)
                };
                backlog.targets().map(sums).collect::<Vec<_>>()
            };
            prop_assert_eq!(numbers(&backlog), numbers(&exact));
        }
    }
}
