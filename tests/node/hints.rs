//! Hinted handoff: what nodes miss while they are away comes to them, and what they were sent is forgotten only then.

use std::time::Duration;

use dynkv::api::HintOrder;
use dynkv::node::{ShardCounters, ShardInput};
use dynkv::sim::{Disk, World};
use dynkv::storage::{Batch, Engine, Family, Record, ScanLimit, object_key};
use dynkv::types::{Bucket, NodeId};

use crate::ask::{Asking, Expect, With, get, key, put};
use crate::plan::Plan;

/// Long enough for links to the dead to be given up.
pub(crate) const NOTICED: Duration = Duration::from_secs(4);
/// Long enough for a few hints to be replayed.
const HANDED_OFF: Duration = Duration::from_secs(2);

/// A key with its nodes: the coordinator holds slot 0, `away` slot 1, and the first stand-in takes its place.
pub(crate) struct Scene {
    pub world: World,
    key: String,
    pub coordinator: usize,
    pub away: usize,
    pub stand_in: usize,
}

impl Scene {
    pub fn of(plan: Plan) -> Scene {
        let mut world = plan.born();
        let (primaries, stand_ins) = world.replicas("k");
        world.kill(primaries[1]);
        world.run_for(NOTICED);
        Scene { world, key: "k".into(), coordinator: primaries[0], away: primaries[1], stand_in: stand_ins[0] }
    }

    pub fn new() -> Scene {
        Scene::of(Plan::new(5))
    }

    /// A write that is acknowledged because the stand-in keeps it.
    pub fn write(&mut self, value: &str, id: u128) {
        let key = self.key.clone();
        let receipt = self.world.ask(self.coordinator, put(&key, value, id).w(3)).receipt();
        assert_eq!(receipt.hints.len(), 1);
    }

    pub fn id(&self, node: usize) -> NodeId {
        self.world.view().layout().member_named(&self.world.nodes[node].config.name).expect("it is a member").id
    }

    fn place_of(&self, name: &str) -> Vec<u8> {
        let view = self.world.view();
        let (partition, token) = view.partition_of(&Bucket::default(), &key(name));
        object_key(partition, token, &Bucket::default(), &key(name))
    }

    fn record_of(&self, node: usize, name: &str) -> Option<Record> {
        let peeked = self.world.nodes[node].disk.peek(&self.place_of(name), false);
        peeked.map(|bytes| Record::decode(bytes).expect("it is sound"))
    }

    pub fn record(&self, node: usize) -> Option<Record> {
        self.record_of(node, &self.key)
    }

    fn values(&self, node: usize) -> usize {
        self.record(node).map_or(0, |record| record.object.siblings().len())
    }

    pub fn count(&self, which: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.world.count(self.stand_in, which)
    }

    pub fn come_back(&mut self, node: usize) {
        self.world.start(node);
        self.world.run_for(HANDED_OFF);
    }

    /// Hints of the stand-in, of all its shards.
    pub fn backlog(&self, node: usize) -> (u64, u64) {
        let hints = self.world.nodes[node].process().cores().flat_map(dynkv::node::Core::hints);
        hints.fold((0, 0), |(hints, counted), of| (hints + of.hints, counted + of.counted))
    }
}

#[test]
fn a_node_that_is_back_gets_what_it_missed_and_the_stand_in_forgets_it() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    assert_eq!(scene.record(scene.stand_in).map(|record| record.hints.len()), Some(1));
    assert_eq!(scene.backlog(scene.stand_in), (1, 1));
    scene.come_back(scene.away);
    assert_eq!(scene.values(scene.away), 1);
    assert_eq!(scene.record(scene.stand_in), None, "its last hint is gone");
    assert_eq!(scene.backlog(scene.stand_in), (0, 0));
    assert_eq!(scene.count(|counters| counters.hints_replayed), 1);
    assert!(scene.world.nodes[scene.away].disk.peek(&scene.place_of("k"), true).is_some(), "it was synced there");
}

/// A primary keeps the object, and hints that count for nothing are replayed all the same.
#[test]
fn a_coordinator_keeps_its_own_copy() {
    let mut scene = Scene::new();
    scene.world.ask(scene.coordinator, put("k", "v", 1).w(2)).receipt();
    let hints = scene.record(scene.coordinator).map(|record| record.hints).unwrap();
    assert!(hints.len() == 1 && !hints[0].counted);
    scene.come_back(scene.away);
    assert_eq!(scene.values(scene.away), 1);
    let kept = scene.record(scene.coordinator).expect("it is a primary");
    assert!(kept.hints.is_empty());
}

/// Trap 13.
#[test]
fn a_restarted_stand_in_goes_on_handing_off() {
    for with_another_count_of_shards in [false, true] {
        let mut scene = Scene::new();
        scene.write("v", 1);
        scene.world.kill(scene.stand_in);
        scene.world.run_for(NOTICED);
        if with_another_count_of_shards {
            let shards = &mut scene.world.nodes[scene.stand_in].config.shards;
            *shards = if *shards == 1 { 4 } else { 1 };
        }
        scene.come_back(scene.stand_in);
        assert_eq!(scene.backlog(scene.stand_in), (1, 1), "learnt from the disk");
        scene.come_back(scene.away);
        assert_eq!(scene.values(scene.away), 1);
        assert_eq!(scene.record(scene.stand_in), None);
    }
}

/// A key that has rotted in the index names nobody: what is before and behind it is learnt and replayed all the same.
#[test]
fn a_rotten_key_in_the_index_holds_up_nothing_and_goes() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    scene.world.kill(scene.stand_in);
    let engine = scene.world.nodes[scene.stand_in].disk.engine().clone();
    let mut batch = Batch::new();
    let target = scene.id(scene.away).0.to_be_bytes();
    let rotten = [&b""[..], &target, &[target.as_slice(), &[0xff; 40]].concat(), &[0xff; 9]];
    rotten.iter().for_each(|key| batch.put(Family::Hints, key, b"rot"));
    engine.commit(&mut batch).unwrap();
    drop(engine);
    scene.world.run_for(NOTICED);
    scene.come_back(scene.stand_in);
    assert_eq!(scene.backlog(scene.stand_in), (1, 1));
    scene.come_back(scene.away);
    assert_eq!((scene.values(scene.away), scene.record(scene.stand_in)), (1, None));
    let mut left = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        left += 1;
        std::ops::ControlFlow::Continue(())
    };
    let engine = scene.world.nodes[scene.stand_in].disk.engine().clone();
    engine.scan(Family::Hints, &[], None, ScanLimit::NONE, &mut count).unwrap();
    assert_eq!(left, 0);
    assert!(scene.count(|counters| counters.hints_unreadable) >= 4);
}

/// A scene in which the target is there, and nobody hears its acknowledgements; it has been sent what it missed.
fn unheard() -> Scene {
    let mut world = Plan::new(5).born();
    let (primaries, stand_ins) = world.replicas("k");
    let (coordinator, away, stand_in) = (primaries[0], primaries[1], stand_ins[0]);
    world.cut_one_way(away, coordinator);
    world.cut_one_way(away, stand_in);
    let mut scene = Scene { world, key: "k".into(), coordinator, away, stand_in };
    scene.write("v", 1);
    scene.world.run_for(Duration::from_millis(500));
    scene
}

/// Trap 13: an acknowledgement that never comes drops nothing, and neither does the sending.
#[test]
fn a_hint_whose_acknowledgement_is_lost_is_sent_again() {
    let mut scene = unheard();
    assert_eq!(scene.values(scene.away), 1);
    assert!(scene.world.count(scene.away, |counters| counters.merged) > 1, "the hint was sent too");
    assert_eq!(scene.backlog(scene.stand_in), (1, 1));
    scene.world.mend();
    scene.world.run_for(Duration::from_secs(20));
    assert_eq!((scene.values(scene.away), scene.record(scene.stand_in)), (1, None));
    assert_eq!(scene.count(|counters| counters.hints_replayed), 1);
}

#[test]
fn a_target_killed_half_way_gets_the_rest_later() {
    let mut plan = Plan::new(5);
    plan.shard.hints.replay_rate.0 = 3000;
    let mut scene = Scene::of(plan);
    let names: Vec<String> = (0..400).map(|number| format!("k{number}")).collect();
    let hinted = |scene: &Scene| {
        let held = names.iter().filter_map(|name| scene.record_of(scene.stand_in, name));
        held.filter(|record| !record.hints.is_empty()).count()
    };
    for (id, name) in (1..).zip(&names) {
        let (primaries, _) = scene.world.replicas(name);
        if primaries.contains(&scene.away) && primaries[0] != scene.away {
            scene.world.ask(primaries[0], put(name, "v", id).w(3)).receipt();
        }
    }
    let all = hinted(&scene);
    assert!(all > 20, "{all}");
    scene.world.start(scene.away);
    scene.world.run_for(Duration::from_secs(2));
    scene.world.power_loss(scene.away);
    let half = hinted(&scene);
    assert!(0 < half && half < all, "{half} of {all}");
    scene.world.run_for(NOTICED);
    scene.world.start(scene.away);
    scene.world.run_for(Duration::from_secs(20));
    assert_eq!(hinted(&scene), 0);
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| {
            let (primaries, _) = scene.world.replicas(name);
            let written = primaries.contains(&scene.away) && primaries[0] != scene.away;
            written && scene.record_of(scene.away, name).is_none()
        })
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// While the target is back for some and away for others, new hints come as fast as old ones go.
#[test]
fn a_hot_key_holds_up_no_other() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    let cold = (0..).map(|number| format!("cold{number}")).find(|name| {
        let (primaries, stand_ins) = scene.world.replicas(name);
        primaries[0] == scene.coordinator && primaries[1] == scene.away && stand_ins[0] == scene.stand_in
    });
    let cold = cold.expect("some key lies so");
    scene.world.ask(scene.coordinator, put(&cold, "v", 2).w(3)).receipt();
    // The coordinator alone cannot reach it: each of its writes gives the stand-in a new hint.
    scene.world.cut(scene.coordinator, scene.away);
    scene.world.start(scene.away);
    for id in 10..200 {
        let shown = scene.world.ask(scene.coordinator, get("k", 1)).found();
        scene.world.ask(scene.coordinator, put("k", "hot", id).w(3).after(shown.context())).receipt();
        scene.world.run_for(Duration::from_millis(10));
    }
    assert!(scene.record_of(scene.away, &cold).is_some());
    assert_eq!(scene.record_of(scene.stand_in, &cold), None);
    scene.world.run_for(Duration::from_secs(15));
    assert_eq!(scene.record(scene.stand_in), None, "it cools down");
    let (held, kept) = (scene.record(scene.away).unwrap(), scene.record(scene.coordinator).unwrap());
    assert_eq!(held.object, kept.object);
}

/// A record that has rotted at the target is wiped by what comes for it, and holds nothing up.
#[test]
fn hints_take_the_place_of_rotten_records() {
    const ROTTEN: usize = 16;
    let mut plan = Plan::new(5);
    (plan.shards, plan.shard.max_inflight) = (vec![1; 5], 2);
    let mut scene = Scene::of(plan);
    let names = (0..).map(|number| format!("k{number}")).filter(|name| {
        let (primaries, stand_ins) = scene.world.replicas(name);
        primaries.contains(&scene.away) && primaries[0] != scene.away && stand_ins[0] == scene.stand_in
    });
    let names: Vec<String> = names.take(ROTTEN + 10).collect();
    for (id, name) in (1..).zip(&names) {
        let coordinator = scene.world.replicas(name).0[0];
        scene.world.ask(coordinator, put(name, "v", id).w(3)).receipt();
    }
    assert_eq!(scene.backlog(scene.stand_in).0, names.len() as u64);
    let mut places: Vec<_> = names.iter().map(|name| (scene.place_of(name), name.clone())).collect();
    places.sort();
    let (rotten, _) = places.split_at(ROTTEN);
    let mut batch = Batch::new();
    rotten.iter().for_each(|(place, _)| batch.put(Family::Objects, place, b"rot"));
    scene.world.nodes[scene.away].disk.engine().commit(&mut batch).unwrap();
    scene.world.start(scene.away);
    scene.world.run_for(Duration::from_secs(2));
    let missing: Vec<&String> =
        places.iter().map(|(_, name)| name).filter(|name| scene.record_of(scene.away, name).is_none()).collect();
    assert_eq!(missing, Vec::<&String>::new());
    assert_eq!(scene.backlog(scene.stand_in).0, 0);
    let wiped = scene.world.count(scene.away, |counters| counters.records_wiped);
    assert_eq!(wiped, ROTTEN as u64);
}

#[test]
fn a_stand_ins_object_stays_as_long_as_any_hint_does() {
    let mut plan = Plan::new(6);
    plan.seed = 3;
    let mut scene = Scene::of(plan);
    let (primaries, _) = scene.world.replicas("k");
    scene.write("v", 1);
    let other = primaries[2];
    scene.world.kill(other);
    scene.world.run_for(NOTICED);
    // Two are away, and the first stand-in takes the first of their slots again; the second slot goes to the next.
    scene.world.ask(scene.coordinator, put("k", "w", 2).w(3)).receipt();
    let targets = |scene: &Scene, node| {
        let record = scene.record(node);
        record.map(|record| record.hints.iter().map(|hint| hint.target).collect::<Vec<_>>()).unwrap_or_default()
    };
    let before = targets(&scene, scene.stand_in);
    assert!(before.contains(&scene.id(scene.away)), "{before:?}");
    let all_hints: u64 =
        (0..6).filter(|node| scene.world.nodes[*node].process.is_some()).map(|node| scene.backlog(node).0).sum();
    assert!(all_hints >= 2, "{all_hints}");
    scene.come_back(scene.away);
    for node in (0..6).filter(|node| ![scene.away, other].contains(node)) {
        let left = targets(&scene, node);
        assert!(left.iter().all(|target| *target == scene.id(other)), "{left:?}");
        let is_primary = primaries.contains(&node);
        assert_eq!(scene.record(node).is_some(), is_primary || !left.is_empty(), "node {node}");
    }
    scene.come_back(other);
    for node in (0..6).filter(|node| !primaries.contains(node)) {
        assert_eq!(scene.record(node), None, "node {node}");
    }
    assert!(primaries.iter().all(|node| scene.values(*node) == 2));
}

/// Trap 14: age ends what counts for nothing, and never what an acknowledgement rests on.
#[test]
fn uncounted_hints_grow_too_old_and_counted_ones_never() {
    let mut plan = Plan::new(5);
    plan.shard.hints.max_age = Duration::from_secs(30);
    let mut scene = Scene::of(plan);
    scene.world.ask(scene.coordinator, put("k", "v", 1).w(2)).receipt();
    scene.write("w", 2);
    assert_eq!((scene.backlog(scene.coordinator), scene.backlog(scene.stand_in)), ((1, 0), (1, 1)));
    scene.world.run_for(Duration::from_secs(20));
    assert_eq!(scene.backlog(scene.coordinator), (1, 0));
    scene.world.run_for(Duration::from_secs(100));
    assert_eq!((scene.backlog(scene.coordinator), scene.backlog(scene.stand_in)), ((0, 0), (1, 1)));
    assert_eq!(scene.world.count(scene.coordinator, |counters| counters.hints_expired), 1);
    assert!(scene.record(scene.coordinator).is_some_and(|record| record.hints.is_empty()));
    scene.come_back(scene.away);
    assert_eq!(scene.values(scene.away), 2);
}

#[test]
fn no_more_uncounted_hints_are_given_than_fit() {
    let mut plan = Plan::new(5);
    plan.shard.hints.max_bytes = bytesize::ByteSize::b(0);
    let mut scene = Scene::of(plan);
    scene.world.ask(scene.coordinator, put("k", "v", 1).w(2)).receipt();
    assert_eq!(scene.backlog(scene.coordinator), (0, 0));
    assert_eq!(scene.world.count(scene.coordinator, |counters| counters.hints_refused), 1);
    scene.write("w", 2);
    assert_eq!(scene.backlog(scene.stand_in), (1, 1), "what counts is always kept");
}

/// 60 objects of 1 KiB at 10 KiB a second.
#[test]
fn a_replay_keeps_to_its_rate() {
    let mut plan = Plan::new(5);
    plan.shard.hints.replay_rate.0 = 10 << 10;
    plan.shards = vec![1; 5];
    let mut scene = Scene::of(plan);
    let value = "x".repeat(1024);
    let mut names = (0..).map(|number| format!("k{number}")).filter(|name| {
        let (primaries, stand_ins) = scene.world.replicas(name);
        primaries[0] == scene.coordinator && primaries[1] == scene.away && stand_ins[0] == scene.stand_in
    });
    let names: Vec<String> = names.by_ref().take(60).collect();
    for (id, name) in (1..).zip(&names) {
        scene.world.ask(scene.coordinator, put(name, &value, id).w(3)).receipt();
    }
    scene.world.start(scene.away);
    scene.world.settle();
    let begun = scene.world.now;
    let replayed = |scene: &Scene| scene.count(|counters| counters.hints_replayed);
    while replayed(&scene) < 60 && scene.world.now.since(begun) < Duration::from_secs(30) {
        scene.world.run_for(Duration::from_millis(100));
    }
    let took = scene.world.now.since(begun);
    assert!((4..10).contains(&took.as_secs()), "{took:?} for {}", replayed(&scene));
}

fn order(scene: &mut Scene, order: HintOrder) {
    for shard in 0..scene.world.nodes[scene.stand_in].process().lanes.len() {
        scene.world.input(scene.stand_in, shard, ShardInput::Hints(order));
    }
    scene.world.run_for(Duration::from_millis(50));
}

#[test]
fn an_operator_may_drop_what_waits_for_a_node_that_never_returns() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    let (away, other) = (scene.id(scene.away), scene.id(scene.coordinator));
    order(&mut scene, HintOrder::Drop { target: other });
    assert_eq!(scene.backlog(scene.stand_in), (1, 1));
    order(&mut scene, HintOrder::Drop { target: away });
    assert_eq!((scene.backlog(scene.stand_in), scene.record(scene.stand_in)), ((0, 0), None));
    assert_eq!(scene.count(|counters| counters.hints_dropped), 1);
    scene.write("w", 2);
    assert_eq!(scene.backlog(scene.stand_in), (1, 1), "the order was about what waited then");
}

/// A target that takes no writes is asked ever less often, unless somebody knows better.
#[test]
fn an_operator_may_have_it_tried_at_once() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    scene.world.start(scene.away);
    scene.world.settle();
    let full = |scene: &mut Scene, why: Option<String>| {
        for shard in 0..scene.world.nodes[scene.away].process().lanes.len() {
            scene.world.input(scene.away, shard, ShardInput::ReadOnly(why.clone()));
        }
    };
    assert_eq!(scene.record(scene.stand_in), None);
    full(&mut scene, Some("it is full".into()));
    scene.write("w", 2);
    scene.world.run_for(Duration::from_secs(60));
    assert_eq!(scene.backlog(scene.stand_in), (1, 1));
    full(&mut scene, None);
    order(&mut scene, HintOrder::Flush { target: None });
    assert_eq!(scene.backlog(scene.stand_in), (0, 0));
}

/// An orderly stop waits for clients, not for other nodes.
#[test]
fn a_stopping_node_hands_nothing_off() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    scene.world.drain(scene.stand_in);
    scene.world.start(scene.away);
    scene.world.run_for(HANDED_OFF);
    let process = scene.world.nodes[scene.stand_in].process.as_ref();
    assert!(process.is_none_or(|process| process.cores().all(dynkv::node::Core::is_idle)));
    assert!(scene.record(scene.stand_in).is_some());
}

/// What the scenarios above want is not so with these bugs.
#[cfg(feature = "mutants")]
#[test]
fn seeded_bugs_lose_what_waits() {
    use crate::mutants::without_and_with;
    use dynkv::mutant::Mutant;
    let unacknowledged = || {
        let scene = unheard();
        scene.backlog(scene.stand_in)
    };
    let restarted = || {
        let mut scene = Scene::new();
        scene.write("v", 1);
        scene.world.kill(scene.stand_in);
        scene.world.run_for(NOTICED);
        scene.come_back(scene.stand_in);
        scene.backlog(scene.stand_in)
    };
    let aged = || {
        let mut scene = Scene::new();
        scene.write("v", 1);
        scene.world.run_for(Duration::from_secs(100));
        scene.backlog(scene.stand_in)
    };
    assert_eq!(without_and_with(Mutant::HintDroppedOnSend, unacknowledged), ((1, 1), (0, 0)));
    assert_eq!(without_and_with(Mutant::HintsLostOnRestart, restarted), ((1, 1), (0, 0)));
    assert_eq!(without_and_with(Mutant::CountedHintExpires, aged), ((1, 1), (0, 0)));
}
