//! One write id, many attempts: one sibling, one dot, and an honest answer to each.

use std::time::Duration;

use dynkv::api::ApiError;
use dynkv::sim::Reads;
use dynkv::storage::MemoryConfig;

use crate::ask::{Asking, Expect, With, get, put};
use crate::plan::Plan;

#[test]
fn a_retry_is_recognised_and_mints_nothing() {
    let mut world = Plan::new(3).born();
    let first = world.ask(0, put("k", "v", 1).w(3)).receipt();
    for node in [0, 1, 2] {
        let again = world.ask(node, put("k", "v", 1).w(3)).receipt();
        assert_eq!(again.dot, first.dot);
    }
    // Also when it has been superseded meanwhile.
    world.ask(1, put("k", "next", 2).w(3).after(&first.context)).receipt();
    assert_eq!(world.ask(0, put("k", "v", 1).w(3)).receipt().dot, first.dot);
    assert_eq!(world.ask(0, get("k", 3)).found().values, ["next"]);
}

#[test]
fn a_write_id_with_another_body_or_key_is_refused() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    for node in 0..3 {
        assert_eq!(world.ask(node, put("k", "w", 1)).refused(), ApiError::WriteIdReused);
        assert_eq!(world.ask(node, crate::ask::delete("k", 1)).refused(), ApiError::WriteIdReused);
    }
    // While it is under way, too.
    world.network.weather.delay = (100_000, 100_000);
    let slow = world.begin(0, put("k2", "v", 2).w(3));
    assert_eq!(world.ask(0, put("k2", "w", 2)).refused(), ApiError::WriteIdReused);
    world.wait(slow).receipt();
    assert_eq!(world.ask(0, get("k", 3)).found().values, ["v"]);
}

/// The coordinator replicated, and died before its ack reached the client.
#[test]
fn a_retry_at_another_coordinator_finds_the_first_ones_dot() {
    let mut world = Plan::new(3).born();
    let lost = world.begin(0, put("k", "v", 1).w(3));
    while (1..3).any(|node| world.count(node, |counters| counters.merged) == 0) {
        world.run_for(Duration::from_micros(10));
    }
    assert!(world.answer(lost).is_none(), "the ack is to be lost");
    world.kill(0);
    let receipt = world.ask(1, put("k", "v", 1).w(2)).receipt();
    assert_eq!(receipt.acks.len(), 2, "both that are left have it");
    world.run_for(Duration::from_secs(1));
    world.start(0);
    world.settle();
    let found = world.ask(2, get("k", 3)).found();
    assert_eq!((found.values.as_slice(), found.reply.siblings.len()), (&["v".to_owned()][..], 1));
    assert_eq!(found.reply.siblings[0].dot, receipt.dot);
}

#[test]
fn a_retry_joins_the_attempt_under_way_and_gets_what_it_asked_for() {
    let mut world = Plan::new(3).born();
    world.network.weather.delay = (10_000, 20_000);
    let weak = world.begin(0, put("k", "v", 1).w(1).dw(0));
    assert_eq!(world.wait(weak).receipt().acks.len(), 1);
    let strong = world.begin(0, put("k", "v", 1).w(3).dw(0));
    assert_eq!(world.wait(strong).receipt().acks.len(), 3);
    assert_eq!(world.ask(0, get("k", 3)).found().reply.siblings.len(), 1);
}

/// What the replicas have acknowledged as buffered is asked for once more, on the disk this time.
#[test]
fn a_retry_that_wants_more_copies_on_disk_gets_them() {
    let mut world = Plan::new(3).born();
    world.kill(2);
    world.ask(0, put("k", "v", 1).w(2).dw(0)).receipt();
    let receipt = world.ask(0, put("k", "v", 1).w(2).dw(2)).receipt();
    assert_eq!(receipt.acks.iter().filter(|ack| ack.synced).count(), 2);
    [0, 1].into_iter().for_each(|node| world.power_loss(node));
    [0, 1].into_iter().for_each(|node| world.start(node));
    world.settle();
    assert_eq!(world.ask(0, get("k", 2)).found().values, ["v"]);
}

#[test]
fn both_attempts_are_answered_by_their_own_deadlines() {
    let mut world = Plan::new(3).born();
    world.kill(1);
    world.kill(2);
    let long = world.begin(0, put("k", "v", 1).w(2).within(Duration::from_millis(1500)));
    let short = world.begin(0, put("k", "v", 1).w(2).within(Duration::from_millis(200)));
    world.run_for(Duration::from_millis(205));
    assert!(matches!(world.wait(short).refused(), ApiError::Indeterminate { acks: 1, w: 2, .. }));
    world.run_for(Duration::from_millis(1300));
    assert!(world.answer(long).is_some());
    assert_eq!(world.count(0, |counters| counters.in_flight), 0);
}

/// The disk takes longer than the client waits; what comes of the write is found by the retry.
#[test]
fn a_write_that_the_disk_delays_past_its_deadline_is_found_by_its_retry() {
    let mut plan = Plan::new(3);
    plan.memory = MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..MemoryConfig::default() };
    let mut world = plan.born();
    world.reads = Reads::Held;
    let late = world.begin(0, put("k", "v", 1).w(1).within(Duration::from_millis(100)));
    world.run_for(Duration::from_millis(110));
    assert!(matches!(world.wait(late).refused(), ApiError::Indeterminate { acks: 0, .. }));
    world.reads = Reads::Immediate;
    world.release_reads();
    world.run_for(Duration::from_millis(10));
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    let crate::ask::Found { reply, .. } = world.ask(1, get("k", 3)).found();
    assert_eq!(reply.siblings.len(), 1);
    world.ask(1, crate::ask::whereabouts("k"));
    let held = format!("{:?}", world.ask(1, crate::ask::whereabouts("k")));
    assert_eq!(held.matches("WriteId(").count(), 3, "one sibling on each of three replicas: {held}");
}

/// The disk takes longer than the client waited, and the retry comes before it is done.
#[test]
fn a_retry_joins_a_write_that_the_disk_delays_past_its_deadline() {
    let mut plan = Plan::new(3);
    plan.memory = MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..MemoryConfig::default() };
    let mut world = plan.born();
    world.reads = Reads::Held;
    for (retries, name) in [(0u8, "none"), (1, "once"), (3, "often")] {
        let late = world.begin(0, put(name, "v", 1 + u128::from(retries)).w(1).within(Duration::from_millis(100)));
        world.run_for(Duration::from_millis(110));
        assert!(matches!(world.wait(late).refused(), ApiError::Indeterminate { acks: 0, .. }));
        assert_eq!(world.count(0, |counters| counters.in_flight), 0);
        assert_eq!(world.count(0, |counters| counters.lingering), 1, "{name}");
        for _ in 1..retries {
            let again = world.begin(0, put(name, "v", 1 + u128::from(retries)).w(3).within(Duration::from_millis(100)));
            world.run_for(Duration::from_millis(110));
            assert!(matches!(world.wait(again).refused(), ApiError::Indeterminate { acks: 0, .. }));
        }
        let last = (retries > 0).then(|| world.begin(0, put(name, "v", 1 + u128::from(retries)).w(3)));
        world.run_for(Duration::from_millis(20));
        world.reads = Reads::Immediate;
        world.release_reads();
        world.run_for(Duration::from_secs(5));
        if let Some(last) = last {
            assert_eq!(world.wait(last).receipt().acks.len(), 3);
        }
        let held = format!("{:?}", world.ask(1, crate::ask::whereabouts(name)));
        assert_eq!(held.matches("WriteId(").count(), 3, "one sibling on each of three replicas: {held}");
        assert_eq!(world.count(0, |counters| counters.in_flight + counters.lingering), 0, "{name}");
        world.reads = Reads::Held;
    }
}

/// Somebody uses the write id for another key meanwhile: what this shard hears of that says nothing of the write it waits for.
#[test]
fn a_write_that_the_disk_delays_is_waited_for_whatever_is_heard_of_its_id() {
    let mut plan = Plan::new(3);
    plan.memory = MemoryConfig { miss_probability: 1.0, ..MemoryConfig::default() };
    let mut world = plan.born();
    world.ask(0, put("other", "first", 7).w(3)).receipt();
    world.reads = Reads::Held;
    let late = world.begin(1, put("k", "v", 1).w(1).within(Duration::from_millis(100)));
    world.ask(0, put("other", "v", 1).w(3)).receipt();
    world.run_for(Duration::from_millis(110));
    assert!(matches!(world.wait(late).refused(), ApiError::Indeterminate { acks: 0, .. }));
    assert_eq!(world.count(1, |counters| counters.lingering), 1, "its mint is waited for");
    let retry = world.begin(1, put("k", "v", 1).w(3));
    world.reads = Reads::Immediate;
    world.release_reads();
    assert_eq!(world.wait(retry).receipt().acks.len(), 3);
    assert_eq!(world.ask(2, get("k", 3)).found().reply.siblings.len(), 1);
}

/// The coordinator stands in for a primary itself, and its own copy is to be on its disk too, however late that is asked.
#[test]
fn a_stand_in_that_coordinates_syncs_its_copy_for_a_retry_that_asks_for_that() {
    for pause in [0, 10] {
        let mut world = Plan::new(5).born();
        let (primaries, others) = world.replicas("k");
        primaries.iter().for_each(|node| world.kill(*node));
        world.run_for(Duration::from_secs(4));
        world.ask(others[0], put("k", "v", 1).w(2).dw(0)).receipt();
        world.run_for(Duration::from_secs(pause));
        let receipt = world.ask(others[0], put("k", "v", 1).w(2).dw(2)).receipt();
        assert_eq!(receipt.acks.iter().filter(|ack| ack.synced && ack.stand_in).count(), 2, "{pause}");
        others.iter().for_each(|node| world.power_loss(*node));
        (0..5).for_each(|node| world.start(node));
        world.settle();
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.ask(primaries[0], get("k", 3)).found().values, ["v"]);
    }
}

/// Trap 8: the forwarder gives up on a primary that goes on; the twins look like one write.
#[test]
fn twins_collapse_and_one_context_covers_both() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.replicas("k");
    let outsider = others[0];
    // The primary's word does not come back in time.
    primaries.iter().for_each(|primary| world.cut_one_way(*primary, outsider));
    let id = world.begin(outsider, put("k", "v", 1).w(2).strict().within(Duration::from_millis(900)));
    world.run_for(Duration::from_millis(950));
    assert!(matches!(world.wait(id).refused(), ApiError::Indeterminate { .. }));
    world.mend();
    world.run_for(Duration::from_secs(1));
    let found = world.ask(primaries[1], get("k", 3)).found();
    assert_eq!(found.values, ["v"]);
    world.ask(primaries[1], put("k", "w", 2).w(3).after(found.context())).receipt();
    assert_eq!(world.ask(primaries[2], get("k", 3)).found().values, ["w"]);
}
