//! The seeded bugs that only whole nodes show: each changes what a client is told.

use std::time::Duration;

use dynkv::api::ApiError;
use dynkv::mutant::{Mutant, activate};
use dynkv::sim::{Disk, Step};
use dynkv::storage::Fault;
use dynkv::version::Dot;

use crate::ask::{Asking, Expect, With, get, put};
use crate::faults::Befall;
use crate::plan::Plan;

/// Keeps a bug active until it is dropped, be it by a panic.
struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        activate(None);
    }
}

/// What happens as it should be, and with the bug.
pub fn without_and_with<T>(mutant: Mutant, act: impl Fn() -> T) -> (T, T) {
    let sound = act();
    let _planted = Planted;
    activate(Some(mutant));
    (sound, act())
}

#[test]
fn an_acknowledgement_leaves_before_the_sync() {
    let steps = || {
        let mut world = Plan::new(1).syncs(0).born();
        world.ask(0, put("k", "v", 1).w(1).dw(1)).receipt();
        world.nodes[0].steps.clone()
    };
    let (sound, broken) = without_and_with(Mutant::AckBeforeSync, steps);
    assert_eq!(sound, [Step::Written, Step::Synced, Step::Released]);
    assert_eq!(broken, [Step::Written, Step::Released, Step::Synced]);
}

#[test]
fn a_failed_batch_is_acknowledged() {
    for dw in [0, 1] {
        let is_acked = || {
            let mut world = Plan::new(1).born();
            world.arm(0, Fault::Commit { in_log: false });
            world.ask(0, put("k", "v", 1).w(1).dw(dw)).result.is_ok()
        };
        assert_eq!(without_and_with(Mutant::FailedBatchAcked, is_acked), (false, true), "dw {dw}");
    }
}

#[test]
fn what_may_surface_is_called_refused() {
    let outcome = || {
        let mut world = Plan::new(3).born();
        world.isolate(0);
        world.ask(0, put("k", "v", 1).w(2)).refused()
    };
    let (sound, broken) = without_and_with(Mutant::UnknownCalledRefused, outcome);
    assert!(matches!(sound, ApiError::Indeterminate { acks: 1, w: 2, .. }), "{sound}");
    assert_eq!(broken, ApiError::Overloaded);
}

#[test]
fn a_receipt_covers_what_its_holder_was_not_shown() {
    let values = || {
        let mut world = Plan::new(3).born();
        world.ask(0, put("k", "unseen", 1).w(3)).receipt();
        let blind = world.ask(0, put("k", "mine", 2).w(3)).receipt();
        world.ask(0, put("k", "mine again", 3).w(3).after(&blind.context)).receipt();
        world.ask(1, get("k", 3)).found().values.len()
    };
    assert_eq!(without_and_with(Mutant::ContextCoversUnseen, values), (2, 1));
}

/// Two writes; then a backup from between them is restored at their coordinator, and it writes once more, if it runs.
fn second_dot_and_next() -> (Dot, Option<Dot>) {
    let mut world = Plan::new(3).born();
    world.ask(1, put("k", "a", 1).w(3)).receipt();
    let backup = world.nodes[1].disk.engine().backup(9);
    let lost = world.ask(1, put("k", "b", 2).w(3)).receipt();
    world.run_for(Duration::from_secs(2));
    world.kill(1);
    world.swap_disk(1, backup);
    world.start(1);
    world.run_for(Duration::from_secs(5));
    let runs = world.nodes[1].process.is_some();
    let next = runs.then(|| world.ask(1, put("k", "c", 3).w(1)).receipt().dot);
    (lost.dot, next)
}

#[test]
fn an_old_copy_is_let_in_and_gives_a_dot_twice() {
    let ((_, refused), (lost, again)) = without_and_with(Mutant::OldCopyGranted, second_dot_and_next);
    assert_eq!(refused, None, "an old copy does not run");
    assert_eq!(again, Some(lost));
}
