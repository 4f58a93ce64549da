//! Counts of leaves, while what they count changes.

use super::*;
use crate::storage::{Healing, OpFailure, Scrubbed};

/// A node that has forgotten its trees.
fn forgetful() -> Node {
    let node = full();
    let mut batch = Batch::new();
    batch.delete_range(Family::Merkle, &[], &[0xff]);
    node.engine.commit(&mut batch).unwrap();
    Node::start(node.engine, 1, node.leaves)
}

impl Node {
    fn begin(&mut self, partition: u16, from: Option<u32>) -> Option<CountSpec> {
        self.commit();
        self.shards[0].begin_count(PartitionId(partition), from)
    }

    fn end(&mut self, counted: Result<Counted, OpFailure>) -> Scrubbed {
        self.shards[0].end_count(counted).unwrap()
    }

    /// Counts what has to be, with nothing in between.
    pub(super) fn count_all(&mut self) {
        for partition in 0..4 {
            while let Some(spec) = self.begin(partition, None) {
                let counted = count_leaves(&*self.engine, spec);
                assert!(self.end(counted).exact);
            }
        }
        self.commit();
    }

    /// Reads everything: leaves that were corrected, keys that are rotten.
    pub(super) fn scrub(&mut self) -> (u64, Vec<Bytes>) {
        let (mut corrected, mut rotten) = (0, Vec::new());
        for partition in 0..4 {
            let mut from = 0;
            while from < self.leaves.count() {
                let spec = self.begin(partition, Some(from)).unwrap();
                let counted = count_leaves(&*self.engine, spec);
                let mut scrubbed = self.end(counted);
                from = scrubbed.through;
                corrected += scrubbed.corrected;
                rotten.append(&mut scrubbed.rotten);
            }
        }
        self.commit();
        (corrected, rotten)
    }

    /// Something is deleted behind the back of the trees.
    fn lose(&self, nth: u8) {
        let mut batch = Batch::new();
        batch.delete(Family::Objects, &place(nth));
        self.engine.commit(&mut batch).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Merge(u8),
    Lend(u8),
    Discard(u8),
    Commit,
    Begin(u16, Option<u32>),
    Scan,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..32).prop_map(Step::Merge),
        2 => (0u8..32).prop_map(Step::Lend),
        2 => (0u8..32).prop_map(Step::Discard),
        4 => Just(Step::Commit),
        4 => (0u16..4, proptest::option::of(0u32..64)).prop_map(|(partition, from)| Step::Begin(partition, from)),
        4 => Just(Step::Scan),
        4 => Just(Step::End),
    ]
}

proptest! {
    /// Whatever is written while leaves are counted, before the scan, after it, or before its outcome is known: what comes of it
    /// is exact, in trees that were known and in those that were not, and in the next run.
    #[test]
    fn counts_are_exact_under_writes(
        steps in proptest::collection::vec(step(), 1..80),
        lost in proptest::option::of(0u8..32),
        known: bool,
    ) {
        let mut node = if known { full() } else { forgetful() };
        node.leaves = leaves(64);
        if let Some(lost) = lost {
            node.lose(lost);
        }
        let (mut begun, mut scanned) = (None, None);
        for (serial, step) in (100..).zip(steps) {
            let hints = vec![NewHint::counted(NodeId(7), 1)];
            match step {
                Step::Merge(nth) => node.run(nth, Op::Merge { round: Round::default(), object: object(serial), hints: Vec::new() }),
                Step::Lend(nth) => node.run(nth, Op::Merge { round: Round::default(), object: object(serial), hints }),
                Step::Discard(nth) => {
                    node.run(nth, Op::DiscardHint { target: NodeId(7), counted_too: true, keep_object: false });
                }
                Step::Commit => node.commit(),
                Step::Begin(partition, from) if begun.is_none() && scanned.is_none() => {
                    begun = node.begin(partition, from);
                }
                Step::Begin(..) => {}
                Step::Scan => scanned = scanned.or(begun.take().map(|spec| count_leaves(&*node.engine, spec))),
                Step::End => {
                    if let Some(counted) = scanned.take() {
                        prop_assert!(node.end(counted).exact);
                    }
                }
            }
        }
        node.count_all();
        prop_assert_eq!(unknown(&node), 0);
        let (corrected, rotten) = node.scrub();
        prop_assert!(corrected <= u64::from(lost.is_some()) && rotten.is_empty(), "{corrected}");
        node.check()?;
        prop_assert_eq!(node.scrub(), (0, Vec::new()), "once is enough");
        let node = Node::start(node.engine, 2, node.leaves);
        prop_assert_eq!(unknown(&node), 0);
        node.check()?;
    }
}

#[test]
fn what_is_wrong_is_put_right_and_counted_once() {
    let mut node = full();
    node.lose(3);
    assert_eq!(node.scrub(), (1, Vec::new()));
    node.check().unwrap();
    assert_eq!(node.scrub(), (0, Vec::new()));
}

#[test]
fn a_count_over_which_too_much_changes_is_given_up() {
    let mut node = full();
    node.lose(0);
    let spec = node.begin(0, Some(0)).unwrap();
    node.shards[0].trees_mut().set_max_touched(1);
    for nth in [8, 16] {
        node.run(nth, Op::Merge { round: Round::default(), object: object(77), hints: Vec::new() });
    }
    let counted = count_leaves(&*node.engine, spec);
    let scrubbed = node.end(counted);
    assert_eq!((scrubbed.exact, scrubbed.corrected), (false, 0));
    assert_eq!(node.scrub().0, 1);
    node.check().unwrap();
}

#[test]
fn a_count_that_fails_changes_nothing() {
    let mut node = full();
    node.begin(0, Some(0)).unwrap();
    assert!(node.shards[0].end_count(Err(OpFailure::Overloaded)).is_err());
    node.check().unwrap();
    node.scrub();
    node.check().unwrap();
}

#[test]
fn a_count_stops_between_leaves_when_it_has_read_enough() {
    let node = Node::start(Arc::new(MemoryEngine::new(MemoryConfig::default())), 1, leaves(64));
    let mut batch = Batch::new();
    let large = vec![0; 3 << 20];
    // Of two leaves, two and one.
    for nth in [0, 1, 8] {
        batch.put(Family::Objects, &place(nth), &large);
    }
    node.engine.commit(&mut batch).unwrap();
    let spec = |of| CountSpec {
        partition: PartitionId(0),
        leaves: leaves(64),
        of,
        shape: shape(),
        hasher: ItemHasher::new(&SECRET),
    };
    let at = |nth| shape().leaf_of(shape().place(&place(nth)).unwrap().1, leaves(64));
    let counted = count_leaves(&*node.engine, spec(0..64)).unwrap();
    assert_eq!((counted.of, counted.records), (0..at(8), 2));
    let counted = count_leaves(&*node.engine, spec(at(8)..64)).unwrap();
    assert_eq!((counted.of, counted.records, counted.rotten.len()), (at(8)..64, 1, 1));
}

#[test]
fn hopeless_rot_keeps_what_it_has_added() {
    let mut node = full();
    node.shards[0].set_healing(Healing::default());
    let before =
        node.trees_of(TreeId { partition: PartitionId(0), n: 3 }).root(TreeId { partition: PartitionId(0), n: 3 });
    let mut batch = Batch::new();
    batch.put(Family::Objects, &place(0), b"rot");
    node.engine.commit(&mut batch).unwrap();
    assert_eq!(node.scrub(), (0, Vec::new()));
    let spec = node.shards[0].begin_count(PartitionId(0), Some(0)).unwrap();
    let scrubbed = node.shards[0].end_count(count_leaves(&*node.engine, spec)).unwrap();
    assert_eq!((scrubbed.hopeless, scrubbed.rotten), (vec![place(0)], Vec::new()));
    assert_eq!(
        node.trees_of(TreeId { partition: PartitionId(0), n: 3 }).root(TreeId { partition: PartitionId(0), n: 3 }),
        before
    );
}
