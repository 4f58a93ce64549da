//! A shard on a modelled disk, alone: the tests play its clients and its peers, and read what leaves it.

mod disk;
mod exchange;
mod said;

use self::disk::Tape;
pub use self::exchange::{delete_of, deleted};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::antientropy::config::{ExchangeConfig, HintsConfig};
use crate::api::{self, Deadline, Put, PutHeader, Request, Response, Trace};
use crate::message::{
    Address, Fetched, Found, Held, PeerAnswer, PeerRequest, Reaping, ReapingStep, Refusal, Replicate, Replicated,
    TreeKey,
};
use crate::node::{ClientRef, Core, Output, ShardConfig, ShardCounters, ShardInput, Standing};
use crate::quorum::{HedgeAfter, Level};
use crate::ring::{Layout, Member, Partitions, PreferenceList, RingView, Weight, token_of};
use crate::storage::merkle::{Forest, TreeId};
use crate::storage::{Engine, Family, MemoryConfig, MemoryEngine, Rounds, ScanLimit, object_key};
use crate::types::{Bucket, Generation, Key, NodeId, NodeRun, Now, PartitionId, Round, Time, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling, Trust};

/// The node whose shard it is, of five.
const ME: NodeId = NodeId(1);
const MEMBERS: u64 = 5;

/// See the module. Nodes are named by what they are to the key: `me`, the primaries `p0` to `p2`, the stand-ins `s0` and `s1`.
pub struct Bench {
    pub engine: Arc<MemoryEngine>,
    core: Core<MemoryEngine>,
    tape: Tape,
    pub view: Arc<RingView>,
    list: PreferenceList,
    pub to: Address,
    /// Another key; of this one, the node is the first primary in any case.
    other: Key,
    /// What each peer was asked last.
    asked: BTreeMap<NodeId, (u64, PeerRequest)>,
    pub responses: Vec<Response>,
    next: u64,
}

impl Bench {
    /// The shard's node is the first primary of the key.
    pub fn new() -> Bench {
        Bench::with(true, |_| {})
    }

    /// The shard's node has no slot of the key, and is the first of its stand-ins; the primaries are to coordinate in the order of their slots.
    pub fn away() -> Bench {
        Bench::with(false, |_| {})
    }

    /// With other settings; `own`: the node is the first primary of the key.
    pub fn with(own: bool, change: impl FnOnce(&mut ShardConfig)) -> Bench {
        Bench::on(own, MemoryConfig::default(), change)
    }

    /// Every record has to come from the disk.
    pub fn cold(own: bool) -> Bench {
        Bench::on(own, MemoryConfig { miss_probability: 1.0, resident_keys: 0, ..MemoryConfig::default() }, |_| {})
    }

    fn on(own: bool, memory: MemoryConfig, change: impl FnOnce(&mut ShardConfig)) -> Bench {
        let layout = Layout::birth(Partitions::default(), (1..=MEMBERS).map(member).collect(), [].into()).unwrap();
        let cluster = layout.cluster_id();
        let view = Arc::new(RingView::new(layout, cluster));
        let bucket = Bucket::default();
        let place = |number: u32, own: bool| {
            let key = Key::new(format!("k{number}")).unwrap();
            let (partition, token) = view.partition_of(&bucket, &key);
            let list = view.preference(partition, &bucket).unwrap();
            let away_fits = || list.stand_ins()[0] == ME && list.coordinators(token) == list.slots();
            let fits = if own { list.slots()[0] == ME } else { away_fits() };
            let ring = view.version();
            fits.then(|| (list.clone(), Address { ring, partition, bucket: bucket.clone(), key }))
        };
        let (list, to) = (0..).find_map(|number| place(number, own)).unwrap();
        let (_, other) = (1000..).find_map(|number| place(number, true)).unwrap();
        let mut config = config();
        change(&mut config);
        let engine = Arc::new(MemoryEngine::new(memory));
        let (left, cold, paged, too_long) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let tape = Tape { engine: engine.clone(), now: Time::ZERO, left, cold, paged, too_long, syncs_last: false };
        let core = Core::new(config, ME, engine.clone(), &Forest::default(), &Rounds::default(), 1);
        let mut bench = Bench {
            engine,
            core,
            tape,
            view: view.clone(),
            list,
            to,
            other: other.key,
            asked: BTreeMap::new(),
            responses: Vec::new(),
            next: 0,
        };
        let links = (2..=MEMBERS).map(|id| ShardInput::Link { node: NodeId(id), up: true });
        bench.input(ShardInput::Ring(view));
        bench.stand(false);
        bench.drain(links.collect());
        bench
    }

    /// Whether the node has lost its disk.
    pub fn stand(&mut self, rebuilding: bool) -> Vec<String> {
        self.input(standing(rebuilding))
    }

    pub fn node(&self, name: &str) -> NodeId {
        let at = |digits: &str| digits.parse::<usize>().unwrap();
        match name.split_at(1) {
            ("p", slot) => self.list.slots()[at(slot)],
            ("s", place) => self.list.stand_ins()[at(place)],
            _ => ME,
        }
    }

    pub fn name(&self, node: NodeId) -> String {
        let slot = self.list.slots().iter().position(|slot| *slot == node);
        let place = self.list.stand_ins().iter().position(|stand_in| *stand_in == node);
        match (slot, place) {
            _ if node == ME => "me".into(),
            (Some(slot), _) => format!("p{slot}"),
            (_, place) => format!("s{}", place.unwrap()),
        }
    }

    /// One drain; what has left, sorted.
    pub fn drain(&mut self, mut inputs: Vec<ShardInput>) -> Vec<String> {
        inputs.append(&mut self.tape.paged);
        let now = Now { time: self.tape.now, wall_ms: 1 };
        self.core.drain(now, &mut inputs, &mut self.tape);
        let left = std::mem::take(&mut self.tape.left);
        let mut texts: Vec<String> = left.iter().map(|output| self.text(output)).collect();
        for output in left {
            match output {
                // Nobody here waits for what an exchange asks.
                Output::Request { request: PeerRequest::Exchange(_), .. } => {}
                Output::Request { node, id, request } => {
                    self.asked.insert(node, (id, request));
                }
                Output::Respond { response, .. } => self.responses.push(response),
                Output::Answer { .. } => {}
            }
        }
        if !self.tape.paged.is_empty() {
            texts.extend(self.drain(Vec::new()));
        }
        texts.sort();
        texts
    }

    pub fn input(&mut self, input: ShardInput) -> Vec<String> {
        self.drain(vec![input])
    }

    /// Time passes until then, in milliseconds; what has left meanwhile.
    pub fn at(&mut self, ms: u64) -> Vec<String> {
        let end = Time::from_micros(ms * 1000);
        let mut left = Vec::new();
        while let Some(due) = self.due().filter(|due| *due <= ms * 1000) {
            self.tape.now = self.tape.now.max(Time::from_micros(due));
            left.extend(self.input(ShardInput::Timer));
        }
        self.tape.now = end;
        left
    }

    /// Time passes, and nobody has noticed yet.
    pub fn pass(&mut self, ms: u64) {
        self.tape.now = Time::from_micros(ms * 1000);
    }

    /// When it wants to be woken, in microseconds.
    pub fn due(&self) -> Option<u64> {
        self.core.poll_timeout().map(Time::as_micros)
    }

    pub fn counters(&self) -> ShardCounters {
        self.core.counters()
    }

    /// What a client asks.
    pub fn client(&mut self, request: impl Ask) -> ShardInput {
        self.next += 1;
        let from = ClientRef { lane: 1, id: self.next };
        ShardInput::Client { from, arrived: self.tape.now, request: request.request() }
    }

    pub fn ask(&mut self, request: impl Ask) -> Vec<String> {
        let input = self.client(request);
        self.input(input)
    }

    pub fn get(&self, r: u8) -> api::Get {
        let get = api::Get::new(self.to.bucket.clone(), self.to.key.clone());
        api::Get { r: Some(Level::Number(r)), deadline: within(5000), ..get }
    }

    pub fn put(&self, value: &str, write_id: u128, w: u8) -> Put {
        let header = PutHeader::new(self.to.bucket.clone(), self.to.key.clone(), WriteId(write_id));
        let header = PutHeader { w: Some(Level::Number(w)), deadline: within(5000), ..header };
        Put { header, value: Some(value.to_owned().into()) }
    }

    /// A put of the other key.
    pub fn put_other(&self, value: &str, write_id: u128, w: u8) -> Put {
        let mut put = self.put(value, write_id, w);
        put.header.key = self.other.clone();
        put
    }

    /// A get of the other key.
    pub fn get_other(&self, r: u8) -> api::Get {
        api::Get { key: self.other.clone(), ..self.get(r) }
    }

    pub fn whereabouts(&self) -> api::Where {
        api::Where { bucket: self.to.bucket.clone(), key: self.to.key.clone(), deadline: within(5000) }
    }

    /// A token that covers an object.
    pub fn token(&self, object: &Object) -> bytes::Bytes {
        let sealer = crate::version::ContextSealer::new(&config().secret);
        sealer.seal(&self.to.bucket, &self.to.key, object.context())
    }

    /// A runner asks about this tombstone.
    pub fn reaping(&mut self, step: ReapingStep, dead: &Object) -> Vec<String> {
        let Address { ring, partition, bucket, key } = &self.to;
        let token = token_of(bucket, key.as_bytes());
        let whole = object_key(*partition, token, bucket, key).into();
        let (tree, candidates) = (TreeId { partition: *partition, n: 3 }, vec![(TreeKey::of(&whole), dead.digest())]);
        self.peer(PeerRequest::Reaping(Reaping { ring: *ring, tree, step, candidates }))
    }

    /// The round of what a peer was sent last.
    pub fn sent(&self, name: &str) -> Round {
        self.replicated(name).round
    }

    /// What a peer was sent last.
    pub fn replicated(&self, name: &str) -> &Replicate {
        match &self.asked[&self.node(name)].1 {
            PeerRequest::Replicate(replicate) => replicate,
            other => panic!("{name} was sent {other:?}"),
        }
    }

    /// The key's partition.
    pub fn partition(&self) -> PartitionId {
        self.to.partition
    }

    /// The round that the node has met.
    pub fn round(&self) -> Round {
        self.core.rounds().of(self.partition())
    }

    /// How many keys it holds.
    pub fn records(&self) -> usize {
        let mut records = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            records += 1;
            std::ops::ControlFlow::Continue(())
        };
        self.engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut count).unwrap();
        records
    }

    /// The node holds this already.
    pub fn holds(&mut self, object: &Arc<Object>) {
        let mut left = self.sends(object, 0);
        if !self.tape.cold.is_empty() {
            left = self.read(None);
        }
        assert_eq!(left, ["answer: written"]);
    }

    /// What is on its way from a peer: the answer to what it was asked last, or to what `asked` was.
    pub fn answer_of(&self, from: &str, asked: &str, answer: PeerAnswer) -> ShardInput {
        let (id, _) = &self.asked[&self.node(asked)];
        ShardInput::Answer { from: NodeRun { node: self.node(from), generation: Generation(1) }, id: *id, answer }
    }

    pub fn answer(&mut self, from: &str, answer: PeerAnswer) -> Vec<String> {
        let input = self.answer_of(from, from, answer);
        self.input(input)
    }

    /// It holds this.
    pub fn found(&mut self, from: &str, object: &Arc<Object>) -> Vec<String> {
        self.answer(from, fetched(Ok(held(Found::Object(object.clone())))))
    }

    /// It holds nothing.
    pub fn nothing(&mut self, from: &str) -> Vec<String> {
        self.answer(from, fetched(Ok(held(Found::Nothing))))
    }

    /// It has written what it was sent; `synced`: and it is on its disk.
    pub fn wrote(&mut self, from: &str, synced: bool) -> Vec<String> {
        self.answer(from, PeerAnswer::Replicated(Replicated { outcome: Ok(synced), timing: None }))
    }

    pub fn refuses(&mut self, from: &str, refusal: Refusal) -> Vec<String> {
        let answer = match &self.asked[&self.node(from)].1 {
            PeerRequest::Fetch(_) => fetched(Err(refusal)),
            _ => PeerAnswer::Replicated(Replicated { outcome: Err(refusal), timing: None }),
        };
        self.answer(from, answer)
    }

    /// The link to a node is lost.
    pub fn unlink(&mut self, name: &str) -> Vec<String> {
        self.input(ShardInput::Link { node: self.node(name), up: false })
    }

    /// What the client was told last.
    pub fn told(&self) -> &Response {
        self.responses.last().expect("the client was told something")
    }

    /// The trace that came with it.
    pub fn trace(&self) -> &Trace {
        self.told().trace.as_deref().expect("it was asked for")
    }
}

/// What a client may ask.
pub trait Ask {
    fn request(self) -> Request;
}

impl Ask for api::Get {
    fn request(self) -> Request {
        Request::Get(self)
    }
}

impl Ask for Put {
    fn request(self) -> Request {
        Request::Put(self)
    }
}

impl Ask for api::Where {
    fn request(self) -> Request {
        Request::Where(self)
    }
}

pub fn within(ms: u64) -> Deadline {
    Deadline::after(Duration::from_millis(ms), 0)
}

/// What the node is told of its own disk.
pub fn standing(rebuilding: bool) -> ShardInput {
    let trust = Trust { generation: Generation(1), trusted_since: Generation(1), granted: true };
    ShardInput::Standing(Standing { node: ME, trust, rebuilding })
}

pub fn held(found: Found) -> Held {
    Held { found, round: Round::default(), rebuilding: false }
}

pub fn fetched(outcome: Result<Held, Refusal>) -> PeerAnswer {
    PeerAnswer::Fetched(Fetched { outcome, timing: None })
}

/// A blind write by `actor`, whose number is its write id too.
pub fn object(value: &str, actor: u64) -> Arc<Object> {
    Arc::new(Object::update(None, &CausalContext::default(), sibling(value, actor)))
}

/// What replaces it.
pub fn after(object: &Object, value: &str, actor: u64) -> Arc<Object> {
    Arc::new(Object::update(Some(object), object.context(), sibling(value, actor)))
}

fn sibling(value: &str, actor: u64) -> Sibling {
    let dot = Dot { actor: Actor(actor), counter: 1 };
    let body = Body::Value(value.to_owned().into());
    Sibling { dot, write_id: WriteId(actor.into()), node: NodeId(2), wall_ms: 0, body }
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

/// Nobody is hedged, and all are asked only where all are needed.
pub(super) fn config() -> ShardConfig {
    ShardConfig {
        shard: 0,
        shards: 1,
        max_inflight: 256,
        record_cache: 0,
        max_siblings: 50,
        sloppy: true,
        max_value: 4096,
        max_object: 64 << 20,
        r: Level::Quorum,
        w: Level::Quorum,
        sync_by_default: true,
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
