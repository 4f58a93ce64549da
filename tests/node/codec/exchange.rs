//! The exchange's messages: how they look, and what is refused of them.

use dynkv::antientropy::{OBJECT_COST, QUESTION_COST};
use dynkv::frame::codec::DecodeError;
use dynkv::frame::kind::Kind;
use dynkv::frame::raw::PREFIX_LEN;
use dynkv::message::{
    Compare, Compared, ExchangeAnswer, ExchangeRequest, Itemized, Items, MAX_COMPARED, MAX_ITEMS, MAX_SUMS, MAX_WANTED,
    OtherItem, Summed, Sums, TreeKey, TreeVerdict, Want, Wanted,
};
use dynkv::storage::merkle::{Leaves, SumsOf, TreeId};

use super::*;

fn tree() -> impl Strategy<Value = TreeId> {
    any::<(u16, u8)>().prop_map(|(partition, n)| TreeId { partition: PartitionId(partition), n })
}

fn leaves() -> impl Strategy<Value = Leaves> {
    (5u32..=16).prop_map(|bits| Leaves::new(1 << bits).unwrap())
}

fn tree_key() -> impl Strategy<Value = TreeKey> {
    bytes().prop_map(|bytes| TreeKey::new(bytes).unwrap())
}

fn cursor() -> impl Strategy<Value = Option<TreeKey>> {
    proptest::option::of(tree_key())
}

fn seen() -> impl Strategy<Value = Versions> {
    proptest::collection::btree_set((1u64..4, 1u64..8), 1..6).prop_map(versions)
}

/// Of a key with a sibling for each of these dots.
fn versions(dots: impl IntoIterator<Item = (u64, u64)>) -> Versions {
    let write = |(actor, counter)| {
        let (dot, write_id) = (Dot { actor: Actor(actor), counter }, WriteId(1));
        let sibling = Sibling { dot, write_id, node: NodeId(1), wall_ms: 1, body: Body::Tombstone };
        Object::update(None, &CausalContext::default(), sibling)
    };
    let merged = dots.into_iter().map(write).reduce(|merged, object| merged.merge(&object));
    Versions::of(&merged.expect("there is a sibling at least"))
}

fn ring() -> impl Strategy<Value = RingVersion> {
    any::<u64>().prop_map(RingVersion)
}

pub fn request() -> impl Strategy<Value = ExchangeRequest> {
    let trees = proptest::collection::vec((tree(), any::<u128>()), 1..5);
    let compare = (ring(), leaves(), trees)
        .prop_map(|(ring, leaves, trees)| ExchangeRequest::Compare(Compare { ring, leaves, trees }));
    let of = prop_oneof![Just(SumsOf::Branches), any::<u32>().prop_map(SumsOf::Leaves)];
    let sums = (ring(), tree(), leaves(), of)
        .prop_map(|(ring, tree, leaves, of)| ExchangeRequest::Sums(Sums { ring, tree, leaves, of }));
    let of = (leaves(), proptest::collection::btree_set(any::<u16>(), 0..5)).prop_map(|(leaves, of)| {
        let of = of.into_iter().filter(|leaf| u32::from(*leaf) < leaves.count()).collect();
        (leaves, of)
    });
    let known = proptest::collection::vec(any::<u64>(), 0..5);
    let items = (ring(), tree(), of, (cursor(), cursor()), known, 1..=MAX_ITEMS as u32);
    let items = items.prop_map(|(ring, tree, (leaves, of), (after, until), known, limit)| {
        ExchangeRequest::Items(Items { ring, tree, leaves, of, after, until, known, limit })
    });
    let want = (ring(), tree(), proptest::collection::vec(tree_key(), 0..5))
        .prop_map(|(ring, tree, keys)| ExchangeRequest::Want(Want { ring, tree, keys }));
    prop_oneof![compare, sums, items, want]
}

const VERDICTS: [TreeVerdict; 5] =
    [TreeVerdict::Same, TreeVerdict::Differs, TreeVerdict::Elsewhere, TreeVerdict::Unknown, TreeVerdict::NotAReplica];

pub fn answer() -> impl Strategy<Value = ExchangeAnswer> {
    let verdicts = proptest::collection::vec(proptest::sample::select(VERDICTS.to_vec()), 0..5);
    let compared = (1u16.., any::<bool>(), verdicts);
    let compared = compared.prop_map(|(shards, rebuilding, verdicts)| Compared { shards, rebuilding, verdicts });
    let summed = (leaves(), proptest::collection::vec(any::<u64>(), 0..5));
    let summed = summed.prop_map(|(leaves, sums)| Summed { leaves, sums });
    let item = (tree_key(), any::<u64>(), proptest::option::of(seen()));
    let item = item.prop_map(|(key, hash, versions)| OtherItem { key, hash, versions });
    let same = proptest::collection::vec(any::<bool>(), 0..20);
    let itemized = (same, proptest::collection::vec(item, 0..5), any::<u32>(), cursor());
    let itemized = itemized.prop_map(|(same, items, rotten, next)| Itemized { same, items, rotten, next });
    let wanted = any::<(u32, u32, u64)>().prop_map(|(sent, failed, bytes)| Wanted { sent, failed, bytes });
    prop_oneof![
        proptest::result::maybe_ok(compared, refusal()).prop_map(ExchangeAnswer::Compared),
        proptest::result::maybe_ok(summed, refusal()).prop_map(ExchangeAnswer::Summed),
        proptest::result::maybe_ok(itemized, refusal()).prop_map(ExchangeAnswer::Itemized),
        proptest::result::maybe_ok(wanted, refusal()).prop_map(ExchangeAnswer::Wanted),
    ]
}

const RING: RingVersion = RingVersion(1);
const TREE: TreeId = TreeId { partition: PartitionId(513), n: 3 };

fn short(len: usize) -> TreeKey {
    TreeKey::new(vec![9; len].into()).unwrap()
}

fn compare(trees: usize) -> ExchangeRequest {
    ExchangeRequest::Compare(Compare { ring: RING, leaves: Leaves::default(), trees: vec![(TREE, 7); trees] })
}

fn items(of: Vec<u16>, limit: u32) -> ExchangeRequest {
    let leaves = Leaves::new(64).unwrap();
    let known = vec![7; 2];
    ExchangeRequest::Items(Items { ring: RING, tree: TREE, leaves, of, after: None, until: None, known, limit })
}

fn known(hashes: usize) -> ExchangeRequest {
    let ExchangeRequest::Items(asked) = items(vec![], 1) else { unreachable!() };
    ExchangeRequest::Items(Items { known: vec![7; hashes], ..asked })
}

fn want(keys: usize) -> ExchangeRequest {
    ExchangeRequest::Want(Want { ring: RING, tree: TREE, keys: vec![short(1); keys] })
}

fn compared(shards: u16, trees: usize) -> ExchangeAnswer {
    let verdicts = vec![TreeVerdict::Same; trees];
    ExchangeAnswer::Compared(Ok(Compared { shards, rebuilding: false, verdicts }))
}

fn summed(sums: usize) -> ExchangeAnswer {
    ExchangeAnswer::Summed(Ok(Summed { leaves: Leaves::default(), sums: vec![7; sums] }))
}

fn itemized(items: usize) -> ExchangeAnswer {
    let item = OtherItem { key: short(1), hash: 7, versions: Some(versions([(1, 1)])) };
    ExchangeAnswer::Itemized(Ok(Itemized { same: vec![true; 9], items: vec![item; items], rotten: 0, next: None }))
}

/// A key with a sibling of each of so many coordinators.
fn seen_by(actors: u64) -> ExchangeAnswer {
    let versions = Some(versions((1..=actors).map(|actor| (actor, 1))));
    let items = vec![OtherItem { key: short(1), hash: 7, versions }];
    ExchangeAnswer::Itemized(Ok(Itemized { same: Vec::new(), items, rotten: 0, next: None }))
}

fn encode(request: &ExchangeRequest) -> RawFrame {
    codec::encode_request(1, &PeerRequest::Exchange(request.clone()))
}

fn encode_answer(answer: &ExchangeAnswer) -> RawFrame {
    codec::encode_answer(1, &PeerAnswer::Exchange(answer.clone()))
}

#[test]
fn bodies_are_what_the_document_says() {
    let body = |request: &ExchangeRequest| encode(request).body;
    let root = 7u128.to_be_bytes();
    assert_eq!(body(&compare(2)), [&[2, 1, 3][..], &root, &[2, 1, 3], &root].concat());
    let hash = 7u64.to_be_bytes();
    assert_eq!(body(&items(vec![1, 63], 5)), [&[0, 1, 0, 63][..], &hash, &hash].concat());
    assert_eq!(body(&want(2))[..], [0, 1, 9, 0, 1, 9]);
    let body = |answer: &ExchangeAnswer| encode_answer(answer).body;
    let all = Compared { shards: 2, rebuilding: true, verdicts: VERDICTS.to_vec() };
    assert_eq!(body(&ExchangeAnswer::Compared(Ok(all)))[..], [0, 1, 2, 3, 4]);
    assert_eq!(body(&summed(1))[..], [0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(
        body(&itemized(1)),
        [&hash[..], &[0, 1, 9], &[0, 21], &[1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 1, 1]].concat()
    );
}

/// A request is taken, or refused with this reason.
#[track_caller]
fn check(request: &ExchangeRequest, refused: Option<&str>) {
    check_end(codec::decode_request(encode(request)).map(|_| ()), refused);
}

#[track_caller]
fn check_answer(answer: &ExchangeAnswer, refused: Option<&str>) {
    check_end(codec::decode_answer(encode_answer(answer)).map(|_| ()), refused);
}

#[track_caller]
fn check_end(end: Result<(), DecodeError>, refused: Option<&str>) {
    assert_eq!(end.err().map(|error| error.to_string()).as_deref(), refused);
}

#[test]
fn lists_have_bounds() {
    check(&compare(MAX_COMPARED), None);
    check(&compare(MAX_COMPARED + 1), Some("frame body: 1025 trees, at most 1024 are allowed"));
    check(&compare(0), Some("frame body: no tree to compare"));
    check(&want(MAX_WANTED), None);
    check(&want(MAX_WANTED + 1), Some("frame body: more than 256 keys"));
    check_answer(&compared(1, MAX_COMPARED), None);
    check_answer(&compared(1, MAX_COMPARED + 1), Some("frame body: 1025 verdicts, at most 1024 are allowed"));
    check_answer(&summed(MAX_SUMS), None);
    check_answer(&summed(MAX_SUMS + 1), Some("frame body: 65537 sums, at most 65536 are allowed"));
    check(&known(MAX_ITEMS), None);
    check(&known(MAX_ITEMS + 1), Some("frame body: 4097 hashes, at most 4096 are allowed"));
    check_answer(&itemized(MAX_ITEMS), None);
    check_answer(&itemized(MAX_ITEMS + 1), Some("frame body: more than 4096 keys"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(&items(vec![], 1), None);
    check(&items(vec![0, 63], MAX_ITEMS as u32), None);
    check(&items(vec![0], 0), Some("frame header: a limit of 0 keys: 1 to 4096"));
    check(&items(vec![0], 4097), Some("frame header: a limit of 4097 keys: 1 to 4096"));
    check(&items(vec![64], 1), Some("frame body: leaf 64 of a tree of 64"));
    check(&items(vec![2, 1], 1), Some("frame body: leaves that do not ascend"));
    check(&items(vec![1, 1], 1), Some("frame body: leaves that do not ascend"));
    check(&items((0..16).collect(), 1), None);
    check(&items((0..17).collect(), 1), Some("frame body: 17 leaves, at most 16 are allowed"));
    check_answer(&seen_by(200), None);
    check_answer(&seen_by(300), Some("frame body: versions of 5405 bytes, at most 4096 are allowed"));
    check_answer(&compared(0, 1), Some("frame header: a node without shards"));
}

/// The frame with another body is refused with this reason.
#[track_caller]
fn check_body(frame: RawFrame, body: &[u8], refused: &str) {
    let frame = RawFrame { body: Bytes::copy_from_slice(body), ..frame };
    let end = if frame.kind < 0x80 {
        codec::decode_request(frame).map(|_| ())
    } else {
        codec::decode_answer(frame).map(|_| ())
    };
    check_end(end, Some(refused));
}

#[test]
fn bodies_that_are_not_what_their_header_announces_are_refused() {
    check_body(encode(&compare(1)), &[0; 20], "frame body: 20 bytes of trees, of which each has 19");
    check_body(encode(&items(vec![], 1)), &[0], "frame body: 1 bytes of hashes, of which each has 8");
    check_body(encode(&items(vec![1, 2], 1)), &[0; 3], "frame body: 4 bytes announced, 3 left");
    check_body(encode(&want(1)), &[0, 2, 9], "frame body: 2 bytes announced, 1 left");
    check_body(encode(&want(1)), &[0], "frame body: 2 bytes announced, 1 left");
    check_body(encode_answer(&compared(1, 1)), &[5], "frame body: 5 is no verdict");
    check_body(encode_answer(&itemized(1)), &[0; 9], "frame body: 2 bytes announced, 1 left");
    let seen = [&[0; 8][..], &[0, 1, 9, 0, 3, 0, 0, 0]].concat();
    check_body(encode_answer(&itemized(1)), &seen, "frame body: the object has no sibling");
    let long = [&4170u16.to_be_bytes()[..], &[9; 4170]].concat();
    check_body(encode(&want(1)), &long, "frame body: a key of 4170 bytes, at most 4169 are allowed");
    let none = "frame body: 1 bytes where none belong";
    let sums = Sums { ring: RING, tree: TREE, leaves: Leaves::default(), of: SumsOf::Branches };
    check_body(encode(&ExchangeRequest::Sums(sums)), &[0], none);
    for refused in [compare(1), items(vec![], 1), want(1)].map(|request| request.refuse(Refusal::Busy)) {
        check_body(encode_answer(&refused), &[0], none);
    }
    check_body(encode_answer(&ExchangeAnswer::Wanted(Ok(Wanted::default()))), &[0], none);
}

/// The frame with another header is refused with this reason.
#[track_caller]
fn check_header(frame: RawFrame, header: impl serde::Serialize, refused: &str) {
    let header = rmp_serde::to_vec(&header).unwrap().into();
    check_end(codec::decode_request(RawFrame { header, ..frame }).map(|_| ()), Some(refused));
}

#[test]
fn trees_and_cursors_that_no_node_has_are_refused() {
    let few = "frame header: a tree of 33 leaves: a power of two from 32 to 65536";
    let many = "frame header: a tree of 131072 leaves: a power of two from 32 to 65536";
    check_header(encode(&compare(1)), (RING, 33u32), few);
    check_header(encode(&compare(1)), (RING, 131_072u32), many);
    let none = None::<Bytes>;
    check_header(encode(&items(vec![], 1)), (RING, TREE, 33u32, 0u8, &none, &none, 1u32), few);
    let sums = Sums { ring: RING, tree: TREE, leaves: Leaves::default(), of: SumsOf::Branches };
    check_header(encode(&ExchangeRequest::Sums(sums)), (RING, TREE, 33u32, SumsOf::Branches), few);
    let long = Some(Bytes::from(vec![9; 4170]));
    let too_long = "frame header: a key of 4170 bytes, at most 4169 are allowed";
    check_header(encode(&items(vec![], 1)), (RING, TREE, 64u32, 0u8, &long, &none, 1u32), too_long);
    check_header(encode(&items(vec![], 1)), (RING, TREE, 64u32, 0u8, &none, &long, 1u32), too_long);
    let bits = [
        (9u16, vec![1u8], "1 bytes are not the bits of 9 hashes"),
        (9, vec![1, 2], "2 bytes are not the bits of 9 hashes"),
        (4097, vec![0; 513], "4097 hashes, at most 4096 are allowed"),
    ];
    for (known, bits, reason) in bits {
        let frame = encode_answer(&itemized(0));
        let head = (known, Bytes::from(bits), 0u32, &none);
        let header = rmp_serde::to_vec(&Ok::<_, Refusal>(head)).unwrap().into();
        let reason = format!("frame header: {reason}");
        check_end(codec::decode_answer(RawFrame { header, ..frame }).map(|_| ()), Some(&reason));
    }
}

#[test]
fn a_request_falls_to_the_shard_of_its_partition_and_is_answered_by_its_like() {
    for request in [compare(2), items(vec![], 1), want(1)] {
        let asked = PeerRequest::Exchange(request.clone());
        assert_eq!((asked.partition(), asked.is_background(), asked.is_traced()), (TREE.partition, true, false));
        let refused = asked.refuse(Refusal::Busy);
        assert_eq!(refused, PeerAnswer::Exchange(request.refuse(Refusal::Busy)));
        let kind = codec::encode_answer(1, &refused).kind;
        assert_eq!(kind, encode(&request).kind | 0x80);
        assert!(Kind::of(kind).is_some());
    }
}

/// Bytes of a frame besides its body.
fn head(frame: &RawFrame) -> u64 {
    (PREFIX_LEN + frame.header.len()) as u64
}

#[test]
fn the_books_of_the_exchange_say_what_frames_weigh() {
    let id = u64::MAX;
    let sums = Sums { ring: RingVersion(1 << 20), tree: TREE, leaves: Leaves::default(), of: SumsOf::Leaves(u32::MAX) };
    let cursor = TreeKey::new(vec![9; 30].into());
    let ExchangeRequest::Items(asked) = items(vec![1, 63], 512) else { unreachable!() };
    let asked = Items { after: cursor.clone(), until: cursor, ..asked };
    let pairs = [
        (compare(1), compared(2, 1)),
        (ExchangeRequest::Sums(sums), summed(1)),
        (want(1), ExchangeAnswer::Wanted(Ok(Wanted { sent: 64, failed: 0, bytes: 1 << 20 }))),
    ];
    let weigh = |question: &ExchangeRequest, answer: &ExchangeAnswer| {
        let question = codec::encode_request(id, &PeerRequest::Exchange(question.clone()));
        head(&question) + head(&codec::encode_answer(id, &PeerAnswer::Exchange(answer.clone())))
    };
    let all = pairs.map(|(question, answer)| weigh(&question, &answer));
    assert!(all.iter().all(|bytes| (QUESTION_COST / 2..=QUESTION_COST).contains(bytes)), "{all:?}");
    let cursors = 2 * (30 + 2);
    let bytes = weigh(&ExchangeRequest::Items(asked), &itemized(1)) - cursors;
    assert!(bytes <= QUESTION_COST, "{bytes}");

    let dot = Dot { actor: Actor(u64::MAX), counter: 1 };
    let sibling =
        Sibling { dot, write_id: WriteId(1), node: NodeId(u64::MAX), wall_ms: 1 << 40, body: Body::Tombstone };
    let object = Arc::new(Object::update(None, &CausalContext::default(), sibling));
    let len = object.encoded_len() as u64;
    let (bucket, key) = (Bucket::default(), Key::new("key-123456").unwrap());
    let names = (bucket.as_str().len() + key.as_bytes().len()) as u64;
    let to = Address { ring: RingVersion(1 << 20), partition: TREE.partition, bucket, key };
    let (reason, round) = (Reason::Exchange, Round(1000));
    let replicate = Replicate { to, reason, hint_for: None, sync: false, round, trace: false, object };
    let sent = codec::encode_request(id, &PeerRequest::Replicate(replicate));
    let told = codec::encode_answer(id, &PeerAnswer::Replicated(Replicated { outcome: Ok(true), timing: None }));
    let bytes = head(&sent) + sent.body.len() as u64 - len - names + head(&told) + told.body.len() as u64;
    assert!((OBJECT_COST / 2..=OBJECT_COST).contains(&bytes), "{bytes}");
}
