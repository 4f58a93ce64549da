//! Clients that do not read: found by lanes on which bytes wait and nothing moves.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::Time;

/// So long must nothing at all move. Longer than any pause of a client that will read again.
const STALLED: Duration = Duration::from_secs(10);

/// How a lane stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub lane: u64,
    /// Bytes that wait on it.
    pub queued: usize,
    /// What grows when some of them go.
    pub progress: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct StallWatch {
    /// By lane: its progress, and since when it has been that.
    seen: BTreeMap<u64, (u64, Time)>,
}

impl StallWatch {
    /// Looks at all lanes; those that have stood still for too long.
    pub fn look(&mut self, now: Time, lanes: impl Iterator<Item = Standing>) -> Vec<u64> {
        let before = std::mem::take(&mut self.seen);
        let mut stalled = Vec::new();
        for Standing { lane, progress, .. } in lanes.filter(|standing| standing.queued > 0) {
            let since = before.get(&lane).filter(|(seen, _)| *seen == progress).map_or(now, |(_, since)| *since);
            if since + STALLED <= now {
                stalled.push(lane);
            }
            self.seen.insert(lane, (progress, since));
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 0] = [];

    #[test]
    fn a_lane_stalls_when_bytes_wait_and_nothing_moves() {
        let mut watch = StallWatch::default();
        let mut look = |s: u64, lanes: &[(u64, usize, u64)]| {
            let lanes = lanes.iter().map(|(lane, queued, progress)| Standing {
                lane: *lane,
                queued: *queued,
                progress: *progress,
            });
            watch.look(Time::from_micros(s * 1_000_000), lanes)
        };
        assert_eq!(look(0, &[(1, 10, 5), (2, 10, 5), (3, 0, 5)]), NONE);
        assert_eq!(look(9, &[(1, 10, 5), (2, 10, 6), (3, 10, 5)]), NONE);
        assert_eq!(look(10, &[(1, 90, 5), (2, 10, 6), (3, 10, 5)]), [1]);
        assert_eq!(look(19, &[(2, 10, 6), (3, 10, 5)]), [2, 3]);
        assert_eq!(look(20, &[(2, 0, 6)]), NONE);
        assert_eq!(look(21, &[(2, 10, 6)]), NONE, "it has been empty since");
    }
}
