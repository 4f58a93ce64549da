//! A member of the cluster as the layout records it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// How much a node should own in proportion to others: above 0, at most 1000, to the thousandth.
///
/// Fixed-point, so that every node computes the same shares; serialized as a count of thousandths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

/// Why a weight was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WeightError {
    /// From a float.
    #[error("weight {weight} is not allowed: a weight is at least 0.001 and at most 1000")]
    OutOfRange {
        /// The weight given.
        weight: f64,
    },
    /// From a count of thousandths.
    #[error("weight of {thousandths} thousandths is not allowed: it is 1 to {}", Weight::MAX_THOUSANDTHS)]
    BadThousandths {
        /// The count given.
        thousandths: u32,
    },
}

impl Weight {
    /// The largest weight, 1000, in thousandths.
    pub const MAX_THOUSANDTHS: u32 = 1_000_000;
    /// Weight 1.
    pub const ONE: Weight = Weight(1000);

    /// Rounds to the nearest thousandth.
    ///
    /// # Errors
    /// [`WeightError::OutOfRange`] if that is not from 0.001 to 1000.
    pub fn new(weight: f64) -> Result<Weight, WeightError> {
        let thousandths = (weight * 1000.0).round();
        // a NaN is in no range
        if (1.0..=f64::from(Weight::MAX_THOUSANDTHS)).contains(&thousandths) && weight <= 1000.0 {
            Ok(Weight(thousandths as u32))
        } else {
            Err(WeightError::OutOfRange { weight })
        }
    }

    /// The weight in thousandths.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// The weight as a float, for printing.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight::ONE
    }
}

impl TryFrom<f64> for Weight {
    type Error = WeightError;
    fn try_from(weight: f64) -> Result<Weight, WeightError> {
        Weight::new(weight)
    }
}

impl TryFrom<u32> for Weight {
    type Error = WeightError;
    fn try_from(thousandths: u32) -> Result<Weight, WeightError> {
        if (1..=Weight::MAX_THOUSANDTHS).contains(&thousandths) {
            Ok(Weight(thousandths))
        } else {
            Err(WeightError::BadThousandths { thousandths })
        }
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_f64().fmt(f)
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight({self})")
    }
}

/// A member: a node that the layout knows, whether it is up or not.
///
/// The layout that holds it has checked it: name and zone are DNS labels, the address is a plausible `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The identity, bound to the name for as long as the member stays.
    pub id: NodeId,
    /// The name, unique in the cluster, that its certificate carries.
    pub name: String,
    /// The failure domain that it shares with others; replicas are spread over zones.
    pub zone: String,
    /// Its share of the ring in proportion to the other members.
    pub weight: Weight,
    /// Where peers and clients reach it: `host:port`, 1 to [`Member::MAX_ADDRESS_LEN`] printable ASCII bytes.
    pub address: String,
}

impl Member {
    /// The longest address, in bytes.
    pub const MAX_ADDRESS_LEN: usize = 261;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_rounded_to_the_thousandth() {
        assert_eq!(Weight::new(1.0), Ok(Weight::ONE));
        assert_eq!(Weight::new(0.0006).unwrap().thousandths(), 1);
        assert_eq!(Weight::new(2.7184).unwrap().thousandths(), 2718);
        assert_eq!(Weight::new(1000.0).unwrap().thousandths(), Weight::MAX_THOUSANDTHS);
        assert_eq!(Weight::new(2.5).unwrap().to_string(), "2.5");
    }

    #[test]
    fn weights_out_of_range_are_refused_with_the_range() {
        for bad in [0.0, -1.0, 0.0004, 1000.0001, f64::NAN, f64::INFINITY] {
            let error = Weight::new(bad).unwrap_err();
            assert!(error.to_string().contains("at least 0.001 and at most 1000"), "{error}");
        }
        for bad in [0, 1_000_001] {
            assert!(rmp_serde::from_slice::<Weight>(&rmp_serde::to_vec(&bad).unwrap()).is_err());
        }
    }
}
