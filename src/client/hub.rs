//! What all calls of a client share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use super::client::ClientConfig;
use super::error::ClientError;
use super::retries::Retries;
use super::routing::Routing;
use crate::api::RingReply;
use crate::net::{Endpoint, Limits, Tls};
use crate::ring::{Layout, RingView};
use crate::types::{Time, WriteId};

/// Calls under way at one time; further ones wait for a place. It is what a node takes of one connection by default
/// (`net.max_inflight`).
pub(super) const MAX_CALLS: usize = 4096;

/// The socket, the clock, and the wish for a newer ring.
pub(super) struct Network {
    endpoint: Endpoint,
    origin: Instant,
    refresh_wanted: AtomicBool,
}

impl Network {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn now(&self) -> Time {
        let micros = self.origin.elapsed().as_micros();
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// When a time of [`Network::now`] is on the timer's clock.
    pub(super) fn instant(&self, time: Time) -> Instant {
        self.origin + time.since(Time::ZERO)
    }

    pub(super) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.endpoint.spawner().spawn(name, task);
    }

    /// A node came or went: the ring may have changed. The next call sees to it.
    pub(super) fn request_refresh(&self) {
        self.refresh_wanted.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_refresh(&self) -> bool {
        // read first: this runs in every call, and a line that is only read stays in every core's cache
        self.refresh_wanted.load(Ordering::Relaxed) && self.refresh_wanted.swap(false, Ordering::Relaxed)
    }
}

/// Peers, ring, permits, random numbers.
pub(super) struct Hub {
    pub(super) config: ClientConfig,
    pub(super) network: Arc<Network>,
    pub(super) routing: ArcSwap<Routing>,
    pub(super) permits: Semaphore,
    pub(super) retries: Retries,
    /// A ring is being fetched.
    pub(super) refreshing: AtomicBool,
    nonce: u64,
    drawn: AtomicU64,
}

impl Hub {
    /// Loads the certificate and binds a socket; speaks to nobody yet.
    pub(super) fn new(config: ClientConfig) -> Result<Hub, ClientError> {
        if config.endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        let tls = Tls::load(&config.tls).map_err(ClientError::Setup)?;
        let endpoint = Endpoint::client(&tls, &Limits::default()).map_err(ClientError::Setup)?;
        let network = Arc::new(Network { endpoint, origin: Instant::now(), refresh_wanted: AtomicBool::new(false) });
        let routing = Routing::start(&config.endpoints, &network);
        Ok(Hub {
            config,
            network,
            routing: ArcSwap::from_pointee(routing),
            permits: Semaphore::new(MAX_CALLS),
            retries: Retries::new(),
            refreshing: AtomicBool::new(false),
            nonce: rand::random(),
            drawn: AtomicU64::new(rand::random()),
        })
    }

    /// A number that differs from call to call.
    pub(super) fn seed(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed) ^ self.nonce
    }

    /// An id that no other write has: 64 random bits of this client, and a count.
    pub(super) fn write_id(&self) -> WriteId {
        WriteId(u128::from(self.nonce) << 64 | u128::from(self.drawn.fetch_add(1, Ordering::Relaxed)))
    }

    /// Takes up a ring that a node told, unless it is older than the one known.
    pub(super) fn adopt(&self, reply: &RingReply, encoded: &[u8], from: &str) -> Result<Arc<RingView>, ClientError> {
        let bad = |reason: String| ClientError::BadAnswer { node: from.to_owned(), reason };
        let layout = Layout::decode(encoded).map_err(|error| bad(format!("its ring: {error}")))?;
        let current = self.routing.load();
        if let Some(view) = &current.view {
            if view.cluster() != reply.cluster {
                warn!(node = %from, theirs = %reply.cluster, ours = %view.cluster(), "a node of another cluster");
                return Err(bad(format!("it belongs to cluster {}, not to {}", reply.cluster, view.cluster())));
            }
            if layout.version() <= current.version() {
                return Ok(view.clone());
            }
        }
        let view = Arc::new(RingView::new(layout, reply.cluster));
        self.routing.store(Arc::new(current.with_ring(view.clone(), &self.config.endpoints, &self.network)));
        Ok(view)
    }
}
