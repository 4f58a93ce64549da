//! The exchange of Merkle trees: what nobody told a replica is found and brought over, and a lost disk is filled again.

use std::time::Duration;

use dynkv::api::RepairOrder;
use dynkv::node::{Rebuilt, ShardInput};
use dynkv::sim::{Disk, World};
use dynkv::storage::merkle::TreeId;
use dynkv::storage::{Batch, Engine, Family, Record};
use dynkv::types::PartitionId;

use crate::ask::{Asking, Expect, With, delete, get, put};
use crate::plan::Plan;

const KEYS: u128 = 60;

/// An order to all shards of these nodes.
pub fn order(world: &mut World, nodes: &[usize], order: RepairOrder) {
    for node in nodes {
        for shard in 0..world.nodes[*node].process().lanes.len() {
            world.input(*node, shard, ShardInput::Repair(order));
        }
    }
    world.run_for(Duration::from_millis(1));
}

pub const START: RepairOrder = RepairOrder::Start { partition: None };

/// Nothing is compared but by order, and no hints are kept.
fn plan(nodes: usize) -> Plan {
    let mut plan = Plan::new(nodes);
    plan.shard.hints.max_bytes = bytesize::ByteSize::b(0);
    plan
}

/// Three nodes of different counts of shards, of which the last has missed: values, replacements, deletes. The first has written
/// all, the last some that the others miss.
fn diverged() -> World {
    diverged_in(plan(3))
}

fn diverged_in(plan: Plan) -> World {
    let mut world = plan.born();
    let mut contexts = Vec::new();
    for id in 1..=KEYS {
        let receipt = world.ask(0, put(&format!("old{id}"), "v", id).w(3)).receipt();
        contexts.push(receipt.context);
    }
    world.isolate(2);
    world.run_for(Duration::from_secs(8));
    for (id, context) in (1..=KEYS).zip(&contexts) {
        let name = format!("old{id}");
        match id % 3 {
            0 => drop(world.ask(0, put(&name, "w", 1000 + id).w(2).after(context)).receipt()),
            1 => drop(world.ask(1, delete(&name, 1000 + id).w(2).after(context)).receipt()),
            _ => drop(world.ask(2, put(&name, "x", 1000 + id).w(1).after(context)).receipt()),
        }
        world.ask(0, put(&format!("new{id}"), "v", 2000 + id).w(2)).receipt();
    }
    world.run_for(Duration::from_secs(8));
    world.mend();
    world.run_for(Duration::from_secs(12));
    world
}

fn roots(world: &World, node: usize) -> Vec<Option<u128>> {
    let process = world.nodes[node].process();
    let root = |partition: u16| {
        let core = process.cores().nth(usize::from(partition) % process.lanes.len()).unwrap();
        core.trees().root(TreeId { partition: PartitionId(partition), n: 3 })
    };
    (0..16).map(root).collect()
}

/// Objects by key.
fn held(world: &World, node: usize) -> Vec<(Vec<u8>, std::sync::Arc<dynkv::version::Object>)> {
    let survey = world.nodes[node].disk.survey();
    survey.into_iter().map(|(key, record)| (key.to_vec(), Record::decode(record).unwrap().object)).collect()
}

pub fn is_rebuilding(world: &World, node: usize) -> bool {
    let (id, status) = (world.nodes[node].id(), world.nodes[0].process().control.status());
    status.members.iter().any(|member| member.node == id && member.rebuilding)
}

#[test]
fn what_replicas_have_missed_is_brought_over_both_ways() {
    for begins in 0..3 {
        let mut world = diverged();
        assert_ne!(roots(&world, 2), roots(&world, 0));
        order(&mut world, &[begins], START);
        if begins != 2 {
            // the other pair is compared by itself
            order(&mut world, &[1 - begins], START);
        } else {
            order(&mut world, &[0, 1], START);
        }
        world.run_for(Duration::from_secs(20));
        for node in 1..3 {
            assert_eq!(roots(&world, node), roots(&world, 0));
            assert_eq!(held(&world, node), held(&world, 0));
        }
        assert_eq!(held(&world, 0).len(), 2 * KEYS as usize, "deleted keys have records too");
        let differing: u64 = (0..3).map(|node| world.count(node, |counters| counters.keys_differing)).sum();
        assert!((2 * KEYS as u64..=4 * KEYS as u64).contains(&differing), "{differing}");
    }
}

#[test]
fn equal_replicas_are_told_by_their_roots() {
    let mut world = plan(3).born();
    for id in 1..=KEYS {
        world.ask(0, put(&format!("k{id}"), &"x".repeat(500), id).w(3)).receipt();
    }
    world.run_for(Duration::from_secs(1));
    order(&mut world, &[0, 1, 2], START);
    world.run_for(Duration::from_secs(5));
    for node in 0..3 {
        let (compared, differing, agreed, bytes) = (
            world.count(node, |counters| counters.trees_compared),
            world.count(node, |counters| counters.trees_differing),
            world.count(node, |counters| counters.trees_agreed),
            world.count(node, |counters| counters.exchange_bytes),
        );
        assert_eq!((compared, differing, agreed), (32, 0, 32), "16 partitions, two peers");
        assert!(bytes < 32 * 100, "{bytes}");
    }
}

#[test]
fn nothing_is_compared_while_paused() {
    let mut world = diverged();
    order(&mut world, &[0, 1, 2], RepairOrder::Pause);
    order(&mut world, &[0, 1, 2], START);
    world.run_for(Duration::from_secs(20));
    assert_ne!(roots(&world, 2), roots(&world, 0));
    let status = world.nodes[0].process().cores().next().unwrap().repair_status(world.clock(0)).unwrap();
    assert!(status.paused && status.waiting.is_some() && status.due > 0, "{status:?}");
    order(&mut world, &[0, 1, 2], RepairOrder::Resume);
    world.run_for(Duration::from_secs(20));
    assert_eq!(roots(&world, 2), roots(&world, 0));
}

#[test]
fn a_rotten_record_holds_up_no_other() {
    let mut world = diverged();
    let (key, _) = world.nodes[2].disk.survey().into_iter().nth(7).unwrap();
    let mut batch = Batch::new();
    batch.put(Family::Objects, &key, b"rot");
    world.nodes[2].disk.engine().commit(&mut batch).unwrap();
    order(&mut world, &[2], START);
    world.run_for(Duration::from_secs(30));
    assert_eq!(held(&world, 2), held(&world, 0), "it was wiped, and is back");
    assert_eq!(world.count(2, |counters| counters.records_wiped), 1);
}

/// A node's disk is full, or is not any more.
fn fill(world: &mut World, node: usize, full: bool) {
    let reason = full.then(|| "its disk is full".to_owned());
    for shard in 0..world.nodes[node].process().lanes.len() {
        world.input(node, shard, ShardInput::ReadOnly(reason.clone()));
    }
}

/// The first and the last of these nodes compare, over more leaves than are begun at a time.
fn two_of_many_leaves() -> World {
    let mut world = diverged_in(Plan { partitions: 1, ..plan(3) });
    world.cut(0, 1);
    world.cut(1, 2);
    world
}

#[test]
fn who_takes_no_writes_gives_what_others_lack() {
    let mut world = two_of_many_leaves();
    fill(&mut world, 0, true);
    order(&mut world, &[2], START);
    world.run_for(Duration::from_secs(30));
    assert_eq!(held(&world, 2).len(), 2 * KEYS as usize);
    assert_eq!(world.ask(2, get("old3", 1)).found().values, ["w"]);
    assert_eq!(world.count(2, |counters| counters.trees_agreed), 0, "it has what the other one has not");
    fill(&mut world, 0, false);
    order(&mut world, &[2], START);
    world.run_for(Duration::from_secs(5));
    assert_eq!(held(&world, 2), held(&world, 0));
}

#[test]
fn who_takes_no_writes_sends_what_others_lack() {
    let mut world = two_of_many_leaves();
    let before = held(&world, 2);
    fill(&mut world, 2, true);
    order(&mut world, &[2], START);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.ask(0, get("old2", 1)).found().values, ["x"]);
    assert_eq!(held(&world, 2), before);
    let counts = |world: &World| (world.count(0, |one| one.refused), world.count(2, |one| one.trees_agreed));
    assert_eq!(counts(&world), (0, 0), "nothing is asked for");
    fill(&mut world, 2, false);
    order(&mut world, &[2], START);
    world.run_for(Duration::from_secs(5));
    assert_eq!(held(&world, 2), held(&world, 0));
}

#[test]
fn a_lost_disk_is_filled_again_and_counts_from_then_on() {
    let mut world = plan(4).born();
    for id in 1..=KEYS {
        world.ask(0, put(&format!("k{id}"), "v", id).w(3)).receipt();
    }
    world.run_for(Duration::from_secs(1));
    let before = held(&world, 1);
    assert!(before.len() > 20, "it is a primary of most");
    world.wipe(1);
    world.start(1);
    world.settle();
    world.run_for(Duration::from_secs(10));
    assert_eq!(held(&world, 1), before);
    assert!(!is_rebuilding(&world, 1));
    let rebuilt: Vec<Option<Rebuilt>> = world.nodes[1].process().cores().map(dynkv::node::Core::rebuilt).collect();
    assert!(rebuilt.iter().all(Option::is_none), "it is a node as any other: {rebuilt:?}");
    // It has agreed with all others: what it does not find counts.
    let name = (0..).map(|number| format!("none{number}")).find(|name| {
        let (primaries, _) = world.replicas(name);
        primaries[..2].contains(&1)
    });
    let name = name.unwrap();
    let (primaries, _) = world.replicas(&name);
    world.kill(primaries[2]);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.ask(primaries[0], get(&name, 2)).found().values, [""; 0]);
    // And so it is after a restart, and after the power failed.
    world.power_loss(1);
    world.start(primaries[2]);
    world.start(1);
    world.settle();
    assert!(!is_rebuilding(&world, 1));
    assert_eq!(held(&world, 1), before);
}

#[test]
fn a_lost_disk_counts_only_once_it_has_met_all_its_peers() {
    let mut world = plan(3).born();
    for id in 1..=KEYS {
        world.ask(0, put(&format!("k{id}"), "v", id).w(3)).receipt();
    }
    world.run_for(Duration::from_secs(1));
    world.wipe(1);
    world.cut(1, 2);
    world.start(1);
    world.run_for(Duration::from_secs(20));
    assert_eq!(held(&world, 1), held(&world, 0), "one has all of it");
    assert!(is_rebuilding(&world, 1), "and the other may have what that one lacks");
    world.mend();
    world.run_for(Duration::from_secs(20));
    assert!(!is_rebuilding(&world, 1));
}
