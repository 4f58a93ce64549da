//! Records that have rotted and were wiped: whoever has wiped one may not say that there is nothing, and is told what it lacks.

use std::time::Duration;

use dynkv::api::{ApiError, RepairOrder};
use dynkv::sim::{Disk, World};
use dynkv::storage::{Batch, Engine, Family, Record, ScanLimit, object_key, parse_object_key};
use dynkv::types::Bucket;
use rand::SeedableRng;

use crate::ask::{Asking, Expect, PATIENCE, With, get, key, put};
use crate::exchange::{START, order};
use crate::plan::Plan;

/// How the store has a key.
fn place_of(world: &World, name: &str) -> Vec<u8> {
    let (partition, token) = world.view().partition_of(&Bucket::default(), &key(name));
    object_key(partition, token, &Bucket::default(), &key(name))
}

/// A world whose third primary of `k` has missed it and hears of it neither by a hint nor by the exchange, and whose first one's record
/// has rotted: "v" was acknowledged by two, and one of them still has it.
fn rotten() -> (World, Vec<usize>) {
    let mut plan = Plan::new(3);
    plan.shard.hints.max_bytes = bytesize::ByteSize::b(0);
    let mut world = plan.born();
    let primaries = world.replicas("k").0;
    world.isolate(primaries[2]);
    world.run_for(Duration::from_secs(8));
    world.ask(primaries[0], put("k", "v", 1).w(2)).receipt();
    world.run_for(PATIENCE);
    world.mend();
    world.run_for(Duration::from_secs(12));
    order(&mut world, &[0, 1, 2], RepairOrder::Pause);
    rot(&world, primaries[0]);
    (world, primaries)
}

fn rot(world: &World, node: usize) {
    let mut batch = Batch::new();
    batch.put(Family::Objects, &place_of(world, "k"), b"rot");
    world.nodes[node].disk.engine().commit(&mut batch).unwrap();
}

fn wiped(world: &World, node: usize) -> u64 {
    world.count(node, |counters| counters.records_wiped)
}

/// Whoever is asked: what was acknowledged by two is found by two that count.
#[test]
fn nothing_of_a_wiped_record_counts_for_no_read() {
    for reader in 0..3 {
        let (mut world, primaries) = rotten();
        let found = world.ask(primaries[reader], get("k", 2)).found();
        assert_eq!(found.values, ["v"], "read at {reader}");
        let wiper = world.nodes[primaries[0]].id();
        assert!(found.reply.acks.iter().all(|ack| ack.node != wiper), "{:?}", found.reply.acks);
        // It was asked only if the reader needed it; whoever reads its record finds it rotten.
        world.ask(primaries[0], get("k", 1)).found();
        assert_eq!(wiped(&world, primaries[0]), 1);
    }
}

/// The one that has wiped its record and the one that never had it are no quorum, in this run of the node and in the next.
#[test]
fn where_only_a_wiped_record_could_tell_nobody_says_that_there_is_nothing() {
    for restarted in [false, true] {
        let (mut world, primaries) = rotten();
        // Nobody else hears of the read that wipes, so nothing is repaired by it.
        world.isolate(primaries[0]);
        world.run_for(Duration::from_secs(8));
        world.ask(primaries[0], get("k", 1)).refused();
        assert_eq!(wiped(&world, primaries[0]), 1);
        world.kill(primaries[1]);
        if restarted {
            world.kill(primaries[0]);
        }
        world.mend();
        if restarted {
            world.start(primaries[0]);
        }
        world.run_for(Duration::from_secs(12));
        let record = place_of(&world, "k");
        assert_eq!(world.nodes[primaries[0]].disk.engine().peek(Family::Objects, &record), None);
        for reader in [0, 2] {
            let error = world.ask(primaries[reader], get("k", 2)).refused();
            let is_short = matches!(error, ApiError::ReadTimeout { .. } | ApiError::Unavailable { .. });
            assert!(is_short, "read at {reader}, restarted {restarted}: {error}");
        }
    }
}

/// What it holds of the leaf since is merged into the answer, and counts for nothing.
#[test]
fn what_is_written_after_the_wipe_is_merged_and_does_not_count() {
    let (mut world, primaries) = rotten();
    world.isolate(primaries[0]);
    world.run_for(Duration::from_secs(8));
    world.ask(primaries[0], put("k", "w", 2).w(1)).receipt();
    assert_eq!(wiped(&world, primaries[0]), 1);
    world.run_for(PATIENCE);
    world.mend();
    world.run_for(Duration::from_secs(12));
    let found = world.ask(primaries[0], get("k", 2)).found();
    let mut values = found.values.clone();
    values.sort();
    assert_eq!(values, ["v", "w"]);
    let wiper = world.nodes[primaries[0]].id();
    assert!(found.reply.acks.iter().all(|ack| ack.node != wiper), "{:?}", found.reply.acks);
}

/// Once it has agreed with both others, its nothing is worth as much as theirs.
#[test]
fn a_leaf_that_was_filled_again_counts_as_before() {
    let (mut world, primaries) = rotten();
    world.ask(primaries[0], get("k", 1)).found();
    assert_eq!(world.count(primaries[0], |counters| counters.leaves_lacking), 1);
    order(&mut world, &[0, 1, 2], RepairOrder::Resume);
    order(&mut world, &[0, 1, 2], START);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.count(primaries[0], |counters| counters.leaves_lacking), 0);
    world.kill(primaries[1]);
    world.run_for(Duration::from_secs(4));
    let found = world.ask(primaries[2], get("k", 2)).found();
    assert_eq!((found.values, found.reply.acks.len()), (vec!["v".to_owned()], 2));
}

/// What a node holds that can be read.
fn held(world: &World, node: usize) -> Vec<(Vec<u8>, std::sync::Arc<dynkv::version::Object>)> {
    let survey = world.nodes[node].disk.survey();
    survey.into_iter().filter_map(|(key, record)| Some((key.to_vec(), Record::decode(record).ok()?.object))).collect()
}

/// Three nodes with some keys, of the last of which a part of the disk cannot be read.
fn unreadable() -> (World, usize) {
    let mut plan = Plan::new(3);
    plan.shard.hints.max_bytes = bytesize::ByteSize::b(0);
    let mut world = plan.born();
    for id in 1..=60 {
        world.ask(0, put(&format!("k{id}"), "v", id).w(3)).receipt();
    }
    world.run_for(PATIENCE);
    let mut rng = rand::rngs::StdRng::seed_from_u64(5);
    let rotten = world.nodes[2].disk.engine().rot_range(Family::Objects, 4, &mut rng).len();
    (world, rotten)
}

fn stretches(world: &World) -> u64 {
    world.count(2, |counters| counters.stretches_wiped)
}

#[test]
fn what_a_disk_cannot_read_comes_back_from_other_nodes() {
    let (mut world, _) = unreadable();
    let sound = held(&world, 0);
    order(&mut world, &[2], RepairOrder::Scrub { partition: None });
    world.run_for(Duration::from_secs(20));
    assert!(stretches(&world) > 0);
    assert_eq!(held(&world, 2), sound);
    assert_eq!(world.count(2, |counters| counters.leaves_lacking), 0);
    // The whole disk can be read again.
    let mut all = |_: &[u8], _: &[u8]| std::ops::ControlFlow::Continue(());
    world.nodes[2].disk.engine().scan(Family::Objects, &[], None, ScanLimit::NONE, &mut all).unwrap();
}

/// Whoever meets it has it looked for: the exchange, and scans of clients.
#[test]
fn what_cannot_be_read_is_mended_without_an_order_once_it_is_met() {
    for by_scan in [false, true] {
        let (mut world, rotten) = unreadable();
        let sound = held(&world, 0);
        if by_scan {
            for partition in 0..16 {
                world.ask(2, crate::scans::page_of(partition));
            }
        } else {
            // One key has changed in each leaf, so that leaves are compared.
            world.isolate(2);
            world.run_for(Duration::from_secs(8));
            for (id, (place, _)) in (1000..).zip(&sound) {
                let name = String::from_utf8(parse_object_key(place).unwrap().key.to_vec()).unwrap();
                world.ask(0, put(&name, "w", id).w(2)).receipt();
            }
            world.mend();
            world.run_for(Duration::from_secs(12));
            order(&mut world, &[0, 1, 2], START);
        }
        world.run_for(Duration::from_secs(60));
        assert!(stretches(&world) > 0, "by a scan: {by_scan}, {rotten} records");
        assert_eq!(held(&world, 2), held(&world, 0));
        assert_eq!(world.count(2, |counters| counters.leaves_lacking), 0);
    }
}

/// The damage came first: what was acknowledged here alone since then is kept for others, and is not lost with the rest.
#[test]
fn what_was_acknowledged_since_the_damage_is_not_wiped_with_it() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.run_for(PATIENCE);
    let place = place_of(&world, "k");
    world.isolate(2);
    world.run_for(Duration::from_secs(8));
    world.ask(2, put("k", "w", 2).w(1)).receipt();
    world.run_for(PATIENCE);
    // As if it had been there before: what came since can be read by itself.
    let engine = world.nodes[2].disk.engine();
    let record = engine.peek(Family::Objects, &place).unwrap();
    engine.rot_at(Family::Objects, &[place.clone().into()]);
    let mut batch = Batch::new();
    batch.put(Family::Objects, &place, &record);
    engine.commit(&mut batch).unwrap();
    order(&mut world, &[2], RepairOrder::Scrub { partition: None });
    world.run_for(Duration::from_secs(20));
    assert!(stretches(&world) > 0);
    assert_eq!(world.nodes[2].disk.engine().peek(Family::Objects, &place), Some(record));
    world.mend();
    world.run_for(Duration::from_secs(20));
    for reader in 0..3 {
        let mut values = world.ask(reader, get("k", 2)).found().values;
        values.sort();
        assert!(values.contains(&"w".to_owned()), "read at {reader}: {values:?}");
    }
    assert_eq!(world.count(2, |counters| counters.leaves_lacking), 0);
}
