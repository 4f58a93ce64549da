//! Whether clients keep a shard busy, so that what nobody waits for should.

use std::time::Duration;

use crate::types::Time;

/// A request that has waited so long for its turn, or a write for that of its sync, shows that there is more to do than can be done at once.
const LATE: Duration = Duration::from_millis(5);
/// For how long that is held against the shard.
const HOLD: Duration = Duration::from_millis(500);
/// Busy for longer than this at a stretch, it is given out as idle for [`GAP`]: what waits must come to an end under any load.
const STRETCH: Duration = Duration::from_secs(1);
const GAP: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// It is busy from the first until the second.
    busy: Option<(Time, Time)>,
    /// The end of a gap in that.
    gap: Option<Time>,
}

impl Load {
    /// A client's request, or its write's sync, has its turn, having been there then; whether that makes a shard busy that was not.
    pub fn note(&mut self, arrived: Time, now: Time) -> bool {
        if now.since(arrived) < LATE {
            return false;
        }
        let until = now + HOLD;
        let is_news = self.busy.is_none();
        self.busy = match self.busy {
            Some((since, before)) if before > now => Some((since, until)),
            _ => Some((now, until)),
        };
        is_news
    }

    /// Whether it is busy, and when that is to be asked again.
    pub fn look(&mut self, now: Time) -> (bool, Option<Time>) {
        let Some((since, until)) = self.busy.filter(|(_, until)| *until > now) else {
            (self.busy, self.gap) = (None, None);
            return (false, None);
        };
        match self.gap {
            // The gap begins when it is noticed: whoever looks seldom must not miss it.
            None if now >= since + STRETCH => {
                self.gap = Some(now + GAP);
                (false, Some(now + GAP))
            }
            None => (true, Some(until.min(since + STRETCH))),
            Some(end) if now < end => (false, Some(end)),
            Some(_) => {
                (self.busy, self.gap) = (Some((now, until)), None);
                (true, Some(until.min(now + STRETCH)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[test]
    fn a_late_request_makes_it_busy_for_a_while() {
        let mut load = Load::default();
        assert!(!load.note(at(0), at(4)));
        assert_eq!(load.look(at(4)), (false, None));
        assert!(load.note(at(0), at(5)));
        assert_eq!(load.look(at(5)), (true, Some(at(505))));
        assert!(!load.note(at(100), at(200)));
        assert_eq!(load.look(at(504)), (true, Some(at(700))));
        assert_eq!(load.look(at(700)), (false, None));
    }

    #[test]
    fn whatever_the_load_there_is_a_gap_now_and_then() {
        let (mut load, mut idle) = (Load::default(), 0);
        for ms in 0..10_000 {
            load.note(at(ms), at(ms + 10));
            idle += u64::from(!load.look(at(ms + 10)).0);
        }
        assert!((600..1000).contains(&idle), "{idle} ms of 10,000");
    }

    #[test]
    fn whoever_looks_seldom_meets_the_gap_all_the_same() {
        let (mut load, mut idle) = (Load::default(), 0);
        for look in 0..100 {
            load.note(at(look * 170), at(look * 170 + 10));
            idle += u64::from(!load.look(at(look * 170 + 10)).0);
        }
        assert!((5..20).contains(&idle), "{idle} looks of 100");
    }
}
