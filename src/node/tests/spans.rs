//! Traces: each node that was asked, why, and what its answer was good for.

use super::Bench;
use super::bench::{after, fetched, held, object};
use crate::api::{Get, Trace};
use crate::message::{Found, Held, Refusal};
use crate::storage::Fault;
use crate::types::NodeId;

/// Of a request that has just come.
pub fn blank() -> Trace {
    Trace {
        coordinator: NodeId(0),
        handed_on: None,
        queued_us: 0,
        store_us: None,
        written_us: None,
        synced_us: None,
        answered_us: 0,
        spans: Vec::new(),
        hints: Vec::new(),
    }
}

fn traced(get: Get) -> Get {
    Get { trace: true, strict: true, ..get }
}

#[track_caller]
fn check(bench: &Bench, spans: &[&str]) {
    let mut found = bench.spans();
    found.sort();
    assert_eq!(found, spans);
}

#[test]
fn who_is_asked_as_the_result_is_too_old_widens_the_read() {
    let (old, new) = (object("old", 7), after(&object("old", 7), "new", 8));
    let mut bench = Bench::new();
    bench.holds(&old);
    let get = Get { after: Some(bench.token(&new)), ..traced(bench.get(1)) };
    assert_eq!(bench.ask(get), ["fetch p1", "fetch p2"]);
    bench.found("p1", &new);
    let mine = ["me 0 Own First: Counted", "me 0 Own Repair"];
    check(&bench, &[mine[0], mine[1], "p1 1 Primary Widened: Counted", "p2 2 Primary Widened"]);
}

#[test]
fn who_is_asked_for_one_who_has_failed_widens_the_read() {
    let mut bench = Bench::new();
    let asked = bench.ask(traced(bench.get(2)));
    let (first, second) = if asked == ["fetch p1"] { (1, 2) } else { (2, 1) };
    bench.refuses(&format!("p{first}"), Refusal::Storage);
    bench.nothing(&format!("p{second}"));
    let refused = format!("p{first} {first} Primary First: Refused {{ reason: \"its disk failed\" }}");
    let widened = format!("p{second} {second} Primary Widened: Counted");
    assert_eq!(bench.spans(), ["me 0 Own First: Counted", &refused, &widened]);
}

#[test]
fn a_rebuilding_coordinator_is_only_heard() {
    let mut bench = Bench::new();
    bench.stand(true);
    bench.unlink("p2");
    assert_eq!(bench.ask(traced(bench.get(1))), ["fetch p1"]);
    bench.nothing("p1");
    assert_eq!(bench.spans(), ["me 0 Own First: Heard", "p1 1 Primary First: Counted"]);
}

#[test]
fn a_rebuilding_replica_is_only_heard() {
    let mut bench = Bench::new();
    bench.ask(traced(bench.get(3)));
    bench.nothing("p2");
    let rebuilding = Held { rebuilding: true, ..held(Found::Nothing) };
    assert_eq!(bench.answer("p1", fetched(Ok(rebuilding))), ["timeout 2/3"]);
    check(&bench, &["me 0 Own First: Counted", "p1 1 Primary First: Heard", "p2 2 Primary First: Counted"]);
}

/// The other node that may stand in.
fn other(bench: &Bench) -> &'static str {
    if bench.node("s0") == bench.node("me") { "s1" } else { "s0" }
}

fn without_primaries() -> Bench {
    let mut bench = Bench::away();
    ["p0", "p1", "p2"].into_iter().for_each(|name| {
        bench.unlink(name);
    });
    bench
}

#[test]
fn stand_ins_that_have_nothing_are_only_heard() {
    let mut bench = without_primaries();
    let get = Get { trace: true, ..bench.get(1) };
    let other = other(&bench);
    bench.ask(get);
    assert_eq!(bench.nothing(other), ["unavailable 0/1"]);
    let heard =
        |name: &str| bench.spans().iter().any(|span| span.starts_with(name) && span.ends_with("StandIn: Heard"));
    assert!(heard("me") && heard(other), "{:?}", bench.spans());
}

#[test]
fn a_coordinator_that_stands_in_names_for_whom() {
    let mut bench = without_primaries();
    let other = other(&bench);
    bench.unlink(other);
    let mut put = bench.put("v", 7, 1);
    put.header.trace = true;
    bench.ask(put);
    assert_eq!(bench.spans()[0], "me 0 StandIn StandIn for p0: Counted");
}

#[test]
fn a_repair_is_a_span_of_its_own() {
    let (old, new) = (object("old", 7), after(&object("old", 7), "new", 8));
    let mut bench = Bench::new();
    bench.holds(&new);
    bench.unlink("p2");
    bench.ask(Get { blocking_repair: true, ..traced(bench.get(2)) });
    bench.found("p1", &old);
    assert_eq!(bench.wrote("p1", true), ["got [new] of me,p1 repaired p1"]);
    let own = "me 0 Own First: Counted";
    let away = "p2 2 Primary Repair: Refused { reason: \"it cannot be reached\" }";
    check(&bench, &[own, "p1 1 Primary First: Counted", "p1 1 Primary Repair: Counted", away]);
    // One that nobody waits for is named with the slot that it was asked for.
    bench.ask(traced(bench.get(2)));
    assert_eq!(bench.found("p1", &old), ["got [new] of me,p1 repaired p1", "repair p1 [new]"]);
    check(&bench, &[own, "p1 1 Primary First: Counted", "p1 1 Primary Repair"]);
}

#[test]
fn each_span_ends_with_its_own_answer() {
    let mut bench = Bench::new();
    bench.ask(traced(bench.get(3)));
    bench.at(5);
    bench.nothing("p1");
    bench.refuses("p2", Refusal::Overloaded);
    bench.at(6);
    bench.nothing("p1");
    assert_eq!(bench.at(300), ["fetch p2"]);
    bench.at(301);
    bench.nothing("p2");
    check(&bench, &["me 0 Own First: Counted", "p1 1 Primary First: Counted", "p2 2 Primary First: Counted"]);
    let mut ends: Vec<_> = bench.trace().spans.iter().map(|span| span.answered_us).collect();
    ends.sort();
    assert_eq!(ends, [Some(0), Some(5000), Some(301_000)]);
    assert_eq!(bench.trace().store_us, Some(0));
}

#[test]
fn a_failed_disk_is_named() {
    let mut bench = Bench::new();
    bench.engine.arm(Fault::Commit { in_log: false });
    let mut put = bench.put("v", 7, 1);
    put.header.trace = true;
    assert_eq!(bench.ask(put), ["indeterminate 0/1"]);
    check(&bench, &["me 0 Own First: Refused { reason: \"its disk failed\" }"]);
}
