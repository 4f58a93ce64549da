//! Rounds and fences against a store, over crashes.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::storage::merkle::Trees;
use crate::storage::{
    Done, Fault, HintDrop, Holds, Lookup, MemoryConfig, MemoryEngine, NewHint, Op, OpFailure, Outcome, ReadTier,
    Record, Store, StoreLimits, Task, Update, object_key,
};
use crate::types::{Bucket, Key, NodeId, Token, WriteId};
use crate::version::{Actor, Body, CausalContext, Digest, Dot, Object, Sibling};

const PARTITION: PartitionId = PartitionId(0);

type TestStore = Store<MemoryEngine, ()>;

fn key(nth: u8) -> Bytes {
    object_key(PARTITION, Token(nth.into()), &Bucket::default(), &Key::new(vec![nth + 1]).unwrap()).into()
}

fn open(engine: Arc<MemoryEngine>) -> TestStore {
    let rounds = Rounds::load(&*engine).unwrap();
    Store::new(engine, StoreLimits { parked: 10, cached: 0 }, Trees::for_tests(), rounds)
}

fn store() -> TestStore {
    open(Arc::new(MemoryEngine::new(MemoryConfig::default())))
}

fn run(store: &mut TestStore, nth: u8, op: Op) -> Outcome {
    let mut done = Vec::new();
    assert_eq!(store.submit(Task { purpose: (), key: key(nth), op }, &mut done), None);
    done.pop().unwrap().1.unwrap()
}

fn written(actor: u64, client: CausalContext, body: Body) -> Arc<Object> {
    let dot = Dot { actor: Actor(actor), counter: 1 };
    let sibling = Sibling { dot, write_id: WriteId(actor.into()), node: NodeId(9), wall_ms: 1, body };
    Arc::new(Object::update(None, &client, sibling))
}

fn value(actor: u64) -> Arc<Object> {
    written(actor, CausalContext::default(), Body::Value("v".into()))
}

/// Of a value.
fn tombstone(of: &Object) -> Arc<Object> {
    written(99, of.context().clone(), Body::Tombstone)
}

fn merge(object: &Arc<Object>, round: u64) -> Op {
    Op::Merge { object: object.clone(), round: Round(round), hints: Vec::new() }
}

fn merged(object: &Arc<Object>) -> Outcome {
    Outcome::Merged { incoming: object.clone() }
}

fn read(object: Option<&Arc<Object>>, round: u64) -> Outcome {
    Outcome::Read { object: object.cloned(), round: Round(round) }
}

fn adopt(round: u64) -> Op {
    Op::Adopt { round: Round(round) }
}

fn fence(store: &mut TestStore, round: u64, candidates: &[(u8, Digest)]) -> Vec<bool> {
    let mut done = Vec::new();
    assert_eq!(store.fence(PARTITION, Round(round), inspections(candidates), &mut done), [""; 0], "all is in memory");
    vouches(done)
}

fn inspections(candidates: &[(u8, Digest)]) -> Vec<Task<()>> {
    let inspect =
        |(nth, digest): &(u8, Digest)| Task { purpose: (), key: key(*nth), op: Op::Inspect { digest: *digest } };
    candidates.iter().map(inspect).collect()
}

fn vouches(done: Vec<Done<()>>) -> Vec<bool> {
    let vouch = |(_, outcome)| match outcome {
        Ok(Outcome::Inspected { holds, .. }) => holds != Holds::Other,
        other => panic!("{other:?}"),
    };
    done.into_iter().map(vouch).collect()
}

#[test]
fn what_was_read_before_a_round_is_merged_no_more() {
    let (mut store, old, new) = (store(), value(1), value(2));
    assert_eq!(run(&mut store, 0, merge(&old, 0)), merged(&old));
    assert_eq!(run(&mut store, 0, adopt(2)), read(Some(&old), 2));
    for late in [0, 1] {
        assert_eq!(run(&mut store, 0, merge(&new, late)), Outcome::Fenced { round: Round(2) });
        assert_eq!(run(&mut store, 1, merge(&new, late)), Outcome::Fenced { round: Round(2) });
    }
    assert_eq!(run(&mut store, 0, Op::Read), read(Some(&old), 2), "nothing was written");
    assert_eq!(run(&mut store, 1, Op::Read), read(None, 2));
    for current in [2, 3] {
        assert_eq!(run(&mut store, current, merge(&new, current.into())), merged(&new));
    }
    assert_eq!(store.rounds().of(PARTITION), Round(2), "a label is no round");
    assert_eq!(store.rounds().of(PartitionId(1)), Round(0), "nor is another partition's");
}

#[test]
fn a_round_is_never_lowered_and_an_adopted_one_is_written_once() {
    let mut store = store();
    assert_eq!(run(&mut store, 0, adopt(5)), read(None, 5));
    assert_eq!(run(&mut store, 1, adopt(4)), read(None, 5));
    assert!(store.commit().unwrap().is_some());
    assert_eq!(run(&mut store, 1, adopt(5)), read(None, 5));
    assert_eq!(store.commit().unwrap(), None, "it is there already");
}

/// A coordinator gives its hints once its put has missed somebody: that a round has passed it by takes none of them away.
#[test]
fn hints_for_what_stands_here_pass_the_fence() {
    let (mut store, old) = (store(), value(1));
    run(&mut store, 0, merge(&old, 0));
    run(&mut store, 0, adopt(2));
    let hinted = |object: &Arc<Object>| Op::Merge {
        object: object.clone(),
        round: Round(0),
        hints: vec![NewHint::counted(NodeId(5), 1)],
    };
    assert_eq!(run(&mut store, 0, hinted(&value(2))), Outcome::Fenced { round: Round(2) }, "it is not here");
    assert_eq!(run(&mut store, 1, hinted(&old)), Outcome::Fenced { round: Round(2) }, "nothing is here");
    assert_eq!(run(&mut store, 0, hinted(&old)), merged(&old));
    let Outcome::Hint(Some(_)) = run(&mut store, 0, Op::ReadHint { target: NodeId(5) }) else { panic!("no hint") };
    assert_eq!(run(&mut store, 0, merge(&old, 0)), Outcome::Fenced { round: Round(2) }, "without hints it is no news");
}

#[test]
fn every_outcome_names_the_round_at_which_its_bytes_stand() {
    let (mut store, object) = (store(), value(1));
    let update = |nth| Box::new(Update::nth(nth));
    run(&mut store, 0, adopt(3));
    let hints = vec![NewHint::counted(NodeId(5), 1)];
    run(&mut store, 0, Op::Merge { object, round: Round(3), hints });
    let outcome = run(&mut store, 0, Op::ReadHint { target: NodeId(5) });
    let Outcome::Hint(Some(found)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found.round, Round(3));
    for op in [Op::Update(update(7)), Op::Mint(update(8))] {
        let outcome = run(&mut store, 0, op);
        let Outcome::Updated { round, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(round, Round(3));
    }
    let Outcome::Read { object: Some(object), .. } = run(&mut store, 0, Op::Read) else { panic!("it is there") };
    assert_eq!(object.siblings().len(), 2, "what was minted for elsewhere is not here");
}

#[test]
fn a_member_vouches_only_for_a_key_that_holds_nothing_else() {
    let (mut store, v) = (store(), value(1));
    let dead = tombstone(&v);
    run(&mut store, 1, merge(&v, 0));
    run(&mut store, 2, merge(&dead, 0));
    let hints = vec![NewHint::uncounted(NodeId(5), 1)];
    run(&mut store, 3, Op::Merge { object: dead.clone(), round: Round(0), hints });
    run(&mut store, 4, merge(&tombstone(&value(4)), 0));
    run(&mut store, 5, merge(&dead, 0));
    run(&mut store, 5, merge(&value(7), 0));
    let all: Vec<(u8, Digest)> = (0..6).map(|nth| (nth, dead.digest())).collect();
    // Nothing, a value, the tombstone, it with a hint, another one, it with a sibling.
    assert_eq!(fence(&mut store, 1, &all), [true, false, true, false, false, false]);
    assert_eq!(fence(&mut store, 1, &all), [false; 6], "the round was raised before");
    let elsewhere = object_key(PartitionId(1), Token(0), &Bucket::default(), &Key::new("k").unwrap()).into();
    let inspection = Task { purpose: (), key: elsewhere, op: Op::Inspect { digest: dead.digest() } };
    let mut done = Vec::new();
    store.fence(PARTITION, Round(2), vec![inspection], &mut done);
    assert_eq!(vouches(done), [false], "another's key");
}

/// A yes would speak for what was sent in this round before it was asked.
#[test]
fn a_member_that_is_there_already_vouches_for_nothing() {
    let (mut store, v) = (store(), value(1));
    run(&mut store, 0, merge(&v, 0));
    run(&mut store, 0, adopt(1));
    run(&mut store, 0, merge(&tombstone(&v), 1));
    let dead = tombstone(&v).digest();
    assert_eq!(fence(&mut store, 1, &[(0, dead)]), [false]);
    assert_eq!(fence(&mut store, 2, &[(0, dead)]), [true]);
}

/// What waits for the disk was asked for in an earlier round, and will be labelled with this one.
#[test]
fn a_member_does_not_vouch_for_a_key_that_operations_wait_for() {
    let engine = MemoryEngine::new(MemoryConfig { miss_probability: 1.0, resident_keys: 9, ..Default::default() });
    let mut store = open(Arc::new(engine));
    let v = value(1);
    let dead = tombstone(&v).digest();
    let mut done = Vec::new();
    assert_eq!(store.submit(Task { purpose: (), key: key(0), op: merge(&v, 1) }, &mut done), Some(key(0)));
    assert_eq!(fence(&mut store, 2, &[(0, dead)]), [false], "it waits");
    store.resume(&key(0), Ok(None), &mut done);
    assert_eq!(done.pop().unwrap().1, Ok(Outcome::Fenced { round: Round(2) }), "fenced as it is run");
}

/// It is read from the disk, and nothing is done to it before it has been inspected.
#[test]
fn a_member_vouches_for_what_stood_when_the_round_was_raised() {
    let engine = MemoryEngine::new(MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..Default::default() });
    let mut store = open(Arc::new(engine));
    let (v, mut done) = (value(1), Vec::new());
    let dead = tombstone(&v);
    for (nth, stood, vouched) in [(0, &dead, true), (1, &v, false)] {
        assert_eq!(store.submit(Task { purpose: (), key: key(nth), op: merge(stood, 9) }, &mut done), Some(key(nth)));
        store.resume(&key(nth), Ok(None), &mut done);
        store.commit().unwrap();
        done.clear();
        let round = Round(1 + u64::from(nth));
        let cold = store.fence(PARTITION, round, inspections(&[(nth, dead.digest())]), &mut done);
        assert_eq!((cold, done.len()), (vec![key(nth)], 0));
        let other = if vouched { &v } else { &dead };
        assert_eq!(store.submit(Task { purpose: (), key: key(nth), op: merge(other, 9) }, &mut done), None);
        let read = TestStore::read(store.engine(), &key(nth)).unwrap();
        store.resume(&key(nth), Ok(read), &mut done);
        done.truncate(1);
        assert_eq!(vouches(std::mem::take(&mut done)), [vouched]);
    }
}

#[test]
fn only_what_all_were_asked_about_is_reaped() {
    let v = value(1);
    let dead = tombstone(&v);
    let reap = || Op::Reap { round: Round(1), digest: dead.digest() };
    let mut store = store();
    run(&mut store, 0, merge(&dead, 0));
    run(&mut store, 1, merge(&v, 0));
    run(&mut store, 2, merge(&dead, 0));
    run(&mut store, 2, merge(&value(7), 0));
    let hints = vec![NewHint::counted(NodeId(5), 1)];
    run(&mut store, 3, Op::Merge { object: dead.clone(), round: Round(0), hints });
    // A delete too, of something else: nobody was asked about that.
    run(&mut store, 5, merge(&tombstone(&value(7)), 0));
    for (nth, reaped) in [(0, true), (1, false), (2, false), (3, false), (4, false), (5, false)] {
        let before = run(&mut store, nth, Op::Read);
        assert_eq!(run(&mut store, nth, reap()), Outcome::Reaped(reaped.then(|| dead.clone())), "{nth}");
        let (Outcome::Read { object: before, .. }, Outcome::Read { object, round }) =
            (before, run(&mut store, nth, Op::Read))
        else {
            panic!("reads end in Read");
        };
        assert_eq!((object, round), (before.filter(|_| !reaped), Round(1)), "{nth}");
    }
    store.commit().unwrap();
    store.engine().kill();
    let mut store = open(store.engine().clone());
    assert_eq!(run(&mut store, 0, merge(&v, 0)), Outcome::Fenced { round: Round(1) }, "the round went with the batch");
    let drop = Op::DropHint { target: NodeId(5), digest: dead.digest(), sent: dead.digest(), keep_object: true };
    assert_eq!(run(&mut store, 3, drop), Outcome::HintDropped(HintDrop::Dropped));
    assert_eq!(run(&mut store, 3, reap()), Outcome::Reaped(Some(dead)));
}

#[test]
fn a_batch_that_failed_has_raised_nothing_and_nothing_is_raised_after_it() {
    for fail_sync in [false, true] {
        let mut store = store();
        run(&mut store, 0, adopt(1));
        assert!(!store.owes_sync() || store.rounds().are_owed());
        store.commit().unwrap();
        assert!(store.owes_sync());
        store.on_synced();
        assert!(!store.owes_sync());
        run(&mut store, 0, adopt(2));
        if fail_sync {
            store.commit().unwrap();
            store.on_sync_failed();
        } else {
            store.engine().arm(Fault::Commit { in_log: true });
            assert!(store.commit().is_err());
            let mut done = Vec::new();
            store.fence(PARTITION, Round(3), inspections(&[(0, value(1).digest())]), &mut done);
            assert_eq!(vouches(std::mem::take(&mut done)), [false]);
            store.submit(Task { purpose: (), key: key(0), op: adopt(3) }, &mut done);
            assert_eq!(done.pop().unwrap().1, Err(OpFailure::Stopped));
        }
        assert_eq!(run(&mut store, 0, Op::Read), read(None, 1), "what may not be on the disk is told to nobody");
        assert!(!store.owes_sync());
    }
}

#[test]
fn a_damaged_round_is_not_taken_for_a_lower_one() {
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let mut store = open(engine.clone());
    run(&mut store, 0, adopt(7));
    store.commit().unwrap();
    let stored = MetaKey::Round(PARTITION).bytes();
    let good = engine.peek(Family::Meta, &stored).unwrap().to_vec();
    let mut elsewhere = Batch::new();
    elsewhere.put(Family::Meta, &MetaKey::Round(PartitionId(1)).bytes(), &good);
    let mut flipped = good.clone();
    flipped[7] ^= 4;
    let mut bad = Batch::new();
    bad.put(Family::Meta, &stored, &flipped);
    let mut short = Batch::new();
    short.put(Family::Meta, &stored, &good[..8]);
    for mut damage in [elsewhere, bad, short] {
        engine.commit(&mut damage).unwrap();
        assert!(matches!(Rounds::load(&*engine), Err(StorageError::Corrupt { .. })));
        let mut repair = Batch::new();
        repair.put(Family::Meta, &stored, &good);
        repair.delete(Family::Meta, &MetaKey::Round(PartitionId(1)).bytes());
        engine.commit(&mut repair).unwrap();
        assert_eq!(Rounds::load(&*engine).unwrap().of(PARTITION), Round(7));
    }
}

#[derive(Clone, Debug)]
enum Act {
    Merge { nth: u8, round: u64, dead: bool },
    Adopt { nth: u8, round: u64 },
    Fence { round: u64 },
    Reap { nth: u8, round: u64 },
    Commit { sync: bool },
    Crash { power: Option<u64> },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u8..3, 0u64..8, any::<bool>()).prop_map(|(nth, round, dead)| Act::Merge { nth, round, dead }),
        2 => (0u8..3, 0u64..8).prop_map(|(nth, round)| Act::Adopt { nth, round }),
        2 => (0u64..8).prop_map(|round| Act::Fence { round }),
        2 => (0u8..3, 0u64..8).prop_map(|(nth, round)| Act::Reap { nth, round }),
        4 => any::<bool>().prop_map(|sync| Act::Commit { sync }),
        1 => any::<Option<u64>>().prop_map(|power| Act::Crash { power }),
    ]
}

fn on_disk(engine: &MemoryEngine, nth: u8) -> Option<Record> {
    match engine.get(Family::Objects, &key(nth), ReadTier::Disk).unwrap() {
        Lookup::Found(bytes) => Some(Record::decode(bytes).unwrap()),
        Lookup::Absent | Lookup::Miss => None,
    }
}

proptest! {
    /// A round that was told to somebody, by a label or a yes that left once it was synced, is there whatever crashes since; a
    /// yes is given once a round; and what was merged when a round was told is fenced ever after.
    #[test]
    fn what_was_told_of_a_round_holds_over_crashes(acts in proptest::collection::vec(act(), 1..60)) {
        let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
        let mut store = open(engine.clone());
        let (v, dead) = (value(1), tombstone(&value(1)));
        let (mut told, mut vouched, mut pending) = (Round(0), Vec::new(), Vec::new());
        for act in acts {
            let at = store.rounds().of(PARTITION);
            match act {
                Act::Merge { nth, round, dead: is_dead } => {
                    let object = if is_dead { &dead } else { &v };
                    let outcome = run(&mut store, nth, merge(object, round));
                    let expected = if Round(round) < at { Outcome::Fenced { round: at } } else { merged(object) };
                    prop_assert_eq!(outcome, expected);
                }
                Act::Adopt { nth, round } => {
                    let outcome = run(&mut store, nth, adopt(round));
                    let Outcome::Read { round: now, .. } = outcome else { panic!("{outcome:?}") };
                    prop_assert_eq!(now, at.max(Round(round)));
                }
                Act::Fence { round } => {
                    let candidates: Vec<(u8, Digest)> = (0..3).map(|nth| (nth, dead.digest())).collect();
                    let yes = fence(&mut store, round, &candidates);
                    prop_assert!(!yes.contains(&true) || at < Round(round));
                    for (nth, _) in (0..3).zip(yes).filter(|(_, yes)| *yes) {
                        let outcome = run(&mut store, nth, Op::Read);
                        let Outcome::Read { object, .. } = outcome else { panic!("{outcome:?}") };
                        prop_assert!(object.is_none_or(|object| object == dead));
                        pending.push((round, nth));
                    }
                }
                Act::Reap { nth, round } => {
                    let outcome = run(&mut store, nth, Op::Reap { round: Round(round), digest: dead.digest() });
                    prop_assert!(matches!(outcome, Outcome::Reaped(_)), "an end of another kind");
                    prop_assert!(store.rounds().of(PARTITION) >= Round(round));
                }
                Act::Commit { sync } => {
                    store.commit().unwrap();
                    if sync || store.owes_sync() {
                        engine.sync().unwrap();
                        store.on_synced();
                    }
                    told = store.rounds().of(PARTITION);
                    for yes in pending.drain(..) {
                        prop_assert!(!vouched.contains(&yes), "a second yes for {:?}", yes);
                        vouched.push(yes);
                    }
                }
                Act::Crash { power } => {
                    match power {
                        Some(seed) => engine.power_loss(&mut StdRng::seed_from_u64(seed)),
                        None => engine.kill(),
                    };
                    pending.clear();
                    store = open(engine.clone());
                    prop_assert!(store.rounds().of(PARTITION) >= told, "{:?} was told", told);
                    // What a start writes is synced before anybody hears of it.
                    engine.sync().unwrap();
                    told = store.rounds().of(PARTITION);
                    for nth in 0..3 {
                        let outcome = run(&mut store, nth, Op::Read);
                        let Outcome::Read { object, .. } = outcome else { panic!("{outcome:?}") };
                        prop_assert_eq!(object, on_disk(&engine, nth).map(|record| record.object));
                    }
                }
            }
        }
    }
}
