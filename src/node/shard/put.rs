//! Puts that this node coordinates: checked, handed on or begun, minted.

use super::Shard;
use super::entry::{Entry, ForwardEntry, Mint, Minted, Origin, Place, PutEntry, Work};
use super::memory::{Remembered, body_hash};
use crate::api::ApiError;
use crate::node::effects::{ClientRef, Effects, Purpose};
use crate::quorum::{Put, WriteQuorum};
use crate::ring::{Slot, coordinators_of};
use crate::storage::{Op, Task, Update};
use crate::types::{NodeId, Now, Time};
use crate::version::{Body, CausalContext};

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
        let quorum = if header.strict || !self.config.sloppy { quorum.of_primaries() } else { quorum };
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
        let known = self.writes.contains_key(&write_id)
            || self.memory.get(write_id).is_some_and(|write| write.object.is_some());
        if checked.place.own.is_none()
            && !known
            && let Some(to) = self.coordinator_of(&checked.place)
        {
            let machine = Put::new(checked.quorum, &checked.place.slots, 0);
            let forward =
                ForwardEntry { client: from, place: checked.place, to, put, context: checked.client, machine };
            self.forward(now, deadline, forward, fx);
            return Ok(());
        }
        self.coordinate(now, Origin::Client(from), put, checked, deadline, fx)
    }

    /// The primary that a put is handed to where this node has no slot; `None` if none can be reached.
    pub(super) fn coordinator_of(&self, place: &Place) -> Option<NodeId> {
        coordinators_of(&place.slots, place.token).into_iter().find(|node| self.is_usable(*node))
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
        // A known write has been minted: it may be anywhere, so its quorum is tried for.
        let spare = if remembered.is_some() { self.spares(&checked) } else { self.able(&checked)? };
        let syncs_here = checked.place.own.is_some() && checked.quorum.must_sync(true, true);
        if remembered.is_none() && syncs_here && self.is_behind_with_syncs() {
            return Err(ApiError::Overloaded);
        }
        let Checked { place, quorum, client } = checked;
        let machine = Put::new(quorum, &place.slots, spare);
        let (key, own) = (place.key.clone(), place.own);
        let mint = if remembered.is_some() { Mint::Reread } else { Mint::Awaited };
        let (origins, hinted) = (vec![origin], Vec::new());
        let entry = PutEntry { origins, place, machine, write_id, hash, client, mint, hinted };
        let entry = self.begin(now, deadline, Work::Put(Box::new(entry)));
        self.writes.insert(write_id, entry);
        match remembered {
            Some(Remembered { dot, object: Some((object, round)), .. }) => {
                self.replicate_minted(entry, Minted { dot, object, round }, fx);
            }
            Some(_) => fx.tasks.push(Task { purpose: Purpose::Rewrite(entry), key, op: Op::Read }),
            None => {
                let update = Box::new(self.update(now, entry, put.value));
                let (purpose, op) = if own.is_some() {
                    (Purpose::Mint(entry), Op::Update(update))
                } else {
                    // No slot of the key is here: the write is minted on nothing, stored nowhere here, and sent to all.
                    self.counters.puts_unowned += 1;
                    (Purpose::MintAway(entry), Op::Mint(update))
                };
                fx.tasks.push(Task { purpose, key, op });
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
        let Some(Entry { work: Work::Put(put), deadline: until, wake, .. }) = self.entries.get_mut(&entry) else {
            unreachable!("write ids under way point at puts");
        };
        if put.hash != hash || put.place.key != checked.place.key {
            return Err(ApiError::WriteIdReused);
        }
        self.counters.puts_repeated += 1;
        self.waiting += usize::from(put.origins.is_empty());
        *until = if put.origins.is_empty() { deadline } else { deadline.min(*until) };
        // One that waited for nobody but its disk makes attempts again.
        let wake = wake.unwrap_or(self.time + self.config.attempt_timeout).min(*until);
        put.origins.push(origin);
        self.tracer.on_entered(entry);
        let verdict = put.machine.on_joined(checked.quorum);
        let again = verdict.is_none() && put.minted().is_some();
        self.wake_at(entry, Some(wake));
        if again {
            self.replicate_again(entry, fx);
        }
        self.tell_put(entry, verdict, fx);
        Ok(())
    }

    /// What has joined asks for more than was asked of the replicas so far.
    fn replicate_again(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else { return };
        let own = put.machine.unsatisfied().filter(|(_, node)| *node == self.node).map(|(slot, _)| slot);
        let own: Vec<Slot> = own.collect();
        if !own.is_empty() && put.syncs_here() {
            fx.sync = true;
            // A copy that is yet to be written is acknowledged when it is, and not by the sync of something else.
            let written = own.into_iter().filter(|slot| !put.machine.tally().is_silent(*slot, self.node));
            let written = written.map(|slot| (entry, slot)).filter(|copy| !self.unwritten.puts.contains(copy));
            let written: Vec<_> = written.collect();
            self.unwritten.puts.extend(written);
        }
        self.call_stand_ins(entry, fx);
        self.send_put(entry, true, fx);
    }

    /// How many nodes beyond the key's primaries may be called to stand in.
    fn spares(&self, checked: &Checked) -> usize {
        if checked.quorum.is_strict() { 0 } else { self.stand_ins_of(&checked.place).len() }
    }

    /// As [`spares`](Shard::spares), if enough nodes can be reached for the quorum: a write that falls short for certain is
    /// not begun.
    fn able(&self, checked: &Checked) -> Result<usize, ApiError> {
        let (place, quorum) = (&checked.place, checked.quorum);
        let primaries = place.slots.iter().filter(|node| self.takes_writes(**node)).count();
        let wanted = usize::from(quorum.w().max(quorum.dw()));
        if primaries >= wanted && primaries >= usize::from(quorum.pw()) {
            return Ok(self.spares(checked));
        }
        let unavailable = |able: usize, wanted: u8, kind: &str| {
            let able = u8::try_from(able).expect("a bucket has at most 16 replicas");
            let away = place.slots.iter().filter(|node| !self.takes_writes(**node));
            let away: Vec<String> = away.map(|node| format!("{} is away", self.name_of(*node))).collect();
            Err(ApiError::Unavailable { able, wanted, detail: format!("{kind}{}", away.join("; ")) })
        };
        if primaries < usize::from(quorum.pw()) {
            return unavailable(primaries, quorum.pw(), "primaries; ");
        }
        let stand_ins = self.stand_ins_of(place).iter().filter(|node| self.takes_writes(**node)).count();
        let able = (primaries + stand_ins).min(place.slots.len());
        if able < wanted {
            return unavailable(able, quorum.w().max(quorum.dw()), "");
        }
        Ok(self.spares(checked))
    }

    /// Who may stand in for the primaries of a key, the first to call first; nobody if the ring has changed since.
    pub(super) fn stand_ins_of(&self, place: &Place) -> &[NodeId] {
        let address = &place.address;
        let view = self.view.as_ref().filter(|view| view.version() == address.ring);
        let list = view.and_then(|view| view.preference(address.partition, &address.bucket));
        list.map_or(&[], |list| list.stand_ins())
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
}
