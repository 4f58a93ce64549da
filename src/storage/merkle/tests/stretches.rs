//! Stretches of keys that the engine cannot read, and what becomes of them.

use super::*;
use crate::storage::{Healing, Lookup, OpFailure, Outcome, ReadTier, Scrubbed, Wiped, hint_key};

const TARGET: NodeId = NodeId(7);

fn healing() -> Healing {
    Healing { shared: shape().trees().collect(), members: vec![NodeId(1), TARGET], ..Healing::default() }
}

/// A node of which a part of the disk cannot be read: these keys lie there. What shares a token with the last of them no search tells from
/// them; but it can be read by itself, and is named by the index of hints, as all is here.
fn unreadable(seed: u64) -> (Node, Vec<Bytes>) {
    let mut node = full();
    for nth in 0..32 {
        let hints = vec![NewHint::counted(TARGET, 1)];
        node.run(nth, Op::Merge { round: Round::default(), object: object(nth.into()), hints });
    }
    node.commit();
    node.shards[0].take_hint_changes();
    let keys = node.engine.rot_range(Family::Objects, 4, &mut StdRng::seed_from_u64(seed));
    node.shards[0].set_healing(healing());
    (node, keys)
}

/// What comes for a key of which the record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Since {
    Nothing,
    Plain,
    Hinted,
    Deleted,
}

impl Since {
    fn object(self, serial: u64) -> Arc<Object> {
        let plain = object(serial);
        let tombstone = Sibling { body: Body::Tombstone, ..plain.siblings()[0].clone() };
        let deleted = || Arc::new(Object::update(None, &CausalContext::default(), tombstone));
        if self == Since::Deleted { deleted() } else { plain }
    }

    fn hints(self) -> Vec<NewHint> {
        if self == Since::Hinted { vec![NewHint::counted(TARGET, 2)] } else { Vec::new() }
    }
}

fn since() -> impl Strategy<Value = Since> {
    prop_oneof![Just(Since::Nothing), Just(Since::Plain), Just(Since::Hinted), Just(Since::Deleted)]
}

fn partition_of(key: &Bytes) -> PartitionId {
    shape().place(key).unwrap().0.partition
}

impl Node {
    fn count_of(&mut self, partition: PartitionId, from: u32) -> Scrubbed {
        self.commit();
        let spec = self.shards[0].begin_count(partition, Some(from)).unwrap();
        let counted = count_leaves(&*self.engine, spec);
        self.shards[0].end_count(counted).unwrap()
    }

    fn read(&mut self, key: &Bytes) -> Result<Outcome, OpFailure> {
        let mut done = Vec::new();
        self.shards[0].submit(Task { purpose: (), key: key.clone(), op: Op::Read }, &mut done);
        done.remove(0).1
    }

    /// The same of what is not in memory.
    fn read_cold(&mut self, key: &Bytes) -> Result<Outcome, OpFailure> {
        let (store, mut done) = (&mut self.shards[0], Vec::new());
        self.engine.arm(crate::storage::Fault::Read);
        let parked = store.submit(Task { purpose: (), key: key.clone(), op: Op::Read }, &mut done);
        assert_eq!(parked.as_ref(), Some(key));
        self.engine.disarm();
        let read = Store::<_, ()>::read(&*self.engine, key).map_err(OpFailure::from);
        store.resume(key, read, &mut done);
        done.remove(0).1
    }

    /// Reads all partitions once; how many stretches were wiped, and which stay.
    fn read_all(&mut self) -> (u64, Vec<Bytes>) {
        let (mut wiped, mut hopeless) = (0, Vec::new());
        for partition in (0..4).map(PartitionId) {
            let mut scrubbed = self.count_of(partition, 0);
            assert_eq!((scrubbed.through, scrubbed.exact, scrubbed.corrected), (self.leaves.count(), true, 0));
            wiped += scrubbed.stretches;
            hopeless.append(&mut scrubbed.hopeless);
        }
        self.commit();
        (wiped, hopeless)
    }

    fn marked(&self) -> Vec<Place> {
        shape().trees().flat_map(|tree| self.trees_of(tree).lacking().filter(move |(of, _)| *of == tree)).collect()
    }
}

proptest! {
    /// Wherever it is: what was in it goes, and nothing else does; all that may have been in it is marked; sums are exact in this run and
    /// in the next, after the power has failed too; and what comes back heals it.
    #[test]
    fn what_cannot_be_read_is_wiped_and_marked_and_nothing_else(seed: u64, power: Option<u64>) {
        let (mut node, keys) = unreadable(seed);
        let partitions: std::collections::BTreeSet<PartitionId> = keys.iter().map(partition_of).collect();
        let (wiped, hopeless) = node.read_all();
        prop_assert_eq!((wiped, hopeless), (partitions.len() as u64, Vec::new()));
        let told = node.shards[0].take_wiped();
        prop_assert!(told.iter().all(|wiped| wiped.stretch && wiped.lacks));
        if let Some(seed) = power {
            node.engine.sync().unwrap();
            node.engine.power_loss(&mut StdRng::seed_from_u64(seed));
        }
        for nth in 0..32 {
            let key = place(nth);
            let gone = keys.contains(&key);
            prop_assert_eq!(node.engine.peek(Family::Objects, &key).is_none(), gone);
            prop_assert_eq!(node.engine.peek(Family::Hints, &hint_key(TARGET, &key)).is_none(), gone);
        }
        node.check()?;
        let mut node = Node::start(node.engine, 1, leaves(64));
        node.check()?;
        let marked = node.marked();
        for key in &keys {
            let (tree, token) = shape().place(key).unwrap();
            prop_assert!(marked.contains(&(tree, shape().leaf_of(token, node.leaves))));
        }
        node.shards[0].set_healing(healing());
        prop_assert_eq!(node.read_all(), (0, Vec::new()), "it is read once more, and there is nothing any more that cannot be");
        prop_assert_eq!(node.scrub(), (0, Vec::new()));
    }
}

proptest! {
    /// What has come since stays with its entries, as the newest there is; all else goes.
    #[test]
    fn what_has_come_since_stays(
        seed: u64,
        since in proptest::collection::vec(since(), 4),
    ) {
        let (mut node, keys) = unreadable(seed);
        for (key, (serial, since)) in keys.iter().zip((900..).zip(&since)).filter(|(_, (_, since))| **since != Since::Nothing) {
            let op = Op::Merge { round: Round::default(), object: since.object(serial), hints: since.hints() };
            node.shards[0].submit(Task { purpose: (), key: key.clone(), op }, &mut Vec::new());
        }
        node.commit();
        node.shards[0].take_hint_changes();
        prop_assert!(node.read_all().0 > 0);
        let rotten = keys.iter().zip(&since).filter(|(_, since)| **since == Since::Nothing);
        let told: Vec<Bytes> = rotten.map(|(key, _)| key.clone()).collect();
        let changes = node.shards[0].take_hint_changes();
        prop_assert!(changes.iter().all(|change| change.new.is_none()));
        prop_assert_eq!(changes.into_iter().map(|change| change.key).collect::<Vec<_>>(), told);
        let mut node = Node::start(node.engine, 1, leaves(64));
        for (key, (serial, since)) in keys.iter().zip((900..).zip(since)) {
            let object = match node.engine.get(Family::Objects, key, ReadTier::Disk).unwrap() {
                Lookup::Found(bytes) => Some(Record::decode(bytes).unwrap().object),
                _ => None,
            };
            prop_assert_eq!(object, (since != Since::Nothing).then(|| since.object(serial)), "{:?}", since);
            let has = |family, key: &[u8]| node.engine.peek(family, key).is_some();
            prop_assert_eq!(has(Family::Hints, &hint_key(TARGET, key)), since == Since::Hinted);
            prop_assert_eq!(has(Family::Tombstones, key), since == Since::Deleted);
        }
        node.check()?;
        node.shards[0].set_healing(healing());
        prop_assert_eq!(node.read_all(), (0, Vec::new()));
    }
}

/// The engine cannot read it after that either. More of it would be for nothing, and would keep the count from finding the range at rest.
#[test]
fn however_often_it_is_read_it_is_wiped_once() {
    let (mut node, keys) = unreadable(3);
    let (key, nothing) = (keys[0].clone(), Ok(Outcome::Read { object: None, round: Round::default() }));
    assert_eq!(node.read(&key), nothing);
    assert_eq!(node.shards[0].take_wiped().len(), 1);
    node.commit();
    let place_of = shape().place(&key).map(|(tree, token)| (tree, shape().leaf_of(token, node.leaves))).unwrap();
    let spec = node.shards[0].begin_count(place_of.0.partition, Some(0)).unwrap();
    let counted = count_leaves(&*node.engine, spec);
    for cold in [false, true] {
        assert_eq!(if cold { node.read_cold(&key) } else { node.read(&key) }, nothing);
        assert_eq!(node.shards[0].take_wiped(), [] as [Wiped; 0]);
        assert_eq!(node.shards[0].commit(), Ok(None), "there is nothing to be written");
    }
    let mut done = Vec::new();
    let op = Op::Inspect { digest: object(1).digest() };
    node.shards[0].submit(Task { purpose: (), key: key.clone(), op }, &mut done);
    assert!(matches!(done[0].1, Err(OpFailure::Unreadable { .. })), "no runner is told that it was nothing");
    assert_eq!(node.marked(), [place_of]);
    assert_eq!(node.shards[0].end_count(counted).unwrap().stretches, 1);
    assert_eq!(node.read(&key), nothing);
}

/// A write wipes what can still be known of it: nobody who had waited for the record waits for the next one.
#[test]
fn what_is_written_after_a_read_that_wiped_nothing_has_its_own_hints() {
    let (mut node, keys) = unreadable(3);
    let hint = hint_key(TARGET, &keys[0]);
    let entry = node.engine.peek(Family::Hints, &hint).unwrap();
    node.read(&keys[0]).unwrap();
    node.commit();
    // As of another record of this leaf, which nobody has asked for yet.
    let mut batch = Batch::new();
    batch.put(Family::Hints, &hint, &entry);
    node.engine.commit(&mut batch).unwrap();
    node.read(&keys[0]).unwrap();
    let op = Op::Merge { round: Round::default(), object: object(900), hints: Vec::new() };
    node.shards[0].submit(Task { purpose: (), key: keys[0].clone(), op }, &mut Vec::new());
    node.commit();
    assert_eq!(node.engine.peek(Family::Hints, &hint), None);
    assert!(matches!(node.engine.get(Family::Objects, &keys[0], ReadTier::Disk), Ok(Lookup::Found(_))));
}

#[test]
fn its_hints_are_told_of_as_gone() {
    let (mut node, keys) = unreadable(3);
    node.read_all();
    let changes = node.shards[0].take_hint_changes();
    let told: Vec<Bytes> = changes.iter().map(|change| change.key.clone()).collect();
    assert_eq!(told, keys);
    assert!(changes.iter().all(|change| change.target == TARGET && change.new.is_none() && change.old.is_some()));
}

#[test]
fn of_what_no_other_node_has_nothing_is_wiped() {
    let (mut node, keys) = unreadable(5);
    let mut all = healing();
    let one = TreeId { partition: partition_of(&keys[0]), n: 2 };
    assert!(all.shared.remove(&one), "one tree of the partition has no other primary");
    node.shards[0].set_healing(all);
    let before: Vec<_> = shape().trees().map(|tree| node.trees_of(tree).root(tree)).collect();
    let (_, hopeless) = node.read_all();
    assert_eq!(hopeless.len(), 1);
    assert!(hopeless[0] <= keys[0]);
    assert!(node.read(&keys[0]).is_err() || shape().place(&keys[0]).unwrap().0 != one);
    assert_eq!(node.marked().iter().filter(|(tree, _)| *tree == one).count(), 0);
    // What they have added stays in the sums: the tree differs from nobody's for that.
    let after: Vec<_> = shape().trees().map(|tree| node.trees_of(tree).root(tree)).collect();
    let own = |roots: &[Option<u128>]| {
        shape().trees().zip(roots.to_vec()).filter(|(tree, _)| *tree == one).collect::<Vec<_>>()
    };
    assert_eq!(own(&after), own(&before));
}

/// A key of it that other nodes hold too was read, and wiped by itself: its leaf can be counted to the end all the same.
#[test]
fn a_leaf_of_which_something_stays_for_good_is_counted_once() {
    let is_shared = |key: &&Bytes| shape().place(key).unwrap().0.n == 3;
    let with_shared = (0..).map(unreadable).find_map(|(node, keys)| Some((node, keys.iter().find(is_shared)?.clone())));
    let (mut node, key) = with_shared.unwrap();
    let mut all = healing();
    assert!(all.shared.remove(&TreeId { partition: partition_of(&key), n: 2 }));
    node.shards[0].set_healing(all);
    let (tree, _) = shape().place(&key).unwrap();
    assert!(node.read(&key).is_ok());
    node.commit();
    assert_eq!(node.trees_of(tree).root(tree), None);
    let spec = node.shards[0].begin_count(partition_of(&key), None).unwrap();
    let scrubbed = node.shards[0].end_count(count_leaves(&*node.engine, spec)).unwrap();
    assert_eq!((scrubbed.exact, scrubbed.uncounted, scrubbed.hopeless.len()), (true, false, 1));
    assert!(node.trees_of(tree).root(tree).is_some());
    // What can be read of the other tree has not changed, nor has what is told of it.
    assert_eq!((scrubbed.corrected, node.read_all().1.len()), (0, 1));
}

#[test]
fn what_is_written_meanwhile_is_not_wiped() {
    let (mut node, keys) = unreadable(3);
    let (key, partition) = (keys[0].clone(), partition_of(&keys[0]));
    node.commit();
    let spec = node.shards[0].begin_count(partition, Some(0)).unwrap();
    let counted = count_leaves(&*node.engine, spec);
    let op = Op::Merge { round: Round::default(), object: object(900), hints: Vec::new() };
    node.shards[0].submit(Task { purpose: (), key: key.clone(), op }, &mut Vec::new());
    let scrubbed = node.shards[0].end_count(counted).unwrap();
    assert_eq!((scrubbed.stretches, scrubbed.exact, scrubbed.hopeless), (0, false, Vec::new()));
    node.commit();
    let lookup = node.engine.get(Family::Objects, &key, ReadTier::Disk).unwrap();
    let Lookup::Found(bytes) = lookup else { panic!("{lookup:?}") };
    assert_eq!(Record::decode(bytes).unwrap().object, object(900));
    assert_eq!(node.count_of(partition, 0).stretches, 1, "the next time");
    node.commit();
    assert_eq!(Record::decode(node.engine.peek(Family::Objects, &key).unwrap()).unwrap().object, object(900));
}

/// The same of what is in the engine already, but came after the count had begun.
#[test]
fn what_was_written_since_the_count_began_is_not_wiped() {
    let (mut node, keys) = unreadable(3);
    let (key, partition) = (keys[0].clone(), partition_of(&keys[0]));
    node.commit();
    let spec = node.shards[0].begin_count(partition, Some(0)).unwrap();
    let op = Op::Merge { round: Round::default(), object: object(900), hints: Vec::new() };
    node.shards[0].submit(Task { purpose: (), key: key.clone(), op }, &mut Vec::new());
    node.commit();
    let counted = count_leaves(&*node.engine, spec);
    let scrubbed = node.shards[0].end_count(counted).unwrap();
    assert_eq!((scrubbed.stretches, scrubbed.exact), (0, false));
    node.commit();
    assert!(matches!(node.engine.get(Family::Objects, &key, ReadTier::Disk), Ok(Lookup::Found(_))));
}

/// The engine shows what is wiped until the batch is written; operations of the same drain see nothing.
#[test]
fn operations_of_the_drain_that_wipes_see_nothing_of_it() {
    let (mut node, keys) = unreadable(3);
    let (key, partition) = (keys[0].clone(), partition_of(&keys[0]));
    node.commit();
    assert_eq!(node.count_of(partition, 0).stretches, 1);
    assert_eq!(node.read(&key), Ok(Outcome::Read { object: None, round: Round::default() }));
    let op = Op::Merge { round: Round::default(), object: object(901), hints: Vec::new() };
    node.shards[0].submit(Task { purpose: (), key: key.clone(), op }, &mut Vec::new());
    node.commit();
    let record = Record::decode(node.engine.peek(Family::Objects, &key).unwrap()).unwrap();
    assert_eq!((record.object, record.own), (object(901), None));
    node.count_all();
    node.check().unwrap();
}

#[test]
fn operations_of_the_drain_that_wipes_see_what_stays() {
    let (mut node, keys) = unreadable(3);
    let (key, partition) = (keys[0].clone(), partition_of(&keys[0]));
    let op = Op::Merge { round: Round::default(), object: object(900), hints: Vec::new() };
    node.shards[0].submit(Task { purpose: (), key: key.clone(), op }, &mut Vec::new());
    node.commit();
    assert_eq!(node.count_of(partition, 0).stretches, 1);
    assert_eq!(node.read(&key), Ok(Outcome::Read { object: Some(object(900)), round: Round::default() }));
}

#[test]
fn a_disk_that_does_not_answer_wipes_nothing() {
    let (mut node, keys) = unreadable(3);
    node.commit();
    let spec = node.shards[0].begin_count(partition_of(&keys[0]), Some(0)).unwrap();
    node.engine.arm(crate::storage::Fault::Read);
    let counted = count_leaves(&*node.engine, spec);
    assert!(matches!(counted, Err(OpFailure::Unreadable { rotten: false, .. })));
    assert!(node.shards[0].end_count(counted).is_err());
    assert_eq!(node.shards[0].take_wiped(), [] as [Wiped; 0]);
}

/// Trees whose own records cannot be read are counted anew, and if marks were among them, any leaf may lack something.
#[test]
fn trees_that_cannot_be_read_are_counted_anew() {
    for (kind, lacking) in [(BATCH, false), (CHECKPOINT, false), (FORMAT_KEY[0], false), (disk::WIPED, true)] {
        let mut node = unreadable(3).0;
        node.read_all();
        node.shards[0].heal(TreeId { partition: PartitionId(0), n: 3 });
        node.commit();
        let before = node.marked().len();
        let mut batch = Batch::new();
        batch.put(Family::Merkle, &tree_key(CHECKPOINT, TreeId { partition: PartitionId(9), n: 9 }), b"");
        node.engine.commit(&mut batch).unwrap();
        let all = node.engine.survey(Family::Merkle);
        let (hit, _) = all.into_iter().find(|(key, _)| key[0] == kind).unwrap();
        node.engine.rot_at(Family::Merkle, &[hit]);
        let mut node = Node::start(node.engine, 1, leaves(64));
        let all = shape().trees().count() * 64;
        assert_eq!(node.marked().len() == all, lacking, "{}: {before}", char::from(kind));
        assert!(node.marked().len() >= before);
        node.shards[0].set_healing(healing());
        node.count_all();
        node.check().unwrap();
        let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Continue(());
        node.engine.scan(Family::Merkle, &[], None, ScanLimit::NONE, &mut visit).unwrap();
    }
}
