//! What is left of a key once tombstones are reaped: what may be missing, and what may not be back.

use std::collections::BTreeSet;

use super::history::{KeyId, Shown};
use super::judge::{Breach, Judge};
use super::ledger::{Ack, Fate, Reaped, Record, Write};
use super::past::{EffectId, EffectSet};
use super::sight::{Seconds, Sight};
use super::verdict::Invariant;
use crate::types::WriteId;

impl<'h> Judge<'h> {
    /// Tombstones are deleted for good.
    pub(super) fn on_reaped(&mut self, index: usize, key: KeyId, tombstones: &'h [Shown]) -> Result<(), Breach> {
        let sight = Sight { read: None, at: self.now, event: index, key, siblings: tombstones };
        let effects = self.check_labels(sight)?;
        self.check_written(sight)?;
        let mut replaced = EffectSet::default();
        tombstones.iter().for_each(|shown| replaced.merge(&self.begun(shown).past));
        let mut gone = replaced.clone();
        effects.iter().for_each(|effect| gone.insert(*effect));
        self.ledger.key_mut(key).reaped.push(Reaped { at: self.now, replaced, gone });
        Ok(())
    }

    /// No resurrection: what a reaped tombstone had replaced is not shown again.
    pub(super) fn check_reaped(&self, sight: Sight<'h>, effects: &[EffectId]) -> Result<(), Breach> {
        let (since, reach) = sight.read.map_or((sight.at, 1), |op| self.ledger.read_reach(op));
        // A page of a scan was begun before it is told of.
        if reach == 0 {
            return Ok(());
        }
        let reaped = self.ledger.key(sight.key).reaped.iter().filter(|reaped| reaped.at <= since);
        for reaped in reaped {
            let back = sight.siblings.iter().zip(effects).find(|(_, effect)| reaped.replaced.contains(**effect));
            if let Some((shown, _)) = back {
                let why = format!("what had replaced {} was reaped at {}", self.begun(shown), Seconds(reaped.at));
                return Err(Breach {
                    invariant: Invariant::NoResurrection,
                    key: sight.key,
                    writes: vec![shown.write],
                    evidence: format!("on key {}, {sight}; {why}", sight.key.0),
                });
            }
        }
        Ok(())
    }

    /// The writes of what a reader was shown, and of what has been reaped, which nobody is shown any more.
    pub(super) fn accounted(&self, key: KeyId, seen: &EffectSet) -> BTreeSet<WriteId> {
        let record = self.ledger.key(key);
        let gone = record.reaped.iter().flat_map(|reaped| reaped.gone.iter());
        seen.iter().chain(gone).map(|effect| record.effects.write_of(effect)).collect()
    }

    /// Whether a write that `sight` does not show may be gone with a tombstone that was reaped, where nobody tells of that: with its own, or
    /// with the one of a delete that had replaced it. What that delete had replaced would, if it were shown, have come back; and what
    /// stood beside it all the time kept it from being reaped: only what is nothing but tombstones everywhere goes.
    pub(super) fn may_be_reaped(&self, sight: &Sight<'_>, write: &Write<'_>) -> bool {
        let record = self.ledger.key(sight.key);
        let shown: Vec<EffectId> =
            sight.siblings.iter().filter_map(|shown| record.effects.known(shown.label)).collect();
        let took = |delete: &Write<'_>| {
            delete.id == write.id || delete.past.iter().any(|effect| record.effects.write_of(effect) == write.id)
        };
        let deletes = || self.ledger.deletes(sight.key).filter(|delete| delete.fate() != Fate::Refused);
        // What a read was shown early may have been deleted, and gone with all else, while it waited for others.
        let is_deleted = |effect| sight.read.is_some() && deletes().any(|delete| delete.past.contains(effect));
        let keeps = |effect: &EffectId, delete: &Write<'_>| {
            delete.past.contains(*effect) || self.stood_before(record, *effect, delete) && !is_deleted(*effect)
        };
        let is_gone = |delete: &Write<'_>| !shown.iter().any(|effect| keeps(effect, delete));
        self.reaps_unseen && deletes().any(|delete| took(delete) && is_gone(delete))
    }

    /// Whether somebody held this effect before that delete began, which has not replaced it.
    fn stood_before(&self, record: &Record<'_>, effect: EffectId, delete: &Write<'_>) -> bool {
        let is_before = |ack: &Ack<'_>| ack.effect == effect && ack.at <= delete.begun;
        self.ledger.write(record.effects.write_of(effect)).is_some_and(|write| write.acks.iter().any(is_before))
    }
}
