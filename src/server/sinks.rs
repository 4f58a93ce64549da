//! Where the frames of a lane go: decoded where they arrive and handed to shards or control, a whole wake at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::board::Board;
use super::clock::Clock;
use super::control::ControlEvent;
use super::gather::Gathering;
use super::lanes::{Client, LaneCounters, Lanes};
use super::memory::Memory;
use super::shard::Shards;
use crate::api::{ApiError, HintOrder, HintsOrdered, Reply, Request, Response, RingReply};
use crate::frame::codec::{
    DecodeError, decode_answer, decode_client_request, decode_control, decode_request, encode_answer, encode_response,
};
use crate::frame::kind::Kind;
use crate::frame::raw::RawFrame;
use crate::message::Refusal;
use crate::net::{FrameSink, Lane, LaneClosed, Link};
use crate::node::{ClientRef, LinkId, PeerRef, Pressure, ShardInput};
use crate::ring::RingView;
use crate::types::NodeRun;

/// The code with which a link is closed that has lost a lane.
pub const CLOSE_BROKEN: u32 = 3;

/// What all sinks of a node share.
pub struct Switch {
    /// The clocks.
    pub clock: Clock,
    /// Who takes requests.
    pub shards: Arc<Shards>,
    /// Who answers.
    pub lanes: Arc<Lanes>,
    /// The ring and the status.
    pub board: Arc<Board>,
    /// Answers that all shards give together.
    pub gathering: Arc<Gathering>,
    /// How short of memory the process is.
    pub memory: Arc<Memory>,
    /// Requests that one client's lane may have under way.
    pub max_inflight: u64,
}

impl Switch {
    /// Hands an operator's order to all shards; they carry it out after the answer.
    fn order_hints(&self, order: HintOrder, ring: &RingView) -> Response {
        let waiting = self.shards.hints();
        if let Some(target) = order.target()
            && ring.layout().member(target).is_none()
            && waiting.iter().all(|backlog| backlog.target != target)
            // one that still counts what it kept may find some
            && self.shards.hints_are_counted()
        {
            let names: Vec<&str> = ring.layout().members().iter().map(|member| member.name.as_str()).collect();
            let reason =
                format!("nothing waits here for {target}, nor is it a member; members are {}", names.join(", "));
            return Response::error(ApiError::BadRequest { reason });
        }
        warn!(?order, "an operator's order about hints");
        self.shards.notify(&ShardInput::Hints(order));
        let mut ordered = HintsOrdered::default();
        for backlog in waiting.iter().filter(|known| order.target().is_none_or(|target| target == known.target)) {
            ordered.hints += backlog.hints;
            ordered.counted += backlog.counted;
            ordered.bytes += backlog.bytes;
        }
        Response::plain(Reply::Hints(ordered))
    }
}

/// What a lane's sink knows of its lane.
struct Own {
    lane: OnceLock<Lane>,
    /// Set when a frame was no message: what follows is not looked at.
    refused: AtomicBool,
}

impl Own {
    fn new() -> Own {
        Own { lane: OnceLock::new(), refused: AtomicBool::new(false) }
    }

    /// The lane. Whoever starts it makes it known before it does anything else, and awaits nothing in between: the thread that would wait
    /// here may be the only one.
    fn lane(&self) -> &Lane {
        self.lane.wait()
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self, err: &DecodeError, counters: &LaneCounters) {
        warn!(%err, "lane closed: a frame is no message");
        LaneCounters::add(&counters.bad_frames, 1);
        self.refused.store(true, Ordering::Relaxed);
        self.lane().close();
    }

    fn reply(&self, frames: Vec<RawFrame>) {
        if !frames.is_empty() {
            // closed or full: whoever reads nothing learns nothing
            let _ = self.lane().try_send(frames);
        }
    }
}

/// Inputs sorted by shard, kept for the next wake.
type Sorted = Mutex<Vec<Vec<ShardInput>>>;

fn sorted(shards: &Shards) -> Sorted {
    Mutex::new(shards.all().iter().map(|_| Vec::new()).collect())
}

/// Takes a client's requests.
pub struct ClientSink {
    number: u64,
    client: Arc<Client>,
    switch: Arc<Switch>,
    own: Own,
    sorted: Sorted,
}

impl ClientSink {
    /// For the lane of this number.
    pub fn new(number: u64, client: Arc<Client>, switch: Arc<Switch>) -> ClientSink {
        let sorted = sorted(&switch.shards);
        ClientSink { number, client, switch, own: Own::new(), sorted }
    }

    /// The lane has started.
    pub fn started(&self, lane: Lane) {
        let first = self.own.lane.set(lane);
        assert!(first.is_ok(), "a lane starts once");
    }

    /// Answers what the listener can answer itself; the rest is sorted by shard.
    fn sort(
        &self,
        id: u64,
        request: Request,
        ring: Option<&RingView>,
        inputs: &mut [Vec<ShardInput>],
    ) -> Option<Response> {
        let partition = match &request {
            Request::Status => return Some(Response::plain(Reply::Status(Box::new(self.switch.board.status())))),
            _ if ring.is_none() => {
                let reason = self.switch.board.not_ready().unwrap_or_else(|| "it is starting".to_owned());
                return Some(Response::error(ApiError::NotReady { reason }));
            }
            Request::Ring => return ring.map(ring_reply),
            Request::Hints(order) => return Some(self.switch.order_hints(*order, ring?)),
            Request::Repair(order) => return Some(self.switch.order_repair(*order, ring?)),
            Request::Tombstones(order) => {
                // The lane is known to the shards' hosts once it is known here.
                self.own.lane();
                let from = ClientRef { lane: self.number, id };
                self.switch.gathering.begin(from, self.switch.shards.all().len());
                self.switch.shards.notify(&ShardInput::Tombstones { from, order: *order });
                return None;
            }
            Request::Get(get) => ring?.partition_of(&get.bucket, &get.key).0,
            Request::Put(put) => ring?.partition_of(&put.header.bucket, &put.header.key).0,
            Request::Where(asked) => ring?.partition_of(&asked.bucket, &asked.key).0,
            Request::Explain(asked) => ring?.partition_of(&asked.bucket, &asked.key).0,
            Request::Scan(scan) => scan.partition,
        };
        let from = ClientRef { lane: self.number, id };
        let arrived = self.switch.clock.time();
        inputs[self.switch.shards.index_of(partition)].push(ShardInput::Client { from, arrived, request });
        None
    }

    /// Room for one more request of this client.
    fn admit(&self) -> bool {
        let before = self.client.inflight.fetch_add(1, Ordering::Relaxed);
        if before >= self.switch.max_inflight {
            self.client.inflight.fetch_sub(1, Ordering::Relaxed);
        }
        before < self.switch.max_inflight
    }
}

/// Whether a frame asks for more than the listener knows by itself.
fn is_data(frame: &RawFrame) -> bool {
    !matches!(Kind::of(frame.kind), Some(Kind::Ring | Kind::Status | Kind::Hints | Kind::Repair) | None)
}

fn ring_reply(view: &RingView) -> Response {
    let reply = RingReply { cluster: view.cluster(), version: view.version() };
    Response::of(Ok(Reply::Ring(reply)), vec![view.layout().encode().into()])
}

impl FrameSink for ClientSink {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        if self.own.is_refused() {
            return;
        }
        let Switch { clock, shards, lanes, board, memory, .. } = &*self.switch;
        let pressure = memory.pressure();
        let ring = board.ring();
        let mut replies = Vec::new();
        let mut reply = |id, response: &Response| replies.push(encode_response(id, clock.time().as_micros(), response));
        let mut overloaded = 0;
        let mut inputs = self.sorted.lock().expect("a panic ends the process before the lock is met again");
        for frame in frames.drain(..) {
            let id = frame.id;
            if pressure == Pressure::Over && is_data(&frame) {
                overloaded += 1;
                reply(id, &Response::error(ApiError::Overloaded));
                continue;
            }
            let request = match decode_client_request(frame) {
                Ok(request) => request,
                Err(err) => {
                    self.own.refuse(&err, &lanes.counters);
                    break;
                }
            };
            if !self.admit() {
                overloaded += 1;
                reply(id, &Response::error(ApiError::Overloaded));
            } else if let Some(response) = self.sort(id, request, ring.as_deref(), &mut inputs) {
                self.client.inflight.fetch_sub(1, Ordering::Relaxed);
                reply(id, &response);
            }
        }
        // the lane is known to the shards' hosts once it is known here
        self.own.lane();
        for (shard, inputs) in shards.all().iter().zip(inputs.iter_mut()).filter(|(_, inputs)| !inputs.is_empty()) {
            shard.inbox.push_requests(inputs, pressure);
            for refused in inputs.drain(..) {
                if let ShardInput::Client { from, .. } = refused {
                    overloaded += 1;
                    self.client.inflight.fetch_sub(1, Ordering::Relaxed);
                    reply(from.id, &Response::error(ApiError::Overloaded));
                }
            }
        }
        drop(inputs);
        LaneCounters::add(&lanes.counters.overloaded_clients, overloaded);
        self.own.reply(replies);
    }

    fn on_closed(&self, reason: &LaneClosed) {
        debug!(client = %self.client.link.identity(), %reason, "client's lane closed");
        self.own.lane();
        self.switch.lanes.remove(self.number);
    }
}

/// Takes a peer's requests, on a lane that the peer has opened.
pub struct PeerSink {
    number: u64,
    peer: NodeRun,
    switch: Arc<Switch>,
    own: Own,
    sorted: Sorted,
}

impl PeerSink {
    /// For the lane of this number, of this peer.
    pub fn new(number: u64, peer: NodeRun, switch: Arc<Switch>) -> PeerSink {
        let sorted = sorted(&switch.shards);
        PeerSink { number, peer, switch, own: Own::new(), sorted }
    }

    /// The lane has started.
    pub fn started(&self, lane: Lane) {
        let first = self.own.lane.set(lane);
        assert!(first.is_ok(), "a lane starts once");
    }
}

impl FrameSink for PeerSink {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        if self.own.is_refused() {
            return;
        }
        let Switch { shards, lanes, board, memory, .. } = &*self.switch;
        let pressure = memory.pressure();
        let is_born = board.ring().is_some();
        let mut replies = Vec::new();
        let mut overloaded = 0;
        let mut inputs = self.sorted.lock().expect("a panic ends the process before the lock is met again");
        for frame in frames.drain(..) {
            let from = PeerRef { node: self.peer.node, lane: self.number, id: frame.id };
            let generation = self.peer.generation;
            match decode_request(frame) {
                Ok(request) if is_born => {
                    let shard = shards.index_of(request.partition());
                    let arrived = request.is_traced().then(|| self.switch.clock.time());
                    inputs[shard].push(ShardInput::Peer { from, generation, arrived, request });
                }
                Ok(request) => replies.push(encode_answer(from.id, &request.refuse(Refusal::NotReady))),
                Err(err) => {
                    self.own.refuse(&err, &lanes.counters);
                    break;
                }
            }
        }
        self.own.lane();
        for (shard, inputs) in shards.all().iter().zip(inputs.iter_mut()).filter(|(_, inputs)| !inputs.is_empty()) {
            shard.inbox.push_requests(inputs, pressure);
            for refused in inputs.drain(..) {
                if let ShardInput::Peer { from, request, .. } = refused {
                    overloaded += 1;
                    replies.push(encode_answer(from.id, &request.refuse(Refusal::Overloaded)));
                }
            }
        }
        drop(inputs);
        LaneCounters::add(&lanes.counters.overloaded_peers, overloaded);
        self.own.reply(replies);
    }

    fn on_closed(&self, reason: &LaneClosed) {
        debug!(node = %self.peer.node, %reason, "peer's lane closed");
        self.own.lane();
        self.switch.lanes.remove(self.number);
    }
}

/// Takes the answers to one shard's requests, on a lane that this node has opened.
pub struct AnswerSink {
    peer: NodeRun,
    shard: u16,
    link: Link,
    switch: Arc<Switch>,
    own: Own,
    /// Kept for the next wake.
    inputs: Mutex<Vec<ShardInput>>,
}

impl AnswerSink {
    /// For a lane of this shard to this peer.
    pub fn new(peer: NodeRun, shard: u16, link: Link, switch: Arc<Switch>) -> AnswerSink {
        AnswerSink { peer, shard, link, switch, own: Own::new(), inputs: Mutex::default() }
    }

    /// The lane has started.
    pub fn started(&self, lane: Lane) {
        let first = self.own.lane.set(lane);
        assert!(first.is_ok(), "a lane starts once");
    }
}

impl FrameSink for AnswerSink {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        if self.own.is_refused() {
            return;
        }
        let mut inputs = self.inputs.lock().expect("a panic ends the process before the lock is met again");
        for frame in frames.drain(..) {
            let id = frame.id;
            match decode_answer(frame) {
                Ok(answer) => inputs.push(ShardInput::Answer { from: self.peer, id, answer }),
                Err(err) => {
                    self.own.refuse(&err, &self.switch.lanes.counters);
                    break;
                }
            }
        }
        if !inputs.is_empty() {
            self.switch.shards.all()[usize::from(self.shard)].inbox.push_answers(&mut inputs);
        }
    }

    fn on_closed(&self, reason: &LaneClosed) {
        // a peer without one of its lanes is half reachable: a new link has them all
        self.link.close(CLOSE_BROKEN, "one of the link's lanes has ended");
        debug!(node = %self.peer.node, shard = self.shard, %reason, "lane to a peer closed");
    }
}

/// Takes a peer's control messages.
pub struct ControlSink {
    id: LinkId,
    link: Link,
    events: mpsc::Sender<ControlEvent>,
    switch: Arc<Switch>,
    own: Own,
}

impl ControlSink {
    /// For the control lane of a link.
    pub fn new(id: LinkId, link: Link, events: mpsc::Sender<ControlEvent>, switch: Arc<Switch>) -> ControlSink {
        ControlSink { id, link, events, switch, own: Own::new() }
    }

    /// The lane has started, and control knows of the link.
    pub fn started(&self, lane: Lane) {
        let first = self.own.lane.set(lane);
        assert!(first.is_ok(), "a lane starts once");
    }
}

impl FrameSink for ControlSink {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        // control hears of the link before it hears on it
        self.own.lane();
        if self.own.is_refused() {
            return;
        }
        for frame in frames.drain(..) {
            match decode_control(&frame) {
                Ok(message) => {
                    let event = ControlEvent::Message { link: self.id, id: frame.id, message };
                    if self.events.try_send(event).is_err() {
                        // gossip repeats itself, a handshake begins again with the next link
                        warn!(link = self.id.0, "control is overloaded, its lane is closed");
                        self.own.lane().close();
                    }
                }
                Err(err) => return self.own.refuse(&err, &self.switch.lanes.counters),
            }
        }
    }

    fn on_closed(&self, reason: &LaneClosed) {
        // A link without control would stand, and be taken for a way to the peer. Closed here, and not by way of control's
        // queue, which may be full.
        self.link.close(CLOSE_BROKEN, "the control lane has ended");
        debug!(link = self.id.0, %reason, "control lane closed");
    }
}
