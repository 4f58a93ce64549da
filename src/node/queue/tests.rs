//! What is let in, in which order it is taken, and what it counts for.

use std::sync::Arc;

use super::*;
use crate::api;
use crate::message::{
    Address, Coordinate, ExchangeAnswer, ExchangeRequest, Fetch, Fetched, Held, Itemized, OtherItem, Ranged, Reason,
    Replicate, Replicated, TreeKey, Want,
};
use crate::node::{ClientRef, PeerRef};
use crate::storage::merkle::TreeId;
use crate::storage::{Page, PageItem};
use crate::types::{Bucket, Generation, Key, NodeId, NodeRun, PartitionId, RingVersion, Round, Time, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling, Versions};

fn address() -> Address {
    let key = Key::new("k").unwrap();
    Address { ring: RingVersion(1), partition: PartitionId(0), bucket: Bucket::default(), key }
}

fn client(id: u64, bytes: usize) -> ShardInput {
    let header = api::PutHeader::new(Bucket::default(), Key::new("k").unwrap(), WriteId(1));
    let request = Request::Put(api::Put { header, value: Some(vec![0; bytes].into()) });
    ShardInput::Client { from: ClientRef { lane: 1, id }, arrived: Time::ZERO, request }
}

fn peer(id: u64, request: PeerRequest) -> ShardInput {
    ShardInput::Peer {
        from: PeerRef { node: NodeId(1), lane: 2, id },
        generation: Generation(1),
        arrived: None,
        request,
    }
}

fn object() -> Object {
    let dot = Dot { actor: Actor(1), counter: 1 };
    let body = Body::Value(vec![0; 100].into());
    let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: 0, body };
    Object::update(None, &CausalContext::default(), sibling)
}

fn replicate(id: u64, reason: Reason) -> ShardInput {
    let (to, object) = (address(), Arc::new(object()));
    let round = Round::default();
    peer(id, PeerRequest::Replicate(Replicate { to, reason, hint_for: None, sync: true, round, trace: false, object }))
}

fn fetch(id: u64) -> ShardInput {
    fetch_or_hedge(id, false)
}

fn hedge(id: u64) -> ShardInput {
    fetch_or_hedge(id, true)
}

fn fetch_or_hedge(id: u64, hedge: bool) -> ShardInput {
    peer(id, PeerRequest::Fetch(Fetch { of: address(), known: None, stand_in: false, hedge, trace: false }))
}

fn coordinate(id: u64) -> ShardInput {
    let ShardInput::Client { request: Request::Put(put), .. } = client(id, 10) else { unreachable!() };
    peer(id, PeerRequest::Coordinate(Coordinate { ring: RingVersion(1), partition: PartitionId(0), put }))
}

fn want(id: u64) -> ShardInput {
    let tree = TreeId { partition: PartitionId(0), n: 3 };
    let keys = vec![tree_key(); 3];
    peer(id, PeerRequest::Exchange(ExchangeRequest::Want(Want { ring: RingVersion(1), tree, keys })))
}

fn tree_key() -> TreeKey {
    TreeKey::new(vec![7; 100].into()).unwrap()
}

fn answer(id: u64) -> ShardInput {
    answer_of(id, PeerAnswer::Replicated(Replicated { outcome: Ok(true), timing: None }))
}

fn answer_of(id: u64, answer: PeerAnswer) -> ShardInput {
    ShardInput::Answer { from: NodeRun { node: NodeId(1), generation: Generation(1) }, id, answer }
}

fn fetched(id: u64, found: Found) -> ShardInput {
    let held = Held { found, ..Held::default() };
    answer_of(id, PeerAnswer::Fetched(Fetched { outcome: Ok(held), timing: None }))
}

fn link() -> ShardInput {
    ShardInput::Link { node: NodeId(21), up: true }
}

fn ids(inputs: &[ShardInput]) -> Vec<u64> {
    let id = |input: &ShardInput| match input {
        ShardInput::Link { node, .. } => node.0,
        ShardInput::Client { from, .. } => from.id,
        ShardInput::Peer { from, .. } => from.id,
        ShardInput::Answer { id, .. } => *id,
        other => panic!("{other:?} was never put in"),
    };
    inputs.iter().map(id).collect()
}

fn queue(requests: usize, request_bytes: usize) -> InputQueue {
    InputQueue::new(InboxLimits { requests, request_bytes, answers: 2, answer_bytes: 1 << 20 })
}

/// Offers requests of one kind until one is refused; how many wait then.
#[track_caller]
fn fills(queue: &mut InputQueue, pressure: Pressure, one: impl Fn(u64) -> ShardInput) -> usize {
    for id in 0..1000 {
        let mut inputs = vec![one(id)];
        queue.push_requests(&mut inputs, pressure);
        if !inputs.is_empty() {
            return queue.requests();
        }
    }
    panic!("there is no bound");
}

#[test]
fn there_is_room_for_two_answers_to_each_request() {
    let expected = InboxLimits { requests: 200, request_bytes: 7, answers: 400, answer_bytes: 7 };
    assert_eq!(InboxLimits::of(100, 7), expected);
}

#[test]
fn an_input_counts_for_what_it_carries_and_a_little_more() {
    const AROUND: usize = 256;
    let item = || PageItem { cursor: "c".into(), key: Key::new("k").unwrap(), object: object() };
    let page = Page { items: vec![item(), item()], next: None };
    let whole = object().encoded_len();
    let header = api::PutHeader::new(Bucket::default(), Key::new("k").unwrap(), WriteId(1));
    let delete = Request::Put(api::Put { header, value: None });
    let from = ClientRef { lane: 1, id: 1 };
    let versions = Versions::of(&object());
    let seen = versions.encoded_len();
    let item = OtherItem { key: tree_key(), hash: 1, versions: Some(versions) };
    let same = vec![true; 8];
    let itemized = ExchangeAnswer::Itemized(Ok(Itemized { same, items: vec![item; 2], rotten: 0, next: None }));
    let inputs = [
        (client(1, 1000), 1000),
        (ShardInput::Client { from, arrived: Time::ZERO, request: delete }, 0),
        (coordinate(1), 10),
        (replicate(1, Reason::Write), whole),
        (fetch(1), 0),
        (want(1), 300),
        (answer_of(1, PeerAnswer::Exchange(itemized)), 8 + 2 * (100 + 8 + seen)),
        (answer(1), 0),
        (fetched(1, Found::Object(Arc::new(object()))), whole),
        (fetched(1, Found::Nothing), 0),
        (answer_of(1, PeerAnswer::Ranged(Ranged { outcome: Ok((page, false)) })), 2 * whole),
        (link(), 0),
    ];
    for (input, carried) in inputs {
        assert_eq!(input.bytes(), AROUND + carried, "{input:?}");
    }
}

#[test]
fn whatever_waits_is_not_nothing_and_is_counted() {
    let look = |queue: &InputQueue| (queue.is_empty(), queue.requests(), queue.bytes());
    let mut noticed = queue(2, 1 << 20);
    assert_eq!(look(&noticed), (true, 0, 0));
    noticed.push_notice(link());
    assert_eq!(look(&noticed), (false, 0, 0), "notices have no bound that bytes would count for");
    let mut answered = queue(2, 1 << 20);
    answered.push_answers(&mut vec![answer(1)]);
    assert_eq!(look(&answered), (false, 0, answer(1).bytes()));
    let mut asked = queue(2, 1 << 20);
    asked.push_requests(&mut vec![client(1, 10)], Pressure::Low);
    assert_eq!(look(&asked), (false, 1, client(1, 10).bytes()));
}

/// An answer that came later than one that was lost is lost too: what is taken is always the front.
#[test]
fn of_answers_the_newest_are_lost() {
    let large = || fetched(2, Found::Object(Arc::new(object())));
    let answer_bytes = 2 * answer(1).bytes();
    let mut queue = InputQueue::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 9, answer_bytes });
    let mut inputs = vec![answer(1), large(), answer(3)];
    queue.push_answers(&mut inputs);
    assert_eq!((ids(&inputs), queue.bytes()), (vec![2, 3], answer(1).bytes()));
    let mut inputs = vec![answer(4), answer(5)];
    queue.push_answers(&mut inputs);
    assert_eq!((ids(&inputs), queue.bytes()), (vec![5], answer_bytes));
}

#[test]
fn a_full_queue_of_requests_hands_back_and_starves_no_answer() {
    let mut queue = queue(2, 1 << 20);
    let mut requests: Vec<_> = (1..5).map(fetch).collect();
    let mut answers: Vec<_> = (11..14).map(answer).collect();
    queue.push_requests(&mut requests, Pressure::Low);
    queue.push_answers(&mut answers);
    queue.push_notice(link());
    assert_eq!((ids(&requests), ids(&answers), queue.requests()), (vec![3, 4], vec![13], 2));
    let mut taken = Vec::new();
    queue.take(&mut taken, 4);
    assert_eq!(ids(&taken), [21, 11, 12, 1]);
    taken.clear();
    queue.take(&mut taken, 4);
    assert_eq!(ids(&taken), [2]);
    assert!(queue.is_empty() && queue.bytes() == 0);
}

#[test]
fn who_can_wait_is_refused_first_and_a_peers_work_for_its_client_last() {
    let mut queue = queue(16, 1 << 20);
    assert_eq!(fills(&mut queue, Pressure::Low, |id| replicate(id, Reason::Hint)), 8);
    assert_eq!(fills(&mut queue, Pressure::Low, |id| client(id, 10)), 14);
    assert_eq!(fills(&mut queue, Pressure::Low, |id| replicate(id, Reason::Exchange)), 14);
    assert_eq!(fills(&mut queue, Pressure::Low, want), 14);
    assert_eq!(fills(&mut queue, Pressure::Low, coordinate), 16);
    assert_eq!(fills(&mut queue, Pressure::Low, |id| replicate(id, Reason::Write)), 16);
    let mut taken = Vec::new();
    queue.take(&mut taken, 3);
    assert_eq!(fills(&mut queue, Pressure::Low, |id| client(id, 10)), 14, "there is room for one");
    assert_eq!(fills(&mut queue, Pressure::Low, |id| replicate(id, Reason::Repair)), 16);
}

#[test]
fn of_a_batch_each_is_judged_by_its_class() {
    let mut queue = queue(2, 1 << 20);
    let mut batch =
        vec![replicate(1, Reason::Hint), replicate(2, Reason::Hint), client(3, 10), client(4, 10), fetch(5)];
    queue.push_requests(&mut batch, Pressure::Low);
    assert_eq!(ids(&batch), [2, 4, 5]);
}

#[test]
fn bytes_are_bounded_as_counts_are() {
    let mut queue = queue(1000, 16 << 10);
    // 7/8 of 16 KiB hold ten values of 1 KiB and what is around them
    assert_eq!(fills(&mut queue, Pressure::Low, |id| client(id, 1024)), 11);
    assert!(queue.bytes() <= 14 << 10);
    let before = queue.requests();
    assert!(fills(&mut queue, Pressure::Low, |id| replicate(id, Reason::Write)) > before);
    assert!(queue.bytes() <= 16 << 10);
}

#[test]
fn an_empty_queue_takes_what_is_longer_than_it() {
    let mut queue = queue(4, 1000);
    assert_eq!(fills(&mut queue, Pressure::Low, |id| client(id, 1 << 20)), 1);
    let mut taken = Vec::new();
    queue.take(&mut taken, 10);
    assert_eq!((taken.len(), queue.bytes()), (1, 0));
}

#[test]
fn short_of_memory_it_sheds_what_can_wait_and_out_of_it_clients_too() {
    for (pressure, hints, hedges, clients) in
        [(Pressure::Low, 8, 12, 14), (Pressure::High, 0, 0, 14), (Pressure::Over, 0, 0, 0)]
    {
        let of = |one: &dyn Fn(u64) -> ShardInput| fills(&mut queue(16, 1 << 20), pressure, one);
        assert_eq!(of(&|id| replicate(id, Reason::Hint)), hints, "{pressure:?}");
        assert_eq!(of(&want), hints, "{pressure:?}");
        assert_eq!(of(&hedge), hedges, "{pressure:?}");
        assert_eq!(of(&|id| client(id, 10)), clients, "{pressure:?}");
        assert_eq!(of(&coordinate), 16, "{pressure:?}");
        assert_eq!(of(&|id| replicate(id, Reason::Write)), 16, "{pressure:?}");
        assert_eq!(of(&fetch), 16, "{pressure:?}");
    }
}

#[test]
fn a_drain_takes_no_more_large_values_than_a_batch_should_have() {
    const MIB: usize = 1 << 20;
    let mut queue =
        InputQueue::new(InboxLimits { requests: 64, request_bytes: 64 * MIB, answers: 9, answer_bytes: MIB });
    queue.push_requests(&mut (0..5).map(|id| client(id, 3 * MIB)).collect(), Pressure::Low);
    let mut take = || {
        let mut taken = vec![answer(9)];
        queue.take(&mut taken, 64);
        (taken.len() - 1, queue.requests(), queue.bytes() / MIB)
    };
    assert_eq!([take(), take(), take(), take()], [(2, 3, 9), (2, 1, 3), (1, 0, 0), (0, 0, 0)]);
}
