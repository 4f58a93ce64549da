//! An object without its values: enough to tell which of two copies of a key is the newer one.

use super::codec::{put_varint, take_count, varint_len};
use super::{CausalContext, DecodeError, Dot, Object};

/// All in which two copies of a key can differ: see [`Object::encode_versions_into`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    context: CausalContext,
    /// Of the siblings, ascending.
    dots: Vec<Dot>,
}

/// Bytes of the shortest dot.
const DOT_MIN_LEN: usize = size_of::<u64>() + 1;

impl Versions {
    /// An object's.
    pub fn of(object: &Object) -> Versions {
        let dots = object.siblings().iter().map(|sibling| sibling.dot).collect();
        Versions { context: object.context().clone(), dots }
    }

    /// Whether merging the other's object into this one's would change nothing. That its context covers the other's is not enough: where
    /// the last write wins, a write may be known without what it replaced.
    pub fn merges_to_self(&self, other: &Versions) -> bool {
        let stands = |dot| other.dots.binary_search(&dot).is_ok();
        absorbs(&self.context, self.dots.iter().copied(), &other.context, stands)
    }

    /// Appends what [`Object::encode_versions_into`] does.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        encode_versions(&self.context, self.dots.iter().copied(), out);
    }

    /// Bytes that [`encode_into`](Versions::encode_into) appends.
    pub fn encoded_len(&self) -> usize {
        let dots: usize = self.dots.iter().map(|dot| dot.encoded_len()).sum();
        self.context.encoded_len() + varint_len(self.dots.len() as u64) + dots
    }

    /// Reads what is all of `bytes`.
    ///
    /// # Errors
    /// Whatever [`encode_into`](Versions::encode_into) would not have written of an object is refused.
    pub fn decode(mut bytes: &[u8]) -> Result<Versions, DecodeError> {
        let input = &mut bytes;
        let context = CausalContext::decode(input)?;
        let count = take_count(input, DOT_MIN_LEN)?;
        if count == 0 {
            return Err(DecodeError::NoSiblings);
        }
        let mut dots: Vec<Dot> = Vec::with_capacity(count);
        for _ in 0..count {
            let dot = Dot::decode(input)?;
            check_sibling(&context, dots.last().copied(), dot)?;
            dots.push(dot);
        }
        match input.len() {
            0 => Ok(Versions { context, dots }),
            len => Err(DecodeError::TrailingBytes { len }),
        }
    }
}

/// Whether a copy with this context and these siblings would stay as it is if another were merged into it; `stands` says of a dot whether it is
/// one of the other's siblings.
pub(super) fn absorbs(
    context: &CausalContext,
    mut siblings: impl Iterator<Item = Dot>,
    other: &CausalContext,
    stands: impl Fn(Dot) -> bool,
) -> bool {
    context.covers(other) && !siblings.any(|dot| other.contains(dot) && !stands(dot))
}

/// Appends a context, then the siblings' count and dots.
pub(super) fn encode_versions(
    context: &CausalContext,
    siblings: impl ExactSizeIterator<Item = Dot>,
    out: &mut Vec<u8>,
) {
    context.encode_into(out);
    put_varint(out, siblings.len() as u64);
    siblings.for_each(|dot| dot.encode_into(out));
}

/// Refuses a sibling that may not come behind the `last` one, in a copy with that context.
pub(super) fn check_sibling(context: &CausalContext, last: Option<Dot>, dot: Dot) -> Result<(), DecodeError> {
    if last.is_some_and(|last| last >= dot) {
        return Err(DecodeError::Unsorted);
    }
    if context.contains(dot) { Ok(()) } else { Err(DecodeError::UncoveredSibling) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, WriteId};
    use crate::version::{Actor, Body, Sibling};

    fn sibling(actor: u64) -> Sibling {
        let dot = Dot { actor: Actor(actor), counter: 1 };
        Sibling { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: actor, body: Body::Tombstone }
    }

    fn context(actors: &[u64]) -> CausalContext {
        let mut context = CausalContext::default();
        actors.iter().for_each(|actor| context.insert(sibling(*actor).dot));
        context
    }

    /// A client that was told of nothing but its own write replaces that elsewhere.
    #[test]
    fn where_the_last_write_wins_what_has_seen_more_may_not_have_replaced_all() {
        let first = Object::update_lww(None, &CausalContext::default(), sibling(1));
        let here = Object::update_lww(Some(&first), &CausalContext::default(), sibling(2));
        let there = first.merge(&Object::update_lww(None, &context(&[2]), sibling(3)));
        assert!(there.context().covers(here.context()) && there.siblings().len() == 2);
        let (here, there) = (Versions::of(&here), Versions::of(&there));
        assert!(!there.merges_to_self(&here) && !here.merges_to_self(&there));
    }

    #[test]
    fn only_versions_of_objects_are_taken() {
        let raw = |context: CausalContext, actors: &[u64]| {
            let dots = actors.iter().map(|actor| sibling(*actor).dot).collect();
            let mut bytes = Vec::new();
            Versions { context, dots }.encode_into(&mut bytes);
            bytes
        };
        assert!(Versions::decode(&raw(context(&[1, 2, 3]), &[1, 3])).is_ok());
        let refused = [
            (raw(context(&[1]), &[]), DecodeError::NoSiblings),
            (raw(context(&[1, 2]), &[2, 1]), DecodeError::Unsorted),
            (raw(context(&[1, 2]), &[1, 1]), DecodeError::Unsorted),
            (raw(context(&[1]), &[2]), DecodeError::UncoveredSibling),
            ([raw(context(&[1]), &[1]), vec![0]].concat(), DecodeError::TrailingBytes { len: 1 }),
        ];
        for (bytes, error) in refused {
            assert_eq!(Versions::decode(&bytes), Err(error));
        }
    }
}
