//! How fast news spreads, what it costs, how soon the dead are found, and how often the living are taken for dead.

use std::time::Duration;

use rand::RngExt;

use super::{GossipWorld, id_of, name_of};
use crate::gossip::config::GossipConfig;
use crate::message::{ControlMessage, GossipDelta};
use crate::node::{Control, ControlInput, LinkId};

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
    /// Intervals until all members know a change of one, for each change that they all came to know; sorted.
    pub rounds: Vec<f64>,
    /// Bytes that a node sends in an interval, while nothing changes.
    pub bytes_a_round: f64,
    /// From a crash to the verdict, for each crash and each member that came to it; sorted.
    pub detection: Vec<Duration>,
    /// What never came to pass in time, in words: news that somebody has not heard, crashes that somebody has not noticed.
    /// Nothing of it is in the figures above.
    pub failures: Vec<String>,
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
    for _ in 0..CHANGES {
        match spread(&mut world) {
            Ok(rounds) => findings.rounds.push(rounds),
            Err(failure) => findings.failures.push(failure),
        }
    }
    findings.rounds.sort_by(f64::total_cmp);
    for _ in 0..plan.crashes {
        let victim = world.rng.random_range(0..world.nodes.len());
        let (found, failure) = detect(&mut world, victim);
        findings.detection.extend(found);
        findings.failures.extend(failure);
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

/// Some member hears of a change of another one; the intervals until all but that one know of it, or who never came to.
pub(super) fn spread(world: &mut GossipWorld) -> Result<f64, String> {
    let nodes = world.nodes.len();
    let origin = world.rng.random_range(0..nodes);
    let subject = (origin + world.rng.random_range(1..nodes)) % nodes;
    let news = || format!("news of {}, told to {},", name_of(subject), name_of(origin));
    let known = world.control(origin).and_then(|control| control.members().get(id_of(subject))).cloned();
    let Some(mut state) = known else { return Err(format!("{} is none: it has never heard of it", news())) };
    state.version += 1;
    let version = (state.generation, state.version);
    let link = world.links.iter().position(|link| link.ends[1] == origin);
    let Some(link) = link else { return Err(format!("{} comes from nobody: it was never dialed", news())) };
    let message = ControlMessage::GossipDelta(GossipDelta { delta: vec![state], layout: None });
    world.handle(origin, ControlInput::Message { link: LinkId(link as u64), id: 0, message });
    let began = world.now;
    let lacks = |world: &GossipWorld, node: usize| {
        let state = world.control(node).and_then(|control| control.members().get(id_of(subject)));
        state.is_none_or(|state| (state.generation, state.version) < version)
    };
    loop {
        let lacking: Vec<usize> = (0..nodes).filter(|node| *node != subject && lacks(world, *node)).collect();
        if lacking.is_empty() {
            return Ok(world.now.since(began).as_secs_f64() / world.config.interval.as_secs_f64());
        }
        if world.now.since(began) > PATIENCE {
            return Err(format!("{} has not reached {}", news(), names(lacking)));
        }
        world.run_for(LOOK);
    }
}

/// A member crashes and is back later: after what time each of the others held it for dead, and who never did.
pub(super) fn detect(world: &mut GossipWorld, victim: usize) -> (Vec<Duration>, Option<String>) {
    let first = world.opinions.len();
    let crashed = world.now;
    world.crash(victim);
    let convicts = |control: &Control| control.detector().is_convicted(id_of(victim));
    let trusting = |world: &GossipWorld| -> Vec<usize> {
        world.running().filter(|(_, control)| !convicts(control)).map(|(node, _)| node).collect()
    };
    while !trusting(world).is_empty() && world.now.since(crashed) < PATIENCE {
        world.run_for(Duration::from_millis(500));
    }
    let missed = trusting(world);
    // Each judge once, by the verdict that lasts; whoever held it for dead before needed no time.
    let verdict = |judge: usize| {
        let lasting =
            world.opinions[first..].iter().rev().find(|opinion| (opinion.by, opinion.about) == (judge, victim));
        lasting.map_or(crashed, |opinion| opinion.at)
    };
    let judges = world.running().map(|(node, _)| node).filter(|node| !missed.contains(node));
    let found = judges.map(|judge| verdict(judge).since(crashed)).collect();
    let failure = format!("the crash of {} was never noticed by {}", name_of(victim), names(missed.clone()));
    world.start(victim);
    world.run_for(RECOVERY);
    (found, (!missed.is_empty()).then_some(failure))
}

fn names(nodes: Vec<usize>) -> String {
    nodes.into_iter().map(name_of).collect::<Vec<_>>().join(", ")
}
