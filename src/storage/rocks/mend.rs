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
//! the damaged table too. And it does so only from a key that the deletion hides: one that comes from before would still go on into the damage.
//!
//! The index of tombstones needs no quarantine: where it cannot be read it is emptied, and whoever is told has it filled again from
//! the records. Until then, what it lacks is reaped later, and nothing else.
//!
//! What RocksDB makes impossible: a table of level 0 goes by compaction only, which has to read it; and the table of a wide range goes only with
//! all of that written anew while compactions stand still, which is too much beyond a bound. Such a table stays, and what cannot be read of it is
//! *hidden*: it goes into quarantine, behind a deletion that begins some megabytes before the damage, so that one of the table's own keys leads
//! an iterator past it; what can be read of these is written anew. Reads, scans and writes go on; but what the table should be compacted with
//! piles up behind it, and in the end RocksDB takes no more writes. The bindings offer neither to drop such a table nor to resume after a
//! background error; hence the database is opened so that a failed compaction is no such error (see `open.rs`). Damage at the very first keys of
//! such a table cannot be passed: scans from before it go on failing. Nor is a table mended that holds hints, trees or the node's own records,
//! nor one that the disk itself refuses to read.

mod attempt;

use std::time::Duration;

use rocksdb::LiveFile;
use rocksdb::properties::NUM_RUNNING_COMPACTIONS;

use self::attempt::Attempt;
use super::suspects::Suspects;
use super::{RocksEngine, classify};
use crate::storage::engine::{Family, KeptBecause, MendWith, Mending, Unreadable};
use crate::storage::error::StorageError;

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
    /// It is of level 0, or too much would have to be written anew. Nothing of it is looked at any more that cannot be read.
    Stays,
    /// It is left as it is.
    Kept(KeptBecause),
    /// It is gone.
    Dropped,
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
        self.check_running()?;
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
            let attempt = Attempt { engine: self, family, table, start, last, end };
            let can_go = table.level > 0 && overlapping(&live, table) <= with.most_rewritten;
            let tried = if can_go { attempt.expel(mending, with) } else { attempt.hide_all(mending, with) };
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
                Step::Kept(because) => {
                    if suspect.note_kept(because) {
                        mending.kept.push((name.clone(), because));
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
