//! Reaping rounds: what a peer has met of them fences what is older, and whoever is refused for that reads again.

use std::sync::Arc;

use super::Bench;
use super::bench::{fetched, held, object};
use crate::api::{ApiError, Get};
use crate::message::{Coordinated, Found, Held, PeerAnswer, Refusal};
use crate::storage::{Fault, Rounds};
use crate::types::Round;
use crate::version::Object;

const MET: Round = Round(4);

fn fenced() -> Refusal {
    Refusal::Fenced(MET)
}

fn found_at(object: &Arc<Object>, round: u64) -> PeerAnswer {
    fetched(Ok(Held { round: Round(round), ..held(Found::Object(object.clone())) }))
}

fn not_ready() -> PeerAnswer {
    let error = ApiError::NotReady { reason: "it is about to stop".into() };
    PeerAnswer::Coordinated(Coordinated { outcome: Err(error), trace: None })
}

/// A node that has met a round, since a peer had.
fn met() -> Bench {
    let mut bench = Bench::new();
    bench.ask(bench.put("v", 7, 3));
    assert_eq!(bench.sent("p1"), Round(0));
    assert_eq!(bench.refuses("p1", fenced()), ["write p1 synced [v]"]);
    bench
}

#[test]
fn a_put_that_is_fenced_takes_the_round_over_and_sends_what_is_held_now() {
    let mut bench = met();
    assert_eq!((bench.sent("p1"), bench.round()), (MET, MET));
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    // So does whoever is sent it later, with what has been written since.
    assert_eq!(bench.ask(bench.put("w", 8, 1)), ["put on me", "write p1 [v,w]", "write p2 [v,w]"]);
    assert_eq!((bench.sent("p1"), bench.sent("p2")), (MET, MET));
}

#[test]
fn a_put_that_both_refuse_goes_to_both_again() {
    let mut bench = met();
    assert_eq!(bench.refuses("p2", fenced()), ["write p2 synced [v]"]);
    assert_eq!(bench.sent("p2"), MET);
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    assert_eq!(bench.wrote("p2", true), ["put on me,p1,p2"]);
    assert_eq!(bench.refuses("p2", fenced()), [""; 0], "it has answered");
}

#[test]
fn a_round_is_on_the_disk_before_anything_is_labelled_with_it() {
    let bench = met();
    bench.engine.power_loss(&mut rand::SeedableRng::seed_from_u64(1) as &mut rand::rngs::StdRng);
    assert_eq!(Rounds::load(&*bench.engine).unwrap().of(bench.partition()), MET);

    let mut bench = Bench::new();
    bench.ask(bench.put("v", 7, 3));
    bench.engine.arm(Fault::Sync);
    assert_eq!(bench.refuses("p1", fenced()), [""; 0], "nothing leaves");
    assert_eq!(bench.round(), Round(0));
}

#[test]
fn what_is_older_than_the_round_is_refused() {
    let mut bench = met();
    let late = object("late", 9);
    let refused = format!("answer: {}", fenced());
    assert_eq!(bench.sends(&late, 3), [refused]);
    bench.ask(bench.get(1));
    assert_eq!(bench.told().values.len(), 1, "it has not come in");
    assert_eq!(bench.sends(&late, 4), ["answer: written"]);
    bench.ask(bench.get(1));
    assert_eq!(bench.told().values.len(), 2);
}

/// Whoever stores nothing of a write has nothing to send again.
#[test]
fn a_put_that_is_stored_nowhere_here_counts_whoever_fences_it_as_refused() {
    let mut bench = Bench::away();
    bench.ask(bench.put("v", 7, 2));
    assert_eq!(bench.answer("p0", not_ready()), ["write p0 synced [v]", "write p1 synced [v]", "write p2 synced [v]"]);
    assert_eq!(bench.wrote("p2", true), [""; 0]);
    assert_eq!(bench.refuses("p0", fenced()), [""; 0], "a primary is left");
    assert_eq!(bench.round(), MET);
    // W can no longer be met by primaries: this node would stand in, but the write is older than what it has met itself.
    let left = bench.refuses("p1", fenced());
    assert!(left.iter().all(|text| !text.contains("p0") && !text.contains("p1")), "{left:?}");
    assert_eq!(bench.records(), 0, "{left:?}");
    // A new one is minted in the round that is known now.
    bench.unlink("p0");
    bench.unlink("p1");
    bench.unlink("p2");
    bench.ask(bench.put("w", 8, 1));
    assert_eq!(bench.records(), 1);
}

/// What was reaped, and written anew, is no longer what was to be sent.
#[test]
fn what_is_held_without_the_write_is_not_sent_in_its_place() {
    let mut bench = Bench::away();
    bench.ask(bench.put("v", 7, 2));
    bench.answer("p0", not_ready());
    bench.holds(&object("w", 8));
    assert_eq!(bench.refuses("p0", fenced()), [""; 0]);
    assert_eq!((bench.sent("p0"), bench.round()), (Round(0), MET));
}

#[test]
fn a_retry_of_what_is_stored_nowhere_here_is_as_old_as_it_was() {
    let mut bench = Bench::away();
    bench.ask(bench.put("v", 7, 2));
    bench.answer("p0", not_ready());
    bench.refuses("p0", fenced());
    assert_eq!(bench.round(), MET);
    bench.at(6000);
    bench.ask(bench.put("v", 7, 2));
    assert_eq!(["p0", "p1", "p2"].map(|name| bench.sent(name)), [Round(0); 3]);
}

fn blocking(bench: &Bench, r: u8) -> Get {
    Get { blocking_repair: true, ..bench.get(r) }
}

#[test]
fn a_repair_that_is_fenced_is_sent_again_if_this_node_holds_it() {
    let mut bench = Bench::new();
    bench.holds(&object("v", 7));
    assert_eq!(bench.ask(blocking(&bench, 1)), ["repair p1 synced [v]", "repair p2 synced [v]"]);
    assert_eq!(bench.refuses("p1", fenced()), ["repair p1 synced [v]"]);
    assert_eq!((bench.sent("p1"), bench.round()), (MET, MET));
    assert_eq!(bench.wrote("p1", true), [""; 0]);
    assert_eq!(bench.wrote("p2", true), ["got [v] of me"]);
}

/// What others hold was read in a round that is over: it is for them to say what they hold now.
#[test]
fn a_repair_of_what_this_node_does_not_hold_ends_at_the_fence() {
    let mut bench = met();
    bench.unlink("p2");
    assert_eq!(bench.ask(blocking(&bench, 2)), ["fetch p1"]);
    let left = bench.answer("p1", found_at(&object("w", 8), 3));
    assert_eq!(left, ["repair p1 synced [v,w]", "repair p2 synced [v,w]"]);
    assert_eq!(bench.sent("p1"), Round(3));
    assert_eq!(bench.refuses("p1", fenced()), ["timeout 0/2"], "neither this node nor p1 has merged it");
    bench.ask(bench.get(1));
    assert_eq!(bench.told().values, ["v".as_bytes()], "its own share is fenced too");
}

#[test]
fn a_reader_is_told_the_round_of_what_is_found() {
    let mut bench = met();
    assert!(bench.fetches().contains(&format!("round: {MET:?}")), "{}", bench.fetches());
    bench.unlink("p2");
    bench.ask(bench.get(2));
    bench.answer("p1", found_at(&object("w", 9), 3));
    assert_eq!(bench.sent("p1"), Round(3), "a merge has its parts' lowest");
}
