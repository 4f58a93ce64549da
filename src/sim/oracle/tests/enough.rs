//! How much must have happened, and what is counted.

use super::*;

const TEN: Sufficiency = Sufficiency { acked: 10, under_fault_percent: 20 };

/// A story of `acked` acknowledged writes, the last `faulty` of them during a fault.
fn story(acked: u128, faulty: u128) -> Story {
    let mut story = Story::new(Conflict::Siblings);
    let mut basis = None;
    for id in 0..acked {
        if id == acked - faulty {
            story.event(Event::FaultBegan).event(Event::FaultBegan).event(Event::FaultEnded);
        }
        basis = Some(story.put(id, id as u64, basis));
    }
    let last = acked.checked_sub(1).map(|id| (id, id as u64));
    story.end(last.as_slice());
    story
}

#[track_caller]
fn lacks(story: &Story, expected: &str) -> Findings {
    match judge(&story.history, TEN) {
        Verdict::Insufficient { reason, findings } => {
            assert_eq!(reason, expected);
            findings
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_history_says_nothing() {
    let story = Story::new(Conflict::Siblings);
    assert_eq!(lacks(&story, "the history is empty"), Findings::default());
    let none = Verdict::Insufficient { reason: "the history is empty".to_owned(), findings: Findings::default() };
    assert_eq!(judge(&story.history, FEW), none);
}

#[test]
fn too_few_writes_say_nothing() {
    let mut nine = story(9, 9);
    nine.read(&[]);
    let findings = lacks(&nine, "9 writes were acknowledged, 10 are needed");
    assert_eq!(findings, Findings { acked: 9, acked_under_fault: 9, reads: 1, ..Findings::default() });
}

#[test]
fn attempts_are_not_writes() {
    let mut nine = story(9, 9);
    nine.key = KeyId(1);
    nine.begin(9, None);
    let refused = nine.begin(10, None);
    nine.refuse(refused);
    nine.read(&[]);
    let findings = lacks(&nine, "9 writes were acknowledged, 10 are needed");
    assert_eq!((findings.refused, findings.unknown, findings.late_surfaced), (1, 1, 0));

    let mut one = Story::siblings();
    for _ in 0..20 {
        one.put(1, 11, None);
    }
    one.end(&[(1, 11)]);
    lacks(&one, "1 writes were acknowledged, 10 are needed");
}

#[test]
fn too_few_writes_during_faults_say_nothing() {
    let mut calm = story(11, 2);
    calm.read(&[]);
    lacks(&calm, "2 of 11 writes were acknowledged during a fault, 20 % are needed");
}

#[test]
fn an_ended_fault_does_not_count() {
    let mut story = Story::siblings();
    story.event(Event::FaultBegan).event(Event::FaultEnded);
    story.put(1, 11, None);
    let begun = story.begin(2, None);
    story.event(Event::FaultBegan).ack(begun, 12, SYNCED).event(Event::FaultEnded);
    assert_eq!(story.end(&[(1, 11), (2, 12)]).holds().acked_under_fault, 1);
}

#[test]
fn a_history_without_reads_says_nothing() {
    let mut story = story(10, 2);
    let op = story.op();
    story.event(Event::Read { op, key: KeyId(0), replicas: 0 });
    lacks(&story, "no read was answered");
}

#[test]
fn just_enough_is_enough() {
    let mut story = story(10, 2);
    story.read(&[]);
    let findings = Findings { acked: 10, acked_under_fault: 2, reads: 1, ..Findings::default() };
    assert_eq!(judge(&story.history, TEN), Verdict::Ok(findings));
    assert_eq!(Sufficiency::default(), Sufficiency { acked: 200, under_fault_percent: 20 });
}

#[test]
fn a_violation_outranks_too_little() {
    let mut story = Story::new(Conflict::Siblings);
    story.end(&[(1, 11)]);
    assert!(matches!(judge(&story.history, TEN), Verdict::Violation { invariant: Invariant::NoPhantom, .. }));
}

#[test]
fn two_siblings_are_not_three() {
    let mut story = Story::siblings();
    story.put(1, 11, None);
    story.put(2, 12, None);
    let read = story.read(&[(1, 11), (2, 12)]);
    story.put(3, 13, Some(read));
    let findings = story.end(&[(3, 13)]).holds();
    assert_eq!((findings.most_siblings, findings.siblings_resolved), (2, 0));
}

#[test]
fn invariants_print_their_number() {
    assert_eq!(Invariant::DotUniqueness.to_string(), "invariant 8 (dot uniqueness)");
    let all = [
        Invariant::NoLostWrite,
        Invariant::NoPhantom,
        Invariant::Antichain,
        Invariant::SiblingBound,
        Invariant::DotUniqueness,
    ];
    assert_eq!(all.map(Invariant::number), [1, 2, 3, 7, 8]);
}
