//! What clients saw of the cluster's availability: pure.

use std::time::Duration;

/// A request that ended; times from the beginning of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whose.
    pub client: usize,
    /// When it began.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// Whether it was answered.
    pub ok: bool,
}

/// A time in which a client had no success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Which client.
    pub client: usize,
    /// When it began.
    pub from: Duration,
    /// How long it was.
    pub length: Duration,
}

/// How many requests of how many succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Successes.
    pub ok: usize,
    /// All.
    pub all: usize,
}

impl Share {
    /// From 0 to 1; without any request nothing has failed.
    pub fn ratio(self) -> f64 {
        if self.all == 0 { 1.0 } else { self.ok as f64 / self.all as f64 }
    }
}

/// How long successes took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many.
    pub count: usize,
    /// Half took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

/// All requests of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    done: Vec<Done>,
    clients: usize,
    length: Duration,
}

impl Tally {
    /// Of a load of so many clients and that length.
    pub fn new(mut done: Vec<Done>, clients: usize, length: Duration) -> Tally {
        done.sort_by_key(|done| done.ended);
        Tally { done, clients, length }
    }

    /// The longest time in which a client had no success.
    pub fn longest_gap(&self) -> Gap {
        let of_client = |client: usize| {
            let successes = self.done.iter().filter(move |done| done.ok && done.client == client);
            let mut from = Duration::ZERO;
            successes.map(|done| done.ended).chain([self.length]).map(move |until| {
                let gap = Gap { client, from, length: until.saturating_sub(from) };
                from = from.max(until);
                gap
            })
        };
        (0..self.clients).flat_map(of_client).max_by_key(|gap| gap.length).unwrap_or_default()
    }

    /// The successes among the requests that began at `from` or later.
    pub fn success(&self, from: Duration) -> Share {
        let since = self.done.iter().filter(|done| done.began >= from);
        since.fold(Share::default(), |Share { ok, all }, done| Share { ok: ok + usize::from(done.ok), all: all + 1 })
    }

    /// From `from` to the next success.
    pub fn first_success(&self, from: Duration) -> Option<Duration> {
        self.done.iter().find(|done| done.ok && done.ended >= from).map(|done| done.ended - from)
    }

    /// Of successes that began in this span.
    pub fn latency(&self, from: Duration, until: Duration) -> Latency {
        let within = self.done.iter().filter(|done| done.ok && done.began >= from && done.began < until);
        let mut took: Vec<Duration> = within.map(|done| done.ended.saturating_sub(done.began)).collect();
        took.sort_unstable();
        let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)));
        let of = |percent| at(percent).copied().unwrap_or_default();
        Latency { count: took.len(), p50: of(50), p99: of(99), max: of(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn done(client: usize, began: u32, ended: u32, ok: bool) -> Done {
        Done { client, began: MS * began, ended: MS * ended, ok }
    }

    fn tally() -> Tally {
        let all = vec![
            done(0, 0, 10, true),
            done(0, 20, 520, false),
            done(0, 530, 540, true),
            done(1, 0, 100, true),
            done(1, 110, 400, true),
            done(0, 600, 900, true),
        ];
        Tally::new(all, 2, MS * 1000)
    }

    #[test]
    fn a_gap_lasts_from_success_to_success_or_to_the_end() {
        assert_eq!(tally().longest_gap(), Gap { client: 1, from: MS * 400, length: MS * 600 });
        let silent = Tally::new(vec![done(0, 0, 10, false)], 1, MS * 50);
        assert_eq!(silent.longest_gap(), Gap { client: 0, from: Duration::ZERO, length: MS * 50 });
    }

    #[test]
    fn shares_count_what_began_in_time() {
        assert_eq!(tally().success(Duration::ZERO), Share { ok: 5, all: 6 });
        assert_eq!(tally().success(MS * 20), Share { ok: 3, all: 4 });
        assert_eq!(tally().success(MS * 2000).ratio(), 1.0);
        assert_eq!(tally().first_success(MS * 15), Some(MS * 85));
        assert_eq!(tally().first_success(MS * 901), None);
    }

    #[test]
    fn latencies_are_those_of_successes_in_the_span() {
        let latency = tally().latency(Duration::ZERO, MS * 550);
        assert_eq!((latency.count, latency.p50, latency.p99, latency.max), (4, MS * 100, MS * 290, MS * 290));
        assert_eq!(tally().latency(MS * 900, MS * 1000), Latency::default());
    }
}
