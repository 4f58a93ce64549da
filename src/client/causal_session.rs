//! Sessions: a program that never reads older than what it has seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
/// It remembers a bounded number of keys; the one that was learnt of longest ago goes first, and of that key the promises end.
/// Tasks may share a session: a get that runs while another one ends may still return what was demanded when it began.
pub struct CausalSession {
    client: Client,
    seen: Mutex<Seen>,
}

impl CausalSession {
    /// Keys that a session remembers, unless it is told otherwise.
    pub const KEYS: usize = 10_000;

    /// A session that has seen nothing.
    pub fn new(client: Client) -> CausalSession {
        CausalSession::with_capacity(client, CausalSession::KEYS)
    }

    /// The same, remembering at most `keys` keys (at least one). Each takes some hundred bytes and its own.
    pub fn with_capacity(client: Client, keys: usize) -> CausalSession {
        CausalSession { client, seen: Mutex::new(Seen::new(keys)) }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads a key, at least as new as this session has seen it; `options.after`, if given, is demanded in place of that.
    ///
    /// # Errors
    /// [`ClientError`]; with [`ApiError::Stale`](crate::api::ApiError::Stale) nothing that new can be read now, and a later try may
    /// succeed.
    pub async fn get(&self, bucket: &Bucket, key: &Key, mut options: GetOptions) -> Result<GetResult, ClientError> {
        options.after = options.after.or_else(|| self.token(bucket, key));
        let found = self.client.get(bucket, key, options).await?;
        match &found.context {
            Some(context) => self.seen().remember(bucket, key, context.clone()),
            // All replicas agree that there is nothing any more: what was seen has been deleted for good.
            None => self.seen().forget(bucket, key),
        }
        Ok(found)
    }

    /// Writes a key, in place of what this session was shown of it; `options.context`, if given, is what it replaces instead.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        value: Bytes,
        mut options: PutOptions,
    ) -> Result<PutResult, ClientError> {
        options.context = options.context.or_else(|| self.token(bucket, key));
        let done = self.client.put(bucket, key, value, options).await?;
        self.seen().remember(bucket, key, done.receipt.context.clone());
        Ok(done)
    }

    /// Deletes what this session was shown of a key. `None`: it was shown nothing of it, and nothing was done; get it first.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(
        &self,
        bucket: &Bucket,
        key: &Key,
        options: PutOptions,
    ) -> Result<Option<PutResult>, ClientError> {
        let Some(context) = options.context.clone().or_else(|| self.token(bucket, key)) else { return Ok(None) };
        let done = self.client.delete(bucket, key, context, options).await?;
        self.seen().remember(bucket, key, done.receipt.context.clone());
        Ok(Some(done))
    }

    /// The context token of a key as it was seen last: a program may keep it, and go on from it in another session.
    pub fn token(&self, bucket: &Bucket, key: &Key) -> Option<Bytes> {
        self.seen().token(bucket, key)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Each change leaves it whole, so a panic of another task costs nothing.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last token of each key, the oldest key first to go.
#[derive(Debug)]
struct Seen {
    most: usize,
    tokens: BTreeMap<(Bucket, Key), Bytes>,
    /// In the order in which keys were learnt of.
    order: VecDeque<(Bucket, Key)>,
}

impl Seen {
    fn new(most: usize) -> Seen {
        Seen { most: most.max(1), tokens: BTreeMap::new(), order: VecDeque::new() }
    }

    fn token(&self, bucket: &Bucket, key: &Key) -> Option<Bytes> {
        self.tokens.get(&(bucket.clone(), key.clone())).cloned()
    }

    fn remember(&mut self, bucket: &Bucket, key: &Key, token: Bytes) {
        let place = (bucket.clone(), key.clone());
        if self.tokens.insert(place.clone(), token).is_some() {
            return;
        }
        self.order.push_back(place);
        while self.order.len() > self.most {
            let oldest = self.order.pop_front().expect("it is longer than its bound");
            self.tokens.remove(&oldest);
        }
    }

    fn forget(&mut self, bucket: &Bucket, key: &Key) {
        let place = (bucket.clone(), key.clone());
        if self.tokens.remove(&place).is_some() {
            self.order.retain(|known| *known != place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Key {
        Key::new(name).unwrap()
    }

    #[test]
    fn the_last_token_of_a_key_is_kept_and_the_oldest_key_goes() {
        let bucket = Bucket::default();
        let mut seen = Seen::new(2);
        seen.remember(&bucket, &key("a"), "1".into());
        seen.remember(&bucket, &key("b"), "2".into());
        seen.remember(&bucket, &key("a"), "3".into());
        assert_eq!(seen.token(&bucket, &key("a")), Some("3".into()));
        seen.remember(&bucket, &key("c"), "4".into());
        let tokens = ["a", "b", "c"].map(|name| seen.token(&bucket, &key(name)));
        assert_eq!(tokens, [None, Some("2".into()), Some("4".into())]);
        seen.forget(&bucket, &key("b"));
        seen.remember(&bucket, &key("d"), "5".into());
        assert_eq!((seen.tokens.len(), seen.order.len()), (2, 2));
    }

    #[test]
    fn buckets_have_keys_of_their_own() {
        let other = Bucket::new("other").unwrap();
        let mut seen = Seen::new(9);
        seen.remember(&Bucket::default(), &key("a"), "1".into());
        assert_eq!(seen.token(&other, &key("a")), None);
    }
}
