//! One suite for every engine. Compiled into the library's tests for the memory engine, and by path into
//! `tests/storage_rocks.rs` for RocksDB.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::storage::{Batch, Engine, Family, Lookup, ReadTier, ScanLimit, StorageError};
use crate::types::BatchNumber;

/// An engine under test that can be closed and opened again on the same data.
pub trait Subject {
    /// The engine, open.
    fn engine(&self) -> &dyn Engine;
    /// Closes it without a sync and opens it again, with nothing in memory.
    fn reopen(&mut self);
}

type Case = fn(&mut dyn Subject);

/// Runs every case, each on a fresh subject; the output of a failing run ends with its case.
pub fn run<S: Subject>(make: impl Fn() -> S) {
    let cases: [(&str, Case); 13] = [
        ("absent and found", absent_and_found),
        ("overwrite and delete", overwrite_and_delete),
        ("families are apart", families_are_apart),
        ("the order inside a batch holds", order_inside_a_batch),
        ("delete_range", delete_range),
        ("a batch is drained", a_batch_is_drained),
        ("a batch is atomic", a_batch_is_atomic),
        ("scan bounds and order", scan_bounds_and_order),
        ("scan limits and resumption", scan_limits_and_resumption),
        ("a scan sees one snapshot", a_scan_sees_one_snapshot),
        ("numbers are monotone", numbers_are_monotone),
        ("a reopened engine has what was committed", reopen_keeps_commits),
        ("a random walk agrees with a map", random_walk),
    ];
    for (name, case) in cases {
        println!("case: {name}");
        case(&mut make());
    }
}

#[track_caller]
fn put(engine: &dyn Engine, family: Family, key: &[u8], value: &[u8]) -> BatchNumber {
    let mut batch = Batch::new();
    batch.put(family, key, value);
    engine.commit(&mut batch).unwrap()
}

#[track_caller]
fn check(engine: &dyn Engine, family: Family, key: &[u8], expected: Option<&[u8]>) {
    let expected = expected.map_or(Lookup::Absent, |value| Lookup::Found(Bytes::copy_from_slice(value)));
    let cached = engine.get(family, key, ReadTier::Cached).unwrap();
    assert!(cached == expected || cached == Lookup::Miss, "cached: {cached:?}, expected {expected:?}");
    assert_eq!(engine.get(family, key, ReadTier::Disk).unwrap(), expected);
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

#[track_caller]
fn scan(
    engine: &dyn Engine,
    family: Family,
    start: &[u8],
    end: Option<&[u8]>,
    limit: ScanLimit,
) -> (Entries, Option<Vec<u8>>) {
    let mut entries = Entries::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    let next = engine.scan(family, start, end, limit, &mut visit).unwrap();
    (entries, next)
}

#[track_caller]
fn keys(engine: &dyn Engine, start: &[u8], end: Option<&[u8]>) -> Vec<String> {
    let (entries, next) = scan(engine, Family::Objects, start, end, ScanLimit::NONE);
    assert_eq!(next, None);
    entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

fn put_all(engine: &dyn Engine, keys: &[&str]) {
    let mut batch = Batch::new();
    for key in keys {
        batch.put(Family::Objects, key.as_bytes(), b"12");
    }
    engine.commit(&mut batch).unwrap();
}

fn absent_and_found(subject: &mut dyn Subject) {
    let engine = subject.engine();
    check(engine, Family::Objects, b"k", None);
    put(engine, Family::Objects, b"k", b"v");
    check(engine, Family::Objects, b"k", Some(b"v"));
    check(engine, Family::Objects, b"K", None);
    put(engine, Family::Objects, b"empty", b"");
    check(engine, Family::Objects, b"empty", Some(b""));
}

fn overwrite_and_delete(subject: &mut dyn Subject) {
    let engine = subject.engine();
    put(engine, Family::Objects, b"k", b"one");
    put(engine, Family::Objects, b"k", b"two");
    check(engine, Family::Objects, b"k", Some(b"two"));
    let mut batch = Batch::new();
    batch.delete(Family::Objects, b"k");
    batch.delete(Family::Objects, b"never there");
    engine.commit(&mut batch).unwrap();
    check(engine, Family::Objects, b"k", None);
}

fn families_are_apart(subject: &mut dyn Subject) {
    let engine = subject.engine();
    for family in Family::ALL {
        put(engine, family, b"k", family.name().as_bytes());
    }
    for family in Family::ALL {
        check(engine, family, b"k", Some(family.name().as_bytes()));
    }
    let mut batch = Batch::new();
    batch.delete_range(Family::Hints, b"a", b"z");
    engine.commit(&mut batch).unwrap();
    check(engine, Family::Hints, b"k", None);
    check(engine, Family::Objects, b"k", Some(b"objects"));
}

fn order_inside_a_batch(subject: &mut dyn Subject) {
    let engine = subject.engine();
    let mut batch = Batch::new();
    batch.put(Family::Objects, b"a", b"1");
    batch.delete(Family::Objects, b"a");
    batch.put(Family::Objects, b"a", b"2");
    batch.put(Family::Objects, b"b", b"1");
    batch.delete_range(Family::Objects, b"b", b"d");
    batch.put(Family::Objects, b"c", b"1");
    batch.put(Family::Objects, b"d", b"1");
    batch.delete(Family::Objects, b"d");
    engine.commit(&mut batch).unwrap();
    check(engine, Family::Objects, b"a", Some(b"2"));
    check(engine, Family::Objects, b"b", None);
    check(engine, Family::Objects, b"c", Some(b"1"));
    check(engine, Family::Objects, b"d", None);
}

fn delete_range(subject: &mut dyn Subject) {
    let all = ["a", "b", "ba", "c", "d"];
    put_all(subject.engine(), &all);
    let mut batch = Batch::new();
    batch.delete_range(Family::Objects, b"c", b"b");
    assert_eq!(keys(subject.engine(), b"", None), all);
    batch.delete_range(Family::Objects, b"b", b"c");
    subject.engine().commit(&mut batch).unwrap();
    assert_eq!(keys(subject.engine(), b"", None), ["a", "c", "d"]);
    check(subject.engine(), Family::Objects, b"ba", None);
    subject.reopen();
    assert_eq!(keys(subject.engine(), b"", None), ["a", "c", "d"]);
    check(subject.engine(), Family::Objects, b"b", None);
    put(subject.engine(), Family::Objects, b"b", b"again");
    check(subject.engine(), Family::Objects, b"b", Some(b"again"));
}

fn a_batch_is_drained(subject: &mut dyn Subject) {
    let engine = subject.engine();
    let mut batch = Batch::new();
    batch.put(Family::Objects, b"a", b"1");
    engine.commit(&mut batch).unwrap();
    assert!(batch.is_empty() && batch.bytes() == 0);
    batch.delete(Family::Objects, b"a");
    batch.put(Family::Objects, b"b", b"2");
    engine.commit(&mut batch).unwrap();
    assert_eq!(keys(engine, b"", None), ["b"]);
}

/// A reader in another thread never sees a batch half applied.
fn a_batch_is_atomic(subject: &mut dyn Subject) {
    const BATCHES: u32 = 300;
    let engine = subject.engine();
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let mut batch = Batch::new();
            for number in 0..BATCHES {
                for key in 0..20u8 {
                    batch.put(Family::Objects, &[key], &number.to_be_bytes());
                }
                engine.commit(&mut batch).unwrap();
            }
        });
        let mut done = false;
        while !done {
            done = writer.is_finished();
            let (entries, _) = scan(engine, Family::Objects, b"", None, ScanLimit::NONE);
            assert!(entries.is_empty() || entries.len() == 20, "{} of 20 keys", entries.len());
            assert!(entries.windows(2).all(|pair| pair[0].1 == pair[1].1), "{entries:?}");
        }
    });
    check(engine, Family::Objects, &[19], Some(&(BATCHES - 1).to_be_bytes()));
}

fn scan_bounds_and_order(subject: &mut dyn Subject) {
    put_all(subject.engine(), &["d", "b", "aa", "a", "c", "b\0"]);
    for _ in 0..2 {
        let engine = subject.engine();
        assert_eq!(keys(engine, b"", None), ["a", "aa", "b", "b\0", "c", "d"]);
        assert_eq!(keys(engine, b"aa", Some(b"c")), ["aa", "b", "b\0"]);
        assert_eq!(keys(engine, b"ab", Some(b"b\0")), ["b"]);
        for (start, end) in [("b", "b"), ("c", "b"), ("x", "z")] {
            assert_eq!(keys(engine, start.as_bytes(), Some(end.as_bytes())), [""; 0], "{start}..{end}");
        }
        subject.reopen();
    }
}

fn scan_limits_and_resumption(subject: &mut dyn Subject) {
    let engine = subject.engine();
    put_all(engine, &["a", "b", "c", "d"]);
    let limited = |limit| {
        let (entries, next) = scan(engine, Family::Objects, b"a", Some(b"d"), limit);
        (entries.len(), next)
    };
    assert_eq!(limited(ScanLimit::entries(2)), (2, Some(b"c".to_vec())));
    assert_eq!(limited(ScanLimit::entries(3)), (3, None));
    assert_eq!(limited(ScanLimit::entries(0)), (1, Some(b"b".to_vec())));
    // Each entry has three bytes; the one that reaches the limit is visited.
    assert_eq!(limited(ScanLimit { entries: 9, bytes: 4 }), (2, Some(b"c".to_vec())));
    for limit in [ScanLimit::NONE, ScanLimit::entries(2)] {
        let mut seen = 0;
        let mut stop_at_second = |_: &[u8], _: &[u8]| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let next = engine.scan(Family::Objects, b"", None, limit, &mut stop_at_second).unwrap();
        assert_eq!((seen, next), (2, Some(b"c".to_vec())));
    }
}

fn a_scan_sees_one_snapshot(subject: &mut dyn Subject) {
    let engine = subject.engine();
    put_all(engine, &["a", "b", "c"]);
    let mut seen = Vec::new();
    let mut meddle = |key: &[u8], value: &[u8]| {
        seen.push((key.to_vec(), value.to_vec()));
        let mut batch = Batch::new();
        batch.put(Family::Objects, b"b", b"new");
        batch.put(Family::Objects, b"bb", b"new");
        batch.delete(Family::Objects, b"c");
        engine.commit(&mut batch).unwrap();
        ControlFlow::Continue(())
    };
    let next = engine.scan(Family::Objects, b"", None, ScanLimit::NONE, &mut meddle).unwrap();
    let expected: Entries = ["a", "b", "c"].map(|key| (key.into(), b"12".to_vec())).to_vec();
    assert_eq!((seen, next), (expected, None));
    assert_eq!(keys(engine, b"", None), ["a", "b", "bb"]);
}

fn numbers_are_monotone(subject: &mut dyn Subject) {
    let engine = subject.engine();
    let mut last = engine.latest();
    for round in 0..20u8 {
        let number = put(engine, Family::ALL[usize::from(round) % Family::ALL.len()], b"numbered", &[round]);
        assert!(number > last, "{number:?} after {last:?}");
        assert!(engine.latest() >= number);
        last = number;
    }
    assert_eq!(engine.commit(&mut Batch::new()).unwrap(), last);
    engine.sync().unwrap();
    assert_eq!(engine.latest(), last);
    subject.reopen();
    assert_eq!(subject.engine().latest(), last);
    assert!(put(subject.engine(), Family::Objects, b"numbered", b"") > last);
}

fn reopen_keeps_commits(subject: &mut dyn Subject) {
    put(subject.engine(), Family::Objects, b"synced", b"1");
    subject.engine().sync().unwrap();
    put(subject.engine(), Family::Hints, b"unsynced", b"2");
    for _ in 0..2 {
        subject.reopen();
        check(subject.engine(), Family::Objects, b"synced", Some(b"1"));
        check(subject.engine(), Family::Hints, b"unsynced", Some(b"2"));
    }
}

/// Random batches, reads and reopens against a map: no tier ever answers with what is not the newest value.
fn random_walk(subject: &mut dyn Subject) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut model: BTreeMap<(Family, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for step in 0..1500u32 {
        if rng.random_range(0..150) == 0 {
            subject.reopen();
        }
        let mut batch = Batch::new();
        for _ in 0..rng.random_range(0..5) {
            let (family, key) = (Family::ALL[rng.random_range(0..3)], vec![rng.random_range(0..40u8)]);
            match rng.random_range(0..10) {
                0 => {
                    let end = vec![key[0] + rng.random_range(0..6)];
                    batch.delete_range(family, &key, &end);
                    model.retain(|(f, k), _| *f != family || *k < key || *k >= end);
                }
                1..3 => {
                    batch.delete(family, &key);
                    model.remove(&(family, key));
                }
                _ => {
                    let value = step.to_be_bytes().repeat(rng.random_range(1..100));
                    batch.put(family, &key, &value);
                    model.insert((family, key), value);
                }
            }
        }
        subject.engine().commit(&mut batch).unwrap();
        for _ in 0..5 {
            let (family, key) = (Family::ALL[rng.random_range(0..3)], vec![rng.random_range(0..40u8)]);
            let expected = model.get(&(family, key.clone())).map(Vec::as_slice);
            check(subject.engine(), family, &key, expected);
        }
    }
    for family in &Family::ALL[..3] {
        let expected: Entries = model
            .iter()
            .filter(|((f, _), _)| f == family)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(scan(subject.engine(), *family, b"", None, ScanLimit::NONE).0, expected);
    }
}

/// Once a commit or a sync has failed: no more writes, reads as before. `key` holds `value`; `lost` was in the failed batch.
#[track_caller]
pub fn check_stopped(engine: &dyn Engine, key: &[u8], value: &[u8], lost: &[u8]) {
    let mut batch = Batch::new();
    batch.put(Family::Objects, lost, b"later");
    let refused = engine.commit(&mut batch).unwrap_err();
    assert!(matches!(refused, StorageError::Stopped { .. }), "{refused:?}");
    assert!(!refused.may_be_in_log() && batch.is_empty());
    assert!(matches!(engine.sync(), Err(StorageError::Stopped { .. })));
    assert_eq!(engine.stats().stopped, 1);
    check(engine, Family::Objects, key, Some(value));
    check(engine, Family::Objects, lost, None);
}
