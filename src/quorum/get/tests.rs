//! What each thing that happens makes the machine say and want.

use super::*;
use crate::quorum::Level;
use crate::types::WriteId;
use crate::version::{Actor, Body, Dot, Sibling};

mod blocking;
mod wanted;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Nodes that may stand in.
const SPARE: [NodeId; 2] = [NodeId(4), NodeId(5)];

fn terms(r: u8) -> GetTerms {
    GetTerms {
        quorum: ReadQuorum::new(3, Level::Number(r), None).unwrap(),
        order: vec![Slot(0), Slot(1), Slot(2)],
        own: Some(NodeId(1)),
        stand_ins: Vec::new(),
        all: false,
        blocking: false,
        after: None,
        everybody: true,
        second: false,
    }
}

fn get(terms: GetTerms) -> Get {
    Get::new(terms, &NODES)
}

fn sibling(actor: u64, counter: u64, len: usize) -> Sibling {
    Sibling {
        dot: Dot { actor: Actor(actor), counter },
        write_id: WriteId(u128::from(actor) << 64 | u128::from(counter)),
        node: NodeId(1),
        wall_ms: 0,
        body: Body::Value(vec![0; len].into()),
    }
}

/// A blind write.
fn object(actor: u64) -> Arc<Object> {
    Arc::new(Object::update(None, &CausalContext::default(), sibling(actor, 1, 8)))
}

/// What replaces it.
fn next(object: &Object, actor: u64) -> Arc<Object> {
    let counter = object.context().counter_of(Actor(actor)) + 1;
    Arc::new(Object::update(Some(object), object.context(), sibling(actor, counter, 8)))
}

fn large(actor: u64) -> Arc<Object> {
    Arc::new(Object::update(None, &CausalContext::default(), sibling(actor, 1, 300)))
}

fn found(object: &Arc<Object>) -> Found {
    Found::Object(object.clone())
}

fn at(slot: u8) -> (Slot, NodeId) {
    (Slot(slot), NODES[usize::from(slot)])
}

fn ask(slot: u8) -> Ask {
    let (slot, node) = at(slot);
    Ask { slot, node, known: None, stand_in: false, hedge: false, again: false }
}

fn stand_in(slot: u8, node: NodeId) -> Ask {
    Ask { node, stand_in: true, ..ask(slot) }
}

fn reply(get: &mut Get, slot: u8, found: Found) {
    let (slot, node) = at(slot);
    get.on_reply(slot, node, found, Round::default(), false);
}

fn counted(slots: &[u8]) -> Vec<Ack> {
    slots.iter().map(|slot| Ack { slot: *slot, node: at(*slot).1, stand_in: false, synced: false }).collect()
}

fn answer(object: Option<&Arc<Object>>, slots: &[u8], repaired: &[u8]) -> GetVerdict {
    let repaired = repaired.iter().map(|slot| at(*slot).1).collect();
    GetVerdict::Answer { object: object.cloned(), acks: counted(slots), repaired }
}

fn asks(asks: &[Ask]) -> GetStep {
    GetStep { asks: asks.to_vec(), ..GetStep::default() }
}

fn told(verdict: GetVerdict) -> GetStep {
    GetStep { verdict: Some(verdict), ..GetStep::default() }
}

fn repair(object: &Arc<Object>, slots: &[u8]) -> Repair {
    let to = slots.iter().map(|slot| at(*slot)).collect();
    Repair { object: object.clone(), round: Round::default(), to, sync: false, again: false }
}

/// Everybody is usable.
fn step(get: &mut Get) -> GetStep {
    get.step(|_| true)
}

#[test]
fn only_as_many_are_asked_as_must_answer_the_fastest_first() {
    let mut get = get(GetTerms { order: vec![Slot(0), Slot(2), Slot(1)], ..terms(2) });
    reply(&mut get, 0, found(&object(7)));
    assert_eq!(step(&mut get), asks(&[ask(2)]));
    assert_eq!(step(&mut get), GetStep::default(), "once");
    reply(&mut get, 2, found(&object(7)));
    assert_eq!(step(&mut get), told(answer(Some(&object(7)), &[0, 2], &[])));
    assert!(get.is_finished());
}

#[test]
fn a_coordinator_without_a_slot_asks_r_others() {
    let mut get = get(GetTerms { own: None, ..terms(2) });
    assert_eq!(step(&mut get), asks(&[ask(0), ask(1)]));
}

#[test]
fn large_objects_are_compared_by_digest() {
    let mut get = get(terms(2));
    let held = large(7);
    reply(&mut get, 0, found(&held));
    let known = Some(held.digest());
    assert_eq!(step(&mut get), asks(&[Ask { known, ..ask(1) }]));
    reply(&mut get, 1, Found::Same(held.digest()));
    assert_eq!(step(&mut get), told(answer(Some(&held), &[0, 1], &[])));
}

#[test]
fn a_digest_that_nobody_named_is_no_answer() {
    let mut get = get(terms(2));
    reply(&mut get, 0, found(&object(7)));
    step(&mut get);
    reply(&mut get, 1, Found::Same(Digest([9; 16])));
    assert_eq!(step(&mut get), asks(&[ask(2)]));
}

#[test]
fn who_is_behind_is_repaired_once_a_version() {
    let mut get = get(terms(2));
    let (old, new) = (object(7), next(&object(7), 7));
    reply(&mut get, 0, found(&new));
    step(&mut get);
    reply(&mut get, 1, found(&old));
    let repairs = vec![repair(&new, &[1])];
    let verdict = Some(answer(Some(&new), &[0, 1], &[1]));
    assert_eq!(step(&mut get), GetStep { asks: vec![], repairs, verdict });
    assert_eq!(step(&mut get), GetStep::default());
}

#[test]
fn the_coordinator_is_repaired_like_any_other_and_siblings_go_to_both() {
    let mut get = get(terms(2));
    reply(&mut get, 0, found(&object(7)));
    step(&mut get);
    reply(&mut get, 1, found(&object(8)));
    let both = Arc::new(object(7).merge(&object(8)));
    let (repairs, verdict) = (vec![repair(&both, &[0, 1])], Some(answer(Some(&both), &[0, 1], &[0, 1])));
    assert_eq!(step(&mut get), GetStep { asks: vec![], repairs, verdict });
}

#[test]
fn late_replies_repair_and_change_no_verdict() {
    let mut get = get(GetTerms { all: true, ..terms(1) });
    let (old, new) = (object(7), next(&object(7), 8));
    reply(&mut get, 0, found(&old));
    let verdict = Some(answer(Some(&old), &[0], &[]));
    assert_eq!(step(&mut get), GetStep { asks: vec![ask(1), ask(2)], repairs: vec![], verdict });
    assert!(!get.is_finished());
    reply(&mut get, 1, Found::Nothing);
    assert_eq!(step(&mut get).repairs, [repair(&old, &[1])]);
    reply(&mut get, 2, found(&new));
    assert_eq!(step(&mut get).repairs, [repair(&new, &[0, 1])]);
    assert!(get.is_finished());
}

#[test]
fn a_hedge_goes_to_the_next_and_to_nobody_if_there_is_none() {
    let mut get = get(terms(2));
    reply(&mut get, 0, Found::Nothing);
    step(&mut get);
    assert!(get.on_hedge());
    assert_eq!(step(&mut get), asks(&[Ask { hedge: true, ..ask(2) }]));
    assert!(!get.on_hedge());
    assert_eq!(step(&mut get), GetStep::default());
}

#[test]
fn a_refusal_asks_the_next_at_once() {
    let mut get = get(terms(2));
    reply(&mut get, 0, Found::Nothing);
    step(&mut get);
    get.on_refusal(Slot(1), NodeId(2), "it is overloaded".into(), true);
    assert_eq!(step(&mut get), asks(&[ask(2)]));
}

#[test]
fn who_is_late_is_made_up_for_and_asked_again() {
    let mut get = get(GetTerms { stand_ins: SPARE.to_vec(), ..terms(2) });
    reply(&mut get, 0, Found::Nothing);
    step(&mut get);
    get.on_attempt_timeout();
    assert_eq!(step(&mut get), asks(&[Ask { again: true, ..ask(1) }, ask(2)]));
    get.on_attempt_timeout();
    let again = |slot| Ask { again: true, ..ask(slot) };
    assert_eq!(step(&mut get), asks(&[again(1), again(2), stand_in(1, NodeId(4))]));
}

/// Trap 12.
#[test]
fn a_read_error_is_not_an_absence() {
    let mut get = get(terms(2));
    reply(&mut get, 0, Found::Nothing);
    step(&mut get);
    for (slot, node) in [at(1), at(2)] {
        get.on_refusal(slot, node, "its disk failed".into(), false);
    }
    assert_eq!(step(&mut get), told(GetVerdict::Timeout { replies: 1 }));
    assert!(get.is_finished());
}

#[test]
fn a_rebuilding_replica_is_merged_repaired_and_not_counted() {
    let mut get = get(GetTerms { own: None, ..terms(2) });
    step(&mut get);
    get.on_reply(Slot(0), NodeId(1), found(&object(7)), Round::default(), true);
    assert_eq!(step(&mut get), asks(&[ask(2)]));
    reply(&mut get, 1, Found::Nothing);
    reply(&mut get, 2, found(&object(7)));
    let (repairs, verdict) = (vec![repair(&object(7), &[1])], Some(answer(Some(&object(7)), &[1, 2], &[1])));
    assert_eq!(step(&mut get), GetStep { asks: vec![], repairs, verdict });
}

/// Trap 3: who stands in and has nothing was never told.
#[test]
fn a_stand_in_counts_with_an_object_and_not_with_an_absence() {
    let up = |node: NodeId| node != NodeId(2) && node != NodeId(3);
    for holds in [false, true] {
        let mut get = get(GetTerms { stand_ins: SPARE.to_vec(), ..terms(2) });
        reply(&mut get, 0, Found::Nothing);
        assert_eq!(get.step(up), asks(&[stand_in(1, NodeId(4))]));
        get.on_reply(Slot(1), NodeId(4), Found::Nothing, Round::default(), false);
        assert_eq!(get.step(up), asks(&[stand_in(1, NodeId(5))]));
        get.on_reply(
            Slot(1),
            NodeId(5),
            if holds { found(&object(7)) } else { Found::Nothing },
            Round::default(),
            false,
        );
        let step = get.step(up);
        if holds {
            let stood_in = Ack { slot: 1, node: NodeId(5), stand_in: true, synced: false };
            let acks = vec![counted(&[0])[0], stood_in];
            let verdict = GetVerdict::Answer { object: Some(object(7)), acks, repaired: vec![NodeId(1)] };
            // The stand-in is not repaired, whatever it holds.
            assert_eq!(step, GetStep { repairs: vec![repair(&object(7), &[0])], ..told(verdict) });
        } else {
            assert_eq!(step, told(GetVerdict::Unavailable { able: 1, wanted: 2, kind: "" }));
        }
    }
}

#[test]
fn too_few_nodes_are_unavailable_at_once() {
    let mut lonely = get(terms(2));
    reply(&mut lonely, 0, Found::Nothing);
    let alone = |node: NodeId| node == NodeId(1);
    assert_eq!(lonely.step(alone), told(GetVerdict::Unavailable { able: 1, wanted: 2, kind: "" }));
    let quorum = ReadQuorum::new(3, Level::One, Some(Level::Number(2))).unwrap();
    let mut primaries = get(GetTerms { quorum, stand_ins: SPARE.to_vec(), ..terms(1) });
    reply(&mut primaries, 0, Found::Nothing);
    let verdict = primaries.step(|node| node != NodeId(2) && node != NodeId(3)).verdict;
    assert_eq!(verdict, Some(GetVerdict::Unavailable { able: 1, wanted: 2, kind: "primaries; " }));
}

#[test]
fn stand_ins_never_make_pr() {
    let quorum = ReadQuorum::new(3, Level::Number(2), Some(Level::Number(2))).unwrap();
    let mut get = get(GetTerms { quorum, stand_ins: SPARE.to_vec(), ..terms(2) });
    reply(&mut get, 0, found(&object(7)));
    step(&mut get);
    get.on_attempt_timeout();
    step(&mut get);
    get.on_attempt_timeout();
    assert!(step(&mut get).asks.contains(&stand_in(1, NodeId(4))));
    get.on_reply(Slot(1), NodeId(4), found(&object(7)), Round::default(), false);
    assert_eq!(step(&mut get).verdict, None);
    reply(&mut get, 2, found(&object(7)));
    assert!(matches!(step(&mut get).verdict, Some(GetVerdict::Answer { .. })));
}

#[test]
fn blocking_repair_waits_for_the_disks_of_n_minus_r_plus_one_primaries() {
    let mut get = get(GetTerms { blocking: true, ..terms(2) });
    reply(&mut get, 0, found(&object(7)));
    step(&mut get);
    reply(&mut get, 1, found(&object(7)));
    // All of them: to hold the same is not to have it on the disk.
    let all =
        Repair { object: object(7), round: Round::default(), to: vec![at(0), at(1), at(2)], sync: true, again: false };
    assert_eq!(step(&mut get), GetStep { repairs: vec![all], ..GetStep::default() });
    get.on_durable(Slot(2), NodeId(3));
    get.on_durable(Slot(2), NodeId(3));
    assert_eq!(step(&mut get), GetStep::default(), "one primary is one");
    get.on_attempt_timeout();
    let late = Repair { object: object(7), round: Round::default(), to: vec![at(0), at(1)], sync: true, again: true };
    assert_eq!(step(&mut get), GetStep { repairs: vec![late], ..GetStep::default() });
    get.on_durable(Slot(0), NodeId(1));
    assert_eq!(step(&mut get), told(answer(Some(&object(7)), &[0, 1], &[])));
}

#[test]
fn blocking_repair_says_so_when_it_cannot() {
    let begun = || {
        let mut get = get(GetTerms { blocking: true, ..terms(1) });
        reply(&mut get, 0, found(&object(7)));
        (step(&mut get).verdict, get)
    };
    let (none, mut get) = begun();
    assert_eq!(none, None);
    get.on_durable(Slot(0), NodeId(1));
    assert_eq!(get.on_deadline(), Some(GetVerdict::Unrepaired { durable: 1, wanted: 3 }));
    let (_, mut get) = begun();
    get.on_unrepaired(Slot(1), NodeId(2), true);
    assert_eq!(step(&mut get), GetStep::default());
    get.on_unrepaired(Slot(1), NodeId(2), false);
    assert_eq!(step(&mut get), told(GetVerdict::Unrepaired { durable: 0, wanted: 3 }));
    let mut absent = self::get(GetTerms { blocking: true, ..terms(1) });
    reply(&mut absent, 0, Found::Nothing);
    assert_eq!(step(&mut absent), told(answer(None, &[0], &[])), "there is nothing to repair");
}

#[test]
fn a_token_widens_the_read_until_it_is_covered() {
    let (old, new) = (object(7), next(&object(7), 8));
    let mut get = get(GetTerms { after: Some(new.context().clone()), stand_ins: SPARE.to_vec(), ..terms(1) });
    reply(&mut get, 0, found(&old));
    assert_eq!(step(&mut get), asks(&[ask(1), ask(2)]));
    reply(&mut get, 1, Found::Nothing);
    assert_eq!(step(&mut get), GetStep::default());
    reply(&mut get, 2, found(&new));
    let (repairs, verdict) = (vec![repair(&new, &[0, 1])], Some(answer(Some(&new), &[0, 1, 2], &[0, 1])));
    assert_eq!(step(&mut get), GetStep { asks: vec![], repairs, verdict });
}

#[test]
fn a_token_that_nobody_covers_is_stale() {
    let new = next(&object(7), 8);
    let stale = |stand_ins: &[NodeId]| {
        let mut get = get(GetTerms { after: Some(new.context().clone()), stand_ins: stand_ins.to_vec(), ..terms(1) });
        reply(&mut get, 0, found(&object(7)));
        step(&mut get);
        reply(&mut get, 1, found(&object(7)));
        reply(&mut get, 2, Found::Nothing);
        get
    };
    assert_eq!(step(&mut stale(&[])), told(GetVerdict::Stale));
    let mut get = stale(&SPARE);
    assert_eq!(step(&mut get), asks(&[stand_in(0, NodeId(4)), stand_in(0, NodeId(5))]));
    get.on_reply(Slot(0), NodeId(4), Found::Nothing, Round::default(), false);
    assert_eq!(step(&mut get), GetStep::default());
    assert_eq!(get.on_deadline(), Some(GetVerdict::Stale));
}

#[test]
fn nothing_anywhere_is_no_answer_to_a_token() {
    let after = Some(object(7).context().clone());
    for rebuilding in [false, true] {
        let mut get = get(GetTerms { after: after.clone(), ..terms(1) });
        reply(&mut get, 0, Found::Nothing);
        step(&mut get);
        reply(&mut get, 1, Found::Nothing);
        assert_eq!(step(&mut get), GetStep::default());
        get.on_reply(Slot(2), NodeId(3), Found::Nothing, Round::default(), rebuilding);
        assert_eq!(step(&mut get), told(GetVerdict::Stale));
    }
}

/// With a round met, it may have been reaped: once all others have been asked too, all primaries are asked once more.
#[test]
fn nothing_anywhere_may_have_been_reaped_and_is_looked_for_again() {
    let after = Some(object(7).context().clone());
    let pass = |by_stand_in: Found, everybody: bool, round: u64, rebuilding: bool| {
        let stand_ins = vec![NodeId(4)];
        let mut get = get(GetTerms { after: after.clone(), stand_ins, everybody, ..terms(1) });
        reply(&mut get, 0, Found::Nothing);
        step(&mut get);
        reply(&mut get, 1, Found::Nothing);
        get.on_reply(Slot(2), NodeId(3), Found::Nothing, Round(round), false);
        assert_eq!(step(&mut get), asks(&[stand_in(0, NodeId(4))]));
        get.on_reply(Slot(0), NodeId(4), by_stand_in, Round::default(), rebuilding);
        (step(&mut get), get)
    };
    let told_by = |found: Found| pass(found, true, 1, false).0;
    assert_eq!(told_by(Found::Nothing), told(GetVerdict::LookAgain));
    assert_eq!(told_by(found(&object(6))), told(GetVerdict::Stale), "a stand-in has something");
    assert_eq!(pass(Found::Nothing, false, 1, false).0, told(GetVerdict::Stale), "others were not asked");
    assert_eq!(pass(Found::Nothing, true, 0, false).0, told(GetVerdict::Stale), "nothing was ever reaped");
    assert_eq!(pass(Found::Nothing, true, 1, true).0, told(GetVerdict::Stale), "the stand-in has lost its disk");
    let again = pass(Found::Nothing, true, 1, false).1.terms_to_look_again();
    for (rebuilding, verdict) in [(false, answer(None, &[0, 1, 2], &[])), (true, GetVerdict::Stale)] {
        let mut get = get(again.clone());
        reply(&mut get, 0, Found::Nothing);
        step(&mut get);
        reply(&mut get, 1, Found::Nothing);
        assert_eq!(step(&mut get).verdict, None, "one has not been heard");
        get.on_reply(Slot(2), NodeId(3), Found::Nothing, Round::default(), rebuilding);
        assert_eq!(step(&mut get), told(verdict));
    }
    let mut get = get(again);
    reply(&mut get, 0, Found::Nothing);
    step(&mut get);
    reply(&mut get, 1, Found::Nothing);
    reply(&mut get, 2, found(&object(6)));
    assert_eq!(step(&mut get).verdict, Some(GetVerdict::Stale), "one has something older by now");
}

#[cfg(feature = "mutants")]
mod planted {
    use super::*;
    use crate::mutant::{Mutant, plant};

    #[test]
    fn the_absence_of_a_stand_in_counts() {
        let _planted = plant(Mutant::StandInAbsenceCounts);
        let mut get = get(GetTerms { stand_ins: SPARE.to_vec(), ..terms(2) });
        reply(&mut get, 0, Found::Nothing);
        get.step(|node| node != NodeId(2) && node != NodeId(3));
        get.on_reply(Slot(1), NodeId(4), Found::Nothing, Round::default(), false);
        assert!(matches!(step(&mut get).verdict, Some(GetVerdict::Answer { object: None, .. })));
    }

    #[test]
    fn a_token_is_not_looked_at() {
        let _planted = plant(Mutant::SessionTokenIgnored);
        let mut get = get(GetTerms { after: Some(object(7).context().clone()), ..terms(1) });
        reply(&mut get, 0, Found::Nothing);
        assert_eq!(step(&mut get), told(answer(None, &[0], &[])));
    }
}

/// The label of a result is the round at which some replica held it; of a merge, the lowest of its parts'.
#[test]
fn a_result_is_as_old_as_its_oldest_part() {
    let (a, b) = (object(7), object(8));
    let both = Arc::new(a.merge(&b));
    let cases = [
        // First and second reply with their rounds, and the result's.
        ((&a, 5), (&b, 3), 3),
        ((&a, 3), (&b, 5), 3),
        ((&a, 3), (&both, 5), 5),
        ((&both, 5), (&a, 3), 5),
        ((&both, 3), (&a, 5), 3),
    ];
    for ((first, at), (second, then), expected) in cases {
        let mut get = get(GetTerms { blocking: true, ..terms(2) });
        get.step(|_| true);
        get.on_reply(Slot(0), NodeId(1), found(first), Round(at), false);
        get.on_reply(Slot(1), NodeId(2), found(second), Round(then), false);
        let rounds: Vec<Round> = get.step(|_| true).repairs.iter().map(|repair| repair.round).collect();
        assert_eq!(rounds, [Round(expected)], "{at} {then}");
    }
}
