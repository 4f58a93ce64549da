//! Tables that cannot be read go, and nothing that anybody could see goes or comes with them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "works on real files")]

#[path = "processes/tables.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod tables;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use dynkv::storage::{
    Batch, Engine, Family, KeptBecause, Lookup, MendWith, Mending, ReadTier, RocksConfig, RocksEngine, ScanLimit,
    StorageError, hint_key,
};
use dynkv::types::NodeId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocksdb::WaitForCompactOptions;
use tempfile::TempDir;

use self::tables::{compact, offline, tables};

/// What an engine says of a key; `None`: it cannot be read.
fn read(engine: &RocksEngine, key: &[u8]) -> Option<Option<Bytes>> {
    match engine.get(Family::Objects, key, ReadTier::Disk) {
        Ok(Lookup::Found(value)) => Some(Some(value)),
        Ok(Lookup::Absent | Lookup::Miss) => Some(None),
        Err(StorageError::Corrupt { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Keys of the database below.
const NUMBERS: u32 = 20_000;

/// A database in whose upper tables newer values, and deletions, lie above older values in lower ones.
struct Layered {
    dir: TempDir,
    /// What stands there.
    newest: BTreeMap<u32, Option<Bytes>>,
    /// The upper tables.
    upper: Vec<PathBuf>,
    /// The lower tables.
    lower: Vec<PathBuf>,
}

impl Layered {
    fn key(number: u32) -> Vec<u8> {
        [&[0, 1][..], &number.to_be_bytes(), b"........"].concat()
    }

    fn value(byte: u8, number: u32) -> Bytes {
        [&[byte; 100][..], &number.to_be_bytes()].concat().into()
    }

    fn new() -> Result<Layered> {
        let newest = (0..NUMBERS).map(|number| match number % 4 {
            0 => (number, None),
            2 => (number, Some(Layered::value(b'n', number))),
            _ => (number, Some(Layered::value(b'o', number))),
        });
        let mut layered =
            Layered { dir: TempDir::new()?, newest: newest.collect(), upper: Vec::new(), lower: Vec::new() };
        layered.write(|number| Some(Layered::value(b'o', number)), 1)?;
        compact(layered.dir.path())?;
        let newest = layered.newest.clone();
        layered.write(|number| newest[&number].clone(), 2)?;
        // The log becomes a table of level 0, and that one of level 1, above the old values.
        offline(layered.dir.path(), true)?.wait_for_compact(&WaitForCompactOptions::default())?;
        let (upper, lower): (Vec<_>, Vec<_>) =
            tables(layered.dir.path(), &["objects"])?.into_iter().partition(|(_, level)| *level < 6);
        layered.upper = upper.into_iter().map(|(path, _)| path).collect();
        layered.lower = lower.into_iter().map(|(path, _)| path).collect();
        ensure!(!layered.upper.is_empty(), "newer values lie above older ones");
        Ok(layered)
    }

    fn open(&self) -> Result<RocksEngine> {
        let config = RocksConfig { block_cache_bytes: 4 << 20, write_buffer_bytes: 1 << 20, ..RocksConfig::default() };
        Ok(RocksEngine::open(self.dir.path(), &config)?)
    }

    fn write(&self, value: impl Fn(u32) -> Option<Bytes>, step: usize) -> Result<()> {
        let (engine, mut batch) = (self.open()?, Batch::new());
        for number in (0..NUMBERS).step_by(step) {
            match value(number) {
                Some(value) => batch.put(Family::Objects, &Layered::key(number), &value),
                None => batch.delete(Family::Objects, &Layered::key(number)),
            }
        }
        engine.commit(&mut batch)?;
        Ok(())
    }

    /// Whether reading from here on begins with something that can be read.
    fn can_scan(engine: &RocksEngine, number: u32) -> bool {
        let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Continue(());
        engine.scan(Family::Objects, &Layered::key(number), None, ScanLimit::entries(1), &mut visit).is_ok()
    }

    /// Each key is what it was, but for these, of which `instead` is said.
    fn check(&self, engine: &RocksEngine, but: &[u32], instead: &Option<Option<Bytes>>) -> Result<()> {
        for (number, newest) in &self.newest {
            let (found, is_but) = (read(engine, &Layered::key(*number)), but.contains(number));
            let expected = if is_but { instead } else { &Some(newest.clone()) };
            ensure!(found == *expected, "key {number} is {found:?}, in the range: {is_but}");
        }
        Ok(())
    }
}

/// What mending needs, when all may go.
fn with(sync: &mut dyn FnMut() -> Result<(), StorageError>) -> MendWith<'_> {
    MendWith { may_go: &|_, _| true, sync, most_rewritten: u64::MAX, stopping: &|| false }
}

/// Mends once.
fn mend(engine: &RocksEngine) -> Result<Mending> {
    Ok(engine.mend(&mut with(&mut || engine.sync()))?)
}

/// Mends until a table has gone.
fn expel(engine: &RocksEngine) -> Result<Vec<Mending>> {
    let mut all = Vec::new();
    for _ in 0..1000 {
        all.push(mend(engine)?);
        if all.iter().any(|mending| !mending.dropped.is_empty()) {
            return Ok(all);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("the table stays: {:?}", all.last())
}

/// Turns a bit in the middle of a file.
fn damage(path: &Path) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(std::fs::write(path, bytes)?)
}

/// Turns a bit in every block of most of a file.
fn ruin(path: &Path) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    let most = bytes.len() / 4 * 3;
    bytes[..most].iter_mut().step_by(1 << 10).for_each(|byte| *byte ^= 1);
    Ok(std::fs::write(path, bytes)?)
}

/// Keys that cannot be read.
fn unreadable(engine: &RocksEngine) -> Vec<u32> {
    (0..NUMBERS).filter(|number| read(engine, &Layered::key(*number)).is_none()).collect()
}

/// The range around a number from which on no scan begins.
fn hidden_around(engine: &RocksEngine, number: u32) -> (u32, u32) {
    let can_scan = |number: &u32| Layered::can_scan(engine, *number);
    let from = (0..number).rev().find(can_scan).map_or(0, |sound| sound + 1);
    (from, (number..NUMBERS).find(can_scan).unwrap_or(NUMBERS))
}

/// Below a damaged table lie older values, and values that were deleted: none of them is seen when it goes.
#[test]
fn a_damaged_table_goes_and_nothing_older_comes_back() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.upper[0])?;
    let engine = layered.open()?;
    ensure!(engine.damage() == 0, "nobody has met it");
    let met = (0..NUMBERS).find(|number| read(&engine, &Layered::key(*number)).is_none());
    ensure!(met.is_some() && engine.damage() == 1, "a block cannot be read");
    ensure!(read(&engine, &Layered::key(met.unwrap())).is_none() && engine.damage() == 1, "which is news once");
    let mended = expel(&engine)?;
    ensure!(engine.damage() > 1, "and again when it is given up");
    ensure!(
        mended.iter().map(|mending| mending.unreadable.len()).sum::<usize>() == 1,
        "it is told of once: {mended:?}"
    );
    let unread = unreadable(&engine);
    println!("{} keys cannot be read", unread.len());
    ensure!(unread.len() < 2_000 && unread.contains(&met.unwrap()), "{} keys cannot be read", unread.len());
    layered.check(&engine, &unread, &None)?;
    drop(engine);
    ensure!(!layered.upper[0].exists(), "its file is gone");

    // What it held is still known to be unknown, until it is written again, or given up.
    let engine = layered.open()?;
    layered.check(&engine, &unread, &None)?;
    ensure!(mend(&engine)?.unreadable.len() == 1, "a new run tells of it again");
    let mut batch = Batch::new();
    batch.put(Family::Objects, &Layered::key(unread[1]), b"new");
    engine.commit(&mut batch)?;
    ensure!(read(&engine, &Layered::key(unread[1])) == Some(Some(Bytes::from_static(b"new"))));
    let (from, to) = hidden_around(&engine, unread[0]);
    ensure!(to > unread[unread.len() - 1], "a scan does not pass it either");
    batch.delete_range(Family::Objects, &Layered::key(from), &Layered::key(to));
    engine.commit(&mut batch)?;
    let gone: Vec<u32> = (from..to).collect();
    layered.check(&engine, &gone, &Some(None))?;
    engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut |_, _| ControlFlow::Continue(()))?;
    drop(engine);
    compact(layered.dir.path())?;
    layered.check(&layered.open()?, &gone, &Some(None))
}

/// While a table goes, newer tables come into being within its range: they are not dropped with it.
#[test]
fn what_is_written_while_a_table_goes_stays() -> Result<()> {
    let mut layered = Layered::new()?;
    damage(&layered.lower[0])?;
    let engine = layered.open()?;
    let unread = unreadable(&engine);
    let (first, last) = (unread[0] - 500, unread[unread.len() - 1] + 500);
    let newer: Vec<u32> = (first..last).step_by(2).collect();
    let (mut wrote, mut quiet) = (false, false);
    let mut sync = || {
        if !std::mem::replace(&mut wrote, true) {
            // Several memtables, and time for a compaction to make tables of the next level of them.
            for part in newer.chunks(64) {
                let mut batch = Batch::new();
                for number in part {
                    let mut value = vec![0; 16 << 10];
                    StdRng::seed_from_u64(u64::from(*number)).fill(&mut value[..]);
                    batch.put(Family::Objects, &Layered::key(*number), &value);
                    layered.newest.insert(*number, Some(value.into()));
                }
                engine.commit(&mut batch)?;
            }
            std::thread::sleep(Duration::from_secs(2));
            let log = std::fs::read_to_string(layered.dir.path().join("LOG")).unwrap();
            let since = log.rsplit_once("disable_auto_compactions: true").map(|(_, since)| since);
            quiet = since.is_some_and(|since| !since.contains("compaction_started"));
        }
        engine.sync()
    };
    let mending = engine.mend(&mut with(&mut sync))?;
    ensure!(mending.dropped.len() == 1, "{mending:?}");
    // It would be a matter of luck otherwise: a compaction that fails holds newer tables as well as the damaged one.
    ensure!(quiet, "no compaction begins before it is gone");
    let still = unreadable(&engine);
    ensure!(still.len() < 500 && newer.iter().all(|number| !still.contains(number)), "{still:?} cannot be read");
    layered.check(&engine, &still, &None)?;
    drop(engine);
    layered.check(&layered.open()?, &still, &None)
}

/// Newer records are hidden with what cannot be read around them, but for those that are kept for others, and for deletions.
#[test]
fn what_an_index_names_is_not_hidden() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.lower[0])?;
    let engine = layered.open()?;
    let unread = unreadable(&engine);
    let names: Vec<u32> = unread[..12].iter().map(|number| number + 1 + number % 2).collect();
    let mut batch = Batch::new();
    for (index, number) in names.iter().enumerate() {
        let key = Layered::key(*number);
        batch.put(Family::Objects, &key, &Layered::value(b'k', *number));
        match index % 3 {
            0 => batch.put(Family::Hints, &hint_key(NodeId(7), &key), b"hint"),
            1 => batch.put(Family::Hints, &hint_key(NodeId(u64::MAX), &key), b"hint"),
            _ => batch.put(Family::Tombstones, &key, b"tombstone"),
        }
    }
    engine.commit(&mut batch)?;
    ensure!(mend(&engine)?.dropped.len() == 1);
    for number in &names {
        let kept = Some(Some(Layered::value(b'k', *number)));
        ensure!(read(&engine, &Layered::key(*number)) == kept, "key {number} is named");
    }
    let hidden = unreadable(&engine);
    ensure!(hidden.iter().any(|number| !unread.contains(number)), "what nothing names is hidden");
    Ok(())
}

/// A process that ends after it has covered a table leaves no reader that would meet the damage: it is known all the same.
#[test]
fn a_table_that_was_met_is_remembered() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.upper[0])?;
    let engine = layered.open()?;
    ensure!(!unreadable(&engine).is_empty());
    let syncs = Cell::new(0);
    let mut fails = || {
        syncs.set(syncs.get() + 1);
        Err(StorageError::Io { action: "sync", detail: "the process ends here".into() })
    };
    let covered = engine.mend(&mut with(&mut fails))?;
    ensure!(syncs.get() == 1 && covered.dropped.is_empty() && covered.failed.len() == 1, "{covered:?}");
    drop(engine);
    ensure!(layered.upper[0].exists());
    let engine = layered.open()?;
    ensure!(mend(&engine)?.dropped.len() == 1, "nobody has read anything");
    drop(engine);
    ensure!(!layered.upper[0].exists());
    let engine = layered.open()?;
    let mending = mend(&engine)?;
    ensure!(mending.dropped.is_empty() && mending.failed.is_empty(), "it is forgotten once it is gone");
    layered.check(&engine, &unreadable(&engine), &None)
}

/// What nobody else holds is not hidden, and what can be read of it goes on to be.
#[test]
fn a_table_stays_that_holds_what_nobody_else_does() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.lower[0])?;
    let engine = layered.open()?;
    let unread = unreadable(&engine);
    let mut sync = || engine.sync();
    for attempt in 0..10 {
        let mending = engine.mend(&mut MendWith { may_go: &|_, _| false, ..with(&mut sync) })?;
        ensure!(mending.dropped.is_empty() && mending.unreadable.is_empty(), "{mending:?}");
        let told: Vec<KeptBecause> = mending.kept.iter().map(|(_, because)| *because).collect();
        let expected: &[KeptBecause] = if attempt == 0 { &[KeptBecause::OnlyHere] } else { &[] };
        ensure!(told == expected, "it is told of once: {mending:?}");
    }
    ensure!(unreadable(&engine) == unread, "newer values in its range are read as before");
    layered.check(&engine, &unread, &None)?;
    drop(engine);
    ensure!(layered.lower[0].exists());
    Ok(())
}

/// What was written, or kept, since a range was hidden is told from what is lost: nobody has to give it up with the rest.
#[test]
fn what_was_written_since_can_be_listed() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.lower[0])?;
    let engine = layered.open()?;
    let unread = unreadable(&engine);
    let (first, behind) = (Layered::key(unread[0]), Layered::key(unread[unread.len() - 1] + 1));
    let salvaged = || {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        engine.salvage(&first, &behind, &mut visit).map(|()| keys)
    };
    let early = salvaged();
    ensure!(matches!(early, Err(StorageError::Corrupt { .. })), "newer records cannot be told yet: {early:?}");
    ensure!(mend(&engine)?.dropped.len() == 1);
    ensure!(salvaged()?.is_empty(), "nothing was written since");
    let since = [unread[1], unread[0] + 1].map(Layered::key);
    let mut batch = Batch::new();
    since.iter().for_each(|key| batch.put(Family::Objects, key, b"since"));
    engine.commit(&mut batch)?;
    let mut since = since.to_vec();
    since.sort();
    ensure!(salvaged()? == since);
    Ok(())
}

/// A table goes by writing anew all that shares its range. Where that is too much it stays, and what cannot be read of it is in nobody's way.
#[test]
fn a_table_whose_range_is_too_wide_stays_and_what_cannot_be_read_is_hidden() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.lower[0])?;
    let engine = layered.open()?;
    ensure!(!unreadable(&engine).is_empty());
    let narrow =
        |engine: &RocksEngine| engine.mend(&mut MendWith { most_rewritten: 1000, ..with(&mut || engine.sync()) });
    for attempt in 0..3 {
        let mending = narrow(&engine)?;
        let told = (mending.stuck.len(), mending.unreadable.len(), mending.dropped.len());
        ensure!(told == if attempt == 0 { (1, 1, 0) } else { (0, 0, 0) }, "{mending:?}");
    }
    let unread = unreadable(&engine);
    layered.check(&engine, &unread, &None)?;
    let (from, to) = hidden_around(&engine, unread[0]);
    let mut batch = Batch::new();
    batch.put(Family::Objects, &Layered::key(unread[0]), b"new");
    engine.commit(&mut batch)?;
    let mut since = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        since.push(key.to_vec());
        ControlFlow::Continue(())
    };
    engine.salvage(&Layered::key(from), &Layered::key(to), &mut visit)?;
    let hidden: Vec<Vec<u8>> = unread.iter().map(|number| Layered::key(*number)).collect();
    since.retain(|key| hidden.contains(key));
    ensure!(since == hidden[..1], "{since:?}");
    // Given up, it is passed by, from wherever one comes.
    batch.delete_range(Family::Objects, &Layered::key(from), &Layered::key(to));
    engine.commit(&mut batch)?;
    let gone: Vec<u32> = (from..to).collect();
    drop(engine);
    for _ in 0..2 {
        let engine = layered.open()?;
        layered.check(&engine, &gone, &Some(None))?;
        for start in [0, from / 2, from.saturating_sub(1), from, to - 1] {
            engine.scan(Family::Objects, &Layered::key(start), None, ScanLimit::NONE, &mut |_, _| {
                ControlFlow::Continue(())
            })?;
        }
        let mending = narrow(&engine)?;
        ensure!(
            mending.unreadable.is_empty() && mending.stuck.len() == 1,
            "there is nothing left to be hidden: {mending:?}"
        );
    }
    ensure!(layered.lower[0].exists());
    Ok(())
}

/// What the indexes name stays by one batch: where that would be too long, commits are not held up for it, and nothing is hidden.
#[test]
fn a_table_stays_in_whose_range_too_much_waits_for_others() -> Result<()> {
    let layered = Layered::new()?;
    damage(&layered.lower[0])?;
    let engine = layered.open()?;
    let unread = unreadable(&engine);
    let mut batch = Batch::new();
    for nth in 0..70 {
        let key = [&Layered::key(unread[0])[..], &[nth]].concat();
        batch.put(Family::Objects, &key, &vec![nth; 1 << 20]);
        batch.put(Family::Hints, &hint_key(NodeId(7), &key), b"hint");
        engine.commit(&mut batch)?;
    }
    let mending = mend(&engine)?;
    ensure!(matches!(mending.kept[..], [(_, KeptBecause::NamedTooMuch)]), "{mending:?}");
    ensure!(mending.unreadable.is_empty() && mending.dropped.is_empty(), "{mending:?}");
    let read = engine.get(Family::Objects, &[&Layered::key(unread[0])[..], &[69]].concat(), ReadTier::Disk)?;
    ensure!(matches!(read, Lookup::Found(bytes) if bytes.len() == 1 << 20));
    Ok(())
}

/// Damages a table of objects and most of the table of an index that names all of them.
fn damage_with_index(family: Family, key: impl Fn(u32) -> Vec<u8>) -> Result<(Layered, RocksEngine)> {
    let layered = Layered::new()?;
    let (engine, mut batch) = (layered.open()?, Batch::new());
    (0..NUMBERS).for_each(|number| batch.put(family, &key(number), &Layered::value(b'e', number)));
    engine.commit(&mut batch)?;
    drop(engine);
    compact(layered.dir.path())?;
    damage(&tables(layered.dir.path(), &["objects"])?[0].0)?;
    ruin(&tables(layered.dir.path(), &[family.name()])?[0].0)?;
    let engine = layered.open()?;
    Ok((layered, engine))
}

/// Without its index nobody can say what of a table others wait for; and hints are on no other disk.
#[test]
fn tables_stay_where_hints_cannot_be_read() -> Result<()> {
    let (_layered, engine) =
        damage_with_index(Family::Hints, |number| hint_key(NodeId(7), &Layered::key(number)).to_vec())?;
    let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Continue(());
    ensure!(engine.scan(Family::Hints, &[], None, ScanLimit::NONE, &mut visit).is_err());
    let unread = unreadable(&engine);
    let mending = mend(&engine)?;
    let is_told = |because| mending.kept.iter().any(|(_, told)| *told == because);
    ensure!(mending.kept.len() == 2, "{mending:?}");
    ensure!(is_told(KeptBecause::HintsUnreadable), "{mending:?}");
    ensure!(is_told(KeptBecause::NotObjects(Family::Hints)), "{mending:?}");
    ensure!(mending.dropped.is_empty() && !unread.is_empty() && unreadable(&engine) == unread, "{mending:?}");
    let latest = engine.latest();
    for _ in 0..10 {
        let again = mend(&engine)?;
        ensure!(again.kept.is_empty() && again.dropped.is_empty(), "{again:?}");
    }
    ensure!(engine.latest() == latest, "nothing is written by an attempt that can come to nothing");
    Ok(())
}

/// That index is emptied and filled again: the table waits for that.
#[test]
fn a_table_goes_once_the_index_of_tombstones_can_be_read() -> Result<()> {
    let (layered, engine) = damage_with_index(Family::Tombstones, Layered::key)?;
    let unread = unreadable(&engine);
    let all = [expel(&engine)?, expel(&engine)?].concat();
    ensure!(all.iter().all(|mending| mending.kept.is_empty() && mending.stuck.is_empty()), "{all:?}");
    ensure!(all.iter().any(|mending| !mending.failed.is_empty()), "the index was met before it was mended: {all:?}");
    let gone = unreadable(&engine);
    ensure!(!unread.is_empty() && unread.iter().all(|number| gone.contains(number)), "it is not taken for absent");
    layered.check(&engine, &gone, &None)
}
