//! The walk over a history, and the checks of each invariant.

use std::collections::BTreeSet;
use std::fmt;

use super::history::{Conflict, Event, History, Holder, KeyId, Label, OpId, Shown};
use super::ledger::{Ack, Answer, Clash, Fate, Ledger, Write};
use super::losses::Losses;
use super::past::{EffectId, EffectSet};
use super::sight::{Body, Id, List, Seconds, Sight};
use super::verdict::{Findings, Invariant, Sufficiency, Verdict};
use crate::types::{Time, WriteId};

/// Judges a history; `enough` says what it has to hold for [`Verdict::Ok`].
///
/// The verdict on a broken promise is the first one in the order of events; what only the end can tell (a write that
/// was shown was refused, an acknowledged write is gone) comes last. That a read shows no more siblings than writes were
/// begun and not refused needs no check of its own: each sibling names such a write, and each write once.
///
/// # Panics
/// When the history cannot have happened: its recorder is broken, and no verdict would mean anything.
pub fn judge(history: &History, enough: Sufficiency) -> Verdict {
    let mut judge = Judge {
        ledger: Ledger::new(history),
        losses: Losses::default(),
        reaps_unseen: history.reaps_unseen,
        replicas: history.replicas,
        grace_us: u64::try_from(history.grace.as_micros()).unwrap_or(u64::MAX),
        missed: None,
        faults: 0,
        now: Time::ZERO,
        findings: Findings::default(),
    };
    let judged = judge.walk(history).and_then(|()| judge.check_refused()).and_then(|()| judge.check_lost());
    // A write that is lost is missed by reads before: what it comes to is said first.
    match judged.and_then(|()| judge.missed.take().map_or(Ok(()), Err)) {
        Err(Breach { invariant, key, writes, evidence }) => Verdict::Violation { invariant, key, writes, evidence },
        Ok(()) => judge.weigh(history, enough),
    }
}

/// A broken promise.
pub(super) struct Breach {
    pub(super) invariant: Invariant,
    pub(super) key: KeyId,
    pub(super) writes: Vec<WriteId>,
    pub(super) evidence: String,
}

pub(super) struct Judge<'h> {
    pub(super) ledger: Ledger<'h>,
    losses: Losses,
    /// The first read that missed a write which it had to show.
    missed: Option<Breach>,
    /// Whether tombstones are reaped without an event.
    pub(super) reaps_unseen: bool,
    replicas: u8,
    grace_us: u64,
    /// How many faults are active.
    faults: u32,
    pub(super) now: Time,
    findings: Findings,
}

impl<'h> Judge<'h> {
    fn walk(&mut self, history: &'h History) -> Result<(), Breach> {
        for (index, (at, event)) in history.events.iter().enumerate() {
            assert!(self.now <= *at, "event {index} at {} comes after one at {}", Seconds(*at), Seconds(self.now));
            self.now = *at;
            self.handle_event(index, event)?;
        }
        Ok(())
    }

    fn handle_event(&mut self, index: usize, event: &'h Event) -> Result<(), Breach> {
        match event {
            Event::Write { .. } => self.ledger.on_write(self.now, event),
            Event::Wrote { op, ending } => {
                let under_fault = self.faults > 0;
                let wrote = self.ledger.on_wrote(self.now, *op, ending, under_fault);
                wrote.map_err(|clash| {
                    self.two_writes(&clash, format_args!("op {} was acknowledged at {}", op.0, Seconds(self.now)))
                })?;
            }
            Event::Read { op, key, replicas } => self.ledger.on_read(self.now, *op, *key, *replicas),
            Event::Demanded { op, after } => self.ledger.on_demand(*op, *after),
            Event::Answered { op, siblings, stood_in } => {
                let key = self.ledger.read_key(*op);
                let sight = Sight { read: Some(*op), at: self.now, event: index, key, siblings };
                let answer = self.check_sight(sight)?;
                if self.missed.is_none() {
                    let sessions = self.check_session(*op, sight, &answer);
                    let settled = sessions.and_then(|()| self.check_settled(*op, sight, *stood_in, &answer));
                    self.missed = settled.and_then(|()| self.check_quorum(*op, sight, *stood_in, &answer)).err();
                }
                self.findings.reads += 1;
                let count = u32::try_from(siblings.len()).unwrap_or(u32::MAX);
                self.findings.most_siblings = self.findings.most_siblings.max(count);
                self.ledger.on_answer(*op, answer);
            }
            Event::Final { key, siblings } => {
                let sight = Sight { read: None, at: self.now, event: index, key: *key, siblings };
                let answer = self.check_sight(sight)?;
                let before = self.ledger.key_mut(*key).end.replace((sight, answer));
                assert!(before.is_none(), "key {} ends twice", key.0);
            }
            Event::Reaped { key, tombstones } => self.on_reaped(index, *key, tombstones)?,
            Event::RoundRaised { key } => self.ledger.key_mut(*key).round_raised = true,
            Event::Settled { op, replicas } => self.ledger.on_settled(self.now, *op, *replicas),
            Event::Wiped { node } => self.losses.on_wiped(*node, self.now),
            Event::PowerLost { node } => self.losses.on_power_lost(*node, self.now),
            Event::Damaged { node, key } => self.losses.on_damaged(*node, *key, self.now),
            Event::FaultBegan => self.faults += 1,
            Event::FaultEnded => {
                self.faults = self.faults.checked_sub(1).expect("a fault ends after it began");
            }
        }
        Ok(())
    }

    /// Checks what was shown by all that is known by then.
    fn check_sight(&mut self, sight: Sight<'h>) -> Result<Answer, Breach> {
        let effects = self.check_labels(sight)?;
        self.check_written(sight)?;
        self.ledger.on_sight(sight);
        let seen = self.check_antichain(sight, &effects)?;
        self.check_twins(sight)?;
        self.check_reaped(sight, &effects)?;
        Ok(Answer { siblings: sight.siblings.len(), seen })
    }

    /// Dot uniqueness. The effects that the labels name, in the order of the siblings.
    pub(super) fn check_labels(&mut self, sight: Sight<'h>) -> Result<Vec<EffectId>, Breach> {
        let mut effects = Vec::with_capacity(sight.siblings.len());
        for shown in sight.siblings {
            let named = self.ledger.name(sight.key, shown.label, shown.write);
            effects.push(named.map_err(|clash| self.two_writes(&clash, sight))?);
        }
        Ok(effects)
    }

    fn two_writes(&self, clash: &Clash, told: impl fmt::Display) -> Breach {
        let Clash { key, label: Label((high, low)), first, second } = *clash;
        let name = |id: WriteId| match self.ledger.write(id) {
            Some(write) => write.to_string(),
            None => format!("write {}, which never began", Id(id)),
        };
        let (named, names) = (name(first), name(second));
        Breach {
            invariant: Invariant::DotUniqueness,
            key,
            writes: vec![first, second],
            evidence: format!("{told}; label {high}/{low} of key {} names {names}, and named {named} before", key.0),
        }
    }

    /// No phantom, as far as it is known before the end: the write began on that key, with that body.
    pub(super) fn check_written(&self, sight: Sight<'h>) -> Result<(), Breach> {
        let phantom = |shown: &Shown, why: String| Breach {
            invariant: Invariant::NoPhantom,
            key: sight.key,
            writes: vec![shown.write],
            evidence: format!("on key {}, {sight}; {why}", sight.key.0),
        };
        for shown in sight.siblings {
            let Some(write) = self.ledger.write(shown.write) else {
                return Err(phantom(shown, format!("no write {} had begun by then", Id(shown.write))));
            };
            if write.key != sight.key {
                return Err(phantom(shown, format!("{write} is one of key {}", write.key.0)));
            }
            if write.body != &shown.body {
                return Err(phantom(shown, format!("{write} wrote another body than {}", Body(&shown.body))));
            }
        }
        Ok(())
    }

    /// The antichain. The effects shown and the pasts of those.
    fn check_antichain(&self, sight: Sight<'h>, effects: &[EffectId]) -> Result<EffectSet, Breach> {
        let broken = |writes: Vec<WriteId>, why: String| Breach {
            invariant: Invariant::Antichain,
            key: sight.key,
            writes,
            evidence: format!("on key {}, {sight}; {why}", sight.key.0),
        };
        let writes = || sight.siblings.iter().map(|shown| self.begun(shown));
        let mut seen = EffectSet::default();
        writes().for_each(|write| seen.merge(&write.past));
        for (older, effect) in sight.siblings.iter().zip(effects) {
            if seen.contains(*effect) {
                let newer = writes().find(|write| write.past.contains(*effect));
                let newer = newer.expect("what is in the union of the pasts is in one of them");
                let why = format!("{newer} carried a context that covers {older}");
                return Err(broken(vec![older.write, newer.id], why));
            }
        }
        let one_wins = sight.read.is_some() && self.ledger.key(sight.key).conflict == Conflict::LastWriteWins;
        if one_wins && effects.len() > 1 {
            let why = "the last write wins there, and a read shows one".to_owned();
            return Err(broken(writes().map(|write| write.id).collect(), why));
        }
        effects.iter().for_each(|effect| seen.insert(*effect));
        Ok(seen)
    }

    /// The sibling bound: a read shows a write once. At the end twins may stand next to one another.
    fn check_twins(&self, sight: Sight<'h>) -> Result<(), Breach> {
        let mut ids = BTreeSet::new();
        let twin = sight.siblings.iter().find(|shown| !ids.insert(shown.write));
        match twin {
            Some(twin) if sight.read.is_some() => Err(Breach {
                invariant: Invariant::SiblingBound,
                key: sight.key,
                writes: vec![twin.write],
                evidence: format!("on key {}, {sight}; {} is there more than once", sight.key.0, self.begun(twin)),
            }),
            _ => Ok(()),
        }
    }

    /// The write of what was shown, once [`Judge::check_written`] passed it.
    pub(super) fn begun(&self, shown: &Shown) -> &Write<'h> {
        self.ledger.write(shown.write).expect("what is shown was checked to have begun")
    }

    /// No phantom, by each write's final fate: the first sight of a refused write.
    fn check_refused(&self) -> Result<(), Breach> {
        let refused = self.ledger.writes().iter().filter(|write| write.fate() == Fate::Refused);
        let surfaced = refused.filter_map(|write| write.shown.map(|sight| (sight, write)));
        match surfaced.min_by_key(|(sight, _)| sight.event) {
            Some((sight, write)) => Err(Breach {
                invariant: Invariant::NoPhantom,
                key: write.key,
                writes: vec![write.id],
                evidence: format!("every attempt at {write} of key {} was refused, yet {sight}", write.key.0),
            }),
            None => Ok(()),
        }
    }

    /// No acknowledged write lost: the first one, in the order in which they began.
    fn check_lost(&self) -> Result<(), Breach> {
        let mut kept = BTreeSet::new();
        for key in self.ledger.keys() {
            let gone = key.reaped.iter().flat_map(|reaped| reaped.gone.iter());
            for effect in key.end.iter().flat_map(|(_, end)| end.seen.iter()).chain(gone) {
                kept.insert(key.effects.write_of(effect));
            }
        }
        for write in self.ledger.writes().iter().filter(|write| write.fate() == Fate::Acked) {
            let key = self.ledger.key(write.key);
            let Some((end, _)) = &key.end else {
                panic!("key {} has acknowledged writes and no final event", write.key.0);
            };
            let safe = match key.conflict {
                Conflict::Siblings => kept.contains(&write.id),
                // whatever is left must not be what the write replaced
                Conflict::LastWriteWins => {
                    kept.contains(&write.id) || key.end.iter().any(|(end, _)| self.is_newer(end, write))
                }
            };
            if !safe && !self.is_excused(write) && !self.may_be_reaped(end, write) {
                return Err(lost(write, key.conflict, end));
            }
        }
        Ok(())
    }

    /// Whether something of the end, or that was reaped, was not replaced by the write.
    fn is_newer(&self, end: &Sight<'h>, write: &Write<'h>) -> bool {
        let key = self.ledger.key(end.key);
        let left = end.siblings.iter().filter_map(|shown| key.effects.known(shown.label));
        let gone = key.reaped.iter().flat_map(|reaped| reaped.gone.iter());
        left.chain(gone).any(|effect| !write.past.contains(effect))
    }

    /// Whether every holder of every acknowledgement of `write` lost its copy since.
    fn is_excused(&self, write: &Write<'h>) -> bool {
        // an acknowledgement that nobody stands for excuses nothing
        let any = write.acks.iter().any(|ack| !ack.by.is_empty());
        any && write.acks.iter().all(|ack| ack.by.iter().all(|holder| self.has_lost(write, ack, *holder)))
    }

    /// Whether a write may be on no disk any more: all who acknowledged it have lost it; of one that nobody acknowledged, anybody.
    fn may_be_lost(&self, write: &Write<'h>) -> bool {
        self.is_excused(write) || write.acks.is_empty() && self.losses.any(write.key, write.begun)
    }

    /// Whether a holder lost its copy since it acknowledged it.
    fn has_lost(&self, write: &Write<'h>, ack: &Ack<'h>, holder: Holder) -> bool {
        let since = ack.begun.as_micros().saturating_sub(self.grace_us).max(write.begun.as_micros());
        self.losses.excuse(holder, write.key, Time::from_micros(since))
    }

    /// A session: a read that demands what an operation before it led to shows every write of that, or what replaced it.
    fn check_session(&self, op: OpId, sight: Sight<'h>, answer: &Answer) -> Result<(), Breach> {
        let record = self.ledger.key(sight.key);
        let demand = self.ledger.demand(op).filter(|_| record.conflict == Conflict::Siblings);
        let writes = |effects: &EffectSet| -> BTreeSet<WriteId> {
            effects.iter().map(|effect| record.effects.write_of(effect)).collect()
        };
        let (Some(demand), seen) = (demand, self.accounted(sight.key, &answer.seen)) else { return Ok(()) };
        // That there is nothing may be said once a round of the partition was raised, whichever key it was for: what was lost is not told
        // apart from what was reaped. Before any round it is owed, or the read is stale.
        let untold = sight.siblings.is_empty() && record.round_raised;
        let may_miss = |write: &Write<'_>| untold && self.may_be_lost(write) || self.may_be_reaped(&sight, write);
        let demanded = writes(demand);
        let mut missed = demanded.difference(&seen).copied();
        match missed.find(|write| !self.ledger.write(*write).is_some_and(may_miss)) {
            None => Ok(()),
            Some(missed) => Err(Breach {
                invariant: Invariant::Sessions,
                key: sight.key,
                writes: vec![missed],
                evidence: format!("on key {}, {sight}, which demanded what had seen write {}", sight.key.0, Id(missed)),
            }),
        }
    }

    /// Monotonic reads: what was on the disks of so many replicas when a read showed it is shown, or what replaced it, by
    /// every later read of so many that one of them is among these.
    fn check_settled(&self, op: OpId, sight: Sight<'h>, stood_in: u8, answer: &Answer) -> Result<(), Breach> {
        let (begun, asked) = self.ledger.read_reach(op);
        let reach = asked.saturating_sub(stood_in);
        let record = self.ledger.key(sight.key);
        let seen = self.accounted(sight.key, &answer.seen);
        for settled in self.ledger.settled(sight.key) {
            let meets = settled.at <= begun && settled.replicas + reach > self.replicas;
            if !meets || record.conflict == Conflict::LastWriteWins || self.losses.any_disk(sight.key, settled.at) {
                continue;
            }
            let settled_writes = settled.seen.iter().map(|effect| record.effects.write_of(effect));
            let may_miss = |write: &Write<'_>| self.may_be_reaped(&sight, write);
            let mut missed = settled_writes.filter(|write| !seen.contains(write));
            if let Some(missed) = missed.find(|write| !self.ledger.write(*write).is_some_and(may_miss)) {
                let (on, at) = (settled.replicas, Seconds(settled.at));
                let why = format!("what had seen write {} was on {on} disks at {at}, and {reach} answered", Id(missed));
                return Err(Breach {
                    invariant: Invariant::Sessions,
                    key: sight.key,
                    writes: vec![missed],
                    evidence: format!("on key {}, {sight}; {why}", sight.key.0),
                });
            }
        }
        Ok(())
    }

    /// A quorum read: primaries of the answer and primaries that hold an acknowledged write have one in common, if together
    /// they are more than there are. Stand-ins promise nothing of the kind.
    fn check_quorum(&self, op: OpId, sight: Sight<'h>, stood_in: u8, answer: &Answer) -> Result<(), Breach> {
        let (begun, asked) = self.ledger.read_reach(op);
        let reach = asked.saturating_sub(stood_in);
        let record = self.ledger.key(sight.key);
        if reach == 0 || record.conflict == Conflict::LastWriteWins {
            return Ok(());
        }
        let seen = self.accounted(sight.key, &answer.seen);
        for write in self.ledger.acked(sight.key).filter(|write| !seen.contains(&write.id)) {
            let before = write.acks.iter().filter(|ack| ack.at <= begun);
            let holders: BTreeSet<u16> = before
                .flat_map(|ack| ack.by.iter().filter(|holder| !self.has_lost(write, ack, **holder)))
                .filter(|holder| holder.heir.is_none())
                .map(|holder| holder.node)
                .collect();
            let meet = holders.len() + usize::from(reach) > usize::from(self.replicas);
            if meet && !self.may_be_reaped(&sight, write) {
                let why =
                    format!("{reach} replicas answered it, and {} of {} hold {write}", holders.len(), self.replicas);
                return Err(Breach {
                    invariant: Invariant::QuorumRead,
                    key: sight.key,
                    writes: vec![write.id],
                    evidence: format!("on key {}, {sight}; {why}", sight.key.0),
                });
            }
        }
        Ok(())
    }

    /// The verdict on a history that broke no promise.
    fn weigh(mut self, history: &History, enough: Sufficiency) -> Verdict {
        let findings = &mut self.findings;
        for write in self.ledger.writes() {
            match write.fate() {
                Fate::Acked => {
                    findings.acked += 1;
                    findings.acked_under_fault += u64::from(write.acks.iter().any(|ack| ack.under_fault));
                    findings.siblings_resolved += u64::from(write.resolves >= 3);
                }
                Fate::Refused => findings.refused += 1,
                Fate::Unknown => {
                    findings.unknown += 1;
                    findings.late_surfaced += u64::from(write.shown.is_some());
                }
            }
        }
        let findings = self.findings;
        match shortage(history, enough, &findings) {
            Some(reason) => Verdict::Insufficient { reason, findings },
            None => Verdict::Ok(findings),
        }
    }
}

fn lost(write: &Write<'_>, conflict: Conflict, end: &Sight<'_>) -> Breach {
    let ack = |ack: &Ack<'_>| format!("at {} by {}", Seconds(ack.at), List(ack.by));
    let acks: Vec<String> = write.acks.iter().map(ack).collect();
    let gone = match conflict {
        Conflict::Siblings => "is in no replica's past",
        Conflict::LastWriteWins => "nothing is left of the key, where the last write wins",
    };
    Breach {
        invariant: Invariant::NoLostWrite,
        key: write.key,
        writes: vec![write.id],
        evidence: format!("{write} of key {} was acknowledged {} and {gone}; {end}", write.key.0, List(&acks)),
    }
}

/// What a history has too little of, if anything.
fn shortage(history: &History, enough: Sufficiency, findings: &Findings) -> Option<String> {
    let Findings { acked, acked_under_fault, reads, .. } = *findings;
    let Sufficiency { acked: fewest, under_fault_percent: percent } = enough;
    if history.events.is_empty() {
        Some("the history is empty".to_owned())
    } else if acked < fewest {
        Some(format!("{acked} writes were acknowledged, {fewest} are needed"))
    } else if acked_under_fault * 100 < acked * percent {
        Some(format!("{acked_under_fault} of {acked} writes were acknowledged during a fault, {percent} % are needed"))
    } else if reads == 0 {
        Some("no read was answered".to_owned())
    } else {
        None
    }
}
