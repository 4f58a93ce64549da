//! What is done about one table.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use rocksdb::LiveFile;

use super::{Step, has_object_keys};
use crate::storage::batch::Batch;
use crate::storage::engine::{Family, KeptBecause, MendWith, Mending, ScanLimit, Unreadable};
use crate::storage::error::StorageError;
use crate::storage::rocks::quarantine::KeyRecord;
use crate::storage::rocks::{RocksEngine, classify};

/// Bytes of records that are covered at a time; commits wait meanwhile.
const PART_BYTES: usize = 256 << 10;
/// Between two parts: a lock is not handed to those who wait for it.
const PART_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of records before the damage of a table that stays, among which one of the table's own is to be: they are written anew.
const BEFORE_BYTES: usize = 8 << 20;
/// How finely it is remembered where these begin.
const MARK_BYTES: usize = 64 << 10;
/// Bytes of a key in which keys differ: partition and token.
const SPREAD: usize = 10;

/// What a search for damage has met.
enum Found {
    Damage(Damage),
    /// There is none any more.
    Nothing,
    /// There is some of which nobody can say how far it reaches.
    Hopeless,
    /// Nothing more is to be begun.
    Stopping,
}

/// A range that cannot be read.
struct Damage {
    /// Where the last [`BEFORE_BYTES`] begin that can be read before it.
    before: Vec<u8>,
    start: Vec<u8>,
    end: Vec<u8>,
}

/// How far a range is covered.
enum Covered {
    /// There is more, from this key on.
    To(Vec<u8>),
    All,
    /// There is something in the way that has to stay.
    Kept(KeptBecause),
}

/// An attempt at one table.
pub(super) struct Attempt<'a> {
    pub engine: &'a RocksEngine,
    pub family: Family,
    pub table: &'a LiveFile,
    /// The table's first key,
    pub start: &'a [u8],
    /// its last,
    pub last: &'a [u8],
    /// and the first key behind that.
    pub end: Vec<u8>,
}

impl Attempt<'_> {
    /// Has it go.
    pub fn expel(&self, mending: &mut Mending, with: &mut MendWith<'_>) -> Result<Step, StorageError> {
        if let Some(step) = self.obstacle(with)? {
            return Ok(step);
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
                Ok(Covered::Kept(because)) => return Ok(Step::Kept(because)),
                Err(StorageError::Corrupt { .. }) if !has_object_keys(self.family) => {
                    return Ok(Step::Kept(KeptBecause::NotObjects(self.family)));
                }
                Err(error) => return Err(error),
            }
            std::thread::sleep(PART_PAUSE);
        }
        (with.sync)()?;
        let db = &self.engine.db;
        let dropped = db.delete_file_in_range_cf(self.engine.family(self.family), self.start, self.last);
        dropped.map_err(|error| classify("mend", &error))?;
        let live = db.live_files().map_err(|error| classify("mend", &error))?;
        Ok(if live.iter().any(|left| left.name == self.table.name) { Step::Waits } else { Step::Dropped })
    }

    /// Hides what cannot be read of it: it stays.
    pub fn hide_all(&self, mending: &mut Mending, with: &mut MendWith<'_>) -> Result<Step, StorageError> {
        let mut from = self.start.to_vec();
        loop {
            let damage = match self.next_damage(&from, with)? {
                Found::Damage(damage) => damage,
                Found::Nothing => break,
                Found::Hopeless => return Ok(Step::Kept(KeptBecause::NotObjects(self.family))),
                Found::Stopping => return Ok(Step::Waits),
            };
            if let Some(because) = self.why_kept(&damage, with.may_go)? {
                return Ok(Step::Kept(because));
            }
            if let Some(because) = self.hide_with_what_is_before(&damage)? {
                return Ok(Step::Kept(because));
            }
            let Damage { start, end, .. } = damage;
            from.clone_from(&end);
            mending.unreadable.push(Unreadable { family: self.family, start, last: end });
        }
        (with.sync)()?;
        Ok(Step::Stays)
    }

    /// What stands against covering all of the table. Looked at before anything is written, since a table that is kept is tried again.
    fn obstacle(&self, with: &MendWith<'_>) -> Result<Option<Step>, StorageError> {
        let mut from = self.start.to_vec();
        loop {
            let damage = match self.next_damage(&from, with)? {
                Found::Damage(damage) => damage,
                Found::Nothing => return Ok(None),
                Found::Hopeless => return Ok(Some(Step::Kept(KeptBecause::NotObjects(self.family)))),
                Found::Stopping => return Ok(Some(Step::Waits)),
            };
            if let Some(because) = self.why_kept(&damage, with.may_go)? {
                return Ok(Some(Step::Kept(because)));
            }
            from = damage.end;
        }
    }

    /// Reads on from a key to what cannot be read.
    fn next_damage(&self, from: &[u8], with: &MendWith<'_>) -> Result<Found, StorageError> {
        if *from >= *self.end {
            return Ok(Found::Nothing);
        }
        let (mut met, mut stopping) = (None, false);
        let (mut marks, mut since_mark) = (VecDeque::from([from.to_vec()]), 0);
        let mut visit = |key: &[u8], record: &[u8]| {
            met = Some(key.to_vec());
            since_mark += key.len() + record.len();
            if since_mark >= MARK_BYTES {
                since_mark = 0;
                marks.push_back(key.to_vec());
                if marks.len() > BEFORE_BYTES / MARK_BYTES {
                    marks.pop_front();
                }
            }
            stopping = (with.stopping)();
            if stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self.engine.scan_database(self.family, from, Some(&self.end), ScanLimit::NONE, &mut visit) {
            _ if stopping => Ok(Found::Stopping),
            Ok(_) => Ok(Found::Nothing),
            Err(StorageError::Corrupt { .. }) if has_object_keys(self.family) => {
                let (start, end) = self.unreadable_behind(met.as_deref(), from)?;
                let before = marks.pop_front().expect("the first is there before anything is met");
                Ok(Found::Damage(Damage { before, start, end }))
            }
            Err(StorageError::Corrupt { .. }) => Ok(Found::Hopeless),
            Err(error) => Err(error),
        }
    }

    /// Why a range may not go, but for what the indexes name. What they do is read in advance: commits wait while it is hidden.
    fn why_kept(
        &self,
        Damage { start, end, .. }: &Damage,
        may_go: &dyn Fn(&[u8], &[u8]) -> bool,
    ) -> Result<Option<KeptBecause>, StorageError> {
        if self.family == Family::Tombstones {
            return Ok(None);
        }
        if !may_go(start, end) {
            return Ok(Some(KeptBecause::OnlyHere));
        }
        Ok(self.engine.named_records(start, end)?.err())
    }

    /// Hides a range together with what can be read before it, which is written anew, unless there is something against that.
    fn hide_with_what_is_before(
        &self,
        Damage { before, start, end }: &Damage,
    ) -> Result<Option<KeptBecause>, StorageError> {
        let _alone = self.engine.commits.write().expect("nothing panics while it commits");
        self.engine.check_running()?;
        let (records, scanned) = self.collect(before, start, ScanLimit::NONE);
        let is_last = |(key, _): &KeyRecord| start.strip_prefix(&key[..]) == Some(&[0][..]);
        match scanned {
            Ok(_) => {}
            // The iterator has looked ahead, into the damage. Had it met other damage before, what lies between would go unnoticed.
            Err(StorageError::Corrupt { .. }) if records.last().is_some_and(is_last) => {}
            Err(error) => return Err(error),
        }
        let mut batch = Batch::new();
        batch.delete_range(self.family, before, end);
        records.iter().for_each(|(key, record)| batch.put(self.family, key, record));
        self.hide(batch, start, end)
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
        let limit = ScanLimit { entries: usize::MAX, bytes: PART_BYTES };
        let (records, scanned) = self.collect(from, &self.end, limit);
        let (sound, next) = match scanned {
            Ok(next) => (next.clone().unwrap_or_else(|| self.end.clone()), next),
            Err(StorageError::Corrupt { .. }) if has_object_keys(self.family) => {
                let met = records.last().map(|(key, _)| &key[..]);
                let (bad, readable) = self.unreadable_behind(met, from)?;
                let mut batch = Batch::new();
                batch.delete_range(self.family, &bad, &readable);
                if self.family == Family::Objects && !may_go(&bad, &readable) {
                    return Ok(Covered::Kept(KeptBecause::OnlyHere));
                }
                if let Some(because) = self.hide(batch, &bad, &readable)? {
                    return Ok(Covered::Kept(because));
                }
                let (start, last) = (bad.clone(), readable.clone());
                mending.unreadable.push(Unreadable { family: self.family, start, last });
                (bad, (*readable < *self.end).then_some(readable))
            }
            Err(error) => return Err(error),
        };
        let mut batch = Batch::new();
        batch.delete_range(self.family, from, &sound);
        records.iter().for_each(|(key, value)| batch.put(self.family, key, value));
        self.engine.write_or_stop(&batch)?;
        Ok(next.map_or(Covered::All, Covered::To))
    }

    /// What can be read of `[from, end)`, and how that ended.
    fn collect(
        &self,
        from: &[u8],
        end: &[u8],
        limit: ScanLimit,
    ) -> (Vec<KeyRecord>, Result<Option<Vec<u8>>, StorageError>) {
        let mut records = Vec::new();
        let mut visit = |key: &[u8], record: &[u8]| {
            records.push((key.to_vec(), record.to_vec()));
            ControlFlow::Continue(())
        };
        let scanned = self.engine.scan_database(self.family, from, Some(end), limit, &mut visit);
        (records, scanned)
    }

    /// Writes the batch that hides a range, unless there is something against that: then nothing is written.
    fn hide(&self, batch: Batch, start: &[u8], end: &[u8]) -> Result<Option<KeptBecause>, StorageError> {
        if self.family == Family::Objects {
            return self.engine.put_in_quarantine(batch, start, end);
        }
        self.engine.write_or_stop(&batch)?;
        Ok(None)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::storage::engine::{Engine, Lookup, ReadTier};
    use crate::storage::rocks::RocksConfig;

    const RECORDS: u32 = 20_000;

    fn key(number: u32) -> Vec<u8> {
        [&[0, 1][..], &number.to_be_bytes(), b"........"].concat()
    }

    fn open(dir: &Path) -> RocksEngine {
        RocksEngine::open(dir, &RocksConfig { block_cache_bytes: 4 << 20, ..RocksConfig::default() }).unwrap()
    }

    fn can_read(engine: &RocksEngine, number: u32) -> bool {
        matches!(engine.get(Family::Objects, &key(number), ReadTier::Disk), Ok(Lookup::Found(_)))
    }

    /// The table that holds all records.
    fn table(engine: &RocksEngine) -> LiveFile {
        let live = engine.db.live_files().unwrap();
        live.into_iter().find(|table| table.column_family_name == Family::Objects.name()).unwrap()
    }

    /// A database with all records in one table, of which two blocks are damaged.
    fn damaged() -> (tempfile::TempDir, RocksEngine) {
        let dir = tempfile::tempdir().unwrap();
        let (engine, mut batch) = (open(dir.path()), Batch::new());
        (0..RECORDS).for_each(|number| batch.put(Family::Objects, &key(number), &number.to_be_bytes().repeat(25)));
        engine.commit(&mut batch).unwrap();
        drop(engine);
        // The log becomes a table.
        let name = table(&open(dir.path())).name;
        let path = dir.path().join(name.trim_start_matches('/'));
        let mut bytes = std::fs::read(&path).unwrap();
        for at in [bytes.len() / 3, bytes.len() * 2 / 3] {
            bytes[at] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        let engine = open(dir.path());
        (dir, engine)
    }

    /// It has come since the search: records between the two would vanish unnoticed.
    #[test]
    fn damage_before_the_known_one_is_not_taken_for_it() {
        let (_dir, engine) = damaged();
        let lost: Vec<u32> = (0..RECORDS).filter(|number| !can_read(&engine, *number)).collect();
        let (first, second): (Vec<u32>, Vec<u32>) = lost.iter().partition(|number| **number < RECORDS / 2);
        let (Some(start), Some(last)) = (second.first(), second.last()) else { panic!("{lost:?}") };
        let (table, behind) = (table(&engine), [&key(start - 1)[..], &[0]].concat());
        let attempt = Attempt {
            engine: &engine,
            family: Family::Objects,
            table: &table,
            start: &key(0),
            last: &key(RECORDS - 1),
            end: [&key(RECORDS - 1)[..], &[0]].concat(),
        };
        let damage = |before| Damage { before: key(before), start: behind.clone(), end: key(last + 1) };
        let tried = attempt.hide_with_what_is_before(&damage(0));
        assert!(matches!(tried, Err(StorageError::Corrupt { .. })), "{tried:?}");
        let sound: Vec<u32> = (0..RECORDS).filter(|number| can_read(&engine, *number)).collect();
        assert_eq!(sound.len() + lost.len(), RECORDS as usize, "nothing has gone");
        // From behind the other one on it can be hidden.
        let tried = attempt.hide_with_what_is_before(&damage(first.last().unwrap() + 1));
        assert!(matches!(tried, Ok(None)), "{tried:?}");
        assert!(sound.iter().all(|number| can_read(&engine, *number)), "what was read is written anew");
    }
}
