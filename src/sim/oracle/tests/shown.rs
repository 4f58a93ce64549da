//! What reads and the end may show: no phantom, an antichain, no twins, no label of two writes.

use super::*;

#[test]
fn an_unknown_write_may_surface_late() {
    let mut story = Story::siblings();
    story.begin(1, None);
    story.read(&[]);
    story.read(&[(1, 11)]);
    story.begin(2, None);
    assert_eq!(story.end(&[(1, 11), (2, 12)]).holds().late_surfaced, 2);
}

#[test]
fn a_stale_read_is_legal() {
    let mut story = Story::siblings();
    let first = story.put(1, 11, None);
    story.put(2, 12, Some(first));
    story.read(&[(2, 12)]);
    story.read(&[(1, 11)]);
    story.read(&[]);
    story.end(&[(2, 12)]).holds();
}

#[test]
fn a_write_is_not_shown_before_it_begins() {
    let mut story = Story::siblings();
    story.read(&[(1, 11)]);
    story.begin(1, None);
    let evidence = story.breaks(Invariant::NoPhantom, &[1]);
    assert_eq!(
        evidence,
        "on key 0, the read op 2 was answered at 0.003 s with 1 (\"v1\", label 11/0); no write 1 had begun by then"
    );
}

#[test]
fn nothing_is_made_up_at_the_end() {
    let mut story = Story::siblings();
    story.end(&[(1, 11)]).breaks(Invariant::NoPhantom, &[1]);
}

#[test]
fn a_write_stays_on_its_key() {
    let mut story = Story::siblings();
    story.begin(1, None);
    story.key = KeyId(1);
    story.read(&[(1, 11)]);
    story.breaks(Invariant::NoPhantom, &[1]);
}

#[test]
fn a_write_keeps_its_body() {
    for other in [Some(Bytes::from("v")), Some(Bytes::from("v11")), None] {
        let mut story = Story::siblings();
        story.begin(1, None);
        story.read_shown(vec![Shown { body: other, ..effect((1, 11)) }]);
        story.breaks(Invariant::NoPhantom, &[1]);
    }
}

#[test]
fn a_refused_write_never_surfaces() {
    let mut story = Story::siblings();
    let write = story.begin(1, None);
    story.refuse(write);
    let other = story.begin(2, None);
    story.refuse(other);
    story.read(&[(2, 12)]);
    story.end(&[(1, 11)]);
    let evidence = story.breaks(Invariant::NoPhantom, &[2]);
    assert!(evidence.starts_with("every attempt at write 2 (op 3,"), "{evidence}");

    let mut story = Story::siblings();
    let write = story.begin(1, None);
    story.read(&[(1, 11)]);
    story.refuse(write).breaks(Invariant::NoPhantom, &[1]);
}

#[test]
fn one_attempt_that_was_not_refused_may_surface() {
    let mut story = Story::siblings();
    let refused = story.begin(1, None);
    story.refuse(refused);
    story.read(&[]);
    story.begin(1, None);
    story.read(&[(1, 11)]);
    let refused = story.begin(2, None);
    story.refuse(refused);
    story.put(2, 12, None);
    story.end(&[(1, 11), (2, 12)]).holds();
}

#[test]
fn nothing_stands_next_to_what_replaced_it() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    let read = story.read(&[(1, 11)]);
    story.put(2, 12, Some(read));
    story.read(&[(2, 12), (1, 11)]);
    let evidence = story.breaks(Invariant::Antichain, &[1, 2]);
    assert!(
        evidence
            .ends_with("write 2 (op 4, begun at 0.006 s, \"v2\") carried a context that covers 1 (\"v1\", label 11/0)"),
        "{evidence}"
    );
}

#[test]
fn nothing_stands_next_to_a_later_successor_or_tombstone() {
    for last in [3, 53] {
        let mut story = Story::siblings();
        story.put(1, 11, None);
        let read = story.read(&[(1, 11)]);
        let second = story.put(2, 12, Some(read));
        story.put(last, 13, Some(second));
        story.end(&[(1, 11), (last, 13)]).breaks(Invariant::Antichain, &[1, last]);
    }
}

#[test]
fn concurrent_writes_stand_side_by_side() {
    let mut story = Story::siblings();
    let first = story.put(1, 11, None);
    story.put(2, 12, Some(first));
    story.put(53, 13, Some(first));
    story.put(4, 14, None);
    let read = story.read(&[(2, 12), (53, 13), (4, 14)]);
    story.put(5, 15, Some(read));
    let findings = story.end(&[(5, 15)]).holds();
    assert_eq!((findings.most_siblings, findings.siblings_resolved), (3, 1));
}

#[test]
fn a_twin_may_stand_next_to_what_replaced_the_other() {
    let story = |shown: u64| {
        let mut story = Story::siblings();
        story.begin(1, None);
        let acked = story.put(1, 11, None);
        story.put(2, 13, Some(acked));
        story.read(&[(1, shown), (2, 13)]);
        story.end(&[(1, shown), (2, 13)]);
        story
    };
    story(12).holds();
    story(11).breaks(Invariant::Antichain, &[1, 2]);
}

#[test]
fn twins_have_one_past() {
    let mut story = Story::siblings();
    let first = story.put(1, 11, None);
    story.begin(2, Some(first));
    story.put(2, 12, Some(first));
    story.read(&[(1, 11), (2, 13)]);
    story.breaks(Invariant::Antichain, &[1, 2]);
}

#[test]
fn where_the_last_write_wins_a_read_shows_one() {
    let story = || {
        let mut story = Story::last_write_wins();
        story.put(1, 11, None);
        story.put(2, 12, None);
        story.read(&[(2, 12)]);
        story
    };
    story().end(&[(1, 11), (2, 12)]).holds();
    let mut both = story();
    both.read(&[(1, 11), (2, 12)]);
    both.breaks(Invariant::Antichain, &[1, 2]);

    let mut replaced = Story::last_write_wins();
    let first = replaced.put(1, 11, None);
    replaced.put(2, 12, Some(first));
    replaced.end(&[(1, 11), (2, 12)]).breaks(Invariant::Antichain, &[1, 2]);
}

#[test]
fn a_read_shows_a_write_once() {
    for twin in [11, 12] {
        let mut story = Story::siblings();
        story.begin(1, None);
        story.begin(1, None);
        story.read(&[(1, 11), (1, twin)]);
        let evidence = story.breaks(Invariant::SiblingBound, &[1]);
        assert!(evidence.ends_with("is there more than once"), "{evidence}");
    }
}

#[test]
fn twins_far_apart_are_found() {
    let mut story = Story::siblings();
    story.begin(1, None);
    story.begin(2, None);
    story.begin(3, None);
    story.read(&[(3, 13), (1, 11), (2, 12), (3, 14)]);
    story.breaks(Invariant::SiblingBound, &[3]);
}

#[test]
fn twins_may_be_left_at_the_end_and_take_turns_before() {
    let mut story = Story::siblings();
    story.begin(1, None);
    story.put(1, 11, None);
    story.read(&[(1, 11)]);
    story.read(&[(1, 12)]);
    story.end(&[(1, 11), (1, 12)]).holds();
}

#[test]
fn every_begun_write_may_be_a_sibling() {
    let mut story = Story::siblings();
    for id in 1..=9 {
        story.begin(id, None);
    }
    let all: Vec<(u128, u64)> = (1..=9).map(|id| (id, 10 + id as u64)).collect();
    story.read(&all);
    assert_eq!(story.end(&all).holds().most_siblings, 9);
}

#[test]
fn a_label_is_not_acknowledged_twice() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.put(2, 11, None);
    let evidence = story.breaks(Invariant::DotUniqueness, &[1, 2]);
    assert_eq!(
        evidence,
        "op 3 was acknowledged at 0.005 s; label 11/0 of key 0 names write 2 (op 3, begun at 0.004 s, \"v2\"), and \
         named write 1 (op 2, begun at 0.002 s, \"v1\") before"
    );
}

#[test]
fn a_label_is_not_shown_of_two_writes() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.begin(2, None);
    story.read(&[(2, 11)]);
    story.breaks(Invariant::DotUniqueness, &[1, 2]);

    let mut story = Story::siblings();
    story.begin(1, None);
    story.begin(2, None);
    story.read(&[(1, 11)]);
    story.end(&[(2, 11)]).breaks(Invariant::DotUniqueness, &[1, 2]);

    let mut never_began = Story::siblings();
    never_began.put(1, 11, None);
    never_began.read(&[(2, 11)]);
    let evidence = never_began.breaks(Invariant::DotUniqueness, &[1, 2]);
    assert!(evidence.contains("names write 2, which never began"), "{evidence}");
}

#[test]
fn a_label_may_come_again_for_its_write_and_on_another_key() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.put(1, 11, None);
    story.read(&[(1, 11)]);
    story.end(&[(1, 11)]);
    story.key = KeyId(1);
    story.put(2, 11, None);
    story.end(&[(2, 11)]).holds();
}

#[test]
fn long_and_binary_bodies_are_shortened() {
    let mut story = Story::siblings();
    let bytes = Some(Bytes::from(vec![0xff; 1000]));
    story.read_shown(vec![Shown { body: bytes, ..effect((1, 11)) }]);
    let evidence = story.breaks(Invariant::NoPhantom, &[1]);
    assert!(evidence.contains("\u{fffd}\"... of 1000 bytes"), "{evidence}");
}
