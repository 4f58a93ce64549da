//! Reads that this node coordinates: ask all N, merge, answer at R. And the question of who holds what.

use std::sync::Arc;

use super::entry::{Entry, GetEntry, Place, WhereEntry, Work};
use super::request::respond;
use super::{Shard, may_change, refusal_of, request_id};
use crate::api::{self, ApiError, GetReply, Holding, Reply, Response, WhereReply, newest_of, siblings_of};
use crate::message::{Fetch, Held, PeerRequest, Refusal};
use crate::node::effects::{ClientRef, Effects, Output, Purpose, read_failed};
use crate::quorum::{Get, GetVerdict, ReadQuorum};
use crate::ring::Slot;
use crate::storage::{Op, OpFailure, Outcome, Task};
use crate::types::{NodeId, Now, Round, Time};
use crate::version::Object;

impl Shard {
    pub(super) fn start_get(
        &mut self,
        now: Now,
        client: ClientRef,
        get: api::Get,
        deadline: Time,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let place = self.place(&get.bucket, &get.key)?;
        let n = u8::try_from(place.slots.len()).expect("a bucket has at most 16 replicas");
        let quorum = ReadQuorum::new(n, get.r.unwrap_or(self.config.r), get.pr)?;
        let machine = Get::new(quorum, &place.slots);
        let (own, key) = (place.own, place.key.clone());
        let entry = self.begin(now, deadline, Work::Get(Box::new(GetEntry { client, place, machine, told: false })));
        if own.is_some() {
            fx.tasks.push(Task { purpose: Purpose::Read(entry), key, op: Op::Read });
        }
        self.send_fetches(entry, false, fx);
        Ok(())
    }

    pub(super) fn start_where(
        &mut self,
        now: Now,
        client: ClientRef,
        whereabouts: api::Where,
        deadline: Time,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let place = self.place(&whereabouts.bucket, &whereabouts.key)?;
        let stand_ins = self.preference(place.address.partition, &whereabouts.bucket)?.stand_ins().to_vec();
        let token = crate::ring::token_of(&whereabouts.bucket, whereabouts.key.as_bytes()).0;
        // Silence is an answer too: who asks where a key is need not wait as long as a read would.
        let deadline = deadline.min(now.time + self.config.attempt_timeout * 2);
        let holdings = vec![None; place.slots.len()];
        let (own, key) = (place.own, place.key.clone());
        let work = WhereEntry { client, place, token, stand_ins, holdings };
        let entry = self.begin(now, deadline, Work::Where(Box::new(work)));
        if own.is_some() {
            fx.tasks.push(Task { purpose: Purpose::Read(entry), key, op: Op::Read });
        }
        self.send_fetches(entry, false, fx);
        Ok(())
    }

    /// Asks every slot that has not answered, but this node's own.
    pub(super) fn send_fetches(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let (place, open): (&Place, Vec<(Slot, NodeId)>) = match self.entries.get(&entry).map(|known| &known.work) {
            Some(Work::Get(get)) => (&get.place, get.machine.tally().open().collect()),
            Some(Work::Where(asked)) => (&asked.place, asked.open().collect()),
            _ => return,
        };
        for (slot, node) in open.into_iter().filter(|(slot, _)| Some(*slot) != place.own) {
            let request = PeerRequest::Fetch(Fetch { of: place.address.clone() });
            self.counters.resent += u64::from(again);
            fx.after_written.push(Output::Request { node, id: request_id(entry, slot), request });
        }
    }

    /// This node's own store has been read.
    pub(super) fn on_own_read(&mut self, entry: u64, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        self.unwritten_reads.push(entry);
        let outcome = match result {
            Ok(Outcome::Read(object)) => {
                Ok(Held { object, round: Round::default(), rebuilding: self.standing.rebuilding })
            }
            Ok(_) => unreachable!("a read ends in Read"),
            Err(failure) => Err(refusal_of(&failure)),
        };
        let node = self.node;
        match self.entries.get(&entry).map(|known| &known.work) {
            Some(Work::Get(get)) => {
                let Some(slot) = get.place.own else { return };
                self.on_get_reply(entry, slot, node, outcome, fx);
            }
            Some(Work::Where(asked)) => {
                let Some(slot) = asked.place.own else { return };
                self.on_where_reply(entry, slot, node, outcome, fx);
            }
            _ => {}
        }
    }

    /// What this read was shown here could not be written: the dots in it may be given to other writes, so nobody may
    /// learn of them. A read that has been answered already is revoked with the drain's effects.
    pub(super) fn revoke_read(&mut self, entry: u64, fx: &mut Effects) {
        match self.entries.get(&entry).map(|known| &known.work) {
            Some(Work::Get(get)) if !get.told => {
                self.counters.gets_timed_out += 1;
                respond(get.client, read_failed(get.machine.quorum().needed()), fx);
            }
            Some(Work::Where(asked)) => respond(asked.client, read_failed(1), fx),
            _ => return,
        }
        self.answered(entry, true);
    }

    pub(super) fn on_get_reply(
        &mut self,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<Held, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        self.counters.late_answers += u64::from(get.told);
        let verdict = match outcome {
            Ok(held) => get.machine.on_reply(slot, from, held.object, held.rebuilding),
            // This node asks itself only once.
            Err(refusal) => {
                let again = may_change(&refusal) && from != self.node;
                get.machine.on_refusal(slot, from, refusal.to_string(), again)
            }
        };
        self.tell_get(entry, verdict, fx);
    }

    pub(super) fn on_get_deadline(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        let verdict = get.machine.on_deadline();
        self.tell_get(entry, verdict, fx);
    }

    fn tell_get(&mut self, entry: u64, verdict: Option<GetVerdict>, fx: &mut Effects) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        let finished = get.machine.is_finished();
        let Some(verdict) = verdict else {
            if finished {
                self.end(entry);
            }
            return;
        };
        get.told = true;
        let client = get.client;
        let response = self.get_response(entry, verdict);
        match &response.result {
            Ok(Reply::Get(reply)) => {
                self.counters.gets_answered += 1;
                self.counters.gets_with_siblings += u64::from(reply.siblings.len() > 1);
            }
            _ => self.counters.gets_timed_out += 1,
        }
        respond(client, response, fx);
        self.answered(entry, finished);
    }

    fn get_response(&self, entry: u64, verdict: GetVerdict) -> Response {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get(&entry) else {
            unreachable!("the caller holds this get");
        };
        let quorum = get.machine.quorum();
        match verdict {
            GetVerdict::Answer { object, acks } => {
                let (siblings, values) = object.as_ref().map(|object| shown(&get.place, object)).unwrap_or_default();
                let context = object.map(|object| self.seal(&get.place, object.context()));
                let repaired = Vec::new();
                let reply = GetReply { siblings, context, acks, repaired, n: quorum.n(), r: quorum.r() };
                Response { result: Ok(Reply::Get(reply)), values }
            }
            GetVerdict::Timeout { replies } => {
                let detail = get.machine.tally().missing(|node| self.name_of(node));
                Response::error(ApiError::ReadTimeout { replies, r: quorum.needed(), detail })
            }
        }
    }

    pub(super) fn on_where_reply(
        &mut self,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<Held, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Where(asked), .. }) = self.entries.get_mut(&entry) else { return };
        let index = usize::from(slot.0);
        if asked.place.slots.get(index) != Some(&from) {
            self.counters.stray_answers += 1;
            return;
        }
        asked.holdings[index] = Some(match outcome {
            Ok(Held { object: None, .. }) => Holding::Nothing,
            Ok(Held { object: Some(object), .. }) => {
                Holding::Version { digest: object.digest().to_string(), siblings: siblings_of(&object).0 }
            }
            Err(refusal) => Holding::NoAnswer { reason: refusal.to_string() },
        });
        if asked.open().next().is_none() {
            self.tell_where(entry, fx);
        }
    }

    pub(super) fn on_where_deadline(&mut self, entry: u64, fx: &mut Effects) {
        self.tell_where(entry, fx);
    }

    fn tell_where(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Where(asked), .. }) = self.entries.get(&entry) else { return };
        let silent = || Holding::NoAnswer { reason: "no answer".into() };
        let holdings = asked.holdings.iter().map(|holding| holding.clone().unwrap_or_else(silent));
        let reply = WhereReply {
            token: asked.token,
            partition: asked.place.address.partition,
            slots: asked.place.slots.iter().copied().zip(holdings).collect(),
            stand_ins: asked.stand_ins.clone(),
        };
        respond(asked.client, Response::plain(Reply::Where(reply)), fx);
        self.answered(entry, true);
    }
}

impl WhereEntry {
    /// Slots that have not answered.
    fn open(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let slots = self.place.slots.iter().copied().zip(&self.holdings).zip(0u8..);
        slots.filter(|((_, holding), _)| holding.is_none()).map(|((node, _), slot)| (Slot(slot), node))
    }
}

/// What a reader of this bucket is shown of an object.
fn shown(place: &Place, object: &Arc<Object>) -> (Vec<api::SiblingMeta>, Vec<bytes::Bytes>) {
    if place.last_write_wins { newest_of(object) } else { siblings_of(object) }
}
