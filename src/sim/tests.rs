//! The simulation itself: it repeats, it notices its own faults, and each of its checks can fail.

use std::time::Duration;

use super::oracle::Sufficiency;
use super::schedule::ClusterPlan;
use super::workload::bucket_of;
use super::*;
use crate::api::{Ack, Deadline, Get, Put, PutHeader, Receipt, Reply, Request, Response};
use crate::node::Core;
use crate::quorum::Level;
use crate::types::{Key, NodeId, Time, WriteId};
use crate::version::{Actor, Dot};

const SPAN: Duration = Duration::from_secs(12);
/// A short run has little in it.
const LITTLE: Sufficiency = Sufficiency { acked: 20, under_fault_percent: 5 };

fn options() -> Options {
    Options { enough: LITTLE, ..Options::default() }
}

/// A cluster without tempers.
fn calm(nodes: usize) -> Schedule {
    let mut schedule = Schedule::draw(1, SPAN);
    schedule.faults.clear();
    schedule.operations.clear();
    schedule.cluster = ClusterPlan {
        shards: vec![1; nodes],
        drift_ppm: vec![0; nodes],
        sync: true,
        max_inflight: 64,
        birth_kills: 0,
        buggify: Buggify::default(),
        request_timeout: Duration::from_secs(1),
        delay_us: (50, 300),
        sync_us: 300,
        miss_probability: 0.0,
        ..schedule.cluster
    };
    schedule
}

fn world(schedule: &Schedule) -> World {
    let mut world = cluster::assemble(schedule, &options(), |_| MemoryDisk::new(MemoryConfig::default()));
    (0..world.nodes.len()).for_each(|node| world.start(node));
    world.settle();
    world
}

fn put(key: &str, write: u128) -> Put {
    let header = PutHeader {
        w: Some(Level::Number(2)),
        deadline: Deadline::after(Duration::from_secs(1), 0),
        ..PutHeader::new(bucket_of(key), Key::new(key.to_owned()).unwrap(), WriteId(write))
    };
    Put { header, value: Some("a value".into()) }
}

/// A world with one write in it, and its receipt.
fn written() -> (World, Request, Receipt, usize) {
    let mut world = world(&calm(3));
    let (request, node) = (Request::Put(put("k", 1)), world.primaries("k")[0]);
    let id = world.send(node, &request);
    match world.wait(id).result {
        Ok(Reply::Put(receipt)) => (world, request, receipt, node),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_broken(world: &World, invariant: &str) {
    let broken = world.witness.broken().map(|(_, violation)| violation.invariant.as_str());
    assert_eq!(broken, Some(invariant));
}

#[test]
fn one_schedule_gives_one_run_and_another_seed_another() {
    let hash = |seed| {
        let report = run(&Schedule::draw(seed, SPAN), &options());
        (report.trace_hash, report.operations, report.findings, report.coverage)
    };
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7).0, hash(8).0);
}

#[test]
fn a_trace_changes_nothing() {
    let schedule = Schedule::draw(3, SPAN);
    let traced = run(&schedule, &Options { trace: Some(TraceFilter::default()), ..options() });
    assert_eq!(run(&schedule, &options()).trace_hash, traced.trace_hash);
    assert!(traced.trace.iter().any(|line| line.contains("has merged")));
    let of_a_key = run(&schedule, &Options { trace: Some(TraceFilter { key: Some("k0.0".into()) }), ..options() });
    assert!(of_a_key.trace.iter().any(|line| line.contains("k0.0")));
    assert!(!of_a_key.trace.iter().any(|line| line.contains("k1.0  ")));
}

#[test]
fn sound_clusters_pass() {
    for seed in 1..=6 {
        let report = run(&Schedule::draw(seed, SPAN), &options());
        assert!(!matches!(report.outcome, Outcome::Violation(_)), "seed {seed}: {:?}", report.outcome);
    }
}

#[test]
fn a_run_without_faults_or_history_is_not_enough() {
    let schedule = Schedule::draw(2, SPAN);
    let with = |harness_bug| run(&schedule, &Options { harness_bug: Some(harness_bug), ..options() });
    let calm = with(HarnessBug::FaultsOff);
    assert!(matches!(calm.outcome, Outcome::Insufficient(_)), "{:?}", calm.outcome);
    let effects = [Mark::FrameLost, Mark::Killed, Mark::CutSingle, Mark::EventHeld, Mark::CommitFailed];
    assert!(effects.iter().all(|mark| calm.coverage.of(*mark) == 0));
    let empty = with(HarnessBug::EmptyHistory);
    assert!(matches!(empty.outcome, Outcome::Insufficient(_)), "{:?}", empty.outcome);
}

#[test]
fn frames_that_go_past_the_network_are_noticed() {
    let options = Options { harness_bug: Some(HarnessBug::PastTheNetwork), ..options() };
    let report = run(&Schedule::draw(2, SPAN), &options);
    let Outcome::Violation(violation) = report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(violation.invariant, "network ledger");
}

#[test]
fn a_dot_that_names_two_writes_is_noticed() {
    let mut world = world(&calm(3));
    let dot = Dot { actor: Actor(5), counter: 1 };
    let now = world.now;
    world.witness.saw_dot(now, b"k", dot, WriteId(1));
    world.witness.saw_dot(now, b"k", dot, WriteId(1));
    world.witness.saw_dot(now, b"other", dot, WriteId(2));
    assert!(world.witness.broken().is_none());
    world.witness.saw_dot(now, b"k", dot, WriteId(2));
    check_broken(&world, "dot uniqueness");
}

#[test]
fn an_honest_receipt_passes() {
    let (mut world, request, receipt, node) = written();
    world.check_receipt(node, &request, &receipt, Time::ZERO);
    assert!(world.witness.broken().is_none(), "{:?}", world.witness.broken());
}

#[track_caller]
fn check_lie(change: impl FnOnce(&mut World, &mut Receipt)) {
    let (mut world, request, mut receipt, node) = written();
    change(&mut world, &mut receipt);
    world.check_receipt(node, &request, &receipt, Time::ZERO);
    check_broken(&world, "ack honesty");
}

#[test]
fn a_receipt_that_lies_is_noticed() {
    check_lie(|_, receipt| receipt.acks.truncate(1));
    check_lie(|_, receipt| {
        let first = receipt.acks[0];
        receipt.acks = vec![first, first];
    });
    check_lie(|_, receipt| receipt.acks[1] = Ack { slot: receipt.acks[0].slot, ..receipt.acks[1] });
    check_lie(|_, receipt| receipt.acks[0].node = NodeId(77));
    check_lie(|_, receipt| receipt.dot.counter += 1);
}

#[test]
fn a_replica_that_never_held_it_is_noticed_and_one_that_lost_it_since_is_not() {
    let forget = |world: &mut World, receipt: &Receipt| {
        let node = world.ids[&receipt.acks[1].node];
        world.nodes[node].process = None;
        world.nodes[node].disk.wipe();
    };
    check_lie(|world, receipt| forget(world, receipt));
    let (mut world, request, receipt, node) = written();
    let holder = world.ids[&receipt.acks[1].node];
    world.wipe(holder);
    world.check_receipt(node, &request, &receipt, Time::ZERO);
    assert!(world.witness.broken().is_none(), "{:?}", world.witness.broken());
}

/// A world in which a stand-in keeps a write for a primary that is away, as its client was told: holder and heir.
fn lent() -> (World, usize, usize) {
    let mut world = world(&calm(5));
    let primaries = world.primaries("k");
    let heir = primaries[1];
    world.kill(heir);
    world.run_for(Duration::from_secs(4));
    let mut request = put("k", 1);
    (request.header.w, request.header.dw) = (Some(Level::Number(3)), Some(3));
    let id = world.send(primaries[0], &Request::Put(request));
    let Ok(Reply::Put(receipt)) = world.wait(id).result else { panic!("two primaries and a stand-in are there") };
    let ack = receipt.acks.iter().find(|ack| ack.stand_in).unwrap();
    let holder = world.ids[&ack.node];
    let number = |node: usize| u16::try_from(node).unwrap();
    let by = oracle::Holder { node: number(holder), synced: ack.synced, heir: Some(number(heir)) };
    world.lend("k", receipt.dot, by, Time::ZERO);
    (world, holder, heir)
}

/// A loss of a disk excuses only what it took: before the hand-over that of the holder, and after it that of the heir.
#[test]
fn whoever_has_handed_a_write_over_may_lose_it_and_that_excuses_nothing() {
    for (handed_over, holder_loses, excused) in
        [(false, true, true), (false, false, false), (true, true, false), (true, false, true)]
    {
        let (mut world, holder, heir) = lent();
        if handed_over {
            world.start(heir);
            world.settle();
            world.run_for(Duration::from_secs(2));
        }
        world.wipe(if holder_loses { holder } else { heir });
        assert_eq!(world.loans[0].is_excused, excused, "handed over {handed_over}, the holder loses {holder_loses}");
    }
}

#[test]
fn a_second_answer_is_noticed() {
    let mut world = world(&calm(3));
    let attempt = {
        let mut workload = workload::Workload::new(calm(3).cluster);
        workload.operate(&mut world, &Operation::plain(Act::Get, 2));
        world.run_for(Duration::from_secs(1));
        assert!(world.owed().is_empty());
        2
    };
    let response = Response::error(crate::api::ApiError::Overloaded);
    world.respond(0, attempt, &response, bytes::Bytes::new());
    check_broken(&world, "one answer");
}

#[test]
fn what_grows_beyond_its_bound_is_noticed() {
    let mut world = world(&calm(3));
    let node = world.primaries("k")[0];
    (0..3).filter(|other| *other != node).for_each(|other| world.kill(other));
    world.send(node, &Request::Put(put("k", 1)));
    world.run_for(Duration::from_millis(50));
    world.check_bounds();
    assert!(world.witness.broken().is_none());
    assert!(world.nodes[node].process().cores().map(Core::counters).any(|counters| counters.in_flight == 1));
    world.nodes[node].config.shard.max_inflight = 0;
    world.check_bounds();
    check_broken(&world, "queue bounds");
}

#[test]
fn two_rings_are_noticed() {
    let mut world = world(&calm(3));
    world.check_ring();
    assert!(world.witness.broken().is_none());
    let other = {
        let mut schedule = calm(3);
        schedule.cluster.partitions *= 2;
        self::world(&schedule)
    };
    let stranger = other.nodes.into_iter().next_back().expect("it has three");
    world.nodes.push(stranger);
    world.check_ring();
    check_broken(&world, "one ring");
}

#[test]
fn actors_that_nothing_explains_are_noticed() {
    let mut world = world(&calm(3));
    let (now, keys) = (world.now, ["k".to_owned()]);
    // Three starts, each with an actor before and after its grants.
    for actor in 1..=6 {
        world.witness.saw_dot(now, b"k", Dot { actor: Actor(actor), counter: 1 }, WriteId(actor.into()));
    }
    world.check_actors(&keys);
    assert!(world.witness.broken().is_none());
    world.witness.saw_dot(now, b"k", Dot { actor: Actor(7), counter: 1 }, WriteId(7));
    world.check_actors(&keys);
    check_broken(&world, "actor bound");
}

#[test]
fn a_paused_process_gets_all_that_came_for_it_in_order() {
    let mut world = world(&calm(3));
    let node = world.primaries("k")[0];
    let others = world.primaries("k")[1..].to_vec();
    world.pause(node);
    let id = world.send(others[0], &Request::Put(put("k", 1)));
    assert!(world.wait(id).result.is_ok(), "two of three are enough");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.holding(node, "k"), "nothing");
    world.resume(node);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.holding(node, "k"), "{1}");
}

#[test]
fn a_read_sees_what_a_put_wrote() {
    let (mut world, _, _, _) = written();
    let get = Get {
        r: Some(Level::Number(2)),
        deadline: Deadline::after(Duration::from_secs(1), 0),
        ..Get::new(bucket_of("k"), Key::new("k".to_owned()).unwrap())
    };
    let id = world.send(world.primaries("k")[1], &Request::Get(get));
    let response = world.wait(id);
    assert_eq!(response.values, ["a value"]);
}

#[cfg(feature = "mutants")]
#[test]
fn every_seeded_bug_names_invariants_that_there_are() {
    use super::oracle::Invariant;
    let judged = Invariant::ALL.iter().map(|invariant| invariant.name());
    let known: Vec<&str> =
        judged.chain(["ack honesty", "actor bound", "convergence", "the dead are convicted"]).collect();
    for mutant in crate::mutant::Mutant::ALL {
        assert!(mutant.caught_by().iter().all(|name| known.contains(name)), "{}", mutant.name());
    }
}
