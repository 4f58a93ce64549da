//! What gossip and the detector promise, between machines.

use super::*;
use crate::gossip::MemberState;
use crate::message::{GossipDelta, Hello, HelloAnswer, HelloRefusal, PROTOCOL};
use crate::types::{BatchNumber, ClusterId, Generation, Nonce, RingVersion};

fn settled(seed: u64, nodes: usize, loss: f64) -> GossipWorld {
    let mut world = GossipWorld::new(seed, nodes, GossipConfig::default());
    world.loss = loss;
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.opinions, vec![]);
    world
}

fn plan(nodes: usize, loss: f64) -> GossipPlan {
    let healthy = Duration::from_secs(30);
    GossipPlan { nodes, loss, healthy, crashes: 2, seed: 5, config: GossipConfig::default() }
}

/// By whom, of those who run, somebody is held for dead.
fn held_for_dead(world: &GossipWorld, node: usize) -> Vec<usize> {
    let convicts = |control: &Control| control.detector().is_convicted(id_of(node));
    world.running().filter(|(_, control)| convicts(control)).map(|(index, _)| index).collect()
}

#[test]
fn crashes_are_found_by_everybody_and_the_living_are_left_alone() {
    for loss in [0.0, 0.05] {
        let findings = measure(&plan(7, loss));
        assert_eq!((findings.detection.len(), findings.false_verdicts), (12, 0), "{loss}");
        assert_eq!(findings.failures, Vec::<String>::new(), "{loss}");
        assert_eq!(findings.rounds.len(), 10, "{loss}");
        let slowest = findings.detection[11];
        assert!(slowest < Duration::from_secs(6), "{loss}: {slowest:?}");
        assert!(findings.rounds.iter().all(|rounds| *rounds < 12.0), "{loss}: {:?}", findings.rounds);
    }
}

/// What is measured is only what has come to pass: the rest fails, by name.
#[test]
fn news_that_never_spreads_is_a_failure() {
    let mut world = settled(8, 4, 0.0);
    world.loss = 1.0;
    let told = measure::spread(&mut world).unwrap_err();
    assert!(told.starts_with("news of n") && told.contains(" has not reached n"), "{told}");
    assert!(told.matches('n').count() > 4, "all that lack it are named: {told}");
    let findings = measure(&plan(4, 1.0));
    assert_eq!(findings.rounds, Vec::<f64>::new());
    assert!(findings.failures.len() >= 10, "ten changes have reached nobody: {:?}", findings.failures);
}

#[test]
fn a_crash_that_somebody_never_notices_is_a_failure_however_often_others_do() {
    let mut world = settled(8, 4, 0.0);
    world.pause(2, Duration::from_secs(1000));
    // Verdicts of one judge are not those of three.
    let crash = |world: &mut GossipWorld| measure::detect(world, 1);
    let (found, failure) = crash(&mut world);
    assert_eq!(found.len(), 2);
    assert_eq!(failure.unwrap(), "the crash of n2 was never noticed by n3");
    let mut world = settled(8, 4, 0.0);
    let (found, failure) = crash(&mut world);
    assert_eq!((found.len(), failure), (3, None));
}

#[test]
fn one_seed_gives_one_world() {
    assert_eq!(measure(&plan(4, 0.2)), measure(&plan(4, 0.2)));
}

/// A round without news costs digests alone.
#[test]
fn nothing_but_digests_is_sent_when_there_is_no_news() {
    let mut world = settled(1, 5, 0.0);
    let before = world.bytes;
    world.run_for(Duration::from_secs(10));
    // 20 rounds of 5 nodes with 2 others each, every time a digest both ways of 5 members in at most 24 bytes
    let most = 20 * 5 * 2 * 2 * (5 * 24 + 32);
    assert!(world.bytes - before < most, "{} bytes", world.bytes - before);
}

#[test]
fn a_member_that_is_back_is_acquitted_at_its_first_contact() {
    let mut world = settled(2, 5, 0.0);
    world.crash(3);
    world.run_for(Duration::from_secs(10));
    assert_eq!(held_for_dead(&world, 3), [0, 1, 2, 4]);
    world.start(3);
    world.run_for(Duration::from_millis(400));
    assert_eq!(held_for_dead(&world, 3), Vec::<usize>::new());
}

#[test]
fn gossip_comes_with_the_link_and_not_with_the_next_round() {
    let config = GossipConfig { interval: Duration::from_secs(60), ..GossipConfig::default() };
    let mut world = GossipWorld::new(7, 4, config);
    world.run_for(Duration::from_millis(300));
    assert!(world.running().all(|(_, control)| control.members().iter().count() == 4));
}

/// Trap 16.
#[test]
fn whoever_was_stopped_convicts_nobody_when_it_goes_on() {
    for seconds in [1, 20] {
        let mut world = settled(3, 6, 0.05);
        world.pause(2, Duration::from_secs(seconds));
        world.run_for(Duration::from_secs(seconds + 20));
        let by_it: Vec<_> = world.opinions.iter().filter(|opinion| opinion.by == 2).collect();
        assert!(by_it.is_empty(), "{seconds}: {by_it:?}");
        assert_eq!(world.opinions.iter().any(|opinion| opinion.convicted), seconds == 20);
        assert_eq!(held_for_dead(&world, 2), Vec::<usize>::new());
    }
}

#[test]
fn halves_that_are_cut_convict_each_other_and_find_together_again() {
    let mut world = settled(4, 6, 0.05);
    world.cut(Some(3));
    world.run_for(Duration::from_secs(30));
    assert_eq!((held_for_dead(&world, 0), held_for_dead(&world, 5)), (vec![3, 4, 5], vec![0, 1, 2]));
    // the links have outlasted the cut, so that no handshake tells anybody
    world.cut(None);
    world.run_for(Duration::from_secs(5));
    assert!((0..6).all(|node| held_for_dead(&world, node).is_empty()));
}

/// A member that has been down since before this node's start.
#[test]
fn who_never_came_is_found_too() {
    let members = (0..3).map(member).collect();
    let layout = Layout::birth(Partitions::new(PARTITIONS).unwrap(), members, BTreeMap::new()).unwrap();
    let mut world = GossipWorld::with_layout(5, 2, GossipConfig::default(), layout);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.opinions, vec![]);
    world.run_for(Duration::from_secs(6));
    let about: Vec<_> = world.opinions.iter().map(|opinion| (opinion.by, opinion.about, opinion.convicted)).collect();
    assert_eq!(world.opinions.len(), 2, "{about:?}");
    assert!(about.contains(&(0, 2, true)) && about.contains(&(1, 2, true)), "{about:?}");
}

/// Trap 9: a seed's address is a node's that has left, or another cluster's. Its word makes it no peer.
#[test]
fn whoever_is_no_member_is_turned_away_though_it_welcomes() {
    let mut world = settled(9, 3, 0.0);
    let (now, link) = (Now { time: world.now, wall_ms: 0 }, LinkId(999));
    let control = world.nodes[0].control.as_mut().unwrap();
    let welcome = |node: NodeId, name: &str| {
        let (name, disk, generation) = (name.into(), DiskId(9), Generation(7));
        ControlMessage::HelloAnswer(HelloAnswer::Welcome { node, name, disk, generation, rebuilding: false })
    };
    for (turned_away, (node, name)) in (1..).zip([(id_of(8), "n9"), (id_of(1), "n9")]) {
        let mut fx = ControlEffects::default();
        let dialed = Some("10.9.9.9:7400".into());
        control.handle(now, ControlInput::LinkUp { link, dialed, certified: name.into() }, &mut fx);
        let mut fx = ControlEffects::default();
        control.handle(now, ControlInput::Message { link, id: 0, message: welcome(node, name) }, &mut fx);
        assert_eq!(fx.close.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [link]);
        assert!(fx.routes.is_empty() && fx.sends.is_empty() && fx.dial.is_none() && fx.verdicts.is_empty());
        assert_eq!(control.strangers(), turned_away);
        control.handle(now, ControlInput::LinkDown { link }, &mut fx);
        assert!(fx.routes.is_empty(), "there was none");
    }
}

/// An old process of a disk that was taken for lost wakes up: whoever has granted its successor neither keeps its link nor dials it.
#[test]
fn links_with_earlier_runs_are_closed_and_none_are_made() {
    let mut world = settled(10, 3, 0.0);
    let now = Now { time: world.now, wall_ms: 0 };
    let control = world.nodes[0].control.as_mut().unwrap();
    let node = id_of(1);
    let hello = |generation: u64, disk: u64, stored: u64| {
        ControlMessage::Hello(Hello {
            protocol: PROTOCOL,
            cluster: None,
            node,
            name: name_of(1),
            disk: DiskId(disk),
            stored: Generation(stored),
            generation: Generation(generation),
            nonce: Nonce(generation),
            recovered: BatchNumber(0),
            rebuilding: disk > 1,
            took_over: Generation(if disk > 1 { generation } else { 0 }),
        })
    };
    let welcome = |generation: u64| {
        let (name, disk, generation) = (name_of(1), DiskId(1), Generation(generation));
        ControlMessage::HelloAnswer(HelloAnswer::Welcome { node, name, disk, generation, rebuilding: false })
    };
    let mut say = |link: u64, dialed: bool, message: ControlMessage| {
        let (link, mut fx) = (LinkId(link), ControlEffects::default());
        let dialed = dialed.then(|| "10.9.9.9:7400".to_owned());
        control.handle(now, ControlInput::LinkUp { link, dialed, certified: name_of(1) }, &mut fx);
        let mut fx = ControlEffects::default();
        control.handle(now, ControlInput::Message { link, id: 0, message }, &mut fx);
        let closed: Vec<u64> = fx.close.iter().map(|(link, _)| link.0).collect();
        let met: Vec<u64> = fx.met.iter().map(|run| run.generation.0).collect();
        (fx.admit.len(), met, closed)
    };
    let (admitted, met, before) = say(901, false, hello(100, 7, 0));
    assert_eq!((admitted, met, before.len()), (1, vec![100], 2), "both had dialed");
    let (admitted, met, closed) = say(902, false, hello(105, 8, 0));
    assert_eq!((admitted, met, closed), (1, vec![105], [&before[..], &[901]].concat()), "its successor says hello");
    let (_, _, closed) = say(903, true, welcome(100));
    assert_eq!(closed, [903], "the old process answers where it was");
}

/// Before there is a ring a certificate binds no id. The shards would be told of two peers on one link, and of the end of one.
#[test]
fn a_second_welcome_on_a_link_is_not_heard() {
    let mut world = GossipWorld::new(5, 3, GossipConfig::default());
    let (now, link) = (Now { time: world.now, wall_ms: 0 }, LinkId(1));
    let mut control = world.machine(0, None);
    let up = ControlInput::LinkUp { link, dialed: Some(address_of(1)), certified: name_of(1) };
    control.handle(now, up, &mut ControlEffects::default());
    let said = [1, 2].map(|node| {
        let (node, name, disk, generation) = (id_of(node), name_of(1), DiskId(2), Generation(1));
        let welcome = HelloAnswer::Welcome { node, name, disk, generation, rebuilding: false };
        let (message, mut fx) = (ControlMessage::HelloAnswer(welcome), ControlEffects::default());
        control.handle(now, ControlInput::Message { link, id: 0, message }, &mut fx);
        (fx.routes.len(), fx.close.len())
    });
    assert_eq!(said, [(1, 0), (0, 1)]);
}

/// The first node dials somebody who refuses it: whether it ends, and how many strangers it has met.
fn refused(world: &mut GossipWorld, by: &str, number: u64) -> (bool, u64) {
    let now = Now { time: world.now, wall_ms: 0 };
    let (ours, theirs) = (world.layout.cluster_id(), ClusterId([1; 16]));
    let control = world.nodes[0].control.as_mut().unwrap();
    let (link, mut fx) = (LinkId(number), ControlEffects::default());
    let dialed = Some(format!("10.9.9.{number}:7400"));
    control.handle(now, ControlInput::LinkUp { link, dialed, certified: by.into() }, &mut fx);
    let refusal = HelloRefusal::OtherCluster { theirs: ours, ours: theirs };
    let message = ControlMessage::HelloAnswer(HelloAnswer::Refused(refusal));
    control.handle(now, ControlInput::Message { link, id: 0, message }, &mut fx);
    assert_eq!(fx.close.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [link]);
    (fx.fatal.is_some(), control.strangers())
}

/// Stale seeds: another cluster's nodes refuse this one before any member has welcomed it, and have no say in that.
#[test]
fn whoever_is_no_member_may_refuse_as_often_as_it_likes() {
    let members = (0..3).map(member).collect();
    let layout = Layout::birth(Partitions::new(PARTITIONS).unwrap(), members, BTreeMap::new()).unwrap();
    let mut world = GossipWorld::with_layout(5, 1, GossipConfig::default(), layout);
    let mut refused_by = |name: &str, number| refused(&mut world, name, number);
    assert_eq!((1..=3).map(|number| refused_by("stranger", number)).last(), Some((false, 3)));
    assert_eq!(refused_by("other", 4), (false, 4));
    // Members do matter, once they are more than half of the others.
    assert_eq!(refused_by(&name_of(1), 5), (false, 4));
    assert_eq!(refused_by(&name_of(2), 6), (true, 4));
}

/// It was born alone by mistake, and has seeds now: on its own disk alone it had better take no more writes.
#[test]
fn a_node_that_is_all_of_its_ring_ends_when_its_seeds_refuse_it() {
    let layout = Layout::birth(Partitions::new(PARTITIONS).unwrap(), vec![member(0)], BTreeMap::new()).unwrap();
    let mut world = GossipWorld::with_layout(5, 1, GossipConfig::default(), layout);
    assert_eq!(refused(&mut world, "stranger", 1), (true, 0));
}

/// Trap 9: ids that have departed, and members of other clusters, are neither taken nor passed on.
#[test]
fn departed_ids_and_strangers_stay_out() {
    let members: Vec<Member> = (0..4).map(member).collect();
    let owners: Vec<NodeId> = (0..PARTITIONS as usize).map(|partition| id_of(partition % 4)).collect();
    let (departed, stranger) = (id_of(7), id_of(9));
    let partitions = Partitions::new(PARTITIONS).unwrap();
    let buckets = [(crate::types::Bucket::default(), crate::ring::BucketConfig::default())].into();
    let layout = Layout::new(RingVersion(2), partitions, owners, members, vec![departed], buckets).unwrap();
    let mut world = GossipWorld::with_layout(6, 4, GossipConfig::default(), layout);
    world.run_for(Duration::from_secs(5));
    let known = world.control(0).unwrap().members().get(id_of(1)).unwrap().clone();
    let delta: Vec<MemberState> =
        [departed, stranger].map(|node| MemberState { node, generation: Generation(99), ..known.clone() }).into();
    let digest = [delta[0].known(), delta[1].known()];
    let link = LinkId(world.links.iter().position(|link| link.ends[1] == 0).unwrap() as u64);
    for message in [
        ControlMessage::GossipDelta(GossipDelta { delta, layout: None }),
        ControlMessage::GossipSyn(crate::message::GossipSyn { digest: digest.into(), ring: None }),
    ] {
        world.handle(0, ControlInput::Message { link, id: 1, message });
    }
    world.run_for(Duration::from_secs(20));
    for (_, control) in world.running() {
        let ids: Vec<NodeId> = control.members().iter().map(|state| state.node).collect();
        assert_eq!(ids, [0, 1, 2, 3].map(id_of));
    }
    assert_eq!(world.opinions, vec![], "nobody waits for them");
}
