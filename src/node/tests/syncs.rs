//! A shard whose disk syncs slowly: it goes on, and says of nothing that it is on the disk before it is.

use super::Bench;
use super::bench::{after, deleted, object};
use crate::api::{ApiError, Get};
use crate::message::{Coordinated, PeerAnswer, PeerRequest, ReapingStep, Reason, Refusal, Replicate};
use crate::node::ShardInput;
use crate::storage::Fault;
use crate::types::{NodeId, Round};

const NOTHING: [&str; 0] = [];

/// One whose syncs take until they are told to end.
fn slow() -> Bench {
    let mut bench = Bench::new();
    bench.slow_syncs();
    bench
}

/// A peer's write that is to be on the disk.
fn sends(bench: &mut Bench, writer: u64) -> Vec<String> {
    bench.sends(&object("v", writer), 0)
}

/// One that need not be.
fn sends_unsynced(bench: &mut Bench, writer: u64) -> Vec<String> {
    let PeerRequest::Replicate(replicate) = bench.replicate(&object("v", writer), 0) else { unreachable!() };
    bench.peer(PeerRequest::Replicate(Replicate { sync: false, ..replicate }))
}

/// With as much waiting as there is room for.
fn fill(bench: &mut Bench) {
    bench.slow_syncs();
    let mut writers = 100..;
    while sends(bench, writers.next().expect("there are enough")).is_empty() {}
}

/// One whose own copy is older than a peer's.
fn behind() -> Bench {
    let mut bench = Bench::new();
    bench.holds(&object("old", 7));
    bench.slow_syncs();
    bench
}

/// A get that waits for two of three disks; the peer has it on its own.
fn repair(bench: &mut Bench) {
    bench.ask(Get { blocking_repair: true, ..bench.get(2) });
    bench.found("p1", &after(&object("old", 7), "new", 8));
    bench.wrote("p1", true);
}

#[test]
fn a_shard_goes_on_while_the_disk_syncs() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    assert!(bench.awaits_sync());
    assert_eq!(sends_unsynced(&mut bench, 8), ["answer: written"]);
    assert_eq!(bench.ask(bench.get(1)), ["got [v,v] of me"]);
    assert_eq!(bench.end_sync(), ["answer: written"]);
    assert!(!bench.awaits_sync());
}

#[test]
fn what_is_written_amid_a_sync_waits_for_the_next() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    assert_eq!(sends(&mut bench, 8), NOTHING);
    bench.ask(bench.put("w", 9, 1));
    assert_eq!(bench.end_sync(), ["answer: written"], "of the first");
    assert!(bench.awaits_sync(), "the others' is begun at once");
    assert_eq!(bench.end_sync(), ["answer: written", "put on me"]);
    assert!(!bench.awaits_sync());
}

/// What changes nothing is as little on the disk as what it repeats.
#[test]
fn a_repeated_write_waits_as_the_first_does() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    assert_eq!(sends(&mut bench, 7), NOTHING);
    assert_eq!(bench.end_sync(), ["answer: written"]);
    assert_eq!(bench.end_sync(), ["answer: written"]);
}

/// The sync that is under way may have begun before the copy was written.
#[test]
fn own_copies_count_as_durable_after_a_sync_of_their_own() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    let mut put = bench.put("w", 9, 2);
    put.header.dw = Some(2);
    bench.ask(put);
    assert_eq!(bench.wrote("p1", true), NOTHING);
    assert_eq!(bench.end_sync(), ["answer: written"]);
    assert_eq!(bench.end_sync(), ["put on me,p1"]);
}

/// A slow disk of its own is no reason for a node to keep a client waiting whose write others have.
#[test]
fn a_put_needs_no_sync_here_if_enough_others_have_it() {
    let mut bench = slow();
    bench.ask(bench.put("w", 9, 2));
    bench.wrote("p1", true);
    assert_eq!(bench.wrote("p2", true), ["put on p1,p2"]);
    assert_eq!(bench.end_sync(), NOTHING);
}

#[test]
fn a_blocking_repair_waits_for_a_sync_of_its_own() {
    let mut bench = behind();
    assert_eq!(sends(&mut bench, 9), NOTHING);
    repair(&mut bench);
    assert_eq!(bench.end_sync(), ["answer: written"]);
    assert_eq!(bench.end_sync(), ["got [new,v] of me,p1 repaired me repaired p1"]);
}

#[test]
fn a_failed_sync_takes_back_all_that_waits_for_one() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    assert_eq!(sends(&mut bench, 8), NOTHING);
    bench.ask(bench.put("w", 9, 1));
    bench.engine.arm(Fault::Sync);
    let refused = format!("answer: {}", Refusal::Storage);
    assert_eq!(bench.end_sync(), [&refused, &refused, "indeterminate 0/1"], "the others were not asked to sync it");
    assert!(!bench.awaits_sync(), "nothing is synced any more");
    assert_eq!(bench.ask(bench.put("x", 10, 1)), ["read-only"]);
}

/// They have been sent it, and told so.
#[test]
fn a_put_whose_own_copy_could_not_be_synced_is_for_the_others_to_decide() {
    let fails = |bench: &mut Bench, w: u8| {
        bench.slow_syncs();
        let mut put = bench.put("w", 9, w);
        put.header.strict = true;
        bench.ask(put);
        assert_eq!(bench.wrote("p1", true), NOTHING);
        bench.engine.arm(Fault::Sync);
        bench.end_sync()
    };
    let mut bench = Bench::new();
    assert_eq!(fails(&mut bench, 2), NOTHING);
    assert_eq!(bench.wrote("p2", true), ["put on p1,p2"]);
    let mut bench = Bench::new();
    assert_eq!(fails(&mut bench, 3), ["indeterminate 1/3"], "there cannot be three any more");
}

/// The others were asked to sync it, since it has no slot here.
#[test]
fn a_stand_in_whose_disk_fails_leaves_the_put_to_another() {
    let mut bench = Bench::away();
    bench.slow_syncs();
    for primary in ["p0", "p1", "p2"] {
        bench.unlink(primary);
    }
    bench.ask(bench.put("w", 9, 1));
    assert_eq!(bench.counters().unsynced, 1);
    bench.engine.arm(Fault::Sync);
    let left = bench.end_sync();
    let other = ["s0", "s1"].into_iter().find(|name| bench.name(bench.node(name)) != "me").unwrap();
    assert_eq!(left, [format!("write {other} for 0 synced [w]")]);
    assert_eq!(bench.wrote(other, true), [format!("put on {other}")]);
}

#[test]
fn a_blocking_repair_does_without_this_node_if_its_disk_fails() {
    let mut bench = behind();
    repair(&mut bench);
    bench.engine.arm(Fault::Sync);
    bench.end_sync();
    assert_eq!(bench.wrote("p2", true), ["got [new] of me,p1 repaired me"]);
}

#[test]
fn a_blocking_repair_ends_with_the_disks_that_are_left() {
    let mut bench = behind();
    repair(&mut bench);
    bench.refuses("p2", Refusal::ReadOnly);
    bench.engine.arm(Fault::Sync);
    assert_eq!(bench.end_sync(), ["timeout 1/2"], "two were wanted, and no others can be had");
}

/// A retry may ask for more than the write that it repeats.
#[test]
fn a_retry_that_wants_it_on_the_disk_waits_for_a_sync_as_the_write_does() {
    for dw in [0, 1] {
        let mut bench = slow();
        let mut put = bench.put("w", 9, 3);
        put.header.dw = Some(dw);
        bench.ask(put.clone());
        put.header.dw = Some(2);
        bench.ask(put);
        assert!(bench.awaits_sync());
        bench.wrote("p1", true);
        assert_eq!(bench.wrote("p2", false), NOTHING);
        assert_eq!(bench.end_sync(), ["put on me,p1,p2", "put on me,p1,p2"], "dw {dw}");
    }
}

/// Its sync is one that the drain waits for, and no answer to what an earlier one is about.
#[test]
fn a_round_is_raised_amid_a_sync() {
    let mut bench = slow();
    let dead = deleted(7);
    assert_eq!(bench.sends(&dead, 0), NOTHING);
    let said = bench.reaping(ReapingStep::Fence(Round(1)), &dead).join(", ");
    assert!(said.contains("Vouched"), "{said}");
    assert_eq!(bench.round(), Round(1));
    assert!(bench.awaits_sync());
    assert_eq!(bench.end_sync(), ["answer: written"]);
}

#[test]
fn nobody_waits_for_a_sync_that_takes_longer_than_any_request() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    bench.pass(4999);
    assert_eq!(sends(&mut bench, 8), NOTHING);
    bench.pass(5000);
    assert_eq!(sends(&mut bench, 9), [format!("answer: {}", Refusal::Overloaded)]);
    assert_eq!(sends_unsynced(&mut bench, 10), ["answer: written"]);
    bench.ask(bench.put("w", 11, 2));
    assert_eq!(bench.wrote("p1", true), NOTHING, "the clients' writes go to others as well");
    assert_eq!(bench.wrote("p2", true), ["put on p1,p2"]);
    let next = bench.replicate(&object("v", 12), 0);
    let next = bench.peer_asks(NodeId(2), next);
    assert_eq!(bench.drain(vec![ShardInput::Synced(Ok(())), next]), ["answer: written"], "the next has just begun");
}

#[test]
fn a_repair_of_its_own_copy_takes_no_more_room_than_there_is() {
    let mut bench = Bench::with(true, |config| config.max_inflight = 2);
    fill(&mut bench);
    repair(&mut bench);
    assert_eq!(bench.counters().unsynced, 8);
}

#[test]
fn a_node_that_is_behind_stands_in_for_nobody() {
    let mut bench = Bench::with(false, |config| config.max_inflight = 1);
    fill(&mut bench);
    for primary in ["p0", "p1", "p2"] {
        bench.unlink(primary);
    }
    let left = bench.ask(bench.put("w", 12, 1));
    assert!(left.iter().any(|said| said.starts_with("write s")), "another does: {left:?}");
    assert_eq!(bench.counters().unsynced, 4);
}

/// It was taken, and may be anywhere.
#[test]
fn a_retry_is_not_refused_for_want_of_room() {
    let mut bench = Bench::with(true, |config| config.max_inflight = 2);
    let put = bench.put("w", 5, 1);
    bench.ask(put.clone());
    bench.wrote("p1", true);
    bench.wrote("p2", true);
    fill(&mut bench);
    let left = bench.ask(put);
    assert!(left.iter().all(|said| said.starts_with("write p")) && left.len() == 2, "{left:?}");
}

/// A disk that keeps clients waiting has no time for what nobody waits for, as an exchange.
#[test]
fn a_clients_write_that_waits_for_the_sync_before_its_own_is_a_load() {
    let looks_at = |ms: u64| {
        let mut bench = slow();
        assert_eq!(sends(&mut bench, 7), NOTHING);
        bench.ask(bench.put("w", 9, 1));
        bench.pass(ms);
        assert_eq!(bench.end_sync(), ["answer: written"]);
        bench.pass(100);
        assert_eq!(bench.end_sync(), ["put on me"]);
        bench.wrote("p1", true);
        bench.wrote("p2", true);
        bench.due()
    };
    assert_eq!(looks_at(4), None, "how long its own sync takes is the disk's nature");
    assert_eq!(looks_at(5), Some(505_000), "when it is idle again is looked at");
}

#[test]
fn what_nobody_waits_for_has_half_of_the_room() {
    let mut bench = Bench::with(true, |config| config.max_inflight = 2);
    bench.slow_syncs();
    let replay = |bench: &mut Bench, writer| {
        let PeerRequest::Replicate(replicate) = bench.replicate(&object("v", writer), 0) else { unreachable!() };
        bench.peer(PeerRequest::Replicate(Replicate { reason: Reason::Hint, ..replicate }))
    };
    for writer in 7..11 {
        assert_eq!(replay(&mut bench, writer), NOTHING, "there is room for four");
    }
    assert_eq!(replay(&mut bench, 11), [format!("answer: {}", Refusal::Overloaded)]);
    assert_eq!(sends(&mut bench, 12), NOTHING);
}

/// It writes nothing here, and has no sync to wait for.
#[test]
fn a_node_without_a_slot_coordinates_however_slow_its_disk() {
    let mut bench = Bench::with(false, |config| config.max_inflight = 1);
    fill(&mut bench);
    let mut put = bench.put("w", 12, 1);
    put.header.strict = true;
    bench.ask(put);
    let refused = Err(ApiError::NotReady { reason: "it is about to stop".into() });
    let back = bench.answer("p0", PeerAnswer::Coordinated(Coordinated { outcome: refused, trace: None }));
    assert_eq!(back, ["write p0 synced [w]", "write p1 synced [w]", "write p2 synced [w]"], "it is coordinated here");
}

/// The earlier ones were written, and a sync puts them on the disk.
#[test]
fn a_failed_batch_leaves_alone_what_waits_for_the_sync_of_earlier_ones() {
    let mut bench = slow();
    assert_eq!(bench.ask(bench.put("w", 9, 1)), ["write p1 [w]", "write p2 [w]"]);
    bench.engine.arm(Fault::Commit { in_log: false });
    assert_eq!(sends(&mut bench, 7), [format!("answer: {}", Refusal::Storage)]);
    assert_eq!(bench.input(ShardInput::Synced(Ok(()))), ["put on me"]);
}

/// And what is held for the next sync, which the disk does not do any more, is taken back when that is known.
#[test]
fn nothing_waits_for_ever_behind_a_failed_batch() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    assert_eq!(sends(&mut bench, 8), NOTHING);
    bench.engine.arm(Fault::Commit { in_log: false });
    let refused = format!("answer: {}", Refusal::Storage);
    let third = bench.replicate(&object("v", 9), 0);
    let third = bench.peer_asks(NodeId(2), third);
    assert_eq!(bench.drain(vec![ShardInput::Synced(Ok(())), third]), [&refused, "answer: written"]);
    assert_eq!(bench.end_sync(), [refused]);
    assert!(!bench.awaits_sync());
}

#[test]
fn so_much_waits_for_a_sync_and_no_more() {
    let mut bench = Bench::with(true, |config| config.max_inflight = 2);
    bench.slow_syncs();
    for writer in 7..15 {
        assert_eq!(sends(&mut bench, writer), NOTHING, "there is room for eight");
    }
    assert_eq!(sends(&mut bench, 15), [format!("answer: {}", Refusal::Overloaded)]);
    assert_eq!(bench.ask(bench.put("w", 16, 1)), [ApiError::Overloaded.to_string()]);
    assert_eq!(sends_unsynced(&mut bench, 17), ["answer: written"], "it waits for nothing");
    assert_eq!(bench.end_sync(), ["answer: written"]);
    assert_eq!(sends(&mut bench, 18), NOTHING, "there is room again");
    assert_eq!(bench.end_sync().len(), 7);
    assert_eq!(bench.end_sync(), ["answer: written"]);
}

#[test]
fn a_trace_dates_the_sync_of_its_own_write() {
    let mut bench = slow();
    assert_eq!(sends(&mut bench, 7), NOTHING);
    bench.at(1);
    let mut put = bench.put("w", 9, 1);
    put.header.trace = true;
    bench.ask(put);
    bench.at(3);
    assert_eq!(bench.end_sync(), ["answer: written"]);
    bench.at(7);
    assert_eq!(bench.end_sync(), ["put on me"]);
    assert_eq!((bench.trace().written_us, bench.trace().synced_us), (Some(0), Some(6000)));
}
