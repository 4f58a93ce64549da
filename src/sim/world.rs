//! A cluster in one thread and in virtual time: real machines on modelled disks, encoded frames between them.
//!
//! ```text
//!    clients (sessions)          Event queue (time, tie)            faults
//!          |                            |                              |
//!          v                            v                              v
//!    +-----------------------------------------------------------------------+
//!    |  Network: encoded frames, lost, doubled, late, cut                     |
//!    +-----+-----------------------+-----------------------+-----------------+
//!          |                       |                       |
//!    Node: Control + Cores   Node: Control + Cores   Node: Control + Cores     the daemon's code
//!          |                       |                       |
//!        Disk                    Disk                    Disk                  modelled, or RocksDB
//! ```
//!
//! Network, disk and clock differ from production, and nothing else. The same seed and calls give the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::availability::{Availability, Unrest};
use super::client::{ClientEvent, Clients};
use super::coverage::Coverage;
use super::disk::{Disk, MemoryDisk};
use super::loans::Loan;
use super::network::{Lane, Network, from_bytes, to_bytes};
use super::process::Node;
use super::queue::EventQueue;
use super::report::{TraceFilter, Violation};
use super::trace::Trace;
use super::witness::Witness;
use super::workload::bucket_of;
use crate::api::{Request, Response};
use crate::frame::codec;
use crate::node::{ClientRef, LinkId, Output, Rebuilt, ShardCounters, ShardInput};
use crate::ring::{PreferenceList, RingView};
use crate::types::{Key, NodeId, Now, PartitionId, Time, Token};
use crate::version::Object;

/// What is to happen at some moment.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame arrives on a link.
    Frame { link: LinkId, to_dialer: bool, lane: Lane, bytes: Bytes },
    /// What a cut has held up on a control lane is sent again.
    Retransmit { link: LinkId, to_dialer: bool },
    /// A link's ends learn that it is gone.
    LinkDown { link: LinkId },
    /// A process learns that a link is gone.
    LinkEnd { node: usize, run: u64, link: LinkId },
    /// A pair that was cut, or of which one stood still: if it is so yet, its links have been silent for too long.
    Silence { a: usize, b: usize },
    /// A node dials what it lacks.
    Dial { node: usize, run: u64 },
    /// Control's timer.
    ControlTimer { node: usize, run: u64 },
    /// A shard's timer.
    ShardTimer { node: usize, run: u64, shard: usize },
    /// A shard takes what is queued.
    Drain { node: usize, run: u64, shard: usize },
    /// What a drain has brought forth leaves.
    Release { node: usize, run: u64, shard: usize, outputs: Vec<Output> },
    /// The sync ends that a shard's drain has begun.
    SyncEnd { node: usize, run: u64, shard: usize },
    /// A shard gets an input.
    Input { node: usize, run: u64, shard: usize, input: ShardInput },
    /// Something reaches, or befalls, a client.
    Client(ClientEvent),
}

impl Event {
    /// The process that it is meant for, by its node and run.
    pub(super) fn process(&self) -> Option<(usize, u64)> {
        match self {
            Event::LinkEnd { node, run, .. }
            | Event::Dial { node, run }
            | Event::ControlTimer { node, run }
            | Event::ShardTimer { node, run, .. }
            | Event::Drain { node, run, .. }
            | Event::Release { node, run, .. }
            | Event::SyncEnd { node, run, .. }
            | Event::Input { node, run, .. } => Some((*node, *run)),
            Event::Frame { .. }
            | Event::Retransmit { .. }
            | Event::LinkDown { .. }
            | Event::Silence { .. }
            | Event::Client(_) => None,
        }
    }
}

/// When a cold read comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// With the next drain.
    Immediate,
    /// After so many microseconds at most, in any order.
    Within(u64),
    /// As the node's disk is.
    Paced,
    /// When [`World::release_read`] says so.
    Held,
}

/// A read whose outcome is held back.
#[derive(Debug)]
pub struct HeldRead {
    /// Who waits for it.
    pub node: usize,
    pub(super) run: u64,
    pub(super) shard: usize,
    pub(super) input: ShardInput,
}

/// A request put to a node directly, and all that came back.
#[derive(Debug)]
pub struct Asked {
    /// To whom.
    pub node: usize,
    /// To which of its processes.
    pub run: u64,
    /// When.
    pub at: Time,
    /// The answers; more than one is a fault.
    pub answers: Vec<(Time, Response)>,
}

/// A disk that has lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose.
    pub node: usize,
    /// Everything, or only what was not synced.
    pub all: bool,
    /// When.
    pub at: Time,
}

/// See the module.
pub struct World<D: Disk = MemoryDisk> {
    /// Virtual time since the world began.
    pub now: Time,
    /// What all chance comes from.
    pub rng: Xoshiro256PlusPlus,
    /// The nodes.
    pub nodes: Vec<Node<D>>,
    /// What is between them.
    pub network: Network,
    /// When cold reads come back.
    pub reads: Reads,
    /// Those that are held back.
    pub held: Vec<HeldRead>,
    /// Requests put to a node directly.
    pub answers: BTreeMap<u64, Asked>,
    /// What disks have lost.
    pub losses: Vec<Loss>,
    /// Of these, what nobody has taken note of yet.
    pub(super) fresh_losses: Vec<Loss>,
    /// Records that were reaped since the workload was told: the keys' places, and the tombstones.
    pub(super) fresh_reaps: Vec<(Time, Bytes, Arc<Object>)>,
    /// Partitions of which some store that runs, or ran, has met a reaping round.
    pub(super) rounds_raised: BTreeSet<PartitionId>,
    /// What was met.
    pub coverage: Coverage,
    /// How likely a replicate to the last slot is left out.
    pub withhold: f64,
    pub(super) clients: Clients,
    pub(super) witness: Witness,
    pub(super) trace: Trace,
    /// What upsets the nodes.
    pub(super) unrest: Unrest,
    /// Puts that had to succeed.
    pub availability: Availability,
    /// What stand-ins keep for primaries.
    pub(super) loans: Vec<Loan>,
    /// The members of the cluster, once it is born.
    pub(super) ids: BTreeMap<NodeId, usize>,
    /// The ring that was last settled on.
    settled: Option<Arc<RingView>>,
    /// A node whose frames go past the network: a fault of the simulation itself.
    pub(super) past_the_network: Option<usize>,
    queue: EventQueue<Event>,
    next_request: u64,
}

/// When a world begins, by its own clock: not at zero, which stands for never in some places.
pub(super) const BEGINNING: Time = Time::from_micros(1_000_000);
/// Requests that are put to a node directly come on this lane.
pub(super) const DIRECT: u64 = 1;
/// Requests of sessions come on this one.
pub(super) const SESSION: u64 = 2;

impl<D: Disk> World<D> {
    /// A world of nodes none of which runs.
    pub fn new(seed: u64, nodes: Vec<Node<D>>, trace: Option<TraceFilter>) -> World<D> {
        World {
            now: BEGINNING,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            nodes,
            network: Network::default(),
            reads: Reads::Immediate,
            held: Vec::new(),
            answers: BTreeMap::new(),
            losses: Vec::new(),
            fresh_losses: Vec::new(),
            fresh_reaps: Vec::new(),
            rounds_raised: BTreeSet::new(),
            coverage: Coverage::default(),
            withhold: 0.0,
            clients: Clients::default(),
            witness: Witness::default(),
            trace: Trace::new(trace),
            unrest: Unrest::default(),
            availability: Availability::default(),
            loans: Vec::new(),
            ids: BTreeMap::new(),
            settled: None,
            past_the_network: None,
            queue: EventQueue::default(),
            next_request: 0,
        }
    }

    /// What a node's clocks show.
    pub fn clock(&self, node: usize) -> Now {
        self.nodes[node].clocks.at(self.now)
    }

    pub(super) fn schedule(&mut self, after_micros: u64, event: Event) {
        self.schedule_at(self.now + Duration::from_micros(after_micros), event);
    }

    pub(super) fn schedule_at(&mut self, at: Time, event: Event) {
        let tie = self.rng.random();
        self.queue.push(at, tie, event);
    }

    /// As [`schedule`](World::schedule), and in the order of the calls.
    pub(super) fn schedule_in_order(&mut self, after_micros: u64, event: Event) {
        self.queue.push(self.now + Duration::from_micros(after_micros), 0, event);
    }

    /// Lets `span` pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// The next event, if it is due by `end`.
    pub fn step(&mut self, end: Time) -> bool {
        let Some((time, event)) = self.queue.pop(end) else { return false };
        self.now = time;
        match event.process().and_then(|(node, _)| self.nodes[node].paused.as_mut()) {
            Some(waiting) => {
                waiting.push(event);
                self.coverage.hit(super::coverage::Mark::EventHeld);
            }
            None => self.on_event(event),
        }
        true
    }

    /// Runs until all running nodes can reach one another and follow a ring.
    ///
    /// # Panics
    /// If that takes longer than 20 s.
    #[track_caller]
    pub fn settle(&mut self) {
        assert!(self.settles_within(Duration::from_secs(20)), "it does not settle: {:?}", self.waiting_for());
    }

    /// Runs until all running nodes can reach one another and follow a ring; whether they do in time.
    pub fn settles_within(&mut self, patience: Duration) -> bool {
        let patience = self.now + patience;
        // Links of processes that are gone are noticed first.
        self.run_for(Duration::from_millis(5));
        while !self.is_settled() {
            let end = self.now + Duration::from_millis(50);
            if end >= patience {
                return false;
            }
            while self.step(end) {}
            self.now = end;
        }
        self.run_for(Duration::from_millis(400));
        self.learn_ids();
        true
    }

    pub(super) fn is_settled(&self) -> bool {
        let running: Vec<_> = self.nodes.iter().filter_map(|node| node.process.as_ref()).collect();
        running.iter().all(|process| {
            let mut others = running.iter().filter(|other| other.control.node() != process.control.node());
            process.control.view().is_some() && others.all(|other| process.routes.contains_key(&other.control.node()))
        })
    }

    fn learn_ids(&mut self) {
        let Some(view) = self.any_view() else { return };
        let place = |name: &str| self.nodes.iter().position(|node| node.config.name == name);
        let members = view.layout().members().iter();
        self.ids = members.filter_map(|member| Some((member.id, place(&member.name)?))).collect();
        self.settled = Some(view);
    }

    /// What each running node says it waits for.
    pub fn waiting_for(&self) -> Vec<String> {
        let said = |node: &Node<D>| node.process.as_ref().map(|process| process.control.status().waiting_for);
        self.nodes.iter().filter_map(said).collect()
    }

    /// The ring that some running node follows, or, if none runs, the one that was last settled on.
    pub(super) fn any_view(&self) -> Option<Arc<RingView>> {
        let running = self.nodes.iter().find_map(|node| node.process.as_ref()?.control.view().cloned());
        running.or_else(|| self.settled.clone())
    }

    /// The ring.
    ///
    /// # Panics
    /// If nobody follows one.
    pub fn view(&self) -> Arc<RingView> {
        self.any_view().expect("a node runs, and the cluster is born")
    }

    /// The nodes that hold a key of the simulation, by slot.
    pub(super) fn primaries(&self, key: &str) -> Vec<usize> {
        self.preferred(key, |list, _| list.slots().to_vec())
    }

    /// The same nodes, in the order in which they are to coordinate its writes.
    pub(super) fn coordinators(&self, key: &str) -> Vec<usize> {
        self.preferred(key, PreferenceList::coordinators)
    }

    fn preferred(&self, key: &str, of: impl Fn(&PreferenceList, Token) -> Vec<NodeId>) -> Vec<usize> {
        let (Some(view), Ok(name)) = (self.any_view(), Key::new(key.to_owned())) else { return Vec::new() };
        let bucket = bucket_of(key);
        let (partition, token) = view.partition_of(&bucket, &name);
        let list = view.preference(partition, &bucket).expect("the simulation's buckets are in every layout");
        of(list, token).iter().filter_map(|node| self.ids.get(node).copied()).collect()
    }

    /// Whether a node's disk was lost and is not rebuilt.
    pub(super) fn is_rebuilding(&self, node: usize) -> bool {
        let status = |process: &super::process::Process<D::Engine>| process.control.status();
        let Some(status) = self.nodes[node].process.as_ref().map(status) else { return false };
        status.members.iter().any(|member| member.node == status.node && member.rebuilding)
    }

    /// Whether a node lacks what was wiped from its disk.
    pub(super) fn is_lacking(&self, node: usize) -> bool {
        self.nodes[node].process.as_ref().is_some_and(|process| process.cores().any(|core| core.lacking() > 0))
    }

    /// Whether all shards of a node that has lost its disk have filled their trees again.
    pub(super) fn is_whole(&self, node: usize) -> bool {
        self.nodes[node].process().cores().all(|core| core.rebuilt().is_some_and(Rebuilt::is_whole))
    }

    /// The shard of a running node that a request is for. `None`: the node does not know yet which keys are whose, and its listeners say
    /// so themselves.
    pub(super) fn shard_of(&self, node: usize, request: &Request) -> Option<usize> {
        let process = self.nodes[node].process();
        let view = process.control.view()?;
        let partition = match request {
            Request::Get(get) => view.partition_of(&get.bucket, &get.key).0,
            Request::Put(put) => view.partition_of(&put.header.bucket, &put.header.key).0,
            Request::Where(place) => view.partition_of(&place.bucket, &place.key).0,
            Request::Explain(explain) => view.partition_of(&explain.bucket, &explain.key).0,
            Request::Scan(scan) => scan.partition,
            Request::Ring | Request::Status | Request::Hints(_) | Request::Repair(_) | Request::Tombstones(_) => {
                return Some(0);
            }
        };
        Some(usize::from(partition.0) % process.lanes.len())
    }

    /// A request is put to a node; nothing has happened yet, and requests of one moment come in the order of the calls. A
    /// node that does not run never answers.
    ///
    /// # Panics
    /// If the request does not survive its own encoding.
    pub fn send(&mut self, node: usize, request: &Request) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let frame = from_bytes(to_bytes(&codec::encode_client_request(id, request)));
        let request = codec::decode_client_request(frame).expect("what was encoded is decoded");
        let run = self.nodes[node].run;
        self.answers.insert(id, Asked { node, run, at: self.now, answers: Vec::new() });
        if self.nodes[node].process.is_none() {
            return id;
        }
        let from = ClientRef { lane: DIRECT, id };
        let Some(shard) = self.shard_of(node, &request) else {
            self.respond_not_ready(node, from);
            return id;
        };
        let input = ShardInput::Client { from, arrived: self.clock(node).time, request };
        self.schedule_in_order(0, Event::Input { node, run, shard, input });
        id
    }

    /// The answer, once there is one.
    pub fn answer(&self, id: u64) -> Option<&Response> {
        self.answers[&id].answers.first().map(|(_, response)| response)
    }

    /// Waits for an answer.
    ///
    /// # Panics
    /// If there is none within 10 s.
    #[track_caller]
    pub fn wait(&mut self, id: u64) -> Response {
        let end = self.now + Duration::from_secs(10);
        while self.answer(id).is_none() {
            assert!(self.step(end), "request {id} is never answered: {:?}", self.nodes[self.answers[&id].node].fatal);
        }
        self.answer(id).expect("the loop waited for it").clone()
    }

    /// The first thing that must not be and was seen by somebody who sees every machine from within.
    pub fn breach(&self) -> Option<&Violation> {
        self.witness.broken().map(|(_, violation)| violation)
    }

    /// The sum of a running node's shards' counters.
    pub fn count(&self, node: usize, which: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.nodes[node].process().cores().map(|core| which(&core.counters())).sum()
    }
}
