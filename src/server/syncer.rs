//! The thread that syncs for shards: they go on meanwhile, and hear of it when it is done.

use std::cmp::Reverse;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::disk::Disk;
use super::inbox::Inbox;
use crate::node::ShardInput;
use crate::storage::StorageError;
use crate::types::BatchNumber;

/// Who waits for what.
struct Ask {
    number: BatchNumber,
    inbox: Arc<Inbox>,
}

/// A handle for shards; the thread ends when the last one is gone.
#[derive(Clone)]
pub struct Syncer {
    asks: Sender<Ask>,
    disk: Arc<Disk>,
}

/// The thread's end.
pub struct SyncThread {
    asks: Receiver<Ask>,
    disk: Arc<Disk>,
}

impl Syncer {
    /// For so many shards, each of which asks once and hears before it asks again.
    pub fn new(disk: &Arc<Disk>, shards: u16) -> (Syncer, SyncThread) {
        let (asks, asked) = bounded(usize::from(shards));
        (Syncer { asks, disk: disk.clone() }, SyncThread { asks: asked, disk: disk.clone() })
    }

    /// Has everything up to `number` synced, and tells `inbox` then; `Some` if it is on the disk already.
    ///
    /// # Panics
    /// If the shard has not heard of the sync that it has asked for before.
    pub fn begin(&self, number: BatchNumber, inbox: &Arc<Inbox>) -> Option<Result<(), StorageError>> {
        if self.disk.synced() >= number {
            self.disk.note_covered();
            return Some(Ok(()));
        }
        let asked = self.asks.try_send(Ask { number, inbox: inbox.clone() });
        assert!(asked.is_ok(), "there is room for all shards, and a thread that ends stops the node");
        None
    }
}

impl SyncThread {
    /// Syncs until the last handle is gone: once for all who wait when a sync begins.
    pub fn run(self) {
        while let Ok(first) = self.asks.recv() {
            let mut asks: Vec<Ask> = std::iter::once(first).chain(self.asks.try_iter()).collect();
            // The sync for whoever has come furthest covers the others.
            asks.sort_by_key(|ask| Reverse(ask.number));
            for Ask { number, inbox } in asks {
                inbox.push_notice(ShardInput::Synced(self.disk.sync_to(number)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::clock::Clock;
    use super::super::engine::AnyEngine;
    use super::super::inbox::Closed;
    use super::super::mark::Mark;
    use super::super::tests::hanging::Hanging;
    use super::*;
    use crate::node::InboxLimits;
    use crate::storage::config::SizeOrPercent;
    use crate::storage::{Batch, Engine, Family};
    use crate::types::{DiskId, Nonce};

    /// A disk that can be made to hang, for three shards, and the thread.
    struct Bench {
        hanging: Arc<Hanging>,
        disk: Arc<Disk>,
        syncer: Syncer,
        thread: std::thread::JoinHandle<()>,
        inboxes: [Arc<Inbox>; 3],
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let (hanging, dir) = (Hanging::new(), tempfile::tempdir().unwrap());
            let engine = Arc::new(AnyEngine::new(hanging.clone()));
            let (mark, _) = Mark::open(dir.path(), DiskId(1), None, Nonce(1)).unwrap();
            let disk = Arc::new(Disk::new(engine, mark, SizeOrPercent::Percent(0), Clock::start()));
            let (syncer, thread) = Syncer::new(&disk, 3);
            let inbox = || Arc::new(Inbox::new(InboxLimits::of(64, 1 << 20)));
            let (inboxes, thread) = ([inbox(), inbox(), inbox()], std::thread::spawn(|| thread.run()));
            Bench { hanging, disk, syncer, thread, inboxes, _dir: dir }
        }

        fn commit(&self) -> BatchNumber {
            let mut batch = Batch::new();
            batch.put(Family::Objects, b"key", b"value");
            self.disk.engine().commit(&mut batch).unwrap()
        }

        /// A shard has something synced; false if it need not wait.
        fn begin(&self, shard: usize, number: BatchNumber) -> bool {
            self.syncer.begin(number, &self.inboxes[shard]).is_none()
        }

        /// What a shard hears, once it does.
        async fn heard(&self, shard: usize) -> Vec<ShardInput> {
            let (inbox, mut heard) = (&self.inboxes[shard], Vec::new());
            tokio::time::timeout(Duration::from_secs(10), inbox.filled(None, Closed::Expects)).await.expect("it hears");
            inbox.take(&mut heard, 8);
            heard
        }

        fn syncs(&self) -> (u64, u64) {
            let counters = self.disk.sync_counters();
            (counters.syncs, counters.covered)
        }
    }

    #[tokio::test]
    async fn all_who_ask_amid_a_sync_are_served_by_the_next() {
        let bench = Bench::new();
        let (first, second) = (bench.commit(), bench.commit());
        bench.hanging.hang_syncs();
        assert!(bench.begin(0, first));
        bench.hanging.await_waiter();
        // The first sync covers this as well, but nobody knows how it will end.
        assert!(bench.begin(1, second));
        let third = bench.commit();
        assert!(bench.begin(2, third));
        assert!(bench.inboxes.iter().all(|inbox| inbox.is_idle()), "nobody is told of a sync that goes on");
        bench.hanging.go_on();
        for shard in [0, 1, 2] {
            assert!(matches!(bench.heard(shard).await[..], [ShardInput::Synced(Ok(()))]));
        }
        assert_eq!((bench.disk.synced(), bench.syncs()), (third, (2, 1)));
        assert!(!bench.begin(0, third), "what is on the disk is waited for by nobody");
        assert_eq!(bench.syncs(), (2, 2));
    }

    #[tokio::test]
    async fn a_shard_hears_that_nothing_is_synced_any_more() {
        let bench = Bench::new();
        let number = bench.commit();
        bench.hanging.stop();
        assert!(bench.begin(0, number));
        assert!(matches!(bench.heard(0).await[..], [ShardInput::Synced(Err(StorageError::Stopped { .. }))]));
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let Bench { syncer, thread, .. } = Bench::new();
        drop(syncer);
        let start = std::time::Instant::now();
        while !thread.is_finished() {
            assert!(start.elapsed() < Duration::from_secs(10), "nobody can ask it any more");
            std::thread::yield_now();
        }
        thread.join().unwrap();
    }
}
