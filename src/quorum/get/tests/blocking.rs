//! Blocking repair: what is sent to whom while the answer is withheld.

use super::*;

/// R of primaries have answered with this; the step that follows.
fn withheld(r: u8, held: &[Found]) -> (Get, GetStep) {
    let mut get = get(GetTerms { blocking: true, ..terms(r) });
    step(&mut get);
    (0..).zip(held).for_each(|(slot, held)| reply(&mut get, slot, held.clone()));
    let step = step(&mut get);
    (get, step)
}

fn synced(object: &Arc<Object>, slots: &[u8]) -> GetStep {
    let repair = Repair { sync: true, ..repair(object, slots) };
    GetStep { repairs: vec![repair], ..GetStep::default() }
}

/// The three primaries by their slots.
fn at_all(mut act: impl FnMut(Slot, NodeId)) {
    (0..3).map(at).for_each(|(slot, node)| act(slot, node));
}

#[test]
fn who_is_behind_is_sent_it_once_and_for_its_disk() {
    let (old, new) = (object(7), next(&object(7), 8));
    let (mut get, step) = withheld(2, &[found(&new), found(&old)]);
    assert_eq!(step, synced(&new, &[0, 1, 2]));
    reply(&mut get, 2, found(&old));
    assert_eq!(self::step(&mut get), GetStep::default());
}

/// The answer stays what it was; the late one's part goes to all who lack it.
#[test]
fn what_a_late_reply_adds_is_repaired_while_the_answer_waits() {
    let (mut get, step) = withheld(2, &[found(&object(7)), found(&object(7))]);
    assert_eq!(step, synced(&object(7), &[0, 1, 2]));
    reply(&mut get, 2, found(&object(8)));
    let both = Arc::new(object(7).merge(&object(8)));
    let repairs = vec![repair(&both, &[0, 1, 2])];
    assert_eq!(self::step(&mut get), GetStep { repairs, ..GetStep::default() });
    at_all(|slot, node| get.on_durable(slot, node));
    assert_eq!(self::step(&mut get), told(answer(Some(&object(7)), &[0, 1], &[])));
}

#[test]
fn an_attempt_that_was_over_before_the_repair_began_does_not_repeat_it() {
    let mut get = get(GetTerms { blocking: true, ..terms(1) });
    get.on_attempt_timeout();
    reply(&mut get, 0, found(&object(7)));
    assert_eq!(step(&mut get), synced(&object(7), &[0, 1, 2]));
    assert_eq!(step(&mut get), GetStep::default());
}

#[test]
fn who_will_not_write_it_is_not_sent_it_again_and_who_has_written_it_has() {
    let (mut get, _) = withheld(2, &[found(&object(7)), found(&object(7))]);
    get.on_unrepaired(Slot(1), NodeId(2), false);
    get.on_unrepaired(Slot(1), NodeId(2), true);
    assert_eq!(step(&mut get), GetStep::default());
    get.on_attempt_timeout();
    let again = Repair { sync: true, again: true, ..repair(&object(7), &[0, 2]) };
    assert_eq!(step(&mut get), GetStep { repairs: vec![again], ..GetStep::default() });
    get.on_durable(Slot(0), NodeId(1));
    get.on_unrepaired(Slot(0), NodeId(1), false);
    assert_eq!(step(&mut get), GetStep::default(), "what is on a disk stays there");
    get.on_unrepaired(Slot(2), NodeId(3), false);
    assert_eq!(step(&mut get), told(GetVerdict::Unrepaired { durable: 1, wanted: 2 }));
}

/// What is on too few disks would not be met by the next R.
#[test]
fn a_repair_that_too_few_can_take_is_not_begun() {
    for (away, able) in [(vec![2, 3], 1), (vec![3], 2)] {
        let mut get = get(GetTerms { blocking: true, ..terms(1) });
        reply(&mut get, 0, found(&object(7)));
        let verdict = GetVerdict::Unavailable { able, wanted: 3, kind: "primaries to repair; " };
        assert_eq!(get.step(|node| !away.contains(&node.0)), told(verdict));
    }
}
