//! Control: who the members are, which ring holds, and whom this node can reach. Sans-IO, one per node.
//!
//! ```text
//!    LinkUp, LinkDown, Message, Synced, Timer            (now, ControlInput)
//!                        |
//!                 +------v------+
//!                 |   Control   |   members (gossip), grants, birth, layout
//!                 +------+------+
//!                        |
//!    persist, then: sends, admit, close, routes, dial, ring, standing, fatal     (ControlEffects)
//! ```

mod birth;
mod effects;
mod grants;
mod handshake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

pub use birth::Terms;
pub use effects::{ControlEffects, ControlInput, Fatal, LinkId, Route};

use self::birth::{Founding, elected, found};
use self::grants::Grants;
use crate::api::{MemberStatus, Phase, StatusReply};
use crate::gossip::{Ballot, Change, MemberState, Members};
use crate::message::{ControlMessage, GossipAck, GossipDelta, GossipSyn, HelloRefusal};
use crate::node::Standing;
use crate::node::startup::{Start, layout_record, vote_record};
use crate::ring::{Layout, RingView};
use crate::types::{BatchNumber, ClusterId, Generation, NodeId, Now, Time};
use crate::version::Trust;

/// What Control is told about the node at its start.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The node's failure domain.
    pub zone: String,
    /// The node's share, in thousandths.
    pub weight: u32,
    /// Where peers and clients reach the node.
    pub address: String,
    /// Addresses to dial until the members are known, and ever after if they are not members'.
    pub seeds: Vec<String>,
    /// How many founders the cluster is born of; 1 without seeds.
    pub expect: u32,
    /// What is fixed at birth.
    pub terms: Terms,
    /// Between two gossip exchanges.
    pub interval: Duration,
}

/// A connection to a peer.
#[derive(Clone, Debug)]
struct Link {
    /// The address that was dialed, if this node dialed.
    dialed: Option<String>,
    /// The peer's name by its certificate.
    certified: String,
    /// The peer, once the handshake is through.
    peer: Option<NodeId>,
}

/// See the module.
pub struct Control {
    config: ControlConfig,
    start: Start,
    members: Members,
    cluster: Option<ClusterId>,
    view: Option<Arc<RingView>>,
    links: BTreeMap<LinkId, Link>,
    /// Addresses that turned out to be somebody's other name, this node's included.
    aliases: BTreeMap<String, NodeId>,
    grants: Grants,
    /// Members that have granted this run and do not rebuild.
    granted_by: BTreeSet<NodeId>,
    /// Peers that have refused this node, by name, and not welcomed it since.
    refusals: BTreeMap<String, HelloRefusal>,
    dialed: BTreeSet<String>,
    told: Option<Standing>,
    /// What the node waits for before it serves, for people.
    waiting_for: String,
    next_gossip: Time,
    next_id: u64,
    rng: StdRng,
}

impl Control {
    /// A node at its start; the first [`ControlInput::Timer`] sets it going.
    pub fn new(config: ControlConfig, start: Start, seed: u64) -> Control {
        let ballot = start.layout.is_none().then(|| Ballot {
            expect: config.expect,
            terms: config.terms.digest(),
            vote: start.vote,
        });
        let view = start.layout.clone().map(view_of);
        let own = MemberState {
            node: start.identity.node,
            generation: start.run.generation,
            version: 1,
            name: start.identity.name.clone(),
            zone: config.zone.clone(),
            weight: config.weight,
            address: config.address.clone(),
            disk: start.identity.disk,
            ballot,
            ring: view.as_ref().map(|view| (view.version(), view.digest())),
            rebuilding: start.identity.rebuilding,
            synced: start.recovered,
        };
        Control {
            members: Members::new(own),
            cluster: view.as_ref().map(|view| view.cluster()),
            view,
            grants: Grants::new(start.grants.clone()),
            config,
            start,
            links: BTreeMap::new(),
            aliases: BTreeMap::new(),
            granted_by: BTreeSet::new(),
            refusals: BTreeMap::new(),
            dialed: BTreeSet::new(),
            told: None,
            waiting_for: "the first contact".into(),
            next_gossip: Time::ZERO,
            next_id: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.members.own().node
    }

    /// This run.
    pub fn generation(&self) -> Generation {
        self.start.run.generation
    }

    /// The ring that this node follows.
    pub fn view(&self) -> Option<&Arc<RingView>> {
        self.view.as_ref()
    }

    /// When [`ControlInput::Timer`] is due.
    pub fn poll_timeout(&self) -> Time {
        self.next_gossip
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Now, input: ControlInput, fx: &mut ControlEffects) {
        match input {
            ControlInput::LinkUp { link, dialed, certified } => self.handle_link_up(link, dialed, certified, fx),
            ControlInput::LinkDown { link } => self.handle_link_down(link, fx),
            ControlInput::Message { link, id, message } => self.handle_message(link, id, message, fx),
            ControlInput::Synced(synced) => self.members.update_own(|own| own.synced = own.synced.max(synced)),
            ControlInput::Timer => self.handle_timer(now, fx),
        }
        self.found(fx);
        self.tell(fx);
    }

    fn handle_link_up(&mut self, link: LinkId, dialed: Option<String>, certified: String, fx: &mut ControlEffects) {
        if dialed.is_some() {
            let hello = ControlMessage::Hello(self.hello());
            self.send(link, hello, fx);
        }
        self.links.insert(link, Link { dialed, certified, peer: None });
    }

    fn handle_link_down(&mut self, link: LinkId, fx: &mut ControlEffects) {
        let Some(Link { dialed: Some(_), peer: Some(node), .. }) = self.links.remove(&link) else { return };
        if self.route_to(node).is_none() {
            fx.routes.push(Route::Down { node });
        }
    }

    /// The link by which this node's shards reach a peer.
    fn route_to(&self, node: NodeId) -> Option<LinkId> {
        self.links.iter().find(|(_, link)| link.dialed.is_some() && link.peer == Some(node)).map(|(id, _)| *id)
    }

    fn handle_message(&mut self, link: LinkId, id: u64, message: ControlMessage, fx: &mut ControlEffects) {
        let Some(known) = self.links.get(&link) else { return };
        match message {
            ControlMessage::Hello(hello) if known.dialed.is_none() && known.peer.is_none() => {
                self.on_hello(link, id, &hello, fx);
            }
            ControlMessage::HelloAnswer(answer) if known.dialed.is_some() => self.on_hello_answer(link, answer, fx),
            _ if known.peer.is_none() => fx.close.push((link, "a message before the hello".into())),
            ControlMessage::GossipSyn(syn) => {
                let ack = GossipAck {
                    delta: self.members.delta(&syn.digest),
                    digest: self.members.digest(),
                    ring: self.view.as_ref().map(|view| view.version()),
                    layout: self.layout_newer_than(syn.ring),
                };
                fx.sends.push((link, id, ControlMessage::GossipAck(ack)));
            }
            ControlMessage::GossipAck(ack) => {
                self.learn(ack.delta, ack.layout, fx);
                let delta = self.members.delta(&ack.digest);
                let layout = self.layout_newer_than(ack.ring);
                if !delta.is_empty() || layout.is_some() {
                    self.send(link, ControlMessage::GossipDelta(GossipDelta { delta, layout }), fx);
                }
            }
            ControlMessage::GossipDelta(delta) => self.learn(delta.delta, delta.layout, fx),
            ControlMessage::Hello(_) | ControlMessage::HelloAnswer(_) => {
                fx.close.push((link, "a hello too many, or in the wrong direction".into()));
            }
        }
    }

    fn handle_timer(&mut self, now: Now, fx: &mut ControlEffects) {
        if now.time < self.next_gossip {
            return;
        }
        self.next_gossip = now.time + self.config.interval;
        let ready: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| link.dialed.is_some() && link.peer.is_some())
            .map(|(id, _)| *id)
            .collect();
        if let Some(&link) = ready.choose(&mut self.rng) {
            let ring = self.view.as_ref().map(|view| view.version());
            self.send(link, ControlMessage::GossipSyn(GossipSyn { digest: self.members.digest(), ring }), fx);
        }
    }

    fn send(&mut self, link: LinkId, message: ControlMessage, fx: &mut ControlEffects) {
        self.next_id += 1;
        fx.sends.push((link, self.next_id, message));
    }

    fn layout_newer_than(&self, theirs: Option<crate::types::RingVersion>) -> Option<Bytes> {
        let view = self.view.as_ref().filter(|view| theirs.is_none_or(|theirs| theirs < view.version()))?;
        Some(view.layout().encode().into())
    }

    /// Takes what a peer has passed on.
    fn learn(&mut self, delta: Vec<MemberState>, layout: Option<Bytes>, fx: &mut ControlEffects) {
        for state in &delta {
            self.grants.saw(state);
        }
        let departed = self.view.as_ref().map_or(&[][..], |view| view.layout().departed());
        for change in self.members.apply(delta, departed) {
            match change {
                // The lost disk's last run, of which nobody had told this node before.
                Change::Superseded { generation, disk } if disk != self.start.identity.disk && self.may_rise() => {
                    self.raise(self.node(), generation, fx);
                }
                Change::Superseded { .. } if mutant!(OldCopyGranted) => {}
                Change::Superseded { generation, .. } => {
                    self.condemn(Fatal::Superseded { theirs: generation, ours: self.generation() }, fx);
                }
                Change::Updated(_) => {}
            }
        }
        if let Some(layout) = layout.and_then(|bytes| Layout::decode(&bytes).ok()) {
            self.take_layout(layout, fx);
        }
        if let Some(view) = &self.view {
            let layout = view.layout().clone();
            self.members.retain(|node| layout.member(node).is_some());
        }
    }

    /// Takes a layout that a peer has: the first one if this node is in it, later ones if they follow the one it has.
    fn take_layout(&mut self, layout: Layout, fx: &mut ControlEffects) {
        if self.view.as_ref().is_some_and(|view| view.version() >= layout.version()) {
            return;
        }
        let own = self.members.own();
        match layout.member_named(&own.name) {
            Some(member) if member.id == own.node => {}
            // The handshake tells this node its identity; until then the layout is not its own.
            _ if self.view.is_none() => return,
            _ => {
                fx.fatal = Some(Fatal::Layout { reason: "the cluster's layout no longer has this node".into() });
                return;
            }
        }
        let born = layout.version().0 == 1;
        if let (true, Some(vote)) = (born, own.ballot.and_then(|ballot| ballot.vote))
            && vote != layout.cluster_id().0
        {
            let reason = "the cluster was born without this node's vote; wipe the data directory".to_owned();
            fx.fatal = Some(Fatal::Layout { reason });
            return;
        }
        self.adopt_layout(layout, fx);
    }

    fn adopt_layout(&mut self, layout: Layout, fx: &mut ControlEffects) {
        fx.persist.push(layout_record(&layout));
        let view = view_of(layout);
        self.cluster = Some(view.cluster());
        self.members.update_own(|own| {
            own.ballot = None;
            own.ring = Some((view.version(), view.digest()));
        });
        self.members.retain(|node| view.layout().member(node).is_some());
        self.grants.retain(|node| view.layout().member(node).is_some());
        self.view = Some(view);
        // Force the shards to be told again: a majority is counted over the members of the new layout.
        self.told = None;
    }

    /// Goes on with the birth, as far as what is known allows.
    fn found(&mut self, fx: &mut ControlEffects) {
        if self.view.is_some() {
            self.waiting_for.clear();
            return;
        }
        let own = self.members.own().clone();
        match found(&own, self.members.iter(), &self.config.terms) {
            Founding::Waiting(why) => {
                let refusals =
                    self.refusals.iter().map(|(peer, reason)| format!("; {peer} refuses this node: {reason}"));
                self.waiting_for = why + &refusals.collect::<String>();
            }
            Founding::Stuck(why) => self.waiting_for = format!("the cluster cannot be born: {why}"),
            Founding::Proposal(layout) => self.vote(*layout, fx),
        }
    }

    fn vote(&mut self, layout: Layout, fx: &mut ControlEffects) {
        let id = layout.cluster_id().0;
        match self.members.own().ballot.and_then(|ballot| ballot.vote) {
            None => {
                fx.persist.push(vote_record(id));
                self.members.update_own(|own| {
                    if let Some(ballot) = &mut own.ballot {
                        ballot.vote = Some(id);
                    }
                });
            }
            Some(vote) if vote != id => {
                self.waiting_for =
                    "the cluster cannot be born: this node has voted for other founders; wipe its data directory"
                        .into();
                return;
            }
            Some(_) => {}
        }
        if elected(&layout, |node| self.members.get(node).cloned()) {
            self.adopt_layout(layout, fx);
            self.waiting_for.clear();
        } else {
            self.waiting_for = "the other founders' votes".into();
        }
    }

    /// Tells driver and shards what has changed for them.
    fn tell(&mut self, fx: &mut ControlEffects) {
        let standing = self.standing();
        if let Some(view) = &self.view
            && self.told != Some(standing)
        {
            if self.told.is_none() {
                fx.ring = Some(view.clone());
            }
            fx.standing = Some(standing);
            self.told = Some(standing);
        }
        let wanted = self.addresses();
        if wanted != self.dialed {
            self.dialed = wanted.clone();
            fx.dial = Some(wanted);
        }
    }

    /// Every other member's address, and the seeds that are nobody's other name.
    fn addresses(&self) -> BTreeSet<String> {
        let own = self.members.own();
        let known: BTreeMap<NodeId, String> = match &self.view {
            Some(view) => view.layout().members().iter().map(|member| (member.id, member.address.clone())).collect(),
            None => BTreeMap::new(),
        };
        let gossiped = self.members.iter().map(|state| (state.node, state.address.clone()));
        let mut by_node = known;
        by_node.extend(gossiped);
        by_node.remove(&own.node);
        let is_alias = |seed: &String| {
            self.aliases
                .get(seed)
                .is_some_and(|node| *node == own.node || by_node.get(node).is_some_and(|at| at != seed))
        };
        let seeds = self.config.seeds.iter().filter(|seed| **seed != own.address && !is_alias(seed)).cloned();
        let mut wanted: BTreeSet<String> = seeds.collect();
        wanted.extend(by_node.into_values());
        wanted
    }

    fn standing(&self) -> Standing {
        let others = self.view.as_ref().map_or(0, |view| view.layout().members().len().saturating_sub(1));
        let is_member = |node: &&NodeId| self.view.as_ref().is_some_and(|view| view.layout().member(**node).is_some());
        let granted = self.granted_by.iter().filter(is_member).count();
        let run = self.start.run;
        Standing {
            node: self.members.own().node,
            trust: Trust {
                generation: run.generation,
                trusted_since: run.trusted_since,
                granted: others == 0 || granted > others / 2,
            },
            rebuilding: self.start.identity.rebuilding,
        }
    }

    /// What this node knows, for `status`; the driver adds what it knows of the disk.
    pub fn status(&self) -> StatusReply {
        let own = self.members.own();
        let members = match &self.view {
            Some(view) => {
                let share = |node| view.layout().owners().iter().filter(|owner| **owner == node).count();
                view.layout()
                    .members()
                    .iter()
                    .map(|member| {
                        let state = self.members.get(member.id);
                        let mut status = self.member_status(member.id, state);
                        status.name = member.name.clone();
                        status.zone = member.zone.clone();
                        status.address = state.map_or(&member.address, |state| &state.address).clone();
                        status.partitions =
                            u32::try_from(share(member.id)).expect("a ring has at most 32768 partitions");
                        status
                    })
                    .collect()
            }
            None => self.members.iter().map(|state| self.member_status(state.node, Some(state))).collect(),
        };
        StatusReply {
            node: own.node,
            name: own.name.clone(),
            cluster: self.cluster,
            cluster_name: self.config.terms.cluster.clone(),
            ring_version: self.view.as_ref().map(|view| view.version()),
            phase: if self.view.is_some() { Phase::Serving } else { Phase::Joining },
            waiting_for: self.waiting_for.clone(),
            uptime_s: 0,
            keys: 0,
            disk_bytes: 0,
            free_bytes: 0,
            members,
        }
    }

    fn member_status(&self, node: NodeId, state: Option<&MemberState>) -> MemberStatus {
        MemberStatus {
            node,
            name: state.map(|state| state.name.clone()).unwrap_or_default(),
            zone: state.map(|state| state.zone.clone()).unwrap_or_default(),
            address: state.map(|state| state.address.clone()).unwrap_or_default(),
            up: node == self.node() || self.route_to(node).is_some(),
            rebuilding: state.is_some_and(|state| state.rebuilding),
            generation: state.map(|state| state.generation),
            disk: state.map(|state| state.disk),
            partitions: 0,
            ring: state.and_then(|state| state.ring).map(|(_, digest)| data_encoding::HEXLOWER.encode(&digest)),
        }
    }

    /// What this node has on its disk, as its own state says.
    pub fn synced(&self) -> BatchNumber {
        self.members.own().synced
    }
}

fn view_of(layout: Layout) -> Arc<RingView> {
    let cluster = layout.cluster_id();
    Arc::new(RingView::new(layout, cluster))
}
