//! Who wrote, and which of its writes: actors and dots.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A sequence of writes to one key by one replica that has forgotten none of them: 64 random bits.
///
/// Not a node: a node that may have forgotten what it wrote to a key draws a new actor for its next write to that key
/// (see [`mint`](super::mint)), so that no counter is ever used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub u64);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({self})")
    }
}

/// The name of one write to one key: its actor's `counter`-th. Counters start at 1 and have no gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawDot")]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// Which of the actor's writes to this key: 1, 2, 3 ...
    pub counter: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dot({self})")
    }
}

/// A dot as a peer may send it, its counter still unchecked.
#[derive(Deserialize)]
#[serde(rename = "Dot")]
struct RawDot {
    actor: Actor,
    counter: u64,
}

impl TryFrom<RawDot> for Dot {
    type Error = super::DecodeError;
    fn try_from(raw: RawDot) -> Result<Dot, super::DecodeError> {
        match raw.counter {
            0 => Err(super::DecodeError::ZeroCounter),
            counter => Ok(Dot { actor: raw.actor, counter }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_print_as_16_digits_and_dots_with_their_counter() {
        let dot = Dot { actor: Actor(0xabc), counter: 7 };
        assert_eq!(dot.actor.to_string(), "0000000000000abc");
        assert_eq!(dot.to_string(), "0000000000000abc:7");
    }

    #[test]
    fn a_decoded_dot_has_a_counter() {
        let good = Dot { actor: Actor(1), counter: 1 };
        let bytes = rmp_serde::to_vec(&good).unwrap();
        assert_eq!(rmp_serde::from_slice::<Dot>(&bytes).unwrap(), good);
        let zero = rmp_serde::to_vec(&Dot { counter: 0, ..good }).unwrap();
        assert!(rmp_serde::from_slice::<Dot>(&zero).unwrap_err().to_string().contains("counter is zero"));
    }
}
