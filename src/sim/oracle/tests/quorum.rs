//! What a read has to show that takes in enough replicas.

use super::*;

#[test]
fn a_quorum_read_that_misses_an_acknowledged_write_is_noticed() {
    let mut story = Story::siblings();
    story.put(1, 1, None);
    story.read_from(2, effects(&[]));
    let evidence = story.end(&[(1, 1)]).breaks(Invariant::QuorumRead, &[1]);
    assert!(evidence.contains("2 replicas answered it, and 2 of 3 hold write 1"), "{evidence}");
}

#[test]
fn a_quorum_read_may_show_what_replaced_it() {
    let mut story = Story::siblings();
    let first = story.put(1, 1, None);
    story.put(2, 2, Some(first));
    story.read_from(2, effects(&[(2, 2)]));
    story.end(&[(2, 2)]).holds();
}

#[test]
fn one_replica_or_one_holder_promises_nothing() {
    let mut story = Story::siblings();
    story.put(1, 1, None);
    story.read_from(1, effects(&[]));
    story.put_at(2, 2, None, &[synced(1)]);
    story.read_from(2, effects(&[(1, 1)]));
    story.end(&[(1, 1), (2, 2)]).holds();
}

#[test]
fn a_write_acknowledged_after_the_read_began_may_be_missed() {
    let mut story = Story::siblings();
    let (write, read, key) = (story.begin(1, None), story.op(), story.key);
    story.event(Event::Read { op: read, key, replicas: 3 });
    story.ack(write, 1, SYNCED);
    story.event(Event::Answered { op: read, siblings: Vec::new(), stood_in: 0 });
    story.end(&[(1, 1)]).holds();
}

#[test]
fn holders_that_lost_their_copy_do_not_count() {
    let mut story = Story::siblings();
    story.put(1, 1, None);
    story.wipe(2);
    story.read_from(2, effects(&[]));
    story.end(&[(1, 1)]).holds();
    let mut story = Story::siblings();
    story.put(1, 1, None);
    story.wipe(2);
    story.read_from(3, effects(&[]));
    story.end(&[(1, 1)]).breaks(Invariant::QuorumRead, &[1]);
}

#[test]
fn what_was_lost_before_the_acknowledged_attempt_excuses_nothing() {
    let mut story = Story::siblings();
    story.begin(1, None);
    story.wipe(1).wipe(2);
    story.put(1, 1, None);
    story.end(&[]).breaks(Invariant::NoLostWrite, &[1]);
    let mut story = Story::siblings();
    story.history.grace = Duration::from_secs(1);
    story.begin(1, None);
    story.wipe(1).wipe(2);
    story.put(1, 1, None);
    story.end(&[]).holds();
}

#[test]
fn last_write_wins_does_not_fall_back_to_what_was_replaced() {
    let mut story = Story::last_write_wins();
    let first = story.put(1, 1, None);
    story.put(2, 2, Some(first));
    story.end(&[(1, 1)]).breaks(Invariant::NoLostWrite, &[2]);
}

/// A stand-in is none of the replicas that a quorum is of; but that there is nothing is the word of replicas alone.
#[test]
fn stand_ins_among_the_counted_promise_less() {
    let stale = |stood_in, siblings: &[(u128, u64)]| {
        let mut story = Story::siblings();
        story.put(1, 1, None);
        story.put(2, 2, None);
        let (read, key) = (story.op(), story.key);
        story.event(Event::Read { op: read, key, replicas: 2 });
        story.event(Event::Answered { op: read, siblings: effects(siblings), stood_in });
        story.end(&[(1, 1), (2, 2)]);
        story
    };
    stale(1, &[(1, 1)]).holds();
    stale(0, &[(1, 1)]).breaks(Invariant::QuorumRead, &[2]);
    stale(0, &[]).breaks(Invariant::QuorumRead, &[1]);
}
