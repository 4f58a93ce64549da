//! Hinted handoff, carried out: its commands become operations and requests, and what comes back goes to it.

use super::entry::{Entry, HandoffEntry, Work};
use super::{Shard, ShardCounters, request_id};
use crate::antientropy::{Command, HintBacklog, JobId, Ticket};
use crate::api::HintOrder;
use crate::message::{Address, PeerRequest, Reason, Refusal, Replicate};
use crate::node::effects::{Effects, Output, Purpose};
use crate::ring::Slot;
use crate::storage::{HintChange, HintPage, Op, OpFailure, Outcome, Task, parse_object_key};
use crate::types::{Bucket, Key, NodeId, Now, Time};

impl Shard {
    /// What is kept for other nodes, by node.
    pub fn hints(&self) -> Vec<HintBacklog> {
        self.handoff.backlog()
    }

    /// Whether these are all: those of an earlier run are counted after the start.
    pub fn hints_are_counted(&self) -> bool {
        self.handoff.is_counted()
    }

    /// Whether a hint that no acknowledgement rests on may be given for an object of so many bytes. A no is counted.
    pub(super) fn may_hint_uncounted(&mut self, bytes: usize) -> bool {
        self.handoff.may_hint_uncounted(bytes)
    }

    pub(super) fn hint_counters(&self) -> ShardCounters {
        let done = self.handoff.counters();
        let (hints_waiting, hint_bytes) = self.handoff.waiting();
        ShardCounters {
            hints_written: done.written,
            hints_replayed: done.replayed,
            hints_rerouted: done.rerouted,
            hints_expired: done.expired,
            hints_refused: done.refused,
            hints_dropped: done.discarded,
            hints_unreadable: done.unreadable,
            hints_waiting,
            hint_bytes,
            ..self.counters
        }
    }

    pub(super) fn hints_timeout(&self) -> Option<Time> {
        let at_once = (!self.synced_hints.is_empty()).then_some(Time::ZERO);
        at_once.or(self.handoff.poll_timeout())
    }

    /// Lets the handoff act, and carries out what it says.
    fn hand_off(&mut self, now: Now, fx: &mut Effects, act: impl FnOnce(&mut Shard, &mut Vec<Command>)) {
        let mut commands = Vec::new();
        act(self, &mut commands);
        for command in commands {
            match command {
                Command::Read { ticket, spec } => fx.hint_pages.push((ticket, spec)),
                Command::Look { job, target, key } => {
                    fx.tasks.push(Task { purpose: Purpose::Hint(job), key, op: Op::ReadHint { target } });
                }
                Command::LookAgain { job, target, key, round } => {
                    fx.tasks.push(Task { purpose: Purpose::Adopt, key: key.clone(), op: Op::Adopt { round } });
                    fx.tasks.push(Task { purpose: Purpose::Hint(job), key, op: Op::ReadHint { target } });
                }
                Command::Drop { job, target, key, digest, sent, keep_object } => {
                    let op = Op::DropHint { target, digest, sent, keep_object };
                    fx.tasks.push(Task { purpose: Purpose::HintEnd(job), key, op });
                }
                Command::Forget { index_key } => fx.unindex.push(index_key),
                Command::Discard { job, target, key, counted_too, keep_object } => {
                    let op = Op::DiscardHint { target, counted_too, keep_object };
                    fx.tasks.push(Task { purpose: Purpose::HintEnd(job), key, op });
                }
                Command::Send { job, to, key, object, round } => {
                    let Some(address) = self.address_of(&key) else { continue };
                    let missing = (0..).map(Slot).take(to.len()).collect();
                    self.handing_off += 1;
                    let deadline = now.time + self.config.request_timeout;
                    let work = HandoffEntry { job, to: to.clone(), missing };
                    let entry = self.enter(now, deadline, Work::Hint(Box::new(work)));
                    for (slot, node) in (0..).map(Slot).zip(to) {
                        if node == self.node {
                            fx.sync = true;
                            self.unwritten.hints.push(entry);
                            continue;
                        }
                        let replicate = Replicate {
                            to: address.clone(),
                            reason: Reason::Hint,
                            hint_for: None,
                            sync: true,
                            round,
                            trace: false,
                            object: object.clone(),
                        };
                        let request = PeerRequest::Replicate(replicate);
                        fx.after_written.push(Output::Request { node, id: request_id(entry, slot), request });
                    }
                }
            }
        }
    }

    /// How peers are told of an object of this store.
    pub(super) fn address_of(&self, key: &[u8]) -> Option<Address> {
        let place = parse_object_key(key).ok()?;
        Some(Address {
            ring: self.view.as_ref()?.version(),
            partition: place.partition,
            bucket: Bucket::new(place.bucket).ok()?,
            key: Key::new(place.key.to_vec()).ok()?,
        })
    }

    /// A node can be reached now, or no longer.
    pub(super) fn on_usability(&mut self, now: Now, node: NodeId, fx: &mut Effects) {
        // Not whether it has been silent: nobody says when it is heard of again, and a request that is held back for its
        // silence fails like any other.
        let reached = self.is_heard_of(node);
        self.hand_off(now, fx, |shard, out| shard.handoff.on_reach(now, node, reached, out));
        self.exchange(now, fx, |exchange, out| exchange.on_reach(now, node, reached, out));
        self.reap(now, fx, |reaper, out| reaper.on_reach(now, node, reached, out));
    }

    /// The ring has become known, or who this node is.
    pub(super) fn on_hints_ring(&mut self, now: Now, fx: &mut Effects) {
        self.handoff.set_node(self.node);
        let Some(view) = self.serving_view().cloned() else { return };
        self.hand_off(now, fx, |shard, out| shard.handoff.on_ring(now, view, out));
    }

    pub(super) fn on_hints_timer(&mut self, now: Now, fx: &mut Effects) {
        for entry in std::mem::take(&mut self.synced_hints) {
            let Some(Entry { work: Work::Hint(hint), .. }) = self.entries.get(&entry) else { continue };
            let Some(own) = hint.to.iter().position(|node| *node == self.node) else { continue };
            let own = Slot(u8::try_from(own).expect("a key has at most 16 primaries"));
            self.on_hint_answer(now, entry, own, self.node, &Ok(true), fx);
        }
        self.hand_off(now, fx, |shard, out| shard.handoff.on_timer(now, out));
    }

    pub(super) fn on_hints_read(
        &mut self,
        now: Now,
        ticket: Ticket,
        page: Result<HintPage, OpFailure>,
        fx: &mut Effects,
    ) {
        self.hand_off(now, fx, |shard, out| shard.handoff.on_page(now, ticket, page, out));
    }

    pub(super) fn on_hint_order(&mut self, now: Now, order: HintOrder, fx: &mut Effects) {
        self.hand_off(now, fx, |shard, out| match order {
            HintOrder::Flush { target } => shard.handoff.flush(now, target, out),
            HintOrder::Drop { target } => shard.handoff.discard(now, target, out),
        });
    }

    /// Operations have given, changed or dropped hints.
    pub(super) fn on_hinted(&mut self, now: Now, changes: Vec<HintChange>, fx: &mut Effects) {
        self.hand_off(now, fx, |shard, out| shard.handoff.on_changes(now, changes, out));
    }

    pub(super) fn on_hint_found(&mut self, now: Now, job: JobId, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        let found = result.map(|outcome| match outcome {
            Outcome::Hint(found) => found,
            other => unreachable!("a hint was read, not {other:?}"),
        });
        self.hand_off(now, fx, |shard, out| shard.handoff.on_found(now, job, found, out));
    }

    pub(super) fn on_hint_dropped(
        &mut self,
        now: Now,
        job: JobId,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        let end = result.map(|outcome| match outcome {
            Outcome::HintDropped(end) => end,
            other => unreachable!("a hint was dropped, not {other:?}"),
        });
        self.hand_off(now, fx, |shard, out| shard.handoff.on_dropped(now, job, end, out));
    }

    /// A node has answered for an object of a hint; only a durable yes counts.
    pub(super) fn on_hint_answer(
        &mut self,
        now: Now,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: &Result<bool, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Hint(hint), .. }) = self.entries.get_mut(&entry) else { return };
        if hint.to.get(usize::from(slot.0)) != Some(&from) {
            self.counters.stray_answers += 1;
            return;
        }
        let job = hint.job;
        if *outcome != Ok(true) {
            self.end(entry);
            self.hand_off(now, fx, |shard, out| match outcome {
                Err(Refusal::Fenced(round)) => shard.handoff.on_fenced(job, *round, out),
                Err(Refusal::Storage) => shard.handoff.on_unreadable(now, job, out),
                _ => shard.handoff.on_failed(now, job, out),
            });
            return;
        }
        hint.missing.retain(|missing| *missing != slot);
        if hint.missing.is_empty() {
            self.end(entry);
            self.hand_off(now, fx, |shard, out| shard.handoff.on_acknowledged(now, job, out));
        }
    }

    /// Nobody has answered in time; the caller ends the entry.
    pub(super) fn on_hint_deadline(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Hint(hint), .. }) = self.entries.get(&entry) else { return };
        let job = hint.job;
        self.hand_off(now, fx, |shard, out| shard.handoff.on_failed(now, job, out));
    }
}
