//! Who is wanted and who is not: refusals, silence, and nodes that cannot be reached.

use super::*;

/// All but these can be reached.
fn without(away: &[u64]) -> impl Fn(NodeId) -> bool {
    move |node| !away.contains(&node.0)
}

fn again(slot: u8) -> Ask {
    Ask { again: true, ..ask(slot) }
}

fn quorum(r: u8, pr: u8) -> ReadQuorum {
    ReadQuorum::new(3, Level::Number(r), Some(Level::Number(pr))).unwrap()
}

/// The coordinator holds what is older than the reader has seen, and the others have been asked for more.
fn widened() -> Get {
    let new = next(&object(7), 8);
    let mut get = get(GetTerms { after: Some(new.context().clone()), stand_ins: SPARE.to_vec(), ..terms(1) });
    reply(&mut get, 0, found(&object(7)));
    assert_eq!(step(&mut get), asks(&[ask(1), ask(2)]));
    get
}

#[test]
fn who_is_busy_is_asked_again_and_who_refuses_is_not() {
    for (busy, told) in [(true, GetStep::default()), (false, told(GetVerdict::Timeout { replies: 1 }))] {
        let mut get = get(terms(3));
        reply(&mut get, 0, Found::Nothing);
        step(&mut get);
        get.on_refusal(Slot(1), NodeId(2), "it does not".into(), busy);
        assert_eq!(step(&mut get), told);
        get.on_attempt_timeout();
        assert_eq!(step(&mut get).asks, if busy { vec![again(1), again(2)] } else { vec![] });
    }
}

/// It reads its own store once, however long that takes.
#[test]
fn the_coordinator_is_not_asked_again() {
    let mut get = get(terms(2));
    assert_eq!(step(&mut get), asks(&[ask(1)]));
    get.on_attempt_timeout();
    assert_eq!(step(&mut get), asks(&[again(1), ask(2)]));
}

#[test]
fn an_answer_for_a_slot_that_is_another_s_is_none() {
    let mut get = get(terms(2));
    reply(&mut get, 0, found(&object(7)));
    step(&mut get);
    get.on_reply(Slot(0), NodeId(2), found(&object(8)), Round::default(), false);
    reply(&mut get, 0, found(&object(9)));
    assert_eq!(step(&mut get), GetStep::default());
    reply(&mut get, 1, found(&object(7)));
    assert_eq!(step(&mut get), told(answer(Some(&object(7)), &[0, 1], &[])));
}

#[test]
fn those_behind_are_named_by_slot() {
    let mut get = get(GetTerms { order: vec![Slot(0), Slot(2), Slot(1)], ..terms(3) });
    reply(&mut get, 0, found(&object(7)));
    step(&mut get);
    reply(&mut get, 2, Found::Nothing);
    reply(&mut get, 1, Found::Nothing);
    assert_eq!(step(&mut get).verdict, Some(answer(Some(&object(7)), &[0, 1, 2], &[1, 2])));
}

#[test]
fn pr_asks_for_primaries_beyond_r_and_gives_up_without_them() {
    let mut get = get(GetTerms { quorum: quorum(1, 2), stand_ins: SPARE.to_vec(), ..terms(1) });
    reply(&mut get, 0, Found::Nothing);
    assert_eq!(step(&mut get), asks(&[ask(1)]));
    get.on_refusal(Slot(1), NodeId(2), "its disk failed".into(), false);
    assert_eq!(step(&mut get), asks(&[ask(2)]));
    get.on_refusal(Slot(2), NodeId(3), "its disk failed".into(), false);
    assert_eq!(step(&mut get), told(GetVerdict::Timeout { replies: 1 }));
}

#[test]
fn stand_ins_that_cannot_be_reached_are_neither_called_nor_counted_on() {
    let mut get = get(GetTerms { stand_ins: SPARE.to_vec(), ..terms(2) });
    reply(&mut get, 0, Found::Nothing);
    let mut other = get.clone();
    assert_eq!(get.step(without(&[2, 3, 4])), asks(&[stand_in(1, NodeId(5))]));
    let verdict = GetVerdict::Unavailable { able: 1, wanted: 2, kind: "" };
    assert_eq!(other.step(without(&[2, 3, 4, 5])), told(verdict));
}

/// One is there who was called when nobody else was.
#[test]
fn a_primary_that_comes_back_is_not_asked_for_a_slot_that_is_stood_in_for() {
    let mut get = get(GetTerms { stand_ins: SPARE.to_vec(), ..terms(2) });
    reply(&mut get, 0, Found::Nothing);
    assert_eq!(get.step(without(&[2, 3])), asks(&[stand_in(1, NodeId(4))]));
    assert_eq!(get.step(without(&[2])), GetStep::default());
}

#[test]
fn a_token_is_stale_at_once_if_nobody_is_left_who_can_be_reached() {
    let mut get = get(GetTerms { after: Some(object(8).context().clone()), ..terms(1) });
    reply(&mut get, 0, found(&object(7)));
    assert_eq!(get.step(without(&[2, 3])), told(GetVerdict::Stale));
}

#[test]
fn stand_ins_are_called_for_a_token_once_no_primary_is_waited_for() {
    let called = [stand_in(1, NodeId(4)), stand_in(1, NodeId(5))];
    let mut away = widened();
    reply(&mut away, 1, Found::Nothing);
    assert_eq!(away.step(without(&[])), GetStep::default());
    let for_two = called.map(|ask| Ask { slot: Slot(2), ..ask });
    assert_eq!(away.step(without(&[3])), asks(&for_two));
    let mut late = widened();
    late.on_attempt_timeout();
    assert_eq!(step(&mut late), asks(&[again(1), again(2), called[0], called[1]]));
}
