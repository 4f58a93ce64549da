//! The configuration: one tree, parsed once, in the binary. Each subsystem's part of it lives beside the subsystem and is
//! handed down from here; nothing else reads files or the environment.
//!
//! ```text
//! default.toml < /etc/dynkv/dynkv.toml < --config or DYNKV_CONFIG < DYNKV__SECTION__KEY < flags
//! ```
//!
//! Layers are merged key by key ([`layers`]), each key remembering where its value came from, and what results is
//! deserialized once and checked ([`Config::validate`]). A key that no one knows is an error, never ignored.

mod error;
mod keys;
pub mod layers;
mod load;
mod sections;
#[cfg(test)]
mod tests;
mod validate;

use serde::{Deserialize, Serialize};

use crate::antientropy::config::{ExchangeConfig, HintsConfig};
use crate::gossip::config::GossipConfig;
use crate::net::config::{NetConfig, TlsConfig};
use crate::quorum::config::ReplicationConfig;
use crate::storage::config::StorageConfig;

pub use crate::ring::{BucketConfig, Conflict};
pub use error::ConfigError;
pub use layers::{KeyPath, Origin, Origins};
pub use load::{Host, Loaded, Sources, load};
pub use sections::{ClusterConfig, HttpConfig, LimitsConfig, LogConfig, LogLevel};
pub use sections::{LogFormat, NodeConfig};

/// The defaults as a commented file: what `dynkv config default` prints.
pub const DEFAULT_TOML: &str = include_str!("config/default.toml");

/// Everything a node is told. Plain data: whoever builds one without [`load`] calls [`Config::validate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this node is, and its share of the work.
    pub node: NodeConfig,
    /// Which cluster it belongs to, and how a new one is born.
    pub cluster: ClusterConfig,
    /// What requests get that do not say.
    pub replication: ReplicationConfig,
    /// Addresses, deadlines, bounds.
    pub net: NetConfig,
    /// Certificates.
    pub tls: TlsConfig,
    /// The pace of membership.
    pub gossip: GossipConfig,
    /// What is kept for nodes that are away.
    pub hints: HintsConfig,
    /// The comparison of replicas with one another.
    pub antientropy: ExchangeConfig,
    /// Durability and the disk.
    pub storage: StorageConfig,
    /// Health and metrics.
    pub http: HttpConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Bounds of the whole process.
    pub limits: LimitsConfig,
}
