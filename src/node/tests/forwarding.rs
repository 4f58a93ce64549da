//! Puts that are handed on: whose word is taken, and what is left when nobody's is.

use super::Bench;
use super::bench::within;
use crate::api::{ApiError, Put, Trace};
use crate::message::{Coordinated, PeerAnswer};
use crate::node::ShardInput;
use crate::types::Key;

fn coordinated(error: ApiError, trace: Option<Box<Trace>>) -> PeerAnswer {
    PeerAnswer::Coordinated(Coordinated { outcome: Err(error), trace })
}

fn traced(bench: &Bench) -> Put {
    let mut put = bench.put("v", 7, 2);
    put.header.trace = true;
    put
}

/// A node that has handed on a put, and writes nothing itself.
fn read_only(put: impl FnOnce(&Bench) -> Put) -> Bench {
    let mut bench = Bench::away();
    bench.input(ShardInput::ReadOnly(Some("its disk is full".into())));
    assert_eq!(bench.ask(put(&bench)), ["coordinate p0 within 5000 ms"]);
    bench
}

/// Clients ask the same one: a key has one actor, whichever way its puts come.
#[test]
fn a_put_is_handed_to_the_keys_first_coordinator_that_can_be_reached() {
    let mut unlike_slots = 0;
    for number in 0..200 {
        let mut bench = Bench::away();
        let key = Key::new(format!("key {number}")).unwrap();
        let (partition, token) = bench.view.partition_of(&bench.to.bucket, &key);
        let list = bench.view.preference(partition, &bench.to.bucket).unwrap().clone();
        if list.slot_of(bench.node("me")).is_some() {
            continue;
        }
        let order: Vec<String> = list.coordinators(token).into_iter().map(|node| bench.name(node)).collect();
        unlike_slots += usize::from(list.coordinators(token) != list.slots());
        for (id, name) in (7..).zip(&order[..2]) {
            let mut put = bench.put("v", id, 2);
            put.header.key = key.clone();
            let told = bench.ask(put);
            assert!(told.len() == 1 && told[0].starts_with(&format!("coordinate {name} ")), "{order:?}: {told:?}");
            bench.unlink(name);
        }
    }
    assert!(unlike_slots > 20, "{unlike_slots} keys would tell");
}

#[test]
fn only_the_word_of_who_was_asked_is_passed_on() {
    let mut bench = Bench::away();
    let mut put = bench.put("v", 7, 2);
    put.header.deadline = within(250);
    assert_eq!(bench.ask(put), ["coordinate p0 within 250 ms"]);
    let stray = bench.answer_of("p1", "p0", coordinated(ApiError::Overloaded, None));
    assert_eq!(bench.input(stray), [""; 0]);
    assert_eq!((bench.counters().stray_answers, bench.counters().in_flight), (1, 1));
    let told = bench.answer("p0", coordinated(ApiError::Overloaded, None));
    assert_eq!(told, [ApiError::Overloaded.to_string()]);
    assert_eq!((bench.counters().stray_answers, bench.counters().in_flight), (1, 0));
}

/// Whoever says that it did nothing did nothing.
#[test]
fn what_is_refused_twice_is_refused() {
    let mut bench = read_only(|bench| bench.put("v", 7, 2));
    let refused = coordinated(ApiError::NotReady { reason: "it is about to stop".into() }, None);
    assert_eq!(bench.answer("p0", refused), ["read-only"]);
    assert_eq!((bench.counters().puts_indeterminate, bench.counters().in_flight), (0, 0));
    assert_eq!(bench.due(), None, "nothing is left of it");
}

#[test]
fn what_a_silent_primary_may_have_done_is_in_doubt() {
    let mut bench = read_only(|bench| bench.put("v", 7, 2));
    assert_eq!(bench.at(300), ["indeterminate 0/2"]);
    let counters = bench.counters();
    assert_eq!((counters.puts_indeterminate, counters.in_flight, counters.with_peers), (1, 0, 0));
}

#[test]
fn a_put_that_is_taken_back_is_traced_on() {
    let mut bench = Bench::away();
    bench.ask(traced(&bench));
    let sent = bench.at(300);
    assert_eq!(sent, ["write p0 synced [v]", "write p1 synced [v]", "write p2 synced [v]"]);
    bench.wrote("p1", true);
    assert_eq!(bench.wrote("p2", true), ["put on p1,p2"]);
    let spans =
        ["p0 0 Primary Coordinate", "p0 0 Primary First", "p1 1 Primary First: Counted", "p2 2 Primary First: Counted"];
    assert_eq!(bench.spans(), spans);
}

#[test]
fn what_is_taken_up_next_is_not_traced_for_one_that_was_taken_back_in_vain() {
    let mut bench = read_only(traced);
    bench.pass(300);
    let inputs = vec![ShardInput::Timer, bench.client(bench.get_other(1))];
    assert_eq!(bench.drain(inputs), ["got [] of me", "indeterminate 0/2"]);
    let told = bench.responses.iter().find(|response| response.result.is_err()).unwrap();
    assert_eq!(told.trace.as_ref().unwrap().spans.len(), 1, "{told:?}");
}

#[test]
fn a_failure_elsewhere_is_told_with_its_trace() {
    let mut bench = Bench::away();
    bench.ask(traced(&bench));
    let (p0, me) = (bench.node("p0"), bench.node("me"));
    let elsewhere = Trace { coordinator: p0, answered_us: 5, ..super::spans::blank() };
    bench.at(20);
    bench.answer("p0", coordinated(ApiError::Overloaded, Some(Box::new(elsewhere))));
    let by = bench.trace().handed_on.unwrap();
    assert_eq!((bench.trace().coordinator, by.by, by.answered_us), (p0, me, 20_000));
}
