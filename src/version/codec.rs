//! The primitives of the canonical encodings: LEB128 variable-length integers, fixed big-endian ids, and counts that
//! are checked against what is left before anything is allocated for them.
//!
//! Canonical means that every value has exactly one encoding and that decoding refuses all others, so equal bytes and
//! equal values are the same thing: digests, tags and byte-wise comparison of replicas rest on it.

/// Why bytes were refused. Nothing was kept of them, and trying again with the same bytes cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A count or length promises more than the bytes that follow can hold.
    #[error("{claimed} items or bytes are announced, and at most {possible} can follow")]
    CountTooLarge {
        /// The count or length read.
        claimed: u64,
        /// The most that the remaining bytes could hold.
        possible: usize,
    },
    /// A variable-length integer has a needless last byte or does not fit 64 bits.
    #[error("an integer is not in its shortest form or exceeds 64 bits")]
    BadInteger,
    /// Counters start at 1.
    #[error("a counter is zero; counters start at 1")]
    ZeroCounter,
    /// Actors, dots or siblings are not strictly ascending.
    #[error("actors, dots or siblings are not strictly ascending")]
    Unsorted,
    /// A dot of the cloud lies within, or right behind, its actor's run in the vector and should be folded into it.
    #[error("a dot of the cloud belongs into the vector")]
    Unfolded,
    /// An object has at least one sibling.
    #[error("the object has no sibling")]
    NoSiblings,
    /// A sibling's dot is missing from its object's context.
    #[error("a sibling's dot is not in the object's context")]
    UncoveredSibling,
    /// A body is neither a value nor a tombstone.
    #[error("unknown kind of body {kind}")]
    UnknownBody {
        /// The kind read.
        kind: u8,
    },
    /// Bytes follow the end of the object or context.
    #[error("{len} bytes follow the end")]
    TrailingBytes {
        /// How many.
        len: usize,
    },
}

/// Bytes of the longest variable-length integer: 64 bits, seven a byte.
const VARINT_MAX_LEN: usize = 10;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] appends for `value`.
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(super) fn take_varint(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().take(VARINT_MAX_LEN).enumerate() {
        if i == VARINT_MAX_LEN - 1 && byte > 1 {
            return Err(DecodeError::BadInteger);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let needless = byte == 0 && i > 0;
            *input = &input[i + 1..];
            return if needless { Err(DecodeError::BadInteger) } else { Ok(value) };
        }
    }
    Err(DecodeError::Truncated)
}

/// Reads a counter, which is at least 1.
pub(super) fn take_counter(input: &mut &[u8]) -> Result<u64, DecodeError> {
    match take_varint(input)? {
        0 => Err(DecodeError::ZeroCounter),
        counter => Ok(counter),
    }
}

/// Reads a count of items of at least `item_len` bytes each; what it returns is safe to allocate for.
pub(super) fn take_count(input: &mut &[u8], item_len: usize) -> Result<usize, DecodeError> {
    let claimed = take_varint(input)?;
    let possible = input.len() / item_len;
    match usize::try_from(claimed) {
        Ok(count) if count <= possible => Ok(count),
        _ => Err(DecodeError::CountTooLarge { claimed, possible }),
    }
}

pub(super) fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
    *input = rest;
    Ok(*head)
}

pub(super) fn take_u64(input: &mut &[u8]) -> Result<u64, DecodeError> {
    take_array(input).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    }

    proptest! {
        #[test]
        fn integers_round_trip_and_their_length_is_known(shift in 0u32..64, noise in any::<u64>()) {
            let value = noise >> shift;
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let mut input = bytes.as_slice();
            prop_assert_eq!(take_varint(&mut input), Ok(value));
            prop_assert!(input.is_empty());
            for cut in 0..bytes.len() {
                prop_assert_eq!(take_varint(&mut &bytes[..cut]), Err(DecodeError::Truncated));
            }
        }

        #[test]
        fn whatever_decodes_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut input = bytes.as_slice();
            if let Ok(value) = take_varint(&mut input) {
                prop_assert_eq!(encoded(value), &bytes[..bytes.len() - input.len()]);
            }
        }
    }

    #[test]
    fn long_forms_and_more_than_64_bits_are_refused() {
        assert_eq!(take_varint(&mut [0x80, 0x00].as_slice()), Err(DecodeError::BadInteger));
        let most = encoded(u64::MAX);
        assert_eq!(take_varint(&mut most.as_slice()), Ok(u64::MAX));
        let mut beyond = most;
        beyond[9] = 2;
        assert_eq!(take_varint(&mut beyond.as_slice()), Err(DecodeError::BadInteger));
        assert_eq!(take_varint(&mut [0xff; 11].as_slice()), Err(DecodeError::BadInteger));
    }

    #[test]
    fn a_count_is_checked_against_what_is_left() {
        let mut bytes = encoded(u64::MAX);
        bytes.extend([0; 18]);
        let refused = DecodeError::CountTooLarge { claimed: u64::MAX, possible: 2 };
        assert_eq!(take_count(&mut bytes.as_slice(), 9), Err(refused));
        assert_eq!(take_count(&mut [2; 19].as_slice(), 9), Ok(2));
        assert_eq!(take_count(&mut [3; 19].as_slice(), 9), Err(DecodeError::CountTooLarge { claimed: 3, possible: 2 }));
    }
}
