//! All operations of a history so far, tied together: which write an attempt belongs to, what its basis showed.
//!
//! What cannot have happened is a fault of whoever recorded the history, and panics.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{Conflict, Ending, Event, History, Holder, KeyId, Label, OpId};
use super::past::{EffectId, EffectSet, Effects};
use super::sight::Sight;
use crate::types::{Time, WriteId};

/// A write, over all its attempts.
#[derive(Debug)]
pub(super) struct Write<'h> {
    pub(super) id: WriteId,
    pub(super) key: KeyId,
    pub(super) body: &'h Option<Bytes>,
    /// The first attempt, and when it began.
    pub(super) op: OpId,
    pub(super) begun: Time,
    basis: Option<OpId>,
    /// What every effect of the write replaces.
    pub(super) past: EffectSet,
    /// How many siblings the basis showed.
    pub(super) resolves: usize,
    attempts: u32,
    refused: u32,
    pub(super) acks: Vec<Ack<'h>>,
    /// Where the write was first shown.
    pub(super) shown: Option<Sight<'h>>,
}

/// An acknowledgement.
#[derive(Debug)]
pub(super) struct Ack<'h> {
    pub(super) at: Time,
    /// When the attempt that was acknowledged began.
    pub(super) begun: Time,
    /// What it is an acknowledgement of.
    pub(super) effect: EffectId,
    pub(super) by: &'h [Holder],
    pub(super) under_fault: bool,
}

/// A label that names two writes of a key.
#[derive(Debug)]
pub(super) struct Clash {
    pub(super) key: KeyId,
    pub(super) label: Label,
    /// The write that it named first.
    pub(super) first: WriteId,
    pub(super) second: WriteId,
}

/// A write's ending over all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Acked,
    Refused,
    Unknown,
}

impl Write<'_> {
    pub(super) fn fate(&self) -> Fate {
        if !self.acks.is_empty() {
            Fate::Acked
        } else if self.refused == self.attempts {
            Fate::Refused
        } else {
            Fate::Unknown
        }
    }
}

/// What a read, or the end of the run, showed of a key.
#[derive(Debug)]
pub(super) struct Answer {
    /// How many siblings.
    pub(super) siblings: usize,
    /// Their effects and the pasts of those.
    pub(super) seen: EffectSet,
}

#[derive(Debug)]
enum Op {
    Attempt { write: usize, begun: Time, ended: bool, acked: Option<EffectId> },
    Read { key: KeyId, begun: Time, replicas: u8, answer: Option<Answer> },
}

/// One key.
#[derive(Debug)]
pub(super) struct Record<'h> {
    pub(super) conflict: Conflict,
    pub(super) effects: Effects,
    pub(super) end: Option<(Sight<'h>, Answer)>,
    /// What has been reaped: tombstones, and with them what they had replaced.
    pub(super) reaped: Vec<Reaped>,
    /// Whether a reaping round was raised that it falls into.
    pub(super) round_raised: bool,
    /// Its acknowledged writes, by their places in the ledger.
    acked: Vec<usize>,
    /// Its deletes, likewise.
    deletes: Vec<usize>,
}

/// The operations and keys of a history.
#[derive(Debug)]
pub(super) struct Ledger<'h> {
    keys: Vec<Record<'h>>,
    /// In the order in which they began.
    writes: Vec<Write<'h>>,
    by_id: BTreeMap<WriteId, usize>,
    ops: BTreeMap<OpId, Op>,
    /// What reads demand to be shown.
    demands: BTreeMap<OpId, EffectSet>,
    /// What is on many disks, by key, the newest last.
    settled: BTreeMap<KeyId, Vec<Settled>>,
}

/// Tombstones that were deleted.
#[derive(Clone, Debug)]
pub(super) struct Reaped {
    pub(super) at: Time,
    /// What they had replaced.
    pub(super) replaced: EffectSet,
    /// That, and they themselves.
    pub(super) gone: EffectSet,
}

/// What a read showed when that was on the disks of so many replicas.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) at: Time,
    pub(super) replicas: u8,
    pub(super) seen: EffectSet,
}

/// Of each key so many are looked at: what the newest ones show, older ones did.
const MOST_SETTLED: usize = 4;

impl<'h> Ledger<'h> {
    pub(super) fn new(history: &'h History) -> Ledger<'h> {
        let record = |conflict: &Conflict| Record {
            conflict: *conflict,
            effects: Effects::default(),
            end: None,
            reaped: Vec::new(),
            round_raised: false,
            acked: Vec::new(),
            deletes: Vec::new(),
        };
        let keys = history.keys.iter().map(record).collect();
        Ledger {
            keys,
            writes: Vec::new(),
            by_id: BTreeMap::new(),
            ops: BTreeMap::new(),
            demands: BTreeMap::new(),
            settled: BTreeMap::new(),
        }
    }

    pub(super) fn key(&self, key: KeyId) -> &Record<'h> {
        self.keys.get(key.0 as usize).unwrap_or_else(|| panic!("the history has no key {}", key.0))
    }

    pub(super) fn key_mut(&mut self, key: KeyId) -> &mut Record<'h> {
        self.keys.get_mut(key.0 as usize).unwrap_or_else(|| panic!("the history has no key {}", key.0))
    }

    pub(super) fn keys(&self) -> &[Record<'h>] {
        &self.keys
    }

    /// All writes, in the order in which they began.
    pub(super) fn writes(&self) -> &[Write<'h>] {
        &self.writes
    }

    /// The write of that id, if it began.
    pub(super) fn write(&self, id: WriteId) -> Option<&Write<'h>> {
        self.by_id.get(&id).map(|index| &self.writes[*index])
    }

    /// Notes that `sight` showed the writes of its siblings that began.
    pub(super) fn on_sight(&mut self, sight: Sight<'h>) {
        for shown in sight.siblings {
            if let Some(index) = self.by_id.get(&shown.write) {
                self.writes[*index].shown.get_or_insert(sight);
            }
        }
    }

    /// An attempt at a write begins.
    pub(super) fn on_write(&mut self, at: Time, event: &'h Event) {
        let Event::Write { op, key, write: id, body, basis } = event else {
            unreachable!("the caller matched a write");
        };
        self.assert_runs(*key, *op);
        let next = self.writes.len();
        let write = *self.by_id.entry(*id).or_insert(next);
        if write == next {
            let (past, resolves) = basis.map_or_else(Default::default, |basis| self.basis(*op, *key, basis));
            self.writes.push(Write {
                id: *id,
                key: *key,
                body,
                op: *op,
                begun: at,
                basis: *basis,
                past,
                resolves,
                attempts: 0,
                refused: 0,
                acks: Vec::new(),
                shown: None,
            });
            if body.is_none() {
                self.key_mut(*key).deletes.push(write);
            }
        }
        let first = &mut self.writes[write];
        let same = (first.key, first.body, first.basis) == (*key, body, *basis);
        assert!(same, "op {} retries {first} of key {} with another key, body or basis", op.0, first.key.0);
        first.attempts += 1;
        self.begin(*op, Op::Attempt { write, begun: at, ended: false, acked: None });
    }

    /// A read begins.
    pub(super) fn on_read(&mut self, at: Time, op: OpId, key: KeyId, replicas: u8) {
        self.key(key);
        self.begin(op, Op::Read { key, begun: at, replicas, answer: None });
    }

    /// A read demands what another operation led to.
    pub(super) fn on_demand(&mut self, op: OpId, after: OpId) {
        let (seen, _) = self.basis(op, self.read_key(op), after);
        self.demands.insert(op, seen);
    }

    /// What a read demanded to be shown.
    pub(super) fn demand(&self, op: OpId) -> Option<&EffectSet> {
        self.demands.get(&op)
    }

    /// What a read showed is on so many disks.
    pub(super) fn on_settled(&mut self, at: Time, op: OpId, replicas: u8) {
        let key = self.read_key(op);
        let (seen, _) = self.basis(op, key, op);
        let settled = self.settled.entry(key).or_default();
        if settled.len() == MOST_SETTLED {
            settled.remove(0);
        }
        settled.push(Settled { at, replicas, seen });
    }

    /// What was on many disks of a key.
    pub(super) fn settled(&self, key: KeyId) -> &[Settled] {
        self.settled.get(&key).map_or(&[], |settled| settled)
    }

    /// The acknowledged writes of a key.
    pub(super) fn acked(&self, key: KeyId) -> impl Iterator<Item = &Write<'h>> {
        self.key(key).acked.iter().map(|index| &self.writes[*index])
    }

    /// The deletes of a key that have begun.
    pub(super) fn deletes(&self, key: KeyId) -> impl Iterator<Item = &Write<'h>> {
        self.key(key).deletes.iter().map(|index| &self.writes[*index])
    }

    /// When a read began, and how many replicas it asked for.
    pub(super) fn read_reach(&self, op: OpId) -> (Time, u8) {
        match self.ops.get(&op) {
            Some(Op::Read { begun, replicas, .. }) => (*begun, *replicas),
            _ => panic!("op {} was answered and is no read that began", op.0),
        }
    }

    /// The key that a read asks for.
    pub(super) fn read_key(&self, op: OpId) -> KeyId {
        match self.ops.get(&op) {
            Some(Op::Read { key, .. }) => *key,
            _ => panic!("op {} was answered and is no read that began", op.0),
        }
    }

    /// A read was answered.
    pub(super) fn on_answer(&mut self, op: OpId, given: Answer) {
        match self.ops.get_mut(&op) {
            Some(Op::Read { answer: answer @ None, .. }) => *answer = Some(given),
            _ => panic!("op {} was answered and is no read that waits", op.0),
        }
    }

    /// Gives `label` to an effect of `write`, if it has none yet.
    ///
    /// # Errors
    /// The label names another write.
    pub(super) fn name(&mut self, key: KeyId, label: Label, write: WriteId) -> Result<EffectId, Clash> {
        let named = self.key_mut(key).effects.name(label, write);
        named.map_err(|first| Clash { key, label, first, second: write })
    }

    /// An attempt at a write ended.
    ///
    /// # Errors
    /// It was acknowledged with a label that names another write.
    pub(super) fn on_wrote(&mut self, at: Time, op: OpId, ending: &'h Ending, under_fault: bool) -> Result<(), Clash> {
        let Some(Op::Attempt { write, begun, ended: ended @ false, .. }) = self.ops.get_mut(&op) else {
            panic!("op {} ended and is no attempt at a write that runs", op.0);
        };
        *ended = true;
        let (index, begun) = (*write, *begun);
        match ending {
            Ending::Acked { label, by } => {
                let Write { id, key, .. } = self.writes[index];
                self.assert_runs(key, op);
                let effect = self.name(key, *label, id)?;
                if self.writes[index].acks.is_empty() {
                    self.key_mut(key).acked.push(index);
                }
                self.writes[index].acks.push(Ack { at, begun, effect, by, under_fault });
                self.ops.insert(op, Op::Attempt { write: index, begun, ended: true, acked: Some(effect) });
            }
            Ending::Refused => self.writes[index].refused += 1,
            Ending::Unknown => {}
        }
        Ok(())
    }

    fn assert_runs(&self, key: KeyId, op: OpId) {
        assert!(self.key(key).end.is_none(), "op {} writes key {} after the key's final event", op.0, key.0);
    }

    fn begin(&mut self, op: OpId, begun: Op) {
        assert!(self.ops.insert(op, begun).is_none(), "op {} begins twice", op.0);
    }

    /// What a write of `op` to `key` with the context that `basis` gave replaces, and how many siblings that showed.
    fn basis(&self, op: OpId, key: KeyId, basis: OpId) -> (EffectSet, usize) {
        let (of, past, siblings) = match self.ops.get(&basis) {
            Some(Op::Read { key, answer: Some(answer), .. }) => (*key, answer.seen.clone(), answer.siblings),
            Some(Op::Attempt { write, acked: Some(effect), .. }) => {
                let write = &self.writes[*write];
                let mut past = write.past.clone();
                past.insert(*effect);
                (write.key, past, 0)
            }
            _ => panic!("op {} carries the context of op {}, which gave none by then", op.0, basis.0),
        };
        assert!(of == key, "op {} on key {} carries the context of op {} on key {}", op.0, key.0, basis.0, of.0);
        (past, siblings)
    }
}
