//! Hints and the records that they are part of, when the ring has changed.

use std::sync::Arc;
use std::time::Duration;

use dynkv::node::ShardInput;
use dynkv::ring::{Layout, RingView};
use dynkv::types::{Bucket, NodeId, RingVersion};

use crate::ask::{Asking, Expect, With, key, put};
use crate::hints::{NOTICED, Scene};
use crate::plan::Plan;

/// The ring of the scene, one version on: all that `loser` owned is others', and it is no member any more if it `leaves`.
fn ring_without(scene: &Scene, loser: usize, leaves: bool) -> Arc<RingView> {
    let view = scene.world.view();
    let (layout, loser) = (view.layout(), scene.id(loser));
    let members: Vec<_> = layout.members().iter().filter(|member| !leaves || member.id != loser).cloned().collect();
    let mut heirs = members.iter().map(|member| member.id).filter(|member| *member != loser).cycle();
    let heir = |owner: &NodeId| if *owner == loser { heirs.next().expect("there are others") } else { *owner };
    let owners = layout.owners().iter().map(heir).collect();
    let departed = if leaves { vec![loser] } else { Vec::new() };
    let version = RingVersion(layout.version().0 + 1);
    let next = Layout::new(version, layout.partitions(), owners, members, departed, layout.buckets().clone());
    Arc::new(RingView::new(next.unwrap(), view.cluster()))
}

/// Tells a node's shards of a ring.
fn tell(scene: &mut Scene, node: usize, view: &Arc<RingView>) {
    for shard in 0..scene.world.nodes[node].process().lanes.len() {
        scene.world.input(node, shard, ShardInput::Ring(view.clone()));
    }
}

/// Trap 2: what waits for a node that is gone for good goes to all who own it today.
#[test]
fn hints_of_a_node_that_has_left_go_to_todays_owners() {
    let mut scene = Scene::new();
    scene.write("v", 1);
    let view = ring_without(&scene, scene.away, true);
    let (partition, _) = view.partition_of(&Bucket::default(), &key("k"));
    let list = view.preference(partition, &Bucket::default()).unwrap();
    let nodes: Vec<usize> = (0..5).filter(|node| *node != scene.away).collect();
    // One owner of today cannot be reached: nothing is dropped before it is.
    let is_owner = |scene: &Scene, node: &usize| list.slot_of(scene.id(*node)).is_some();
    let owners: Vec<usize> = nodes.iter().copied().filter(|node| is_owner(&scene, node)).collect();
    let late = owners.iter().copied().find(|node| *node != scene.stand_in).unwrap();
    scene.world.cut(scene.stand_in, late);
    scene.world.run_for(NOTICED);
    for &node in &nodes {
        tell(&mut scene, node, &view);
    }
    scene.world.run_for(Duration::from_secs(5));
    assert_eq!(scene.backlog(scene.stand_in), (1, 1), "not all owners have it");
    scene.world.mend();
    scene.world.run_for(Duration::from_secs(20));
    assert_eq!(scene.backlog(scene.stand_in), (0, 0));
    assert_eq!(scene.count(|counters| counters.hints_rerouted), 1);
    for node in nodes {
        let owes_nothing = scene.record(node).is_none_or(|record| record.hints.is_empty());
        assert!(owes_nothing, "node {node}");
        assert!(!owners.contains(&node) || scene.record(node).is_some(), "node {node} owns it");
    }
    assert_eq!(scene.record(scene.stand_in).is_some(), owners.contains(&scene.stand_in));
}

/// Whoever was a primary when it wrote may hold the only copy: a hint's age says nothing about that.
#[test]
fn a_former_primary_keeps_what_it_wrote_when_its_hints_grow_too_old() {
    let mut plan = Plan::new(5);
    plan.shard.hints.max_age = Duration::from_secs(30);
    let mut scene = Scene::of(plan);
    let (coordinator, away) = (scene.coordinator, scene.away);
    scene.world.ask(coordinator, put("k", "v", 1).w(2)).receipt();
    assert_eq!(scene.record(coordinator).map(|record| (record.hints.len(), record.stands_in)), Some((1, false)));
    let view = ring_without(&scene, coordinator, false);
    let (partition, _) = view.partition_of(&Bucket::default(), &key("k"));
    let list = view.preference(partition, &Bucket::default()).unwrap();
    assert!(list.slot_of(scene.id(coordinator)).is_none() && list.slot_of(scene.id(away)).is_some());
    tell(&mut scene, coordinator, &view);
    scene.world.run_for(Duration::from_secs(120));
    assert_eq!(scene.world.count(coordinator, |counters| counters.hints_expired), 1);
    assert_eq!(scene.record(coordinator).map(|record| record.hints.len()), Some(0));
}
