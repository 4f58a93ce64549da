//! Every kind of fault, in an order and on nodes that a seed draws.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng};

use super::{NODES, SMALL_DISK, Strike, storm, strike};
use crate::chaos::fault::{Fault, between, others};

/// The kinds that are drawn from, each once.
const KINDS: usize = 9;

/// One fault after the other; each has a share of three times `fault`, and a pause after it.
pub fn draw(from: Duration, fault: Duration, seed: u64) -> Vec<Strike> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..KINDS).collect();
    order.shuffle(&mut rng);
    let share = fault * 3 / u32::try_from(KINDS).expect("a few");
    let mut at = from;
    let mut strikes = Vec::with_capacity(KINDS);
    for kind in order {
        let drawn = fault_of(kind, &mut rng);
        let length = match &drawn {
            // that much is enough, and nobody is served meanwhile
            Fault::Kill { nodes } if nodes.len() == NODES => Duration::from_secs(1).min(share),
            _ => share.mul_f64(rng.random_range(0.6..0.9)),
        };
        strikes.push(strike(at, length, drawn));
        at += share;
    }
    strikes
}

fn fault_of(kind: usize, rng: &mut StdRng) -> Fault {
    let node = rng.random_range(0..NODES);
    let rest = others(node, NODES);
    match kind {
        0 => Fault::Kill { nodes: vec![node] },
        1 => Fault::Kill { nodes: (0..NODES).collect() },
        2 => Fault::Pause { node },
        3 => {
            let other = (node + rng.random_range(1..NODES)) % NODES;
            let far: Vec<usize> = rest.into_iter().filter(|far| *far != other).collect();
            Fault::Cut { ways: between(&[node, other], &far) }
        }
        4 => Fault::Cut { ways: rest.into_iter().map(|other| (node, other)).collect() },
        5 => storm(node),
        6 => Fault::SlowDisk { node, delay: Duration::from_millis(rng.random_range(50..300)) },
        7 => Fault::FullDisk { node: SMALL_DISK },
        _ => {
            let seconds: i64 = rng.random_range(600..100_000);
            Fault::ClockJump { node, seconds: if rng.random_bool(0.5) { seconds } else { -seconds } }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::*;

    #[test]
    fn a_seed_draws_every_kind_and_always_the_same() {
        let (from, fault) = (Duration::from_secs(5), Duration::from_secs(20));
        for seed in 0..20 {
            let strikes = draw(from, fault, seed);
            assert_eq!(strikes, draw(from, fault, seed));
            let mut kinds = Vec::new();
            for Strike { fault, .. } in &strikes {
                if !kinds.contains(&discriminant(fault)) {
                    kinds.push(discriminant(fault));
                }
            }
            assert_eq!((strikes.len(), kinds.len()), (KINDS, 7), "seed {seed}: two kinds of kills, two of cuts");
            assert!(strikes.windows(2).all(|pair| pair[0].until <= pair[1].from), "seed {seed}");
        }
        let orders: BTreeSet<String> = (0..20).map(|seed| format!("{:?}", draw(from, fault, seed))).collect();
        assert_eq!(orders.len(), 20);
    }
}
