//! What became of the requests that ask to be told: a log of each, kept apart from the entries so that the others pay nothing
//! but the question whether there is any.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::{Origin, Work};
use super::{MAX_DEADLINE, Shard, refusal_of, request_slot};
use crate::api::{HandedOn, HintKept, Reply, Role, Span, SpanOutcome, Timing, Trace, Why};
use crate::message::{Found, PeerAnswer, PeerRequest, Reason};
use crate::node::effects::{Output, PeerRef, Purpose};
use crate::ring::Slot;
use crate::storage::{Done, Outcome};
use crate::types::{NodeId, Time};

/// Requests that are traced at the same time; for one more the oldest is answered without its trace.
const MAX_TRACED: usize = 64;
/// Peers' requests that are timed at the same time; those beyond are answered without.
const MAX_TIMED: usize = 1024;

/// A point of a drain at which what is traced is dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All that the store could do at once is done.
    Stored,
    /// The batch is in the log; `syncs`: and waits for a sync.
    Written {
        /// Whether it does.
        syncs: bool,
    },
    /// A sync is begun of all that is in the log.
    SyncBegun,
    /// What was in the log when the sync was begun is on the disk.
    Synced,
    /// The batch could not be written.
    NotWritten,
    /// What waited for a sync could not be synced.
    NotSynced,
}

/// A peer's request that asks for its timing.
#[derive(Clone, Copy, Debug)]
struct Taken {
    arrived: Time,
    taken: Time,
}

/// Where the coordinator's own part has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    /// Nothing to be dated.
    Idle,
    /// Its record has been read, in this drain.
    Read,
    /// Its write is in the batch that is being gathered.
    Gathered,
    /// That batch is dated, but not yet written.
    Batched,
    /// It is written, and waits for a sync.
    Unsynced,
    /// That sync is under way.
    Syncing,
}

/// One traced request.
#[derive(Debug)]
struct Log {
    origin: Origin,
    arrived: Time,
    entry: Option<u64>,
    own: Own,
    /// Whether the first round of requests has left.
    begun: bool,
    /// Those asked since, or although enough had answered.
    widened: Vec<(Slot, NodeId)>,
    trace: Trace,
    /// When it was handed on.
    sent_us: Option<u64>,
    /// What the node that it was handed to has told.
    elsewhere: Option<Box<Trace>>,
}

/// All traced requests of a shard.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    logs: Vec<Log>,
    timed: BTreeMap<PeerRef, Taken>,
    /// Whose request is being taken up.
    current: Option<Origin>,
}

impl Tracer {
    /// Whether anything is traced.
    pub fn is_on(&self) -> bool {
        !self.logs.is_empty() || !self.timed.is_empty()
    }

    /// A request is taken up; what it enters until [`Tracer::taken_up`] is its.
    pub fn begin(&mut self, now: Time, origin: Origin, arrived: Time) {
        self.logs.retain(|log| now.since(log.arrived) < MAX_DEADLINE * 2);
        if self.logs.len() >= MAX_TRACED {
            self.logs.remove(0);
        }
        let trace = Trace {
            coordinator: NodeId(0),
            handed_on: None,
            queued_us: micros(now.since(arrived)),
            store_us: None,
            written_us: None,
            synced_us: None,
            answered_us: 0,
            spans: Vec::new(),
            hints: Vec::new(),
        };
        let (entry, own, begun, widened) = (None, Own::Idle, false, Vec::new());
        self.logs.push(Log { origin, arrived, entry, own, begun, widened, trace, sent_us: None, elsewhere: None });
        self.current = Some(origin);
    }

    /// The request has been taken up, or refused.
    pub fn taken_up(&mut self) {
        self.current = None;
    }

    /// A request that was handed on in vain is taken up again.
    pub fn resume(&mut self, entry: u64) {
        let log = self.logs.iter_mut().find(|log| log.entry == Some(entry));
        self.current = log.map(|log| {
            log.entry = None;
            log.origin
        });
    }

    /// What is being taken up has this entry.
    pub fn on_entered(&mut self, entry: u64) {
        let Some(origin) = self.current else { return };
        if let Some(log) = self.logs.iter_mut().find(|log| log.origin == origin && log.entry.is_none()) {
            log.entry = Some(entry);
        }
    }

    fn of(&mut self, entry: u64) -> impl Iterator<Item = &mut Log> {
        self.logs.iter_mut().filter(move |log| log.entry == Some(entry))
    }

    /// A peer asks for a request's timing, or hands on one that is traced.
    pub fn on_peer(&mut self, now: Time, from: PeerRef, arrived: Time, request: &PeerRequest) {
        if matches!(request, PeerRequest::Coordinate(_)) {
            self.begin(now, Origin::Peer(from), arrived);
            return;
        }
        self.timed.retain(|_, taken| now.since(taken.taken) < MAX_DEADLINE * 2);
        if self.timed.len() < MAX_TIMED {
            self.timed.insert(from, Taken { arrived, taken: now });
        }
    }

    /// A read is about to ask a node; `enough` have answered already, but with too old a result.
    pub fn on_ask(&mut self, entry: u64, slot: Slot, node: NodeId, enough: bool) {
        self.of(entry).filter(|log| log.begun || enough).for_each(|log| log.widened.push((slot, node)));
    }

    /// The coordinator stands in for a slot itself; a put's copy is a hint for `target`.
    pub fn on_stand_in(&mut self, now: Time, entry: u64, slot: Slot, target: Option<NodeId>, node: NodeId) {
        for log in self.of(entry) {
            let asked_us = log.at(now);
            log.trace.spans.push(Span { hint_for: target, ..span(node, slot, Role::StandIn, Why::StandIn, asked_us) });
        }
    }

    /// The coordinator keeps hints.
    pub fn on_hints(&mut self, entry: u64, holder: NodeId, targets: impl Iterator<Item = NodeId> + Clone) {
        for log in self.of(entry) {
            log.trace.hints.extend(targets.clone().map(|target| HintKept { holder, target }));
        }
    }

    /// A node has answered.
    pub fn on_answer(&mut self, now: Time, entry: u64, slot: Slot, from: NodeId, answer: &PeerAnswer) {
        if self.is_on() {
            self.of(entry).for_each(|log| log.on_answer(now, slot, from, answer));
        }
    }
}

impl Shard {
    /// Whether anything is traced, so that the clock is worth reading.
    pub fn is_tracing(&self) -> bool {
        self.tracer.is_on()
    }

    /// A request has begun.
    pub(super) fn trace_entered(&mut self, entry: u64, work: &Work) {
        if self.tracer.current.is_none() {
            return;
        }
        self.tracer.on_entered(entry);
        let own = match work {
            Work::Put(put) => put.place.own,
            Work::Get(get) => get.place.own,
            _ => None,
        };
        let (node, now) = (self.node, self.time);
        let Some(slot) = own else { return };
        for log in self.tracer.of(entry) {
            let asked_us = log.at(now);
            log.trace.spans.push(span(node, slot, Role::Own, Why::First, asked_us));
        }
    }

    /// This node's own store has done its part.
    pub fn trace_done(&mut self, (purpose, result): &Done<Purpose>) {
        if !self.tracer.is_on() {
            return;
        }
        let (entry, own) = match *purpose {
            Purpose::Read(entry) => (entry, Own::Read),
            Purpose::Mint(entry) | Purpose::Rewrite(entry) | Purpose::StandIn { entry, .. } => (entry, Own::Gathered),
            _ => return,
        };
        let (node, rebuilding) = (self.node, self.entry_may_lack(entry));
        for log in self.tracer.of(entry) {
            log.own = own;
            let Some(span) = log.trace.spans.iter_mut().find(|span| span.node == node) else { continue };
            span.outcome = match result {
                Err(failure) => Some(SpanOutcome::Refused { reason: refusal_of(failure).to_string() }),
                Ok(Outcome::TooManySiblings { .. }) => {
                    Some(SpanOutcome::Refused { reason: "there are too many siblings".into() })
                }
                Ok(Outcome::Read { object: found, .. }) if own == Own::Read => {
                    let blank = found.is_none() && span.role == Role::StandIn;
                    Some(if rebuilding || blank { SpanOutcome::Heard } else { SpanOutcome::Counted })
                }
                // Once it is written.
                Ok(_) => None,
            };
        }
    }

    /// The drain has come so far.
    pub fn trace_step(&mut self, step: Step, at: Time) {
        let node = self.node;
        self.tracer.logs.iter_mut().for_each(|log| log.on_step(step, at, node));
    }

    /// These leave now: requests are dated, answers get their timing, those who asked get their traces.
    pub fn trace_leaving(&mut self, at: Time, outputs: &mut [Output]) {
        for output in outputs {
            match output {
                Output::Request { node: to, id, request } => {
                    let reachable = self.reachable.contains(to);
                    let slot = request_slot(*id);
                    self.tracer.of(*id >> 8).for_each(|log| log.on_request(at, *to, slot, request, reachable));
                }
                Output::Answer { to, answer: PeerAnswer::Coordinated(coordinated) } => {
                    coordinated.trace = self.finish_trace(at, Origin::Peer(*to), &[]);
                }
                Output::Answer { to, answer } => {
                    let Some(Taken { arrived, taken }) = self.tracer.timed.remove(to) else { continue };
                    let queue_us = micros(taken.since(arrived));
                    let timing = Some(Timing { queue_us, store_us: micros(at.since(taken)) });
                    match answer {
                        PeerAnswer::Replicated(replicated) => replicated.timing = timing,
                        PeerAnswer::Fetched(fetched) => fetched.timing = timing,
                        PeerAnswer::Coordinated(_)
                        | PeerAnswer::Ranged(_)
                        | PeerAnswer::Exchange(_)
                        | PeerAnswer::Reaping(_)
                        | PeerAnswer::Rounds(_) => {}
                    }
                }
                Output::Respond { to, response } => {
                    let repaired = match &response.result {
                        Ok(Reply::Get(reply)) => &reply.repaired[..],
                        _ => &[],
                    };
                    response.trace = self.finish_trace(at, Origin::Client(*to), repaired);
                }
            }
        }
        // What is asked in later drains is not the first round.
        self.tracer.logs.iter_mut().for_each(|log| log.begun |= !log.trace.spans.is_empty());
    }

    /// The trace of an answer that leaves now; `repaired` are sent the result behind it.
    fn finish_trace(&mut self, at: Time, origin: Origin, repaired: &[NodeId]) -> Option<Box<Trace>> {
        let found = self.tracer.logs.iter().position(|log| log.origin == origin)?;
        let mut log = self.tracer.logs.remove(found);
        log.on_step(Step::Stored, at, self.node);
        let (answered_us, queued_us) = (log.at(at), log.trace.queued_us);
        if let (Some(mut elsewhere), Some(sent_us)) = (log.elsewhere, log.sent_us) {
            elsewhere.handed_on = Some(HandedOn { by: self.node, queued_us, sent_us, answered_us });
            return Some(elsewhere);
        }
        let mut trace = log.trace;
        trace.coordinator = self.node;
        trace.answered_us = answered_us;
        for node in repaired {
            let known = |why| trace.spans.iter().find(|span| span.node == *node && (span.why == Why::Repair) == why);
            if known(true).is_none() {
                let (slot, role) = known(false).map_or((0, Role::Primary), |span| (span.slot, span.role));
                trace.spans.push(span(*node, Slot(slot), role, Why::Repair, answered_us));
            }
        }
        Some(Box::new(trace))
    }
}

impl Log {
    fn at(&self, now: Time) -> u64 {
        micros(now.since(self.arrived))
    }

    fn on_step(&mut self, step: Step, at: Time, node: NodeId) {
        let us = self.at(at);
        let own = self.trace.spans.iter_mut().find(|span| span.node == node && span.why != Why::Repair);
        match (step, self.own) {
            (Step::Stored, Own::Read) => {
                self.trace.store_us = Some(us);
                self.own = Own::Idle;
                if let Some(span) = own {
                    span.answered_us = Some(us);
                }
            }
            (Step::Stored, Own::Gathered) => {
                self.trace.store_us = Some(us);
                self.own = Own::Batched;
            }
            (Step::Written { syncs: true }, Own::Batched) => {
                self.trace.written_us = Some(us);
                self.own = Own::Unsynced;
            }
            (Step::SyncBegun, Own::Unsynced) => self.own = Own::Syncing,
            (Step::Written { syncs: false }, Own::Batched) | (Step::Synced, Own::Syncing) => {
                let moment = if step == Step::Synced { &mut self.trace.synced_us } else { &mut self.trace.written_us };
                *moment = Some(us);
                self.own = Own::Idle;
                if let Some(span) = own {
                    span.answered_us = Some(us);
                    span.outcome.get_or_insert(SpanOutcome::Counted);
                }
            }
            (Step::NotWritten, Own::Gathered | Own::Batched) | (Step::NotSynced, Own::Unsynced | Own::Syncing) => {
                self.own = Own::Idle;
                if let Some(span) = own {
                    span.answered_us = Some(us);
                    span.outcome = Some(SpanOutcome::Refused { reason: "its disk failed".into() });
                }
            }
            _ => {}
        }
    }

    /// A request leaves, and is to bring back its timing.
    fn on_request(&mut self, at: Time, to: NodeId, slot: Slot, request: &mut PeerRequest, reachable: bool) {
        let asked_us = self.at(at);
        let widened = self.widened.contains(&(slot, to));
        let (why, hint_for) = match request {
            PeerRequest::Fetch(fetch) => {
                fetch.trace = true;
                let why = match (fetch.stand_in, fetch.hedge) {
                    (true, _) => Why::StandIn,
                    (false, true) => Why::Hedge,
                    (false, false) if widened => Why::Widened,
                    (false, false) => Why::First,
                };
                (why, None)
            }
            PeerRequest::Replicate(replicate) => {
                replicate.trace = true;
                let why = match (replicate.reason, replicate.hint_for) {
                    (Reason::Repair, _) => Why::Repair,
                    (_, Some(_)) => Why::StandIn,
                    (_, None) => Why::First,
                };
                (why, replicate.hint_for)
            }
            PeerRequest::Coordinate(_) => {
                self.sent_us = Some(asked_us);
                (Why::Coordinate, None)
            }
            PeerRequest::Range(_) | PeerRequest::Exchange(_) | PeerRequest::Reaping(_) | PeerRequest::Rounds(_) => {
                return;
            }
        };
        let repair = why == Why::Repair;
        let coordinate = why == Why::Coordinate;
        let again = self.trace.spans.iter_mut().find(|span| {
            (span.node, span.slot) == (to, slot.0)
                && (span.why == Why::Repair) == repair
                && (span.why == Why::Coordinate) == coordinate
        });
        match again {
            Some(span) => span.again_us.push(asked_us),
            None => {
                let role = if why == Why::StandIn { Role::StandIn } else { Role::Primary };
                let away = || SpanOutcome::Refused { reason: "it cannot be reached".into() };
                let outcome = (!reachable).then(away);
                self.trace.spans.push(Span { hint_for, outcome, ..span(to, slot, role, why, asked_us) });
            }
        }
    }

    fn on_answer(&mut self, now: Time, slot: Slot, from: NodeId, answer: &PeerAnswer) {
        let us = self.at(now);
        let fetches = self.trace.spans.iter().any(|span| span.why == Why::Repair);
        let repair = fetches && matches!(answer, PeerAnswer::Replicated(_));
        let coordinated = matches!(answer, PeerAnswer::Coordinated(_));
        let span = self.trace.spans.iter_mut().find(|span| {
            (span.node, span.slot) == (from, slot.0)
                && (span.why == Why::Repair) == repair
                && (span.why == Why::Coordinate) == coordinated
        });
        let Some(span) = span else { return };
        let refused = |reason: String| SpanOutcome::Refused { reason };
        let (timing, outcome) = match answer {
            PeerAnswer::Replicated(replicated) => {
                let outcome = match &replicated.outcome {
                    Ok(_) => SpanOutcome::Counted,
                    Err(refusal) => refused(refusal.to_string()),
                };
                (replicated.timing, outcome)
            }
            PeerAnswer::Fetched(fetched) => {
                let outcome = match &fetched.outcome {
                    Err(refusal) => refused(refusal.to_string()),
                    Ok(held) if held.rebuilding => SpanOutcome::Heard,
                    Ok(held) => match held.found {
                        Found::Nothing if span.role == Role::StandIn => SpanOutcome::Heard,
                        Found::Same(_) => SpanOutcome::SameDigest,
                        Found::Nothing | Found::Object(_) => SpanOutcome::Counted,
                    },
                };
                (fetched.timing, outcome)
            }
            PeerAnswer::Coordinated(coordinated) => {
                self.elsewhere = coordinated.trace.clone();
                let outcome = match &coordinated.outcome {
                    Ok(_) => SpanOutcome::Counted,
                    Err(error) => refused(error.to_string()),
                };
                (None, outcome)
            }
            PeerAnswer::Ranged(_) | PeerAnswer::Exchange(_) | PeerAnswer::Reaping(_) | PeerAnswer::Rounds(_) => return,
        };
        // A repeated answer says nothing new, unless the first was a refusal.
        if span.answered_us.is_none() || matches!(span.outcome, Some(SpanOutcome::Refused { .. })) {
            span.answered_us = Some(us);
            span.timing = timing;
            span.outcome = Some(outcome);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn span(node: NodeId, slot: Slot, role: Role, why: Why, asked_us: u64) -> Span {
    Span {
        node,
        slot: slot.0,
        role,
        why,
        asked_us,
        again_us: Vec::new(),
        answered_us: None,
        timing: None,
        outcome: None,
        hint_for: None,
    }
}

#[cfg(test)]
mod tests;
