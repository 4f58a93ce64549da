//! Bounds: what waits, what lingers, what is parked, and that nothing leaks.

use std::time::Duration;

use dynkv::api::{self, ApiError, Deadline, Request};
use dynkv::message::{PeerAnswer, Replicated};
use dynkv::node::{ShardCounters, ShardInput};
use dynkv::sim::{Reads, World};
use dynkv::storage::MemoryConfig;
use dynkv::types::{Bucket, Generation, NodeRun};

use crate::ask::{Asking, Expect, With, get, key, put};
use crate::plan::Plan;

fn cold(nodes: usize) -> Plan {
    let mut plan = Plan::new(nodes);
    plan.memory = MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..MemoryConfig::default() };
    plan
}

fn in_flight(world: &World) -> u64 {
    let running = (0..world.nodes.len()).filter(|node| world.nodes[*node].process.is_some());
    running.map(|node| world.count(node, |counters| counters.in_flight + counters.parked)).sum()
}

#[test]
fn more_requests_than_may_wait_are_refused_and_nothing_leaks() {
    let mut plan = Plan::new(3);
    plan.shard.max_inflight = 4;
    plan.shards = vec![1, 1, 1];
    let mut world = plan.born();
    world.kill(1);
    world.kill(2);
    let asked: Vec<u64> = (0..50).map(|id| world.begin(0, put(&format!("k{id}"), "v", id + 1).w(2))).collect();
    world.run_for(Duration::from_millis(10));
    let overloaded =
        asked.iter().filter_map(|id| world.answer(*id)).filter(|answer| answer.result == Err(ApiError::Overloaded));
    assert_eq!(overloaded.count(), 46);
    // The inbox holds twice as many as may be in flight, keeps an eighth for peers, and hands the others back; the shard
    // refuses the rest.
    assert_eq!(world.count(0, |counters| counters.overloaded), 3);
    world.run_for(Duration::from_secs(3));
    assert!(asked.iter().all(|id| world.answers[id].answers.len() == 1));
    assert_eq!(in_flight(&world), 0);
    assert_eq!(world.count(0, |counters| counters.lingering), 0);
}

#[test]
fn the_answered_that_wait_for_stragglers_are_bounded() {
    let mut plan = Plan::new(3);
    plan.shard.max_inflight = 4;
    plan.shards = vec![1, 1, 1];
    let mut world = plan.born();
    world.cut_one_way(2, 0);
    for id in 0..100 {
        world.ask(0, put(&format!("k{id}"), "v", id + 1).w(2)).receipt();
        assert!(world.count(0, |counters| counters.lingering) <= 16);
    }
    assert_eq!(world.count(0, |counters| counters.lingering), 16);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.count(0, |counters| counters.lingering), 0);
}

/// Nobody waits for the stragglers of a read: they are not asked again and again.
#[test]
fn an_answered_read_bothers_nobody() {
    let mut world = Plan::new(3).born();
    world.cut_one_way(2, 0);
    world.ask(0, get("k", 2)).found();
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.count(0, |counters| counters.resent), 0);
}

#[test]
fn expired_requests_are_not_executed() {
    let mut world = Plan::new(3).born();
    let mut late = put("k", "v", 1);
    late.header.deadline = Deadline { remaining_ms: 5, server_tick: world.now.as_micros() - 10_000 };
    assert_eq!(world.ask(0, late).refused(), ApiError::Expired);
    assert!(world.ask(0, get("k", 3)).found().reply.siblings.is_empty());
    assert_eq!(world.count(0, |counters| counters.expired), 1);
}

#[test]
fn a_draining_node_takes_nothing_new_and_finishes_what_it_has() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    world.network.weather.delay = (20_000, 20_000);
    let before = world.begin(primaries[0], put("k", "v", 1).w(3));
    world.run_for(Duration::from_millis(1));
    world.drain(primaries[0]);
    world.run_for(Duration::from_millis(1));
    let error = world.ask(primaries[0], put("k", "w", 2)).refused();
    assert!(matches!(error, ApiError::NotReady { .. }), "{error}");
    world.wait(before).receipt();
    // A node that hands a put to it takes it back, and coordinates itself.
    let receipt = world.ask(others[0], put("k", "x", 3).w(3)).receipt();
    assert_eq!(receipt.acks.len(), 3, "a draining replica still replicates");
    assert_eq!(receipt.coordinator, world.nodes[others[0]].id());
}

/// Trap 15.
#[test]
fn a_slow_read_never_overwrites_a_newer_write() {
    let mut world = cold(1).born();
    world.ask(0, put("k", "old", 1)).receipt();
    world.reads = Reads::Held;
    // Each waits behind the first's read of the disk, in its order.
    let ids: Vec<u64> = (0..5).map(|id| world.begin(0, put("k", &format!("new{id}"), 10 + id))).collect();
    let read = world.begin(0, get("k", 1));
    world.run_for(Duration::from_millis(50));
    assert_eq!((world.held.len(), world.count(0, |counters| counters.parked)), (1, 6));
    world.release_reads();
    world.run_for(Duration::from_millis(1));
    for (nth, id) in ids.iter().enumerate() {
        let receipt = world.wait(*id).receipt();
        assert_eq!(receipt.dot.counter, nth as u64 + 2, "each sees the one before");
    }
    world.release_reads();
    assert_eq!(world.wait(read).found().values.len(), 6);
    assert_eq!(in_flight(&world), 0);
}

#[test]
fn reads_of_different_keys_may_come_back_in_any_order() {
    let mut world = cold(1).born();
    world.reads = Reads::Held;
    let ids: Vec<u64> = (0..4).map(|id| world.begin(0, put(&format!("k{id}"), "v", id + 1))).collect();
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.held.len(), 4);
    for _ in 0..4 {
        world.release_read(world.held.len() - 1);
    }
    for id in ids {
        world.wait(id).receipt();
    }
}

/// The put waits for the disk and has no dot yet: nobody can have written it.
#[test]
fn an_answer_that_nobody_asked_for_counts_for_nothing() {
    let mut plan = cold(3);
    plan.shards = vec![1, 1, 1];
    let mut world = plan.born();
    world.reads = Reads::Held;
    let id = world.begin(0, put("k", "v", 1).w(1).dw(0));
    world.run_for(Duration::from_millis(1));
    for (slot, node) in world.replicas("k").0.into_iter().enumerate() {
        let answer = PeerAnswer::Replicated(Replicated { outcome: Ok(true), timing: None });
        let input = ShardInput::Answer {
            from: NodeRun { node: world.nodes[node].id(), generation: Generation(1) },
            id: 1 << 8 | slot as u64,
            answer,
        };
        world.input(0, 0, input);
    }
    world.run_for(Duration::from_millis(1));
    assert!(world.answer(id).is_none());
    assert_eq!(world.count(0, |counters| counters.stray_answers), 3);
    world.reads = Reads::Immediate;
    world.release_reads();
    world.wait(id).receipt();
}

#[test]
fn too_many_parked_operations_are_refused() {
    let mut plan = cold(1);
    plan.shard.max_inflight = 100;
    plan.shards = vec![1];
    let mut world = plan.born();
    world.reads = Reads::Held;
    // Answered at their deadlines, the operations still wait for the disk.
    for round in 0..4 {
        for id in 0..100 {
            world.begin(0, put("k", "v", round * 100 + id + 1).within(Duration::from_millis(5)));
        }
        world.run_for(Duration::from_millis(10));
    }
    assert_eq!(world.count(0, |counters| counters.parked), 400);
    assert_eq!(world.ask(0, put("other", "v", 9999)).refused(), ApiError::Overloaded);
    world.release_reads();
    world.run_for(Duration::from_millis(10));
    assert_eq!(in_flight(&world), 0);
}

#[test]
fn a_question_for_the_node_is_no_shards() {
    let mut world = Plan::new(1).born();
    assert!(matches!(world.ask(0, Request::Status).refused(), ApiError::BadRequest { .. }));
    let mut expired = api::Get::new(Bucket::default(), key("k"));
    assert_eq!(world.ask(0, Request::Get(expired.clone())).refused(), ApiError::Expired);
    expired.deadline.remaining_ms = 100;
    world.ask(0, Request::Get(expired)).found();
}

/// Three nodes, of which the third hears the first and is not heard by it: for three seconds only its silence tells.
fn silent_peer(max_inflight: usize) -> World {
    let mut plan = Plan::new(3);
    plan.shards = vec![1, 1, 1];
    plan.shard.max_inflight = max_inflight;
    let mut world = plan.born();
    world.cut_one_way(2, 0);
    world
}

/// A put at the first node every ten milliseconds, `count` times; all are acknowledged by two of three.
fn put_steadily(world: &mut World, count: u128, first: u128) {
    for id in first..first + count {
        let asked = world.begin(0, put(&format!("k{id}"), "v", id).w(2));
        world.run_for(Duration::from_millis(10));
        assert!(world.answer(asked).is_some_and(|answer| answer.result.is_ok()), "{:?}", world.answer(asked));
    }
}

#[test]
fn a_peer_that_does_not_answer_is_left_alone_probed_and_taken_back() {
    let mut world = silent_peer(256);
    put_steadily(&mut world, 80, 1);
    assert_eq!(world.count(0, |counters| counters.breakers_open), 0, "not yet");
    put_steadily(&mut world, 120, 100);
    let count = |world: &World| {
        (world.count(0, |counters| counters.breaker_openings), world.count(0, |counters| counters.withheld))
    };
    let (openings, withheld) = count(&world);
    assert!((1..=3).contains(&openings), "{openings}");
    assert!(withheld > 80, "{withheld} of 120 were not sent to it");
    world.mend();
    // At the end of its rest it is asked once, and answers.
    world.run_for(Duration::from_millis(900));
    put_steadily(&mut world, 100, 300);
    assert_eq!(world.count(0, |counters| counters.breakers_open), 0);
    let before = count(&world);
    put_steadily(&mut world, 100, 500);
    assert_eq!(count(&world), before, "it is asked as ever");
}

#[test]
fn what_is_not_answered_is_sent_again_ever_more_rarely() {
    let mut world = silent_peer(256);
    let id = world.begin(0, put("k", "v", 1).w(3));
    let resent = [200, 200, 400, 200, 800].map(|ms| {
        world.run_for(Duration::from_millis(ms));
        world.count(0, |counters| counters.resent)
    });
    assert_eq!(resent, [0, 1, 1, 2, 2], "at 300, 900 and 2100 ms");
    world.wait(id).refused();
}

/// What is with one peer is bounded, and takes no room from what is with another.
#[test]
fn a_peer_that_is_full_starves_no_other() {
    let mut world = silent_peer(4);
    put_steadily(&mut world, 8, 1);
    assert_eq!((world.count(0, |counters| counters.with_peers), world.count(0, |counters| counters.withheld)), (8, 0));
    put_steadily(&mut world, 8, 100);
    let count = |which: fn(&ShardCounters) -> u64| world.count(0, which);
    assert_eq!(count(|counters| counters.with_peers), 8, "twice as many as may be in flight");
    assert_eq!((count(|counters| counters.withheld), count(|counters| counters.breaker_openings)), (8, 0));
}
