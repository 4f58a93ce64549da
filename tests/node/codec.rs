//! Frames: every message comes back as it went, and no bytes whatever make a decoder panic.

#[path = "codec/exchange.rs"]
mod exchange;
#[path = "codec/orders.rs"]
mod orders;
#[path = "codec/reaping.rs"]
mod reaping;

use std::sync::Arc;

use bytes::Bytes;
use dynkv::antientropy::HintBacklog;
use dynkv::api::{
    self, ApiError, Deadline, Explain, ExplainReply, GetReply, HandedOn, HintKept, Holding, Phase, Receipt,
    RepairStatus, Reply, Request, Response, Role, ScanItem, ScanReply, SiblingMeta, Span, SpanOutcome, StatusReply,
    Timing, Trace, WhereReply, Why,
};
use dynkv::frame::codec;
use dynkv::frame::raw::RawFrame;
use dynkv::gossip::{Ballot, Known, MemberState};
use dynkv::message::{
    Address, ControlMessage, Coordinate, Coordinated, Fetch, Fetched, Found, GossipAck, GossipDelta, GossipSyn, Held,
    Hello, HelloAnswer, HelloRefusal, PeerAnswer, PeerRequest, Ping, Pong, Range, Ranged, Reason, Refusal, Replicate,
    Replicated,
};
use dynkv::quorum::{Ack, Candidate, Condition, Forecast, Level};
use dynkv::sim::{from_bytes, to_bytes};
use dynkv::storage::{Page, PageItem, object_key};
use dynkv::types::{
    BatchNumber, Bucket, ClusterId, DiskId, Generation, Key, NodeId, Nonce, PartitionId, RingVersion, Round, Token,
    WriteId,
};
use dynkv::version::{Actor, Body, CausalContext, Digest, Dot, Object, Sibling, Versions};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Key> {
    proptest::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Key::new(bytes).unwrap())
}

fn bucket() -> impl Strategy<Value = Bucket> {
    "[a-z]{1,8}".prop_map(|name| Bucket::new(&name).unwrap())
}

fn level() -> impl Strategy<Value = Option<Level>> {
    prop_oneof![
        Just(None),
        Just(Some(Level::One)),
        Just(Some(Level::Quorum)),
        Just(Some(Level::All)),
        (1u8..=16).prop_map(|count| Some(Level::Number(count))),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    any::<(u32, u64)>().prop_map(|(remaining_ms, server_tick)| Deadline { remaining_ms, server_tick })
}

fn dot() -> impl Strategy<Value = Dot> {
    (any::<u64>(), 1..u64::MAX).prop_map(|(actor, counter)| Dot { actor: Actor(actor), counter })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 16]>().prop_map(Digest)
}

fn object() -> impl Strategy<Value = Object> {
    let write = (dot(), any::<(u128, u64, u64)>(), proptest::option::of(bytes()));
    proptest::collection::vec(write, 1..4).prop_map(|writes| {
        let mut object: Option<Object> = None;
        for (dot, (write_id, node, wall_ms), value) in writes {
            if object.as_ref().is_some_and(|object| object.context().contains(dot)) {
                continue;
            }
            let body = value.map_or(Body::Tombstone, Body::Value);
            let sibling = Sibling { dot, write_id: WriteId(write_id), node: NodeId(node), wall_ms, body };
            object = Some(Object::update(object.as_ref(), &CausalContext::default(), sibling));
        }
        object.expect("the first write is unknown")
    })
}

fn put() -> impl Strategy<Value = api::Put> {
    let header = (bucket(), key(), any::<u128>(), proptest::option::of(bytes()), deadline());
    let quorum = (level(), level(), proptest::option::of(0u8..=16), any::<(bool, bool)>());
    (header, quorum, proptest::option::of(bytes())).prop_map(|(header, (w, pw, dw, (strict, trace)), value)| {
        let (bucket, key, write_id, context, deadline) = header;
        let delete = value.is_none();
        let write_id = WriteId(write_id);
        let header = api::PutHeader { bucket, key, write_id, context, delete, w, pw, dw, strict, trace, deadline };
        api::Put { header, value }
    })
}

fn client_request() -> impl Strategy<Value = Request> {
    let get =
        (bucket(), key(), (level(), level()), any::<(bool, bool, bool)>(), proptest::option::of(bytes()), deadline());
    let get = get.prop_map(|(bucket, key, (r, pr), (strict, blocking_repair, trace), after, deadline)| {
        Request::Get(api::Get { bucket, key, r, pr, strict, blocking_repair, after, trace, deadline })
    });
    let scan = (bucket(), any::<(u16, u32, bool)>(), proptest::option::of(bytes()), bytes(), level(), deadline());
    let scan = scan.prop_map(|(bucket, (partition, limit, keys_only), after, prefix, r, deadline)| {
        let partition = PartitionId(partition);
        Request::Scan(api::Scan { bucket, partition, after, prefix, limit, keys_only, r, deadline })
    });
    let whereabouts = (bucket(), key(), deadline())
        .prop_map(|(bucket, key, deadline)| Request::Where(api::Where { bucket, key, deadline }));
    let plain = prop_oneof![Just(Request::Ring), Just(Request::Status), orders::order()];
    let levels = (level(), level(), level(), level(), proptest::option::of(0u8..=16), any::<bool>());
    let explain = (bucket(), key(), levels).prop_map(|(bucket, key, (r, pr, w, pw, dw, strict))| {
        Request::Explain(Explain { bucket, key, r, pr, w, pw, dw, strict })
    });
    prop_oneof![get, put().prop_map(Request::Put), scan, whereabouts, plain, explain]
}

fn address() -> impl Strategy<Value = Address> {
    (any::<(u64, u16)>(), bucket(), key()).prop_map(|((ring, partition), bucket, key)| Address {
        ring: RingVersion(ring),
        partition: PartitionId(partition),
        bucket,
        key,
    })
}

fn peer_request() -> impl Strategy<Value = PeerRequest> {
    let coordinate = (any::<(u64, u16)>(), put()).prop_map(|((ring, partition), put)| {
        PeerRequest::Coordinate(Coordinate { ring: RingVersion(ring), partition: PartitionId(partition), put })
    });
    let reason = prop_oneof![Just(Reason::Write), Just(Reason::Repair), Just(Reason::Hint), Just(Reason::Exchange)];
    let replicate = (address(), reason, any::<(Option<u64>, bool, u64, bool)>(), object());
    let replicate = replicate.prop_map(|(to, reason, (hint_for, sync, round, trace), object)| {
        let (hint_for, round, object) = (hint_for.map(NodeId), Round(round), Arc::new(object));
        PeerRequest::Replicate(Replicate { to, reason, hint_for, sync, round, trace, object })
    });
    let fetch = (address(), proptest::option::of(digest()), any::<(bool, bool, bool)>());
    let fetch = fetch.prop_map(|(of, known, (stand_in, hedge, trace))| {
        PeerRequest::Fetch(Fetch { of, known, stand_in, hedge, trace })
    });
    let range = (address(), bytes(), proptest::option::of(bytes()), any::<u32>());
    let range = range.prop_map(|(at, prefix, after, limit)| {
        let Address { ring, partition, bucket, .. } = at;
        PeerRequest::Range(Range { ring, partition, bucket, prefix, after, limit })
    });
    prop_oneof![
        coordinate,
        replicate,
        fetch,
        range,
        exchange::request().prop_map(PeerRequest::Exchange),
        reaping::request()
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        any::<u64>().prop_map(|ring| Refusal::Ring(RingVersion(ring))),
        Just(Refusal::NotAReplica),
        Just(Refusal::Overloaded),
        Just(Refusal::ReadOnly),
        Just(Refusal::Storage),
        Just(Refusal::Newer),
        Just(Refusal::NotReady),
        Just(Refusal::Busy),
        any::<u64>().prop_map(|round| Refusal::Fenced(Round(round))),
    ]
}

fn api_error() -> impl Strategy<Value = ApiError> {
    prop_oneof![
        ".*".prop_map(|reason| ApiError::BadRequest { reason }),
        any::<(u8, u8)>().prop_map(|(acks, w)| ApiError::Indeterminate { acks, w, detail: "n2: no answer".into() }),
        any::<(u64, u64)>().prop_map(|(len, max)| ApiError::ValueTooLarge { len, max }),
        Just(ApiError::WriteIdReused),
        Just(ApiError::Overloaded),
        (any::<(u8, u8)>(), ".{0,8}").prop_map(|((able, wanted), detail)| ApiError::Unavailable {
            able,
            wanted,
            detail
        }),
        ".{0,8}".prop_map(|detail| ApiError::Stale { detail }),
    ]
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let acks = proptest::collection::vec(any::<(u8, u64, bool)>(), 0..4);
    (acks, any::<(u8, u8, u64)>(), bytes(), dot()).prop_map(|(acks, (n, w, coordinator), context, dot)| {
        let ack = |(slot, node, synced)| Ack { slot, node: NodeId(node), stand_in: synced, synced };
        let acks: Vec<Ack> = acks.into_iter().map(ack).collect();
        let kept = |ack: &Ack| HintKept { holder: ack.node, target: NodeId(n.into()) };
        let hints = acks.iter().filter(|ack| ack.stand_in).map(kept).collect();
        Receipt { acks, n, w, hints, context, dot, coordinator: NodeId(coordinator) }
    })
}

fn timing() -> impl Strategy<Value = Option<Timing>> {
    let timing = any::<(u64, u64)>().prop_map(|(queue_us, store_us)| Timing { queue_us, store_us });
    proptest::option::of(timing)
}

fn trace() -> impl Strategy<Value = Option<Box<Trace>>> {
    let role = prop_oneof![Just(Role::Own), Just(Role::Primary), Just(Role::StandIn)];
    let why = [Why::First, Why::Hedge, Why::StandIn, Why::Widened, Why::Repair, Why::Coordinate];
    let outcome = prop_oneof![
        Just(SpanOutcome::Counted),
        Just(SpanOutcome::SameDigest),
        Just(SpanOutcome::Heard),
        ".{0,8}".prop_map(|reason| SpanOutcome::Refused { reason }),
    ];
    let times = (any::<(u64, Option<u64>)>(), proptest::collection::vec(any::<u64>(), 0..3), timing());
    let span = (any::<(u64, u8, Option<u64>)>(), role, proptest::sample::select(why.to_vec()), times);
    let span = (span, proptest::option::of(outcome)).prop_map(|((ids, role, why, times), outcome)| {
        let ((node, slot, hint_for), ((asked_us, answered_us), again_us, timing)) = (ids, times);
        let (node, hint_for) = (NodeId(node), hint_for.map(NodeId));
        Span { node, slot, role, why, asked_us, again_us, answered_us, timing, outcome, hint_for }
    });
    let phases = any::<(u64, u64, Option<u64>, Option<u64>, Option<u64>, u64, Option<(u64, u64)>)>();
    let trace = (phases, proptest::collection::vec(span, 0..4)).prop_map(|(phases, spans)| {
        let (coordinator, queued_us, store_us, written_us, synced_us, answered_us, handed_on) = phases;
        let handed_on =
            handed_on.map(|(by, sent_us)| HandedOn { by: NodeId(by), queued_us, sent_us, answered_us: sent_us });
        let hints = spans.iter().map(|span| HintKept { holder: NodeId(1), target: span.node }).collect();
        let coordinator = NodeId(coordinator);
        Trace { coordinator, handed_on, queued_us, store_us, written_us, synced_us, answered_us, spans, hints }
    });
    proptest::option::of(trace.prop_map(Box::new))
}

fn page() -> impl Strategy<Value = Page> {
    let item = (any::<(u16, u64)>(), bucket(), key(), object());
    let item = item.prop_map(|((partition, token), bucket, key, object)| {
        let cursor = object_key(PartitionId(partition), Token(token), &bucket, &key).into();
        PageItem { cursor, key, object }
    });
    (proptest::collection::vec(item, 0..4), proptest::option::of(bytes()))
        .prop_map(|(items, next)| Page { items, next })
}

fn peer_answer() -> impl Strategy<Value = PeerAnswer> {
    let found = prop_oneof![
        Just(Found::Nothing),
        digest().prop_map(Found::Same),
        object().prop_map(|object| Found::Object(Arc::new(object))),
    ];
    let held = (found, any::<(u64, bool)>()).prop_map(|(found, (round, rebuilding))| Held {
        found,
        round: Round(round),
        rebuilding,
    });
    prop_oneof![
        (proptest::result::maybe_ok(receipt(), api_error()), trace())
            .prop_map(|(outcome, trace)| PeerAnswer::Coordinated(Coordinated { outcome, trace })),
        (proptest::result::maybe_ok(any::<bool>(), refusal()), timing())
            .prop_map(|(outcome, timing)| PeerAnswer::Replicated(Replicated { outcome, timing })),
        (proptest::result::maybe_ok(held, refusal()), timing())
            .prop_map(|(outcome, timing)| PeerAnswer::Fetched(Fetched { outcome, timing })),
        proptest::result::maybe_ok((page(), any::<bool>()), refusal())
            .prop_map(|outcome| PeerAnswer::Ranged(Ranged { outcome })),
        exchange::answer().prop_map(PeerAnswer::Exchange),
        reaping::answer(),
    ]
}

fn sibling() -> impl Strategy<Value = (SiblingMeta, Option<Bytes>)> {
    (dot(), any::<(u128, u64, u64)>(), proptest::option::of(bytes())).prop_map(|(dot, (id, node, wall_ms), value)| {
        let len = value.as_ref().map(|value| u32::try_from(value.len()).unwrap());
        (SiblingMeta { dot, write_id: WriteId(id), node: NodeId(node), wall_ms, len }, value)
    })
}

fn response() -> impl Strategy<Value = Response> {
    let get = (proptest::collection::vec(sibling(), 0..4), proptest::option::of(bytes()), any::<(u8, u8)>());
    let get = get.prop_map(|(siblings, context, (n, r))| {
        let (siblings, values): (Vec<_>, Vec<_>) = siblings.into_iter().unzip();
        let repaired = vec![NodeId(n.into())];
        let reply = GetReply { siblings, context, acks: Vec::new(), repaired, n, r };
        Response::of(Ok(Reply::Get(reply)), values.into_iter().flatten().collect())
    });
    let scan = (proptest::collection::vec((key(), sibling(), bytes()), 0..4), proptest::option::of(bytes()));
    let scan = scan.prop_map(|(items, next)| {
        let values = items.iter().filter_map(|(_, (_, value), _)| value.clone()).collect();
        let item = |(key, (meta, _), context)| ScanItem { key, siblings: vec![meta], context };
        let items = items.into_iter().map(item).collect();
        Response::of(Ok(Reply::Scan(ScanReply { items, next })), values)
    });
    let whereabouts = (any::<(u64, u16, u64)>(), sibling()).prop_map(|((token, partition, node), (meta, _))| {
        let version = Holding::Version { digest: "00ff".into(), siblings: vec![meta] };
        let silent = Holding::NoAnswer { reason: "no answer".into() };
        let slots = vec![(NodeId(node), version), (NodeId(1), Holding::Nothing), (NodeId(2), silent)];
        let reply = WhereReply { token, partition: PartitionId(partition), slots, stand_ins: vec![NodeId(3)] };
        Response::plain(Reply::Where(reply))
    });
    let put = receipt().prop_map(|receipt| Response::plain(Reply::Put(receipt)));
    let status = (proptest::collection::vec(backlog(), 0..4), proptest::option::of(orders::repair()));
    let status = status.prop_map(|(hints, repair)| status_of(hints, repair));
    let explain = any::<(u64, u8, u8, bool)>().prop_map(|(node, n, slot, succeeds)| {
        let (node, reason) = (NodeId(node), "unavailable".to_owned());
        let forecast = Forecast { succeeds, reason, margin: n, asked: vec![(slot, node)] };
        let primary = Candidate { node, slot: Some(slot), condition: Condition::Silent, rebuilding: succeeds };
        let candidates = vec![primary, Candidate { slot: None, condition: Condition::Itself, ..primary }];
        let (token, partition, read, write) = (7, PartitionId(1), forecast.clone(), forecast);
        let (coordinator, r, w) = (node, (n, slot), (slot, n, n));
        let reply = ExplainReply { node, coordinator, token, partition, n, r, w, candidates, read, write };
        Response::plain(Reply::Explain(Box::new(reply)))
    });
    let response = prop_oneof![
        get,
        scan,
        whereabouts,
        put,
        orders::ordered(),
        status,
        explain,
        api_error().prop_map(Response::error)
    ];
    (response, trace()).prop_map(|(response, trace)| Response { trace, ..response })
}

fn backlog() -> impl Strategy<Value = HintBacklog> {
    any::<[u64; 7]>().prop_map(|[target, hints, counted, bytes, oldest_wall_ms, replayed, rate]| HintBacklog {
        target: NodeId(target),
        hints,
        counted,
        bytes,
        oldest_wall_ms,
        replayed,
        rate,
    })
}

fn status_of(hints: Vec<HintBacklog>, repair: Option<RepairStatus>) -> Response {
    Response::plain(Reply::Status(Box::new(StatusReply {
        node: NodeId(1),
        name: "n1".into(),
        cluster: Some(ClusterId([7; 16])),
        cluster_name: "dev".into(),
        ring_version: None,
        phase: Phase::ReadOnly,
        waiting_for: String::new(),
        uptime_s: 1,
        keys: 2,
        disk_bytes: 3,
        free_bytes: 4,
        capacity_bytes: 5,
        members: Vec::new(),
        hints,
        hints_counted: true,
        repair,
    })))
}

fn member() -> impl Strategy<Value = MemberState> {
    let ballot = proptest::option::of(any::<(u32, [u8; 16], Option<[u8; 16]>)>());
    let numbers = any::<(u64, u64, u64, u64, u32, u64, u64, bool)>();
    (numbers, ballot, proptest::option::of(any::<(u64, [u8; 16])>())).prop_map(|(numbers, ballot, ring)| {
        let (node, generation, version, heartbeat, weight, disk, synced, rebuilding) = numbers;
        MemberState {
            node: NodeId(node),
            generation: Generation(generation),
            version,
            heartbeat,
            name: "n1".into(),
            zone: "default".into(),
            weight,
            address: "10.0.0.1:7400".into(),
            disk: DiskId(disk),
            ballot: ballot.map(|(expect, terms, vote)| Ballot { expect, terms, vote }),
            ring: ring.map(|(version, digest)| (RingVersion(version), digest)),
            rebuilding,
            synced: BatchNumber(synced),
        }
    })
}

fn control() -> impl Strategy<Value = ControlMessage> {
    let hello = any::<(u16, Option<[u8; 16]>, u64, u64, u64, u64, u64, u64, bool)>().prop_map(|hello| {
        let (protocol, cluster, node, disk, stored, generation, nonce, recovered, _) = hello;
        ControlMessage::Hello(Hello {
            protocol,
            cluster: cluster.map(ClusterId),
            node: NodeId(node),
            name: "n1".into(),
            disk: DiskId(disk),
            stored: Generation(stored),
            generation: Generation(generation),
            nonce: Nonce(nonce),
            recovered: BatchNumber(recovered),
            rebuilding: recovered % 2 == 0,
            took_over: Generation(generation / 2),
        })
    });
    let welcome = any::<(u64, u64, u64, bool)>().prop_map(|(node, disk, generation, rebuilding)| {
        let (node, disk, generation) = (NodeId(node), DiskId(disk), Generation(generation));
        ControlMessage::HelloAnswer(HelloAnswer::Welcome { node, name: "n2".into(), disk, generation, rebuilding })
    });
    let refused = any::<(u64, u64)>().prop_map(|(node, generation)| {
        let refusal = HelloRefusal::BoundTo { node: NodeId(node), generation: Generation(generation) };
        ControlMessage::HelloAnswer(HelloAnswer::Refused(refusal))
    });
    let digest = || {
        let known = |(node, generation, version, heartbeat, synced): (u64, u64, u64, u64, u64)| Known {
            node: NodeId(node),
            disk: dynkv::types::DiskId(node ^ heartbeat),
            generation: Generation(generation),
            version,
            heartbeat,
            synced: BatchNumber(synced),
        };
        proptest::collection::vec(any::<(u64, u64, u64, u64, u64)>().prop_map(known), 0..4)
    };
    let ring = || proptest::option::of(any::<u64>().prop_map(RingVersion));
    let delta = || proptest::collection::vec(member(), 0..3);
    let layout = || proptest::option::of(bytes());
    let syn = (digest(), ring()).prop_map(|(digest, ring)| ControlMessage::GossipSyn(GossipSyn { digest, ring }));
    let ack = (delta(), digest(), ring(), layout())
        .prop_map(|(delta, digest, ring, layout)| ControlMessage::GossipAck(GossipAck { delta, digest, ring, layout }));
    let last =
        (delta(), layout()).prop_map(|(delta, layout)| ControlMessage::GossipDelta(GossipDelta { delta, layout }));
    let ping = any::<u64>().prop_map(|number| ControlMessage::Ping(Ping { number }));
    let pong = any::<u64>().prop_map(|number| ControlMessage::Pong(Pong { number }));
    prop_oneof![hello, welcome, refused, syn, ack, last, ping, pong]
}

/// Whatever the kind: header and body of somebody's making.
fn decode_all(frame: &RawFrame) {
    let _ = codec::decode_opening(frame);
    let _ = codec::decode_control(frame);
    let _ = codec::decode_request(frame.clone());
    let _ = codec::decode_answer(frame.clone());
    let _ = codec::decode_client_request(frame.clone());
    let _ = codec::decode_response(frame.clone());
}

/// Every frame that is cut short somewhere, or has one byte changed, is taken or refused.
fn maul(frame: &RawFrame, at: prop::sample::Index, with: u8) {
    let cut = |bytes: &Bytes| bytes.slice(..at.index(bytes.len() + 1));
    decode_all(&RawFrame { header: cut(&frame.header), ..frame.clone() });
    decode_all(&RawFrame { body: cut(&frame.body), ..frame.clone() });
    let change = |bytes: &Bytes| {
        let mut changed = bytes.to_vec();
        if !changed.is_empty() {
            let at = at.index(changed.len());
            changed[at] = with;
        }
        Bytes::from(changed)
    };
    decode_all(&RawFrame { header: change(&frame.header), ..frame.clone() });
    decode_all(&RawFrame { body: change(&frame.body), ..frame.clone() });
}

fn crossed(frame: &RawFrame) -> RawFrame {
    from_bytes(to_bytes(frame))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn client_requests_come_back(request in client_request(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let frame = codec::encode_client_request(7, &request);
        prop_assert_eq!(codec::decode_client_request(crossed(&frame)), Ok(request));
        maul(&frame, at, with);
    }

    #[test]
    fn responses_come_back(response in response(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let frame = codec::encode_response(7, 99, &response);
        prop_assert_eq!(codec::decode_response(crossed(&frame)), Ok((99, response)));
        maul(&frame, at, with);
    }

    #[test]
    fn peers_requests_come_back(request in peer_request(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let frame = codec::encode_request(7, &request);
        prop_assert_eq!(codec::decode_request(crossed(&frame)), Ok(request));
        maul(&frame, at, with);
    }

    #[test]
    fn peers_answers_come_back(answer in peer_answer(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let frame = codec::encode_answer(7, &answer);
        prop_assert_eq!(codec::decode_answer(crossed(&frame)), Ok(answer));
        maul(&frame, at, with);
    }

    #[test]
    fn control_messages_come_back(message in control(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let frame = codec::encode_control(7, &message);
        prop_assert_eq!(codec::decode_control(&crossed(&frame)), Ok(message));
        maul(&frame, at, with);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(kind in any::<u8>(), header in bytes(), body in bytes()) {
        decode_all(&RawFrame { id: 1, kind, header, body });
    }
}
