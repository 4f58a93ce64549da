//! A put whose dot is minted: sent to its slots and to whoever stands in for them, and noted for those that miss it.

use super::entry::{Entry, Mint, Minted, PutEntry, Work};
use super::memory::Remembered;
use super::outcome::store_error;
use super::{Shard, may_change, request_id};
use crate::api::ApiError;
use crate::message::{PeerRequest, Reason, Refusal, Replicate};
use crate::node::effects::{Effects, Output, Purpose};
use crate::quorum::PutVerdict;
use crate::ring::Slot;
use crate::storage::{NewHint, Op, OpFailure, Outcome, Task};
use crate::types::{NodeId, Now, Round};
use crate::version::Dot;

impl Shard {
    /// The dot is minted: the object goes to the other slots.
    pub(super) fn on_minted(&mut self, now: Now, entry: u64, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else {
            debug_assert!(false, "a put lives until its mint is known");
            return;
        };
        match result {
            Ok(Outcome::Updated { object, dot, round }) => {
                let kept = put.place.own.is_none().then(|| (object.clone(), round));
                let write = Remembered { dot, hash: put.hash, object: kept };
                let (write_id, is_awaited) = (put.write_id, !put.origins.is_empty());
                let minted = Minted { dot, object, round };
                self.memory.insert(now.time, write_id, write);
                if is_awaited {
                    self.replicate_minted(entry, minted, fx);
                } else {
                    // The disk took longer than the client waited: the others get it by hints.
                    put.mint = Mint::Done(minted);
                    self.end(entry);
                }
            }
            Ok(Outcome::TooManySiblings { count }) => {
                self.refuse_put(entry, &ApiError::TooManySiblings { count, max: self.config.max_siblings }, fx);
            }
            Ok(_) => unreachable!("an update ends in Updated or TooManySiblings"),
            Err(failure) => self.refuse_put(entry, &store_error(&failure), fx),
        }
    }

    /// A known write's object has been read again.
    pub(super) fn on_reread(&mut self, entry: u64, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        self.counters.puts_repeated += 1;
        let dot = self.memory.get(put.write_id).map(|write| write.dot);
        match (result, dot) {
            (Ok(Outcome::Read { object: Some(object), round }), Some(dot)) if object.context().contains(dot) => {
                self.replicate_minted(entry, Minted { dot, object, round }, fx);
            }
            (Ok(_), Some(dot)) if self.memory.is_reaped(put.place.address.ring, &put.place.key, dot) => {
                self.on_put_reaped(entry, dot, fx);
            }
            // It was written once, and other replicas may have it, whatever became of it here.
            (result, _) => {
                let w = put.machine.quorum().w();
                let gone = || "the coordinator no longer holds this write".to_owned();
                let detail = result.err().map_or_else(gone, |failure| failure.to_string());
                self.refuse_put(entry, &ApiError::Indeterminate { acks: 0, w, detail }, fx);
            }
        }
    }

    /// The object goes to the slots, to whoever stands in for those that W needs, and a hint is kept for those that are away.
    pub(super) fn replicate_minted(&mut self, entry: u64, minted: Minted, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        put.mint = Mint::Done(minted);
        if let Some(own) = put.place.own {
            fx.sync |= put.syncs_here();
            self.unwritten.puts.push((entry, own));
        }
        self.call_stand_ins(entry, fx);
        self.send_put(entry, false, fx);
        self.hint_for_absent(entry);
    }

    /// Whether a put that goes to this node is likely to be answered.
    pub(super) fn takes_writes(&self, node: NodeId) -> bool {
        if node == self.node { self.read_only.is_none() } else { self.is_usable(node) }
    }

    /// Calls stand-ins for the slots that W needs and that nobody is relied on to fill. One that is this node itself writes
    /// at once; the others are sent the object with the rest.
    pub(super) fn call_stand_ins(&mut self, entry: u64, fx: &mut Effects) -> Vec<(Slot, NodeId)> {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return Vec::new() };
        let wanting = put.machine.wanting(|node| self.takes_writes(node));
        if wanting.is_empty() {
            return Vec::new();
        }
        let stand_ins = self.stand_ins_of(&put.place).iter().copied();
        let is_behind = put.syncs_here() && self.is_behind_with_syncs();
        let may = |node: NodeId| self.takes_writes(node) && !(is_behind && node == self.node);
        let able: Vec<NodeId> = stand_ins.filter(|node| may(*node)).collect();
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return Vec::new() };
        let mut able = able.into_iter();
        let mut called = Vec::new();
        for slot in wanting {
            called.extend(able.find(|node| put.machine.call(slot, *node)).map(|node| (slot, node)));
        }
        self.counters.stand_ins_called += called.len() as u64;
        if let Some((slot, _)) = called.iter().find(|(_, node)| *node == self.node) {
            self.stand_in(entry, *slot, fx);
        }
        called
    }

    /// This node, which has no slot of the key, stands in for one.
    fn stand_in(&mut self, entry: u64, slot: Slot, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let Some(Minted { object, round, .. }) = put.minted() else { return };
        let target = put.place.slots[usize::from(slot.0)];
        self.tracer.on_stand_in(self.time, entry, slot, Some(target), self.node);
        let hints = vec![NewHint::counted(put.place.slots[usize::from(slot.0)], self.wall_ms)];
        let op = Op::Merge { object: object.clone(), round: *round, hints };
        fx.tasks.push(Task { purpose: Purpose::StandIn { entry, slot }, key: put.place.key.clone(), op });
    }

    /// This node's copy for a slot that it stands in for is in the batch, or is not.
    pub(super) fn on_stood_in(&mut self, entry: u64, slot: Slot, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        let node = self.node;
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        match result {
            Ok(Outcome::Fenced { round }) => self.refresh_put(entry, slot, node, round, fx),
            Ok(_) => {
                fx.sync |= put.syncs_here();
                self.unwritten.puts.push((entry, slot));
            }
            Err(failure) => {
                let verdict = put.machine.on_refusal(slot, node, failure.to_string(), false);
                self.after_refusal(entry, verdict, fx);
            }
        }
    }

    /// Sends the object to everybody whose answer is wanted yet, but this node itself.
    pub(super) fn send_put(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let before = fx.after_written.len();
        let others = put.machine.unsatisfied().filter(|(_, node)| *node != self.node);
        fx.after_written.extend(others.filter_map(|(slot, node)| replicate(entry, put, slot, node)));
        if again {
            self.counters.resent += (fx.after_written.len() - before) as u64;
        }
    }

    /// An attempt's time is over: those who have not answered are relied on no longer, and asked again.
    pub(super) fn on_put_attempt_timeout(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        if put.minted().is_some() {
            // Nobody is late with what has not been sent.
            put.machine.on_attempt_timeout();
            self.call_stand_ins(entry, fx);
            self.send_put(entry, true, fx);
            self.hint_for_absent(entry);
            self.tell_put(entry, None, fx);
        }
    }

    /// Somebody will not write it: another is called if W needs that.
    pub(super) fn after_refusal(&mut self, entry: u64, verdict: Option<PutVerdict>, fx: &mut Effects) {
        if verdict.is_none() {
            let called = self.call_stand_ins(entry, fx);
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
            let others = called.into_iter().filter(|(_, node)| *node != self.node);
            fx.after_written.extend(others.filter_map(|(slot, node)| replicate(entry, put, slot, node)));
        }
        self.tell_put(entry, verdict, fx);
    }

    /// Keeps hints for primaries that cannot be reached and for which nobody stands in: they need not be waited for.
    fn hint_for_absent(&mut self, entry: u64) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let absent = |(slot, node): &(Slot, NodeId)| {
            !self.takes_writes(*node) && !put.machine.tally().stand_ins().any(|(of, _)| of == *slot)
        };
        let absent: Vec<(Slot, NodeId)> = put.machine.tally().unfilled().filter(absent).collect();
        self.keep_hints(entry, &absent);
    }

    /// The put ends: hints are kept for all slots that nobody is known to have filled.
    pub(super) fn hint_for_missing(&mut self, entry: u64) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let missing: Vec<(Slot, NodeId)> = put.machine.tally().unfilled().collect();
        self.keep_hints(entry, &missing);
    }

    /// Keeps uncounted hints here, with the object, once for each slot.
    fn keep_hints(&mut self, entry: u64, slots: &[(Slot, NodeId)]) {
        let node = self.node;
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(Minted { object, round, .. }) = put.minted() else { return };
        let fresh = slots.iter().filter(|(slot, target)| *target != node && !put.hinted.contains(slot));
        let fresh: Vec<(Slot, NodeId)> = fresh.copied().collect();
        if fresh.is_empty() || self.read_only.is_some() {
            return;
        }
        let (key, object, round) = (put.place.key.clone(), object.clone(), *round);
        let bytes = object.encoded_len();
        let kept: Vec<(Slot, NodeId)> = fresh.into_iter().filter(|_| self.may_hint_uncounted(bytes)).collect();
        let hints = kept.iter().map(|(_, target)| NewHint::uncounted(*target, self.wall_ms)).collect();
        self.tracer.on_hints(entry, node, kept.iter().map(|(_, target)| *target));
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        put.hinted.extend(kept.iter().map(|(slot, _)| *slot));
        if !kept.is_empty() {
            self.to_hint.push(Task { purpose: Purpose::KeepHints, key, op: Op::Merge { object, round, hints } });
        }
    }

    pub(super) fn on_replicated(
        &mut self,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<bool, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        if put.minted().is_none() {
            // Nobody can have written what has no dot yet.
            self.counters.stray_answers += 1;
            return;
        }
        self.counters.late_answers += u64::from(put.origins.is_empty());
        match outcome {
            Ok(synced) => {
                let verdict = put.machine.on_ack(slot, from, synced);
                self.tell_put(entry, verdict, fx);
            }
            Err(Refusal::Fenced(round)) => self.refresh_put(entry, slot, from, round, fx),
            Err(refusal) => {
                let verdict = put.machine.on_refusal(slot, from, refusal.to_string(), may_change(&refusal));
                self.after_refusal(entry, verdict, fx);
            }
        }
    }

    /// A holder has met a round that the object is older than. This node takes it over, and reads what it holds now: only that
    /// may go there.
    fn refresh_put(&mut self, entry: u64, slot: Slot, holder: NodeId, round: Round, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let purpose = Purpose::Refresh { entry, slot, holder };
        fx.tasks.push(Task { purpose, key: put.place.key.clone(), op: Op::Adopt { round } });
    }

    /// What this node holds now goes to the holder, if the write is in it. If it is not, it was stored nowhere here, or has been
    /// reaped, perhaps with what replaced it: nobody may be sent it any more.
    pub(super) fn on_put_refreshed(
        &mut self,
        entry: u64,
        slot: Slot,
        holder: NodeId,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(dot) = put.minted().map(|minted| minted.dot) else { return };
        match result {
            Ok(Outcome::Read { object: Some(object), round }) if object.context().contains(dot) => {
                put.mint = Mint::Done(Minted { dot, object, round });
                if !put.machine.unsatisfied().any(|open| open == (slot, holder)) {
                    return;
                }
                if holder == self.node {
                    self.stand_in(entry, slot, fx);
                } else {
                    fx.after_written.extend(replicate(entry, put, slot, holder));
                }
            }
            Ok(_) if self.memory.is_reaped(put.place.address.ring, &put.place.key, dot) => {
                self.on_put_reaped(entry, dot, fx);
            }
            result => {
                let gone =
                    || "the write is older than a reaping round, and the coordinator holds it no longer".to_owned();
                let reason = result.err().map_or_else(gone, |failure| failure.to_string());
                let verdict = put.machine.on_refusal(slot, holder, reason, false);
                self.after_refusal(entry, verdict, fx);
            }
        }
    }

    /// The write is gone with a tombstone that all primaries had on their disks: so they had it, or what has replaced it, and all that
    /// could be asked of them is done.
    fn on_put_reaped(&mut self, entry: u64, dot: Dot, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        put.mint = Mint::Reaped(dot);
        let mut verdict = None;
        for (node, slot) in put.place.slots.iter().zip(0u8..) {
            verdict = verdict.or(put.machine.on_ack(Slot(slot), *node, true));
        }
        self.tell_put(entry, verdict, fx);
        // those who stand in are waited for no more
        self.end(entry);
    }
}

/// The request by which a put reaches one holder of a slot; none before the dot is minted.
fn replicate(entry: u64, put: &PutEntry, slot: Slot, node: NodeId) -> Option<Output> {
    let Minted { object, round, .. } = put.minted()?;
    let stands_in = put.machine.tally().is_stand_in(slot, node);
    let replicate = Replicate {
        to: put.place.address.clone(),
        reason: Reason::Write,
        hint_for: stands_in.then(|| put.place.slots[usize::from(slot.0)]),
        sync: put.syncs_elsewhere(),
        round: *round,
        trace: false,
        object: object.clone(),
    };
    let request = PeerRequest::Replicate(replicate);
    Some(Output::Request { node, id: request_id(entry, slot), request })
}
