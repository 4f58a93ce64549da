//! Reads: who is asked, who is made up for, who is repaired, and what a session is promised.

use std::time::Duration;

use bytes::Bytes;
use dynkv::api::{ApiError, Holding, RepairOrder, Reply};
use dynkv::sim::{Reads, World};
use dynkv::storage::{Fault, MemoryConfig};
use dynkv::types::NodeId;

use crate::ask::{Asking, Expect, PATIENCE, ReadWith, With, delete, get, put, whereabouts};
use crate::exchange::order;
use crate::faults::Befall;
use crate::plan::Plan;

/// What the primaries hold, by slot: nothing, or digests.
fn holdings(world: &mut World) -> Vec<Option<String>> {
    let asked = world.nodes.iter().position(|node| node.process.is_some()).expect("somebody runs");
    let response = world.ask(asked, whereabouts("k"));
    let Ok(Reply::Where(reply)) = response.result else { panic!("{response:?}") };
    let digest = |(_, holding): &(NodeId, Holding)| match holding {
        Holding::Version { digest, .. } => Some(digest.clone()),
        _ => None,
    };
    reply.slots.iter().map(digest).collect()
}

#[track_caller]
fn all_alike(world: &mut World) {
    let holdings = holdings(world);
    assert!(holdings[0].is_some() && holdings.iter().all(|held| *held == holdings[0]), "{holdings:?}");
}

/// A world in which the primary of the last slot misses what `act` does, and has no chance to hear of it but by a read: there
/// is no room for hints.
fn behind(mut plan: Plan, act: impl FnOnce(&mut World, &[usize])) -> (World, Vec<usize>) {
    plan.shard.hints.max_bytes = bytesize::ByteSize::b(0);
    let mut world = plan.born();
    let primaries = world.replicas("k").0;
    world.ask(primaries[0], put("k", "old", 1).w(3)).receipt();
    world.withhold = 1.0;
    act(&mut world, &primaries);
    // The put is over and sends nothing any more, and whoever seemed silent may be asked again.
    world.run_for(PATIENCE + Duration::from_secs(10));
    world.withhold = 0.0;
    (world, primaries)
}

fn replaced(world: &mut World, primaries: &[usize]) {
    let first = world.ask(primaries[0], get("k", 2)).found();
    world.ask(primaries[0], put("k", "new", 2).w(2).after(first.context())).receipt();
}

#[test]
fn a_read_asks_as_many_as_it_needs() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.run_for(Duration::from_millis(3));
    for (r, frames) in [(1, 0), (2, 2), (3, 4)] {
        let before = world.network.frames;
        assert_eq!(world.ask(0, get("k", r)).found().reply.acks.len(), usize::from(r));
        assert_eq!(world.network.frames - before, frames, "r = {r}");
    }
}

#[test]
fn equal_copies_are_told_by_digest_and_other_ones_are_sent() {
    let mut world = Plan::new(3).born();
    let value = "x".repeat(400);
    world.ask(0, put("k", &value, 1).w(3)).receipt();
    assert_eq!(world.ask(0, get("k", 3)).found().values, std::slice::from_ref(&value));
    assert_eq!(world.count(0, |counters| counters.digest_hits), 2);
    let (mut world, primaries) = behind(Plan::new(3), |world, primaries| {
        world.ask(primaries[0], put("k", &value, 2).w(2)).receipt();
    });
    assert_eq!(world.ask(primaries[2], get("k", 2)).found().values.len(), 2);
    assert_eq!(world.count(primaries[2], |counters| counters.digest_hits), 0);
}

#[test]
fn a_slow_replica_is_hedged_after_the_95th_percentile() {
    let mut world = Plan::new(3).syncs(0).born();
    world.network.weather.delay = (500, 1000);
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    for _ in 0..64 {
        world.ask(0, get("k", 2)).found();
    }
    assert!(world.count(0, |counters| counters.hedges_sent) <= 4, "one in twenty");
    world.cut_one_way(1, 0);
    let before = world.count(0, |counters| counters.hedges_sent);
    let mut slowest = Duration::ZERO;
    for _ in 0..16 {
        let began = world.now;
        assert_eq!(world.ask(0, get("k", 2)).found().values, ["v"]);
        slowest = slowest.max(world.now.since(began));
    }
    assert!(slowest < Duration::from_millis(10), "{slowest:?}");
    assert!(world.count(0, |counters| counters.hedges_sent) > before);
}

#[test]
fn who_was_found_behind_is_repaired_and_named() {
    for reader in [0, 2] {
        let (mut world, primaries) = behind(Plan::new(3), replaced);
        let found = world.ask(primaries[reader], get("k", 3)).found();
        assert_eq!(found.values, ["new"]);
        assert_eq!(found.reply.repaired, [world.nodes[primaries[2]].id()]);
        world.run_for(Duration::from_millis(2));
        all_alike(&mut world);
        assert_eq!(world.count(primaries[reader], |counters| counters.repairs_sent), 1);
        assert_eq!(world.count(primaries[reader], |counters| counters.stray_answers), 0);
    }
}

#[test]
fn a_late_reply_repairs_too() {
    let mut plan = Plan::new(3);
    plan.shard.read_repair_chance = 1.0;
    let (mut world, primaries) = behind(plan, replaced);
    let found = world.ask(primaries[0], get("k", 1)).found();
    assert_eq!((found.values, found.reply.repaired), (vec!["new".to_owned()], vec![]));
    world.run_for(Duration::from_millis(2));
    all_alike(&mut world);
    // A stale coordinator answers from what it has, and learns.
    let mut plan = Plan::new(3);
    plan.shard.read_repair_chance = 1.0;
    let (mut world, primaries) = behind(plan, replaced);
    assert_eq!(world.ask(primaries[2], get("k", 1)).found().values, ["old"]);
    world.run_for(Duration::from_millis(2));
    all_alike(&mut world);
}

/// Trap 5: tombstones are repaired like values, so no old copy brings a value back.
#[test]
fn a_delete_is_repaired_as_a_delete() {
    for reader in [0, 2] {
        let (mut world, primaries) = behind(Plan::new(3), |world, primaries| {
            let first = world.ask(primaries[0], get("k", 2)).found();
            world.ask(primaries[0], delete("k", 2).w(2).after(first.context())).receipt();
        });
        let found = world.ask(primaries[reader], get("k", 3)).found();
        assert!(found.values.is_empty() && found.reply.siblings.len() == 1, "{found:?}");
        world.run_for(Duration::from_millis(2));
        all_alike(&mut world);
        assert!(world.ask(primaries[2], get("k", 1)).found().values.is_empty());
    }
}

/// A repair that this node cannot write costs its reader nothing.
#[test]
fn a_failing_disk_does_not_break_the_read_that_repairs_it() {
    let (mut world, primaries) = behind(Plan::new(3), replaced);
    world.arm(primaries[2], Fault::Commit { in_log: false });
    let found = world.ask(primaries[2], get("k", 3)).found();
    assert_eq!(found.values, ["new"]);
    assert_eq!(world.ask(primaries[2], get("k", 3)).found().values, ["new"], "it reads on without writing");
}

/// The others are asked while this node's own record is on its way from the disk.
#[test]
fn a_cold_record_does_not_hold_up_the_others() {
    let mut plan = Plan::new(3);
    plan.memory = MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..plan.memory };
    let mut world = plan.born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.run_for(PATIENCE);
    world.reads = Reads::Held;
    let read = world.begin(0, get("k", 2));
    world.run_for(Duration::from_millis(1));
    assert!(world.held.iter().any(|read| read.node != 0), "somebody else reads too");
    while let Some(other) = world.held.iter().position(|read| read.node != 0) {
        world.release_read(other);
    }
    world.run_for(Duration::from_millis(310));
    while let Some(other) = world.held.iter().position(|read| read.node != 0) {
        world.release_read(other);
    }
    assert_eq!(world.wait(read).found().values, ["v"]);
    world.release_reads();
}

/// Trap 3.
#[test]
fn a_stand_in_answers_with_what_it_has_and_never_with_nothing() {
    let mut world = Plan::new(5).born();
    let (primaries, _) = world.replicas("k");
    world.kill(primaries[1]);
    world.kill(primaries[2]);
    world.run_for(Duration::from_millis(10));
    let began = world.now;
    let error = world.ask(primaries[0], get("k", 2)).refused();
    assert!(matches!(error, ApiError::Unavailable { able: 1, wanted: 2, .. }), "{error}");
    assert!(world.now.since(began) < Duration::from_millis(10), "at once");
    world.ask(primaries[0], put("k", "v", 1).w(2)).receipt();
    let found = world.ask(primaries[0], get("k", 2)).found();
    assert_eq!(found.values, ["v"]);
    assert_eq!(found.reply.acks.iter().filter(|ack| ack.stand_in).count(), 1);
    assert_eq!(found.reply.repaired, []);
    assert_eq!(world.count(primaries[0], |counters| counters.stand_in_reads), 1);
    for refused in [get("k", 2).strict(), get("k", 1).pr(2)] {
        let error = world.ask(primaries[0], refused).refused();
        assert!(matches!(error, ApiError::Unavailable { able: 1, wanted: 2, .. }), "{error}");
    }
}

/// A coordinator that stands in itself reads its own copy.
#[test]
fn a_coordinator_without_a_slot_counts_what_it_keeps_for_others() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.replicas("k");
    primaries.iter().for_each(|node| world.kill(*node));
    world.run_for(Duration::from_millis(10));
    world.ask(others[0], put("k", "v", 1).w(2)).receipt();
    for reader in others {
        let found = world.ask(reader, get("k", 2)).found();
        assert_eq!(found.values, ["v"]);
        assert!(found.reply.acks.iter().all(|ack| ack.stand_in));
    }
}

#[test]
fn a_coordinator_without_a_slot_repairs_too() {
    let (mut world, primaries) = behind(Plan::new(5), replaced);
    let other = (0..5).find(|node| !primaries.contains(node)).unwrap();
    let found = world.ask(other, get("k", 3)).found();
    assert_eq!((found.values, found.reply.repaired.len()), (vec!["new".to_owned()], 1));
    world.run_for(Duration::from_millis(2));
    all_alike(&mut world);
}

#[test]
fn a_rebuilding_replica_is_repaired_and_not_counted() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.run_for(PATIENCE);
    world.wipe(2);
    world.start(2);
    order(&mut world, &[0, 1, 2], RepairOrder::Pause);
    world.settle();
    let found = world.ask(2, get("k", 2)).found();
    assert_eq!(found.values, ["v"]);
    assert!(found.reply.acks.iter().all(|ack| ack.node != world.nodes[2].id()));
    assert_eq!(found.reply.repaired, [world.nodes[2].id()]);
    world.run_for(Duration::from_millis(2));
    all_alike(&mut world);
}

#[test]
fn after_a_blocking_repair_any_r_replicas_know() {
    for (r, readers) in [(1, vec![0, 1, 2]), (2, vec![])] {
        let (mut world, primaries) = behind(Plan::new(3), |world, primaries| {
            let first = world.ask(primaries[0], get("k", 2)).found();
            world.ask(primaries[0], put("k", "new", 2).w(2).dw(0).after(first.context())).receipt();
        });
        assert_eq!(world.ask(primaries[0], get("k", r).blocking()).found().values, ["new"]);
        for reader in readers {
            assert_eq!(world.ask(primaries[reader], get("k", r)).found().values, ["new"]);
        }
        (0..3).for_each(|node| world.power_loss(node));
        (0..3).for_each(|node| world.start(node));
        world.settle();
        let knowing = holdings(&mut world);
        let held = world.ask(0, get("k", 3)).found();
        assert_eq!(held.values, ["new"], "it is on disks");
        let most = knowing.iter().filter(|held| **held == knowing[0]).count();
        assert!(most >= usize::from(4 - r), "{knowing:?}");
    }
}

#[test]
fn a_blocking_repair_that_cannot_be_says_so() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.network.weather.delay = (100, 200);
    world.run_for(PATIENCE);
    world.cut(0, 1);
    let error = world.ask(0, get("k", 1).blocking()).refused();
    assert!(matches!(error, ApiError::ReadTimeout { replies: 2, r: 3, .. }), "{error}");
    assert!(error.to_string().contains("on their disks"), "{error}");
    world.mend();
    world.settle();
    world.kill(1);
    world.run_for(Duration::from_millis(10));
    let error = world.ask(0, get("k", 1).blocking()).refused();
    assert!(matches!(error, ApiError::Unavailable { able: 2, wanted: 3, .. }), "{error}");
    assert_eq!(world.ask(0, get("k", 2).blocking()).found().values, ["v"]);
    assert!(world.ask(0, get("never written", 2).blocking()).found().values.is_empty());
}

fn written_after(context: &mut Option<Bytes>) -> impl FnOnce(&mut World, &[usize]) {
    |world, primaries| {
        let first = world.ask(primaries[0], get("k", 2)).found();
        let receipt = world.ask(primaries[0], put("k", "new", 2).w(2).after(first.context())).receipt();
        *context = Some(receipt.context);
    }
}

#[test]
fn a_session_reads_what_it_wrote_wherever_it_reads() {
    let mut context = None;
    let (mut world, primaries) = behind(Plan::new(3), written_after(&mut context));
    let token = context.expect("it was written");
    assert_eq!(world.ask(primaries[2], get("k", 1)).found().values, ["old"], "without its token it may not");
    let found = world.ask(primaries[2], get("k", 1).after(&token)).found();
    assert_eq!(found.values, ["new"]);
    assert!(found.reply.repaired.contains(&world.nodes[primaries[2]].id()));
}

#[test]
fn a_session_is_told_what_cannot_be_had() {
    let mut context = None;
    let (mut world, primaries) = behind(Plan::new(3), written_after(&mut context));
    let token = context.expect("it was written");
    world.kill(primaries[0]);
    world.kill(primaries[1]);
    world.run_for(Duration::from_millis(10));
    let error = world.ask(primaries[2], get("k", 1).after(&token)).refused();
    assert!(matches!(error, ApiError::Stale { .. }), "{error}");
    assert_eq!(world.count(primaries[2], |counters| counters.stale), 1);
    let error = world.ask(primaries[2], get("other", 1).after(&token)).refused();
    assert!(matches!(error, ApiError::BadContext { .. }), "{error}");
}

/// What only stand-ins have been told, primaries that have nothing know nothing about.
#[test]
fn nothing_is_no_answer_to_a_session() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.replicas("k");
    for (primary, other) in primaries.iter().flat_map(|primary| others.iter().map(move |other| (*primary, *other))) {
        world.cut(primary, other);
    }
    world.run_for(Duration::from_secs(4));
    let token = world.ask(others[0], put("k", "v", 1).w(2)).receipt().context;
    let error = world.ask(primaries[0], get("k", 2).after(&token)).refused();
    assert!(matches!(error, ApiError::Stale { .. }), "{error}");
    assert!(world.ask(primaries[0], get("k", 2)).found().values.is_empty());
    world.mend();
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.ask(primaries[0], get("k", 2).after(&token)).found().values, ["v"]);
}

/// Repairs rest on what is written: a batch that fails takes them back.
#[test]
fn what_could_not_be_written_is_not_spread_by_repairs() {
    let mut plan = Plan::new(3);
    plan.shard.read_repair_chance = 1.0;
    let mut world = plan.born();
    world.ask(0, put("k", "before", 1).w(3)).receipt();
    world.run_for(PATIENCE);
    let before = holdings(&mut world);
    world.arm(0, Fault::Commit { in_log: false });
    let write = world.begin(0, put("k", "phantom", 2));
    let read = world.begin(0, get("k", 1));
    assert!(matches!(world.wait(write).refused(), ApiError::Indeterminate { .. }));
    assert!(matches!(world.wait(read).refused(), ApiError::ReadTimeout { .. }));
    world.run_for(PATIENCE);
    assert_eq!(holdings(&mut world)[1..], before[1..]);
}
