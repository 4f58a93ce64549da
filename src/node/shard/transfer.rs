//! Objects on their way to another primary that lacks them: read here, sent by `Replicate`, each until it is answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Work};
use super::exchange::transfer_failure_of;
use super::{Shard, request_id};
use crate::antientropy::{Step, Transferred};
use crate::message::{ExchangeAnswer, PeerRequest, Reason, Refusal, Replicate, Wanted};
use crate::node::effects::{Effects, Output, PeerRef, Purpose};
use crate::ring::Slot;
use crate::storage::{Op, OpFailure, Outcome, Task};
use crate::types::{NodeId, Now, Round, Time};
use crate::version::Object;

/// Objects of a transfer that are under way at a time, at most.
pub(super) const MAX_UNDER_WAY: usize = 64;

/// Bytes of objects under way over all transfers of a shard, at most, but for one object each: they share lanes with what clients
/// wait for.
const MAX_BYTES: usize = 1 << 20;

/// Who waits for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// This node's exchange.
    Own(Step),
    /// The receiver, who has asked for the objects.
    Peer(PeerRef),
}

/// Objects on their way to one node. Nobody but an exchange waits for it.
#[derive(Debug)]
pub(super) struct TransferEntry {
    to: NodeId,
    purpose: For,
    /// Keys whose objects have not been read, with the slots of their requests. Each has one of its own: an answer that comes twice
    /// never counts for another key.
    left: VecDeque<(u8, Bytes)>,
    /// Being read, by the slot that their requests will have.
    reading: BTreeMap<u8, Bytes>,
    /// Read, and not sent for want of room.
    ready: VecDeque<(u8, Sent)>,
    /// Sent, and not answered.
    sent: BTreeMap<u8, Sent>,
    done: Transferred,
    /// What holds for all that is left: nothing more is sent.
    failure: Option<Refusal>,
}

/// An object on its way.
#[derive(Debug)]
struct Sent {
    key: Bytes,
    object: Arc<Object>,
    /// At which it was read.
    round: Round,
    /// When it left first, or was read, before it has.
    since: Time,
}

impl TransferEntry {
    fn under_way(&self) -> usize {
        self.reading.len() + self.ready.len() + self.sent.len()
    }

    fn is_over(&self) -> bool {
        let begun = !self.reading.is_empty() || !self.sent.is_empty();
        !begun && (self.failure.is_some() || self.left.is_empty() && self.ready.is_empty())
    }

    fn bytes(&self) -> usize {
        self.sent.values().map(|sent| sent.object.encoded_len()).sum()
    }
}

impl Shard {
    /// Begins to send a peer the objects of these keys, of which there are [`MAX_WANTED`](crate::message::MAX_WANTED) at most.
    pub(super) fn transfer(&mut self, now: Now, to: NodeId, purpose: For, keys: Vec<Bytes>, fx: &mut Effects) {
        let slot = |nth: usize| u8::try_from(nth).expect("no more are wanted or pushed at a time than there are slots");
        let work = TransferEntry {
            to,
            purpose,
            left: keys.into_iter().enumerate().map(|(nth, key)| (slot(nth), key)).collect(),
            reading: BTreeMap::new(),
            ready: VecDeque::new(),
            sent: BTreeMap::new(),
            done: Transferred::default(),
            failure: None,
        };
        let deadline = now.time + self.config.request_timeout;
        let entry = self.enter_background(now, deadline, Work::Transfer(Box::new(work)));
        self.go_on(now, entry, fx);
    }

    /// Whether the objects that a peer has asked for are on their way.
    pub(super) fn is_transferring_for(&self, peer: PeerRef) -> bool {
        let is_for = |entry: &Entry| matches!(&entry.work, Work::Transfer(one) if one.purpose == For::Peer(peer));
        self.exchanging > 0 && self.entries.values().any(is_for)
    }

    /// Sends what has been read, as far as there is room.
    fn send_ready(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        loop {
            let Some(Entry { work: Work::Transfer(transfer), .. }) = self.entries.get_mut(&entry) else { return };
            let Some((_, Sent { object, .. })) = transfer.ready.front().filter(|_| transfer.failure.is_none()) else {
                return;
            };
            let len = object.encoded_len();
            if !transfer.sent.is_empty() && self.transfer_bytes + len > MAX_BYTES {
                return;
            }
            let (slot, sent) = transfer.ready.pop_front().expect("it was looked at a moment ago");
            self.transfer_bytes += len;
            transfer.sent.insert(slot, Sent { since: now.time, ..sent });
            self.send_transfer(entry, |of, _| of == slot, fx);
        }
    }

    /// Reads as many more as may be under way; ends the transfer after the last.
    fn go_on(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        self.send_ready(now, entry, fx);
        let window = self.transfer_window;
        let Some(Entry { work: Work::Transfer(transfer), .. }) = self.entries.get_mut(&entry) else { return };
        while transfer.failure.is_none()
            && transfer.under_way() < window
            && let Some((slot, key)) = transfer.left.pop_front()
        {
            transfer.reading.insert(slot, key.clone());
            fx.tasks.push(Task { purpose: Purpose::Transfer { entry, slot: Slot(slot) }, key, op: Op::Read });
        }
        if transfer.is_over() {
            self.end_transfer(now, entry, fx);
        }
    }

    /// An object has been read, to be sent.
    pub(super) fn on_transfer_read(
        &mut self,
        now: Now,
        entry: u64,
        slot: Slot,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        let longest = self.config.max_object;
        let Some(Entry { work: Work::Transfer(transfer), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(key) = transfer.reading.remove(&slot.0) else { return };
        match result {
            Ok(Outcome::Read { object: Some(object), .. }) if object.encoded_len() > longest => {
                transfer.done.failed += 1;
                fx.too_long.push(key);
            }
            Ok(Outcome::Read { object: Some(object), round }) => {
                transfer.ready.push_back((slot.0, Sent { key, object, round, since: now.time }));
            }
            // It has gone since: there is nothing to be sent.
            Ok(_) => {}
            Err(OpFailure::Unreadable { .. } | OpFailure::Newer { .. }) => transfer.done.failed += 1,
            Err(OpFailure::Overloaded) => transfer.failure = Some(Refusal::Overloaded),
            Err(OpFailure::Stopped) => transfer.failure = Some(Refusal::ReadOnly),
        }
        self.go_on(now, entry, fx);
    }

    /// Sends again what has not been answered for an attempt's time: what left a moment ago may well be answered yet.
    pub(super) fn resend_transfer(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let attempt = self.config.attempt_timeout;
        let resent = self.send_transfer(entry, |_, sent| sent.since + attempt <= now.time, fx);
        self.counters.resent += resent;
    }

    /// Sends those that are with the receiver and that `is_meant`; how many.
    fn send_transfer(&self, entry: u64, is_meant: impl Fn(u8, &Sent) -> bool, fx: &mut Effects) -> u64 {
        let Some(Entry { work: Work::Transfer(transfer), .. }) = self.entries.get(&entry) else { return 0 };
        let mut count = 0;
        for (slot, Sent { key, object, round, .. }) in
            transfer.sent.iter().filter(|(slot, sent)| is_meant(**slot, sent))
        {
            let Some(to) = self.address_of(key) else { continue };
            let replicate = Replicate {
                to,
                reason: Reason::Exchange,
                hint_for: None,
                sync: false,
                round: *round,
                trace: false,
                object: object.clone(),
            };
            let request = PeerRequest::Replicate(replicate);
            count += 1;
            fx.after_written.push(Output::Request { node: transfer.to, id: request_id(entry, Slot(*slot)), request });
        }
        count
    }

    /// The receiver has merged an object, or will not.
    pub(super) fn on_transferred(
        &mut self,
        now: Now,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<bool, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Transfer(transfer), .. }) = self.entries.get_mut(&entry) else { return };
        let sent = if transfer.to == from { transfer.sent.remove(&slot.0) } else { None };
        let Some(Sent { key, object, .. }) = sent else {
            self.counters.stray_answers += 1;
            return;
        };
        self.transfer_bytes -= object.encoded_len();
        match outcome {
            Ok(_) => {
                transfer.done.sent += 1;
                transfer.done.bytes += object.encoded_len() as u64;
            }
            // It has met a reaping round since: what this node holds now is read again, in that round.
            Err(Refusal::Fenced(round)) => {
                transfer.reading.insert(slot.0, key.clone());
                let purpose = Purpose::Transfer { entry, slot };
                fx.tasks.push(Task { purpose, key, op: Op::Adopt { round } });
            }
            // What the receiver holds of this one key cannot be read.
            Err(Refusal::Storage | Refusal::Newer) => transfer.done.failed += 1,
            Err(refusal) => transfer.failure = Some(refusal),
        }
        self.go_on(now, entry, fx);
    }

    /// Its time is over: what has not been answered may have been merged or not.
    pub(super) fn on_transfer_deadline(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Transfer(transfer), .. }) = self.entries.get_mut(&entry) else { return };
        transfer.failure.get_or_insert(Refusal::Overloaded);
        self.end_transfer(now, entry, fx);
    }

    fn end_transfer(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Work::Transfer(transfer)) = self.end_background(entry) else { return };
        self.transfer_bytes -= transfer.bytes();
        let TransferEntry { purpose, done, failure, .. } = *transfer;
        match purpose {
            For::Own(step) => {
                let done = failure.map_or(Ok(done), |refusal| Err(transfer_failure_of(&refusal)));
                self.exchange(now, fx, |exchange, out| exchange.on_pushed(now, step, done, out));
            }
            For::Peer(asker) => {
                let wanted = Wanted { sent: done.sent, failed: done.failed, bytes: done.bytes };
                super::compared::answer(asker, ExchangeAnswer::Wanted(failure.map_or(Ok(wanted), Err)), fx);
            }
        }
    }
}
