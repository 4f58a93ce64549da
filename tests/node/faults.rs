//! What befalls a world under test, where that is more than one call.

use std::time::Duration;

use dynkv::message::{ControlMessage, GossipSyn};
use dynkv::node::{ControlEffects, ControlInput, LinkId};
use dynkv::sim::{Disk, Step, World};
use dynkv::storage::{Fault, MemoryEngine};

pub trait Befall {
    /// Arms a failure of a node's disk.
    fn arm(&self, node: usize, fault: Fault);

    /// Puts `disk` in a node that does not run.
    fn swap_disk(&mut self, node: usize, disk: MemoryEngine);

    /// The power fails between the release of the next drain's replicates and its sync.
    fn die_with_replicates_out(&mut self, node: usize);

    /// Gossip takes the word of the later run of `newer` to the process of `older`, on a link that it still holds.
    fn hear_of_a_later_run(&mut self, older: usize, newer: usize);
}

impl Befall for World {
    fn arm(&self, node: usize, fault: Fault) {
        self.nodes[node].disk.arm(fault);
    }

    fn swap_disk(&mut self, node: usize, disk: MemoryEngine) {
        assert!(self.nodes[node].process.is_none());
        self.nodes[node].disk.swap(disk);
        self.nodes[node].survived = None;
    }

    fn die_with_replicates_out(&mut self, node: usize) {
        self.nodes[node].die_after = Some(Step::Released);
        self.nodes[node].dies_by_power = true;
        self.run_for(Duration::from_millis(5));
        if self.nodes[node].process.is_some() {
            self.power_loss(node);
        }
    }

    fn hear_of_a_later_run(&mut self, older: usize, newer: usize) {
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
