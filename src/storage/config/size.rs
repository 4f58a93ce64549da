//! [`SizeOrPercent`]: an amount of memory or disk.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A share of the whole, or bytes. Written `"25%"`, `"8GiB"`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeOrPercent {
    /// This many hundredths, 0 to 100.
    Percent(u8),
    /// This many bytes.
    Bytes(u64),
}

impl SizeOrPercent {
    /// Bytes that this is of `total` bytes. An absolute size is itself, even above `total`.
    pub fn bytes_of(self, total: u64) -> u64 {
        match self {
            // divided first: the product could overflow; off by less than 100 bytes
            SizeOrPercent::Percent(percent) => total / 100 * u64::from(percent),
            SizeOrPercent::Bytes(bytes) => bytes,
        }
    }
}

/// The text is neither a share nor a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("size {given:?} is not allowed: \"0%\" to \"100%\", or bytes such as \"8GiB\"")]
pub struct SizeError {
    /// What was given.
    pub given: String,
}

impl FromStr for SizeOrPercent {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<SizeOrPercent, SizeError> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim_end().parse().ok().filter(|percent| *percent <= 100).map(SizeOrPercent::Percent)
            }
            None => text.parse::<ByteSize>().ok().map(|size| SizeOrPercent::Bytes(size.as_u64())),
        };
        parsed.ok_or_else(|| SizeError { given: text.to_owned() })
    }
}

impl fmt::Display for SizeOrPercent {
    /// Exact: bytes are printed in the largest unit that divides them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match *self {
            SizeOrPercent::Percent(percent) => return write!(f, "{percent}%"),
            SizeOrPercent::Bytes(bytes) => bytes,
        };
        let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, unit)| bytes > 0 && bytes % unit == 0) {
            Some((name, unit)) => write!(f, "{}{name}", bytes / unit),
            None => write!(f, "{bytes}B"),
        }
    }
}

impl Serialize for SizeOrPercent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SizeOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SizeOrPercent, D::Error> {
        deserializer.deserialize_any(BytesOrText)
    }
}

struct BytesOrText;

impl Visitor<'_> for BytesOrText {
    type Value = SizeOrPercent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"0%\" to \"100%\", or bytes such as \"8GiB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SizeOrPercent, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<SizeOrPercent, E> {
        Ok(SizeOrPercent::Bytes(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<SizeOrPercent, E> {
        u64::try_from(bytes).map(SizeOrPercent::Bytes).map_err(|_| E::custom(SizeError { given: bytes.to_string() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_sizes_parse_and_print_alike() {
        for (text, size) in [
            ("25%", SizeOrPercent::Percent(25)),
            ("0%", SizeOrPercent::Percent(0)),
            ("100%", SizeOrPercent::Percent(100)),
            ("8GiB", SizeOrPercent::Bytes(8 << 30)),
            ("1500B", SizeOrPercent::Bytes(1500)),
            ("0B", SizeOrPercent::Bytes(0)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
            assert_eq!(size.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "%", "101%", "-1%", "lots", "8 parsecs"] {
            assert_eq!(bad.parse::<SizeOrPercent>(), Err(SizeError { given: bad.to_owned() }));
        }
    }

    #[test]
    fn a_share_of_the_largest_total_does_not_overflow() {
        assert_eq!(SizeOrPercent::Percent(25).bytes_of(1000), 250);
        assert!(SizeOrPercent::Percent(100).bytes_of(u64::MAX) > u64::MAX - 100);
        assert_eq!(SizeOrPercent::Bytes(7).bytes_of(1), 7);
    }
}
