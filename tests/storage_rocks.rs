//! RocksDB as an engine: the common suite, and what only a real directory can show.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, its helpers included")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use dynkv::storage::config::Compression;
use dynkv::storage::keys::{FORMAT, MetaKey};
use dynkv::storage::{Batch, Engine, Family, Lookup, ReadTier, RocksConfig, RocksEngine, StorageError};
use dynkv::{storage, types};
use tempfile::TempDir;

#[path = "../src/storage/conformance.rs"]
mod conformance;

struct Directory {
    dir: TempDir,
    engine: Option<RocksEngine>,
}

impl Directory {
    fn new() -> Directory {
        let dir = TempDir::new().unwrap();
        let engine = Some(open(dir.path()).unwrap());
        Directory { dir, engine }
    }
}

impl conformance::Subject for Directory {
    fn engine(&self) -> &dyn Engine {
        self.engine.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        drop(self.engine.take());
        self.engine = Some(open(self.dir.path()).unwrap());
    }
}

/// Small buffers, so that flushes and compactions happen; no compression, so that bytes on disk are predictable.
fn config() -> RocksConfig {
    RocksConfig {
        block_cache_bytes: 4 << 20,
        compression: Compression::None,
        write_buffer_bytes: 256 << 10,
        ..RocksConfig::default()
    }
}

fn open(dir: &Path) -> Result<RocksEngine, StorageError> {
    RocksEngine::open(dir, &config())
}

#[track_caller]
fn open_error(dir: &Path) -> StorageError {
    open(dir).err().expect("the directory must be refused")
}

fn put(engine: &RocksEngine, key: &[u8], value: &[u8]) -> Result<types::BatchNumber, StorageError> {
    let mut batch = Batch::new();
    batch.put(Family::Objects, key, value);
    engine.commit(&mut batch)
}

fn found(value: &[u8]) -> Lookup {
    Lookup::Found(Bytes::copy_from_slice(value))
}

#[test]
fn conforms() {
    conformance::run(Directory::new);
}

#[test]
fn one_directory_serves_one_engine() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path()).unwrap();
    let error = open_error(dir.path());
    assert_eq!(error, StorageError::Locked { dir: dir.path().to_owned() });
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    put(&engine, b"k", b"v").unwrap();
    drop(engine);
    assert_eq!(open(dir.path()).unwrap().get(Family::Objects, b"k", ReadTier::Disk), Ok(found(b"v")));
}

#[test]
fn a_directory_that_another_program_has_open_is_locked() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    let families = ["objects", "hints", "merkle", "meta", "tombstones"];
    let other = rocksdb::DB::open_cf(&rocksdb::Options::default(), dir.path(), families).unwrap();
    assert_eq!(open_error(dir.path()), StorageError::Locked { dir: dir.path().to_owned() });
    drop(other);
    open(dir.path()).unwrap();
}

/// Names, lengths and contents of a directory's files.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_newer_format_is_refused_before_anything_is_written() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.get(Family::Meta, &MetaKey::Format.bytes(), ReadTier::Disk), Ok(found(&FORMAT.to_be_bytes())));
    let mut batch = Batch::new();
    batch.put(Family::Meta, &MetaKey::Format.bytes(), &(FORMAT + 1).to_be_bytes());
    engine.commit(&mut batch).unwrap();
    drop(engine);
    let before = contents(dir.path());
    assert_eq!(open_error(dir.path()), StorageError::Newer { found: FORMAT + 1, supported: FORMAT });
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_newer_format_with_a_family_of_its_own_is_still_newer() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    let mut options = rocksdb::Options::default();
    options.create_missing_column_families(true);
    let families = ["objects", "hints", "merkle", "meta", "tombstones", "later"];
    let db = rocksdb::DB::open_cf(&options, dir.path(), families).unwrap();
    assert!(matches!(open_error(dir.path()), StorageError::Locked { .. } | StorageError::Corrupt { .. }));
    let meta = db.cf_handle("meta").unwrap();
    db.put_cf(meta, MetaKey::Format.bytes(), 9u32.to_be_bytes()).unwrap();
    drop(db);
    assert_eq!(open_error(dir.path()), StorageError::Newer { found: 9, supported: FORMAT });
}

#[test]
fn somebody_elses_database_is_refused() {
    let dir = TempDir::new().unwrap();
    let db = rocksdb::DB::open_default(dir.path()).unwrap();
    db.put(b"theirs", b"1").unwrap();
    drop(db);
    let before = contents(dir.path());
    let error = open_error(dir.path());
    assert!(matches!(&error, StorageError::Corrupt { detail } if detail.contains("not dynkv's")), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_database_whose_making_was_cut_short_is_made_anew() {
    let dir = TempDir::new().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    drop(rocksdb::DB::open_cf(&options, dir.path(), ["objects"]).unwrap());
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.get(Family::Meta, &MetaKey::Format.bytes(), ReadTier::Disk), Ok(found(&FORMAT.to_be_bytes())));
}

#[test]
fn a_directory_from_before_a_family_has_it_made() {
    let dir = TempDir::new().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = rocksdb::DB::open_cf(&options, dir.path(), ["objects", "hints", "merkle", "meta"]).unwrap();
    db.put_cf(db.cf_handle("meta").unwrap(), MetaKey::Format.bytes(), FORMAT.to_be_bytes()).unwrap();
    db.put_cf(db.cf_handle("objects").unwrap(), b"k", b"v").unwrap();
    drop(db);
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.get(Family::Objects, b"k", ReadTier::Disk), Ok(found(b"v")));
    assert_eq!(engine.get(Family::Tombstones, b"k", ReadTier::Disk), Ok(Lookup::Absent));
    let mut batch = Batch::new();
    batch.put(Family::Tombstones, b"k", b"t");
    batch.delete(Family::Objects, b"k");
    engine.commit(&mut batch).unwrap();
    drop(engine);
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.get(Family::Tombstones, b"k", ReadTier::Disk), Ok(found(b"t")));
    assert_eq!(engine.get(Family::Objects, b"k", ReadTier::Disk), Ok(Lookup::Absent));
}

/// What `kill -9` leaves: the files as they are while the engine is open.
fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for (path, bytes) in contents(from) {
        fs::write(to.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    to
}

#[test]
fn a_commit_is_in_the_log_when_it_returns_and_a_torn_tail_costs_whole_batches_only() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path()).unwrap();
    let mut number = types::BatchNumber(0);
    for n in 0..20u8 {
        let mut batch = Batch::new();
        batch.put(Family::Objects, &[n], &[n; 100]);
        batch.put(Family::Hints, &[n], &[n; 100]);
        number = engine.commit(&mut batch).unwrap();
    }
    let killed = copy(dir.path());
    let engine = open(killed.path()).unwrap();
    assert_eq!(engine.latest(), number);
    assert_eq!(engine.get(Family::Hints, &[19], ReadTier::Disk), Ok(found(&[19; 100])));

    let torn = copy(dir.path());
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let (log, bytes) = contents(torn.path()).into_iter().rfind(|(path, _)| is_log(path)).unwrap();
    fs::write(log, &bytes[..bytes.len() - 150]).unwrap();
    let engine = open(torn.path()).unwrap();
    assert_eq!(engine.latest().0, number.0 - 2);
    for family in [Family::Objects, Family::Hints] {
        assert_eq!(engine.get(family, &[19], ReadTier::Disk), Ok(Lookup::Absent));
        assert_eq!(engine.get(family, &[18], ReadTier::Disk), Ok(found(&[18; 100])));
    }
}

#[test]
fn a_cached_read_misses_until_the_disk_was_read() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path()).unwrap();
    put(&engine, b"k", b"v").unwrap();
    assert_eq!(engine.get(Family::Objects, b"k", ReadTier::Cached), Ok(found(b"v")), "the memtable answers");
    drop(engine);
    // The replay at start flushed it into a table.
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.get(Family::Objects, b"k", ReadTier::Cached), Ok(Lookup::Miss));
    assert_eq!(engine.get(Family::Objects, b"k", ReadTier::Disk), Ok(found(b"v")));
    assert_eq!(engine.get(Family::Objects, b"k", ReadTier::Cached), Ok(found(b"v")));
    assert_eq!(engine.get(Family::Objects, b"absent", ReadTier::Disk), Ok(Lookup::Absent));
}

#[test]
fn a_table_that_is_not_open_is_a_miss_and_never_an_empty_value() {
    let dir = TempDir::new().unwrap();
    let few = RocksConfig { max_open_files: Some(20), ..config() };
    for round in 0..40u8 {
        let engine = RocksEngine::open(dir.path(), &few).unwrap();
        for key in 0..=round {
            let cached = engine.get(Family::Objects, &[key], ReadTier::Cached).unwrap();
            let expected = if key < round { found(&[key; 10]) } else { Lookup::Absent };
            assert!(cached == Lookup::Miss || cached == expected, "{cached:?}");
        }
        put(&engine, &[round], &[round; 10]).unwrap();
    }
}

#[test]
fn a_rotten_table_is_corrupt_and_never_absent() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path()).unwrap();
    for n in 0..100u8 {
        put(&engine, &[n], &[n; 1000]).unwrap();
    }
    drop(engine);
    drop(open(dir.path()).unwrap());
    let is_table = |path: &Path| path.extension().is_some_and(|extension| extension == "sst");
    let files = contents(dir.path()).into_iter().filter(|(path, _)| is_table(path));
    let (table, mut bytes) = files.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    bytes[20_000] ^= 1;
    fs::write(table, bytes).unwrap();

    let engine = open(dir.path()).unwrap();
    let mut corrupt = 0;
    for n in 0..100u8 {
        match engine.get(Family::Objects, &[n], ReadTier::Disk) {
            Ok(value) => assert_eq!(value, found(&[n; 1000])),
            Err(error) => {
                assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
                corrupt += 1;
            }
        }
    }
    assert!((1..10).contains(&corrupt), "{corrupt} of 100 keys lie in the rotten block");
    let mut visited = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        visited += 1;
        std::ops::ControlFlow::Continue(())
    };
    let scan = engine.scan(Family::Objects, b"", None, storage::ScanLimit::NONE, &mut count);
    assert!(matches!(scan, Err(StorageError::Corrupt { .. })) && visited < 100, "{scan:?} after {visited}");
}

#[test]
fn stats_tell_what_is_there() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path()).unwrap();
    for n in 0..100u8 {
        put(&engine, &[n], &[n; 1000]).unwrap();
    }
    let stats = engine.stats();
    assert!((100..200).contains(&stats.estimated_keys), "{stats:?}");
    assert!(
        stats.memtable_bytes > 100_000 && stats.capacity_bytes > stats.free_bytes && stats.free_bytes > 0,
        "{stats:?}"
    );
    assert_eq!((stats.stopped, stats.background_errors, stats.writes_stalled), (0, 0, 0));
    drop(engine);
    let stats = open(dir.path()).unwrap().stats();
    assert!(stats.disk_bytes > 100_000, "{stats:?}");
}

/// A file system of its own, unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(bytes: usize) -> Option<SmallDisk> {
        let dir = TempDir::new().unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        eprintln!("SKIPPED a_full_disk_refuses_writes_and_serves_reads: mounting a tmpfs needs root");
        return;
    };
    let dir = disk.0.path().join("data");
    let engine = open(&dir).unwrap();
    let value = vec![7; 64 << 10];
    let mut written = 0u32;
    let error = loop {
        match put(&engine, &written.to_be_bytes(), &value) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "24 MiB hold no 1000 values of 64 KiB");
    };
    assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
    assert!(written > 10, "{written}");
    conformance::check_stopped(&engine, &0u32.to_be_bytes(), &value, &written.to_be_bytes());
    assert!(put(&engine, b"later", b"v").unwrap_err().is_full());
    for n in 0..written {
        assert_eq!(
            engine.get(Family::Objects, &n.to_be_bytes(), ReadTier::Disk),
            Ok(found(&value)),
            "{n} of {written}"
        );
    }
    assert!(engine.stats().free_bytes < 1 << 20, "{:?}", engine.stats());
    drop(engine);
}
