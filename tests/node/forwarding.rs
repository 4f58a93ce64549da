//! Requests that reach a node without the key, in clusters larger than a key's replicas.

use std::time::Duration;

use dynkv::api::{ApiError, Holding, Reply};
use dynkv::node::ShardInput;

use crate::ask::{Asking, Expect, With, get, put, whereabouts};
use crate::plan::Plan;

#[test]
fn a_put_is_handed_to_a_primary_once() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    let receipt = world.ask(others[0], put("k", "v", 1).w(3)).receipt();
    assert_eq!(receipt.coordinator, world.nodes[primaries[0]].id());
    assert_eq!(world.count(others[0], |counters| counters.puts_forwarded), 1);
    assert_eq!(world.count(others[0], |counters| counters.puts_unowned), 0);
    assert_eq!(world.ask(others[1], get("k", 3)).found().values, ["v"]);
}

#[test]
fn where_says_who_holds_what() {
    let mut world = Plan::new(5).born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    let (primaries, others) = world.replicas("k");
    world.kill(primaries[2]);
    for node in [primaries[0], others[0]] {
        let Ok(Reply::Where(reply)) = world.ask(node, whereabouts("k")).result else { panic!("no answer") };
        let ids: Vec<_> = primaries
            .iter()
            .map(|node| world.view().layout().member_named(&format!("n{}", node + 1)).unwrap().id)
            .collect();
        assert_eq!(reply.slots.iter().map(|(node, _)| *node).collect::<Vec<_>>(), ids);
        assert_eq!(reply.stand_ins.len(), 2);
        let digests: Vec<_> = reply.slots.iter().map(|(_, holding)| holding.clone()).collect();
        assert!(matches!(&digests[0], Holding::Version { siblings, .. } if siblings.len() == 1));
        assert_eq!(digests[0], digests[1]);
        assert!(matches!(&digests[2], Holding::NoAnswer { .. }));
    }
}

#[test]
fn with_its_primary_unreachable_the_next_one_is_asked() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    world.kill(primaries[0]);
    world.run_for(Duration::from_secs(1));
    let receipt = world.ask(others[0], put("k", "v", 1).w(2)).receipt();
    assert_eq!(receipt.coordinator, world.nodes[primaries[1]].id());
}

#[test]
fn a_node_whose_primary_does_not_answer_coordinates_itself() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    // The link still stands, but nothing passes.
    world.cut(others[0], primaries[0]);
    let receipt = world.ask(others[0], put("k", "v", 1).w(2)).receipt();
    assert_eq!(receipt.coordinator, world.nodes[others[0]].id());
    assert!(receipt.acks.iter().all(|ack| ack.node != receipt.coordinator), "no slot is its own");
    assert_eq!(world.ask(primaries[1], get("k", 2)).found().values, ["v"]);
    // A retry there finds what it minted.
    world.mend();
    let again = world.ask(others[0], put("k", "v", 1).w(2)).receipt();
    assert_eq!(again.dot, receipt.dot);
}

#[test]
fn a_forwarded_put_that_nobody_answers_is_indeterminate() {
    let mut world = Plan::new(5).born();
    let (_, others) = world.replicas("k");
    world.isolate(others[0]);
    let error = world.ask(others[0], put("k", "v", 1).w(2).within(Duration::from_millis(200))).refused();
    assert!(matches!(error, ApiError::Indeterminate { acks: 0, w: 2, .. }), "{error}");
    assert_eq!(world.count(others[0], |counters| counters.in_flight), 0);
}

/// A primary that is silent may have taken the put: whatever this node may not do itself, that is in doubt.
#[test]
fn what_a_silent_primary_may_have_done_is_not_refused() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    for shard in 0..world.nodes[others[0]].process().lanes.len() {
        world.input(others[0], shard, ShardInput::ReadOnly(Some("its disk is full".into())));
    }
    world.cut_one_way(primaries[0], others[0]);
    let error = world.ask(others[0], put("k", "v", 1).w(2)).refused();
    assert!(matches!(error, ApiError::Indeterminate { acks: 0, w: 2, .. }), "{error}");
    assert_eq!(world.ask(primaries[1], get("k", 2)).found().values, ["v"]);
}
