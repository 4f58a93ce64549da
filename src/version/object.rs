//! What a replica holds for a key: the concurrent siblings and the exact set of writes they stand for.

use std::cmp::Ordering;

use bytes::Bytes;

use super::codec::{put_varint, take_array, take_count, take_u64, take_varint, varint_len};
use super::versions::{absorbs, check_sibling, encode_versions};
use super::{CausalContext, DecodeError, Digest, Dot};
use crate::types::{NodeId, WriteId};

/// What a write put: a value, or the mark of a delete, which merges like any value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    /// Bytes of the user's; none is a value too.
    Value(Bytes),
    /// A delete.
    Tombstone,
}

impl Body {
    /// The value, unless this is a delete.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Body::Value(value) => Some(value),
            Body::Tombstone => None,
        }
    }
}

/// One write that no known write has replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The write's name within its key.
    pub dot: Dot,
    /// The client's name for the intended write, equal in twins: one intention that two coordinators carried out.
    pub write_id: WriteId,
    /// The node that minted the dot. For people to read; nothing depends on it.
    pub node: NodeId,
    /// The coordinator's wall clock in milliseconds since 1970. It orders nothing but last-write-wins buckets.
    pub wall_ms: u64,
    /// What was written.
    pub body: Body,
}

/// A dotted version vector set: siblings sorted by dot, and a context that contains the dot of every write that this
/// copy of the key has known, theirs included.
///
/// A dot in the context without a sibling is a write that was replaced by one whose author had been shown it. There is
/// always a sibling, for what replaces a write is a write.
///
/// `Eq` compares bodies too; [`digest`](Object::digest) does not have to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    context: CausalContext,
    siblings: Vec<Sibling>,
}

const TOMBSTONE: u8 = 0;
const VALUE: u8 = 1;

/// The least bytes of a sibling: dot 9, write id 16, node 8, wall clock 1, kind of body 1.
const SIBLING_MIN_LEN: usize = 35;

impl Object {
    /// Every write that this copy has known.
    pub fn context(&self) -> &CausalContext {
        &self.context
    }

    /// The concurrent writes, sorted by dot; at least one.
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// Whether all siblings are tombstones.
    pub fn is_deleted(&self) -> bool {
        self.siblings.iter().all(|sibling| sibling.body == Body::Tombstone)
    }

    /// The write of a client that holds `client`: `sibling` replaces what the client was shown and nothing else.
    /// (Almeida et al. 2014, `update`.)
    ///
    /// # Panics
    /// If the sibling's dot is known to either context: it was not [minted](super::mint) for them, and the write would
    /// look older than it is and vanish.
    pub fn update(local: Option<&Object>, client: &CausalContext, sibling: Sibling) -> Object {
        let plain = mutant!(PlainVersionVector) && local.is_some_and(|local| !client.covers(&local.context));
        let unseen = |known: &&Sibling| plain || !client.contains(known.dot);
        let siblings = local.map_or(&[][..], Object::siblings).iter().filter(unseen).cloned().collect();
        Object::with_write(local, client, siblings, sibling)
    }

    /// The write of a client to a last-write-wins bucket: `sibling` replaces every local sibling, and its `wall_ms` is
    /// raised above theirs, so that a slow clock does not make it lose to what it replaces.
    ///
    /// # Panics
    /// As [`update`](Object::update).
    pub fn update_lww(local: Option<&Object>, client: &CausalContext, mut sibling: Sibling) -> Object {
        let latest = local.and_then(Object::newest).map_or(0, |newest| newest.wall_ms.saturating_add(1));
        sibling.wall_ms = sibling.wall_ms.max(latest);
        Object::with_write(local, client, Vec::new(), sibling)
    }

    fn with_write(
        local: Option<&Object>,
        client: &CausalContext,
        mut siblings: Vec<Sibling>,
        sibling: Sibling,
    ) -> Object {
        let mut context = local.map_or_else(CausalContext::new, |object| object.context.clone());
        context.join(client);
        assert!(!context.contains(sibling.dot), "a new write has a new dot, and {} is known already", sibling.dot);
        context.insert(sibling.dot);
        let at = siblings.partition_point(|known| known.dot < sibling.dot);
        siblings.insert(at, sibling);
        Object { context, siblings }
    }

    /// Both copies' knowledge in one: a sibling stays if both have it, or if the other copy has never known it.
    /// Commutative, associative, idempotent. (Almeida et al. 2014, `sync`.)
    pub fn merge(&self, other: &Object) -> Object {
        let mut siblings = Vec::with_capacity(self.siblings.len().max(other.siblings.len()));
        let (mut ours, mut theirs) = (self.siblings.iter().peekable(), other.siblings.iter().peekable());
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.dot.cmp(&their.dot),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let kept = match order {
                Ordering::Less if mutant!(ReplacedReturns) => ours.next(),
                Ordering::Less => ours.next().filter(|our| !other.context.contains(our.dot)),
                Ordering::Greater => theirs.next().filter(|their| !self.context.contains(their.dot)),
                Ordering::Equal => theirs.next().and(ours.next()),
            };
            siblings.extend(kept.cloned());
        }
        if mutant!(MergeKeepsOne) {
            siblings.truncate(1);
        }
        if mutant!(WallClockDominates) {
            let newest = siblings.iter().map(|sibling| sibling.wall_ms).max();
            siblings.retain(|sibling| Some(sibling.wall_ms) == newest);
        }
        if mutant!(TombstoneYields) && siblings.iter().any(|sibling| sibling.body != Body::Tombstone) {
            siblings.retain(|sibling| sibling.body != Body::Tombstone);
        }
        let mut context = self.context.clone();
        context.join(&other.context);
        Object { context, siblings }
    }

    /// The seeded bug: the first sibling alone, and a context that says the others were replaced.
    pub(crate) fn with_first_sibling(&self) -> Object {
        Object { context: self.context.clone(), siblings: self.siblings[..1].to_vec() }
    }

    /// Whether merging `other` in would change nothing.
    pub fn merges_to_self(&self, other: &Object) -> bool {
        let siblings = self.siblings.iter().map(|sibling| sibling.dot);
        absorbs(&self.context, siblings, &other.context, |dot| other.sibling(dot).is_some())
    }

    /// Whether merging `other` in would leave none of these siblings.
    pub fn is_replaced_by(&self, other: &Object) -> bool {
        let goes = |known: &Sibling| other.context.contains(known.dot) && other.sibling(known.dot).is_none();
        !mutant!(ReplacedReturns) && self.siblings.iter().all(goes)
    }

    /// The same with an empty value in place of each: nothing to be shown or kept, and all that a write has to know which replaces them.
    pub(crate) fn without_values(&self) -> Object {
        let emptied = |sibling: &Sibling| Sibling {
            body: match sibling.body {
                Body::Value(_) => Body::Value(Bytes::new()),
                Body::Tombstone => Body::Tombstone,
            },
            ..*sibling
        };
        Object { context: self.context.clone(), siblings: self.siblings.iter().map(emptied).collect() }
    }

    fn sibling(&self, dot: Dot) -> Option<&Sibling> {
        self.siblings.binary_search_by_key(&dot, |sibling| sibling.dot).ok().map(|at| &self.siblings[at])
    }

    /// The winner of a last-write-wins bucket: the sibling of the greatest `(wall_ms, dot)`.
    pub fn newest(&self) -> Option<&Sibling> {
        self.siblings.iter().max_by_key(|sibling| (sibling.wall_ms, sibling.dot))
    }

    /// The siblings as a reader sees them, sorted by dot: of twins (same write id and same body, as a retry at another
    /// coordinator leaves them) the one of the greatest dot.
    ///
    /// The reader gets the whole context with them, so what it writes next replaces all twins.
    pub fn collapsed(&self) -> Vec<&Sibling> {
        let mut siblings: Vec<&Sibling> = self.siblings.iter().collect();
        if mutant!(TwinsShown) {
            return siblings;
        }
        siblings.sort_by(|a, b| (a.write_id, &a.body, b.dot).cmp(&(b.write_id, &b.body, a.dot)));
        siblings.dedup_by(|next, kept| (next.write_id, &next.body) == (kept.write_id, &kept.body));
        siblings.sort_by_key(|sibling| sibling.dot);
        siblings
    }

    /// A stand-in for the object by which two copies of a key are told apart.
    pub fn digest(&self) -> Digest {
        let mut versions = Vec::with_capacity(self.context.encoded_len() + 5 + self.siblings.len() * 18);
        self.encode_versions_into(&mut versions);
        Digest::of(&versions)
    }

    /// Whether both have the same [`digest`](Object::digest), without a look at the values.
    pub fn is_same_version_as(&self, other: &Object) -> bool {
        self.context == other.context && self.siblings.iter().map(|s| s.dot).eq(other.siblings.iter().map(|s| s.dot))
    }

    /// Appends the canonical context, then the siblings' count and dots: what [`digest`](Object::digest) hashes, and
    /// all in which two copies of a key can differ.
    pub fn encode_versions_into(&self, out: &mut Vec<u8>) {
        encode_versions(&self.context, self.siblings.iter().map(|sibling| sibling.dot), out);
    }

    /// The canonical encoding, see [`encode_into`](Object::encode_into).
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out.into()
    }

    /// Appends the canonical encoding: the context, the siblings' count, and of each sibling dot, write id (16 bytes),
    /// node (8), wall clock, kind of body (1), and of a value its length and bytes. Counts, lengths, counters and clocks
    /// are LEB128, the rest big-endian. It has no version of its own: records and frames, which carry it, have one.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        self.context.encode_into(out);
        put_varint(out, self.siblings.len() as u64);
        self.siblings.iter().for_each(|sibling| sibling.encode_into(out));
    }

    /// Bytes of the canonical encoding.
    pub fn encoded_len(&self) -> usize {
        let siblings: usize = self.siblings.iter().map(Sibling::encoded_len).sum();
        self.context.encoded_len() + varint_len(self.siblings.len() as u64) + siblings
    }

    /// Reads one object, which is all of `bytes`. Bodies are slices of `bytes` and keep its whole buffer alive.
    ///
    /// # Errors
    /// Whatever [`encode_into`](Object::encode_into) would not have written is refused.
    pub fn decode(bytes: Bytes) -> Result<Object, DecodeError> {
        Object::decode_with(&bytes, |value| bytes.slice_ref(value))
    }

    /// The same, with bodies of its own: an allocation less than a copy that is decoded, where there is one value.
    ///
    /// # Errors
    /// As [`decode`](Object::decode).
    pub fn decode_copied(bytes: &[u8]) -> Result<Object, DecodeError> {
        Object::decode_with(bytes, Bytes::copy_from_slice)
    }

    fn decode_with(mut input: &[u8], own: impl Fn(&[u8]) -> Bytes) -> Result<Object, DecodeError> {
        let input = &mut input;
        let context = CausalContext::decode(input)?;
        let count = take_count(input, SIBLING_MIN_LEN)?;
        if count == 0 {
            return Err(DecodeError::NoSiblings);
        }
        let mut siblings: Vec<Sibling> = Vec::with_capacity(count);
        for _ in 0..count {
            let sibling = Sibling::decode(input, &own)?;
            check_sibling(&context, siblings.last().map(|last| last.dot), sibling.dot)?;
            siblings.push(sibling);
        }
        match input.len() {
            0 => Ok(Object { context, siblings }),
            len => Err(DecodeError::TrailingBytes { len }),
        }
    }
}

impl Sibling {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.dot.encode_into(out);
        out.extend_from_slice(&self.write_id.0.to_be_bytes());
        out.extend_from_slice(&self.node.0.to_be_bytes());
        put_varint(out, self.wall_ms);
        match &self.body {
            Body::Tombstone => out.push(TOMBSTONE),
            Body::Value(value) => {
                out.push(VALUE);
                put_varint(out, value.len() as u64);
                out.extend_from_slice(value);
            }
        }
    }

    fn encoded_len(&self) -> usize {
        let body = match &self.body {
            Body::Tombstone => 0,
            Body::Value(value) => varint_len(value.len() as u64) + value.len(),
        };
        self.dot.encoded_len() + 16 + 8 + varint_len(self.wall_ms) + 1 + body
    }

    /// Takes a sibling off the front of `input`, the yet unread end of `bytes`.
    fn decode(input: &mut &[u8], own: impl Fn(&[u8]) -> Bytes) -> Result<Sibling, DecodeError> {
        Ok(Sibling {
            dot: Dot::decode(input)?,
            write_id: WriteId(u128::from_be_bytes(take_array(input)?)),
            node: NodeId(take_u64(input)?),
            wall_ms: take_varint(input)?,
            body: Body::decode(input, own)?,
        })
    }
}

impl Body {
    fn decode(input: &mut &[u8], own: impl Fn(&[u8]) -> Bytes) -> Result<Body, DecodeError> {
        match take_array(input)? {
            [TOMBSTONE] => Ok(Body::Tombstone),
            [VALUE] => {
                let len = take_count(input, 1)?;
                let (value, rest) = input.split_at(len);
                *input = rest;
                Ok(Body::Value(own(value)))
            }
            [kind] => Err(DecodeError::UnknownBody { kind }),
        }
    }
}
