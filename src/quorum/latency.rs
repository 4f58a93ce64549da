//! How long replicas take to answer reads: whom to ask first, and when another is asked too ("The Tail at Scale", Dean and
//! Barroso 2013: hedged requests).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::{NodeId, Time};

/// When a read asks one replica more than it needs. Written `"p95"`, a duration such as `"20ms"`, or `"never"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HedgeAfter {
    /// Once the time has passed in which 95 of 100 recent replies came.
    #[default]
    P95,
    /// After this long.
    Fixed(Duration),
    /// Only once an attempt's time is over.
    Never,
}

/// The text says no such moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not allowed: \"p95\", a duration such as \"20ms\", or \"never\"")]
pub struct HedgeAfterError {
    /// What was given.
    pub given: String,
}

impl FromStr for HedgeAfter {
    type Err = HedgeAfterError;

    fn from_str(text: &str) -> Result<HedgeAfter, HedgeAfterError> {
        match text {
            "p95" => Ok(HedgeAfter::P95),
            "never" => Ok(HedgeAfter::Never),
            fixed => match humantime::parse_duration(fixed) {
                Ok(fixed) if !fixed.is_zero() => Ok(HedgeAfter::Fixed(fixed)),
                _ => Err(HedgeAfterError { given: text.to_owned() }),
            },
        }
    }
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HedgeAfter::P95 => f.write_str("p95"),
            HedgeAfter::Fixed(fixed) => humantime::format_duration(*fixed).fmt(f),
            HedgeAfter::Never => f.write_str("never"),
        }
    }
}

impl Serialize for HedgeAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HedgeAfter, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Replies that the 95th percentile is taken of.
const WINDOW: usize = 128;
/// Fewer of them say nothing.
const FEWEST: usize = 16;
/// Replies between two looks at the percentile.
const REFRESH: usize = 16;
/// Older replies say nothing of today.
const MEMORY: Duration = Duration::from_secs(30);
/// A peer that nobody has asked for so long counts as twice as fast: else a slow one would never be tried again.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// A hedge that comes sooner costs more than it saves.
const SOONEST: Duration = Duration::from_millis(1);

/// What is known of one peer.
#[derive(Clone, Copy, Debug)]
struct Peer {
    micros: f64,
    at: Time,
}

/// See the module. Its memory is fixed but for one entry a peer.
#[derive(Clone, Debug)]
pub struct ReplyTimes {
    hedge_after: HedgeAfter,
    /// The longest that anything is waited for: an attempt.
    attempt: Duration,
    peers: BTreeMap<NodeId, Peer>,
    /// When replies came, and how many microseconds they took: a ring.
    recent: Vec<(Time, u32)>,
    next: usize,
    p95: Option<Duration>,
}

impl ReplyTimes {
    /// Nothing is known yet. `attempt`: after which a replica is given up and others take its place in any case.
    pub fn new(hedge_after: HedgeAfter, attempt: Duration) -> ReplyTimes {
        ReplyTimes { hedge_after, attempt, peers: BTreeMap::new(), recent: Vec::new(), next: 0, p95: None }
    }

    /// A peer has answered after `took`.
    pub fn on_reply(&mut self, now: Time, peer: NodeId, took: Duration) {
        let micros = as_micros(took.min(self.attempt * 8));
        // The moving average that TCP takes of round trips, a little quicker to learn.
        let blended = self.estimate(now, peer).map_or(micros, |before| before + (micros - before) / 4.0);
        self.peers.insert(peer, Peer { micros: blended, at: now });
        let sample = (now, micros as u32);
        if self.recent.len() < WINDOW {
            self.recent.push(sample);
        } else {
            self.recent[self.next % WINDOW] = sample;
        }
        self.next += 1;
        if self.next.is_multiple_of(REFRESH) {
            self.p95 = self.percentile(now);
        }
    }

    /// A peer has not answered for `waited`, and may never do.
    pub fn on_timeout(&mut self, now: Time, peer: NodeId, waited: Duration) {
        let before = self.estimate(now, peer).unwrap_or(0.0);
        let micros = (before * 2.0).max(as_micros(waited)).min(as_micros(self.attempt * 8));
        self.peers.insert(peer, Peer { micros, at: now });
    }

    /// How slow a peer is, in powers of two of a microsecond: who is less than twice as slow is as good as another. 0: nothing is
    /// known of it, and it should be tried.
    pub fn rank(&self, now: Time, peer: NodeId) -> u32 {
        self.estimate(now, peer).map_or(0, |micros| u64::BITS - (micros as u64).leading_zeros())
    }

    /// After how long another replica is asked too; `None`: not before the attempt is over.
    pub fn hedge_after(&self) -> Option<Duration> {
        let after = match self.hedge_after {
            HedgeAfter::P95 => self.p95?,
            HedgeAfter::Fixed(after) => after,
            HedgeAfter::Never => return None,
        };
        (after < self.attempt).then_some(after.max(SOONEST))
    }

    /// Microseconds that a reply of a peer is expected to take.
    fn estimate(&self, now: Time, peer: NodeId) -> Option<f64> {
        let known = self.peers.get(&peer)?;
        let lives = now.since(known.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        Some(known.micros * 0.5_f64.powf(lives))
    }

    /// The 95th percentile of the replies that are not too old.
    fn percentile(&self, now: Time) -> Option<Duration> {
        let fresh = self.recent.iter().filter(|(at, _)| now.since(*at) <= MEMORY);
        let mut micros: Vec<u32> = fresh.map(|(_, micros)| *micros).collect();
        if micros.len() < FEWEST {
            return None;
        }
        let rank = (micros.len() * 95).div_ceil(100) - 1;
        let (_, p95, _) = micros.select_nth_unstable(rank);
        Some(Duration::from_micros((*p95).into()))
    }
}

fn as_micros(span: Duration) -> f64 {
    span.as_micros() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ATTEMPT: Duration = Duration::from_millis(300);

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn times() -> ReplyTimes {
        ReplyTimes::new(HedgeAfter::P95, ATTEMPT)
    }

    #[test]
    fn it_is_written_as_people_write_it() {
        for (text, value) in
            [("p95", HedgeAfter::P95), ("20ms", HedgeAfter::Fixed(ms(20))), ("never", HedgeAfter::Never)]
        {
            assert_eq!(text.parse(), Ok(value));
            assert_eq!(value.to_string(), text);
        }
        for bad in ["", "0s", "p99", "20"] {
            assert!(bad.parse::<HedgeAfter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_hedged_before_something_is_known_nor_on_request() {
        let mut times = times();
        (0..FEWEST as u64 - 1).for_each(|i| times.on_reply(at(i), NodeId(1), ms(5)));
        assert_eq!(times.hedge_after(), None);
        times.on_reply(at(99), NodeId(1), ms(5));
        assert_eq!(times.hedge_after(), Some(ms(5)));
        assert_eq!(ReplyTimes::new(HedgeAfter::Never, ATTEMPT).hedge_after(), None);
        assert_eq!(ReplyTimes::new(HedgeAfter::Fixed(ms(7)), ATTEMPT).hedge_after(), Some(ms(7)));
        assert_eq!(ReplyTimes::new(HedgeAfter::Fixed(ATTEMPT), ATTEMPT).hedge_after(), None);
    }

    #[test]
    fn old_replies_are_forgotten() {
        let mut times = times();
        (0..WINDOW as u64).for_each(|i| times.on_reply(at(i), NodeId(1), ms(100)));
        assert_eq!(times.hedge_after(), Some(ms(100)));
        (0..FEWEST as u64).for_each(|i| times.on_reply(at(60_000 + i), NodeId(1), ms(2)));
        assert_eq!(times.hedge_after(), Some(ms(2)));
    }

    #[test]
    fn a_peer_that_was_slow_is_tried_again_some_time() {
        let mut times = times();
        times.on_timeout(at(0), NodeId(1), ATTEMPT);
        (0..100).for_each(|i| times.on_reply(at(i * 1000), NodeId(2), ms(2)));
        assert!(times.rank(at(1000), NodeId(1)) > times.rank(at(1000), NodeId(2)));
        assert!(times.rank(at(60_000), NodeId(1)) < times.rank(at(60_000), NodeId(2)));
        assert_eq!(times.rank(at(0), NodeId(3)), 0, "a stranger is tried");
    }

    /// Eight of 128 are more than one in twenty, six are not.
    #[test]
    fn the_hedge_waits_for_as_many_as_are_fast_enough() {
        for (slow, after) in [(6, 10), (8, 200)] {
            let mut times = times();
            (0..128).for_each(|i| times.on_reply(at(i), NodeId(1), ms(if i < slow { 200 } else { 10 })));
            assert_eq!(times.hedge_after(), Some(ms(after)), "{slow} slow ones");
        }
    }

    /// As a fraction of a second it is a little less than so many microseconds.
    #[test]
    fn a_percentile_is_a_time_that_a_reply_took() {
        let mut times = times();
        (0..16).for_each(|i| times.on_reply(at(i), NodeId(1), Duration::from_micros(254_470)));
        assert_eq!(times.hedge_after(), Some(Duration::from_micros(254_470)));
    }

    #[test]
    fn a_few_replies_of_today_are_no_percentile() {
        let mut times = times();
        (0..15).for_each(|i| times.on_reply(at(i), NodeId(1), ms(10)));
        times.on_reply(at(31_000), NodeId(1), ms(10));
        assert_eq!(times.hedge_after(), None);
    }

    #[test]
    fn a_hedge_costs_more_than_it_saves_within_a_millisecond() {
        let hedge = |after| ReplyTimes::new(HedgeAfter::Fixed(after), ATTEMPT).hedge_after();
        assert_eq!(hedge(Duration::from_micros(10)), Some(ms(1)));
        assert_eq!(hedge(ms(2)), Some(ms(2)));
        assert_eq!(hedge(ATTEMPT), None);
    }

    #[track_caller]
    fn as_slow_as(times: &ReplyTimes, took: Duration) {
        let mut other = self::times();
        other.on_reply(at(0), NodeId(1), took);
        assert_eq!(times.rank(at(0), NodeId(1)), other.rank(at(0), NodeId(1)), "{took:?}");
    }

    #[test]
    fn one_fast_reply_makes_no_fast_peer_and_each_silence_a_slower_one() {
        let mut times = times();
        times.on_reply(at(0), NodeId(1), ms(100));
        times.on_reply(at(0), NodeId(1), ms(1));
        as_slow_as(&times, ms(75));
        times.on_timeout(at(0), NodeId(1), ms(1));
        as_slow_as(&times, ms(150));
        (0..20).for_each(|_| times.on_timeout(at(0), NodeId(1), ms(1)));
        as_slow_as(&times, ATTEMPT * 8);
        // Nor does one reply that took an hour make one that is never asked again.
        let mut times = self::times();
        times.on_reply(at(0), NodeId(1), ms(3_600_000));
        as_slow_as(&times, ATTEMPT * 8);
    }

    proptest! {
        #[test]
        fn at_most_one_in_twenty_recent_replies_is_hedged(took in proptest::collection::vec(0u64..400_000, 1..400)) {
            let mut times = times();
            for (i, micros) in (0..).zip(&took) {
                times.on_reply(at(i), NodeId(i % 3), Duration::from_micros(*micros));
            }
            let seen = &took[..took.len() / REFRESH * REFRESH];
            let recent = &seen[seen.len().saturating_sub(WINDOW)..];
            match times.hedge_after() {
                Some(after) => {
                    prop_assert!((SOONEST..ATTEMPT).contains(&after));
                    let later = recent.iter().filter(|micros| Duration::from_micros(**micros) > after).count();
                    prop_assert!(later * 20 <= recent.len(), "{later} of {}", recent.len());
                }
                None => {
                    let slow = recent.iter().filter(|micros| Duration::from_micros(**micros) >= ATTEMPT).count();
                    prop_assert!(recent.len() < FEWEST || slow * 20 >= recent.len());
                }
            }
        }

        #[test]
        fn a_timeout_never_makes_a_peer_look_faster(took in proptest::collection::vec(0u64..400, 0..20), waited in 1u64..3000) {
            let mut times = times();
            took.iter().for_each(|took| times.on_reply(at(5), NodeId(1), ms(*took)));
            let before = times.rank(at(5), NodeId(1));
            times.on_timeout(at(5), NodeId(1), ms(waited));
            prop_assert!(times.rank(at(5), NodeId(1)) >= before);
        }

        #[test]
        fn who_is_four_times_as_slow_comes_later(fast in 1u64..50, replies in 1u64..40) {
            let mut times = times();
            for i in 0..replies {
                times.on_reply(at(i), NodeId(1), ms(fast * 4));
                times.on_reply(at(i), NodeId(2), ms(fast));
            }
            prop_assert!(times.rank(at(replies), NodeId(2)) < times.rank(at(replies), NodeId(1)));
        }
    }
}
