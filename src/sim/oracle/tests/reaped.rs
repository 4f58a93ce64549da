//! Tombstones that are deleted: nobody is shown them any more, nor what they had replaced.

use super::*;

/// A write, a delete that replaces it, and the end of the tombstone.
fn reaped() -> Story {
    let mut story = Story::siblings();
    let written = story.put(1, 1, None);
    story.put(2, 2, Some(written));
    let key = story.key;
    story.event(Event::Reaped { key, tombstones: effects(&[(2, 2)]) });
    story
}

#[test]
fn nothing_is_shown_of_what_was_reaped_and_nothing_is_lost() {
    let mut story = reaped();
    story.read(&[]);
    story.read_from(3, effects(&[]));
    story.end(&[]).holds();
}

#[test]
fn without_the_reaping_it_is_lost() {
    let mut story = Story::siblings();
    let written = story.put(1, 1, None);
    story.put(2, 2, Some(written));
    story.end(&[]).breaks(Invariant::NoLostWrite, &[1]);
}

#[test]
fn what_was_replaced_is_shown_to_nobody_again_and_is_nowhere_at_the_end() {
    let mut story = reaped();
    story.read_from(1, effects(&[(1, 1)]));
    let evidence = story.end(&[]).breaks(Invariant::NoResurrection, &[1]);
    assert!(evidence.contains("was reaped at"), "{evidence}");
    reaped().end(&[(1, 1)]).breaks(Invariant::NoResurrection, &[1]);
}

/// Its page was read before it was told of.
#[test]
fn a_scan_may_show_it_still() {
    let mut story = reaped();
    story.read_from(0, effects(&[(1, 1)]));
    story.end(&[]).holds();
}

/// The tombstone itself may be back, since a disk has lost its end: it will be reaped again.
#[test]
fn the_tombstone_may_come_back() {
    let mut story = reaped();
    story.read(&[(2, 2)]);
    story.end(&[(2, 2)]).holds();
}

/// It had been fetched before.
#[test]
fn a_read_that_began_before_may_show_it_still() {
    let mut story = Story::siblings();
    let written = story.put(1, 1, None);
    story.put(2, 2, Some(written));
    let (op, key) = (story.op(), story.key);
    story.event(Event::Read { op, key, replicas: 1 });
    story.event(Event::Reaped { key, tombstones: effects(&[(2, 2)]) });
    story.event(Event::Answered { op, siblings: effects(&[(1, 1)]), stood_in: 0 });
    story.end(&[]).holds();
}

#[test]
fn what_the_tombstone_had_not_seen_stays() {
    let story = |end: &[(u128, u64)]| {
        let mut story = Story::siblings();
        let written = story.put(1, 1, None);
        story.put(3, 3, None);
        story.put(2, 2, Some(written));
        let key = story.key;
        story.event(Event::Reaped { key, tombstones: effects(&[(2, 2)]) });
        story.end(end);
        story
    };
    story(&[(3, 3)]).holds();
    story(&[]).breaks(Invariant::NoLostWrite, &[3]);
}

#[test]
fn a_session_is_content_with_nothing() {
    let mut story = Story::siblings();
    let written = story.put(1, 1, None);
    let deleted = story.put(2, 2, Some(written));
    let key = story.key;
    story.event(Event::Reaped { key, tombstones: effects(&[(2, 2)]) });
    let op = story.op();
    story.event(Event::Read { op, key, replicas: 1 });
    story.event(Event::Demanded { op, after: deleted });
    story.event(Event::Answered { op, siblings: Vec::new(), stood_in: 0 });
    story.end(&[]).holds();
}

/// What the session had seen was lost with the power, and once a round of its partition was raised, nobody can tell that from what was reaped;
/// but it is not excused by anything less.
#[test]
fn a_session_is_content_with_nothing_of_what_was_lost_once_a_round_was_raised() {
    let story = |lost: bool, raised: &[u32], late: &[u32]| {
        let mut story = Story::siblings();
        let key = story.key;
        let raise = |story: &mut Story, keys: &[u32]| {
            for key in keys {
                story.event(Event::RoundRaised { key: KeyId(*key) });
            }
        };
        let written = story.put_at(1, 1, None, &[unsynced(1)]);
        raise(&mut story, raised);
        if lost {
            story.event(Event::PowerLost { node: 1 });
        }
        let op = story.op();
        story.event(Event::Read { op, key, replicas: 1 });
        story.event(Event::Demanded { op, after: written });
        story.event(Event::Answered { op, siblings: Vec::new(), stood_in: 0 });
        raise(&mut story, late);
        story.end(if lost { &[] } else { &[(1, 1)] });
        story
    };
    story(true, &[0], &[]).holds();
    story(true, &[], &[]).breaks(Invariant::Sessions, &[1]);
    story(true, &[1], &[0]).breaks(Invariant::Sessions, &[1]);
    story(false, &[0], &[]).breaks(Invariant::Sessions, &[1]);
}

/// What is left of the key speaks against its having been reaped.
#[test]
fn a_session_is_not_content_with_less_than_was_lost() {
    let mut story = Story::siblings();
    let key = story.key;
    story.put(2, 2, None);
    let written = story.put_at(1, 1, None, &[unsynced(1)]);
    story.event(Event::RoundRaised { key }).event(Event::PowerLost { node: 1 });
    let op = story.op();
    story.event(Event::Read { op, key, replicas: 1 });
    story.event(Event::Demanded { op, after: written });
    story.event(Event::Answered { op, siblings: effects(&[(2, 2)]), stood_in: 0 });
    story.end(&[(2, 2)]).breaks(Invariant::Sessions, &[1]);
}

#[test]
fn where_the_last_write_wins_a_reaped_tombstone_was_one() {
    let mut story = Story::last_write_wins();
    story.put(1, 1, None);
    story.put(2, 2, None);
    let key = story.key;
    story.event(Event::Reaped { key, tombstones: effects(&[(2, 2)]) });
    story.end(&[]).holds();
}

/// A story about keys that keep siblings, of which nobody is told what is reaped.
fn untold() -> Story {
    let mut story = Story::siblings();
    story.history.reaps_unseen = true;
    story
}

/// A write, and a delete that replaces it.
fn reaped_unseen() -> Story {
    let mut story = untold();
    let written = story.put(1, 1, None);
    story.put(50, 2, Some(written));
    story
}

#[test]
fn what_a_delete_replaced_may_be_gone_with_it_though_nobody_tells() {
    let mut story = reaped_unseen();
    story.read_from(3, effects(&[]));
    story.put(3, 3, None);
    story.read_from(3, effects(&[(3, 3)]));
    story.end(&[(3, 3)]).holds();
}

/// It was overwritten before it was deleted.
#[test]
fn so_may_what_that_had_replaced() {
    let mut story = untold();
    let first = story.put(1, 1, None);
    let second = story.put(2, 2, Some(first));
    story.put(50, 3, Some(second));
    story.end(&[]).holds();
}

#[test]
fn what_no_delete_replaced_may_not() {
    let mut story = reaped_unseen();
    story.put(3, 3, None);
    story.end(&[]).breaks(Invariant::NoLostWrite, &[3]);
    let mut story = reaped_unseen();
    story.put(3, 3, None);
    story.read_from(2, effects(&[]));
    story.end(&[(3, 3)]).breaks(Invariant::QuorumRead, &[3]);
}

/// The delete is lost: had it been reaped, no replica had what it replaced.
#[test]
fn what_is_shown_of_what_a_delete_replaced_says_that_it_was_not_reaped() {
    reaped_unseen().end(&[(1, 1)]).breaks(Invariant::NoLostWrite, &[50]);
    let mut story = reaped_unseen();
    story.read_from(2, effects(&[(1, 1)]));
    story.end(&[(50, 2)]).breaks(Invariant::QuorumRead, &[50]);
}

/// It never happened.
#[test]
fn a_delete_that_was_refused_takes_nothing_along() {
    let mut story = untold();
    let written = story.put(1, 1, None);
    let refused = story.begin(50, Some(written));
    story.refuse(refused);
    story.end(&[]).breaks(Invariant::NoLostWrite, &[1]);
}

/// A tombstone goes only where there is nothing else, hints included.
#[test]
fn what_stood_beside_a_delete_kept_it_from_being_reaped() {
    let stood_in = Holder { heir: Some(0), ..synced(1) };
    for holders in [SYNCED, &[stood_in]] {
        let mut story = untold();
        let written = story.put(1, 1, None);
        story.put_at(3, 3, None, holders);
        story.put(50, 2, Some(written));
        story.end(&[(3, 3)]).breaks(Invariant::NoLostWrite, &[1]);
    }
}

/// What was acknowledged was its other copy, and that is gone.
#[test]
fn a_twin_that_came_later_is_no_witness() {
    let mut story = untold();
    let written = story.put(1, 1, None);
    story.put(60, 2, None);
    story.put(50, 3, Some(written));
    story.end(&[(60, 4)]).holds();
}

/// It waits for another replica, and what it was shown first is deleted and reaped meanwhile, with what stood beside it.
#[test]
fn a_read_may_show_what_goes_while_it_waits() {
    let mut story = untold();
    let (written, other) = (story.put(1, 1, None), story.put(3, 3, None));
    story.put(50, 2, Some(written));
    let (op, key) = (story.op(), story.key);
    story.event(Event::Read { op, key, replicas: 2 });
    story.put(60, 4, Some(other));
    story.event(Event::Answered { op, siblings: effects(&[(3, 3)]), stood_in: 0 });
    story.end(&[]).holds();
}

#[test]
fn a_read_shows_the_tombstone_beside_what_goes_later() {
    let mut story = untold();
    let (written, other) = (story.put(1, 1, None), story.put(3, 3, None));
    story.put(50, 2, Some(written));
    story.read_from(2, effects(&[(3, 3)]));
    story.put(60, 4, Some(other));
    story.end(&[]).breaks(Invariant::QuorumRead, &[1]);
}

#[test]
fn a_read_does_not_show_what_was_deleted_before() {
    let mut story = reaped_unseen();
    let other = story.put(3, 3, None);
    story.put(60, 4, Some(other));
    story.read_from(2, effects(&[(3, 3)]));
    story.end(&[]).breaks(Invariant::QuorumRead, &[60]);
}
