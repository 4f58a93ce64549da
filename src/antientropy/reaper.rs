//! Reaping: deletes tombstones once nothing is left that they could be needed for, by no clock but by a fence.
//!
//! ```text
//!   ring, reach, found, inquired, vouched, reaped, time        (now, ...)
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
//!    tombstone all primaries hold, and nobody anything else, go on. The round is one above the highest.
//! 2. *Fence*: every member raises its round and says yes to a candidate if this very request has raised it, at a moment when
//!    nothing but the tombstone stood there. From then on it merges nothing that was read before.
//! 3. *Inquire* again: whoever has started anew meanwhile may have lost what it vouched for; the round ends.
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
use crate::storage::merkle::TreeId;
use crate::types::{Generation, NodeId, Now, RingVersion, Round, Time};
use crate::version::Digest;

#[cfg(test)]
mod model;

/// Candidates of a round at most.
pub const MAX_CANDIDATES: usize = 256;

/// A key, as the store has it, and the digest of its tombstone's object.
pub type Candidate = (Bytes, Digest);

/// What a reaper is told at its start.
#[derive(Clone, Debug)]
pub struct ReaperSettings {
    /// This node.
    pub node: NodeId,
    /// This shard.
    pub shard: u16,
    /// Of so many.
    pub shards: u16,
    /// Between two walks over a tree; zero: never.
    pub interval: Duration,
}

/// What is to be done. Each is answered once, however late, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaperCommand {
    /// Find tombstones of the tree in this store, and call [`Reaper::on_found`].
    Find {
        /// For the call.
        step: Step,
        /// The tree.
        tree: TreeId,
        /// Only what lies behind this key.
        after: Option<Bytes>,
        /// At most so many.
        limit: usize,
    },
    /// Ask a member, this node perhaps, and call [`Reaper::on_inquired`].
    Inquire {
        /// For the call.
        step: Step,
        /// Whom.
        member: NodeId,
        /// Of which tree.
        tree: TreeId,
        /// What it holds of these. It has them in memory afterwards, or will not vouch for them.
        candidates: Vec<Candidate>,
    },
    /// Have a member raise its round ([`Store::fence`](crate::storage::Store::fence)), once: a second request is refused. Call
    /// [`Reaper::on_vouched`].
    Fence {
        /// For the call.
        step: Step,
        /// Whom.
        member: NodeId,
        /// Of which tree.
        tree: TreeId,
        /// The round.
        round: Round,
        /// What it is to vouch for.
        candidates: Vec<Candidate>,
    },
    /// Have a member delete these ([`Op::Reap`](crate::storage::Op::Reap)), and call [`Reaper::on_reaped`].
    Reap {
        /// For the call.
        step: Step,
        /// Whom.
        member: NodeId,
        /// Of which tree.
        tree: TreeId,
        /// The round.
        round: Round,
        /// What.
        candidates: Vec<Candidate>,
    },
}

/// Tombstones that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// Nothing else stands under these keys.
    pub candidates: Vec<Candidate>,
    /// Where to go on; `None`: the tree has been walked over.
    pub next: Option<Bytes>,
}

/// What a member holds of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// No record.
    Nothing,
    /// This tombstone, and nobody waits for it.
    Tombstone,
    /// Anything else, or it cannot tell.
    Other,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquired {
    /// Which run of it this is.
    pub generation: Generation,
    /// Its ring.
    pub ring: RingVersion,
    /// The partition's round in its store.
    pub round: Round,
    /// It has lost its disk, and may lack what it once held; or it has not met all others since.
    pub may_lack: bool,
    /// Of each candidate.
    pub holds: Vec<Holds>,
}

/// What a member vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Which run of it this is.
    pub generation: Generation,
    /// Its ring.
    pub ring: RingVersion,
    /// For each candidate.
    pub yes: Vec<bool>,
}

/// What it has done, in plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaperCounters {
    /// Rounds that have come to their end.
    pub rounds: u64,
    /// Rounds that somebody was in the way of.
    pub given_up: u64,
    /// Tombstones that all members have been told to delete.
    pub reaped: u64,
    /// Tombstones left for another round, since not all vouched for them.
    pub left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Finding,
    Inquiring,
    Fencing,
    Confirming,
    Reaping,
}

#[derive(Debug)]
struct Session {
    tree: TreeId,
    ring: RingVersion,
    phase: Phase,
    /// What answers are for; another one in each phase.
    step: Step,
    members: Vec<NodeId>,
    /// Who has not answered.
    waiting: BTreeSet<NodeId>,
    generations: BTreeMap<NodeId, Generation>,
    candidates: Vec<Candidate>,
    /// Those of them that somebody has been found in the way of in this phase.
    ruled_out: BTreeSet<usize>,
    /// One above the highest that anybody has met.
    round: Round,
    next: Option<Bytes>,
}

impl Session {
    /// Itself, if a member's answer for this step is awaited; it is not any more then.
    fn takes(&mut self, step: Step, member: NodeId) -> Option<&mut Session> {
        (self.step == step && self.waiting.remove(&member)).then_some(self)
    }

    /// Whether a member is what it was when the round began: what it said may be gone with its disk else.
    fn is_same_run(&self, member: NodeId, generation: Generation, ring: RingVersion) -> bool {
        self.generations.get(&member) == Some(&generation) && self.ring == ring
    }

    /// Candidates that this holds for are left for another round.
    fn rule_out(&mut self, is_out: impl Fn(usize) -> bool) {
        self.ruled_out.extend((0..self.candidates.len()).filter(|nth| is_out(*nth)));
    }
}

/// See the module.
#[derive(Debug)]
pub struct Reaper {
    settings: ReaperSettings,
    view: Option<Arc<RingView>>,
    reachable: BTreeSet<NodeId>,
    /// Trees by when they are walked over next.
    due: BTreeSet<(Time, TreeId)>,
    session: Option<Session>,
    backoff: Backoff,
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
            due: BTreeSet::new(),
            session: None,
            backoff: Backoff::default(),
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
    pub fn poll_timeout(&self, now: Now) -> Option<Time> {
        let idle = !self.stopped && self.session.is_none() && self.all_are_here();
        let due = self.due.first().filter(|_| idle).map(|(at, _)| *at);
        due.map(|at| self.backoff.until(now.time).map_or(at, |until| until.max(at)))
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
        self.due.clear();
        let shards = self.settings.shards.max(1);
        if !self.settings.interval.is_zero() {
            for tree in tree_shape(view.layout()).trees() {
                let is_first = primaries(&view, tree).first() == Some(&self.settings.node);
                if is_first && tree.partition.0 % shards == self.settings.shard {
                    // The first walks are spread over the interval.
                    let at = now.time + self.settings.interval.mul_f64(self.rng.random());
                    self.due.insert((at, tree));
                }
            }
        }
        self.view = Some(view);
        self.pump(now, out);
    }

    /// A node can be reached now, or no longer.
    pub fn on_reach(&mut self, now: Now, node: NodeId, reachable: bool, out: &mut Vec<ReaperCommand>) {
        if reachable {
            self.reachable.insert(node);
        } else {
            self.reachable.remove(&node);
            if self.session.as_ref().is_some_and(|session| session.waiting.contains(&node)) {
                return self.give_up(now, out);
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

    fn all_are_here(&self) -> bool {
        let Some(view) = &self.view else { return false };
        let mut members = view.layout().members().iter().map(|member| member.id);
        members.all(|node| node == self.settings.node || self.reachable.contains(&node))
    }

    fn pump(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        if self.poll_timeout(now).is_none_or(|at| at > now.time) {
            return;
        }
        let (Some((_, tree)), Some(view)) = (self.due.pop_first(), &self.view) else { return };
        self.session = Some(Session {
            tree,
            ring: view.version(),
            phase: Phase::Finding,
            step: Step(0),
            members: view.layout().members().iter().map(|member| member.id).collect(),
            waiting: BTreeSet::new(),
            generations: BTreeMap::new(),
            candidates: Vec::new(),
            ruled_out: BTreeSet::new(),
            round: Round::default(),
            next: None,
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
        let Some(Tombstones { candidates, next }) = found else { return self.give_up(now, out) };
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
        let is_same = |said: &Inquired| !is_confirming || session.is_same_run(member, said.generation, said.ring);
        let Some(said) = said.filter(|said| said.ring == session.ring && !said.may_lack && is_same(said)) else {
            return self.give_up(now, out);
        };
        if !is_confirming {
            session.generations.insert(member, said.generation);
            session.round = session.round.max(Round(said.round.0 + 1));
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
            if is_confirming {
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
        let Some(said) = said.filter(|said| session.is_same_run(member, said.generation, said.ring)) else {
            return self.give_up(now, out);
        };
        session.rule_out(|nth| said.yes.get(nth) != Some(&true));
        if session.waiting.is_empty() {
            self.go_on_with_the_rest(now, Phase::Confirming, out);
        }
    }

    /// A member has deleted what it could; not `done`: or may not have. What it keeps is found by the next walk.
    pub fn on_reaped(&mut self, now: Now, step: Step, member: NodeId, done: bool, out: &mut Vec<ReaperCommand>) {
        let Some(session) = self.session.as_mut().and_then(|session| session.takes(step, member)) else { return };
        if !done {
            return self.give_up(now, out);
        }
        if session.waiting.is_empty() {
            self.counters.rounds += 1;
            self.counters.reaped += session.candidates.len() as u64;
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
        if session.candidates.is_empty() {
            self.go_on(now, out);
        } else {
            self.ask_all(next, out);
        }
    }

    /// Done with these candidates: those behind them are next, or another tree.
    fn go_on(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        let Some(session) = &mut self.session else { return };
        match session.next.take() {
            Some(after) => self.find(Some(after), out),
            None => {
                self.due.insert((now.time + self.settings.interval, session.tree));
                self.session = None;
                self.pump(now, out);
            }
        }
    }

    /// Somebody is in the way: this tree waits for its next turn, and all for a while.
    fn give_up(&mut self, now: Now, out: &mut Vec<ReaperCommand>) {
        let Some(session) = self.session.take() else { return };
        self.counters.given_up += 1;
        self.due.insert((now.time + self.settings.interval, session.tree));
        self.backoff.fail(now.time, self.rng.random());
        self.pump(now, out);
    }
}
