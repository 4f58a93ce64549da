use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::storage::merkle::Trees;
use crate::storage::{
    Engine, Lookup, MemoryConfig, MemoryEngine, Op, ReadTier, Rounds, ScanLimit, Store, StoreLimits, Task, Update,
    object_key, parse_hint_key,
};
use crate::types::{Bucket, Key, PartitionId, Token, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Sibling};

const ENTRY: HintEntry = HintEntry { counted: true, bytes: 300, hinted_ms: 1_700_000_000_000 };

fn encode(entry: HintEntry) -> Vec<u8> {
    let mut out = Vec::new();
    entry.encode_into(&mut out);
    out
}

#[test]
fn entries_survive_the_round_trip() {
    for entry in [ENTRY, HintEntry { counted: false, bytes: u32::MAX, hinted_ms: 0 }] {
        assert_eq!(HintEntry::decode(&encode(entry)).unwrap(), entry);
    }
}

#[test]
fn every_flipped_bit_and_every_other_length_of_an_entry_is_noticed() {
    let good = encode(ENTRY);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(HintEntry::decode(&bad).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(HintEntry::decode(&good[..len]).is_err(), "{len}");
    }
    assert!(HintEntry::decode(&[good.as_slice(), &[0]].concat()).is_err());
}

#[derive(Clone, Debug)]
enum Act {
    Update,
    /// A write of another node's, with hints for some targets and whether each counts.
    Merge(Vec<(u64, bool)>),
    /// As after a durable acknowledgement of what was read `stale` (or not) before.
    Drop {
        target: u64,
        stale: bool,
        keep_object: bool,
    },
    Discard {
        target: u64,
        counted_too: bool,
        keep_object: bool,
    },
    Commit,
    Kill,
    PowerLoss(u64),
}

fn act() -> impl Strategy<Value = (u8, Act)> {
    let target = 1u64..4;
    let hints = proptest::collection::btree_map(target.clone(), any::<bool>(), 0..3);
    let act = prop_oneof![
        3 => Just(Act::Update),
        6 => hints.prop_map(|hints| Act::Merge(hints.into_iter().collect())),
        4 => (target.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(target, stale, keep_object)| Act::Drop { target, stale, keep_object }),
        2 => (target, any::<bool>(), any::<bool>())
            .prop_map(|(target, counted_too, keep_object)| Act::Discard { target, counted_too, keep_object }),
        3 => Just(Act::Commit),
        1 => Just(Act::Kill),
        1 => any::<u64>().prop_map(Act::PowerLoss),
    ];
    (0u8..3, act)
}

fn place(nth: u8) -> Bytes {
    let key = Key::new(vec![nth + 1]).unwrap();
    object_key(PartitionId(nth.into()), Token(7), &Bucket::default(), &key).into()
}

fn update(fresh: u64) -> Op {
    Op::Update(Box::new(Update { last_write_wins: true, ..Update::nth(fresh) }))
}

fn from_elsewhere(fresh: u64) -> Arc<Object> {
    let dot = Dot { actor: Actor(fresh), counter: 1 };
    let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(9), wall_ms: 1, body: Body::Value("v".into()) };
    Arc::new(Object::update(None, &CausalContext::default(), sibling))
}

type Index = BTreeMap<(NodeId, Vec<u8>), HintEntry>;

/// What is indexed, and what the records say ought to be.
fn indexes(engine: &MemoryEngine) -> (Index, Index) {
    let (mut indexed, mut said) = (Index::new(), Index::new());
    let mut visit = |key: &[u8], value: &[u8]| {
        let (target, object, _) = parse_hint_key(key).unwrap();
        indexed.insert((target, object.to_vec()), HintEntry::decode(value).unwrap());
        std::ops::ControlFlow::Continue(())
    };
    engine.scan(Family::Hints, &[], None, ScanLimit::NONE, &mut visit).unwrap();
    let mut visit = |key: &[u8], value: &[u8]| {
        let record = Record::decode(Bytes::copy_from_slice(value)).unwrap();
        said.extend(entries(Some(&record)).map(|(target, entry)| ((target, key.to_vec()), entry)));
        std::ops::ControlFlow::Continue(())
    };
    engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut visit).unwrap();
    (indexed, said)
}

fn record(engine: &MemoryEngine, key: &Bytes) -> Option<Record> {
    match engine.get(Family::Objects, key, ReadTier::Disk).unwrap() {
        Lookup::Found(bytes) => Some(Record::decode(bytes).unwrap()),
        _ => None,
    }
}

proptest! {
    /// Whatever is done, and wherever it is torn off, the index says of every record what the record says.
    #[test]
    fn records_and_their_index_never_disagree(acts in proptest::collection::vec(act(), 1..60)) {
        let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
        let new_store = || Store::<MemoryEngine, ()>::new(engine.clone(), StoreLimits { parked: 10, cached: 0 }, Trees::for_tests(), Rounds::default());
        let (mut store, mut done) = (new_store(), Vec::new());
        // What the changes reported since the last crash add up to, from what was there then.
        let mut told = Index::new();
        for (serial, (nth, act)) in (1u64..).zip(acts) {
            let key = place(nth);
            let op = match act {
                Act::Update => update(serial),
                Act::Merge(hints) => {
                    let new = |(target, counted)| NewHint { target: NodeId(target), counted, wall_ms: serial };
                    Op::Merge { round: Round::default(), object: from_elsewhere(serial), hints: hints.into_iter().map(new).collect() }
                }
                Act::Drop { target, stale, keep_object } => {
                    let Some(record) = record(&engine, &key) else { continue };
                    let target = NodeId(target);
                    let Some(hint) = record.hint(target).copied() else { continue };
                    let digest = if stale { Digest([0; 16]) } else { hint.digest };
                    Op::DropHint { target, digest, sent: record.object.digest(), keep_object }
                }
                Act::Discard { target, counted_too, keep_object } => {
                    Op::DiscardHint { target: NodeId(target), counted_too, keep_object }
                }
                Act::Commit => {
                    store.commit().unwrap();
                    continue;
                }
                Act::Kill | Act::PowerLoss(_) => {
                    if let Act::PowerLoss(seed) = act {
                        engine.power_loss(&mut StdRng::seed_from_u64(seed));
                    } else {
                        engine.kill();
                    }
                    store = new_store();
                    let (indexed, said) = indexes(&engine);
                    prop_assert_eq!(&indexed, &said);
                    told = said;
                    continue;
                }
            };
            store.submit(Task { purpose: (), key, op }, &mut done);
            for change in store.take_hint_changes() {
                let place = (change.target, change.key.to_vec());
                let before = match change.new {
                    Some(entry) => told.insert(place, entry),
                    None => told.remove(&place),
                };
                prop_assert_eq!(before, change.old);
                prop_assert_ne!(change.new, change.old);
            }
        }
        store.commit().unwrap();
        let (indexed, said) = indexes(&engine);
        prop_assert_eq!(&indexed, &said);
        prop_assert_eq!(told, said);
    }
}
