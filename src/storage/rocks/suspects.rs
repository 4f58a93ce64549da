//! Tables that somebody has failed to read: which, and when each is looked after next.
//!
//! Their names are in the database, under the node's own records, from when one is met until it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use rocksdb::LiveFile;

use super::RocksEngine;
use crate::storage::batch::Batch;
use crate::storage::engine::{Family, KeptBecause, ScanLimit};
use crate::storage::error::StorageError;

/// Calls between two attempts, at most, at what cannot be mended yet.
const MOST_PAUSE: u32 = 64;
/// What the keys of the list begin with, and the first key behind it.
const LISTED: (&[u8], &[u8]) = (b"damaged/", b"damaged0");

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// By name as [`LiveFile`] has it.
    tables: BTreeMap<String, Suspect>,
    /// Those in the database's list.
    listed: BTreeSet<String>,
    /// What an earlier run has left in quarantine has been told of.
    pub told: bool,
    /// Compactions could not be begun again.
    pub left_quiet: bool,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    told: bool,
    kept: Option<KeptBecause>,
    /// The level at which it cannot be dropped.
    stuck: Option<i32>,
    /// Calls to wait, and how many after the next failure.
    pause: u32,
    next_pause: u32,
}

impl Suspects {
    /// Notes the tables that an error names. Whether one of them is news.
    pub fn note(&mut self, text: &str) -> bool {
        let known = self.tables.len();
        for name in table_names(text) {
            self.tables.entry(name).or_default();
        }
        self.tables.len() > known
    }

    /// Takes in what is known of others; of those that are in both, what `known` says.
    pub fn join(&mut self, known: Suspects) {
        self.tables.extend(known.tables);
        self.listed.extend(known.listed);
        self.told |= known.told;
        self.left_quiet |= known.left_quiet;
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub fn tables(&mut self) -> impl Iterator<Item = (&String, &mut Suspect)> {
        self.tables.iter_mut()
    }
}

impl Suspect {
    /// Whether it has not been told of; from now on it has.
    pub fn take_news(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// It stays as it is. Whether that, or the reason for it, is news.
    pub fn note_kept(&mut self, because: KeptBecause) -> bool {
        self.kept.replace(because) != Some(because)
    }

    /// Counts a look down, and tells whether to try now. One that was moved to another level may be dropped there.
    pub fn tick(&mut self, level: i32) -> bool {
        if self.stuck == Some(level) {
            return false;
        }
        let is_due = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_due
    }

    /// It cannot be dropped at this level. Whether that is news.
    pub fn note_stuck(&mut self, level: i32) -> bool {
        self.stuck.replace(level).is_none()
    }

    /// Later, and each time later than before.
    pub fn put_off(&mut self) {
        self.next_pause = (self.next_pause * 2).clamp(1, MOST_PAUSE);
        self.pause = self.next_pause;
    }
}

/// `/000123.sst` for each table that a text names.
fn table_names(text: &str) -> impl Iterator<Item = String> {
    const SUFFIX: &str = ".sst";
    text.match_indices(SUFFIX).filter_map(|(end, _)| {
        let digits = text[..end].bytes().rev().take_while(u8::is_ascii_digit).count();
        (digits > 0).then(|| format!("/{}{SUFFIX}", &text[end - digits..end]))
    })
}

impl RocksEngine {
    /// Remembers what an error says of tables.
    pub(super) fn suspect(&self, error: &rocksdb::Error) {
        if self.suspects.lock().expect("nothing panics while it holds them").note(error.as_ref()) {
            self.damage.fetch_add(1, Ordering::Release);
        }
    }

    /// Reads the list that an earlier run has left: when the database has been opened.
    pub(super) fn load_suspects(&self) -> Result<(), StorageError> {
        let mut suspects = Suspects::default();
        let mut visit = |key: &[u8], _: &[u8]| {
            let name = String::from_utf8_lossy(&key[LISTED.0.len()..]).into_owned();
            suspects.listed.insert(name.clone());
            suspects.tables.insert(name, Suspect::default());
            ControlFlow::Continue(())
        };
        self.scan_database(Family::Meta, LISTED.0, Some(LISTED.1), ScanLimit::NONE, &mut visit)?;
        self.suspects.lock().expect("nothing panics while it holds them").join(suspects);
        Ok(())
    }

    /// Forgets what is not there any more, by compaction or by being dropped, and lists the others.
    pub(super) fn note_suspects(&self, suspects: &mut Suspects, live: &[LiveFile]) -> Result<(), StorageError> {
        suspects.tables.retain(|name, _| live.iter().any(|table| table.name == *name));
        let known: BTreeSet<String> = suspects.tables.keys().cloned().collect();
        if known == suspects.listed {
            return Ok(());
        }
        let key = |name: &String| [LISTED.0, name.as_bytes()].concat();
        let mut batch = Batch::new();
        suspects.listed.difference(&known).for_each(|name| batch.delete(Family::Meta, &key(name)));
        known.difference(&suspects.listed).for_each(|name| batch.put(Family::Meta, &key(name), &[]));
        self.write_or_stop(&batch)?;
        suspects.listed = known;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_known_by_what_errors_say() {
        let names = |text: &str| table_names(text).collect::<Vec<_>>();
        let mismatch = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /d/db/000123.sst offset 0 size 9";
        assert_eq!(names(mismatch), ["/000123.sst"]);
        assert_eq!(names("a.sst in /x/000007.sst and /x/1000008.sst"), ["/000007.sst", "/1000008.sst"]);
        assert_eq!(names("Corruption: bad entry"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_mended_is_tried_less_and_less_often() {
        let mut suspect = Suspect::default();
        let mut tries = Vec::new();
        for call in 0..200 {
            if suspect.tick(1) {
                tries.push(call);
                suspect.put_off();
            }
        }
        assert_eq!(tries, [0, 2, 5, 10, 19, 36, 69, 134, 199]);
    }

    #[test]
    fn why_a_table_is_kept_is_told_when_it_changes() {
        let mut suspect = Suspect::default();
        let reasons = [KeptBecause::OnlyHere, KeptBecause::OnlyHere, KeptBecause::NamedTooMuch];
        assert_eq!(reasons.map(|because| suspect.note_kept(because)), [true, false, true]);
    }

    #[test]
    fn what_is_stuck_is_told_once_and_tried_again_elsewhere() {
        let mut suspect = Suspect::default();
        assert!(suspect.tick(0) && suspect.note_stuck(0));
        assert!(!suspect.tick(0) && suspect.tick(5));
        assert!(!suspect.note_stuck(5));
    }
}
