//! Two ends over loopback. Everything is awaited under a deadline; nothing sleeps.

mod handshake;
mod lanes;
mod restart;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::watch;

use super::certs::issue_as;
use super::*;
use crate::frame::raw::RawFrame;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const DEADLINE: Duration = Duration::from_secs(20);
const QUEUE: QueueLimits = QueueLimits { max_bytes: 64 << 20, max_frames: 100_000 };
const SEED: Expect = Expect { role_alpn: Role::Node, name: None };

/// Panics if `future` takes longer than any machine needs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("the deadline of the test is over")
}

/// A cluster's authority.
struct Authority {
    dir: TempDir,
}

impl Authority {
    fn new(cluster: &str) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), cluster).unwrap();
        Authority { dir }
    }

    fn issue(&self, identity: &str, validity: Validity) -> Tls {
        let identity = PeerIdentity::parse(identity).unwrap();
        issue_as(self.dir.path(), &identity, validity).unwrap();
        load(self.dir.path(), &identity)
    }

    /// The certificate `NAME.ROLE.CLUSTER`.
    fn tls(&self, identity: &str) -> Tls {
        self.issue(identity, Validity::leaf(SystemTime::now()))
    }
}

fn load(dir: &Path, identity: &PeerIdentity) -> Tls {
    let file = |end: &str| dir.join(format!("{}.{}.{end}", identity.name, identity.role));
    Tls::load(&TlsFiles { ca: dir.join("ca.pem"), cert: file("pem"), key: file("key") }).unwrap()
}

/// Slow machines need more than a dialer would grant.
fn limits() -> Limits {
    Limits { dial_timeout: DEADLINE, handshake_timeout: DEADLINE, ..Limits::default() }
}

fn bind(tls: &Tls, limits: &Limits) -> Endpoint {
    Endpoint::bind(LOOPBACK, Some(tls), limits, None).unwrap()
}

/// Dials and accepts at once.
async fn meet(from: &Endpoint, to: &Endpoint, expect: Expect) -> (Result<Link, NetError>, Result<Link, NetError>) {
    let addr = to.local_addr().unwrap();
    let accepted = async { to.accept().await.expect("the endpoint is open").finish().await };
    soon(async { tokio::join!(from.dial(addr, expect), accepted) }).await
}

/// Two endpoints and the two ends of a link between them.
struct Pair {
    _authority: Authority,
    endpoints: (Endpoint, Endpoint),
    dialed: Link,
    accepted: Link,
}

async fn pair(limits: &Limits) -> Pair {
    let authority = Authority::new("test");
    let a = bind(&authority.tls("n1.node.test"), limits);
    let b = bind(&authority.tls("n2.node.test"), limits);
    let (dialed, accepted) = meet(&a, &b, SEED).await;
    Pair { _authority: authority, endpoints: (a, b), dialed: dialed.unwrap(), accepted: accepted.unwrap() }
}

impl Pair {
    /// A lane, its two ends and what each receives.
    async fn lane(&self, queue: QueueLimits) -> [(Lane, Recorder); 2] {
        let (ours, theirs) = (Recorder::default(), Recorder::default());
        let open = self.dialed.open_lane(frame(0, b"opening"), 0, queue, ours.sink());
        let (opened, incoming) = soon(async { tokio::join!(open, self.accepted.accept_lane()) }).await;
        let incoming = incoming.unwrap();
        assert_eq!(incoming.opening, frame(0, b"opening"));
        let started = incoming.start(queue, theirs.sink());
        [(opened.unwrap(), ours), (started, theirs)]
    }
}

fn frame(id: u64, body: &[u8]) -> RawFrame {
    RawFrame { id, kind: 1, header: Bytes::from_static(b"header"), body: Bytes::copy_from_slice(body) }
}

/// A sink that keeps what it gets.
#[derive(Clone, Default)]
struct Recorder {
    seen: Arc<Seen>,
}

struct Seen {
    frames: Mutex<Vec<RawFrame>>,
    /// Frames so far, and the end.
    progress: watch::Sender<(usize, Option<LaneClosed>)>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { frames: Mutex::default(), progress: watch::Sender::new((0, None)) }
    }
}

impl FrameSink for Seen {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        assert!(!frames.is_empty());
        assert_eq!(self.progress.borrow().1, None, "frames after the end");
        let mut all = self.frames.lock().unwrap();
        all.append(frames);
        self.progress.send_modify(|progress| progress.0 = all.len());
    }

    fn on_closed(&self, reason: &LaneClosed) {
        self.progress.send_modify(|progress| {
            assert_eq!(progress.1, None, "closed twice");
            progress.1 = Some(reason.clone());
        });
    }
}

impl Recorder {
    fn sink(&self) -> Arc<dyn FrameSink> {
        self.seen.clone()
    }

    /// Waits for that many frames.
    async fn frames(&self, count: usize) -> Vec<RawFrame> {
        soon(self.seen.progress.subscribe().wait_for(|progress| progress.0 >= count)).await.unwrap();
        self.seen.frames.lock().unwrap().clone()
    }

    /// Waits for the end; returns it and all frames before it.
    async fn closed(&self) -> (Vec<RawFrame>, LaneClosed) {
        let mut progress = self.seen.progress.subscribe();
        let reason = soon(progress.wait_for(|progress| progress.1.is_some())).await.unwrap().1.clone();
        (self.seen.frames.lock().unwrap().clone(), reason.unwrap())
    }
}
