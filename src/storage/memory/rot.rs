//! Parts of a modelled disk that cannot be read.
//!
//! As what RocksDB has in quarantine: a key in it cannot be read, nor can a scan pass it. What is written over a key is read in its place until
//! it is deleted, and a range that is deleted is not looked at any more.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::storage::batch::Op;
use crate::storage::engine::Family;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Rot {
    /// `[start, end)`; they do not overlap.
    stretches: Vec<(Family, Bytes, Bytes)>,
    /// What was written over them.
    over: BTreeSet<(Family, Bytes)>,
}

impl Rot {
    pub fn is_none(&self) -> bool {
        self.stretches.is_empty()
    }

    /// From now on, nothing can be read here.
    pub fn add(&mut self, family: Family, start: Bytes, end: Bytes) {
        self.clear(family, &start, &end);
        self.stretches.push((family, start, end));
    }

    /// Whether a key lies in what cannot be read, whatever was written over it.
    fn covers(&self, family: Family, key: &[u8]) -> bool {
        let within = |(of, start, end): &(Family, Bytes, Bytes)| *of == family && start[..] <= *key && *key < end[..];
        self.stretches.iter().any(within)
    }

    /// Whether a key's value is in what cannot be read.
    pub fn hides(&self, family: Family, key: &[u8]) -> bool {
        self.covers(family, key) && !self.over.contains(&(family, Bytes::copy_from_slice(key)))
    }

    /// Where a scan of `[start, end)` fails; `None`: it does not.
    pub fn stops(&self, family: Family, start: &[u8], end: Option<&[u8]>) -> Option<Bytes> {
        let meets = |(of, from, to): &&(Family, Bytes, Bytes)| {
            *of == family && to[..] > *start && end.is_none_or(|end| from[..] < *end)
        };
        self.stretches.iter().filter(meets).map(|(_, from, _)| from.clone()).min()
    }

    /// What a write does to it.
    pub fn apply(&mut self, family: Family, op: Op<'_>) {
        match op {
            Op::Put { key, .. } => {
                if self.hides(family, key) {
                    self.over.insert((family, Bytes::copy_from_slice(key)));
                }
            }
            Op::Delete { key } => {
                self.over.remove(&(family, Bytes::copy_from_slice(key)));
            }
            Op::DeleteRange { start, end } => self.clear(family, start, end),
        }
    }

    /// A range is not looked at any more.
    fn clear(&mut self, family: Family, start: &[u8], end: &[u8]) {
        let before = std::mem::take(&mut self.stretches);
        for (of, from, to) in before {
            if of != family || to[..] <= *start || *end <= from[..] {
                self.stretches.push((of, from, to));
                continue;
            }
            if from[..] < *start {
                self.stretches.push((of, from, Bytes::copy_from_slice(start)));
            }
            if *end < to[..] {
                self.stretches.push((of, Bytes::copy_from_slice(end), to));
            }
        }
        self.over.retain(|(of, key)| *of != family || key[..] < *start || *end <= key[..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rot() -> Rot {
        let mut rot = Rot::default();
        rot.add(Family::Objects, "b".into(), "f".into());
        rot
    }

    #[test]
    fn keys_within_are_hidden_until_they_are_written_over() {
        let mut rot = rot();
        let hidden = |rot: &Rot| ["a", "b", "c", "f"].map(|key| rot.hides(Family::Objects, key.as_bytes()));
        assert_eq!(hidden(&rot), [false, true, true, false]);
        rot.apply(Family::Objects, Op::Put { key: b"c", value: b"v" });
        rot.apply(Family::Hints, Op::Put { key: b"b", value: b"v" });
        assert_eq!(hidden(&rot), [false, true, false, false]);
        // That there is nothing of a key, nobody knows here.
        rot.apply(Family::Objects, Op::Delete { key: b"b" });
        rot.apply(Family::Objects, Op::Delete { key: b"c" });
        assert_eq!(hidden(&rot), [false, true, true, false]);
        // A scan meets what is below all the same.
        assert_eq!(rot.stops(Family::Objects, b"c", Some(b"d")), Some("b".into()));
    }

    #[test]
    fn a_deleted_range_is_looked_at_no_more() {
        let mut rot = rot();
        rot.apply(Family::Objects, Op::DeleteRange { start: b"c", end: b"d" });
        assert_eq!(rot.stops(Family::Objects, b"c", Some(b"d")), None);
        assert_eq!(rot.stops(Family::Objects, b"a", None), Some("b".into()));
        assert_eq!(rot.stops(Family::Objects, b"c", None), Some("d".into()));
        rot.apply(Family::Objects, Op::DeleteRange { start: b"a", end: b"z" });
        assert!(rot.is_none());
    }
}
