//! What a key's object adds to its leaf.

use std::fmt;

use crate::version::Object;

const PURPOSE: &str = "dynkv 2026 merkle item v1";

/// An object's part of its leaf's sum: tells whether two replicas hold the same of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemHash(pub u128);

impl ItemHash {
    /// Half of it, as it travels: two objects that differ share it by a chance of one in 2^64.
    pub fn short(self) -> u64 {
        self.0 as u64
    }
}

/// Hashes items under a key of the cluster's.
#[derive(Clone)]
pub struct ItemHasher {
    key: [u8; 32],
    scratch: Vec<u8>,
}

impl fmt::Debug for ItemHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ItemHasher(..)")
    }
}

impl ItemHasher {
    /// One whose key comes from the cluster's secret.
    pub fn new(secret: &[u8; 32]) -> ItemHasher {
        ItemHasher { key: blake3::derive_key(PURPOSE, secret), scratch: Vec::new() }
    }

    /// The hash of what stands under an object's key. Bodies are not hashed: equal dots are equal siblings, since no dot ever
    /// labels two writes.
    pub fn hash(&mut self, key: &[u8], object: &Object) -> ItemHash {
        self.scratch.clear();
        let len = u32::try_from(key.len()).expect("keys are short");
        self.scratch.extend_from_slice(&len.to_be_bytes());
        self.scratch.extend_from_slice(key);
        object.encode_versions_into(&mut self.scratch);
        let hash = blake3::keyed_hash(&self.key, &self.scratch);
        let (head, _) = hash.as_bytes().split_first_chunk().expect("a BLAKE3 hash has 32 bytes");
        ItemHash(u128::from_be_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, WriteId};
    use crate::version::{Actor, Body, CausalContext, Dot, Sibling};

    fn object(actor: u64, body: Body) -> Object {
        let dot = Dot { actor: Actor(actor), counter: 1 };
        Object::update(
            None,
            &CausalContext::default(),
            Sibling { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: 1, body },
        )
    }

    #[test]
    fn key_versions_and_secret_make_it_and_bodies_do_not() {
        let mut hasher = ItemHasher::new(&[1; 32]);
        let value = object(1, Body::Value("v".into()));
        let hash = hasher.hash(b"ab", &value);
        assert_eq!(hash, hasher.hash(b"ab", &object(1, Body::Tombstone)));
        assert_ne!(hash, hasher.hash(b"ac", &value));
        assert_ne!(hash, hasher.hash(b"ab", &object(2, Body::Tombstone)));
        assert_ne!(hash, ItemHasher::new(&[2; 32]).hash(b"ab", &value));
        assert_eq!(u128::from(hash.short()), hash.0 & u128::from(u64::MAX));
    }
}
