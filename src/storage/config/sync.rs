//! [`SyncMode`]: what an acknowledgement promises of power loss.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When writes reach the disk. Written `"always"`, an interval such as `"1s"`, or `"os"`. Whatever the mode, a killed
/// process loses nothing: the modes differ under loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Synced before it is acknowledged; one sync serves all that waits for it.
    #[default]
    Always,
    /// Acknowledged from memory, synced this often: loss of power takes up to one interval of acknowledged writes of this replica.
    Interval(Duration),
    /// Left to the operating system, which writes back after some 30 seconds.
    Os,
}

/// The text names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sync mode {given:?} is not allowed: \"always\", an interval such as \"1s\", or \"os\"")]
pub struct SyncModeError {
    /// What was given.
    pub given: String,
}

impl FromStr for SyncMode {
    type Err = SyncModeError;

    fn from_str(text: &str) -> Result<SyncMode, SyncModeError> {
        match text {
            "always" => Ok(SyncMode::Always),
            "os" => Ok(SyncMode::Os),
            interval => match humantime::parse_duration(interval) {
                Ok(interval) if !interval.is_zero() => Ok(SyncMode::Interval(interval)),
                _ => Err(SyncModeError { given: text.to_owned() }),
            },
        }
    }
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncMode::Always => f.write_str("always"),
            SyncMode::Interval(interval) => humantime::format_duration(*interval).fmt(f),
            SyncMode::Os => f.write_str("os"),
        }
    }
}

impl Serialize for SyncMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SyncMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SyncMode, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_parse_and_print_alike() {
        for (text, mode) in [
            ("always", SyncMode::Always),
            ("os", SyncMode::Os),
            ("1s", SyncMode::Interval(Duration::from_secs(1))),
            ("200ms", SyncMode::Interval(Duration::from_millis(200))),
        ] {
            assert_eq!(text.parse(), Ok(mode));
            assert_eq!(mode.to_string(), text);
        }
    }

    #[test]
    fn an_interval_has_a_unit_and_a_length() {
        for bad in ["", "1", "0s", "never", "1 parsec"] {
            assert!(bad.parse::<SyncMode>().is_err(), "{bad:?}");
        }
    }
}
