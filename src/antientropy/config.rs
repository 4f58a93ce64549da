//! `[hints]`: what is kept for nodes that are away, and how fast they get it back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bounds and pace of hinted handoff. A hint by which a write was acknowledged is bound by neither age nor bytes: it
/// stays until its target holds the write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HintsConfig {
    /// How long a hint is kept that no acknowledgement rests on. Short: a node that was away for longer is behind until
    /// reads repair it; long: more to keep. Counted from the first write that its target missed.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Bytes of objects with such hints on this node, beyond which no more are given. Small: a long outage leaves its node
    /// behind; large: disk space. 0 gives none.
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
    fn nonsense_is_refused() {
        for text in ["", "16MiB", "/s", "fast", "-1B/s", "16MiB/m"] {
            assert_eq!(text.parse::<ByteRate>(), Err(RateError { given: text.into() }));
        }
    }
}
