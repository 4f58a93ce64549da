//! A member's side of reaping: it says what it holds, raises its round and vouches, and deletes.

use bytes::Bytes;

use super::Shard;
use crate::antientropy::{Candidate, Inquired, Vouched};
use crate::message::{PeerAnswer, Reaping, ReapingSaid, ReapingStep, Refusal};
use crate::node::effects::{Asker, Effects, Output, Purpose, RoundTask};
use crate::storage::merkle::TreeId;
use crate::storage::{Holds, Op, OpFailure, Outcome, Task};
use crate::types::{NodeRun, Now, PartitionId, RingVersion, Round};

/// Operations on candidates that a runner has asked for.
#[derive(Debug)]
pub(super) struct Answering {
    /// `None` if nobody waits for them any more: they come to their end all the same.
    asker: Option<Asker>,
    step: ReapingStep,
    /// By which its primaries are who they are.
    ring: RingVersion,
    /// Operations that have not come to their end.
    left: usize,
    keys: Vec<Bytes>,
    /// Of each of them.
    holds: Vec<Holds>,
    reaped: u32,
    /// The partition's, as far as any operation has told.
    round: Round,
    /// The lowest that any operation has told: below the one that was asked for, that is not in the store.
    lowest: Round,
    /// This node is in no state to vouch for anything.
    unable: bool,
}

impl Shard {
    /// A runner asks something.
    pub(super) fn on_reaping(&mut self, now: Now, asker: Asker, request: &Reaping, fx: &mut Effects) {
        if let Err(refusal) = self.take_part_in_reaping(now, asker, request, fx) {
            self.counters.refused += 1;
            self.say_to_runner(now, asker, request.step, Err(refusal), fx);
        }
    }

    fn take_part_in_reaping(
        &mut self,
        now: Now,
        asker: Asker,
        request: &Reaping,
        fx: &mut Effects,
    ) -> Result<(), Refusal> {
        let Reaping { ring, tree, step, candidates } = request;
        self.check_ring(*ring)?;
        if self.draining {
            return Err(Refusal::NotReady);
        }
        if !self.has_tree(*tree) {
            return Err(Refusal::NotAReplica);
        }
        let partition = tree.partition;
        let candidates: Vec<Candidate> =
            candidates.iter().map(|(key, digest)| (key.whole(partition), *digest)).collect();
        match step {
            ReapingStep::Inquire => self.begin_answering(now, asker, request, candidates, fx),
            // What this disk has lost may be on its way to it, or be sent by its old process.
            ReapingStep::Fence(_) | ReapingStep::Reap(_) if self.may_not_vouch(partition) => {
                return Err(Refusal::NotReady);
            }
            ReapingStep::Fence(_) | ReapingStep::Reap(_) if self.read_only.is_some() => return Err(Refusal::ReadOnly),
            ReapingStep::Fence(_) | ReapingStep::Reap(_) => {
                self.begin_answering(now, asker, request, candidates, fx);
            }
        }
        Ok(())
    }

    /// Whether this node has lost its disk, and is not filled again.
    fn may_not_vouch(&self, partition: PartitionId) -> bool {
        self.standing.rebuilding || !self.is_joined(partition)
    }

    fn begin_answering(
        &mut self,
        now: Now,
        asker: Asker,
        request: &Reaping,
        candidates: Vec<Candidate>,
        fx: &mut Effects,
    ) {
        let Reaping { ring, tree: TreeId { partition, .. }, step, .. } = *request;
        // It was asked again because the disk takes its time.
        if self.answering.values().any(|one| one.asker == Some(asker)) {
            return;
        }
        // A runner that asks something else waits for nothing more of what it had asked.
        self.forget_runners(|one| asker.is_of_same_runner(one));
        let unable = self.may_not_vouch(partition) || self.read_only.is_some();
        let holds = vec![Holds::Other; candidates.len()];
        let keys = candidates.iter().map(|(key, _)| key.clone()).collect();
        let answering = Answering {
            asker: Some(asker),
            step,
            ring,
            left: candidates.len(),
            keys,
            holds,
            reaped: 0,
            round: Round::default(),
            lowest: Round(u64::MAX),
            unable,
        };
        self.next_entry += 1;
        let of = self.next_entry;
        let task = |(nth, (key, digest)): (usize, Candidate)| {
            let op = match step {
                ReapingStep::Reap(round) => Op::Reap { round, digest },
                ReapingStep::Inquire | ReapingStep::Fence(_) => Op::Inspect { digest },
            };
            Task { purpose: Purpose::Candidate { of, nth }, key, op }
        };
        let tasks = candidates.into_iter().enumerate().map(task);
        match step {
            ReapingStep::Fence(round) => {
                fx.round_tasks.push(RoundTask::Fence { partition, round, inspections: tasks.collect() });
            }
            ReapingStep::Inquire | ReapingStep::Reap(_) => fx.tasks.extend(tasks),
        }
        if answering.left == 0 {
            return self.end_answering(now, answering, fx);
        }
        self.answering.insert(of, answering);
    }

    /// An operation on a candidate has come to its end.
    pub(super) fn on_candidate_done(
        &mut self,
        now: Now,
        of: u64,
        nth: usize,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        let Some(answering) = self.answering.get_mut(&of) else {
            debug_assert!(false, "a question lives until all its operations have come to their end");
            return;
        };
        answering.left -= 1;
        match result {
            Ok(Outcome::Inspected { holds, round }) => {
                answering.holds[nth] = holds;
                answering.round = answering.round.max(round);
                answering.lowest = answering.lowest.min(round);
            }
            Ok(Outcome::Reaped(Some(object))) => {
                answering.reaped += 1;
                let key = answering.keys[nth].clone();
                self.memory.on_reaped(now.time, answering.ring, key.clone(), &object);
                fx.reaped.push((key, object));
            }
            Ok(Outcome::Reaped(None)) => {}
            Ok(outcome) => unreachable!("no operation on a candidate ends in {outcome:?}"),
            // What it holds cannot be told: as has been taken for granted.
            Err(_) => {}
        }
        if answering.left == 0
            && let Some(answering) = self.answering.remove(&of)
        {
            self.end_answering(now, answering, fx);
        }
    }

    fn end_answering(&mut self, now: Now, answering: Answering, fx: &mut Effects) {
        let Answering { asker, step, holds, reaped, round, lowest, unable, .. } = answering;
        self.counters.reaped_here += u64::from(reaped);
        let Some(asker) = asker else { return };
        let said = match step {
            ReapingStep::Reap(_) => Ok(ReapingSaid::Reaped(reaped)),
            // It leaves once the round is on the disk: the drain sees to that.
            ReapingStep::Fence(wanted) if lowest < wanted || self.read_only.is_some() => Err(Refusal::ReadOnly),
            ReapingStep::Fence(_) => self.vouch(&holds).map(ReapingSaid::Vouched),
            ReapingStep::Inquire => self.describe(round, unable, holds).map(ReapingSaid::Inquired),
        };
        self.say_to_runner(now, asker, step, said, fx);
    }

    fn describe(&self, round: Round, may_lack: bool, holds: Vec<Holds>) -> Result<Inquired, Refusal> {
        let view = self.serving_view().ok_or(Refusal::NotReady)?;
        let met = self.runs.iter().map(|(node, generation)| NodeRun { node: *node, generation: *generation });
        Ok(Inquired {
            generation: self.standing.trust.generation,
            ring: view.version(),
            round,
            may_lack,
            met: met.collect(),
            holds,
        })
    }

    fn vouch(&self, holds: &[Holds]) -> Result<Vouched, Refusal> {
        let view = self.serving_view().ok_or(Refusal::NotReady)?;
        let yes = holds.iter().map(|holds| *holds != Holds::Other).collect();
        Ok(Vouched { generation: self.standing.trust.generation, ring: view.version(), yes })
    }

    /// These are told nothing of what is under way for them.
    pub(super) fn forget_runners(&mut self, who: impl Fn(Asker) -> bool) {
        for answering in self.answering.values_mut() {
            answering.asker = answering.asker.filter(|asker| !who(*asker));
        }
    }

    fn say_to_runner(
        &mut self,
        now: Now,
        asker: Asker,
        step: ReapingStep,
        said: Result<ReapingSaid, Refusal>,
        fx: &mut Effects,
    ) {
        match asker {
            Asker::Own(for_step) => self.tell_reaper(now, for_step, self.node, step, said.ok(), fx),
            Asker::Peer(to) => fx.after_written.push(Output::Answer { to, answer: PeerAnswer::Reaping(said) }),
        }
    }
}
