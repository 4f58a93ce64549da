//! Keeps one address dialed: looks its name up, dials, opens the control lane, and looks again when the address is silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::control::{ControlEvent, PeerLink};
use super::sinks::{ControlSink, Switch};
use crate::frame::codec::{Opening, encode_opening};
use crate::net::{DialEvent, Dialer, DialerConfig, Endpoint, Expect, Link, QueueLimits, Role};
use crate::node::LinkId;

/// Control's lanes go first: what they carry is little, and liveness hangs on it.
pub const CONTROL_PRIORITY: i32 = 10;
/// A name may lead elsewhere after this long without a link that stood as long.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);
/// Between two tries to look a name up.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(1);

/// What all dialers of a node share.
#[derive(Clone)]
pub struct Dialing {
    /// The socket.
    pub endpoint: Endpoint,
    /// Control.
    pub events: mpsc::Sender<ControlEvent>,
    /// For the sinks.
    pub switch: Arc<Switch>,
    /// Of the control lane.
    pub queue: QueueLimits,
    /// Numbers the links, accepted ones too.
    pub links: Arc<AtomicU64>,
}

impl Dialing {
    /// A number for a link.
    pub fn number(&self) -> LinkId {
        LinkId(self.links.fetch_add(1, Ordering::Relaxed))
    }

    /// Keeps `address` (`host:port`) dialed until `cancel` is cancelled. `seed` spreads the redials.
    pub async fn run(self, address: String, seed: u64, cancel: CancellationToken) {
        let mut attempt = 0;
        while !cancel.is_cancelled() {
            attempt += 1;
            let Some(addr) = cancel.run_until_cancelled(look_up(&address)).await else { return };
            let until = cancel.child_token();
            let (events, seen) = mpsc::channel(8);
            let config = DialerConfig::new(seed.wrapping_add(attempt));
            let expect = Expect { role_alpn: Role::Node, name: None };
            Dialer::spawn(&self.endpoint, addr, expect, config, events, until.clone());
            self.follow(&address, seen, until).await;
        }
    }

    /// Reports one dialer's links until it ends, or until the name had better be looked up again.
    async fn follow(&self, address: &str, mut seen: mpsc::Receiver<DialEvent>, until: CancellationToken) {
        let is_name = address.parse::<SocketAddr>().is_err();
        let mut current = None;
        let mut names = LookUp::new(Instant::now());
        loop {
            let event = tokio::select! {
                event = seen.recv() => event,
                () = tokio::time::sleep_until(names.again), if is_name && current.is_none() => None,
            };
            match event {
                Some(DialEvent::Up(link)) => {
                    names.on_up(Instant::now());
                    current = self.on_up(address, link).await;
                }
                Some(DialEvent::Down(reason)) => {
                    debug!(address, %reason, "dialed link down");
                    names.on_down(Instant::now());
                    self.on_down(&mut current).await;
                }
                Some(DialEvent::Failed(_)) => {}
                None => break,
            }
        }
        until.cancel();
        self.on_down(&mut current).await;
    }

    async fn on_up(&self, address: &str, link: Link) -> Option<LinkId> {
        let id = self.number();
        let sink = Arc::new(ControlSink::new(id, link.clone(), self.events.clone(), self.switch.clone()));
        let opening = encode_opening(&Opening::Control);
        let lane = match link.open_lane(opening, CONTROL_PRIORITY, self.queue, sink.clone()).await {
            Ok(lane) => lane,
            Err(err) => {
                warn!(address, %err, "no control lane, dialing again");
                link.close(0, "no control lane");
                return None;
            }
        };
        let certified = link.identity().name.clone();
        let peer = PeerLink::new(link, lane.clone());
        let up = ControlEvent::LinkUp { link: id, peer, dialed: Some(address.to_owned()), certified };
        // fails only when control has ended, and the node with it
        let sent = self.events.try_send(up);
        sink.started(lane);
        match sent {
            Ok(()) => Some(id),
            Err(mpsc::error::TrySendError::Full(up) | mpsc::error::TrySendError::Closed(up)) => {
                if let ControlEvent::LinkUp { peer, .. } = up {
                    peer.link.close(0, "control is overloaded");
                }
                None
            }
        }
    }

    async fn on_down(&self, current: &mut Option<LinkId>) {
        if let Some(link) = current.take() {
            // fails only when control has ended, and the node with it
            let _ = self.events.send(ControlEvent::LinkDown { link }).await;
        }
    }
}

/// When a name is looked up again.
struct LookUp {
    again: Instant,
    up: Instant,
}

impl LookUp {
    fn new(now: Instant) -> LookUp {
        LookUp { again: now + LOOK_UP_AGAIN, up: now }
    }

    fn on_up(&mut self, now: Instant) {
        self.up = now;
    }

    /// Whoever ends each link at once may have got the address from the one who had the name.
    fn on_down(&mut self, now: Instant) {
        if now - self.up >= LOOK_UP_AGAIN {
            self.again = now + LOOK_UP_AGAIN;
        }
    }
}

/// The first address that the name has; tries until there is one.
async fn look_up(address: &str) -> SocketAddr {
    let mut failure = String::new();
    loop {
        let found = tokio::net::lookup_host(address).await.map(|mut all| all.next());
        let problem = match found {
            Ok(Some(addr)) => return addr,
            Ok(None) => "it has no address".to_owned(),
            Err(err) => err.to_string(),
        };
        if problem != failure {
            warn!(address, problem, "cannot look up, trying on");
            failure = problem;
        }
        tokio::time::sleep(LOOK_UP_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_again_unless_a_link_has_stood() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut names = LookUp::new(start);
        for ms in (0..4800).step_by(200) {
            names.on_up(at(ms));
            names.on_down(at(ms + 100));
        }
        assert_eq!(names.again, at(5000), "short links put nothing off");
        names.on_up(at(4900));
        names.on_down(at(9900));
        assert_eq!(names.again, at(14_900), "its address was the right one until now");
    }
}
