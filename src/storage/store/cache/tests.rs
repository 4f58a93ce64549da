//! A store with a cache does what one without it does, asks the engine less, and hides no damage from those who look for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Entry, Kept, LONGEST, RecordCache};
use crate::storage::merkle::{Forest, ItemHasher, Leaves, TreeShape, Trees, count_leaves};
use crate::storage::{
    Batch, Engine, Family, Fault, Healing, MemoryConfig, MemoryEngine, NewHint, Op, OpFailure, Outcome, Rounds,
    Scrubbed, Store, StoreLimits, Task, Update, object_key,
};
use crate::types::{Bucket, Key, NodeId, PartitionId, Round, Token, WriteId};
use crate::version::{Actor, Body, CausalContext, Digest, Dot, Object, Sibling};

/// What tells of objects.
const SURVEYED: [Family; 3] = [Family::Objects, Family::Tombstones, Family::Hints];
const PARTITION: PartitionId = PartitionId(0);
const LARGE: usize = 1 << 20;
/// For three or four of the records here, without their values.
const SMALL: usize = 900;
/// All of them are kept, the longer ones without their values.
const MIDDLE: usize = 8_000;

fn key(nth: u8) -> Bytes {
    let token = Token(u64::from(nth) << 56);
    object_key(PARTITION, token, &Bucket::default(), &Key::new(vec![b'k', nth]).unwrap()).into()
}

fn sibling(serial: u64, body: Body) -> Sibling {
    let dot = Dot { actor: Actor(serial), counter: 1 };
    Sibling { dot, write_id: WriteId(serial.into()), node: NodeId(9), wall_ms: serial, body }
}

fn object(serial: u64, body: Body) -> Arc<Object> {
    Arc::new(Object::update(None, &CausalContext::default(), sibling(serial, body)))
}

/// What replaces all of an object.
fn after(stands: &Object, serial: u64, body: Body) -> Arc<Object> {
    Arc::new(Object::update(Some(stands), stands.context(), sibling(serial, body)))
}

fn merge(serial: u64, value: &'static str) -> Op {
    merge_of(object(serial, Body::Value(value.into())), false)
}

fn merge_of(object: Arc<Object>, hinted: bool) -> Op {
    let hints = hinted.then(|| NewHint::counted(NodeId(7), 1)).into_iter().collect();
    Op::Merge { round: Round::default(), object, hints }
}

struct Node {
    engine: Arc<MemoryEngine>,
    store: Store<MemoryEngine, ()>,
}

impl Node {
    fn new(cached: usize) -> Node {
        let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
        let shape = Arc::new(TreeShape::new(1, [("default".to_owned(), 3)].into()));
        let leaves = Leaves::new(64).unwrap();
        let forest = Forest::load(&*engine, leaves, Some(&shape)).unwrap();
        let mut trees = Trees::of(&forest, 0, 1, leaves, ItemHasher::new(&[5; 32]));
        trees.set_shape(shape.clone());
        let mut store = Store::new(engine.clone(), StoreLimits { parked: 10, cached }, trees, Rounds::default());
        store.set_healing(Healing { shared: shape.trees().collect(), members: vec![NodeId(7)], ..Healing::default() });
        Node { engine, store }
    }

    fn run(&mut self, nth: u8, op: Op) -> Result<Outcome, OpFailure> {
        let mut done = Vec::new();
        self.store.submit(Task { purpose: (), key: key(nth), op }, &mut done);
        done.remove(0).1
    }

    fn read(&mut self, nth: u8) -> Option<Arc<Object>> {
        match self.run(nth, Op::Read) {
            Ok(Outcome::Read { object, .. }) => object,
            other => panic!("{other:?}"),
        }
    }

    /// Writes these, and commits.
    fn fill(&mut self, keys: std::ops::Range<u8>) {
        for nth in keys {
            self.run(nth, merge(nth.into(), "v")).unwrap();
        }
        self.store.commit().unwrap();
    }

    fn root(&self) -> Option<u128> {
        let trees = self.store.trees();
        trees.root(trees.shape()?.trees().next()?)
    }

    fn scrub(&mut self) -> Scrubbed {
        let spec = self.store.begin_count(PARTITION, Some(0)).unwrap();
        let scrubbed = self.store.end_count(count_leaves(&*self.engine, spec)).unwrap();
        self.store.commit().unwrap();
        scrubbed
    }

    /// What the last operation asked: the cache, the engine.
    fn asked(&mut self, nth: u8) -> (u64, u64) {
        let before = self.store.found();
        self.read(nth);
        let after = self.store.found();
        (after.hits - before.hits, after.misses - before.misses)
    }
}

#[test]
fn what_was_written_or_read_is_not_asked_for_again() {
    let mut node = Node::new(LARGE);
    node.fill(0..1);
    assert_eq!(node.asked(0), (1, 0), "what was written");
    assert_eq!(node.asked(0), (1, 0), "a read leaves it there");
    node.run(0, merge(1, "w")).unwrap();
    assert_eq!(node.asked(0), (0, 0), "a drain that has changed it has it");
    node.store.commit().unwrap();
    node.store.cache.clear();
    assert_eq!(node.asked(0), (0, 1));
    node.store.commit().unwrap();
    assert_eq!(node.asked(0), (1, 0), "what was read");
    assert_eq!(node.asked(1), (0, 1));
    node.store.commit().unwrap();
    assert_eq!(node.asked(1), (1, 0), "that there is nothing");
    let mut node = Node::new(0);
    node.fill(0..1);
    assert_eq!((node.asked(0), node.store.found().cached_bytes), ((0, 1), 0), "nothing is kept");
}

#[test]
fn so_many_bytes_are_kept_and_no_more() {
    let mut node = Node::new(20_000);
    for from in 0..10 {
        node.fill(from * 20..from * 20 + 20);
        let bytes = node.store.found().cached_bytes;
        assert!(bytes <= 20_000 && (bytes > 12_000 || from < 4), "{bytes} bytes after {from}");
    }
    let mut large = Node::new(LARGE);
    large.fill(0..1);
    let empty = large.store.found().cached_bytes;
    let value = Body::Value(vec![7; 4000].into());
    large.run(1, merge_of(object(1, value), false)).unwrap();
    large.store.commit().unwrap();
    let grown = large.store.found().cached_bytes - 2 * empty;
    assert_eq!(grown, 4000, "3,999 bytes more, and one for the length");
}

/// A value that is longer than what is kept whole.
fn long() -> Body {
    Body::Value(vec![7; LONGEST].into())
}

#[test]
fn a_long_record_is_kept_without_its_values_and_what_it_replaces_is_not() {
    let mut node = Node::new(LARGE);
    node.fill(0..1);
    node.run(0, merge_of(object(77, long()), false)).unwrap();
    node.store.commit().unwrap();
    assert!((1..500).contains(&node.store.found().cached_bytes));
    assert_eq!(node.asked(0), (0, 1), "whoever reads it is given all of it");
    let read = node.read(0).unwrap();
    assert_eq!(
        read.siblings().iter().map(|sibling| &sibling.body).collect::<Vec<_>>(),
        [&Body::Value("v".into()), &long()]
    );
}

#[test]
fn a_record_that_is_long_without_its_values_is_not_kept() {
    let mut node = Node::new(LARGE);
    node.fill(0..1);
    for serial in 1..40 {
        let object = object(serial, Body::Value(vec![7; 2000].into()));
        node.run(0, merge_of(object, false)).unwrap();
    }
    node.store.commit().unwrap();
    assert_eq!((node.store.found().cached_bytes, node.read(0).unwrap().siblings().len()), (0, 40));
}

/// Hits, of these on records without their values, and misses.
const WHOLE: (u64, u64, u64) = (1, 0, 0);
const HOLLOW: (u64, u64, u64) = (1, 1, 0);
const ENGINE: (u64, u64, u64) = (0, 0, 1);

#[test]
fn a_write_that_replaces_all_values_needs_none_of_them() {
    let (mut node, mut plain) = (Node::new(LARGE), Node::new(0));
    let mut nth = 0;
    let mut check = |op: Op, expected| {
        nth += 1;
        let before = node.store.found();
        for node in [&mut node, &mut plain] {
            node.run(0, op.clone()).unwrap();
            node.store.commit().unwrap();
        }
        let after = node.store.found();
        let found = (after.hits - before.hits, after.hollow - before.hollow, after.misses - before.misses);
        assert_eq!(found, expected, "operation {nth}");
        for family in SURVEYED {
            assert_eq!(node.engine.survey(family), plain.engine.survey(family));
        }
        assert_eq!(node.root(), plain.root());
        plain.read(0).unwrap()
    };
    let update = |serial, client: &CausalContext, body, last_write_wins| {
        Op::Update(Box::new(Update { client: client.clone(), body, last_write_wins, ..Update::nth(serial) }))
    };
    let after = |stands: &Object, serial| after(stands, serial, long());
    let first = check(update(1, &CausalContext::default(), long(), false), ENGINE);
    let second = check(update(2, first.context(), long(), false), HOLLOW);
    let third = check(update(3, first.context(), long(), false), ENGINE);
    assert_eq!(third.siblings().len(), 2, "what the writer was not shown stays, and so does its value");
    check(merge_of(after(&second, 31), false), ENGINE);
    let stands = check(update(4, &CausalContext::default(), long(), true), HOLLOW);
    let stands = check(merge_of(after(&stands, 41), false), HOLLOW);
    check(merge_of(stands.clone(), false), ENGINE);
    let deleted = check(update(5, stands.context(), Body::Tombstone, false), HOLLOW);
    let stands = check(update(6, deleted.context(), long(), false), WHOLE);
    // A record with hints is not among those that are kept so: its hints say how long it is.
    let hinted = check(merge_of(after(&stands, 61), true), HOLLOW);
    check(update(7, hinted.context(), long(), false), ENGINE);
}

#[test]
fn a_fenced_write_leaves_no_record_without_its_values() {
    let mut node = Node::new(LARGE);
    let stood = object(1, long());
    node.run(0, merge_of(stood.clone(), false)).unwrap();
    node.store.commit().unwrap();
    node.run(1, Op::Adopt { round: Round(1) }).unwrap();
    node.store.commit().unwrap();
    let fenced = node.run(0, merge_of(after(&stood, 2, long()), false));
    assert_eq!((fenced, node.store.found().hollow), (Ok(Outcome::Fenced { round: Round(1) }), 1));
    assert_eq!(node.read(0), Some(stood), "in the same drain");
}

#[test]
fn to_fetch_what_is_kept_is_not_to_use_it() {
    let mut caches = [RecordCache::new(SMALL), RecordCache::new(SMALL)];
    let stays = |cache: &RecordCache| (0..100).filter(|nth| cache.get(&key(*nth)).is_some()).collect::<Vec<_>>();
    for nth in 0..100 {
        let record = (nth % 3 > 0).then_some(&[1; 10][..usize::from(nth % 3) * 5]);
        caches.iter_mut().for_each(|cache| cache.keep(&key(nth), record));
        let keys = [key(nth), key(nth / 2), key(200)];
        caches[0].warm(keys.iter().map(|key| &key[..]));
    }
    let [fetched, left] = caches.map(|cache| stays(&cache));
    assert_eq!(fetched, left);
    assert!((2..100).contains(&left.len()), "{left:?}");
}

#[test]
fn an_entry_is_of_one_key_only() {
    for kept in [Kept::Whole(b"record"), Kept::Hollow(b"record"), Kept::Absent] {
        let entry = Entry::new(b"key", kept);
        assert_eq!(entry.of(b"key"), Some(kept));
        assert_eq!([&b"kez"[..], b"ke", b"keyr", b""].map(|other| entry.of(other)), [None; 4]);
    }
}

#[test]
fn what_memory_has_spoilt_the_engine_still_has() {
    let mut node = Node::new(LARGE);
    node.fill(0..1);
    node.store.cache.keep(&key(0), Some(b"spoilt"));
    assert!(node.read(0).is_some() && node.store.take_wiped().is_empty());
    node.store.commit().unwrap();
    assert_eq!(node.asked(0), (1, 0), "and it is right again");
}

#[test]
fn a_batch_that_fails_leaves_what_stood() {
    let mut node = Node::new(LARGE);
    node.fill(0..1);
    let stood = node.read(0);
    node.run(0, merge(50, "never")).unwrap();
    node.run(1, merge(51, "never")).unwrap();
    assert_ne!(node.read(0), stood);
    node.engine.arm(Fault::Commit { in_log: false });
    node.store.commit().unwrap_err();
    assert_eq!((node.read(0), node.read(1)), (stood, None));
}

#[test]
fn a_scrub_finds_rot_behind_the_cache_and_the_next_operation_wipes_it() {
    let mut node = Node::new(LARGE);
    node.fill(0..3);
    let mut batch = Batch::new();
    batch.put(Family::Objects, &key(1), b"rot");
    node.engine.commit(&mut batch).unwrap();
    assert!(node.read(1).is_some(), "what it was is still known");
    assert_eq!(node.scrub().rotten, [key(1)]);
    assert_eq!((node.read(1), node.store.take_wiped().len()), (None, 1));
    node.store.commit().unwrap();
    assert_eq!((node.read(1), node.read(0).is_some()), (None, true));
}

#[test]
fn a_record_that_is_wiped_leaves_the_cache() {
    let mut node = Node::new(LARGE);
    node.fill(0..1);
    node.store.wipe(&key(0), OpFailure::Unreadable { detail: "rot".into(), rotten: true }).unwrap();
    assert_eq!(node.read(0), None);
    node.store.commit().unwrap();
    assert_eq!(node.read(0), None);
}

#[test]
fn a_stretch_that_is_wiped_leaves_the_cache() {
    let mut node = Node::new(LARGE);
    node.fill(0..20);
    node.engine.rot_at(Family::Objects, &(5..9).map(key).collect::<Vec<_>>());
    assert!((5..9).all(|nth| node.read(nth).is_some()));
    node.store.commit().unwrap();
    assert_eq!(node.scrub().stretches, 1);
    let stands: Vec<u8> = (0..20).filter(|&nth| node.read(nth).is_some()).collect();
    assert_eq!(stands, [(0..5).collect::<Vec<_>>(), (9..20).collect()].concat());
}

#[test]
fn what_the_disk_has_lost_is_written_again_though_it_is_cached() {
    let mut node = Node::new(LARGE);
    node.fill(0..20);
    node.engine.rot_at(Family::Objects, &(5..9).map(key).collect::<Vec<_>>());
    assert!(node.read(6).is_some(), "nobody has met it");
    node.run(7, merge(7, "v")).unwrap();
    node.store.commit().unwrap();
    assert_eq!(node.scrub().stretches, 1);
    let stands: Vec<u8> = (5..9).filter(|&nth| node.read(nth).is_some()).collect();
    assert_eq!(stands, [7], "it was acknowledged after the disk had lost it");
}

#[test]
fn nothing_in_the_cache_counts_once_damage_is_known() {
    let mut node = Node::new(LARGE);
    node.fill(0..20);
    node.engine.rot_at(Family::Objects, &(5..9).map(key).collect::<Vec<_>>());
    assert_eq!(node.asked(2), (1, 0));
    Store::<MemoryEngine, ()>::read(&node.engine, &key(6)).unwrap_err();
    assert_eq!(node.asked(2), (0, 1));
}

#[test]
fn what_stands_for_others_is_told_by_the_disk() {
    let mut node = Node::new(LARGE);
    node.fill(0..20);
    node.engine.rot_at(Family::Objects, &(5..9).map(key).collect::<Vec<_>>());
    let digest = node.read(6).unwrap().digest();
    assert!(matches!(node.run(6, Op::Inspect { digest }), Err(OpFailure::Unreadable { rotten: true, .. })));
}

#[derive(Clone, Debug)]
enum Act {
    Write { nth: u8, sees: bool, deletes: bool, last_wins: bool },
    Merge { nth: u8, serial: u64, hinted: bool },
    MergeAfter { nth: u8, hinted: bool },
    DropHint { nth: u8 },
    Reap { nth: u8 },
    Read { nth: u8 },
    Commit,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act =
        (0..8u8, any::<[bool; 3]>(), 0..6u64, 0..12u8).prop_map(|(nth, [one, two, three], serial, act)| match act {
            0..3 => Act::Write { nth, sees: one, deletes: two, last_wins: three },
            3..5 => Act::Merge { nth, serial, hinted: one },
            5..7 => Act::MergeAfter { nth, hinted: one && two },
            7 => Act::DropHint { nth },
            8 => Act::Reap { nth },
            9 => Act::Read { nth },
            _ => Act::Commit,
        });
    proptest::collection::vec(act, 1..80)
}

type Outcomes = Vec<Result<Outcome, OpFailure>>;

/// The families that tell of objects, and the tree over them.
type Disk = (Vec<Vec<(Bytes, Bytes)>>, Option<u128>);

/// What all of it brings about, and what the disk has then. Writers know what they were last told, which no drain has read for them.
fn outcomes(cached: usize, acts: &[Act]) -> (Outcomes, Disk) {
    let (mut node, mut outcomes) = (Node::new(cached), Vec::new());
    let mut told: BTreeMap<u8, Arc<Object>> = BTreeMap::new();
    for (at, act) in (100..).zip(acts) {
        let (nth, op) = match act.clone() {
            Act::Write { nth, sees, deletes, last_wins: last_write_wins } => {
                let client = told.get(&nth).filter(|_| sees).map(|object| object.context().clone()).unwrap_or_default();
                let body = if deletes { Body::Tombstone } else { Body::Value(vec![nth; at as usize - 100].into()) };
                (nth, Op::Update(Box::new(Update { client, body, last_write_wins, ..Update::nth(at) })))
            }
            Act::Merge { nth, serial, hinted } => (nth, merge_of(object(serial, Body::Value("other".into())), hinted)),
            Act::MergeAfter { nth, hinted } => {
                let Some(stands) = told.get(&nth) else { continue };
                (nth, merge_of(after(stands, at, Body::Value(vec![nth; 90].into())), hinted))
            }
            Act::DropHint { nth } => {
                (nth, Op::DiscardHint { target: NodeId(7), counted_too: true, keep_object: false })
            }
            Act::Reap { nth } => {
                let digest = told.get(&nth).map_or(Digest([0; 16]), |object| object.digest());
                (nth, Op::Reap { round: Round(at), digest })
            }
            Act::Read { nth } => (nth, Op::Read),
            Act::Commit => {
                node.store.commit().unwrap();
                continue;
            }
        };
        let outcome = node.run(nth, op);
        match &outcome {
            Ok(Outcome::Updated { object, .. } | Outcome::Read { object: Some(object), .. }) => {
                told.insert(nth, object.clone());
            }
            Ok(Outcome::Read { object: None, .. }) => drop(told.remove(&nth)),
            _ => {}
        }
        outcomes.push(outcome);
    }
    node.store.commit().unwrap();
    (outcomes, (SURVEYED.map(|family| node.engine.survey(family)).to_vec(), node.root()))
}

proptest! {
    /// However much of it there is, and whatever of a record: outcomes and disk are those without it.
    #[test]
    fn a_cache_changes_nothing_but_who_is_asked(acts in acts()) {
        let without = outcomes(0, &acts);
        prop_assert_eq!(&outcomes(SMALL, &acts), &without);
        prop_assert_eq!(&outcomes(MIDDLE, &acts), &without);
        prop_assert_eq!(&outcomes(LARGE, &acts), &without);
    }
}
