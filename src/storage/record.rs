//! What stands on disk under an object's key.
//!
//! ```text
//! format u8 = 1 | flags u8 | [own: actor u64 BE, minted_in u64 BE] | object (canonical encoding) | xxh3-64 of all before, BE
//! ```
//! Bit 0 of the flags says that `own` is there. The checksum is the record's own, so that a flipped bit is noticed
//! wherever it happened between the batch and the read.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::StorageError;
use crate::types::Generation;
use crate::version::{Actor, Object, Own};

const FORMAT: u8 = 1;
const HAS_OWN: u8 = 1;
const HEADER: usize = 2;
const OWN: usize = 16;
const CHECKSUM: usize = 8;

/// An object as one node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// This node's right to go on counting under an actor of its own for this key. Local: never on the wire.
    pub own: Option<Own>,
    /// The object.
    pub object: Arc<Object>,
}

fn corrupt(detail: impl Into<String>) -> StorageError {
    StorageError::Corrupt { detail: detail.into() }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("the caller cuts eight bytes"))
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(FORMAT);
        match self.own {
            None => out.push(0),
            Some(own) => {
                out.push(HAS_OWN);
                out.extend_from_slice(&own.actor.0.to_be_bytes());
                out.extend_from_slice(&own.minted_in.0.to_be_bytes());
            }
        }
        self.object.encode_into(out);
        let sum = xxh3_64(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }

    /// Reads a record; the object's values are slices of `bytes`.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] for a wrong checksum, another format, or a body that is no canonical object.
    pub fn decode(bytes: Bytes) -> Result<Record, StorageError> {
        if bytes.len() < HEADER + CHECKSUM {
            return Err(corrupt(format!("a record of {} bytes", bytes.len())));
        }
        let (covered, sum) = bytes.split_at(bytes.len() - CHECKSUM);
        if xxh3_64(covered) != word(sum) {
            return Err(corrupt("a record's checksum does not match"));
        }
        let (format, flags) = (covered[0], covered[1]);
        if format != FORMAT || flags & !HAS_OWN != 0 {
            return Err(corrupt(format!("a record of format {format}, flags {flags:#x}")));
        }
        let mut start = HEADER;
        let mut own = None;
        if flags & HAS_OWN != 0 {
            let field = covered.get(HEADER..HEADER + OWN).ok_or_else(|| corrupt("a record ends in its own field"))?;
            own = Some(Own { actor: Actor(word(&field[..8])), minted_in: Generation(word(&field[8..])) });
            start += OWN;
        }
        let object =
            Object::decode(bytes.slice(start..bytes.len() - CHECKSUM)).map_err(|error| corrupt(error.to_string()))?;
        Ok(Record { own, object: Arc::new(object) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, WriteId};
    use crate::version::{Body, CausalContext, Dot, Sibling};

    fn encode(record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode_into(&mut out);
        out
    }

    fn record(own: bool) -> Record {
        let actor = Actor(9);
        let sibling = Sibling {
            dot: Dot { actor, counter: 1 },
            write_id: WriteId(3),
            node: NodeId(4),
            wall_ms: 5,
            body: Body::Value("value".into()),
        };
        let object = Arc::new(Object::update(None, &CausalContext::default(), sibling));
        Record { own: own.then_some(Own { actor, minted_in: Generation(6) }), object }
    }

    #[test]
    fn records_survive_the_round_trip() {
        for record in [record(true), record(false)] {
            assert_eq!(Record::decode(encode(&record).into()).unwrap(), record);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encode(&record(true));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Record::decode(bad.into()), Err(StorageError::Corrupt { .. })), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let good = encode(&record(true));
        for len in 0..good.len() {
            assert!(matches!(Record::decode(good[..len].to_vec().into()), Err(StorageError::Corrupt { .. })), "{len}");
        }
    }
}
