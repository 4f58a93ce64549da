//! From a configuration and an engine to a running node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::birth_terms::BirthTerms;
use super::board::{Board, View};
use super::clock::Clock;
use super::control::{ControlEvent, ControlTask, MAX_EVENTS};
use super::dial::Dialing;
use super::disk::{Disk, Watch};
use super::engine::AnyEngine;
use super::http::Http;
use super::lanes::Lanes;
use super::listener::Listener;
use super::mark::Mark;
use super::memory::{Memory, MemoryWatch, resident};
use super::mender::Mender;
use super::metrics::{Metrics, Sources};
use super::own_files::{PidFile, make_dir, reset_state};
use super::read_pool::ReadPool;
use super::shard::{Shards, Surroundings};
use super::shards_start::ShardsStart;
use super::sinks::Switch;
use super::stalled::StallWatch;
use super::supervise::{OnEnd, Supervisor};
use super::syncer::Syncer;
use super::{Server, ServerError, sizes};
use crate::config::{Config, Origins};
use crate::net::{Endpoint, Tls, TlsFiles, load_secret};
use crate::node::startup::{Draws, Start, Stored};
use crate::node::{Control, ControlConfig, ShardConfig, ShardInput};
use crate::ring::Weight;
use crate::storage::Engine;
use crate::storage::config::SyncMode;
use crate::types::{DiskId, NodeId, Nonce};

/// Free space is looked at this often.
const WATCH_DISK: Duration = Duration::from_secs(1);
/// The thread that looks at the disk; it ends when its stop channel closes.
pub const DISK_WATCH_THREAD: &str = "disk watch";
/// The process's memory is looked at this often.
const WATCH_MEMORY: Duration = Duration::from_millis(100);
/// Looks at memory between two looks for clients that do not read.
const LOOKS_PER_STALL: u32 = 10;
/// The thread that looks at memory and lanes; it ends likewise.
pub const MEMORY_WATCH_THREAD: &str = "memory watch";
/// Tables that cannot be read are looked after this often.
const MEND: Duration = Duration::from_secs(1);
/// The thread that does so; it ends likewise.
pub const MENDER_THREAD: &str = "mender";
/// The thread that syncs each interval; it ends likewise.
pub const INTERVAL_SYNC_THREAD: &str = "interval sync";
/// The name of the read pool's threads. They end with the shards.
pub const READER_THREAD: &str = "reader";
/// The thread that syncs for the shards; it ends likewise.
pub const SYNC_THREAD: &str = "sync";

/// What a node is started from.
pub struct Setup {
    /// Checked.
    pub config: Config,
    /// Who set what.
    pub origins: Origins,
    /// The node's data.
    pub engine: Arc<dyn Engine>,
    /// Where files outlive a process and not a power loss: [`MARK_DIR`](super::MARK_DIR), or a test's own.
    pub mark_dir: PathBuf,
}

/// What the directory says, and this run made of it.
struct Begun {
    start: Start,
    disk: Arc<Disk>,
}

/// The sockets, and what they need.
struct Sockets {
    tls: Tls,
    endpoint: Endpoint,
    quic: SocketAddr,
    http: TcpListener,
    http_addr: SocketAddr,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Sockets, ServerError> {
        let tls = load_tls(config)?;
        make_dir(&config.node.data_dir)?;
        let reset = reset_state(&config.node.data_dir, tls.reset_state())?;
        let endpoint = Endpoint::bind(config.net.listen, Some(&tls), &sizes::limits(config), Some(reset))?;
        let quic = endpoint.local_addr()?;
        let http = Http::bind(config.http.listen).await?;
        let http_addr = http.local_addr().map_err(|source| ServerError::Http { addr: config.http.listen, source })?;
        Ok(Sockets { tls, endpoint, quic, http, http_addr })
    }
}

impl Server {
    /// Starts a node; it serves once it is part of a ring.
    ///
    /// # Errors
    /// [`ServerError`]: what is wrong with the configuration, the directory or the sockets.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(setup: Setup) -> Result<Server, ServerError> {
        let Setup { config, origins, engine, mark_dir } = setup;
        let clock = Clock::start();
        let (supervisor, failures) = Supervisor::new();
        let terms = BirthTerms::new(&config, &origins)?;
        let secret = load_secret(needed(config.cluster.secret_file.as_ref(), "cluster.secret_file")?)?;
        let sockets = Sockets::bind(&config).await?;
        let address = advertised(&config, sockets.quic)?;
        let begun = {
            let config = config.clone();
            supervisor.blocking("start", move || begin(&config, engine, &mark_dir, clock)).await??
        };
        if let Some(layout) = &begun.start.layout {
            terms.check(layout)?;
        }
        let pid = PidFile::write(&config.node.data_dir)?;

        let parts = Parts::new(&config, clock, begun, &terms, address, &sockets.endpoint);
        let (disk, switch) = (parts.disk.clone(), parts.switch.clone());
        let (stop_timed, stopped) = bounded(0);
        parts.start_timed(&config, &supervisor, &stopped)?;
        let reads = parts.start_readers(&config, &supervisor)?;
        let syncer = parts.start_syncer(&config, &supervisor)?;
        let Sockets { tls, endpoint, quic, http, http_addr } = sockets;
        let metrics = Metrics::new(parts.sources(&reads, &endpoint))?;
        let accepting = CancellationToken::new();
        let listener = parts.listener(&config, &supervisor, &accepting);
        let with = parts.surroundings(&config, reads, syncer);
        let (control, events) = parts.control(&config, &supervisor, with, secret, terms);
        let pages = Http { board: switch.board.clone(), metrics: Arc::new(metrics) };
        supervisor.task("control", OnEnd::StopNode, control.run(events));
        supervisor.task("listener", OnEnd::StopNode, listener.run());
        supervisor.task("HTTP", OnEnd::StopNode, pages.run(http, supervisor.stopping().clone()));
        info!(name = config.node.name, %quic, http = %http_addr, "started");
        Ok(Server {
            quic,
            http: http_addr,
            drain_for: config.net.request_timeout + Duration::from_secs(1),
            tls: ArcSwap::from_pointee(tls),
            endpoint,
            switch,
            disk,
            supervisor,
            accepting,
            failures,
            stop_timed,
            pid,
        })
    }
}

/// What is wired together before anything runs.
struct Parts {
    clock: Clock,
    control: Control,
    disk: Arc<Disk>,
    switch: Arc<Switch>,
    dialing: Dialing,
    events: mpsc::Receiver<ControlEvent>,
}

impl Parts {
    fn new(
        config: &Config,
        clock: Clock,
        Begun { start, disk }: Begun,
        terms: &BirthTerms,
        address: String,
        endpoint: &Endpoint,
    ) -> Parts {
        let control_config = ControlConfig {
            zone: config.node.zone.clone(),
            weight: Weight::new(config.node.weight).unwrap_or_default().thousandths(),
            address,
            seeds: config.cluster.seeds.clone(),
            expect: u32::from(config.cluster.bootstrap_expect.unwrap_or(1)),
            terms: terms.terms().clone(),
            gossip: config.gossip.clone(),
        };
        let control = Control::new(control_config, start, rand::random());
        let view = View { status: control.status(), lacking: None, strangers: 0 };
        let max_inflight = config.net.max_inflight as usize;
        let shards = Arc::new(Shards::new(config.node.shards, max_inflight, sizes::inbox_bytes(config)));
        let board = Arc::new(Board::new(clock, disk.clone(), shards.clone(), view));
        let switch = Arc::new(Switch {
            clock,
            shards,
            lanes: Arc::new(Lanes::new(config.node.shards, sizes::frame(config))),
            board,
            gathering: Arc::default(),
            memory: Arc::new(Memory::new(sizes::memory(config))),
            max_inflight: max_inflight as u64,
        });
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let dialing = Dialing {
            endpoint: endpoint.clone(),
            events: sender,
            switch: switch.clone(),
            queue: sizes::control_queue(config),
            links: Arc::new(AtomicU64::new(1)),
        };
        Parts { clock, control, disk, switch, dialing, events }
    }

    fn start_timed(&self, config: &Config, supervisor: &Supervisor, stop: &Receiver<()>) -> Result<(), ServerError> {
        let (disk, switch, ticks) = (self.disk.clone(), self.switch.clone(), stop.clone());
        supervisor.thread(DISK_WATCH_THREAD, OnEnd::StopNode, move || {
            let mut watch = Watch::default();
            every(WATCH_DISK, &ticks, || {
                if let Some(verdict) = watch.look(&disk) {
                    switch.board.set_read_only(verdict.clone());
                    switch.shards.notify(&ShardInput::ReadOnly(verdict));
                }
            });
        })?;
        let (switch, clock, ticks) = (self.switch.clone(), self.clock, stop.clone());
        supervisor.thread(MEMORY_WATCH_THREAD, OnEnd::StopNode, move || {
            let (mut watch, mut stalls, mut looks) = (MemoryWatch::default(), StallWatch::default(), 0);
            every(WATCH_MEMORY, &ticks, || {
                let queued = switch.shards.queued_bytes() + switch.lanes.queued_bytes() as u64;
                if let Some(resident) = resident() {
                    watch.look(clock.time(), resident, queued, &switch.memory);
                }
                looks += 1;
                if looks % LOOKS_PER_STALL == 0 {
                    let stalled = stalls.look(clock.time(), switch.lanes.clients().into_iter());
                    stalled.into_iter().for_each(|lane| switch.lanes.close_slow(lane));
                }
            });
        })?;
        let (mut mender, ticks) =
            (Mender::new(self.disk.clone(), self.switch.shards.clone(), self.switch.board.clone()), stop.clone());
        supervisor.thread(MENDER_THREAD, OnEnd::StopNode, move || {
            let stopping = || matches!(ticks.try_recv(), Err(TryRecvError::Disconnected));
            every(MEND, &ticks, || mender.look(stopping));
        })?;
        if let SyncMode::Interval(interval) = config.storage.sync {
            let (disk, ticks) = (self.disk.clone(), stop.clone());
            supervisor.thread(INTERVAL_SYNC_THREAD, OnEnd::StopNode, move || {
                // an error means that nothing is written any more: the disk's watch tells everybody
                every(interval, &ticks, || drop(disk.sync_all()));
            })?;
        }
        Ok(())
    }

    fn start_readers(&self, config: &Config, supervisor: &Supervisor) -> Result<ReadPool, ServerError> {
        let (reads, readers) = ReadPool::new(self.disk.engine(), sizes::reads(config));
        for reader in readers {
            supervisor.thread(READER_THREAD, OnEnd::StopNode, move || reader.run())?;
        }
        Ok(reads)
    }

    fn start_syncer(&self, config: &Config, supervisor: &Supervisor) -> Result<Syncer, ServerError> {
        let (syncer, thread) = Syncer::new(&self.disk, config.node.shards);
        supervisor.thread(SYNC_THREAD, OnEnd::StopNode, move || thread.run())?;
        Ok(syncer)
    }

    fn sources(&self, reads: &ReadPool, endpoint: &Endpoint) -> Sources {
        Sources {
            shards: self.switch.shards.clone(),
            lanes: self.switch.lanes.clone(),
            disk: self.disk.clone(),
            reads: reads.counters().clone(),
            board: self.switch.board.clone(),
            memory: self.switch.memory.clone(),
            endpoint: endpoint.clone(),
        }
    }

    fn surroundings(&self, config: &Config, reads: ReadPool, syncer: Syncer) -> Surroundings {
        Surroundings {
            clock: self.clock,
            disk: self.disk.clone(),
            lanes: self.switch.lanes.clone(),
            gathering: self.switch.gathering.clone(),
            reads,
            syncer,
            slow: config.log.slow_op,
        }
    }

    fn listener(&self, config: &Config, supervisor: &Supervisor, accepting: &CancellationToken) -> Listener {
        Listener {
            dialing: self.dialing.clone(),
            switch: self.switch.clone(),
            queue: sizes::lane_queue(config),
            supervisor: supervisor.clone(),
            accepting: accepting.clone(),
        }
    }

    fn control(
        self,
        config: &Config,
        supervisor: &Supervisor,
        with: Surroundings,
        secret: [u8; 32],
        terms: BirthTerms,
    ) -> (ControlTask, mpsc::Receiver<ControlEvent>) {
        let Parts { clock, control, disk, switch, dialing, events } = self;
        let shards = ShardsStart {
            shards: switch.shards.clone(),
            config: shard_config(config, secret),
            with,
            seed: rand::random(),
            terms,
        };
        let task = ControlTask {
            control,
            clock,
            disk,
            board: switch.board.clone(),
            switch,
            supervisor: supervisor.clone(),
            dialing,
            queue: sizes::lane_queue(config),
            shards: Some(shards),
            seed: rand::random(),
            links: BTreeMap::new(),
            dialers: BTreeMap::new(),
            reachable: BTreeSet::new(),
        };
        (task, events)
    }
}

/// Does something at once and then every `period`, until the other end of `stop` is dropped.
fn every(period: Duration, stop: &Receiver<()>, mut work: impl FnMut()) {
    loop {
        work();
        if stop.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// The end by which timed threads are stopped.
pub type StopTimed = Sender<()>;

fn begin(
    config: &Config,
    engine: Arc<dyn Engine>,
    mark_dir: &std::path::Path,
    clock: Clock,
) -> Result<Begun, ServerError> {
    let stored = Stored::load(&*engine)?;
    let draws = Draws { node: NodeId(rand::random()), disk: DiskId(rand::random()), nonce: Nonce(rand::random()) };
    let disk_id = stored.identity.as_ref().map_or(draws.disk, |identity| identity.disk);
    let last = stored.run.map(|run| run.nonce);
    let (mark, survived) = Mark::open(mark_dir, disk_id, last, draws.nonce)?;
    let recovered = engine.latest();
    let (start, mut batch) = Start::begin(stored, &config.node.name, draws, recovered, survived)?;
    let disk = Arc::new(Disk::new(Arc::new(AnyEngine::new(engine)), mark, config.storage.min_free, clock));
    disk.persist_batch(&mut batch)?;
    let run = start.run;
    info!(
        node = %start.identity.node, disk = %start.identity.disk, generation = run.generation.0,
        trusted_since = run.trusted_since.0, recovered = recovered.0, "data directory opened"
    );
    Ok(Begun { start, disk })
}

fn needed<'a>(path: Option<&'a PathBuf>, key: &'static str) -> Result<&'a PathBuf, ServerError> {
    path.ok_or_else(|| ServerError::Config { key, reason: "it is not set".to_owned() })
}

fn load_tls(config: &Config) -> Result<Tls, ServerError> {
    let files = TlsFiles {
        ca: needed(config.tls.ca_file.as_ref(), "tls.ca_file")?.clone(),
        cert: needed(config.tls.cert_file.as_ref(), "tls.cert_file")?.clone(),
        key: needed(config.tls.key_file.as_ref(), "tls.key_file")?.clone(),
    };
    let tls = Tls::load(&files)?;
    let (identity, node) = (tls.identity(), (config.node.name.as_str(), config.cluster.name.as_str()));
    if identity.role == crate::net::Role::Node && (identity.name.as_str(), identity.cluster.as_str()) == node {
        return Ok(tls);
    }
    let reason = format!("the certificate is for {identity}, this node is {}.node.{}", node.0, node.1);
    Err(ServerError::Config { key: "tls.cert_file", reason })
}

/// Where others reach the node.
fn advertised(config: &Config, bound: SocketAddr) -> Result<String, ServerError> {
    if !config.net.advertise.is_empty() {
        return Ok(config.net.advertise.clone());
    }
    if !config.net.listen.ip().is_unspecified() {
        return Ok(SocketAddr::new(config.net.listen.ip(), bound.port()).to_string());
    }
    if config.cluster.seeds.is_empty() {
        // a cluster of one node: nobody but clients of this host would ask it where it is
        return Ok(format!("127.0.0.1:{}", bound.port()));
    }
    let reason =
        format!("others cannot reach {}: set it to the address or name that they know this node by", config.net.listen);
    Err(ServerError::Config { key: "net.advertise", reason })
}

fn shard_config(config: &Config, secret: [u8; 32]) -> ShardConfig {
    let (net, replication) = (&config.net, &config.replication);
    ShardConfig {
        shard: 0,
        shards: config.node.shards,
        max_inflight: Shards::share(config.node.shards, net.max_inflight as usize),
        record_cache: sizes::record_cache(config),
        max_siblings: replication.max_siblings,
        sloppy: replication.sloppy,
        max_value: usize::try_from(net.max_value.as_u64()).unwrap_or(usize::MAX),
        max_object: sizes::object(config),
        r: replication.r,
        w: replication.w,
        sync_by_default: config.storage.sync == SyncMode::Always,
        request_timeout: net.request_timeout,
        attempt_timeout: net.attempt_timeout,
        read_repair_chance: replication.read_repair_chance,
        hedge_after: net.hedge_after,
        secret,
        antientropy: config.antientropy.clone(),
        hints: config.hints.clone(),
    }
}
