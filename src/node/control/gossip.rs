//! Rounds of gossip, and what is made of what peers say: membership, layout, and who lives.

use bytes::Bytes;
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::{Control, ControlEffects, Fatal, LinkId};
use crate::gossip::{Change, Known, MemberState, Members};
use crate::message::{ControlMessage, GossipAck, GossipDelta, GossipSyn, Ping};
use crate::ring::Layout;
use crate::types::NodeId;

/// With how many of the living a round is held. With one alone heartbeats come so irregularly that of 50 nodes some take
/// 6 s to convict a dead one, where with two all do in 4.1 s; see docs/gossip.md.
const PARTNERS: usize = 2;

impl Control {
    pub(super) fn handle_timer(&mut self, fx: &mut ControlEffects) {
        let (pings, verdicts) = self.detector.poll(self.now);
        for ping in pings {
            // without a link the probe fails when its time is over
            if let Some(link) = self.link_to(ping.node) {
                self.send(link, ControlMessage::Ping(Ping { number: ping.number }), fx);
            }
        }
        fx.verdicts.extend(verdicts);
        if self.now >= self.next_gossip {
            self.next_gossip = self.now + self.config.gossip.interval;
            self.members.beat();
            self.gossip(fx);
            self.forgive();
        }
    }

    /// A round: with some of the living, and the more often with one of the convicted the more of all they are, so that
    /// two halves which hold one another for dead find together again.
    fn gossip(&mut self, fx: &mut ControlEffects) {
        let ready = self.links.iter().filter(|(_, link)| link.dialed.is_some());
        let ready = ready.filter_map(|(id, link)| Some((*id, link.node()?)));
        let (convicted, living): (Vec<_>, Vec<_>) = ready.partition(|(_, peer)| self.detector.is_convicted(*peer));
        let seldom = convicted.len() as f64 / (convicted.len() + living.len()).max(1) as f64;
        let mut partners: Vec<LinkId> = living.sample(&mut self.rng, PARTNERS).map(|(link, _)| *link).collect();
        if self.rng.random_bool(seldom) {
            partners.extend(convicted.choose(&mut self.rng).map(|(link, _)| *link));
        }
        partners.into_iter().for_each(|link| self.ask(link, fx));
    }

    /// Begins an exchange on a link.
    pub(super) fn ask(&mut self, link: LinkId, fx: &mut ControlEffects) {
        let ring = self.view.as_ref().map(|view| view.version());
        self.send(link, ControlMessage::GossipSyn(GossipSyn { digest: self.members.digest(), ring }), fx);
    }

    pub(super) fn on_syn(&mut self, link: LinkId, id: u64, syn: &GossipSyn, fx: &mut ControlEffects) {
        self.hear(&syn.digest, fx);
        let ack = GossipAck {
            delta: self.members.delta(&syn.digest, Members::MAX_DELTA_BYTES),
            digest: self.members.digest(),
            ring: self.view.as_ref().map(|view| view.version()),
            layout: self.layout_newer_than(syn.ring),
        };
        fx.sends.push((link, id, ControlMessage::GossipAck(ack)));
    }

    pub(super) fn on_ack(&mut self, link: LinkId, ack: GossipAck, fx: &mut ControlEffects) {
        self.learn(ack.delta, ack.layout, fx);
        self.hear(&ack.digest, fx);
        let delta = self.members.delta(&ack.digest, Members::MAX_DELTA_BYTES);
        let layout = self.layout_newer_than(ack.ring);
        if !delta.is_empty() || layout.is_some() {
            self.send(link, ControlMessage::GossipDelta(GossipDelta { delta, layout }), fx);
        }
    }

    pub(super) fn on_pong(&mut self, link: LinkId, number: u64, fx: &mut ControlEffects) {
        let peer = self.links.get(&link).and_then(super::Link::node);
        fx.verdicts.extend(peer.and_then(|node| self.detector.pong(self.now, node, number)));
    }

    /// A handshake with a peer is through: it lives.
    pub(super) fn met(&mut self, node: NodeId, fx: &mut ControlEffects) {
        fx.verdicts.extend(self.detector.meet(self.now, node));
    }

    /// A link on which a peer can be spoken to; one that this node dialed, if there is one.
    fn link_to(&self, node: NodeId) -> Option<LinkId> {
        let accepted = || self.links.iter().find(|(_, link)| link.node() == Some(node)).map(|(id, _)| *id);
        self.route_to(node).or_else(accepted)
    }

    /// Takes the heartbeats of a digest.
    fn hear(&mut self, digest: &[Known], fx: &mut ControlEffects) {
        for node in self.members.hear(digest) {
            self.on_heard(node, fx);
        }
    }

    /// A member's heartbeat, `synced` or state is newer than it was.
    fn on_heard(&mut self, node: NodeId, fx: &mut ControlEffects) {
        let state = self.members.get(node).expect("only members are heard");
        self.grants.saw(state);
        if !state.rebuilding && self.granted_by_rebuilding.remove(&node) {
            self.granted_by.insert(node);
        }
        fx.verdicts.extend(self.detector.hear(self.now, node, state.generation, state.heartbeat));
    }

    /// Takes what a peer has passed on.
    pub(super) fn learn(&mut self, delta: Vec<MemberState>, layout: Option<Bytes>, fx: &mut ControlEffects) {
        // also of those that are not newer: another run's may speak of the granted one
        delta.iter().for_each(|state| self.grants.saw(state));
        let view = self.view.clone();
        let admits = |node| view.as_ref().is_none_or(|view| view.layout().member(node).is_some());
        for change in self.members.apply(delta, admits) {
            match change {
                // The lost disk's last run, of which nobody had told this node before.
                Change::Superseded { generation, disk } if disk != self.start.identity.disk && self.may_rise() => {
                    self.raise(self.node(), generation, fx);
                }
                Change::Superseded { .. } if mutant!(OldCopyGranted) => {}
                Change::Superseded { generation, .. } => {
                    self.condemn(Fatal::Superseded { theirs: generation, ours: self.generation() }, fx);
                }
                Change::Updated(node) => {
                    self.addresses_changed = true;
                    self.on_heard(node, fx);
                }
            }
        }
        if let Some(layout) = layout.and_then(|bytes| Layout::decode(&bytes).ok()) {
            self.take_layout(layout, fx);
        }
    }
}
