//! What the daemon's driver does: carries inputs to the machines and effects away from them, in their order.

use std::time::Duration;

use bytes::Bytes;
use dynkv::frame::codec;
use dynkv::frame::raw::RawFrame;
use dynkv::node::{ClientRef, ControlEffects, ControlInput, LinkId, Output, PeerRef, Route, ShardInput};
use dynkv::storage::{Batch, Engine, Family};
use rand::RngExt;

use crate::host::DrainHost;
use crate::network::{Lane, Link, from_bytes, to_bytes};
use crate::world::{Event, HeldRead, Reads, World};

impl World {
    pub(crate) fn on_event(&mut self, event: Event) {
        match event {
            Event::Frame { link, to_dialer, lane, bytes } => self.on_frame(link, to_dialer, lane, bytes),
            Event::LinkDown { link } => self.on_link_down(link),
            Event::Silence { a, b } => self.on_silence(a, b),
            Event::Dial { node, run } if self.runs(node, run) => self.dial(node, run),
            Event::ControlTimer { node, run } if self.runs(node, run) => self.on_control_timer(node, run),
            Event::ShardTimer { node, run, shard } if self.runs(node, run) => self.on_shard_timer(node, shard),
            Event::Drain { node, run, shard } if self.runs(node, run) => self.drain_shard(node, shard),
            Event::Input { node, run, shard, input } if self.runs(node, run) => self.input(node, shard, input),
            _ => {}
        }
    }

    fn runs(&self, node: usize, run: u64) -> bool {
        self.nodes[node].run == run && self.nodes[node].process.is_some()
    }

    fn input(&mut self, node: usize, shard: usize, input: ShardInput) {
        let run = self.nodes[node].run;
        let process = self.nodes[node].process.as_mut().expect("inputs go to running nodes");
        process.inboxes[shard].push(input);
        if !std::mem::replace(&mut process.woken[shard], true) {
            let delay = self.rng.random_range(0..=30);
            self.schedule(delay, Event::Drain { node, run, shard });
        }
    }

    fn input_all(&mut self, node: usize, input: &ShardInput) {
        (0..self.nodes[node].process().cores.len()).for_each(|shard| self.input(node, shard, input.clone()));
    }

    fn on_shard_timer(&mut self, node: usize, shard: usize) {
        let process = self.nodes[node].process.as_mut().expect("timers are of running nodes");
        process.timers[shard] = None;
        if process.cores[shard].poll_timeout().is_some_and(|due| due <= self.now) {
            process.inboxes[shard].push(ShardInput::Timer);
        }
        self.drain_shard(node, shard);
    }

    fn drain_shard(&mut self, index: usize, shard: usize) {
        let now = self.clock(index);
        let node = &mut self.nodes[index];
        let process = node.process.as_mut().expect("drains are of running nodes");
        process.woken[shard] = false;
        let mut inputs = std::mem::take(&mut process.inboxes[shard]);
        let mut host = DrainHost::new(&node.engine, &mut node.survived);
        host.die_after = node.die_after;
        host.sync_failure_ends = node.sync_failure_ends;
        process.cores[shard].drain(now, &mut inputs, &mut host);
        let DrainHost { outputs, reads, steps, dead, write_failed, .. } = host;
        if steps.contains(&crate::host::Step::Synced) {
            process.synced = node.engine.latest();
        }
        if !steps.is_empty() {
            node.steps = steps;
        }
        outputs.into_iter().for_each(|output| self.carry(index, shard, output));
        if dead {
            if self.nodes[index].dies_by_power {
                self.power_loss(index);
            } else {
                self.kill(index);
            }
            return;
        }
        reads.into_iter().for_each(|read| self.read(index, shard, read));
        if write_failed {
            self.input_all(index, &ShardInput::ReadOnly(Some("a write to its disk has failed".into())));
        }
        self.set_timer(index, shard);
    }

    fn set_timer(&mut self, node: usize, shard: usize) {
        let (now, run) = (self.now, self.nodes[node].run);
        let process = self.nodes[node].process.as_mut().expect("timers are of running nodes");
        let Some(due) = process.cores[shard].poll_timeout() else { return };
        if process.timers[shard].is_none_or(|set| due < set) {
            process.timers[shard] = Some(due);
            let after = u64::try_from(due.since(now).as_micros()).unwrap();
            self.schedule(after, Event::ShardTimer { node, run, shard });
        }
    }

    fn read(&mut self, node: usize, shard: usize, read: dynkv::node::ColdRead) {
        let run = self.nodes[node].run;
        let input = read.run(&*self.nodes[node].engine);
        let delay = match self.reads {
            Reads::Immediate => 0,
            Reads::Within(most) => self.rng.random_range(0..=most),
            Reads::Held => {
                self.held.push(HeldRead { node, run, shard, input });
                return;
            }
        };
        self.schedule(delay, Event::Input { node, run, shard, input });
    }

    fn carry(&mut self, node: usize, shard: usize, output: Output) {
        match output {
            Output::Request { node: to, id, request } => {
                let Some(link) = self.nodes[node].process().routes.get(&to).copied() else { return };
                let lane = Lane::Shard(u16::try_from(shard).unwrap());
                self.transmit(link, false, lane, &codec::encode_request(id, &request));
            }
            Output::Answer { to, answer } => {
                let (link, shard) = (LinkId(to.lane >> 8), (to.lane & 0xff) as u16);
                self.transmit(link, true, Lane::Shard(shard), &codec::encode_answer(to.id, &answer));
            }
            Output::Respond { to: ClientRef { id, .. }, response } => {
                let tick = self.now.as_micros();
                let frame = from_bytes(to_bytes(&codec::encode_response(id, tick, &response)));
                let (now, response) = (self.now, codec::decode_response(frame).unwrap().1);
                let asked = self.answers.get_mut(&id).expect("only what was asked is answered");
                asked.answers.push((now, response));
            }
        }
    }

    fn transmit(&mut self, link: LinkId, to_dialer: bool, lane: Lane, frame: &RawFrame) {
        let Some(Link { dialer, acceptor, .. }) = self.network.links.get(&link).copied() else { return };
        let (from, to) = if to_dialer { (acceptor, dialer) } else { (dialer, acceptor) };
        let bytes: Bytes = to_bytes(frame);
        for delay in self.network.fates(from, to, lane, &mut self.rng) {
            self.schedule(delay, Event::Frame { link, to_dialer, lane, bytes: bytes.clone() });
        }
    }

    fn on_frame(&mut self, id: LinkId, to_dialer: bool, lane: Lane, bytes: Bytes) {
        let Some(link) = self.network.links.get(&id).copied() else { return };
        let (from, to, run) = link.ends(to_dialer);
        if !self.runs(to, run) || self.network.cuts.contains(&(from, to)) {
            return;
        }
        let frame = from_bytes(bytes);
        let process = self.nodes[to].process();
        match (lane, to_dialer) {
            (Lane::Control, _) => {
                let (request, message) = (frame.id, codec::decode_control(&frame).unwrap());
                self.control(to, ControlInput::Message { link: id, id: request, message });
            }
            (Lane::Shard(shard), true) => {
                let Some((&peer, _)) = process.routes.iter().find(|(_, route)| **route == id) else { return };
                let (request, answer) = (frame.id, codec::decode_answer(frame).unwrap());
                self.input(to, usize::from(shard), ShardInput::Answer { from: peer, id: request, answer });
            }
            (Lane::Shard(shard), false) => {
                let Some(&peer) = process.admitted.get(&id) else { return };
                let from = PeerRef { node: peer, lane: id.0 << 8 | u64::from(shard), id: frame.id };
                let request = codec::decode_request(frame).unwrap();
                let shard = usize::from(request.partition().0) % process.cores.len();
                self.input(to, shard, ShardInput::Peer { from, request });
            }
        }
    }

    fn dial(&mut self, node: usize, run: u64) {
        let again = 100_000 + self.rng.random_range(0..50_000);
        self.schedule(again, Event::Dial { node, run });
        for address in self.nodes[node].process().dials.clone() {
            let Some(to) = self.nodes.iter().position(|other| other.config.address == address) else { continue };
            let dialed = self.network.links.values().any(|link| (link.dialer, link.acceptor) == (node, to));
            if dialed || self.nodes[to].process.is_none() || self.network.is_cut(node, to) || !self.runs(node, run) {
                continue;
            }
            self.network.next_link += 1;
            let id = LinkId(self.network.next_link);
            let runs = (run, self.nodes[to].run);
            self.network.links.insert(id, Link { dialer: node, acceptor: to, runs });
            let names = [node, to].map(|end| self.nodes[end].config.name.clone());
            let [dialer, acceptor] = names;
            self.control(to, ControlInput::LinkUp { link: id, dialed: None, certified: dialer });
            self.control(node, ControlInput::LinkUp { link: id, dialed: Some(address), certified: acceptor });
        }
    }

    pub(crate) fn on_link_down(&mut self, id: LinkId) {
        let Some(link) = self.network.links.remove(&id) else { return };
        for (end, run) in [(link.dialer, link.runs.0), (link.acceptor, link.runs.1)] {
            if self.runs(end, run) {
                self.nodes[end].process.as_mut().expect("it runs").admitted.remove(&id);
                self.control(end, ControlInput::LinkDown { link: id });
            }
        }
    }

    fn on_control_timer(&mut self, node: usize, run: u64) {
        let synced = self.nodes[node].process().synced;
        self.control(node, ControlInput::Synced(synced));
        if self.runs(node, run) {
            self.control(node, ControlInput::Timer);
        }
        if self.runs(node, run) {
            let due = self.nodes[node].process().control.poll_timeout();
            let after = due.since(self.now).max(Duration::from_millis(1));
            self.schedule(u64::try_from(after.as_micros()).unwrap(), Event::ControlTimer { node, run });
        }
    }

    pub(crate) fn control(&mut self, index: usize, input: ControlInput) {
        let now = self.clock(index);
        let mut fx = ControlEffects::default();
        let node = &mut self.nodes[index];
        let Some(process) = node.process.as_mut() else { return };
        process.control.handle(now, input, &mut fx);
        if !fx.persist.is_empty() {
            let mut batch = Batch::default();
            fx.persist.iter().for_each(|(key, value)| batch.put(Family::Meta, &key.bytes(), value));
            if node.engine.commit(&mut batch).and_then(|_| node.engine.sync()).is_err() {
                // Nothing of what rests on the records may take place.
                self.kill(index);
                return;
            }
        }
        for (link, id, message) in fx.sends {
            let to_dialer = self.network.links.get(&link).is_some_and(|link| link.acceptor == index);
            self.transmit(link, to_dialer, Lane::Control, &codec::encode_control(id, &message));
        }
        let process = self.nodes[index].process.as_mut().expect("it has just been handled");
        process.admitted.extend(fx.admit);
        if let Some(dials) = fx.dial {
            process.dials = dials;
        }
        for route in fx.routes {
            let process = self.nodes[index].process.as_mut().expect("it has just been handled");
            let (node, up) = match route {
                Route::Up { node, link } => {
                    process.routes.insert(node, link);
                    (node, true)
                }
                Route::Down { node } => {
                    process.routes.remove(&node);
                    (node, false)
                }
            };
            self.input_all(index, &ShardInput::Link { node, up });
        }
        // The refusal that goes before the close must still arrive.
        fx.close.into_iter().for_each(|(link, _)| self.schedule(1000, Event::LinkDown { link }));
        if let Some(ring) = fx.ring {
            self.input_all(index, &ShardInput::Ring(ring));
        }
        if let Some(standing) = fx.standing {
            self.input_all(index, &ShardInput::Standing(standing));
        }
        if let Some(fatal) = fx.fatal {
            self.nodes[index].fatal = Some(fatal);
            self.kill(index);
        }
    }
}
