//! The question of who holds what.

use super::Bench;
use super::bench::{fetched, held, object};
use crate::message::Found;

#[test]
fn each_primary_is_asked_and_the_silent_ones_again_for_two_attempts() {
    let mut bench = Bench::new();
    bench.holds(&object("v", 7));
    assert_eq!(bench.ask(bench.whereabouts()), ["fetch p1", "fetch p2"]);
    assert_eq!(bench.nothing("p1"), [""; 0]);
    assert_eq!(bench.at(300), ["fetch p2"]);
    assert_eq!(bench.counters().resent, 1);
    assert_eq!(bench.at(599), [""; 0]);
    assert_eq!(bench.at(600), ["where: me 1, p1 nothing, p2: no answer"]);
}

#[test]
fn the_last_answer_ends_it_and_nobody_answers_for_another() {
    let mut bench = Bench::new();
    bench.ask(bench.whereabouts());
    let answer = fetched(Ok(held(Found::Object(object("v", 7)))));
    let stray = bench.answer_of("p1", "p2", answer);
    assert_eq!(bench.input(stray), [""; 0]);
    assert_eq!(bench.counters().stray_answers, 1);
    assert_eq!(bench.nothing("p2"), [""; 0]);
    assert_eq!(bench.found("p1", &object("v", 7)), ["where: me nothing, p1 1, p2 nothing"]);
    assert_eq!(bench.counters().in_flight, 0);
}
