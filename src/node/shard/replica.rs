//! Requests of peers: merge what they send, say what this node holds, coordinate what they hand on.

use super::entry::Origin;
use super::outcome::answer_put;
use super::page::spec_of;
use super::{Shard, refusal_of};
use crate::api::ApiError;
use crate::message::{
    Address, Coordinate, Fetch, Fetched, Found, Held, PeerAnswer, PeerRequest, Range, Ranged, Reason, Refusal,
    Replicate, Replicated,
};
use crate::node::effects::{Asker, Effects, Lack, Output, PeerRef, Purpose};
use crate::ring::PreferenceList;
use crate::storage::keys::token_of;
use crate::storage::merkle::Place;
use crate::storage::{NewHint, Op, OpFailure, Outcome, Page, Task, object_key};
use crate::types::{NodeId, Now, Time};
use crate::version::Digest;

impl Shard {
    pub(super) fn handle_peer(
        &mut self,
        now: Now,
        from: PeerRef,
        arrived: Option<Time>,
        request: PeerRequest,
        fx: &mut Effects,
    ) {
        if let Some(arrived) = arrived {
            self.tracer.on_peer(now.time, from, arrived, &request);
        }
        match request {
            PeerRequest::Coordinate(coordinate) => self.on_coordinate(now, from, coordinate, fx),
            PeerRequest::Replicate(replicate) => self.on_replicate(from, replicate, fx),
            PeerRequest::Fetch(fetch) => match self.locate_for_read(&fetch) {
                Ok(key) => {
                    let place = self.leaf_of(fetch.of.partition, &fetch.of.bucket, token_of(&key));
                    let purpose = Purpose::Fetch { asker: from, known: fetch.known, place };
                    fx.tasks.push(Task { purpose, key, op: Op::Read });
                }
                Err(refusal) => self.refuse_fetch(from, refusal, fx),
            },
            PeerRequest::Range(range) => self.on_range(from, &range, fx),
            PeerRequest::Exchange(request) => self.on_exchange_request(now, from, request, fx),
            PeerRequest::Reaping(request) => self.on_reaping(now, Asker::Peer(from), &request, fx),
            PeerRequest::Rounds(asked) => self.on_ask_rounds(from, &asked, fx),
        }
    }

    /// The store's key of what a peer means and its preference list, if this node follows the same ring.
    fn find(&self, address: &Address) -> Result<(bytes::Bytes, &PreferenceList), Refusal> {
        let view = self.serving_view().ok_or(Refusal::NotReady)?;
        if view.version() != address.ring {
            return Err(Refusal::Ring(view.version()));
        }
        let (partition, token) = view.partition_of(&address.bucket, &address.key);
        let list = view.preference(partition, &address.bucket).filter(|_| partition == address.partition);
        let key = object_key(partition, token, &address.bucket, &address.key);
        Ok((key.into(), list.ok_or(Refusal::NotAReplica)?))
    }

    /// The store's key of what a peer means, if this node has a slot of it; or no slot of it, and stands in for the primary `away`.
    fn locate(&self, address: &Address, away: Option<NodeId>) -> Result<bytes::Bytes, Refusal> {
        let (key, list) = self.find(address)?;
        let holds = match away {
            None => list.slot_of(self.node).is_some(),
            Some(away) => list.slot_of(self.node).is_none() && list.slot_of(away).is_some(),
        };
        if holds { Ok(key) } else { Err(Refusal::NotAReplica) }
    }

    /// The same for a reader, who may ask anybody for what he holds in place of a primary.
    fn locate_for_read(&self, fetch: &Fetch) -> Result<bytes::Bytes, Refusal> {
        if fetch.stand_in { self.find(&fetch.of).map(|(key, _)| key) } else { self.locate(&fetch.of, None) }
    }

    fn on_replicate(&mut self, asker: PeerRef, replicate: Replicate, fx: &mut Effects) {
        let Replicate { to, reason, sync, object, round, hint_for, .. } = replicate;
        match self.locate(&to, hint_for) {
            Ok(_) if self.read_only.is_some() => self.refuse_replicate(asker, Refusal::ReadOnly, fx),
            Ok(_) if sync && !self.takes_synced(reason) => {
                self.refuse_replicate(asker, Refusal::Overloaded, fx);
            }
            Ok(_) if !self.is_joined(to.partition) => self.refuse_replicate(asker, Refusal::NotReady, fx),
            Ok(key) => {
                let hint_for = hint_for.filter(|_| !mutant!(StandInKeepsNoHint));
                let hints = hint_for.map(|target| NewHint::counted(target, self.wall_ms)).into_iter().collect();
                let op = Op::Merge { object, round, hints };
                fx.tasks.push(Task { purpose: Purpose::Merge { asker, sync }, key, op });
            }
            Err(refusal) => self.refuse_replicate(asker, refusal, fx),
        }
    }

    /// Whether one more may wait here for a sync.
    fn takes_synced(&self, reason: Reason) -> bool {
        let behind =
            if reason.is_background() { self.is_half_behind_with_syncs() } else { self.is_behind_with_syncs() };
        !behind && !self.is_stuck_syncing()
    }

    /// A peer's object is merged into the batch: acknowledged when that is written, or on the disk.
    pub(super) fn on_merged(
        &mut self,
        now: Now,
        asker: PeerRef,
        sync: bool,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        match result {
            Ok(Outcome::Merged { incoming }) => {
                self.counters.merged += 1;
                self.memory.learn(now.time, &incoming);
                let answer = PeerAnswer::Replicated(Replicated { outcome: Ok(sync), timing: None });
                let output = Output::Answer { to: asker, answer };
                fx.sync |= sync;
                if sync { fx.after_durable.push(output) } else { fx.after_written.push(output) }
            }
            Ok(Outcome::Fenced { round }) => self.refuse_replicate(asker, Refusal::Fenced(round), fx),
            Ok(_) => unreachable!("a merge ends in Merged or Fenced"),
            Err(failure) => self.refuse_replicate(asker, refusal_of(&failure), fx),
        }
    }

    fn refuse_replicate(&mut self, to: PeerRef, refusal: Refusal, fx: &mut Effects) {
        self.counters.refused += 1;
        let answer = PeerAnswer::Replicated(Replicated { outcome: Err(refusal), timing: None });
        fx.after_written.push(Output::Answer { to, answer });
    }

    pub(super) fn on_fetched(
        &mut self,
        asker: PeerRef,
        known: Option<Digest>,
        place: Option<Place>,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        match result {
            Ok(Outcome::Read { object, round }) => {
                let found = match (object, known) {
                    (None, _) => Found::Nothing,
                    (Some(object), Some(known)) if object.digest() == known => Found::Same(known),
                    (Some(object), _) => Found::Object(object),
                };
                let held = Held { found, round, rebuilding: self.leaf_may_lack(place) };
                let answer = PeerAnswer::Fetched(Fetched { outcome: Ok(held), timing: None });
                fx.after_written.push(Output::Answer { to: asker, answer });
            }
            Ok(_) => unreachable!("a read ends in Read"),
            Err(failure) => self.refuse_fetch(asker, refusal_of(&failure), fx),
        }
    }

    fn refuse_fetch(&mut self, to: PeerRef, refusal: Refusal, fx: &mut Effects) {
        self.counters.refused += 1;
        let answer = PeerAnswer::Fetched(Fetched { outcome: Err(refusal), timing: None });
        fx.after_written.push(Output::Answer { to, answer });
    }

    fn on_range(&mut self, asker: PeerRef, range: &Range, fx: &mut Effects) {
        let refusal = match self.serving_view() {
            None => Some(Refusal::NotReady),
            Some(view) if view.version() != range.ring => Some(Refusal::Ring(view.version())),
            Some(view) => {
                let exists = u32::from(range.partition.0) < view.layout().partitions().count();
                let list = exists.then(|| view.preference(range.partition, &range.bucket)).flatten();
                list.and_then(|list| list.slot_of(self.node)).is_none().then_some(Refusal::NotAReplica)
            }
        };
        match refusal {
            None => {
                let lack = self.range_lack(range.partition, &range.bucket);
                fx.pages.push((Purpose::Range { asker, lack }, spec_of(range)));
            }
            Some(refusal) => self.answer_range(asker, Err(refusal), fx),
        }
    }

    /// A peer's page has been read.
    pub fn on_page_read(&mut self, asker: PeerRef, lack: Lack, page: Result<Page, OpFailure>, fx: &mut Effects) {
        let outcome = page.map(|page| (page, self.has_lacked(lack))).map_err(|failure| refusal_of(&failure));
        self.answer_range(asker, outcome, fx);
    }

    fn answer_range(&mut self, to: PeerRef, outcome: Result<(Page, bool), Refusal>, fx: &mut Effects) {
        self.counters.refused += u64::from(outcome.is_err());
        let answer = PeerAnswer::Ranged(Ranged { outcome });
        fx.after_written.push(Output::Answer { to, answer });
    }

    /// A peer that has no slot of the key hands a client's put on. It is coordinated here or refused, never handed on again.
    fn on_coordinate(&mut self, now: Now, from: PeerRef, coordinate: Coordinate, fx: &mut Effects) {
        let origin = Origin::Peer(from);
        if let Err(error) = self.coordinate_for_peer(now, origin, coordinate, fx) {
            self.counters.refused += 1;
            answer_put(origin, Err(error), fx);
        }
        self.tracer.taken_up();
    }

    fn coordinate_for_peer(
        &mut self,
        now: Now,
        origin: Origin,
        coordinate: Coordinate,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let Coordinate { ring, partition, put } = coordinate;
        let elsewhere = |reason: &str| Err(ApiError::NotReady { reason: reason.into() });
        if self.draining {
            return elsewhere("it is about to stop");
        }
        if self.waiting >= self.config.max_inflight {
            return Err(ApiError::Overloaded);
        }
        let deadline: Time = super::request::expiry(now, now.time, put.header.deadline)?;
        let checked = self.check_put(&put)?;
        let address = &checked.place.address;
        // The partition chose the shard: a wrong one would have two shards mint for one key.
        if (address.ring, address.partition) != (ring, partition) || checked.place.own.is_none() {
            return elsewhere("it is no primary of the key");
        }
        self.coordinate(now, origin, put, checked, deadline, fx)
    }
}
