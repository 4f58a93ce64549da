//! No acknowledged write is lost, unless all that held it did lose it.

use super::*;

#[track_caller]
fn loses(story: &Story, id: u128) -> String {
    story.breaks(Invariant::NoLostWrite, &[id])
}

#[test]
fn a_write_is_there_at_the_end() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.end(&[(1, 11)]).holds();
}

#[test]
fn a_write_that_is_gone_is_lost() {
    let mut story = Story::siblings();
    story.key = KeyId(2);
    story.put_at(1, 11, None, &[synced(1), unsynced(3)]);
    story.put(2, 12, None);
    let evidence = loses(story.end(&[(2, 12)]), 1);
    assert_eq!(
        evidence,
        "write 1 (op 2, begun at 0.002 s, \"v1\") of key 2 was acknowledged at 0.003 s by n2 (synced), n4 and is in no \
         replica's past; the replicas hold 2 (\"v2\", label 12/0) at the end"
    );
}

#[test]
fn what_a_read_or_an_acknowledgement_led_to_replaces() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    let read = story.read(&[(1, 11)]);
    let second = story.put(2, 12, Some(read));
    story.put(3, 13, Some(second));
    let findings = story.end(&[(3, 13)]).holds();
    assert_eq!(findings.acked, 3);
}

#[test]
fn a_successor_of_unknown_ending_replaces_as_well() {
    let mut story = Story::siblings();
    let first = story.put(1, 11, None);
    story.begin(2, Some(first));
    story.end(&[(2, 12)]).holds();
}

#[test]
fn a_blind_write_replaces_nothing() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.put(2, 12, None);
    loses(story.end(&[(2, 12)]), 1);

    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.put(2, 12, None);
    story.end(&[(1, 11), (2, 12)]).holds();
}

#[test]
fn a_stale_context_replaces_only_what_it_covers() {
    let story = |end: &[(u128, u64)]| {
        let mut story = Story::siblings();
        let first = story.put(1, 11, None);
        story.put(2, 12, Some(first));
        story.put(3, 13, Some(first));
        story.end(end);
        story
    };
    story(&[(2, 12), (3, 13)]).holds();
    loses(&story(&[(3, 13)]), 2);
}

#[test]
fn tombstones_replace_and_are_replaced() {
    let mut story = Story::siblings();
    let first = story.put(1, 11, None);
    let delete = story.put(50, 12, Some(first));
    story.read(&[(50, 12)]);
    story.put(2, 13, Some(delete));
    story.end(&[(2, 13)]).holds();

    let mut story = Story::siblings();
    let first = story.put(1, 11, None);
    story.put(50, 12, Some(first));
    loses(story.end(&[]), 1);
}

#[test]
fn another_attempts_effect_is_as_good_as_the_acknowledged_one() {
    let mut story = Story::siblings();
    story.begin(1, None);
    story.put(1, 12, None);
    let read = story.read(&[(1, 11)]);
    story.put(2, 13, Some(read));
    story.end(&[(2, 13)]).holds();
}

#[test]
fn a_write_that_was_not_acknowledged_may_be_gone() {
    let mut story = Story::siblings();
    story.begin(1, None);
    let refused = story.begin(2, None);
    story.refuse(refused);
    let timed_out = story.begin(3, None);
    story.event(Event::Wrote { op: timed_out, ending: Ending::Unknown });
    let findings = story.end(&[]).holds();
    assert_eq!((findings.refused, findings.unknown), (1, 2));
}

#[test]
fn one_acknowledged_attempt_is_enough() {
    let mut story = Story::siblings();
    let refused = story.begin(1, None);
    story.refuse(refused);
    story.put(1, 11, None);
    loses(story.end(&[]), 1);
}

#[test]
fn wipes_excuse_when_all_holders_are_wiped() {
    let story = |wiped: &[u16]| {
        let mut story = Story::siblings();
        story.put_at(1, 11, None, &[synced(1), synced(2), unsynced(3)]);
        for node in wiped {
            story.wipe(*node);
        }
        story.end(&[]);
        story
    };
    story(&[1, 2, 3]).holds();
    story(&[3, 3, 2, 1, 4]).holds();
    loses(&story(&[1, 2]), 1);
    loses(&story(&[1, 2, 4]), 1);
}

#[test]
fn a_wipe_before_the_write_excuses_nothing() {
    let mut story = Story::siblings();
    story.wipe(1).wipe(2);
    story.put(1, 11, None);
    loses(story.end(&[]), 1);

    let mut story = Story::siblings();
    let write = story.begin(1, None);
    story.wipe(1).wipe(2).ack(write, 11, SYNCED);
    story.end(&[]).holds();
}

#[test]
fn the_holders_of_all_acknowledgements_count() {
    let story = |wiped: &[u16]| {
        let mut story = Story::siblings();
        story.put_at(1, 11, None, &[synced(1)]);
        story.put_at(1, 12, None, &[synced(2)]);
        for node in wiped {
            story.wipe(*node);
        }
        story.end(&[]);
        story
    };
    story(&[1, 2]).holds();
    loses(&story(&[1]), 1);
    loses(&story(&[2]), 1);
}

#[test]
fn a_power_loss_excuses_what_was_not_synced() {
    let story = |by: &[Holder]| {
        let mut story = Story::siblings();
        story.put_at(1, 11, None, by);
        story.event(Event::PowerLost { node: 1 }).event(Event::PowerLost { node: 2 }).end(&[]);
        story
    };
    story(&[unsynced(1), unsynced(2)]).holds();
    loses(&story(&[unsynced(1), synced(2)]), 1);
    loses(&story(&[unsynced(1), unsynced(3)]), 1);
}

#[test]
fn damage_excuses_on_its_node_for_its_key() {
    let story = |damaged: u32| {
        let mut story = Story::siblings();
        story.put_at(1, 11, None, &[synced(1)]);
        story.event(Event::Damaged { node: 1, key: KeyId(damaged) }).end(&[]);
        story
    };
    story(0).holds();
    loses(&story(1), 1);
}

#[test]
fn an_acknowledgement_by_nobody_is_not_excused() {
    let mut story = Story::siblings();
    story.put_at(1, 11, None, &[]);
    loses(story.wipe(1).wipe(2).end(&[]), 1);
}

#[test]
fn where_the_last_write_wins_something_must_be_left() {
    let mut story = Story::last_write_wins();
    story.put(1, 11, None);
    story.put(2, 12, None);
    story.end(&[(1, 11)]).holds();

    let mut story = Story::last_write_wins();
    story.put(1, 11, None);
    loses(story.end(&[]), 1);

    let mut story = Story::last_write_wins();
    story.put(1, 11, None);
    story.wipe(1).wipe(2).end(&[]).holds();

    let mut story = Story::last_write_wins();
    story.begin(1, None);
    story.end(&[]).holds();
}
