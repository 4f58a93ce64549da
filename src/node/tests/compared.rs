//! What is compared, scrubbed and reaped: what peers are told, and when nothing of it is begun.

use std::sync::Arc;

use super::Bench;
use super::bench::{config, object};
use crate::api::RepairOrder;
use crate::message::{AskRounds, Compare, ExchangeRequest, Items, PeerRequest, Reaping, ReapingStep, Sums, Want};
use crate::node::ShardInput;
use crate::storage::merkle::{ItemHasher, Leaves, SumsOf};
use crate::storage::{Batch, Engine, Family};
use crate::types::{NodeId, RingVersion, Round, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling};

/// All leaves of the key's tree, so many keys of them a page.
fn items(bench: &Bench, ring: RingVersion, limit: u32) -> PeerRequest {
    let leaves = Leaves::default();
    let of = (0..leaves.count()).map(|leaf| u16::try_from(leaf).unwrap()).collect();
    let (tree, known) = (bench.tree(), Vec::new());
    let items = Items { ring, tree, leaves, of, after: None, until: None, known, limit };
    PeerRequest::Exchange(ExchangeRequest::Items(items))
}

/// By its ring, keys fall into other trees, and other nodes are their primaries.
#[test]
fn whoever_follows_another_ring_is_told_nothing() {
    let requests = |bench: &Bench, ring: RingVersion| {
        let (tree, leaves) = (bench.tree(), Leaves::default());
        let reaping = |step| PeerRequest::Reaping(Reaping { ring, tree, step, candidates: Vec::new() });
        let compare = Compare { ring, leaves, trees: vec![(tree, 0)] };
        [
            PeerRequest::Exchange(ExchangeRequest::Compare(compare)),
            PeerRequest::Exchange(ExchangeRequest::Sums(Sums { ring, tree, leaves, of: SumsOf::Branches })),
            items(bench, ring, 10),
            PeerRequest::Exchange(ExchangeRequest::Want(Want { ring, tree, keys: Vec::new() })),
            reaping(ReapingStep::Inquire),
            reaping(ReapingStep::Fence(Round(1))),
            reaping(ReapingStep::Reap(Round(1))),
            PeerRequest::Rounds(AskRounds { ring, partitions: vec![bench.partition()] }),
        ]
    };
    let mut bench = Bench::new();
    let (ring, other) = (bench.to.ring, RingVersion(bench.to.ring.0 + 1));
    let known = format!("Err(Ring({ring:?}))");
    for (request, same) in requests(&bench, other).into_iter().zip(requests(&bench, ring)) {
        let left = bench.peer(request.clone());
        assert!(left.len() == 1 && left[0].contains(&known), "{request:?}: {left:?}");
        let left = bench.peer(same.clone());
        assert!(left.iter().all(|said| !said.contains("Ring(")), "{same:?}: {left:?}");
    }
    assert_eq!(bench.round(), Round(1), "the fence of its own ring");
}

#[test]
fn a_page_of_keys_says_that_more_may_follow() {
    let mut bench = Bench::new();
    bench.holds(&object("v", 7));
    for (limit, next) in [(1, "next: Some("), (2, "next: None")] {
        let left = bench.peer(items(&bench, bench.to.ring, limit));
        assert!(left.len() == 1 && left[0].contains(next), "{limit}: {left:?}");
    }
}

#[test]
fn a_peer_is_not_told_the_keys_that_it_has() {
    let mut bench = Bench::new();
    let (key, written) = (bench.keys(1).remove(0), object("v", 1));
    assert_eq!(bench.sends_under(&key, &written), ["answer: written"]);
    let hash = ItemHasher::new(&config().secret).hash(&key, &written).short();
    for (known, same, told) in [(hash + 1, "same: [false]", true), (hash, "same: [true]", false)] {
        let said = bench.asks_items("p1", &[known]);
        assert!(said.len() == 1 && said[0].contains(same), "{said:?}");
        assert_eq!(said[0].contains("OtherItem"), told, "{said:?}");
    }
}

/// Or it would stay until the scrub comes by, and whoever has to fill his disk from here would wait as long.
#[test]
fn what_a_peer_is_told_to_be_rotten_is_wiped_and_what_is_newer_is_not() {
    let mut bench = Bench::new();
    let keys = bench.keys(3);
    for (key, actor) in keys.iter().zip(1..) {
        assert_eq!(bench.sends_under(key, &object("v", actor)), ["answer: written"]);
    }
    let mut newer = bench.engine.peek(Family::Objects, &keys[1]).unwrap().to_vec();
    newer[0] += 1;
    let sealed = newer.len() - size_of::<u64>();
    let sum = xxhash_rust::xxh3::xxh3_64(&newer[..sealed]);
    newer[sealed..].copy_from_slice(&sum.to_be_bytes());
    let mut batch = Batch::new();
    batch.put(Family::Objects, &keys[0], b"rot");
    batch.put(Family::Objects, &keys[1], &newer);
    bench.engine.commit(&mut batch).unwrap();
    let told = bench.asks_items("p1", &[]);
    assert!(told.len() == 1 && told[0].contains("rotten: 2, next: None"), "{told:?}");
    assert_eq!((bench.counters().records_wiped, bench.records()), (1, 2));
    assert_eq!(bench.engine.peek(Family::Objects, &keys[1]).unwrap(), newer);
}

/// A node that holds a delete, of whose tree it is the first primary.
fn deleted() -> Bench {
    let dot = Dot { actor: Actor(7), counter: 1 };
    let sibling = Sibling { dot, write_id: WriteId(7), node: NodeId(2), wall_ms: 0, body: Body::Tombstone };
    let mut bench = Bench::new();
    bench.holds(&Arc::new(Object::update(None, &CausalContext::default(), sibling)));
    bench
}

/// Orders to compare, to scrub and to reap everything; what leaves.
fn order_all(bench: &mut Bench) -> Vec<String> {
    let all = [
        RepairOrder::Start { partition: None },
        RepairOrder::Scrub { partition: Some(bench.partition()) },
        RepairOrder::Reap { partition: None },
    ];
    all.into_iter().flat_map(|order| bench.input(ShardInput::Repair(order))).collect()
}

/// Whether by now anything was compared, scrubbed and reaped.
fn begun(bench: &Bench, left: &[String]) -> [bool; 3] {
    let asks = |word: &str| left.iter().any(|said| said.starts_with(word));
    [asks("exchange"), bench.counters().scrubbed_records > 0, asks("reaping")]
}

#[test]
fn nothing_is_begun_while_it_is_paused_by_order() {
    let mut bench = deleted();
    assert_eq!(bench.input(ShardInput::Repair(RepairOrder::Pause)), [""; 0]);
    let left = [order_all(&mut bench), bench.at(10_000)].concat();
    assert_eq!(begun(&bench, &left), [false; 3], "{left:?}");
    let left = [bench.input(ShardInput::Repair(RepairOrder::Resume)), bench.at(20_000)].concat();
    assert_eq!(begun(&bench, &left), [true; 3], "{left:?}");
}

#[test]
fn nothing_is_begun_while_clients_wait_for_their_turn() {
    let mut bench = deleted();
    let get = bench.get(1);
    let late = bench.client(get);
    bench.pass(20);
    bench.input(late);
    let left = [order_all(&mut bench), bench.at(400)].concat();
    assert_eq!(begun(&bench, &left), [false; 3], "{left:?}");
    let left = bench.at(10_000);
    assert_eq!(begun(&bench, &left), [true; 3], "{left:?}");
}
