//! What is begun when, and what becomes of it.

use std::time::Duration;

use rand::RngExt;

use super::command::{ExchangeCommand, ExchangeFailure, Step, TreeVerdict};
use super::schedule::{Comparing, PairId, Place, retry_after};
use super::session::{Began, Session};
use super::{Exchange, LEASE};
use crate::antientropy::pace::around;
use crate::storage::merkle::TreeId;
use crate::types::{NodeId, Now, Time};

/// The longest pause after a failure where there is no interval.
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// How soon a tree is compared again that has to be filled.
const URGENT_RETRY: Duration = Duration::from_secs(4);

impl Exchange {
    /// Begins whatever can be begun.
    pub(super) fn pump(&mut self, now: Now, out: &mut Vec<ExchangeCommand>) {
        if self.stopped || self.planned.is_none() {
            return;
        }
        self.leases.retain(|_, lease| lease.until > now.time);
        self.go_on(now.time, out);
        if !self.paused && !self.busy {
            self.begin_sessions(now.time, out);
            self.compare_roots(now.time, out);
        }
        self.wake = self.next_wake(now.time);
    }

    fn next_step(&mut self) -> Step {
        self.serial += 1;
        Step(self.serial)
    }

    /// Next steps of sessions, unless they are held back.
    fn go_on(&mut self, now: Time, out: &mut Vec<ExchangeCommand>) {
        let held = self.sessions.values().filter(|session| session.step.is_none());
        for tree in held.map(|session| session.tree).collect::<Vec<_>>() {
            let step = Step(self.serial + 1);
            let Some(session) = self.sessions.get_mut(&tree) else { continue };
            let Some(command) = session.command(step) else {
                self.end_session(now, tree, out);
                continue;
            };
            let waits_in_vain = self.busy && now.since(session.answered) >= LEASE;
            if self.paused || waits_in_vain {
                self.drop_session(now, tree);
            } else if !self.busy && self.throttle.ready_at() <= now {
                session.step = Some(step);
                self.serial = step.0;
                out.push(command);
            }
        }
    }

    /// How many trees this shard compares in depth at a time.
    fn most_sessions(&self) -> usize {
        self.settings.config.concurrency.div_ceil(self.settings.shards.max(1).into()).max(1) as usize
    }

    fn is_free(&self, tree: TreeId) -> bool {
        !self.sessions.contains_key(&tree) && !self.leases.contains_key(&tree) && !self.waits_to_take(tree)
    }

    /// Whether this node could only get something of a tree, and takes nothing.
    fn waits_to_take(&self, tree: TreeId) -> bool {
        self.unjoined.contains(&tree.partition) || self.read_only && self.rebuilding.contains(&tree)
    }

    fn is_usable(&self, now: Time, node: NodeId) -> bool {
        let fails = self.schedule.peer(node).is_some_and(|peer| peer.backoff.until(now).is_some());
        self.reachable.contains(&node) && !fails
    }

    fn begin_sessions(&mut self, now: Time, out: &mut Vec<ExchangeCommand>) {
        while self.sessions.len() < self.most_sessions() && self.throttle.ready_at() <= now {
            let usable = self.schedule.peers().filter(|(node, _)| self.is_usable(now, *node));
            let firsts =
                usable.filter_map(|(node, peer)| Some((peer.first_differing(|tree| self.is_free(tree))?, node)));
            let Some(((_, _, tree), node)) = firsts.min() else { return };
            let rebuilding = self.schedule.peer(node).is_some_and(|peer| peer.rebuilding);
            let (step, takes) = (self.next_step(), !self.read_only);
            let began = Began { step, time: now, round: self.round_number(), rebuilding, takes };
            let session = Session::new(tree, node, self.settings.leaves, began);
            out.extend(session.command(step));
            self.schedule.put((tree, node), Place::Running);
            self.sessions.insert(tree, session);
            self.counters.begun += 1;
        }
    }

    /// Tells peers roots of trees that are due, one batch a peer at a time.
    fn compare_roots(&mut self, now: Time, out: &mut Vec<ExchangeCommand>) {
        if self.throttle.ready_at() > now {
            return;
        }
        let nodes = self.schedule.peers().map(|(node, _)| node).filter(|node| self.is_usable(now, *node));
        for node in nodes.collect::<Vec<_>>() {
            let Some(peer) = self.schedule.peer(node).filter(|peer| peer.comparing.is_none()) else { continue };
            let (trees, grouped) = (peer.batch(now, |tree| self.is_free(tree)), peer.shards);
            if trees.is_empty() {
                continue;
            }
            trees.iter().for_each(|tree| self.schedule.put((*tree, node), Place::Comparing));
            let (step, round) = (self.next_step(), self.round_number());
            out.push(ExchangeCommand::Compare { step, peer: node, trees: trees.clone() });
            if let Some(peer) = self.schedule.peer_mut(node) {
                peer.comparing = Some(Comparing { step, trees, round, grouped });
            }
        }
    }

    /// What a peer says of one root; `misled`: its shards were not known when it was asked.
    pub(super) fn on_verdict(
        &mut self,
        now: Time,
        id: PairId,
        verdict: TreeVerdict,
        misled: bool,
        round: u64,
        out: &mut Vec<ExchangeCommand>,
    ) {
        self.counters.compared += u64::from(matches!(verdict, TreeVerdict::Same | TreeVerdict::Differs));
        match verdict {
            TreeVerdict::Same if self.schedule.take_void(id) => self.schedule.put(id, Place::Due(now)),
            TreeVerdict::Same => {
                let rebuilding = self.schedule.peer(id.1).is_some_and(|peer| peer.rebuilding);
                self.agree(now, id, round, rebuilding, out);
            }
            TreeVerdict::Differs => {
                self.counters.differing += 1;
                self.schedule.put(id, Place::Differs(now));
            }
            TreeVerdict::Elsewhere if misled => self.schedule.put(id, Place::Due(now)),
            TreeVerdict::Elsewhere | TreeVerdict::Unknown | TreeVerdict::NotAReplica => self.put_off(now, id),
        }
    }

    /// An answer that a session waits for, and what it weighs besides its question.
    pub(super) fn answer(
        &mut self,
        now: Now,
        step: Step,
        cost: u64,
        out: &mut Vec<ExchangeCommand>,
        tell: impl FnOnce(&mut Session) -> Result<(), ExchangeFailure>,
    ) {
        let Some(session) = self.sessions.values_mut().find(|session| session.step == Some(step)) else { return };
        let (tree, peer) = (session.tree, session.peer);
        (session.step, session.answered) = (None, now.time);
        let (differing, failed, asked) = (session.differing, session.failed, session.question_cost());
        let told = tell(session);
        let has_moved = session.merged > 0;
        self.counters.keys_differing += session.differing - differing;
        self.counters.objects_failed += session.failed - failed;
        self.charge(now.time, Some(tree), asked + cost);
        if let Err(failure) = told {
            self.sessions.remove(&tree);
            self.counters.failed += 1;
            if let Some(pair) = self.schedule.pair_mut((tree, peer)).filter(|_| has_moved) {
                // Large differences over poor links are made up for bit by bit.
                pair.failures = 0;
            }
            match failure {
                // It is this tree's trouble alone, and over soon.
                ExchangeFailure::Busy => {
                    let soon = retry_after(1, LEASE, self.rng.random());
                    self.schedule.put((tree, peer), Place::Due(now.time + soon));
                }
                // So it is, for longer.
                ExchangeFailure::Unknown | ExchangeFailure::Unreadable => self.put_off(now.time, (tree, peer)),
                _ => {
                    self.put_off(now.time, (tree, peer));
                    self.fail_peer(now.time, peer);
                }
            }
        }
        self.pump(now, out);
    }

    pub(super) fn charge(&mut self, now: Time, tree: Option<TreeId>, bytes: u64) {
        self.throttle.take(now, bytes);
        self.counters.bytes += bytes;
        if let Some(session) = tree.and_then(|tree| self.sessions.get_mut(&tree)) {
            session.bytes += bytes;
        }
    }

    fn end_session(&mut self, now: Time, tree: TreeId, out: &mut Vec<ExchangeCommand>) {
        let Some(session) = self.sessions.remove(&tree) else { return };
        if let Some(peer) = self.schedule.peer_mut(session.peer) {
            peer.backoff.succeed();
        }
        let id = (tree, session.peer);
        if session.failed == 0 {
            self.agree(now, id, session.round, session.rebuilding, out);
        } else {
            self.put_off(now, id);
        }
    }

    /// A session ends although nothing has failed: it begins anew when it can.
    pub(super) fn drop_session(&mut self, now: Time, tree: TreeId) {
        if let Some(session) = self.sessions.remove(&tree) {
            self.schedule.put((tree, session.peer), Place::Due(now));
        }
    }

    /// A tree agrees with a peer's; it has been compared since that round.
    fn agree(&mut self, now: Time, id: PairId, round: u64, rebuilding: bool, out: &mut Vec<ExchangeCommand>) {
        self.counters.agreed += 1;
        out.push(ExchangeCommand::Agreed { tree: id.0, peer: id.1 });
        let is_ordered = self.round.as_ref().is_some_and(|last| last.trees.contains(&id.0));
        let is_late = is_ordered && round < self.round_number();
        let random = self.rng.random();
        let interval = self.settings.config.interval;
        let Some(pair) = self.schedule.pair_mut(id) else { return };
        pair.failures = 0;
        pair.agreed |= is_ordered && !is_late;
        let stays_urgent = pair.is_urgent() && rebuilding;
        self.schedule.set_urgent(id, stays_urgent);
        let place = if is_late {
            Place::Due(now)
        } else if stays_urgent {
            Place::Due(now + around(URGENT_RETRY, random))
        } else if interval.is_zero() {
            Place::Idle
        } else {
            Place::Due(now + around(interval, random))
        };
        self.schedule.put(id, place);
    }

    /// A tree has not come to agree with a peer's: it is compared again before long, later each time.
    pub(super) fn put_off(&mut self, now: Time, id: PairId) {
        let random = self.rng.random();
        let interval = self.settings.config.interval;
        let most = if interval.is_zero() { LONGEST_RETRY } else { interval };
        let Some(pair) = self.schedule.pair_mut(id) else { return };
        let failures = pair.failures;
        pair.failures += 1;
        let most = if pair.is_urgent() { most.min(URGENT_RETRY) } else { most };
        self.schedule.put(id, Place::Due(now + retry_after(failures, most, random)));
    }

    /// A peer has failed to answer: it is left in peace for a while.
    pub(super) fn fail_peer(&mut self, now: Time, node: NodeId) {
        let random = self.rng.random();
        if let Some(peer) = self.schedule.peer_mut(node) {
            peer.backoff.fail(now, random);
        }
    }

    /// What waits for something else than time wakes itself: an answer, an order, a node that comes back.
    pub(super) fn next_wake(&self, now: Time) -> Option<Time> {
        let held = self.sessions.values().filter(|session| session.step.is_none());
        if self.paused {
            return None;
        }
        if self.busy {
            return held.map(|session| session.answered + LEASE).min();
        }
        let reached = self.schedule.peers().filter(|(node, _)| self.reachable.contains(node));
        let (mut waits, mut wake) = (held.count() > 0, None);
        for (_, peer) in reached {
            waits |= peer.is_due(now);
            wake = wake.into_iter().chain(peer.next(now)).chain(peer.backoff.until(now)).min();
        }
        let others = self.leases.values().map(|lease| lease.until).chain([self.throttle.ready_at()]);
        others.filter(|at| waits && *at > now).chain(wake).min()
    }
}
