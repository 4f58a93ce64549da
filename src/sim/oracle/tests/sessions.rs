//! What a read has to show that demands what its session has seen, and who is excused from holding what.

use super::*;

/// A read that demands what `after` led to and is shown these.
fn demand(story: &mut Story, after: OpId, siblings: &[(u128, u64)]) -> OpId {
    let (op, key) = (story.op(), story.key);
    story.event(Event::Read { op, key, replicas: 1 });
    story.event(Event::Demanded { op, after });
    story.event(Event::Answered { op, siblings: effects(siblings), stood_in: 0 });
    op
}

#[test]
fn a_session_sees_its_own_write_or_what_replaced_it() {
    let story = |shown: &[(u128, u64)]| {
        let mut story = Story::siblings();
        let first = story.put(1, 1, None);
        let second = story.put(2, 2, Some(first));
        story.put(3, 3, None);
        demand(&mut story, first, shown);
        let _ = second;
        story.end(&[(2, 2), (3, 3)]);
        story
    };
    story(&[(1, 1)]).holds();
    story(&[(2, 2)]).holds();
    story(&[(2, 2), (3, 3)]).holds();
    let evidence = story(&[(3, 3)]).breaks(Invariant::Sessions, &[1]);
    assert!(evidence.contains("which demanded what had seen write 1"), "{evidence}");
    story(&[]).breaks(Invariant::Sessions, &[1]);
}

#[test]
fn reads_of_a_session_do_not_go_back() {
    let story = |shown: &[(u128, u64)]| {
        let mut story = Story::siblings();
        story.put(1, 1, None);
        // Nobody knows whether it was done; the session was shown it.
        story.begin(2, None);
        let read = story.read(&[(1, 1), (2, 2)]);
        demand(&mut story, read, shown);
        story.end(&[(1, 1), (2, 2)]);
        story
    };
    story(&[(1, 1), (2, 2)]).holds();
    story(&[(1, 1)]).breaks(Invariant::Sessions, &[2]);
    story(&[(2, 2)]).breaks(Invariant::Sessions, &[1]);
}

#[test]
fn what_a_stand_in_held_is_excused_by_its_own_loss_and_by_its_heirs() {
    let kept = Holder { node: 4, synced: true, heir: Some(2) };
    let story = |wiped: &[u16]| {
        let mut story = Story::siblings();
        story.put_at(1, 1, None, &[synced(1), kept]);
        wiped.iter().for_each(|node| {
            story.wipe(*node);
        });
        story.end(&[]);
        story
    };
    story(&[]).breaks(Invariant::NoLostWrite, &[1]);
    story(&[1]).breaks(Invariant::NoLostWrite, &[1]);
    story(&[4, 2]).breaks(Invariant::NoLostWrite, &[1]);
    story(&[1, 4]).holds();
    story(&[1, 2]).holds();
}

#[test]
fn a_stand_in_is_no_part_of_a_quorum() {
    let kept = Holder { node: 4, synced: true, heir: Some(2) };
    let mut story = Story::siblings();
    story.put_at(1, 1, None, &[synced(1), kept]);
    story.read_from(2, effects(&[]));
    story.end(&[(1, 1)]).holds();
}

#[test]
fn what_a_blocking_repair_has_settled_is_not_gone_back_behind() {
    let story = |replicas: u8, wiped: bool| {
        let mut story = Story::siblings();
        story.begin(1, None);
        let read = story.read(&[(1, 1)]);
        story.event(Event::Settled { op: read, replicas });
        if wiped {
            story.wipe(0);
        }
        story.read_from(2, effects(&[]));
        story.end(&[(1, 1)]);
        story
    };
    story(2, false).breaks(Invariant::Sessions, &[1]);
    story(1, false).holds();
    story(2, true).holds();
}

/// Whoever reads a lost write is told less than what was there: that it is lost says more.
#[test]
fn a_write_that_a_session_misses_and_nobody_has_is_called_lost() {
    let lost = |missed: fn(&mut Story, OpId)| {
        let mut story = Story::siblings();
        let write = story.put(1, 1, None);
        missed(&mut story, write);
        story.end(&[]);
        story
    };
    let demanded = |story: &mut Story, write| {
        demand(story, write, &[]);
    };
    lost(demanded).breaks(Invariant::NoLostWrite, &[1]);
    let settled = |story: &mut Story, _| {
        let read = story.read(&[(1, 1)]);
        story.event(Event::Settled { op: read, replicas: 2 });
        story.read_from(2, effects(&[]));
    };
    lost(settled).breaks(Invariant::NoLostWrite, &[1]);
}
