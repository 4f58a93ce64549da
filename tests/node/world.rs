//! A cluster in one thread and in virtual time: real machines on modelled disks, encoded frames between them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dynkv::api::{Request, Response};
use dynkv::frame::codec;
use dynkv::node::{ClientRef, LinkId, ShardConfig, ShardCounters, ShardInput, Terms};
use dynkv::quorum::Level;
use dynkv::ring::{BucketConfig, Conflict, Partitions, RingView};
use dynkv::storage::MemoryConfig;
use dynkv::types::{Bucket, Now, Time};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::ask::Ask;
use crate::network::{Lane, Network, from_bytes, to_bytes};
use crate::process::{Node, NodeConfig};

/// What is to happen at some moment.
pub enum Event {
    /// A frame arrives on a link.
    Frame {
        link: LinkId,
        to_dialer: bool,
        lane: Lane,
        bytes: Bytes,
    },
    /// A link's ends learn that it is gone.
    LinkDown {
        link: LinkId,
    },
    /// A pair that was cut is still cut: its links have gone silent for too long.
    Silence {
        a: usize,
        b: usize,
    },
    /// A node dials what it lacks.
    Dial {
        node: usize,
        run: u64,
    },
    ControlTimer {
        node: usize,
        run: u64,
    },
    ShardTimer {
        node: usize,
        run: u64,
        shard: usize,
    },
    Drain {
        node: usize,
        run: u64,
        shard: usize,
    },
    /// A shard gets an input.
    Input {
        node: usize,
        run: u64,
        shard: usize,
        input: ShardInput,
    },
}

/// What a cluster is made of.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    /// Shards of each node.
    pub shards: Vec<u16>,
    pub shard: ShardConfig,
    pub memory: MemoryConfig,
    pub partitions: u32,
}

impl Plan {
    /// `nodes` nodes with different counts of shards.
    pub fn new(nodes: usize) -> Plan {
        Plan {
            seed: 1,
            shards: (0..nodes).map(|node| [2, 1, 3][node % 3]).collect(),
            shard: ShardConfig {
                shard: 0,
                max_inflight: 256,
                max_siblings: 50,
                max_value: 4096,
                r: Level::Quorum,
                w: Level::Quorum,
                sync_by_default: true,
                request_timeout: Duration::from_secs(2),
                attempt_timeout: Duration::from_millis(300),
                secret: [7; 32],
            },
            memory: MemoryConfig::default(),
            partitions: 16,
        }
    }

    pub fn seed(mut self, seed: u64) -> Plan {
        self.seed = seed;
        self
    }

    pub fn terms() -> Terms {
        let bucket = |name: &str, config| (Bucket::new(name).unwrap(), config);
        let lww = BucketConfig { n: 3, conflict: Conflict::Lww };
        Terms {
            cluster: "test".into(),
            partitions: Partitions::new(16).unwrap(),
            buckets: [bucket(Bucket::DEFAULT, BucketConfig::default()), bucket("latest", lww)].into(),
        }
    }

    pub fn node(&self, index: usize) -> Node {
        let config = NodeConfig {
            name: format!("n{}", index + 1),
            address: address(index),
            shards: self.shards[index],
            seeds: vec![address(0), address(1.min(self.shards.len() - 1))],
            expect: u32::try_from(self.shards.len()).unwrap(),
            terms: Terms { partitions: Partitions::new(self.partitions).unwrap(), ..Plan::terms() },
            shard: self.shard.clone(),
        };
        Node::new(config, MemoryConfig { seed: self.seed * 100 + index as u64, ..self.memory })
    }

    /// The nodes, none of which runs.
    pub fn asleep(self) -> World {
        World {
            now: Time::from_micros(1_000_000),
            rng: StdRng::seed_from_u64(self.seed),
            nodes: (0..self.shards.len()).map(|index| self.node(index)).collect(),
            network: Network::default(),
            reads: Reads::Immediate,
            held: Vec::new(),
            answers: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_event: 0,
            next_request: 0,
        }
    }

    /// The cluster, born and connected.
    pub fn born(self) -> World {
        let mut world = self.asleep();
        (0..world.nodes.len()).for_each(|node| world.start(node));
        world.settle();
        world
    }
}

pub fn address(index: usize) -> String {
    format!("10.0.0.{}:7400", index + 1)
}

/// When a cold read comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// With the next drain.
    Immediate,
    /// After so many microseconds at most, in any order.
    Within(u64),
    /// When the test says so.
    Held,
}

/// A read whose outcome the test holds back.
pub struct HeldRead {
    pub node: usize,
    pub run: u64,
    pub shard: usize,
    pub input: ShardInput,
}

/// A client's request and all that came back.
#[derive(Debug)]
pub struct Asked {
    pub node: usize,
    pub run: u64,
    pub at: Time,
    pub answers: Vec<(Time, Response)>,
}

/// See the module.
pub struct World {
    pub now: Time,
    pub rng: StdRng,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub reads: Reads,
    pub held: Vec<HeldRead>,
    pub answers: BTreeMap<u64, Asked>,
    pub(crate) queue: BTreeMap<(Time, u64), Event>,
    pub(crate) next_event: u64,
    pub(crate) next_request: u64,
}

impl World {
    pub fn clock(&self, node: usize) -> Now {
        Now { time: self.now, wall_ms: self.now.as_micros() / 1000 + self.nodes[node].wall_skew_ms }
    }

    pub(crate) fn schedule(&mut self, after_micros: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + Duration::from_micros(after_micros), self.next_event), event);
    }

    /// Lets `span` pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// The next event, if it is due by `end`.
    pub(crate) fn step(&mut self, end: Time) -> bool {
        let Some((&(time, id), _)) = self.queue.first_key_value() else { return false };
        if time > end {
            return false;
        }
        let event = self.queue.remove(&(time, id)).expect("it is the first");
        self.now = time;
        self.on_event(event);
        true
    }

    /// Runs until all running nodes can reach one another and follow a ring.
    #[track_caller]
    pub fn settle(&mut self) {
        let patience = self.now + Duration::from_secs(20);
        // Links of processes that are gone are noticed first.
        self.run_for(Duration::from_millis(5));
        while !self.is_settled() {
            let end = self.now + Duration::from_millis(50);
            assert!(end < patience, "it does not settle: {:?}", self.waiting_for());
            while self.step(end) {}
            self.now = end;
        }
        self.run_for(Duration::from_millis(400));
    }

    fn is_settled(&self) -> bool {
        let running: Vec<_> = self.nodes.iter().filter_map(|node| node.process.as_ref()).collect();
        running.iter().all(|process| {
            let others = running.iter().filter(|other| other.control.node() != process.control.node());
            process.control.view().is_some()
                && others.clone().all(|other| process.routes.contains_key(&other.control.node()))
        })
    }

    /// What each node says it waits for.
    pub fn waiting_for(&self) -> Vec<String> {
        let said = |node: &Node| node.process.as_ref().map(|process| process.control.status().waiting_for);
        self.nodes.iter().filter_map(said).collect()
    }

    pub fn view(&self) -> std::sync::Arc<RingView> {
        let process = self.nodes.iter().find_map(|node| node.process.as_ref()).expect("a node runs");
        process.control.view().expect("the cluster is born").clone()
    }

    pub fn shard_of(&self, node: usize, request: &Request) -> usize {
        let Some(view) = self.nodes[node].process().control.view() else { return 0 };
        let partition = match request {
            Request::Get(get) => view.partition_of(&get.bucket, &get.key).0,
            Request::Put(put) => view.partition_of(&put.header.bucket, &put.header.key).0,
            Request::Where(place) => view.partition_of(&place.bucket, &place.key).0,
            Request::Scan(scan) => scan.partition,
            Request::Ring | Request::Status => return 0,
        };
        usize::from(partition.0) % self.nodes[node].process().cores.len()
    }

    /// A client sends a request to a node; nothing has happened yet.
    pub fn send(&mut self, node: usize, request: impl Ask) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let frame = from_bytes(to_bytes(&codec::encode_client_request(id, &request.request())));
        let request = codec::decode_client_request(frame).unwrap();
        let run = self.nodes[node].run;
        self.answers.insert(id, Asked { node, run, at: self.now, answers: Vec::new() });
        if self.nodes[node].process.is_none() {
            return id;
        }
        let shard = self.shard_of(node, &request);
        let from = ClientRef { lane: 1, id };
        let input = ShardInput::Client { from, arrived: self.now, request };
        self.schedule(0, Event::Input { node, run, shard, input });
        id
    }

    /// The answer, once there is one.
    pub fn answer(&self, id: u64) -> Option<&Response> {
        self.answers[&id].answers.first().map(|(_, response)| response)
    }

    /// A client sends a request and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, node: usize, request: impl Ask) -> Response {
        let id = self.send(node, request);
        self.wait(id)
    }

    #[track_caller]
    pub fn wait(&mut self, id: u64) -> Response {
        let end = self.now + Duration::from_secs(10);
        while self.answer(id).is_none() {
            assert!(self.step(end), "request {id} is never answered: {:?}", self.nodes[self.answers[&id].node].fatal);
        }
        self.answer(id).expect("the loop waited for it").clone()
    }

    /// The nodes that hold a key of the default bucket, by slot, and then the others.
    pub fn replicas(&self, name: &str) -> (Vec<usize>, Vec<usize>) {
        let view = self.view();
        let bucket = Bucket::default();
        let (partition, _) = view.partition_of(&bucket, &crate::ask::key(name));
        let list = view.preference(partition, &bucket).unwrap();
        let index =
            |id| self.nodes.iter().position(|node| view.layout().member_named(&node.config.name).unwrap().id == id);
        (
            list.slots().iter().filter_map(|id| index(*id)).collect(),
            list.stand_ins().iter().filter_map(|id| index(*id)).collect(),
        )
    }

    /// The sum of a node's shards' counters.
    pub fn count(&self, node: usize, which: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.nodes[node].process().cores.iter().map(|core| which(&core.counters())).sum()
    }
}
