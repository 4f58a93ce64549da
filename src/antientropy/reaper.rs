//! Reaping: deletes tombstones once nothing is left that they could be needed for, by no clock but by a fence.
//!
//! ```text
//!   ring, reach, load, orders, found, inquired, vouched, reaped, time        (now, ...)
//!                          |
//!                   +------v------+
//!                   |   Reaper    |   the trees whose first primary this node is, one batch of candidates at a time
//!                   +------+------+
//!                          |
//!             Find, Inquire, Fence, Inquire again, Reap         (ReaperCommand)
//! ```
//!
//! A round of one partition, over candidates of one of its trees:
//!
//! 1. *Inquire*: every member says which run of it this is, its ring, its round, and what it holds of each candidate. Those whose
//!    tombstone all primaries hold, and nobody anything else, go on. The round is one above the highest. And every member says of
//!    every other which run it was that said hello last: from then on it does not listen to earlier ones, of a disk that was
//!    taken for lost, say, whose process wakes up again with what its successor does not hold.
//! 2. *Fence*: every member raises its round and says yes to a candidate if this very request has raised it, at a moment when
//!    nothing but the tombstone stood there. From then on it merges nothing that was read before.
//! 3. *Inquire* again: whoever has started anew meanwhile, or has met one that has, may have lost what it vouched for; the round
//!    ends.
//! 4. *Reap*: whoever holds the tombstone still deletes it.
//!
//! So when the first is deleted, no store holds what it had deleted, and whatever is on its way from one was read in an earlier round.
//! A member that cannot be reached, or says no, keeps the tombstones where they are, and nothing else. A round that ends early
//! leaves nothing behind but a number; the next is another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::exchange::Step;
use super::pace::Backoff;
use super::trees::{primaries, tree_shape};
use crate::ring::RingView;
use crate::storage::Holds;
use crate::storage::merkle::TreeId;
use crate::types::{NodeId, Now, PartitionId, Round, Time};

mod command;
#[cfg(test)]
mod model;
mod session;
mod status;
#[cfg(test)]
mod tests;

pub use self::command::{Candidate, Inquired, ReaperCommand, Tombstones, Vouched};
use self::session::{Phase, Session};
pub use self::status::{ReapWait, ReaperCounters, ReaperStatus};

/// Candidates of a round at most.
pub const MAX_CANDIDATES: usize = 256;

/// What a reaper is told at its start.
#[derive(Clone, Debug)]
pub struct ReaperSettings {
    /// This node.
    pub node: NodeId,
    /// This shard.
    pub shard: u16,
    /// Of so many.
    pub shards: u16,
    /// Between two walks over a tree; zero: only by order.
    pub interval: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Reaper {
    settings: ReaperSettings,
    view: Option<Arc<RingView>>,
    reachable: BTreeSet<NodeId>,
    paused: bool,
    busy: bool,
    /// Trees whose first primary this node is, and how many of their candidates the last walk has left.
    trees: BTreeMap<TreeId, u64>,
    /// Of these, by when they are walked over next.
    due: BTreeSet<(Time, TreeId)>,
    /// By order, and not walked over since.
    ordered: BTreeSet<TreeId>,
    session: Option<Session>,
    backoff: Backoff,
    /// What has ended the last round.
    obstacle: Option<ReapWait>,
    last_step: u64,
    stopped: bool,
    rng: StdRng,
    counters: ReaperCounters,
}

impl Reaper {
    /// One that has not been told the ring; chance comes from `seed`.
    pub fn new(settings: ReaperSettings, seed: u64) -> Reaper {
        Reaper {
            settings,
            view: None,
            reachable: BTreeSet::new(),
            paused: false,
            busy: false,
            trees: BTreeMap::new(),
            due: BTreeSet::new(),
            ordered: BTreeSet::new(),
            session: None,
            backoff: Backoff::default(),
            obstacle: None,
            last_step: 0,
            stopped: false,
            rng: StdRng::seed_from_u64(seed),
            counters: ReaperCounters::default(),
        }
    }

    /// What it has done.
    pub fn counters(&self) -> ReaperCounters {
        self.counters
    }

    /// When [`Reaper::on_timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let held = self.stopped || self.paused || self.busy;
        let idle = !held && self.session.is_none() && self.away().next().is_none();
        let due = self.due.first().filter(|_| idle).map(|(at, _)| *at);
        due.map(|at| self.backoff.until(Time::ZERO).map_or(at, |until| until.max(at)))
    }

    /// This node's id has become known.
    pub fn set_node(&mut self, node: NodeId) {
        self.settings.node = node;
    }

    /// A new ring: what is under way went by the old one.
    pub fn on_ring(&mut self, now: Now, view: Arc<RingView>, out: &mut Vec<ReaperCommand>) {
        if self.view.as_ref().is_some_and(|old| old.version() == view.version()) {
            return;
        }
        self.session = None;
        (self.due, self.trees, self.ordered) = Default::default();
        let shards = self.settings.shards.max(1);
        for tree in tree_shape(view.layout()).trees() {
            let is_first = primaries(&view, tree).first() == Some(&self.settings.node);
            if !is_first || tree.partition.0 % shards != self.settings.shard {
                continue;
            }
            self.trees.insert(tree, 0);
            if !self.settings.interval.is_zero() {
                // The first walks are spread over the interval.
                let at = now.time + self.settings.interval.mul_f64(self.rng.random());
                self.due.insert((at, tree));
            }
        }
        self.view = Some(view);
        self.pump(now, out);
    }

    /// An operator wants what can be reaped to be reaped now: of one partition, or all.
    pub fn start(&mut self, now: Now, partition: Option<PartitionId>, out: &mut Vec<ReaperCommand>) {
        let wanted = |tree: TreeId| partition.is_none_or(|partition| tree.partition == partition);
        self.due.retain(|(_, tree)| !wanted(*tree));
        let running = self.session.as_mut().filter(|session| wanted(session.tree));
        let running = running.map(|session| {
            // What it has walked over already may have become ready.
            session.again = true;
            session.tree
        });
        let trees: Vec<TreeId> = self.trees.keys().copied().filter(|tree| wanted(*tree)).collect();
        self.due.extend(trees.iter().filter(|tree| Some(**tree) != running).map(|tree| (now.time, *tree)));
        self.ordered.extend(trees);
        self.backoff.clear();
        self.pump(now, out);
    }

    /// An operator wants nothing more to be begun.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// An operator wants it to go on.
    pub fn resume(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        self.paused = false;
        self.pump(now, out);
    }

    /// Clients keep the shard busy, or no longer: nothing is begun meanwhile.
    pub fn on_load(&mut self, now: Now, busy: bool, out: &mut Vec<ReaperCommand>) {
        self.busy = busy;
        self.pump(now, out);
    }

    /// A node can be reached now, or no longer.
    pub fn on_reach(&mut self, now: Now, node: NodeId, reachable: bool, out: &mut Vec<ReaperCommand>) {
        if reachable {
            self.reachable.insert(node);
        } else {
            self.reachable.remove(&node);
            if self.session.as_ref().is_some_and(|session| session.waiting.contains(&node)) {
                return self.give_up(now, ReapWait::Silent(node), out);
            }
        }
        self.pump(now, out);
    }

    /// Time has passed: the moment that [`Reaper::poll_timeout`] named.
    pub fn on_timer(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        self.pump(now, out);
    }

    /// Nothing more is begun, and nothing under way is waited for.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.session = None;
    }

    /// Members that cannot be reached.
    fn away(&self) -> impl Iterator<Item = NodeId> {
        let members = self.view.iter().flat_map(|view| view.layout().members()).map(|member| member.id);
        members.filter(|node| *node != self.settings.node && !self.reachable.contains(node))
    }

    fn pump(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        if self.poll_timeout().is_none_or(|at| at > now.time) {
            return;
        }
        let (Some((_, tree)), Some(view)) = (self.due.pop_first(), &self.view) else { return };
        self.trees.insert(tree, 0);
        self.session = Some(Session {
            tree,
            ring: view.version(),
            phase: Phase::Finding,
            step: Step(0),
            members: view.layout().members().iter().map(|member| member.id).collect(),
            waiting: BTreeSet::new(),
            generations: BTreeMap::new(),
            met: BTreeMap::new(),
            candidates: Vec::new(),
            ruled_out: BTreeSet::new(),
            round: Round::default(),
            next: None,
            again: false,
        });
        self.find(None, out);
    }

    fn find(&mut self, after: Option<Bytes>, out: &mut Vec<ReaperCommand>) {
        let step = self.next_step();
        let Some(session) = &mut self.session else { return };
        (session.phase, session.step) = (Phase::Finding, step);
        out.push(ReaperCommand::Find { step, tree: session.tree, after, limit: MAX_CANDIDATES });
    }

    fn next_step(&mut self) -> Step {
        self.last_step += 1;
        Step(self.last_step)
    }

    /// Begins a phase in which every member is asked.
    fn ask_all(&mut self, phase: Phase, out: &mut Vec<ReaperCommand>) {
        let step = self.next_step();
        let Some(session) = &mut self.session else { return };
        (session.phase, session.step) = (phase, step);
        session.waiting = session.members.iter().copied().collect();
        let (tree, round, candidates) = (session.tree, session.round, &session.candidates);
        out.extend(session.members.iter().map(|&member| match phase {
            Phase::Finding | Phase::Inquiring => {
                ReaperCommand::Inquire { step, member, tree, candidates: candidates.clone() }
            }
            Phase::Fencing => ReaperCommand::Fence { step, member, tree, round, candidates: candidates.clone() },
            Phase::Confirming => ReaperCommand::Inquire { step, member, tree, candidates: Vec::new() },
            Phase::Reaping => ReaperCommand::Reap { step, member, tree, round, candidates: candidates.clone() },
        }));
    }

    /// This store has been searched; `None`: it could not be.
    pub fn on_found(&mut self, now: Now, step: Step, found: Option<Tombstones>, out: &mut Vec<ReaperCommand>) {
        let Some(session) = self.session.as_mut().filter(|session| session.step == step) else { return };
        let Some(Tombstones { candidates, next }) = found else {
            return self.give_up(now, ReapWait::Unreadable, out);
        };
        (session.candidates, session.next, session.round) = (candidates, next, Round::default());
        if session.candidates.is_empty() {
            self.go_on(now, out);
        } else {
            self.ask_all(Phase::Inquiring, out);
        }
    }

    /// A member has said what it is and holds; `None`: it has not, or will not.
    pub fn on_inquired(
        &mut self,
        now: Now,
        step: Step,
        member: NodeId,
        said: Option<Inquired>,
        out: &mut Vec<ReaperCommand>,
    ) {
        let Some(session) = self.session.as_mut().and_then(|session| session.takes(step, member)) else { return };
        let is_confirming = session.phase == Phase::Confirming;
        let Some(said) = said else { return self.give_up(now, ReapWait::Silent(member), out) };
        if said.ring != session.ring {
            return self.give_up(now, ReapWait::OtherRing(member), out);
        }
        if said.may_lack {
            return self.give_up(now, ReapWait::Lacks(member), out);
        }
        if is_confirming && !session.is_same_run(member, said.generation, said.ring) {
            return self.give_up(now, ReapWait::Restarted(member), out);
        }
        session.met.insert(member, said.met);
        if !is_confirming {
            session.generations.insert(member, said.generation);
            session.round = session.round.max(Round(said.round.0.saturating_add(1)));
            let view = self.view.as_ref().expect("there is a session, so there is a ring");
            let is_primary = primaries(view, session.tree).contains(&member);
            // A primary that lacks the tombstone may lack it where another member still has what it deletes.
            let may = |holds: Option<&Holds>| match holds {
                Some(Holds::Tombstone) => true,
                Some(Holds::Nothing) => !is_primary,
                Some(Holds::Other) | None => false,
            };
            session.rule_out(|nth| !may(said.holds.get(nth)));
        }
        if session.waiting.is_empty() {
            if let Some(unmet) = session.unmet() {
                self.give_up(now, unmet, out);
            } else if is_confirming {
                self.ask_all(Phase::Reaping, out);
            } else {
                self.go_on_with_the_rest(now, Phase::Fencing, out);
            }
        }
    }

    /// A member has raised its round, and vouches for these; `None`: it has not, or nobody knows.
    pub fn on_vouched(
        &mut self,
        now: Now,
        step: Step,
        member: NodeId,
        said: Option<Vouched>,
        out: &mut Vec<ReaperCommand>,
    ) {
        let Some(session) = self.session.as_mut().and_then(|session| session.takes(step, member)) else { return };
        let Some(said) = said else { return self.give_up(now, ReapWait::Silent(member), out) };
        if !session.is_same_run(member, said.generation, said.ring) {
            return self.give_up(now, ReapWait::Restarted(member), out);
        }
        session.rule_out(|nth| said.yes.get(nth) != Some(&true));
        if session.waiting.is_empty() {
            self.go_on_with_the_rest(now, Phase::Confirming, out);
        }
    }

    /// A member has deleted what it could; not `done`: or may not have. What it keeps is found by the next walk.
    pub fn on_reaped(&mut self, now: Now, step: Step, member: NodeId, done: bool, out: &mut Vec<ReaperCommand>) {
        let Some(session) = self.session.as_mut().and_then(|session| session.takes(step, member)) else { return };
        if !done {
            return self.give_up(now, ReapWait::Silent(member), out);
        }
        if session.waiting.is_empty() {
            self.counters.rounds += 1;
            self.counters.reaped += session.candidates.len() as u64;
            self.obstacle = None;
            self.backoff.succeed();
            self.go_on(now, out);
        }
    }

    /// All have answered: the next phase is about what nobody has ruled out.
    fn go_on_with_the_rest(&mut self, now: Now, next: Phase, out: &mut Vec<ReaperCommand>) {
        let Some(session) = &mut self.session else { return };
        let ruled_out = std::mem::take(&mut session.ruled_out);
        let mut nth = 0..;
        session.candidates.retain(|_| nth.next().is_some_and(|nth: usize| !ruled_out.contains(&nth)));
        self.counters.left += ruled_out.len() as u64;
        *self.trees.entry(session.tree).or_default() += ruled_out.len() as u64;
        let unfenced = next == Phase::Fencing && mutant!(ReapWithoutFence);
        if unfenced {
            session.round = Round::default();
        }
        if session.candidates.is_empty() {
            self.go_on(now, out);
        } else {
            self.ask_all(if unfenced { Phase::Reaping } else { next }, out);
        }
    }

    /// Done with these candidates: those behind them are next, or another tree.
    fn go_on(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        let Some(session) = &mut self.session else { return };
        match session.next.take() {
            Some(after) => self.find(Some(after), out),
            None => {
                let (tree, again) = (session.tree, session.again);
                self.session = None;
                if !again {
                    self.ordered.remove(&tree);
                }
                self.wait(now, tree);
                self.pump(now, out);
            }
        }
    }

    /// A tree has had its turn.
    fn wait(&mut self, now: Now, tree: TreeId) {
        if self.ordered.contains(&tree) {
            self.due.insert((now.time, tree));
        } else if !self.settings.interval.is_zero() {
            self.due.insert((now.time + self.settings.interval, tree));
        }
    }

    /// Somebody is in the way: this tree waits for its next turn, and all for a while.
    fn give_up(&mut self, now: Now, why: ReapWait, out: &mut Vec<ReaperCommand>) {
        let Some(session) = self.session.take() else { return };
        self.counters.given_up += 1;
        self.obstacle = Some(why);
        self.wait(now, session.tree);
        self.backoff.fail(now.time, self.rng.random());
        self.pump(now, out);
    }
}
