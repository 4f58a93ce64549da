//! A client made of raw frames.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Site, soon};
use crate::api::{ApiError, Deadline, Get, Put, PutHeader, Receipt, Reply, Request, Response};
use crate::frame::codec::{OpenClient, Opening, decode_response, encode_client_request, encode_opening};
use crate::frame::raw::{FrameLimits, RawFrame};
use crate::message::PROTOCOL;
use crate::net::{Endpoint, Expect, FrameSink, Lane, LaneClosed, Limits, Link, QueueLimits, Role};
use crate::server::Server;
use crate::types::{Bucket, Key, WriteId};

pub const QUEUE: QueueLimits = QueueLimits { max_bytes: 256 << 20, max_frames: 100_000 };

/// Keeps responses, and the lane's end.
pub struct Answers {
    responses: Mutex<BTreeMap<u64, Response>>,
    progress: watch::Sender<(usize, Option<LaneClosed>)>,
}

impl FrameSink for Answers {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        let mut responses = self.responses.lock().unwrap();
        for frame in frames.drain(..) {
            let id = frame.id;
            let (tick, response) = decode_response(frame).unwrap();
            assert!(tick > 0);
            assert!(responses.insert(id, response).is_none(), "request {id} was answered twice");
        }
        self.progress.send_modify(|progress| progress.0 = responses.len());
    }

    fn on_closed(&self, reason: &LaneClosed) {
        self.progress.send_modify(|progress| progress.1 = Some(reason.clone()));
    }
}

/// Dials with any certificate, in any role.
pub async fn dial(site: &Site, server: &Server, certificate: &str, role: Role) -> (Endpoint, Link) {
    // longer frames than nodes take, to see them refuse
    let frame = FrameLimits { max_header: 16 << 20, max_frame: 1 << 30 };
    let limits = Limits { frame, dial_timeout: super::DEADLINE, ..Limits::default() };
    let endpoint = Endpoint::client(&site.tls(certificate), &limits).unwrap();
    let expect = Expect { role_alpn: role, name: None };
    let link = soon(endpoint.dial(server.quic_addr(), expect)).await.unwrap();
    (endpoint, link)
}

pub struct TestClient {
    _endpoint: Endpoint,
    pub link: Link,
    pub lane: Lane,
    answers: Arc<Answers>,
}

impl TestClient {
    pub async fn connect(site: &Site, server: &Server) -> TestClient {
        let (endpoint, link) = dial(site, server, "app.client", Role::Client).await;
        TestClient::open(endpoint, link, &Opening::Client(OpenClient { protocol: PROTOCOL })).await
    }

    pub async fn open(endpoint: Endpoint, link: Link, opening: &Opening) -> TestClient {
        let answers = Arc::new(Answers { responses: Mutex::default(), progress: watch::Sender::new((0, None)) });
        let lane = soon(link.open_lane(encode_opening(opening), 0, QUEUE, answers.clone())).await.unwrap();
        TestClient { _endpoint: endpoint, link, lane, answers }
    }

    /// Sends all at once, as ids 1, 2 ... and returns the responses in this order. Once for a client.
    pub async fn ask_all(&self, requests: &[Request]) -> Vec<Response> {
        let frames = (1..).zip(requests).map(|(id, request)| encode_client_request(id, request)).collect();
        self.lane.try_send(frames).unwrap();
        let count = requests.len();
        soon(self.answers.progress.subscribe().wait_for(|progress| progress.0 == count)).await.unwrap();
        std::mem::take(&mut *self.answers.responses.lock().unwrap()).into_values().collect()
    }

    /// Sends all at once, and returns the responses that came before the lane ended, in any order. `first` is told of the
    /// first. Once for a client.
    pub async fn ask_until_closed(&self, requests: &[Request], first: impl FnOnce()) -> Vec<Response> {
        let frames = (1..).zip(requests).map(|(id, request)| encode_client_request(id, request)).collect();
        self.lane.try_send(frames).unwrap();
        let (count, mut progress) = (requests.len(), self.answers.progress.subscribe());
        soon(progress.wait_for(|progress| progress.0 > 0)).await.unwrap();
        first();
        soon(progress.wait_for(|progress| progress.0 == count || progress.1.is_some())).await.unwrap();
        std::mem::take(&mut *self.answers.responses.lock().unwrap()).into_values().collect()
    }

    pub async fn ask(&self, request: Request) -> Response {
        self.ask_all(&[request]).await.pop().unwrap()
    }

    /// Waits for the lane's end.
    pub async fn closed(&self) -> LaneClosed {
        let mut progress = self.answers.progress.subscribe();
        soon(progress.wait_for(|progress| progress.1.is_some())).await.unwrap().1.clone().unwrap()
    }
}

pub fn deadline() -> Deadline {
    Deadline { remaining_ms: 20_000, server_tick: 0 }
}

pub fn put(key: &str, value: &str) -> Request {
    let header = PutHeader {
        deadline: deadline(),
        ..PutHeader::new(Bucket::default(), Key::new(key.to_owned()).unwrap(), WriteId(rand::random()))
    };
    Request::Put(Put { header, value: Some(Bytes::from(value.to_owned())) })
}

pub fn get(key: &str) -> Request {
    let key = Key::new(key.to_owned()).unwrap();
    Request::Get(Get { deadline: deadline(), ..Get::new(Bucket::default(), key) })
}

#[track_caller]
pub fn receipt(response: Response) -> Receipt {
    match response.result {
        Ok(Reply::Put(receipt)) => receipt,
        other => panic!("no receipt: {other:?}"),
    }
}

#[track_caller]
pub fn error(response: Response) -> ApiError {
    response.result.expect_err("the request was to fail")
}
