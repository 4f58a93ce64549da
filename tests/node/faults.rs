//! What befalls a world: processes that come and go, disks that lose, links that are cut.

use std::sync::Arc;
use std::time::Duration;

use dynkv::message::{ControlMessage, GossipSyn};
use dynkv::node::{ControlEffects, ControlInput, LinkId, ShardInput};
use dynkv::storage::{Fault, MemoryConfig, MemoryEngine};

use crate::host::Step;
use crate::world::{Event, World};

/// How long a link may be silent.
const SILENCE: Duration = Duration::from_secs(3);

impl World {
    /// Starts a node's process.
    pub fn start(&mut self, node: usize) {
        self.nodes[node].start(&mut self.rng);
        if self.nodes[node].process.is_none() {
            return;
        }
        let run = self.nodes[node].run;
        self.schedule(0, Event::ControlTimer { node, run });
        self.schedule(500, Event::Dial { node, run });
    }

    /// The process is gone, and with it its connections.
    pub fn end(&mut self, node: usize) {
        self.nodes[node].process = None;
        self.nodes[node].die_after = None;
        self.nodes[node].dies_by_power = false;
        let ends = |link: &crate::network::Link| link.dialer == node || link.acceptor == node;
        let links: Vec<LinkId> = self.network.links.iter().filter(|(_, link)| ends(link)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.schedule(1000, Event::LinkDown { link }));
        self.held.retain(|read| read.node != node);
    }

    /// kill -9.
    pub fn kill(&mut self, node: usize) {
        self.end(node);
        self.nodes[node].engine.kill();
    }

    pub fn power_loss(&mut self, node: usize) {
        self.end(node);
        self.nodes[node].engine.power_loss(&mut self.rng);
        self.nodes[node].survived = None;
    }

    /// The power fails between the release of the next drain's replicates and its sync.
    pub fn die_with_replicates_out(&mut self, node: usize) {
        self.nodes[node].die_after = Some(Step::Released);
        self.nodes[node].dies_by_power = true;
        self.run_for(Duration::from_millis(5));
        if self.nodes[node].process.is_some() {
            self.power_loss(node);
        }
    }

    /// An ordered stop: nothing new is taken, what is under way is answered, the directory is marked.
    pub fn stop(&mut self, node: usize) {
        self.drain(node);
        while !self.nodes[node].process().cores.iter().all(dynkv::node::Core::is_idle) {
            let end = self.now + Duration::from_millis(10);
            while self.step(end) {}
            self.now = end;
        }
        self.nodes[node].mark_clean();
        self.kill(node);
    }

    /// Tells a node to take no more requests.
    pub fn drain(&mut self, node: usize) {
        let run = self.nodes[node].run;
        for shard in 0..self.nodes[node].process().cores.len() {
            self.schedule(0, Event::Input { node, run, shard, input: ShardInput::Drain });
        }
    }

    /// A new, empty disk.
    pub fn wipe(&mut self, node: usize) {
        self.end(node);
        let memory = self.nodes[node].memory;
        self.nodes[node].engine = Arc::new(MemoryEngine::new(MemoryConfig { seed: memory.seed + 7, ..memory }));
        self.nodes[node].survived = None;
    }

    /// Puts `disk` in a node that does not run.
    pub fn swap_disk(&mut self, node: usize, disk: MemoryEngine) {
        assert!(self.nodes[node].process.is_none());
        self.nodes[node].engine = Arc::new(disk);
        self.nodes[node].survived = None;
    }

    pub fn arm(&mut self, node: usize, fault: Fault) {
        self.nodes[node].engine.arm(fault);
    }

    /// Nothing passes from one to the other.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.network.cuts.insert((from, to));
        self.schedule(u64::try_from(SILENCE.as_micros()).unwrap(), Event::Silence { a: from, b: to });
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// A node is alone.
    pub fn isolate(&mut self, node: usize) {
        (0..self.nodes.len()).filter(|other| *other != node).for_each(|other| self.cut(node, other));
    }

    pub fn mend(&mut self) {
        self.network.cuts.clear();
    }

    pub(crate) fn on_silence(&mut self, a: usize, b: usize) {
        if !self.network.is_cut(a, b) {
            return;
        }
        let between = |link: &crate::network::Link| [(a, b), (b, a)].contains(&(link.dialer, link.acceptor));
        let links: Vec<LinkId> =
            self.network.links.iter().filter(|(_, link)| between(link)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.on_link_down(link));
    }

    /// A held read comes back.
    pub fn release_read(&mut self, index: usize) {
        let read = self.held.remove(index);
        let crate::world::HeldRead { node, run, shard, input } = read;
        self.schedule(0, Event::Input { node, run, shard, input });
    }

    pub fn release_reads(&mut self) {
        while !self.held.is_empty() {
            self.release_read(0);
        }
    }
}

impl World {
    /// Gossip takes the word of the later run of `newer` to the process of `older`, on a link that it still holds.
    pub fn hear_of_a_later_run(&mut self, older: usize, newer: usize) {
        let peer = (0..self.nodes.len()).find(|node| *node != newer && *node != older).expect("there is a third");
        let known = *self.network.links.iter().find(|(_, link)| link.acceptor == peer).expect("they are linked").0;
        let syn = ControlMessage::GossipSyn(GossipSyn { digest: Vec::new(), ring: None });
        let mut fx = ControlEffects::default();
        let now = self.clock(peer);
        let control = &mut self.nodes[peer].process.as_mut().expect("it runs").control;
        control.handle(now, ControlInput::Message { link: known, id: 1, message: syn }, &mut fx);
        let Some((_, _, ack)) = fx.sends.pop() else { panic!("a syn is answered") };
        // The process knows its links by their numbers; one of them is to a peer.
        for link in (1..=self.network.next_link).map(LinkId) {
            self.control(older, ControlInput::Message { link, id: 1, message: ack.clone() });
        }
    }
}
