//! A node: a disk and clocks that last, and a process on them that comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::disk::Disk;
use super::host::Step;
use super::world::Event;
use crate::antientropy::tree_shape;
use crate::node::startup::{Draws, Start, StartError, Stored, clean_record};
use crate::node::{Control, ControlConfig, Core, Fatal, InboxLimits, InputQueue, LinkId, ShardConfig};
use crate::storage::Rounds;
use crate::storage::merkle::Forest;
use crate::storage::{Batch, Engine, Family};
use crate::types::{BatchNumber, DiskId, Generation, NodeId, NodeRun, Nonce, Now, Time};

/// Bytes that may wait in an inbox: more than any schedule sends.
const INBOX_BYTES: usize = 64 << 20;

/// What a node is configured with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// How many shards it runs.
    pub shards: u16,
    /// For Control; the address in it is where the others dial.
    pub control: ControlConfig,
    /// For each shard, but for its number.
    pub shard: ShardConfig,
}

/// A node's clocks, which nobody else's agree with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// How much the monotonic clock runs fast, in parts of a million.
    pub drift_ppm: i32,
    /// What the monotonic clock showed when the world began, in microseconds.
    pub started_us: u64,
    /// What the wall clock showed when the world began, in milliseconds.
    pub wall_started_ms: u64,
    /// How much it has been set forward since, in milliseconds.
    pub wall_ahead_ms: i64,
}

impl Clocks {
    fn rate(self) -> u64 {
        u64::try_from(1_000_000 + i64::from(self.drift_ppm)).expect("a drift is small")
    }

    /// What they show at a moment of the world.
    pub fn at(self, now: Time) -> Now {
        let wall = (self.wall_started_ms + now.as_micros() / 1000).saturating_add_signed(self.wall_ahead_ms);
        let micros = u128::from(now.as_micros()) * u128::from(self.rate()) / 1_000_000;
        let micros = u64::try_from(micros).expect("no run lasts that long");
        Now { time: Time::from_micros(self.started_us + micros), wall_ms: wall }
    }

    /// The first moment of the world at which the monotonic clock shows `time`.
    pub fn when(self, time: Time) -> Time {
        let micros = u128::from(time.as_micros().saturating_sub(self.started_us)) * 1_000_000;
        let micros = micros.div_ceil(u128::from(self.rate()));
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// How long a machine's parts take, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// A sync, at most.
    pub sync: u64,
    /// A read of the disk, at most.
    pub read: u64,
    /// Between the log and what leaves after it, at most.
    pub release: u64,
    /// Before each drain, while the node is slow.
    pub node_drag: u64,
    /// On each sync and read, while the disk is slow.
    pub disk_drag: u64,
}

/// A shard's core and what surrounds it.
pub struct Lane<E> {
    /// The machine with its store.
    pub core: Core<E>,
    pub(super) inbox: InputQueue,
    /// A drain is on its way.
    pub(super) woken: bool,
    /// The timer that is on its way, by the world's clock.
    pub(super) timer: Option<Time>,
    /// Until when the last drain takes.
    pub(super) busy: Time,
}

/// The process.
pub struct Process<E> {
    /// Its Control.
    pub control: Control,
    /// Its shards.
    pub lanes: Vec<Lane<E>>,
    pub(super) dials: BTreeSet<String>,
    /// By which link this node's shards reach a peer.
    pub routes: BTreeMap<NodeId, (LinkId, Generation)>,
    /// Who may send shards' requests on a link that it dialed.
    pub admitted: BTreeMap<LinkId, NodeRun>,
    /// Everything up to here is on the disk.
    pub(super) synced: BatchNumber,
}

impl<E: Engine> Process<E> {
    /// The shards' machines.
    pub fn cores(&self) -> impl Iterator<Item = &Core<E>> {
        self.lanes.iter().map(|lane| &lane.core)
    }
}

/// The node.
pub struct Node<D: Disk> {
    /// What it is configured with.
    pub config: NodeConfig,
    /// What it stores on.
    pub disk: D,
    /// The file that outlives the process but not the power.
    pub survived: Option<BatchNumber>,
    /// What runs, if it does.
    pub process: Option<Process<D::Engine>>,
    /// Which process this is, so that what was meant for another is told apart.
    pub run: u64,
    /// Why the last process ended itself.
    pub fatal: Option<Fatal>,
    /// Why the last start came to nothing.
    pub start_error: Option<String>,
    /// The last start came to nothing since the peers have refused the disk for good.
    pub refused: bool,
    /// The last start could not trust that the disk had forgotten nothing.
    pub trust_lost: bool,
    /// The next drain that gets there dies there.
    pub die_after: Option<Step>,
    /// And the power goes with it.
    pub dies_by_power: bool,
    /// A failed sync ends the process.
    pub sync_failure_ends: bool,
    /// The steps of the last drain that did something.
    pub steps: Vec<Step>,
    /// What its clocks show.
    pub clocks: Clocks,
    /// How fast it is.
    pub pace: Pace,
    /// Inputs that a drain takes at most.
    pub batch: usize,
    /// Which process has been told to stop.
    pub(super) stopping: Option<u64>,
    /// While it is paused: what waits for it.
    pub(super) paused: Option<Vec<Event>>,
}

impl<D: Disk> Node<D> {
    /// A node that does not run yet.
    pub fn new(config: NodeConfig, disk: D) -> Node<D> {
        Node {
            config,
            disk,
            survived: None,
            process: None,
            run: 0,
            fatal: None,
            start_error: None,
            refused: false,
            trust_lost: false,
            die_after: None,
            dies_by_power: false,
            sync_failure_ends: true,
            steps: Vec::new(),
            clocks: Clocks::default(),
            pace: Pace::default(),
            batch: usize::MAX,
            stopping: None,
            paused: None,
        }
    }

    /// Starts the process, as the daemon does.
    ///
    /// # Panics
    /// If it runs.
    pub(super) fn start(&mut self, rng: &mut Xoshiro256PlusPlus) {
        assert!(self.process.is_none(), "{} runs already", self.config.name);
        self.fatal = None;
        self.start_error = None;
        self.refused = false;
        self.run += 1;
        match self.begin(rng) {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                self.refused = matches!(error, StartError::Refused { .. });
                self.start_error = Some(error.to_string());
            }
        }
    }

    fn begin(&mut self, rng: &mut Xoshiro256PlusPlus) -> Result<Process<D::Engine>, StartError> {
        let engine = self.disk.engine();
        let recovered = engine.latest();
        let stored = Stored::load(&**engine)?;
        let draws = Draws { node: NodeId(rng.random()), disk: DiskId(rng.random()), nonce: Nonce(rng.random()) };
        let (start, mut batch) = Start::begin(stored, &self.config.name, draws, recovered, self.survived)?;
        let shape = start.layout.as_ref().map(tree_shape);
        let forest = Forest::load(&**engine, self.config.shard.leaves(), shape.as_ref())?;
        let rounds = Rounds::load(&**engine)?;
        engine.commit(&mut batch)?;
        engine.sync()?;
        self.trust_lost = start.stored > Generation(0) && start.run.trusted_since == start.run.generation;
        let lane = |shard| {
            let config = ShardConfig { shard, shards: self.config.shards, ..self.config.shard.clone() };
            let limits = InboxLimits::of(config.max_inflight, INBOX_BYTES);
            // Half of the answers that the daemon's takes, which few schedules fill: that answers are dropped has to be met.
            let inbox = InputQueue::new(InboxLimits { answers: limits.requests, ..limits });
            let core = Core::new(config, start.identity.node, engine.clone(), &forest, &rounds, rng.random());
            Lane { core, inbox, woken: false, timer: None, busy: Time::ZERO }
        };
        let lanes = (0..self.config.shards).map(lane).collect();
        let synced = engine.latest();
        Ok(Process {
            control: Control::new(self.config.control.clone(), start, rng.random()),
            lanes,
            dials: BTreeSet::new(),
            routes: BTreeMap::new(),
            admitted: BTreeMap::new(),
            synced,
        })
    }

    /// The last acts of an ordered stop, with nothing left to be answered.
    ///
    /// # Panics
    /// If it does not run.
    pub fn mark_clean(&mut self) {
        let process = self.process.as_ref().expect("only a running node stops");
        let (key, value) = clean_record(process.control.generation());
        let mut batch = Batch::default();
        batch.put(Family::Meta, &key.bytes(), &value);
        let engine = self.disk.engine();
        // A disk that fails now leaves an unclean stop.
        let _ = engine.commit(&mut batch).and_then(|_| engine.sync());
    }

    /// Whether the disk takes writes.
    pub fn engine_is_sound(&self) -> bool {
        self.disk.engine().stats().stopped == 0
    }

    /// The running process.
    ///
    /// # Panics
    /// If none runs.
    #[track_caller]
    pub fn process(&self) -> &Process<D::Engine> {
        self.process.as_ref().unwrap_or_else(|| {
            panic!("{} does not run: {:?} {:?}", self.config.name, self.fatal, self.start_error);
        })
    }

    /// Who runs here.
    ///
    /// # Panics
    /// If nobody does.
    pub fn id(&self) -> NodeId {
        self.process().control.node()
    }

    /// Which run it is.
    ///
    /// # Panics
    /// If none is.
    pub fn generation(&self) -> Generation {
        self.process().control.generation()
    }

    /// When the process is woken by its own timers, by the world's clock.
    pub(super) fn when(&self, time: Time) -> Time {
        self.clocks.when(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_when_the_nodes_clock_says_so_and_not_before() {
        for drift_ppm in [-300, -1, 0, 7, 300] {
            let clocks = Clocks { drift_ppm, started_us: 12_345, ..Clocks::default() };
            for micros in [12_345, 99_999, 1_000_003, 700_000_000_001] {
                let time = Time::from_micros(micros);
                let due = clocks.when(time);
                assert!(clocks.at(due).time >= time, "{drift_ppm} {micros}");
                let before = Time::from_micros(due.as_micros().saturating_sub(2));
                assert!(due == Time::ZERO || clocks.at(before).time < time, "{drift_ppm} {micros}");
            }
        }
    }
}
