//! One connection to one authenticated peer.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connecting, Connection, ConnectionError, RecvStream, SendStream, TransportErrorCode, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use tracing::warn;

use super::endpoint::Shared;
use super::error::NetError;
use super::identity::{PeerIdentity, Role};
use super::lane::{FrameSink, Lane, LaneParts, QueueLimits};
use super::lane_tasks::LANE_BAD_FRAME;
use super::verify::CertFault;
use crate::frame::raw::{FrameReader, RawFrame};

/// The close code of a link whose peer's certificate does not fit; codes from here on are this module's own.
const CLOSE_CERTIFICATE: u32 = 0xffff_0000;
/// The one byte that the accepting end sends when it has accepted the dialer.
const WELCOME: u8 = 1;
/// TLS alerts are the close codes 0x100 to 0x1ff (RFC 9001, section 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;
/// The alert `no_application_protocol`.
const NO_COMMON_PROTOCOL: u64 = 0x100 + 120;

/// How a link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// This end closed it.
    Local,
    /// The other end closed it.
    Peer {
        /// The code it gave.
        code: u64,
        /// The reason it gave.
        reason: String,
    },
    /// The other end was restarted and knows nothing of it.
    Reset,
    /// No packet came for [`Limits::idle_timeout`](super::Limits::idle_timeout).
    TimedOut,
    /// QUIC gave up, here or there.
    Transport(String),
}

impl CloseReason {
    pub(super) fn of(error: ConnectionError) -> CloseReason {
        match error {
            ConnectionError::LocallyClosed => CloseReason::Local,
            ConnectionError::ApplicationClosed(close) => CloseReason::Peer {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::Reset => CloseReason::Reset,
            ConnectionError::TimedOut => CloseReason::TimedOut,
            other => CloseReason::Transport(other.to_string()),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Local => f.write_str("closed by this end"),
            CloseReason::Peer { code, reason } => write!(f, "closed by the other end: {reason} (code {code})"),
            CloseReason::Reset => f.write_str("the other end was restarted"),
            CloseReason::TimedOut => f.write_str("the other end went silent"),
            CloseReason::Transport(reason) => f.write_str(reason),
        }
    }
}

/// An authenticated connection. Cheap to clone; closed by [`close`](Self::close), or once the last handle and the last
/// lane are gone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<LinkInner>,
}

struct LinkInner {
    connection: Connection,
    identity: PeerIdentity,
    remote: SocketAddr,
    shared: Arc<Shared>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} at {})", self.inner.identity, self.inner.remote)
    }
}

impl Link {
    /// The dialing end: in TLS 1.3 its handshake is done before the other end has seen its certificate, so it waits for
    /// the welcome.
    pub(super) async fn dialed(
        connecting: Connecting,
        peer: SocketAddr,
        shared: Arc<Shared>,
    ) -> Result<Link, NetError> {
        let connection = connecting.await.map_err(|error| failed(peer, error))?;
        let (_, mut welcome) = connection.accept_bi().await.map_err(|error| failed(peer, error))?;
        let mut byte = [0];
        if let Err(err) = welcome.read_exact(&mut byte).await {
            let error = connection.close_reason();
            return Err(error.map_or_else(
                || NetError::Tls { peer, reason: format!("it is no dynkv node of this version: {err}") },
                |error| failed(peer, error),
            ));
        }
        if byte != [WELCOME] {
            return Err(NetError::Tls { peer, reason: "it is no dynkv node of this version".to_owned() });
        }
        let identity = identity_of(&connection, peer)?;
        Ok(Link::up(connection, identity, peer, shared))
    }

    /// The accepting end.
    pub(super) async fn accepted(incoming: quinn::Incoming, shared: Arc<Shared>) -> Result<Link, NetError> {
        let peer = canonical(incoming.remote_address());
        let connection =
            incoming.accept().map_err(|error| failed(peer, error))?.await.map_err(|error| failed(peer, error))?;
        let identity = identity_of(&connection, peer)?;
        let dialed_as = role_of(&connection);
        if dialed_as != Some(identity.role) {
            let needed = dialed_as.unwrap_or(Role::Client);
            let fault = CertFault::WrongRole { name: identity.to_string(), needed }.to_string();
            connection.close(VarInt::from_u32(CLOSE_CERTIFICATE), fault.as_bytes());
            return Err(NetError::Tls { peer, reason: format!("refused: {fault}") });
        }
        let lost = |error| failed(peer, error);
        let (mut welcome, _) = connection.open_bi().await.map_err(lost)?;
        if welcome.write_all(&[WELCOME]).await.is_err() {
            let error = connection.close_reason().unwrap_or(ConnectionError::LocallyClosed);
            return Err(failed(peer, error));
        }
        Ok(Link::up(connection, identity, peer, shared))
    }

    fn up(connection: Connection, identity: PeerIdentity, remote: SocketAddr, shared: Arc<Shared>) -> Link {
        shared.counters.add_link();
        Link { inner: Arc::new(LinkInner { connection, identity, remote, shared }) }
    }

    /// Whom the peer's certificate names.
    pub fn identity(&self) -> &PeerIdentity {
        &self.inner.identity
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.inner.remote
    }

    /// The smoothed round trip time of the path.
    pub fn rtt(&self) -> Duration {
        self.inner.connection.rtt()
    }

    /// Opens a lane. `opening` is the first frame on it and tells the peer what it is for. Of two lanes with data to send,
    /// the one with the higher `priority` goes first. The peer's frames go to `sink`.
    ///
    /// # Errors
    /// [`NetError::Frame`] for an opening frame that is too long; [`NetError::Timeout`] if the peer allows no more lanes
    /// for [`Limits::opening_timeout`](super::Limits::opening_timeout); [`NetError::Link`].
    pub async fn open_lane(
        &self,
        opening: RawFrame,
        priority: i32,
        queue: QueueLimits,
        sink: Arc<dyn FrameSink>,
    ) -> Result<Lane, NetError> {
        let LinkInner { connection, remote, shared, .. } = &*self.inner;
        shared.limits.frame.check(&opening)?;
        let (send, recv) = timeout(shared.limits.opening_timeout, connection.open_bi())
            .await
            .map_err(|_| NetError::Timeout { peer: *remote, what: "grant of another lane" })?
            .map_err(|error| self.lost(error))?;
        set_priority(&send, priority);
        let reader = FrameReader::new(shared.limits.frame);
        Ok(Lane::start(LaneParts { send, recv, reader, shared: shared.clone() }, Some(opening), queue, sink))
    }

    /// The next lane that the peer opens, its opening frame read. A lane without a good one is reset, counted and skipped.
    /// Not cancel-safe: dropping the future may drop a lane that is being opened.
    ///
    /// # Errors
    /// [`NetError::Link`] once the link is closed.
    pub async fn accept_lane(&self) -> Result<IncomingLane, NetError> {
        let LinkInner { connection, shared, .. } = &*self.inner;
        loop {
            let (mut send, mut recv) = connection.accept_bi().await.map_err(|error| self.lost(error))?;
            let mut reader = FrameReader::new(shared.limits.frame);
            let opening = timeout(shared.limits.opening_timeout, read_opening(&mut recv, &mut reader)).await;
            let fault = match opening {
                Ok(Ok(opening)) => {
                    let parts = LaneParts { send, recv, reader, shared: shared.clone() };
                    return Ok(IncomingLane { opening, parts });
                }
                Ok(Err(fault)) => fault,
                Err(_) => "it did not come in time".to_owned(),
            };
            shared.counters.add_bad_opening();
            warn!(peer = %self.inner.identity, fault, "lane refused: no good opening frame");
            // an error means that the peer has given the stream up already
            let _ = send.reset(VarInt::from_u32(LANE_BAD_FRAME));
            let _ = recv.stop(VarInt::from_u32(LANE_BAD_FRAME));
        }
    }

    /// Waits for the link's end and says how it came.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::of(self.inner.connection.closed().await)
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.connection.close_reason().is_some()
    }

    /// For tests that write what no lane would.
    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Ends the link and all its lanes at once; what they have queued is lost. Codes from `0xffff0000` are reserved.
    pub fn close(&self, code: u32, reason: &str) {
        self.inner.connection.close(VarInt::from_u32(code), reason.as_bytes());
    }

    fn lost(&self, error: ConnectionError) -> NetError {
        NetError::Link { peer: self.inner.remote, reason: CloseReason::of(error) }
    }
}

/// A lane that the peer has opened and that nobody reads yet. Dropping it closes it.
pub struct IncomingLane {
    /// Its first frame: what it is for.
    pub opening: RawFrame,
    parts: LaneParts,
}

impl IncomingLane {
    /// Starts the lane: the peer's further frames go to `sink`.
    pub fn start(self, queue: QueueLimits, sink: Arc<dyn FrameSink>) -> Lane {
        Lane::start(self.parts, None, queue, sink)
    }

    /// As [`start`](Self::start), with a priority for what this end sends.
    pub fn start_with_priority(self, priority: i32, queue: QueueLimits, sink: Arc<dyn FrameSink>) -> Lane {
        set_priority(&self.parts.send, priority);
        self.start(queue, sink)
    }
}

impl fmt::Debug for IncomingLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingLane").field("opening", &self.opening).finish_non_exhaustive()
    }
}

fn set_priority(send: &SendStream, priority: i32) {
    // fails only on a stream that was closed already; the lane's first write will tell
    let _ = send.set_priority(priority);
}

async fn read_opening(recv: &mut RecvStream, reader: &mut FrameReader) -> Result<RawFrame, String> {
    loop {
        if let Some(frame) = reader.next().map_err(|error| error.to_string())? {
            return Ok(frame);
        }
        let chunk = recv.read_chunk(usize::MAX, true).await.map_err(|error| error.to_string())?;
        reader.push(chunk.ok_or("it ended before")?.bytes);
    }
}

/// Both ends' verifiers have seen to it that there is a certificate with a name of ours.
fn identity_of(connection: &Connection, peer: SocketAddr) -> Result<PeerIdentity, NetError> {
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let identity = leaf.ok_or_else(|| "it showed none".to_owned()).and_then(|leaf| PeerIdentity::of_certificate(leaf));
    identity.map_err(|reason| NetError::Tls { peer, reason: format!("unusable certificate: {reason}") })
}

/// The role of the ALPN that was agreed on.
fn role_of(connection: &Connection) -> Option<Role> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    Role::of_alpn(&data.protocol?)
}

/// An IPv4 peer of a dual-stack socket shows as a mapped IPv6 address.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Words the end of a connection that never became a link.
fn failed(peer: SocketAddr, error: ConnectionError) -> NetError {
    let alert = |code: TransportErrorCode| Some(u64::from(code)).filter(|code| TLS_ALERTS.contains(code));
    let strip = |reason: &str| reason.trim_start_matches("other error: ").to_owned();
    match &error {
        ConnectionError::TransportError(ours) if let Some(code) = alert(ours.code) => {
            NetError::Tls { peer, reason: tls_reason("refused", code, strip(&ours.reason)) }
        }
        ConnectionError::ConnectionClosed(theirs) if let Some(code) = alert(theirs.error_code) => {
            let reason = strip(&String::from_utf8_lossy(&theirs.reason));
            NetError::Tls { peer, reason: tls_reason("it refused us", code, reason) }
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(CLOSE_CERTIFICATE) => {
            NetError::Tls { peer, reason: format!("it refused us: {}", String::from_utf8_lossy(&close.reason)) }
        }
        ConnectionError::TimedOut => NetError::Timeout { peer, what: "answer to the handshake" },
        _ => NetError::Link { peer, reason: CloseReason::of(error) },
    }
}

fn tls_reason(who: &str, code: u64, reason: String) -> String {
    match (code, reason.is_empty()) {
        (NO_COMMON_PROTOCOL, _) => format!("{who}: the two ends speak different versions of the protocol, upgrade one"),
        (_, true) => format!("{who}: TLS alert {}", code - TLS_ALERTS.start),
        (_, false) => format!("{who}: {reason}"),
    }
}
