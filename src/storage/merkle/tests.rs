//! Trees against the data that they are of, over crashes, restarts with other settings, and damage.

mod counts;
mod stretches;
mod wipes;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::disk::{BATCH, CHECKPOINT, FORMAT_KEY, tree_key};
use super::*;
use crate::storage::{
    Batch, Engine, Family, MemoryConfig, MemoryEngine, NewHint, Op, Record, Rounds, ScanLimit, Store, StoreLimits,
    Task, object_key,
};
use crate::types::{Bucket, Key, NodeId, Round, Token, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling};

const SECRET: [u8; 32] = [5; 32];

fn leaves(count: u32) -> Leaves {
    Leaves::new(count).unwrap()
}

fn shape() -> Arc<TreeShape> {
    Arc::new(TreeShape::new(4, [("default".to_owned(), 3), ("pair".to_owned(), 2)].into()))
}

/// One of 32 keys: 4 partitions, 4 tokens, 2 buckets.
fn place(nth: u8) -> Bytes {
    let bucket = Bucket::new(if nth & 1 == 0 { "default" } else { "pair" }).unwrap();
    let partition = u64::from(nth >> 1 & 3);
    let token = partition << 62 | u64::from(nth >> 3 & 3) << 57;
    object_key(PartitionId(partition as u16), Token(token), &bucket, &Key::new(vec![nth + 1]).unwrap()).into()
}

fn object(serial: u64) -> Arc<Object> {
    let dot = Dot { actor: Actor(serial), counter: 1 };
    let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(9), wall_ms: 1, body: Body::Value("v".into()) };
    Arc::new(Object::update(None, &CausalContext::default(), sibling))
}

/// A node's shards on one disk.
struct Node {
    engine: Arc<MemoryEngine>,
    shards: Vec<Store<MemoryEngine, ()>>,
    leaves: Leaves,
}

impl Node {
    fn start(engine: Arc<MemoryEngine>, shards: u16, leaves: Leaves) -> Node {
        let forest = Forest::load(&*engine, leaves, Some(&shape())).unwrap();
        let store = |shard| {
            let mut trees = Trees::of(&forest, shard, shards, leaves, ItemHasher::new(&SECRET));
            trees.set_max_records(100);
            trees.set_shape(shape());
            Store::new(engine.clone(), StoreLimits { parked: 10, cached: 0 }, trees, Rounds::default())
        };
        Node { shards: (0..shards).map(store).collect(), engine, leaves }
    }

    fn run(&mut self, nth: u8, op: Op) {
        let key = place(nth);
        let shard = usize::from(nth >> 1 & 3) % self.shards.len();
        self.shards[shard].submit(Task { purpose: (), key, op }, &mut Vec::new());
    }

    fn commit(&mut self) {
        for store in &mut self.shards {
            store.commit().unwrap();
        }
    }

    fn trees_of(&self, tree: TreeId) -> &Trees {
        self.shards[usize::from(tree.partition.0) % self.shards.len()].trees()
    }

    /// Each tree by the data.
    fn counted(&self) -> BTreeMap<TreeId, Tree> {
        let (shape, mut hasher) = (shape(), ItemHasher::new(&SECRET));
        let mut trees: BTreeMap<TreeId, Tree> = shape.trees().map(|tree| (tree, Tree::new(self.leaves))).collect();
        let mut visit = |key: &[u8], record: &[u8]| {
            let (tree, token) = shape.place(key).unwrap();
            let record = Record::decode(Bytes::copy_from_slice(record)).unwrap();
            let leaf = shape.leaf_of(token, self.leaves);
            trees.get_mut(&tree).unwrap().add(leaf, hasher.hash(key, &record.object).0);
            ControlFlow::Continue(())
        };
        self.engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut visit).unwrap();
        trees
    }

    fn all_leaves(&self, tree: TreeId) -> SumsSpec {
        SumsSpec { tree, leaves: self.leaves, of: SumsOf::Leaves(u32::MAX) }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (tree, counted) in self.counted() {
            let kept = self.trees_of(tree);
            prop_assert_eq!(kept.root(tree), Some(counted.root()));
            let spec = self.all_leaves(tree);
            prop_assert_eq!(kept.sums(&spec), counted.sums(&spec));
        }
        Ok(())
    }

    fn records(&self) -> usize {
        count(&self.engine, BATCH)
    }
}

fn count(engine: &MemoryEngine, kind: u8) -> usize {
    let mut count = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        count += 1;
        ControlFlow::Continue(())
    };
    engine.scan(Family::Merkle, &[kind], Some(&[kind + 1]), ScanLimit::NONE, &mut visit).unwrap();
    count
}

#[derive(Clone, Debug)]
enum Act {
    Merge(u8),
    /// Comes with a hint, so that it can go again.
    Lend(u8),
    Discard(u8),
    Commit,
    Restart {
        power: Option<u64>,
        shards: u16,
        coarser: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u8..32).prop_map(Act::Merge),
        3 => (0u8..32).prop_map(Act::Lend),
        3 => (0u8..32).prop_map(Act::Discard),
        6 => Just(Act::Commit),
        1 => (any::<Option<u64>>(), 1u16..4, proptest::bool::weighted(0.1))
            .prop_map(|(power, shards, coarser)| Act::Restart { power, shards, coarser }),
    ]
}

proptest! {
    /// Trap 10: whatever is written, wherever it is torn off, and however many shards and leaves the next run has.
    #[test]
    fn trees_are_of_the_data(acts in proptest::collection::vec(act(), 1..120)) {
        let mut node = Node::start(Arc::new(MemoryEngine::new(MemoryConfig::default())), 2, leaves(128));
        for (serial, act) in (1..).zip(acts) {
            let hints = vec![NewHint::counted(NodeId(7), 1)];
            match act {
                Act::Merge(nth) => node.run(nth, Op::Merge { round: Round::default(), object: object(serial), hints: Vec::new() }),
                Act::Lend(nth) => node.run(nth, Op::Merge { round: Round::default(), object: object(serial), hints }),
                Act::Discard(nth) => {
                    node.run(nth, Op::DiscardHint { target: NodeId(7), counted_too: true, keep_object: false });
                }
                Act::Commit => {
                    node.commit();
                    node.check()?;
                }
                Act::Restart { power, shards, coarser } => {
                    match power {
                        Some(seed) => node.engine.power_loss(&mut StdRng::seed_from_u64(seed)),
                        None => node.engine.kill(),
                    };
                    let count = if coarser { leaves(32) } else { node.leaves };
                    node = Node::start(node.engine, shards, count);
                    prop_assert_eq!(node.records(), 0, "a start leaves nothing to replay");
                    node.check()?;
                }
            }
        }
        node.commit();
        node.check()?;
    }
}

/// A node with something in each tree, and its disk.
fn full() -> Node {
    let mut node = Node::start(Arc::new(MemoryEngine::new(MemoryConfig::default())), 1, leaves(64));
    for nth in 0..32 {
        node.run(nth, Op::Merge { round: Round::default(), object: object(nth.into()), hints: Vec::new() });
    }
    node.commit();
    node
}

fn unknown(node: &Node) -> usize {
    node.shards.iter().map(|store| store.trees().unknown().count()).sum()
}

#[test]
fn records_go_as_checkpoints_take_their_place() {
    let mut node = full();
    let mut most = 0;
    for serial in 100..1000 {
        node.run((serial % 32) as u8, Op::Merge { round: Round::default(), object: object(serial), hints: Vec::new() });
        node.commit();
        most = most.max(node.records());
    }
    // as many bytes as the checkpoints of 8 trees of 64 leaves
    assert!((300..400).contains(&most), "{most} records of {} bytes", disk::DIFFERENCE);
    assert_eq!(count(&node.engine, CHECKPOINT), 8, "one for each tree");
    node.check().unwrap();
}

/// Of one tree, which is written again right behind each of its checkpoints.
#[test]
fn a_start_replays_whatever_the_checkpoint_lacks() {
    let mut node = Node::start(Arc::new(MemoryEngine::new(MemoryConfig::default())), 1, leaves(32));
    let mut records = Vec::new();
    for serial in 0..100 {
        node.run(0, Op::Merge { round: Round::default(), object: object(serial), hints: Vec::new() });
        node.commit();
        records.push(node.records());
        Node::start(Arc::new(node.engine.backup(serial)), 1, node.leaves).check().unwrap();
    }
    let checkpoints = records.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(checkpoints > 2, "{records:?}");
}

#[test]
fn what_changes_no_object_changes_no_tree() {
    let mut node = full();
    let before = node.records();
    node.run(0, Op::Merge { round: Round::default(), object: object(0), hints: vec![NewHint::counted(NodeId(7), 1)] });
    node.commit();
    assert_eq!(node.records(), before);
}

#[test]
fn a_failed_batch_silences_trees_until_a_restart() {
    let mut node = full();
    node.engine.arm(crate::storage::Fault::Commit { in_log: false });
    node.run(0, Op::Merge { round: Round::default(), object: object(99), hints: Vec::new() });
    assert!(node.shards[0].commit().is_err());
    let tree = shape().trees().next().unwrap();
    assert_eq!((node.trees_of(tree).root(tree), node.trees_of(tree).sums(&node.all_leaves(tree))), (None, None));
    node.engine.kill();
    let node = Node::start(node.engine, 1, node.leaves);
    node.check().unwrap();
}

#[test]
fn a_directory_older_than_trees_has_them_all_counted() {
    let node = full();
    let mut batch = Batch::new();
    batch.delete_range(Family::Merkle, &[], &[0xff]);
    node.engine.commit(&mut batch).unwrap();
    let node = Node::start(node.engine, 2, node.leaves);
    assert_eq!(unknown(&node), 8);
    let tree = shape().trees().next().unwrap();
    assert_eq!((node.trees_of(tree).root(tree), node.trees_of(tree).sums(&node.all_leaves(tree))), (None, None));
    let again = Node::start(node.engine, 2, node.leaves);
    assert_eq!(unknown(&again), 8, "still");
    let new = Node::start(Arc::new(MemoryEngine::new(MemoryConfig::default())), 2, leaves(64));
    assert_eq!(unknown(&new), 0, "there is nothing to count");
}

#[test]
fn a_tree_of_fewer_leaves_than_wanted_is_counted_anew() {
    let node = full();
    let finer = Node::start(node.engine, 1, leaves(256));
    assert_eq!(unknown(&finer), 8);
    assert_eq!(count(&finer.engine, CHECKPOINT), 0);
}

/// Changes the bytes under a key of the family.
fn damage(engine: &MemoryEngine, key: &[u8]) {
    let mut bytes = engine.peek(Family::Merkle, key).unwrap().to_vec();
    bytes[3] ^= 1;
    let mut batch = Batch::new();
    batch.put(Family::Merkle, key, &bytes);
    engine.commit(&mut batch).unwrap();
}

#[test]
fn what_is_damaged_is_counted_anew_and_nothing_else() {
    let node = full();
    // a start makes checkpoints of all
    let node = Node::start(node.engine, 1, node.leaves);
    let tree = TreeId { partition: PartitionId(2), n: 2 };
    damage(&node.engine, &tree_key(CHECKPOINT, tree));
    let mut node = Node::start(node.engine, 1, node.leaves);
    assert_eq!(node.shards[0].trees().unknown().collect::<Vec<_>>(), [tree]);
    assert_eq!(node.trees_of(tree).root(tree), None);
    // counted, it is known again, after a restart too
    let counted = node.counted().remove(&tree).unwrap();
    let mut batch = Batch::new();
    node.shards[0].trees_mut().make_known(tree, counted, &mut batch);
    node.engine.commit(&mut batch).unwrap();
    node.check().unwrap();
    let node = Node::start(node.engine, 1, node.leaves);
    assert_eq!(unknown(&node), 0);
    node.check().unwrap();
}

#[test]
fn a_batch_that_cannot_be_read_makes_all_trees_unknown() {
    let node = full();
    let key = node.engine.survey(Family::Merkle).into_iter().map(|(key, _)| key).find(|key| key[0] == BATCH).unwrap();
    damage(&node.engine, &key);
    let node = Node::start(node.engine, 1, node.leaves);
    assert_eq!((unknown(&node), node.records(), count(&node.engine, CHECKPOINT)), (8, 0, 0));
}

#[test]
fn another_format_makes_all_trees_unknown() {
    let node = full();
    let mut batch = Batch::new();
    batch.put(Family::Merkle, FORMAT_KEY, &[9]);
    node.engine.commit(&mut batch).unwrap();
    assert_eq!(unknown(&Node::start(node.engine, 1, node.leaves)), 8);
}

fn spec(node: &Node, tree: TreeId, of: &[u32], limit: usize) -> ItemSpec {
    let (leaves, of, shape, hasher) = (node.leaves, of.to_vec(), shape(), ItemHasher::new(&SECRET));
    ItemSpec { tree, leaves, of, after: None, until: None, limit, shape, hasher }
}

/// All items of a tree, page by page.
fn items(node: &Node, tree: TreeId, of: &[u32], limit: usize) -> Vec<Item> {
    let mut all = Vec::new();
    let mut spec = spec(node, tree, of, limit);
    loop {
        let page = read_items(&*node.engine, spec.clone()).unwrap();
        assert!(page.items.len() + page.rotten.len() <= limit && page.rotten.is_empty());
        all.extend(page.items);
        match page.next {
            Some(next) => spec.after = Some(next),
            None => return all,
        }
    }
}

#[test]
fn items_are_those_of_the_leaves_and_of_no_other_tree() {
    let node = full();
    for tree in shape().trees() {
        let every: Vec<u32> = (0..64).collect();
        let all = items(&node, tree, &every, 100);
        assert_eq!(all.len(), 4);
        assert_eq!(items(&node, tree, &every, 1), all);
        let sum = all.iter().fold(0u128, |sum, item| sum.wrapping_add(item.hash.0));
        assert_eq!(node.trees_of(tree).root(tree), Some(sum));
        let by_leaf: Vec<Item> = every.iter().flat_map(|leaf| items(&node, tree, &[*leaf], 100)).collect();
        assert_eq!(by_leaf, all);
        for (at, item) in all.iter().enumerate() {
            let until = Some(item.key.clone());
            let page = read_items(&*node.engine, ItemSpec { until, ..spec(&node, tree, &every, 100) }).unwrap();
            assert_eq!(page.items, all[..=at]);
        }
    }
}

#[test]
fn a_rotten_record_is_named_and_hides_no_other() {
    let node = full();
    let tree = TreeId { partition: PartitionId(0), n: 3 };
    let rotten = items(&node, tree, &[0], 1)[0].key.clone();
    let mut batch = Batch::new();
    batch.put(Family::Objects, &rotten, b"rot");
    node.engine.commit(&mut batch).unwrap();
    let every: Vec<u32> = (0..64).collect();
    let page = read_items(&*node.engine, spec(&node, tree, &every, 100)).unwrap();
    assert_eq!((page.items.len(), page.rotten, page.next), (3, vec![rotten], None));
}
