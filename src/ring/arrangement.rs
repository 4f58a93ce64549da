//! An assignment of owners to partitions under improvement: how badly it is spaced, and swaps that space it better.
//!
//! A swap exchanges the owners of two partitions, so that shares never change here. The badness of an arrangement
//! counts the pairs of partitions that are too close for sharing a node, the closer the worse, and behind that, in the
//! same number, the pairs too close for sharing a zone: a swap never trades nodes apart for zones apart.

/// Index of a member among those sorted by id; [`NOBODY`] for none.
pub(super) type Index = u16;
/// The owner of a partition whose owner has left, and that nobody has claimed yet.
pub(super) const NOBODY: Index = Index::MAX;

/// One pair of partitions of one node outweighs all pairs of one zone: those weigh below 32768 * 16 * 16 * 16.
const NODE_PAIR: i64 = 1 << 32;
/// Swaps that a search may weigh: a few milliseconds, and enough for 256 partitions many times over.
const MOST_TRIALS: usize = 1 << 20;

/// Which distances are too close.
#[derive(Debug)]
pub(super) struct Spacing {
    /// Zone of each member.
    pub zone_of: Vec<u16>,
    /// Any so many consecutive partitions should be on distinct nodes.
    pub nodes: usize,
    /// Any so many consecutive partitions should be in distinct zones; at most `nodes`.
    pub zones: usize,
}

/// Owners by partition, and what is held against them.
pub(super) struct Arrangement<'a> {
    spacing: &'a Spacing,
    /// Owners before the change, to count moves by; empty at birth.
    before: Vec<Index>,
    owners: Vec<Index>,
}

/// What a swap would change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Delta {
    badness: i64,
    moves: i64,
}

impl<'a> Arrangement<'a> {
    /// `before` is empty, or as long as `owners`.
    pub fn new(spacing: &'a Spacing, before: Vec<Index>, owners: Vec<Index>) -> Arrangement<'a> {
        Arrangement { spacing, before, owners }
    }

    pub fn owners(&self) -> &[Index] {
        &self.owners
    }

    pub fn into_owners(self) -> Vec<Index> {
        self.owners
    }

    pub fn assign(&mut self, partition: usize, owner: Index) {
        self.owners[partition] = owner;
    }

    /// Partitions whose owner is another than before.
    pub fn moves(&self) -> usize {
        self.before.iter().zip(&self.owners).filter(|(before, owner)| before != owner).count()
    }

    /// Zero when all are far enough apart; smaller is better.
    pub fn badness(&self) -> i64 {
        // each pair is seen from both ends
        (0..self.owners.len()).map(|partition| self.badness_of(partition, self.owners[partition])).sum::<i64>() / 2
    }

    /// What `owner` at `partition` would have against its neighbours.
    pub fn badness_of(&self, partition: usize, owner: Index) -> i64 {
        self.badness_beside(partition, owner, usize::MAX)
    }

    /// The same without the neighbour at `ignored`.
    fn badness_beside(&self, partition: usize, owner: Index, ignored: usize) -> i64 {
        let count = self.owners.len();
        let zone = self.spacing.zone_of[usize::from(owner)];
        let mut badness = 0;
        for distance in 1..self.spacing.nodes {
            let clockwise = partition + distance;
            let ahead = if clockwise >= count { clockwise - count } else { clockwise };
            let behind = if partition >= distance { partition - distance } else { partition + count - distance };
            for at in [ahead, behind] {
                let neighbour = self.owners[at];
                if at == ignored || neighbour == NOBODY {
                    continue;
                }
                if neighbour == owner {
                    badness += NODE_PAIR * closeness(self.spacing.nodes, distance);
                }
                if distance < self.spacing.zones && self.spacing.zone_of[usize::from(neighbour)] == zone {
                    badness += closeness(self.spacing.zones, distance);
                }
            }
        }
        badness
    }

    /// Swaps owners until all are far enough apart or a bounded search finds nothing better, at no more than
    /// `most_moves` moves in all; the best arrangement seen stays.
    pub fn repair(&mut self, most_moves: usize) {
        let count = self.owners.len();
        let (mut badness, mut moves) = (self.badness(), self.moves() as i64);
        let mut best = (badness, moves, self.owners.clone());
        // after so many swaps that led to nothing better, nothing better is expected
        let patience = count / 2;
        let (mut idle, mut cursor, mut trials) = (0, 0, 0);
        let mut touched = vec![0; count];
        while badness > 0 && idle < patience && trials < MOST_TRIALS {
            let Some(bad) = self.next_bad(cursor) else { break };
            cursor = bad + 1;
            idle += 1;
            trials += count;
            let Some((other, delta)) = self.best_swap(bad, most_moves as i64 - moves, &touched) else { continue };
            // of equally good swaps the one longest untouched is taken, so that sideways steps do not run in circles
            (touched[bad], touched[other]) = (trials, trials);
            self.owners.swap(bad, other);
            badness += delta.badness;
            moves += delta.moves;
            if (badness, moves) < (best.0, best.1) {
                best = (badness, moves, self.owners.clone());
                idle = 0;
            }
        }
        self.owners = best.2;
    }

    /// Undoes moves that spacing does not need.
    pub fn give_back(&mut self) {
        for partition in 0..self.before.len() {
            let back = |other: &usize| {
                let delta = self.delta(partition, *other);
                delta.badness <= 0 && delta.moves < 0
            };
            if self.owners[partition] != self.before[partition]
                && let Some(other) = (0..self.owners.len()).find(back)
            {
                self.owners.swap(partition, other);
            }
        }
    }

    /// Swaps partitions picked by a fixed sequence wherever that spaces nothing worse, so that a node's neighbours,
    /// who stand in for it when it is down, vary around the ring.
    pub fn shuffle(&mut self) {
        const ROUNDS: usize = 8;
        let count = self.owners.len();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for partition in (0..count).cycle().take(ROUNDS * count) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = (state % count as u64) as usize;
            if self.delta(partition, other).badness <= 0 {
                self.owners.swap(partition, other);
            }
        }
    }

    fn next_bad(&self, from: usize) -> Option<usize> {
        let count = self.owners.len();
        (from..from + count).map(|step| step % count).find(|&at| self.badness_of(at, self.owners[at]) > 0)
    }

    fn best_swap(&self, bad: usize, moves_left: i64, touched: &[usize]) -> Option<(usize, Delta)> {
        (0..self.owners.len())
            .filter(|&other| self.owners[other] != self.owners[bad])
            .map(|other| (other, self.delta(bad, other)))
            .filter(|(_, delta)| delta.badness <= 0 && delta.moves <= moves_left)
            .min_by_key(|&(other, delta)| (delta, touched[other], other))
    }

    fn delta(&self, one: usize, other: usize) -> Delta {
        let (a, b) = (self.owners[one], self.owners[other]);
        // the pair of the two partitions themselves weighs the same before and after
        let held = self.badness_beside(one, a, other) + self.badness_beside(other, b, one);
        let would = self.badness_beside(one, b, other) + self.badness_beside(other, a, one);
        let moved = |partition: usize, owner| i64::from(self.before.get(partition).is_some_and(|&was| was != owner));
        let moves = moved(one, b) + moved(other, a) - moved(one, a) - moved(other, b);
        Delta { badness: would - held, moves }
    }
}

/// How bad a pair at this distance is. The square prefers two pairs somewhat close to one very close, so that what must
/// repeat repeats evenly: in as many windows, but never side by side.
fn closeness(spacing: usize, distance: usize) -> i64 {
    let short = (spacing - distance) as i64;
    short * short
}
