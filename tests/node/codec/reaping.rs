//! The messages of reaping: how they look, and what is refused of them.

use dynkv::frame::codec::DecodeError;
use dynkv::message::{
    AskRounds, Inquired, MAX_CANDIDATES, MAX_PARTITIONS, Reaping, ReapingSaid, ReapingStep, RoundsTold, TreeKey,
    Vouched,
};
use dynkv::storage::Holds;
use dynkv::storage::merkle::TreeId;
use dynkv::types::{Generation, NodeRun};

use super::*;

fn round() -> impl Strategy<Value = Round> {
    any::<u64>().prop_map(Round)
}

fn generation() -> impl Strategy<Value = Generation> {
    any::<u64>().prop_map(Generation)
}

pub fn request() -> impl Strategy<Value = PeerRequest> {
    let step = prop_oneof![
        Just(ReapingStep::Inquire),
        round().prop_map(ReapingStep::Fence),
        round().prop_map(ReapingStep::Reap),
    ];
    let key = bytes().prop_map(|bytes| TreeKey::new(bytes).unwrap());
    let candidates = proptest::collection::vec((key, digest()), 0..5);
    let reaping = (any::<(u64, u16, u8)>(), step, candidates).prop_map(|((ring, partition, n), step, candidates)| {
        let tree = TreeId { partition: PartitionId(partition), n };
        PeerRequest::Reaping(Reaping { ring: RingVersion(ring), tree, step, candidates })
    });
    let partitions = proptest::collection::vec(any::<u16>().prop_map(PartitionId), 1..5);
    let rounds = (any::<u64>(), partitions)
        .prop_map(|(ring, partitions)| PeerRequest::Rounds(AskRounds { ring: RingVersion(ring), partitions }));
    prop_oneof![reaping, rounds]
}

pub fn answer() -> impl Strategy<Value = PeerAnswer> {
    let holds = proptest::sample::select(vec![Holds::Nothing, Holds::Tombstone, Holds::Other]);
    let met = (any::<u64>(), generation()).prop_map(|(node, generation)| NodeRun { node: NodeId(node), generation });
    let lists = (proptest::collection::vec(met, 0..5), proptest::collection::vec(holds, 0..5));
    let inquired = (generation(), any::<(u64, bool)>(), round(), lists);
    let inquired = inquired.prop_map(|(generation, (ring, may_lack), round, (met, holds))| {
        ReapingSaid::Inquired(Inquired { generation, ring: RingVersion(ring), round, may_lack, met, holds })
    });
    let vouched = (generation(), any::<u64>(), proptest::collection::vec(any::<bool>(), 0..5));
    let vouched = vouched
        .prop_map(|(generation, ring, yes)| ReapingSaid::Vouched(Vouched { generation, ring: RingVersion(ring), yes }));
    let said = prop_oneof![inquired, vouched, any::<u32>().prop_map(ReapingSaid::Reaped)];
    let rounds = proptest::collection::vec((any::<u16>().prop_map(PartitionId), proptest::option::of(round())), 0..5);
    prop_oneof![
        proptest::result::maybe_ok(said, refusal()).prop_map(PeerAnswer::Reaping),
        proptest::result::maybe_ok(rounds, refusal()).prop_map(PeerAnswer::Rounds),
    ]
}

fn reaping(candidates: usize) -> PeerRequest {
    let candidates = vec![(TreeKey::new(Bytes::from_static(&[9])).unwrap(), Digest([7; 16])); candidates];
    let tree = TreeId { partition: PartitionId(513), n: 3 };
    PeerRequest::Reaping(Reaping { ring: RingVersion(1), tree, step: ReapingStep::Fence(Round(2)), candidates })
}

fn rounds(partitions: usize) -> PeerRequest {
    PeerRequest::Rounds(AskRounds { ring: RingVersion(1), partitions: vec![PartitionId(1); partitions] })
}

fn told(partitions: usize) -> PeerAnswer {
    PeerAnswer::Rounds(RoundsTold::Ok(vec![(PartitionId(1), None); partitions]))
}

fn vouched(candidates: usize) -> PeerAnswer {
    let (generation, ring) = (Generation(1), RingVersion(1));
    PeerAnswer::Reaping(Ok(ReapingSaid::Vouched(Vouched { generation, ring, yes: vec![true; candidates] })))
}

fn inquired(candidates: usize) -> PeerAnswer {
    let holds = vec![Holds::Nothing; candidates];
    let (generation, ring, round) = (Generation(1), RingVersion(1), Round(1));
    PeerAnswer::Reaping(Ok(ReapingSaid::Inquired(Inquired {
        generation,
        ring,
        round,
        may_lack: false,
        met: Vec::new(),
        holds,
    })))
}

#[track_caller]
fn check(request: &PeerRequest, refused: Option<&str>) {
    check_end(codec::decode_request(codec::encode_request(1, request)).map(|_| ()), refused);
}

#[track_caller]
fn check_answer(answer: &PeerAnswer, refused: Option<&str>) {
    check_end(codec::decode_answer(codec::encode_answer(1, answer)).map(|_| ()), refused);
}

#[track_caller]
fn check_end(end: Result<(), DecodeError>, refused: Option<&str>) {
    assert_eq!(end.err().map(|error| error.to_string()).as_deref(), refused);
}

#[test]
fn candidates_stand_in_the_body() {
    let body = codec::encode_request(1, &reaping(2)).body;
    let one = [&[7; 16][..], &[0, 1, 9]].concat();
    assert_eq!(body, [one.clone(), one].concat());
}

#[test]
fn lists_have_bounds() {
    check(&reaping(MAX_CANDIDATES), None);
    check(&reaping(MAX_CANDIDATES + 1), Some("frame body: more than 256 keys"));
    check(&rounds(MAX_PARTITIONS), None);
    check(&rounds(MAX_PARTITIONS + 1), Some("frame header: rounds of 65537 partitions: 1 to 65536"));
    check(&rounds(0), Some("frame header: rounds of 0 partitions: 1 to 65536"));
    check_answer(&told(0), None);
    check_answer(&told(MAX_PARTITIONS + 1), Some("frame header: rounds of 65537 partitions: 0 to 65536"));
    let words = "frame header: a word on each of 257 candidates, at most 256 are asked about";
    for said in [vouched, inquired] {
        check_answer(&said(MAX_CANDIDATES), None);
        check_answer(&said(MAX_CANDIDATES + 1), Some(words));
    }
}

#[test]
fn bodies_that_are_not_what_they_should_be_are_refused() {
    let with = |frame: RawFrame, body: &[u8]| RawFrame { body: Bytes::copy_from_slice(body), ..frame };
    let request = |request: &PeerRequest, body: &[u8]| {
        codec::decode_request(with(codec::encode_request(1, request), body)).map(|_| ())
    };
    check_end(request(&reaping(1), &[0; 15]), Some("frame body: 16 bytes announced, 15 left"));
    check_end(request(&reaping(1), &[0; 17]), Some("frame body: 2 bytes announced, 1 left"));
    check_end(
        request(&reaping(1), &[[0; 16].as_slice(), &[0, 3, 1]].concat()),
        Some("frame body: 3 bytes announced, 1 left"),
    );
    let none = Some("frame body: 1 bytes where none belong");
    check_end(request(&rounds(1), &[0]), none);
    for answer in [told(1), vouched(1), PeerAnswer::Reaping(Err(Refusal::Busy))] {
        let frame = with(codec::encode_answer(1, &answer), &[0]);
        check_end(codec::decode_answer(frame).map(|_| ()), none);
    }
}
