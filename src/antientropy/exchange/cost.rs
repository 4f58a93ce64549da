//! What the steps of an exchange weigh in bytes of frames, packets aside: for the throttle, and for whoever asks.

use bytes::Bytes;

use super::MAX_KEYS;
use super::command::{PeerPage, Transferred};
use crate::version::Versions;

/// Bytes of a question and its answer besides their lists and keys, at most.
pub const QUESTION: u64 = 72;
/// A tree in a comparison of roots, and its verdict.
const TREE: u64 = 20;
/// A sum, or the hash of what stands under a key.
pub(super) const SUM: u64 = 8;
/// A leaf's number.
pub(super) const LEAF: u64 = 2;
/// What an item has besides its key and its versions.
const ITEM: u64 = 12;
/// Bytes that an object takes besides its own and its key's, at most: the rest of its frame, and the frame that acknowledges it.
pub const OBJECT: u64 = 64;

pub(super) fn of_roots(trees: usize) -> u64 {
    QUESTION + trees as u64 * TREE
}

pub(super) fn of_sums(sums: &[u64]) -> u64 {
    sums.len() as u64 * SUM
}

pub(super) fn of_page(page: &PeerPage) -> u64 {
    let versions = |versions: &Versions| versions.encoded_len() as u64;
    let items = page.items.iter().map(|item| ITEM + item.key.len() as u64 + item.versions.as_ref().map_or(0, versions));
    (page.same.len() as u64).div_ceil(8) + items.sum::<u64>() + of_keys(&page.next)
}

pub(super) fn of_keys<'a>(keys: impl IntoIterator<Item = &'a Bytes>) -> u64 {
    keys.into_iter().map(|key| key.len() as u64).sum()
}

/// A peer's word, of which no more is believed than so many objects of that length can hold.
pub(super) fn of_objects(done: &Transferred, longest: u64) -> u64 {
    let sent = u64::from(done.sent).min(MAX_KEYS as u64);
    done.bytes.min(sent.saturating_mul(longest)) + sent * OBJECT
}
