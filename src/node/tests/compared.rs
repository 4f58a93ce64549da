//! What peers that compare their trees with this node's, or reap, are told.

use super::Bench;
use super::bench::object;
use crate::message::{AskRounds, Compare, ExchangeRequest, Items, PeerRequest, Reaping, ReapingStep, Sums, Want};
use crate::storage::merkle::{Leaves, SumsOf};
use crate::storage::{Batch, Engine, Family};
use crate::types::{RingVersion, Round};

/// All leaves of the key's tree, so many keys of them a page.
fn items(bench: &Bench, ring: RingVersion, limit: u32) -> PeerRequest {
    let leaves = Leaves::default();
    let of = (0..leaves.count()).map(|leaf| u16::try_from(leaf).unwrap()).collect();
    PeerRequest::Exchange(ExchangeRequest::Items(Items { ring, tree: bench.tree(), leaves, of, after: None, limit }))
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
    let told = bench.asks_items("p1");
    assert!(told.len() == 1 && told[0].contains("rotten: 2, next: None"), "{told:?}");
    assert_eq!((bench.counters().records_wiped, bench.records()), (1, 2));
    assert_eq!(bench.engine.peek(Family::Objects, &keys[1]).unwrap(), newer);
}
