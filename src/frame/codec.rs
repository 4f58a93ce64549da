//! Messages as frames: the header in msgpack, values and objects in the raw body, so that bytes of users are never
//! parsed or copied on their way through.
//!
//! Every decoder takes whatever a peer may send and answers with a [`DecodeError`], never a panic. Header types are not
//! recursive, so nesting is bounded by them.

mod exchange;
mod last_object;
mod reaping;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

pub use self::last_object::LastObject;
use super::kind::Kind;
use super::raw::RawFrame;
use crate::api::{self, ApiError, PutHeader, Reply, Request, Response, Timing, Trace};
use crate::message::{
    Address, ControlMessage, Coordinate, Coordinated, Fetched, Found, Held, PeerAnswer, PeerRequest, Ranged, Reason,
    Refusal, Replicate, Replicated,
};
use crate::storage::{Page, PageItem, parse_object_key};
use crate::types::{Key, NodeId, PartitionId, RingVersion, Round};
use crate::version::{Digest, Object};

/// Why a frame is no message. The lane that it came on is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No message has this kind here.
    #[error("frame kind {kind:#04x} is not expected on this lane")]
    Kind {
        /// The kind byte.
        kind: u8,
    },
    /// The header is no msgpack of the kind's shape.
    #[error("frame header: {reason}")]
    Header {
        /// What the parser said.
        reason: String,
    },
    /// The body does not hold what the header says.
    #[error("frame body: {reason}")]
    Body {
        /// What is wrong.
        reason: String,
    },
}

/// `A` is an [`Address`].
#[derive(Serialize, Deserialize)]
struct ReplicateHeader<A> {
    to: A,
    reason: Reason,
    hint_for: Option<NodeId>,
    sync: bool,
    round: Round,
    trace: bool,
}

/// `P` is a [`PutHeader`].
#[derive(Serialize, Deserialize)]
struct CoordinateHeader<P> {
    ring: RingVersion,
    partition: PartitionId,
    put: P,
}

#[derive(Serialize, Deserialize)]
struct FetchedHeader {
    outcome: Result<(FoundHeader, Round, bool), Refusal>,
    timing: Option<Timing>,
}

/// A [`Found`] whose object, if any, stands in the body.
#[derive(Serialize, Deserialize)]
enum FoundHeader {
    Nothing,
    Same(Digest),
    Object,
}

#[derive(Serialize, Deserialize)]
struct RangedHeader {
    outcome: Result<PageHeader, Refusal>,
}

#[derive(Serialize, Deserialize)]
struct PageHeader {
    next: Option<Bytes>,
    rebuilding: bool,
}

/// `R` is a [`Response::result`], `L` the lengths of its values, and `T` its trace.
#[derive(Serialize, Deserialize)]
struct ResponseHeader<R, L, T> {
    tick: u64,
    result: R,
    lengths: L,
    trace: T,
}

/// Of these values.
struct Lengths<'a>(&'a [Bytes]);

impl Serialize for Lengths<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = |value: &Bytes| u32::try_from(value.len());
        let len = |value| len(value).expect("a value is shorter than a frame, which has a u32 length");
        serializer.collect_seq(self.0.iter().map(len))
    }
}

/// The frame that opens a shard's lane: which of the dialer's shards, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenShard {
    /// The shard's index at the dialer.
    pub shard: u16,
}

/// The frame that opens a client's lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenClient {
    /// [`crate::message::PROTOCOL`].
    pub protocol: u16,
}

/// What the first frame on a lane says that the lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Control messages.
    Control,
    /// A shard's requests.
    Shard(OpenShard),
    /// A client's requests.
    Client(OpenClient),
}

fn header<T: Serialize>(value: &T) -> Bytes {
    // Nearly all are shorter: one allocation, of the length that it has.
    let mut short = [0; 256];
    let mut rest = &mut short[..];
    if rmp_serde::encode::write(&mut rest, value).is_ok() {
        let left = rest.len();
        return Bytes::copy_from_slice(&short[..short.len() - left]);
    }
    rmp_serde::to_vec(value).expect("header types have no maps with odd keys and no failing serializers").into()
}

fn parse<T: DeserializeOwned>(frame: &RawFrame) -> Result<T, DecodeError> {
    parse_bytes(&frame.header)
}

fn parse_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(|error| DecodeError::Header { reason: error.to_string() })
}

fn object(body: Bytes) -> Result<Object, DecodeError> {
    Object::decode(body).map_err(|error| DecodeError::Body { reason: error.to_string() })
}

fn no_body(frame: &RawFrame) -> Result<(), DecodeError> {
    nothing_left(&frame.body)
}

fn nothing_left(body: &Bytes) -> Result<(), DecodeError> {
    match body.len() {
        0 => Ok(()),
        len => Err(DecodeError::Body { reason: format!("{len} bytes where none belong") }),
    }
}

fn frame(id: u64, kind: Kind, header: Bytes, body: Bytes) -> RawFrame {
    RawFrame { id, kind: kind as u8, header, body }
}

fn unexpected(frame: &RawFrame) -> DecodeError {
    DecodeError::Kind { kind: frame.kind }
}

/// The first frame of a lane.
pub fn encode_opening(opening: &Opening) -> RawFrame {
    let (kind, header) = match opening {
        Opening::Control => (Kind::OpenControl, Bytes::new()),
        Opening::Shard(open) => (Kind::OpenShard, header(open)),
        Opening::Client(open) => (Kind::OpenClient, header(open)),
    };
    frame(0, kind, header, Bytes::new())
}

/// The first frame of a lane.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn decode_opening(frame: &RawFrame) -> Result<Opening, DecodeError> {
    no_body(frame)?;
    match Kind::of(frame.kind) {
        Some(Kind::OpenControl) => Ok(Opening::Control),
        Some(Kind::OpenShard) => Ok(Opening::Shard(parse(frame)?)),
        Some(Kind::OpenClient) => Ok(Opening::Client(parse(frame)?)),
        _ => Err(unexpected(frame)),
    }
}

/// A message between controls; an answer carries the id of what it answers. It stands in the body: the word of many
/// members is longer than a header may be.
pub fn encode_control(id: u64, message: &ControlMessage) -> RawFrame {
    let (kind, body) = match message {
        ControlMessage::Hello(message) => (Kind::Hello, header(message)),
        ControlMessage::HelloAnswer(message) => (Kind::HelloAnswer, header(message)),
        ControlMessage::GossipSyn(message) => (Kind::GossipSyn, header(message)),
        ControlMessage::GossipAck(message) => (Kind::GossipAck, header(message)),
        ControlMessage::GossipDelta(message) => (Kind::GossipDelta, header(message)),
        ControlMessage::Ping(message) => (Kind::Ping, header(message)),
        ControlMessage::Pong(message) => (Kind::Pong, header(message)),
    };
    frame(id, kind, Bytes::new(), body)
}

/// A message between controls.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn decode_control(frame: &RawFrame) -> Result<ControlMessage, DecodeError> {
    let body = &frame.body;
    match Kind::of(frame.kind) {
        Some(Kind::Hello) => Ok(ControlMessage::Hello(parse_bytes(body)?)),
        Some(Kind::HelloAnswer) => Ok(ControlMessage::HelloAnswer(parse_bytes(body)?)),
        Some(Kind::GossipSyn) => Ok(ControlMessage::GossipSyn(parse_bytes(body)?)),
        Some(Kind::GossipAck) => Ok(ControlMessage::GossipAck(parse_bytes(body)?)),
        Some(Kind::GossipDelta) => Ok(ControlMessage::GossipDelta(parse_bytes(body)?)),
        Some(Kind::Ping) => Ok(ControlMessage::Ping(parse_bytes(body)?)),
        Some(Kind::Pong) => Ok(ControlMessage::Pong(parse_bytes(body)?)),
        _ => Err(unexpected(frame)),
    }
}

/// A shard's request to another.
pub fn encode_request(id: u64, request: &PeerRequest) -> RawFrame {
    encode_request_after(id, request, &mut LastObject::default())
}

/// A request of several that may bring the same object.
pub fn encode_request_after(id: u64, request: &PeerRequest, last: &mut LastObject) -> RawFrame {
    match request {
        PeerRequest::Coordinate(Coordinate { ring, partition, put }) => {
            let head = CoordinateHeader { ring: *ring, partition: *partition, put: &put.header };
            frame(id, Kind::Coordinate, header(&head), put.value.clone().unwrap_or_default())
        }
        PeerRequest::Replicate(Replicate { to, reason, hint_for, sync, round, trace, object }) => {
            let (reason, hint_for, sync, round, trace) = (*reason, *hint_for, *sync, *round, *trace);
            let head = ReplicateHeader { to, reason, hint_for, sync, round, trace };
            frame(id, Kind::Replicate, header(&head), last.encode(object))
        }
        PeerRequest::Fetch(fetch) => frame(id, Kind::Fetch, header(fetch), Bytes::new()),
        PeerRequest::Range(range) => frame(id, Kind::Range, header(range), Bytes::new()),
        PeerRequest::Exchange(request) => exchange::encode_request(id, request),
        PeerRequest::Reaping(request) => reaping::encode_request(id, request),
        PeerRequest::Rounds(asked) => reaping::encode_ask(id, asked),
    }
}

/// A shard's request to another.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn decode_request(frame: RawFrame) -> Result<PeerRequest, DecodeError> {
    match Kind::of(frame.kind) {
        Some(Kind::Coordinate) => {
            let CoordinateHeader::<PutHeader> { ring, partition, put } = parse(&frame)?;
            Ok(PeerRequest::Coordinate(Coordinate { ring, partition, put: put_of(put, frame.body)? }))
        }
        Some(Kind::Replicate) => {
            let ReplicateHeader::<Address> { to, reason, hint_for, sync, round, trace } = parse(&frame)?;
            let object = Arc::new(object(frame.body)?);
            Ok(PeerRequest::Replicate(Replicate { to, reason, hint_for, sync, round, trace, object }))
        }
        Some(Kind::Fetch) => {
            no_body(&frame)?;
            Ok(PeerRequest::Fetch(parse(&frame)?))
        }
        Some(Kind::Range) => {
            no_body(&frame)?;
            Ok(PeerRequest::Range(parse(&frame)?))
        }
        Some(Kind::Reaping) => Ok(PeerRequest::Reaping(reaping::decode_request(frame)?)),
        Some(Kind::AskRounds) => Ok(PeerRequest::Rounds(reaping::decode_ask(&frame)?)),
        _ => Ok(PeerRequest::Exchange(exchange::decode_request(frame)?)),
    }
}

fn put_of(header: PutHeader, body: Bytes) -> Result<api::Put, DecodeError> {
    if header.delete && !body.is_empty() {
        return Err(DecodeError::Body { reason: "a delete carries no value".into() });
    }
    let value = (!header.delete).then_some(body);
    Ok(api::Put { header, value })
}

/// A shard's answer to another.
pub fn encode_answer(id: u64, answer: &PeerAnswer) -> RawFrame {
    match answer {
        PeerAnswer::Coordinated(coordinated) => frame(id, Kind::Coordinated, header(coordinated), Bytes::new()),
        PeerAnswer::Replicated(replicated) => frame(id, Kind::Replicated, header(replicated), Bytes::new()),
        PeerAnswer::Fetched(Fetched { outcome, timing }) => {
            let (outcome, body) = match outcome {
                Ok(Held { found, round, rebuilding }) => {
                    let (found, body) = match found {
                        Found::Nothing => (FoundHeader::Nothing, Bytes::new()),
                        Found::Same(digest) => (FoundHeader::Same(*digest), Bytes::new()),
                        Found::Object(object) => (FoundHeader::Object, object.encode()),
                    };
                    (Ok((found, *round, *rebuilding)), body)
                }
                Err(refusal) => (Err(refusal.clone()), Bytes::new()),
            };
            frame(id, Kind::Fetched, header(&FetchedHeader { outcome, timing: *timing }), body)
        }
        PeerAnswer::Ranged(ranged) => encode_ranged(id, ranged),
        PeerAnswer::Exchange(answer) => exchange::encode_answer(id, answer),
        PeerAnswer::Reaping(said) => reaping::encode_answer(id, said),
        PeerAnswer::Rounds(told) => reaping::encode_told(id, told),
    }
}

/// The body holds, for each item, `cursor_len u32 | object_len u32 | cursor | object`: a page of long keys is longer than a
/// header may be. The key is the cursor's.
fn encode_ranged(id: u64, ranged: &Ranged) -> RawFrame {
    let mut body = Vec::new();
    let outcome = match &ranged.outcome {
        Ok((page, rebuilding)) => {
            for item in &page.items {
                let object = item.object.encode();
                let lengths = [item.cursor.len(), object.len()];
                for len in lengths {
                    let len = u32::try_from(len).expect("keys and objects are shorter than a frame");
                    body.extend_from_slice(&len.to_be_bytes());
                }
                body.extend_from_slice(&item.cursor);
                body.extend_from_slice(&object);
            }
            Ok(PageHeader { next: page.next.clone(), rebuilding: *rebuilding })
        }
        Err(refusal) => Err(refusal.clone()),
    };
    frame(id, Kind::Ranged, header(&RangedHeader { outcome }), body.into())
}

/// A shard's answer to another.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn decode_answer(frame: RawFrame) -> Result<PeerAnswer, DecodeError> {
    match Kind::of(frame.kind) {
        Some(Kind::Coordinated) => {
            no_body(&frame)?;
            Ok(PeerAnswer::Coordinated(parse::<Coordinated>(&frame)?))
        }
        Some(Kind::Replicated) => {
            no_body(&frame)?;
            Ok(PeerAnswer::Replicated(parse::<Replicated>(&frame)?))
        }
        Some(Kind::Fetched) => {
            let FetchedHeader { outcome, timing } = parse(&frame)?;
            let outcome = match outcome {
                Ok((found, round, rebuilding)) => {
                    if !matches!(found, FoundHeader::Object) {
                        no_body(&frame)?;
                    }
                    let found = match found {
                        FoundHeader::Nothing => Found::Nothing,
                        FoundHeader::Same(digest) => Found::Same(digest),
                        FoundHeader::Object => Found::Object(Arc::new(object(frame.body)?)),
                    };
                    Ok(Held { found, round, rebuilding })
                }
                Err(refusal) => Err(refusal),
            };
            Ok(PeerAnswer::Fetched(Fetched { outcome, timing }))
        }
        Some(Kind::Ranged) => decode_ranged(frame),
        Some(Kind::ReapingSaid) => Ok(PeerAnswer::Reaping(reaping::decode_answer(&frame)?)),
        Some(Kind::RoundsTold) => Ok(PeerAnswer::Rounds(reaping::decode_told(&frame)?)),
        _ => Ok(PeerAnswer::Exchange(exchange::decode_answer(frame)?)),
    }
}

fn decode_ranged(frame: RawFrame) -> Result<PeerAnswer, DecodeError> {
    let head = match parse::<RangedHeader>(&frame)?.outcome {
        Ok(head) => head,
        Err(refusal) => return Ok(PeerAnswer::Ranged(Ranged { outcome: Err(refusal) })),
    };
    let mut body = frame.body;
    let mut items = Vec::new();
    while !body.is_empty() {
        let (cursor, object_len) = (take_len(&mut body)?, take_len(&mut body)?);
        let cursor = split(&mut body, cursor)?;
        let place = parse_object_key(&cursor).map_err(|error| DecodeError::Body { reason: error.to_string() })?;
        let key =
            Key::new(cursor.slice_ref(place.key)).map_err(|error| DecodeError::Body { reason: error.to_string() })?;
        items.push(PageItem { cursor, key, object: object(split(&mut body, object_len)?)? });
    }
    Ok(PeerAnswer::Ranged(Ranged { outcome: Ok((Page { items, next: head.next }, head.rebuilding)) }))
}

fn take_len(body: &mut Bytes) -> Result<u32, DecodeError> {
    let bytes = split(body, 4)?;
    Ok(u32::from_be_bytes(bytes[..].try_into().expect("four bytes were split off")))
}

fn split(body: &mut Bytes, len: u32) -> Result<Bytes, DecodeError> {
    let len = len as usize;
    if len > body.len() {
        return Err(DecodeError::Body { reason: format!("{len} bytes announced, {} left", body.len()) });
    }
    Ok(body.split_to(len))
}

/// A client's request.
pub fn encode_client_request(id: u64, request: &Request) -> RawFrame {
    let (kind, header, body) = match request {
        Request::Get(get) => (Kind::Get, header(get), Bytes::new()),
        Request::Put(put) => (Kind::Put, header(&put.header), put.value.clone().unwrap_or_default()),
        Request::Scan(scan) => (Kind::Scan, header(scan), Bytes::new()),
        Request::Where(whereabouts) => (Kind::Where, header(whereabouts), Bytes::new()),
        Request::Ring => (Kind::Ring, Bytes::new(), Bytes::new()),
        Request::Status => (Kind::Status, Bytes::new(), Bytes::new()),
        Request::Hints(order) => (Kind::Hints, header(order), Bytes::new()),
        Request::Explain(explain) => (Kind::Explain, header(explain), Bytes::new()),
        Request::Repair(order) => (Kind::Repair, header(order), Bytes::new()),
        Request::Tombstones(order) => (Kind::Tombstones, header(order), Bytes::new()),
    };
    frame(id, kind, header, body)
}

/// A client's request.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn decode_client_request(frame: RawFrame) -> Result<Request, DecodeError> {
    let kind = Kind::of(frame.kind);
    if kind != Some(Kind::Put) {
        no_body(&frame)?;
    }
    match kind {
        Some(Kind::Get) => Ok(Request::Get(parse(&frame)?)),
        Some(Kind::Put) => Ok(Request::Put(put_of(parse(&frame)?, frame.body)?)),
        Some(Kind::Scan) => Ok(Request::Scan(parse(&frame)?)),
        Some(Kind::Where) => Ok(Request::Where(parse(&frame)?)),
        Some(Kind::Ring) => Ok(Request::Ring),
        Some(Kind::Status) => Ok(Request::Status),
        Some(Kind::Hints) => Ok(Request::Hints(parse(&frame)?)),
        Some(Kind::Explain) => Ok(Request::Explain(parse(&frame)?)),
        Some(Kind::Repair) => Ok(Request::Repair(parse(&frame)?)),
        Some(Kind::Tombstones) => Ok(Request::Tombstones(parse(&frame)?)),
        _ => Err(unexpected(&frame)),
    }
}

/// The answer to a client, with the server's tick (microseconds of its monotonic clock).
pub fn encode_response(id: u64, tick: u64, response: &Response) -> RawFrame {
    let Response { result, values, trace } = response;
    let head = header(&ResponseHeader { tick, result, lengths: Lengths(values), trace });
    let body = match values.as_slice() {
        [] => Bytes::new(),
        [value] => value.clone(),
        values => {
            let mut body = BytesMut::with_capacity(values.iter().map(Bytes::len).sum());
            values.iter().for_each(|value| body.extend_from_slice(value));
            body.freeze()
        }
    };
    frame(id, Kind::Response, head, body)
}

/// The answer to a client, and the server's tick.
///
/// # Errors
/// [`DecodeError`] if it is none.
pub fn decode_response(frame: RawFrame) -> Result<(u64, Response), DecodeError> {
    if Kind::of(frame.kind) != Some(Kind::Response) {
        return Err(unexpected(&frame));
    }
    type Header = ResponseHeader<Result<Reply, ApiError>, Vec<u32>, Option<Box<Trace>>>;
    let Header { tick, result, lengths, trace } = parse(&frame)?;
    let mut body = frame.body;
    let values = lengths.into_iter().map(|len| split(&mut body, len)).collect::<Result<Vec<_>, _>>()?;
    nothing_left(&body)?;
    Ok((tick, Response { result, values, trace }))
}
