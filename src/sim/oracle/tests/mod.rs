//! Histories written by hand, a line for each thing that happened, and what the oracle says of them.

mod enough;
mod loss;
mod model;
mod quorum;
mod reaped;
mod recorder;
mod sessions;
mod shown;

use std::time::Duration;

use bytes::Bytes;

use super::{
    Conflict, Ending, Event, Findings, History, Holder, Invariant, KeyId, Label, OpId, Shown, Sufficiency, Verdict,
    judge,
};
use crate::types::{Time, WriteId};

/// Enough for a history of a few lines.
const FEW: Sufficiency = Sufficiency { acked: 0, under_fault_percent: 0 };

/// Two nodes that hold a write durably.
const SYNCED: &[Holder] = &[synced(1), synced(2)];

const fn synced(node: u16) -> Holder {
    Holder { node, synced: true, heir: None }
}

const fn unsynced(node: u16) -> Holder {
    Holder { node, synced: false, heir: None }
}

/// What write `id` wrote: the writes from 50 on are deletes.
fn body(id: u128) -> Option<Bytes> {
    (id < 50).then(|| Bytes::from(format!("v{id}")))
}

fn label(label: u64) -> Label {
    Label((label, 0))
}

/// Effect `label` of write `id`, as the store ought to show it.
fn effect((id, of): (u128, u64)) -> Shown {
    Shown { write: WriteId(id), label: label(of), body: body(id) }
}

fn effects(siblings: &[(u128, u64)]) -> Vec<Shown> {
    siblings.iter().copied().map(effect).collect()
}

/// A history that grows: each event a millisecond after the one before.
struct Story {
    history: History,
    /// The key that the next event is about: 0, 1 or 2.
    key: KeyId,
    ops: u32,
}

impl Story {
    fn new(conflict: Conflict) -> Story {
        Story { history: History { keys: vec![conflict; 3], replicas: 3, ..History::default() }, key: KeyId(0), ops: 0 }
    }

    /// A story about keys that keep siblings, in which a read was answered.
    fn siblings() -> Story {
        let mut story = Story::new(Conflict::Siblings);
        story.read(&[]);
        story
    }

    /// A story about keys whose last write wins, in which a read was answered.
    fn last_write_wins() -> Story {
        let mut story = Story::new(Conflict::LastWriteWins);
        story.read(&[]);
        story
    }

    fn event(&mut self, event: Event) -> &mut Story {
        let at = Time::ZERO + Duration::from_millis(self.history.events.len() as u64);
        self.history.events.push((at, event));
        self
    }

    fn op(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }

    /// An attempt at write `id` begins.
    fn begin(&mut self, id: u128, basis: Option<OpId>) -> OpId {
        let (op, key) = (self.op(), self.key);
        self.event(Event::Write { op, key, write: WriteId(id), body: body(id), basis });
        op
    }

    fn ack(&mut self, op: OpId, of: u64, by: &[Holder]) -> &mut Story {
        self.event(Event::Wrote { op, ending: Ending::Acked { label: label(of), by: by.to_vec() } })
    }

    fn refuse(&mut self, op: OpId) -> &mut Story {
        self.event(Event::Wrote { op, ending: Ending::Refused })
    }

    /// An attempt at write `id` that two synced nodes acknowledge.
    fn put(&mut self, id: u128, of: u64, basis: Option<OpId>) -> OpId {
        self.put_at(id, of, basis, SYNCED)
    }

    /// An attempt at write `id` that the nodes `by` acknowledge.
    fn put_at(&mut self, id: u128, of: u64, basis: Option<OpId>, by: &[Holder]) -> OpId {
        let op = self.begin(id, basis);
        self.ack(op, of, by);
        op
    }

    /// A read that is answered with these (write, label)s.
    fn read(&mut self, siblings: &[(u128, u64)]) -> OpId {
        self.read_shown(effects(siblings))
    }

    fn read_shown(&mut self, siblings: Vec<Shown>) -> OpId {
        self.read_from(0, siblings)
    }

    /// A read that takes in so many replicas.
    fn read_from(&mut self, replicas: u8, siblings: Vec<Shown>) -> OpId {
        let (op, key) = (self.op(), self.key);
        self.event(Event::Read { op, key, replicas }).event(Event::Answered { op, siblings, stood_in: 0 });
        op
    }

    /// What the key holds at the end.
    fn end(&mut self, siblings: &[(u128, u64)]) -> &mut Story {
        let key = self.key;
        self.event(Event::Final { key, siblings: effects(siblings) })
    }

    fn wipe(&mut self, node: u16) -> &mut Story {
        self.event(Event::Wiped { node })
    }

    #[track_caller]
    fn holds(&self) -> Findings {
        match judge(&self.history, FEW) {
            Verdict::Ok(findings) => findings,
            other => panic!("{other:?}"),
        }
    }

    /// The evidence that these writes break `expected`.
    #[track_caller]
    fn breaks(&self, expected: Invariant, ids: &[u128]) -> String {
        let ids: Vec<WriteId> = ids.iter().copied().map(WriteId).collect();
        match judge(&self.history, FEW) {
            Verdict::Violation { invariant, key, writes, evidence } => {
                assert_eq!((invariant, key, writes), (expected, self.key, ids), "{evidence}");
                evidence
            }
            other => panic!("{other:?}"),
        }
    }
}
