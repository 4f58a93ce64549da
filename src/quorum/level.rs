//! [`Level`]: how many replicas an operation asks for.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many slots of a key's preference list must answer: absolute, or relative to the bucket's effective `n`.
///
/// Written as a number or a word, in configuration, in requests and on the command line alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One slot: fastest, and blind to every write that this one has not met.
    One,
    /// A majority: `n / 2 + 1` slots. Two majorities of one list meet.
    #[default]
    Quorum,
    /// Every slot: one replica away, and (under a strict quorum) the operation is unavailable.
    All,
    /// This many slots, 1 to [`Level::MAX`]. Above the effective `n` it is a bad request, which only the coordinator can tell.
    Number(u8),
}

impl Level {
    /// The greatest number of replicas that a bucket may have, and so the greatest number that can be asked for.
    pub const MAX: u8 = 16;

    /// A level that asks for exactly `count` slots.
    ///
    /// # Errors
    /// [`LevelError`] unless `count` lies in 1 to [`Level::MAX`].
    pub fn number(count: u64) -> Result<Level, LevelError> {
        match u8::try_from(count) {
            Ok(small @ 1..=Level::MAX) => Ok(Level::Number(small)),
            _ => Err(LevelError { given: count.to_string() }),
        }
    }
}

/// The text names no level; nothing was changed, a corrected request may be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("level {given:?} is not allowed: a number from 1 to {}, \"one\", \"quorum\" or \"all\"", Level::MAX)]
pub struct LevelError {
    /// What was given.
    pub given: String,
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Level, LevelError> {
        match text {
            "one" => Ok(Level::One),
            "quorum" => Ok(Level::Quorum),
            "all" => Ok(Level::All),
            // `u64::from_str` takes a leading plus, which no level has
            number if number.bytes().all(|b| b.is_ascii_digit()) => number
                .parse()
                .ok()
                .and_then(|count| Level::number(count).ok())
                .ok_or(LevelError { given: text.to_owned() }),
            _ => Err(LevelError { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::One => f.write_str("one"),
            Level::Quorum => f.write_str("quorum"),
            Level::All => f.write_str("all"),
            Level::Number(count) => write!(f, "{count}"),
        }
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Level::Number(count) => serializer.serialize_u8(*count),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
        deserializer.deserialize_any(NumberOrWord)
    }
}

struct NumberOrWord;

impl Visitor<'_> for NumberOrWord {
    type Value = Level;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 1 to {}, \"one\", \"quorum\" or \"all\"", Level::MAX)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Level, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Level, E> {
        Level::number(count).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Level, E> {
        match u64::try_from(count) {
            Ok(count) => self.visit_u64(count),
            Err(_) => Err(E::custom(LevelError { given: count.to_string() })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_parse_and_print_alike() {
        for (text, level) in [
            ("one", Level::One),
            ("quorum", Level::Quorum),
            ("all", Level::All),
            ("1", Level::Number(1)),
            ("16", Level::Number(16)),
        ] {
            assert_eq!(text.parse(), Ok(level));
            assert_eq!(level.to_string(), text);
        }
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        for given in ["", "0", "17", "-1", "+1", "two", "Quorum", "99999999999999999999"] {
            let error = given.parse::<Level>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("level {given:?} is not allowed: a number from 1 to 16, \"one\", \"quorum\" or \"all\"")
            );
        }
    }

    #[test]
    fn msgpack_carries_both_forms() {
        for level in [Level::One, Level::Quorum, Level::All, Level::Number(2)] {
            let bytes = rmp_serde::to_vec(&level).unwrap();
            assert_eq!(rmp_serde::from_slice::<Level>(&bytes).unwrap(), level);
        }
        for bad in [0_i64, 17, -1] {
            let bytes = rmp_serde::to_vec(&bad).unwrap();
            assert!(rmp_serde::from_slice::<Level>(&bytes).is_err(), "{bad}");
        }
    }
}
