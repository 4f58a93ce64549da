//! Three nodes in one thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use dynkv::antientropy::config::{ExchangeConfig, HintsConfig};
use dynkv::api::{Deadline, Get, Put, PutHeader, Reply, Request};
use dynkv::frame::codec::{
    LastObject, decode_answer, decode_client_request, decode_request, decode_response, encode_answer,
    encode_client_request, encode_request_after, encode_response,
};
use dynkv::frame::raw::{FrameLimits, FrameReader, RawFrame, flush_scratch};
use dynkv::node::{ClientRef, ColdRead, Core, Host, Output, PeerRef, ShardConfig, ShardInput, Standing};
use dynkv::quorum::{HedgeAfter, Level};
use dynkv::ring::{BucketConfig, Conflict, Layout, Member, Partitions, RingView, Weight};
use dynkv::storage::merkle::Forest;
use dynkv::storage::{Engine, MemoryConfig, MemoryEngine, Rounds, StorageError};
use dynkv::types::{BatchNumber, Bucket, Generation, Key, NodeId, NodeRun, Now, Time, WriteId};
use dynkv::version::Trust;

/// Keys that operations go through in turn.
pub const KEYS: u64 = 500;
const NODES: u64 = 3;
const GENERATION: Generation = Generation(1);
/// Requests that clients have under way.
const IN_FLIGHT: u64 = 64;
/// Between two drains.
const TICK: Duration = Duration::from_micros(100);

/// From whom, to whom, and whether it brings answers: each node dials the others for its own requests. Clients are node 0.
type Lane = (NodeId, NodeId, Brings);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Brings {
    Requests,
    Answers,
}
const CLIENTS: NodeId = NodeId(0);

/// What a shard's drain calls: everything leaves as frames.
struct Wire {
    node: NodeId,
    engine: Arc<MemoryEngine>,
    now: Time,
    left: Vec<(Lane, RawFrame)>,
}

impl Host for Wire {
    fn time(&mut self) -> Time {
        self.now
    }
    fn written(&mut self, _: BatchNumber) {}
    fn release(&mut self, outputs: &mut Vec<Output>) {
        let mut last = LastObject::default();
        for output in outputs.drain(..) {
            let (to, brings, frame) = match output {
                Output::Request { node, id, request } => {
                    (node, Brings::Requests, encode_request_after(id, &request, &mut last))
                }
                Output::Answer { to, answer } => (to.node, Brings::Answers, encode_answer(to.id, &answer)),
                Output::Respond { to, response } => {
                    (CLIENTS, Brings::Answers, encode_response(to.id, self.now.as_micros(), &response))
                }
            };
            self.left.push(((self.node, to, brings), frame));
        }
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.engine.sync()
    }
    fn begin_sync(&mut self) -> Option<Result<(), StorageError>> {
        Some(self.sync())
    }
    fn write_failed(&mut self, error: &StorageError) {
        panic!("{}: {error}", self.node.0);
    }
    fn hopeless(&mut self, _: &[Bytes]) {}
    fn read(&mut self, read: ColdRead) {
        // Each shard looks once whether it keeps anything for others.
        assert!(matches!(read, ColdRead::Hints { .. }), "everything is in memory: {read:?}");
    }
}

struct Node {
    core: Core<MemoryEngine>,
    wire: Wire,
    inputs: Vec<ShardInput>,
}

/// See the module.
pub struct Cluster {
    view: Arc<RingView>,
    nodes: BTreeMap<NodeId, Node>,
    readers: BTreeMap<Lane, FrameReader>,
    bucket: Bucket,
    value: Bytes,
    now: Time,
    next: u64,
    done: u64,
}

impl Cluster {
    /// Nodes that know and reach each other; values have `size` bytes.
    pub fn new(size: usize) -> Cluster {
        let bucket = Bucket::new("bench").expect("a plain word is a bucket's name");
        let lww = BucketConfig { conflict: Conflict::Lww, ..BucketConfig::default() };
        let members = (1..=NODES).map(member).collect();
        let layout = Layout::birth(Partitions::default(), members, [(bucket.clone(), lww)].into())
            .expect("three members make a ring");
        let cluster = layout.cluster_id();
        let view = Arc::new(RingView::new(layout, cluster));
        let mut nodes = BTreeMap::new();
        for id in (1..=NODES).map(NodeId) {
            let engine = Arc::new(MemoryEngine::new(MemoryConfig { unsynced_batches: 1, ..MemoryConfig::default() }));
            let core = Core::new(config(), id, engine.clone(), &Forest::default(), &Rounds::default(), id.0);
            let trust = Trust { generation: GENERATION, trusted_since: GENERATION, granted: true };
            let standing = ShardInput::Standing(Standing { node: id, trust, rebuilding: false });
            let others = (1..=NODES).map(NodeId).filter(|other| *other != id);
            let links = others.map(|node| ShardInput::Link { node, up: true });
            let inputs = [standing, ShardInput::Ring(view.clone())].into_iter().chain(links).collect();
            nodes.insert(id, Node { core, wire: Wire { node: id, engine, now: Time::ZERO, left: Vec::new() }, inputs });
        }
        let value = (0..size).map(|at| (at * 31 % 251) as u8).collect();
        let readers = BTreeMap::new();
        Cluster { view, nodes, readers, bucket, value, now: Time::ZERO, next: 0, done: 0 }
    }

    pub fn puts(&mut self, count: u64) -> Result<()> {
        self.run(count, |cluster, id, key| {
            let header = PutHeader {
                w: Some(Level::Number(2)),
                deadline: cluster.deadline(),
                ..PutHeader::new(cluster.bucket.clone(), key, WriteId(id.into()))
            };
            Request::Put(Put { header, value: Some(cluster.value.clone()) })
        })
    }

    pub fn gets(&mut self, count: u64) -> Result<()> {
        self.run(count, |cluster, _, key| {
            let deadline = cluster.deadline();
            Request::Get(Get { r: Some(Level::Number(2)), deadline, ..Get::new(cluster.bucket.clone(), key) })
        })
    }

    fn run(&mut self, count: u64, request: impl Fn(&Cluster, u64, Key) -> Request) -> Result<()> {
        let (first, done) = (self.next, self.done);
        while self.done - done < count {
            while self.next - first < count && (self.next - first) - (self.done - done) < IN_FLIGHT {
                self.next += 1;
                let key = Key::new(format!("key-{:010}", self.next % KEYS))?;
                let (partition, _) = self.view.partition_of(&self.bucket, &key);
                let list = self.view.preference(partition, &self.bucket).context("the bucket is known")?;
                let to = list.slots()[0];
                let frame = encode_client_request(self.next, &request(self, self.next, key));
                self.carry(vec![((CLIENTS, to, Brings::Requests), frame)])?;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// As a client that was answered just now.
    fn deadline(&self) -> Deadline {
        Deadline::after(Duration::from_secs(5), self.now.as_micros())
    }

    /// One drain of every node, and what leaves arrives.
    fn turn(&mut self) -> Result<()> {
        self.now = self.now + TICK;
        let mut left = VecDeque::new();
        for node in self.nodes.values_mut() {
            node.wire.now = self.now;
            if node.core.poll_timeout().is_some_and(|due| due <= self.now) {
                node.inputs.push(ShardInput::Timer);
            }
            let now = Now { time: self.now, wall_ms: self.now.as_micros() / 1000 };
            node.core.drain(now, &mut node.inputs, &mut node.wire);
            node.inputs.clear();
            left.push_back(std::mem::take(&mut node.wire.left));
        }
        left.into_iter().try_for_each(|frames| self.carry(frames))
    }

    /// Frames go to each end as bytes, all of a drain together.
    fn carry(&mut self, mut frames: Vec<(Lane, RawFrame)>) -> Result<()> {
        frames.sort_by_key(|(lane, _)| *lane);
        for batch in frames.chunk_by(|(a, _), (b, _)| a == b) {
            let (lane, mut chunks, mut scratch) = (batch[0].0, Vec::new(), BytesMut::new());
            batch.iter().for_each(|(_, frame)| frame.append_chunks(&mut chunks, &mut scratch));
            flush_scratch(&mut chunks, &mut scratch);
            let mut reader = self.readers.remove(&lane).unwrap_or_else(|| FrameReader::new(FrameLimits::default()));
            chunks.into_iter().for_each(|chunk| reader.push(chunk));
            while let Some(frame) = reader.next()? {
                self.arrive(lane, frame)?;
            }
            self.readers.insert(lane, reader);
        }
        Ok(())
    }

    fn arrive(&mut self, (from, to, brings): Lane, frame: RawFrame) -> Result<()> {
        let id = frame.id;
        if to == CLIENTS {
            let (_, response) = decode_response(frame)?;
            let is_found = !matches!(&response.result, Ok(Reply::Get(_))) || response.values == [self.value.clone()];
            ensure!(response.result.is_ok() && is_found, "{response:?}");
            self.done += 1;
            return Ok(());
        }
        let input = if from == CLIENTS {
            let request = decode_client_request(frame)?;
            ShardInput::Client { from: ClientRef { lane: 0, id }, arrived: self.now, request }
        } else if brings == Brings::Answers {
            let answer = decode_answer(frame)?;
            ShardInput::Answer { from: NodeRun { node: from, generation: GENERATION }, id, answer }
        } else {
            let from = PeerRef { node: from, lane: from.0, id };
            ShardInput::Peer { from, generation: GENERATION, arrived: None, request: decode_request(frame)? }
        };
        self.nodes.get_mut(&to).context("frames go to nodes")?.inputs.push(input);
        Ok(())
    }
}

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "default".into(),
        weight: Weight::default(),
        address: format!("10.0.0.{id}:7400"),
    }
}

/// Nothing in the background, and no chance.
fn config() -> ShardConfig {
    ShardConfig {
        shard: 0,
        shards: 1,
        max_inflight: 4096,
        record_cache: 64 << 20,
        max_siblings: 50,
        sloppy: true,
        max_value: 1 << 20,
        max_object: 64 << 20,
        r: Level::Quorum,
        w: Level::Quorum,
        sync_by_default: false,
        request_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_millis(300),
        read_repair_chance: 0.0,
        hedge_after: HedgeAfter::Never,
        secret: [7; 32],
        antientropy: ExchangeConfig {
            interval: Duration::ZERO,
            scrub_interval: Duration::ZERO,
            reap_interval: Duration::ZERO,
            ..ExchangeConfig::default()
        },
        hints: HintsConfig::default(),
    }
}
