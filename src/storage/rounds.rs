//! How many reaping rounds of each partition a node has met: durable, only ever raised, and a fence.
//!
//! A tombstone is reaped once every member has raised its round at a moment when it held nothing else of the key. Whatever
//! was read from a store carries the round of then, and a store that has met a later one does not merge it: so nothing
//! that was on its way meanwhile, however late it comes, brings back what the tombstone has deleted.
//!
//! That rests on two things. A round is raised in the very batch of what depends on it. And nothing is told of a round,
//! by a label or by an answer, before it is on the disk: a store that forgot it with its power would raise it once more, and
//! vouch a second time for what it held the first time. Hence [`Rounds::are_owed`], for which the drain holds everything back.
//!
//! In [`Family::Meta`], by [`MetaKey::Round`]; a partition of which nothing was ever reaped has no record and is at zero:
//!
//! ```text
//! round u64 BE | xxh3-64 of the key and the round, BE
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use xxhash_rust::xxh3::xxh3_64;

use super::{Batch, Engine, Family, MetaKey, ScanLimit, StorageError};
use crate::types::{PartitionId, Round};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    known: BTreeMap<PartitionId, Round>,
    /// What they were before they were raised, where that is not known to be on the disk.
    owed: BTreeMap<PartitionId, Option<Round>>,
}

impl Rounds {
    /// Reads all rounds of a node.
    ///
    /// # Errors
    /// [`StorageError`]; [`StorageError::Corrupt`] for a damaged record too: one that is taken for lower than it was lets
    /// through what has been reaped.
    pub fn load(engine: &dyn Engine) -> Result<Rounds, StorageError> {
        let mut known = BTreeMap::new();
        let mut damaged = None;
        let (start, end) = MetaKey::round_bounds();
        let mut visit = |key: &[u8], value: &[u8]| match MetaKey::parse_round(key).zip(decode(key, value)) {
            Some((partition, round)) => {
                known.insert(partition, round);
                ControlFlow::Continue(())
            }
            None => {
                let detail = format!("the record of a round ({}) is damaged", String::from_utf8_lossy(key));
                damaged = Some(StorageError::Corrupt { detail });
                ControlFlow::Break(())
            }
        };
        engine.scan(Family::Meta, start, Some(end), ScanLimit::NONE, &mut visit)?;
        damaged.map_or(Ok(Rounds { known, owed: BTreeMap::new() }), Err)
    }

    /// A partition's.
    pub fn of(&self, partition: PartitionId) -> Round {
        self.known.get(&partition).copied().unwrap_or_default()
    }

    /// The partitions that have one on the disk: a disk that has taken the place of another takes nothing in before it has
    /// another member's.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.known.keys().copied()
    }

    /// The partitions of which one was raised: above zero.
    pub fn raised(&self) -> impl Iterator<Item = PartitionId> {
        self.known.iter().filter(|(_, round)| **round > Round::default()).map(|(partition, _)| *partition)
    }

    /// Raises a partition's round with this batch; false if it is there already.
    pub(super) fn raise(&mut self, partition: PartitionId, to: Round, batch: &mut Batch) -> bool {
        self.of(partition) < to && self.adopt(partition, to, batch)
    }

    /// The same; and it has one from now on, if only at zero.
    pub(super) fn adopt(&mut self, partition: PartitionId, to: Round, batch: &mut Batch) -> bool {
        let before = self.known.get(&partition).copied();
        if before.is_some_and(|before| before >= to) {
            return false;
        }
        let key = MetaKey::Round(partition).bytes();
        batch.put(Family::Meta, &key, &encode(&key, to));
        self.known.insert(partition, to);
        self.owed.entry(partition).or_insert(before);
        true
    }

    /// Whether one was raised that is not known to be on the disk.
    pub(super) fn are_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// All are on the disk.
    pub(super) fn on_synced(&mut self) {
        self.owed.clear();
    }

    /// What was raised may never come to the disk: nothing is said of it, and nothing more is written.
    pub(super) fn on_failed(&mut self) {
        for (partition, before) in std::mem::take(&mut self.owed) {
            match before {
                Some(before) => self.known.insert(partition, before),
                None => self.known.remove(&partition),
            };
        }
    }
}

fn checksum(key: &[u8], round: [u8; 8]) -> [u8; 8] {
    xxh3_64(&[key, &round].concat()).to_be_bytes()
}

fn encode(key: &[u8], round: Round) -> [u8; 16] {
    let round = round.0.to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&round);
    bytes[8..].copy_from_slice(&checksum(key, round));
    bytes
}

fn decode(key: &[u8], bytes: &[u8]) -> Option<Round> {
    let (round, sum) = bytes.split_first_chunk::<8>()?;
    (checksum(key, *round) == sum).then_some(Round(u64::from_be_bytes(*round)))
}

#[cfg(test)]
mod tests;
