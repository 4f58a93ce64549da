//! `[gossip]`: the pace of membership, and when silence is taken for death.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often a node tells another what it knows, and how long one may be silent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipConfig {
    /// Between two rounds of gossip. News reaches all of a cluster in a few of these, growing with the logarithm of its
    /// size, and a dead node is convicted after several. Short: quicker verdicts, more chatter and more false alarms on
    /// a loaded host; long: writes spend their attempt timeout on dead nodes for longer. Alike on all nodes.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How unlikely a silence must be before a node that does not answer a probe either is held for dead: one in ten to
    /// the power of this, by what its heartbeats were like; it is probed from half of that on. Low: quicker verdicts, more
    /// probes, and false verdicts where packets are lost; high: the opposite, each step costing about a third of the
    /// usual deviation between heartbeats. From 1 to 100; the time to a verdict also grows with `interval`.
    pub phi_threshold: f64,
    /// How many intervals between heartbeats are remembered of each node, at 4 bytes each. Few: what is usual follows the
    /// network's mood, and is known less well; many: a network that has become slower gives false alarms for up to that
    /// many times `interval`. From 10 to 100000.
    pub phi_window: u32,
}

impl Default for GossipConfig {
    fn default() -> GossipConfig {
        GossipConfig { interval: Duration::from_millis(500), phi_threshold: 8.0, phi_window: 1000 }
    }
}
