//! A shard: coordinates the requests of clients for its partitions, and answers peers for them. Sans-IO.
//!
//! ```text
//!    Client, Peer, Answer, Link, Verdict, Ring, Standing, ReadOnly, Drain, Timer      (now, ShardInput)
//!                             |
//!                      +------v------+
//!                      |    Shard    |  entries: puts, gets, scans under way; the writes seen lately
//!                      +--+-------^--+
//!          tasks, pages   |       |   Done, Committed, WriteFailed, SyncFailed (Feedback)
//!                      +--v-------+--+
//!                      | drain+Store |
//!                      +-------------+
//!    unbound, after_written ... sync ... after_durable                       (Effects)
//! ```
//!
//! A request to a replica carries `entry << 8 | slot` as its id, so that an answer finds its entry and its slot by itself.

mod compared;
mod config;
mod counters;
mod entry;
mod exchange;
mod explain;
mod forward;
mod get;
mod hints;
mod join;
mod lifetime;
mod load;
mod memory;
mod notices;
mod outcome;
mod page;
mod peers;
mod put;
mod reap;
mod rebuild;
mod repair;
mod replica;
mod replicate;
mod request;
mod scrub;
mod shares;
mod tombstones;
mod trace;
mod transfer;
mod vouch;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use config::ShardConfig;
pub use counters::ShardCounters;

use self::entry::{Entry, Work};
use self::memory::WriteMemory;
use self::peers::Peers;
pub use self::rebuild::Rebuilt;
pub use self::shares::{OwnShares, Syncing};
pub use self::trace::Step;
use self::trace::Tracer;
use super::effects::{Effects, Feedback, Output, PeerRef, Purpose, ShardInput, Standing, TombstonePurpose};
use crate::antientropy::{Exchange, Handoff, MAX_WINDOW, Reaper, ReaperSettings, Scrub, ScrubSettings, Settings};
use crate::api::{Request, TombstoneOrder};
use crate::message::{PeerAnswer, PeerRequest, Refusal};
use crate::quorum::ReplyTimes;
use crate::ring::{RingView, Slot};
use crate::storage::{OpFailure, Outcome, Task};
use crate::types::{Generation, NodeId, NodeRun, Now, PartitionId, Time};
use crate::version::{Actor, ContextSealer, Trust};

/// Write ids remembered at most, whatever their age.
const MAX_REMEMBERED: usize = 1 << 20;
/// Answers to a request with this entry's id are of no interest: nobody waits for an asynchronous repair.
const UNTRACKED: u64 = 0;
/// Requests that may be with one peer, for each request that may wait for an answer: what a peer's shard takes.
const WITH_PEER_PER_INFLIGHT: usize = 2;
/// The longest deadline that a client is granted.
const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// See the module.
pub struct Shard {
    config: ShardConfig,
    node: NodeId,
    sealer: ContextSealer,
    view: Option<Arc<RingView>>,
    standing: Standing,
    read_only: Option<String>,
    draining: bool,
    /// The latest run of each other node that was granted here.
    runs: BTreeMap<NodeId, Generation>,
    reachable: BTreeSet<NodeId>,
    /// Members that this node holds for dead.
    convicted: BTreeSet<NodeId>,
    peers: Peers,
    tracer: Tracer,
    entries: BTreeMap<u64, Entry>,
    timers: BTreeSet<(Time, u64)>,
    /// Puts by write id, while they are under way.
    writes: BTreeMap<crate::types::WriteId, u64>,
    memory: WriteMemory,
    /// This node's own shares that are in the batch that is being gathered.
    unwritten: OwnShares,
    /// Answers and own shares that wait for a sync.
    unsynced: usize,
    syncing: Option<Syncing>,
    /// Hints to be written with what comes next.
    to_hint: Vec<Task<Purpose>>,
    /// Reads that were shown this node's own records, that batch included.
    unwritten_reads: Vec<u64>,
    /// Gets begun in this drain that this node's own record is read for.
    begun_reads: Vec<u64>,
    /// How fast peers answer gets.
    reply_times: ReplyTimes,
    /// Batches so far.
    drains: u64,
    /// Answered entries, oldest first; some have ended since.
    lingering: VecDeque<u64>,
    waiting: usize,
    /// What is kept for other nodes.
    handoff: Handoff,
    /// Entries of its, which no client waits for.
    handing_off: usize,
    /// Of these, those that this node's own disk has; the handoff is told with the next drain, since this one may run no more operations.
    synced_hints: Vec<u64>,
    /// Compares what this node holds with its other primaries.
    exchange: Exchange,
    /// Entries that no client waits for, but for those of the handoff: of the exchange, the reaper and the rounds of a new disk.
    background: usize,
    /// Of these, the exchange's.
    exchanging: usize,
    /// Objects of a transfer that are under way at a time.
    transfer_window: usize,
    /// Bytes of objects of all transfers that are with peers.
    transfer_bytes: usize,
    /// Of a lost disk's trees.
    rebuild: rebuild::Rebuild,
    /// Reads what this node holds.
    scrub: Scrub,
    reaper: Reaper,
    /// What runners wait for, by numbers of entries.
    answering: BTreeMap<u64, vouch::Answering>,
    join: join::Join,
    /// The count of tombstones that is under way.
    tombstone_walk: Option<tombstones::Walk>,
    /// Partitions that an earlier run has left to be counted.
    uncounted: BTreeSet<PartitionId>,
    load: load::Load,
    /// When the load is looked at again.
    load_at: Option<Time>,
    /// The wall clock at the last input.
    wall_ms: u64,
    /// When the input came that is being handled.
    time: Time,
    next_entry: u64,
    rng: StdRng,
    counters: ShardCounters,
}

impl Shard {
    /// A shard of `node` that has not been told its ring yet: it refuses what needs one.
    pub fn new(config: ShardConfig, node: NodeId, seed: u64) -> Shard {
        let nothing = Trust { generation: Generation(0), trusted_since: Generation(0), granted: false };
        let mut rng = StdRng::seed_from_u64(seed);
        let with_peer = config.max_inflight.saturating_mul(WITH_PEER_PER_INFLIGHT);
        let settings = Settings {
            node,
            shard: config.shard,
            shards: config.shards,
            // What a peer has no room for is not sent; and half of the room is the clients'.
            window: MAX_WINDOW.min(with_peer / 2).max(1),
            config: config.hints.clone(),
        };
        let leaves = config.leaves();
        let compares = config.exchange(node);
        let scrubs =
            ScrubSettings { shard: config.shard, shards: config.shards, leaves, config: config.antientropy.clone() };
        let interval = config.antientropy.reap_interval;
        let reaps = ReaperSettings { node, shard: config.shard, shards: config.shards, interval };
        Shard {
            exchange: Exchange::new(compares, rng.random()),
            background: 0,
            exchanging: 0,
            transfer_window: transfer::MAX_UNDER_WAY.min(with_peer / 4).max(1),
            transfer_bytes: 0,
            rebuild: rebuild::Rebuild::default(),
            scrub: Scrub::new(scrubs, rng.random()),
            reaper: Reaper::new(reaps, rng.random()),
            answering: BTreeMap::new(),
            join: join::Join::default(),
            tombstone_walk: None,
            uncounted: BTreeSet::new(),
            load: load::Load::default(),
            load_at: None,
            handoff: Handoff::new(settings, rng.random()),
            handing_off: 0,
            synced_hints: Vec::new(),
            sealer: ContextSealer::new(&config.secret),
            memory: WriteMemory::new(config.request_timeout * 2, MAX_REMEMBERED, seed),
            reply_times: ReplyTimes::new(config.hedge_after, config.attempt_timeout),
            peers: Peers::new(with_peer, config.attempt_timeout),
            config,
            node,
            view: None,
            tracer: Tracer::default(),
            standing: Standing { node, trust: nothing, rebuilding: false },
            read_only: None,
            draining: false,
            runs: BTreeMap::new(),
            reachable: BTreeSet::new(),
            convicted: BTreeSet::new(),
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            writes: BTreeMap::new(),
            unwritten: OwnShares::default(),
            unsynced: 0,
            syncing: None,
            to_hint: Vec::new(),
            unwritten_reads: Vec::new(),
            begun_reads: Vec::new(),
            drains: 0,
            lingering: VecDeque::new(),
            waiting: 0,
            wall_ms: 0,
            time: Time::ZERO,
            next_entry: 0,
            rng,
            counters: ShardCounters::default(),
        }
    }

    /// When [`ShardInput::Timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let entries = self.timers.first().map(|(time, _)| *time);
        entries.into_iter().chain(self.hints_timeout()).chain(self.exchange_timeout()).min()
    }

    /// What it has done.
    pub fn counters(&self) -> ShardCounters {
        ShardCounters {
            in_flight: self.waiting as u64,
            with_peers: self.peers.asked() as u64,
            withheld: self.peers.withheld(),
            breakers_open: self.peers.open() as u64,
            breaker_openings: self.peers.openings(),
            unsynced: self.unsynced as u64,
            lingering: self.entries.len().saturating_sub(self.waiting + self.handing_off + self.background) as u64,
            hints_under_way: self.handing_off as u64,
            exchanges_under_way: self.exchanging as u64,
            ..self.reaper_counters(self.scrub_counters(self.exchange_counters(self.hint_counters())))
        }
    }

    /// The members that it was told to hold for dead.
    pub fn convicted(&self) -> &BTreeSet<NodeId> {
        &self.convicted
    }

    /// Whether no client waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// Takes what happened. [`ShardInput::Fetched`], [`ShardInput::Paged`], [`ShardInput::Counted`] and [`ShardInput::Synced`] concern the
    /// store and are taken by the drain.
    pub fn handle(&mut self, now: Now, input: ShardInput, fx: &mut Effects) {
        (self.wall_ms, self.time) = (now.wall_ms, now.time);
        match input {
            ShardInput::Client { from, arrived, request } => {
                self.note_load(now, arrived, fx);
                self.handle_client(now, from, arrived, request, fx);
            }
            ShardInput::Peer { from: PeerRef { node, .. }, generation, .. }
                if self.is_outdated(NodeRun { node, generation }) =>
            {
                self.counters.outdated += 1;
            }
            ShardInput::Answer { from, .. } if self.is_outdated(from) => self.counters.outdated += 1,
            ShardInput::Peer { from, arrived, request, .. } => self.handle_peer(now, from, arrived, request, fx),
            ShardInput::Answer { from, id, answer } => self.handle_answer(now, from.node, id, answer, fx),
            ShardInput::Met(run) => self.on_met(run),
            ShardInput::Link { node, up } => self.on_link(now, node, up, fx),
            ShardInput::Ring(view) => {
                self.view = Some(view);
                self.on_place(now, fx);
            }
            ShardInput::Verdict { node, convicted } => self.on_verdict(now, node, convicted, fx),
            ShardInput::Standing(standing) => {
                self.node = standing.node;
                self.standing = standing;
                self.on_place(now, fx);
            }
            ShardInput::ReadOnly(reason) => self.on_read_only(now, reason, fx),
            ShardInput::Drain => {
                self.draining = true;
                self.stop_background();
                self.stop_tombstone_walk(fx);
            }
            ShardInput::Timer => {
                self.handle_timer(now, fx);
                self.on_hints_timer(now, fx);
                self.on_exchange_timer(now, fx);
            }
            ShardInput::HintsRead { ticket, page } => self.on_hints_read(now, ticket, page, fx),
            ShardInput::ItemsRead { purpose, partition, page } => {
                self.note_unreadable(now, partition, page.as_ref().err(), fx);
                self.on_items_read(now, purpose, page, fx);
            }
            ShardInput::TombstonesRead { purpose, partition, page } => {
                self.note_unreadable(now, partition, page.as_ref().err(), fx);
                match purpose {
                    TombstonePurpose::Find(step) => self.on_tombstones_found(now, step, page, fx),
                    TombstonePurpose::Stats => self.on_tombstones_read(page, fx),
                }
            }
            ShardInput::Hints(order) => self.on_hint_order(now, order, fx),
            ShardInput::Repair(order) => self.on_repair_order(now, order, fx),
            ShardInput::Tombstones { from, order: TombstoneOrder::Stats } => self.count_tombstones(now, from, fx),
            ShardInput::Fetched { .. }
            | ShardInput::Paged { .. }
            | ShardInput::Counted { .. }
            | ShardInput::Synced(_) => {
                debug_assert!(false, "the drain takes what the disk has done");
            }
        }
        fx.tasks.append(&mut self.to_hint);
    }

    /// Whether operations of earlier inputs may wait, to be run together with those that this one leads to.
    ///
    /// It changes nothing by which their outcomes are judged. What may be the end of an exchange does: leaves lack nothing more from then on,
    /// and an operation would be taken to have met them so. And they change nothing by which it is handled, but what the drain knows of
    /// ([`ShardInput::write_id`]): there is room for it whether they end or not.
    pub fn gathers(&self, input: &ShardInput) -> bool {
        let has_room = self.waiting < self.config.max_inflight;
        match input {
            ShardInput::Client { request, .. } => has_room && matches!(request, Request::Get(_) | Request::Put(_)),
            ShardInput::Peer { request, .. } => match request {
                PeerRequest::Coordinate(_) => has_room,
                PeerRequest::Replicate(_) | PeerRequest::Fetch(_) => true,
                _ => false,
            },
            ShardInput::Answer { answer: PeerAnswer::Fetched(_) | PeerAnswer::Coordinated(_), .. } => true,
            ShardInput::Answer { id, answer: PeerAnswer::Replicated(_), .. } => {
                let work = self.entries.get(&(id >> 8)).map(|entry| &entry.work);
                matches!(work, Some(Work::Put(_) | Work::Get(_)))
            }
            _ => false,
        }
    }

    /// Takes what the drain reports.
    pub fn on_feedback(&mut self, now: Now, feedback: Feedback, fx: &mut Effects) {
        match feedback {
            Feedback::Done((purpose, result)) => self.on_done(now, purpose, result, fx),
            Feedback::Gathered => self.start_waiting_reads(now, fx),
            Feedback::Trees(purpose, reply) => self.on_trees_told(now, purpose, reply, fx),
            Feedback::Rounds(asker, rounds) => self.tell_rounds(asker, rounds, fx),
            Feedback::Wiped(wiped) => self.on_wiped(now, &wiped, fx),
            Feedback::Hinted(changes) => self.on_hinted(now, changes, fx),
            Feedback::Committed { own, synced } => self.on_committed(now, own, synced, fx),
            Feedback::WriteFailed => self.on_write_failed(fx),
            Feedback::SyncFailed(own) => self.on_sync_failed(now, own, fx),
        }
        fx.tasks.append(&mut self.to_hint);
    }

    fn on_done(&mut self, now: Now, purpose: Purpose, result: Result<Outcome, OpFailure>, fx: &mut Effects) {
        match purpose {
            Purpose::Mint(entry) | Purpose::MintAway(entry) => self.on_minted(now, entry, result, fx),
            Purpose::Refresh { entry, slot, holder } => self.on_put_refreshed(entry, slot, holder, result, fx),
            Purpose::RefreshRepair { entry, slot, holder } => {
                self.on_repair_refreshed(now, entry, slot, holder, result, fx);
            }
            // Whoever waits for it reads behind it, and meets what has made it fail.
            Purpose::Adopt => {}
            Purpose::StandIn { entry, slot } => self.on_stood_in(entry, slot, result, fx),
            // What cannot be noted, or is not rotten any more, is found by whoever reads or compares.
            Purpose::KeepHints | Purpose::Rotten => {}
            Purpose::Rewrite(entry) => self.on_reread(entry, result, fx),
            Purpose::Read(entry) => self.on_own_read(now, entry, result, fx),
            Purpose::Repair { entry, sync } => self.on_repaired_here(now, entry, sync, result, fx),
            Purpose::Merge { asker, sync } => self.on_merged(now, asker, sync, result, fx),
            Purpose::Fetch { asker, known, place } => self.on_fetched(asker, known, place, result, fx),
            Purpose::Transfer { entry, slot } => self.on_transfer_read(now, entry, slot, result, fx),
            Purpose::Candidate { of, nth } => self.on_candidate_done(now, of, nth, result, fx),
            Purpose::Hint(job) => self.on_hint_found(now, job, result, fx),
            Purpose::HintEnd(job) => self.on_hint_dropped(now, job, result, fx),
            Purpose::Page(_) | Purpose::Range { .. } => debug_assert!(false, "pages are no operations of the store"),
        }
    }

    /// Requests that are about to leave: those to a peer that is not to be asked now are taken out, as though they had been
    /// lost on their way. What they are for is sent again, or done without them.
    pub fn on_leaving(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let Shard { peers, rng, entries, .. } = self;
        outputs.retain(|output| match output {
            // An asynchronous repair; or what it is for has ended in this drain, and nobody would ever strike it off.
            Output::Request { node, id, .. } if !entries.contains_key(&(*id >> 8)) => {
                peers.on_sent_untracked(*node, now.time, rng)
            }
            // Its answer may take as long as the peer's disk does: that is no silence.
            Output::Request {
                node,
                request: PeerRequest::Exchange(_) | PeerRequest::Reaping(_) | PeerRequest::Rounds(_),
                ..
            } => peers.on_sent_untracked(*node, now.time, rng),
            Output::Request { node, id, .. } => peers.on_sent(*node, *id, now.time, rng),
            Output::Answer { .. } | Output::Respond { .. } => true,
        });
    }

    fn handle_answer(&mut self, now: Now, from: NodeId, id: u64, answer: PeerAnswer, fx: &mut Effects) {
        self.peers.on_answer(from, id);
        let (entry, slot) = (id >> 8, request_slot(id));
        self.tracer.on_answer(now.time, entry, slot, from, &answer);
        if entry == UNTRACKED {
            return;
        }
        let Some(Entry { work, .. }) = self.entries.get(&entry) else {
            self.counters.stray_answers += 1;
            return;
        };
        match (work, answer) {
            (Work::Put(_), PeerAnswer::Replicated(replicated)) => {
                self.on_replicated(entry, slot, from, replicated.outcome, fx);
            }
            (Work::Get(_), PeerAnswer::Fetched(fetched)) => {
                self.on_get_reply(now, entry, slot, from, fetched.outcome, fx);
            }
            (Work::Get(_), PeerAnswer::Replicated(replicated)) => {
                self.on_repaired(now, entry, slot, from, replicated.outcome, fx);
            }
            (Work::Where(_), PeerAnswer::Fetched(fetched)) => {
                self.on_where_reply(entry, slot, from, fetched.outcome, fx);
            }
            (Work::Scan(_), PeerAnswer::Ranged(ranged)) => self.on_scan_page(entry, slot, from, ranged.outcome, fx),
            (Work::Forward(_), PeerAnswer::Coordinated(coordinated)) => {
                self.on_coordinated(now, entry, from, coordinated.outcome, fx);
            }
            (Work::Hint(_), PeerAnswer::Replicated(replicated)) => {
                self.on_hint_answer(now, entry, slot, from, &replicated.outcome, fx);
            }
            (Work::Member(_), PeerAnswer::Reaping(said)) => self.on_member_answer(now, entry, from, said, fx),
            (Work::Rounds(_), PeerAnswer::Rounds(told)) => self.on_rounds_told(now, entry, from, told, fx),
            (Work::Ask(_), PeerAnswer::Exchange(answer)) => self.on_exchange_answer(now, entry, from, answer, fx),
            (Work::Transfer(_), PeerAnswer::Replicated(replicated)) => {
                self.on_transferred(now, entry, slot, from, replicated.outcome, fx);
            }
            _ => self.counters.stray_answers += 1,
        }
    }

    /// The ring, once this node also knows how far it may trust its own records: a dot minted before that could be taken
    /// for one of this run.
    fn serving_view(&self) -> Option<&Arc<RingView>> {
        self.view.as_ref().filter(|_| self.standing.trust.generation > Generation(0))
    }

    fn fresh_actor(&mut self) -> Actor {
        Actor(self.rng.random())
    }
}

/// Whether asking again may help.
fn may_change(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Ring(_) | Refusal::Overloaded | Refusal::NotReady | Refusal::Busy => true,
        // What was refused for that is not what is sent next.
        Refusal::NotAReplica | Refusal::ReadOnly | Refusal::Storage | Refusal::Newer | Refusal::Fenced(_) => false,
    }
}

/// Why a replica does not do what it is asked, from what its store said.
fn refusal_of(failure: &OpFailure) -> Refusal {
    match failure {
        OpFailure::Overloaded => Refusal::Overloaded,
        OpFailure::Stopped => Refusal::ReadOnly,
        OpFailure::Unreadable { .. } => Refusal::Storage,
        OpFailure::Newer { .. } => Refusal::Newer,
    }
}

/// The slot that a request of this id, or its answer, is about.
pub fn request_slot(id: u64) -> Slot {
    Slot((id & 0xff) as u8)
}

/// The id of a request to the node in `slot`.
fn request_id(entry: u64, slot: Slot) -> u64 {
    entry << 8 | u64::from(slot.0)
}
