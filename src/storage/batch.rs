//! What one commit writes.

use crate::storage::engine::Family;

/// Capacity that an emptied batch keeps for its next use; one huge batch must not hold its memory for ever.
const KEPT_BYTES: usize = 4 << 20;

/// An ordered list of writes, applied whole or not at all. A later write of a key wins over an earlier one.
///
/// Keys and values lie in one buffer, copied once ([`Batch::put_with`] lets an encoder write there itself), and are
/// copied once more when the engine makes its own batch of them.
#[derive(Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    ops: Vec<Entry>,
}

/// Where an operation's bytes end in the buffer; they begin where those of the one before end.
#[derive(Debug)]
struct Entry {
    family: Family,
    kind: Kind,
    key_end: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

/// One write of a batch, as the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `key` has `value` from now on.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// `key` is absent from now on.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Every key in `[start, end)` is absent from now on.
    DeleteRange {
        /// The first key.
        start: &'a [u8],
        /// The first key beyond; greater than `start`.
        end: &'a [u8],
    },
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Gives `key` the `value`.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.put_with(family, key, |buffer| buffer.extend_from_slice(value));
    }

    /// Gives `key` what `encode` *appends* to the buffer that it is handed, which saves a copy of the value.
    ///
    /// # Panics
    /// If `encode` shortens the buffer.
    pub fn put_with(&mut self, family: Family, key: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.extend_from_slice(key);
        let key_end = self.buffer.len();
        encode(&mut self.buffer);
        assert!(self.buffer.len() >= key_end, "an encoder only appends");
        self.ops.push(Entry { family, kind: Kind::Put, key_end, end: self.buffer.len() });
    }

    /// Removes `key`, present or not.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.buffer.extend_from_slice(key);
        let end = self.buffer.len();
        self.ops.push(Entry { family, kind: Kind::Delete, key_end: end, end });
    }

    /// Removes every key in `[start, end)`; nothing if `end` does not lie beyond `start`.
    pub fn delete_range(&mut self, family: Family, start: &[u8], end: &[u8]) {
        if start >= end {
            return;
        }
        self.buffer.extend_from_slice(start);
        let key_end = self.buffer.len();
        self.buffer.extend_from_slice(end);
        self.ops.push(Entry { family, kind: Kind::DeleteRange, key_end, end: self.buffer.len() });
    }

    /// Whether it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Empties it for its next use.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        self.ops.clear();
        self.ops.shrink_to(KEPT_BYTES / size_of::<Entry>());
    }

    /// The writes, in order.
    pub fn ops(&self) -> impl Iterator<Item = (Family, Op<'_>)> {
        let mut begin = 0;
        self.ops.iter().map(move |entry| {
            let key = &self.buffer[begin..entry.key_end];
            let rest = &self.buffer[entry.key_end..entry.end];
            begin = entry.end;
            let op = match entry.kind {
                Kind::Put => Op::Put { key, value: rest },
                Kind::Delete => Op::Delete { key },
                Kind::DeleteRange => Op::DeleteRange { start: key, end: rest },
            };
            (entry.family, op)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_out_as_and_in_the_order_they_went_in() {
        let mut batch = Batch::new();
        batch.put(Family::Objects, b"key", b"value");
        batch.delete(Family::Hints, b"gone");
        batch.put_with(Family::Merkle, b"m", |buffer| buffer.push(7));
        batch.delete_range(Family::Meta, b"a", b"b");
        batch.put(Family::Meta, b"", b"");
        let ops: Vec<_> = batch.ops().collect();
        assert_eq!(
            ops,
            [
                (Family::Objects, Op::Put { key: b"key", value: b"value" }),
                (Family::Hints, Op::Delete { key: b"gone" }),
                (Family::Merkle, Op::Put { key: b"m", value: &[7] }),
                (Family::Meta, Op::DeleteRange { start: b"a", end: b"b" }),
                (Family::Meta, Op::Put { key: b"", value: b"" }),
            ]
        );
        assert_eq!((batch.len(), batch.bytes()), (5, 16));
    }

    #[test]
    fn an_empty_range_is_no_write() {
        let mut batch = Batch::new();
        batch.delete_range(Family::Objects, b"b", b"b");
        batch.delete_range(Family::Objects, b"b", b"a");
        assert!(batch.is_empty());
    }

    #[test]
    fn a_cleared_batch_gives_a_huge_buffer_back() {
        let mut batch = Batch::new();
        batch.put(Family::Objects, b"k", &vec![0; 4 * KEPT_BYTES]);
        batch.clear();
        assert!(batch.is_empty() && batch.bytes() == 0 && batch.buffer.capacity() <= KEPT_BYTES);
    }

    #[test]
    #[should_panic(expected = "only appends")]
    fn an_encoder_that_cuts_the_key_off_is_a_bug() {
        Batch::new().put_with(Family::Objects, b"key", Vec::clear);
    }
}
