//! `[net]` and `[tls]`: where a node listens, how long it waits, what proves who it is.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::quorum::HedgeAfter;

/// Addresses, deadlines and bounds of peers' and clients' traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetConfig {
    /// UDP address for peers and clients. `[::]` takes IPv4 too where the system allows; port 0 lets it choose.
    pub listen: SocketAddr,
    /// `host:port` under which others reach this node; empty: `listen`, which must then name one address. Needed behind NAT and in containers.
    pub advertise: String,
    /// A request's deadline, all attempts and hedges included. Past it the answer is "indeterminate", and a late copy is dropped unexecuted.
    /// Replicas remember write ids for twice this.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long one replica or coordinator is waited for before the next is tried; at most `request_timeout`. Low: stand-ins
    /// (and their hints) for every slow disk; high: a dead node costs a request this much.
    #[serde(with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// After how long a read asks one replica more than it needs: "p95" of recent replies, a duration, or "never". Short: more reads;
    /// long: one slow replica is felt. From `attempt_timeout` on it is "never".
    pub hedge_after: HedgeAfter,
    /// The largest value, in bytes. Frames, and so memory for each request, are bounded by it.
    pub max_value: ByteSize,
    /// Requests under way on one connection; the next is answered `Overloaded`. Low: throttles pipelining clients; high:
    /// up to this times `max_value` of memory for each connection.
    pub max_inflight: u32,
}

impl Default for NetConfig {
    fn default() -> NetConfig {
        NetConfig {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7400)),
            advertise: String::new(),
            request_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_millis(300),
            hedge_after: HedgeAfter::P95,
            max_value: ByteSize::mib(1),
            max_inflight: 4096,
        }
    }
}

/// PEM files of mutual TLS. All three are needed to run: `dynkv certs init` makes the CA, `dynkv certs node` the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate of the cluster's CA: who is signed by it may speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// This node's certificate, for `NAME.node.CLUSTER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its private key; refused if others can read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}
