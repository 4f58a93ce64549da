//! A node: a disk that lasts, and a process on it that comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dynkv::node::startup::{Draws, Start, StartError, Stored};
use dynkv::node::{Control, ControlConfig, Core, Fatal, LinkId, ShardConfig, ShardInput, Terms};
use dynkv::storage::{Batch, Engine, MemoryConfig, MemoryEngine};
use dynkv::types::{BatchNumber, DiskId, Generation, NodeId, Nonce, Time};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::host::Step;

/// What a node is configured with.
#[derive(Clone)]
pub struct NodeConfig {
    pub name: String,
    pub address: String,
    pub shards: u16,
    pub seeds: Vec<String>,
    pub expect: u32,
    pub terms: Terms,
    pub shard: ShardConfig,
}

/// The process.
pub struct Process {
    pub control: Control,
    pub cores: Vec<Core<MemoryEngine>>,
    pub inboxes: Vec<Vec<ShardInput>>,
    /// A drain of the shard is on its way.
    pub woken: Vec<bool>,
    /// The shard's timer that is on its way.
    pub timers: Vec<Option<Time>>,
    pub dials: BTreeSet<String>,
    /// By which link this node's shards reach a peer.
    pub routes: BTreeMap<NodeId, LinkId>,
    /// Who may send shards' requests on a link that it dialed.
    pub admitted: BTreeMap<LinkId, NodeId>,
    /// Everything up to here is on the disk.
    pub synced: BatchNumber,
}

/// The node.
pub struct Node {
    pub config: NodeConfig,
    pub engine: Arc<MemoryEngine>,
    pub memory: MemoryConfig,
    /// The file that outlives the process but not the power.
    pub survived: Option<BatchNumber>,
    pub process: Option<Process>,
    /// Which process this is, so that what was meant for another is told apart.
    pub run: u64,
    pub fatal: Option<Fatal>,
    pub start_error: Option<String>,
    /// The next drain that writes dies there.
    pub die_after: Option<Step>,
    /// And the power goes with it.
    pub dies_by_power: bool,
    pub sync_failure_ends: bool,
    /// The steps of the last drain that did something.
    pub steps: Vec<Step>,
    pub wall_skew_ms: u64,
}

impl Node {
    pub fn new(config: NodeConfig, memory: MemoryConfig) -> Node {
        Node {
            config,
            engine: Arc::new(MemoryEngine::new(memory)),
            memory,
            survived: None,
            process: None,
            run: 0,
            fatal: None,
            start_error: None,
            die_after: None,
            dies_by_power: false,
            sync_failure_ends: true,
            steps: Vec::new(),
            wall_skew_ms: 0,
        }
    }

    /// Starts the process, as the daemon does.
    pub fn start(&mut self, rng: &mut StdRng) {
        assert!(self.process.is_none(), "{} runs already", self.config.name);
        self.fatal = None;
        self.start_error = None;
        match self.begin(rng) {
            Ok(process) => {
                self.run += 1;
                self.process = Some(process);
            }
            Err(error) => self.start_error = Some(error.to_string()),
        }
    }

    fn begin(&mut self, rng: &mut StdRng) -> Result<Process, StartError> {
        let recovered = self.engine.latest();
        let stored = Stored::load(&*self.engine)?;
        let draws = Draws { node: NodeId(rng.random()), disk: DiskId(rng.random()), nonce: Nonce(rng.random()) };
        let (start, mut batch) = Start::begin(stored, &self.config.name, draws, recovered, self.survived)?;
        self.engine.commit(&mut batch)?;
        self.engine.sync()?;
        let config = ControlConfig {
            zone: "default".into(),
            weight: 1000,
            address: self.config.address.clone(),
            seeds: self.config.seeds.clone(),
            expect: self.config.expect,
            terms: self.config.terms.clone(),
            interval: Duration::from_millis(100),
        };
        let node = start.identity.node;
        let shards = usize::from(self.config.shards);
        let cores = (0..self.config.shards).map(|shard| {
            let config = ShardConfig { shard, ..self.config.shard.clone() };
            Core::new(config, node, self.engine.clone(), rng.random())
        });
        let cores = cores.collect();
        Ok(Process {
            control: Control::new(config, start, rng.random()),
            cores,
            inboxes: (0..shards).map(|_| Vec::new()).collect(),
            woken: vec![false; shards],
            timers: vec![None; shards],
            dials: BTreeSet::new(),
            routes: BTreeMap::new(),
            admitted: BTreeMap::new(),
            synced: self.engine.latest(),
        })
    }

    /// The last acts of an ordered stop, with nothing left to be answered.
    pub fn mark_clean(&mut self) {
        let process = self.process.as_ref().expect("only a running node stops");
        let (key, value) = dynkv::node::startup::clean_record(process.control.generation());
        let mut batch = Batch::default();
        batch.put(dynkv::storage::Family::Meta, &key.bytes(), &value);
        // A disk that fails now leaves an unclean stop.
        let _ = self.engine.commit(&mut batch).and_then(|_| self.engine.sync());
    }

    /// Whether the disk takes writes.
    pub fn engine_is_sound(&self) -> bool {
        self.engine.stats().stopped == 0
    }

    /// The running process.
    #[track_caller]
    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| {
            panic!("{} does not run: {:?} {:?}", self.config.name, self.fatal, self.start_error);
        })
    }

    pub fn id(&self) -> NodeId {
        self.process().control.node()
    }

    pub fn generation(&self) -> Generation {
        self.process().control.generation()
    }
}
