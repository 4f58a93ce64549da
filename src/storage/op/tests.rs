use super::*;

fn apply(op: Op, current: Option<&Record>) -> (Change, Outcome) {
    super::apply(op, current, Round::default())
}

fn update(value: &str, client: CausalContext, fresh: u64) -> Update {
    Update { client, wall_ms: 10, body: Body::Value(value.to_owned().into()), max_siblings: 2, ..Update::nth(fresh) }
}

#[track_caller]
fn put(change: Change) -> Record {
    match change {
        Change::Put(record) => record,
        other => panic!("nothing is written: {other:?}"),
    }
}

fn written(update: Update, current: Option<&Record>) -> (Record, Dot) {
    let (change, outcome) = apply(Op::Update(Box::new(update)), current);
    let Outcome::Updated { dot, .. } = outcome else { panic!("{outcome:?}") };
    (put(change), dot)
}

fn merge(object: &Arc<Object>) -> Op {
    Op::Merge { round: Round::default(), object: object.clone(), hints: Vec::new() }
}

#[test]
fn a_second_write_here_continues_the_actor() {
    let (first, dot) = written(update("a", CausalContext::default(), 7), None);
    assert_eq!(dot, Dot { actor: Actor(7), counter: 1 });
    let (second, dot) = written(update("b", CausalContext::default(), 8), Some(&first));
    assert_eq!(dot, Dot { actor: Actor(7), counter: 2 });
    assert_eq!(second.object.siblings().len(), 2);
}

/// Trap 1: a node that forgot its state and was handed it back by merge starts a new actor.
#[test]
fn state_that_came_back_by_merge_is_not_continued() {
    let (first, _) = written(update("a", CausalContext::default(), 7), None);
    let (change, outcome) = apply(merge(&first.object), None);
    assert!(matches!(outcome, Outcome::Merged { .. }));
    let (_, dot) = written(update("b", CausalContext::default(), 8), Some(&put(change)));
    assert_eq!(dot, Dot { actor: Actor(8), counter: 1 });
}

/// Trap 1: an old copy of the record meets its own later dots.
#[test]
fn a_merge_that_knows_more_of_our_actor_ends_it() {
    let (old, _) = written(update("a", CausalContext::default(), 7), None);
    let (newer, _) = written(update("b", CausalContext::default(), 7), Some(&old));
    let (merged, _) = apply(merge(&newer.object), Some(&old));
    let (_, dot) = written(update("c", old.object.context().clone(), 9), Some(&put(merged)));
    assert_eq!(dot, Dot { actor: Actor(9), counter: 1 });
}

#[test]
fn too_many_siblings_are_refused_and_resolving_is_not() {
    let (one, _) = written(update("a", CausalContext::default(), 7), None);
    let (two, _) = written(update("b", CausalContext::default(), 7), Some(&one));
    let outcome = apply(Op::Update(Box::new(update("c", CausalContext::default(), 7))), Some(&two));
    assert_eq!(outcome, (Change::Keep, Outcome::TooManySiblings { count: 3 }));
    let (resolved, _) = written(update("d", two.object.context().clone(), 7), Some(&two));
    assert_eq!(resolved.object.siblings().len(), 1);
}

/// Trap 15: last-write-wins inside merge would empty the key; here only the coordinator's update supersedes.
#[test]
fn last_write_wins_supersedes_at_the_coordinator_and_never_in_merge() {
    let lww = |value: &str, fresh| Update { last_write_wins: true, ..update(value, CausalContext::default(), fresh) };
    let (here, _) = written(lww("a", 7), None);
    let (there, _) = written(lww("b", 8), None);
    let both = put(apply(merge(&there.object), Some(&here)).0);
    assert_eq!(both.object.siblings().len(), 2);
    let (last, _) = written(lww("c", 9), Some(&both));
    assert_eq!(last.object.siblings().len(), 1);
    assert!(last.object.siblings()[0].wall_ms > 10, "a clock that stands still does not lose the write");
}

#[test]
fn a_merge_of_the_known_writes_nothing() {
    let (record, _) = written(update("a", CausalContext::default(), 7), None);
    assert_eq!(apply(merge(&record.object), Some(&record)).0, Change::Keep);
}

fn hinted(object: &Arc<Object>, hints: &[(u64, bool, u64)], current: Option<&Record>) -> Change {
    let new = |&(target, counted, wall_ms)| NewHint { target: NodeId(target), counted, wall_ms };
    apply(
        Op::Merge { round: Round::default(), object: object.clone(), hints: hints.iter().map(new).collect() },
        current,
    )
    .0
}

fn hint(target: u64, counted: bool, object: &Object, hinted_ms: u64) -> Hint {
    Hint { target: NodeId(target), counted, digest: object.digest(), hinted_ms }
}

fn drop_of(target: u64, digest: Digest, sent: Digest, keep_object: bool, current: &Record) -> (Change, HintDrop) {
    match apply(Op::DropHint { target: NodeId(target), digest, sent, keep_object }, Some(current)) {
        (change, Outcome::HintDropped(end)) => (change, end),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_merge_keeps_a_hint_for_each_target_and_renews_it() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let (b, _) = written(update("b", CausalContext::default(), 8), None);
    let first = put(hinted(&a.object, &[(5, true, 100), (3, false, 100)], None));
    assert_eq!(first.hints, [hint(3, false, &a.object, 100), hint(5, true, &a.object, 100)]);
    assert_eq!(hinted(&a.object, &[(5, false, 200), (3, false, 200)], Some(&first)), Change::Keep);
    let renewed = put(hinted(&b.object, &[(5, false, 200)], Some(&first)));
    let both = &renewed.object;
    assert_eq!(both.siblings().len(), 2);
    assert_eq!(renewed.hints, [hint(3, false, &a.object, 100), hint(5, true, both, 100)], "counted for ever");
    let counted = put(hinted(&b.object, &[(3, true, 300)], Some(&renewed)));
    assert_eq!(counted.hints, [hint(3, true, both, 100), hint(5, true, both, 100)]);
}

#[test]
fn an_update_leaves_hints_alone() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let kept = put(hinted(&a.object, &[(5, true, 100)], Some(&a)));
    let (next, dot) = written(update("b", a.object.context().clone(), 8), Some(&kept));
    assert_eq!((next.hints, dot.actor), (kept.hints, Actor(7)));
}

#[test]
fn a_hint_is_read_with_its_object() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let kept = put(hinted(&a.object, &[(5, true, 100)], None));
    let read = |target, record| apply(Op::ReadHint { target: NodeId(target) }, record);
    let found = HintFound { round: Round::default(), object: a.object.clone(), hint: hint(5, true, &a.object, 100) };
    assert_eq!(read(5, Some(&kept)), (Change::Keep, Outcome::Hint(Some(found))));
    assert_eq!(read(6, Some(&kept)), (Change::Keep, Outcome::Hint(None)));
    assert_eq!(read(5, None), (Change::Keep, Outcome::Hint(None)));
}

#[test]
fn a_hint_goes_with_what_it_was_given_for_and_the_object_with_its_last() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let kept = put(hinted(&a.object, &[(5, true, 100), (6, true, 100)], None));
    let digest = a.object.digest();
    let (one_left, end) = drop_of(5, digest, digest, false, &kept);
    assert_eq!(end, HintDrop::Dropped);
    let one_left = put(one_left);
    assert_eq!(one_left.hints, [hint(6, true, &a.object, 100)]);
    assert_eq!(drop_of(5, digest, digest, false, &one_left), (Change::Keep, HintDrop::Absent));
    assert_eq!(drop_of(6, digest, digest, false, &one_left), (Change::Delete, HintDrop::Dropped));
    let primary = put(drop_of(6, digest, digest, true, &one_left).0);
    assert_eq!(primary, Record { own: None, hints: Vec::new(), stands_in: false, object: a.object.clone() });
}

/// A former primary's copy may be the only one: only what came with hints goes with them.
#[test]
fn an_object_that_did_not_come_with_hints_outlives_them() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let (b, _) = written(update("b", CausalContext::default(), 8), None);
    let digest = a.object.digest();
    let merged = put(apply(merge(&a.object), None).0);
    let stood_in = put(hinted(&a.object, &[(5, false, 100)], None));
    assert!(stood_in.stands_in);
    let owned_since = put(apply(merge(&a.object), Some(&stood_in)).0);
    let grown_since = put(apply(merge(&b.object), Some(&stood_in)).0);
    let (written_since, _) = written(update("c", a.object.context().clone(), 9), Some(&stood_in));
    let hinted_written = put(hinted(&a.object, &[(5, false, 100)], Some(&a)));
    let hinted_merged = put(hinted(&a.object, &[(5, false, 100)], Some(&merged)));
    for kept in [owned_since, grown_since, written_since, hinted_written, hinted_merged] {
        assert!(!kept.stands_in);
        let discard = Op::DiscardHint { target: NodeId(5), counted_too: false, keep_object: false };
        let (change, end) = apply(discard, Some(&kept));
        assert_eq!(end, Outcome::HintDropped(HintDrop::Dropped));
        let left = Record { hints: Vec::new(), ..kept.clone() };
        assert_eq!(put(change), left);
        assert_eq!(drop_of(5, digest, kept.object.digest(), false, &kept), (Change::Put(left), HintDrop::Dropped));
    }
}

/// What it was as a stand-in, it is no longer once it has been a primary.
#[test]
fn a_primary_that_drops_one_of_two_hints_stands_in_no_longer() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let kept = put(hinted(&a.object, &[(5, true, 100), (6, false, 100)], None));
    let digest = a.object.digest();
    let primary = put(drop_of(5, digest, digest, true, &kept).0);
    assert!(!primary.stands_in && primary.hints.len() == 1);
    let stand_in = put(drop_of(5, digest, digest, false, &kept).0);
    assert!(stand_in.stands_in);
}

/// Trap 13: more was missed between the sending and the acknowledgement.
#[test]
fn a_hint_renewed_since_it_was_sent_stays() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let (b, _) = written(update("b", CausalContext::default(), 8), None);
    let kept = put(hinted(&a.object, &[(5, true, 100)], None));
    let renewed = put(hinted(&b.object, &[(5, true, 100)], Some(&kept)));
    let digest = a.object.digest();
    for keep_object in [false, true] {
        assert_eq!(drop_of(5, digest, digest, keep_object, &renewed), (Change::Keep, HintDrop::Kept));
    }
}

/// What came for another is nowhere else either, for all that a stand-in knows.
#[test]
fn a_stand_ins_object_that_has_grown_since_it_was_sent_stays() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let (b, _) = written(update("b", CausalContext::default(), 8), None);
    let kept = put(hinted(&a.object, &[(5, true, 100)], None));
    let grown = put(hinted(&b.object, &[(6, false, 100)], Some(&kept)));
    let whole = grown.object.digest();
    let grown = put(drop_of(6, whole, whole, false, &grown).0);
    let digest = a.object.digest();
    assert_eq!(drop_of(5, digest, digest, false, &grown), (Change::Keep, HintDrop::Kept));
    assert_eq!(drop_of(5, digest, grown.object.digest(), false, &grown), (Change::Delete, HintDrop::Dropped));
    assert_eq!(drop_of(5, digest, digest, true, &grown).1, HintDrop::Dropped, "a primary keeps it all");
}

#[test]
fn only_an_operator_discards_a_counted_hint() {
    let (a, _) = written(update("a", CausalContext::default(), 7), None);
    let kept = put(hinted(&a.object, &[(5, true, 100), (6, false, 100)], None));
    let discard = |target, counted_too, current: &Record| {
        apply(Op::DiscardHint { target: NodeId(target), counted_too, keep_object: false }, Some(current))
    };
    assert_eq!(discard(5, false, &kept), (Change::Keep, Outcome::HintDropped(HintDrop::Kept)));
    let (change, _) = discard(6, false, &kept);
    let counted = put(change);
    assert_eq!(counted.hints, [hint(5, true, &a.object, 100)]);
    assert_eq!(discard(5, true, &counted), (Change::Delete, Outcome::HintDropped(HintDrop::Dropped)));
}

#[cfg(feature = "mutants")]
#[test]
fn a_planted_actor_outlives_its_state() {
    use crate::mutant::{Mutant, plant};
    let nothing = CausalContext::default;
    let _planted = plant(Mutant::ActorOutlivesItsState);
    let (first, dot) = written(update("a", nothing(), 7), None);
    assert_eq!(dot, Dot { actor: Actor(1), counter: 1 }, "node 1 is the actor");
    let (_, dot) = written(update("b", nothing(), 8), Some(&first));
    assert_eq!(dot, Dot { actor: Actor(1), counter: 2 });
    let (_, dot) = written(update("c", first.object.context().clone(), 9), None);
    assert_eq!(dot, Dot { actor: Actor(1), counter: 2 }, "it goes on from what the writer knows");
    let (_, dot) = written(update("d", nothing(), 10), None);
    assert_eq!(dot, Dot { actor: Actor(1), counter: 1 }, "what was forgotten is named again");
}
