//! The settings of QUIC: every limit said, none left to quinn's defaults where those are not safe.
//!
//! **Getting back to a peer that was killed.** The restarted process knows none of its old connections. It answers their
//! packets with a *stateless reset* (RFC 9000, section 10.3), which the peer believes only if the token in it comes from
//! the same key as before; and quinn drops packets whose connection id its generator did not make before it comes to the
//! reset. Hence both are in [`ResetState`], which outlives the process. A reset must be shorter than the packet that
//! provoked it, and quinn sends none for less than 22 bytes; quinn's own smallest packet, a keep-alive ping, has 30 (one
//! byte of header, the 8 bytes of our connection ids, 5 of packet number and payload at least, 16 of tag), so keep-alives
//! provoke one. Only the end that was *accepting* has told its peer a token when the connection began; the links that a
//! restarted process had *dialed* end at their other side by idle timeout, after the new ones are up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::crypto::{CryptoError, HmacKey};
use quinn::{EndpointConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use super::tls::Tls;
use crate::frame::raw::FrameLimits;

/// What an endpoint allows itself and its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time; more are refused before their handshake.
    pub max_connections: usize,
    /// Lanes that the peer of one link may have open.
    pub max_lanes: u32,
    /// The longest frames, sent or taken; the same on all processes of a cluster.
    pub frame: FrameLimits,
    /// Bytes that one lane may have in flight towards us. Less costs throughput over long paths.
    pub lane_window: u32,
    /// Bytes that one link may have in flight towards us; times `max_connections` it bounds the memory for input.
    pub link_window: u32,
    /// Bytes that one link keeps until they are acknowledged; beyond it lanes fill up.
    pub send_window: u64,
    /// Bytes that all lanes together may have queued to be sent. Beyond it only frames without a body are queued, each lane's
    /// own limit permitting, and one frame on a lane that has nothing else.
    pub max_queued: usize,
    /// An idle link is probed after this long. Below `idle_timeout` by a factor of three, or lost probes break links.
    pub keep_alive: Duration,
    /// A link is given up after this long without a packet.
    pub idle_timeout: Duration,
    /// A dialer waits this long for a link to be up.
    pub dial_timeout: Duration,
    /// An accepted connection has this long to finish its handshake.
    pub handshake_timeout: Duration,
    /// A new lane has this long to be granted by, or to come with its opening frame from the peer.
    pub opening_timeout: Duration,
    /// A lane that either end has closed has this long to carry over what was queued.
    pub linger: Duration,
    /// Bytes of the socket's buffers, as far as the system allows (`net.core.rmem_max`, `wmem_max`).
    pub socket_buffer: usize,
    /// Connections that wait for [`accept`](super::Endpoint::accept); more are refused.
    pub max_incoming: usize,
    /// Bytes kept for each of them, and a thousandth of what is kept for all.
    pub incoming_buffer: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 10_000,
            max_lanes: 256,
            frame: FrameLimits::default(),
            lane_window: 4 << 20,
            link_window: 16 << 20,
            send_window: 16 << 20,
            max_queued: 1 << 30,
            keep_alive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(3),
            dial_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(5),
            opening_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(5),
            socket_buffer: 4 << 20,
            max_incoming: 1024,
            incoming_buffer: 16 << 10,
        }
    }
}

impl Limits {
    pub(super) fn transport(&self) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        let idle_ms = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        config
            .max_concurrent_bidi_streams(self.max_lanes.into())
            .max_concurrent_uni_streams(0u32.into())
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            .stream_receive_window(self.lane_window.into())
            .receive_window(self.link_window.into())
            .send_window(self.send_window)
            .crypto_buffer_size(16 << 10)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()))
            // Resends the first packet at 150, 450 and 1050 ms: with RFC 9002's 333 ms for an unknown path a dial that began
            // just before its peer came up would lose a whole second.
            .initial_rtt(Duration::from_millis(50))
            .allow_spin(false);
        Arc::new(config)
    }

    pub(super) fn server(&self, tls: &Tls, transport: Arc<TransportConfig>) -> ServerConfig {
        let mut config = ServerConfig::with_crypto(tls.server());
        config
            .transport_config(transport)
            .migration(false)
            .max_incoming(self.max_incoming)
            .incoming_buffer_size(self.incoming_buffer)
            .incoming_buffer_size_total(self.incoming_buffer.saturating_mul(1000));
        config.validation_token.sent(0);
        config
    }
}

/// What makes a restarted endpoint recognisable to the peers of the process before it. Keep it in the data directory,
/// readable for the owner only: who knows the key can break links.
#[derive(Clone, PartialEq, Eq)]
pub struct ResetState {
    /// Keys the tokens of stateless resets.
    pub reset_key: [u8; 64],
    /// Keys the connection ids.
    pub cid_seed: u64,
}

impl fmt::Debug for ResetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetState(..)")
    }
}

impl ResetState {
    /// That of whoever has this secret, the same after everything else is lost. It tells nothing of the secret.
    pub(super) fn of_secret(secret: &[u8]) -> ResetState {
        let mut bytes =
            blake3::Hasher::new_derive_key("dynkv reset state of a certificate's key v1").update(secret).finalize_xof();
        let (mut reset_key, mut cid_seed) = ([0; 64], [0; 8]);
        bytes.fill(&mut reset_key);
        bytes.fill(&mut cid_seed);
        ResetState { reset_key, cid_seed: u64::from_be_bytes(cid_seed) }
    }

    pub(super) fn endpoint(&self) -> EndpointConfig {
        let key = blake3::derive_key("dynkv stateless reset token key v1", &self.reset_key);
        let mut config = EndpointConfig::new(Arc::new(ResetKey(key)));
        let seed = self.cid_seed;
        config
            .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(seed)))
            // one a millisecond: all peers of a restarted node wait for theirs, and keyed ids keep stray packets away
            .min_reset_interval(Duration::from_millis(1));
        config
    }
}

/// Keyed BLAKE3 in the place of HMAC.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let same = blake3::keyed_hash(&self.0, data) == *signature;
        if same { Ok(()) } else { Err(CryptoError) }
    }
}

/// What an endpoint has seen since it was bound.
#[derive(Debug, Default)]
pub struct Counters {
    links: AtomicU64,
    refused: AtomicU64,
    failed_handshakes: AtomicU64,
    bad_openings: AtomicU64,
    bad_frames: AtomicU64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident, $add:ident;)*) => {
        impl Counters {
            $(
                $(#[$doc])*
                pub fn $field(&self) -> u64 {
                    self.$field.load(Ordering::Relaxed)
                }

                pub(super) fn $add(&self) {
                    self.$field.fetch_add(1, Ordering::Relaxed);
                }
            )*
        }
    };
}

counters! {
    /// Links that came up, dialed and accepted.
    links, add_link;
    /// Connections refused because there were too many.
    refused, add_refused;
    /// Accepted connections that did not become links.
    failed_handshakes, add_failed_handshake;
    /// Lanes closed because no good opening frame came in time.
    bad_openings, add_bad_opening;
    /// Lanes closed because their bytes were not frames.
    bad_frames, add_bad_frame;
}
