//! `[replication]`: what a request gets that names no level of its own.

use serde::{Deserialize, Serialize};

use super::level::Level;

/// Defaults of requests, and the bound on siblings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicationConfig {
    /// Slots that must answer a get. Low: fast and stale; high: unavailable when replicas are away.
    /// With `r + w` above a bucket's `n`, a get meets every acknowledged put that met primaries.
    pub r: Level,
    /// Slots that must hold a put before it is acknowledged. It is what a promise of durability counts.
    pub w: Level,
    /// Other nodes stand in for a key's primaries that cannot be reached, and hand the writes on later. Off, a write needs
    /// W of the N primaries themselves: fewer surprises for readers, and refused writes when primaries are away.
    pub sloppy: bool,
    /// How likely a get asks all replicas and not only as many as it needs, so that any that is behind is found and repaired: 0
    /// leaves that to background exchange, 1 makes every get cost N reads.
    pub read_repair_chance: f64,
    /// Siblings of one key at which its coordinator refuses further puts that resolve none. Low: blind writers are
    /// stopped early; high: one key's object may grow to this times `net.max_value`. Merges are never refused.
    pub max_siblings: u32,
}

impl Default for ReplicationConfig {
    fn default() -> ReplicationConfig {
        let (r, w) = (Level::Quorum, Level::Quorum);
        ReplicationConfig { r, w, sloppy: true, read_repair_chance: 0.1, max_siblings: 50 }
    }
}
