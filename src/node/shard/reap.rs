//! Reaping, carried out: the runner's commands become requests to members, and what they say goes to it.

use super::entry::{Entry, MemberEntry, Work};
use super::{Shard, ShardCounters, request_id};
use crate::antientropy::{Candidate, ReapWait, Reaper, ReaperCommand, Step, Tombstones};
use crate::api::ReaperStatus;
use crate::message::{PeerRequest, Reaping, ReapingSaid, ReapingStep, Refusal, TreeKey};
use crate::node::effects::{Asker, Effects, Output, TombstonePurpose};
use crate::ring::Slot;
use crate::storage::merkle::TreeId;
use crate::storage::{OpFailure, TombstonePage, TombstoneSpec};
use crate::types::{NodeId, Now};

impl Shard {
    /// Lets the reaper act, and carries out what it says.
    pub(super) fn reap(&mut self, now: Now, fx: &mut Effects, act: impl FnOnce(&mut Reaper, &mut Vec<ReaperCommand>)) {
        let mut commands = Vec::new();
        act(&mut self.reaper, &mut commands);
        if let Some((step, member)) = self.withheld_fence(now, &commands) {
            commands.retain(|command| !matches!(command, ReaperCommand::Fence { .. }));
            self.reaper.on_vouched(now, step, member, None, &mut commands);
        }
        for command in commands {
            match command {
                ReaperCommand::Find { step, tree: TreeId { partition, n }, after, limit } => {
                    let spec = TombstoneSpec { partition, n: Some(n), after, limit };
                    fx.tombstone_reads.push((TombstonePurpose::Find(step), spec));
                }
                ReaperCommand::Inquire { step, member, tree, candidates } => {
                    self.ask_member(now, step, member, tree, ReapingStep::Inquire, &candidates, fx);
                }
                ReaperCommand::Fence { step, member, tree, round, candidates } => {
                    self.ask_member(now, step, member, tree, ReapingStep::Fence(round), &candidates, fx);
                }
                ReaperCommand::Reap { step, member, tree, round, candidates } => {
                    self.ask_member(now, step, member, tree, ReapingStep::Reap(round), &candidates, fx);
                }
            }
        }
    }

    /// A member that would not be sent its fence now. A fence is sent once: the round would come to nothing, for all whom it had
    /// reached, and be waited for. What else this drain sends may still take the room of one: then it does.
    fn withheld_fence(&mut self, now: Now, commands: &[ReaperCommand]) -> Option<(Step, NodeId)> {
        let Shard { peers, rng, node, .. } = self;
        commands.iter().find_map(|command| match command {
            ReaperCommand::Fence { step, member, .. } if member != node => {
                (!peers.would_send(*member, now.time, rng)).then_some((*step, *member))
            }
            _ => None,
        })
    }

    /// Own tombstones have been found.
    pub(super) fn on_tombstones_found(
        &mut self,
        now: Now,
        step: Step,
        page: Result<TombstonePage, OpFailure>,
        fx: &mut Effects,
    ) {
        let found = page.ok().map(|page| Tombstones {
            candidates: page.items.into_iter().map(|item| (item.key, item.entry.digest)).collect(),
            next: page.next,
        });
        self.reap(now, fx, |reaper, out| reaper.on_found(now, step, found, out));
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of the message, the moment, and where its effects go")]
    fn ask_member(
        &mut self,
        now: Now,
        for_step: Step,
        member: NodeId,
        tree: TreeId,
        step: ReapingStep,
        candidates: &[Candidate],
        fx: &mut Effects,
    ) {
        let ring = self.serving_view().expect("it reaps once it is told the ring").version();
        let candidates = candidates.iter().map(|(key, digest)| (TreeKey::of(key), *digest)).collect();
        let request = Reaping { ring, tree, step, candidates };
        if member == self.node {
            return self.on_reaping(now, Asker::Own(for_step), &request, fx);
        }
        let deadline = now.time + self.config.request_timeout;
        let asked = MemberEntry { step: for_step, member, request };
        let entry = self.enter_background(now, deadline, Work::Member(Box::new(asked)));
        self.send_to_member(entry, false, fx);
    }

    /// Sends what a member is asked, or sends it again: but a fence, which only its first request can raise.
    pub(super) fn send_to_member(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Member(asked), .. }) = self.entries.get(&entry) else { return };
        if again && matches!(asked.request.step, ReapingStep::Fence(_)) {
            return;
        }
        self.counters.resent += u64::from(again);
        let request = PeerRequest::Reaping(asked.request.clone());
        fx.after_written.push(Output::Request { node: asked.member, id: request_id(entry, Slot(0)), request });
    }

    /// A member has answered.
    pub(super) fn on_member_answer(
        &mut self,
        now: Now,
        entry: u64,
        from: NodeId,
        said: Result<ReapingSaid, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Member(asked), .. }) = self.entries.get(&entry) else { return };
        let fits = said.as_ref().is_ok_and(|said| said.answers(asked.request.step)) || said.is_err();
        if asked.member != from || !fits {
            self.counters.stray_answers += 1;
            return;
        }
        let Some(Work::Member(asked)) = self.end_background(entry) else { return };
        self.tell_reaper(now, asked.step, from, asked.request.step, said.ok(), fx);
    }

    /// Nobody has answered in time.
    pub(super) fn on_member_deadline(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Work::Member(asked)) = self.end_background(entry) else { return };
        self.tell_reaper(now, asked.step, asked.member, asked.request.step, None, fx);
    }

    /// What a member has said, this node perhaps; `None`: it has not.
    pub(super) fn tell_reaper(
        &mut self,
        now: Now,
        for_step: Step,
        member: NodeId,
        step: ReapingStep,
        said: Option<ReapingSaid>,
        fx: &mut Effects,
    ) {
        self.reap(now, fx, |reaper, out| match (step, said) {
            (ReapingStep::Inquire, Some(ReapingSaid::Inquired(said))) => {
                reaper.on_inquired(now, for_step, member, Some(said), out);
            }
            (ReapingStep::Fence(_), Some(ReapingSaid::Vouched(said))) => {
                reaper.on_vouched(now, for_step, member, Some(said), out);
            }
            (ReapingStep::Inquire, _) => reaper.on_inquired(now, for_step, member, None, out),
            (ReapingStep::Fence(_), _) => reaper.on_vouched(now, for_step, member, None, out),
            (ReapingStep::Reap(_), said) => reaper.on_reaped(now, for_step, member, said.is_some(), out),
        });
    }

    /// The ring has become known, or who this node is.
    pub(super) fn on_reaper_ring(&mut self, now: Now, fx: &mut Effects) {
        self.reaper.set_node(self.node);
        let Some(view) = self.serving_view().cloned() else { return };
        self.reap(now, fx, |reaper, out| reaper.on_ring(now, view, out));
    }

    pub(super) fn reaper_counters(&self, others: ShardCounters) -> ShardCounters {
        let done = self.reaper.counters();
        ShardCounters {
            reaping_rounds: done.rounds,
            reaping_rounds_given_up: done.given_up,
            tombstones_reaped: done.reaped,
            tombstones_left: done.left,
            ..others
        }
    }

    /// What is in the way of reaping, for people.
    pub fn reaper_status(&self) -> ReaperStatus {
        let Some(status) = self.reaper.status() else { return ReaperStatus::default() };
        let name = |node: &NodeId| self.name_of(*node);
        let waits = status.waiting.map(|wait| match wait {
            ReapWait::Paused => "paused by order".to_owned(),
            ReapWait::Load => "clients keep the node busy".to_owned(),
            ReapWait::Away(nodes) => {
                format!("cannot be reached: {}", nodes.iter().map(name).collect::<Vec<_>>().join(", "))
            }
            ReapWait::Silent(node) => format!("{} has not answered", name(&node)),
            ReapWait::Lacks(node) => {
                format!("{} takes no writes, or has lost its disk and is not filled again", name(&node))
            }
            ReapWait::OtherRing(node) => format!("{} follows another ring", name(&node)),
            ReapWait::Restarted(node) => format!("{} has started anew meanwhile", name(&node)),
            ReapWait::Unmet { member, of } => format!("{} has not met {} since its start", name(&member), name(&of)),
            ReapWait::Unreadable => "the index of tombstones cannot be read".to_owned(),
        });
        let left = (status.left > 0).then(|| format!("{} are not on all their replicas, or not alone", status.left));
        ReaperStatus { waiting: waits.or(left) }
    }
}
