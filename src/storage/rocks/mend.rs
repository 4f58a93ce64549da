//! Tables that cannot be read any more, and how they go.
//!
//! A table with a block that is not what was written is refused to readers by RocksDB, block by block, and stops every compaction
//! that it has a part in. What it holds cannot be told from outside, and RocksDB has no way to repair it. To let it go is not
//! as simple either: of each of its keys an older version may lie in a lower level, or a value that it says is deleted, and
//! these would be seen again. An old version of a record is an old copy of a disk: its actor would be continued, and a dot minted twice.
//!
//! So what lies below is *covered* first. From one end of the table's range to the other, a few at a time, all records that stand there are
//! read and written anew, behind a deletion of the range from the first to the last of them, in one batch; where nothing can be read,
//! the range up to where something can is deleted, and put in quarantine in the same batch (`quarantine.rs`):
//!
//! ```text
//!   no commit meanwhile:   read [a, b)         ->  delete_range [a, b), put what was read      for each part of the table's range
//!                          cannot read [b, c)  ->  delete_range [b, c), list it as unreadable
//!                          sync
//!                          delete_file_in_range [first key, last key]
//! ```
//! Each of these batches changes nothing that anybody can see: whoever reads sees the same before and after, or is told that it cannot be
//! read, since no commit comes between. When all are written, nothing of the range is seen any more that is older than they are, in no level
//! and by no reader, so tables with nothing but older entries may go. They go in one step, after a sync: never before what takes their place is
//! on the disk. A process that dies in between leaves a range that is covered in part and a table that is still there; the next run begins
//! again when somebody meets it. What is in quarantine stays there until the store gives it up: it marks what it lacks then.
//!
//! That each deletion ends where something can be read again matters: an iterator skips what a deletion hides by seeking to its end, in
//! the damaged table too.
//!
//! The index of tombstones needs no quarantine: where it cannot be read it is emptied, and whoever is told has it filled again from
//! the records. Until then, what it lacks is reaped later, and nothing else.
//!
//! What RocksDB makes impossible: a table of level 0 goes by compaction only, which has to read it. What cannot be read of it goes into quarantine
//! as well, so that reads and writes go on; but flushes pile up behind it, and in the end RocksDB takes no more writes. The
//! bindings offer neither to drop such a table nor to resume after a background error; hence the database is opened so that a failed
//! compaction is no such error (see `open.rs`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use rocksdb::LiveFile;

use super::{RocksEngine, classify};
use crate::storage::batch::Batch;
use crate::storage::engine::{Family, Mending, ScanLimit, Unreadable};
use crate::storage::error::StorageError;

/// Bytes of records that are covered at a time; commits wait meanwhile.
const PART_BYTES: usize = 256 << 10;
/// Parts that are covered in one call.
const PARTS: usize = 16;
/// Bytes of a key in which keys differ: partition and token.
const SPREAD: usize = 10;
/// Calls between two attempts, at most, at what cannot be covered or dropped yet.
const MOST_PAUSE: u32 = 64;

/// Tables that somebody has failed to read, by name as [`LiveFile`] has it.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    tables: BTreeMap<String, Suspect>,
}

#[derive(Debug, Default)]
struct Suspect {
    told: bool,
    stuck: bool,
    /// All before this key is covered; `None`: nothing is.
    covered: Option<Vec<u8>>,
    /// All is covered and on the disk.
    is_covered: bool,
    /// Calls to wait, and how many after the next failure.
    pause: u32,
    next_pause: u32,
}

impl Suspects {
    /// Notes the tables that an error names.
    pub fn note(&mut self, text: &str) {
        for name in table_names(text) {
            self.tables.entry(name).or_default();
        }
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

/// Whether a family's keys are those of objects.
fn has_object_keys(family: Family) -> bool {
    matches!(family, Family::Objects | Family::Tombstones)
}

/// How far a table is.
enum Step {
    /// There is more to be covered.
    Covering,
    /// It cannot be read where there is no quarantine, or a compaction holds the table.
    Waits,
    /// It stays for ever, and nothing of it is looked at any more that cannot be read.
    Stays,
    /// It is gone.
    Dropped,
}

impl RocksEngine {
    /// Remembers what an error says of tables.
    pub(super) fn suspect(&self, error: &rocksdb::Error) {
        self.suspects.lock().expect("nothing panics while it holds them").note(error.as_ref());
    }

    /// See [`Engine::mend`](crate::storage::Engine::mend).
    pub(super) fn mend_tables(
        &self,
        sync: &mut dyn FnMut() -> Result<(), StorageError>,
    ) -> Result<Mending, StorageError> {
        let mut mending = Mending::default();
        let mut suspects =
            std::mem::take(&mut self.suspects.lock().expect("nothing panics while it holds them").tables);
        let result = self.mend_each(&mut suspects, &mut mending, sync);
        // Others may have been met meanwhile.
        let mut now = self.suspects.lock().expect("nothing panics while it holds them");
        now.tables.extend(suspects);
        result.map(|()| mending)
    }

    fn mend_each(
        &self,
        suspects: &mut BTreeMap<String, Suspect>,
        mending: &mut Mending,
        sync: &mut dyn FnMut() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if !self.told.swap(true, Ordering::Relaxed) {
            let left = self.quarantine.ranges().into_iter();
            let family = Family::Objects;
            mending.unreadable.extend(left.map(|(start, last)| Unreadable { family, start, last }));
        }
        if suspects.is_empty() {
            return Ok(());
        }
        let live = self.db.live_files().map_err(|error| classify("mend", &error))?;
        // Whatever is not there any more has been compacted or dropped.
        suspects.retain(|name, _| live.iter().any(|table| table.name == *name));
        for (name, suspect) in suspects.iter_mut() {
            let table = live.iter().find(|table| table.name == *name).expect("all others were dropped");
            let Some(family) = Family::ALL.into_iter().find(|family| family.name() == table.column_family_name) else {
                continue;
            };
            let (Some(start), Some(last)) = (&table.start_key, &table.end_key) else { continue };
            // Of objects and of their tombstones it is told what exactly cannot be read, once that is known.
            if !std::mem::replace(&mut suspect.told, true) && !has_object_keys(family) {
                mending.unreadable.push(Unreadable { family, start: start.clone(), last: last.clone() });
            }
            if suspect.stuck {
                continue;
            }
            if suspect.pause > 0 {
                suspect.pause -= 1;
                continue;
            }
            match self.expel(family, table, (start, last), suspect, mending, sync)? {
                Step::Covering => mending.goes_on = true,
                Step::Stays => {
                    suspect.stuck = true;
                    mending.stuck.push(name.clone());
                }
                Step::Dropped => mending.dropped.push(name.clone()),
                Step::Waits => {
                    suspect.next_pause = (suspect.next_pause * 2).clamp(1, MOST_PAUSE);
                    suspect.pause = suspect.next_pause;
                }
            }
        }
        Ok(())
    }

    fn expel(
        &self,
        family: Family,
        table: &LiveFile,
        (start, last): (&[u8], &[u8]),
        suspect: &mut Suspect,
        mending: &mut Mending,
        sync: &mut dyn FnMut() -> Result<(), StorageError>,
    ) -> Result<Step, StorageError> {
        let mut parts = 0;
        while !suspect.is_covered {
            if parts == PARTS {
                return Ok(Step::Covering);
            }
            parts += 1;
            let from = suspect.covered.clone().unwrap_or_else(|| start.to_vec());
            match self.cover(family, table.level > 0, &from, &[last, &[0]].concat(), mending) {
                Ok(Some(next)) => suspect.covered = Some(next),
                Ok(None) => {
                    sync()?;
                    suspect.is_covered = true;
                }
                Err(StorageError::Corrupt { .. }) => return Ok(Step::Waits),
                Err(error) => return Err(error),
            }
        }
        if table.level == 0 {
            return Ok(Step::Stays);
        }
        let dropped = self.db.delete_file_in_range_cf(self.family(family), start, last);
        dropped.map_err(|error| classify("mend", &error))?;
        let live = self.db.live_files().map_err(|error| classify("mend", &error))?;
        // A compaction that fails again and again may have held it.
        Ok(if live.iter().any(|left| left.name == table.name) { Step::Waits } else { Step::Dropped })
    }

    /// Covers what lies below the first records of `[from, end)`, and what cannot be read behind them; where to go on, if there are more.
    /// Without `rewrites`, only the latter.
    fn cover(
        &self,
        family: Family,
        rewrites: bool,
        from: &[u8],
        end: &[u8],
        mending: &mut Mending,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let _alone = self.commits.write().expect("nothing panics while it commits");
        self.check_running()?;
        let mut records = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        let limit = ScanLimit { entries: usize::MAX, bytes: PART_BYTES };
        let scanned = self.scan_database(family, from, Some(end), limit, &mut visit);
        let (sound, next) = match scanned {
            Ok(next) => (next.clone().unwrap_or_else(|| end.to_vec()), next),
            Err(StorageError::Corrupt { .. }) if has_object_keys(family) => {
                let bad = records.last().map_or_else(|| from.to_vec(), |(key, _)| [&key[..], &[0]].concat());
                let readable = self.first_readable(family, &bad, end);
                if family == Family::Objects {
                    self.put_in_quarantine(&bad, &readable)?;
                } else {
                    self.empty(family, &bad, &readable)?;
                }
                mending.unreadable.push(Unreadable { family, start: bad.clone(), last: readable.clone() });
                (bad, (*readable < *end).then_some(readable))
            }
            Err(error) => return Err(error),
        };
        if rewrites {
            let mut batch = Batch::new();
            batch.delete_range(family, from, &sound);
            records.iter().for_each(|(key, value)| batch.put(family, key, value));
            self.write(&batch).inspect_err(|error| drop(self.stopped.set(error.clone())))?;
        }
        Ok(next)
    }

    /// Deletes a range of which nothing can be read. The caller lets nobody commit meanwhile.
    fn empty(&self, family: Family, start: &[u8], end: &[u8]) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        batch.delete_range(family, start, end);
        self.write(&batch).inspect_err(|error| drop(self.stopped.set(error.clone())))
    }

    /// A key behind `bad`, at which reading fails, from which on something can be read: found by doubling steps, and then by halves, over the
    /// first bytes of keys, which are spread evenly. If nothing can be read before `end`, one behind that.
    fn first_readable(&self, family: Family, bad: &[u8], end: &[u8]) -> Vec<u8> {
        let number = |key: &[u8]| {
            let mut bytes = [0; 16];
            let len = key.len().min(SPREAD);
            bytes[16 - SPREAD..16 - SPREAD + len].copy_from_slice(&key[..len]);
            u128::from_be_bytes(bytes)
        };
        let key = |number: u128| number.to_be_bytes()[16 - SPREAD..].to_vec();
        let can_read = |number: u128| {
            let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Break(());
            self.scan_database(family, &key(number), None, ScanLimit::entries(1), &mut visit).is_ok()
        };
        let (mut low, beyond, mut step) = (number(bad), number(end) + 1, 1);
        let mut high = loop {
            let next = (low + step).min(beyond);
            if next == beyond || can_read(next) {
                break next;
            }
            (low, step) = (next, step * 2);
        };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if can_read(middle) { high = middle } else { low = middle }
        }
        key(high)
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
}
