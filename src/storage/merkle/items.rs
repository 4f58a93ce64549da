//! The keys of some leaves with their hashes: what two replicas compare once they know where they differ.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::{ItemHash, ItemHasher, Leaves, TreeId, TreeShape};
use crate::storage::{Engine, Family, OpFailure, Record, ScanLimit, StorageError};
use crate::version::Versions;

/// A key and what stands under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The object's key, as the store has it.
    pub key: Bytes,
    /// Of the object.
    pub hash: ItemHash,
    /// The object, but for its values.
    pub versions: Versions,
}

/// Some keys of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemPage {
    /// By key.
    pub items: Vec<Item>,
    /// Keys whose records have rotted: what they held is unknown.
    pub rotten: Vec<Bytes>,
    /// Keys whose records a newer version has written: what they hold is unknown here.
    pub newer: Vec<Bytes>,
    /// The key up to which, that one included, all has been looked at; `None`: all.
    pub next: Option<Bytes>,
}

impl ItemPage {
    /// How many keys have records that cannot be read.
    pub fn unknown(&self) -> usize {
        self.rotten.len() + self.newer.len()
    }
}

/// Which keys.
#[derive(Clone, Debug)]
pub struct ItemSpec {
    /// The tree.
    pub tree: TreeId,
    /// How many leaves it is taken to have.
    pub leaves: Leaves,
    /// Those leaves, ascending.
    pub of: Vec<u32>,
    /// Only what lies behind this key.
    pub after: Option<Bytes>,
    /// Only what lies up to this key, that one included.
    pub until: Option<Bytes>,
    /// At most so many keys.
    pub limit: usize,
    /// How keys fall into trees.
    pub shape: Arc<TreeShape>,
    /// How items are hashed.
    pub hasher: ItemHasher,
}

/// Bytes of records that are looked at for one page; one record more may exceed it.
const MAX_BYTES: usize = 1 << 20;

/// Reads one page: each leaf at a snapshot of its own.
///
/// # Errors
/// [`OpFailure`] if the engine fails; a record that is corrupt is named in the page.
pub fn read_items(engine: &dyn Engine, mut spec: ItemSpec) -> Result<ItemPage, OpFailure> {
    let (mut page, mut bytes) = (ItemPage::default(), 0usize);
    for leaf in &spec.of {
        let (mut start, mut end) = spec.shape.leaf_bounds(spec.tree.partition, *leaf, spec.leaves);
        if let Some(after) = spec.after.as_ref().filter(|after| after[..] >= start[..]) {
            start = behind(after);
        }
        if let Some(until) = spec.until.as_ref().filter(|until| until[..] < end[..]) {
            end = behind(until);
        }
        if start >= end {
            continue;
        }
        let mut visit = |key: &[u8], record: &[u8]| {
            bytes += key.len() + record.len();
            if spec.shape.place(key).is_some_and(|(of, _)| of == spec.tree) {
                let key = Bytes::copy_from_slice(key);
                match Record::decode(Bytes::copy_from_slice(record)) {
                    Ok(record) if is_passed_over(&record) => {}
                    Ok(record) => {
                        let hash = spec.hasher.hash(&key, &record.object);
                        page.items.push(Item { key, hash, versions: Versions::of(&record.object) });
                    }
                    Err(StorageError::NewerRecord { .. }) => page.newer.push(key),
                    Err(_) => page.rotten.push(key),
                }
            }
            if page.items.len() + page.unknown() >= spec.limit || bytes >= MAX_BYTES {
                page.next = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        engine.scan(Family::Objects, &start, Some(&end), ScanLimit::NONE, &mut visit)?;
        if page.next.is_some() {
            break;
        }
    }
    Ok(page)
}

/// The first key behind one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// A seeded bug's doing: nothing is passed over.
fn is_passed_over(record: &Record) -> bool {
    mutant!(ExchangeSkipsTombstones) && record.object.is_deleted()
}
