//! The sections that belong to no one subsystem.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ring::BucketConfig;
use crate::storage::config::SizeOrPercent;
use crate::types::Bucket;

/// `[node]`: who this node is, and its share of the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Its name in the layout and in its certificate, a DNS label; it never changes. Empty: the host's name up to the first dot.
    pub name: String,
    /// Parts of the node's keys that are worked on side by side, 1 to 256; 0: one a core. More than threads only makes drains smaller; peers need
    /// not agree.
    pub shards: u16,
    /// Threads that run the shards and carry their frames, 1 to 256; 0: one a core, but no more than shards. Few: frames travel in larger packets
    /// and wake fewer threads; a node whose threads never sleep has too few.
    pub threads: u16,
    /// What fails together (a rack, a data centre), a DNS label. Replicas are spread over distinct zones as far as there are zones.
    pub zone: String,
    /// Share of the partitions relative to the other nodes', above 0 and at most 1000.
    pub weight: f64,
    /// The database and the node's identity. Never copied from node to node: an old copy is refused by its peers.
    pub data_dir: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            name: String::new(),
            shards: 0,
            threads: 0,
            zone: "default".into(),
            weight: 1.0,
            data_dir: "/var/lib/dynkv".into(),
        }
    }
}

/// `[cluster]`: which cluster this node belongs to, and how a new one is born.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// A DNS label, part of every certificate: a node of another name is refused.
    pub name: String,
    /// `host:port` of nodes to meet first; any few of the cluster will do, this one among them or not. None: a cluster of one node.
    pub seeds: Vec<String>,
    /// Nodes that must agree before a new cluster is born, so that no two are. Required with `seeds`; alike on all nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_expect: Option<u16>,
    /// The secret that keys context tokens, alike on all nodes; refused if others can read it. `dynkv certs init` makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// At birth only: equal parts of the ring, a power of two. Few: coarse balance, at most this many nodes; many: more
    /// bookkeeping on each node. Some tens for each node that the cluster will ever have.
    pub partitions: u32,
    /// At birth only: the buckets and what is fixed for each. `default` is always among them.
    pub buckets: BTreeMap<Bucket, BucketConfig>,
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig {
            name: "dynkv".into(),
            seeds: Vec::new(),
            bootstrap_expect: None,
            secret_file: None,
            partitions: 256,
            buckets: BTreeMap::from([(Bucket::default(), BucketConfig::default())]),
        }
    }
}

/// `[http]`: health and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// TCP address. It asks for no certificate, so beyond the loopback it belongs behind something that does; port 0 lets the system choose.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7480)) }
    }
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The least severe that is written. Below `info`, each request costs a line or more.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// A request that takes longer is logged. Zero logs every one.
    #[serde(with = "humantime_serde")]
    pub slow_op: Duration,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { level: LogLevel::Info, format: LogFormat::Auto, slow_op: Duration::from_millis(100) }
    }
}

/// Severities, the gravest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Somebody must act.
    Error,
    /// Somebody should look.
    Warn,
    /// What an operator wants to have known afterwards.
    #[default]
    Info,
    /// For finding a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// `[limits]`: bounds of the whole process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// QUIC connections, peers' and clients' together; the next is refused. Each may hold `net.max_inflight` requests.
    pub max_connections: u32,
    /// Resident memory of the process, as a share of the host's (or its container's) or in bytes. Near it background work
    /// is refused, and just below it clients' requests. `storage.block_cache`, `storage.record_cache` and the memtables
    /// (up to a sixth of this) are part of it and may take three quarters of it together.
    pub memory: SizeOrPercent,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig { max_connections: 10_000, memory: SizeOrPercent::Percent(80) }
    }
}
