//! Sessions: a program that never reads older than what it has seen.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::client::Client;
use super::error::ClientError;
use super::options::{GetOptions, GetResult, PutOptions, PutResult};
use crate::types::{Bucket, Key};

/// A client that remembers, for each key, what it was shown last, and demands at least that of every node it turns to.
///
/// For each key that it remembers, under every fault: it *reads its own writes*, since a get returns every write that this
/// session was acknowledged, or what replaced it; and its *reads are monotonic*, since a get returns all that an earlier one
/// returned, or what replaced it. Where that cannot be had (the replicas that know are away), the get fails with
/// [`ApiError::Stale`](crate::api::ApiError::Stale); it never goes back silently. A put replaces what the session was shown of the
/// key and nothing else: what others wrote meanwhile becomes a sibling. Nothing is promised across keys, nor of writes whose fate
/// is unknown.
///
/// It is one thread of operations, one after the other, hence `&mut`. It remembers a bounded number of keys and bytes; the
/// key that was learnt of longest ago goes first, and of that key the promises end.
pub struct CausalSession {
    client: Client,
    seen: Seen,
}

impl CausalSession {
    /// Keys that a session remembers, unless it is told otherwise.
    pub const KEYS: usize = 10_000;
    /// Bytes of tokens and keys that a session remembers at most, whatever the number of keys.
    pub const BYTES: usize = 64 << 20;

    /// A session that has seen nothing.
    pub fn new(client: Client) -> CausalSession {
        CausalSession::with_capacity(client, CausalSession::KEYS)
    }

    /// The same, remembering at most `keys` keys (at least one).
    pub fn with_capacity(client: Client, keys: usize) -> CausalSession {
        CausalSession { client, seen: Seen::new(keys, CausalSession::BYTES) }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads a key, at least as new as this session has seen it.
    ///
    /// # Errors
    /// [`ClientError`]; with [`ApiError::Stale`](crate::api::ApiError::Stale) nothing that new can be read now, and a later try may
    /// succeed. [`ClientError::InSession`] if `options.after` is given: tokens cannot be joined, and the session has its own.
    pub async fn get(&mut self, bucket: &Bucket, key: &Key, mut options: GetOptions) -> Result<GetResult, ClientError> {
        if options.after.is_some() {
            return Err(ClientError::InSession { what: "after" });
        }
        options.after = self.token(bucket, key);
        let found = self.client.get(bucket, key, options).await?;
        if let Some(context) = &found.context {
            self.seen.remember(bucket, key, context.clone());
        }
        Ok(found)
    }

    /// Writes a key, in place of what this session was shown of it.
    ///
    /// # Errors
    /// As [`Client::put`], and [`ClientError::InSession`] if `options.context` is given.
    pub async fn put(
        &mut self,
        bucket: &Bucket,
        key: &Key,
        value: Bytes,
        mut options: PutOptions,
    ) -> Result<PutResult, ClientError> {
        if options.context.is_some() {
            return Err(ClientError::InSession { what: "context" });
        }
        options.context = self.token(bucket, key);
        let done = self.client.put(bucket, key, value, options).await?;
        self.seen.remember(bucket, key, done.receipt.context.clone());
        Ok(done)
    }

    /// Deletes what this session was shown of a key. `None`: it was shown nothing of it, and nothing was done; get it first.
    ///
    /// # Errors
    /// As [`put`](CausalSession::put).
    pub async fn delete(
        &mut self,
        bucket: &Bucket,
        key: &Key,
        options: PutOptions,
    ) -> Result<Option<PutResult>, ClientError> {
        if options.context.is_some() {
            return Err(ClientError::InSession { what: "context" });
        }
        let Some(context) = self.token(bucket, key) else { return Ok(None) };
        let done = self.client.delete(bucket, key, context, options).await?;
        self.seen.remember(bucket, key, done.receipt.context.clone());
        Ok(Some(done))
    }

    /// The context token of a key as it was seen last: a program may keep it, and demand it elsewhere.
    pub fn token(&self, bucket: &Bucket, key: &Key) -> Option<Bytes> {
        self.seen.token(bucket, key)
    }
}

/// The last token of each key, the oldest key first to go.
#[derive(Debug)]
struct Seen {
    most: usize,
    most_bytes: usize,
    bytes: usize,
    tokens: BTreeMap<(Bucket, Key), Bytes>,
    /// In the order in which keys were learnt of.
    order: VecDeque<(Bucket, Key)>,
}

impl Seen {
    fn new(most: usize, most_bytes: usize) -> Seen {
        Seen { most, most_bytes, bytes: 0, tokens: BTreeMap::new(), order: VecDeque::new() }
    }

    fn token(&self, bucket: &Bucket, key: &Key) -> Option<Bytes> {
        self.tokens.get(&(bucket.clone(), key.clone())).cloned()
    }

    fn remember(&mut self, bucket: &Bucket, key: &Key, token: Bytes) {
        let place = (bucket.clone(), key.clone());
        self.bytes += key.as_bytes().len() + token.len();
        match self.tokens.insert(place.clone(), token) {
            Some(before) => self.bytes -= key.as_bytes().len() + before.len(),
            None => self.order.push_back(place),
        }
        // The key at hand is remembered whatever it takes.
        while self.order.len() > 1 && (self.order.len() > self.most || self.bytes > self.most_bytes) {
            let oldest = self.order.pop_front().expect("there is more than one");
            let token = self.tokens.remove(&oldest).expect("a key in the order has a token");
            self.bytes -= oldest.1.as_bytes().len() + token.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Key {
        Key::new(name).unwrap()
    }

    fn tokens<const N: usize>(seen: &Seen, names: [&'static str; N]) -> [Option<Bytes>; N] {
        names.map(|name| seen.token(&Bucket::default(), &key(name)))
    }

    #[test]
    fn the_last_token_of_a_key_is_kept_and_the_oldest_key_goes() {
        let bucket = Bucket::default();
        let mut seen = Seen::new(2, 1000);
        for (name, token) in [("a", "1"), ("b", "2"), ("a", "3")] {
            seen.remember(&bucket, &key(name), token.into());
        }
        assert_eq!(tokens(&seen, ["a"]), [Some("3".into())]);
        seen.remember(&bucket, &key("c"), "4".into());
        assert_eq!(tokens(&seen, ["a", "b", "c"]), [None, Some("2".into()), Some("4".into())]);
        assert_eq!((seen.bytes, seen.tokens.len()), (4, 2));
    }

    #[test]
    fn long_tokens_are_bounded_by_their_bytes() {
        let bucket = Bucket::default();
        let mut seen = Seen::new(100, 20);
        for name in ["a", "b", "c"] {
            seen.remember(&bucket, &key(name), vec![0; 8].into());
        }
        assert_eq!(tokens(&seen, ["a", "b", "c"]).map(|token| token.is_some()), [false, true, true]);
        seen.remember(&bucket, &key("d"), vec![0; 100].into());
        assert_eq!(tokens(&seen, ["b", "c", "d"]).map(|token| token.is_some()), [false, false, true]);
    }

    #[test]
    fn one_key_is_remembered_at_least() {
        let mut seen = Seen::new(0, 0);
        for name in ["a", "b"] {
            seen.remember(&Bucket::default(), &key(name), "1".into());
        }
        assert_eq!(tokens(&seen, ["a", "b"]), [None, Some("1".into())]);
    }

    #[test]
    fn buckets_have_keys_of_their_own() {
        let other = Bucket::new("other").unwrap();
        let mut seen = Seen::new(9, 1000);
        seen.remember(&Bucket::default(), &key("a"), "1".into());
        assert_eq!(seen.token(&other, &key("a")), None);
    }
}
