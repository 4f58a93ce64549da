//! Seeded bugs of the store, and what they do.

use super::*;
use crate::mutant::{Mutant, plant};
use crate::storage::{MemoryConfig, MemoryEngine, Update};
use crate::version::{Actor, Dot};

const KEY: Bytes = Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0default\0k");

/// A blind write; its purpose and its fresh actor are `id`.
fn write(id: u64) -> Task<u64> {
    Task { purpose: id, key: KEY, op: Op::Update(Box::new(Update::nth(id))) }
}

/// A store on a disk that holds write 1; every read misses memory.
fn store() -> Store<MemoryEngine, u64> {
    let engine = MemoryEngine::new(MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..Default::default() });
    let mut store =
        Store::new(Arc::new(engine), StoreLimits { parked: 10, cached: 0 }, Trees::for_tests(), Rounds::default());
    store.submit(write(1), &mut Vec::new());
    store.resume(&KEY, Ok(None), &mut Vec::new());
    store.commit().expect("the disk is sound");
    store
}

/// The dots that were minted, by purpose, and whether the operation succeeded.
fn minted(done: &[Done<u64>]) -> Vec<(u64, Option<Dot>)> {
    let dot = |result: &Result<Outcome, OpFailure>| match result {
        Ok(Outcome::Updated { dot, .. }) => Some(*dot),
        _ => None,
    };
    done.iter().map(|(purpose, result)| (*purpose, dot(result))).collect()
}

fn dot(actor: u64, counter: u64) -> Option<Dot> {
    Some(Dot { actor: Actor(actor), counter })
}

#[test]
fn a_failed_read_is_no_absence_unless_planted() {
    let unreadable = || Err(OpFailure::Unreadable { detail: "rot".into(), rotten: false });
    for (mutant, expected) in [(None, None), (Some(Mutant::ReadErrorIsAbsent), dot(2, 1))] {
        let _planted = mutant.map(plant);
        let (mut store, mut done) = (store(), Vec::new());
        assert_eq!(store.submit(write(2), &mut done), Some(KEY));
        store.resume(&KEY, unreadable(), &mut done);
        assert_eq!(minted(&done), [(2, expected)]);
    }
}

#[test]
fn nothing_overtakes_a_parked_operation_unless_planted() {
    let queued = [(2, dot(1, 2)), (3, dot(1, 3))];
    let overtaken = [(3, dot(1, 2)), (2, dot(1, 2))];
    for (mutant, expected) in [(None, queued), (Some(Mutant::StaleReadApplied), overtaken)] {
        let _planted = mutant.map(plant);
        let (mut store, mut done) = (store(), Vec::new());
        assert_eq!(store.submit(write(2), &mut done), Some(KEY));
        let read = Store::<_, u64>::read(&**store.engine(), &KEY).expect("the disk is sound");
        assert_eq!(store.submit(write(3), &mut done), None);
        store.commit().expect("the disk is sound");
        store.resume(&KEY, Ok(read), &mut done);
        assert_eq!(minted(&done), expected);
    }
}
