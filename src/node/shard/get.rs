//! Reads that this node coordinates: whom the machine wants asked, what they answer, what the client is told.

use std::sync::Arc;

use rand::RngExt;

use super::entry::{Entry, GetEntry, Place, Work};
use super::{Shard, may_change, refusal_of, request_id};
use crate::api::{self, ApiError, GetReply, Reply, Response, newest_of, siblings_of};
use crate::message::{Fetch, Found, Held, PeerRequest, Refusal};
use crate::node::effects::{ClientRef, Effects, Output, Purpose, read_failed};
use crate::quorum::{Ask, Get, GetStep, GetTerms, GetVerdict, ReadQuorum};
use crate::ring::Slot;
use crate::storage::{Op, OpFailure, Outcome, Task};
use crate::types::{NodeId, Now, Time};
use crate::version::Object;

/// Stand-ins that one read asks at most: as many as a key can have slots.
pub(super) const MOST_STAND_INS: usize = 16;

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
        let terms = self.terms_of(now, &get, &place)?;
        self.begin_get(now, client, place, terms, deadline, fx);
        Ok(())
    }

    fn begin_get(
        &mut self,
        now: Now,
        client: ClientRef,
        place: Place,
        terms: GetTerms,
        deadline: Time,
        fx: &mut Effects,
    ) {
        let machine = Get::new(terms, &place.slots);
        let (own, key) = (place.own, place.key.clone());
        let (attempt, hedge) = (self.config.attempt_timeout, self.reply_times.hedge_after());
        let attempt_at = now.time + attempt;
        let hedge_at = hedge.map(|after| now.time + after);
        let wake = hedge_at.map_or(attempt_at, |at| at.min(attempt_at));
        let asked = Vec::with_capacity(machine.quorum().needed().into());
        let work =
            GetEntry { client, place, machine, asked, begun: false, shown_in: None, attempt, attempt_at, hedge_at };
        let entry = self.begin_waking(deadline, wake, Work::Get(Box::new(work)));
        if own.is_some() {
            fx.tasks.push(Task { purpose: Purpose::Read(entry), key, op: Op::Read });
            self.begun_reads.push(entry);
        } else {
            self.drive_get(now, entry, fx);
        }
    }

    /// What a get asks of the replicas, and in which order: this node first, then whoever answers fastest. Who is less than
    /// twice as slow as another is as good, and chance decides, so that no replica gets all reads.
    fn terms_of(&mut self, now: Now, get: &api::Get, place: &Place) -> Result<GetTerms, ApiError> {
        let n = u8::try_from(place.slots.len()).expect("a bucket has at most 16 replicas");
        let quorum = ReadQuorum::new(n, get.r.unwrap_or(self.config.r), get.pr)?;
        // What R of which some stand in have shown, a later R may miss.
        let quorum = if get.blocking_repair { quorum.of_primaries() } else { quorum };
        let token = get.after.as_ref();
        let after = token.map(|token| self.open_context(&get.bucket, &get.key, Some(token))).transpose()?;
        let draw: u64 = self.rng.random();
        let mut order: Vec<Slot> = (0..n).map(Slot).collect();
        order.sort_by_cached_key(|slot| {
            let node = place.slots[usize::from(slot.0)];
            let rank = if node == self.node { 0 } else { 1 + self.reply_times.rank(now.time, node) };
            (rank, draw.rotate_left(u32::from(slot.0) * 4) & 0xffff)
        });
        let sloppy = self.config.sloppy && !get.strict;
        let stand_ins = if sloppy { self.stand_ins_of(place) } else { &[] };
        // Whoever has seen something is told that it is gone only once everybody has been asked.
        let most = if after.is_some() { usize::MAX } else { MOST_STAND_INS };
        let everybody = sloppy || !self.config.sloppy;
        Ok(GetTerms {
            quorum,
            order,
            own: place.own.map(|_| self.node),
            stand_ins: stand_ins.iter().copied().take(most).collect(),
            all: self.rng.random_bool(self.config.read_repair_chance),
            blocking: get.blocking_repair,
            after,
            everybody,
            second: false,
        })
    }

    /// Before the batch is written: reads whose own record has to come from the disk ask the others now and not when it has come.
    pub(super) fn start_waiting_reads(&mut self, now: Now, fx: &mut Effects) {
        for entry in std::mem::take(&mut self.begun_reads) {
            if matches!(self.entries.get(&entry), Some(Entry { work: Work::Get(get), .. }) if !get.begun) {
                self.drive_get(now, entry, fx);
            }
        }
    }

    /// Does what the machine wants done.
    pub(super) fn drive_get(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get(&entry) else { return };
        let away: Vec<NodeId> = get.machine.nodes().filter(|node| !self.is_usable_to(entry, *node)).collect();
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        get.begun = true;
        let GetStep { asks, repairs, verdict } = get.machine.step(|node| !away.contains(&node));
        for ask in asks {
            self.ask(now, entry, ask, fx);
        }
        match verdict {
            Some(GetVerdict::LookAgain) => return self.look_again(now, entry, fx),
            Some(verdict) => self.tell_get(entry, verdict, fx),
            None => {}
        }
        for repair in repairs {
            self.repair(now, entry, repair, fx);
        }
        self.end_if_finished(entry);
    }

    fn ask(&mut self, now: Now, entry: u64, ask: Ask, fx: &mut Effects) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        let Ask { slot, node, known, stand_in, hedge, again } = ask;
        if self.tracer.is_on() {
            let enough = get.machine.tally().counted() >= get.machine.quorum().r();
            self.tracer.on_ask(entry, slot, node, enough);
        }
        if node == self.node {
            // It has no slot of the key, and stands in: it reads its own store, once.
            if !again {
                self.tracer.on_stand_in(now.time, entry, slot, None, node);
                fx.tasks.push(Task { purpose: Purpose::Read(entry), key: get.place.key.clone(), op: Op::Read });
            }
            return;
        }
        if !again {
            get.asked.push((node, now.time));
        }
        self.counters.resent += u64::from(again);
        self.counters.hedges_sent += u64::from(hedge);
        let request = PeerRequest::Fetch(Fetch { of: get.place.address.clone(), known, stand_in, hedge, trace: false });
        fx.after_written.push(Output::Request { node, id: request_id(entry, slot), request });
    }

    /// This node's own store has been read, for a get or for a where.
    pub(super) fn on_own_read(&mut self, now: Now, entry: u64, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        self.unwritten_reads.push(entry);
        let rebuilding = self.entry_may_lack(entry);
        let outcome = match result {
            Ok(Outcome::Read { object, round }) => {
                let found = object.map_or(Found::Nothing, Found::Object);
                Ok(Held { found, round, rebuilding })
            }
            Ok(_) => unreachable!("a read ends in Read"),
            Err(failure) => Err(refusal_of(&failure)),
        };
        let (node, drain) = (self.node, self.drains);
        match self.entries.get_mut(&entry).map(|known| &mut known.work) {
            Some(Work::Get(get)) => {
                get.shown_in = Some(drain);
                let stood_in = || get.machine.tally().stand_ins().find(|(_, of)| *of == node).map(|(slot, _)| slot);
                let Some(slot) = get.place.own.or_else(stood_in) else { return };
                self.on_get_reply(now, entry, slot, node, outcome, fx);
            }
            Some(Work::Where(asked)) => {
                let Some(slot) = asked.place.own else { return };
                self.on_where_reply(entry, slot, node, outcome, fx);
            }
            _ => {}
        }
    }

    /// What this read was shown here could not be written: the dots in it may be given to other writes, so nobody may
    /// learn of them. A read that has been answered already is revoked with the drain's effects, and repairs nobody.
    pub(super) fn revoke_read(&mut self, entry: u64, fx: &mut Effects) {
        match self.entries.get(&entry).map(|known| &known.work) {
            Some(Work::Get(get)) if get.machine.is_told() => return self.end(entry),
            Some(Work::Get(get)) => {
                self.counters.gets_timed_out += 1;
                let response = read_failed(get.machine.quorum().needed());
                super::request::respond(get.client, response, fx);
            }
            Some(Work::Where(asked)) => super::request::respond(asked.client, read_failed(1), fx),
            _ => return,
        }
        self.answered(entry, true);
    }

    pub(super) fn on_get_reply(
        &mut self,
        now: Now,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<Held, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        self.counters.late_answers += u64::from(get.machine.is_told());
        if let Some(at) = get.asked.iter().position(|(node, _)| *node == from) {
            let (_, since) = get.asked.swap_remove(at);
            if outcome.is_ok() {
                self.reply_times.on_reply(now.time, from, now.time.since(since));
            }
        }
        match outcome {
            Ok(held) => {
                self.counters.digest_hits += u64::from(matches!(held.found, Found::Same(_)));
                get.machine.on_reply(slot, from, held.found, held.round, held.rebuilding);
            }
            // This node asks itself only once.
            Err(refusal) => {
                let again = may_change(&refusal) && from != self.node;
                get.machine.on_refusal(slot, from, refusal.to_string(), again);
            }
        }
        self.drive_get(now, entry, fx);
    }

    /// It is time to ask another replica too, or to ask again: at longer and longer intervals.
    pub(super) fn on_get_timer(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Get(get), deadline, .. }) = self.entries.get_mut(&entry) else { return };
        let deadline = *deadline;
        // The late ones are listened to, but nobody waits for them.
        if get.machine.is_told() {
            return self.wake_at(entry, Some(deadline));
        }
        if get.hedge_at.is_some_and(|at| at <= now.time) {
            get.hedge_at = None;
            get.machine.on_hedge();
        }
        if get.attempt_at <= now.time {
            get.attempt *= 2;
            get.attempt_at = now.time + get.attempt;
            get.machine.on_attempt_timeout();
            for (node, since) in get.asked.drain(..) {
                self.reply_times.on_timeout(now.time, node, now.time.since(since));
            }
        }
        let next = get.hedge_at.map_or(get.attempt_at, |at| at.min(get.attempt_at)).min(deadline);
        self.wake_at(entry, Some(next));
        self.drive_get(now, entry, fx);
    }

    pub(super) fn on_get_deadline(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        if let Some(verdict) = get.machine.on_deadline() {
            self.tell_get(entry, verdict, fx);
        }
    }

    /// A read has met nothing where its reader has seen something: all primaries are asked once more.
    fn look_again(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let deadline = self.entries.get(&entry).map(|known| known.deadline);
        let (Some(deadline), Some(Work::Get(get))) = (deadline, self.take_out(entry)) else { return };
        self.waiting -= 1;
        let GetEntry { client, place, machine, .. } = *get;
        let terms = machine.terms_to_look_again();
        self.begin_get(now, client, place, terms, deadline, fx);
    }

    fn tell_get(&mut self, entry: u64, verdict: GetVerdict, fx: &mut Effects) {
        let response = self.get_response(entry, verdict);
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get(&entry) else { return };
        match &response.result {
            Ok(Reply::Get(reply)) => {
                self.counters.gets_answered += 1;
                self.counters.gets_with_siblings += u64::from(reply.siblings.len() > 1);
                self.counters.stand_in_reads += u64::from(reply.acks.iter().any(|ack| ack.stand_in));
            }
            Err(ApiError::Stale { .. }) => self.counters.stale += 1,
            Err(ApiError::Unavailable { .. }) => self.counters.gets_unavailable += 1,
            _ => self.counters.gets_timed_out += 1,
        }
        let output = Output::Respond { to: get.client, response };
        // What was read here in this drain may be in the batch that is to be written yet; what was read before is written.
        let rests = get.shown_in == Some(self.drains);
        if rests {
            fx.after_written.push(output);
        } else {
            fx.unbound.push(output);
        }
        self.answered(entry, false);
    }

    fn end_if_finished(&mut self, entry: u64) {
        let finished = matches!(self.entries.get(&entry),
            Some(Entry { work: Work::Get(get), .. }) if get.machine.is_finished());
        if finished {
            self.end(entry);
        }
    }

    fn get_response(&self, entry: u64, verdict: GetVerdict) -> Response {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get(&entry) else {
            unreachable!("the caller holds this get");
        };
        let quorum = get.machine.quorum();
        let missing = || get.machine.tally().missing(|node| self.name_of(node));
        match verdict {
            GetVerdict::Answer { object, acks, repaired } => {
                let (siblings, values) = object.as_ref().map(|object| shown(&get.place, object)).unwrap_or_default();
                let context = object.map(|object| self.seal(&get.place, object.context()));
                let reply = GetReply { siblings, context, acks, repaired, n: quorum.n(), r: quorum.r() };
                Response::of(Ok(Reply::Get(reply)), values)
            }
            GetVerdict::Timeout { replies } => {
                Response::error(ApiError::ReadTimeout { replies, r: quorum.needed(), detail: missing() })
            }
            GetVerdict::Unavailable { able, wanted, kind } => {
                let failings = get.machine.tally().failings(|node| self.name_of(node));
                let reasons = [self.away(&get.place), failings].into_iter().filter(|reason| !reason.is_empty());
                let detail = format!("{kind}{}", reasons.collect::<Vec<_>>().join("; "));
                Response::error(ApiError::Unavailable { able, wanted, detail })
            }
            GetVerdict::LookAgain => unreachable!("nobody is told to wait"),
            GetVerdict::Stale => Response::error(ApiError::Stale { detail: missing() }),
            GetVerdict::Unrepaired { durable, wanted } => {
                let detail =
                    "these have answered and hold the result on their disks; the others were not repaired in time";
                Response::error(ApiError::ReadTimeout { replies: durable, r: wanted, detail: detail.into() })
            }
        }
    }

    /// Which primaries cannot be reached, for people.
    fn away(&self, place: &Place) -> String {
        let away = place.slots.iter().filter(|node| !self.is_usable(**node));
        let names: Vec<String> = away.map(|node| format!("{} cannot be reached", self.name_of(*node))).collect();
        names.join("; ")
    }
}

/// What a reader of this bucket is shown of an object.
fn shown(place: &Place, object: &Arc<Object>) -> (Vec<api::SiblingMeta>, Vec<bytes::Bytes>) {
    if place.last_write_wins { newest_of(object) } else { siblings_of(object) }
}
