//! Sloppy quorums: who stands in for whom, and what is refused before anything is written.

use std::time::Duration;

use dynkv::api::{ApiError, HintKept};
use dynkv::sim::World;
use dynkv::storage::{Fault, Record, object_key};
use dynkv::types::{Bucket, NodeId};

use crate::ask::{Asking, Expect, With, get, key, put};
use crate::faults::Befall;
use crate::plan::Plan;

/// Long enough for links to the dead to be given up.
const NOTICED: Duration = Duration::from_secs(4);

fn id(world: &World, node: usize) -> NodeId {
    world.view().layout().member_named(&world.nodes[node].config.name).expect("it is a member").id
}

/// A key of which node 0 holds slot 0, with the nodes by slot and then the stand-ins.
fn key_of_node_0(world: &World) -> (String, Vec<usize>, Vec<usize>) {
    let keys = (0..).map(|number| format!("k{number}"));
    let mut placed = keys.map(|key| (world.replicas(&key), key));
    let found = placed.find(|((primaries, _), _)| primaries[0] == 0).expect("every node owns something");
    let ((primaries, stand_ins), key) = found;
    (key, primaries, stand_ins)
}

/// What a node's disk holds of a key.
fn record(world: &World, node: usize, name: &str) -> Option<Record> {
    use dynkv::sim::Disk;
    let view = world.view();
    let (partition, token) = view.partition_of(&Bucket::default(), &key(name));
    let place = object_key(partition, token, &Bucket::default(), &key(name));
    world.nodes[node].disk.peek(&place, false).map(|bytes| Record::decode(bytes).expect("it is sound"))
}

/// The targets that a node keeps a record for, and whether each counts.
fn hints(world: &World, node: usize, name: &str) -> Vec<(NodeId, bool)> {
    let hints = record(world, node, name).map(|record| record.hints).unwrap_or_default();
    hints.iter().map(|hint| (hint.target, hint.counted)).collect()
}

#[test]
fn a_stand_in_takes_the_slot_of_the_dead_when_w_needs_it() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    world.kill(primaries[1]);
    world.run_for(NOTICED);
    let asked = world.now;
    let receipt = world.ask(0, put(&k, "v", 1).w(3)).receipt();
    assert!(world.now.since(asked) < Duration::from_millis(50), "nobody waits for the dead");
    let acks: Vec<_> = receipt.acks.iter().map(|ack| (ack.slot, ack.node, ack.stand_in)).collect();
    let [slot_0, stand_in, slot_2] = [0, stand_ins[0], primaries[2]].map(|node| id(&world, node));
    assert_eq!(acks, [(0, slot_0, false), (1, stand_in, true), (2, slot_2, false)]);
    let target = id(&world, primaries[1]);
    assert_eq!(receipt.hints, [HintKept { holder: stand_in, target }]);
    assert_eq!(hints(&world, stand_ins[0], &k), [(target, true)]);
    assert!(hints(&world, 0, &k).is_empty(), "the stand-in keeps it");
}

#[test]
fn nobody_stands_in_where_w_is_reached_without() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    world.kill(primaries[2]);
    world.run_for(NOTICED);
    let receipt = world.ask(0, put(&k, "v", 1).w(2)).receipt();
    let [coordinator, target] = [0, primaries[2]].map(|node| id(&world, node));
    assert_eq!(receipt.hints, [HintKept { holder: coordinator, target }]);
    assert_eq!(hints(&world, 0, &k), [(target, false)], "it is no part of W");
    assert!(stand_ins.iter().all(|node| record(&world, *node, &k).is_none()));
    assert_eq!(world.count(0, |counters| counters.lingering), 0, "who is known to be away is not waited for");
}

/// What falls short for certain is not begun: nothing of it can surface later.
#[test]
fn too_few_nodes_are_unavailable_and_nothing_is_written() {
    let mut world = Plan::new(3).born();
    world.kill(2);
    world.run_for(NOTICED);
    let asked = world.now;
    let error = world.ask(0, put("k", "v", 1).w(3)).refused();
    let ApiError::Unavailable { able: 2, wanted: 3, detail } = &error else { panic!("{error}") };
    assert!(detail.contains("n3 is away"), "{detail}");
    assert!(world.now.since(asked) < Duration::from_millis(10));
    assert!((0..3).all(|node| record(&world, node, "k").is_none()));
    let receipt = world.ask(0, put("k", "v", 2).w(2)).receipt();
    assert_eq!((receipt.acks.len(), receipt.hints.len()), (2, 1));
}

#[test]
fn strict_puts_and_pw_want_primaries() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    world.kill(primaries[1]);
    world.run_for(NOTICED);
    for put in [put(&k, "v", 1).w(3).strict(), put(&k, "v", 2).w(2).pw(3)] {
        let error = world.ask(0, put).refused();
        let ApiError::Unavailable { able: 2, wanted: 3, detail } = &error else { panic!("{error}") };
        assert!(detail.starts_with("primaries; "), "{detail}");
    }
    assert!(world.ask(0, put(&k, "v", 3).w(3).pw(2)).receipt().acks.iter().any(|ack| ack.stand_in));
    assert!(record(&world, stand_ins[0], &k).is_some());
}

#[test]
fn who_does_not_answer_in_time_is_replaced() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    world.cut_one_way(primaries[1], 0);
    let asked = world.now;
    let receipt = world.ask(0, put(&k, "v", 1).w(3)).receipt();
    let waited = world.now.since(asked);
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_millis(350), "{waited:?}");
    assert_eq!(receipt.acks[1].node, id(&world, stand_ins[0]));
    assert!(record(&world, primaries[1], &k).is_some(), "it has heard, and was not heard");
}

#[test]
fn who_refuses_is_replaced_at_once() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    world.arm(primaries[1], Fault::Commit { in_log: false });
    // Its disk fails under the first, and it says so to the second.
    for id in 1..=2 {
        let asked = world.now;
        let receipt = world.ask(0, put(&k, "v", id).w(3)).receipt();
        assert!(world.now.since(asked) < Duration::from_millis(50));
        assert!(receipt.acks[1].stand_in, "{:?}", receipt.acks);
    }
    assert_eq!(hints(&world, stand_ins[0], &k), [(id(&world, primaries[1]), true)]);
}

#[test]
fn the_next_one_stands_in_for_a_stand_in() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    world.kill(primaries[1]);
    world.run_for(NOTICED);
    world.arm(stand_ins[0], Fault::Commit { in_log: false });
    let receipt = world.ask(0, put(&k, "v", 1).w(3)).receipt();
    assert_eq!(receipt.acks[1].node, id(&world, stand_ins[1]));
}

/// The paper's promise: a client that reaches one node can write.
#[test]
fn a_node_cut_off_from_everybody_stands_in_itself() {
    let mut world = Plan::new(5).born();
    let (k, primaries, stand_ins) = key_of_node_0(&world);
    let alone = stand_ins[0];
    (0..5).filter(|node| *node != alone).for_each(|node| world.cut(alone, node));
    world.run_for(NOTICED);
    let receipt = world.ask(alone, put(&k, "v", 1).w(1)).receipt();
    let acks: Vec<_> = receipt.acks.iter().map(|ack| (ack.slot, ack.node, ack.stand_in, ack.synced)).collect();
    assert_eq!(acks, [(0, id(&world, alone), true, true)]);
    // The first it stands in for; to the other two it owes a copy.
    let mut kept = hints(&world, alone, &k);
    let mut expected: Vec<_> = primaries.iter().map(|node| (id(&world, *node), *node == primaries[0])).collect();
    kept.sort_unstable();
    expected.sort_unstable();
    assert_eq!(kept, expected);
    let error = world.ask(alone, put(&k, "v", 2).w(2)).refused();
    assert!(matches!(error, ApiError::Unavailable { able: 1, wanted: 2, .. }), "{error}");
}

/// A write whose outcome is in doubt leaves hints for whoever may have missed it.
#[test]
fn a_put_that_ends_leaves_hints_for_the_silent() {
    let mut world = Plan::new(3).born();
    world.cut_one_way(1, 0);
    world.cut_one_way(2, 0);
    let error = world.ask(0, put("k", "v", 1).w(2)).refused();
    assert!(matches!(error, ApiError::Indeterminate { acks: 1, w: 2, .. }), "{error}");
    world.run_for(Duration::from_millis(50));
    let silent = [1, 2].map(|node| (id(&world, node), false));
    let mut kept = hints(&world, 0, "k");
    kept.sort_unstable();
    let mut silent = silent.to_vec();
    silent.sort_unstable();
    assert_eq!(kept, silent);
    world.mend();
    world.run_for(NOTICED);
    assert_eq!(world.ask(1, get("k", 3)).found().values, ["v"]);
}
