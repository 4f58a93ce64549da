//! Reaping over whole nodes: deletes leave nothing behind once every member has vouched for it, and nothing goes before.

use std::time::Duration;

use bytes::Bytes;
use dynkv::api::{ApiError, RepairOrder};
use dynkv::sim::{Disk, World};
use dynkv::storage::{Family, Record};
use dynkv::types::Round;

use crate::ask::{Asking, Expect, ReadWith, With, delete, get, put};
use crate::exchange::{is_rebuilding, order};
use crate::plan::Plan;

const KEYS: u128 = 40;
const REAP: RepairOrder = RepairOrder::Reap { partition: None };

/// Nothing is reaped but by order.
fn plan(nodes: usize) -> Plan {
    let mut plan = Plan::new(nodes);
    plan.shard.antientropy.reap_interval = Duration::ZERO;
    plan
}

/// Keys that were written and deleted by whoever is there; the contexts of the deletes.
fn delete_keys(world: &mut World, coordinator: usize, w: u8) -> Vec<Bytes> {
    let delete = |id: u128| {
        let name = format!("k{id}");
        let written = world.ask(coordinator, put(&name, "v", id).w(w)).receipt();
        world.ask(coordinator, delete(&name, 1000 + id).w(w).after(&written.context)).receipt().context
    };
    (1..=KEYS).map(delete).collect()
}

fn reap(world: &mut World) {
    for _ in 0..3 {
        let running: Vec<usize> = (0..world.nodes.len()).filter(|node| world.nodes[*node].process.is_some()).collect();
        order(world, &running, REAP);
        world.run_for(Duration::from_secs(3));
    }
}

/// Records and entries of the index of tombstones, by node.
fn left(world: &World) -> Vec<(usize, usize)> {
    let disk = |node: usize| &world.nodes[node].disk;
    (0..world.nodes.len())
        .map(|node| (disk(node).survey().len(), disk(node).survey_of(Family::Tombstones).len()))
        .collect()
}

fn reaped(world: &World) -> u64 {
    (0..world.nodes.len())
        .filter(|node| world.nodes[*node].process.is_some())
        .map(|node| world.count(node, |counters| counters.reaped_here))
        .sum()
}

#[test]
fn deletes_leave_nothing_behind_on_any_disk() {
    let mut world = plan(4).born();
    let contexts = delete_keys(&mut world, 0, 3);
    world.ask(1, put("other", "v", 5000).w(3)).receipt();
    let before: usize = left(&world).iter().map(|(records, _)| records).sum();
    assert_eq!(before, 3 * (KEYS as usize + 1));
    reap(&mut world);
    let after: usize = left(&world).iter().map(|(records, entries)| records + entries).sum();
    assert_eq!((after, reaped(&world)), (3, 3 * KEYS as u64), "but for the other key");
    // A reader who has seen the delete is told that there is nothing, and not that what it has seen is missing.
    for (id, context) in (1..=KEYS).zip(&contexts) {
        let found = world.ask((id % 4) as usize, get(&format!("k{id}"), 2).after(context)).found();
        assert_eq!((found.values.len(), found.reply.context), (0, None));
    }
    // A write that follows the delete brings back nothing else.
    world.ask(2, put("k1", "new", 6000).w(3).after(&contexts[0])).receipt();
    assert_eq!(world.ask(3, get("k1", 3)).found().values, ["new"]);
}

/// Of four nodes with three replicas each, one is away: for some keys it is a primary, and for others it is not.
#[test]
fn nothing_is_reaped_while_any_member_is_away() {
    let mut world = plan(4).born();
    world.kill(3);
    world.run_for(Duration::from_secs(8));
    delete_keys(&mut world, 0, 2);
    reap(&mut world);
    assert_eq!(reaped(&world), 0);
    let status =
        |world: &World| world.nodes[0].process().cores().map(|core| core.rounds().partitions().count()).sum::<usize>();
    assert_eq!(status(&world), 0, "not even a round was raised");
    world.start(3);
    world.settle();
    world.run_for(Duration::from_secs(20));
    order(&mut world, &[0, 1, 2, 3], RepairOrder::Start { partition: None });
    world.run_for(Duration::from_secs(10));
    reap(&mut world);
    assert_eq!(left(&world), [(0, 0); 4]);
    assert!(status(&world) > 0);
}

/// What one replica alone holds is newer than the tombstone, or was there before: either keeps it.
#[test]
fn what_is_not_the_same_on_all_primaries_stays() {
    let mut world = plan(3).born();
    delete_keys(&mut world, 0, 3);
    world.isolate(2);
    world.run_for(Duration::from_secs(8));
    world.ask(2, put("k1", "alone", 7000).w(1)).receipt();
    // Hints for the others are kept by the one that is alone.
    world.mend();
    world.settle();
    order(&mut world, &[0, 1, 2], REAP);
    world.run_for(Duration::from_secs(20));
    let found = world.ask(0, get("k1", 3)).found();
    assert_eq!(found.values, ["alone"]);
    reap(&mut world);
    for node in 0..3 {
        let records: Vec<Record> =
            world.nodes[node].disk.survey().into_iter().map(|(_, record)| Record::decode(record).unwrap()).collect();
        assert_eq!(records.len(), 1, "one key has a value");
        assert!(!records[0].object.is_deleted());
    }
}

#[test]
fn nothing_is_reaped_while_a_lost_disk_is_filled_and_then_it_is() {
    let mut world = plan(3).born();
    delete_keys(&mut world, 0, 3);
    for id in 1..=KEYS {
        world.ask(0, put(&format!("kept{id}"), "v", 2000 + id).w(3)).receipt();
    }
    world.wipe(1);
    world.run_for(Duration::from_secs(4));
    world.cut(1, 2);
    world.start(1);
    world.run_for(Duration::from_secs(10));
    assert!(is_rebuilding(&world, 1), "it has not agreed with all others");
    reap(&mut world);
    assert_eq!(reaped(&world), 0);
    world.mend();
    world.settle();
    world.run_for(Duration::from_secs(30));
    assert!(!is_rebuilding(&world, 1));
    reap(&mut world);
    assert_eq!(left(&world), [(KEYS as usize, 0); 3]);
}

/// The new disk asks one member alone, and takes nothing in before that has told it.
#[test]
fn a_new_disk_takes_over_the_rounds_of_whoever_it_meets() {
    let mut world = plan(3).born();
    delete_keys(&mut world, 0, 3);
    reap(&mut world);
    let rounds = |world: &World, node: usize| -> Vec<(u16, Round)> {
        let cores = || world.nodes[node].process().cores();
        let of = |partition| cores().map(move |core| core.rounds().of(partition)).max().unwrap();
        let mut known: Vec<_> = cores().flat_map(|core| core.rounds().partitions().collect::<Vec<_>>()).collect();
        known.sort();
        known.into_iter().map(|partition| (partition.0, of(partition))).filter(|(_, round)| round.0 > 0).collect()
    };
    let before = rounds(&world, 0);
    assert!(before.len() > 5, "{before:?}");
    world.wipe(1);
    world.run_for(Duration::from_secs(4));
    world.cut(1, 2);
    world.start(1);
    world.run_for(Duration::from_secs(5));
    assert_eq!(rounds(&world, 1), before);
    let known = world.nodes[1].process().cores().map(|core| core.rounds().partitions().count()).sum::<usize>();
    assert!(known >= 16, "of each partition, if only zero: {known}");
    // It is a replica like any other from then on.
    world.ask(0, put("after", "v", 9000).w(3).strict()).receipt();
}

/// A session token from before a reaping is no promise that a strict read can be told anything of it.
#[test]
fn a_strict_read_does_not_ask_stand_ins_and_cannot_tell() {
    let mut world = plan(4).born();
    let contexts = delete_keys(&mut world, 0, 3);
    reap(&mut world);
    let refused = world.ask(0, get("k1", 2).strict().after(&contexts[0])).refused();
    assert!(matches!(refused, ApiError::Stale { .. }), "{refused:?}");
}
