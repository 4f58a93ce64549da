//! How many are traced and timed, for how long, and which log an entry belongs to.

use super::*;
use crate::message::{Address, Fetch};
use crate::node::ClientRef;
use crate::types::{Bucket, Key, PartitionId, RingVersion};

/// Twice the longest deadline: nobody waits for what came before.
const OVER: u64 = 120_000;

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1000)
}

fn client(id: u64) -> Origin {
    Origin::Client(ClientRef { lane: 1, id })
}

fn peer(id: u64) -> PeerRef {
    PeerRef { node: NodeId(2), lane: 1, id }
}

fn logged(tracer: &Tracer) -> Vec<Origin> {
    tracer.logs.iter().map(|log| log.origin).collect()
}

#[test]
fn the_newest_are_traced() {
    let mut tracer = Tracer::default();
    let most = MAX_TRACED as u64;
    (0..=most).for_each(|id| tracer.begin(at(id), client(id), at(id)));
    assert_eq!(logged(&tracer), (1..=most).map(client).collect::<Vec<_>>());
}

#[test]
fn a_log_that_nobody_can_ask_for_any_more_is_dropped() {
    let mut tracer = Tracer::default();
    tracer.begin(at(0), client(1), at(0));
    tracer.begin(at(1), client(2), at(1));
    tracer.begin(at(OVER), client(3), at(OVER));
    assert_eq!(logged(&tracer), [client(2), client(3)]);
}

#[test]
fn peers_are_timed_within_a_bound_and_forgotten_when_they_wait_no_longer() {
    let of = Address { ring: RingVersion(1), partition: PartitionId(0), bucket: Bucket::default(), key: key() };
    let fetch = PeerRequest::Fetch(Fetch { of, known: None, stand_in: false, hedge: false, trace: true });
    let mut tracer = Tracer::default();
    let most = MAX_TIMED as u64;
    (0..=most).for_each(|id| tracer.on_peer(at(id), peer(id), at(id), &fetch));
    assert!(tracer.timed.keys().copied().eq((0..most).map(peer)), "one more is answered without");
    tracer.on_peer(at(OVER + 2), peer(9999), at(OVER + 2), &fetch);
    assert!(tracer.timed.keys().copied().eq((3..most).chain([9999]).map(peer)));
}

fn key() -> Key {
    Key::new("k").unwrap()
}

#[test]
fn a_request_has_one_entry_until_it_is_taken_up_again() {
    let mut tracer = Tracer::default();
    let entries = |tracer: &Tracer| tracer.logs.iter().map(|log| log.entry).collect::<Vec<_>>();
    tracer.begin(at(0), client(1), at(0));
    tracer.on_entered(5);
    tracer.on_entered(6);
    tracer.taken_up();
    tracer.on_entered(7);
    assert_eq!(entries(&tracer), [Some(5)]);
    tracer.resume(5);
    assert_eq!(entries(&tracer), [None]);
    tracer.on_entered(8);
    assert_eq!(entries(&tracer), [Some(8)]);
}
