//! Clients: the client library's sessions over lanes of the simulated network.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::RngExt;

use super::coverage::Mark;
use super::disk::Disk;
use super::network::{FIRST_CLIENT, Lane, from_bytes, to_bytes};
use super::trace::{Happening, node_name, node_of};
use super::world::{Event, SESSION, World};
use crate::api::{ApiError, Deadline, Reply, Request, Response};
use crate::client::TickBound;
use crate::client::session::{Attempt, Effect, Input, Loss, Outcome, Patience, Session, Target};
use crate::frame::codec;
use crate::node::{ClientRef, ShardInput};
use crate::types::Time;

/// What reaches, or befalls, a client.
#[derive(Debug)]
pub(super) enum ClientEvent {
    /// A session's timer.
    Timer { call: u64 },
    /// An attempt's request arrives at its node.
    Arrive { attempt: u64, bytes: Bytes },
    /// An answer arrives.
    Answer { attempt: u64, bytes: Bytes },
    /// An attempt's connection is gone.
    Lost { attempt: u64 },
}

/// A request under way.
struct Call {
    client: usize,
    session: Session,
    request: Request,
    /// For people: the key, and what is asked.
    key: String,
    what: String,
    /// When the write that this is an attempt at began.
    since: Time,
    timer: Option<Time>,
}

/// An attempt under way.
struct Open {
    call: u64,
    attempt: Attempt,
    node: usize,
    run: u64,
    arrived: bool,
    answered: bool,
}

/// What a client asks for.
pub(super) struct Asking {
    pub(super) client: usize,
    pub(super) request: Request,
    pub(super) targets: Vec<usize>,
    pub(super) patience: Patience,
    pub(super) key: String,
    pub(super) what: String,
    pub(super) since: Time,
}

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    calls: BTreeMap<u64, Call>,
    open: BTreeMap<u64, Open>,
    /// What each client knows of each process's clock.
    ticks: BTreeMap<(usize, usize), (u64, TickBound)>,
    ended: Vec<(u64, Outcome)>,
    next: u64,
}

impl Clients {
    /// Requests that have ended since the last call.
    pub(super) fn take_ended(&mut self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut self.ended)
    }
}

impl<D: Disk> World<D> {
    /// A client begins a request; its number.
    pub(super) fn call(&mut self, asking: Asking) -> u64 {
        let Asking { client, request, targets, patience, key, what, since } = asking;
        let targets = targets.into_iter().map(|node| Target(u16::try_from(node).expect("few nodes"))).collect();
        let mut session = Session::new(self.now, patience, request.is_write(), targets, self.rng.random());
        let mut effects = Vec::new();
        session.start(self.now, &mut effects);
        self.clients.next += 1;
        let id = self.clients.next;
        self.clients.calls.insert(id, Call { client, session, request, key, what, since, timer: None });
        self.carry_out_session(id, effects);
        id
    }

    fn carry_out_session(&mut self, id: u64, mut effects: Vec<Effect>) {
        let mut next = 0;
        while let Some(effect) = effects.get(next).cloned() {
            next += 1;
            match effect {
                Effect::Ask { attempt, target, .. } => {
                    let sent = self.ask_node(id, attempt, usize::from(target.0));
                    let call = self.clients.calls.get_mut(&id).expect("it has not ended");
                    if sent {
                        call.session.handle(self.now, Input::Sent { attempt }, &mut effects);
                    }
                }
                Effect::Answer(outcome) => {
                    let call = self.clients.calls.remove(&id).expect("a call ends once");
                    self.tell(&call, &outcome);
                    self.clients.ended.push((id, outcome));
                    return;
                }
            }
        }
        let call = self.clients.calls.get_mut(&id).expect("it has not ended");
        let due = call.session.poll_timeout().expect("it has not answered").max(self.now);
        if call.timer.is_none_or(|set| due < set) {
            call.timer = Some(due);
            self.schedule_at(due, Event::Client(ClientEvent::Timer { call: id }));
        }
    }

    /// Sends an attempt's request; false if there is no connection.
    fn ask_node(&mut self, id: u64, attempt: Attempt, node: usize) -> bool {
        let run = self.nodes[node].run;
        self.clients.next += 1;
        let open = self.clients.next;
        self.clients.open.insert(open, Open { call: id, attempt, node, run, arrived: false, answered: false });
        let call = &self.clients.calls[&id];
        let client = call.client;
        let line = format!("c{client} asks {}, attempt {open}: {}", node_name(node), call.what);
        self.trace.say(self.now, &call.key, || line);
        if self.nodes[node].process.is_none() {
            let refused = self.rng.random_range(500..300_000);
            self.schedule(refused, Event::Client(ClientEvent::Lost { attempt: open }));
            return false;
        }
        let ticks = self.clients.ticks.get(&(client, node)).filter(|(of, _)| *of == run);
        let tick = ticks.map_or(0, |(_, bound)| bound.at(self.now));
        let remaining = call.session.server_deadline().since(self.now);
        let request = call.request.with_deadline(Deadline::after(remaining, tick));
        let bytes = to_bytes(&codec::encode_client_request(open, &request));
        if let Some(at) = self.fate_of_client(client, node, true) {
            self.schedule_at(at, Event::Client(ClientEvent::Arrive { attempt: open, bytes }));
        }
        true
    }

    /// When a frame between a client and a node arrives, if it does. A client lives beside one of the nodes.
    fn fate_of_client(&mut self, client: usize, node: usize, to_node: bool) -> Option<Time> {
        let home = client % self.nodes.len();
        let cut = if to_node { (home, node) } else { (node, home) };
        if home != node && self.network.is_blocked(cut.0, cut.1) {
            self.network.note_cut(cut, &mut self.coverage);
            return None;
        }
        let machine = FIRST_CLIENT + client;
        let ends = if to_node { (machine, node) } else { (node, machine) };
        let [fate, _] = self.network.fates(ends, Lane::Client, false, self.now, &mut self.rng, &mut self.coverage);
        fate
    }

    pub(super) fn on_client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Timer { call } => {
                let Some(known) = self.clients.calls.get_mut(&call) else { return };
                known.timer = None;
                self.tell_session(call, Input::Timeout);
            }
            ClientEvent::Arrive { attempt, bytes } => self.on_arrival(attempt, bytes),
            ClientEvent::Answer { attempt, bytes } => self.on_client_answer(attempt, bytes),
            ClientEvent::Lost { attempt } => {
                let Some(open) = self.clients.open.remove(&attempt) else { return };
                let loss = Loss { reason: "the connection is lost".into(), auth: false };
                self.tell_session(open.call, Input::Lost { attempt: open.attempt, loss });
            }
        }
    }

    fn tell_session(&mut self, call: u64, input: Input) {
        let Some(known) = self.clients.calls.get_mut(&call) else { return };
        let mut effects = Vec::new();
        known.session.handle(self.now, input, &mut effects);
        self.carry_out_session(call, effects);
    }

    fn on_arrival(&mut self, attempt: u64, bytes: Bytes) {
        let Some(&Open { node, run, .. }) = self.clients.open.get(&attempt) else { return };
        if !self.runs(node, run) {
            return;
        }
        if let Some(waiting) = &mut self.nodes[node].paused {
            waiting.push(Event::Client(ClientEvent::Arrive { attempt, bytes }));
            return;
        }
        self.clients.open.get_mut(&attempt).expect("it has just been found").arrived = true;
        self.trace.event(self.now, Happening::Request, node, &bytes);
        let request = codec::decode_client_request(from_bytes(bytes)).expect("the client encoded it");
        let from = ClientRef { lane: SESSION, id: attempt };
        let Some(shard) = self.shard_of(node, &request) else {
            self.respond_not_ready(node, from);
            return;
        };
        let arrived = self.clock(node).time;
        self.input(node, shard, ShardInput::Client { from, arrived, request });
    }

    /// A node answers an attempt: `bytes` is the frame.
    pub(super) fn respond(&mut self, node: usize, attempt: u64, response: &Response, bytes: Bytes) {
        match &response.result {
            Err(ApiError::Overloaded) => self.coverage.hit(Mark::Shed),
            Err(ApiError::TooManySiblings { .. }) => self.coverage.hit(Mark::SiblingsRefused),
            Err(ApiError::ReadOnly { .. }) => self.coverage.hit(Mark::ReadOnlyRefused),
            Err(ApiError::Indeterminate { .. }) => self.coverage.hit(Mark::WriteUnconfirmed),
            Err(ApiError::ReadTimeout { .. }) => self.coverage.hit(Mark::ReadUnanswered),
            _ => {}
        }
        let Some(open) = self.clients.open.get_mut(&attempt) else { return };
        let twice = std::mem::replace(&mut open.answered, true);
        if twice {
            self.witness.breach(self.now, "one answer", None, || format!("n{} answers a request twice", node + 1));
        }
        let (call, client) = (open.call, self.clients.calls.get(&open.call).map(|call| call.client));
        if let (Ok(Reply::Put(receipt)), Some(call)) = (&response.result, self.clients.calls.get(&call)) {
            let (request, since) = (call.request.clone(), call.since);
            self.check_receipt(node, &request, receipt, since);
        }
        // A client that waits no longer is still there to be sent to.
        let Some(client) = client else { return };
        if let Some(at) = self.fate_of_client(client, node, false) {
            self.schedule_at(at, Event::Client(ClientEvent::Answer { attempt, bytes }));
        }
    }

    fn on_client_answer(&mut self, attempt: u64, bytes: Bytes) {
        let Some(open) = self.clients.open.get(&attempt) else { return };
        let Some(call) = self.clients.calls.get(&open.call) else { return };
        self.trace.event(self.now, Happening::Answer, FIRST_CLIENT + call.client, &bytes);
        let (tick, response) = codec::decode_response(from_bytes(bytes)).expect("the node encoded it");
        let known = self.clients.ticks.entry((call.client, open.node)).or_default();
        if known.0 != open.run {
            *known = (open.run, TickBound::default());
        }
        known.1.observe(self.now, tick);
        let (call, attempt) = (open.call, open.attempt);
        self.tell_session(call, Input::Answered { attempt, response });
    }

    /// A process has ended: its connections break, sooner or later.
    pub(super) fn clients_lose(&mut self, node: usize, run: u64) {
        let Clients { open, calls, .. } = &mut self.clients;
        let of_it = |open: &Open| (open.node, open.run) == (node, run);
        open.retain(|_, open| !of_it(open) || calls.contains_key(&open.call));
        let lost: Vec<u64> = open.iter().filter(|(_, open)| of_it(open)).map(|(attempt, _)| *attempt).collect();
        for attempt in lost {
            let noticed = self.rng.random_range(500..500_000);
            self.schedule(noticed, Event::Client(ClientEvent::Lost { attempt }));
        }
    }

    /// Attempts that a running process owes an answer.
    pub(super) fn owed(&self) -> Vec<(usize, u64)> {
        let owed = self
            .clients
            .open
            .iter()
            .filter(|(_, open)| open.arrived && !open.answered && self.runs(open.node, open.run));
        owed.map(|(attempt, open)| (open.node, *attempt)).collect()
    }

    fn tell(&mut self, call: &Call, outcome: &Outcome) {
        let (client, ids) = (call.client, &self.ids);
        self.trace.say(self.now, &call.key, || {
            let result = match outcome {
                Outcome::Answered { target, response } => match &response.result {
                    Ok(Reply::Put(receipt)) => {
                        let acks: Vec<_> = receipt.acks.iter().map(|ack| node_of(ids, ack.node)).collect();
                        format!("ok by {}, acknowledged by {}", node_name(target.0.into()), acks.join(" and "))
                    }
                    Ok(Reply::Get(reply)) => {
                        let names: Vec<_> = reply.siblings.iter().map(|meta| meta.write_id.0.to_string()).collect();
                        format!("{{{}}} by {}", names.join(", "), node_name(target.0.into()))
                    }
                    other => format!("{other:?}"),
                },
                Outcome::Refused { target, error } => format!("{error} ({})", node_name(target.0.into())),
                Outcome::NoAnswer { .. } => "nothing in time".into(),
                Outcome::Unreachable { .. } => "that nobody can be reached".into(),
            };
            format!("c{client} is told about \"{}\": {result}", call.what)
        });
    }
}
