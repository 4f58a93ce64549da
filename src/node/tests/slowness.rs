//! Whom a read asks first: who is known to answer fast.

use super::Bench;
use super::bench::within;
use crate::api::Get;
use crate::message::Refusal;

/// All are asked; each answers after so many milliseconds, in this order.
fn read(bench: &mut Bench, begun: u64, took: &[(&str, u64)]) {
    let get = bench.get(3);
    bench.ask(Get { strict: true, ..get });
    for (name, ms) in took {
        bench.at(begun + ms);
        bench.nothing(name);
    }
}

/// Reads of two ask `first` next to this node; nobody answers, so nothing is learnt of it.
#[track_caller]
fn check(bench: &mut Bench, first: &[&str]) {
    let mut asked: Vec<String> = (0..16).flat_map(|_| bench.ask(bench.get(2))).collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, first);
}

#[test]
fn who_answers_fast_is_asked_first() {
    let mut bench = Bench::new();
    check(&mut bench, &["fetch p1", "fetch p2"]);
    for (took, first) in [([("p2", 10), ("p1", 100)], "fetch p2"), ([("p1", 10), ("p2", 100)], "fetch p1")] {
        let mut bench = Bench::new();
        read(&mut bench, 0, &took);
        check(&mut bench, &[first]);
    }
    let mut bench = Bench::new();
    read(&mut bench, 0, &[("p1", 40), ("p2", 50)]);
    check(&mut bench, &["fetch p1", "fetch p2"]);
}

/// It refuses the fastest when it is overloaded.
#[test]
fn a_refusal_is_no_fast_answer() {
    let mut bench = Bench::new();
    read(&mut bench, 0, &[("p2", 10), ("p1", 100)]);
    for round in 1..20 {
        bench.at(round * 100);
        let get = bench.get(3);
        bench.ask(Get { strict: true, deadline: within(50), ..get });
        bench.refuses("p1", Refusal::Overloaded);
        bench.at(round * 100 + 10);
        bench.nothing("p2");
    }
    check(&mut bench, &["fetch p2"]);
}

#[test]
fn silence_is_slow() {
    let mut bench = Bench::new();
    read(&mut bench, 0, &[("p1", 10), ("p2", 10)]);
    bench.at(100);
    read(&mut bench, 100, &[("p2", 10)]);
    bench.at(400);
    check(&mut bench, &["fetch p2"]);
}

/// Whoever is asked twice has taken as long as the two together, and not as long as the second.
#[test]
fn an_answer_to_the_second_attempt_is_no_fast_one() {
    let mut bench = Bench::new();
    read(&mut bench, 0, &[("p2", 200), ("p1", 301)]);
    check(&mut bench, &["fetch p2"]);
}
