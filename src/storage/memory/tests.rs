//! The modelled disk: the common suite, and its faults.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::*;
use crate::storage::conformance::{self, Subject};

impl Subject for MemoryEngine {
    fn engine(&self) -> &dyn Engine {
        self
    }

    fn reopen(&mut self) {
        assert_eq!(self.kill(), Crash::default());
    }
}

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn engine() -> MemoryEngine {
    MemoryEngine::new(MemoryConfig::default())
}

fn missing(seed: u64) -> MemoryEngine {
    MemoryEngine::new(MemoryConfig { seed, miss_probability: 0.5, resident_keys: 4, ..MemoryConfig::default() })
}

fn put(engine: &MemoryEngine, key: &[u8], value: &[u8]) -> Result<BatchNumber, StorageError> {
    let mut batch = Batch::new();
    batch.put(Family::Objects, key, value);
    let result = engine.commit(&mut batch);
    assert!(batch.is_empty());
    result
}

#[track_caller]
fn check(engine: &MemoryEngine, key: &[u8], expected: Option<&[u8]>) {
    let expected = expected.map_or(Lookup::Absent, |value| Lookup::Found(Bytes::copy_from_slice(value)));
    assert_eq!(engine.get(Family::Objects, key, ReadTier::Disk), Ok(expected));
}

#[test]
fn conforms() {
    conformance::run(engine);
}

#[test]
fn conforms_with_misses() {
    conformance::run(|| missing(1));
}

type State = Vec<(Vec<u8>, Vec<u8>)>;

/// Batch `n` puts `n`, and deletes and overwrites what its forerunners put; so the state tells how many survived.
fn write_history(engine: &MemoryEngine, batches: u8, synced: u8) -> Vec<(u64, State)> {
    let mut states = vec![(0, state(engine))];
    for number in 1..=batches {
        let mut batch = Batch::new();
        batch.put(Family::Objects, b"last", b"not yet");
        batch.put(Family::Objects, b"last", &[number]);
        if number % 3 == 0 {
            batch.delete_range(Family::Objects, &[number - 1], &[number]);
        }
        batch.put(Family::Objects, &[number], &[number]);
        batch.delete(Family::Objects, &[number.saturating_sub(2)]);
        engine.commit(&mut batch).unwrap();
        states.push((engine.latest().0, state(engine)));
        if number == synced {
            engine.sync().unwrap();
        }
    }
    states
}

fn state(engine: &MemoryEngine) -> State {
    let mut entries = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    engine.scan(Family::Objects, b"", None, ScanLimit::NONE, &mut visit).unwrap();
    entries
}

proptest! {
    /// Whole batches, a prefix of them, and never less than what was synced; the number tells which.
    #[test]
    fn a_power_loss_leaves_a_prefix(batches in 0u8..20, synced in 0u8..20, seed: u64) {
        let synced = synced.min(batches);
        let engine = engine();
        let states = write_history(&engine, batches, synced);
        let crash = engine.power_loss(&mut rng(seed));
        let survived = usize::from(batches) - crash.lost;
        prop_assert!(survived >= usize::from(synced));
        prop_assert_eq!(&(engine.latest().0, state(&engine)), &states[survived]);
        prop_assert_eq!(engine.power_loss(&mut rng(seed)), Crash::default(), "what survived is on the disk");
    }
}

#[test]
fn every_prefix_comes_up_and_one_seed_gives_one_outcome() {
    let run = |seed| {
        let engine = engine();
        write_history(&engine, 4, 1);
        (engine.power_loss(&mut rng(seed)).lost, state(&engine))
    };
    let lost: BTreeSet<usize> = (0..100).map(|seed| run(seed).0).collect();
    assert_eq!(lost, BTreeSet::from([0, 1, 2, 3]));
    assert!((0..100).all(|seed| run(seed) == run(seed)));
}

proptest! {
    /// What a look at the synced state promises is what a power loss that takes everything unsynced leaves.
    #[test]
    fn a_look_at_what_is_synced_tells_what_the_power_leaves(batches in 0u8..20, synced in 0u8..20) {
        let engine = engine();
        write_history(&engine, batches, synced.min(batches));
        let keys: Vec<Vec<u8>> = (0..=batches).map(|key| vec![key]).chain([b"last".to_vec()]).collect();
        let seen = |synced: bool| -> Vec<_> {
            let look = |key: &Vec<u8>| match synced {
                true => engine.peek_synced(Family::Objects, key),
                false => engine.peek(Family::Objects, key),
            };
            keys.iter().map(look).collect()
        };
        let promised = seen(true);
        let unsynced = usize::from(batches) - usize::from(synced.min(batches)) * usize::from(synced > 0);
        let seed = (0..10_000).find(|seed| rng(*seed).random_range(0..=unsynced) == 0).expect("chance allows it");
        let crash = engine.power_loss(&mut rng(seed));
        prop_assert_eq!((crash.lost, crash.kept), (unsynced, 0));
        prop_assert_eq!(promised, seen(false));
    }
}

#[test]
fn injected_failures_are_counted_when_they_take_place() {
    let engine = engine();
    engine.arm(Fault::Read);
    engine.arm(Fault::Commit { in_log: true });
    assert_eq!(engine.failures(), Failures::default());
    assert_eq!(engine.peek(Family::Objects, b"k"), None);
    assert_eq!(engine.failures().reads, 0, "a look from outside is no read");
    assert!(engine.get(Family::Objects, b"k", ReadTier::Disk).is_err());
    assert!(put(&engine, b"k", b"v").is_err());
    engine.kill();
    engine.set_free_bytes(0);
    assert!(put(&engine, b"l", b"v").is_err());
    engine.kill();
    engine.arm(Fault::Sync);
    assert!(engine.sync().is_err());
    assert_eq!(engine.failures(), Failures { reads: 1, commits: 1, full: 1, syncs: 1 });
}

#[test]
fn the_kernel_writes_back_what_waits_too_long() {
    let lost = |seed| {
        let engine = MemoryEngine::new(MemoryConfig { unsynced_batches: 2, ..MemoryConfig::default() });
        write_history(&engine, 10, 0);
        engine.power_loss(&mut rng(seed)).lost
    };
    assert_eq!((0..50).map(lost).max(), Some(2));
}

#[test]
fn what_was_unsynced_before_a_kill_is_unsynced_after_it() {
    let lost = |seed| {
        let engine = engine();
        put(&engine, b"k", b"v").unwrap();
        assert_eq!(engine.kill(), Crash::default());
        engine.power_loss(&mut rng(seed)).lost
    };
    assert!((0..20).any(|seed| lost(seed) == 1));
}

#[test]
fn a_failed_commit_is_unseen_and_surfaces_only_if_it_is_in_the_log() {
    for in_log in [false, true] {
        let engine = engine();
        put(&engine, b"k", b"v").unwrap();
        engine.arm(Fault::Commit { in_log });
        let number = engine.latest();
        let error = put(&engine, b"lost", b"v").unwrap_err();
        assert!(matches!(error, StorageError::Io { action: "commit", .. }) && error.may_be_in_log());
        conformance::check_stopped(&engine, b"k", b"v", b"lost");
        assert_eq!(engine.latest(), number);
        assert_eq!(engine.kill(), Crash { lost: 0, kept: 0, surfaced: in_log });
        check(&engine, b"lost", in_log.then_some(b"v"));
        assert_eq!(engine.latest() > number, in_log);
        put(&engine, b"lost", b"new").unwrap();
    }
}

#[test]
fn a_failed_commit_in_the_log_may_go_with_the_power_but_never_before_its_forerunners() {
    let outcomes: BTreeSet<(usize, bool)> = (0..100)
        .map(|seed| {
            let engine = engine();
            put(&engine, b"k", b"v").unwrap();
            engine.arm(Fault::Commit { in_log: true });
            put(&engine, b"failed", b"v").unwrap_err();
            let crash = engine.power_loss(&mut rng(seed));
            check(&engine, b"failed", crash.surfaced.then_some(b"v"));
            check(&engine, b"k", (crash.lost == 0).then_some(b"v"));
            (crash.lost, crash.surfaced)
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([(0, false), (0, true), (1, false)]));
}

#[test]
fn a_failed_sync_leaves_the_batches_unsynced_and_stops_the_engine() {
    let lost = |seed| {
        let engine = engine();
        put(&engine, b"k", b"v").unwrap();
        engine.arm(Fault::Sync);
        let error = engine.sync().unwrap_err();
        assert!(matches!(error, StorageError::Io { action: "sync", .. }));
        conformance::check_stopped(&engine, b"k", b"v", b"lost");
        engine.power_loss(&mut rng(seed)).lost
    };
    assert_eq!((0..20).map(lost).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_and_a_restart() {
    let engine = engine();
    put(&engine, b"k", b"v").unwrap();
    engine.set_free_bytes(0);
    let error = put(&engine, b"lost", b"v").unwrap_err();
    assert!(matches!(error, StorageError::Full { .. }));
    conformance::check_stopped(&engine, b"k", b"v", b"lost");
    assert!(put(&engine, b"lost", b"v").unwrap_err().is_full());
    engine.set_free_bytes(1 << 20);
    assert!(put(&engine, b"lost", b"v").unwrap_err().is_full(), "room alone does not revive it");
    engine.kill();
    put(&engine, b"lost", b"v").unwrap();
}

#[test]
fn a_read_error_is_met_by_the_next_disk_read_and_is_never_absent() {
    let engine = engine();
    for key in [&b"k"[..], b"absent"] {
        put(&engine, b"k", b"v").unwrap();
        engine.arm(Fault::Read);
        assert_eq!(engine.get(Family::Objects, key, ReadTier::Cached), Ok(Lookup::Miss));
        let error = engine.get(Family::Objects, key, ReadTier::Disk).unwrap_err();
        assert!(matches!(error, StorageError::Io { action: "get", .. }));
        assert!(engine.get(Family::Objects, key, ReadTier::Disk).is_ok());
    }
    engine.arm(Fault::Read);
    let mut none = |_: &[u8], _: &[u8]| panic!("a failed scan visits nothing here");
    let error = engine.scan(Family::Objects, b"", None, ScanLimit::NONE, &mut none).unwrap_err();
    assert!(matches!(error, StorageError::Io { action: "scan", .. }));
}

#[test]
fn a_key_read_from_the_disk_stays_in_memory_until_it_is_evicted() {
    let engine = MemoryEngine::new(MemoryConfig { miss_probability: 1.0, resident_keys: 2, ..MemoryConfig::default() });
    let cached = |key: &[u8]| engine.get(Family::Objects, key, ReadTier::Cached).unwrap();
    put(&engine, b"a", b"1").unwrap();
    assert_eq!(cached(b"a"), Lookup::Found(Bytes::from_static(b"1")));
    engine.kill();
    assert_eq!(cached(b"a"), Lookup::Miss);
    check(&engine, b"a", Some(b"1"));
    check(&engine, b"b", None);
    assert_eq!(cached(b"a"), Lookup::Found(Bytes::from_static(b"1")));
    assert_eq!(cached(b"b"), Lookup::Absent);
    check(&engine, b"c", None);
    assert_eq!(cached(b"a"), Lookup::Miss);
}

#[test]
fn misses_come_from_the_seed() {
    let misses = |seed| {
        let engine = missing(seed);
        let keys = (0..64u8).map(|key| engine.get(Family::Objects, &[key], ReadTier::Cached).unwrap() == Lookup::Miss);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(misses(1), misses(1));
    assert_ne!(misses(1), misses(2));
}

#[test]
fn a_flipped_bit_changes_one_value_by_one_bit() {
    let engine = engine();
    assert_eq!(engine.flip_bit(Family::Objects, &mut rng(1)), None);
    for key in 0..10u8 {
        put(&engine, &[key], &[0; 8]).unwrap();
    }
    let before = state(&engine);
    let key = engine.flip_bit(Family::Objects, &mut rng(1)).unwrap();
    let changed: Vec<_> = state(&engine).into_iter().zip(before).filter(|(new, old)| new != old).collect();
    assert_eq!(changed.len(), 1);
    let ((found, value), _) = &changed[0];
    assert_eq!(**found, *key);
    assert_eq!(value.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}

#[test]
fn a_backup_is_the_disk_as_it_stood() {
    let engine = engine();
    put(&engine, b"k", b"old").unwrap();
    let backup = engine.backup(9);
    let number = engine.latest();
    put(&engine, b"k", b"new").unwrap();
    assert_eq!(backup.power_loss(&mut rng(1)), Crash::default());
    check(&backup, b"k", Some(b"old"));
    assert_eq!(backup.latest(), number);
}
