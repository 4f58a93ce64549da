//! The question of who holds what: every primary is asked, and silence is an answer too.

use super::entry::{Entry, WhereEntry, Work};
use super::request::respond;
use super::{Shard, request_id};
use crate::api::{self, ApiError, Holding, Reply, Response, WhereReply, siblings_of};
use crate::message::{Fetch, Found, Held, PeerRequest, Refusal};
use crate::node::effects::{ClientRef, Effects, Output, Purpose};
use crate::ring::Slot;
use crate::storage::{Op, Task};
use crate::types::{NodeId, Now, Time};

impl Shard {
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
        self.ask_where(entry, false, fx);
        Ok(())
    }

    /// Asks every primary that has not answered, but this node itself.
    pub(super) fn ask_where(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Where(asked), .. }) = self.entries.get(&entry) else { return };
        for (slot, node) in asked.open().filter(|(slot, _)| Some(*slot) != asked.place.own) {
            let fetch =
                Fetch { of: asked.place.address.clone(), known: None, stand_in: false, hedge: false, trace: false };
            self.counters.resent += u64::from(again);
            let request = PeerRequest::Fetch(fetch);
            fx.after_written.push(Output::Request { node, id: request_id(entry, slot), request });
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
            Ok(Held { found: Found::Nothing, .. }) => Holding::Nothing,
            Ok(Held { found: Found::Object(object), .. }) => {
                Holding::Version { digest: object.digest().to_string(), siblings: siblings_of(&object).0 }
            }
            Ok(Held { found: Found::Same(_), .. }) => {
                Holding::NoAnswer { reason: "it compares with what nobody named".into() }
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
