//! Which key a request is about.

use bytes::Bytes;

use crate::client::session::splitmix;
use crate::types::Key;

/// How unevenly keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// The k-th most popular in proportion to k^-0.99, as YCSB has it.
    Zipf,
}

const ZIPF_EXPONENT: f64 = 0.99;

/// Draws keys `key-0` to `key-(count-1)`, zero-padded to ten digits.
///
/// Zipf by rejection (W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", 1996, in its simple form): no table, so any number of keys.
#[derive(Clone, Copy, Debug)]
pub struct KeyPicker {
    distribution: Distribution,
    count: u64,
    /// The area under the envelope of the density.
    area: f64,
}

impl KeyPicker {
    /// `count` keys, at least one.
    pub fn new(distribution: Distribution, count: u64) -> KeyPicker {
        let rest = 1.0 - ZIPF_EXPONENT;
        let area = ((count.max(1) as f64).powf(rest) - ZIPF_EXPONENT) / rest;
        KeyPicker { distribution, count: count.max(1), area }
    }

    /// The next key; moves `random` on.
    pub fn pick(&self, random: &mut u64) -> Key {
        let index = match self.distribution {
            Distribution::Uniform => next(random) % self.count,
            // popular keys are scattered over the ring, as they would be
            Distribution::Zipf => splitmix(self.rank(random)) % self.count,
        };
        key_number(index)
    }

    /// A rank from 1 to the count, 1 the most popular.
    fn rank(&self, random: &mut u64) -> u64 {
        loop {
            let at = self.inverse(unit(random));
            let rank = (at + 1.0).floor().min(self.count as f64);
            let mut ratio = rank.powf(-ZIPF_EXPONENT);
            if rank > 1.0 {
                ratio *= at.powf(ZIPF_EXPONENT);
            }
            if unit(random) < ratio {
                return rank as u64;
            }
        }
    }

    fn inverse(&self, share: f64) -> f64 {
        let area = share * self.area;
        if area <= 1.0 {
            area
        } else {
            (area * (1.0 - ZIPF_EXPONENT) + ZIPF_EXPONENT).powf(1.0 / (1.0 - ZIPF_EXPONENT))
        }
    }
}

/// The key of a number.
pub(super) fn key_number(index: u64) -> Key {
    Key::new(Bytes::from(format!("key-{index:010}"))).expect("it is neither empty nor long")
}

fn next(random: &mut u64) -> u64 {
    *random = splitmix(*random);
    *random
}

/// From 0, below 1.
fn unit(random: &mut u64) -> f64 {
    (next(random) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_keys_are_spread_over_all() {
        let picker = KeyPicker::new(Distribution::Uniform, 10);
        let (mut random, mut seen) = (1, [0; 10]);
        for _ in 0..10_000 {
            let key = picker.pick(&mut random);
            let number: usize = std::str::from_utf8(&key.as_bytes()[4..]).unwrap().parse().unwrap();
            seen[number] += 1;
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn popularity_falls_as_the_law_says() {
        let count = 1000;
        let picker = KeyPicker::new(Distribution::Zipf, count);
        let (mut random, mut seen, draws) = (1, vec![0_u32; 1001], 200_000);
        for _ in 0..draws {
            let rank = picker.rank(&mut random);
            assert!((1..=count).contains(&rank));
            seen[rank as usize] += 1;
        }
        let sum: f64 = (1..=count).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).sum();
        for rank in [1_u32, 2, 3, 10, 50] {
            let expected = f64::from(rank).powf(-ZIPF_EXPONENT) / sum * f64::from(draws);
            let ratio = f64::from(seen[rank as usize]) / expected;
            assert!((0.85..1.15).contains(&ratio), "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn one_key_is_enough() {
        for distribution in [Distribution::Uniform, Distribution::Zipf] {
            let picker = KeyPicker::new(distribution, 1);
            assert_eq!(picker.pick(&mut 5), key_number(0));
        }
    }
}
