//! Keeps one link to one address alive.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::endpoint::{Endpoint, Expect};
use super::error::NetError;
use super::link::{CloseReason, Link};

/// A link that stood this long was not turned away.
const SETTLED: Duration = Duration::from_secs(1);
/// The longest pause of a dialer that is turned away.
const LONGEST: Duration = Duration::from_secs(5);

/// How a dialer behaves.
#[derive(Clone, Copy, Debug)]
pub struct DialerConfig {
    /// The shortest pause before another attempt.
    pub redial_min: Duration,
    /// The longest. Pauses are drawn between the two, so that the peers of a restarted node do not come all at once. Only whoever
    /// is turned away again and again waits longer, up to five seconds.
    pub redial_max: Duration,
    /// Seeds the pauses; different for each dialer.
    pub seed: u64,
}

impl DialerConfig {
    /// Pauses of 100 to 250 ms.
    pub fn new(seed: u64) -> DialerConfig {
        DialerConfig { redial_min: Duration::from_millis(100), redial_max: Duration::from_millis(250), seed }
    }
}

/// What a dialer reports.
#[derive(Debug)]
pub enum DialEvent {
    /// A link is up.
    Up(Link),
    /// The link that was up has ended; another attempt follows.
    Down(CloseReason),
    /// An attempt failed, and otherwise than the one before it; more attempts follow.
    Failed(NetError),
}

/// A task that dials, waits for the link's end, and dials again.
pub struct Dialer {
    endpoint: Endpoint,
    addr: SocketAddr,
    expect: Expect,
    pauses: Pauses,
    events: mpsc::Sender<DialEvent>,
    /// The text of the last failure: the same one is reported once.
    failure: Option<String>,
}

impl Dialer {
    /// Starts a dialer on the endpoint's [`Spawner`](super::Spawner). It ends, and closes its link, when `cancel` is
    /// cancelled, the endpoint is closed, or nobody receives `events` any more. It waits for room in `events` between attempts.
    pub fn spawn(
        endpoint: &Endpoint,
        addr: SocketAddr,
        expect: Expect,
        config: DialerConfig,
        events: mpsc::Sender<DialEvent>,
        cancel: CancellationToken,
    ) {
        let dialer =
            Dialer { endpoint: endpoint.clone(), addr, expect, pauses: Pauses::new(config), events, failure: None };
        endpoint.spawner().spawn("dialer", async move {
            cancel.run_until_cancelled_owned(dialer.run()).await;
        });
    }

    async fn run(mut self) {
        loop {
            let dialed = self.endpoint.dial(self.addr, self.expect.clone()).await;
            let received = match dialed {
                Ok(link) => self.keep(link).await,
                Err(error) => self.fail(error).await,
            };
            if received.is_none() {
                return;
            }
            tokio::time::sleep(self.pauses.next()).await;
        }
    }

    /// Reports the link and waits for its end; `None` if nobody listens.
    async fn keep(&mut self, link: Link) -> Option<()> {
        let _guard = CloseOnDrop(link.clone());
        info!(peer = %link.identity(), addr = %self.addr, "link up");
        self.failure = None;
        let since = Instant::now();
        self.events.send(DialEvent::Up(link.clone())).await.ok()?;
        let reason = tokio::select! {
            reason = link.closed() => reason,
            () = self.events.closed() => return None,
        };
        warn!(peer = %link.identity(), addr = %self.addr, %reason, "link down");
        self.pauses.on_down(since.elapsed(), &reason);
        self.events.send(DialEvent::Down(reason)).await.ok()
    }

    async fn fail(&mut self, error: NetError) -> Option<()> {
        self.pauses.on_failed();
        let text = error.to_string();
        if self.failure.as_ref() == Some(&text) {
            return (!self.events.is_closed()).then_some(());
        }
        warn!(addr = %self.addr, error = %text, "cannot dial, trying on");
        self.failure = Some(text);
        let last = matches!(error, NetError::Closed);
        let sent = self.events.send(DialEvent::Failed(error)).await;
        sent.ok().filter(|()| !last)
    }
}

/// How long to wait before the next attempt.
struct Pauses {
    config: DialerConfig,
    rng: StdRng,
    /// Links in a row that one of the ends closed as soon as they were up.
    turned_away: u32,
}

impl Pauses {
    fn new(config: DialerConfig) -> Pauses {
        Pauses { config, rng: StdRng::seed_from_u64(config.seed), turned_away: 0 }
    }

    /// A link has ended after so long. Who is refused, or refuses whom it has met, gains nothing by coming back at once; who
    /// is cut off, or was there for a while, does.
    fn on_down(&mut self, lasted: Duration, reason: &CloseReason) {
        let closed = matches!(reason, CloseReason::Local | CloseReason::Peer { .. });
        self.turned_away = if closed && lasted < SETTLED { self.turned_away.saturating_add(1) } else { 0 };
    }

    /// Nobody was there: who comes back is another run, or an address somebody else's.
    fn on_failed(&mut self) {
        self.turned_away = 0;
    }

    fn next(&mut self) -> Duration {
        let (min, max) = (self.config.redial_min, self.config.redial_max.max(self.config.redial_min));
        let drawn = self.rng.random_range(min..=max);
        let doubled = drawn.saturating_mul(1_u32.checked_shl(self.turned_away).unwrap_or(u32::MAX));
        doubled.min(LONGEST.max(drawn))
    }
}

/// Cancelling drops the dialer's future wherever it is.
struct CloseOnDrop(Link);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(0, "no longer wanted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> CloseReason {
        CloseReason::Peer { code: 1, reason: "refused".into() }
    }

    /// After these ends of links, an attempt's pause lies within `min` and `max` milliseconds.
    #[track_caller]
    fn check(ends: &[(u64, CloseReason)], min: u64, max: u64) {
        for seed in 0..50 {
            let mut pauses = Pauses::new(DialerConfig::new(seed));
            for (lasted_ms, reason) in ends {
                pauses.on_down(Duration::from_millis(*lasted_ms), reason);
            }
            let pause = pauses.next();
            let within = Duration::from_millis(min)..=Duration::from_millis(max);
            assert!(within.contains(&pause), "{pause:?} is not within {within:?}");
        }
    }

    #[test]
    fn who_is_turned_away_comes_back_ever_later() {
        check(&[], 100, 250);
        check(&[(2, closed())], 200, 500);
        check(&[(2, closed()), (2, CloseReason::Local)], 400, 1000);
        check(&vec![(2, closed()); 6], 5000, 5000);
        check(&vec![(2, closed()); 40], 5000, 5000);
    }

    #[test]
    fn who_was_there_or_was_cut_off_comes_back_soon() {
        check(&[(2, closed()), (1000, closed())], 100, 250);
        check(&[(2, closed()), (2, CloseReason::TimedOut)], 100, 250);
        check(&[(2, closed()), (2, CloseReason::Reset)], 100, 250);
        let mut pauses = Pauses::new(DialerConfig::new(1));
        (0..9).for_each(|_| pauses.on_down(Duration::ZERO, &closed()));
        pauses.on_failed();
        assert!(pauses.next() <= Duration::from_millis(250), "whoever is there next has refused nobody");
    }
}
