//! Hinted handoff: brings to other nodes what they missed, and forgets it once they hold it on their disks.
//!
//! ```text
//!   ring, reach, changes of hints, pages, objects, acknowledgements, time, orders      (now, ...)
//!                              |
//!                       +------v------+   targets: one pass each, over the index in key order
//!                       |   Handoff   |   jobs: at most a window of a target's hints under way
//!                       +------+------+
//!                              |
//!               Read a page, Look at a hint, Send its object, Drop it                  (Command)
//! ```
//!
//! A hint goes through `Look`, `Send`, `Drop`; on any failure it stays, and the next pass meets it again. A pass begins
//! when its target can be reached and something waits for it, and passes follow one another until nothing waits. The pages
//! come from the disk, so a restart changes nothing but the place at which a pass begins.

mod command;
mod pump;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use self::command::{Command, JobId, Ticket};
use super::backlog::{Backlog, HintBacklog, Waiting};
use super::census::Census;
use super::config::HintsConfig;
use super::pace::{Backoff, Throttle};
use super::pass::{Speed, Target};
use crate::ring::RingView;
use crate::storage::{HintChange, HintDrop, HintFound, HintItem, HintPage, OpFailure};
use crate::types::{NodeId, Now, Round, Time};
use crate::version::Digest;

/// Hints of one target under way at a time, at most: enough to fill a sync at the target, few to do again after a loss.
pub const MAX_WINDOW: usize = 64;
/// Hints of a page of a pass.
const PAGE: usize = 256;
/// Hints of a page of the census, of which only the numbers are kept.
const CENSUS_PAGE: usize = 1024;
/// What a hint costs besides its object, for the throttle.
const OVERHEAD: u64 = 100;
/// The wall clock is looked at this often for hints that grow too old, at least while there are any.
const LOOK_AT_AGES: Duration = Duration::from_secs(60);

/// What a handoff is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// This shard.
    pub shard: u16,
    /// Of so many, which share bytes and rate.
    pub shards: u16,
    /// Hints of one target under way at a time: as many as can be sent to it in one moment, up to [`MAX_WINDOW`].
    pub window: usize,
    /// The node's.
    pub config: HintsConfig,
}

/// The census', which has one page under way at a time.
const CENSUS: Ticket = Ticket(0);

/// What it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandoffCounters {
    /// Hints given, renewals apart.
    pub written: u64,
    /// Hints whose objects are where they belong.
    pub replayed: u64,
    /// Of these, those whose target was no owner any more.
    pub rerouted: u64,
    /// Hints that grew too old.
    pub expired: u64,
    /// Hints not given, since too much waits already.
    pub refused: u64,
    /// Hints dropped on an operator's order.
    pub discarded: u64,
    /// Keys of the index that could not be read, and were removed.
    pub unreadable: u64,
}

#[derive(Debug)]
struct Job {
    item: HintItem,
    stage: Stage,
    rerouted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Looking,
    Sent { digest: Digest, sent: Digest },
    Dropping,
    Expiring,
    Discarding,
}

/// Where a hint's object has to go.
enum Goal {
    /// To these; `rerouted`: instead of the hint's target.
    To { nodes: Vec<NodeId>, rerouted: bool },
    /// Nowhere, as long as its target is away.
    Wait,
    /// To others, of which one cannot be reached.
    Stuck,
}

/// See the module.
#[derive(Debug)]
pub struct Handoff {
    settings: Settings,
    view: Option<Arc<RingView>>,
    reachable: BTreeSet<NodeId>,
    backlog: Backlog,
    census: Census,
    census_retry: Backoff,
    census_reading: bool,
    targets: BTreeMap<NodeId, Target>,
    jobs: BTreeMap<JobId, Job>,
    throttle: Throttle,
    /// The last job and the last ticket.
    serial: u64,
    /// The target whose turn it was.
    turn: Option<NodeId>,
    wake: Option<Time>,
    stopped: bool,
    rng: StdRng,
    counters: HandoffCounters,
}

impl Handoff {
    /// One that has not been told the ring, and does nothing before; chance comes from `seed`.
    pub fn new(settings: Settings, seed: u64) -> Handoff {
        let rate = settings.config.replay_rate.0 / u64::from(settings.shards.max(1));
        Handoff {
            settings,
            view: None,
            reachable: BTreeSet::new(),
            backlog: Backlog::default(),
            census: Census::default(),
            census_retry: Backoff::default(),
            census_reading: false,
            targets: BTreeMap::new(),
            jobs: BTreeMap::new(),
            throttle: Throttle::new(rate),
            serial: 0,
            turn: None,
            wake: None,
            stopped: false,
            rng: StdRng::seed_from_u64(seed),
            counters: HandoffCounters::default(),
        }
    }

    /// When [`Handoff::on_timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.wake
    }

    /// What it has done.
    pub fn counters(&self) -> HandoffCounters {
        self.counters
    }

    /// What waits, by target.
    pub fn backlog(&self) -> Vec<HintBacklog> {
        let of = |(target, waiting): (NodeId, &Waiting)| {
            let known = self.targets.get(&target);
            HintBacklog {
                target,
                hints: waiting.hints,
                counted: waiting.counted,
                bytes: waiting.bytes,
                oldest_wall_ms: waiting.oldest.any.unwrap_or(0),
                replayed: known.map_or(0, |known| known.replayed),
                rate: known.filter(|known| known.pass.is_some()).map_or(0, |known| known.speed.rate),
            }
        };
        self.backlog.targets().map(of).collect()
    }

    /// Whether that is all: after a start the index is walked over before its hints are known.
    pub fn is_counted(&self) -> bool {
        self.census.done
    }

    /// Keys that wait, and bytes of their objects.
    pub fn waiting(&self) -> (u64, u64) {
        self.backlog
            .targets()
            .fold((0, 0), |(hints, bytes), (_, waiting)| (hints + waiting.hints, bytes + waiting.bytes))
    }

    /// Whether a hint that no acknowledgement rests on may be given for an object of so many bytes. A no is counted.
    pub fn may_hint_uncounted(&mut self, bytes: usize) -> bool {
        let most = self.settings.config.max_bytes.as_u64() / u64::from(self.settings.shards.max(1));
        let may = self.backlog.uncounted_bytes().saturating_add(bytes as u64) <= most;
        self.counters.refused += u64::from(!may);
        may
    }

    /// This node's id has become known.
    pub fn set_node(&mut self, node: NodeId) {
        self.settings.node = node;
    }

    /// A new ring: what is under way went by the old one.
    pub fn on_ring(&mut self, now: Now, view: Arc<RingView>, out: &mut Vec<Command>) {
        let is_new = self.view.as_ref().is_none_or(|old| old.version() != view.version());
        self.view = Some(view);
        if is_new {
            self.jobs.clear();
            for (target, _) in self.backlog.targets() {
                let known = self.targets.entry(target).or_default();
                known.pass = None;
                known.backoff.clear();
                known.reroute = known.reroute.max(1);
            }
        }
        self.pump(now, out);
    }

    /// A node can be reached now, or no longer.
    pub fn on_reach(&mut self, now: Now, node: NodeId, reachable: bool, out: &mut Vec<Command>) {
        let changed = if reachable { self.reachable.insert(node) } else { self.reachable.remove(&node) };
        if !changed {
            return;
        }
        if let Some(target) = self.targets.get_mut(&node) {
            target.backoff.clear();
            target.pass = None;
            target.speed = Speed::default();
            if reachable {
                target.replayed = 0;
            }
            self.jobs.retain(|_, job| job.item.target != node);
        }
        self.pump(now, out);
    }

    /// What operations on the store have made of hints.
    pub fn on_changes(&mut self, now: Now, changes: Vec<HintChange>, out: &mut Vec<Command>) {
        for change in changes {
            self.counters.written += u64::from(change.old.is_none());
            self.census.on_change(&change, &mut self.backlog);
            if change.new.is_some() {
                self.note_owners(change.target, &change.key);
            }
        }
        self.pump(now, out);
    }

    /// A page has been read.
    pub fn on_page(&mut self, now: Now, ticket: Ticket, mut page: Result<HintPage, OpFailure>, out: &mut Vec<Command>) {
        let unreadable = page.as_mut().map_or_else(|_| Vec::new(), |page| std::mem::take(&mut page.unreadable));
        self.counters.unreadable += unreadable.len() as u64;
        out.extend(unreadable.into_iter().map(|index_key| Command::Forget { index_key }));
        if ticket == CENSUS {
            self.census_reading = false;
            match page {
                Ok(mut page) => {
                    let items = if mutant!(HintsLostOnRestart) { Vec::new() } else { std::mem::take(&mut page.items) };
                    // The verdict on a target that was away before this process began never comes.
                    items.iter().for_each(|item| self.note_owners(item.target, &item.key));
                    self.census.on_page(HintPage { items, ..page }, &mut self.backlog);
                }
                Err(_) => self.census_retry.fail(now.time, self.rng.random()),
            }
        } else {
            let of = |target: &&mut Target| target.pass.as_ref().is_some_and(|pass| pass.ticket == ticket);
            if let Some(target) = self.targets.values_mut().find(of) {
                match (page, &mut target.pass) {
                    (Ok(page), Some(pass)) => pass.on_page(page),
                    _ => {
                        target.pass = None;
                        target.backoff.fail(now.time, self.rng.random());
                    }
                }
            }
        }
        self.pump(now, out);
    }

    /// A hint's record has been read.
    pub fn on_found(
        &mut self,
        now: Now,
        job: JobId,
        found: Result<Option<HintFound>, OpFailure>,
        out: &mut Vec<Command>,
    ) {
        let Some(Job { item, stage: Stage::Looking, .. }) = self.jobs.get(&job) else { return };
        let goal = self.goal_of(item);
        match (found, goal) {
            // It went its way since the page was read.
            (Ok(None), _) => self.finish(job, true),
            (Ok(Some(HintFound { object, hint, round })), Goal::To { nodes, rerouted }) => {
                let known = self.jobs.get_mut(&job).expect("it was there a moment ago");
                let (target, key) = (known.item.target, known.item.key.clone());
                let sent = object.digest();
                known.stage = Stage::Sent { digest: hint.digest, sent };
                known.rerouted = rerouted;
                out.push(Command::Send { job, to: nodes, key: key.clone(), object, round });
                if mutant!(HintDroppedOnSend) {
                    self.on_acknowledged(now, job, out);
                    return;
                }
                debug_assert_eq!(target, hint.target, "the record's hint is the one that was asked for");
            }
            (Err(OpFailure::Stopped), _) => self.stop(),
            (Err(OpFailure::Unreadable { .. } | OpFailure::Newer { .. }), _) => self.pass_by(job),
            (Ok(Some(_)) | Err(OpFailure::Overloaded), _) => self.fail(now, job),
        }
        self.pump(now, out);
    }

    /// All to whom the object was sent hold it on their disks.
    pub fn on_acknowledged(&mut self, now: Now, job: JobId, out: &mut Vec<Command>) {
        let Some(Job { item, stage: Stage::Sent { digest, sent }, .. }) = self.jobs.get(&job) else { return };
        let keep_object = self.keeps(&item.key);
        let (target, key, digest, sent) = (item.target, item.key.clone(), *digest, *sent);
        out.push(Command::Drop { job, target, key, digest, sent, keep_object });
        if let Some(job) = self.jobs.get_mut(&job) {
            job.stage = Stage::Dropping;
        }
        self.pump(now, out);
    }

    /// Not all hold it, as far as is known.
    pub fn on_failed(&mut self, now: Now, job: JobId, out: &mut Vec<Command>) {
        if matches!(self.jobs.get(&job), Some(Job { stage: Stage::Sent { .. }, .. })) {
            self.fail(now, job);
            self.pump(now, out);
        }
    }

    /// One of them has met a reaping round, and what was sent is older.
    pub fn on_fenced(&mut self, job: JobId, round: Round, out: &mut Vec<Command>) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        if matches!(known.stage, Stage::Sent { .. }) {
            known.stage = Stage::Looking;
            let (target, key) = (known.item.target, known.item.key.clone());
            out.push(Command::LookAgain { job, target, key, round });
        }
    }

    /// One of them cannot take this object, whatever it says of others: what it holds of the key is unreadable.
    pub fn on_unreadable(&mut self, now: Now, job: JobId, out: &mut Vec<Command>) {
        if matches!(self.jobs.get(&job), Some(Job { stage: Stage::Sent { .. }, .. })) {
            self.pass_by(job);
            self.pump(now, out);
        }
    }

    /// A hint was to be dropped.
    pub fn on_dropped(&mut self, now: Now, job: JobId, end: Result<HintDrop, OpFailure>, out: &mut Vec<Command>) {
        let Some(known) = self.jobs.get(&job) else { return };
        let (stage, rerouted, bytes) = (known.stage, known.rerouted, known.item.entry.bytes);
        match end {
            Ok(HintDrop::Dropped) => {
                match stage {
                    Stage::Expiring => self.counters.expired += 1,
                    Stage::Discarding => self.counters.discarded += 1,
                    _ => {
                        self.counters.replayed += 1;
                        self.counters.rerouted += u64::from(rerouted);
                        if let Some(target) = self.targets.get_mut(&known.item.target) {
                            target.replayed += 1;
                            target.speed.add(now.time, bytes);
                        }
                    }
                }
                self.finish(job, true);
            }
            Ok(HintDrop::Absent) => self.finish(job, true),
            Ok(HintDrop::Kept) => self.finish(job, false),
            Err(OpFailure::Stopped) => self.stop(),
            Err(OpFailure::Unreadable { .. } | OpFailure::Newer { .. }) => self.pass_by(job),
            Err(OpFailure::Overloaded) => self.fail(now, job),
        }
        self.pump(now, out);
    }

    /// Time has passed: the moment that [`Handoff::poll_timeout`] named.
    pub fn on_timer(&mut self, now: Now, out: &mut Vec<Command>) {
        if self.wake.is_some_and(|wake| wake <= now.time) {
            self.pump(now, out);
        }
    }

    /// Tries at once what waits for a node, or for all, however often it has failed.
    pub fn flush(&mut self, now: Now, target: Option<NodeId>, out: &mut Vec<Command>) {
        for (node, _) in self.backlog.targets().filter(|(node, _)| target.is_none_or(|target| target == *node)) {
            let known = self.targets.entry(node).or_default();
            known.backoff.clear();
            known.reroute = known.reroute.max(1);
        }
        self.pump(now, out);
    }

    /// Drops whatever waits for a node, acknowledged writes too: for one that is never to return.
    pub fn discard(&mut self, now: Now, target: NodeId, out: &mut Vec<Command>) {
        let known = self.targets.entry(target).or_default();
        known.discard = true;
        known.pass = None;
        known.backoff.clear();
        self.jobs.retain(|_, job| job.item.target != target);
        self.pump(now, out);
    }

    /// Nothing more is begun, and nothing under way is waited for.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.wake = None;
        self.targets.clear();
        self.jobs.clear();
    }
}
