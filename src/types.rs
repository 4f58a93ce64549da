//! The vocabulary: newtypes that every module shares. No logic beyond parsing and printing.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Defines a random 64-bit identity, printed as 16 hexadecimal digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }
    };
}

random_id! {
    /// A ring slot's identity: random, bound to the node's name in the layout, and kept when its disk is lost.
    NodeId
}
random_id! {
    /// One data directory: drawn when the directory is made, never reused.
    DiskId
}
random_id! {
    /// One run of one process, so that two processes on copies of one directory are told apart.
    Nonce
}

/// Which run of a data directory this is: stored, and raised by one at every start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// One run of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRun {
    /// The node.
    pub node: NodeId,
    /// Which run.
    pub generation: Generation,
}

/// The layout's version; raised by every committed change of ownership, members or buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RingVersion(pub u64);

/// One of the ring's Q equal parts: the high bits of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

/// A key's place on the ring: the first eight bytes of BLAKE3(bucket, 0, key), big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

/// A partition's count of finished reaping rounds; a copy read at an older round is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Round(pub u64);

/// A storage engine's count of writes: whatever a lower number labels is in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchNumber(pub u64);

/// A cluster's identity: the first 16 bytes of the BLAKE3 hash of its first layout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// One intended write, chosen by the client: all attempts at it carry the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriteId(pub u128);

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteId({self})")
    }
}

/// Why a name, a bucket or a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A key has at least one byte.
    #[error("the key is empty; a key has 1 to {} bytes", Key::MAX_LEN)]
    EmptyKey,
    /// A key has at most [`Key::MAX_LEN`] bytes.
    #[error("the key has {len} bytes; a key has 1 to {} bytes", Key::MAX_LEN)]
    KeyTooLong {
        /// Bytes given.
        len: usize,
    },
    /// A bucket's name is 1 to [`Bucket::MAX_LEN`] bytes of UTF-8 without control characters.
    #[error(
        "bucket name {name:?} is not allowed: it has 1 to {} bytes and no NUL or other control character",
        Bucket::MAX_LEN
    )]
    BadBucket {
        /// The name given.
        name: String,
    },
    /// A node's, zone's or cluster's name is a DNS label, since certificates carry it.
    #[error("{what} {name:?} is not allowed: 1 to 63 of a-z, 0-9 and '-', not '-' at either end")]
    BadLabel {
        /// What was named: "node", "cluster" ...
        what: &'static str,
        /// The name given.
        name: String,
    },
}

/// A key: 1 to 4096 bytes of any value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(Bytes);

impl Key {
    /// The longest key, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Checks the length.
    ///
    /// # Errors
    /// [`NameError::EmptyKey`] or [`NameError::KeyTooLong`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Key, NameError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(NameError::EmptyKey),
            len if len > Key::MAX_LEN => Err(NameError::KeyTooLong { len }),
            _ => Ok(Key(bytes)),
        }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        Key::new(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.0)
    }
}

/// A bucket's name: 1 to 64 bytes of UTF-8 without control characters (so without NUL, which ends it in an object's key).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bucket(Arc<str>);

impl Bucket {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;
    /// The bucket that every cluster has and that requests use when they name none.
    pub const DEFAULT: &'static str = "default";

    /// Checks length and characters.
    ///
    /// # Errors
    /// [`NameError::BadBucket`].
    pub fn new(name: &str) -> Result<Bucket, NameError> {
        let allowed = !name.is_empty() && name.len() <= Bucket::MAX_LEN && !name.chars().any(char::is_control);
        if allowed { Ok(Bucket(name.into())) } else { Err(NameError::BadBucket { name: name.to_owned() }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket(Bucket::DEFAULT.into())
    }
}

impl FromStr for Bucket {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Bucket, NameError> {
        Bucket::new(name)
    }
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bucket, D::Error> {
        /// Takes the name where it stands: a `String` would be one allocation more for each request.
        struct Name;

        impl serde::de::Visitor<'_> for Name {
            type Value = Bucket;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a bucket's name")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Bucket, E> {
                Bucket::new(name).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Name)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({:?})", &*self.0)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks the name of a node, zone or cluster: a DNS label.
///
/// # Errors
/// [`NameError::BadLabel`], naming `what`.
pub fn check_label(what: &'static str, name: &str) -> Result<(), NameError> {
    let body = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let ends = !name.starts_with('-') && !name.ends_with('-');
    if body && ends && (1..=63).contains(&name.len()) {
        Ok(())
    } else {
        Err(NameError::BadLabel { what, name: name.to_owned() })
    }
}

/// Monotonic time in microseconds since an origin of the process's (or the simulation's) own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);

    /// `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Time {
        Time(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` lies ahead.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// What a machine is told of the clocks: it never reads one itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and timers.
    pub time: Time,
    /// The wall clock in milliseconds since 1970; free to jump. It orders nothing but last-write-wins buckets.
    pub wall_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_to_4096_bytes() {
        assert_eq!(Key::new(""), Err(NameError::EmptyKey));
        assert!(Key::new(vec![0; 4096]).is_ok());
        assert_eq!(Key::new(vec![0; 4097]), Err(NameError::KeyTooLong { len: 4097 }));
    }

    #[test]
    fn a_decoded_key_is_checked_like_any_other() {
        let long = rmp_serde::to_vec(&Bytes::from(vec![0; 4097])).unwrap();
        assert!(rmp_serde::from_slice::<Key>(&long).is_err());
        let key = Key::new("cart").unwrap();
        assert_eq!(rmp_serde::from_slice::<Key>(&rmp_serde::to_vec(&key).unwrap()).unwrap(), key);
    }

    #[test]
    fn bucket_names_hold_no_nul_and_at_most_64_bytes() {
        assert!(Bucket::new("carts").is_ok());
        let too_long = "b".repeat(65);
        for bad in ["", "a\0b", "tab\t", too_long.as_str()] {
            assert!(matches!(Bucket::new(bad), Err(NameError::BadBucket { .. })), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_dns_labels() {
        assert_eq!(check_label("node", "n1"), Ok(()));
        for bad in ["", "-a", "a-", "A", "a.b", &"a".repeat(64)] {
            assert!(check_label("node", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn time_saturates_at_both_ends() {
        assert_eq!(Time::ZERO.since(Time::from_micros(5)), Duration::ZERO);
        assert_eq!(Time::from_micros(u64::MAX) + Duration::from_secs(1), Time::from_micros(u64::MAX));
    }
}
