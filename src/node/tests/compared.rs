//! What a peer is told that compares a tree with this node.

use super::Bench;
use super::bench::object;
use crate::storage::{Batch, Engine, Family};

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
