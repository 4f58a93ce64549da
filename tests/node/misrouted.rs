//! Peers that are mistaken: about a partition, which would have two shards write one key; about who stands in for whom.

use std::sync::Arc;
use std::time::Duration;

use dynkv::antientropy::config::{ExchangeConfig, HintsConfig};
use dynkv::api::{ApiError, Deadline, Put, PutHeader};
use dynkv::message::{Address, Coordinate, PeerAnswer, PeerRequest, Reason, Refusal, Replicate, Replicated};
use dynkv::node::{Core, Output, PeerRef, ShardConfig, ShardInput, Standing};
use dynkv::quorum::{HedgeAfter, Level};
use dynkv::ring::{Layout, Member, Partitions, RingView, Weight};
use dynkv::storage::Rounds;
use dynkv::storage::merkle::Forest;
use dynkv::storage::{MemoryConfig, MemoryEngine};
use dynkv::types::{Bucket, Generation, Key, NodeId, Now, PartitionId, Round, Time, WriteId};
use dynkv::version::{Actor, Body, CausalContext, Dot, Object, Sibling, Trust};

use crate::outbox::Outbox;

fn view(nodes: u64) -> Arc<RingView> {
    let member = |id: u64| Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "default".into(),
        weight: Weight::default(),
        address: format!("127.0.0.1:{}", 7400 + id),
    };
    let layout = Layout::birth(Partitions::default(), (1..=nodes).map(member).collect(), [].into()).unwrap();
    let cluster = layout.cluster_id();
    Arc::new(RingView::new(layout, cluster))
}

fn key() -> Key {
    Key::new("k").unwrap()
}

fn config() -> ShardConfig {
    ShardConfig {
        shard: 0,
        shards: 1,
        max_inflight: 8,
        record_cache: 0,
        max_siblings: 8,
        sloppy: true,
        max_value: 1024,
        max_object: 64 << 20,
        r: Level::One,
        w: Level::One,
        sync_by_default: true,
        request_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_millis(300),
        read_repair_chance: 0.0,
        hedge_after: HedgeAfter::P95,
        secret: [7; 32],
        antientropy: ExchangeConfig::default(),
        hints: HintsConfig::default(),
    }
}

/// What a node's shard answers to a peer.
fn answer(view: &Arc<RingView>, node: NodeId, request: PeerRequest) -> PeerAnswer {
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let mut core = Core::new(config(), node, engine.clone(), &Forest::default(), &Rounds::default(), 1);
    let trust = Trust { generation: Generation(1), trusted_since: Generation(1), granted: true };
    let from = PeerRef { node: NodeId(99), lane: 1, id: 1 };
    let standing = Standing { node, trust, rebuilding: false };
    let mut inputs = vec![
        ShardInput::Standing(standing),
        ShardInput::Ring(view.clone()),
        ShardInput::Peer { from, generation: Generation(1), arrived: None, request },
    ];
    let mut host = Outbox::new(engine);
    core.drain(Now { time: Time::from_micros(1), wall_ms: 1 }, &mut inputs, &mut host);
    match host.outputs.as_slice() {
        [Output::Answer { answer, .. }] => answer.clone(),
        other => panic!("{other:?}"),
    }
}

/// What a lone node's shard answers when it is asked to coordinate a put of "k" as one of `partition`.
fn coordinate(view: &Arc<RingView>, partition: PartitionId) -> Result<(), ApiError> {
    let header = PutHeader {
        deadline: Deadline::after(Duration::from_secs(1), 0),
        ..PutHeader::new(Bucket::default(), key(), WriteId(1))
    };
    let put = Put { header, value: Some("v".into()) };
    let request = PeerRequest::Coordinate(Coordinate { ring: view.version(), partition, put });
    match answer(view, NodeId(1), request) {
        PeerAnswer::Coordinated(coordinated) => coordinated.outcome.map(|_| ()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_put_under_the_wrong_partition_is_not_coordinated() {
    let view = view(1);
    let (partition, _) = view.partition_of(&Bucket::default(), &key());
    assert_eq!(coordinate(&view, partition), Ok(()));
    let wrong = PartitionId(partition.0 ^ 1);
    assert!(matches!(coordinate(&view, wrong), Err(ApiError::NotReady { .. })));
}

/// A copy without a hint would never go where it belongs, and a hint where a replica is would send it in a circle.
#[test]
fn a_stand_in_keeps_copies_for_primaries_only_and_a_primary_for_nobody() {
    let view = view(5);
    let (partition, _) = view.partition_of(&Bucket::default(), &key());
    let list = view.preference(partition, &Bucket::default()).unwrap();
    let (slots, stand_ins) = (list.slots(), list.stand_ins());
    let replicate = |node, hint_for| {
        let to = Address { ring: view.version(), partition, bucket: Bucket::default(), key: key() };
        let sibling = Sibling {
            dot: Dot { actor: Actor(1), counter: 1 },
            write_id: WriteId(1),
            node: NodeId(9),
            wall_ms: 0,
            body: Body::Value("v".into()),
        };
        let object = Arc::new(Object::update(None, &CausalContext::default(), sibling));
        let (reason, sync, round) = (Reason::Write, false, Round::default());
        let request = PeerRequest::Replicate(Replicate { to, reason, hint_for, sync, round, trace: false, object });
        match answer(&view, node, request) {
            PeerAnswer::Replicated(Replicated { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(replicate(slots[0], None), Ok(false));
    assert_eq!(replicate(stand_ins[0], Some(slots[1])), Ok(false));
    for (node, hint_for) in [
        (stand_ins[0], None),
        (stand_ins[0], Some(stand_ins[1])),
        (stand_ins[0], Some(NodeId(77))),
        (slots[0], Some(slots[1])),
    ] {
        assert_eq!(replicate(node, hint_for), Err(Refusal::NotAReplica), "{node} for {hint_for:?}");
    }
}
