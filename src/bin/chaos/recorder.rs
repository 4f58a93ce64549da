//! Makes the oracle's history of what clients ask and are told: pure, times are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dynkv::api::ApiError;
use dynkv::client::{ClientError, Value};
use dynkv::sim::oracle::{Conflict, Ending, Event, History, Holder, KeyId, Label, OpId, Shown};
use dynkv::types::{Time, WriteId};
use dynkv::version::Dot;

/// Replicas of each key.
pub const REPLICAS: u8 = 3;

/// A write as the recorder is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The key.
    pub key: String,
    /// The same for all attempts.
    pub id: WriteId,
    /// The value; none deletes.
    pub body: Option<Bytes>,
    /// Whose context it carries.
    pub basis: Option<OpId>,
}

/// See the module. Calls come in the order of their times.
#[derive(Debug, Default)]
pub struct Recorder {
    history: History,
    names: Vec<String>,
    by_name: BTreeMap<String, KeyId>,
    next_op: u32,
    /// Reads under way, by the places of their events.
    reads: BTreeMap<OpId, usize>,
    faults: u32,
}

impl Recorder {
    /// Of clients whose requests take `patience` at most.
    pub fn new(patience: Duration) -> Recorder {
        let history = History { replicas: REPLICAS, grace: patience * 2, reaps_unseen: true, ..History::default() };
        Recorder { history, ..Recorder::default() }
    }

    fn note(&mut self, at: Time, event: Event) {
        self.history.events.push((at, event));
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    fn key(&mut self, name: &str) -> KeyId {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        let key = KeyId(u32::try_from(self.names.len()).expect("a run has fewer than 2^32 keys"));
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), key);
        self.history.keys.push(Conflict::Siblings);
        key
    }

    /// An attempt at a write begins; before it is sent.
    pub fn write_begins(&mut self, at: Time, intent: &Intent) -> OpId {
        let (op, key) = (self.op(), self.key(&intent.key));
        let Intent { id, body, basis, .. } = intent.clone();
        self.note(at, Event::Write { op, key, write: id, body, basis });
        op
    }

    /// It is acknowledged.
    pub fn write_acked(&mut self, at: Time, op: OpId, dot: Dot, by: Vec<Holder>) {
        self.note(at, Event::Wrote { op, ending: Ending::Acked { label: label_of(dot), by } });
    }

    /// It ends without an acknowledgement.
    pub fn write_failed(&mut self, at: Time, op: OpId, error: &ClientError) -> Failure {
        let failure = Failure::of(error);
        let ending = if failure == Failure::Refused { Ending::Refused } else { Ending::Unknown };
        self.note(at, Event::Wrote { op, ending });
        failure
    }

    /// Its client does not wait for its end.
    pub fn write_given_up(&mut self, at: Time, op: OpId) {
        self.note(at, Event::Wrote { op, ending: Ending::Unknown });
    }

    /// A read begins; before it is sent.
    pub fn read_begins(&mut self, at: Time, key: &str) -> OpId {
        let (op, key) = (self.op(), self.key(key));
        self.reads.insert(op, self.history.events.len());
        self.note(at, Event::Read { op, key, replicas: 0 });
        op
    }

    /// A read is answered, by so many of the key's primaries among others.
    pub fn read_answered(&mut self, at: Time, op: OpId, siblings: &[Value], primaries: u8) {
        if let Some(Event::Read { replicas, .. }) =
            self.reads.remove(&op).map(|place| &mut self.history.events[place].1)
        {
            *replicas = primaries;
        }
        let siblings = siblings.iter().map(shown_by).collect();
        self.note(at, Event::Answered { op, siblings, stood_in: 0 });
    }

    /// A read fails.
    pub fn read_failed(&mut self, op: OpId) {
        self.reads.remove(&op);
    }

    /// One more fault is active.
    pub fn fault_began(&mut self, at: Time) {
        self.faults += 1;
        self.note(at, Event::FaultBegan);
    }

    /// One fault less is active.
    pub fn fault_ended(&mut self, at: Time) {
        self.faults -= 1;
        self.note(at, Event::FaultEnded);
    }

    /// What the replicas of a key hold at the end, merged.
    pub fn ends(&mut self, at: Time, key: &str, siblings: &[Value]) {
        let key = self.key(key);
        let siblings = siblings.iter().map(shown_by).collect();
        self.note(at, Event::Final { key, siblings });
    }

    /// The keys so far, by their number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// For the oracle, and for sabotage.
    pub fn history(&mut self) -> &mut History {
        &mut self.history
    }
}

/// Why a request has no result, as far as a history cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Surely without effect.
    Refused,
    /// Perhaps with an effect.
    Unknown,
    /// Nothing that this load should be told.
    Dishonest,
}

impl Failure {
    /// What an error says about a request of this load.
    pub fn of(error: &ClientError) -> Failure {
        match error {
            ClientError::Refused { error, .. } => match error {
                ApiError::Indeterminate { .. } | ApiError::ReadTimeout { .. } => Failure::Unknown,
                ApiError::TooManySiblings { .. }
                | ApiError::Unavailable { .. }
                | ApiError::Overloaded
                | ApiError::Expired
                | ApiError::NotReady { .. }
                | ApiError::ReadOnly { .. } => Failure::Refused,
                _ => Failure::Dishonest,
            },
            ClientError::Indeterminate { .. } | ClientError::Timeout { .. } => Failure::Unknown,
            ClientError::Unreachable { .. } | ClientError::Busy { .. } => Failure::Refused,
            _ => Failure::Dishonest,
        }
    }
}

fn label_of(dot: Dot) -> Label {
    Label((dot.actor.0, dot.counter))
}

fn shown_by(value: &Value) -> Shown {
    Shown { write: value.meta.write_id, label: label_of(value.meta.dot), body: value.bytes.clone() }
}

#[cfg(test)]
mod tests {
    use dynkv::api::SiblingMeta;
    use dynkv::sim::oracle::{Invariant, Sufficiency, Verdict, judge};
    use dynkv::types::NodeId;
    use dynkv::version::Actor;

    use super::*;

    const ENOUGH: Sufficiency = Sufficiency { acked: 1, under_fault_percent: 0 };

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn dot(counter: u64) -> Dot {
        Dot { actor: Actor(9), counter }
    }

    fn value(write: u128, counter: u64) -> Value {
        let (bytes, len) = (Some(Bytes::from(format!("v{write}"))), Some(2));
        let meta = SiblingMeta { dot: dot(counter), write_id: WriteId(write), node: NodeId(1), wall_ms: 0, len };
        Value { meta, bytes }
    }

    fn intent(write: u128, basis: Option<OpId>) -> Intent {
        Intent { key: "k".into(), id: WriteId(write), body: Some(Bytes::from(format!("v{write}"))), basis }
    }

    fn held_by(nodes: &[u16]) -> Vec<Holder> {
        nodes.iter().map(|node| Holder { node: *node, synced: true, heir: None }).collect()
    }

    /// Write 1, acknowledged by two; a read; write 2 on it, acknowledged by two.
    fn two_writes() -> Recorder {
        let mut recorder = Recorder::new(Duration::from_secs(5));
        let first = recorder.write_begins(at(0), &intent(1, None));
        recorder.write_acked(at(1), first, dot(1), held_by(&[0, 1]));
        let read = recorder.read_begins(at(2), "k");
        recorder.read_answered(at(3), read, &[value(1, 1)], 2);
        let second = recorder.write_begins(at(4), &intent(2, Some(read)));
        recorder.write_acked(at(5), second, dot(2), held_by(&[0, 1]));
        recorder
    }

    fn broken(recorder: &mut Recorder) -> Option<Invariant> {
        match judge(recorder.history(), ENOUGH) {
            Verdict::Violation { invariant, .. } => Some(invariant),
            Verdict::Ok(_) => None,
            Verdict::Insufficient { reason, .. } => panic!("{reason}"),
        }
    }

    #[test]
    fn what_replaced_a_write_stands_for_it() {
        let mut recorder = two_writes();
        recorder.ends(at(9), "k", &[value(2, 2)]);
        assert_eq!(broken(&mut recorder), None);
        assert_eq!(recorder.names(), ["k"]);
    }

    #[test]
    fn a_write_that_is_gone_is_seen_to_be() {
        let mut recorder = two_writes();
        recorder.ends(at(9), "k", &[value(1, 1)]);
        assert_eq!(broken(&mut recorder), Some(Invariant::NoLostWrite));
    }

    #[test]
    fn a_quorum_read_counts_primaries_of_the_read_and_of_the_write() {
        for (primaries, heir, expected) in
            [(2, None, Some(Invariant::QuorumRead)), (1, None, None), (0, None, None), (2, Some(2), None)]
        {
            let mut recorder = two_writes();
            let third = recorder.write_begins(at(5), &intent(3, None));
            let by = vec![Holder { node: 0, synced: true, heir: None }, Holder { node: 1, synced: true, heir }];
            recorder.write_acked(at(5), third, dot(3), by);
            let read = recorder.read_begins(at(6), "k");
            recorder.read_answered(at(7), read, &[value(2, 2)], primaries);
            recorder.ends(at(9), "k", &[value(2, 2), value(3, 3)]);
            assert_eq!(broken(&mut recorder), expected, "{primaries} {heir:?}");
        }
    }

    #[test]
    fn a_refused_write_must_not_surface_and_a_doubtful_one_may() {
        let refused = ClientError::Refused { node: "n1".into(), error: ApiError::Overloaded, trace: None };
        let doubtful = ClientError::Indeterminate { timeout: Duration::from_secs(5), asked: Vec::new() };
        for (error, failure, expected) in
            [(refused, Failure::Refused, Some(Invariant::NoPhantom)), (doubtful, Failure::Unknown, None)]
        {
            let mut recorder = two_writes();
            let third = recorder.write_begins(at(6), &intent(3, None));
            assert_eq!(recorder.write_failed(at(7), third, &error), failure);
            recorder.ends(at(9), "k", &[value(2, 2), value(3, 3)]);
            assert_eq!(broken(&mut recorder), expected, "{error}");
        }
    }

    #[test]
    fn a_write_that_was_given_up_may_be_tried_again() {
        let mut recorder = two_writes();
        let first = recorder.write_begins(at(6), &intent(3, None));
        recorder.write_given_up(at(7), first);
        let second = recorder.write_begins(at(8), &intent(3, None));
        recorder.write_acked(at(9), second, dot(4), held_by(&[0, 1]));
        // the attempts are twins
        recorder.ends(at(10), "k", &[value(2, 2), value(3, 3), value(3, 4)]);
        assert_eq!(broken(&mut recorder), None);
    }

    #[test]
    fn what_this_load_cannot_deserve_is_dishonest() {
        let refused = |error| ClientError::Refused { node: "n1".into(), error, trace: None };
        for error in [refused(ApiError::WriteIdReused), ClientError::NoEndpoints] {
            assert_eq!(Failure::of(&error), Failure::Dishonest, "{error}");
        }
    }
}
