//! The handle that programs hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::call::{Called, call};
use super::error::ClientError;
use super::hub::Hub;
use super::join::{Boxed, join_all};
use super::options::{
    GetOptions, GetResult, PageQuery, PutOptions, PutResult, ScanEntry, ScanPage, Value, WhereResult,
};
use super::route::{Order, Standing, route};
use super::routing::Routing;
use super::session::{Patience, Target};
use crate::api::{Deadline, Get, GetReply, Put, PutHeader, Reply, Request, Scan, SiblingMeta, StatusReply, Where};
use crate::net::TlsFiles;
use crate::ring::RingView;
use crate::types::{Bucket, Key, NodeId, WriteId};

/// Whom to ask, as whom, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `HOST:PORT` of some nodes; the others are learnt from the ring. Given more than one, any may be down.
    pub endpoints: Vec<String>,
    /// The client's certificate.
    pub tls: TlsFiles,
    /// From a call to its answer, all attempts included.
    pub request_timeout: Duration,
    /// How long one node is waited for before another is asked too; below `request_timeout`.
    pub attempt_timeout: Duration,
    /// Who coordinates.
    pub coordinator: Coordinator,
}

/// Which node a request about a key goes to first (DeCandia et al., "Dynamo", SOSP 2007, section 6.4). Nodes that are slow or down come last either
/// way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coordinator {
    /// One of the key's primaries, which has a replica of its own: the client knows the ring. Gets are spread over all
    /// of them. Puts go to the key's first coordinator, as long as it can be reached: few nodes become actors in the
    /// key's context, and the puts of a very hot key have one shard of one node. One that refuses them is asked first
    /// by each, which costs a round trip, and if it is overloaded a pause, of 10 to 30 ms at first. `explain` goes where
    /// a put would.
    #[default]
    Primary,
    /// Any node, as by a load balancer that knows nothing of keys. Unless it happens to be a primary, a put is handed on to one, and a get
    /// asks one replica more over the network.
    Any,
}

impl ClientConfig {
    /// With the default timeouts: 5 s, and 300 ms an attempt.
    pub fn new(endpoints: Vec<String>, tls: TlsFiles) -> ClientConfig {
        let Patience { request_timeout, attempt_timeout } = Patience::default();
        ClientConfig { endpoints, tls, request_timeout, attempt_timeout, coordinator: Coordinator::default() }
    }
}

/// A cluster's client. Cheap to clone; all clones share connections, ring and limits. Connections close with the last clone.
///
/// Calls may run at the same time, up to 4096 of them; more wait for a place. Dropping a call's future gives up waiting; a write that
/// was sent may still take effect. Needs a tokio runtime.
#[derive(Clone)]
pub struct Client {
    pub(super) hub: Arc<Hub>,
}

impl Client {
    /// Makes a client that speaks to nobody yet: for clusters that are not born, and for [`Client::status`].
    ///
    /// # Errors
    /// [`ClientError::Setup`], [`ClientError::NoEndpoints`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(config: ClientConfig) -> Result<Client, ClientError> {
        Ok(Client { hub: Arc::new(Hub::new(config)?) })
    }

    /// Makes a client and fetches the ring.
    ///
    /// # Errors
    /// Those of [`Client::open`] and [`Client::refresh_ring`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        let client = Client::open(config)?;
        client.refresh_ring().await?;
        Ok(client)
    }

    /// Reads a key. A key that nobody wrote is a result without siblings, and no error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, bucket: &Bucket, key: &Key, options: GetOptions) -> Result<GetResult, ClientError> {
        let GetOptions { r, pr, strict, blocking_repair, after, trace } = options;
        let (bucket_name, deadline) = (bucket.clone(), Deadline::default());
        let get = Get { bucket: bucket_name, key: key.clone(), r, pr, strict, blocking_repair, after, trace, deadline };
        let request = Request::Get(get);
        let called = self.call_key(bucket, key, request).await?;
        let Called { reply, values, from, elapsed, attempts, trace } = called;
        let Reply::Get(reply) = reply else { return Err(unexpected(from)) };
        let mut values = values.into_iter();
        let siblings = pair(&reply.siblings, &mut values, &from)?;
        let GetReply { context, acks, repaired, n, r, .. } = reply;
        Ok(GetResult { siblings, context, acks, repaired, n, r, from, elapsed, attempts, trace })
    }

    /// Writes a key.
    ///
    /// # Errors
    /// [`ClientError`]; after one that [is indeterminate](ClientError::is_indeterminate) the write may have happened or
    /// may still happen.
    pub async fn put(
        &self,
        bucket: &Bucket,
        key: &Key,
        value: Bytes,
        options: PutOptions,
    ) -> Result<PutResult, ClientError> {
        self.write(bucket, key, Some(value), options).await
    }

    /// Deletes what the read with this context showed; values written concurrently stay.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(
        &self,
        bucket: &Bucket,
        key: &Key,
        context: Bytes,
        options: PutOptions,
    ) -> Result<PutResult, ClientError> {
        self.write(bucket, key, None, PutOptions { context: Some(context), ..options }).await
    }

    /// Reads one page of one partition.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn scan_page(&self, query: PageQuery) -> Result<ScanPage, ClientError> {
        let PageQuery { bucket, partition, after, prefix, limit, keys_only, r } = query;
        let routing = self.routing();
        let targets = self.targets(&routing, &routing.primaries(partition, &bucket), Order::Random);
        let deadline = Deadline::default();
        let request = Request::Scan(Scan { bucket, partition, after, prefix, limit, keys_only, r, deadline });
        let Called { reply, values, from, .. } = call(&self.hub, routing, targets, request).await?;
        let Reply::Scan(reply) = reply else { return Err(unexpected(from)) };
        let mut values = values.into_iter();
        let entries = reply.items.into_iter().map(|item| {
            let siblings = if keys_only { bare(&item.siblings) } else { pair(&item.siblings, &mut values, &from)? };
            Ok(ScanEntry { key: item.key, siblings, context: item.context })
        });
        Ok(ScanPage { entries: entries.collect::<Result<_, ClientError>>()?, next: reply.next })
    }

    /// Asks every replica of a key which version it holds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn where_is(&self, bucket: &Bucket, key: &Key) -> Result<WhereResult, ClientError> {
        let request = Request::Where(Where { bucket: bucket.clone(), key: key.clone(), deadline: Deadline::default() });
        let Called { reply, from, elapsed, .. } = self.call_key(bucket, key, request).await?;
        let Reply::Where(reply) = reply else { return Err(unexpected(from)) };
        Ok(WhereResult { reply, from, elapsed })
    }

    /// The ring, if a node has told it yet.
    pub fn ring(&self) -> Option<Arc<RingView>> {
        self.hub.routing.load().view.clone()
    }

    /// Asks any node for the ring.
    ///
    /// # Errors
    /// [`ClientError`]; one of another cluster, or bytes that are no ring, are [`ClientError::BadAnswer`].
    pub async fn refresh_ring(&self) -> Result<Arc<RingView>, ClientError> {
        let routing = self.hub.routing.load_full();
        let targets = self.targets(&routing, &[], Order::Random);
        let Called { reply, values, from, .. } = call(&self.hub, routing, targets, Request::Ring).await?;
        let (Reply::Ring(reply), [encoded]) = (reply, &values[..]) else { return Err(unexpected(from)) };
        self.hub.adopt(&reply, encoded, &from)
    }

    /// What the node at `endpoint` (`HOST:PORT`) knows of itself and the others.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self, endpoint: &str) -> Result<StatusReply, ClientError> {
        let routing = self.hub.routing.load_full();
        let known = routing.peers.iter().zip((0..).map(Target)).find(|(peer, _)| peer.address() == endpoint);
        let (routing, target) = match known {
            Some((_, target)) => (routing, target),
            None => (Arc::new(Routing::start(&[endpoint.to_owned()], &self.hub.network)), Target(0)),
        };
        self.status_of(routing, target).await
    }

    /// The status of every node that is known, by address: members first, in the ring's order.
    pub async fn status_all(&self) -> Vec<(String, Result<StatusReply, ClientError>)> {
        let routing = self.hub.routing.load_full();
        let ask = |target| -> Boxed<'_, _> {
            let routing = routing.clone();
            Box::pin(async move {
                let address = routing.peer(target).address().to_owned();
                (address, self.status_of(routing, target).await)
            })
        };
        join_all((0..routing.peers.len() as u16).map(Target).map(ask).collect()).await
    }

    /// An id for [`PutOptions::write_id`] that no other write has. Whoever may want to repeat a write draws it before the first try.
    pub fn new_write_id(&self) -> WriteId {
        self.hub.write_id()
    }

    /// A node's name in the ring; its id if the ring does not know it.
    pub fn name_of(&self, node: NodeId) -> String {
        self.hub.routing.load().name_of(node)
    }

    /// Says goodbye to the nodes and waits until they have been told. Calls that are under way fail.
    pub async fn close(self) {
        for peer in &self.hub.routing.load().peers {
            peer.close();
        }
        self.hub.network.endpoint().close(0, "the client is done");
        self.hub.network.endpoint().wait_closed().await;
    }

    /// Starts a task that this client's [`Client::close`] waits for.
    pub(super) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.hub.network.spawn(name, task);
    }

    async fn status_of(&self, routing: Arc<Routing>, target: Target) -> Result<StatusReply, ClientError> {
        let Called { reply, from, .. } = call(&self.hub, routing, vec![target], Request::Status).await?;
        let Reply::Status(reply) = reply else { return Err(unexpected(from)) };
        Ok(*reply)
    }

    async fn write(
        &self,
        bucket: &Bucket,
        key: &Key,
        value: Option<Bytes>,
        options: PutOptions,
    ) -> Result<PutResult, ClientError> {
        let PutOptions { context, w, pw, dw, strict, write_id, trace } = options;
        let write_id = write_id.unwrap_or_else(|| self.new_write_id());
        let (bucket_name, delete, deadline) = (bucket.clone(), value.is_none(), Deadline::default());
        let key_name = key.clone();
        let header = PutHeader {
            bucket: bucket_name,
            key: key_name,
            write_id,
            context,
            delete,
            w,
            pw,
            dw,
            strict,
            trace,
            deadline,
        };
        let Called { reply, from, elapsed, attempts, trace, .. } =
            self.call_key(bucket, key, Request::Put(Put { header, value })).await?;
        let Reply::Put(receipt) = reply else { return Err(unexpected(from)) };
        Ok(PutResult { receipt, write_id, elapsed, attempts, trace })
    }

    pub(super) async fn call_key(&self, bucket: &Bucket, key: &Key, request: Request) -> Result<Called, ClientError> {
        let routing = self.routing();
        let view = routing.view.as_ref().filter(|_| self.hub.config.coordinator == Coordinator::Primary);
        let place = view.map(|view| view.partition_of(bucket, key));
        let (order, primaries) = match place {
            Some((partition, token)) if request.is_for_coordinator() => {
                (Order::Given, routing.coordinators(partition, token, bucket))
            }
            Some((partition, _)) => (Order::Random, routing.primaries(partition, bucket)),
            None => (Order::Random, Vec::new()),
        };
        let targets = self.targets(&routing, &primaries, order);
        call(&self.hub, routing, targets, request).await
    }

    /// Everybody, in the order in which to ask; nodes that are down and have rested are dialed on the side.
    fn targets(&self, routing: &Routing, primaries: &[Target], order: Order) -> Vec<Target> {
        let now = self.hub.network.now();
        let count = u16::try_from(routing.peers.len()).unwrap_or(u16::MAX);
        let standing = |target| {
            let peer = routing.peer(target);
            let standing = peer.standing(now);
            if standing == Standing::Down {
                peer.revive(now);
            }
            standing
        };
        route(count, primaries, order, standing, self.hub.seed())
    }

    /// What is known now; if a node came or went, the ring is fetched again on the side.
    fn routing(&self) -> Arc<Routing> {
        if self.hub.network.take_refresh() && !self.hub.refreshing.swap(true, Ordering::Relaxed) {
            let client = self.clone();
            self.spawn("ring refresh", async move {
                if let Err(error) = client.refresh_ring().await {
                    debug!(%error, "the ring could not be refreshed");
                }
                client.hub.refreshing.store(false, Ordering::Relaxed);
            });
        }
        self.hub.routing.load_full()
    }
}

pub(super) fn unexpected(node: String) -> ClientError {
    ClientError::BadAnswer { node, reason: "the answer is of another kind than the request".to_owned() }
}

/// Gives each sibling that has a value its own.
fn pair(
    metas: &[SiblingMeta],
    values: &mut impl Iterator<Item = Bytes>,
    from: &str,
) -> Result<Vec<Value>, ClientError> {
    let bad = |reason: &str| ClientError::BadAnswer { node: from.to_owned(), reason: reason.to_owned() };
    let value = |meta: &SiblingMeta| {
        let bytes = meta.len.map(|_| values.next().ok_or_else(|| bad("the answer names a value that is not there")));
        let bytes = bytes.transpose()?;
        if bytes.as_ref().map(Bytes::len) != meta.len.map(|len| len as usize) {
            return Err(bad("a value has not the length that the answer says"));
        }
        Ok(Value { meta: *meta, bytes })
    };
    metas.iter().map(value).collect()
}

fn bare(metas: &[SiblingMeta]) -> Vec<Value> {
    metas.iter().map(|meta| Value { meta: *meta, bytes: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Actor, Dot};

    fn meta(len: Option<u32>) -> SiblingMeta {
        let dot = Dot { actor: Actor(1), counter: 1 };
        SiblingMeta { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: 0, len }
    }

    #[test]
    fn values_go_to_the_siblings_that_have_one() {
        let metas = [meta(Some(1)), meta(None), meta(Some(2)), meta(Some(0))];
        let mut values = ["a", "bc", ""].map(Bytes::from).into_iter();
        let paired = pair(&metas, &mut values, "n1").unwrap();
        let bytes: Vec<_> = paired.into_iter().map(|value| value.bytes).collect();
        assert_eq!(bytes, [Some("a".into()), None, Some("bc".into()), Some(Bytes::new())]);
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_refused() {
        for values in [&["abc"][..], &[]] {
            let mut values = values.iter().map(|value| Bytes::from(*value));
            assert!(matches!(pair(&[meta(Some(1))], &mut values, "n1"), Err(ClientError::BadAnswer { .. })));
        }
    }
}
