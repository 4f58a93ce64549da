//! Operations of several inputs that are run together: nothing that is told shows it.

use super::Bench;
use super::bench::{fetched, held, object, standing};
use crate::api;
use crate::message::{ExchangeRequest, Found, PeerAnswer, PeerRequest, Replicated, Want};
use crate::node::ShardInput;
use crate::types::NodeId;

const PEER: NodeId = NodeId(2);

fn written() -> PeerAnswer {
    PeerAnswer::Replicated(Replicated { outcome: Ok(true), timing: None })
}

/// More than are run together.
#[test]
fn each_request_meets_all_before_it() {
    let mut bench = Bench::new();
    let inputs = (0..40).flat_map(|number| {
        let put = bench.put(&number.to_string(), number, 1);
        let get = bench.get(1);
        [bench.client(put), bench.client(get)]
    });
    let inputs: Vec<ShardInput> = inputs.collect();
    let left = bench.drain(inputs);
    assert!(!left.iter().any(|said| said.starts_with("fetch")), "no other is asked: {left:?}");
    let gets = bench.responses.iter().filter(|response| matches!(response.result, Ok(api::Reply::Get(_))));
    let met: Vec<usize> = gets.map(|response| response.values.len()).collect();
    assert_eq!(met, (1..=40).collect::<Vec<_>>(), "blind writes are siblings: one more each");
}

/// Else it would be written twice, side by side.
#[test]
fn a_retry_finds_the_write_that_comes_in_just_before_it() {
    let inputs = |bench: &mut Bench| {
        let (write, retry) = (bench.replicate(&object("v", 7), 0), bench.put("v", 7, 1));
        [bench.peer_asks(PEER, write), bench.client(retry)]
    };
    let (mut together, mut apart) = (Bench::new(), Bench::new());
    let drained = inputs(&mut together).into();
    let mut told = together.drain(drained);
    let mut expected: Vec<String> = inputs(&mut apart).map(|input| apart.input(input)).concat();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    together.ask(together.get(1));
    assert_eq!(together.told().values.len(), 1);
}

#[test]
fn who_is_answered_at_once_takes_no_room() {
    let mut bench = Bench::with(true, |config| config.max_inflight = 4);
    let inputs = (0..20).map(|_| {
        let get = bench.get(1);
        bench.client(get)
    });
    let inputs = inputs.collect();
    assert_eq!(bench.drain(inputs), ["got [] of me"; 20]);
}

/// Of a drain's last inputs too: a replica that holds the same need not send it.
#[test]
fn others_are_told_what_this_node_has_found() {
    let (mut bench, object) = (Bench::new(), object(&"long".repeat(1000), 7));
    bench.holds(&object);
    let inputs = [bench.get(2), bench.get(2)].map(|get| bench.client(get));
    assert_eq!(bench.drain(inputs.into()), ["fetch p1", "fetch p2"]);
    assert_eq!(["p1", "p2"].map(|peer| bench.known_to_have(peer)), [Some(object.digest()); 2]);
}

#[test]
fn what_was_asked_before_the_disk_was_lost_or_filled_is_judged_by_what_was_known_then() {
    let mut bench = Bench::new();
    let mut judged = |rebuilding| {
        let (get, fetch) = (bench.get(1), bench.fetch());
        let asked = [bench.client(get), bench.peer_asks(PEER, fetch)];
        let said = bench.drain(asked.into_iter().chain([standing(rebuilding)]).collect()).join(", ");
        (said.contains("got [] of me"), said.contains("rebuilding: false"))
    };
    assert_eq!(judged(true), (true, true));
    assert_eq!(judged(false), (false, false));
    assert_eq!(judged(false), (true, true));
}

#[test]
fn whatever_may_say_that_nothing_is_lacking_any_more_waits_for_the_operations_before_it() {
    let mut bench = Bench::new();
    let keys = bench.keys(1);
    bench.sends_under(&keys[0], &object("v", 7));
    bench.ask(bench.put("v", 8, 3));
    bench.ask(bench.get(2));
    let read = bench.answer_of("p1", "p1", fetched(Ok(held(Found::Nothing))));
    assert!(bench.gathers(&read));
    let (get, put, whereabouts) = (bench.get(1), bench.put("v", 9, 1), bench.whereabouts());
    for (input, gathers) in [(bench.client(get), true), (bench.client(put), true), (bench.client(whereabouts), false)] {
        assert_eq!(bench.gathers(&input), gathers, "{input:?}");
    }
    let want = Want { ring: bench.ring(), tree: bench.tree(), keys: Vec::new() };
    for (request, gathers) in [(bench.fetch(), true), (PeerRequest::Exchange(ExchangeRequest::Want(want)), false)] {
        let input = bench.peer_asks(PEER, request);
        assert_eq!(bench.gathers(&input), gathers, "{input:?}");
    }
    assert!(!bench.gathers(&ShardInput::Timer));
    assert!(!bench.gathers(&standing(true)));

    let mut bench = Bench::new();
    bench.ask(bench.put("v", 8, 3));
    let of_put = bench.answer_of("p1", "p1", written());
    assert!(bench.gathers(&of_put));
    bench.sends_under(&keys[0], &object("v", 7));
    bench.wants("p1", &keys);
    let of_transfer = bench.answer_of("p1", "p1", written());
    assert!(!bench.gathers(&of_transfer));
}
