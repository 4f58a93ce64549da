//! A fixed-size stand-in for an object, to tell whether two copies differ without sending either.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first 16 bytes of the BLAKE3 hash of an object's canonical context and its siblings' dots.
///
/// Bodies are not hashed and need not be: no dot ever labels two writes, so equal dots are equal siblings. Two copies
/// of a key have the same digest exactly if they are the same object. In text, as in [`Display`](fmt::Display), it is
/// 32 hexadecimal digits; in binary formats 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Hashes the bytes of [`Object::encode_versions_into`](super::Object::encode_versions_into).
    pub(super) fn of(versions: &[u8]) -> Digest {
        let hash = blake3::hash(versions);
        let (head, _) = hash.as_bytes().split_first_chunk().expect("a BLAKE3 hash has 32 bytes");
        Digest(*head)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(DigestVisitor)
        } else {
            deserializer.deserialize_bytes(DigestVisitor)
        }
    }
}

struct DigestVisitor;

impl Visitor<'_> for DigestVisitor {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest: 16 bytes, or 32 hexadecimal digits")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Digest, E> {
        bytes.try_into().map(Digest).map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Digest, E> {
        // `from_str_radix` alone would take a sign.
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(value) if digits => Ok(Digest(value.to_be_bytes())),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_hex_and_travels_as_16_bytes() {
        let digest = Digest([7; 16]);
        let text = "00013435363738396162636465660000";
        let digest_of_text = Digest(*b"\x00\x01456789abcdef\x00\x00");
        assert_eq!(digest_of_text.to_string(), text);
        assert_eq!(serde_json::to_string(&digest_of_text).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Digest>(&format!("\"{text}\"")).unwrap(), digest_of_text);
        let bytes = rmp_serde::to_vec(&digest).unwrap();
        assert_eq!(bytes.len(), 18);
        assert_eq!(rmp_serde::from_slice::<Digest>(&bytes).unwrap(), digest);
    }

    #[test]
    fn other_lengths_and_digits_are_refused() {
        for bad in ["\"\"", "\"+0013435363738396162636465660000\"", "\"0001343536373839616263646566000\"", "7"] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
        }
        let short = rmp_serde::to_vec(&bytes::Bytes::from_static(&[0; 15])).unwrap();
        assert!(rmp_serde::from_slice::<Digest>(&short).is_err());
    }
}
