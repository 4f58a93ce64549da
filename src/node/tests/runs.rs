//! Which run of a node is listened to.

use super::Bench;
use super::bench::{fetched, held, object};
use crate::message::{Found, PeerAnswer, Replicated};
use crate::node::ShardInput;
use crate::types::{Generation, NodeId, NodeRun};

fn met(node: NodeId, generation: u64) -> ShardInput {
    ShardInput::Met(NodeRun { node, generation: Generation(generation) })
}

/// The bench's peers speak in their first run.
#[test]
fn what_an_earlier_run_says_is_not_listened_to() {
    let mut bench = Bench::new();
    bench.ask(bench.get(2));
    let p1 = bench.node("p1");
    bench.input(met(p1, 2));
    assert_eq!(bench.answer("p1", fetched(Ok(held(Found::Object(object("a", 7)))))), [""; 0]);
    assert_eq!(bench.counters().outdated, 1);
    bench.input(met(NodeId(2), 5));
    assert_eq!(bench.sends(&object("b", 8), 0), [""; 0], "it is not even refused");
    assert_eq!((bench.counters().outdated, bench.counters().merged), (2, 0));
}

#[test]
fn what_the_latest_run_says_is_listened_to_whatever_is_heard_of_earlier_ones() {
    let mut bench = Bench::new();
    for generation in [1, 0] {
        bench.input(met(NodeId(2), generation));
    }
    assert_eq!(bench.sends(&object("b", 8), 0).len(), 1);
    bench.ask(bench.put("v", 7, 2));
    let written = PeerAnswer::Replicated(Replicated { outcome: Ok(true), timing: None });
    assert_eq!(bench.answer("p1", written).len(), 1);
    assert_eq!(bench.counters().outdated, 0);
}
