//! Tables that cannot be read any more, and how they go.
//!
//! A table with a block that is not what was written is refused to readers by RocksDB, block by block, and stops every compaction
//! that it has a part in. What it holds cannot be told from outside, and RocksDB has no way to repair it. To let it go is not
//! as simple either: of each of its keys an older version may lie in a lower level, or a value that it says is deleted, and
//! these would be seen again. An old version of a record is an old copy of a disk: its actor would be continued, and a dot minted twice.
//! And what drops it drops every table of all levels but the first that lies within its range: newer ones too.
//!
//! So all that stands in its range is *covered* first, and no compaction runs from before that until the table is gone: what
//! covers it stays in the memtable and in level 0, which a drop does not touch. From one end of the range to the other, a few at a time, all
//! records that stand there are read and written anew, behind a deletion of the range from the first to the last of them, in one batch; where
//! nothing can be read, the range up to where something can is deleted, and put in quarantine in the same batch (`quarantine.rs`):
//!
//! ```text
//!   no compaction begins, and those under way end
//!     no commit meanwhile:   read [a, b)         ->  delete_range [a, b), put what was read      for each part of the table's range
//!                            cannot read [b, c)  ->  delete_range [b, c), list it as unreadable
//!     sync
//!     delete_file_in_range [first key, last key]
//!   compactions go on
//! ```
//! Each of these batches changes nothing that anybody can see: whoever reads sees the same before and after, or is told that it cannot be
//! read, since no commit comes between. When all are written, nothing of the range is seen any more that is older than they are, in no level
//! and by no reader, so tables with nothing but older entries may go. They go in one step, after a sync: never before what takes their place is
//! on the disk. The table's name is on the disk before the first of the batches: once they have made readers pass the damage by, nobody
//! would meet it again. A process that dies in between leaves a range that is covered in part and a table that is still there; the next run
//! begins again. What is in quarantine stays there until the store gives it up: it marks what it lacks then.
//!
//! What lies in the quarantined range in other tables, newer records too, is hidden with the rest, but for those that the indexes of hints and of
//! tombstones name. Hence nothing goes there of which this node is the only one to hold it: such a table stays as it is. And only a wrong
//! checksum says that something cannot be read: at any other failure the attempt ends, and is made again.
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
//! compaction is no such error (see `open.rs`). An iterator that comes to such a table's damage from a key before it goes on failing, too: it
//! seeks past what a deletion hides only from there. Nor is a table mended that holds hints, trees or the node's own records, nor one that the
//! disk itself refuses to read, nor one whose range takes in more than can be written anew while compactions stand still.

use std::ops::ControlFlow;
use std::time::Duration;

use rocksdb::LiveFile;
use rocksdb::properties::NUM_RUNNING_COMPACTIONS;

use super::suspects::Suspects;
use super::{RocksEngine, classify};
use crate::storage::batch::Batch;
use crate::storage::engine::{Family, MendWith, Mending, ScanLimit, Unreadable};
use crate::storage::error::StorageError;

/// Bytes of records that are covered at a time; commits wait meanwhile.
const PART_BYTES: usize = 256 << 10;
/// Bytes of a key in which keys differ: partition and token.
const SPREAD: usize = 10;
/// How long to wait for the compactions under way.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Whether a family's keys are those of objects.
fn has_object_keys(family: Family) -> bool {
    matches!(family, Family::Objects | Family::Tombstones)
}

/// What came of an attempt at a table.
enum Step {
    /// It is tried again later: a compaction did not end, or the process is about to.
    Waits,
    /// It is of level 0. Nothing of it is looked at any more that cannot be read.
    Stays,
    /// It is left as it is: nobody else holds what it holds, too much would have to be written anew, or its family cannot be mended.
    Kept,
    /// It is gone.
    Dropped,
}

/// How far a range is covered.
enum Covered {
    /// There is more, from this key on.
    To(Vec<u8>),
    All,
    /// There is something in the way that has to stay.
    Kept,
}

/// No compaction begins while it lives: of no family, as RocksDB tells of all together whether one runs, and of a table that stays
/// one may fail all the time.
struct Quiet<'a>(&'a RocksEngine);

impl Quiet<'_> {
    fn set(engine: &RocksEngine, quiet: bool) -> Result<(), StorageError> {
        let value = if quiet { "true" } else { "false" };
        let set = |family| engine.db.set_options_cf(engine.family(family), &[("disable_auto_compactions", value)]);
        Family::ALL.into_iter().try_for_each(set).map_err(|error| classify("mend", &error))
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Should it fail, the next look sets it back, and so does a restart.
        let left = Quiet::set(self.0, false).is_err();
        self.0.suspects.lock().expect("nothing panics while it holds them").left_quiet |= left;
    }
}

impl RocksEngine {
    /// See [`Engine::mend`](crate::storage::Engine::mend).
    pub(super) fn mend_tables(&self, with: &mut MendWith<'_>) -> Result<Mending, StorageError> {
        let mut mending = Mending::default();
        let mut suspects = std::mem::take(&mut *self.suspects.lock().expect("nothing panics while it holds them"));
        let result = self.mend_each(&mut suspects, &mut mending, with);
        // Others may have been met meanwhile.
        self.suspects.lock().expect("nothing panics while it holds them").join(suspects);
        result.map(|()| mending)
    }

    fn mend_each(
        &self,
        suspects: &mut Suspects,
        mending: &mut Mending,
        with: &mut MendWith<'_>,
    ) -> Result<(), StorageError> {
        self.check_running()?;
        if !std::mem::replace(&mut suspects.told, true) {
            let left = self.quarantine.ranges().into_iter();
            let family = Family::Objects;
            mending.unreadable.extend(left.map(|(start, last)| Unreadable { family, start, last }));
        }
        if suspects.left_quiet {
            Quiet::set(self, false)?;
            suspects.left_quiet = false;
        }
        if suspects.is_empty() {
            return Ok(());
        }
        let live = self.db.live_files().map_err(|error| classify("mend", &error))?;
        self.note_suspects(suspects, &live)?;
        for (name, suspect) in suspects.tables() {
            let table = live.iter().find(|table| table.name == *name).expect("all others were dropped");
            let Some(family) = Family::ALL.into_iter().find(|family| family.name() == table.column_family_name) else {
                continue;
            };
            let (Some(start), Some(last)) = (&table.start_key, &table.end_key) else { continue };
            // Of objects and of their tombstones it is told what exactly cannot be read, once that is known.
            if suspect.take_news() && !has_object_keys(family) {
                mending.unreadable.push(Unreadable { family, start: start.clone(), last: last.clone() });
            }
            if !suspect.tick(table.level) {
                continue;
            }
            let end = [last, &[0][..]].concat();
            let attempt = Attempt { engine: self, family, table, start, last, end, rewrites: table.level > 0 };
            let is_too_wide = attempt.rewrites && overlapping(&live, table) > with.most_rewritten;
            let tried = if is_too_wide { Ok(Step::Kept) } else { attempt.expel(mending, with) };
            let step = match tried {
                // Others are tried even so.
                Err(error) if self.check_running().is_ok() => {
                    mending.failed.push((name.clone(), error));
                    Step::Waits
                }
                step => step?,
            };
            match step {
                Step::Stays if suspect.note_stuck(table.level) => mending.stuck.push(name.clone()),
                Step::Stays => {}
                Step::Kept => {
                    if suspect.note_kept() {
                        mending.kept.push(name.clone());
                    }
                    suspect.put_off();
                }
                Step::Dropped => mending.dropped.push(name.clone()),
                Step::Waits => suspect.put_off(),
            }
        }
        Ok(())
    }

    /// Lets no compaction begin, and waits for the end of those that run; `None` if they take too long.
    fn quieten(&self, with: &MendWith<'_>) -> Result<Option<Quiet<'_>>, StorageError> {
        let quiet = Quiet(self);
        Quiet::set(self, true)?;
        let mut waited = Duration::ZERO;
        while self.whole(NUM_RUNNING_COMPACTIONS) > 0 {
            if (with.stopping)() || waited > QUIET_WITHIN {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
        Ok(Some(quiet))
    }
}

/// Bytes of the tables that share a part of their range with this one, and of it.
fn overlapping(live: &[LiveFile], table: &LiveFile) -> u64 {
    let overlaps = |other: &&LiveFile| {
        other.column_family_name == table.column_family_name
            && other.start_key <= table.end_key
            && table.start_key <= other.end_key
    };
    live.iter().filter(overlaps).map(|other| other.size as u64).sum()
}

/// An attempt at one table.
struct Attempt<'a> {
    engine: &'a RocksEngine,
    family: Family,
    table: &'a LiveFile,
    /// The table's first key,
    start: &'a [u8],
    /// its last,
    last: &'a [u8],
    /// and the first key behind that.
    end: Vec<u8>,
    /// What can be read is written anew, so that the table can go.
    rewrites: bool,
}

impl Attempt<'_> {
    fn expel(&self, mending: &mut Mending, with: &mut MendWith<'_>) -> Result<Step, StorageError> {
        match self.can_be_covered(with)? {
            Some(true) => {}
            Some(false) => return Ok(Step::Kept),
            None => return Ok(Step::Waits),
        }
        let Some(_quiet) = self.engine.quieten(with)? else { return Ok(Step::Waits) };
        let mut from = self.start.to_vec();
        loop {
            if (with.stopping)() {
                return Ok(Step::Waits);
            }
            match self.cover(&from, mending, with.may_go) {
                Ok(Covered::To(next)) => from = next,
                Ok(Covered::All) => break,
                Ok(Covered::Kept) | Err(StorageError::Corrupt { .. }) => return Ok(Step::Kept),
                Err(error) => return Err(error),
            }
        }
        (with.sync)()?;
        if !self.rewrites {
            return Ok(Step::Stays);
        }
        let db = &self.engine.db;
        let dropped = db.delete_file_in_range_cf(self.engine.family(self.family), self.start, self.last);
        dropped.map_err(|error| classify("mend", &error))?;
        let live = db.live_files().map_err(|error| classify("mend", &error))?;
        Ok(if live.iter().any(|left| left.name == self.table.name) { Step::Waits } else { Step::Dropped })
    }

    /// Whether all of the range can be read, or may go; `None`: nothing more is to be begun. Looked at before anything is written, since a
    /// table that stays is tried again.
    fn can_be_covered(&self, with: &MendWith<'_>) -> Result<Option<bool>, StorageError> {
        let mut from = self.start.to_vec();
        while *from < *self.end {
            let (mut met, mut stopping) = (None, false);
            let mut visit = |key: &[u8], _: &[u8]| {
                met = Some(key.to_vec());
                stopping = (with.stopping)();
                if stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let scanned = self.engine.scan_database(self.family, &from, Some(&self.end), ScanLimit::NONE, &mut visit);
            match scanned {
                _ if stopping => return Ok(None),
                Ok(_) => return Ok(Some(true)),
                Err(StorageError::Corrupt { .. }) if has_object_keys(self.family) => {
                    let (bad, readable) = self.unreadable_behind(met.as_deref(), &from)?;
                    if self.family == Family::Objects && !self.can_be_hidden(&bad, &readable, with.may_go)? {
                        return Ok(Some(false));
                    }
                    from = readable;
                }
                Err(StorageError::Corrupt { .. }) => return Ok(Some(false)),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(true))
    }

    /// Whether a range of objects may go, but for what the indexes name. What they do is read in advance: commits wait while it is hidden.
    fn can_be_hidden(
        &self,
        start: &[u8],
        end: &[u8],
        may_go: &dyn Fn(&[u8], &[u8]) -> bool,
    ) -> Result<bool, StorageError> {
        if !may_go(start, end) {
            return Ok(false);
        }
        match self.engine.named_records(start, end) {
            Ok(records) => Ok(records.is_some()),
            Err(StorageError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Covers what lies below the first records of `[from, end)`, and what cannot be read behind them.
    fn cover(
        &self,
        from: &[u8],
        mending: &mut Mending,
        may_go: &dyn Fn(&[u8], &[u8]) -> bool,
    ) -> Result<Covered, StorageError> {
        let _alone = self.engine.commits.write().expect("nothing panics while it commits");
        self.engine.check_running()?;
        let mut records = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        let limit = ScanLimit { entries: usize::MAX, bytes: PART_BYTES };
        let scanned = self.engine.scan_database(self.family, from, Some(&self.end), limit, &mut visit);
        let (sound, next) = match scanned {
            Ok(next) => (next.clone().unwrap_or_else(|| self.end.clone()), next),
            Err(StorageError::Corrupt { .. }) if has_object_keys(self.family) => {
                let met = records.last().map(|(key, _)| &key[..]);
                let (bad, readable) = self.unreadable_behind(met, from)?;
                if !self.hide(&bad, &readable, may_go)? {
                    return Ok(Covered::Kept);
                }
                mending.unreadable.push(Unreadable { family: self.family, start: bad.clone(), last: readable.clone() });
                (bad, (*readable < *self.end).then_some(readable))
            }
            Err(error) => return Err(error),
        };
        if self.rewrites {
            let mut batch = Batch::new();
            batch.delete_range(self.family, from, &sound);
            records.iter().for_each(|(key, value)| batch.put(self.family, key, value));
            self.engine.write_or_stop(&batch)?;
        }
        Ok(next.map_or(Covered::All, Covered::To))
    }

    /// Hides a range of which nothing can be read, unless it may not go.
    fn hide(&self, start: &[u8], end: &[u8], may_go: &dyn Fn(&[u8], &[u8]) -> bool) -> Result<bool, StorageError> {
        if self.family == Family::Objects {
            return Ok(may_go(start, end) && self.engine.put_in_quarantine(start, end)?);
        }
        let mut batch = Batch::new();
        batch.delete_range(self.family, start, end);
        self.engine.write_or_stop(&batch)?;
        Ok(true)
    }

    /// What cannot be read behind the last key that was, or from where the scan began.
    fn unreadable_behind(&self, met: Option<&[u8]>, from: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StorageError> {
        let bad = met.map_or_else(|| from.to_vec(), |key| [key, &[0]].concat());
        let readable = self.first_readable(&bad)?;
        Ok((bad, readable))
    }

    /// A key behind `bad`, at which reading fails, from which on something can be read: found by doubling steps, and then by halves, over the
    /// first bytes of keys, which are spread evenly. If nothing can be read before the end, one behind that.
    fn first_readable(&self, bad: &[u8]) -> Result<Vec<u8>, StorageError> {
        let number = |key: &[u8]| {
            let mut bytes = [0; 16];
            let len = key.len().min(SPREAD);
            bytes[16 - SPREAD..16 - SPREAD + len].copy_from_slice(&key[..len]);
            u128::from_be_bytes(bytes)
        };
        let key = |number: u128| number.to_be_bytes()[16 - SPREAD..].to_vec();
        let can_read = |number: u128| {
            let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Break(());
            let scanned = self.engine.scan_database(self.family, &key(number), None, ScanLimit::entries(1), &mut visit);
            match scanned {
                Ok(_) => Ok(true),
                Err(StorageError::Corrupt { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        let (mut low, beyond, mut step) = (number(bad), number(&self.end) + 1, 1);
        let mut high = loop {
            let next = (low + step).min(beyond);
            if next == beyond || can_read(next)? {
                break next;
            }
            (low, step) = (next, step * 2);
        };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if can_read(middle)? { high = middle } else { low = middle }
        }
        Ok(key(high))
    }
}
