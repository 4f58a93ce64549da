//! Retries of writes that have been replaced, deleted, reaped or lost since.

use std::sync::Arc;

use super::Bench;
use super::bench::{after, delete_of, object};
use crate::message::{ReapingStep, Refusal};
use crate::storage::{Batch, Engine, Family, ScanLimit};
use crate::types::Round;
use crate::version::Object;

impl Bench {
    /// All members have vouched for this tombstone, and it is deleted here.
    fn reaps(&mut self, dead: &Object, round: u64) {
        let mut step = |step| {
            let left = self.reaping(step, dead);
            if self.reads() > 0 { self.read(None) } else { left }
        };
        step(ReapingStep::Fence(Round(round)));
        let left = step(ReapingStep::Reap(Round(round)));
        assert!(left.len() == 1 && left[0].contains("Reaped(1)"), "{left:?}");
        assert_eq!(self.records(), 0);
    }

    /// The disk has nothing any more.
    fn loses_all(&self) {
        let mut batch = Batch::new();
        let mut drop = |key: &[u8], _: &[u8]| {
            batch.delete(Family::Objects, key);
            std::ops::ControlFlow::Continue(())
        };
        self.engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut drop).unwrap();
        self.engine.commit(&mut batch).unwrap();
    }
}

/// A write that this node has, and a delete that has seen it.
fn written_and_deleted() -> (Arc<Object>, Arc<Object>) {
    let written = object("v", 7);
    let dead = delete_of(&written, 8);
    (written, dead)
}

#[test]
fn a_write_that_was_replaced_goes_out_with_what_has_replaced_it() {
    let mut bench = Bench::new();
    let written = object("v", 7);
    bench.holds(&written);
    bench.holds(&after(&written, "w", 8));
    assert_eq!(bench.ask(bench.put("v", 7, 2)), ["write p1 synced [w]", "write p2 synced [w]"]);
    assert_eq!(bench.wrote("p1", true), ["put on me,p1"]);
}

/// No reaping without all primaries: each of them has had the delete on its disk.
#[test]
fn a_write_whose_delete_was_reaped_is_acknowledged_and_sent_to_nobody() {
    let mut bench = Bench::new();
    let (written, dead) = written_and_deleted();
    bench.holds(&written);
    bench.holds(&dead);
    bench.reaps(&dead, 1);
    assert_eq!(bench.ask(bench.put("v", 7, 3)), ["put on me,p1,p2"]);
    assert_eq!((bench.counters().in_flight, bench.counters().lingering, bench.due()), (0, 0, None));
    // whoever deleted it may ask again too
    let delete = crate::api::Put { value: None, ..bench.put("", 8, 1) };
    assert_eq!(bench.ask(delete), ["put on me"]);
    assert_eq!(bench.records(), 0);
    // and what has been written meanwhile is something else
    assert_eq!(bench.sends(&object("w", 9), 1), ["answer: written"]);
    assert_eq!(bench.ask(bench.put("v", 7, 3)), ["put on me,p1,p2"]);
}

/// The disk took longer to find the tombstone than the runner waits.
#[test]
fn what_was_reaped_after_its_runner_had_gone_on_is_remembered_too() {
    let mut bench = Bench::cold(true);
    let (written, dead) = written_and_deleted();
    bench.holds(&written);
    bench.holds(&dead);
    bench.reaping(ReapingStep::Fence(Round(1)), &dead);
    bench.read(None);
    assert_eq!(bench.reaping(ReapingStep::Reap(Round(1)), &dead), [""; 0]);
    assert_eq!(bench.reaping(ReapingStep::Inquire, &dead), [""; 0]);
    let left = bench.read(None);
    assert!(left.len() == 1 && left[0].contains("Inquired"), "the runner has given up the other question: {left:?}");
    assert_eq!((bench.records(), bench.counters().reaped_here), (0, 1));
    assert_eq!(bench.ask(bench.put("v", 7, 3)), [""; 0]);
    assert_eq!(bench.read(None), ["put on me,p1,p2"]);
}

#[test]
fn a_write_that_is_gone_for_no_known_reason_is_indeterminate() {
    let mut bench = Bench::cold(true);
    bench.holds(&object("v", 7));
    bench.loses_all();
    assert_eq!(bench.ask(bench.put("v", 7, 2)), [""; 0]);
    assert_eq!(bench.read(None), ["indeterminate 0/2"]);
}

/// What was reaped has to have seen it.
#[test]
fn a_write_that_the_reaped_delete_had_not_seen_is_indeterminate() {
    let mut bench = Bench::cold(true);
    let (_, dead) = written_and_deleted();
    bench.holds(&dead);
    bench.reaps(&dead, 1);
    assert_eq!(bench.sends(&object("x", 9), 1), [""; 0]);
    assert_eq!(bench.read(None), ["answer: written"]);
    bench.loses_all();
    assert_eq!(bench.ask(bench.put("x", 9, 2)), [""; 0]);
    assert_eq!(bench.read(None), ["indeterminate 0/2"]);
}

/// A frame was under way for so long that it met the round in which its write was reaped.
#[test]
fn a_put_that_is_fenced_after_its_delete_was_reaped_is_acknowledged() {
    let mut bench = Bench::new();
    bench.ask(bench.put("v", 7, 3));
    let dead = delete_of(&bench.replicated("p1").object, 8);
    assert_eq!(bench.wrote("p2", true), [""; 0]);
    let asked = bench.at(300);
    assert!(asked.iter().any(|asked| asked.starts_with("write s0 ")), "somebody stands in: {asked:?}");
    bench.holds(&dead);
    bench.reaps(&dead, 1);
    assert_eq!(bench.refuses("p1", Refusal::Fenced(Round(1))), ["put on me,p1,p2"]);
    assert_eq!((bench.counters().in_flight, bench.counters().lingering, bench.due()), (0, 0, None));
}
