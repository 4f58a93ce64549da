//! Puts that this node coordinates: mint, replicate, count, answer.

use std::sync::Arc;

use super::entry::{Entry, ForwardEntry, Origin, Place, PutEntry, Work};
use super::memory::{Remembered, body_hash};
use super::request::respond;
use super::{Shard, may_change, request_id};
use crate::api::{ApiError, Receipt, Reply, Response};
use crate::message::{Coordinated, PeerAnswer, PeerRequest, Reason, Refusal, Replicate};
use crate::node::effects::{ClientRef, Effects, Output, Purpose};
use crate::quorum::{Put, PutVerdict, WriteQuorum};
use crate::ring::Slot;
use crate::storage::{Op, OpFailure, Outcome, Task, Update, apply};
use crate::types::{NodeId, Now, Round, Time};
use crate::version::{Body, CausalContext, Dot, Object};

/// A put that has been checked.
pub(super) struct Checked {
    pub place: Place,
    pub quorum: WriteQuorum,
    pub client: CausalContext,
}

impl Shard {
    /// Checks a put without doing anything.
    pub(super) fn check_put(&self, put: &crate::api::Put) -> Result<Checked, ApiError> {
        let header = &put.header;
        let place = self.place(&header.bucket, &header.key)?;
        let len = put.value.as_ref().map_or(0, bytes::Bytes::len);
        if len > self.config.max_value {
            return Err(ApiError::ValueTooLarge { len: len as u64, max: self.config.max_value as u64 });
        }
        let n = u8::try_from(place.slots.len()).expect("a bucket has at most 16 replicas");
        let w = header.w.unwrap_or(self.config.w);
        let quorum = WriteQuorum::new(n, w, header.pw, header.dw, self.config.sync_by_default)?;
        let client = self.open_context(&header.bucket, &header.key, header.context.as_ref())?;
        Ok(Checked { place, quorum, client })
    }

    pub(super) fn start_put(
        &mut self,
        now: Now,
        from: ClientRef,
        put: crate::api::Put,
        deadline: Time,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let checked = self.check_put(&put)?;
        // A write that this node has coordinated before, in vain, stays here: a primary may not know its dot.
        let write_id = put.header.write_id;
        let known = self.writes.contains_key(&write_id) || self.memory.get(write_id).is_some();
        if checked.place.own.is_none()
            && !known
            && let Some(to) = checked.place.slots.iter().copied().find(|node| self.reachable.contains(node))
        {
            let machine = Put::new(checked.quorum, &checked.place.slots, 0);
            let forward =
                ForwardEntry { client: from, place: checked.place, to, put, context: checked.client, machine };
            self.forward(now, deadline, forward, fx);
            return Ok(());
        }
        self.coordinate(now, Origin::Client(from), put, checked, deadline, fx)
    }

    /// Coordinates a checked put.
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        origin: Origin,
        put: crate::api::Put,
        checked: Checked,
        deadline: Time,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let write_id = put.header.write_id;
        let hash = body_hash(put.value.as_ref());
        if let Some(entry) = self.writes.get(&write_id).copied() {
            return self.join(entry, origin, hash, &checked, deadline, fx);
        }
        let remembered = self.memory.get(write_id).cloned();
        if remembered.as_ref().is_some_and(|write| write.hash != hash) {
            return Err(ApiError::WriteIdReused);
        }
        if let Some(reason) = &self.read_only {
            return Err(ApiError::ReadOnly { reason: reason.clone() });
        }
        let Checked { place, quorum, client } = checked;
        let machine = Put::new(quorum, &place.slots, 0);
        let (key, own) = (place.key.clone(), place.own);
        let minted = None;
        let entry = PutEntry { origins: vec![origin], place, machine, write_id, hash, client, minted };
        let entry = self.begin(now, deadline, Work::Put(Box::new(entry)));
        self.writes.insert(write_id, entry);
        match remembered {
            Some(Remembered { dot, object: Some(object), .. }) => self.replicate_minted(entry, dot, object, fx),
            Some(_) => fx.tasks.push(Task { purpose: Purpose::Rewrite(entry), key, op: Op::Read }),
            None => {
                let update = self.update(now, entry, put.value);
                if own.is_some() {
                    fx.tasks.push(Task { purpose: Purpose::Mint(entry), key, op: Op::Update(Box::new(update)) });
                } else {
                    // No slot of the key is here: the write is minted on nothing, stored nowhere here, and sent to all.
                    self.counters.puts_unowned += 1;
                    let (_, outcome) = apply(Op::Update(Box::new(update)), None);
                    self.on_minted(now, entry, Ok(outcome), fx);
                }
            }
        }
        Ok(())
    }

    /// A retry of a put that is under way waits for its outcome, at least as strong as either asks for, and until the
    /// earlier of their deadlines: both get an answer in time.
    fn join(
        &mut self,
        entry: u64,
        origin: Origin,
        hash: u64,
        checked: &Checked,
        deadline: Time,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let Some(Entry { work: Work::Put(put), deadline: until, wake }) = self.entries.get_mut(&entry) else {
            unreachable!("write ids under way point at puts");
        };
        if put.hash != hash || put.place.key != checked.place.key {
            return Err(ApiError::WriteIdReused);
        }
        self.counters.puts_repeated += 1;
        self.waiting += usize::from(put.origins.is_empty());
        *until = if put.origins.is_empty() { deadline } else { deadline.min(*until) };
        if *until < *wake {
            self.timers.remove(&(*wake, entry));
            *wake = *until;
            self.timers.insert((*wake, entry));
        }
        put.origins.push(origin);
        let verdict = put.machine.on_joined(checked.quorum);
        if verdict.is_none() && put.minted.is_some() {
            self.replicate_again(entry, fx);
        }
        self.tell_put(entry, verdict, fx);
        Ok(())
    }

    /// What has joined asks for more than was asked of the replicas so far.
    fn replicate_again(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let own = put.place.own.filter(|own| put.machine.unsatisfied().any(|(slot, _)| slot == *own));
        if own.is_some() && put.machine.quorum().must_sync(true, true) {
            fx.sync = true;
            if !self.unwritten.contains(&entry) {
                self.unwritten.push(entry);
            }
        }
        self.send_put(entry, true, fx);
    }

    fn update(&mut self, now: Now, entry: u64, value: Option<bytes::Bytes>) -> Update {
        let fresh = self.fresh_actor();
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else {
            unreachable!("the caller has just begun this put");
        };
        // The value outlives this drain: copied, it does not keep the whole receive buffer alive.
        let body = value.map_or(Body::Tombstone, |value| Body::Value(bytes::Bytes::copy_from_slice(&value)));
        Update {
            client: put.client.clone(),
            write_id: put.write_id,
            node: self.node,
            wall_ms: now.wall_ms,
            body,
            last_write_wins: put.place.last_write_wins,
            max_siblings: self.config.max_siblings,
            trust: self.standing.trust,
            fresh,
        }
    }

    /// The dot is minted: the object goes to the other slots.
    pub(super) fn on_minted(&mut self, now: Now, entry: u64, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else {
            // The disk took longer than the client waited. A retry must find the dot that it has become.
            if let Ok(Outcome::Updated { object, .. }) = &result {
                self.memory.learn(now.time, object);
            }
            return;
        };
        match result {
            Ok(Outcome::Updated { object, dot }) => {
                let kept = put.place.own.is_none().then(|| object.clone());
                let write = Remembered { dot, hash: put.hash, object: kept };
                let write_id = put.write_id;
                self.memory.insert(now.time, write_id, write);
                self.replicate_minted(entry, dot, object, fx);
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
            (Ok(Outcome::Read(Some(object))), Some(dot)) if object.context().contains(dot) => {
                self.replicate_minted(entry, dot, object, fx);
            }
            (Err(failure), _) => self.refuse_put(entry, &store_error(&failure), fx),
            // What was written here is gone: only the other replicas can tell.
            _ => {
                let w = put.machine.quorum().w();
                let detail = "the coordinator no longer holds this write".into();
                self.refuse_put(entry, &ApiError::Indeterminate { acks: 0, w, detail }, fx);
            }
        }
    }

    fn replicate_minted(&mut self, entry: u64, dot: Dot, object: Arc<Object>, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        put.minted = Some((dot, object));
        let own = put.place.own;
        if own.is_some() {
            fx.sync |= put.machine.quorum().must_sync(true, true);
            self.unwritten.push(entry);
        }
        self.send_put(entry, false, fx);
    }

    /// Sends the object to every slot that is wanted yet, but this node's own.
    pub(super) fn send_put(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let Some((_, object)) = &put.minted else { return };
        let own = put.place.own;
        let sync = put.machine.quorum().must_sync(false, own.is_some());
        for (slot, node) in put.machine.unsatisfied().filter(|(slot, _)| Some(*slot) != own) {
            let replicate = Replicate {
                to: put.place.address.clone(),
                reason: Reason::Write,
                hint_for: None,
                sync,
                round: Round::default(),
                object: object.clone(),
            };
            let request = PeerRequest::Replicate(replicate);
            self.counters.resent += u64::from(again);
            fx.after_written.push(Output::Request { node, id: request_id(entry, slot), request });
        }
    }

    /// The batch that holds this drain's own writes is written, or on the disk.
    pub(super) fn on_committed(&mut self, synced: bool, fx: &mut Effects) {
        let node = self.node;
        self.unwritten_reads.clear();
        for entry in std::mem::take(&mut self.unwritten) {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { continue };
            let Some(slot) = put.place.own.filter(|_| put.minted.is_some()) else { continue };
            let verdict = put.machine.on_ack(slot, node, synced);
            self.tell_put(entry, verdict, fx);
        }
    }

    /// The batch could not be written: what rests on it is indeterminate, and its objects are sent nowhere any more.
    pub(super) fn on_write_failed(&mut self, fx: &mut Effects) {
        self.read_only = Some("a write to its disk has failed; restart it once the disk is sound".into());
        for entry in std::mem::take(&mut self.unwritten) {
            let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { continue };
            let w = put.machine.quorum().w();
            let detail = "the coordinator's disk failed".into();
            self.refuse_put(entry, &ApiError::Indeterminate { acks: 0, w, detail }, fx);
        }
        for entry in std::mem::take(&mut self.unwritten_reads) {
            self.revoke_read(entry, fx);
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
        if put.minted.is_none() {
            // Nobody can have written what has no dot yet.
            self.counters.stray_answers += 1;
            return;
        }
        self.counters.late_answers += u64::from(put.origins.is_empty());
        let verdict = match outcome {
            Ok(synced) => put.machine.on_ack(slot, from, synced),
            Err(refusal) => put.machine.on_refusal(slot, from, refusal.to_string(), may_change(&refusal)),
        };
        self.tell_put(entry, verdict, fx);
    }

    pub(super) fn on_put_deadline(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let verdict = put.machine.on_deadline();
        self.tell_put(entry, verdict, fx);
    }

    /// Tells all who wait for a put what became of it.
    fn tell_put(&mut self, entry: u64, verdict: Option<PutVerdict>, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(verdict) = verdict else {
            if put.machine.is_finished() {
                self.end(entry);
            }
            return;
        };
        let finished = put.machine.is_finished();
        let origins = std::mem::take(&mut put.origins);
        let result = self.put_result(entry, verdict);
        match &result {
            Ok(_) => self.counters.puts_acknowledged += origins.len() as u64,
            Err(_) => self.counters.puts_indeterminate += origins.len() as u64,
        }
        for origin in origins {
            answer_put(origin, result.clone(), fx);
        }
        self.answered(entry, finished);
    }

    fn put_result(&self, entry: u64, verdict: PutVerdict) -> Result<Receipt, ApiError> {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else {
            unreachable!("the caller holds this put");
        };
        let quorum = put.machine.quorum();
        match (verdict, &put.minted) {
            (PutVerdict::Acknowledged(acks), Some((dot, object))) => {
                let mut context = put.client.clone();
                context.insert(*dot);
                if mutant!(ContextCoversUnseen) {
                    context.join(object.context());
                }
                let context = self.seal(&put.place, &context);
                let (hints, coordinator) = (Vec::new(), self.node);
                Ok(Receipt { acks, n: quorum.n(), w: quorum.w(), hints, context, dot: *dot, coordinator })
            }
            (PutVerdict::Indeterminate { .. }, _) if mutant!(UnknownCalledRefused) => Err(ApiError::Overloaded),
            (PutVerdict::Indeterminate { acks, wanted, kind }, _) => {
                let missing = put.machine.tally().missing(|node| self.name_of(node));
                Err(ApiError::Indeterminate { acks, w: wanted, detail: format!("{kind}{missing}") })
            }
            (PutVerdict::Acknowledged(acks), None) => {
                unreachable!("{} replicas acknowledged a write that was not minted", acks.len());
            }
        }
    }

    /// Ends a put that has been sent to nobody.
    fn refuse_put(&mut self, entry: u64, error: &ApiError, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let origins = std::mem::take(&mut put.origins);
        match error {
            ApiError::Indeterminate { .. } => self.counters.puts_indeterminate += origins.len() as u64,
            _ => self.counters.rejected += origins.len() as u64,
        }
        if !origins.is_empty() {
            self.waiting -= 1;
        }
        for origin in origins {
            answer_put(origin, Err(error.clone()), fx);
        }
        self.end(entry);
    }
}

fn store_error(failure: &OpFailure) -> ApiError {
    match failure {
        OpFailure::Overloaded => ApiError::Overloaded,
        OpFailure::Stopped => ApiError::ReadOnly { reason: failure.to_string() },
        OpFailure::Unreadable { detail } => ApiError::NotReady { reason: format!("its disk failed: {detail}") },
    }
}

/// Answers whoever waits for a put.
pub(super) fn answer_put(origin: Origin, outcome: Result<Receipt, ApiError>, fx: &mut Effects) {
    match origin {
        Origin::Client(client) => {
            let response = Response { result: outcome.map(Reply::Put), values: Vec::new() };
            respond(client, response, fx);
        }
        Origin::Peer(to) => {
            let answer = PeerAnswer::Coordinated(Coordinated { outcome });
            fx.after_written.push(Output::Answer { to, answer });
        }
    }
}
