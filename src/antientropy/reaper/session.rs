//! A round under way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Candidate, ReapWait};
use crate::antientropy::exchange::Step;
use crate::storage::merkle::TreeId;
use crate::types::{Generation, NodeId, NodeRun, RingVersion, Round};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Finding,
    Inquiring,
    Fencing,
    Confirming,
    Reaping,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) tree: TreeId,
    pub(super) ring: RingVersion,
    pub(super) phase: Phase,
    /// What answers are for; another one in each phase.
    pub(super) step: Step,
    pub(super) members: Vec<NodeId>,
    /// Who has not answered.
    pub(super) waiting: BTreeSet<NodeId>,
    pub(super) generations: BTreeMap<NodeId, Generation>,
    /// Which run of each other one a member listens to.
    pub(super) met: BTreeMap<NodeId, Vec<NodeRun>>,
    pub(super) candidates: Vec<Candidate>,
    /// Those of them that somebody has been found in the way of in this phase.
    pub(super) ruled_out: BTreeSet<usize>,
    /// One above the highest that anybody has met.
    pub(super) round: Round,
    pub(super) next: Option<Bytes>,
    /// Its tree has been ordered meanwhile.
    pub(super) again: bool,
}

impl Session {
    /// Itself, if a member's answer for this step is awaited; it is not any more then.
    pub(super) fn takes(&mut self, step: Step, member: NodeId) -> Option<&mut Session> {
        (self.step == step && self.waiting.remove(&member)).then_some(self)
    }

    /// Whether a member is what it was when the round began: what it said may be gone with its disk else.
    pub(super) fn is_same_run(&self, member: NodeId, generation: Generation, ring: RingVersion) -> bool {
        self.generations.get(&member) == Some(&generation) && self.ring == ring
    }

    /// A member that may listen to another run of another member than the one that was asked.
    pub(super) fn unmet(&self) -> Option<ReapWait> {
        let listens_to_all = |member: NodeId| {
            let met: BTreeSet<NodeRun> = self.met.get(&member).into_iter().flatten().copied().collect();
            let mut others = self.generations.iter().filter(|(other, _)| **other != member);
            let missing = others.find(|(other, run)| !met.contains(&NodeRun { node: **other, generation: **run }));
            missing.map(|(other, _)| ReapWait::Unmet { member, of: *other })
        };
        self.members.iter().find_map(|member| listens_to_all(*member))
    }

    /// Candidates that this holds for are left for another round.
    pub(super) fn rule_out(&mut self, is_out: impl Fn(usize) -> bool) {
        self.ruled_out.extend((0..self.candidates.len()).filter(|nth| is_out(*nth)));
    }
}
