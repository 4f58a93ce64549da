//! The threads that read from the disk, so that no shard waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::engine::AnyEngine;
use super::inbox::Inbox;
use crate::node::ColdRead;

/// How many threads read. Each waits for the disk most of its time; more only deepen the disk's queue.
pub const READERS: usize = 4;

/// What the pool has to do, for metrics.
#[derive(Debug, Default)]
pub struct ReadCounters {
    /// Reads that wait or are being done.
    pub waiting: AtomicU64,
    /// Reads refused, since too many waited.
    pub refused: AtomicU64,
}

struct Job {
    read: ColdRead,
    inbox: Arc<Inbox>,
}

/// A handle for shards; the pool ends when the last one is gone.
#[derive(Clone)]
pub struct ReadPool {
    jobs: Sender<Job>,
    counters: Arc<ReadCounters>,
}

/// One thread's end of the pool.
pub struct Reader {
    jobs: Receiver<Job>,
    engine: Arc<AnyEngine>,
    counters: Arc<ReadCounters>,
}

impl ReadPool {
    /// A pool in which `capacity` reads may wait, and its threads' ends.
    pub fn new(engine: &Arc<AnyEngine>, capacity: usize) -> (ReadPool, Vec<Reader>) {
        let (jobs, queue) = bounded(capacity);
        let counters = Arc::<ReadCounters>::default();
        let reader = || Reader { jobs: queue.clone(), engine: engine.clone(), counters: counters.clone() };
        let readers = std::iter::repeat_with(reader).take(READERS).collect();
        (ReadPool { jobs, counters: counters.clone() }, readers)
    }

    /// Has it read, and the result put into `inbox`. With too many waiting, the result is a failure, at once: the
    /// shard must hear of every read that it has asked for.
    pub fn submit(&self, read: ColdRead, inbox: &Arc<Inbox>) {
        let job = Job { read, inbox: inbox.clone() };
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job) {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            job.inbox.push_notice(job.read.refused());
        }
    }

    /// What it has to do.
    pub fn counters(&self) -> &Arc<ReadCounters> {
        &self.counters
    }
}

impl Reader {
    /// Reads until the pool's last handle is gone.
    pub fn run(self) {
        while let Ok(Job { read, inbox }) = self.jobs.recv() {
            inbox.push_notice(read.run(&*self.engine));
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
