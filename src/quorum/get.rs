//! A get: whom to ask when, what they hold together, when that is an answer, and who is behind it.
//!
//! ```text
//!   on_reply, on_refusal, on_hedge, on_attempt_timeout, on_durable, on_unrepaired        what happened
//!                                 |
//!                        step(who is usable)
//!                                 |
//!          asks, repairs, verdict (once)                                    what is to be done now
//! ```
//!
//! At first only as many primaries are asked as must answer; whoever refuses, is late, or is of no use (a stand-in that
//! has nothing, a replica that lost its disk) is made up for at once. Replies are merged for as long as the get lives, so
//! that late ones find who is behind too.

use std::sync::Arc;

use self::absence::Absence;
use super::{Ack, ReadQuorum, Tally};
use crate::ring::Slot;
use crate::types::{NodeId, Round};
use crate::version::{CausalContext, Digest, Object};

mod absence;
mod step;
#[cfg(test)]
mod tests;

pub use self::step::{Ask, Found, GetStep, GetTerms, GetVerdict, Repair};

/// From how many bytes on an object is not sent to somebody who names its digest: below it, hashing costs more.
const DIGEST_FROM: usize = 256;

/// What a primary was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Unknown,
    Nothing,
    Version(Digest),
}

/// A primary, as this read sees it.
#[derive(Clone, Debug)]
struct Primary {
    slot: Slot,
    node: NodeId,
    asked: bool,
    holds: Holds,
    /// The version that it was sent last.
    sent: Option<Digest>,
    /// The result is on its disk.
    durable: bool,
    /// It will not write the result.
    unwilling: bool,
}

/// An object, the name of its version, and the round at which some replica held it, or all the parts that it was merged of.
#[derive(Clone, Debug)]
struct Version {
    object: Arc<Object>,
    digest: Digest,
    round: Round,
}

/// The answer, while primaries are to make it durable.
#[derive(Clone, Debug)]
struct Withheld {
    object: Arc<Object>,
    round: Round,
    acks: Vec<Ack>,
    repaired: Vec<NodeId>,
}

#[derive(Clone, Debug)]
enum Phase {
    Asking,
    /// Waiting for the disks of primaries.
    Repairing(Withheld),
    Answered,
    Failed,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Get {
    quorum: ReadQuorum,
    tally: Tally,
    /// In the order in which they are asked.
    primaries: Vec<Primary>,
    /// Those that have not been called.
    stand_ins: Vec<NodeId>,
    own: Option<NodeId>,
    all: bool,
    blocking: bool,
    after: Option<CausalContext>,
    merged: Option<Version>,
    /// Digests that others were told.
    named: Vec<Digest>,
    hedge: bool,
    again: bool,
    absence: Absence,
    phase: Phase,
}

impl Get {
    /// Nobody has been asked, but the coordinator itself if it is a primary. `slots` are the primaries by slot.
    pub fn new(terms: GetTerms, slots: &[NodeId]) -> Get {
        let GetTerms { quorum, order, own, stand_ins, all, blocking, after, everybody, second } = terms;
        let absence = Absence { everybody, second, of: stand_ins.len(), ..Absence::default() };
        let primary = |slot: &Slot| {
            let node = slots[usize::from(slot.0)];
            let asked = Some(node) == own;
            let (slot, holds) = (*slot, Holds::Unknown);
            Primary { slot, node, asked, holds, sent: None, durable: false, unwilling: false }
        };
        Get {
            quorum,
            tally: Tally::new(slots, stand_ins.len()),
            primaries: order.iter().map(primary).collect(),
            stand_ins,
            own,
            all,
            blocking,
            after: if mutant!(SessionTokenIgnored) { None } else { after },
            merged: None,
            named: Vec::new(),
            hedge: false,
            again: false,
            absence,
            phase: Phase::Asking,
        }
    }

    /// The parameters.
    pub fn quorum(&self) -> ReadQuorum {
        self.quorum
    }

    /// The count.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Everybody whose being usable matters: the primaries, and those who may be called to stand in.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let called = self.tally.stand_ins().map(|(_, node)| node);
        self.primaries.iter().map(|primary| primary.node).chain(called).chain(self.stand_ins.iter().copied())
    }

    /// Whether the client has been told.
    pub fn is_told(&self) -> bool {
        matches!(self.phase, Phase::Answered | Phase::Failed)
    }

    /// Whether nothing more is to come: the client has been told, and whoever was asked has answered.
    pub fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Asking | Phase::Repairing(_) => false,
            Phase::Failed => true,
            Phase::Answered => !self.asked().any(|(slot, node)| self.tally.is_silent(slot, node)),
        }
    }

    /// The result that primaries are to make durable before it is given.
    pub fn withheld(&self) -> Option<&Arc<Object>> {
        match &self.phase {
            Phase::Repairing(withheld) => Some(&withheld.object),
            _ => None,
        }
    }

    /// Primaries that must hold the result on their disks before it is given: any R of N meet one of them.
    pub fn to_repair(&self) -> u8 {
        self.quorum.n() - self.quorum.r() + 1
    }

    /// Everybody who has been asked.
    fn asked(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let primaries =
            self.primaries.iter().filter(|primary| primary.asked).map(|primary| (primary.slot, primary.node));
        primaries.chain(self.tally.stand_ins())
    }

    /// A replica has said what it holds. A rebuilding one's word is merged but does not count, for what it lost it does not
    /// know; nor does a stand-in's that has nothing, for it may never have been told.
    /// `round` is that of its store.
    pub fn on_reply(&mut self, slot: Slot, from: NodeId, found: Found, round: Round, rebuilding: bool) {
        if let Found::Same(digest) = found
            && !self.named.contains(&digest)
        {
            self.tally.refuse(slot, from, "it compares with what nobody named".into(), false);
            return;
        }
        let blank = found == Found::Nothing && self.tally.is_stand_in(slot, from) && !mutant!(StandInAbsenceCounts);
        let new = if rebuilding || blank { self.tally.hear(slot, from) } else { self.tally.count(slot, from, false) };
        if !new {
            return;
        }
        self.absence.round = self.absence.round.max(round);
        let is_without = found == Found::Nothing && !rebuilding && self.tally.is_stand_in(slot, from);
        self.absence.without += usize::from(is_without);
        let holds = match found {
            Found::Nothing => Holds::Nothing,
            Found::Same(digest) => Holds::Version(digest),
            Found::Object(object) => Holds::Version(self.merge(object, round)),
        };
        if let Some(primary) = self.primary(slot, from) {
            primary.holds = holds;
        }
    }

    /// Merges a reply; its digest.
    fn merge(&mut self, object: Arc<Object>, round: Round) -> Digest {
        let digest = match &self.merged {
            Some(merged) if merged.object.is_same_version_as(&object) => merged.digest,
            _ => object.digest(),
        };
        let merged = match self.merged.take() {
            Some(merged) if merged.digest == digest || merged.object.merges_to_self(&object) => merged,
            Some(merged) if !object.merges_to_self(&merged.object) => {
                let object = Arc::new(merged.object.merge(&object));
                Version { digest: object.digest(), object, round: merged.round.min(round) }
            }
            _ => Version { object, digest, round },
        };
        self.merged = Some(merged);
        digest
    }

    fn primary(&mut self, slot: Slot, node: NodeId) -> Option<&mut Primary> {
        self.primaries.iter_mut().find(|primary| (primary.slot, primary.node) == (slot, node))
    }

    /// A replica does not say; `again`: unless it is asked once more.
    pub fn on_refusal(&mut self, slot: Slot, from: NodeId, reason: String, again: bool) {
        self.tally.refuse(slot, from, reason, again);
    }

    /// The replies take longer than they should: one more may be asked. Whether there is one.
    pub fn on_hedge(&mut self) -> bool {
        self.hedge = matches!(self.phase, Phase::Asking) && self.primaries.iter().any(|primary| !primary.asked);
        self.hedge
    }

    /// An attempt's time is over: who has not answered is relied on no longer, and asked again.
    pub fn on_attempt_timeout(&mut self) {
        let primaries = &self.primaries;
        let untried = |node| primaries.iter().any(|primary| primary.node == node && !primary.asked);
        self.tally.give_up_on(|node| !untried(node));
        self.again = true;
    }

    /// The result is on a primary's disk.
    pub fn on_durable(&mut self, slot: Slot, from: NodeId) {
        if let Some(primary) = self.primary(slot, from) {
            primary.durable = true;
        }
    }

    /// A primary does not write the result; `again`: unless it is asked once more.
    pub fn on_unrepaired(&mut self, slot: Slot, from: NodeId, again: bool) {
        if let Some(primary) = self.primary(slot, from) {
            primary.unwilling |= !again;
        }
    }

    /// The client waits no longer.
    pub fn on_deadline(&mut self) -> Option<GetVerdict> {
        let verdict = match &self.phase {
            Phase::Answered | Phase::Failed => return None,
            Phase::Repairing(_) => self.unrepaired(),
            Phase::Asking if self.has_quorum() => GetVerdict::Stale,
            Phase::Asking => GetVerdict::Timeout { replies: self.tally.counted() },
        };
        self.phase = Phase::Failed;
        Some(verdict)
    }

    /// What is to be done now; `usable` tells who can be reached and is thought to be alive.
    pub fn step(&mut self, usable: impl Fn(NodeId) -> bool) -> GetStep {
        let mut step = GetStep::default();
        if matches!(self.phase, Phase::Asking) {
            step.verdict = self.judge(&usable, &mut step.repairs);
        }
        match self.phase {
            Phase::Asking => self.ask(&usable, &mut step.asks),
            Phase::Repairing(_) => step.verdict = self.judge_repairs(&mut step.repairs),
            Phase::Answered | Phase::Failed => {}
        }
        if matches!(self.phase, Phase::Failed) {
            return step;
        }
        if self.all {
            while self.ask_next(&usable, false, &mut step.asks) {}
        }
        if !matches!(self.phase, Phase::Asking) {
            step.repairs.extend(self.repair_late());
        }
        step
    }

    fn has_quorum(&self) -> bool {
        if mutant!(ReadAnsweredEarly) {
            return self.tally.counted() >= 1;
        }
        self.tally.counted() >= self.quorum.r() && self.tally.primaries() >= self.quorum.pr()
    }

    /// Whether the result is as new as it has to be. That nobody has a record is not, but in the second pass: whoever has it may be
    /// away, if only a stand-in.
    fn is_fresh(&self) -> bool {
        let Some(after) = &self.after else { return true };
        self.merged.as_ref().is_some_and(|merged| merged.object.context().covers(after)) || self.is_known_absent()
    }

    fn judge(&mut self, usable: &impl Fn(NodeId) -> bool, repairs: &mut Vec<Repair>) -> Option<GetVerdict> {
        let verdict = if self.has_quorum() && self.is_fresh() {
            self.conclude(usable, repairs)?
        } else {
            self.shortfall(usable)?
        };
        let answered = matches!(verdict, GetVerdict::Answer { .. });
        self.phase = if answered { Phase::Answered } else { Phase::Failed };
        Some(verdict)
    }

    /// The answer; `None`: primaries have to make it durable first.
    fn conclude(&mut self, usable: &impl Fn(NodeId) -> bool, repairs: &mut Vec<Repair>) -> Option<GetVerdict> {
        let acks = self.tally.acks();
        let Some(Version { object, digest, round }) = self.merged.clone() else {
            return Some(GetVerdict::Answer { object: None, acks, repaired: Vec::new() });
        };
        let mut behind: Vec<&Primary> = self.primaries.iter().filter(|primary| primary.is_behind(digest)).collect();
        behind.sort_by_key(|primary| primary.slot);
        let repaired = behind.iter().map(|primary| primary.node).collect();
        if !self.blocking {
            return Some(GetVerdict::Answer { object: Some(object), acks, repaired });
        }
        let able = self.primaries.iter().filter(|primary| usable(primary.node)).count() as u8;
        if able < self.to_repair() {
            let kind = "primaries to repair; ";
            return Some(GetVerdict::Unavailable { able, wanted: self.to_repair(), kind });
        }
        self.primaries.iter_mut().for_each(|primary| primary.sent = Some(digest));
        // All of them: who holds the same may not have it on its disk.
        let to = self.primaries.iter().map(|primary| (primary.slot, primary.node)).collect();
        repairs.push(Repair { object: object.clone(), round, to, sync: true, again: false });
        self.again = false;
        self.phase = Phase::Repairing(Withheld { object, round, acks, repaired });
        None
    }

    /// The verdict if there can be no answer any more, or not while so few nodes are usable.
    fn shortfall(&self, usable: &impl Fn(NodeId) -> bool) -> Option<GetVerdict> {
        let (tally, r, pr) = (&self.tally, self.quorum.r(), self.quorum.pr());
        if tally.possible() < r || tally.possible_primaries() < pr {
            return Some(GetVerdict::Timeout { replies: tally.counted() });
        }
        let spare = self.stand_ins.iter().filter(|node| usable(**node)).count() as u8;
        let able = tally.able(usable).saturating_add(spare).min(self.quorum.n());
        if able < r {
            return Some(GetVerdict::Unavailable { able, wanted: r, kind: "" });
        }
        let able = tally.able_primaries(usable);
        if able < pr {
            return Some(GetVerdict::Unavailable { able, wanted: pr, kind: "primaries; " });
        }
        let left = || spare > 0 || tally.open().any(|(_, node)| usable(node));
        let stale = if self.may_have_been_reaped() { GetVerdict::LookAgain } else { GetVerdict::Stale };
        (self.has_quorum() && !left()).then_some(stale)
    }

    /// Asks as many as are needed, and those who are asked for some other reason.
    fn ask(&mut self, usable: &impl Fn(NodeId) -> bool, asks: &mut Vec<Ask>) {
        if std::mem::take(&mut self.again) {
            let known = self.known();
            let open: Vec<(Slot, NodeId)> = self.tally.open().collect();
            for (slot, node) in open {
                let stand_in = self.tally.is_stand_in(slot, node);
                let asked = self.primary(slot, node).is_none_or(|primary| primary.asked);
                if asked && Some(node) != self.own {
                    asks.push(Ask { slot, node, known, stand_in, hedge: false, again: true });
                }
            }
        }
        // Enough have answered and the result is too old: whoever may know more is asked.
        let widen = self.has_quorum();
        while (widen || self.lacks()) && self.ask_next(usable, false, asks) {}
        if std::mem::take(&mut self.hedge) {
            self.ask_next(usable, true, asks);
        }
        for slot in self.tally.wanting(self.quorum.r(), usable) {
            self.call(slot, usable, asks);
        }
        if widen && !self.asked().any(|(slot, node)| usable(node) && !self.is_done(slot, node)) {
            let slot = self.tally.unfilled().next().map_or(Slot(0), |(slot, _)| slot);
            while self.call(slot, usable, asks) {}
        }
    }

    /// Whether nothing new is expected of somebody who was asked.
    fn is_done(&self, slot: Slot, node: NodeId) -> bool {
        !self.tally.is_silent(slot, node) || !self.tally.relies_on(slot, node)
    }

    /// Whether more must be asked than are relied on.
    fn lacks(&self) -> bool {
        let relied = |primary: &Primary| primary.asked && self.tally.relies_on(primary.slot, primary.node);
        let stood_in = |primary: &Primary| {
            let mut stand_ins = self.tally.stand_ins().filter(|(slot, _)| *slot == primary.slot);
            stand_ins.any(|(slot, node)| self.tally.relies_on(slot, node))
        };
        let primaries = self.primaries.iter().filter(|primary| relied(primary)).count();
        let slots = self.primaries.iter().filter(|primary| relied(primary) || stood_in(primary)).count();
        slots < self.quorum.r().into() || primaries < self.quorum.pr().into()
    }

    /// Asks the next usable primary that has not been asked; false if there is none.
    fn ask_next(&mut self, usable: &impl Fn(NodeId) -> bool, hedge: bool, asks: &mut Vec<Ask>) -> bool {
        let known = self.known();
        let Some(next) = self.primaries.iter_mut().find(|primary| !primary.asked && usable(primary.node)) else {
            return false;
        };
        next.asked = true;
        asks.push(Ask { slot: next.slot, node: next.node, known, stand_in: false, hedge, again: false });
        true
    }

    /// Calls the next usable stand-in for a slot; false if there is none.
    fn call(&mut self, slot: Slot, usable: &impl Fn(NodeId) -> bool, asks: &mut Vec<Ask>) -> bool {
        let known = self.known();
        let Some(next) = self.stand_ins.iter().position(|node| usable(*node)) else { return false };
        let node = self.stand_ins.remove(next);
        if self.tally.call(slot, node) {
            asks.push(Ask { slot, node, known, stand_in: true, hedge: false, again: false });
        }
        true
    }

    /// What others may compare with instead of sending it.
    fn known(&mut self) -> Option<Digest> {
        let merged = self.merged.as_ref().filter(|merged| merged.object.encoded_len() >= DIGEST_FROM)?;
        if !self.named.contains(&merged.digest) {
            self.named.push(merged.digest);
        }
        Some(merged.digest)
    }

    /// The answer once it is on enough disks.
    fn judge_repairs(&mut self, repairs: &mut Vec<Repair>) -> Option<GetVerdict> {
        let Phase::Repairing(held) = &self.phase else { return None };
        let durable = self.primaries.iter().filter(|primary| primary.durable).count();
        let willing = self.primaries.iter().filter(|primary| primary.durable || !primary.unwilling).count();
        let wanted = usize::from(self.to_repair());
        if durable >= wanted {
            let Withheld { object, acks, repaired, .. } = held.clone();
            self.phase = Phase::Answered;
            return Some(GetVerdict::Answer { object: Some(object), acks, repaired });
        }
        if willing < wanted {
            let verdict = self.unrepaired();
            self.phase = Phase::Failed;
            return Some(verdict);
        }
        if std::mem::take(&mut self.again) {
            let late = self.primaries.iter().filter(|primary| !primary.durable && !primary.unwilling);
            let to = late.map(|primary| (primary.slot, primary.node)).collect();
            repairs.push(Repair { object: held.object.clone(), round: held.round, to, sync: true, again: true });
        }
        None
    }

    fn unrepaired(&self) -> GetVerdict {
        let durable = self.primaries.iter().filter(|primary| primary.durable).count() as u8;
        GetVerdict::Unrepaired { durable, wanted: self.to_repair() }
    }

    /// Whoever is behind what is known now and was not sent it.
    fn repair_late(&mut self) -> Option<Repair> {
        let Version { object, digest, round } = self.merged.as_ref()?;
        let mut to = Vec::new();
        for primary in &mut self.primaries {
            if primary.is_behind(*digest) && primary.sent != Some(*digest) {
                primary.sent = Some(*digest);
                to.push((primary.slot, primary.node));
            }
        }
        (!to.is_empty()).then(|| Repair { object: object.clone(), round: *round, to, sync: false, again: false })
    }
}

impl Primary {
    /// Whether it is known to hold something else than the version of this digest, which is newer than whatever it holds.
    fn is_behind(&self, newest: Digest) -> bool {
        match self.holds {
            Holds::Unknown => false,
            Holds::Nothing => true,
            Holds::Version(digest) => digest != newest,
        }
    }
}
