//! Who goes on while the disk does not.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use super::super::clock::Clock;
use super::super::disk::Disk;
use super::super::mark::Mark;
use super::super::tests::hanging::Hanging;
use super::*;
use crate::storage::config::SizeOrPercent;
use crate::types::{DiskId, Nonce};

fn commit(engine: &AnyEngine) {
    let mut batch = Batch::new();
    batch.put(Family::Objects, b"key", b"value");
    engine.commit(&mut batch).unwrap();
}

/// Does the work in a task of a runtime with one thread, with a disk that hangs until another of its tasks has it go on.
async fn goes_on_meanwhile(disk: Arc<Hanging>, work: impl FnOnce() + Send + 'static) {
    disk.hang();
    let begun = Arc::new(AtomicBool::new(false));
    let begins = begun.clone();
    let shard = tokio::spawn(async move {
        begins.store(true, Ordering::SeqCst);
        work();
    });
    let network = tokio::spawn(async move {
        while !(begun.load(Ordering::SeqCst) && disk.is_waited_for()) {
            tokio::task::yield_now().await;
        }
        disk.go_on();
    });
    shard.await.unwrap();
    network.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reads_of_the_disk_hold_up_nobody_else() {
    let disk = Hanging::new();
    let engine = Arc::new(AnyEngine::new(disk.clone()));
    let works: [fn(&AnyEngine); 3] = [
        |engine| drop(engine.get(Family::Objects, b"key", ReadTier::Disk).unwrap()),
        |engine| {
            let all = engine.scan(Family::Objects, b"", None, ScanLimit::NONE, &mut |_, _| ControlFlow::Continue(()));
            assert_eq!(all, Ok(None));
        },
        |engine| engine.salvage(b"a", b"z", &mut |_, _| ControlFlow::Continue(())).unwrap(),
    ];
    for work in works {
        let engine = engine.clone();
        goes_on_meanwhile(disk.clone(), move || work(&engine)).await;
    }
}

/// Begins it on a thread of its own, at a disk that hangs, and waits until it does.
fn begin(disk: &Arc<Hanging>, work: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    disk.hang();
    let begun = std::thread::spawn(work);
    disk.await_waiter();
    begun
}

#[test]
fn after_a_slow_commit_some_are_handed_over_and_then_no_more() {
    let disk = Hanging::new();
    let engine = AnyEngine::new(disk.clone());
    assert!(!engine.is_slow(Instant::now()));
    disk.hang();
    std::thread::scope(|scope| {
        scope.spawn(|| commit(&engine));
        let start = Instant::now();
        while !disk.is_waited_for() || start.elapsed() < SLOW * 2 {
            std::thread::yield_now();
        }
        disk.go_on();
    });
    assert_eq!(engine.handed_over.load(Ordering::SeqCst), AFTER_SLOW);
    for left in (0..AFTER_SLOW).rev() {
        assert!(engine.is_slow(Instant::now()));
        engine.note(SLOW - Duration::from_nanos(1));
        assert_eq!(engine.handed_over.load(Ordering::SeqCst), left);
    }
    assert!(!engine.is_slow(Instant::now()), "a disk that was quick again is quick");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_commit_at_a_slow_disk_holds_up_nobody_else() {
    let disk = Hanging::new();
    let engine = Arc::new(AnyEngine::new(disk.clone()));
    engine.note(SLOW);
    goes_on_meanwhile(disk, move || commit(&engine)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_commit_beside_another_holds_up_nobody_else() {
    let disk = Hanging::new();
    let engine = Arc::new(AnyEngine::new(disk.clone()));
    let (first, second) = (engine.clone(), engine.clone());
    let first = begin(&disk, move || commit(&first));
    goes_on_meanwhile(disk, move || commit(&second)).await;
    first.join().unwrap();
    assert_eq!(engine.committing.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_commit_beside_a_slow_sync_holds_up_nobody_else() {
    let disk = Hanging::new();
    let engine = Arc::new(AnyEngine::new(disk.clone()));
    let (first, second) = (engine.clone(), engine.clone());
    let first = begin(&disk, move || first.sync().unwrap());
    let start = Instant::now();
    while start.elapsed() <= SLOW {
        tokio::task::yield_now().await;
    }
    goes_on_meanwhile(disk, move || commit(&second)).await;
    first.join().unwrap();
    assert_eq!(engine.sync_began.load(Ordering::SeqCst), NO_SYNC);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_sync_holds_up_nobody_else_be_it_at_the_disk_or_behind_another() {
    let (hanging, dir) = (Hanging::new(), tempfile::tempdir().unwrap());
    let engine = Arc::new(AnyEngine::new(hanging.clone()));
    let (mark, _) = Mark::open(dir.path(), DiskId(1), None, Nonce(1)).unwrap();
    let disk = Arc::new(Disk::new(engine.clone(), mark, SizeOrPercent::Percent(0), Clock::start()));
    commit(&engine);
    let syncs = disk.clone();
    goes_on_meanwhile(hanging.clone(), move || syncs.sync_to(BatchNumber(1)).unwrap()).await;
    assert_eq!((disk.synced(), disk.sync_counters().syncs), (BatchNumber(1), 1));

    commit(&engine);
    let (first, second) = (disk.clone(), disk.clone());
    let first = begin(&hanging, move || first.sync_to(BatchNumber(2)).unwrap());
    goes_on_meanwhile(hanging, move || second.sync_to(BatchNumber(2)).unwrap()).await;
    first.join().unwrap();
    assert_eq!((disk.sync_counters().syncs, disk.sync_counters().covered), (2, 1));
}
