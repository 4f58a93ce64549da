//! In which order nodes are asked.

use super::session::{Target, splitmix};

/// How well a node is expected to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It has let an attempt wait lately.
    Slow,
    /// It could not be reached when last tried.
    Down,
}

/// In which order the primaries of a key that stand equally well are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// At random: the work is spread evenly, however few keys it is for.
    Random,
    /// As given, for writes and `explain`: what their first coordinator has covers all that it has coordinated, and replaces a
    /// replica's record without a merge. Each further coordinator is one more actor in the key's context.
    Given,
}

/// All of `0..count`, each once: better standing first; among equals the key's `primaries` before the rest, in this
/// `order`; the rest at random.
///
/// A stand-in that is up goes before a primary that is down: it takes the request in any case, forwards once, and
/// coordinates itself if that fails.
pub fn route(
    count: u16,
    primaries: &[Target],
    order: Order,
    standing: impl Fn(Target) -> Standing,
    seed: u64,
) -> Vec<Target> {
    let rank = |target| match (primaries.iter().position(|primary| *primary == target), order) {
        (Some(place), Order::Given) => place,
        (Some(_), Order::Random) => 0,
        (None, _) => primaries.len(),
    };
    let mut ranked: Vec<_> = (0..count)
        .map(Target)
        .map(|target| {
            let draw = splitmix(seed ^ splitmix(u64::from(target.0)));
            (standing(target), rank(target), draw, target)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(.., target)| target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(order: &[u16]) -> Vec<Target> {
        order.iter().map(|&index| Target(index)).collect()
    }

    #[test]
    fn primaries_come_first_and_share_the_work() {
        let primaries = targets(&[1, 3, 4]);
        let mut firsts = [0; 5];
        for seed in 0..3000 {
            let order = route(5, &primaries, Order::Random, |_| Standing::Good, seed);
            let (mut head, mut tail) = (order[..3].to_vec(), order[3..].to_vec());
            head.sort_unstable();
            tail.sort_unstable();
            assert_eq!((head, tail), (primaries.clone(), targets(&[0, 2])));
            firsts[usize::from(order[0].0)] += 1;
        }
        assert!([1, 3, 4].into_iter().all(|index: usize| (900..1100).contains(&firsts[index])), "{firsts:?}");
    }

    #[test]
    fn primaries_may_be_asked_in_a_given_order() {
        let primaries = targets(&[4, 1, 3]);
        let mut lasts = [0; 5];
        for seed in 0..100 {
            let order = route(5, &primaries, Order::Given, |_| Standing::Good, seed);
            assert_eq!(order[..3], primaries);
            lasts[usize::from(order[4].0)] += 1;
            let slow = |target| if target == Target(4) { Standing::Slow } else { Standing::Good };
            let order = route(5, &primaries, Order::Given, slow, seed);
            assert_eq!((&order[..2], order[4]), (&targets(&[1, 3])[..], Target(4)));
        }
        assert!(lasts[0] > 30 && lasts[2] > 30, "the rest at random: {lasts:?}");
    }

    #[test]
    fn nodes_that_fail_come_last_whatever_their_role() {
        let standing = |target| match target {
            Target(0) => Standing::Down,
            Target(1) => Standing::Slow,
            _ => Standing::Good,
        };
        for seed in 0..50 {
            assert_eq!(route(3, &targets(&[0, 1]), Order::Random, standing, seed), targets(&[2, 1, 0]));
        }
        assert_eq!(route(0, &[], Order::Random, |_| Standing::Good, 1), []);
    }
}
