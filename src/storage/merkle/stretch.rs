//! Keys between which the engine can read nothing, since a part of one of its files is not what was written.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::{CountSpec, Leaves, TreeShape};
use crate::storage::keys::{OBJECTS_END, PREFIX_LEN, token_of, token_start};
use crate::storage::{Engine, Family, ScanLimit, StorageError};
use crate::types::{PartitionId, Token};

/// How finely the end of a stretch is sought, in parts of what is counted at a time.
const PARTS: u128 = 1 << 16;
/// How far the first step of the search goes, in the same parts.
const FIRST_STEP: u128 = 1 << 4;

/// All keys in `[start, end)`, of which nobody knows which ones there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first.
    pub start: Bytes,
    /// The first beyond.
    pub end: Bytes,
    /// The leaves of its partition that it touches.
    pub leaves: Range<u32>,
}

impl Stretch {
    /// The stretch that begins at `start`, where a scan has failed, and reaches no further than to `end`, where the leaves end that
    /// are counted. It ends where something can be read again, as far as a search by halves tells.
    ///
    /// # Errors
    /// The engine cannot even say that the bytes are wrong.
    pub(super) fn find(
        engine: &dyn Engine,
        spec: &CountSpec,
        start: Vec<u8>,
        end: &[u8],
    ) -> Result<Stretch, StorageError> {
        let first = u128::from(token_of(&start).0);
        // Tokens go up to the last one, and leaves end before the next partition's first, or behind the last of all.
        let beyond = if end.len() > PREFIX_LEN { 1 << u64::BITS } else { u128::from(token_of(end).0) };
        let least = ((beyond - first) / PARTS).max(1);
        let at = |token: u128| token_start(spec.partition, Token(token as u64)).to_vec();
        let (mut bad, mut step) = (first, least * FIRST_STEP);
        let mut good = loop {
            let next = bad.saturating_add(step).min(beyond);
            if next == beyond || can_read(engine, &at(next), end)? {
                break next;
            }
            (bad, step) = (next, step * 2);
        };
        while good - bad > least {
            let middle = bad + (good - bad) / 2;
            if can_read(engine, &at(middle), end)? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        let end = if good == beyond { end.to_vec() } else { at(good) };
        let leaf = |token: u128| spec.shape.leaf_of(Token(token as u64), spec.leaves);
        let leaves = leaf(first)..leaf((good - 1).max(first)) + 1;
        Ok(Stretch { start: start.into(), end: end.into(), leaves })
    }

    /// With all up to its partition's bounds where it reaches to the first or the last leaf: no key lies there, but a scan over partitions
    /// would meet what is left.
    pub fn up_to_bounds(&self, partition: PartitionId, leaves: Leaves, shape: &TreeShape) -> (Bytes, Bytes) {
        let (first, _) = shape.leaf_bounds(partition, 0, leaves);
        let (_, last) = shape.leaf_bounds(partition, leaves.count() - 1, leaves);
        // Whole tokens, as everybody seeks who looks for the end of what cannot be read.
        let at = |partition| Bytes::copy_from_slice(&token_start(partition, Token(0)));
        let next = partition.0.checked_add(1).map(|next| at(PartitionId(next)));
        let start = if self.start == first { at(partition) } else { self.start.clone() };
        let end = if self.end == last { next.unwrap_or(Bytes::from_static(OBJECTS_END)) } else { self.end.clone() };
        (start, end)
    }

    /// Without what lies in leaves beyond these; `None`: nothing is left.
    pub(super) fn within(mut self, spec: &CountSpec, leaves: u32) -> Option<Stretch> {
        if self.leaves.end > leaves {
            let (_, end) = spec.shape.leaf_bounds(spec.partition, leaves.checked_sub(1)?, spec.leaves);
            self.end = end.into();
            self.leaves.end = leaves;
        }
        (self.start < self.end && !self.leaves.is_empty()).then_some(self)
    }
}

/// Whether what follows a key can be read, if anything does.
fn can_read(engine: &dyn Engine, from: &[u8], end: &[u8]) -> Result<bool, StorageError> {
    let mut visit = |_: &[u8], _: &[u8]| ControlFlow::Break(());
    match engine.scan(Family::Objects, from, Some(end), ScanLimit::entries(1), &mut visit) {
        Ok(_) => Ok(true),
        Err(StorageError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
