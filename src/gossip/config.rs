//! `[gossip]`: the pace of membership.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often a node tells another what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipConfig {
    /// Between two rounds of gossip. News reaches all of a cluster in a few of these, growing with the logarithm of its
    /// size, and a dead node is convicted after several. Short: quicker verdicts, more chatter and more false alarms on
    /// a loaded host; long: writes spend their attempt timeout on dead nodes for longer. Alike on all nodes.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for GossipConfig {
    fn default() -> GossipConfig {
        GossipConfig { interval: Duration::from_millis(500) }
    }
}
