//! Traces: what became of a request, told to whoever asks, and to nobody else.

use std::time::Duration;

use dynkv::api::{HintKept, Response, Role, Span, SpanOutcome, Trace, Why};
use dynkv::sim::{Reads, World};
use dynkv::storage::MemoryConfig;
use dynkv::types::NodeId;

use crate::ask::{Ask, Asking, Expect, PATIENCE, ReadWith, With, get, put};
use crate::plan::Plan;

/// Long enough for links to the dead to be given up.
const NOTICED: Duration = Duration::from_secs(4);

fn id(world: &World, node: usize) -> NodeId {
    world.view().layout().member_named(&world.nodes[node].config.name).expect("it is a member").id
}

#[track_caller]
fn trace(response: &Response) -> &Trace {
    response.trace.as_deref().expect("it was asked for")
}

#[track_caller]
fn span(trace: &Trace, node: NodeId) -> &Span {
    let mut spans = trace.spans.iter().filter(|span| span.node == node);
    let span = spans.next().unwrap_or_else(|| panic!("{node} was not asked: {trace:?}"));
    assert!(spans.next().is_none(), "once: {trace:?}");
    span
}

/// The phases and spans of a trace fit together.
#[track_caller]
fn sound(trace: &Trace) {
    let phases = [Some(trace.queued_us), trace.store_us, trace.written_us, trace.synced_us, Some(trace.answered_us)];
    assert!(phases.iter().flatten().is_sorted(), "{trace:?}");
    for span in &trace.spans {
        let ends = [span.asked_us, span.answered_us.unwrap_or(trace.answered_us), trace.answered_us];
        assert!(ends.is_sorted() && span.again_us.is_sorted(), "{span:?}");
        let parts = span.timing.map_or(0, |timing| timing.queue_us + timing.store_us);
        assert!(span.asked_us + parts <= ends[1], "{span:?}");
        assert!(span.answered_us.is_none() || span.outcome.is_some(), "{span:?}");
        assert_eq!(span.timing.is_some(), span.answered_us.is_some() && span.role != Role::Own, "{span:?}");
    }
}

#[test]
fn who_does_not_ask_is_told_nothing() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.replicas("k");
    for node in [primaries[0], others[0]] {
        assert_eq!(world.ask(node, put("k", "v", node as u128).w(3)).trace, None);
        assert_eq!(world.ask(node, get("k", 3)).trace, None);
    }
}

#[test]
fn a_put_shows_its_phases_and_its_replicas() {
    let mut world = Plan::new(3).born();
    world.network.weather.delay = (500, 1000);
    let response = world.ask(0, put("k", "v", 1).w(3).traced());
    let trace = trace(&response);
    sound(trace);
    assert!(trace.store_us.is_some() && trace.written_us.is_some() && trace.synced_us.is_some(), "{trace:?}");
    assert_eq!((trace.coordinator, trace.handed_on, trace.spans.len()), (id(&world, 0), None, 3));
    for span in &trace.spans {
        assert_eq!((span.why, &span.outcome), (Why::First, &Some(SpanOutcome::Counted)));
        assert_eq!(span.role == Role::Own, span.node == trace.coordinator);
        if span.role == Role::Primary {
            assert!(span.network_us().unwrap() >= 1000, "there and back: {span:?}");
        }
    }
    response.receipt();
}

#[test]
fn a_get_shows_whom_it_hedged_and_who_was_late() {
    let mut world = Plan::new(3).born();
    world.network.weather.delay = (500, 1000);
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    for _ in 0..64 {
        world.ask(0, get("k", 2)).found();
    }
    world.cut_one_way(1, 0);
    let traced = (0..16).map(|_| world.ask(0, get("k", 2).traced())).collect::<Vec<_>>();
    let hedged = |response: &&Response| trace(response).spans.iter().any(|span| span.why == Why::Hedge);
    let response = traced.iter().find(hedged).expect("the silent one is asked first now and then");
    let trace = trace(response);
    sound(trace);
    let (late, hedge) = (span(trace, id(&world, 1)), span(trace, id(&world, 2)));
    assert!(late.is_late() && late.why == Why::First && late.outcome.is_none(), "{late:?}");
    assert!(hedge.why == Why::Hedge && hedge.asked_us > late.asked_us && hedge.answered_us.is_some(), "{hedge:?}");
    assert_eq!(span(trace, id(&world, 0)).role, Role::Own);
}

#[test]
fn equal_copies_are_told_by_digest() {
    let mut world = Plan::new(3).born();
    world.ask(0, put("k", &"x".repeat(400), 1).w(3)).receipt();
    let response = world.ask(0, get("k", 3).traced());
    let outcomes = trace(&response).spans.iter().map(|span| (span.role, span.outcome.clone().unwrap()));
    let mut outcomes: Vec<_> = outcomes.map(|(role, outcome)| (role == Role::Own, outcome)).collect();
    outcomes.sort_by_key(|(own, _)| !own);
    let same = (false, SpanOutcome::SameDigest);
    assert_eq!(outcomes, [(true, SpanOutcome::Counted), same.clone(), same]);
}

#[test]
fn a_put_shows_who_stands_in_and_which_hints_are_kept() {
    let mut world = Plan::new(5).born();
    let (primaries, stand_ins) = world.replicas("k");
    world.kill(primaries[1]);
    world.run_for(NOTICED);
    let response = world.ask(primaries[0], put("k", "v", 1).w(3).traced());
    let (stand_in, target) = (id(&world, stand_ins[0]), id(&world, primaries[1]));
    let traced = trace(&response);
    sound(traced);
    let away = span(traced, target);
    assert!(!away.is_late() && matches!(away.outcome, Some(SpanOutcome::Refused { .. })), "{away:?}");
    let span = span(traced, stand_in);
    assert_eq!((span.slot, span.role, span.why, span.hint_for), (1, Role::StandIn, Why::StandIn, Some(target)));
    assert!(traced.hints.is_empty(), "{traced:?}");
    // Where W needs no stand-in the coordinator keeps the hint.
    let response = world.ask(primaries[0], put("k", "v", 2).w(2).traced());
    let holder = id(&world, primaries[0]);
    assert_eq!(trace(&response).hints, [HintKept { holder, target }]);
}

#[test]
fn what_a_replica_queues_and_reads_is_its_own_time() {
    let mut plan = Plan::new(3);
    plan.memory = MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..plan.memory };
    let mut world = plan.born();
    world.ask(0, put("k", "v", 1).w(3)).receipt();
    world.run_for(PATIENCE);
    world.reads = Reads::Paced;
    for node in 1..3 {
        world.nodes[node].pace.node_drag = 20_000;
        world.nodes[node].pace.read = 20_000;
    }
    let traced: Vec<Trace> = (0..8).map(|_| trace(&world.ask(0, get("k", 3).traced())).clone()).collect();
    traced.iter().for_each(sound);
    let others = || traced.iter().flat_map(|trace| &trace.spans).filter(|span| span.role == Role::Primary);
    let timings: Vec<_> = others().filter_map(|span| span.timing).collect();
    assert!(timings.iter().any(|timing| timing.queue_us > 1000), "{timings:?}");
    assert!(timings.iter().any(|timing| timing.store_us > 1000), "{timings:?}");
    assert!(others().any(|span| span.network_us().is_some_and(|network| network < 5000)), "{traced:?}");
}

#[test]
fn a_put_that_is_handed_on_says_by_whom() {
    let mut world = Plan::new(5).born();
    world.network.weather.delay = (500, 1000);
    let (primaries, others) = world.coordinators("k");
    let response = world.ask(others[0], put("k", "v", 1).w(3).traced());
    let trace = trace(&response);
    sound(trace);
    let by = trace.handed_on.expect("it has been handed on");
    assert_eq!((trace.coordinator, by.by), (id(&world, primaries[0]), id(&world, others[0])));
    assert!(by.queued_us <= by.sent_us && by.sent_us + trace.answered_us < by.answered_us, "{by:?}");
}

#[test]
fn a_put_that_is_taken_back_shows_who_was_asked_in_vain() {
    let mut world = Plan::new(5).born();
    let (primaries, others) = world.coordinators("k");
    world.cut(others[0], primaries[0]);
    let response = world.ask(others[0], put("k", "v", 1).w(2).traced());
    let trace = trace(&response);
    assert_eq!((trace.coordinator, trace.handed_on), (id(&world, others[0]), None));
    let vain = trace.spans.iter().find(|span| span.why == Why::Coordinate).expect("it was handed on");
    assert!(vain.node == id(&world, primaries[0]) && vain.is_late(), "{vain:?}");
    response.receipt();
}

#[test]
fn failures_are_traced_too() {
    for request in [get("k", 2).traced(), put("k", "v", 1).w(2).traced().request()] {
        let mut world = Plan::new(3).born();
        world.cut_one_way(1, 0);
        world.cut_one_way(2, 0);
        let response = world.ask(0, request);
        let trace = trace(&response);
        assert!(trace.spans.iter().filter(|span| span.is_late()).count() >= 1, "{trace:?}");
        assert!(trace.spans.iter().any(|span| !span.again_us.is_empty()), "{trace:?}");
        response.refused();
    }
    let mut world = Plan::new(3).born();
    world.kill(1);
    world.kill(2);
    world.run_for(NOTICED);
    let response = world.ask(0, put("k", "v", 2).w(2).traced());
    assert!(trace(&response).spans.is_empty(), "nobody was asked");
    response.refused();
}
