//! Pages of the index of hints, in key order: what waits for one node, or all that waits.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Engine, Family, HintEntry, OpFailure, ScanLimit, hint_bounds, parse_hint_key};
use crate::types::NodeId;

/// One hint of a [`HintPage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintItem {
    /// Who waits.
    pub target: NodeId,
    /// The object's key.
    pub key: Bytes,
    /// What the index says.
    pub entry: HintEntry,
}

/// Part of the hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintPage {
    /// The hints.
    pub items: Vec<HintItem>,
    /// Keys of the index that nobody can have written. They name neither target nor object: nothing is lost with them.
    pub unreadable: Vec<Bytes>,
    /// The key in the index up to which, that one included, all has been looked at; `None`: up to the range's end.
    pub next: Option<Bytes>,
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintSpec {
    /// For whom; `None`: for everybody.
    pub target: Option<NodeId>,
    /// Only what lies behind this key of the index.
    pub after: Option<Bytes>,
    /// Only hints of this shard's partitions,
    pub shard: u16,
    /// of so many shards.
    pub shards: u16,
    /// At most so many hints.
    pub limit: usize,
}

/// Entries looked at for one page, whosever they are: what one page may cost.
const MAX_LOOKED_AT: usize = 4096;

/// Reads one page at one snapshot. An entry that cannot be read is still a hint, taken for a counted one: its record says
/// the rest. A key that cannot be read is reported, to the first shard alone since it is in nobody's partition, and the page
/// goes on behind it.
///
/// # Errors
/// [`OpFailure`] if the engine fails.
pub fn read_hint_page(engine: &dyn Engine, spec: &HintSpec) -> Result<HintPage, OpFailure> {
    let (mut start, end) = spec.target.map_or((Vec::new(), None), hint_bounds);
    if let Some(after) = spec.after.as_ref().filter(|after| after[..] >= start[..]) {
        start = after.to_vec();
        start.push(0);
    }
    let (mut page, mut looked_at) = (HintPage::default(), 0);
    let mut visit = |index_key: &[u8], value: &[u8]| {
        looked_at += 1;
        match parse_hint_key(index_key) {
            Ok((target, key, place)) if place.partition.0 % spec.shards.max(1) == spec.shard => {
                let unreadable = HintEntry { counted: true, bytes: 0, hinted_ms: 0 };
                let entry = HintEntry::decode(value).unwrap_or(unreadable);
                page.items.push(HintItem { target, key: Bytes::copy_from_slice(key), entry });
            }
            Err(_) if spec.shard == 0 => page.unreadable.push(Bytes::copy_from_slice(index_key)),
            Ok(_) | Err(_) => {}
        }
        if page.items.len() >= spec.limit || looked_at >= MAX_LOOKED_AT {
            page.next = Some(Bytes::copy_from_slice(index_key));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    engine.scan(Family::Hints, &start, end.as_deref(), ScanLimit::NONE, &mut visit)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Batch, MemoryConfig, MemoryEngine, hint_key, object_key};
    use crate::types::{Bucket, Key, PartitionId, Token};

    fn item(target: u64, partition: u16) -> HintItem {
        let key = object_key(PartitionId(partition), Token(1), &Bucket::default(), &Key::new("k").unwrap());
        let entry = HintEntry { counted: target == 1, bytes: 10, hinted_ms: 20 };
        HintItem { target: NodeId(target), key: key.into(), entry }
    }

    fn engine(items: &[HintItem]) -> MemoryEngine {
        let engine = MemoryEngine::new(MemoryConfig::default());
        let mut batch = Batch::new();
        for item in items {
            batch.put_with(Family::Hints, &hint_key(item.target, &item.key), |out| item.entry.encode_into(out));
        }
        engine.commit(&mut batch).unwrap();
        engine
    }

    /// All items, page by page.
    fn all(engine: &MemoryEngine, target: Option<u64>, (shard, shards): (u16, u16), limit: usize) -> Vec<HintItem> {
        let mut spec = HintSpec { target: target.map(NodeId), after: None, shard, shards, limit };
        let mut items = Vec::new();
        loop {
            let page = read_hint_page(engine, &spec).unwrap();
            assert!(page.items.len() <= limit);
            items.extend(page.items);
            match page.next {
                Some(next) => spec.after = Some(next),
                None => return items,
            }
        }
    }

    #[test]
    fn pages_follow_one_another_within_their_target_and_shard() {
        let items: Vec<_> = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 3), (9, 1)].map(|(t, p)| item(t, p)).into();
        let engine = engine(&items);
        for limit in [1, 2, 100] {
            assert_eq!(all(&engine, None, (0, 1), limit), items);
            assert_eq!(all(&engine, Some(1), (0, 1), limit), items[..3]);
            assert_eq!(all(&engine, Some(2), (1, 2), limit), items[4..5]);
            assert_eq!(all(&engine, Some(3), (0, 1), limit), []);
            let mut shards: Vec<_> = (0..3).flat_map(|shard| all(&engine, None, (shard, 3), limit)).collect();
            shards.sort_by(|a, b| (a.target, &a.key).cmp(&(b.target, &b.key)));
            assert_eq!(shards, items, "whatever the number of shards, each hint is one's");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_read_counts() {
        let engine = engine(&[]);
        let mut batch = Batch::new();
        let item = item(1, 0);
        batch.put(Family::Hints, &hint_key(item.target, &item.key), b"rot");
        engine.commit(&mut batch).unwrap();
        let entry = HintEntry { counted: true, bytes: 0, hinted_ms: 0 };
        assert_eq!(all(&engine, None, (0, 1), 5), [HintItem { entry, ..item }]);
    }

    #[test]
    fn a_key_that_cannot_be_is_reported_and_stops_nothing() {
        let items: Vec<_> = [(1, 0), (9, 1)].map(|(t, p)| item(t, p)).into();
        let engine = engine(&items);
        let mut batch = Batch::new();
        let bad: [&[u8]; 3] = [b"", b"\0\0\0\0\0\0\0\x01\0\0", b"no hint"];
        bad.iter().for_each(|key| batch.put(Family::Hints, key, b""));
        engine.commit(&mut batch).unwrap();
        for (shard, found, unreadable) in [(0, &items[..1], &bad[..]), (1, &items[1..], &[])] {
            let spec = HintSpec { target: None, after: None, shard, shards: 2, limit: 5 };
            let page = read_hint_page(&engine, &spec).unwrap();
            assert_eq!((&page.items[..], page.next), (found, None));
            assert_eq!(page.unreadable, unreadable);
        }
        for limit in [1, 2] {
            assert_eq!(all(&engine, None, (0, 1), limit), items);
        }
    }
}
