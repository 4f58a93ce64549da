//! Context tokens: the causal contexts that clients carry from a read to their next write.
//!
//! `version (1) | canonical context | tag (16)`. The tag is keyed by the cluster's secret and covers bucket and key
//! too. A context decides what a write replaces, so one that a client made up, cut, or took from another key could make
//! siblings vanish that nobody was shown; and one with counters yet to come would cover future writes.

use std::fmt;

use bytes::Bytes;

use super::{CausalContext, DecodeError};
use crate::types::{Bucket, Key};

/// Why a context token was refused. None can be cured by trying again: read the key, and write with the context that
/// this read returns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Longer than any token that is issued.
    #[error("the context has {len} bytes; contexts have at most {}", ContextSealer::MAX_LEN)]
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// Issued by another release of dynkv, or no context at all.
    #[error("the context is of version {version}, and this node knows version {VERSION} only; read the key again")]
    UnknownVersion {
        /// The first byte of the token.
        version: u8,
    },
    /// Cut short, or no context at all.
    #[error("the context is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// The tag is wrong: the token was changed, or comes from another key, bucket or cluster.
    #[error("this context was not issued by this cluster for this bucket and key")]
    Foreign,
}

/// The format that [`ContextSealer::seal`] writes.
const VERSION: u8 = 1;
const TAG_LEN: usize = 16;
/// Sets this use of the cluster's secret apart from all others. Changing it voids every token.
const KEY_PURPOSE: &str = "dynkv 2026-11 context token tag";

/// Turns contexts into tokens and back, for one cluster.
#[derive(Clone)]
pub struct ContextSealer {
    key: [u8; 32],
}

impl fmt::Debug for ContextSealer {
    /// Without the key, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextSealer").finish_non_exhaustive()
    }
}

impl ContextSealer {
    /// The longest token taken, in bytes: some 6,500 actors.
    pub const MAX_LEN: usize = 64 * 1024;

    /// Derives the tags' key from the cluster's secret, the same on all nodes.
    pub fn new(cluster_secret: &[u8; 32]) -> ContextSealer {
        ContextSealer { key: blake3::derive_key(KEY_PURPOSE, cluster_secret) }
    }

    /// The token of a context of this key.
    pub fn seal(&self, bucket: &Bucket, key: &Key, context: &CausalContext) -> Bytes {
        let mut token = Vec::with_capacity(1 + context.encoded_len() + TAG_LEN);
        token.push(VERSION);
        context.encode_into(&mut token);
        let tag = self.tag(bucket, key, &token);
        token.extend_from_slice(&tag);
        token.into()
    }

    /// The context in a token that was sealed for this key by a node with the same cluster secret.
    ///
    /// # Errors
    /// Any other token is refused, see [`ContextError`].
    pub fn open(&self, bucket: &Bucket, key: &Key, token: &[u8]) -> Result<CausalContext, ContextError> {
        if token.len() > ContextSealer::MAX_LEN {
            return Err(ContextError::TooLong { len: token.len() });
        }
        match token.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(ContextError::UnknownVersion { version }),
            None => return Err(ContextError::Malformed { reason: DecodeError::Truncated }),
        }
        let (sealed, tag) = token
            .split_last_chunk::<TAG_LEN>()
            .filter(|(sealed, _)| !sealed.is_empty())
            .ok_or(ContextError::Malformed { reason: DecodeError::Truncated })?;
        // `blake3::Hash` compares in constant time, so that a forger cannot find the tag byte by byte.
        if widened(*tag) != widened(self.tag(bucket, key, sealed)) {
            return Err(ContextError::Foreign);
        }
        let mut input = &sealed[1..];
        let context = CausalContext::decode(&mut input).map_err(|reason| ContextError::Malformed { reason })?;
        match input.len() {
            0 => Ok(context),
            len => Err(ContextError::Malformed { reason: DecodeError::TrailingBytes { len } }),
        }
    }

    /// The first 16 bytes of keyed BLAKE3 (bucket, 0, the key's length in 4 bytes, key, `sealed`).
    fn tag(&self, bucket: &Bucket, key: &Key, sealed: &[u8]) -> [u8; TAG_LEN] {
        let key_len = u32::try_from(key.as_bytes().len()).expect("a key has at most 4096 bytes");
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(bucket.as_str().as_bytes()).update(&[0]);
        hasher.update(&key_len.to_be_bytes()).update(key.as_bytes()).update(sealed);
        let mut tag = [0; TAG_LEN];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }
}

fn widened(tag: [u8; TAG_LEN]) -> blake3::Hash {
    let mut bytes = [0; blake3::OUT_LEN];
    bytes[..TAG_LEN].copy_from_slice(&tag);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Actor, Dot};
    use proptest::prelude::*;

    fn sealer() -> ContextSealer {
        ContextSealer::new(&[7; 32])
    }

    fn place() -> (Bucket, Key) {
        (Bucket::new("carts").unwrap(), Key::new("alice").unwrap())
    }

    /// The actor's first `run` dots and the one behind the next.
    fn context(actor: u64, run: u64) -> CausalContext {
        let mut context = CausalContext::new();
        (1..=run).chain([run + 2]).for_each(|counter| context.insert(Dot { actor: Actor(actor), counter }));
        context
    }

    #[test]
    fn a_token_opens_where_it_was_sealed_for() {
        let (bucket, key) = place();
        for context in [CausalContext::new(), context(1, 0), context(u64::MAX, 300)] {
            let token = sealer().seal(&bucket, &key, &context);
            assert_eq!(sealer().open(&bucket, &key, &token), Ok(context));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (bucket, key) = place();
        let token = sealer().seal(&bucket, &key, &context(5, 200)).to_vec();
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut bad = token.clone();
                bad[at] ^= 1 << bit;
                let error = sealer().open(&bucket, &key, &bad).unwrap_err();
                match at {
                    0 => assert_eq!(error, ContextError::UnknownVersion { version: bad[0] }),
                    _ => assert_eq!(error, ContextError::Foreign),
                }
            }
            assert!(sealer().open(&bucket, &key, &token[..at]).is_err());
        }
        let longer: Vec<u8> = token.iter().copied().chain([0]).collect();
        assert_eq!(sealer().open(&bucket, &key, &longer), Err(ContextError::Foreign));
    }

    #[test]
    fn another_key_bucket_or_cluster_refuses_it() {
        let (bucket, key) = place();
        let token = sealer().seal(&bucket, &key, &context(5, 2));
        let (other_bucket, other_key) = (Bucket::new("cart").unwrap(), Key::new("alicf").unwrap());
        assert_eq!(sealer().open(&other_bucket, &key, &token), Err(ContextError::Foreign));
        assert_eq!(sealer().open(&bucket, &other_key, &token), Err(ContextError::Foreign));
        assert_eq!(ContextSealer::new(&[8; 32]).open(&bucket, &key, &token), Err(ContextError::Foreign));
    }

    /// Without its length in the tag, bytes could move between the key and the token.
    #[test]
    fn the_end_of_the_key_is_bound_too() {
        let bucket = Bucket::default();
        let token = sealer().seal(&bucket, &Key::new(&b"k\x01\x00"[..]).unwrap(), &CausalContext::new());
        let mut moved = vec![VERSION, 0];
        moved.extend_from_slice(&token);
        assert_eq!(sealer().open(&bucket, &Key::new("k").unwrap(), &moved), Err(ContextError::Foreign));
    }

    #[test]
    fn no_context_at_all_and_one_that_is_too_long_are_told_apart() {
        let (bucket, key) = place();
        let open = |token: &[u8]| sealer().open(&bucket, &key, token).unwrap_err();
        let cut = ContextError::Malformed { reason: DecodeError::Truncated };
        assert_eq!(open(b""), cut);
        assert_eq!(open(&[VERSION; TAG_LEN]), cut);
        assert_eq!(open(&[VERSION; TAG_LEN + 1]), ContextError::Foreign);
        assert_eq!(open(b"garbage"), ContextError::UnknownVersion { version: b'g' });
        assert_eq!(open(&[VERSION; ContextSealer::MAX_LEN]), ContextError::Foreign);
        assert_eq!(open(&[VERSION; ContextSealer::MAX_LEN + 1]), ContextError::TooLong { len: 65537 });
    }

    #[test]
    fn sealed_bytes_that_are_no_context_are_malformed() {
        let (bucket, key) = place();
        let resealed = |sealed: &[u8]| [sealed, &sealer().tag(&bucket, &key, sealed)].concat();
        let trailing = ContextError::Malformed { reason: DecodeError::TrailingBytes { len: 1 } };
        assert_eq!(sealer().open(&bucket, &key, &resealed(&[VERSION, 0, 0, 0])), Err(trailing));
        let cut = ContextError::Malformed { reason: DecodeError::Truncated };
        assert_eq!(sealer().open(&bucket, &key, &resealed(&[VERSION])), Err(cut));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_never_open(mut bytes in prop::collection::vec(any::<u8>(), 0..80), known: bool) {
            let (bucket, key) = place();
            if let (true, Some(first)) = (known, bytes.first_mut()) {
                *first = VERSION;
            }
            prop_assert!(sealer().open(&bucket, &key, &bytes).is_err());
        }
    }
}
