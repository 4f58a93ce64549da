//! What a shard is told of nodes: of its own place, of who can be reached, and which runs there are.

use super::Shard;
use crate::node::effects::Effects;
use crate::types::{NodeId, NodeRun, Now};

impl Shard {
    /// The ring has become known, or who this node is.
    pub(super) fn on_place(&mut self, now: Now, fx: &mut Effects) {
        self.on_hints_ring(now, fx);
        self.on_exchange_ring(now, fx);
        self.on_scrub_ring(now, fx);
        self.on_reaper_ring(now, fx);
    }

    /// This node has granted a run. What earlier runs of that node say is not listened to any more, however late it comes: a disk
    /// that was taken for lost holds what its successor has never seen, and what has been reaped since.
    pub(super) fn on_met(&mut self, run: NodeRun) {
        let latest = self.runs.entry(run.node).or_default();
        *latest = run.generation.max(*latest);
    }

    /// Whether this was said by an earlier run than the latest that this node has granted.
    pub(super) fn is_outdated(&self, run: NodeRun) -> bool {
        self.runs.get(&run.node).is_some_and(|latest| run.generation < *latest)
    }

    pub(super) fn on_link(&mut self, now: Now, node: NodeId, up: bool, fx: &mut Effects) {
        if up {
            self.reachable.insert(node);
            self.peers.on_link(node);
            self.ask_rounds(now, node, fx);
        } else {
            self.reachable.remove(&node);
        }
        self.on_usability(now, node, fx);
    }

    pub(super) fn on_verdict(&mut self, now: Now, node: NodeId, convicted: bool, fx: &mut Effects) {
        if convicted && !mutant!(VerdictKeptFromShards) {
            self.convicted.insert(node);
        } else {
            self.convicted.remove(&node);
        }
        self.on_usability(now, node, fx);
    }

    /// Nothing more is begun that nobody waits for.
    pub(super) fn stop_background(&mut self) {
        self.handoff.stop();
        self.exchange.stop();
        self.scrub.stop();
        self.reaper.stop();
    }

    /// Whether there is a lane to this node, and nobody holds it for dead.
    pub(super) fn is_heard_of(&self, node: NodeId) -> bool {
        self.reachable.contains(&node) && !self.convicted.contains(&node)
    }

    /// Whether a request to this node is likely to be answered: it is heard of, and it has not been silent.
    pub(super) fn is_usable(&self, node: NodeId) -> bool {
        node == self.node || self.is_heard_of(node) && !self.peers.is_silent(node, self.time)
    }

    /// The same for a request that may have been sent there: what probes a silent node does not give up on it for that.
    pub(super) fn is_usable_to(&self, entry: u64, node: NodeId) -> bool {
        self.is_usable(node) || self.is_heard_of(node) && self.peers.is_asked(entry, node)
    }

    /// The name of a node, for people.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let member = self.view.as_ref().and_then(|view| view.layout().member(node));
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    }
}
