//! How objects and facts about the node are keyed.
//!
//! An object's key is `partition u16 BE | token u64 BE | bucket | 0 | key`. Byte order is the order of the tuple (no bucket
//! name holds a NUL), so a partition is one contiguous range, and so is every Merkle leaf, which is a range of tokens.
//!
//! A hint's key is `target u64 BE | the object's key`: all that waits for one node is one range, by partition within it.

use std::borrow::Cow;

use crate::storage::error::StorageError;
use crate::types::{Bucket, Key, NodeId, PartitionId, Token};

/// The on-disk format that this version writes, stored under [`MetaKey::Format`] as four bytes, big-endian.
pub const FORMAT: u32 = 1;

/// Lies above every object's key (UTF-8 has no byte 0xff), so it can end the last partition's range.
pub const OBJECTS_END: &[u8] = &[0xff; 11];

/// Bytes of partition and token.
pub(super) const PREFIX_LEN: usize = 10;

/// An object's key, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKeyRef<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// The key's token.
    pub token: Token,
    /// The bucket's name.
    pub bucket: &'a str,
    /// The key's bytes.
    pub key: &'a [u8],
}

/// The key of an object in [`Family::Objects`](crate::storage::Family::Objects).
pub fn object_key(partition: PartitionId, token: Token, bucket: &Bucket, key: &Key) -> Vec<u8> {
    let (bucket, key) = (bucket.as_str().as_bytes(), key.as_bytes());
    let mut bytes = Vec::with_capacity(PREFIX_LEN + bucket.len() + 1 + key.len());
    bytes.extend_from_slice(&token_start(partition, token));
    bytes.extend_from_slice(bucket);
    bytes.push(0);
    bytes.extend_from_slice(key);
    bytes
}

/// Takes an object's key apart.
///
/// # Errors
/// [`StorageError::Corrupt`] for bytes that [`object_key`] cannot have made.
pub fn parse_object_key(bytes: &[u8]) -> Result<ObjectKeyRef<'_>, StorageError> {
    let corrupt = |why: &str| {
        let shown = data_encoding::HEXLOWER.encode(&bytes[..bytes.len().min(32)]);
        StorageError::Corrupt { detail: format!("object key {shown}.. ({} bytes): {why}", bytes.len()) }
    };
    let (partition, rest) = bytes.split_first_chunk::<2>().ok_or_else(|| corrupt("no partition"))?;
    let (token, rest) = rest.split_first_chunk::<8>().ok_or_else(|| corrupt("no token"))?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(|| corrupt("no end of the bucket's name"))?;
    let bucket = std::str::from_utf8(&rest[..end]).map_err(|_| corrupt("a bucket's name is UTF-8"))?;
    let key = &rest[end + 1..];
    if bucket.is_empty() || bucket.len() > Bucket::MAX_LEN || bucket.chars().any(char::is_control) {
        return Err(corrupt("a bucket's name that is not allowed"));
    }
    if key.is_empty() || key.len() > Key::MAX_LEN {
        return Err(corrupt("a key's length that is not allowed"));
    }
    let partition = PartitionId(u16::from_be_bytes(*partition));
    Ok(ObjectKeyRef { partition, token: Token(u64::from_be_bytes(*token)), bucket, key })
}

/// The first possible key of a partition's token: the bound of a Merkle leaf.
pub fn token_start(partition: PartitionId, token: Token) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes[..2].copy_from_slice(&partition.0.to_be_bytes());
    bytes[2..].copy_from_slice(&token.0.to_be_bytes());
    bytes
}

/// The token in an object's key, or in the bound of a range of them: a hash less than [`ring::token_of`](crate::ring::token_of).
///
/// # Panics
/// If it is neither.
pub fn token_of(key: &[u8]) -> Token {
    let token = key[2..].first_chunk::<8>().expect("a partition is followed by a token");
    Token(u64::from_be_bytes(*token))
}

/// The partition of an object's key.
pub(super) fn partition_of(key: &[u8]) -> PartitionId {
    let partition = key.first_chunk::<2>().expect("an object's key begins with its partition");
    PartitionId(u16::from_be_bytes(*partition))
}

/// The range `[start, end)` of a partition's keys; without `end` it reaches to the family's end, which
/// [`OBJECTS_END`] also bounds.
pub fn partition_bounds(partition: PartitionId) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = partition.0.checked_add(1).map(|next| next.to_be_bytes().to_vec());
    (partition.0.to_be_bytes().to_vec(), end)
}

/// Bytes of a hint's target.
const TARGET_LEN: usize = 8;

/// The key of a hint in [`Family::Hints`](crate::storage::Family::Hints): of the object at `object`, for `target`.
pub fn hint_key(target: NodeId, object: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TARGET_LEN + object.len());
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes.extend_from_slice(object);
    bytes
}

/// Takes a hint's key apart: for whom it waits, the object's key, and that taken apart.
///
/// # Errors
/// [`StorageError::Corrupt`] for bytes that [`hint_key`] cannot have made of an object's key.
pub fn parse_hint_key(bytes: &[u8]) -> Result<(NodeId, &[u8], ObjectKeyRef<'_>), StorageError> {
    let Some((target, object)) = split_hint_key(bytes) else {
        return Err(StorageError::Corrupt { detail: format!("hint key of {} bytes: no target", bytes.len()) });
    };
    Ok((target, object, parse_object_key(object)?))
}

/// For whom a hint waits, and the object's key; `None` if the bytes are too few.
pub(super) fn split_hint_key(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    let (target, object) = bytes.split_first_chunk::<TARGET_LEN>()?;
    Some((NodeId(u64::from_be_bytes(*target)), object))
}

/// The range `[start, end)` of a target's hints; without `end` it reaches to the family's end.
pub fn hint_bounds(target: NodeId) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = target.0.checked_add(1).map(|next| next.to_be_bytes().to_vec());
    (target.0.to_be_bytes().to_vec(), end)
}

/// A fact about the node, kept in [`Family::Meta`](crate::storage::Family::Meta). What the values hold, in short; the
/// layer that owns a fact encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// [`FORMAT`] of the directory: written by the engine when it makes one, checked before anything else is read.
    Format,
    /// Who this is: `DiskId`, `NodeId`, the node's name, `ClusterId`. Written once.
    Identity,
    /// The current generation, its process nonce, and `trusted_since`: one write at every start.
    Generation,
    /// The newest committed layout.
    Layout,
    /// The one birth that this node has voted for.
    BirthVote,
    /// The highest generation of a peer that this node has granted, with its disk and nonce.
    Grant(NodeId),
    /// The generation that stopped cleanly: synced last of all, so its presence vouches for every write before it.
    Clean,
    /// How many reaping rounds of a partition this node has met; see [`Rounds`](crate::storage::Rounds).
    Round(PartitionId),
}

/// What every grant's key begins with, and the first key after the grants.
const GRANTS: (&str, &str) = ("grants/", "grants0");
/// The same of rounds.
const ROUNDS: (&str, &str) = ("rounds/", "rounds0");

impl MetaKey {
    /// The key's bytes.
    pub fn bytes(self) -> Cow<'static, [u8]> {
        Cow::Borrowed(match self {
            MetaKey::Format => b"format",
            MetaKey::Identity => b"identity",
            MetaKey::Generation => b"generation",
            MetaKey::Layout => b"layout",
            MetaKey::BirthVote => b"birth-vote",
            MetaKey::Clean => b"clean",
            MetaKey::Grant(node) => return Cow::Owned(format!("{}{node}", GRANTS.0).into_bytes()),
            MetaKey::Round(partition) => return Cow::Owned(format!("{}{:04x}", ROUNDS.0, partition.0).into_bytes()),
        })
    }

    /// The range `[start, end)` of all grants.
    pub fn grant_bounds() -> (&'static [u8], &'static [u8]) {
        (GRANTS.0.as_bytes(), GRANTS.1.as_bytes())
    }

    /// The peer that a grant's key names; `None` if it is no grant's key.
    pub fn parse_grant(bytes: &[u8]) -> Option<NodeId> {
        let digits = std::str::from_utf8(bytes.strip_prefix(GRANTS.0.as_bytes())?).ok()?;
        let node = NodeId(u64::from_str_radix(digits, 16).ok()?);
        (*MetaKey::Grant(node).bytes() == *bytes).then_some(node)
    }

    /// The range `[start, end)` of all rounds.
    pub fn round_bounds() -> (&'static [u8], &'static [u8]) {
        (ROUNDS.0.as_bytes(), ROUNDS.1.as_bytes())
    }

    /// The partition that a round's key names; `None` if it is no round's key.
    pub fn parse_round(bytes: &[u8]) -> Option<PartitionId> {
        let digits = std::str::from_utf8(bytes.strip_prefix(ROUNDS.0.as_bytes())?).ok()?;
        let partition = PartitionId(u16::from_str_radix(digits, 16).ok()?);
        (*MetaKey::Round(partition).bytes() == *bytes).then_some(partition)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = (u16, u64, String, Vec<u8>);

    fn encode((partition, token, bucket, key): &Parts) -> Vec<u8> {
        let (bucket, key) = (Bucket::new(bucket).unwrap(), Key::new(key.clone()).unwrap());
        object_key(PartitionId(*partition), Token(*token), &bucket, &key)
    }

    /// Few values each, so that prefixes and ties are common.
    fn parts() -> impl Strategy<Value = Parts> {
        let number = prop_oneof![Just(0u64), Just(1), Just(255), Just(256), Just(u64::MAX), any::<u64>()];
        let bucket = prop_oneof!["[a !]{1,3}", "[ -~é\u{10ffff}]{1,8}"];
        let key = prop_oneof![
            proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(255)], 1..4),
            proptest::collection::vec(any::<u8>(), 1..40)
        ];
        (prop_oneof![0u16..3, Just(255), Just(256), Just(u16::MAX)], number, bucket, key)
    }

    proptest! {
        #[test]
        fn byte_order_is_tuple_order(a in parts(), mut b in parts(), same_token: bool) {
            if same_token {
                (b.0, b.1) = (a.0, a.1);
            }
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
        }

        #[test]
        fn a_key_comes_apart_as_it_was_put_together(parts in parts()) {
            let bytes = encode(&parts);
            let key = parse_object_key(&bytes).unwrap();
            prop_assert_eq!((key.partition.0, key.token.0, key.bucket.to_owned(), key.key.to_vec()), parts);
        }

        #[test]
        fn a_partition_is_one_range(parts in parts(), partition in prop_oneof![0u16..3, Just(255), Just(u16::MAX)]) {
            let bytes = encode(&parts);
            let (start, end) = partition_bounds(PartitionId(partition));
            let inside = start <= bytes && end.is_none_or(|end| bytes < end);
            prop_assert_eq!(inside, parts.0 == partition);
            prop_assert!(bytes.as_slice() < OBJECTS_END);
        }

        #[test]
        fn hints_lie_by_target_and_then_as_their_objects_do(a in parts(), b in parts(), targets in (0u64..3, 0u64..3)) {
            let hint = |target, parts: &Parts| hint_key(NodeId(target), &encode(parts));
            let order = hint(targets.0, &a).cmp(&hint(targets.1, &b));
            prop_assert_eq!(order, (targets.0, a).cmp(&(targets.1, b)));
        }

        #[test]
        fn a_hints_key_comes_apart_and_lies_in_its_targets_range(
            parts in parts(), of in prop_oneof![0u64..3, Just(u64::MAX)], range in prop_oneof![0u64..3, Just(u64::MAX)],
        ) {
            let (object, bytes) = (encode(&parts), hint_key(NodeId(of), &encode(&parts)));
            let (target, key, place) = parse_hint_key(&bytes).unwrap();
            prop_assert_eq!((target, key, place), (NodeId(of), object.as_slice(), parse_object_key(&object).unwrap()));
            let (start, end) = hint_bounds(NodeId(range));
            prop_assert_eq!(start <= bytes && end.is_none_or(|end| bytes < end), of == range);
        }

        #[test]
        fn what_parses_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(key) = parse_object_key(&bytes) {
                let parts = (key.partition.0, key.token.0, key.bucket.to_owned(), key.key.to_vec());
                prop_assert_eq!(encode(&parts), bytes);
            }
        }
    }

    #[test]
    fn keys_that_cannot_be_are_corrupt() {
        let good = encode(&(1, 2, "carts".into(), b"k".to_vec()));
        for bad in [&good[..1], &good[..9], &good[..12], &good[..good.len() - 1]] {
            assert!(matches!(parse_object_key(bad), Err(StorageError::Corrupt { .. })), "{bad:?}");
        }
        assert!(parse_hint_key(&[0; 7]).is_err() && parse_hint_key(&[0; 8]).is_err());
        let no_bucket = [&good[..10], b"\0k"].concat();
        assert!(parse_object_key(&no_bucket).is_err());
        let control = [&good[..10], b"a\tb\0k"].concat();
        assert!(parse_object_key(&control).is_err());
    }

    #[test]
    fn meta_keys_differ_and_grants_name_their_node() {
        let node = NodeId(0xab);
        let keys = [
            MetaKey::Format,
            MetaKey::Identity,
            MetaKey::Generation,
            MetaKey::Layout,
            MetaKey::BirthVote,
            MetaKey::Grant(node),
            MetaKey::Clean,
            MetaKey::Round(PartitionId(0xab)),
        ];
        let (start, end) = MetaKey::grant_bounds();
        let (first, beyond) = MetaKey::round_bounds();
        for (place, key) in keys.iter().enumerate() {
            let bytes = key.bytes();
            assert!(keys[..place].iter().all(|other| other.bytes() != bytes), "{key:?}");
            let is_grant = matches!(key, MetaKey::Grant(_));
            assert_eq!(start <= &*bytes && &*bytes < end, is_grant, "{key:?}");
            assert_eq!(MetaKey::parse_grant(&bytes), is_grant.then_some(node), "{key:?}");
            let is_round = matches!(key, MetaKey::Round(_));
            assert_eq!(first <= &*bytes && &*bytes < beyond, is_round, "{key:?}");
            assert_eq!(MetaKey::parse_round(&bytes), is_round.then_some(PartitionId(0xab)), "{key:?}");
        }
        assert_eq!(&*MetaKey::Round(PartitionId(0xab)).bytes(), b"rounds/00ab");
        assert_eq!((MetaKey::parse_round(b"rounds/ab"), MetaKey::parse_round(b"rounds/00AB")), (None, None));
        assert_eq!(&*MetaKey::Grant(node).bytes(), b"grants/00000000000000ab");
        assert_eq!(MetaKey::parse_grant(b"grants/ab"), None);
    }
}
