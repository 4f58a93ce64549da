//! The process's clocks, read here and handed to the core.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::{Now, Time};

/// Monotonic time since the process's start, and the wall clock. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Both clocks. The time is at least one microsecond after the origin: a tick of 0 means "none" on the wire.
    pub fn now(&self) -> Now {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        Now { time: self.time(), wall_ms: u64::try_from(wall_ms).unwrap_or(u64::MAX) }
    }

    /// The monotonic one alone.
    pub fn time(&self) -> Time {
        let micros = self.origin.elapsed().as_micros().saturating_add(1);
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The runtime's name for a moment of this clock.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        // 30 years: later than any timer, and nothing overflows on the way
        let since = Duration::from_micros(time.as_micros()).min(Duration::from_secs(1_000_000_000));
        (self.origin + since).into()
    }
}
