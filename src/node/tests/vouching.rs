//! A member's side of reaping: what it says, and when it may not.

use super::Bench;
use super::bench::object;
use crate::message::{AskRounds, PeerAnswer, PeerRequest, ReapingStep};
use crate::storage::{Fault, Rounds};
use crate::types::Round;

const FENCE: ReapingStep = ReapingStep::Fence(Round(1));

/// What left, without what it is about.
#[track_caller]
fn check(left: &[String], words: &str) {
    assert!(left.len() == 1 && left[0].contains(words), "{left:?} does not say {words:?}");
}

#[test]
fn a_member_vouches_once_for_what_it_has_read() {
    let mut bench = Bench::cold(true);
    assert_eq!(bench.reaping(FENCE, &object("v", 7)), [""; 0], "the record is being read");
    assert_eq!(bench.round(), Round(1), "and nothing older comes in meanwhile");
    check(&bench.read(None), "yes: [true]");
    assert_eq!(bench.reaping(FENCE, &object("v", 7)).len(), 1);
    let mut other = Bench::new();
    other.holds(&object("v", 7));
    check(&other.reaping(FENCE, &object("v", 7)), "yes: [false]");
}

/// The round is not on the disk, and a restart will not know it.
#[test]
fn a_member_whose_disk_has_not_taken_the_round_vouches_for_nothing() {
    let mut bench = Bench::cold(true);
    bench.engine.arm(Fault::Commit { in_log: false });
    assert_eq!(bench.reaping(FENCE, &object("v", 7)), [""; 0]);
    assert_eq!(bench.read(None), [""; 0], "it has told nobody");
    assert_eq!(bench.round(), Round(0));
}

#[test]
fn a_member_that_has_lost_its_disk_vouches_for_nothing() {
    let mut bench = Bench::new();
    bench.stand(true);
    check(&bench.reaping(FENCE, &object("v", 7)), "NotReady");
    check(&bench.reaping(ReapingStep::Reap(Round(1)), &object("v", 7)), "NotReady");
    check(&bench.reaping(ReapingStep::Inquire, &object("v", 7)), "may_lack: true");
    assert_eq!(bench.round(), Round(0));
}

/// So that no round is raised in vain everywhere else.
#[test]
fn a_member_that_takes_no_writes_says_so_before_any_round_is_raised() {
    let mut bench = Bench::new();
    check(&bench.reaping(ReapingStep::Inquire, &object("v", 7)), "may_lack: false");
    bench.input(crate::node::ShardInput::ReadOnly(Some("full".into())));
    check(&bench.reaping(ReapingStep::Inquire, &object("v", 7)), "may_lack: true");
    check(&bench.reaping(FENCE, &object("v", 7)), "ReadOnly");
}

/// What a new disk asks everybody, and what one of them tells.
fn told(bench: &Bench, round: Option<u64>) -> PeerAnswer {
    PeerAnswer::Rounds(Ok(vec![(bench.partition(), round.map(Round))]))
}

#[test]
fn a_new_disk_takes_nothing_in_before_it_has_a_round() {
    let mut bench = Bench::new();
    let asked = bench.stand(true);
    assert_eq!(asked.iter().filter(|said| said.starts_with("rounds ")).count(), 4, "all others: {asked:?}");
    let counters = bench.counters();
    assert_eq!((counters.exchanges_under_way, counters.lingering), (0, 0), "it is no exchange");
    let refused = ["answer: it does not serve"];
    assert_eq!(bench.sends(&object("v", 7), 9), refused);
    bench.answer("p1", told(&bench, None));
    assert_eq!(bench.sends(&object("v", 7), 9), refused, "that one has lost its disk too");
    bench.answer("p2", told(&bench, Some(3)));
    assert_eq!(bench.round(), Round(3));
    check(&bench.sends(&object("v", 7), 2), "reaping round 3");
    assert_eq!(bench.sends(&object("v", 7), 3), ["answer: written"]);
}

/// Nobody has a disk of before: there is nothing that could come back.
#[test]
fn a_new_disk_begins_at_zero_once_nobody_has_a_round() {
    let mut bench = Bench::new();
    bench.stand(true);
    for name in ["p1", "p2", "s0"] {
        bench.answer(name, told(&bench, None));
        assert_eq!(bench.sends(&object("v", 7), 0), ["answer: it does not serve"], "{name}");
    }
    bench.answer("s1", told(&bench, None));
    assert_eq!(bench.sends(&object("v", 7), 0), ["answer: written"]);
    let known = Rounds::load(&*bench.engine).unwrap();
    assert!(known.partitions().any(|partition| partition == bench.partition()), "a restart asks nobody any more");
}

/// Two new disks that meet have nothing to tell each other.
#[test]
fn a_new_disk_tells_no_round_before_it_has_one() {
    let mut bench = Bench::new();
    bench.stand(true);
    let ask = |bench: &mut Bench| {
        let (ring, partitions) = (bench.to.ring, vec![bench.partition()]);
        bench.peer(PeerRequest::Rounds(AskRounds { ring, partitions }))
    };
    check(&ask(&mut bench), "None");
    bench.answer("p2", told(&bench, Some(3)));
    check(&ask(&mut bench), "Some(Round(3))");
}

/// A round is not all that a new disk lacks.
#[test]
fn a_new_disk_that_has_a_round_vouches_for_nothing_before_it_is_filled() {
    let mut bench = Bench::new();
    bench.stand(true);
    bench.answer("p2", told(&bench, Some(0)));
    check(&bench.sends(&object("v", 7), 0), "written");
    check(&bench.reaping(FENCE, &object("v", 7)), "NotReady");
    check(&bench.reaping(ReapingStep::Inquire, &object("v", 7)), "may_lack: true");
    bench.stand(false);
    check(&bench.reaping(FENCE, &object("v", 7)), "yes: [");
}
