//! Pages of the index of tombstones, in key order: those of a tree, or of a partition.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::merkle::{TreeId, TreeShape};
use super::{Engine, Family, OpFailure, ScanLimit, TombstoneEntry, partition_bounds};
use crate::types::PartitionId;

/// One tombstone of a [`TombstonePage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneItem {
    /// The object's key.
    pub key: Bytes,
    /// Its tree.
    pub tree: TreeId,
    /// What the index says.
    pub entry: TombstoneEntry,
}

/// Some of the tombstones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TombstonePage {
    /// By key.
    pub items: Vec<TombstoneItem>,
    /// Entries passed over since nobody can read them: the scrub puts them right.
    pub unreadable: u64,
    /// The key up to which, that one included, all has been looked at; `None`: up to the partition's end.
    pub next: Option<Bytes>,
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneSpec {
    /// The partition.
    pub partition: PartitionId,
    /// Only of its tree of this n; `None`: of all.
    pub n: Option<u8>,
    /// Only what lies behind this key.
    pub after: Option<Bytes>,
    /// At most so many tombstones.
    pub limit: usize,
}

/// Entries looked at for one page, of whichever tree: what one page may cost.
const MAX_LOOKED_AT: usize = 4096;
/// Bytes of keys that one page may hold before it ends; one key more may exceed it.
const MAX_BYTES: usize = 256 << 10;

/// Reads one page at one snapshot. Keys that are none of the ring's are passed over.
///
/// # Errors
/// [`OpFailure`] if the engine fails.
pub fn read_tombstone_page(
    engine: &dyn Engine,
    spec: &TombstoneSpec,
    shape: &TreeShape,
) -> Result<TombstonePage, OpFailure> {
    let (mut start, end) = partition_bounds(spec.partition);
    // A key from before the partition leads to its beginning, never into another partition.
    if let Some(after) = spec.after.as_ref().filter(|after| after[..] >= start[..]) {
        start = after.to_vec();
        start.push(0);
    }
    let mut page = TombstonePage::default();
    let (mut looked_at, mut bytes) = (0usize, 0usize);
    let mut visit = |key: &[u8], value: &[u8]| {
        looked_at += 1;
        let tree = shape.place(key).map(|(tree, _)| tree).filter(|tree| spec.n.is_none_or(|n| n == tree.n));
        match (tree, TombstoneEntry::decode(value)) {
            (Some(tree), Ok(entry)) => {
                bytes += key.len();
                page.items.push(TombstoneItem { key: Bytes::copy_from_slice(key), tree, entry });
            }
            (Some(_), Err(_)) => page.unreadable += 1,
            (None, _) => {}
        }
        if page.items.len() >= spec.limit || bytes >= MAX_BYTES || looked_at >= MAX_LOOKED_AT {
            page.next = Some(Bytes::copy_from_slice(key));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    engine.scan(Family::Tombstones, &start, end.as_deref(), ScanLimit::NONE, &mut visit)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Batch, MemoryConfig, MemoryEngine, object_key};
    use crate::types::{Bucket, Key, Token};
    use crate::version::Digest;

    fn shape() -> TreeShape {
        TreeShape::new(4, [("default".to_owned(), 3), ("pair".to_owned(), 2)].into())
    }

    fn item(partition: u16, bucket: &str, nth: u8) -> TombstoneItem {
        let token = Token(u64::from(partition) << 62 | u64::from(nth));
        let key = object_key(
            PartitionId(partition),
            token,
            &Bucket::new(bucket).unwrap(),
            &Key::new(vec![b'k', nth]).unwrap(),
        );
        let tree = TreeId { partition: PartitionId(partition), n: if bucket == "pair" { 2 } else { 3 } };
        let entry = TombstoneEntry { wall_ms: u64::from(nth) * 7, digest: Digest([nth; 16]) };
        TombstoneItem { key: key.into(), tree, entry }
    }

    fn engine(items: &[TombstoneItem]) -> MemoryEngine {
        let engine = MemoryEngine::new(MemoryConfig::default());
        let mut batch = Batch::new();
        for item in items {
            batch.put_with(Family::Tombstones, &item.key, |out| item.entry.encode_into(out));
        }
        engine.commit(&mut batch).unwrap();
        engine
    }

    fn spec(partition: u16, n: Option<u8>, limit: usize) -> TombstoneSpec {
        TombstoneSpec { partition: PartitionId(partition), n, after: None, limit }
    }

    /// All tombstones, page by page, and entries that could not be read.
    fn all(engine: &MemoryEngine, mut spec: TombstoneSpec) -> (Vec<TombstoneItem>, u64) {
        let (mut items, mut unreadable) = (Vec::new(), 0);
        loop {
            let page = read_tombstone_page(engine, &spec, &shape()).unwrap();
            assert!(page.items.len() <= spec.limit);
            items.extend(page.items);
            unreadable += page.unreadable;
            match page.next {
                Some(next) => spec.after = Some(next),
                None => return (items, unreadable),
            }
        }
    }

    #[test]
    fn pages_follow_one_another_within_their_partition_and_tree() {
        let mut items = Vec::new();
        for partition in [0, 1, 3] {
            items.extend((1..7).map(|nth| item(partition, if nth % 3 == 0 { "pair" } else { "default" }, nth)));
        }
        let engine = engine(&items);
        for limit in [1, 2, 5, 100] {
            for partition in 0..4 {
                for n in [None, Some(2), Some(3), Some(4)] {
                    let is_meant = |item: &&TombstoneItem| {
                        item.tree.partition.0 == partition && n.is_none_or(|n| item.tree.n == n)
                    };
                    let expected: Vec<_> = items.iter().filter(is_meant).cloned().collect();
                    assert_eq!(all(&engine, spec(partition, n, limit)), (expected, 0), "{partition} {n:?} {limit}");
                }
            }
        }
        // A key of another partition leads to the beginning, or to the end.
        let after = |partition| Some(item(partition, "default", 9).key);
        let page = |partition, after| {
            read_tombstone_page(&engine, &TombstoneSpec { after, ..spec(partition, None, 100) }, &shape()).unwrap()
        };
        assert_eq!((page(1, after(0)).items.len(), page(1, after(3)).items.len()), (6, 0));
    }

    #[test]
    fn what_cannot_be_read_or_placed_is_passed_over() {
        let items = [item(0, "default", 1), item(0, "default", 4)];
        let engine = engine(&items);
        let mut batch = Batch::new();
        batch.put(Family::Tombstones, &item(0, "default", 2).key, b"rot");
        batch.put(Family::Tombstones, &item(0, "pair", 2).key, b"rot");
        let elsewhere = item(0, "else", 3);
        batch.put_with(Family::Tombstones, &elsewhere.key, |out| elsewhere.entry.encode_into(out));
        batch.put(Family::Tombstones, &[0, 0, 7], b"rot");
        engine.commit(&mut batch).unwrap();
        for limit in [1, 100] {
            assert_eq!(all(&engine, spec(0, None, limit)), (items.to_vec(), 2));
            assert_eq!(all(&engine, spec(0, Some(3), limit)), (items.to_vec(), 1));
        }
    }

    #[test]
    fn a_page_is_bounded_in_bytes_and_in_what_it_looks_at() {
        let long = |nth: u64| {
            let bucket = Bucket::new(if nth.is_multiple_of(2) { "default" } else { "pair" }).unwrap();
            let key = Key::new([vec![b'k'; 1000], nth.to_be_bytes().to_vec()].concat()).unwrap();
            Bytes::from(object_key(PartitionId(0), Token(nth), &bucket, &key))
        };
        let engine = MemoryEngine::new(MemoryConfig::default());
        let mut batch = Batch::new();
        let entry = TombstoneEntry { wall_ms: 1, digest: Digest([1; 16]) };
        (0..6000).for_each(|nth| batch.put_with(Family::Tombstones, &long(nth), |out| entry.encode_into(out)));
        engine.commit(&mut batch).unwrap();
        let page = read_tombstone_page(&engine, &spec(0, None, usize::MAX), &shape()).unwrap();
        let bytes: usize = page.items.iter().map(|item| item.key.len()).sum();
        assert!((MAX_BYTES..MAX_BYTES + 2000).contains(&bytes), "{bytes}");
        let page = read_tombstone_page(&engine, &spec(0, Some(4), usize::MAX), &shape()).unwrap();
        assert_eq!((page.items.len(), page.next), (0, Some(long(4095))));
    }
}
