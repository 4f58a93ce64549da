//! One UDP socket: dials nodes and accepts nodes and clients.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use quinn::udp::{UdpSockRef, UdpSocketState};
use quinn::{ClientConfig, ConnectError, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::budget::Budget;
use super::error::NetError;
use super::identity::Role;
use super::link::{Link, canonical};
use super::spawn::Spawner;
use super::tls::Tls;
use super::transport::{Counters, Limits, ResetState};
use super::verify::any_node;

/// What all links of an endpoint share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) spawner: Spawner,
    /// What all lanes have queued.
    pub(super) budget: Arc<Budget>,
}

/// A bound socket. Cheap to clone; closed by [`close`](Self::close), or once the last handle, link and lane are gone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    tls: Arc<ArcSwapOption<Tls>>,
    transport: Arc<TransportConfig>,
    shared: Arc<Shared>,
}

/// Whom a dialer expects to meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The role in which *we* dial: it chooses the ALPN, and must be that of our own certificate.
    pub role_alpn: Role,
    /// The node's name; `None` for a seed, where any node of our cluster will do.
    pub name: Option<String>,
}

impl Endpoint {
    /// Binds `listen`; with `tls`, accepts and dials at once, without it only after [`reload_tls`](Self::reload_tls).
    /// `[::]` takes IPv4 peers too. Without `reset`, peers of a killed process notice only by idle timeout.
    ///
    /// # Errors
    /// [`NetError::Bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(
        listen: SocketAddr,
        tls: Option<&Tls>,
        limits: &Limits,
        reset: Option<ResetState>,
    ) -> Result<Endpoint, NetError> {
        let config = reset.map_or_else(EndpointConfig::default, |reset| reset.endpoint());
        let endpoint = Endpoint::open(listen, config, limits)?;
        if let Some(tls) = tls {
            endpoint.reload_tls(tls);
        }
        Ok(endpoint)
    }

    /// Binds any free port, to dial only.
    ///
    /// # Errors
    /// [`NetError::Bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn client(tls: &Tls, limits: &Limits) -> Result<Endpoint, NetError> {
        let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        // a machine may have no IPv6
        let endpoint = Endpoint::open(any_v6, EndpointConfig::default(), limits)
            .or_else(|_| Endpoint::open(any_v4, EndpointConfig::default(), limits))?;
        endpoint.tls.store(Some(Arc::new(tls.clone())));
        Ok(endpoint)
    }

    fn open(listen: SocketAddr, config: EndpointConfig, limits: &Limits) -> Result<Endpoint, NetError> {
        let bind_error = |source| NetError::Bind { addr: listen, source };
        let socket = UdpSocket::bind(listen).map_err(bind_error)?;
        if let Err(err) = grow_buffers(&socket, limits.socket_buffer) {
            debug!(%listen, %err, "the socket keeps its small buffers");
        }
        let quinn = quinn::Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).map_err(bind_error)?;
        let shared = Shared {
            limits: limits.clone(),
            counters: Arc::default(),
            spawner: Spawner::new(TaskTracker::new()),
            budget: Arc::new(Budget::new(limits.max_queued)),
        };
        Ok(Endpoint { quinn, tls: Arc::default(), transport: limits.transport(), shared: Arc::new(shared) })
    }

    /// Uses `tls` for all connections to come; those that are up stay as they are.
    pub fn reload_tls(&self, tls: &Tls) {
        self.quinn.set_server_config(Some(self.shared.limits.server(tls, self.transport.clone())));
        self.tls.store(Some(Arc::new(tls.clone())));
    }

    /// The next connection attempt, not yet authenticated; `None` once the endpoint is closed. Call
    /// [`Incoming::finish`] in a task of its own, or one slow peer holds up all others.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.quinn.accept().await?;
            if self.quinn.open_connections() < self.shared.limits.max_connections {
                return Some(Incoming { incoming, shared: self.shared.clone() });
            }
            self.shared.counters.add_refused();
            incoming.refuse();
        }
    }

    /// Connects to the node at `addr`, and returns once both ends have accepted each other's certificate.
    ///
    /// # Errors
    /// [`NetError::Tls`] if either end refused the other, [`NetError::Timeout`] if nobody answers within
    /// [`Limits::dial_timeout`], [`NetError::Link`], [`NetError::Dial`], [`NetError::NoTls`],
    /// [`NetError::Closed`].
    pub async fn dial(&self, addr: SocketAddr, expect: Expect) -> Result<Link, NetError> {
        let tls = self.tls.load_full().ok_or(NetError::NoTls)?;
        let cluster = &tls.identity().cluster;
        let server_name = match &expect.name {
            Some(name) => format!("{name}.{}.{cluster}", Role::Node),
            None => any_node(cluster),
        };
        let mut config = ClientConfig::new(tls.client(expect.role_alpn));
        config.transport_config(self.transport.clone());
        let connecting = self.quinn.connect_with(config, addr, &server_name).map_err(|err| dial_error(addr, &err))?;
        let link = Link::dialed(connecting, addr, self.shared.clone());
        timeout(self.shared.limits.dial_timeout, link)
            .await
            .unwrap_or(Err(NetError::Timeout { peer: addr, what: "answer to a dial" }))
    }

    /// The address bound, its port filled in.
    ///
    /// # Errors
    /// [`NetError::Bind`] if the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, NetError> {
        let unknown = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        self.quinn.local_addr().map_err(|source| NetError::Bind { addr: unknown, source })
    }

    /// What happened so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Starts the tasks of this endpoint's lanes and dialers; may run others that live as long.
    pub fn spawner(&self) -> &Spawner {
        &self.shared.spawner
    }

    /// Closes all links with `code` and `reason`, at once, and refuses new ones. What lanes have queued is lost: close
    /// them first.
    pub fn close(&self, code: u32, reason: &str) {
        self.quinn.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// After [`close`](Self::close): waits until the peers have been told and all tasks have ended.
    pub async fn wait_closed(&self) {
        self.quinn.wait_idle().await;
        self.shared.spawner.wait().await;
    }
}

/// The system caps what it grants.
fn grow_buffers(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    state.set_recv_buffer_size(UdpSockRef::from(socket), bytes)?;
    state.set_send_buffer_size(UdpSockRef::from(socket), bytes)
}

fn dial_error(peer: SocketAddr, err: &ConnectError) -> NetError {
    let reason = match err {
        ConnectError::EndpointStopping => return NetError::Closed,
        ConnectError::InvalidRemoteAddress(_) => "port 0, or an IPv6 address from an IPv4 socket".to_owned(),
        other => other.to_string(),
    };
    NetError::Dial { peer, reason }
}

/// A connection attempt whose peer has not shown a certificate yet.
#[derive(Debug)]
pub struct Incoming {
    incoming: quinn::Incoming,
    shared: Arc<Shared>,
}

impl Incoming {
    /// Where it comes from, as far as an unproven address says.
    pub fn remote(&self) -> SocketAddr {
        canonical(self.incoming.remote_address())
    }

    /// Finishes the handshake, checks the peer's certificate, name and role, and tells the peer that it is welcome.
    ///
    /// # Errors
    /// [`NetError::Tls`] if either end refused the other, [`NetError::Timeout`] after [`Limits::handshake_timeout`],
    /// [`NetError::Link`].
    pub async fn finish(self) -> Result<Link, NetError> {
        let (peer, shared) = (self.remote(), self.shared);
        let link = timeout(shared.limits.handshake_timeout, Link::accepted(self.incoming, shared.clone()))
            .await
            .unwrap_or(Err(NetError::Timeout { peer, what: "end of the handshake" }));
        if link.is_err() {
            shared.counters.add_failed_handshake();
        }
        link
    }
}
