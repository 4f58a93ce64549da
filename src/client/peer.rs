//! One node as the client sees it: dialed when somebody wants it, and left alone for a while when that fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing::debug;

use super::connection::{Asked, Connection};
use super::hub::Network;
use super::mailbox::Ticket;
use super::route::Standing;
use super::session::Loss;
use crate::api::Request;
use crate::net::{Expect, NetError, Role};
use crate::types::Time;

/// A node that could not be reached is not dialed again for this long.
const REDIAL_PAUSE: Duration = Duration::from_millis(250);
/// A node that let an attempt wait goes behind the others for this long.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// Requests that wait for one dial; the next is told that the queue is full. The client's permits bound the living ones.
const MAX_WAITING: usize = 8192;

/// One address.
pub(super) struct Peer {
    address: String,
    network: Arc<Network>,
    state: Mutex<State>,
    /// Not to be preferred before this time, in microseconds; 0 if nothing speaks against it.
    slow_until: AtomicU64,
}

struct State {
    link: LinkState,
    /// The certificate's name, once it has been seen.
    name: Option<String>,
    /// Why it is down, if it is.
    failure: Option<Loss>,
}

enum LinkState {
    Idle,
    Dialing(Vec<Waiter>),
    Up(Arc<Connection>),
    /// Not dialed before this time.
    Resting(Time),
}

struct Waiter {
    request: Arc<Request>,
    until: Time,
    ticket: Ticket,
}

impl Peer {
    pub(super) fn new(address: String, network: Arc<Network>) -> Arc<Peer> {
        let state = State { link: LinkState::Idle, name: None, failure: None };
        Arc::new(Peer { address, network, state: Mutex::new(state), slow_until: AtomicU64::new(0) })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// For people: the name and the address, as far as they are known.
    pub(super) fn label(&self) -> String {
        match &self.state().name {
            Some(name) => format!("{name} ({})", self.address),
            None => self.address.clone(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.network.now()
    }

    /// What to expect of it.
    pub(super) fn standing(&self, now: Time) -> Standing {
        if self.state().failure.is_some() {
            Standing::Down
        } else if now.as_micros() < self.slow_until.load(Ordering::Relaxed) {
            Standing::Slow
        } else {
            Standing::Good
        }
    }

    /// It has let an attempt wait until its timeout.
    pub(super) fn mark_slow(&self, now: Time) {
        self.slow_until.store((now + SLOW_FOR).as_micros(), Ordering::Relaxed);
    }

    /// Sends a request, or queues it and dials.
    pub(super) fn ask(self: &Arc<Self>, now: Time, request: &Arc<Request>, until: Time, ticket: Ticket) -> Asked {
        let mut state = self.state();
        match &mut state.link {
            LinkState::Up(connection) => {
                let connection = connection.clone();
                drop(state);
                connection.ask(now, request, until, ticket)
            }
            LinkState::Dialing(waiters) => {
                if waiters.len() >= MAX_WAITING {
                    waiters.retain(|waiter| !waiter.ticket.is_abandoned());
                }
                if waiters.len() >= MAX_WAITING {
                    drop(state);
                    ticket.full();
                    return Asked::Settled;
                }
                waiters.push(Waiter { request: request.clone(), until, ticket });
                Asked::Waiting
            }
            LinkState::Resting(until_then) if now < *until_then => {
                let loss = state.failure.clone();
                drop(state);
                ticket.lose(loss.unwrap_or_else(|| Loss { reason: "not reachable lately".into(), auth: false }));
                Asked::Settled
            }
            LinkState::Idle | LinkState::Resting(_) => {
                state.link = LinkState::Dialing(vec![Waiter { request: request.clone(), until, ticket }]);
                drop(state);
                self.dial();
                Asked::Waiting
            }
        }
    }

    /// Dials a node that is down and has rested, so that it is used again once it is back although nobody prefers it.
    pub(super) fn revive(self: &Arc<Self>, now: Time) {
        let mut state = self.state();
        if state.failure.is_some() && matches!(state.link, LinkState::Resting(until) if until <= now) {
            state.link = LinkState::Dialing(Vec::new());
            drop(state);
            self.dial();
        }
    }

    /// The connection has ended; `wanted` by this end.
    pub(super) fn on_lost(self: &Arc<Self>, loss: &Loss, wanted: bool) {
        let mut state = self.state();
        if !matches!(state.link, LinkState::Up(_)) {
            return;
        }
        state.link = LinkState::Idle;
        if !wanted {
            // the node may be back already: it is dialed at the next occasion, but others go first
            state.failure = Some(loss.clone());
            state.link = LinkState::Resting(self.network.now());
            drop(state);
            self.network.request_refresh();
        }
    }

    /// Closes the connection, if there is one.
    pub(super) fn close(&self) {
        if let LinkState::Up(connection) = &self.state().link {
            connection.close();
        }
    }

    fn dial(self: &Arc<Self>) {
        let peer = self.clone();
        self.network.spawn("client dial", async move {
            let dialed = peer.connect().await;
            peer.on_dialed(dialed);
        });
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Connection>, Loss> {
        let loss = |reason: String, auth| Loss { reason: reason.into(), auth };
        let unknown = |error| loss(format!("{}: the address cannot be resolved: {error}", self.address), false);
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.address).await.map_err(unknown)?.collect();
        let mut last = loss(format!("{}: the name has no address", self.address), false);
        for address in addresses {
            let expect = Expect { role_alpn: Role::Client, name: None };
            let opened = match self.network.endpoint().dial(address, expect).await {
                Ok(link) => Connection::open(link, Arc::downgrade(self)).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(connection) => return Ok(connection),
                Err(error) => last = loss(error.to_string(), matches!(error, NetError::Tls { .. })),
            }
        }
        Err(last)
    }

    fn on_dialed(self: &Arc<Self>, dialed: Result<Arc<Connection>, Loss>) {
        let now = self.network.now();
        let mut state = self.state();
        let link = match &dialed {
            Ok(connection) => {
                debug!(node = %connection.name, address = %connection.remote(), "connected");
                state.name = Some(connection.name.clone());
                state.failure = None;
                LinkState::Up(connection.clone())
            }
            Err(loss) => {
                debug!(address = %self.address, reason = %loss.reason, "cannot connect");
                state.failure = Some(loss.clone());
                LinkState::Resting(now + REDIAL_PAUSE)
            }
        };
        let LinkState::Dialing(waiters) = std::mem::replace(&mut state.link, link) else {
            unreachable!("only the dial's own end leaves this state")
        };
        drop(state);
        for Waiter { request, until, ticket } in waiters.into_iter().filter(|waiter| !waiter.ticket.is_abandoned()) {
            match &dialed {
                Ok(connection) => {
                    ticket.sent();
                    connection.ask(now, &request, until, ticket);
                }
                Err(loss) => ticket.lose(loss.clone()),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds a peer's state")
    }
}
