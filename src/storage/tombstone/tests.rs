//! The index against the records, over operations, crashes and damage, and while the scrub brings it to what it has to be.

mod unreadable;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::storage::merkle::{CountSpec, Counted, Forest, ItemHasher, Leaves, TreeShape, Trees, count_leaves};
use crate::storage::{
    Engine, EngineStats, Fault, Healing, Lookup, MemoryConfig, MemoryEngine, NewHint, Op, OpFailure, Outcome, ReadTier,
    Rounds, ScanLimit, Scrubbed, Store, StoreLimits, Task, Update, Visit, object_key,
};
use crate::types::{BatchNumber, Bucket, Key, NodeId, PartitionId, Round, Token, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling};

const KEYS: u8 = 8;
const LEAVES: u32 = 64;

fn shape() -> Arc<TreeShape> {
    Arc::new(TreeShape::new(1, [("default".to_owned(), 3)].into()))
}

/// Of two leaves.
fn place(nth: u8) -> Bytes {
    let token = Token(u64::from(nth & 1) << 62 | u64::from(nth));
    object_key(PartitionId(0), token, &Bucket::default(), &Key::new(vec![b'k', nth]).unwrap()).into()
}

type Index = BTreeMap<Bytes, Option<TombstoneEntry>>;

/// A store on its disk.
struct Node {
    engine: Arc<MemoryEngine>,
    store: Store<MemoryEngine, ()>,
    serial: u64,
}

impl Node {
    fn new() -> Node {
        Node::start(Arc::new(MemoryEngine::new(MemoryConfig::default())), 0)
    }

    fn start(engine: Arc<MemoryEngine>, serial: u64) -> Node {
        let leaves = Leaves::new(LEAVES).unwrap();
        let forest = Forest::load(&*engine, leaves, Some(&shape())).unwrap();
        let mut trees = Trees::of(&forest, 0, 1, leaves, ItemHasher::new(&[5; 32]));
        trees.set_shape(shape());
        let rounds = Rounds::load(&*engine).unwrap();
        let mut store = Store::new(engine.clone(), StoreLimits { parked: 10, cached: 0 }, trees, rounds);
        store.set_healing(Healing {
            shared: shape().trees().collect(),
            members: vec![NodeId(7)],
            ..Healing::default()
        });
        Node { engine, store, serial }
    }

    fn run(&mut self, nth: u8, op: Op) -> Result<Outcome, OpFailure> {
        let mut done = Vec::new();
        self.store.submit(Task { purpose: (), key: place(nth), op }, &mut done);
        done.remove(0).1
    }

    fn read(&mut self, nth: u8) -> Option<Arc<Object>> {
        match self.run(nth, Op::Read) {
            Ok(Outcome::Read { object, .. }) => object,
            other => panic!("{other:?}"),
        }
    }

    /// Writes after having seen what stands, or blindly.
    fn write(&mut self, nth: u8, body: Body, sees: bool) {
        self.serial += 1;
        let client = self.read(nth).filter(|_| sees).map_or_else(CausalContext::default, |seen| seen.context().clone());
        let update = Update { client, wall_ms: self.serial * 3, body, max_siblings: 50, ..Update::nth(self.serial) };
        let _ = self.run(nth, Op::Update(Box::new(update)));
    }

    fn merge(&mut self, nth: u8, body: Body, hints: Vec<NewHint>) {
        self.serial += 1;
        let dot = Dot { actor: Actor(self.serial), counter: 1 };
        let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(9), wall_ms: self.serial * 5, body };
        let object = Arc::new(Object::update(None, &CausalContext::default(), sibling));
        let _ = self.run(nth, Op::Merge { object, round: self.store.rounds().of(PartitionId(0)), hints });
    }

    fn reap(&mut self, nth: u8) {
        let Some(object) = self.read(nth) else { return };
        let round = Round(self.store.rounds().of(PartitionId(0)).0 + 1);
        let _ = self.run(nth, Op::Reap { round, digest: object.digest() });
        self.store.on_synced();
    }

    /// Writes with what stands in view, or reaps, and commits, or not yet.
    fn step(&mut self, (nth, deletes, reaps, commits): (u8, bool, bool, bool)) {
        if reaps {
            self.reap(nth);
        } else {
            self.write(nth, body(deletes), true);
        }
        if commits {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let _ = self.store.commit();
    }

    /// What the disk has in the index; `None`: an entry that cannot be read.
    fn index(&self) -> Index {
        let decode = |(key, value): (Bytes, Bytes)| (key, TombstoneEntry::decode(&value).ok());
        self.engine.survey(Family::Tombstones).into_iter().map(decode).collect()
    }

    /// What its records say.
    fn due(&self) -> Index {
        let mut due = Index::new();
        let mut visit = |key: &[u8], record: &[u8]| {
            let record = Record::decode(Bytes::copy_from_slice(record)).unwrap();
            let siblings = record.object.siblings().iter();
            let is_deleted = siblings.clone().all(|sibling| sibling.body == Body::Tombstone);
            if let Some(wall_ms) = siblings.map(|sibling| sibling.wall_ms).max().filter(|_| is_deleted) {
                let entry = TombstoneEntry { wall_ms, digest: record.object.digest() };
                due.insert(Bytes::copy_from_slice(key), Some(entry));
            }
            ControlFlow::Continue(())
        };
        self.engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut visit).unwrap();
        due
    }

    fn rot(&self, family: Family, nth: u8) {
        let mut batch = Batch::new();
        if self.engine.peek(family, &place(nth)).is_some() {
            batch.put(family, &place(nth), b"rot");
        }
        self.engine.commit(&mut batch).unwrap();
    }

    fn begin(&mut self) -> CountSpec {
        self.commit();
        self.store.begin_count(PartitionId(0), Some(0)).unwrap()
    }

    fn end(&mut self, counted: Counted) -> Scrubbed {
        let scrubbed = self.store.end_count(Ok(counted)).unwrap();
        self.commit();
        scrubbed
    }

    fn scrub(&mut self) -> Scrubbed {
        let spec = self.begin();
        let counted = count_leaves(&*self.engine, spec).unwrap();
        self.end(counted)
    }
}

/// A disk whose records and whose index are read at two moments; without an index, it does not answer about that, and of the records it
/// gives no more than so many.
struct Apart {
    records: MemoryEngine,
    readable: usize,
    index: Option<MemoryEngine>,
}

impl Engine for Apart {
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError> {
        self.records.get(family, key, tier)
    }

    fn damage(&self) -> u64 {
        self.records.damage()
    }

    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        self.records.commit(batch)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.records.sync()
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let unreadable = || StorageError::Io { action: "scan", detail: "no answer".into() };
        if family == Family::Tombstones {
            return self.index.as_ref().ok_or_else(unreadable)?.scan(family, start, end, limit, visit);
        }
        let next = self.records.scan(family, start, end, ScanLimit::entries(self.readable), visit)?;
        if next.is_some() { Err(unreadable()) } else { Ok(None) }
    }

    fn latest(&self) -> BatchNumber {
        self.records.latest()
    }

    fn stats(&self) -> EngineStats {
        self.records.stats()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write {
        nth: u8,
        deletes: bool,
        sees: bool,
    },
    Merge {
        nth: u8,
        deletes: bool,
        hinted: bool,
    },
    Discard(u8),
    Reap(u8),
    /// A record rots, and somebody meets it.
    Rot(u8),
    Commit,
    FailedCommit {
        in_log: bool,
    },
    Crash(Option<u64>),
}

fn act() -> impl Strategy<Value = Act> {
    let nth = || 0..KEYS;
    prop_oneof![
        8 => (nth(), any::<bool>(), proptest::bool::weighted(0.8))
            .prop_map(|(nth, deletes, sees)| Act::Write { nth, deletes, sees }),
        4 => (nth(), any::<bool>(), any::<bool>())
            .prop_map(|(nth, deletes, hinted)| Act::Merge { nth, deletes, hinted }),
        2 => nth().prop_map(Act::Discard),
        3 => nth().prop_map(Act::Reap),
        1 => nth().prop_map(Act::Rot),
        5 => Just(Act::Commit),
        1 => any::<bool>().prop_map(|in_log| Act::FailedCommit { in_log }),
        1 => any::<Option<u64>>().prop_map(Act::Crash),
    ]
}

fn body(deletes: bool) -> Body {
    if deletes { Body::Tombstone } else { Body::Value("v".into()) }
}

impl Node {
    fn act(mut self, act: Act) -> Node {
        match act {
            Act::Write { nth, deletes, sees } => self.write(nth, body(deletes), sees),
            Act::Merge { nth, deletes, hinted } => {
                let hints = if hinted { vec![NewHint::counted(NodeId(7), 1)] } else { Vec::new() };
                self.merge(nth, body(deletes), hints);
            }
            Act::Discard(nth) => {
                let discard = Op::DiscardHint { target: NodeId(7), counted_too: true, keep_object: false };
                let _ = self.run(nth, discard);
            }
            Act::Reap(nth) => self.reap(nth),
            Act::Rot(nth) => {
                self.commit();
                self.rot(Family::Objects, nth);
                self.read(nth);
                self.commit();
                // Rot is no batch that a power loss could leave alone.
                self.engine.sync().unwrap();
            }
            Act::Commit => self.commit(),
            Act::FailedCommit { in_log } => {
                self.engine.arm(Fault::Commit { in_log });
                self.commit();
                self.engine.disarm();
                self.engine.kill();
                return Node::start(self.engine, self.serial);
            }
            Act::Crash(power) => {
                match power {
                    Some(seed) => self.engine.power_loss(&mut StdRng::seed_from_u64(seed)),
                    None => self.engine.kill(),
                };
                return Node::start(self.engine, self.serial);
            }
        }
        self
    }
}

proptest! {
    /// After whatever was done and wherever it was torn off.
    #[test]
    fn the_index_is_of_the_records(acts in proptest::collection::vec(act(), 1..100)) {
        let mut node = Node::new();
        for act in acts {
            node = node.act(act);
            prop_assert_eq!(node.index(), node.due());
        }
        node.commit();
        prop_assert_eq!(node.index(), node.due());
        prop_assert_eq!(node.scrub().reindexed, 0, "there is nothing to be put right");
    }

    /// Whatever is missing, wrong, unreadable or of no tombstone, and whatever is written before the records are read, after that or
    /// before the outcome is known: one scrub puts it right, and touches nothing else.
    #[test]
    fn a_scrub_brings_the_index_to_what_the_records_say(
        before in proptest::collection::vec(act(), 1..30),
        damage in proptest::collection::vec((0u8..4, 0..KEYS), 0..6),
        during in proptest::collection::vec((0..KEYS, any::<bool>(), any::<bool>(), any::<bool>()), 0..12),
        (read_at, read_index_at) in (0usize..12, 0usize..12),
    ) {
        let mut node = Node::new();
        for act in before {
            node = node.act(act);
        }
        node.commit();
        let mut batch = Batch::new();
        for (what, nth) in damage {
            let entry = TombstoneEntry { wall_ms: 1, digest: Digest([9; 16]) };
            match what {
                0 => batch.delete(Family::Tombstones, &place(nth)),
                1 => put_entry(&mut batch, &place(nth), &entry),
                2 => batch.put(Family::Tombstones, &place(nth), b"rot"),
                // A key that nobody can have written, in a leaf's range.
                _ => batch.put(Family::Tombstones, &place(nth)[..10], b"rot"),
            }
        }
        node.engine.commit(&mut batch).unwrap();
        let (due, wrong) = (node.due(), node.index());
        let spec = node.begin();
        let (mut records, mut index) = (None, None);
        for (at, step) in during.into_iter().enumerate() {
            if at >= read_at {
                records.get_or_insert_with(|| node.engine.backup(0));
            }
            if at >= read_at.max(read_index_at) {
                index.get_or_insert_with(|| node.engine.backup(0));
            }
            node.step(step);
        }
        let records = records.unwrap_or_else(|| node.engine.backup(0));
        let index = Some(index.unwrap_or_else(|| node.engine.backup(0)));
        let counted = count_leaves(&Apart { records, readable: usize::MAX, index }, spec).unwrap();
        let scrubbed = node.end(counted);
        prop_assert!(scrubbed.exact && !scrubbed.index_failed);
        // What was written meanwhile is right by itself, whatever stood there.
        prop_assert_eq!(node.index(), node.due());
        let keys: BTreeSet<_> = due.keys().chain(wrong.keys()).collect();
        let differing = keys.into_iter().filter(|key| due.get(*key) != wrong.get(*key)).count() as u64;
        prop_assert!(scrubbed.reindexed <= differing, "{} of {differing}", scrubbed.reindexed);
        prop_assert_eq!(node.scrub().reindexed, 0, "once is enough");
    }

    #[test]
    fn entries_survive_the_round_trip_and_no_flipped_bit(wall_ms: u64, digest: [u8; 16], bit in 0..ENTRY * 8) {
        let entry = TombstoneEntry { wall_ms, digest: Digest(digest) };
        let mut bytes = Vec::new();
        entry.encode_into(&mut bytes);
        prop_assert_eq!(bytes.len(), ENTRY);
        prop_assert_eq!(TombstoneEntry::decode(&bytes), Ok(entry));
        prop_assert!(TombstoneEntry::decode(&bytes[..bit / 8]).is_err());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(TombstoneEntry::decode(&bytes).is_err());
    }
}

/// A node that holds only tombstones, the index of which is gone.
fn older() -> Node {
    let mut node = Node::new();
    (0..KEYS).for_each(|nth| node.write(nth, Body::Tombstone, true));
    node.commit();
    let mut batch = Batch::new();
    batch.delete_range(Family::Tombstones, &[], &[0xff]);
    node.engine.commit(&mut batch).unwrap();
    node
}

#[test]
fn a_directory_older_than_the_index_comes_to_have_it() {
    let mut node = older();
    assert_eq!((node.index().len(), node.due().len()), (0, usize::from(KEYS)));
    assert_eq!(node.scrub().reindexed, u64::from(KEYS));
    assert_eq!(node.index(), node.due());
}

#[test]
fn what_changes_no_object_writes_no_entry() {
    let mut node = older();
    let (object, hints) = (node.read(0).unwrap(), vec![NewHint::counted(NodeId(7), 1)]);
    node.run(0, Op::Merge { object, round: Round::default(), hints }).unwrap();
    node.commit();
    assert_eq!(node.index().len(), 0);
}

#[test]
fn an_index_of_which_the_disk_says_nothing_has_what_is_missing_put() {
    let mut node = older();
    node.rot(Family::Objects, 0);
    let spec = node.begin();
    let counted =
        count_leaves(&Apart { records: node.engine.backup(0), readable: usize::MAX, index: None }, spec).unwrap();
    let scrubbed = node.end(counted);
    assert_eq!((scrubbed.index_failed, scrubbed.reindexed, scrubbed.exact), (true, u64::from(KEYS) - 1, true));
    assert_eq!(node.index().len(), usize::from(KEYS) - 1);
}

#[test]
fn leaves_that_cannot_be_read_keep_their_entries() {
    let mut node = older();
    node.scrub();
    let spec = node.begin();
    // The first of two leaves, and half of the other.
    let (records, index) = (node.engine.backup(0), Some(node.engine.backup(0)));
    let apart = Apart { records, readable: usize::from(KEYS) * 3 / 4, index };
    let counted = count_leaves(&apart, spec).unwrap();
    assert_eq!((counted.items.len(), counted.mends.len()), (usize::from(KEYS) / 2, 0));
    assert!(node.end(counted).exact);
    assert_eq!(node.index(), node.due());
}

#[test]
fn of_a_rotten_record_nothing_is_said_until_it_is_wiped() {
    let mut node = older();
    node.scrub();
    node.rot(Family::Objects, 3);
    let scrubbed = node.scrub();
    assert_eq!((scrubbed.reindexed, scrubbed.rotten), (0, vec![place(3)]));
    assert_eq!(node.index().len(), usize::from(KEYS));
    assert_eq!(node.read(3), None);
    node.commit();
    assert_eq!(node.index().len(), usize::from(KEYS) - 1);
}
