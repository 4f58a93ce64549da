//! The exchange: finds where two primaries of a tree differ, and brings both to hold the same (Dynamo, section 4.7).
//!
//! ```text
//!   ring, reach, load, answers of peers and of the own store, time, orders        (now, ...)
//!                              |
//!                       +------v-------+   schedule: when each tree is compared with each other primary
//!                       |   Exchange   |   sessions: the few that are compared in depth
//!                       +------+-------+
//!                              |
//!          Compare roots, Sums, Items, Want, Push, Agreed                         (ExchangeCommand)
//! ```
//!
//! Roots are compared by the batch; whatever differs waits for its turn in depth. A session that fails just ends: what it has
//! brought over stays, and the next one finds what is left by comparing again. Nothing is kept on the disk.
//!
//! | file | what it holds |
//! |---|---|
//! | `exchange/command.rs` | what is asked for, and the answers |
//! | `exchange/cost.rs` | what the steps weigh |
//! | `exchange/schedule.rs` | pairs of trees and peers, by when they are due |
//! | `exchange/session.rs` | one tree compared with one peer |
//! | `exchange/pump.rs` | what is begun when |
//! | `exchange/status.rs` | what is done, and why it is not |

mod command;
mod cost;
mod pump;
mod schedule;
mod session;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use command::{Comparison, ExchangeCommand, ExchangeFailure, PeerItem, PeerPage, Step, Transferred, TreeVerdict};
pub use cost::{OBJECT as OBJECT_COST, QUESTION as QUESTION_COST};
pub use status::{ExchangeCounters, ExchangeStatus, RoundProgress, RunningExchange, WaitReason};

use self::schedule::{Comparing, Place, Schedule, own_pairs};
use self::session::Session;
use super::config::ExchangeConfig;
use super::pace::Throttle;
use crate::ring::RingView;
use crate::storage::OpFailure;
use crate::storage::merkle::{ItemPage, Leaves, TreeId};
use crate::types::{NodeId, Now, PartitionId, RingVersion, Time};

/// Trees whose roots are compared at a time, at most.
pub const MAX_TREES: usize = 64;
/// Leaves whose keys are asked for at a time, at most.
pub const MAX_LEAVES: usize = 16;
/// Keys of a page, at most.
pub const MAX_PAGE: usize = 512;
/// Objects that are sent in one step, at most.
pub const MAX_KEYS: usize = 64;
/// A tree that a peer compares is left to it for so long after its last request. As long, a session is kept that is held back by
/// load: its peer waits no longer either.
pub const LEASE: Duration = Duration::from_secs(5);

/// What an exchange is told at its start.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// This node.
    pub node: NodeId,
    /// This shard.
    pub shard: u16,
    /// Of so many, which share rate and concurrency.
    pub shards: u16,
    /// The leaves of own trees.
    pub leaves: Leaves,
    /// Bytes of the longest object that a frame holds.
    pub max_object: u64,
    /// The node's.
    pub config: ExchangeConfig,
}

/// An operator's order to compare everything.
#[derive(Debug)]
struct Round {
    number: u64,
    began: Time,
    trees: BTreeSet<TreeId>,
}

/// A tree that a peer compares with this node.
#[derive(Clone, Copy, Debug)]
struct Lease {
    peer: NodeId,
    until: Time,
}

/// See the module.
///
/// It begins exchanges. The other side only answers: what asks it for sums, keys and objects is answered by whoever owns the
/// store, who asks [`Exchange::may_engage`] first.
#[derive(Debug)]
pub struct Exchange {
    settings: ExchangeSettings,
    /// The ring and the node that the schedule was made for.
    planned: Option<(RingVersion, NodeId)>,
    reachable: BTreeSet<NodeId>,
    schedule: Schedule,
    /// By tree: each takes part in one exchange at a time, in either role.
    sessions: BTreeMap<TreeId, Session>,
    leases: BTreeMap<TreeId, Lease>,
    throttle: Throttle,
    paused: bool,
    busy: bool,
    stopped: bool,
    rebuilding: BTreeSet<TreeId>,
    /// This node takes no writes now.
    read_only: bool,
    /// It takes none of these partitions yet.
    unjoined: BTreeSet<PartitionId>,
    round: Option<Round>,
    /// The last step.
    serial: u64,
    wake: Option<Time>,
    rng: StdRng,
    counters: ExchangeCounters,
}

impl Exchange {
    /// One that has not been told the ring, and does nothing before; chance comes from `seed`.
    pub fn new(settings: ExchangeSettings, seed: u64) -> Exchange {
        let rate = settings.config.rate.0 / u64::from(settings.shards.max(1));
        Exchange {
            settings,
            planned: None,
            reachable: BTreeSet::new(),
            schedule: Schedule::default(),
            sessions: BTreeMap::new(),
            leases: BTreeMap::new(),
            throttle: Throttle::new(rate),
            paused: false,
            busy: false,
            stopped: false,
            rebuilding: BTreeSet::new(),
            read_only: false,
            unjoined: BTreeSet::new(),
            round: None,
            serial: 0,
            wake: None,
            rng: StdRng::seed_from_u64(seed),
            counters: ExchangeCounters::default(),
        }
    }

    /// When [`Exchange::on_timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.wake
    }

    /// What it has done.
    pub fn counters(&self) -> ExchangeCounters {
        self.counters
    }

    /// This node's id has become known; the ring is to be told again.
    pub fn set_node(&mut self, node: NodeId) {
        self.settings.node = node;
    }

    /// A new ring: what is under way went by the old one, and is begun anew. Trees that are new to this node are compared
    /// at some moment within an interval, so that not all come at once.
    pub fn on_ring(&mut self, now: Now, view: Arc<RingView>, out: &mut Vec<ExchangeCommand>) {
        let planned = Some((view.version(), self.settings.node));
        if planned != self.planned {
            self.planned = planned;
            self.sessions.clear();
            let pairs = own_pairs(&view, &self.settings);
            let trees: BTreeSet<TreeId> = pairs.iter().map(|(tree, _)| *tree).collect();
            if let Some(round) = &mut self.round {
                round.trees.retain(|tree| trees.contains(tree));
            }
            let (interval, rng, round) = (self.settings.config.interval, &mut self.rng, &self.round);
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            self.schedule.set_pairs(now.time, pairs, |(tree, _)| match micros {
                _ if round.as_ref().is_some_and(|round| round.trees.contains(&tree)) => Place::Due(now.time),
                0 => Place::Idle,
                micros => Place::Due(now.time + Duration::from_micros(rng.random::<u64>() % micros)),
            });
            self.press(now.time, &self.rebuilding.clone());
        }
        self.pump(now, out);
    }

    /// Of these trees nothing can wait.
    fn press(&mut self, now: Time, trees: &BTreeSet<TreeId>) {
        for id in trees.iter().flat_map(|tree| self.schedule.pairs_of(*tree)).collect::<Vec<_>>() {
            self.schedule.set_urgent(id, true);
            self.schedule.hasten(id, now);
        }
    }

    /// A node can be reached now, or no longer.
    pub fn on_reach(&mut self, now: Now, node: NodeId, reachable: bool, out: &mut Vec<ExchangeCommand>) {
        let changed = if reachable { self.reachable.insert(node) } else { self.reachable.remove(&node) };
        if !changed {
            return;
        }
        self.leases.retain(|_, lease| lease.peer != node);
        let gone: Vec<TreeId> = self.sessions.values().filter(|one| one.peer == node).map(|one| one.tree).collect();
        for tree in gone {
            self.drop_session(now.time, tree);
        }
        if let Some(peer) = self.schedule.peer_mut(node) {
            peer.backoff.clear();
            let compared = peer.comparing.take().map_or_else(Vec::new, |comparing| comparing.trees);
            for tree in compared {
                self.schedule.put((tree, node), Place::Due(now.time));
            }
        }
        self.pump(now, out);
    }

    /// Clients keep the node busy, or no longer. While they do, nothing is begun, and what is under way ends with its step.
    pub fn on_load(&mut self, now: Now, busy: bool, out: &mut Vec<ExchangeCommand>) {
        if self.busy != busy {
            self.busy = busy;
            self.pump(now, out);
        }
    }

    /// These trees have to be filled from their other primaries, since this node has lost its disk: they are compared before all
    /// others, and again every few seconds until they have agreed with each other primary that has not lost its own.
    /// `None`: there are none.
    pub fn set_rebuilding(&mut self, now: Now, trees: Option<BTreeSet<TreeId>>, out: &mut Vec<ExchangeCommand>) {
        let trees = trees.unwrap_or_default();
        let old = std::mem::replace(&mut self.rebuilding, trees);
        let done = old.difference(&self.rebuilding).flat_map(|tree| self.schedule.pairs_of(*tree));
        for id in done.collect::<Vec<_>>() {
            self.schedule.set_urgent(id, false);
        }
        let new = self.rebuilding.difference(&old).copied().collect();
        self.press(now.time, &new);
        self.pump(now, out);
    }

    /// This node takes no writes now, or takes them again. While it does not, it asks for no objects: it sends what others lack, and
    /// trees that have to be filled wait.
    pub fn set_read_only(&mut self, now: Now, read_only: bool, out: &mut Vec<ExchangeCommand>) {
        self.read_only = read_only;
        self.sessions.values_mut().for_each(|session| session.takes = !read_only);
        self.pump(now, out);
    }

    /// Of these partitions this node takes nothing in before it has learnt their reaping rounds. It holds nothing of them either:
    /// they wait.
    pub fn set_unjoined(&mut self, now: Now, partitions: BTreeSet<PartitionId>, out: &mut Vec<ExchangeCommand>) {
        self.unjoined = partitions;
        self.pump(now, out);
    }

    /// This node has lost some of what it held of a tree: what was compared before says nothing any more.
    pub fn on_lost(&mut self, now: Now, tree: TreeId, out: &mut Vec<ExchangeCommand>) {
        self.drop_session(now.time, tree);
        self.schedule.void(tree);
        self.press(now.time, &BTreeSet::from([tree]));
        self.pump(now, out);
    }

    /// Compares all trees now, or those of some partitions, and counts anew which of them have agreed.
    pub fn start(&mut self, now: Now, partitions: Option<&BTreeSet<PartitionId>>, out: &mut Vec<ExchangeCommand>) {
        let is_ordered = |tree: TreeId| partitions.is_none_or(|partitions| partitions.contains(&tree.partition));
        let ordered = self.schedule.pairs().map(|(id, _)| id).filter(|(tree, _)| is_ordered(*tree));
        let ordered: Vec<_> = ordered.collect();
        let number = self.round_number() + 1;
        let trees = ordered.iter().map(|(tree, _)| *tree).collect();
        self.round = Some(Round { number, began: now.time, trees });
        for id in ordered {
            if let Some(pair) = self.schedule.pair_mut(id) {
                (pair.agreed, pair.failures) = (false, 0);
            }
            self.schedule.hasten(id, now.time);
        }
        self.schedule.peers_mut().for_each(|peer| peer.backoff.clear());
        self.pump(now, out);
    }

    fn round_number(&self) -> u64 {
        self.round.as_ref().map_or(0, |round| round.number)
    }

    /// Nothing more is begun until [`Exchange::resume`]; what is under way ends with its step.
    pub fn pause(&mut self, now: Now, out: &mut Vec<ExchangeCommand>) {
        self.paused = true;
        self.pump(now, out);
    }

    /// Goes on after [`Exchange::pause`].
    pub fn resume(&mut self, now: Now, out: &mut Vec<ExchangeCommand>) {
        self.paused = false;
        self.pump(now, out);
    }

    /// Whether a peer may compare a tree with this node now; both have to be primaries of it.
    pub fn may_engage(&self, now: Now, tree: TreeId, peer: NodeId) -> bool {
        let is_taken = |lease: &Lease| lease.peer != peer && lease.until > now.time;
        // Two that begin with each other at one moment would refuse each other: the lesser one goes on.
        let gives_way = |own: &Session| own.peer == peer && peer < self.settings.node && own.has_just_begun();
        let is_free = self.sessions.get(&tree).is_none_or(gives_way);
        !self.stopped && is_free && !self.leases.get(&tree).is_some_and(is_taken)
    }

    /// A peer that may has asked for something of a tree: it is left to it for [`LEASE`].
    pub fn engage(&mut self, now: Now, tree: TreeId, peer: NodeId) {
        self.leases.retain(|_, lease| lease.until > now.time);
        self.drop_session(now.time, tree);
        self.leases.insert(tree, Lease { peer, until: now.time + LEASE });
        // What waits for the lease to end has to be woken then, if nothing else does.
        self.wake = self.next_wake(now.time);
    }

    /// A peer has said what it makes of some roots.
    pub fn on_compared(
        &mut self,
        now: Now,
        step: Step,
        answer: Result<Comparison, ExchangeFailure>,
        out: &mut Vec<ExchangeCommand>,
    ) {
        let asked = |peer: &Comparing| peer.step == step;
        let node = self.schedule.peers().find(|(_, peer)| peer.comparing.as_ref().is_some_and(asked));
        let Some(node) = node.map(|(node, _)| node) else { return };
        let peer = self.schedule.peer_mut(node).expect("it was found a moment ago");
        let Some(Comparing { trees, round, grouped, .. }) = peer.comparing.take() else { return };
        // What is not known here is not asked about.
        if answer != Err(ExchangeFailure::Unknown) {
            self.charge(now.time, None, cost::of_roots(trees.len()));
        }
        let fits = |answer: &Comparison| answer.verdicts.len() == trees.len();
        let answer = answer.and_then(|answer| match NonZeroU16::new(answer.shards).filter(|_| fits(&answer)) {
            Some(shards) => Ok((shards, answer)),
            None => Err(ExchangeFailure::Malformed),
        });
        match answer {
            Ok((shards, answer)) => {
                let peer = self.schedule.peer_mut(node).expect("it was found a moment ago");
                peer.backoff.succeed();
                (peer.shards, peer.rebuilding) = (Some(shards), answer.rebuilding);
                for (tree, verdict) in trees.into_iter().zip(answer.verdicts) {
                    // One that asked the right shard in vain gains nothing from asking it again at once.
                    let misled = grouped != Some(shards);
                    self.on_verdict(now.time, (tree, node), verdict, misled, round, out);
                }
            }
            Err(failure) => {
                // What is not known here is no fault of the peer's.
                if failure != ExchangeFailure::Unknown {
                    self.fail_peer(now.time, node);
                }
                trees.into_iter().for_each(|tree| self.put_off(now.time, (tree, node)));
            }
        }
        self.pump(now, out);
    }

    /// A peer has told its sums, and of how many leaves they are.
    pub fn on_peer_sums(
        &mut self,
        now: Now,
        step: Step,
        sums: Result<(Leaves, Vec<u64>), ExchangeFailure>,
        out: &mut Vec<ExchangeCommand>,
    ) {
        let cost = sums.as_ref().map_or(0, |(_, sums)| cost::of_sums(sums));
        self.answer(now, step, cost, out, |session| sums.and_then(|(leaves, sums)| session.on_peer_sums(leaves, sums)));
    }

    /// Own sums; `None` if it is not known what the tree holds.
    pub fn on_own_sums(&mut self, now: Now, step: Step, sums: Option<Vec<u64>>, out: &mut Vec<ExchangeCommand>) {
        let sums = sums.ok_or(ExchangeFailure::Unknown);
        self.answer(now, step, 0, out, |session| sums.and_then(|sums| session.on_own_sums(sums)));
    }

    /// A peer has told some keys.
    pub fn on_peer_items(
        &mut self,
        now: Now,
        step: Step,
        page: Result<PeerPage, ExchangeFailure>,
        out: &mut Vec<ExchangeCommand>,
    ) {
        let cost = page.as_ref().map_or(0, cost::of_page);
        self.answer(now, step, cost, out, |session| page.and_then(|page| session.on_peer_items(page)));
    }

    /// Own keys have been read.
    pub fn on_own_items(
        &mut self,
        now: Now,
        step: Step,
        page: Result<ItemPage, OpFailure>,
        out: &mut Vec<ExchangeCommand>,
    ) {
        let page = page.map_err(|failure| match failure {
            OpFailure::Stopped => None,
            OpFailure::Overloaded => Some(ExchangeFailure::Overloaded),
            OpFailure::Unreadable { .. } | OpFailure::Newer { .. } => Some(ExchangeFailure::Unreadable),
        });
        if matches!(page, Err(None)) {
            return self.stop();
        }
        let page = page.map_err(|failure| failure.unwrap_or(ExchangeFailure::Overloaded));
        self.answer(now, step, 0, out, |session| page.and_then(|page| session.on_own_items(page)));
    }

    /// A peer has sent what it was asked for, and it has been merged or refused.
    pub fn on_wanted(
        &mut self,
        now: Now,
        step: Step,
        done: Result<Transferred, ExchangeFailure>,
        out: &mut Vec<ExchangeCommand>,
    ) {
        self.counters.objects_wanted += done.map_or(0, |done| done.sent.into());
        self.answer(now, step, self.transfer_cost(&done), out, |session| session.on_wanted(done));
    }

    /// A peer has got what it was sent, and has merged or refused it.
    pub fn on_pushed(
        &mut self,
        now: Now,
        step: Step,
        done: Result<Transferred, ExchangeFailure>,
        out: &mut Vec<ExchangeCommand>,
    ) {
        self.counters.objects_sent += done.map_or(0, |done| done.sent.into());
        self.answer(now, step, self.transfer_cost(&done), out, |session| session.on_pushed(done));
    }

    /// Time has passed: the moment that [`Exchange::poll_timeout`] named.
    pub fn on_timer(&mut self, now: Now, out: &mut Vec<ExchangeCommand>) {
        if self.wake.is_some_and(|wake| wake <= now.time) {
            self.pump(now, out);
        }
    }

    /// Nothing more is begun, and nothing under way is waited for.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.wake = None;
        self.sessions.clear();
        self.leases.clear();
        self.schedule = Schedule::default();
    }

    fn transfer_cost(&self, done: &Result<Transferred, ExchangeFailure>) -> u64 {
        done.as_ref().map_or(0, |done| cost::of_objects(done, self.settings.max_object))
    }
}
