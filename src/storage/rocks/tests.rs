//! Commits that must wait do so where they hold up nobody else.

use std::sync::Condvar;

use super::*;

/// Longer than any machine needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits that were run so; the tests that look at it take turns.
static ASIDE: Mutex<usize> = Mutex::new(0);
static MORE: Condvar = Condvar::new();
static TURN: Mutex<()> = Mutex::new(());

fn aside() -> usize {
    *ASIDE.lock().unwrap()
}

fn open(dir: &tempfile::TempDir) -> RocksEngine {
    RocksEngine::open(dir.path(), &RocksConfig::default()).unwrap().waiting_aside(|wait| {
        *ASIDE.lock().unwrap() += 1;
        MORE.notify_all();
        wait();
    })
}

fn commit(engine: &RocksEngine) -> BatchNumber {
    let mut batch = Batch::new();
    batch.put(Family::Objects, b"key", b"value");
    engine.commit(&mut batch).unwrap()
}

/// Commits, and does `then` once the commit waits aside.
fn waits_aside(engine: &RocksEngine, then: impl FnOnce()) {
    let before = aside();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| commit(engine));
        let more = MORE.wait_timeout_while(ASIDE.lock().unwrap(), DEADLINE, |now| *now == before).unwrap();
        let waited = (*more.0 > before, waiting.is_finished());
        drop(more);
        then();
        assert_eq!(waited, (true, false));
        assert_eq!(waiting.join().unwrap(), engine.latest());
    });
}

#[test]
fn a_commit_waits_aside_for_the_mender_and_for_room() {
    let _turn = TURN.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    let before = aside();
    commit(&engine);
    assert_eq!(aside(), before, "most commits do not wait");

    let alone = engine.commits.write().unwrap();
    waits_aside(&engine, || drop(alone));

    let triggers = |slow, stop| {
        let triggers = [("level0_slowdown_writes_trigger", slow), ("level0_stop_writes_trigger", stop)];
        engine.db.set_options_cf(engine.family(Family::Objects), &triggers).unwrap();
    };
    triggers("1", "1");
    engine.db.flush_cf(engine.family(Family::Objects)).unwrap();
    waits_aside(&engine, || triggers("40", "72"));
}

#[test]
fn what_gives_up_a_quarantine_reads_the_disk_aside() {
    let _turn = TURN.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&dir);
    engine.quarantine.set(vec![(b"a".to_vec(), b"m".to_vec())]);
    let give_up = |start: &[u8], end: &[u8]| {
        let before = aside();
        let mut batch = Batch::new();
        batch.delete_range(Family::Objects, start, end);
        engine.commit(&mut batch).unwrap();
        aside() - before
    };
    assert_eq!((give_up(b"n", b"z"), give_up(b"b", b"c")), (0, 1));
}
