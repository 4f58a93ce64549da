//! One drain of a shard: what is queued is handled, written and released, in that order; what has to be on the disk first is released by
//! the drain that hears of the end of a sync.
//!
//! The daemon and the simulation run this very code; they differ in the [`Host`].

mod cold;
mod commit;
mod unsynced;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

pub use self::cold::ColdRead;
use self::unsynced::Unsynced;
use super::effects::{Effects, Feedback, ItemQuery, Output, Purpose, RoundTask, ShardInput, TreeQuery, TreeReply};
use super::shard::{Rebuilt, Shard, ShardConfig, ShardCounters, Step};
use crate::antientropy::{HintBacklog, healing, tree_shape};
use crate::api::RepairStatus;
use crate::storage::merkle::{Forest, ItemHasher, ItemSpec, TreeId, Trees};
use crate::storage::{Done, Engine, Op, OpFailure, Page, Rounds, Scrubbed, StorageError, Store, StoreLimits};
use crate::types::{BatchNumber, NodeId, Now, Time, WriteId};
use crate::version::Object;

/// What a drain needs of whoever runs it.
pub trait Host {
    /// The time now. Asked for only while a request is traced.
    fn time(&mut self) -> Time;
    /// The batch is in the log, and nothing of it has been released: the moment to mark how far the log has come.
    fn written(&mut self, number: BatchNumber);
    /// These may leave. Drained by the host.
    fn release(&mut self, outputs: &mut Vec<Output>);
    /// Puts on the disk whatever has been written, before anything else is done.
    ///
    /// # Errors
    /// The drain releases nothing that rests on it. A host whose disk has failed ends the process instead of returning.
    fn sync(&mut self) -> Result<(), StorageError>;
    /// Has put on the disk whatever has been written so far, and tells with [`ShardInput::Synced`] when that is done; `Some` if it is
    /// done already. Drains go on meanwhile, and no other is begun. Errors are as [`sync`](Host::sync)'s.
    fn begin_sync(&mut self) -> Option<Result<(), StorageError>>;
    /// The batch could not be written; the node writes nothing more until it is restarted.
    fn write_failed(&mut self, error: &StorageError);
    /// All members have vouched for a tombstone, and it was deleted with this batch. For whoever watches.
    fn reaped(&mut self, key: &Bytes, object: &Arc<Object>) {
        let _ = (key, object);
    }
    /// These records cannot be read, and stay since no other node holds them: whoever runs the node should know.
    fn hopeless(&mut self, keys: &[Bytes]);
    /// The objects of these keys are longer than any frame, so that no other replica gets what they hold: whoever runs the node should
    /// know.
    fn too_long(&mut self, keys: &[Bytes]) {
        let _ = keys;
    }
    /// Have this read from the disk, and give the outcome back as an input.
    fn read(&mut self, read: ColdRead);
}

/// Operations that may wait for the disk, for each request that may wait for an answer.
const PARKED_PER_INFLIGHT: usize = 4;

/// Operations that are gathered before they are run: what they need of the record cache comes from memory at the same time.
const GATHERED: usize = 64;

/// A shard with its store.
pub struct Core<E> {
    shard: Shard,
    store: Store<E, Purpose>,
    effects: Effects,
    done: Vec<Done<Purpose>>,
    unsynced: Unsynced,
    /// Writes that operations still to be run bring in.
    arriving: Vec<WriteId>,
}

impl<E: Engine> Core<E> {
    /// A shard that has been told nothing yet, on `engine`, whose trees are in `forest` and whose rounds these are; `seed` is
    /// what its random numbers come from.
    pub fn new(
        config: ShardConfig,
        node: NodeId,
        engine: Arc<E>,
        forest: &Forest,
        rounds: &Rounds,
        seed: u64,
    ) -> Core<E> {
        let limits = StoreLimits { parked: config.max_inflight * PARKED_PER_INFLIGHT, cached: config.record_cache };
        let hasher = ItemHasher::new(&config.secret);
        let trees = Trees::of(forest, config.shard, config.shards, config.leaves(), hasher);
        let mut shard = Shard::new(config, node, seed);
        shard.restore(trees.lacking(), trees.uncounted(), rounds.partitions());
        let store = Store::new(engine, limits, trees, rounds.clone());
        let (effects, unsynced) = (Effects::default(), Unsynced::default());
        Core { shard, store, effects, done: Vec::new(), unsynced, arriving: Vec::new() }
    }

    /// When [`ShardInput::Timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.shard.poll_timeout()
    }

    /// What it has done.
    pub fn counters(&self) -> ShardCounters {
        ShardCounters { parked: self.store.waiting() as u64, found: self.store.found(), ..self.shard.counters() }
    }

    /// The shard, without its store.
    #[cfg(test)]
    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// What is kept for other nodes, by node.
    pub fn hints(&self) -> Vec<HintBacklog> {
        self.shard.hints()
    }

    /// Whether these are all: those of an earlier run are counted after the start.
    pub fn hints_are_counted(&self) -> bool {
        self.shard.hints_are_counted()
    }

    /// The reaping rounds that it has met.
    pub fn rounds(&self) -> &Rounds {
        self.store.rounds()
    }

    /// The Merkle trees over its records.
    pub fn trees(&self) -> &Trees {
        self.store.trees()
    }

    /// Which trees of a lost disk have been filled again; `None` if none was lost.
    pub fn rebuilt(&self) -> Option<Rebuilt> {
        self.shard.rebuilt()
    }

    /// Leaves that lack a record which had rotted.
    pub fn lacking(&self) -> u64 {
        self.shard.lacking()
    }

    /// Trees that have to be filled since something of them was lost, and the primaries that each has not agreed with.
    pub fn to_fill(&self) -> &BTreeMap<TreeId, BTreeSet<NodeId>> {
        self.shard.to_fill()
    }

    /// How far the shard has come with comparing its trees with others', if it does.
    pub fn repair_status(&self, now: Now) -> Option<RepairStatus> {
        self.shard.repair_status(now)
    }

    /// What is in the way of reaping, for people.
    pub fn reaper_waits(&self) -> Option<String> {
        self.shard.reaper_status().waiting
    }

    /// The members that the shard was told to hold for dead.
    pub fn convicted(&self) -> &BTreeSet<NodeId> {
        self.shard.convicted()
    }

    /// Whether [`ShardInput::Synced`] is to come.
    pub fn awaits_sync(&self) -> bool {
        self.unsynced.syncing().is_some()
    }

    /// Whether no client waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.shard.is_idle()
    }

    /// Handles the inputs and everything that follows from them.
    pub fn drain(&mut self, now: Now, inputs: &mut Vec<ShardInput>, host: &mut impl Host) {
        for input in inputs.drain(..) {
            let is_gathered = self.gathers(&input);
            let gathered = self.effects.tasks.len();
            if !is_gathered && gathered > 0 {
                self.run_tasks(now, host);
            }
            if let ShardInput::Ring(view) = &input {
                self.store.set_shape(Arc::new(tree_shape(view.layout())));
            }
            let concerns_ring = matches!(input, ShardInput::Ring(_) | ShardInput::Standing(_));
            match input {
                ShardInput::Fetched { key, read } => self.store.resume(&key, read, &mut self.done),
                ShardInput::Paged { purpose, partition, page } => {
                    self.shard.note_unreadable(now, partition, page.as_ref().err(), &mut self.effects);
                    self.on_page(purpose, page);
                }
                ShardInput::Counted { step, counted } => {
                    let scrubbed = self.store.end_count(counted.map(|counted| *counted));
                    if let Ok(Scrubbed { hopeless, .. }) = &scrubbed
                        && !hopeless.is_empty()
                    {
                        host.hopeless(hopeless);
                    }
                    self.shard.on_scrubbed(now, step, scrubbed.map(Some), &mut self.effects);
                }
                ShardInput::Synced(result) => self.end_sync(now, result, host),
                input => self.shard.handle(now, input, &mut self.effects),
            }
            if concerns_ring && let Some((view, node)) = self.shard.place_in_ring() {
                self.store.set_healing(healing(view, node));
            }
            if !is_gathered || !self.effects.has_only_tasks() || self.effects.tasks.len() >= GATHERED {
                self.run_tasks(now, host);
            } else {
                self.note_arriving(gathered);
            }
        }
        self.run_tasks(now, host);
        self.shard.on_feedback(now, Feedback::Gathered, &mut self.effects);
        self.run_tasks(now, host);
        self.trace(Step::Stored, host);
        self.commit(now, host);
        // The end of a put may leave hints to be written: they go in a batch of their own, and lead to no further ones.
        if !self.effects.tasks.is_empty() {
            self.run_tasks(now, host);
            self.commit(now, host);
        }
        self.begin_counts(now, host);
        if !self.effects.too_long.is_empty() {
            host.too_long(&std::mem::take(&mut self.effects.too_long));
        }
        debug_assert!(self.effects.tasks.is_empty() && self.effects.after_durable.is_empty());
    }

    /// Whether operations of earlier inputs need not be run before this one is handled. A retry of a write that one of them brings in has to
    /// find it known, or would mint it once more.
    fn gathers(&self, input: &ShardInput) -> bool {
        self.shard.gathers(input) && input.write_id().is_none_or(|id| !self.arriving.contains(&id))
    }

    /// Notes what operations from this one on bring in.
    fn note_arriving(&mut self, from: usize) {
        for task in &self.effects.tasks[from..] {
            if let Op::Merge { object, .. } = &task.op {
                self.arriving.extend(object.siblings().iter().map(|sibling| sibling.write_id));
            }
        }
    }

    /// Runs the store until nothing is left to be done without the disk.
    fn run_tasks(&mut self, now: Now, host: &mut impl Host) {
        loop {
            for (purpose, spec) in self.effects.pages.drain(..) {
                host.read(ColdRead::Page { purpose, spec });
            }
            for (ticket, spec) in self.effects.hint_pages.drain(..) {
                host.read(ColdRead::Hints { ticket, spec });
            }
            self.read_items(host);
            self.read_tombstones(host);
            for index_key in self.effects.unindex.drain(..) {
                self.store.unindex(&index_key);
            }
            self.store.warm(&self.effects.tasks);
            self.arriving.clear();
            for task in self.effects.tasks.drain(..) {
                if let Some(key) = self.store.submit(task, &mut self.done) {
                    host.read(ColdRead::Record { key });
                }
            }
            for tree in self.effects.healed.drain(..) {
                self.store.heal(tree);
            }
            let (hinted, wiped) = (self.store.take_hint_changes(), self.store.take_wiped());
            if !wiped.is_empty() {
                self.shard.on_feedback(now, Feedback::Wiped(wiped), &mut self.effects);
            }
            if self.done.is_empty() && hinted.is_empty() {
                // After the operations: what is told of trees is of the batch as it will be written.
                if !self.ask_trees(now) && !self.see_to_rounds(now, host) {
                    return;
                }
                continue;
            }
            if !hinted.is_empty() {
                self.shard.on_feedback(now, Feedback::Hinted(hinted), &mut self.effects);
            }
            for done in self.done.drain(..) {
                self.shard.trace_done(&done);
                self.shard.on_feedback(now, Feedback::Done(done), &mut self.effects);
            }
        }
    }

    /// Has the keys of leaves read.
    fn read_items(&mut self, host: &mut impl Host) {
        for (purpose, ItemQuery { tree, leaves, of, after, until, limit }) in self.effects.item_reads.drain(..) {
            let trees = self.store.trees();
            let shape = trees.shape().expect("nobody compares trees before the ring is known").clone();
            let hasher = trees.hasher().clone();
            let spec = ItemSpec { tree, leaves, of, after, until, limit, shape, hasher };
            host.read(ColdRead::Items { purpose, spec });
        }
    }

    /// Has pages of the index of tombstones read.
    fn read_tombstones(&mut self, host: &mut impl Host) {
        for (purpose, spec) in self.effects.tombstone_reads.drain(..) {
            let shape =
                self.store.trees().shape().expect("nobody looks for tombstones before the ring is known").clone();
            host.read(ColdRead::Tombstones { purpose, spec, shape });
        }
    }

    /// Has leaves counted, now that what was gathered before is in the engine.
    fn begin_counts(&mut self, now: Now, host: &mut impl Host) {
        while let Some((step, partition, from)) = self.effects.counts.pop() {
            match self.store.begin_count(partition, from) {
                Some(spec) => host.read(ColdRead::Count { step, spec }),
                None => self.shard.on_scrubbed(now, step, Ok(None), &mut self.effects),
            }
        }
    }

    /// Answers what is asked of trees; whether anything was.
    fn ask_trees(&mut self, now: Now) -> bool {
        let queries = std::mem::take(&mut self.effects.tree_queries);
        let any = !queries.is_empty();
        for (purpose, query) in queries {
            let trees = self.store.trees();
            let reply = match query {
                TreeQuery::Roots(of) => TreeReply::Roots(of.into_iter().map(|tree| trees.root(tree)).collect()),
                TreeQuery::Sums(spec) => TreeReply::Sums(trees.sums(&spec)),
            };
            self.shard.on_feedback(now, Feedback::Trees(purpose, reply), &mut self.effects);
        }
        any
    }

    /// Raises, takes over and tells rounds; whether there was anything to be done.
    fn see_to_rounds(&mut self, now: Now, host: &mut impl Host) -> bool {
        let tasks = std::mem::take(&mut self.effects.round_tasks);
        let any = !tasks.is_empty();
        for task in tasks {
            let feedback = match task {
                RoundTask::Fence { partition, round, inspections } => {
                    let cold = self.store.fence(partition, round, inspections, &mut self.done);
                    cold.into_iter().for_each(|key| host.read(ColdRead::Record { key }));
                    continue;
                }
                RoundTask::Adopt { partition, round } => {
                    self.store.adopt(partition, round);
                    continue;
                }
                RoundTask::Tell { asker, partitions } => {
                    let rounds = self.store.rounds();
                    Feedback::Rounds(asker, partitions.into_iter().map(|of| (of, rounds.of(of))).collect())
                }
            };
            self.shard.on_feedback(now, feedback, &mut self.effects);
        }
        any
    }

    fn on_page(&mut self, purpose: Purpose, page: Result<Page, OpFailure>) {
        match purpose {
            Purpose::Page(entry) => self.shard.on_own_page(entry, page, &mut self.effects),
            Purpose::Range { asker, lack } => {
                self.shard.on_page_read(asker, lack, page, &mut self.effects);
            }
            _ => debug_assert!(false, "only scans read pages"),
        }
    }
}
