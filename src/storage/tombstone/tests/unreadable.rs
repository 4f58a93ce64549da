//! The index where parts of the disk cannot be read, of the records or of the index itself; and what reaping is told of them.

use super::*;
use crate::storage::{Holds, TombstoneSpec, read_tombstone_page};

fn tombstones() -> Node {
    let mut node = Node::new();
    (0..KEYS).for_each(|nth| node.write(nth, Body::Tombstone, true));
    node.commit();
    node
}

impl Node {
    fn rot_range(&self, family: Family, seed: u64) -> Vec<Bytes> {
        self.engine.rot_range(family, 4, &mut StdRng::seed_from_u64(seed))
    }

    /// Whether all of the index can be read.
    fn has_whole_index(&self) -> bool {
        let spec = TombstoneSpec { partition: PartitionId(0), n: None, after: None, limit: usize::MAX };
        read_tombstone_page(&*self.engine, &spec, &shape()).is_ok_and(|page| page.unreadable == 0)
    }

    fn hold_nothing_shared(&mut self) {
        self.store.set_healing(Healing::default());
    }

    fn digest(&mut self, nth: u8) -> Digest {
        self.read(nth).unwrap().digest()
    }
}

fn is_unknown(result: &Result<Outcome, OpFailure>) -> bool {
    matches!(result, Err(OpFailure::Unreadable { rotten: true, .. }))
}

proptest! {
    /// Wherever it is, and whatever is written before it is met, after that, or before the outcome is known: no entry is lost by it.
    #[test]
    fn an_index_that_cannot_be_read_is_filled_again_from_the_records(
        before in proptest::collection::vec(act(), 1..40),
        seed: u64,
        during in proptest::collection::vec((0..KEYS, any::<bool>(), any::<bool>(), any::<bool>()), 0..12),
        read_at in 0usize..12,
        hopeless: bool,
    ) {
        let mut node = Node::new();
        for act in before {
            node = node.act(act);
        }
        node.commit();
        let is_rotten = !node.rot_range(Family::Tombstones, seed).is_empty();
        if hopeless {
            node.hold_nothing_shared();
        }
        let (spec, mut counted) = (node.begin(), None);
        for (at, step) in during.into_iter().enumerate() {
            if at >= read_at {
                counted.get_or_insert_with(|| count_leaves(&*node.engine, spec.clone()).unwrap());
            }
            node.step(step);
        }
        let counted = counted.unwrap_or_else(|| count_leaves(&*node.engine, spec).unwrap());
        let scrubbed = node.end(counted);
        prop_assert!(scrubbed.exact && !scrubbed.index_failed);
        prop_assert_eq!(scrubbed.reindexed > 0, is_rotten);
        prop_assert_eq!(node.index(), node.due());
        prop_assert!(node.has_whole_index());
        prop_assert_eq!(node.scrub().reindexed, 0, "once is enough");
    }

    /// What is wiped of the records is wiped of the index, in the same batch.
    #[test]
    fn a_stretch_is_wiped_with_its_entries(seed: u64, lost: Option<u64>) {
        let mut node = tombstones();
        let keys = node.rot_range(Family::Objects, seed);
        node.engine.sync().unwrap();
        let spec = node.begin();
        let counted = count_leaves(&*node.engine, spec).unwrap();
        prop_assert_eq!(node.end(counted).stretches > 0, !keys.is_empty());
        if let Some(seed) = lost {
            node.engine.power_loss(&mut StdRng::seed_from_u64(seed));
        }
        let all = usize::from(KEYS);
        if keys.iter().any(|key| node.engine.peek(Family::Objects, key).is_some()) {
            prop_assert_eq!(node.index().len(), all, "the whole batch is lost");
        } else {
            prop_assert_eq!(node.index(), node.due());
            prop_assert!(node.index().len() < all);
            prop_assert_eq!(node.scrub().reindexed, 0);
        }
    }
}

#[test]
fn a_stretch_that_stays_keeps_its_entries() {
    let mut node = tombstones();
    node.hold_nothing_shared();
    node.rot_range(Family::Objects, 1);
    let before = node.index();
    let scrubbed = node.scrub();
    assert_eq!((scrubbed.stretches, scrubbed.reindexed, scrubbed.hopeless.is_empty()), (0, 0, false));
    assert_eq!(node.index(), before);
}

#[test]
fn a_stretch_that_somebody_works_on_keeps_its_entries_for_now() {
    let mut node = tombstones();
    let keys = node.rot_range(Family::Objects, 1);
    let nth = (0..KEYS).find(|nth| place(*nth) == keys[0]).unwrap();
    let before = node.index();
    let spec = node.begin();
    let counted = count_leaves(&*node.engine, spec).unwrap();
    assert_eq!(node.read(nth), None, "the read has wiped it");
    let scrubbed = node.end(counted);
    assert_eq!((scrubbed.stretches, scrubbed.exact, scrubbed.reindexed), (0, false, 0));
    assert_eq!(node.index().len(), before.len() - 1);
    assert!(node.scrub().stretches > 0);
    assert_eq!(node.index(), node.due());
}

/// A runner takes a failure for [`Holds::Other`].
#[test]
fn of_what_cannot_be_read_no_runner_is_told_that_it_was_nothing() {
    for hopeless in [false, true] {
        let mut node = tombstones();
        let digest = node.digest(3);
        node.commit();
        if hopeless {
            node.hold_nothing_shared();
        }
        node.rot(Family::Objects, 3);
        let task = Task { purpose: (), key: place(3), op: Op::Inspect { digest } };
        let mut done = Vec::new();
        assert_eq!(node.store.fence(PartitionId(0), Round(1), vec![task], &mut done), [] as [Bytes; 0]);
        assert!(is_unknown(&done[0].1), "{done:?}");
        assert!(is_unknown(&node.run(3, Op::Inspect { digest })));
        assert!(is_unknown(&node.run(3, Op::Reap { round: Round(1), digest })));
        node.commit();
        let next = node.run(3, Op::Inspect { digest });
        if hopeless {
            assert!(is_unknown(&next));
        } else {
            // It is gone, and with it all that it could have said.
            assert_eq!(next, Ok(Outcome::Inspected { holds: Holds::Nothing, round: Round(1) }));
        }
    }
}

#[test]
fn nor_of_a_stretch_that_is_wiped_at_this_moment() {
    let mut node = tombstones();
    let keys = node.rot_range(Family::Objects, 1);
    let nth = (0..KEYS).find(|nth| place(*nth) == keys[0]).unwrap();
    let spec = node.begin();
    let counted = count_leaves(&*node.engine, spec);
    assert!(node.store.end_count(counted).unwrap().stretches > 0);
    let digest = Digest([1; 16]);
    assert!(is_unknown(&node.run(nth, Op::Inspect { digest })));
    assert_eq!(node.read(nth), None);
    assert!(is_unknown(&node.run(nth, Op::Reap { round: Round(1), digest })));
    node.commit();
    assert!(matches!(node.run(nth, Op::Inspect { digest }), Ok(Outcome::Inspected { holds: Holds::Nothing, .. })));
}
