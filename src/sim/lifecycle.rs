//! What befalls a world: processes that come and go, disks that lose, links that are cut.

use std::time::Duration;

use super::coverage::Mark;
use super::disk::Disk;
use super::network::Link;
use super::schedule::Shape;
use super::trace::Happening;
use super::wire::SILENCE;
use super::world::{Event, Loss, World};
use crate::node::{Core, LinkId, ShardInput};
use crate::storage::Crash;
use crate::types::NodeId;

/// How long after a process's end its peers hear of it, in microseconds.
const RESET_US: u64 = 1000;

impl<D: Disk> World<D> {
    /// Starts a node's process.
    ///
    /// # Panics
    /// If it runs.
    pub fn start(&mut self, node: usize) {
        self.unrest.change(self.now);
        self.nodes[node].start(&mut self.rng);
        let run = self.nodes[node].run;
        let line = |why: &Option<String>| match why {
            None => format!("n{} starts", node + 1),
            Some(why) => format!("n{} cannot start: {why}", node + 1),
        };
        self.trace.announce(self.now, || line(&self.nodes[node].start_error));
        if self.nodes[node].process.is_none() {
            // The process that could not start is gone too: the next one opens the disk anew.
            self.nodes[node].disk.kill();
            return;
        }
        self.witness.started(node);
        self.coverage.add(Mark::TrustLost, u64::from(self.nodes[node].trust_lost));
        self.trace.event(self.now, Happening::Start, node, &[]);
        self.schedule(0, Event::ControlTimer { node, run });
        self.schedule(500, Event::Dial { node, run });
    }

    /// The process is gone, and with it its connections; its disk is left as it is.
    pub fn end(&mut self, node: usize) {
        self.unrest.change(self.now);
        self.trace.event(self.now, Happening::End, node, &[]);
        let run = self.nodes[node].run;
        self.note_end(node);
        self.check_trees(node);
        self.check_tombstones(node);
        let gone = &mut self.nodes[node];
        gone.process = None;
        gone.die_after = None;
        gone.dies_by_power = false;
        gone.paused = None;
        let ends = |link: &Link| link.dialer == node || link.acceptor == node;
        let links: Vec<LinkId> = self.network.links.iter().filter(|(_, link)| ends(link)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.schedule(RESET_US, Event::LinkDown { link }));
        self.held.retain(|read| read.node != node);
        self.clients_lose(node, run);
    }

    /// What the process had counted goes with it.
    pub(super) fn note_end(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let counters: Vec<_> = process.cores().map(Core::counters).collect();
        for counters in counters {
            self.coverage.add(Mark::Cached, counters.found.hits);
            self.coverage.add(Mark::Hollow, counters.found.hollow);
            self.coverage.add(Mark::Forwarded, counters.puts_forwarded);
            self.coverage.add(Mark::LeftAlone, counters.breaker_openings);
            self.coverage.add(Mark::Unowned, counters.puts_unowned);
            self.coverage.add(Mark::RetryKnown, counters.puts_repeated);
            self.coverage.add(Mark::Expired, counters.expired);
            self.coverage.add(Mark::TreeDiffered, counters.trees_differing);
            self.coverage.add(Mark::Exchanged, counters.objects_exchanged);
            self.coverage.add(Mark::RotWiped, counters.records_wiped);
            self.coverage.add(Mark::StretchWiped, counters.stretches_wiped);
            self.coverage.add(Mark::Hedged, counters.hedges_sent);
            self.coverage.add(Mark::DigestMatched, counters.digest_hits);
            self.coverage.add(Mark::ReadRepaired, counters.repairs_sent);
            self.coverage.add(Mark::StandInRead, counters.stand_in_reads);
            self.coverage.add(Mark::GetUnavailable, counters.gets_unavailable);
            self.coverage.add(Mark::StandInCalled, counters.stand_ins_called);
            self.coverage.add(Mark::PutUnavailable, counters.puts_unavailable);
        }
    }

    /// kill -9.
    pub fn kill(&mut self, node: usize) {
        let waiting = self.nodes[node].process.is_some() && self.count(node, |counters| counters.in_flight) > 0;
        self.coverage.add(Mark::Killed, u64::from(waiting));
        self.end(node);
        let crash = self.nodes[node].disk.kill();
        self.trace.announce(self.now, || format!("n{} is killed", node + 1));
        self.note_crash(crash);
    }

    /// The power fails.
    pub fn power_loss(&mut self, node: usize) {
        self.end(node);
        let crash = self.losing(node, |world| world.nodes[node].disk.power_loss(&mut world.rng));
        self.nodes[node].survived = None;
        if crash.lost > 0 {
            self.note_loss(node, false);
        }
        self.trace.announce(self.now, || format!("n{} loses power and {} batches", node + 1, crash.lost));
        self.coverage.add(Mark::PowerTook, u64::from(crash.lost > 0));
        self.note_crash(crash);
    }

    fn note_crash(&mut self, crash: Crash) {
        self.coverage.add(Mark::FailedSurfaced, u64::from(crash.surfaced));
        self.coverage.add(Mark::TornTail, u64::from(crash.kept > 0 && crash.lost > 0));
    }

    /// An ordered stop: nothing new is taken, what is under way is answered, the directory is marked.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self, node: usize) {
        self.drain(node);
        while !self.nodes[node].process().cores().all(Core::is_idle) {
            let end = self.now + Duration::from_millis(10);
            while self.step(end) {}
            self.now = end;
        }
        self.nodes[node].mark_clean();
        self.kill(node);
    }

    /// Tells a running node to take no more requests.
    pub fn drain(&mut self, node: usize) {
        let run = self.nodes[node].run;
        for shard in 0..self.nodes[node].process().lanes.len() {
            self.schedule(0, Event::Input { node, run, shard, input: ShardInput::Drain });
        }
    }

    /// A new, empty disk.
    pub fn wipe(&mut self, node: usize) {
        self.end(node);
        self.losing(node, |world| world.nodes[node].disk.wipe());
        self.witness.replaced(node);
        self.lose_disk(node);
        self.trace.announce(self.now, || format!("n{}'s disk is wiped", node + 1));
    }

    /// The disk as it was at the last backup; false if there is none.
    pub fn restore(&mut self, node: usize) -> bool {
        self.end(node);
        let restored = self.losing(node, |world| world.nodes[node].disk.restore());
        if restored {
            self.lose_disk(node);
            self.trace.announce(self.now, || format!("n{} gets an old copy of its disk", node + 1));
        }
        restored
    }

    /// A node's opinion of another has changed.
    pub(super) fn note_verdict(&mut self, by: usize, about: NodeId, convicted: bool) {
        if !convicted {
            self.coverage.hit(Mark::Acquitted);
            return;
        }
        self.coverage.hit(Mark::Convicted);
        let runs = |node: usize| self.nodes[node].process.is_some() && self.nodes[node].paused.is_none();
        let lives = |node: &usize| runs(*node) && !self.network.is_cut(by, *node);
        let lives = self.ids.get(&about).is_some_and(lives);
        self.coverage.add(Mark::FalselyConvicted, u64::from(lives));
    }

    fn lose_disk(&mut self, node: usize) {
        self.nodes[node].survived = None;
        self.note_loss(node, true);
    }

    fn note_loss(&mut self, node: usize, all: bool) {
        let loss = Loss { node, all, at: self.now };
        self.losses.push(loss);
        self.fresh_losses.push(loss);
    }

    /// The process stands still.
    pub fn pause(&mut self, node: usize) {
        if self.nodes[node].process.is_none() || self.nodes[node].paused.is_some() {
            return;
        }
        self.nodes[node].paused = Some(Vec::new());
        self.trace.announce(self.now, || format!("n{} stands still", node + 1));
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.schedule(silence_us(), Event::Silence { a: node, b: other });
        }
    }

    /// And goes on, with all that has come for it meanwhile.
    pub fn resume(&mut self, node: usize) {
        let Some(waiting) = self.nodes[node].paused.take() else { return };
        self.trace.announce(self.now, || format!("n{} goes on", node + 1));
        for event in waiting {
            self.schedule_in_order(0, event);
        }
    }

    /// Nothing passes from one to the other.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.cut_as(from, to, Shape::OneWay);
    }

    pub(super) fn cut_as(&mut self, from: usize, to: usize, shape: Shape) {
        self.network.block(from, to, shape);
        self.schedule(silence_us(), Event::Silence { a: from, b: to });
    }

    /// Nothing passes between the two.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// A node is alone.
    pub fn isolate(&mut self, node: usize) {
        (0..self.nodes.len()).filter(|other| *other != node).for_each(|other| self.cut(node, other));
    }

    /// Everybody hears everybody.
    pub fn mend(&mut self) {
        self.network.mend();
    }

    /// A held read comes back.
    ///
    /// # Panics
    /// If there is none of this index.
    pub fn release_read(&mut self, index: usize) {
        let super::world::HeldRead { node, run, shard, input } = self.held.remove(index);
        self.schedule(0, Event::Input { node, run, shard, input });
    }

    /// All of them.
    pub fn release_reads(&mut self) {
        while !self.held.is_empty() {
            self.release_read(0);
        }
    }
}

fn silence_us() -> u64 {
    u64::try_from(SILENCE.as_micros()).expect("a few seconds")
}
