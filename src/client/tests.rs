//! The driver against nodes that answer as a script says, over loopback.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::api::{ApiError, Explain, GetReply, Receipt, Reply, Request, Response, RingReply};
use crate::frame::codec::{decode_client_request, decode_opening, encode_response};
use crate::frame::raw::RawFrame;
use crate::net::{
    Endpoint, FrameSink, Lane, LaneClosed, Limits, QueueLimits, Tls, TlsFiles, Validity, init_ca, issue_client,
    issue_node,
};
use crate::ring::{Layout, Member, Partitions, Weight};
use crate::types::{Bucket, Key, NodeId, WriteId};
use crate::version::{Actor, Dot};

/// What a scripted node does with a request; `None` leaves it unanswered.
type Script = Arc<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

struct Site {
    dir: TempDir,
}

/// Until 2050, so that no clock is asked.
fn valid() -> Validity {
    Validity { not_before: UNIX_EPOCH, not_after: UNIX_EPOCH + Duration::from_secs(80 * 365 * 24 * 3600) }
}

struct Node {
    endpoint: Endpoint,
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Node {
    /// All that it has been asked so far, in order.
    fn seen(&self) -> MutexGuard<'_, Vec<Request>> {
        self.seen.lock().expect("no test panics while it holds what a node has seen")
    }
}

struct Answering {
    script: Script,
    seen: Arc<Mutex<Vec<Request>>>,
    lane: Mutex<Option<Lane>>,
}

impl FrameSink for Answering {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        for frame in frames.drain(..) {
            let id = frame.id;
            let request = decode_client_request(frame).unwrap();
            let response = (self.script)(&request);
            self.seen.lock().unwrap().push(request);
            if let (Some(response), Some(lane)) = (response, &*self.lane.lock().unwrap()) {
                let _ = lane.try_send_one(encode_response(id, 1_000_000, &response));
            }
        }
    }

    fn on_closed(&self, _: &LaneClosed) {}
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "test").unwrap();
        issue_client(dir.path(), "app", valid()).unwrap();
        Site { dir }
    }

    fn tls(&self, name: &str) -> TlsFiles {
        let file = |end: &str| self.dir.path().join(end);
        TlsFiles { ca: file("ca.pem"), cert: file(&format!("{name}.pem")), key: file(&format!("{name}.key")) }
    }

    fn node(&self, name: &str, script: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) -> Node {
        issue_node(self.dir.path(), name, valid()).unwrap();
        let tls = Tls::load(&self.tls(&format!("{name}.node"))).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(any, Some(&tls), &Limits::default(), None).unwrap();
        let (seen, script): (Arc<Mutex<Vec<Request>>>, Script) = (Arc::default(), Arc::new(script));
        let node = Node { address: endpoint.local_addr().unwrap().to_string(), endpoint, seen: seen.clone() };
        let endpoint = node.endpoint.clone();
        node.endpoint.spawner().spawn("scripted node", async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(link) = incoming.finish().await else { continue };
                let Ok(lane) = link.accept_lane().await else { continue };
                decode_opening(&lane.opening).unwrap();
                let sink = Arc::new(Answering { script: script.clone(), seen: seen.clone(), lane: Mutex::default() });
                let mut guard = sink.lane.lock().unwrap();
                let queue = QueueLimits { max_bytes: 8 << 20, max_frames: 1000 };
                *guard = Some(lane.start(queue, sink.clone()));
            }
        });
        node
    }

    fn client(&self, endpoints: &[&str]) -> Client {
        Client::open(self.client_config(endpoints)).unwrap()
    }

    fn client_config(&self, endpoints: &[&str]) -> ClientConfig {
        let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
        let tls = self.tls("app.client");
        ClientConfig { request_timeout: Duration::from_secs(3), ..ClientConfig::new(endpoints, tls) }
    }
}

/// A ring of these nodes, called `n2`, `n3` and so on, as a node tells it.
fn ring_of(nodes: &[&Node]) -> Response {
    let member = |(node, id): (&&Node, u64)| {
        let (zone, weight, address) = ("z".into(), Weight::ONE, node.address.clone());
        Member { id: NodeId(id), name: format!("n{id}"), zone, weight, address }
    };
    let layout = Layout::birth(Partitions::default(), nodes.iter().zip(2..).map(member).collect(), [].into()).unwrap();
    let reply = RingReply { cluster: layout.cluster_id(), version: layout.version() };
    Response::of(Ok(Reply::Ring(reply)), vec![Bytes::from(layout.encode())])
}

fn key() -> (Bucket, Key) {
    (Bucket::default(), Key::new("k").unwrap())
}

fn receipt() -> Response {
    receipt_with(Bytes::from_static(b"c"))
}

fn receipt_with(context: Bytes) -> Response {
    let dot = Dot { actor: Actor(1), counter: 1 };
    Response::plain(Reply::Put(Receipt {
        acks: vec![],
        n: 3,
        w: 2,
        hints: vec![],
        context,
        dot,
        coordinator: NodeId(1),
    }))
}

fn found(_: &Request) -> Option<Response> {
    Some(Response::plain(Reply::Get(GetReply::default())))
}

fn write_ids(node: &Node) -> Vec<WriteId> {
    let seen = node.seen();
    let id = |request: &Request| match request {
        Request::Put(put) => Some(put.header.write_id),
        _ => None,
    };
    seen.iter().filter_map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_passed_over_with_the_same_write_id() {
    let site = Site::new();
    let (silent, good) = (site.node("n1", |_| None), site.node("n2", |_| Some(receipt())));
    let client = site.client(&[&silent.address, &good.address]);
    let (bucket, key) = key();
    // whom a call asks first is drawn, so that a few calls meet both; one that let a call wait comes last afterwards
    while write_ids(&silent).is_empty() {
        client.put(&bucket, &key, Bytes::from_static(b"v"), PutOptions::default()).await.unwrap();
    }
    assert!(write_ids(&good).contains(&write_ids(&silent)[0]));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_share_a_lane_and_a_later_request_carries_the_servers_tick() {
    let site = Site::new();
    let node = site.node("n1", found);
    let client = site.client(&[&node.address]);
    let (bucket, key) = key();
    client.get(&bucket, &key, GetOptions::default()).await.unwrap();
    let calls = (0..1000).map(|_| -> join::Boxed<'_, _> { Box::pin(client.get(&bucket, &key, GetOptions::default())) });
    assert!(join::join_all(calls.collect()).await.iter().all(Result::is_ok));
    let seen = node.seen().clone();
    let ticks: Vec<_> = seen
        .iter()
        .map(|request| match request {
            Request::Get(get) => (get.deadline.server_tick, get.deadline.remaining_ms),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((ticks.len(), ticks[0].0), (1001, 0));
    assert!(ticks[1..].iter().all(|(tick, remaining)| *tick >= 1_000_000 && *remaining <= 2900), "{ticks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let site = Site::new();
    let (bucket, key) = key();
    let nobody = site.client(&["127.0.0.1:9"]);
    let error = nobody.put(&bucket, &key, Bytes::new(), PutOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let silent = site.node("n1", |_| None);
    let client = site.client(&[&silent.address]);
    let error = client.put(&bucket, &key, Bytes::new(), PutOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Indeterminate { .. }) && error.is_indeterminate(), "{error}");
    let error = client.get(&bucket, &key, GetOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ring_is_learnt_and_its_members_are_asked() {
    let site = Site::new();
    let node = site.node("n2", found);
    let told = ring_of(&[&node]);
    let not_ready = || Response::error(ApiError::NotReady { reason: "joining".into() });
    let seed = site.node("n1", move |request| match request {
        Request::Ring => Some(told.clone()),
        _ => Some(not_ready()),
    });
    let client = site.client(&[&seed.address]);
    assert!(client.ring().is_none());
    client.refresh_ring().await.unwrap();
    let (bucket, key) = key();
    let result = client.get(&bucket, &key, GetOptions::default()).await.unwrap();
    assert_eq!((result.from, result.attempts), (format!("n2 ({})", node.address), 1));
    assert_eq!(client.name_of(NodeId(2)), "n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_to_primaries_unless_it_is_told_to_go_anywhere() {
    let site = Site::new();
    let primary = site.node("n2", found);
    let told = ring_of(&[&primary]);
    let other = site.node("n1", move |request| match request {
        Request::Ring => Some(told.clone()),
        request => found(request),
    });
    for (coordinator, goes_elsewhere) in [(Coordinator::Primary, false), (Coordinator::Any, true)] {
        let config = ClientConfig { coordinator, ..site.client_config(&[&other.address]) };
        let client = Client::connect(config).await.unwrap();
        other.seen().clear();
        let (bucket, key) = key();
        for _ in 0..64 {
            client.get(&bucket, &key, GetOptions::default()).await.unwrap();
        }
        let elsewhere = other.seen().len();
        assert_eq!(elsewhere > 0, goes_elsewhere, "{elsewhere} of 64");
        assert!(elsewhere < 64, "the primary is asked too");
    }
}

fn found_or_written(request: &Request) -> Option<Response> {
    if request.is_write() { Some(receipt()) } else { found(request) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_explain_go_to_a_keys_first_coordinator_and_reads_to_all_primaries() {
    let site = Site::new();
    let (two, three) = (site.node("n2", found_or_written), site.node("n3", found_or_written));
    let told = ring_of(&[&two, &three]);
    let seed = site.node("n1", move |_| Some(told.clone()));
    let long = Duration::from_secs(60);
    let patient = ClientConfig { attempt_timeout: long, request_timeout: long, ..site.client_config(&[&seed.address]) };
    let client = Client::connect(patient).await.unwrap();
    let view = client.ring().unwrap();
    let forget = || [&two, &three].iter().for_each(|node| node.seen().clear());
    let mut firsts = Vec::new();
    for index in 0..32 {
        let (bucket, key) = (Bucket::default(), Key::new(format!("k{index}")).unwrap());
        let (partition, token) = view.partition_of(&bucket, &key);
        let first = view.preference(partition, &bucket).unwrap().coordinators(token)[0];
        forget();
        client.put(&bucket, &key, Bytes::new(), PutOptions::default()).await.unwrap();
        client.delete(&bucket, &key, Bytes::new(), PutOptions::default()).await.unwrap();
        let explain = Explain { bucket, key, r: None, pr: None, w: None, pw: None, dw: None, strict: false };
        client.explain(explain).await.expect_err("the scripted nodes have one answer to all but writes");
        let asked = [&two, &three].map(|node| node.seen().len());
        assert_eq!(asked, if first == NodeId(2) { [3, 0] } else { [0, 3] }, "the first is {first}");
        firsts.push(first);
    }
    assert!([NodeId(2), NodeId(3)].iter().all(|node| firsts.contains(node)), "{firsts:?}");
    forget();
    let (bucket, key) = key();
    for _ in 0..32 {
        client.get(&bucket, &key, GetOptions::default()).await.unwrap();
    }
    assert!([&two, &three].iter().all(|node| !node.seen().is_empty()), "reads are spread");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_cluster_is_an_error_of_its_own() {
    let (site, other) = (Site::new(), Site::new());
    let node = other.node("n1", found);
    let (bucket, key) = key();
    let error = site.client(&[&node.address]).get(&bucket, &key, GetOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Auth { .. }), "{error}");
}

/// The token that a request carries: what it is to follow, or not to go behind.
fn token_of(request: &Request) -> Option<Bytes> {
    match request {
        Request::Get(get) => get.after.clone(),
        Request::Put(put) => put.header.context.clone(),
        other => panic!("{other:?}"),
    }
}

/// The node gives its first answer the token 1, and so on; to the fourth it has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_hands_each_request_the_token_of_the_answer_before() {
    let site = Site::new();
    let answers = AtomicU8::new(1);
    let node = site.node("n1", move |request| {
        let context = Bytes::from(vec![answers.fetch_add(1, Ordering::Relaxed)]);
        Some(match request {
            Request::Put(_) => receipt_with(context),
            _ => {
                let context = Some(context).filter(|context| context[0] != 4);
                Response::plain(Reply::Get(GetReply { context, ..GetReply::default() }))
            }
        })
    });
    let mut session = CausalSession::new(site.client(&[&node.address]));
    let (bucket, key) = key();
    let (get, put) = (GetOptions::default, PutOptions::default);
    let given = Some(Bytes::from_static(b"mine"));
    let refused = session.get(&bucket, &key, GetOptions { after: given.clone(), ..get() }).await.unwrap_err();
    assert!(matches!(refused, ClientError::InSession { what: "after" }), "{refused}");
    for delete in [false, true] {
        let options = PutOptions { context: given.clone(), ..put() };
        let refused = match delete {
            true => session.delete(&bucket, &key, options).await.unwrap_err(),
            false => session.put(&bucket, &key, Bytes::new(), options).await.unwrap_err(),
        };
        assert!(matches!(refused, ClientError::InSession { what: "context" }), "{refused}");
    }
    assert_eq!(session.delete(&bucket, &key, put()).await.unwrap(), None, "it was shown nothing");
    session.get(&bucket, &key, get()).await.unwrap();
    session.get(&bucket, &key, get()).await.unwrap();
    session.put(&bucket, &key, Bytes::new(), put()).await.unwrap();
    session.get(&bucket, &key, get()).await.unwrap();
    assert!(session.delete(&bucket, &key, put()).await.unwrap().is_some());
    session.put(&bucket, &key, Bytes::new(), put()).await.unwrap();
    let carried: Vec<_> = node.seen().iter().map(token_of).collect();
    let token = |number: u8| Some(Bytes::from(vec![number]));
    assert_eq!(carried, [None, token(1), token(2), token(3), token(3), token(5)]);
    assert_eq!(session.token(&bucket, &key), token(6));
}
