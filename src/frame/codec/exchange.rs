//! The messages of the exchange as frames. Lists stand in the body, at fixed widths or with their lengths before them:
//!
//! | message | body |
//! |---|---|
//! | `Compare` | for each tree: partition `u16`, n `u8`, root `u128` |
//! | `Compared` | for each tree: its verdict `u8` |
//! | `Summed` | sums `u64` |
//! | `Items` | leaves `u16`, then known hashes `u64`; the header says how many leaves there are |
//! | `Itemized` | for each key: hash `u64`, length `u16`, key, length `u16`, its versions; no bytes are none |
//! | `Want` | for each key: length `u16`, key |
//!
//! All numbers are big-endian. How many there are follows from the body's length, where the header does not say it, and is checked before room is
//! made.

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use super::super::kind::Kind;
use super::super::raw::RawFrame;
use super::{DecodeError, frame, header, no_body, nothing_left, parse, split, unexpected};
use crate::message::{
    Compare, Compared, ExchangeAnswer, ExchangeRequest, Itemized, Items, MAX_COMPARED, MAX_ITEMS, MAX_LEAVES, MAX_SUMS,
    MAX_WANTED, OtherItem, Refusal, Summed, Sums, TreeKey, TreeVerdict, Want, Wanted,
};
use crate::storage::merkle::{Leaves, SumsOf, TreeId};
use crate::types::{PartitionId, RingVersion};
use crate::version::Versions;

#[derive(Serialize, Deserialize)]
struct CompareHeader {
    ring: RingVersion,
    leaves: u32,
}

#[derive(Serialize, Deserialize)]
struct SumsHeader {
    ring: RingVersion,
    tree: TreeId,
    leaves: u32,
    of: SumsOf,
}

#[derive(Serialize, Deserialize)]
struct ItemsHeader {
    ring: RingVersion,
    tree: TreeId,
    leaves: u32,
    /// How many leaves are named.
    of: u8,
    after: Option<Bytes>,
    until: Option<Bytes>,
    limit: u32,
}

#[derive(Serialize, Deserialize)]
struct WantHeader {
    ring: RingVersion,
    tree: TreeId,
}

#[derive(Serialize, Deserialize)]
struct ComparedHeader {
    shards: u16,
    rebuilding: bool,
}

#[derive(Serialize, Deserialize)]
struct SummedHeader {
    leaves: u32,
}

#[derive(Serialize, Deserialize)]
struct ItemizedHeader {
    /// How many hashes the asker named.
    known: u16,
    /// A bit for each, the first one the lowest of its byte; those behind the last are not set.
    same: Bytes,
    rotten: u32,
    next: Option<Bytes>,
}

/// Bytes of a tree in the body of a `Compare`.
const TREE_LEN: usize = 19;

pub(super) fn encode_request(id: u64, request: &ExchangeRequest) -> RawFrame {
    match request {
        ExchangeRequest::Compare(Compare { ring, leaves, trees }) => {
            let mut body = Vec::with_capacity(trees.len() * TREE_LEN);
            for (tree, root) in trees {
                body.put_u16(tree.partition.0);
                body.put_u8(tree.n);
                body.put_u128(*root);
            }
            let head = CompareHeader { ring: *ring, leaves: leaves.count() };
            frame(id, Kind::Compare, header(&head), body.into())
        }
        ExchangeRequest::Sums(Sums { ring, tree, leaves, of }) => {
            let head = SumsHeader { ring: *ring, tree: *tree, leaves: leaves.count(), of: *of };
            frame(id, Kind::Sums, header(&head), Bytes::new())
        }
        ExchangeRequest::Items(items) => {
            let Items { ring, tree, leaves, of, after, until, known, limit } = items;
            let cursor = |key: &Option<TreeKey>| key.as_ref().map(|key| key.as_bytes().clone());
            let head = ItemsHeader {
                ring: *ring,
                tree: *tree,
                leaves: leaves.count(),
                of: u8::try_from(of.len()).expect("a few leaves are named at a time"),
                after: cursor(after),
                until: cursor(until),
                limit: *limit,
            };
            let mut body = Vec::with_capacity(size_of_val(&of[..]) + size_of_val(&known[..]));
            of.iter().for_each(|leaf| body.put_u16(*leaf));
            known.iter().for_each(|hash| body.put_u64(*hash));
            frame(id, Kind::Items, header(&head), body.into())
        }
        ExchangeRequest::Want(Want { ring, tree, keys }) => {
            let mut body = Vec::new();
            keys.iter().for_each(|key| put_key(key, &mut body));
            frame(id, Kind::Want, header(&WantHeader { ring: *ring, tree: *tree }), body.into())
        }
    }
}

pub(super) fn decode_request(frame: RawFrame) -> Result<ExchangeRequest, DecodeError> {
    match Kind::of(frame.kind) {
        Some(Kind::Compare) => {
            let CompareHeader { ring, leaves } = parse(&frame)?;
            let trees = count(&frame.body, TREE_LEN, MAX_COMPARED, "trees")?;
            if trees == 0 {
                return Err(DecodeError::Body { reason: "no tree to compare".into() });
            }
            let mut body = frame.body;
            let tree = |body: &mut Bytes| TreeId { partition: PartitionId(body.get_u16()), n: body.get_u8() };
            let trees = (0..trees).map(|_| (tree(&mut body), body.get_u128())).collect();
            Ok(ExchangeRequest::Compare(Compare { ring, leaves: leaves_of(leaves)?, trees }))
        }
        Some(Kind::Sums) => {
            no_body(&frame)?;
            let SumsHeader { ring, tree, leaves, of } = parse(&frame)?;
            Ok(ExchangeRequest::Sums(Sums { ring, tree, leaves: leaves_of(leaves)?, of }))
        }
        Some(Kind::Items) => {
            let ItemsHeader { ring, tree, leaves, of, after, until, limit } = parse(&frame)?;
            let leaves = leaves_of(leaves)?;
            if !(1..=MAX_ITEMS as u32).contains(&limit) {
                return Err(DecodeError::Header { reason: format!("a limit of {limit} keys: 1 to {MAX_ITEMS}") });
            }
            let mut body = frame.body;
            let of = leaf_indices(split(&mut body, u32::from(of) * size_of::<u16>() as u32)?, leaves)?;
            let known = hashes(body)?;
            let (after, until) = (cursor_of(after)?, cursor_of(until)?);
            Ok(ExchangeRequest::Items(Items { ring, tree, leaves, of, after, until, known, limit }))
        }
        Some(Kind::Want) => {
            let WantHeader { ring, tree } = parse(&frame)?;
            let (mut body, mut keys) = (frame.body, Vec::new());
            while !body.is_empty() {
                room(keys.len(), MAX_WANTED)?;
                keys.push(take_key(&mut body)?);
            }
            Ok(ExchangeRequest::Want(Want { ring, tree, keys }))
        }
        _ => Err(unexpected(&frame)),
    }
}

pub(super) fn encode_answer(id: u64, answer: &ExchangeAnswer) -> RawFrame {
    let mut body = Vec::new();
    let (kind, header) = match answer {
        ExchangeAnswer::Compared(outcome) => {
            let head = outcome.as_ref().map(|Compared { shards, rebuilding, verdicts }| {
                body.extend(verdicts.iter().map(|verdict| byte_of(*verdict)));
                ComparedHeader { shards: *shards, rebuilding: *rebuilding }
            });
            (Kind::Compared, header(&head))
        }
        ExchangeAnswer::Summed(outcome) => {
            let head = outcome.as_ref().map(|Summed { leaves, sums }| {
                sums.iter().for_each(|sum| body.put_u64(*sum));
                SummedHeader { leaves: leaves.count() }
            });
            (Kind::Summed, header(&head))
        }
        ExchangeAnswer::Itemized(outcome) => {
            let head = outcome.as_ref().map(|Itemized { same, items, rotten, next }| {
                items.iter().for_each(|item| put_item(item, &mut body));
                let known = u16::try_from(same.len()).expect("fewer hashes are named at a time");
                let next = next.as_ref().map(|key| key.as_bytes().clone());
                ItemizedHeader { known, same: bits_of(same), rotten: *rotten, next }
            });
            (Kind::Itemized, header(&head))
        }
        ExchangeAnswer::Wanted(outcome) => (Kind::Wanted, header(outcome)),
    };
    frame(id, kind, header, body.into())
}

pub(super) fn decode_answer(frame: RawFrame) -> Result<ExchangeAnswer, DecodeError> {
    match Kind::of(frame.kind) {
        Some(Kind::Compared) => Ok(ExchangeAnswer::Compared(decode_with(frame, decode_compared)?)),
        Some(Kind::Summed) => Ok(ExchangeAnswer::Summed(decode_with(frame, decode_summed)?)),
        Some(Kind::Itemized) => Ok(ExchangeAnswer::Itemized(decode_with(frame, decode_itemized)?)),
        Some(Kind::Wanted) => {
            let wanted = |wanted: Wanted, body| nothing_left(&body).map(|()| wanted);
            Ok(ExchangeAnswer::Wanted(decode_with(frame, wanted)?))
        }
        _ => Err(unexpected(&frame)),
    }
}

/// Takes header and body together to what they say; a refusal has no body.
fn decode_with<H: serde::de::DeserializeOwned, T>(
    frame: RawFrame,
    decode: impl FnOnce(H, Bytes) -> Result<T, DecodeError>,
) -> Result<Result<T, Refusal>, DecodeError> {
    match parse::<Result<H, Refusal>>(&frame)? {
        Ok(head) => decode(head, frame.body).map(Ok),
        Err(refusal) => no_body(&frame).map(|()| Err(refusal)),
    }
}

fn decode_compared(head: ComparedHeader, body: Bytes) -> Result<Compared, DecodeError> {
    let ComparedHeader { shards, rebuilding } = head;
    if shards == 0 {
        return Err(DecodeError::Header { reason: "a node without shards".into() });
    }
    count(&body, 1, MAX_COMPARED, "verdicts")?;
    let verdicts = body.iter().map(|byte| verdict_of(*byte)).collect::<Result<_, _>>()?;
    Ok(Compared { shards, rebuilding, verdicts })
}

fn decode_summed(head: SummedHeader, mut body: Bytes) -> Result<Summed, DecodeError> {
    let sums = count(&body, size_of::<u64>(), MAX_SUMS, "sums")?;
    let sums = (0..sums).map(|_| body.get_u64()).collect();
    Ok(Summed { leaves: leaves_of(head.leaves)?, sums })
}

fn decode_itemized(head: ItemizedHeader, mut body: Bytes) -> Result<Itemized, DecodeError> {
    let ItemizedHeader { known, same, rotten, next } = head;
    let mut items = Vec::new();
    while !body.is_empty() {
        room(items.len(), MAX_ITEMS)?;
        items.push(take_item(&mut body)?);
    }
    Ok(Itemized { same: same_of(known, &same)?, items, rotten, next: cursor_of(next)? })
}

fn put_item(item: &OtherItem, body: &mut Vec<u8>) {
    body.put_u64(item.hash);
    put_key(&item.key, body);
    let len = item.versions.as_ref().map_or(0, Versions::encoded_len);
    body.put_u16(u16::try_from(len).expect("longer ones are not told"));
    item.versions.iter().for_each(|versions| versions.encode_into(body));
}

fn take_item(body: &mut Bytes) -> Result<OtherItem, DecodeError> {
    let hash = split(body, size_of::<u64>() as u32)?.get_u64();
    let key = take_key(body)?;
    let len = split(body, size_of::<u16>() as u32)?.get_u16();
    if usize::from(len) > OtherItem::MAX_VERSIONS {
        let reason = format!("versions of {len} bytes, at most {} are allowed", OtherItem::MAX_VERSIONS);
        return Err(DecodeError::Body { reason });
    }
    let bytes = split(body, len.into())?;
    let decode =
        |bytes: &[u8]| Versions::decode(bytes).map_err(|error| DecodeError::Body { reason: error.to_string() });
    let versions = if bytes.is_empty() { None } else { Some(decode(&bytes)?) };
    Ok(OtherItem { key, hash, versions })
}

fn bits_of(same: &[bool]) -> Bytes {
    let byte = |bits: &[bool]| (0..).zip(bits).fold(0u8, |byte, (at, bit)| byte | u8::from(*bit) << at);
    same.chunks(8).map(byte).collect::<Vec<u8>>().into()
}

fn same_of(known: u16, bits: &[u8]) -> Result<Vec<bool>, DecodeError> {
    let known = usize::from(known);
    if known > MAX_ITEMS {
        return Err(DecodeError::Header { reason: format!("{known} hashes, at most {MAX_ITEMS} are allowed") });
    }
    let same: Vec<bool> = (0..known).map(|at| bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)).collect();
    if bits_of(&same) != bits {
        return Err(DecodeError::Header { reason: format!("{} bytes are not the bits of {known} hashes", bits.len()) });
    }
    Ok(same)
}

fn byte_of(verdict: TreeVerdict) -> u8 {
    match verdict {
        TreeVerdict::Same => 0,
        TreeVerdict::Differs => 1,
        TreeVerdict::Elsewhere => 2,
        TreeVerdict::Unknown => 3,
        TreeVerdict::NotAReplica => 4,
    }
}

fn verdict_of(byte: u8) -> Result<TreeVerdict, DecodeError> {
    match byte {
        0 => Ok(TreeVerdict::Same),
        1 => Ok(TreeVerdict::Differs),
        2 => Ok(TreeVerdict::Elsewhere),
        3 => Ok(TreeVerdict::Unknown),
        4 => Ok(TreeVerdict::NotAReplica),
        _ => Err(DecodeError::Body { reason: format!("{byte} is no verdict") }),
    }
}

fn leaves_of(count: u32) -> Result<Leaves, DecodeError> {
    let reason = || format!("a tree of {count} leaves: a power of two from {} to {}", Leaves::MIN, Leaves::MAX);
    Leaves::new(count).ok_or_else(|| DecodeError::Header { reason: reason() })
}

/// Ascending, or a page could not say how far it has got.
fn leaf_indices(mut body: Bytes, leaves: Leaves) -> Result<Vec<u16>, DecodeError> {
    let of = count(&body, size_of::<u16>(), MAX_LEAVES, "leaves")?;
    let of: Vec<u16> = (0..of).map(|_| body.get_u16()).collect();
    if let Some(leaf) = of.iter().find(|leaf| u32::from(**leaf) >= leaves.count()) {
        return Err(DecodeError::Body { reason: format!("leaf {leaf} of a tree of {}", leaves.count()) });
    }
    if !of.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::Body { reason: "leaves that do not ascend".into() });
    }
    Ok(of)
}

fn hashes(mut body: Bytes) -> Result<Vec<u64>, DecodeError> {
    let known = count(&body, size_of::<u64>(), MAX_ITEMS, "hashes")?;
    Ok((0..known).map(|_| body.get_u64()).collect())
}

/// How many parts of `each` bytes a body is.
fn count(body: &Bytes, each: usize, max: usize, what: &str) -> Result<usize, DecodeError> {
    let count = body.len() / each;
    if !body.len().is_multiple_of(each) {
        let reason = format!("{} bytes of {what}, of which each has {each}", body.len());
        return Err(DecodeError::Body { reason });
    }
    if count > max {
        return Err(DecodeError::Body { reason: format!("{count} {what}, at most {max} are allowed") });
    }
    Ok(count)
}

/// Whether a list of so many keys takes one more.
pub(super) fn room(keys: usize, max: usize) -> Result<(), DecodeError> {
    if keys < max {
        return Ok(());
    }
    Err(DecodeError::Body { reason: format!("more than {max} keys") })
}

pub(super) fn put_key(key: &TreeKey, body: &mut Vec<u8>) {
    let key = key.as_bytes();
    body.put_u16(u16::try_from(key.len()).expect("a key is much shorter"));
    body.put_slice(key);
}

pub(super) fn take_key(body: &mut Bytes) -> Result<TreeKey, DecodeError> {
    let len = split(body, size_of::<u16>() as u32)?.get_u16();
    key_of(split(body, len.into())?)
}

fn key_of(bytes: Bytes) -> Result<TreeKey, DecodeError> {
    checked_key(bytes).map_err(|reason| DecodeError::Body { reason })
}

/// Cursors stand in headers.
fn cursor_of(bytes: Option<Bytes>) -> Result<Option<TreeKey>, DecodeError> {
    bytes.map(checked_key).transpose().map_err(|reason| DecodeError::Header { reason })
}

fn checked_key(bytes: Bytes) -> Result<TreeKey, String> {
    let len = bytes.len();
    TreeKey::new(bytes).ok_or_else(|| format!("a key of {len} bytes, at most {} are allowed", TreeKey::MAX_LEN))
}
