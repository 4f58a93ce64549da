//! How fast news spreads, what it costs, how soon the dead are found, and how often the living are taken for dead.

use std::time::Duration;

use rand::RngExt;

use super::{GossipWorld, Opinion, id_of};
use crate::gossip::config::GossipConfig;
use crate::message::{ControlMessage, GossipDelta};
use crate::node::{ControlInput, LinkId};
use crate::types::Time;

/// What is measured.
#[derive(Clone, Debug)]
pub struct GossipPlan {
    /// How many members.
    pub nodes: usize,
    /// How likely a frame is lost.
    pub loss: f64,
    /// How long everybody is healthy and watched for false verdicts, apart from what the rest takes.
    pub healthy: Duration,
    /// How many members crash, one after the other; each is back before the next.
    pub crashes: u32,
    /// Where all chance comes from.
    pub seed: u64,
    /// Pace and patience.
    pub config: GossipConfig,
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GossipFindings {
    /// Intervals until all members know a change of one, for each change; sorted.
    pub rounds: Vec<f64>,
    /// Bytes that a node sends in an interval, while nothing changes.
    pub bytes_a_round: f64,
    /// From a crash to the verdict, for each crash and member; sorted.
    pub detection: Vec<Duration>,
    /// Members that have not noticed a crash in time.
    pub missed: u64,
    /// Verdicts about those whose process ran.
    pub false_verdicts: u64,
    /// Virtual time in which they could occur.
    pub watched: Duration,
    /// Pings sent in it.
    pub pings: u64,
}

/// Until everybody has met everybody, and knows what is usual.
const SETTLING: Duration = Duration::from_secs(60);
/// Over which bytes are counted.
const COUNTING: Duration = Duration::from_secs(60);
/// Changes whose spread is measured.
const CHANGES: usize = 10;
/// How long a crash may go unnoticed, and a change unknown.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between a member's return and the next crash.
const RECOVERY: Duration = Duration::from_secs(20);
/// How finely the spread of a change is watched.
const LOOK: Duration = Duration::from_millis(10);

/// Measures a healthy cluster, then changes, then crashes.
///
/// # Panics
/// If there are fewer than 2 members.
pub fn measure(plan: &GossipPlan) -> GossipFindings {
    let mut world = GossipWorld::new(plan.seed, plan.nodes, plan.config.clone());
    world.loss = plan.loss;
    world.run_for(SETTLING);
    world.opinions.clear();
    world.pings = 0;
    let began = world.now;
    let mut findings = GossipFindings { bytes_a_round: bytes_a_round(&mut world, plan), ..GossipFindings::default() };
    world.run_for(plan.healthy);
    findings.rounds = (0..CHANGES).filter_map(|_| spread(&mut world)).collect();
    findings.rounds.sort_by(f64::total_cmp);
    for _ in 0..plan.crashes {
        let (found, missed) = detect(&mut world);
        findings.detection.extend(found);
        findings.missed += missed;
    }
    findings.detection.sort_unstable();
    findings.false_verdicts = world.opinions.iter().filter(|opinion| opinion.convicted && opinion.lives).count() as u64;
    findings.watched = world.now.since(began);
    findings.pings = world.pings;
    findings
}

fn bytes_a_round(world: &mut GossipWorld, plan: &GossipPlan) -> f64 {
    let before = world.bytes;
    world.run_for(COUNTING);
    let rounds = COUNTING.as_secs_f64() / plan.config.interval.as_secs_f64();
    (world.bytes - before) as f64 / rounds / plan.nodes as f64
}

/// Some member hears of a change of another one; the intervals until all but that one know of it.
fn spread(world: &mut GossipWorld) -> Option<f64> {
    let nodes = world.nodes.len();
    let origin = world.rng.random_range(0..nodes);
    let subject = (origin + world.rng.random_range(1..nodes)) % nodes;
    let mut state = world.control(origin)?.members().get(id_of(subject))?.clone();
    state.version += 1;
    let version = (state.generation, state.version);
    let link = world.links.iter().position(|link| link.ends[1] == origin)?;
    let message = ControlMessage::GossipDelta(GossipDelta { delta: vec![state], layout: None });
    world.handle(origin, ControlInput::Message { link: LinkId(link as u64), id: 0, message });
    let began = world.now;
    let knows = |world: &GossipWorld, node: usize| {
        let state = world.control(node).and_then(|control| control.members().get(id_of(subject)));
        state.is_some_and(|state| (state.generation, state.version) >= version)
    };
    while !(0..nodes).filter(|node| *node != subject).all(|node| knows(world, node)) {
        world.run_for(LOOK);
        if world.now.since(began) > PATIENCE {
            return None;
        }
    }
    Some(world.now.since(began).as_secs_f64() / world.config.interval.as_secs_f64())
}

/// A member crashes and is back later: after what time the others knew, and how many never did.
fn detect(world: &mut GossipWorld) -> (Vec<Duration>, u64) {
    let victim = world.rng.random_range(0..world.nodes.len());
    let first = world.opinions.len();
    let crashed = world.now;
    world.crash(victim);
    let all = world.running().count();
    let mut verdicts: Vec<Time> = Vec::new();
    while verdicts.len() < all && world.now.since(crashed) < PATIENCE {
        world.run_for(Duration::from_millis(500));
        let about = |opinion: &&Opinion| opinion.about == victim && opinion.convicted;
        verdicts = world.opinions[first..].iter().filter(about).map(|opinion| opinion.at).collect();
    }
    world.start(victim);
    world.run_for(RECOVERY);
    let missed = (all - verdicts.len().min(all)) as u64;
    (verdicts.into_iter().map(|at| at.since(crashed)).collect(), missed)
}
