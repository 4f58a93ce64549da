//! A lower bound of a server's clock, from the ticks in its answers.

use std::time::Duration;

use crate::types::Time;

/// Clocks of two machines may run apart by this much in a million; real ones stay below 500.
const DRIFT_PPM: u64 = 1000;

/// What a server's monotonic clock shows at least.
///
/// An answer's tick was taken before the answer was sent, so at its arrival the server's clock shows more, and from then on
/// both clocks run alike but for drift. Of two bounds the higher is the better one; each loses the drift since it was made,
/// so that a later answer replaces it even if that one was slow. Belongs to one connection: a restarted server counts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TickBound {
    seen: Option<(Time, u64)>,
}

impl TickBound {
    /// An answer with this tick has arrived.
    pub(crate) fn observe(&mut self, now: Time, tick: u64) {
        if tick > self.at(now) {
            self.seen = Some((now, tick));
        }
    }

    /// The least that the server's clock can show now; 0 if nothing is known.
    pub(crate) fn at(&self, now: Time) -> u64 {
        self.seen.map_or(0, |(then, tick)| {
            let passed = now.since(then);
            let drift = passed * u32::try_from(DRIFT_PPM).unwrap_or(u32::MAX) / 1_000_000;
            tick.saturating_add(micros(passed.saturating_sub(drift)))
        })
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_advances_with_the_local_clock_and_less() {
        let mut bound = TickBound::default();
        assert_eq!(bound.at(Time::from_micros(5)), 0);
        bound.observe(Time::from_micros(1_000_000), 50);
        assert_eq!(bound.at(Time::from_micros(1_000_000)), 50);
        assert_eq!(bound.at(Time::from_micros(2_000_000)), 50 + 999_000);
    }

    #[test]
    fn a_slow_answer_does_not_lower_it() {
        let mut bound = TickBound::default();
        bound.observe(Time::from_micros(100), 1000);
        bound.observe(Time::from_micros(500), 1001);
        assert_eq!(bound.at(Time::from_micros(500)), 1399, "its own age costs it the drift");
    }

    proptest! {
        /// The server's clock starts anywhere, runs up to the drift slower or faster, and answers are late by anything.
        #[test]
        fn it_is_never_above_the_servers_clock(
            start in 0..1_000_000_000_u64,
            ppm in 999_000..=1_001_000_u64,
            answers in prop::collection::vec((0..10_000_000_u64, 0..3_000_000_u64), 1..30),
            last in 0..100_000_000_u64,
        ) {
            let server = |local: u64| start + local * ppm / 1_000_000;
            let (mut bound, mut local) = (TickBound::default(), 0);
            for (pause, delay) in answers {
                local += pause;
                let tick = server(local);
                local += delay;
                bound.observe(Time::from_micros(local), tick);
                // two roundings of at most a microsecond each
                prop_assert!(bound.at(Time::from_micros(local)) <= server(local) + 2);
            }
            local += last;
            prop_assert!(bound.at(Time::from_micros(local)) <= server(local) + 2);
        }
    }
}
