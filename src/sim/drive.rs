//! What the daemon's driver does: carries inputs to the machines and effects away from them, in their order.

use std::time::Duration;

use rand::RngExt;

use super::coverage::Mark;
use super::disk::Disk;
use super::host::{Begun, DrainHost, Step, Syncs};
use super::network::Lane;
use super::trace::{Happening, node_name};
use super::world::{Event, HeldRead, Reads, World};
use crate::api::{ApiError, Response};
use crate::gossip::Verdict;
use crate::message::Refusal;
use crate::node::{ColdRead, ControlEffects, ControlInput, Output, Pressure, Route, ShardInput};
use crate::storage::{Batch, Engine, Family, StorageError, parse_object_key};
use crate::types::Time;

/// What a drain has done, as far as it matters to when its outputs leave.
struct Drained {
    /// It has written a batch.
    wrote: bool,
    /// It has waited for a sync.
    waited: bool,
    /// The process has died in it.
    dead: bool,
}

impl<D: Disk> World<D> {
    /// Something happens; what is meant for a process that is gone does not.
    pub(super) fn on_event(&mut self, event: Event) {
        if event.process().is_some_and(|(node, run)| !self.runs(node, run)) {
            return;
        }
        match event {
            Event::Frame { link, to_dialer, lane, bytes } => self.on_frame(link, to_dialer, lane, bytes),
            Event::Retransmit { link, to_dialer } => self.on_retransmit(link, to_dialer),
            Event::LinkDown { link } => self.on_link_down(link),
            Event::Silence { a, b } => self.on_silence(a, b),
            Event::LinkEnd { node, link, .. } => self.on_link_end(node, link),
            Event::Dial { node, run } => self.dial(node, run),
            Event::ControlTimer { node, run } => self.on_control_timer(node, run),
            Event::ShardTimer { node, shard, .. } => self.on_shard_timer(node, shard),
            Event::Drain { node, shard, .. } => self.drain_shard(node, shard),
            Event::Release { node, shard, outputs, .. } => {
                outputs.into_iter().for_each(|output| self.carry(node, shard, output));
            }
            Event::SyncEnd { node, shard, .. } => self.end_sync(node, shard),
            Event::Input { node, shard, input, .. } => self.input(node, shard, input),
            Event::Client(event) => self.on_client_event(event),
        }
    }

    pub(super) fn runs(&self, node: usize, run: u64) -> bool {
        self.nodes[node].run == run && self.nodes[node].process.is_some()
    }

    /// Queues an input of a running node's shard, and wakes the shard.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn input(&mut self, node: usize, shard: usize, input: ShardInput) {
        let process = self.nodes[node].process.as_mut().expect("inputs go to running nodes");
        let inbox = &mut process.lanes[shard].inbox;
        let mut inputs = Vec::new();
        match input {
            input @ (ShardInput::Client { .. } | ShardInput::Peer { .. }) => {
                inputs.push(input);
                inbox.push_requests(&mut inputs, Pressure::Low);
            }
            input @ ShardInput::Answer { .. } => {
                inputs.push(input);
                inbox.push_answers(&mut inputs);
                self.coverage.add(Mark::AnswerDropped, inputs.len() as u64);
                inputs.clear();
            }
            input => inbox.push_notice(input),
        }
        self.wake(node, shard);
        inputs.into_iter().for_each(|refused| self.hand_back(node, shard, refused));
    }

    /// A request for which there is no room is refused at once.
    fn hand_back(&mut self, node: usize, shard: usize, refused: ShardInput) {
        self.coverage.hit(Mark::Shed);
        let output = match refused {
            ShardInput::Client { from, .. } => {
                Output::Respond { to: from, response: Response::error(ApiError::Overloaded) }
            }
            ShardInput::Peer { from, request, .. } => {
                Output::Answer { to: from, answer: request.refuse(Refusal::Overloaded) }
            }
            _ => unreachable!("only requests are handed back"),
        };
        self.carry(node, shard, output);
    }

    /// Sees to it that a shard takes what is queued.
    fn wake(&mut self, node: usize, shard: usize) {
        let (now, run, drag) = (self.now, self.nodes[node].run, self.nodes[node].pace.node_drag);
        let lane = &mut self.nodes[node].process.as_mut().expect("a running node wakes").lanes[shard];
        if !std::mem::replace(&mut lane.woken, true) {
            let busy = u64::try_from(lane.busy.since(now).as_micros()).expect("a drain takes seconds at most");
            let delay = busy + self.rng.random_range(0..=30 + drag);
            self.coverage.add(Mark::NodeSlow, u64::from(drag > 0));
            self.schedule(delay, Event::Drain { node, run, shard });
        }
    }

    pub(super) fn input_all(&mut self, node: usize, input: &ShardInput) {
        (0..self.nodes[node].process().lanes.len()).for_each(|shard| self.input(node, shard, input.clone()));
    }

    fn on_shard_timer(&mut self, node: usize, shard: usize) {
        let now = self.clock(node).time;
        let lane = &mut self.nodes[node].process.as_mut().expect("timers are of running nodes").lanes[shard];
        lane.timer = None;
        if lane.core.poll_timeout().is_some_and(|due| due <= now) {
            lane.inbox.push_notice(ShardInput::Timer);
            self.wake(node, shard);
        } else {
            self.set_timer(node, shard);
        }
    }

    fn drain_shard(&mut self, index: usize, shard: usize) {
        let now = self.clock(index);
        let syncs = self.next_sync(index);
        let node = &mut self.nodes[index];
        let lane = &mut node.process.as_mut().expect("drains are of running nodes").lanes[shard];
        lane.woken = false;
        let mut inputs = Vec::new();
        lane.inbox.take(&mut inputs, node.batch);
        let (taken, left) = (inputs.len(), !lane.inbox.is_empty());
        let mut host = DrainHost::new(now.time, &node.disk, &self.witness.promises, &mut node.survived);
        host.die_after = node.die_after;
        host.sync_failure_ends = node.sync_failure_ends;
        host.syncs = syncs;
        let was_syncing = lane.core.awaits_sync();
        lane.core.drain(now, &mut inputs, &mut host);
        let DrainHost { outputs, reads, steps, dead, write_failed, broken, synced, reaped, waited, begun, .. } = host;
        let amid_sync = was_syncing && lane.core.awaits_sync() && begun.is_none() && steps.contains(&Step::Written);
        self.coverage.add(Mark::WrittenAmidSync, u64::from(amid_sync));
        self.coverage.add(Mark::Reaped, reaped.len() as u64);
        for (key, object) in &reaped {
            self.witness.reaped(key, object);
            let name = parse_object_key(key).expect("nodes store under their own keys").key;
            let name = String::from_utf8_lossy(name);
            self.trace.say(self.now, &name, || format!("{} deletes its tombstone for good", node_name(index)));
        }
        self.fresh_reaps.extend(reaped.into_iter().map(|(key, object)| (self.now, key, object)));
        if let Some(synced) = synced {
            node.process.as_mut().expect("it has just been drained").synced = synced;
        }
        for (to, promise) in broken {
            self.break_promise(index, &to, &promise);
        }
        self.trace.event(self.now, Happening::Drain, index, &[u8::try_from(taken.min(255)).unwrap_or(u8::MAX)]);
        self.leave(index, shard, outputs, &Drained { wrote: steps.contains(&Step::Written), waited, dead });
        if !steps.is_empty() {
            self.nodes[index].steps = steps;
        }
        if dead {
            self.die(index);
            return;
        }
        self.rounds_raised.extend(self.nodes[index].process().lanes[shard].core.rounds().raised());
        reads.into_iter().for_each(|read| self.read(index, shard, read));
        if let Some(begun) = begun {
            self.schedule_sync_end(index, shard, begun);
        }
        if write_failed {
            self.input_all(index, &ShardInput::ReadOnly(Some("a write to its disk has failed".into())));
        }
        if left {
            self.coverage.hit(Mark::TinyBatch);
            self.wake(index, shard);
        }
        self.set_timer(index, shard);
    }

    /// How the disk goes about the next sync of this node's that no drain waits for.
    fn next_sync(&mut self, index: usize) -> Syncs {
        let pace = self.nodes[index].pace;
        if pace.sync + pace.disk_drag == 0 {
            return Syncs::AtOnce;
        }
        // Mostly it takes its time. At once: another's sync has covered it.
        [Syncs::First, Syncs::Last, Syncs::First, Syncs::Last, Syncs::AtOnce][self.rng.random_range(0..5)]
    }

    fn schedule_sync_end(&mut self, node: usize, shard: usize, begun: Begun) {
        let (run, delay) = (self.nodes[node].run, self.sync_takes(node));
        let end = match begun {
            Begun::Done(result) => Event::Input { node, run, shard, input: ShardInput::Synced(result) },
            Begun::Due => Event::SyncEnd { node, run, shard },
        };
        self.schedule(delay, end);
    }

    /// How long a sync takes.
    fn sync_takes(&mut self, node: usize) -> u64 {
        let pace = self.nodes[node].pace;
        let most = pace.sync + pace.disk_drag;
        self.coverage.add(Mark::DiskSlow, u64::from(pace.disk_drag > 0));
        if most > 0 { self.rng.random_range(most / 4..=most) } else { 0 }
    }

    /// The disk has done what a sync asks for.
    fn end_sync(&mut self, index: usize, shard: usize) {
        let node = &mut self.nodes[index];
        let engine = node.disk.engine();
        let (result, latest) = (engine.sync(), engine.latest());
        let dies = match result {
            Ok(()) => {
                node.process.as_mut().expect("events are of running nodes").synced = latest;
                node.steps = vec![Step::Synced];
                node.die_after.is_some()
            }
            Err(StorageError::Stopped { .. }) => false,
            Err(_) => node.sync_failure_ends,
        };
        if dies {
            self.die(index);
        } else {
            self.input(index, shard, ShardInput::Synced(result));
        }
    }

    /// Lets a drain's outputs go: at once, or when the disk has been as slow as it is.
    fn leave(&mut self, node: usize, shard: usize, outputs: [Vec<Output>; 2], drained: &Drained) {
        let (pace, run) = (self.nodes[node].pace, self.nodes[node].run);
        let mut delay = if drained.wrote && pace.release > 0 { self.rng.random_range(0..=pace.release) } else { 0 };
        for (outputs, after_sync) in outputs.into_iter().zip([false, true]) {
            if after_sync && drained.waited {
                delay += self.sync_takes(node);
            }
            if outputs.is_empty() {
                continue;
            }
            // What a dying process has sent is on its way.
            if delay == 0 || drained.dead {
                outputs.into_iter().for_each(|output| self.carry(node, shard, output));
            } else {
                self.schedule_in_order(delay, Event::Release { node, run, shard, outputs });
            }
        }
        let busy = self.now + Duration::from_micros(delay);
        if let Some(process) = &mut self.nodes[node].process {
            process.lanes[shard].busy = busy;
        }
    }

    fn die(&mut self, index: usize) {
        let node = &self.nodes[index];
        let reached = node.die_after.is_some_and(|step| node.steps.last() >= Some(&step));
        self.coverage.add(Mark::DiedWithinDrain, u64::from(reached));
        if node.dies_by_power {
            self.power_loss(index);
        } else {
            self.kill(index);
        }
    }

    fn set_timer(&mut self, node: usize, shard: usize) {
        let (now, run) = (self.now, self.nodes[node].run);
        let lane = &self.nodes[node].process().lanes[shard];
        let Some(due) = lane.core.poll_timeout() else { return };
        let due = self.nodes[node].when(due).max(now);
        if lane.timer.is_none_or(|set| due < set) {
            let process = self.nodes[node].process.as_mut().expect("timers are of running nodes");
            process.lanes[shard].timer = Some(due);
            self.schedule_at(due, Event::ShardTimer { node, run, shard });
        }
    }

    fn read(&mut self, node: usize, shard: usize, read: ColdRead) {
        let run = self.nodes[node].run;
        let input = read.run(&**self.nodes[node].disk.engine());
        self.coverage.add(Mark::Parked, u64::from(!matches!(input, ShardInput::HintsRead { .. })));
        let pace = self.nodes[node].pace;
        let most = match self.reads {
            Reads::Immediate => 0,
            Reads::Within(most) => most,
            Reads::Paced => pace.read + pace.disk_drag,
            Reads::Held => {
                self.held.push(HeldRead { node, run, shard, input });
                return;
            }
        };
        let delay = self.rng.random_range(0..=most);
        self.schedule(delay, Event::Input { node, run, shard, input });
    }

    fn on_control_timer(&mut self, node: usize, run: u64) {
        let synced = self.nodes[node].process().synced;
        self.control(node, ControlInput::Synced(synced));
        if self.runs(node, run) && self.is_rebuilding(node) && self.is_whole(node) {
            self.coverage.hit(Mark::Rebuilt);
            self.control(node, ControlInput::Rebuilt);
        }
        if self.runs(node, run) {
            self.control(node, ControlInput::Timer);
        }
        if self.runs(node, run) {
            let due = self.nodes[node].when(self.nodes[node].process().control.poll_timeout());
            let soonest: Time = self.now + Duration::from_millis(1);
            self.schedule_at(due.max(soonest), Event::ControlTimer { node, run });
        }
    }

    /// Hands something to a node's Control and carries out what comes of it. Nothing, if the node does not run.
    pub fn control(&mut self, index: usize, input: ControlInput) {
        let now = self.clock(index);
        let mut fx = ControlEffects::default();
        let node = &mut self.nodes[index];
        let Some(process) = node.process.as_mut() else { return };
        process.control.handle(now, input, &mut fx);
        if !fx.persist.is_empty() {
            let mut batch = Batch::default();
            fx.persist.iter().for_each(|(key, value)| batch.put(Family::Meta, &key.bytes(), value));
            let engine = node.disk.engine();
            if engine.commit(&mut batch).and_then(|_| engine.sync()).is_err() {
                // Nothing of what rests on the records may take place.
                self.kill(index);
                return;
            }
        }
        self.carry_out(index, fx);
    }

    fn carry_out(&mut self, index: usize, fx: ControlEffects) {
        for (link, id, message) in fx.sends {
            let to_dialer = self.network.links.get(&link).is_some_and(|link| link.acceptor == index);
            let frame = crate::frame::codec::encode_control(id, &message);
            self.transmit(link, to_dialer, Lane::Control, &frame);
        }
        let process = self.nodes[index].process.as_mut().expect("it has just been handled");
        process.admitted.extend(fx.admit);
        if let Some(dials) = fx.dial {
            process.dials = dials;
        }
        for run in fx.met {
            self.input_all(index, &ShardInput::Met(run));
        }
        for route in fx.routes {
            let process = self.nodes[index].process.as_mut().expect("it has just been handled");
            let (node, up) = match route {
                Route::Up { peer, link } => {
                    process.routes.insert(peer.node, (link, peer.generation));
                    (peer.node, true)
                }
                Route::Down { node } => {
                    process.routes.remove(&node);
                    (node, false)
                }
            };
            self.input_all(index, &ShardInput::Link { node, up });
        }
        // The refusal that goes before the close must still arrive.
        let grace = 1000 + self.network.weather.delay.1;
        fx.close.into_iter().for_each(|(link, _)| self.schedule(grace, Event::LinkDown { link }));
        if let Some(ring) = fx.ring {
            self.input_all(index, &ShardInput::Ring(ring));
        }
        if let Some(standing) = fx.standing {
            self.input_all(index, &ShardInput::Standing(standing));
        }
        for Verdict { node, convicted } in fx.verdicts {
            self.note_verdict(index, node, convicted);
            self.input_all(index, &ShardInput::Verdict { node, convicted });
        }
        if let Some(fatal) = fx.fatal {
            self.trace.announce(self.now, || format!("n{} ends itself: {fatal}", index + 1));
            self.nodes[index].fatal = Some(fatal);
            self.kill(index);
        }
    }
}
