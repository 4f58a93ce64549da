//! A shard's task: takes what waits, drains it through the core, waits again.
//!
//! It runs on the threads that carry the frames. With a thread of its own each request woke two at every node, and drains found less: a
//! thread that takes what has arrived, handles all of it and sends all that follows fills packets by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::clock::Clock;
use super::disk::Disk;
use super::engine::AnyEngine;
use super::gather::Gathering;
use super::host::ShardHost;
use super::inbox::{Closed, Inbox};
use super::lanes::Lanes;
use super::latency::{Latencies, Stopwatch};
use super::read_pool::ReadPool;
use super::syncer::Syncer;
use crate::antientropy::HintBacklog;
use crate::api::RepairStatus;
use crate::node::{Core, InboxLimits, ShardConfig, ShardCounters, ShardInput};
use crate::storage::Rounds;
use crate::storage::merkle::Forest;
use crate::types::{BatchNumber, NodeId, Now, PartitionId, Time};

/// Inputs of one drain: enough to share a batch and packets, few enough that the first answer does not wait for long.
const MAX_DRAIN: usize = 512;
/// The least room for requests, so that many shards under a small limit still take bursts.
const MIN_REQUESTS: usize = 64;
/// Between two looks at how far a shard has come with its repairs: gathering it takes longer than a short drain does.
const REPAIR_SHOWN_EVERY: Duration = Duration::from_millis(200);

/// What others see of a shard.
#[derive(Debug)]
pub struct Shard {
    /// To reach it.
    pub inbox: Arc<Inbox>,
    /// How long its requests take.
    pub latencies: Arc<Latencies>,
    counters: Mutex<ShardCounters>,
    hints: Mutex<Vec<HintBacklog>>,
    hints_counted: AtomicBool,
    repair: Mutex<Option<RepairStatus>>,
}

impl Shard {
    /// What its core has counted.
    pub fn counters(&self) -> ShardCounters {
        *self.counters.lock().expect("a panic ends the process before the lock is met again")
    }

    /// What it keeps for other nodes, by node.
    fn hints(&self) -> Vec<HintBacklog> {
        self.hints.lock().expect("a panic ends the process before the lock is met again").clone()
    }

    /// How far it has come with its repairs.
    fn repair(&self) -> Option<RepairStatus> {
        self.repair.lock().expect("a panic ends the process before the lock is met again").clone()
    }

    /// Whether nothing is in flight and nothing waits. Holds for good only once it drains.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_idle()
    }
}

/// All shards of a node.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Arc<Shard>>,
}

impl Shards {
    /// So many shards, which share the room for `max_inflight` requests of clients and as many of peers; each may have
    /// `bytes` of them waiting, and as much of answers.
    pub fn new(count: u16, max_inflight: usize, bytes: usize) -> Shards {
        let limits = InboxLimits::of(Shards::share(count, max_inflight), bytes);
        let shard = || {
            Arc::new(Shard {
                inbox: Arc::new(Inbox::new(limits)),
                latencies: Arc::default(),
                counters: Mutex::default(),
                hints: Mutex::default(),
                hints_counted: AtomicBool::new(false),
                repair: Mutex::default(),
            })
        };
        Shards { shards: std::iter::repeat_with(shard).take(usize::from(count)).collect() }
    }

    /// One shard's part of `max_inflight`.
    pub fn share(count: u16, max_inflight: usize) -> usize {
        max_inflight.div_ceil(usize::from(count)).max(MIN_REQUESTS)
    }

    /// The index of the shard that a partition belongs to.
    pub fn index_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0) % self.shards.len()
    }

    /// All, by index.
    pub fn all(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// Tells every shard.
    pub fn notify(&self, input: &ShardInput) {
        self.shards.iter().for_each(|shard| shard.inbox.push_notice(input.clone()));
    }

    /// What they keep for other nodes together, by node; whoever waits for nothing is left out.
    pub fn hints(&self) -> Vec<HintBacklog> {
        let mut sums: BTreeMap<NodeId, HintBacklog> = BTreeMap::new();
        for part in self.shards.iter().flat_map(|shard| shard.hints()).filter(|part| part.hints > 0) {
            sums.entry(part.target).and_modify(|sum| sum.join(&part)).or_insert(part);
        }
        sums.into_values().collect()
    }

    /// Whether all know what they keep.
    pub fn hints_are_counted(&self) -> bool {
        self.shards.iter().all(|shard| shard.hints_counted.load(Ordering::Acquire))
    }

    /// How far they have come with their repairs together; `None` until all of them have begun: a part is not the node.
    pub fn repair(&self) -> Option<RepairStatus> {
        let parts: Option<Vec<RepairStatus>> = self.shards.iter().map(|shard| shard.repair()).collect();
        parts?.into_iter().reduce(|mut whole, part| {
            whole.join(part);
            whole
        })
    }

    /// Whether the node had lost its disk, and all have filled their trees again.
    pub fn are_rebuilt(&self) -> bool {
        let rebuilt = |shard: &Arc<Shard>| {
            let rebuilding = shard.repair().and_then(|repair| repair.rebuilding);
            rebuilding.is_some_and(|rebuilding| rebuilding.done == rebuilding.of)
        };
        self.shards.iter().all(rebuilt)
    }

    /// Whether none has anything to do.
    pub fn are_idle(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_idle())
    }

    /// Bytes of requests and answers that wait, over all.
    pub fn queued_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.inbox.counters().bytes).sum()
    }

    /// Ends their tasks, once they have done what waits for them.
    pub fn close(&self) {
        self.shards.iter().for_each(|shard| shard.inbox.close());
    }
}

/// What a shard's task works with.
pub struct ShardTask {
    shard: Arc<Shard>,
    core: Core<AnyEngine>,
    host: ShardHost,
    clock: Clock,
    repair: Shown,
}

/// When a shard's repairs were looked at last, and whether they may have changed since.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    at: Option<Time>,
    stale: bool,
}

impl Shown {
    /// When they are to be looked at again, unless nothing happens.
    fn due(&self) -> Option<Time> {
        self.stale.then(|| self.at.map_or(Time::ZERO, |at| at + REPAIR_SHOWN_EVERY))
    }
}

/// What all shards' tasks share.
#[derive(Clone)]
pub struct Surroundings {
    /// The clocks.
    pub clock: Clock,
    /// The disk.
    pub disk: Arc<Disk>,
    /// The lanes.
    pub lanes: Arc<Lanes>,
    /// Answers that all shards give together.
    pub gathering: Arc<Gathering>,
    /// The readers.
    pub reads: ReadPool,
    /// Who syncs for them.
    pub syncer: Syncer,
    /// What takes longer is logged.
    pub slow: Duration,
}

impl ShardTask {
    /// A shard that has not begun.
    pub fn new(
        shard: Arc<Shard>,
        config: ShardConfig,
        node: NodeId,
        with: Surroundings,
        (forest, rounds): (&Forest, &Rounds),
        seed: u64,
    ) -> ShardTask {
        let host = ShardHost {
            shard: config.shard,
            clock: with.clock,
            lanes: with.lanes,
            gathering: with.gathering,
            reads: with.reads,
            inbox: shard.inbox.clone(),
            syncer: with.syncer,
            stopwatch: Stopwatch::new(with.slow),
            latencies: shard.latencies.clone(),
            number: BatchNumber(0),
            too_long_at: None,
            to_peers: BTreeMap::new(),
            to_lanes: BTreeMap::new(),
            disk: with.disk.clone(),
        };
        let core = Core::new(config, node, with.disk.engine().clone(), forest, rounds, seed);
        ShardTask { shard, core, host, clock: with.clock, repair: Shown::default() }
    }

    /// Works until the inbox is closed and empty, and no sync is under way.
    pub async fn run(mut self) {
        let mut inputs = Vec::with_capacity(MAX_DRAIN + 1);
        loop {
            let due = self.core.poll_timeout().into_iter().chain(self.repair.due()).min();
            let timeout = due.map(|due| due.since(self.clock.time()));
            let closed = if self.core.awaits_sync() { Closed::Expects } else { Closed::Ends };
            self.shard.inbox.filled(timeout, closed).await;
            // Whatever has arrived is brought first, and what went out is sent: a drain that finds little costs nearly as much as one that
            // finds much.
            tokio::task::yield_now().await;
            let open = self.shard.inbox.take(&mut inputs, MAX_DRAIN);
            let now = self.clock.now();
            if self.core.poll_timeout().is_some_and(|due| due <= now.time) {
                inputs.push(ShardInput::Timer);
            }
            if !inputs.is_empty() {
                self.host.stopwatch.start(&inputs);
                self.core.drain(now, &mut inputs, &mut self.host);
                inputs.clear();
                self.publish();
                self.repair.stale = true;
            }
            if self.repair.due().is_some_and(|due| due <= now.time) {
                self.show_repair(now);
            }
            self.shard.inbox.rest(!self.core.is_idle());
            if !open && !self.core.awaits_sync() {
                return;
            }
        }
    }

    fn show_repair(&mut self, now: Now) {
        let repair = self.core.repair_status(now);
        // Nothing to show is shown for no longer than it is true.
        self.repair = Shown { at: repair.is_some().then_some(now.time), stale: false };
        *self.shard.repair.lock().expect("a panic ends the process before the lock is met again") = repair;
    }

    fn publish(&mut self) {
        const POISON: &str = "a panic ends the process before the lock is met again";
        let counters = self.core.counters();
        let mut published = self.shard.counters.lock().expect(POISON);
        let before = std::mem::replace(&mut *published, counters);
        drop(published);
        if counters.hints_waiting > 0 || before.hints_waiting > 0 {
            *self.shard.hints.lock().expect(POISON) = self.core.hints();
        }
        if !self.shard.hints_counted.load(Ordering::Relaxed) && self.core.hints_are_counted() {
            // after their numbers: whoever sees this sees those
            self.shard.hints_counted.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_shows_the_repairs_of_its_shards_once_all_have_begun() {
        let shards = Shards::new(3, 64, 1 << 20);
        assert_eq!(shards.repair(), None);
        let part = |due| RepairStatus { due, of: 4, ..RepairStatus::default() };
        for (index, due) in [(0, 5), (2, 7), (1, 1)] {
            assert_eq!(shards.repair(), None);
            *shards.all()[index].repair.lock().unwrap() = Some(part(due));
        }
        assert_eq!(shards.repair(), Some(RepairStatus { of: 12, ..part(13) }));
    }

    #[test]
    fn repairs_are_looked_at_once_in_a_while_and_after_the_last_change() {
        let at = Time::ZERO + Duration::from_secs(1);
        let shown = |at, stale| Shown { at, stale }.due();
        assert_eq!((shown(None, false), shown(Some(at), false)), (None, None));
        assert_eq!((shown(None, true), shown(Some(at), true)), (Some(Time::ZERO), Some(at + REPAIR_SHOWN_EVERY)));
    }
}
