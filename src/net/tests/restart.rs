//! A killed process comes back on its port: who notices, how, and how soon.

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;

/// A node on a runtime of its own, so that dropping the runtime kills it: sockets close, and no peer is told.
struct Process {
    runtime: Option<Runtime>,
    addr: SocketAddr,
}

impl Process {
    async fn start(addr: SocketAddr, tls: &Tls, limits: &Limits, reset: Option<ResetState>) -> Process {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tls, limits) = (tls.clone(), limits.clone());
        let (started, bound) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let endpoint = Endpoint::bind(addr, Some(&tls), &limits, reset).unwrap();
            started.send(endpoint.local_addr().unwrap()).unwrap();
            let mut links = Vec::new();
            while let Some(incoming) = endpoint.accept().await {
                links.extend(incoming.finish().await);
            }
        });
        Process { runtime: Some(runtime), addr: soon(bound).await.unwrap() }
    }

    async fn kill(&mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

const RESET: ResetState = ResetState { reset_key: [5; 64], cid_seed: 17 };

struct Fixture {
    _authority: Authority,
    node: Tls,
    events: mpsc::Receiver<DialEvent>,
    cancel: CancellationToken,
    endpoint: Endpoint,
    process: Process,
    limits: Limits,
}

/// A dialer with a link to a process that has `reset`.
async fn dialer(limits: &Limits, reset: Option<ResetState>) -> Fixture {
    let authority = Authority::new("test");
    let node = authority.tls("n1.node.test");
    let process = Process::start(LOOPBACK, &node, limits, reset).await;
    let endpoint = bind(&authority.tls("n2.node.test"), limits);
    let (sender, events) = mpsc::channel(16);
    let cancel = CancellationToken::new();
    Dialer::spawn(&endpoint, process.addr, SEED, DialerConfig::new(1), sender, cancel.clone());
    Fixture { _authority: authority, node, events, cancel, endpoint, process, limits: limits.clone() }
}

impl Fixture {
    /// The next event that is not about a failed attempt.
    async fn event(&mut self) -> Option<DialEvent> {
        loop {
            match soon(self.events.recv()).await {
                Some(DialEvent::Failed(_)) => {}
                event => return event,
            }
        }
    }

    async fn up(&mut self) -> Link {
        match self.event().await {
            Some(DialEvent::Up(link)) => link,
            other => panic!("{other:?} and no link"),
        }
    }

    async fn down(&mut self) -> CloseReason {
        match self.event().await {
            Some(DialEvent::Down(reason)) => reason,
            other => panic!("{other:?} and no end of the link"),
        }
    }

    async fn restart(&mut self, reset: Option<ResetState>) {
        self.process.kill().await;
        self.process = Process::start(self.process.addr, &self.node, &self.limits, reset).await;
    }
}

#[tokio::test]
async fn an_idle_peer_notices_a_restart_by_its_keep_alive_and_comes_back() {
    let mut fixture = dialer(&Limits::default(), Some(RESET)).await;
    let before = fixture.up().await;
    assert_eq!(before.identity().name, "n1");
    fixture.restart(Some(RESET)).await;
    // the keep-alive is due a second after the last packet; the idle timeout would take three
    let noticed = tokio::time::timeout(Duration::from_secs(2), fixture.down()).await;
    assert_eq!(noticed, Ok(CloseReason::Reset));
    let after = fixture.up().await;
    assert!(before.is_closed() && !after.is_closed());
}

#[tokio::test]
async fn a_sending_peer_notices_a_restart_at_once() {
    // no keep-alive, no idle timeout within the test's deadline: only the lane's packets can tell
    let long = Duration::from_secs(600);
    let limits = Limits { keep_alive: long, idle_timeout: long, ..Limits::default() };
    let mut fixture = dialer(&limits, Some(RESET)).await;
    let link = fixture.up().await;
    fixture.restart(Some(RESET)).await;
    let answers = Recorder::default();
    let _lane = soon(link.open_lane(frame(0, b"opening"), 0, QUEUE, answers.sink())).await.unwrap();
    assert_eq!(fixture.down().await, CloseReason::Reset);
    assert_eq!(answers.closed().await.1, LaneClosed::Link(CloseReason::Reset));
    fixture.up().await;
}

#[test]
fn a_key_has_a_reset_state_of_its_own() {
    let of = ResetState::of_secret;
    assert!(of(b"one") == of(b"one") && of(b"one") != of(b"two"));
    assert!(of(b"one").reset_key != of(b"two").reset_key && of(b"one").cid_seed != of(b"two").cid_seed);
}

#[tokio::test]
async fn both_the_key_and_the_seed_must_outlive_the_process() {
    let quick = Limits {
        keep_alive: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(600),
        ..Limits::default()
    };
    let other_key = ResetState { reset_key: [6; 64], ..RESET };
    let other_seed = ResetState { cid_seed: 18, ..RESET };
    for lost in [None, Some(other_key), Some(other_seed)] {
        let mut fixture = dialer(&quick, Some(RESET)).await;
        fixture.up().await;
        fixture.restart(lost.clone()).await;
        assert_eq!(fixture.down().await, CloseReason::TimedOut, "after losing to {lost:?}");
        fixture.up().await;
    }
}

#[tokio::test]
async fn a_dialer_reports_a_failure_once_and_tries_on() {
    let limits = Limits { dial_timeout: Duration::from_millis(300), ..Limits::default() };
    let authority = Authority::new("test");
    let node = authority.tls("n1.node.test");
    let silent = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let addr = silent.local_addr().unwrap();
    let endpoint = bind(&authority.tls("n2.node.test"), &limits);
    let (sender, mut events) = mpsc::channel(16);
    Dialer::spawn(&endpoint, addr, SEED, DialerConfig::new(1), sender, CancellationToken::new());
    assert!(matches!(soon(events.recv()).await, Some(DialEvent::Failed(NetError::Timeout { .. }))));
    // let at least two more attempts pass: their first packets
    let mut attempts = 0;
    let mut buffer = [0; 2048];
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let silent = tokio::task::spawn_blocking(move || {
        while attempts < 12 {
            silent.recv_from(&mut buffer).unwrap();
            attempts += 1;
        }
        silent
    });
    drop(soon(silent).await.unwrap());
    let _process = Process::start(addr, &node, &limits, None).await;
    assert!(matches!(soon(events.recv()).await, Some(DialEvent::Up(_))), "the failure was reported again");
}

#[tokio::test]
async fn a_cancelled_dialer_closes_its_link() {
    let mut fixture = dialer(&Limits::default(), None).await;
    let link = fixture.up().await;
    fixture.cancel.cancel();
    assert_eq!(soon(link.closed()).await, CloseReason::Local);
    assert!(fixture.event().await.is_none());
}

#[tokio::test]
async fn a_dialer_ends_with_its_endpoint_or_its_listener() {
    let mut fixture = dialer(&Limits::default(), None).await;
    fixture.up().await;
    fixture.endpoint.close(0, "stopping");
    soon(fixture.endpoint.wait_closed()).await;

    let mut fixture = dialer(&Limits::default(), None).await;
    let link = fixture.up().await;
    drop(std::mem::replace(&mut fixture.events, mpsc::channel(1).1));
    assert_eq!(soon(link.closed()).await, CloseReason::Local);
}
