//! A disk that has taken the place of another takes nothing in before it has a reaping round of each partition: what comes late, and
//! was read before a tombstone was reaped that this disk has never seen, would bring back what that had deleted.
//!
//! Any member's round will do: whatever has been reaped, every member of then had met its round, and so has whoever took
//! over from one of them. Only if all others have lost their disks too is there none to be had, and nothing that could come back.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, RoundsEntry, Work};
use super::{Shard, request_id};
use crate::message::{AskRounds, PeerAnswer, PeerRequest, RoundsTold};
use crate::node::effects::{Effects, Output, PeerRef, RoundTask};
use crate::ring::Slot;
use crate::types::{NodeId, Now, PartitionId, Round};

/// For how many attempts' time a member is waited for before it is asked again.
const ATTEMPTS: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Join {
    /// Partitions with a round on the disk when the process began.
    known: BTreeSet<PartitionId>,
    /// It is known which ones have none.
    begun: bool,
    /// Those that have none.
    missing: BTreeSet<PartitionId>,
    /// Who has none either.
    blank: BTreeMap<PartitionId, BTreeSet<NodeId>>,
    /// Who is being asked.
    asked: BTreeSet<NodeId>,
}

impl Shard {
    /// What the disk holds of rounds.
    pub(super) fn restore_rounds(&mut self, known: impl Iterator<Item = PartitionId>) {
        self.join.known = known.collect();
    }

    /// Whether a partition may take something in.
    pub(super) fn is_joined(&self, partition: PartitionId) -> bool {
        !self.join.missing.contains(&partition)
    }

    /// Partitions that take nothing in yet.
    pub(super) fn unjoined(&self) -> usize {
        self.join.missing.len()
    }

    /// The ring is known, or whether this node has lost its disk.
    pub(super) fn see_to_joining(&mut self, now: Now, fx: &mut Effects) {
        let Some(partitions) = self.serving_view().map(|view| view.layout().partitions().count()) else { return };
        if !self.standing.rebuilding {
            self.join.missing.clear();
            return self.tell_unjoined(now, fx);
        }
        if !std::mem::replace(&mut self.join.begun, true) {
            let (shard, shards) = (self.config.shard, self.config.shards.max(1));
            let own =
                (0..partitions).map(|partition| PartitionId(partition as u16)).filter(|of| of.0 % shards == shard);
            self.join.missing = own.filter(|of| !self.join.known.contains(of)).collect();
        }
        // A cluster of one node has nobody who could know.
        self.join_blank(fx);
        self.tell_unjoined(now, fx);
        let reachable: Vec<NodeId> = self.reachable.iter().copied().collect();
        reachable.into_iter().for_each(|node| self.ask_rounds(now, node, fx));
    }

    /// Nothing is fetched of what may not be taken in.
    fn tell_unjoined(&mut self, now: Now, fx: &mut Effects) {
        let unjoined = self.join.missing.clone();
        self.exchange(now, fx, |exchange, out| exchange.set_unjoined(now, unjoined, out));
    }

    /// Asks a node that can be reached for what is missing.
    pub(super) fn ask_rounds(&mut self, now: Now, node: NodeId, fx: &mut Effects) {
        let Some(view) = self.serving_view() else { return };
        let (ring, is_member) = (view.version(), view.layout().member(node).is_some());
        if self.join.missing.is_empty() || !is_member || !self.join.asked.insert(node) {
            return;
        }
        // What it said before it may not say again.
        for blank in self.join.blank.values_mut() {
            blank.remove(&node);
        }
        let partitions: Vec<PartitionId> = self.join.missing.iter().copied().collect();
        let deadline = now.time + self.config.attempt_timeout * ATTEMPTS;
        let asked = RoundsEntry { peer: node, request: AskRounds { ring, partitions } };
        let entry = self.enter_background(now, deadline, Work::Rounds(Box::new(asked)));
        self.send_rounds(entry, fx);
    }

    fn send_rounds(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Rounds(asked), .. }) = self.entries.get(&entry) else { return };
        let (node, request) = (asked.peer, PeerRequest::Rounds(asked.request.clone()));
        fx.after_written.push(Output::Request { node, id: request_id(entry, Slot(0)), request });
    }

    /// A member has told rounds. What it has none of, or has not told, it is asked for again when this one's time is over.
    pub(super) fn on_rounds_told(&mut self, now: Now, entry: u64, from: NodeId, told: RoundsTold, fx: &mut Effects) {
        let Some(Entry { work: Work::Rounds(asked), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(told) = told.ok().filter(|_| asked.peer == from) else { return };
        let before = asked.request.partitions.len();
        let named: BTreeSet<PartitionId> = told.iter().map(|(of, _)| *of).collect();
        asked.request.partitions.retain(|partition| !named.contains(partition));
        // Its shards are others: those that fall to another one are that one's to tell.
        let left = asked.request.partitions.len();
        let is_more = left > 0 && left < before;
        for (partition, round) in told {
            match round {
                Some(round) if self.join.missing.remove(&partition) => {
                    fx.round_tasks.push(RoundTask::Adopt { partition, round });
                }
                Some(_) => {}
                None => {
                    self.join.blank.entry(partition).or_default().insert(from);
                }
            }
        }
        self.join_blank(fx);
        self.tell_unjoined(now, fx);
        if is_more {
            self.send_rounds(entry, fx);
        }
    }

    /// Partitions of which nobody has a round begin at zero.
    fn join_blank(&mut self, fx: &mut Effects) {
        let Some(view) = self.serving_view() else { return };
        let others: Vec<NodeId> =
            view.layout().members().iter().map(|member| member.id).filter(|node| *node != self.node).collect();
        let Join { missing, blank, .. } = &mut self.join;
        let none = BTreeSet::new();
        let is_blank = |partition: &PartitionId| {
            let blank = blank.get(partition).unwrap_or(&none);
            others.iter().all(|node| blank.contains(node))
        };
        let ready: Vec<PartitionId> = missing.iter().copied().filter(is_blank).collect();
        for partition in ready {
            missing.remove(&partition);
            fx.round_tasks.push(RoundTask::Adopt { partition, round: Round::default() });
        }
    }

    /// The time of a question is over.
    pub(super) fn on_rounds_deadline(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Work::Rounds(asked)) = self.end_background(entry) else { return };
        self.join.asked.remove(&asked.peer);
        if self.reachable.contains(&asked.peer) {
            self.ask_rounds(now, asked.peer, fx);
        }
    }

    /// A new disk asks for rounds.
    pub(super) fn on_ask_rounds(&mut self, from: PeerRef, asked: &AskRounds, fx: &mut Effects) {
        match self.check_ring(asked.ring) {
            Ok(()) => {
                let (shard, shards) = (self.config.shard, self.config.shards.max(1));
                let own = asked.partitions.iter().copied().filter(|partition| partition.0 % shards == shard);
                fx.round_tasks.push(RoundTask::Tell { asker: from, partitions: own.collect() });
            }
            Err(refusal) => {
                self.counters.refused += 1;
                fx.after_written.push(Output::Answer { to: from, answer: PeerAnswer::Rounds(Err(refusal)) });
            }
        }
    }

    /// This node's rounds have been looked up for a new disk; the answer leaves once they are on the disk.
    pub(super) fn tell_rounds(&self, asker: PeerRef, rounds: Vec<(PartitionId, Round)>, fx: &mut Effects) {
        let tell = |(partition, round)| (partition, self.is_joined(partition).then_some(round));
        let answer = PeerAnswer::Rounds(Ok(rounds.into_iter().map(tell).collect()));
        fx.after_written.push(Output::Answer { to: asker, answer });
    }
}
