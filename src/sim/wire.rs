//! Frames and links: what the daemon does with sockets.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use super::coverage::Mark;
use super::disk::Disk;
use super::network::{Lane, Link, from_bytes, to_bytes};
use super::trace::{Happening, Topic, names_of, node_name, node_of};
use super::world::{DIRECT, Event, World};
use crate::api::{ApiError, Response};
use crate::frame::codec;
use crate::frame::kind::Kind;
use crate::frame::raw::RawFrame;
use crate::message::{Found, PeerAnswer, PeerRequest, Reason, Refusal};
use crate::node::{ClientRef, ControlInput, LinkId, Output, PeerRef, ShardInput, request_slot};
use crate::ring::Slot;
use crate::storage::Record;
use crate::types::{NodeId, NodeRun, Time};

/// How long a link may be silent.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// The slot whose replicates are withheld, so that the two others have to be enough.
const LAST_SLOT: Slot = Slot(2);
/// Between two attempts at sending what a cut has held up, in microseconds.
const RETRANSMIT_US: u64 = 50_000;

impl<D: Disk> World<D> {
    pub(super) fn carry(&mut self, node: usize, shard: usize, output: Output) {
        match output {
            Output::Request { node: to, id, request } => self.carry_request(node, shard, to, id, &request),
            Output::Answer { to, answer } => {
                let (link, lane) = (LinkId(to.lane >> 8), (to.lane & 0xff) as u16);
                self.note_answer(node, to, lane, &answer);
                self.witness.promises.on_answer(&to);
                self.transmit(link, true, Lane::Shard(lane), &codec::encode_answer(to.id, &answer));
            }
            Output::Respond { to, response } => self.carry_response(node, to, &response),
        }
    }

    fn carry_response(&mut self, node: usize, to: ClientRef, response: &Response) {
        let tick = self.clock(node).time.as_micros();
        let bytes = to_bytes(&codec::encode_response(to.id, tick, response));
        if to.lane == DIRECT {
            let response = codec::decode_response(from_bytes(bytes)).expect("what was encoded is decoded").1;
            let asked = self.answers.get_mut(&to.id).expect("only what was asked is answered");
            asked.answers.push((self.now, response));
        } else {
            self.respond(node, to.id, response, bytes);
        }
    }

    /// As the daemon's listeners do while no ring is known.
    pub(super) fn respond_not_ready(&mut self, node: usize, to: ClientRef) {
        let reason = "it does not know the ring yet".to_owned();
        self.carry_response(node, to, &Response::error(ApiError::NotReady { reason }));
    }

    fn carry_request(&mut self, node: usize, shard: usize, to: NodeId, id: u64, request: &PeerRequest) {
        let shard = u16::try_from(shard).expect("a node has at most 256 shards");
        if let PeerRequest::Replicate(replicate) = request {
            self.witness.saw_object(self.now, replicate.to.key.as_bytes(), &replicate.object);
            let name = String::from_utf8_lossy(replicate.to.key.as_bytes());
            if replicate.reason == Reason::Write && !self.primaries(&name).contains(&node) {
                let run = self.nodes[node].run;
                self.witness.slotless(&replicate.to.key, (node, run, shard, id >> 8));
            }
            let last = request_slot(id) == LAST_SLOT;
            if self.withhold > 0.0 && last && self.rng.random_bool(self.withhold) {
                self.coverage.hit(Mark::ReplicateWithheld);
                return;
            }
        }
        if self.trace.is_on() {
            self.note_request(node, shard, to, id, request);
        }
        let Some((link, _)) = self.nodes[node].process().routes.get(&to).copied() else { return };
        self.transmit(link, false, Lane::Shard(shard), &codec::encode_request(id, request));
    }

    fn note_request(&mut self, node: usize, shard: u16, to: NodeId, id: u64, request: &PeerRequest) {
        let (key, what) = match request {
            PeerRequest::Replicate(replicate) => (&replicate.to.key, names_of(Some(&replicate.object))),
            PeerRequest::Fetch(fetch) => (&fetch.of.key, String::new()),
            PeerRequest::Coordinate(coordinate) => {
                (&coordinate.put.header.key, coordinate.put.header.write_id.0.to_string())
            }
            PeerRequest::Range(_) | PeerRequest::Exchange(_) | PeerRequest::Reaping(_) | PeerRequest::Rounds(_) => {
                return;
            }
        };
        let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
        let topic = Topic { key: key.clone(), what: what.clone() };
        let first = self.trace.ask((node, shard, id), topic);
        match request {
            PeerRequest::Replicate(_) if first => {
                self.trace.say(self.now, &key, || format!("{} has written, and sends {what}", node_name(node)));
            }
            PeerRequest::Coordinate(_) => {
                let to = node_of(&self.ids, to);
                self.trace.say(self.now, &key, || format!("{} hands put {what} on to {to}", node_name(node)));
            }
            _ => {}
        }
    }

    fn note_answer(&mut self, node: usize, to: PeerRef, shard: u16, answer: &PeerAnswer) {
        match answer {
            PeerAnswer::Replicated(replicated) => {
                let is_refused = replicated.outcome == Err(Refusal::ReadOnly);
                self.coverage.add(Mark::ReadOnlyRefused, u64::from(is_refused));
            }
            PeerAnswer::Fetched(fetched) => {
                let is_rebuilding = fetched.outcome.as_ref().is_ok_and(|held| held.rebuilding);
                self.coverage.add(Mark::RebuildingHeard, u64::from(is_rebuilding));
            }
            _ => {}
        }
        if !self.trace.is_on() {
            return;
        }
        let asker = self.ids.get(&to.node).copied();
        let Some(topic) = asker.and_then(|asker| self.trace.topic((asker, shard, to.id)).cloned()) else { return };
        let (me, asker) = (node_name(node), node_of(&self.ids, to.node));
        let line = match answer {
            PeerAnswer::Replicated(replicated) => match &replicated.outcome {
                Ok(synced) => {
                    let holds = self.holding(node, &topic.key);
                    let how = if *synced { "synced" } else { "not synced" };
                    format!("{me} has merged {} from {asker} and holds {holds}, {how}", topic.what)
                }
                Err(refusal) => format!("{me} refuses {} from {asker}: {refusal}", topic.what),
            },
            PeerAnswer::Fetched(fetched) => match &fetched.outcome {
                Ok(held) => match &held.found {
                    Found::Nothing => format!("{me} tells {asker} that it holds nothing"),
                    Found::Same(_) => format!("{me} tells {asker} that it holds the same"),
                    Found::Object(object) => format!("{me} tells {asker} that it holds {}", names_of(Some(object))),
                },
                Err(refusal) => format!("{me} does not tell {asker}: {refusal}"),
            },
            PeerAnswer::Coordinated(_) => format!("{me} answers {asker} about put {}", topic.what),
            PeerAnswer::Ranged(_) | PeerAnswer::Exchange(_) | PeerAnswer::Reaping(_) | PeerAnswer::Rounds(_) => return,
        };
        self.trace.say(self.now, &topic.key, || line);
    }

    /// What a node's disk holds of a key of the default bucket or any other, for people.
    pub(super) fn holding(&self, node: usize, key: &str) -> String {
        match self.place_of(key).and_then(|place| self.nodes[node].disk.peek(&place, false)) {
            None => "nothing".into(),
            Some(bytes) => match Record::decode(bytes) {
                Ok(record) => names_of(Some(&record.object)),
                Err(_) => "a rotten record".into(),
            },
        }
    }

    pub(super) fn transmit(&mut self, link: LinkId, to_dialer: bool, lane: Lane, frame: &RawFrame) {
        let Some(ends) = self.network.links.get(&link).copied() else { return };
        let (from, to, _) = ends.ends(to_dialer);
        let bytes = to_bytes(frame);
        if self.past_the_network == Some(from) {
            self.schedule(0, Event::Frame { link, to_dialer, lane, bytes });
            return;
        }
        // A put is handed on once, and a stream doubles nothing: what a duplicate would do to it cannot come about.
        let repeatable = matches!(lane, Lane::Shard(_)) && frame.kind != Kind::Coordinate as u8;
        let mut fates = self.network.fates((from, to), lane, repeatable, self.now, &mut self.rng, &mut self.coverage);
        if lane == Lane::Control {
            let last = &mut self.network.links.get_mut(&link).expect("it has just been found").last;
            let last = &mut last[usize::from(to_dialer)];
            if let Some(fate) = &mut fates[0] {
                *fate = (*fate).max(Time::from_micros(last.as_micros() + 1));
                *last = *fate;
            }
        } else if fates[0].is_none() && self.trace.is_on() {
            self.note_lost((from, to), to_dialer, lane, frame.id);
        }
        for at in fates.into_iter().flatten() {
            self.schedule_at(at, Event::Frame { link, to_dialer, lane, bytes: bytes.clone() });
        }
    }

    fn note_lost(&mut self, (from, to): (usize, usize), to_dialer: bool, lane: Lane, id: u64) {
        let Lane::Shard(shard) = lane else { return };
        let asker = if to_dialer { to } else { from };
        let Some(topic) = self.trace.topic((asker, shard, id)).cloned() else { return };
        let what = if to_dialer { "an answer" } else { "a request" };
        let line = format!("{what} from {} to {} is lost", node_name(from), node_name(to));
        self.trace.say(self.now, &topic.key, || line);
    }

    pub(super) fn on_frame(&mut self, id: LinkId, to_dialer: bool, lane: Lane, bytes: Bytes) {
        let Some(link) = self.network.links.get(&id).copied() else { return };
        let (from, to, run) = link.ends(to_dialer);
        if !self.runs(to, run) {
            return;
        }
        let waits = self.network.stalled.contains_key(&(id, to_dialer));
        if lane == Lane::Control && (waits || self.network.is_blocked(from, to)) {
            self.stall(id, to_dialer, bytes);
            return;
        }
        if self.network.is_blocked(from, to) {
            self.network.note_cut((from, to), &mut self.coverage);
            return;
        }
        self.receive(id, to_dialer, lane, bytes);
    }

    fn stall(&mut self, link: LinkId, to_dialer: bool, bytes: Bytes) {
        let stalled = self.network.stalled.entry((link, to_dialer)).or_default();
        let first = stalled.is_empty();
        stalled.push_back(bytes);
        if first {
            self.schedule(RETRANSMIT_US, Event::Retransmit { link, to_dialer });
        }
    }

    pub(super) fn on_retransmit(&mut self, link: LinkId, to_dialer: bool) {
        let Some(ends) = self.network.links.get(&link).copied() else {
            self.network.stalled.remove(&(link, to_dialer));
            return;
        };
        let (from, to, _) = ends.ends(to_dialer);
        if self.network.is_blocked(from, to) {
            self.schedule(RETRANSMIT_US, Event::Retransmit { link, to_dialer });
            return;
        }
        for bytes in self.network.stalled.remove(&(link, to_dialer)).unwrap_or_default() {
            self.coverage.hit(Mark::Retransmitted);
            self.receive(link, to_dialer, Lane::Control, bytes);
        }
    }

    /// A frame has come through.
    fn receive(&mut self, id: LinkId, to_dialer: bool, lane: Lane, bytes: Bytes) {
        let Some(link) = self.network.links.get(&id).copied() else { return };
        let (from, to, run) = link.ends(to_dialer);
        if !self.runs(to, run) {
            return;
        }
        if let Some(waiting) = &mut self.nodes[to].paused {
            self.coverage.hit(Mark::EventHeld);
            waiting.push(Event::Frame { link: id, to_dialer, lane, bytes });
            return;
        }
        self.witness.delivered(from);
        self.trace.event(self.now, Happening::Frame, to, &bytes);
        let frame = from_bytes(bytes);
        let process = self.nodes[to].process();
        match (lane, to_dialer) {
            (Lane::Control, _) => {
                let (request, message) = (frame.id, codec::decode_control(&frame).expect("its peer encoded it"));
                self.control(to, ControlInput::Message { link: id, id: request, message });
            }
            (Lane::Shard(shard), true) => {
                let Some((&node, &(_, generation))) = process.routes.iter().find(|(_, route)| route.0 == id) else {
                    return;
                };
                let peer = NodeRun { node, generation };
                let (request, answer) = (frame.id, codec::decode_answer(frame).expect("its peer encoded it"));
                self.input(to, usize::from(shard), ShardInput::Answer { from: peer, id: request, answer });
            }
            (Lane::Shard(shard), false) => {
                let Some(&NodeRun { node, generation }) = process.admitted.get(&id) else { return };
                let from = PeerRef { node, lane: id.0 << 8 | u64::from(shard), id: frame.id };
                let request = codec::decode_request(frame).expect("its peer encoded it");
                self.witness.promises.ask(&from, &request);
                let shard = usize::from(request.partition().0) % process.lanes.len();
                let arrived = request.is_traced().then(|| self.clock(to).time);
                self.input(to, shard, ShardInput::Peer { from, generation, arrived, request });
            }
            (Lane::Client, _) => unreachable!("clients have no links"),
        }
    }

    pub(super) fn dial(&mut self, node: usize, run: u64) {
        let again = 100_000 + self.rng.random_range(0..50_000);
        self.schedule(again, Event::Dial { node, run });
        let dialed = |to| self.network.links.values().any(|link| (link.dialer, link.acceptor) == (node, to));
        let reachable = |to: &usize| {
            self.nodes[*to].process.is_some() && self.nodes[*to].paused.is_none() && !self.network.is_cut(node, *to)
        };
        let dials = &self.nodes[node].process().dials;
        let place = |address: &String| self.nodes.iter().position(|other| other.config.control.address == *address);
        let wanted: Vec<(String, usize)> =
            dials.iter().filter_map(|address| Some((address.clone(), place(address)?))).collect();
        let missing: Vec<_> = wanted.into_iter().filter(|(_, to)| !dialed(*to) && reachable(to)).collect();
        for (address, to) in missing {
            if !self.runs(node, run) || self.nodes[to].process.is_none() {
                continue;
            }
            self.network.next_link += 1;
            let id = LinkId(self.network.next_link);
            let runs = (run, self.nodes[to].run);
            self.network.links.insert(id, Link { dialer: node, acceptor: to, runs, last: [Time::ZERO; 2] });
            let [dialer, acceptor] = [node, to].map(|end| self.nodes[end].config.name.clone());
            self.control(to, ControlInput::LinkUp { link: id, dialed: None, certified: dialer });
            self.control(node, ControlInput::LinkUp { link: id, dialed: Some(address), certified: acceptor });
        }
    }

    pub(super) fn on_link_down(&mut self, id: LinkId) {
        let Some(link) = self.network.links.remove(&id) else { return };
        for (node, run) in [(link.dialer, link.runs.0), (link.acceptor, link.runs.1)] {
            if !self.runs(node, run) {
                continue;
            }
            match &mut self.nodes[node].paused {
                Some(waiting) => waiting.push(Event::LinkEnd { node, run, link: id }),
                None => self.on_link_end(node, id),
            }
        }
    }

    pub(super) fn on_link_end(&mut self, node: usize, link: LinkId) {
        self.nodes[node].process.as_mut().expect("it runs").admitted.remove(&link);
        self.control(node, ControlInput::LinkDown { link });
    }

    /// Between two nodes there may have been silence for too long.
    pub(super) fn on_silence(&mut self, a: usize, b: usize) {
        let still = |node: usize| self.nodes[node].paused.is_some();
        if !(self.network.is_cut(a, b) || still(a) || still(b)) {
            return;
        }
        let between = |link: &Link| [(a, b), (b, a)].contains(&(link.dialer, link.acceptor));
        let links: Vec<LinkId> =
            self.network.links.iter().filter(|(_, link)| between(link)).map(|(id, _)| *id).collect();
        self.coverage.add(Mark::LinkSilent, links.len() as u64);
        links.into_iter().for_each(|link| self.on_link_down(link));
    }
}
