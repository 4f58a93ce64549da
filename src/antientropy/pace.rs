//! How fast hints are replayed and objects exchanged, and how soon again after a failure.

use std::time::Duration;

use crate::types::Time;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(200);
/// Doublings of it at most: the longest pause is [`FIRST`] * 2^6, some 13 s.
const DOUBLINGS: u32 = 6;

/// Sends so many bytes a second: a token bucket that may be overdrawn by one thing, however large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    /// Bytes a second, at least 1.
    rate: u64,
    /// When all that was sent is paid for.
    paid_at: Time,
}

/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(100);

impl Throttle {
    pub fn new(rate: u64) -> Throttle {
        Throttle { rate: rate.max(1), paid_at: Time::ZERO }
    }

    /// When something may be sent next; the past, if now.
    pub fn ready_at(&self) -> Time {
        let burst = u64::try_from(BURST.as_micros()).expect("it is short");
        Time::from_micros(self.paid_at.as_micros().saturating_sub(burst))
    }

    pub fn take(&mut self, now: Time, bytes: u64) {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate);
        self.paid_at = self.paid_at.max(now) + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
    }
}

/// Pauses after failures, each up to twice as long as the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Time>,
}

impl Backoff {
    /// The end of the pause, if there is one.
    pub fn until(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| *until > now)
    }

    /// A failure, with 64 random bits. Those of one pause count once: what was under way fails together.
    pub fn fail(&mut self, now: Time, random: u64) {
        if self.until(now).is_some() {
            return;
        }
        let full = FIRST * (1 << self.failures.min(DOUBLINGS));
        // Half of it by chance, so that many nodes do not come back at one moment.
        let half = u64::try_from(full.as_micros()).expect("a pause is short") / 2;
        self.until = Some(now + Duration::from_micros(half + random % (half + 1)));
        self.failures += 1;
    }

    /// Whether nothing has gone well for so long that pauses grow no more.
    pub fn is_longest(&self) -> bool {
        self.failures > DOUBLINGS
    }

    /// Something went well.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }

    /// No more waiting.
    pub fn clear(&mut self) {
        *self = Backoff::default();
    }
}

/// A tenth more or less than an interval, so that what began together does not go on together.
pub(super) fn around(interval: Duration, random: u64) -> Duration {
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros((micros - micros / 10).saturating_add(random % (micros / 5 + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn a_throttle_lets_a_second_have_its_bytes() {
        let mut throttle = Throttle::new(1000);
        let mut sent = 0;
        for ms in 60_000..120_000 {
            while throttle.ready_at() <= at(ms) {
                throttle.take(at(ms), 7);
                sent += 7;
            }
        }
        assert!((59_900..=60_200).contains(&sent), "{sent}");
    }

    #[test]
    fn a_huge_hint_passes_and_is_paid_for() {
        let mut throttle = Throttle::new(1000);
        throttle.take(at(1000), 5000);
        assert_eq!(throttle.ready_at(), at(5900));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_failures_within_one_count_once() {
        let mut backoff = Backoff::default();
        let mut now = at(0);
        for longest_ms in [200, 400, 800, 1600, 3200, 6400, 12_800, 12_800] {
            backoff.fail(now, u64::MAX);
            let until = backoff.until(now).unwrap();
            backoff.fail(now, 0);
            assert_eq!(backoff.until(now), Some(until));
            let pause = until.since(now);
            let longest = Duration::from_millis(longest_ms);
            assert!((longest / 2..=longest).contains(&pause), "{pause:?}");
            now = until;
        }
        assert!(backoff.is_longest());
        backoff.succeed();
        assert!(!backoff.is_longest());
        backoff.fail(now, 0);
        assert_eq!(backoff.until(now), Some(now + Duration::from_millis(100)));
        backoff.clear();
        assert_eq!(backoff.until(now), None);
    }
}
