//! What stands on disk under an object's key.
//!
//! ```text
//! format u8 = 1 | flags u8 | [own: actor u64 BE, minted_in u64 BE]
//!     | [hints: count u16 BE, then of each target u64 BE, counted u8, digest 16 bytes, hinted_ms u64 BE; by target, each once]
//!     | object (canonical encoding) | xxh3-64 of all before, BE
//! ```
//! Bit 0 of the flags says that `own` is there, bit 1 that hints are, bit 2 that the record is there for the hints alone; a
//! record without them is not a byte longer. The checksum is the record's own, so that a flipped bit is noticed wherever it
//! happened between the batch and the read.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{Hint, StorageError};
use crate::types::{Generation, NodeId};
use crate::version::{Actor, DecodeError, Digest, Object, Own};

const FORMAT: u8 = 1;
const HAS_OWN: u8 = 1;
const HAS_HINTS: u8 = 2;
const STANDS_IN: u8 = 4;
const HEADER: usize = 2;
const OWN: usize = 16;
const HINT: usize = 8 + 1 + 16 + 8;
const CHECKSUM: usize = 8;

/// An object as one node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// This node's right to go on counting under an actor of its own for this key. Local: never on the wire.
    pub own: Option<Own>,
    /// Who else still waits for it, by target; mostly nobody. Local: never on the wire.
    pub hints: Vec<Hint>,
    /// All of it came with hints: it goes with the last of them, unless its holder has become a primary of the key. False for
    /// what was written or merged here as a primary, also after the ring has changed. Never true without hints. Local.
    pub stands_in: bool,
    /// The object.
    pub object: Arc<Object>,
}

fn corrupt(detail: impl Into<String>) -> StorageError {
    StorageError::Corrupt { detail: detail.into() }
}

/// What has a right checksum is no rot: of that nothing is to be wiped.
fn newer(detail: impl Into<String>) -> StorageError {
    StorageError::NewerRecord { detail: detail.into() }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("the caller cuts eight bytes"))
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let has_hints = if self.hints.is_empty() { 0 } else { HAS_HINTS };
        let has_own = if self.own.is_some() { HAS_OWN } else { 0 };
        debug_assert!(!self.stands_in || has_hints != 0, "whoever stands in has a hint for whom");
        let stands_in = if self.stands_in { STANDS_IN } else { 0 };
        out.extend_from_slice(&[FORMAT, has_own | has_hints | stands_in]);
        if let Some(own) = self.own {
            out.extend_from_slice(&own.actor.0.to_be_bytes());
            out.extend_from_slice(&own.minted_in.0.to_be_bytes());
        }
        if has_hints != 0 {
            encode_hints(&self.hints, out);
        }
        self.object.encode_into(out);
        let sum = xxh3_64(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }

    /// Reads a record; the object's values are slices of `bytes`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for a wrong checksum; [`StorageError::NewerRecord`] for a right one over another format, or over what
    /// [`Record::encode_into`] would not have written.
    pub fn decode(bytes: Bytes) -> Result<Record, StorageError> {
        Record::decode_with(&bytes, |object| Object::decode(bytes.slice_ref(object)))
    }

    /// The same; the object's values are copies.
    ///
    /// # Errors
    /// As [`decode`](Record::decode).
    pub fn decode_copied(bytes: &[u8]) -> Result<Record, StorageError> {
        Record::decode_with(bytes, Object::decode_copied)
    }

    /// What is left of it when all its values are taken for empty ones. `None` for one with hints, which say how long it is.
    pub(super) fn without_values(&self) -> Option<Record> {
        let object = || Arc::new(self.object.without_values());
        self.hints.is_empty().then(|| Record { object: object(), hints: Vec::new(), ..*self })
    }

    fn decode_with(
        bytes: &[u8],
        decode_object: impl FnOnce(&[u8]) -> Result<Object, DecodeError>,
    ) -> Result<Record, StorageError> {
        if bytes.len() < HEADER + CHECKSUM {
            return Err(corrupt(format!("a record of {} bytes", bytes.len())));
        }
        let (covered, sum) = bytes.split_at(bytes.len() - CHECKSUM);
        if xxh3_64(covered) != word(sum) {
            return Err(corrupt("a record's checksum does not match"));
        }
        let (format, flags) = (covered[0], covered[1]);
        if format != FORMAT || flags & !(HAS_OWN | HAS_HINTS | STANDS_IN) != 0 {
            return Err(newer(format!("a record of format {format}, flags {flags:#x}")));
        }
        let mut start = HEADER;
        let mut own = None;
        if flags & HAS_OWN != 0 {
            let field = covered.get(HEADER..HEADER + OWN).ok_or_else(|| newer("a record ends in its own field"))?;
            own = Some(Own { actor: Actor(word(&field[..8])), minted_in: Generation(word(&field[8..])) });
            start += OWN;
        }
        let mut hints = Vec::new();
        if flags & HAS_HINTS != 0 {
            hints = decode_hints(&covered[start..]).ok_or_else(|| newer("a record's hints are malformed"))?;
            start += 2 + hints.len() * HINT;
        }
        let object = decode_object(&covered[start..]).map_err(|error| newer(error.to_string()))?;
        let stands_in = flags & STANDS_IN != 0;
        if stands_in && hints.is_empty() {
            return Err(newer("a record stands in for nobody"));
        }
        Ok(Record { own, hints, stands_in, object: Arc::new(object) })
    }
}

fn encode_hints(hints: &[Hint], out: &mut Vec<u8>) {
    debug_assert!(hints.is_sorted_by(|a, b| a.target < b.target), "hints are kept by target");
    let count = u16::try_from(hints.len()).expect("a cluster has fewer members than a u16 counts");
    out.extend_from_slice(&count.to_be_bytes());
    for hint in hints {
        out.extend_from_slice(&hint.target.0.to_be_bytes());
        out.push(u8::from(hint.counted));
        out.extend_from_slice(&hint.digest.0);
        out.extend_from_slice(&hint.hinted_ms.to_be_bytes());
    }
}

/// Takes the hints off the front; `None` for what [`encode_hints`] would not have written.
fn decode_hints(bytes: &[u8]) -> Option<Vec<Hint>> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let fields = rest.get(..count * HINT)?;
    let decode = |field: &[u8]| {
        let (target, rest) = field.split_first_chunk::<8>()?;
        let (&counted @ 0..=1, rest) = rest.split_first()? else { return None };
        let (digest, hinted_ms) = rest.split_first_chunk::<16>()?;
        let target = NodeId(u64::from_be_bytes(*target));
        Some(Hint { target, counted: counted == 1, digest: Digest(*digest), hinted_ms: word(hinted_ms) })
    };
    let hints: Vec<Hint> = fields.chunks_exact(HINT).map(decode).collect::<Option<_>>()?;
    (count > 0 && hints.is_sorted_by(|a, b| a.target < b.target)).then_some(hints)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::WriteId;
    use crate::version::{Body, CausalContext, Dot, Sibling};

    fn encode(record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode_into(&mut out);
        out
    }

    fn hint(target: u64, counted: bool) -> Hint {
        Hint { target: NodeId(target), counted, digest: Digest([target as u8; 16]), hinted_ms: target * 7 }
    }

    fn record(own: bool, hints: Vec<Hint>) -> Record {
        let actor = Actor(9);
        let sibling = Sibling {
            dot: Dot { actor, counter: 1 },
            write_id: WriteId(3),
            node: NodeId(4),
            wall_ms: 5,
            body: Body::Value("value".into()),
        };
        let object = Arc::new(Object::update(None, &CausalContext::default(), sibling));
        Record { own: own.then_some(Own { actor, minted_in: Generation(6) }), hints, stands_in: false, object }
    }

    /// A record's bytes after its own were changed, under a checksum that matches.
    fn resealed(record: &Record, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut bytes = encode(record);
        bytes.truncate(bytes.len() - CHECKSUM);
        change(&mut bytes);
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes.into()
    }

    proptest! {
        #[test]
        fn records_survive_the_round_trip(
            own: bool,
            stands_in: bool,
            hints in proptest::collection::btree_map(0u64..9, (any::<bool>(), any::<[u8; 16]>(), any::<u64>()), 0..5),
        ) {
            let hint = |(target, (counted, digest, hinted_ms))| {
                Hint { target: NodeId(target), counted, digest: Digest(digest), hinted_ms }
            };
            let mut record = record(own, hints.into_iter().map(hint).collect());
            record.stands_in = stands_in && !record.hints.is_empty();
            let bytes = encode(&record);
            prop_assert_eq!(&Record::decode_copied(&bytes).unwrap(), &record);
            prop_assert_eq!(Record::decode(bytes.into()).unwrap(), record);
        }

        #[test]
        fn what_decodes_is_what_would_be_written(at in 0usize..120, byte: u8) {
            let good = record(true, vec![hint(1, true), hint(2, false)]);
            let changed = resealed(&good, |bytes| {
                let at = at % bytes.len();
                bytes[at] = byte;
            });
            if let Ok(record) = Record::decode(changed.clone()) {
                prop_assert_eq!(encode(&record), changed);
            }
        }
    }

    /// What was written before there were hints is read, and still written so.
    #[test]
    fn a_record_without_hints_has_no_byte_for_them() {
        let plain = record(true, Vec::new());
        let bytes = encode(&plain);
        assert_eq!(bytes.len(), HEADER + OWN + plain.object.encoded_len() + CHECKSUM);
        assert_eq!(bytes[1], HAS_OWN);
        assert_eq!(encode(&record(false, Vec::new()))[1], 0);
    }

    #[test]
    fn what_this_version_would_not_have_written_is_no_rot() {
        let good = record(false, vec![hint(1, true), hint(2, false)]);
        let target = |nth: usize| HEADER + 2 + nth * HINT + 7;
        for (what, bad) in [
            ("order", resealed(&good, |bytes| bytes.swap(target(0), target(1)))),
            ("twice", resealed(&good, |bytes| bytes[target(1)] = 1)),
            ("none", resealed(&good, |bytes| drop(bytes.splice(HEADER..HEADER + 2 + 2 * HINT, [0, 0])))),
            ("count", resealed(&good, |bytes| bytes[HEADER] = 255)),
            ("counted", resealed(&good, |bytes| bytes[target(0) + 1] = 2)),
            ("nobody", resealed(&record(true, Vec::new()), |bytes| bytes[1] |= STANDS_IN)),
            ("format", resealed(&good, |bytes| bytes[0] = FORMAT + 1)),
            ("flags", resealed(&good, |bytes| bytes[1] |= 1 << 7)),
            ("own", resealed(&record(true, Vec::new()), |bytes| bytes.truncate(HEADER + 3))),
            ("object", resealed(&good, |bytes| bytes.push(0))),
        ] {
            assert!(matches!(Record::decode(bad), Err(StorageError::NewerRecord { .. })), "{what}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for record in [record(true, Vec::new()), record(true, vec![hint(1, true)])] {
            let good = encode(&record);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(Record::decode(bad.into()), Err(StorageError::Corrupt { .. })), "bit {bit}");
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let good = encode(&record(true, vec![hint(1, true)]));
        for len in 0..good.len() {
            assert!(matches!(Record::decode(good[..len].to_vec().into()), Err(StorageError::Corrupt { .. })), "{len}");
        }
    }
}
