//! The examples by which dotted version vectors are explained, and the accidents of others.

use super::{CausalContext, Dot, context, dot, sibling};
use crate::types::{Generation, WriteId};
use crate::version::{Actor, Body, Object, Own, Trust, mint};

const TRUST: Trust = Trust { generation: Generation(1), trusted_since: Generation(1), granted: true };

fn values(object: &Object) -> Vec<&str> {
    let mut values = Vec::new();
    for sibling in object.siblings() {
        values.push(match &sibling.body {
            Body::Value(value) => std::str::from_utf8(value).unwrap(),
            Body::Tombstone => "deleted",
        });
    }
    values
}

fn put(local: Option<&Object>, client: &CausalContext, dot: Dot, value: &'static str) -> Object {
    Object::update(local, client, sibling(dot, value))
}

/// Preguiça et al. 2010: two clients write through one server without having seen each other. A version vector with one
/// entry a server gives the second write {a:2}, which dominates the first's {a:1}, and loses it. The dot does not.
#[test]
fn concurrent_writes_through_one_server_are_both_kept() {
    let nothing = CausalContext::new();
    let first = put(None, &nothing, dot(1, 1), "v");
    let second = put(Some(&first), &nothing, dot(1, 2), "w");
    assert_eq!(values(&second), ["v", "w"]);
    assert_eq!(*second.context(), context([dot(1, 1), dot(1, 2)]));

    // A third client reads one of them only, at a server that the other has not reached, and replaces just that.
    let elsewhere = put(Some(&first), first.context(), dot(2, 1), "x");
    assert_eq!(values(&elsewhere), ["x"]);
    assert_eq!(values(&elsewhere.merge(&second)), ["w", "x"]);

    // A fourth is shown both and reconciles them.
    let both = second.merge(&elsewhere);
    let resolved = put(Some(&both), both.context(), dot(2, 2), "wx");
    assert_eq!(values(&resolved), ["wx"]);
    assert_eq!(values(&second.merge(&resolved)), ["wx"]);
    assert!(resolved.merges_to_self(&second) && !second.merges_to_self(&resolved));
}

/// Almeida et al. 2014, Riak's sibling explosion: two clients write in turns through one server, each with the context
/// of its own last write. One version vector for all siblings says of each write only that some of the others came
/// before it, so nothing can be dropped and siblings grow without end.
#[test]
fn interleaved_writers_do_not_make_siblings_explode() {
    let mut clients = [CausalContext::new(), CausalContext::new()];
    let mut object = None;
    for counter in 1..=100 {
        let client = &mut clients[counter as usize % 2];
        let written = put(object.as_ref(), client, dot(1, counter), "v");
        client.insert(dot(1, counter));
        let last_two: Vec<_> = (counter.saturating_sub(1).max(1)..=counter).map(|i| dot(1, i)).collect();
        assert_eq!(written.siblings().iter().map(|sibling| sibling.dot).collect::<Vec<_>>(), last_two);
        assert_eq!(*written.context(), context((1..=counter).map(|i| dot(1, i))));
        object = Some(written);
    }
}

/// Trap: a context handed back by a put that covers what its client never saw.
#[test]
fn a_put_covers_nothing_its_client_was_not_shown() {
    let read = put(None, &CausalContext::new(), dot(1, 1), "shown");
    let raced = put(Some(&read), &CausalContext::new(), dot(1, 2), "unseen");
    let mut client = read.context().clone();
    let written = put(Some(&raced), &client, dot(1, 3), "mine");
    assert_eq!(values(&written), ["unseen", "mine"]);
    client.insert(dot(1, 3));
    assert!(!client.contains(dot(1, 2)));
    assert_eq!(values(&put(Some(&written), &client, dot(1, 4), "mine again")), ["unseen", "mine again"]);
}

/// Trap (riak_kv#679): a replica loses its disk, counts from the start again, and its next write looks old to those who
/// remember. Here it draws another actor, and the write survives what is handed back.
#[test]
fn a_write_after_a_lost_disk_is_not_taken_for_an_old_one() {
    let nothing = CausalContext::new();
    let (mut record, mut own): (Option<Object>, Option<Own>) = (None, None);
    for value in ["one", "two"] {
        let client = record.as_ref().map_or_else(CausalContext::new, |object| object.context().clone());
        let (dot, owned) = mint(record.as_ref(), own, &client, &TRUST, Actor(7));
        record = Some(put(record.as_ref(), &client, dot, value));
        own = Some(owned);
    }
    let elsewhere = record.expect("two writes");
    assert_eq!(*elsewhere.context(), context([dot(7, 1), dot(7, 2)]));

    let (fresh, _) = mint(None, None, &nothing, &TRUST, Actor(3));
    let after_loss = put(None, &nothing, fresh, "three");
    assert_eq!(values(&after_loss.merge(&elsewhere)), ["three", "two"]);
}

/// Trap: a deleted and reaped key that is written again, while a copy from before the delete is still on its way.
#[test]
fn a_recreated_key_does_not_fall_to_its_former_self() {
    let nothing = CausalContext::new();
    let former = put(None, &nothing, dot(1, 1), "former");
    let mut tombstone = sibling(dot(1, 2), "");
    tombstone.body = Body::Tombstone;
    let deleted = Object::update(Some(&former), former.context(), tombstone);
    assert!(deleted.is_deleted() && !former.is_deleted());
    assert_eq!(values(&deleted.merge(&former)), ["deleted"]);

    let (fresh, _) = mint(None, None, deleted.context(), &TRUST, Actor(9));
    let recreated = put(None, deleted.context(), fresh, "again");
    assert_eq!(values(&recreated.merge(&deleted)), ["again"]);
    assert_eq!(values(&recreated.merge(&former)), ["again"]);
}

/// A retry that two coordinators carried out: readers see one write, and replace both.
#[test]
fn twins_are_shown_as_one() {
    let nothing = CausalContext::new();
    let write = |actor, id, body: &'static str| {
        let mut write = sibling(dot(actor, 1), body);
        write.write_id = WriteId(id);
        Object::update(None, &nothing, write)
    };
    let all = [write(1, 5, "x"), write(2, 5, "x"), write(3, 5, "other body"), write(4, 6, "x")];
    let object = all.iter().skip(1).fold(all[0].clone(), |merged, object| merged.merge(object));
    let shown: Vec<_> = object.collapsed().iter().map(|sibling| sibling.dot).collect();
    assert_eq!(shown, [dot(2, 1), dot(3, 1), dot(4, 1)]);
    let resolved = put(Some(&object), object.context(), dot(1, 2), "y");
    assert_eq!(values(&resolved), ["y"]);
}

#[test]
fn the_newest_has_the_latest_clock_and_among_equals_the_greatest_dot() {
    let nothing = CausalContext::new();
    let write =
        |actor, wall_ms| Object::update(None, &nothing, super::Sibling { wall_ms, ..sibling(dot(actor, 1), "v") });
    let object = write(1, 8).merge(&write(2, 9)).merge(&write(3, 9)).merge(&write(4, 7));
    assert_eq!(object.newest().map(|newest| newest.dot), Some(dot(3, 1)));
}

/// In a last-write-wins bucket a write also replaces siblings that its client was not shown, so a copy can know of that
/// write and still hold what it replaced: knowing all that the other knows is not enough for nothing to change.
#[test]
fn a_copy_that_knows_all_may_still_learn_what_was_replaced() {
    let nothing = CausalContext::new();
    let first = put(None, &nothing, dot(1, 1), "first");
    let second = Object::update_lww(Some(&first), &nothing, sibling(dot(2, 1), "second"));
    let third = put(Some(&first), &context([dot(2, 1)]), dot(3, 1), "third");
    assert!(third.context().covers(second.context()));
    assert!(!third.merges_to_self(&second));
    assert_eq!(values(&third.merge(&second)), ["third"]);
}
