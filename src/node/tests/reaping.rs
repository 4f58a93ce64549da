//! The runner's side of reaping: what it sends, and when it does not.

use super::Bench;
use super::bench::deleted;
use crate::api::RepairOrder;
use crate::message::{Inquired, PeerAnswer, ReapingSaid};
use crate::node::ShardInput;
use crate::storage::Holds;
use crate::types::{Generation, NodeId, NodeRun, Round};

const OTHERS: [&str; 4] = ["p1", "p2", "s0", "s1"];

fn run(node: NodeId) -> NodeRun {
    NodeRun { node, generation: Generation(1) }
}

/// This node runs a round, and has asked all members once.
fn inquiring() -> Bench {
    let mut bench = Bench::with(true, |config| config.max_inflight = 1);
    for name in OTHERS {
        let met = ShardInput::Met(run(bench.node(name)));
        bench.input(met);
    }
    bench.holds(&deleted(7));
    let asked = bench.input(ShardInput::Repair(RepairOrder::Reap { partition: Some(bench.partition()) }));
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked.iter().all(|said| said.contains("Inquire 1")), "{asked:?}");
    bench
}

/// All others say that they hold the tombstone if they ought to, and nothing else.
fn answered(bench: &mut Bench) -> Vec<String> {
    let all: Vec<NodeId> = ["me"].into_iter().chain(OTHERS).map(|name| bench.node(name)).collect();
    let mut left = Vec::new();
    for name in OTHERS {
        let said = Inquired {
            generation: Generation(1),
            ring: bench.ring(),
            round: Round(0),
            may_lack: false,
            met: all.iter().filter(|node| **node != bench.node(name)).map(|node| run(*node)).collect(),
            holds: vec![if name.starts_with('p') { Holds::Tombstone } else { Holds::Nothing }],
        };
        left = bench.answer(name, PeerAnswer::Reaping(Ok(ReapingSaid::Inquired(said))));
    }
    left
}

#[test]
fn all_are_fenced_or_nobody() {
    let mut bench = inquiring();
    let left = answered(&mut bench);
    assert_eq!((left.len(), bench.round()), (4, Round(1)), "{left:?}");
    assert!(left.iter().all(|said| said.contains("Fence(Round(1)) 1")), "{left:?}");

    let mut bench = inquiring();
    for id in 1..=2 {
        // Nobody but this node has answered: two requests are all that the others may have.
        let puts = bench.put_other("v", id, 1);
        assert_eq!(bench.ask_beside(puts), ["put on me"]);
    }
    assert_eq!((answered(&mut bench), bench.round()), (vec![], Round(0)));
    let again = bench.due().expect("it tries again");
    assert!(again <= 300_000, "soon: {again}");
}
