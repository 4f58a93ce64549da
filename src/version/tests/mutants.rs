//! The seeded bugs of this module: each changes what it is said to change.

use super::{CausalContext, Sibling, context, dot, sibling};
use crate::mutant::{Mutant, plant};
use crate::types::{Generation, WriteId};
use crate::version::{Actor, Body, Dot, Object, Own, Trust, mint};

/// A blind write by an actor of its own.
fn blind(actor: u64) -> Object {
    Object::update(None, &CausalContext::new(), sibling(dot(actor, 1), "v"))
}

fn dots(object: &Object) -> Vec<Dot> {
    object.siblings().iter().map(|sibling| sibling.dot).collect()
}

/// What `act` leaves, as it should be and with the bug.
#[track_caller]
fn check(mutant: Mutant, act: impl Fn() -> Vec<Dot>, sound: &[Dot], broken: &[Dot]) {
    assert_eq!(act(), sound, "without {mutant:?}");
    let planted = plant(mutant);
    assert_eq!(act(), broken, "with {mutant:?}");
    drop(planted);
    assert_eq!(act(), sound, "{mutant:?} has gone");
}

#[test]
fn a_merge_loses_siblings() {
    let both = [dot(1, 1), dot(2, 1)];
    check(Mutant::MergeKeepsOne, || dots(&blind(1).merge(&blind(2))), &both, &[dot(1, 1)]);

    let late = Sibling { wall_ms: 9, ..sibling(dot(2, 1), "v") };
    let late = Object::update(None, &CausalContext::new(), late);
    check(Mutant::WallClockDominates, || dots(&blind(1).merge(&late)), &both, &[dot(2, 1)]);

    let delete = Sibling { body: Body::Tombstone, ..sibling(dot(1, 1), "") };
    let delete = Object::update(None, &CausalContext::new(), delete);
    check(Mutant::TombstoneYields, || dots(&delete.merge(&blind(2))), &both, &[dot(2, 1)]);
    check(Mutant::TombstoneYields, || dots(&delete.merge(&delete)), &[dot(1, 1)], &[dot(1, 1)]);
}

#[test]
fn what_was_replaced_comes_back() {
    let old = blind(1);
    let new = Object::update(Some(&old), old.context(), sibling(dot(2, 1), "w"));
    check(Mutant::ReplacedReturns, || dots(&old.merge(&new)), &[dot(2, 1)], &[dot(1, 1), dot(2, 1)]);
}

#[test]
fn a_write_replaces_all_or_nothing() {
    let both = blind(1).merge(&blind(2));
    let after = |known: &CausalContext| dots(&Object::update(Some(&both), known, sibling(dot(3, 1), "w")));
    let first = context([dot(1, 1)]);
    let all = [dot(1, 1), dot(2, 1), dot(3, 1)];
    check(Mutant::PlainVersionVector, || after(&first), &[dot(2, 1), dot(3, 1)], &all);
    check(Mutant::PlainVersionVector, || after(both.context()), &[dot(3, 1)], &[dot(3, 1)]);
}

#[test]
fn twins_are_two() {
    let twin = |actor| Sibling { write_id: WriteId(5), ..sibling(dot(actor, 1), "v") };
    let write = |actor| Object::update(None, &CausalContext::new(), twin(actor));
    let both = write(1).merge(&write(2));
    let shown = || both.collapsed().iter().map(|sibling| sibling.dot).collect();
    check(Mutant::TwinsShown, shown, &[dot(2, 1)], &[dot(1, 1), dot(2, 1)]);
}

#[test]
fn an_actor_of_an_old_copy_is_continued() {
    let own = Some(Own { actor: Actor(1), minted_in: Generation(2) });
    let trust = Trust { generation: Generation(3), trusted_since: Generation(3), granted: false };
    let minted = || vec![mint(Some(&blind(1)), own, &CausalContext::new(), &trust, Actor(9)).0];
    check(Mutant::OldCopyGranted, minted, &[dot(9, 1)], &[dot(1, 2)]);
}
