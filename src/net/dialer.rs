//! Keeps one link to one address alive.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::endpoint::{Endpoint, Expect};
use super::error::NetError;
use super::link::{CloseReason, Link};

/// How a dialer behaves.
#[derive(Clone, Copy, Debug)]
pub struct DialerConfig {
    /// The shortest pause before another attempt.
    pub redial_min: Duration,
    /// The longest. Pauses are drawn between the two, so that the peers of a restarted node do not come all at once.
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
    config: DialerConfig,
    rng: StdRng,
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
        let dialer = Dialer {
            endpoint: endpoint.clone(),
            addr,
            expect,
            config,
            rng: StdRng::seed_from_u64(config.seed),
            events,
            failure: None,
        };
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
            let (min, max) = (self.config.redial_min, self.config.redial_max.max(self.config.redial_min));
            tokio::time::sleep(self.rng.random_range(min..=max)).await;
        }
    }

    /// Reports the link and waits for its end; `None` if nobody listens.
    async fn keep(&mut self, link: Link) -> Option<()> {
        let _guard = CloseOnDrop(link.clone());
        info!(peer = %link.identity(), addr = %self.addr, "link up");
        self.failure = None;
        self.events.send(DialEvent::Up(link.clone())).await.ok()?;
        let reason = tokio::select! {
            reason = link.closed() => reason,
            () = self.events.closed() => return None,
        };
        warn!(peer = %link.identity(), addr = %self.addr, %reason, "link down");
        self.events.send(DialEvent::Down(reason)).await.ok()
    }

    async fn fail(&mut self, error: NetError) -> Option<()> {
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

/// Cancelling drops the dialer's future wherever it is.
struct CloseOnDrop(Link);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(0, "no longer wanted");
    }
}
