//! Trap 1: who may go on counting under which actor, over crashes, power losses and ordered stops.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dynkv::api::ApiError;
use dynkv::node::{ClientRef, Core, Output, ShardInput};
use dynkv::sim::World;
use dynkv::storage::Rounds;
use dynkv::storage::merkle::Forest;
use dynkv::storage::{Fault, MemoryConfig, MemoryEngine};
use rand::RngExt;

use crate::ask::{Ask, Asking, Expect, With, get, put};
use crate::faults::Befall;
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::writers::Writers;

/// One write at node 0 before, one after `fall` and a restart: do they have one actor?
fn continues(fall: impl Fn(&mut World), nodes: usize) -> bool {
    let mut world = Plan::new(nodes).born();
    let before = world.ask(0, put("k", "a", 1).w(1)).receipt();
    fall(&mut world);
    world.run_for(Duration::from_secs(1));
    world.start(0);
    world.settle();
    let after = world.ask(0, put("k", "b", 2).w(1)).receipt();
    after.dot.actor == before.dot.actor
}

#[test]
fn an_actor_goes_on_where_nothing_can_be_forgotten() {
    for nodes in [1, 3] {
        assert!(continues(|world| world.kill(0), nodes), "kill -9 costs no actor");
        assert!(continues(|world| world.stop(0), nodes), "nor does an ordered stop");
        assert!(!continues(|world| world.power_loss(0), nodes), "a power loss may have taken writes");
    }
    assert!(!continues(|world| world.wipe(0), 3), "a new disk has forgotten all");
}

/// Wherever its writes arrive, as long as nodes without a slot hand them to the one that clients ask.
#[test]
fn a_key_has_one_actor_until_its_first_coordinator_is_away() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    let mut actors = BTreeSet::new();
    for (id, node) in (1..).zip([primaries[0], others[0], others[1], primaries[0]]) {
        actors.insert(world.ask(node, put("k", "v", id).w(3)).receipt().dot.actor);
    }
    assert_eq!(actors.len(), 1, "{actors:?}");
    world.kill(primaries[0]);
    world.run_for(Duration::from_secs(1));
    for (id, node) in (5..).zip([primaries[1], others[0], others[1]]) {
        actors.insert(world.ask(node, put("k", "v", id).w(2)).receipt().dot.actor);
    }
    assert_eq!(actors.len(), 2, "{actors:?}");
}

/// A dot minted before the node knows which run this is would be continued by the next run.
#[test]
fn nothing_is_minted_before_the_node_knows_its_standing() {
    let mut world = Plan::new(1).born();
    let (view, now) = (world.view(), world.clock(0));
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let node = &mut world.nodes[0];
    let mut core =
        Core::new(node.config.shard.clone(), node.id(), engine.clone(), &Forest::default(), &Rounds::default(), 1);
    let from = ClientRef { lane: 1, id: 1 };
    let request = put("k", "v", 1).request();
    let mut inputs = vec![ShardInput::Ring(view), ShardInput::Client { from, arrived: now.time, request }];
    let mut host = Outbox::new(engine);
    core.drain(now, &mut inputs, &mut host);
    let [Output::Respond { response, .. }] = &host.outputs[..] else { panic!("{:?}", host.outputs) };
    assert!(matches!(response.result, Err(ApiError::NotReady { .. })), "{response:?}");
}

/// Until a majority of the others has granted the run, the directory may be an old copy.
#[test]
fn an_ungranted_run_continues_nothing_of_earlier_ones() {
    let mut world = Plan::new(3).born();
    let before = world.ask(0, put("k", "a", 1).w(3)).receipt();
    world.kill(0);
    world.kill(1);
    world.kill(2);
    world.run_for(Duration::from_secs(1));
    world.start(0);
    world.run_for(Duration::from_secs(1));
    let alone = world.ask(0, put("k", "b", 2).w(1)).receipt();
    assert_ne!(alone.dot.actor, before.dot.actor);
    let again = world.ask(0, put("k", "c", 3).w(1)).receipt();
    assert_eq!(again.dot.actor, alone.dot.actor, "its own run it remembers");
}

/// A failed batch, a restart, a new write: the name of the one is not given to the other.
#[test]
fn a_failed_batch_gives_no_dot_twice() {
    for in_log in [false, true] {
        for seed in 1..=5 {
            let mut plan = Plan::new(3).seed(seed);
            plan.shard.max_siblings = 500;
            let mut world = plan.born();
            let mut writers = Writers::new();
            for round in 0..6 {
                for node in 0..3 {
                    (0..3).for_each(|_| writers.act(&mut world, node));
                }
                world.run_for(Duration::from_millis(20));
                writers.listen(&world);
                let victim = round % 3;
                world.arm(victim, Fault::Commit { in_log });
                (0..4).for_each(|_| writers.act(&mut world, victim));
                world.run_for(Duration::from_millis(20));
                writers.listen(&world);
                world.kill(victim);
                world.run_for(Duration::from_millis(10));
                world.start(victim);
                world.settle();
            }
            world.run_for(Duration::from_secs(3));
            writers.listen(&world);
            writers.check_end(&mut world);
        }
    }
}

/// One node, restarted in every way, under clients that hold contexts of what it may have forgotten.
#[test]
fn dots_stay_unique_over_restarts_of_all_kinds() {
    for seed in 1..=15 {
        let mut world = Plan::new(3).seed(seed).born();
        let mut writers = Writers::new();
        for _ in 0..8 {
            for _ in 0..6 {
                let node = world.rng.random_range(0..3);
                writers.act(&mut world, node);
                let pause = world.rng.random_range(0..2000);
                world.run_for(Duration::from_micros(pause));
                writers.listen(&world);
            }
            let falls = [World::kill, World::power_loss, World::stop, World::die_with_replicates_out];
            let (node, fall) = (world.rng.random_range(0..3), world.rng.random_range(0..falls.len()));
            if fall == 3 {
                // The power goes when others have heard of a write that is not on the disk.
                (0..3).for_each(|_| writers.act(&mut world, node));
            }
            falls[fall](&mut world, node);
            world.run_for(Duration::from_millis(50));
            world.start(node);
            world.settle();
        }
        world.run_for(Duration::from_secs(3));
        writers.listen(&world);
        writers.check_end(&mut world);
    }
}

/// A reader was shown a write that a power loss then took; the next write of that node is not taken for it.
#[test]
fn a_write_that_was_read_and_lost_does_not_hide_the_next() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "a", 1).w(3)).receipt();
    world.isolate(0);
    let lost = world.ask(0, put("k", "lost", 2).w(1).dw(0)).receipt();
    let seen = world.ask(0, get("k", 1)).found();
    assert!(seen.values.contains(&"lost".to_owned()));
    world.power_loss(0);
    world.mend();
    world.run_for(Duration::from_secs(4));
    world.start(0);
    world.settle();
    // The reader writes elsewhere, on what it was shown.
    world.ask(1, put("k", "on lost", 3).w(2).after(seen.context())).receipt();
    world.ask(0, put("k", "next", 4).w(3)).receipt();
    let values = world.ask(2, get("k", 3)).found().values;
    assert!(values.contains(&"next".to_owned()) && values.contains(&"on lost".to_owned()), "{values:?} {lost:?}");
}
