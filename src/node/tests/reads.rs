//! Gets: whom they ask again, what they make of refusals, and when they give up.

use std::time::Duration;

use super::Bench;
use super::bench::{object, within};
use crate::api::Get;
use crate::message::Refusal;
use crate::quorum::{HedgeAfter, Level};
use crate::storage::{Fault, OpFailure};
use crate::types::RingVersion;

/// R of which some stand in would not meet the N-R+1 primaries of a later repair.
#[test]
fn a_blocking_read_counts_primaries_only() {
    let mut bench = Bench::new();
    bench.unlink("p1");
    bench.unlink("p2");
    let get = bench.get(2);
    assert_eq!(bench.ask(Get { blocking_repair: true, ..get }), ["unavailable 1/2"]);
}

#[test]
fn only_who_may_change_his_mind_is_waited_for() {
    #[track_caller]
    fn check(refusal: Refusal, told: &[&str]) {
        let mut bench = Bench::new();
        let get = bench.get(3);
        assert_eq!(bench.ask(Get { strict: true, ..get }), ["fetch p1", "fetch p2"]);
        assert_eq!(bench.refuses("p1", refusal), told);
    }
    for busy in [Refusal::Overloaded, Refusal::NotReady, Refusal::Ring(RingVersion(9))] {
        check(busy, &[]);
    }
    for refusal in [Refusal::Storage, Refusal::NotAReplica, Refusal::ReadOnly] {
        check(refusal, &["timeout 1/3"]);
    }
}

#[test]
fn the_coordinator_asks_its_own_disk_once() {
    let mut bench = Bench::cold(true);
    let get = bench.get(3);
    assert_eq!(bench.ask(Get { strict: true, ..get }), ["fetch p1", "fetch p2"]);
    assert_eq!(bench.read(Some(OpFailure::Overloaded)), ["timeout 0/3"]);
    // The same where it stands in.
    let mut bench = Bench::cold(false);
    for name in ["p0", "p1", "p2", "s0", "s1"] {
        if bench.node(name) != bench.node("me") {
            bench.unlink(name);
        }
    }
    bench.holds(&object("v", 7));
    let get = bench.get(1);
    assert_eq!(bench.ask(Get { trace: true, ..get }), [""; 0]);
    assert_eq!((bench.reads(), bench.at(300)), (1, vec![]));
    assert_eq!(bench.read(None), ["got [v] of me"]);
    assert_eq!(bench.spans(), ["me 0 StandIn StandIn: Counted"]);
}

#[test]
fn who_does_not_answer_is_asked_again_after_ever_longer_pauses() {
    let mut bench = Bench::new();
    let get = bench.get(3);
    bench.ask(Get { strict: true, ..get });
    for (until, at) in [(299, 300), (899, 900), (2099, 2100), (4499, 4500)] {
        assert_eq!(bench.at(until), [""; 0]);
        assert_eq!(bench.at(at), ["fetch p1", "fetch p2"]);
        // They are there, and cannot say yet.
        for name in ["p1", "p2"] {
            assert_eq!(bench.refuses(name, Refusal::Overloaded), [""; 0]);
        }
    }
    assert_eq!(bench.counters().resent, 8);
    assert_eq!(bench.at(5000), ["timeout 1/3"]);
}

#[test]
fn the_client_is_told_at_its_deadline() {
    let mut bench = Bench::new();
    let get = bench.get(3);
    bench.ask(Get { strict: true, deadline: within(700), ..get });
    bench.found("p1", &object("v", 7));
    assert_eq!(bench.at(699), ["fetch p2"]);
    assert_eq!(bench.at(700), ["timeout 2/3"]);
    assert_eq!((bench.counters().gets_timed_out, bench.counters().in_flight), (1, 0));
}

#[test]
fn who_is_late_is_listened_to_and_not_waited_for() {
    let mut bench = Bench::with(true, |config| config.read_repair_chance = 1.0);
    let get = bench.get(1);
    assert_eq!(bench.ask(get), ["fetch p1", "fetch p2", "got [] of me"]);
    assert_eq!(bench.at(300), [""; 0]);
    assert_eq!(bench.due(), Some(5_000_000), "nothing is to be done before it ends");
    bench.nothing("p1");
    assert_eq!((bench.counters().late_answers, bench.counters().lingering), (1, 1));
    bench.nothing("p2");
    assert_eq!((bench.counters().late_answers, bench.counters().lingering), (2, 0));
    let get = bench.get(2);
    let asked = bench.ask(get);
    bench.nothing(if asked == ["fetch p1"] { "p1" } else { "p2" });
    assert_eq!(bench.counters().late_answers, 2, "whose answer is waited for is not late");
}

#[test]
fn a_read_is_hedged_once() {
    let after = HedgeAfter::Fixed(Duration::from_millis(20));
    let mut bench = Bench::with(false, |config| config.hedge_after = after);
    let get = bench.get(1);
    assert_eq!(bench.ask(Get { strict: true, ..get }).len(), 1);
    assert_eq!(bench.at(19), [""; 0]);
    let hedge = bench.at(20);
    assert!(hedge.len() == 1 && hedge[0].ends_with(" hedged"), "{hedge:?}");
    assert_eq!(bench.at(299), [""; 0]);
    assert_eq!((bench.counters().hedges_sent, bench.counters().resent), (1, 0));
}

#[test]
fn each_end_of_a_read_is_counted_as_what_it_is() {
    let ends = |bench: &Bench| {
        let counters = bench.counters();
        let answered = (counters.gets_answered, counters.gets_with_siblings);
        (answered, counters.gets_timed_out, counters.gets_unavailable, counters.stale)
    };
    let mut bench = Bench::new();
    bench.holds(&object("v", 7));
    assert_eq!(bench.ask(bench.get(1)), ["got [v] of me"]);
    assert_eq!(ends(&bench), ((1, 0), 0, 0, 0));
    bench.holds(&object("w", 8));
    assert_eq!(bench.ask(bench.get(1)), ["got [v,w] of me"]);
    assert_eq!(ends(&bench), ((2, 1), 0, 0, 0));
    bench.ask(Get { strict: true, ..bench.get(3) });
    bench.refuses("p1", Refusal::Storage);
    assert_eq!(ends(&bench), ((2, 1), 1, 0, 0));
    bench.unlink("p1");
    bench.ask(Get { strict: true, ..bench.get(3) });
    assert_eq!(ends(&bench), ((2, 1), 1, 1, 0));
    let token = bench.token(&object("newer", 9));
    bench.unlink("p2");
    let stale = Get { strict: true, after: Some(token), ..bench.get(1) };
    assert_eq!(bench.ask(stale), ["stale"]);
    assert_eq!(ends(&bench), ((2, 1), 1, 1, 1));
    // What it was shown could not be written.
    let mut bench = Bench::new();
    bench.engine.arm(Fault::Commit { in_log: false });
    let inputs = vec![bench.client(bench.put("phantom", 7, 1)), bench.client(bench.get(2))];
    assert_eq!(bench.drain(inputs), ["indeterminate 0/1", "timeout 0/2"]);
    assert_eq!(ends(&bench), ((0, 0), 1, 0, 0));
}

#[test]
fn a_read_says_how_many_it_needed() {
    let mut bench = Bench::new();
    let get = bench.get(1);
    let first = bench.ask(Get { pr: Some(Level::Number(2)), ..get });
    let (first, second) = if first == ["fetch p1"] { ("p1", "p2") } else { ("p2", "p1") };
    assert_eq!(bench.refuses(first, Refusal::Storage), [format!("fetch {second}")]);
    assert_eq!(bench.refuses(second, Refusal::Storage), ["timeout 1/2"]);
}

#[test]
fn unavailable_says_who_is_away_and_who_has_failed() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench| {
        bench.ask(Get { strict: true, ..bench.get(3) });
        bench.told().result.clone().unwrap_err().to_string()
    };
    bench.unlink("p1");
    let (one, two) = (bench.node("p1").0, bench.node("p2").0);
    assert!(ask(&mut bench).contains(&format!("(n{one} cannot be reached)")));
    bench.unlink("p2");
    assert!(ask(&mut bench).contains(&format!("(n{one} cannot be reached; n{two} cannot be reached)")));
}
