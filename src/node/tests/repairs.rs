//! Repairs: when a result is on enough disks, who is sent it again, and what this node learns from its own share.

use super::Bench;
use super::bench::{after, object};
use crate::api::{Get, Reply};
use crate::message::Refusal;
use crate::node::ShardInput;
use crate::storage::OpFailure;
use crate::version::Actor;

fn blocking(bench: &Bench, r: u8) -> Get {
    Get { blocking_repair: true, ..bench.get(r) }
}

/// A blocking read of this node and `p1` that waits for two disks: `p2` cannot be reached, and this node's record is on its
/// way from the disk.
fn waiting() -> Bench {
    let mut bench = Bench::cold(true);
    let (old, new) = (object("old", 7), after(&object("old", 7), "new", 8));
    bench.holds(&old);
    bench.unlink("p2");
    assert_eq!(bench.ask(blocking(&bench, 2)), ["fetch p1"]);
    bench.read(None);
    assert_eq!(bench.found("p1", &new), ["repair p1 synced [new]", "repair p2 synced [new]"]);
    assert_eq!(bench.reads(), 1);
    bench
}

#[test]
fn a_share_that_finds_the_disk_busy_is_tried_again() {
    let mut bench = waiting();
    assert_eq!(bench.refuses("p2", Refusal::Storage), [""; 0]);
    assert_eq!(bench.read(Some(OpFailure::Overloaded)), [""; 0]);
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    assert_eq!((bench.at(300), bench.reads()), (vec![], 1));
    assert_eq!(bench.read(None), ["got [new] of me,p1 repaired me"]);
}

#[test]
fn a_share_that_the_disk_refuses_is_waited_for_no_longer() {
    let mut bench = waiting();
    assert_eq!(bench.refuses("p2", Refusal::Storage), [""; 0]);
    let failed = OpFailure::Unreadable { detail: "it is rotten".into(), rotten: false };
    assert_eq!(bench.read(Some(failed)), ["timeout 0/2"]);
}

/// All three disks are needed.
fn all_disks() -> Bench {
    let mut bench = Bench::new();
    bench.holds(&object("v", 7));
    assert_eq!(bench.ask(blocking(&bench, 1)), ["repair p1 synced [v]", "repair p2 synced [v]"]);
    assert_eq!(bench.counters().repairs_blocking, 1);
    bench
}

#[test]
fn written_is_not_durable() {
    let mut bench = all_disks();
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    assert_eq!(bench.wrote("p2", false), [""; 0]);
    assert_eq!(bench.wrote("p2", true), ["got [v] of me"]);
}

#[test]
fn who_may_change_his_mind_is_sent_it_again_and_no_other() {
    for busy in [Refusal::Overloaded, Refusal::NotReady] {
        let mut bench = all_disks();
        assert_eq!(bench.wrote("p1", true), [""; 0]);
        assert_eq!(bench.refuses("p2", busy), [""; 0]);
        assert_eq!(bench.at(300), ["repair p2 synced [v]"]);
        let counters = bench.counters();
        assert_eq!((counters.repairs_blocking, counters.repairs_sent, counters.resent), (1, 3, 1));
    }
    for refusal in [Refusal::Storage, Refusal::ReadOnly, Refusal::NotAReplica] {
        assert_eq!(all_disks().refuses("p1", refusal), ["timeout 1/3"]);
    }
}

#[test]
fn a_node_that_writes_nothing_makes_nothing_durable() {
    let mut bench = Bench::new();
    bench.holds(&object("v", 7));
    bench.input(ShardInput::ReadOnly(Some("its disk is full".into())));
    assert_eq!(bench.ask(blocking(&bench, 1)), ["repair p1 synced [v]", "repair p2 synced [v]", "timeout 0/3"]);
    // Where two disks of three suffice, the others' are waited for.
    bench.unlink("p2");
    assert_eq!(bench.ask(blocking(&bench, 2)), ["fetch p1"]);
    assert_eq!(bench.found("p1", &object("v", 7)), ["repair p1 synced [v]", "repair p2 synced [v]"]);
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    assert_eq!(bench.wrote("p2", true), ["got [v] of me,p1"]);
}

/// Else a retry of it would be minted a second time.
#[test]
fn a_write_that_a_repair_brought_is_known() {
    let mut bench = Bench::new();
    bench.unlink("p2");
    bench.ask(bench.get(2));
    assert_eq!(bench.found("p1", &object("v", 7)), ["got [v] of me,p1 repaired me"]);
    bench.ask(bench.put("v", 7, 1));
    let Ok(Reply::Put(receipt)) = &bench.told().result else { panic!("{:?}", bench.told()) };
    assert_eq!(receipt.dot.actor, Actor(7));
}
