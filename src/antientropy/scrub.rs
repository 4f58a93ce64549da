//! The scrub: reads all that a shard holds, now and then, and looks whether it is what was written and what its trees say.
//!
//! ```text
//!   partitions, load, counts, time, orders      (now, ...)
//!                  |
//!            +-----v-----+   first what has to be counted before trees say what they hold,
//!            |   Scrub   |   then what was ordered, then the slow walk over everything
//!            +-----+-----+
//!                  |
//!                Count                           (ScrubCommand)
//! ```
//! One stretch of leaves is counted at a time. One that cannot be, be it that the disk fails or that clients write there all the
//! time, makes way for the others after some tries, and is tried again beside them. Where the walk is, no restart remembers: it begins
//! anywhere, so that a node which is restarted often gets everywhere too.

mod job;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::job::Job;
pub use self::status::ScrubProgress;
use super::config::ExchangeConfig;
use super::exchange::Step;
use super::pace::{Backoff, Throttle, around};
use crate::storage::merkle::{COUNTED_LEAVES, Leaves};
use crate::storage::{OpFailure, Scrubbed};
use crate::types::{Now, PartitionId, Time};

/// What a count costs besides the bytes that it reads, for the throttle.
const COUNT_COST: u64 = 1024;

/// Failures in a row after which the reader goes on behind a stretch: some five seconds of pauses.
const TRIES: u32 = 5;
/// Stretches that are left for another time, at most.
const MAX_LEFT: usize = 1024;

/// Where no count of an order begins.
const STALE: u32 = u32::MAX;

/// What a scrub is told at its start.
#[derive(Clone, Debug)]
pub struct ScrubSettings {
    /// This shard.
    pub shard: u16,
    /// Of so many, which share the rate.
    pub shards: u16,
    /// The leaves of own trees.
    pub leaves: Leaves,
    /// The node's.
    pub config: ExchangeConfig,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubCommand {
    /// Count some leaves of a partition; answered by [`Scrub::on_scrubbed`].
    Count {
        /// For the answer.
        step: Step,
        /// The partition.
        partition: PartitionId,
        /// From this leaf on; `None`: whichever have to be counted before the partition's trees say what they hold.
        from: Option<u32>,
    },
}

/// What a scrub has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounters {
    /// Records read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records found not to be what was written.
    pub rotten: u64,
    /// Of these, those that stay since no other node has what they held; each counts as often as it is met.
    pub hopeless: u64,
    /// Leaves whose sums were not those of their data.
    pub corrected: u64,
    /// Entries of the index of tombstones that were not what the records say.
    pub reindexed: u64,
    /// Stretches of keys that could not be read and were wiped.
    pub stretches: u64,
    /// Times that the disk failed to answer, about records or about the index of their tombstones, and that a record was met which a
    /// newer version has written.
    pub failed: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Scrub {
    settings: ScrubSettings,
    /// This shard's partitions.
    own: Vec<PartitionId>,
    /// Of these, those with something that has to be counted, and how far the last count of each came: one that comes no further
    /// waits for the others.
    uncounted: VecDeque<(PartitionId, u32)>,
    uncounted_backoff: Backoff,
    /// Those that an operator wants read, and how far each is.
    ordered: BTreeMap<PartitionId, u32>,
    /// How many partitions the order is about.
    order: u64,
    /// Stretches that could not be read to the end when it was their turn, `from..to` each: they are tried again, for as long as it takes.
    left: VecDeque<(PartitionId, Range<u32>)>,
    left_backoff: Backoff,
    /// What has failed last, and how often in a row.
    failing: Option<(Job, u32)>,
    /// Partitions of which something stays that cannot be read: whoever meets it says nothing new.
    hopeless: BTreeSet<PartitionId>,
    /// Where the walk is: an index of `own`, and a leaf.
    walk: (usize, u32),
    walk_at: Option<Time>,
    /// Leaves that it has passed since it has last been everywhere.
    walked: u64,
    running: Option<(Step, Job)>,
    serial: u64,
    throttle: Throttle,
    backoff: Backoff,
    busy: bool,
    paused: bool,
    stopped: bool,
    wake: Option<Time>,
    rng: StdRng,
    counters: ScrubCounters,
}

impl Scrub {
    /// One that has not been told the ring, and does nothing before; chance comes from `seed`.
    pub fn new(settings: ScrubSettings, seed: u64) -> Scrub {
        let rate = settings.config.rate.0 / u64::from(settings.shards.max(1));
        Scrub {
            settings,
            own: Vec::new(),
            uncounted: VecDeque::new(),
            uncounted_backoff: Backoff::default(),
            ordered: BTreeMap::new(),
            order: 0,
            left: VecDeque::new(),
            left_backoff: Backoff::default(),
            failing: None,
            hopeless: BTreeSet::new(),
            walk: (0, 0),
            walk_at: None,
            walked: 0,
            running: None,
            serial: 0,
            throttle: Throttle::new(rate),
            backoff: Backoff::default(),
            busy: false,
            paused: false,
            stopped: false,
            wake: None,
            rng: StdRng::seed_from_u64(seed),
            counters: ScrubCounters::default(),
        }
    }

    /// When [`Scrub::on_timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.wake
    }

    /// What it has done.
    pub fn counters(&self) -> ScrubCounters {
        self.counters
    }

    /// Partitions that are still to be read by order or once more, or counted.
    pub fn left(&self) -> u64 {
        let uncounted = self.uncounted.iter().map(|(partition, _)| partition);
        let left = self.left.iter().map(|(partition, _)| partition);
        self.ordered.keys().chain(uncounted).chain(left).collect::<BTreeSet<_>>().len() as u64
    }

    /// The ring has so many partitions; it never has others.
    pub fn on_ring(&mut self, now: Now, partitions: u32, out: &mut Vec<ScrubCommand>) {
        if self.own.is_empty() {
            let all = (0..partitions).map(|partition| PartitionId(partition as u16));
            self.own =
                all.filter(|partition| partition.0 % self.settings.shards.max(1) == self.settings.shard).collect();
            if !self.own.is_empty() {
                self.walk = (self.rng.random_range(0..self.own.len()), 0);
                self.walk_at = self.pause_of_walk().map(|pause| now.time + pause);
            }
        }
        self.pump(now, out);
    }

    /// How long the walk rests after each stretch, so that all of it takes an interval; `None`: it does not walk.
    fn pause_of_walk(&mut self) -> Option<Duration> {
        let interval = self.settings.config.scrub_interval;
        let stretches = self.own.len() as u32 * self.settings.leaves.count().div_ceil(COUNTED_LEAVES);
        let random = self.rng.random();
        (!interval.is_zero() && stretches > 0).then(|| around(interval / stretches, random))
    }

    /// Something of these partitions has to be counted.
    pub fn on_uncounted(&mut self, now: Now, partitions: &BTreeSet<PartitionId>, out: &mut Vec<ScrubCommand>) {
        let known: BTreeSet<PartitionId> = self.uncounted.iter().map(|(partition, _)| *partition).collect();
        self.uncounted.extend(partitions.difference(&known).map(|partition| (*partition, 0)));
        self.pump(now, out);
    }

    fn note_uncounted(&mut self, partition: PartitionId, uncounted: bool) {
        let is_known = self.uncounted.iter().any(|(known, _)| *known == partition);
        if uncounted && !is_known {
            self.uncounted.push_back((partition, 0));
        } else if !uncounted {
            self.uncounted.retain(|(known, _)| *known != partition);
        }
    }

    /// Clients keep the node busy, or no longer: while they do, nothing is begun.
    pub fn on_load(&mut self, now: Now, busy: bool, out: &mut Vec<ScrubCommand>) {
        if self.busy != busy {
            self.busy = busy;
            self.pump(now, out);
        }
    }

    /// Reads everything now, or a partition. Before the ring is known there is nothing to be read.
    pub fn start(&mut self, now: Now, partition: Option<PartitionId>, out: &mut Vec<ScrubCommand>) {
        self.order(partition);
        self.pump(now, out);
    }

    fn order(&mut self, partition: Option<PartitionId>) {
        let is_meant = |own: &PartitionId| partition.is_none_or(|partition| *own == partition);
        let meant: Vec<PartitionId> = self.own.iter().copied().filter(is_meant).collect();
        if meant.is_empty() {
            return;
        }
        if partition.is_none() {
            self.order = 0;
            self.ordered.clear();
        }
        meant.into_iter().for_each(|partition| self.put_in_order(partition));
        self.hopeless.retain(|hopeless| !is_meant(hopeless));
        // What is being read may have rotted behind the reader: it is read again.
        if let Some((_, Job::Ordered(running, from))) = &mut self.running
            && is_meant(running)
        {
            *from = STALE;
        }
        // It is read with the rest.
        self.left.retain(|(of, _)| !is_meant(of));
        self.backoff.clear();
        self.uncounted_backoff.clear();
        self.left_backoff.clear();
    }

    /// Somebody has met something in this partition that cannot be read: it is looked for at once.
    pub fn on_unreadable(&mut self, now: Now, partition: PartitionId, out: &mut Vec<ScrubCommand>) {
        let is_news = self.own.contains(&partition) && !self.hopeless.contains(&partition);
        if is_news && !self.ordered.contains_key(&partition) {
            self.put_in_order(partition);
        }
        self.pump(now, out);
    }

    /// A partition is read from its beginning, whatever was read of it; the others go on where they are.
    fn put_in_order(&mut self, partition: PartitionId) {
        if self.ordered.is_empty() {
            self.order = 0;
        }
        self.order += u64::from(self.ordered.insert(partition, 0).is_none());
    }

    /// Nothing more is begun until [`Scrub::resume`], but what has to be counted.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Goes on after [`Scrub::pause`].
    pub fn resume(&mut self, now: Now, out: &mut Vec<ScrubCommand>) {
        self.paused = false;
        self.pump(now, out);
    }

    /// Nothing more is begun, for good.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.wake = None;
    }

    /// Time has passed: the moment that [`Scrub::poll_timeout`] named.
    pub fn on_timer(&mut self, now: Now, out: &mut Vec<ScrubCommand>) {
        if self.wake.is_some_and(|wake| wake <= now.time) {
            self.pump(now, out);
        }
    }

    /// Leaves have been counted. `None`: there was nothing to be counted.
    pub fn on_scrubbed(
        &mut self,
        now: Now,
        step: Step,
        scrubbed: Result<Option<Scrubbed>, OpFailure>,
        out: &mut Vec<ScrubCommand>,
    ) {
        let Some((_, job)) = self.running.take_if(|(running, _)| *running == step) else { return };
        self.throttle.take(now.time, COUNT_COST);
        match scrubbed {
            Ok(Some(scrubbed)) => self.on_counted(now.time, job, &scrubbed),
            Ok(None) => self.note_uncounted(job.partition(), false),
            Err(OpFailure::Stopped) => self.stop(),
            Err(OpFailure::Overloaded) => self.fail(now.time, job),
            Err(OpFailure::Unreadable { .. } | OpFailure::Newer { .. }) => {
                self.counters.failed += 1;
                // What cannot be read must not keep the rest from being read.
                if let Some(from) = job.from() {
                    self.advance(now.time, job, from.saturating_add(1));
                }
                self.fail(now.time, job);
            }
        }
        self.pump(now, out);
    }

    fn on_counted(&mut self, now: Time, job: Job, scrubbed: &Scrubbed) {
        self.throttle.take(now, scrubbed.bytes);
        self.counters.records += scrubbed.records;
        self.counters.bytes += scrubbed.bytes;
        let hopeless = scrubbed.hopeless.len() as u64;
        self.counters.rotten += scrubbed.rotten.len() as u64 + hopeless;
        self.counters.hopeless += hopeless;
        self.counters.stretches += scrubbed.stretches;
        self.counters.corrected += scrubbed.corrected;
        self.counters.reindexed += scrubbed.reindexed;
        self.counters.failed += u64::from(scrubbed.index_failed) + scrubbed.newer;
        let partition = job.partition();
        if hopeless > 0 {
            self.hopeless.insert(partition);
        }
        self.note_uncounted(partition, scrubbed.uncounted);
        if !scrubbed.exact || self.is_held_up(job, scrubbed) {
            self.fail(now, job);
        } else {
            self.backoff_of(job).succeed();
        }
        if scrubbed.exact {
            self.advance(now, job, scrubbed.through);
        } else if let Job::Ordered(partition, from) | Job::Walk(partition, from) = job {
            let times = self.failing.take().filter(|(failing, _)| *failing == job).map_or(1, |(_, times)| times + 1);
            if times < TRIES {
                self.failing = Some((job, times));
            } else {
                self.backoff.succeed();
                self.leave(now, partition, from..scrubbed.through);
                self.advance(now, job, scrubbed.through);
            }
        }
    }

    /// A stretch is read another time. If that is so of too many already, the walk comes to it.
    fn leave(&mut self, now: Time, partition: PartitionId, leaves: Range<u32>) {
        let covers = |(of, left): &(PartitionId, Range<u32>)| {
            *of == partition && left.start <= leaves.start && leaves.end <= left.end
        };
        if !leaves.is_empty() && self.left.len() < MAX_LEFT && !self.left.iter().any(covers) {
            self.left.push_back((partition, leaves));
            let random = self.rng.random();
            self.left_backoff.fail(now, random);
        }
    }

    /// Whether what had to be counted is no nearer to its end.
    fn is_held_up(&mut self, job: Job, scrubbed: &Scrubbed) -> bool {
        let Job::Uncounted(partition) = job else { return false };
        let Some((_, reached)) = self.uncounted.iter_mut().find(|(known, _)| *known == partition) else { return false };
        let before = std::mem::replace(reached, scrubbed.through);
        // A rotten record is wiped before its leaf can be counted: that may take a read of the disk.
        before == scrubbed.through || !scrubbed.rotten.is_empty()
    }

    /// What has to be counted waits for itself, and so does what was left: that these cannot be read must not keep the rest from it.
    fn backoff_of(&mut self, job: Job) -> &mut Backoff {
        match job {
            Job::Uncounted(_) => &mut self.uncounted_backoff,
            Job::Ordered(..) | Job::Walk(..) => &mut self.backoff,
            Job::Left(..) => &mut self.left_backoff,
        }
    }

    fn fail(&mut self, now: Time, job: Job) {
        let random = self.rng.random();
        self.backoff_of(job).fail(now, random);
        match job {
            Job::Uncounted(of) if self.uncounted.front().is_some_and(|(first, _)| *first == of) => {
                self.uncounted.rotate_left(1);
            }
            Job::Left(..) if self.first_left() == Some(job) => self.left.rotate_left(1),
            _ => {}
        }
    }

    fn first_left(&self) -> Option<Job> {
        self.left.front().map(|(partition, leaves)| Job::Left(*partition, leaves.start))
    }

    /// A stretch is done, up to this leaf.
    fn advance(&mut self, now: Time, job: Job, through: u32) {
        let is_done = through >= self.settings.leaves.count();
        match job {
            Job::Uncounted(_) => {}
            Job::Ordered(partition, from) if self.ordered.get(&partition) == Some(&from) => {
                if is_done {
                    self.ordered.remove(&partition);
                } else {
                    self.ordered.insert(partition, through);
                }
            }
            Job::Ordered(..) => {}
            Job::Left(..) if self.first_left() == Some(job) => {
                if let Some((partition, leaves)) = self.left.pop_front().filter(|(_, leaves)| leaves.end > through) {
                    self.left.push_front((partition, through..leaves.end));
                }
            }
            Job::Left(..) => {}
            Job::Walk(partition, from) => {
                self.walked += u64::from(through.saturating_sub(from));
                if self.walked >= self.all_leaves() {
                    self.walked = 0;
                }
                // An order may have taken the stretch over.
                if self.own.get(self.walk.0) == Some(&partition) {
                    self.walk = if is_done { ((self.walk.0 + 1) % self.own.len(), 0) } else { (self.walk.0, through) };
                }
                self.walk_at = self.pause_of_walk().map(|pause| now + pause);
            }
        }
    }

    /// What is to be counted next, and when. Of what is due, that comes first which has to be counted.
    fn next_job(&self, now: Time) -> Option<(Time, Job)> {
        let after = |backoff: &Backoff| backoff.until(now).unwrap_or(now);
        let uncounted = self.uncounted.front().map(|(partition, _)| Job::Uncounted(*partition));
        let uncounted = uncounted.map(|job| (after(&self.uncounted_backoff), job));
        let ordered = self.ordered.first_key_value().map(|(partition, from)| Job::Ordered(*partition, *from));
        let ordered = ordered.map(|job| (after(&self.backoff), job));
        let walk = self.own.get(self.walk.0).map(|partition| Job::Walk(*partition, self.walk.1));
        let walk = self.walk_at.zip(walk).map(|(at, job)| (at.max(after(&self.backoff)), job));
        let left = self.first_left().map(|job| (after(&self.left_backoff), job));
        let read = [ordered.or(walk), left].into_iter().flatten().filter(|_| !self.paused);
        uncounted.into_iter().chain(read).min_by_key(|(at, _)| *at)
    }

    fn pump(&mut self, now: Now, out: &mut Vec<ScrubCommand>) {
        self.wake = None;
        if self.stopped || self.own.is_empty() || self.busy || self.running.is_some() {
            return;
        }
        let Some((at, job)) = self.next_job(now.time) else { return };
        let at = at.max(self.throttle.ready_at());
        if at > now.time {
            self.wake = Some(at);
            return;
        }
        self.serial += 1;
        let step = Step(self.serial);
        self.running = Some((step, job));
        out.push(ScrubCommand::Count { step, partition: job.partition(), from: job.from() });
    }
}
