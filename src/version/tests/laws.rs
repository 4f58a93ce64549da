//! The laws, over objects as histories leave them (see [`history`](super::history)), not over arbitrary structures.

use proptest::prelude::*;

use super::history::{World, actions};
use super::{CausalContext, Dot, context, sibling};
use crate::version::{Actor, Object, Sibling, Versions};

/// What a last-write-wins bucket goes through without contexts: writes by each of three replicas' own actor, at clocks
/// that disagree, and merges.
#[derive(Clone, Copy, Debug)]
enum Blind {
    Put { at: usize, wall_ms: u64 },
    Sync { from: usize, to: usize },
}

fn blind() -> impl Strategy<Value = Vec<Blind>> {
    let put = (0usize..3, 0u64..20).prop_map(|(at, wall_ms)| Blind::Put { at, wall_ms });
    let sync = (0usize..3, 0usize..3).prop_map(|(from, to)| Blind::Sync { from, to });
    prop::collection::vec(prop_oneof![put, sync], 1..30)
}

/// The copies that the replicas of such a bucket end up with.
fn after(history: &[Blind]) -> [Option<Object>; 3] {
    let mut replicas: [Option<Object>; 3] = Default::default();
    for (counter, step) in (1..).zip(history) {
        match *step {
            Blind::Put { at, wall_ms } => {
                let mut write = sibling(super::dot(at as u64, counter), "v");
                write.wall_ms = wall_ms;
                replicas[at] = Some(Object::update_lww(replicas[at].as_ref(), &CausalContext::new(), write));
            }
            Blind::Sync { from, to } => replicas[to] = merge_of(replicas[to].iter().chain(&replicas[from])),
        }
    }
    replicas
}

fn merge_of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Option<Object> {
    objects.into_iter().fold(None, |merged: Option<Object>, object| {
        Some(merged.map_or_else(|| object.clone(), |merged| merged.merge(object)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The oracle's check of each step is in [`World`]: exact contexts, exact siblings, no dot twice. When in the end
    /// every copy still around is handed back, in any order, each write that any of them has known is there or was
    /// replaced by one whose author had been shown it.
    #[test]
    fn no_sibling_is_lost_and_no_dot_minted_twice(actions in actions()) {
        let world = World::after(&actions);
        let objects = world.objects(usize::MAX);
        let merged = merge_of(&objects);
        prop_assert_eq!(&merged, &merge_of(objects.iter().rev()));
        let Some(merged) = merged else { return Ok(()) };
        let held: Vec<_> = merged.siblings().iter().map(|sibling| sibling.write_id.0 as usize).collect();
        for &id in world.copies().flat_map(|copy| &copy.known) {
            prop_assert!(held.iter().any(|&sibling| sibling == id || world.replaced(id, sibling)), "write {} is lost", id);
        }
        for (i, &one) in held.iter().enumerate() {
            prop_assert!(held[i..].iter().all(|&two| !world.replaced(one, two) && !world.replaced(two, one)));
        }
    }

    #[test]
    fn merge_is_commutative_associative_and_idempotent(actions in actions()) {
        let objects = World::after(&actions).objects(6);
        for a in &objects {
            prop_assert_eq!(&a.merge(a), a);
            for b in &objects {
                let both = a.merge(b);
                prop_assert_eq!(&both, &b.merge(a));
                prop_assert_eq!(&both.merge(a), &both);
                prop_assert_eq!(a.merges_to_self(b), &both == a);
                let stays = |sibling: &Sibling| both.siblings().iter().any(|kept| kept.dot == sibling.dot);
                prop_assert_eq!(a.is_replaced_by(b), !a.siblings().iter().any(stays));
                prop_assert!(both.context().covers(a.context()));
                for c in &objects {
                    prop_assert_eq!(both.merge(c), a.merge(&b.merge(c)));
                }
            }
        }
    }

    /// So of two copies the older one need not be fetched by who has the newer.
    #[test]
    fn versions_tell_what_merging_would_change(actions in actions(), blind in blind()) {
        let blind = after(&blind).into_iter().flatten();
        let objects: Vec<Object> = World::after(&actions).objects(6).into_iter().chain(blind).collect();
        for a in &objects {
            let versions = Versions::of(a);
            let (mut bytes, mut same) = (Vec::new(), Vec::new());
            versions.encode_into(&mut bytes);
            a.encode_versions_into(&mut same);
            prop_assert_eq!((&bytes, bytes.len()), (&same, versions.encoded_len()));
            prop_assert_eq!(Versions::decode(&bytes), Ok(versions.clone()));
            for b in &objects {
                prop_assert_eq!(versions.merges_to_self(&Versions::of(b)), a.merges_to_self(b));
            }
        }
    }

    #[test]
    fn digests_are_equal_exactly_for_equal_objects(actions in actions()) {
        let objects = World::after(&actions).objects(8);
        for a in &objects {
            for b in &objects {
                prop_assert_eq!(a.digest() == b.digest(), a == b);
                prop_assert_eq!(a.is_same_version_as(b), a == b);
            }
        }
    }

    /// Trap: clocks decide at the coordinator and at the reader, never in merge, or the key could end up empty.
    #[test]
    fn last_write_wins_by_wall_clock_then_dot_whatever_the_order_of_merges(history in blind()) {
        let mut replicas: [Option<Object>; 3] = Default::default();
        let mut counters = [0; 3];
        let mut winner = None;
        for step in history {
            match step {
                Blind::Put { at, wall_ms } => {
                    counters[at] += 1;
                    let dot = Dot { actor: Actor(at as u64), counter: counters[at] };
                    let mut write = sibling(dot, "v");
                    write.wall_ms = wall_ms;
                    let shown_nothing = CausalContext::new();
                    let object = Object::update_lww(replicas[at].as_ref(), &shown_nothing, write);
                    let [sole] = object.siblings() else { panic!("an update replaces every sibling") };
                    let latest = replicas[at].as_ref().and_then(Object::newest).map_or(0, |newest| newest.wall_ms + 1);
                    prop_assert_eq!((sole.dot, sole.wall_ms), (dot, wall_ms.max(latest)));
                    winner = winner.max(Some((sole.wall_ms, dot)));
                    replicas[at] = Some(object);
                }
                Blind::Sync { from, to } => replicas[to] = merge_of(replicas[to].iter().chain(&replicas[from])),
            }
        }
        let merged = merge_of(replicas.iter().flatten());
        let newest = merged.as_ref().and_then(Object::newest);
        prop_assert_eq!(newest.map(|newest| (newest.wall_ms, newest.dot)), winner);
    }
}

#[test]
fn the_highest_clock_cannot_be_raised() {
    let write = |counter, wall_ms| super::Sibling { wall_ms, ..sibling(super::dot(1, counter), "v") };
    let first = Object::update_lww(None, &context([]), write(1, u64::MAX));
    let second = Object::update_lww(Some(&first), &context([]), write(2, 0));
    assert_eq!(second.newest().map(|newest| (newest.dot, newest.wall_ms)), Some((super::dot(1, 2), u64::MAX)));
}

#[test]
#[should_panic(expected = "a new write has a new dot")]
fn a_write_under_a_known_dot_is_a_bug() {
    Object::update(None, &context([super::dot(1, 1)]), sibling(super::dot(1, 1), "v"));
}
