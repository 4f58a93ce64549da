//! A peer that names the wrong partition: it would have two shards write one key.

use std::sync::Arc;
use std::time::Duration;

use dynkv::antientropy::config::HintsConfig;
use dynkv::api::{ApiError, Deadline, Put, PutHeader};
use dynkv::message::{Coordinate, PeerAnswer, PeerRequest};
use dynkv::node::{Core, Output, PeerRef, ShardConfig, ShardInput, Standing};
use dynkv::quorum::Level;
use dynkv::ring::{Layout, Member, Partitions, RingView, Weight};
use dynkv::storage::{MemoryConfig, MemoryEngine};
use dynkv::types::{Bucket, Generation, Key, NodeId, Now, PartitionId, Time, WriteId};
use dynkv::version::Trust;

use crate::outbox::Outbox;

const NODE: NodeId = NodeId(1);

fn view() -> Arc<RingView> {
    let member = Member {
        id: NODE,
        name: "n1".into(),
        zone: "default".into(),
        weight: Weight::default(),
        address: "127.0.0.1:7400".into(),
    };
    let layout = Layout::birth(Partitions::default(), vec![member], [].into()).unwrap();
    let cluster = layout.cluster_id();
    Arc::new(RingView::new(layout, cluster))
}

/// What a lone node's shard answers when it is asked to coordinate a put of "k" as one of `partition`.
fn coordinate(view: &Arc<RingView>, partition: PartitionId) -> Result<(), ApiError> {
    let config = ShardConfig {
        shard: 0,
        shards: 1,
        max_inflight: 8,
        max_siblings: 8,
        sloppy: true,
        max_value: 1024,
        r: Level::One,
        w: Level::One,
        sync_by_default: true,
        request_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_millis(300),
        secret: [7; 32],
        hints: HintsConfig::default(),
    };
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let mut core = Core::new(config, NODE, engine.clone(), 1);
    let trust = Trust { generation: Generation(1), trusted_since: Generation(1), granted: true };
    let header = PutHeader {
        bucket: Bucket::default(),
        key: Key::new("k").unwrap(),
        write_id: WriteId(1),
        context: None,
        delete: false,
        w: None,
        pw: None,
        dw: None,
        strict: false,
        deadline: Deadline::after(Duration::from_secs(1), 0),
    };
    let put = Put { header, value: Some("v".into()) };
    let request = PeerRequest::Coordinate(Coordinate { ring: view.version(), partition, put });
    let from = PeerRef { node: NodeId(2), lane: 1, id: 1 };
    let standing = Standing { node: NODE, trust, rebuilding: false };
    let mut inputs =
        vec![ShardInput::Standing(standing), ShardInput::Ring(view.clone()), ShardInput::Peer { from, request }];
    let mut host = Outbox::new(engine);
    core.drain(Now { time: Time::from_micros(1), wall_ms: 1 }, &mut inputs, &mut host);
    match host.outputs.as_slice() {
        [Output::Answer { answer: PeerAnswer::Coordinated(coordinated), .. }] => {
            coordinated.outcome.clone().map(|_| ())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_put_under_the_wrong_partition_is_not_coordinated() {
    let view = view();
    let (partition, _) = view.partition_of(&Bucket::default(), &Key::new("k").unwrap());
    assert_eq!(coordinate(&view, partition), Ok(()));
    let wrong = PartitionId(partition.0 ^ 1);
    assert!(matches!(coordinate(&view, wrong), Err(ApiError::NotReady { .. })));
}
