//! Causal contexts: exactly which writes to a key are known.

use std::cmp::Ordering;

use super::codec::{put_varint, take_count, take_counter, take_u64, varint_len};
use super::{Actor, DecodeError, Dot};

/// A set of dots of one key: for each actor its first so many writes (the vector), and single writes beyond them (the
/// cloud).
///
/// The cloud keeps the set exact. A client that was shown an actor's fifth write and not its fourth holds just that,
/// so nothing it was not shown is ever covered by what it writes next.
///
/// There is one form for each set, hence `Eq` is equality of sets: the vector is sorted by actor without zeros, the
/// cloud is sorted, and a dot that continues its actor's run in the vector is in the vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    vector: Vec<(Actor, u64)>,
    cloud: Vec<Dot>,
}

/// The least bytes of a vector entry or a cloud dot: the actor, and a counter of one byte.
const ENTRY_MIN_LEN: usize = 9;

impl CausalContext {
    /// The empty set: what a client knows that was shown nothing.
    pub fn new() -> CausalContext {
        CausalContext::default()
    }

    /// Whether no write is known.
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.cloud.is_empty()
    }

    /// Whether the write of this name is known.
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter <= self.run_of(dot.actor) || self.cloud.binary_search(&dot).is_ok()
    }

    /// The greatest counter known of `actor`, also one behind a gap; 0 if none is.
    pub fn counter_of(&self, actor: Actor) -> u64 {
        let end = self.cloud.partition_point(|dot| dot.actor <= actor);
        match end.checked_sub(1).map(|last| self.cloud[last]) {
            Some(dot) if dot.actor == actor => dot.counter,
            _ => self.run_of(actor),
        }
    }

    /// The number of distinct actors: what a context's size grows with.
    pub fn actors(&self) -> usize {
        let outside_the_vector = |group: &&[Dot]| self.run_of(group[0].actor) == 0;
        self.vector.len() + self.cloud.chunk_by(|a, b| a.actor == b.actor).filter(outside_the_vector).count()
    }

    /// Adds one write.
    ///
    /// # Panics
    /// If the counter is 0: no write has that name.
    pub fn insert(&mut self, dot: Dot) {
        assert!(dot.counter > 0, "counters start at 1");
        let run = self.run_of(dot.actor);
        if dot.counter <= run {
            return;
        }
        if dot.counter - 1 > run {
            if let Err(at) = self.cloud.binary_search(&dot) {
                self.cloud.insert(at, dot);
            }
            return;
        }
        match self.vector.binary_search_by_key(&dot.actor, |entry| entry.0) {
            Ok(at) => self.vector[at].1 = dot.counter,
            Err(at) => self.vector.insert(at, (dot.actor, dot.counter)),
        }
        self.fold();
    }

    /// Adds every write that `other` knows.
    pub fn join(&mut self, other: &CausalContext) {
        if self.covers(other) {
            return;
        }
        self.vector = merged(&self.vector, &other.vector, |a, b| a.0.cmp(&b.0), |a, b| (a.0, a.1.max(b.1)));
        self.cloud = merged(&self.cloud, &other.cloud, Dot::cmp, |dot, _| *dot);
        self.fold();
    }

    /// Whether every write that `other` knows is known.
    pub fn covers(&self, other: &CausalContext) -> bool {
        // A run is covered by a run alone: right behind a run there is a gap, or the cloud would have been folded.
        other.vector.iter().all(|&(actor, run)| run <= self.run_of(actor))
            && other.cloud.iter().all(|&dot| self.contains(dot))
    }

    /// How many of the actor's first writes are known without a gap.
    fn run_of(&self, actor: Actor) -> u64 {
        self.vector.binary_search_by_key(&actor, |entry| entry.0).map_or(0, |at| self.vector[at].1)
    }

    /// Moves the dots that continue a run from the cloud to the vector, and drops those within one.
    ///
    /// A dot of an actor without a run stays: it is not the actor's first, or it would not have come to the cloud.
    fn fold(&mut self) {
        let CausalContext { vector, cloud } = self;
        cloud.retain(|dot| {
            let Ok(at) = vector.binary_search_by_key(&dot.actor, |entry| entry.0) else { return true };
            let run = &mut vector[at].1;
            if dot.counter - 1 > *run {
                return true;
            }
            *run = (*run).max(dot.counter);
            false
        });
    }

    /// Appends the canonical encoding: the vector's count and entries, then the cloud's, each an actor (8 bytes,
    /// big-endian) and a counter (LEB128, as are the counts).
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_varint(out, self.vector.len() as u64);
        self.vector.iter().for_each(|&(actor, counter)| Dot { actor, counter }.encode_into(out));
        put_varint(out, self.cloud.len() as u64);
        self.cloud.iter().for_each(|dot| dot.encode_into(out));
    }

    /// Bytes that [`encode_into`](CausalContext::encode_into) appends.
    pub fn encoded_len(&self) -> usize {
        let counts = varint_len(self.vector.len() as u64) + varint_len(self.cloud.len() as u64);
        let vector: usize = self.vector.iter().map(|&(actor, counter)| Dot { actor, counter }.encoded_len()).sum();
        let cloud: usize = self.cloud.iter().map(|dot| dot.encoded_len()).sum();
        counts + vector + cloud
    }

    /// Takes a context off the front of `input`.
    ///
    /// # Errors
    /// Whatever [`encode_into`](CausalContext::encode_into) would not have written is refused.
    pub fn decode(input: &mut &[u8]) -> Result<CausalContext, DecodeError> {
        let mut context = CausalContext::new();
        let count = take_count(input, ENTRY_MIN_LEN)?;
        context.vector.reserve_exact(count);
        for _ in 0..count {
            let Dot { actor, counter } = Dot::decode(input)?;
            if context.vector.last().is_some_and(|last| last.0 >= actor) {
                return Err(DecodeError::Unsorted);
            }
            context.vector.push((actor, counter));
        }
        let count = take_count(input, ENTRY_MIN_LEN)?;
        context.cloud.reserve_exact(count);
        for _ in 0..count {
            let dot = Dot::decode(input)?;
            if context.cloud.last().is_some_and(|last| *last >= dot) {
                return Err(DecodeError::Unsorted);
            }
            if dot.counter - 1 <= context.run_of(dot.actor) {
                return Err(DecodeError::Unfolded);
            }
            context.cloud.push(dot);
        }
        Ok(context)
    }
}

impl Dot {
    pub(super) fn encode_into(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.actor.0.to_be_bytes());
        put_varint(out, self.counter);
    }

    pub(super) fn encoded_len(self) -> usize {
        8 + varint_len(self.counter)
    }

    pub(super) fn decode(input: &mut &[u8]) -> Result<Dot, DecodeError> {
        Ok(Dot { actor: Actor(take_u64(input)?), counter: take_counter(input)? })
    }
}

/// The union of two sorted lists; what both hold goes through `both`.
fn merged<T: Copy>(a: &[T], b: &[T], order: impl Fn(&T, &T) -> Ordering, both: impl Fn(&T, &T) -> T) -> Vec<T> {
    let mut union = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
        let ordering = order(left, right);
        union.push(match ordering {
            Ordering::Less => *left,
            Ordering::Equal => both(left, right),
            Ordering::Greater => *right,
        });
        i += usize::from(ordering.is_le());
        j += usize::from(ordering.is_ge());
    }
    union.extend_from_slice(&a[i..]);
    union.extend_from_slice(&b[j..]);
    union
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn dot(actor: u64, counter: u64) -> Dot {
        Dot { actor: Actor(actor), counter }
    }

    fn context(dots: impl IntoIterator<Item = Dot>) -> CausalContext {
        let mut context = CausalContext::new();
        dots.into_iter().for_each(|dot| context.insert(dot));
        context
    }

    fn encoded(context: &CausalContext) -> Vec<u8> {
        let mut out = Vec::new();
        context.encode_into(&mut out);
        out
    }

    /// The bytes of a vector and a cloud as given, canonical or not.
    fn raw(vector: &[(u64, u64)], cloud: &[(u64, u64)]) -> Vec<u8> {
        let list = |entries: &[(u64, u64)]| entries.iter().map(|&(a, c)| dot(a, c)).collect::<Vec<_>>();
        let vector = list(vector).iter().map(|d| (d.actor, d.counter)).collect();
        encoded(&CausalContext { vector, cloud: list(cloud) })
    }

    prop_compose! {
        fn dots()(pairs in prop::collection::btree_set((1u64..4, 1u64..8), 0..16)) -> BTreeSet<Dot> {
            pairs.into_iter().map(|(actor, counter)| dot(actor, counter)).collect()
        }
    }

    proptest! {
        #[test]
        fn a_context_is_the_set_of_dots_put_in(a in dots(), b in dots()) {
            let (of_a, of_b) = (context(a.iter().copied()), context(b.iter().rev().copied()));
            for actor in 0..5 {
                for counter in 1..10 {
                    prop_assert_eq!(of_a.contains(dot(actor, counter)), a.contains(&dot(actor, counter)));
                }
                let greatest = a.iter().filter(|d| d.actor.0 == actor).map(|d| d.counter).max();
                prop_assert_eq!(of_a.counter_of(Actor(actor)), greatest.unwrap_or(0));
            }
            prop_assert_eq!(of_a.actors(), a.iter().map(|d| d.actor).collect::<BTreeSet<_>>().len());
            prop_assert_eq!(of_a.is_empty(), a.is_empty());
            prop_assert_eq!(of_a.covers(&of_b), a.is_superset(&b));
            let mut joined = of_a.clone();
            joined.join(&of_b);
            prop_assert_eq!(&joined, &context(a.union(&b).copied()));
            prop_assert_eq!(of_a == of_b, a == b);
            prop_assert_eq!(of_a, context(a.iter().rev().copied()));
        }

        #[test]
        fn the_encoding_round_trips_and_every_cut_is_refused(a in dots()) {
            let context = context(a);
            let bytes = encoded(&context);
            prop_assert_eq!(bytes.len(), context.encoded_len());
            let mut input = bytes.as_slice();
            prop_assert_eq!(CausalContext::decode(&mut input), Ok(context));
            prop_assert!(input.is_empty());
            for cut in 0..bytes.len() {
                prop_assert!(CausalContext::decode(&mut &bytes[..cut]).is_err());
            }
        }

        /// Few actors and small counters, any order and shape: most of it is not canonical.
        #[test]
        fn only_canonical_bytes_are_taken(
            vector in prop::collection::vec((0u64..3, 0u64..4), 0..4),
            cloud in prop::collection::vec((0u64..3, 0u64..6), 0..4),
        ) {
            let bytes = raw(&vector, &cloud);
            if let Ok(decoded) = CausalContext::decode(&mut bytes.as_slice()) {
                let all = vector.iter().flat_map(|&(a, c)| (1..=c).map(move |i| dot(a, i)));
                prop_assert_eq!(&decoded, &context(all.chain(cloud.iter().map(|&(a, c)| dot(a, c)))));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut input = bytes.as_slice();
            if let Ok(context) = CausalContext::decode(&mut input) {
                prop_assert_eq!(encoded(&context), &bytes[..bytes.len() - input.len()]);
            }
        }
    }

    #[test]
    fn each_departure_from_the_canonical_form_is_refused() {
        #[track_caller]
        fn check(vector: &[(u64, u64)], cloud: &[(u64, u64)], error: DecodeError) {
            assert_eq!(CausalContext::decode(&mut raw(vector, cloud).as_slice()), Err(error));
        }
        check(&[(2, 1), (1, 1)], &[], DecodeError::Unsorted);
        check(&[(1, 1), (1, 2)], &[], DecodeError::Unsorted);
        check(&[(1, 1), (2, 0)], &[], DecodeError::ZeroCounter);
        check(&[], &[(1, 3), (1, 3)], DecodeError::Unsorted);
        check(&[], &[(2, 3), (1, 3)], DecodeError::Unsorted);
        check(&[], &[(1, 0)], DecodeError::ZeroCounter);
        check(&[], &[(1, 1)], DecodeError::Unfolded);
        check(&[(1, 3)], &[(1, 4)], DecodeError::Unfolded);
        check(&[(1, 3)], &[(1, 2)], DecodeError::Unfolded);
    }

    #[test]
    fn the_greatest_counter_does_not_overflow() {
        let mut context = context([dot(1, u64::MAX)]);
        assert_eq!(context.counter_of(Actor(1)), u64::MAX);
        context.join(&CausalContext { vector: vec![(Actor(1), u64::MAX - 1)], cloud: vec![] });
        assert_eq!(context, CausalContext { vector: vec![(Actor(1), u64::MAX)], cloud: vec![] });
    }

    #[test]
    fn a_huge_count_is_refused_before_anything_is_allocated() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        let refused = DecodeError::CountTooLarge { claimed: 0xffff_ffff, possible: 0 };
        assert_eq!(CausalContext::decode(&mut bytes.as_slice()), Err(refused));
    }
}
