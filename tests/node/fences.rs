//! Reaping rounds over whole nodes: what comes late, by whatever way, is fenced, read again by its sender, and comes in.

use std::time::Duration;

use dynkv::api::RepairOrder;
use dynkv::sim::{Disk, World};
use dynkv::storage::merkle::{Forest, ItemHasher, Leaves, Trees};
use dynkv::storage::{Engine, Rounds, Store, StoreLimits};
use dynkv::types::{Bucket, PartitionId, Round};

use crate::ask::{Asking, Expect, With, get, key, put};
use crate::exchange::order;
use crate::hints::Scene;
use crate::plan::Plan;

const MET: Round = Round(3);

fn partition(world: &World) -> PartitionId {
    world.view().partition_of(&Bucket::default(), &key("k")).0
}

/// A node that is down has met a round, as by a fence that nobody of the others has heard of.
fn meet(world: &mut World, node: usize) {
    let (partition, engine) = (partition(world), world.nodes[node].disk.engine().clone());
    let trees = Trees::of(&Forest::default(), 0, 1, Leaves::default(), ItemHasher::new(&[0; 32]));
    let mut store = Store::<_, ()>::new(engine.clone(), StoreLimits { parked: 1, cached: 0 }, trees, Rounds::default());
    store.adopt(partition, MET);
    store.commit().expect("its disk is sound");
    engine.sync().expect("its disk is sound");
}

fn round(world: &World, node: usize) -> Round {
    world.nodes[node].process().cores().map(|core| core.rounds().of(partition(world))).max().unwrap()
}

#[test]
fn a_late_hint_is_fenced_and_comes_in_once_it_has_been_read_again() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    let away = scene.away;
    meet(&mut scene.world, away);
    scene.come_back(away);
    assert_eq!(scene.record(away).map(|record| record.object.siblings().len()), Some(1));
    assert_eq!(scene.record(scene.stand_in), None, "its last hint is gone");
    assert_eq!(scene.count(|counters| counters.hints_replayed), 1);
    assert_eq!((round(&scene.world, away), round(&scene.world, scene.stand_in)), (MET, MET));
}

#[test]
fn a_write_that_one_replica_fences_is_acknowledged_by_all() {
    let mut world = Plan::new(3).born();
    world.kill(1);
    meet(&mut world, 1);
    world.run_for(Duration::from_secs(4));
    world.start(1);
    world.settle();
    for (coordinator, id) in [(0, 1), (2, 2), (1, 3)] {
        world.ask(coordinator, put("k", "v", id).w(3)).receipt();
    }
    assert_eq!([0, 1, 2].map(|node| round(&world, node)), [MET; 3]);
    // What was taken over survives the loss of power.
    world.kill(0);
    world.run_for(Duration::from_secs(1));
    world.start(0);
    world.settle();
    assert_eq!(round(&world, 0), MET);
    assert_eq!(world.ask(0, get("k", 3)).found().values.len(), 3);
}

#[test]
fn an_exchange_carries_what_a_replica_has_missed_past_the_fence() {
    let mut plan = Plan::new(3);
    plan.shard.hints.max_bytes = bytesize::ByteSize::b(0);
    let mut world = plan.born();
    world.kill(1);
    world.run_for(Duration::from_secs(4));
    world.ask(0, put("k", "v", 1).w(2)).receipt();
    meet(&mut world, 1);
    world.run_for(Duration::from_secs(4));
    world.start(1);
    world.settle();
    order(&mut world, &[0, 1, 2], RepairOrder::Start { partition: None });
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.nodes[1].disk.survey().len(), 1);
    assert_eq!(round(&world, 1), MET);
    assert!(round(&world, 0) == MET || round(&world, 2) == MET, "whoever sent it");
}
