//! Control: who the members are, which ring holds, and whom this node can reach. Sans-IO, one per node.
//!
//! ```text
//!    LinkUp, LinkDown, Message, Synced, Timer            (now, ControlInput)
//!                        |
//!                 +------v------+
//!                 |   Control   |   members (gossip), liveness, grants, birth, layout
//!                 +------+------+
//!                        |
//!    persist, then: met, admit, sends, close, routes, dial, ring, standing, verdicts, fatal     (ControlEffects)
//! ```

mod birth;
mod effects;
mod gossip;
mod grants;
mod handshake;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use birth::Terms;
pub use effects::{ControlEffects, ControlInput, Fatal, LinkId, Route};

use self::birth::{Founding, elected, found};
use self::grants::Grants;
use crate::gossip::config::GossipConfig;
use crate::gossip::{Ballot, Detector, MemberState, Members, Tuning};
use crate::message::{ControlMessage, HelloRefusal, Ping, Pong};
use crate::node::Standing;
use crate::node::startup::{Start, layout_record, vote_record};
use crate::ring::{Layout, RingView};
use crate::types::{BatchNumber, ClusterId, Generation, NodeId, NodeRun, Now, Time};
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
    /// The pace of gossip, and of suspicion.
    pub gossip: GossipConfig,
}

/// A connection to a peer.
#[derive(Clone, Debug)]
struct Link {
    /// The address that was dialed, if this node dialed.
    dialed: Option<String>,
    /// The peer's name by its certificate.
    certified: String,
    /// The peer, once the handshake is through.
    peer: Option<NodeRun>,
}

impl Link {
    fn node(&self) -> Option<NodeId> {
        self.peer.map(|peer| peer.node)
    }
}

/// See the module.
pub struct Control {
    config: ControlConfig,
    start: Start,
    members: Members,
    detector: Detector,
    cluster: Option<ClusterId>,
    view: Option<Arc<RingView>>,
    links: BTreeMap<LinkId, Link>,
    /// Addresses that turned out to be somebody's other name, this node's included.
    aliases: BTreeMap<String, NodeId>,
    grants: Grants,
    /// Who has granted this run and does not rebuild: once there is a ring, members only.
    granted_by: BTreeSet<NodeId>,
    /// Who has granted it too, and was rebuilding: they count once they say that they are done.
    granted_by_rebuilding: BTreeSet<NodeId>,
    /// Links closed because no member was at the other end.
    strangers: u64,
    /// Where that was so, and until when nobody is dialed there merely for being a seed.
    shunned: BTreeMap<String, Time>,
    /// Peers that have refused this node, by name, and not welcomed it since.
    refusals: BTreeMap<String, HelloRefusal>,
    dialed: BTreeSet<String>,
    /// Whom to dial may have changed.
    addresses_changed: bool,
    told: Option<Standing>,
    /// What the node waits for before it serves, for people.
    waiting_for: String,
    /// When the last input came.
    now: Time,
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
            heartbeat: 0,
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
            detector: Detector::new(Tuning::new(&config.gossip)),
            cluster: view.as_ref().map(|view| view.cluster()),
            view,
            grants: Grants::new(start.grants.clone()),
            config,
            start,
            links: BTreeMap::new(),
            aliases: BTreeMap::new(),
            granted_by: BTreeSet::new(),
            granted_by_rebuilding: BTreeSet::new(),
            strangers: 0,
            shunned: BTreeMap::new(),
            refusals: BTreeMap::new(),
            dialed: BTreeSet::new(),
            addresses_changed: true,
            told: None,
            waiting_for: "the first contact".into(),
            now: Time::ZERO,
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
        self.detector.poll_timeout().map_or(self.next_gossip, |due| due.min(self.next_gossip))
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Now, input: ControlInput, fx: &mut ControlEffects) {
        self.now = self.now.max(now.time);
        match input {
            ControlInput::LinkUp { link, dialed, certified } => self.handle_link_up(link, dialed, certified, fx),
            ControlInput::LinkDown { link } => self.handle_link_down(link, fx),
            ControlInput::Message { link, id, message } => self.handle_message(link, id, message, fx),
            ControlInput::Synced(synced) => self.members.note_synced(synced),
            ControlInput::Rebuilt => self.on_rebuilt(fx),
            ControlInput::Timer => self.handle_timer(fx),
        }
        self.found(fx);
        self.tell(fx);
    }

    /// What this node does not find it has never had: that is on the disk before anybody hears of it, and with it all that
    /// was written before.
    fn on_rebuilt(&mut self, fx: &mut ControlEffects) {
        if std::mem::take(&mut self.start.identity.rebuilding) {
            self.members.update_own(|own| own.rebuilding = false);
            fx.persist.extend(self.start.identity_records());
        }
    }

    fn handle_link_up(&mut self, link: LinkId, dialed: Option<String>, certified: String, fx: &mut ControlEffects) {
        if dialed.is_some() {
            let hello = ControlMessage::Hello(self.hello());
            self.send(link, hello, fx);
        }
        self.links.insert(link, Link { dialed, certified, peer: None });
    }

    fn handle_link_down(&mut self, link: LinkId, fx: &mut ControlEffects) {
        let Some(Link { dialed: Some(_), peer: Some(peer), .. }) = self.links.remove(&link) else { return };
        if self.route_to(peer.node).is_none() {
            fx.routes.push(Route::Down { node: peer.node });
        }
    }

    /// The link by which this node's shards reach a peer.
    fn route_to(&self, node: NodeId) -> Option<LinkId> {
        self.links.iter().find(|(_, link)| link.dialed.is_some() && link.node() == Some(node)).map(|(id, _)| *id)
    }

    fn handle_message(&mut self, link: LinkId, id: u64, message: ControlMessage, fx: &mut ControlEffects) {
        let Some(known) = self.links.get(&link) else { return };
        match message {
            ControlMessage::Hello(hello) if known.dialed.is_none() && known.peer.is_none() => {
                self.on_hello(link, id, &hello, fx);
            }
            ControlMessage::HelloAnswer(answer) if known.dialed.is_some() && known.peer.is_none() => {
                self.on_hello_answer(link, answer, fx);
            }
            _ if known.peer.is_none() => fx.close.push((link, "a message before the hello".into())),
            ControlMessage::GossipSyn(syn) => self.on_syn(link, id, &syn, fx),
            ControlMessage::GossipAck(ack) => self.on_ack(link, ack, fx),
            ControlMessage::GossipDelta(delta) => self.learn(delta.delta, delta.layout, fx),
            ControlMessage::Ping(Ping { number }) => {
                fx.sends.push((link, id, ControlMessage::Pong(Pong { number })));
            }
            ControlMessage::Pong(Pong { number }) => self.on_pong(link, number, fx),
            ControlMessage::Hello(_) | ControlMessage::HelloAnswer(_) => {
                fx.close.push((link, "a hello too many, or in the wrong direction".into()));
            }
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
        // Before the birth anybody who waited for it was a peer, and had a say in whether this node belongs.
        let stranger = |link: &&Link| link.node().is_some_and(|peer| view.layout().member(peer).is_none());
        let strangers: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| stranger(link)).map(|(link, _)| *link).collect();
        for link in strangers {
            self.turn_away(link, "no member of the ring that has been born".into(), fx);
        }
        self.granted_by.retain(|node| view.layout().member(*node).is_some());
        self.granted_by_rebuilding.retain(|node| view.layout().member(*node).is_some());
        self.refusals.clear();
        self.view = Some(view);
        self.addresses_changed = true;
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
                // Before the ring there were no shards to be told.
                fx.met = self.grants.runs().collect();
                fx.ring = Some(view.clone());
            }
            let others = view.layout().members().iter().map(|member| member.id).filter(|node| *node != standing.node);
            fx.verdicts.extend(self.detector.watch(self.now, others));
            fx.standing = Some(standing);
            self.told = Some(standing);
        }
        if !std::mem::take(&mut self.addresses_changed) {
            return;
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
        let is_dialed = |seed: &&String| **seed != own.address && !is_alias(seed) && !self.shunned.contains_key(*seed);
        let seeds = self.config.seeds.iter().filter(is_dialed).cloned();
        let mut wanted: BTreeSet<String> = seeds.collect();
        wanted.extend(by_node.into_values());
        wanted
    }

    fn standing(&self) -> Standing {
        let others = self.view.as_ref().map_or(0, |view| view.layout().members().len().saturating_sub(1));
        let granted = self.granted_by.len();
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

    /// Everybody's word, as far as it is known here.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// How often somebody who is no member was at the other end of a link: met before the birth, or at a seed's address.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Who lives, in this node's opinion.
    pub fn detector(&self) -> &Detector {
        &self.detector
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
