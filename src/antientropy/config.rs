//! `[hints]`: what is kept for nodes that are away, and how fast they get it back. `[antientropy]`: how often replicas are
//! compared, and how fast they are brought together.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::storage::merkle::Leaves;

/// Bounds and pace of hinted handoff. A hint by which a write was acknowledged is bound by neither age nor bytes: it
/// stays until its target holds the write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HintsConfig {
    /// How long a hint is kept that no acknowledgement rests on. Short: a node that was away for longer is behind until
    /// reads repair it; long: more to keep. Counted from the first write that its target missed.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Bytes of objects with such hints on this node, beyond which no more are given but by writes that are handled at the same time. Small: a
    /// long outage leaves its node behind; large: disk space. 0 gives none.
    pub max_bytes: ByteSize,
    /// Bytes a second that this node sends to all nodes that are back. Low: they stay behind for longer; high: their
    /// clients notice.
    pub replay_rate: ByteRate,
}

impl Default for HintsConfig {
    fn default() -> HintsConfig {
        HintsConfig {
            max_age: Duration::from_secs(3 * 60 * 60),
            max_bytes: ByteSize::gib(10),
            replay_rate: ByteRate(16 << 20),
        }
    }
}

/// Pace of the comparison of replicas with one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExchangeConfig {
    /// Between two comparisons of a partition with one other replica. Short: work for nothing, a few bytes a partition while
    /// all is equal; long: what was missed stays so for longer. 0: only by order, and to fill a disk that was lost.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Partitions of this node that are compared key by key at a time, at least one a shard. Low: many that differ take
    /// long; high: more reads at a time.
    pub concurrency: u32,
    /// Bytes a second that this node sends and has sent for that, lists and objects together. Low: what differs stays so
    /// for longer; high: clients notice.
    pub rate: ByteRate,
    /// Parts of a partition that are told apart by sums of their own: a power of two from 32 to 65536. Few: whole stretches of
    /// keys are listed to find one that differs; many: 16 bytes of memory and disk each, in every partition. Of two nodes
    /// the smaller number holds.
    pub leaves: u32,
    /// In which a node reads all that it holds once, to find what its disk has spoilt. Short: reads for nothing; long: a spoilt copy
    /// stays unnoticed, while others may be lost. 0: only by order.
    #[serde(with = "humantime_serde")]
    pub scrub_interval: Duration,
    /// Between two walks over the tombstones of a partition, to delete those that nothing needs any more. Short: more rounds, in each of
    /// which all members write to their disks; long: tombstones take up space for longer. 0: only by order.
    #[serde(with = "humantime_serde")]
    pub reap_interval: Duration,
}

impl ExchangeConfig {
    /// The parts of a partition; `None` if their number is not allowed.
    pub fn tree_leaves(&self) -> Option<Leaves> {
        Leaves::new(self.leaves)
    }
}

impl Default for ExchangeConfig {
    fn default() -> ExchangeConfig {
        ExchangeConfig {
            interval: Duration::from_secs(10 * 60),
            concurrency: 2,
            rate: ByteRate(8 << 20),
            leaves: Leaves::default().count(),
            scrub_interval: Duration::from_secs(7 * 24 * 60 * 60),
            reap_interval: Duration::from_secs(5 * 60),
        }
    }
}

/// Bytes a second. Written `"16MiB/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(pub u64);

/// The text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate {given:?} is not allowed: bytes a second such as \"16MiB/s\"")]
pub struct RateError {
    /// What was given.
    pub given: String,
}

impl FromStr for ByteRate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<ByteRate, RateError> {
        let size = text.strip_suffix("/s").and_then(|size| size.parse::<ByteSize>().ok());
        size.map(|size| ByteRate(size.as_u64())).ok_or_else(|| RateError { given: text.to_owned() })
    }
}

impl fmt::Display for ByteRate {
    /// Exact: in the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}/s", bytes / unit),
            None => write!(f, "{bytes}B/s"),
        }
    }
}

impl Serialize for ByteRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteRate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_parse_and_print_alike() {
        for (text, rate) in [("16MiB/s", 16 << 20), ("1KiB/s", 1 << 10), ("0B/s", 0), ("1025B/s", 1025)] {
            assert_eq!(text.parse(), Ok(ByteRate(rate)), "{text}");
            assert_eq!(ByteRate(rate).to_string(), text);
        }
        assert_eq!("1.5KiB/s".parse(), Ok(ByteRate(1536)));
    }

    #[test]
    fn leaves_are_a_power_of_two_within_bounds() {
        let leaves = |leaves| ExchangeConfig { leaves, ..ExchangeConfig::default() }.tree_leaves();
        assert_eq!(ExchangeConfig::default().tree_leaves(), Some(Leaves::default()));
        assert_eq!([0, 16, 1000, 1 << 17].map(leaves), [None; 4]);
        assert_eq!([32, 1 << 16].map(|count| leaves(count).map(Leaves::count)), [Some(32), Some(1 << 16)]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "16MiB", "/s", "fast", "-1B/s", "16MiB/m"] {
            assert_eq!(text.parse::<ByteRate>(), Err(RateError { given: text.into() }));
        }
    }
}
