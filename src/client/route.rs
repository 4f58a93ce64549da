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

/// All of `0..count`, each once: better standing first; among equals the key's `primaries` before the rest; among those
/// still equal a random one first, so that coordination is spread evenly.
///
/// A stand-in that is up goes before a primary that is down: it takes the request in any case, forwards once, and
/// coordinates itself if that fails.
pub fn route(count: u16, primaries: &[Target], standing: impl Fn(Target) -> Standing, seed: u64) -> Vec<Target> {
    let mut ranked: Vec<_> = (0..count)
        .map(Target)
        .map(|target| {
            let draw = splitmix(seed ^ splitmix(u64::from(target.0)));
            (standing(target), !primaries.contains(&target), draw, target)
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
            let order = route(5, &primaries, |_| Standing::Good, seed);
            let (mut head, mut tail) = (order[..3].to_vec(), order[3..].to_vec());
            head.sort_unstable();
            tail.sort_unstable();
            assert_eq!((head, tail), (primaries.clone(), targets(&[0, 2])));
            firsts[usize::from(order[0].0)] += 1;
        }
        assert!([1, 3, 4].into_iter().all(|index: usize| (900..1100).contains(&firsts[index])), "{firsts:?}");
    }

    #[test]
    fn nodes_that_fail_come_last_whatever_their_role() {
        let standing = |target| match target {
            Target(0) => Standing::Down,
            Target(1) => Standing::Slow,
            _ => Standing::Good,
        };
        for seed in 0..50 {
            assert_eq!(route(3, &targets(&[0, 1]), standing, seed), targets(&[2, 1, 0]));
        }
        assert_eq!(route(0, &[], |_| Standing::Good, 1), []);
    }
}
