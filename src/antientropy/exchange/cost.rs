//! What the steps of an exchange weigh in bytes of frames, packets aside: for the throttle, and for whoever asks.

use bytes::Bytes;

use super::MAX_KEYS;
use super::command::{PeerPage, Transferred};
use crate::version::CausalContext;

/// Bytes of a question and its answer besides their lists, at most.
pub const QUESTION: u64 = 72;
/// A tree in a comparison of roots, and its verdict.
const TREE: u64 = 20;
/// A sum, or the hash of what stands under a key.
const SUM: u64 = 8;
/// What an item has besides its key and its context.
const ITEM: u64 = 12;
/// Bytes that an object takes besides its own, at most, where names are short: the rest of its frame, and the frame that acknowledges it.
pub const OBJECT: u64 = 80;

pub(super) fn of_roots(trees: usize) -> u64 {
    QUESTION + trees as u64 * TREE
}

pub(super) fn of_sums(sums: usize) -> u64 {
    QUESTION + sums as u64 * SUM
}

/// With the hashes, leaves and bounds that the question told.
pub(super) fn of_items(page: &PeerPage) -> u64 {
    let context = |context: &CausalContext| context.encoded_len() as u64;
    let items = page.items.iter().map(|item| ITEM + item.key.len() as u64 + item.context.as_ref().map_or(0, context));
    let known = page.same.len() as u64;
    2 * QUESTION + known * SUM + known.div_ceil(8) + items.sum::<u64>()
}

/// Keys whose objects are asked for.
pub(super) fn of_wanted<'a>(keys: impl Iterator<Item = &'a Bytes>) -> u64 {
    QUESTION + keys.map(|key| key.len() as u64).sum::<u64>()
}

/// A peer's word, of which no more is believed than so many objects of that length can hold.
pub(super) fn of_objects(done: &Transferred, longest: u64) -> u64 {
    let sent = u64::from(done.sent).min(MAX_KEYS as u64);
    done.bytes.min(sent.saturating_mul(longest)) + sent * OBJECT
}
