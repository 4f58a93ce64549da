//! Puts: who is told of their end, and when nothing is left of them.

use super::Bench;
use super::bench::within;
use crate::node::ShardInput;
use crate::storage::Fault;

#[test]
fn everybody_who_waits_for_a_put_is_told_and_counted() {
    let mut bench = Bench::new();
    let inputs = vec![bench.client(bench.put("v", 7, 3)), bench.client(bench.put("v", 7, 3))];
    bench.drain(inputs);
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    assert_eq!(bench.wrote("p2", true), ["put on me,p1,p2", "put on me,p1,p2"]);
    assert_eq!((bench.counters().puts_acknowledged, bench.counters().in_flight), (2, 0));
    let mut bench = Bench::new();
    let mut put = bench.put("v", 7, 3);
    put.header.deadline = within(200);
    let inputs = vec![bench.client(put.clone()), bench.client(put)];
    bench.drain(inputs);
    assert_eq!(bench.at(200), ["indeterminate 1/3", "indeterminate 1/3"]);
    assert_eq!((bench.counters().puts_indeterminate, bench.counters().in_flight), (2, 0));
}

#[test]
fn nothing_is_left_of_a_put_that_all_have_answered() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(bench.put("v", 7, 1)), ["put on me", "write p1 [v]", "write p2 [v]"]);
    assert_eq!(bench.counters().lingering, 1);
    bench.wrote("p1", true);
    bench.wrote("p2", true);
    assert_eq!((bench.counters().lingering, bench.counters().with_peers, bench.due()), (0, 0, None));
}

/// What leaves in the very drain in which its put ends is with nobody, though it is never answered.
#[test]
fn a_request_that_outlives_its_put_takes_no_room_at_its_peer() {
    let mut bench = Bench::new();
    let mut put = bench.put("v", 7, 3);
    put.header.deadline = within(200);
    bench.ask(put.clone());
    bench.pass(200);
    let retry = bench.client(put);
    let left = bench.drain(vec![retry, ShardInput::Timer]);
    assert_eq!(left, ["indeterminate 1/3", "indeterminate 1/3", "write p1 synced [v]", "write p2 synced [v]"]);
    assert_eq!((bench.counters().in_flight, bench.counters().with_peers), (0, 0));
}

/// A batch that failed may surface, and what was never in one cannot.
#[test]
fn a_failed_disk_leaves_in_doubt_what_it_may_hold_and_refuses_the_rest() {
    let mut bench = Bench::cold(true);
    let inputs = vec![bench.client(bench.put("v", 7, 1)), bench.client(bench.put_other("w", 8, 1))];
    assert_eq!(bench.drain(inputs), [""; 0]);
    bench.engine.arm(Fault::Commit { in_log: false });
    assert_eq!(bench.read_newest(), ["indeterminate 0/1"]);
    assert_eq!((bench.counters().puts_indeterminate, bench.counters().rejected), (1, 0));
    assert_eq!(bench.read(None), ["read-only"]);
    assert_eq!((bench.counters().puts_indeterminate, bench.counters().rejected), (1, 1));
}
