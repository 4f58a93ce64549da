//! What a quorum answers when replicas are away, and what a failing disk does to it.

use std::time::Duration;

use dynkv::api::ApiError;
use dynkv::sim::Step;
use dynkv::storage::Fault;

use crate::ask::{Asking, Expect, PATIENCE, With, get, put};
use crate::faults::Befall;
use crate::plan::Plan;

#[test]
fn two_of_three_dead_is_indeterminate_at_the_deadline_and_one_suffices_for_one() {
    let mut world = Plan::new(3).born();
    world.kill(1);
    world.kill(2);
    let asked = world.now;
    let error = world.ask(0, put("k", "a", 1).w(2)).refused();
    let ApiError::Indeterminate { acks: 1, w: 2, detail } = &error else { panic!("{error}") };
    assert!(detail.contains("n2: no answer") && detail.contains("n3: no answer"), "{detail}");
    let waited = world.now.since(asked);
    assert!(waited >= PATIENCE && waited < PATIENCE + Duration::from_millis(10), "{waited:?}");
    assert_eq!(world.ask(0, put("k2", "b", 2).w(1)).receipt().acks.len(), 1);
    // What was indeterminate is there all the same.
    assert_eq!(world.ask(0, get("k", 1)).found().values, ["a"]);
    let error = world.ask(0, get("k", 2)).refused();
    assert!(matches!(error, ApiError::Unavailable { able: 1, wanted: 2, .. }), "{error}");
}

#[test]
fn a_failed_commit_at_the_coordinator_is_indeterminate_and_sends_nothing() {
    for in_log in [false, true] {
        let mut world = Plan::new(3).born();
        world.ask(0, put("k", "before", 1).w(3)).receipt();
        world.arm(0, Fault::Commit { in_log });
        let frames = world.network.frames;
        let id = world.begin(0, put("k", "failed", 2));
        let end = world.now + Duration::from_millis(1);
        while world.step(end) {}
        let error = world.answer(id).expect("it is answered in the same drain").clone().refused();
        assert!(matches!(error, ApiError::Indeterminate { acks: 0, w: 2, .. }), "{error}");
        assert_eq!(world.network.frames, frames, "nothing was sent to peers");
        let error = world.ask(0, put("other", "v", 3)).refused();
        assert!(matches!(error, ApiError::ReadOnly { .. }), "{error}");
        assert_eq!(world.ask(0, get("k", 3)).found().values, ["before"], "reads are served");
        // The others go on with two of three; the read-only one refuses its part.
        let receipt = world.ask(1, put("k2", "v", 4).w(2)).receipt();
        assert_eq!(receipt.acks.len(), 2);
        assert!(matches!(
            world.ask(1, put("k3", "v", 5).w(3)).refused(),
            ApiError::Indeterminate { acks: 0..=2, w: 3, .. }
        ));
        world.kill(0);
        world.start(0);
        world.settle();
        let mut values = world.ask(1, get("k", 3)).found().values;
        values.sort();
        let expected: &[&str] = if in_log { &["before", "failed"] } else { &["before"] };
        assert_eq!(values, expected);
        world.ask(0, put("k", "after", 6).w(3)).receipt();
    }
}

/// Trap 1: a reader must not be shown a write of a batch that fails afterwards: its name may be given to another.
#[test]
fn a_read_in_the_drain_of_a_failed_commit_shows_nothing_of_it() {
    for late in [false, true] {
        let mut world = Plan::new(3).born();
        let first = world.ask(0, put("k", "before", 1).w(3)).receipt();
        if late {
            world.network.weather.delay = (50_000, 60_000);
        }
        world.arm(0, Fault::Commit { in_log: false });
        let write = world.begin(0, put("k", "phantom", 2).after(&first.context));
        let read = world.begin(0, get("k", 2));
        let everywhere = world.begin(0, crate::ask::whereabouts("k"));
        assert!(matches!(world.wait(write).refused(), ApiError::Indeterminate { .. }));
        match world.wait(read).result {
            Ok(_) => assert_eq!(world.wait(read).found().values, ["before"]),
            Err(error) => assert!(matches!(error, ApiError::ReadTimeout { .. }), "{error}"),
        }
        let told = format!("{:?}", world.wait(everywhere));
        let shown = dynkv::types::WriteId(2).to_string();
        assert!(!told.contains(&shown), "{told}");
    }
}

#[test]
fn a_failed_commit_at_a_replica_is_not_counted() {
    let mut world = Plan::new(3).born();
    world.arm(1, Fault::Commit { in_log: false });
    let error = world.ask(0, put("k", "v", 1).w(3)).refused();
    // It is told at once, whether the third has answered by then or not.
    let ApiError::Indeterminate { acks: 1..=2, w: 3, detail } = &error else { panic!("{error}") };
    assert!(detail.contains("n2: its disk failed"), "{detail}");
    assert_eq!(world.ask(2, put("k2", "v", 2).w(2)).receipt().acks.len(), 2);
}

#[test]
fn a_failed_sync_acknowledges_nothing() {
    for ends in [true, false] {
        for failing in [0, 1] {
            let mut world = Plan::new(3).born();
            world.nodes[failing].sync_failure_ends = ends;
            world.arm(failing, Fault::Sync);
            let id = world.begin(0, put("k", "v", 1).w(3));
            world.run_for(PATIENCE + Duration::from_millis(10));
            match world.answer(id) {
                // The process that held the request is gone.
                None => assert!(ends && failing == 0),
                Some(response) => {
                    let error = response.clone().refused();
                    assert!(matches!(error, ApiError::Indeterminate { .. }), "{error}");
                }
            }
            assert_eq!(world.nodes[failing].process.is_none(), ends);
        }
    }
}

/// Trap 12.
#[test]
fn a_read_error_is_never_an_absence() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.arm(0, Fault::Read);
    let error = world.ask(0, get("k", 3)).refused();
    let ApiError::ReadTimeout { r: 3, detail, .. } = &error else { panic!("{error}") };
    assert!(detail.contains("n1: its disk failed"), "{detail}");
    // A write on top of what cannot be read would forget it.
    world.arm(0, Fault::Read);
    let error = world.ask(0, put("k", "w", 2)).refused();
    assert!(matches!(error, ApiError::NotReady { .. }), "{error}");
    world.arm(1, Fault::Read);
    let receipt = world.ask(0, put("k", "x", 3)).receipt();
    assert_eq!(receipt.acks.len(), 2);
}

#[test]
fn effects_leave_in_their_order() {
    let mut world = Plan::new(3).syncs(0).born();
    let id = world.begin(0, put("k", "v", 1).w(3));
    let end = world.now + Duration::from_millis(5);
    while world.answer(id).is_none() && world.nodes[0].steps.first() != Some(&Step::Written) {
        assert!(world.step(end));
    }
    assert_eq!(world.nodes[0].steps, [Step::Written, Step::Released, Step::Synced], "replicates leave before the sync");
    world.wait(id).receipt();
    assert_eq!(
        world.nodes[1].steps,
        [Step::Written, Step::Synced, Step::Released],
        "the replica's ack leaves after it"
    );
}

#[test]
fn late_and_repeated_answers_count_once() {
    let mut world = Plan::new(3).born();
    world.network.weather.duplication = 1.0;
    world.kill(2);
    let error = world.ask(0, put("k", "v", 1).w(3)).refused();
    assert!(matches!(error, ApiError::Indeterminate { acks: 2, w: 3, .. }), "{error}");
    let error = world.ask(0, get("k", 3)).refused();
    assert!(matches!(error, ApiError::Unavailable { able: 2, wanted: 3, .. }), "{error}");
    world.start(2);
    world.settle();
    world.cut_one_way(1, 0);
    world.ask(0, put("k", "w", 2).w(1)).receipt();
    let before = world.count(0, |counters| counters.late_answers);
    world.run_for(Duration::from_millis(100));
    assert!(world.count(0, |counters| counters.late_answers) > before);
}
