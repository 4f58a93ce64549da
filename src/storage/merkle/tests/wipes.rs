//! Records that have rotted, and what becomes of them.

use super::*;
use crate::storage::{Healing, OpFailure, Outcome, Wiped, hint_key};

const TREE: TreeId = TreeId { partition: PartitionId(0), n: 3 };
const TARGET: NodeId = NodeId(7);

fn healing() -> Healing {
    let all = || shape().trees().collect();
    Healing { shared: all(), members: vec![NodeId(1), TARGET], ..Healing::default() }
}

/// A node whose records other nodes hold too, one of which is rotten and had a hint.
fn rotten(healing: Healing) -> Node {
    let mut node = full();
    node.run(0, Op::Merge { round: Round::default(), object: object(0), hints: vec![NewHint::counted(TARGET, 1)] });
    node.commit();
    node.shards[0].take_hint_changes();
    rot(&node, 0);
    node.shards[0].set_healing(healing);
    node
}

fn rot(node: &Node, nth: u8) {
    let mut batch = Batch::new();
    batch.put(Family::Objects, &place(nth), b"rot");
    node.engine.commit(&mut batch).unwrap();
}

impl Node {
    fn done(&mut self, nth: u8, op: Op) -> Result<Outcome, OpFailure> {
        let mut done = Vec::new();
        self.shards[0].submit(Task { purpose: (), key: place(nth), op }, &mut done);
        done.remove(0).1
    }

    fn leaf(&self) -> Place {
        (TREE, shape().leaf_of(shape().place(&place(0)).unwrap().1, self.leaves))
    }

    fn lacking(&self) -> Vec<Place> {
        self.trees_of(TREE).lacking().collect()
    }
}

#[test]
fn whoever_meets_rot_wipes_it_and_marks_its_leaf() {
    let mut node = rotten(healing());
    assert_eq!(node.done(0, Op::Read), Ok(Outcome::Read { object: None, round: Round::default() }));
    let place_of = node.leaf();
    assert_eq!(node.shards[0].take_wiped(), [Wiped { place: place_of, lacks: true, stretch: false }]);
    let changes = node.shards[0].take_hint_changes();
    assert_eq!(changes.iter().map(|change| (change.target, change.new)).collect::<Vec<_>>(), [(TARGET, None)]);
    assert!(changes[0].old.is_some_and(|old| old.counted));
    // Nothing is said of the tree until its leaf has been counted, in this run or in the next.
    assert_eq!(node.trees_of(TREE).root(TREE), None);
    node.commit();
    assert_eq!(node.engine.peek(Family::Objects, &place(0)), None);
    assert_eq!(node.engine.peek(Family::Hints, &hint_key(TARGET, &place(0))), None);
    let mut node = Node::start(node.engine, 1, node.leaves);
    assert_eq!((node.trees_of(TREE).root(TREE), node.lacking()), (None, vec![place_of]));
    node.count_all();
    node.check().unwrap();
    assert_eq!(node.lacking(), [place_of]);
    node.shards[0].heal(TREE);
    node.commit();
    assert_eq!(node.lacking(), []);
    let node = Node::start(node.engine, 1, node.leaves);
    assert_eq!(node.lacking(), []);
    node.check().unwrap();
}

#[test]
fn what_comes_for_a_rotten_record_takes_its_place() {
    let mut node = rotten(healing());
    node.done(0, Op::Merge { round: Round::default(), object: object(55), hints: Vec::new() }).unwrap();
    node.commit();
    node.count_all();
    node.check().unwrap();
    let record = Record::decode(node.engine.peek(Family::Objects, &place(0)).unwrap()).unwrap();
    assert_eq!((record.own, record.hints.len(), record.object), (None, 0, object(55)));
    assert_eq!(node.lacking(), [node.leaf()]);
}

#[test]
fn a_scrub_finds_rot_and_the_next_operation_wipes_it() {
    let mut node = rotten(healing());
    let (corrected, found) = node.scrub();
    assert_eq!((corrected, found), (0, vec![place(0)]));
    assert!(node.shards[0].take_wiped().is_empty());
    node.done(0, Op::Read).unwrap();
    node.count_all();
    node.check().unwrap();
    assert_eq!(node.scrub(), (0, Vec::new()));
}

#[test]
fn what_a_node_keeps_for_others_leaves_no_lack() {
    let mut node = rotten(Healing { foreign: shape().trees().collect(), ..healing_of_none() });
    assert_eq!(node.done(0, Op::Read), Ok(Outcome::Read { object: None, round: Round::default() }));
    assert_eq!(node.shards[0].take_wiped(), [Wiped { place: node.leaf(), lacks: false, stretch: false }]);
    node.commit();
    node.count_all();
    node.check().unwrap();
    assert_eq!(node.lacking(), []);
    let node = Node::start(node.engine, 1, node.leaves);
    node.check().unwrap();
}

fn healing_of_none() -> Healing {
    Healing { members: vec![TARGET], ..Healing::default() }
}

#[test]
fn the_only_copy_stays_and_no_failed_read_is_rot() {
    let mut node = rotten(healing_of_none());
    assert!(matches!(node.done(0, Op::Read), Err(OpFailure::Unreadable { rotten: true, .. })));
    assert!(node.engine.peek(Family::Objects, &place(0)).is_some());
    // A disk that fails to answer may answer another time.
    let mut node = Node::start(node.engine, 1, node.leaves);
    node.shards[0].set_healing(healing());
    let (key, mut done) = (place(8), Vec::new());
    node.engine.arm(crate::storage::Fault::Read);
    let task = Task { purpose: (), key: key.clone(), op: Op::Read };
    assert_eq!(node.shards[0].submit(task, &mut done), Some(key.clone()));
    let read = Store::<MemoryEngine, ()>::read(&node.engine, &key).map_err(OpFailure::from);
    node.shards[0].resume(&key, read, &mut done);
    assert!(matches!(done.remove(0).1, Err(OpFailure::Unreadable { rotten: false, .. })));
    assert!(node.shards[0].take_wiped().is_empty());
}

/// Its checksum is right. Whoever goes back a version keeps it, on this node and on all others.
#[test]
fn what_a_newer_version_has_written_is_refused_and_stays() {
    let mut node = full();
    node.shards[0].set_healing(healing());
    let root = node.trees_of(TREE).root(TREE);
    let mut bytes = node.engine.peek(Family::Objects, &place(0)).unwrap().to_vec();
    bytes[0] += 1;
    let sealed = bytes.len() - 8;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..sealed]);
    bytes[sealed..].copy_from_slice(&sum.to_be_bytes());
    let mut batch = Batch::new();
    batch.put(Family::Objects, &place(0), &bytes);
    node.engine.commit(&mut batch).unwrap();
    let merge = Op::Merge { round: Round::default(), object: object(55), hints: Vec::new() };
    for op in [Op::Read, merge] {
        let Err(OpFailure::Newer { detail }) = node.done(0, op) else { panic!("it is refused") };
        assert!(detail.contains("format 2") && detail.contains("a newer dynkv"), "{detail}");
    }
    // The scrub and the exchange count it, and go on.
    assert_eq!(node.scrub(), (0, Vec::new()));
    let spec = node.shards[0].begin_count(TREE.partition, Some(0)).unwrap();
    let scrubbed = node.shards[0].end_count(count_leaves(&*node.engine, spec)).unwrap();
    assert_eq!((scrubbed.newer, scrubbed.exact, scrubbed.uncounted), (1, true, false));
    assert_eq!((scrubbed.rotten, scrubbed.hopeless), (Vec::new(), Vec::new()));
    node.commit();
    assert_eq!((node.trees_of(TREE).root(TREE), node.shards[0].take_wiped()), (root, Vec::new()));
    assert_eq!(node.engine.peek(Family::Objects, &place(0)).unwrap(), bytes);
    assert_eq!(node.lacking(), []);
}

#[test]
fn rot_that_is_wiped_during_a_count_is_in_it() {
    let mut node = rotten(healing());
    node.commit();
    let spec = node.shards[0].begin_count(TREE.partition, Some(0)).unwrap();
    let counted = count_leaves(&*node.engine, spec);
    node.done(0, Op::Merge { round: Round::default(), object: object(56), hints: Vec::new() }).unwrap();
    let scrubbed = node.shards[0].end_count(counted).unwrap();
    assert!(scrubbed.exact && !scrubbed.uncounted);
    node.commit();
    node.check().unwrap();
}

#[test]
fn an_unknown_tree_is_counted_anew_over_a_wipe() {
    let node = rotten(Healing::default());
    let mut batch = Batch::new();
    batch.delete_range(Family::Merkle, &[], &[0xff]);
    node.engine.commit(&mut batch).unwrap();
    let mut node = Node::start(node.engine, 1, node.leaves);
    node.shards[0].set_healing(healing());
    // It is counted as though there were nothing; then it is gone indeed, and another takes its place.
    let spec = node.shards[0].begin_count(TREE.partition, None).unwrap();
    node.shards[0].end_count(count_leaves(&*node.engine, spec)).unwrap();
    node.done(0, Op::Merge { round: Round::default(), object: object(57), hints: Vec::new() }).unwrap();
    node.commit();
    node.count_all();
    node.check().unwrap();
    assert_eq!(unknown(&node), 0);
}

#[test]
fn marks_are_kept_over_other_leaves_and_damage() {
    let mut node = rotten(healing());
    node.done(0, Op::Read).unwrap();
    node.commit();
    let coarse = Node::start(node.engine.clone(), 1, leaves(32));
    assert_eq!(coarse.lacking(), [(TREE, node.leaf().1 / 2)]);
    let mut fine = Node::start(node.engine.clone(), 1, leaves(128));
    assert_eq!(fine.lacking().len(), 4, "two of 64 for one of 32");
    fine.count_all();
    fine.check().unwrap();
    let (key, _) = node.engine.survey(Family::Merkle).into_iter().find(|(key, _)| key[0] == disk::WIPED).unwrap();
    let mut batch = Batch::new();
    batch.put(Family::Merkle, &key, b"rot");
    node.engine.commit(&mut batch).unwrap();
    let node = Node::start(node.engine, 1, leaves(128));
    assert_eq!(node.lacking().len(), 128, "it may have been any");
}
