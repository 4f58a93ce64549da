//! How many requests that nodes had no room for may be sent once more.
//!
//! Each answer makes room for one: a client that offers more than the nodes can take asks again as fast as they work, and
//! spends neither their time nor its own on refusals. (A retry budget, as in Beyer et al., "Site Reliability Engineering",
//! chapter 21; self-clocked like TCP's window, Jacobson, SIGCOMM'88.) A retry that is withheld is not a failure: the request
//! pauses once more, until its deadline.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::types::Time;

/// Retries that a client has at its start, and may save up: a burst that nodes turn away comes back at once, this large.
const MOST: u32 = 256;
/// Without any answers one retry goes out this often, or a client would never learn that there is room again.
const TRICKLE: Duration = Duration::from_millis(50);

/// Retries that a client may make; see the module.
#[derive(Debug)]
pub(super) struct Retries {
    left: AtomicU32,
    /// When the last one went out that nothing had paid for, in microseconds.
    given: AtomicU64,
}

impl Retries {
    pub fn new() -> Retries {
        Retries { left: AtomicU32::new(MOST), given: AtomicU64::new(0) }
    }

    /// A node has done what it was asked.
    pub fn earn(&self) {
        // read first: this runs in every call, and a line that is only read stays in every core's cache
        if self.left.load(Ordering::Relaxed) < MOST {
            self.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a request may be sent once more now.
    pub fn take(&self, now: Time) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return true;
        }
        let (given, now) = (self.given.load(Ordering::Relaxed), now.as_micros());
        let is_due = u128::from(now.saturating_sub(given)) >= TRICKLE.as_micros();
        is_due && self.given.compare_exchange(given, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn an_answer_pays_for_a_retry_and_savings_are_bounded() {
        let retries = Retries::new();
        assert_eq!((0..1000).filter(|_| retries.take(ms(0))).count(), MOST as usize, "from the start");
        (0..1000).for_each(|_| retries.earn());
        assert_eq!((0..1000).filter(|_| retries.take(ms(0))).count(), MOST as usize, "once it has saved up");
        retries.earn();
        assert!(retries.take(ms(0)) && !retries.take(ms(0)));
    }

    #[test]
    fn without_answers_a_few_go_out() {
        let retries = Retries::new();
        while retries.take(ms(0)) {}
        let allowed = (0..1000).filter(|millis| retries.take(ms(*millis))).count();
        assert_eq!(allowed, 19, "one each 50 ms");
    }
}
