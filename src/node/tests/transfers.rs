//! Objects that a peer has asked for: what counts as sent, and what is sent again.

use super::Bench;
use super::bench::object;
use crate::message::Refusal;

/// A primary of the tree has asked for the objects of these keys, of which so many are sent at a time.
fn asked_for(count: usize, window: usize) -> (Bench, Vec<String>) {
    let mut bench = Bench::with(true, |config| config.max_inflight = window * 2);
    let keys = bench.keys(count);
    for (key, actor) in keys.iter().zip(1..) {
        assert_eq!(bench.sends_under(key, &object(&actor.to_string(), actor)), ["answer: written"]);
    }
    let left = bench.wants("p1", &keys);
    (bench, left)
}

/// What is sent again may be answered twice.
#[test]
fn an_answer_that_comes_twice_counts_for_no_other_key() {
    let (mut bench, left) = asked_for(2, 1);
    assert_eq!(left, ["write p1 for 0 [1]"]);
    assert_eq!(bench.at(300), ["write p1 for 0 [1]"]);
    assert_eq!(bench.merged("p1", 0, Ok(false)), ["write p1 [2]"]);
    assert_eq!(bench.merged("p1", 0, Ok(false)), [""; 0]);
    let wanted = bench.merged("p1", 1, Err(Refusal::Storage));
    assert_eq!(wanted, ["answer: Exchange(Wanted(Ok(Wanted { sent: 1, failed: 1, bytes: 49 })))"]);
    assert_eq!(bench.counters().stray_answers, 1);
}

#[test]
fn what_left_a_moment_ago_is_not_sent_again() {
    let (mut bench, left) = asked_for(3, 2);
    let [first, second, third] = ["write p1 for 0 [1]", "write p1 [2]", "write p1 for 2 [3]"];
    assert_eq!(left, [second, first]);
    bench.pass(299);
    assert_eq!(bench.merged("p1", 1, Ok(false)), [third]);
    assert_eq!(bench.at(300), [first], "the third left a millisecond ago");
    assert_eq!(bench.at(900), [first, third]);
    assert_eq!(bench.counters().resent, 3);
}

/// Merges put no bound to siblings: what no frame holds is left out, and what comes after it is sent.
#[test]
fn what_no_frame_holds_holds_up_no_other() {
    let mut bench = Bench::with(true, |config| config.max_object = 100);
    let keys = bench.keys(2);
    bench.sends_under(&keys[0], &object(&"long".repeat(20), 1));
    bench.sends_under(&keys[1], &object("short", 2));
    assert_eq!(bench.wants("p1", &keys), ["write p1 [short]"]);
    let wanted = bench.merged("p1", 1, Ok(false));
    assert_eq!(wanted, ["answer: Exchange(Wanted(Ok(Wanted { sent: 1, failed: 1, bytes: 53 })))"]);
    assert_eq!(bench.too_long(), &keys[..1]);
}

#[test]
fn what_the_receiver_cannot_read_of_one_key_holds_up_no_other() {
    for refusal in [Refusal::Storage, Refusal::Newer] {
        let (mut bench, _) = asked_for(2, 1);
        assert_eq!(bench.merged("p1", 0, Err(refusal)), ["write p1 [2]"]);
        let wanted = bench.merged("p1", 1, Ok(false));
        assert_eq!(wanted, ["answer: Exchange(Wanted(Ok(Wanted { sent: 1, failed: 1, bytes: 49 })))"]);
    }
}
