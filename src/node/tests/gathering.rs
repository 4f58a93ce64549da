//! Operations of several inputs that are run together: nothing that is told shows it.

use super::Bench;
use super::bench::{fetched, held, object, standing};
use crate::api;
use crate::message::{ExchangeRequest, Found, PeerAnswer, PeerRequest, Refusal, Replicated, Want};
use crate::node::ShardInput;
use crate::storage::Fault;
use crate::types::{NodeId, Round};

const PEER: NodeId = NodeId(2);

fn written() -> PeerAnswer {
    PeerAnswer::Replicated(Replicated { outcome: Ok(true), timing: None })
}

fn fenced(round: Round) -> PeerAnswer {
    PeerAnswer::Replicated(Replicated { outcome: Err(Refusal::Fenced(round)), timing: None })
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
    /// Whether absence was told, to a client and to another node.
    #[derive(Debug, PartialEq)]
    struct Told {
        nothing: bool,
        whole: bool,
    }
    let mut bench = Bench::new();
    let mut before_told_that = |rebuilding| {
        let (get, fetch) = (bench.get(1), bench.fetch());
        let asked = [bench.client(get), bench.peer_asks(PEER, fetch)];
        let said = bench.drain(asked.into_iter().chain([standing(rebuilding)]).collect()).join(", ");
        Told { nothing: said.contains("got [] of me"), whole: said.contains("rebuilding: false") }
    };
    assert_eq!(before_told_that(true), Told { nothing: true, whole: true });
    assert_eq!(before_told_that(false), Told { nothing: false, whole: false });
    assert_eq!(before_told_that(false), Told { nothing: true, whole: true });
}

#[test]
fn only_requests_for_objects_and_their_answers_are_gathered() {
    let mut bench = Bench::new();
    bench.ask(bench.put("v", 8, 3));
    let written = bench.answer_of("p1", "p1", written());
    bench.ask(bench.get(2));
    let read = bench.answer_of("p1", "p1", fetched(Ok(held(Found::Nothing))));
    let (get, put, fetch) = (bench.get(1), bench.put("v", 9, 1), bench.fetch());
    for input in [bench.client(get), bench.client(put), bench.peer_asks(PEER, fetch), written, read] {
        assert!(bench.gathers(&input), "{input:?}");
    }
    let want = Want { ring: bench.ring(), tree: bench.tree(), keys: Vec::new() };
    let (exchange, whereabouts) = (PeerRequest::Exchange(ExchangeRequest::Want(want)), bench.whereabouts());
    let others = [bench.peer_asks(PEER, exchange), bench.client(whereabouts), ShardInput::Timer, standing(true)];
    for input in others {
        assert!(!bench.gathers(&input), "{input:?}");
    }
}

/// The round is met by the one, and the other, which is older, comes right behind it.
#[test]
fn a_write_behind_what_fences_it_is_refused() {
    let mut bench = Bench::new();
    bench.ask(bench.put("v", 7, 3));
    let (fence, late) = (bench.answer_of("p1", "p1", fenced(Round(4))), bench.replicate(&object("late", 9), 3));
    let late = bench.peer_asks(PEER, late);
    let told = bench.drain(vec![fence, late]);
    assert_eq!(told, [&format!("answer: {}", Refusal::Fenced(Round(4))), "write p1 synced [v]"]);
    bench.ask(bench.get(1));
    assert_eq!(bench.told().values, ["v".as_bytes()], "it has not come in");
}

#[test]
fn all_of_a_batch_that_failed_are_in_doubt_and_nobody_is_told_of_them() {
    let mut bench = Bench::new();
    let (first, second, get) = (bench.put("v", 7, 1), bench.put("w", 8, 1), bench.get(1));
    let other = bench.put_other("x", 9, 1);
    let inputs = vec![bench.client(first), bench.client(other), bench.client(get), bench.client(second)];
    bench.engine.arm(Fault::Commit { in_log: false });
    let mut told = bench.drain(inputs);
    told.sort();
    assert_eq!(told, ["indeterminate 0/1", "indeterminate 0/1", "indeterminate 0/1", "timeout 0/1"]);
}

/// It may say that nothing is lacking any more: the operations before it were told so or not.
#[test]
fn the_answer_to_what_a_transfer_sent_is_not_gathered() {
    let mut bench = Bench::new();
    let keys = bench.keys(1);
    bench.sends_under(&keys[0], &object("v", 7));
    bench.wants("p1", &keys);
    let stored = bench.answer_of("p1", "p1", written());
    assert!(!bench.gathers(&stored));
}
