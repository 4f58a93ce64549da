//! A world of Controls alone: hundreds of members, or days of a few, with nothing else to compute. The machines and the
//! frames are the daemon's; links stand from the start, and a frame that is lost stays lost (but for handshakes), which is
//! worse than the daemon's streams.

mod measure;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

pub use measure::{GossipFindings, GossipPlan, measure};

use super::network::{from_bytes, to_bytes};
use super::queue::EventQueue;
use crate::frame::codec;
use crate::gossip::config::GossipConfig;
use crate::message::ControlMessage;
use crate::node::startup::{Draws, Identity, Run, Start, Stored};
use crate::node::{Control, ControlConfig, ControlEffects, ControlInput, LinkId, Terms};
use crate::ring::{Layout, Member, Partitions, Weight};
use crate::types::{BatchNumber, DiskId, Generation, NodeId, Nonce, Now, Time};

/// What a frame takes, in microseconds.
const DELAY_US: (u64, u64) = (200, 5000);
/// How long a link may be silent before its ends notice, as the daemon's.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it takes a peer to dial a node that is back.
const REDIAL_US: u64 = 250_000;
/// The ring matters to nobody here.
const PARTITIONS: u32 = 16;

#[derive(Debug)]
enum Event {
    Frame { link: usize, to_dialer: bool, bytes: Bytes },
    Timer { node: usize, run: u64 },
    LinkUp { dialer: usize, acceptor: usize },
    LinkDown { link: usize },
}

/// Who dialed whom, and between which of their processes.
#[derive(Clone, Copy, Debug)]
struct Link {
    ends: [usize; 2],
    runs: [u64; 2],
}

struct Node {
    control: Option<Control>,
    /// Which process it is.
    run: u64,
    /// It does nothing before this.
    paused_until: Time,
}

/// A change of somebody's opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// When.
    pub at: Time,
    /// Whose.
    pub by: usize,
    /// Of whom.
    pub about: usize,
    /// Held for dead, or no longer.
    pub convicted: bool,
    /// The process it is about runs.
    pub lives: bool,
}

/// See the module.
pub struct GossipWorld {
    /// Virtual time.
    pub now: Time,
    /// How likely a frame is lost, but for a handshake's.
    pub loss: f64,
    /// What has been thought of others, in order.
    pub opinions: Vec<Opinion>,
    /// Bytes that were handed to the network.
    pub bytes: u64,
    /// Pings that were sent.
    pub pings: u64,
    config: GossipConfig,
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// Nodes below this do not hear those from it on, nor the other way round.
    cut: Option<usize>,
    layout: Layout,
    queue: EventQueue<Event>,
    rng: Xoshiro256PlusPlus,
}

/// The member of this index.
pub fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn index_of(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("members are counted from one")
}

fn name_of(node: usize) -> String {
    format!("n{}", node + 1)
}

fn address_of(node: usize) -> String {
    format!("10.0.{}.{}:7400", node / 256, node % 256)
}

fn member(node: usize) -> Member {
    let weight = Weight::default();
    Member { id: id_of(node), name: name_of(node), zone: "default".into(), weight, address: address_of(node) }
}

impl GossipWorld {
    /// Members of a cluster that was born long ago, all started at once and about to link up.
    ///
    /// # Panics
    /// If a ring cannot have so many members.
    pub fn new(seed: u64, nodes: usize, config: GossipConfig) -> GossipWorld {
        let partitions = Partitions::new(PARTITIONS).expect("it is a power of two");
        let members = (0..nodes).map(member).collect();
        let layout = Layout::birth(partitions, members, BTreeMap::new()).expect("members and ring fit");
        GossipWorld::with_layout(seed, nodes, config, layout)
    }

    /// The first `started` members of a layout run.
    fn with_layout(seed: u64, started: usize, config: GossipConfig, layout: Layout) -> GossipWorld {
        let mut world = GossipWorld {
            now: Time::from_micros(1_000_000),
            loss: 0.0,
            opinions: Vec::new(),
            bytes: 0,
            pings: 0,
            config,
            nodes: layout.members().iter().map(|_| Node { control: None, run: 0, paused_until: Time::ZERO }).collect(),
            links: Vec::new(),
            cut: None,
            layout,
            queue: EventQueue::default(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        };
        (0..started).for_each(|node| world.start(node));
        world
    }

    /// Starts a process, which dials everybody and is dialed.
    ///
    /// # Panics
    /// If one runs.
    pub fn start(&mut self, node: usize) {
        assert!(self.nodes[node].control.is_none(), "{} runs", name_of(node));
        let run = self.nodes[node].run;
        let control = self.machine(node, Some(self.layout.clone()));
        self.nodes[node] = Node { control: Some(control), run: run + 1, paused_until: Time::ZERO };
        let interval = u64::try_from(self.config.interval.as_micros()).expect("an interval is short");
        let phase = self.rng.random_range(0..interval);
        self.schedule(phase, Event::Timer { node, run: run + 1 });
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            if self.nodes[peer].control.is_some() {
                for (dialer, acceptor) in [(node, peer), (peer, node)] {
                    let after = self.rng.random_range(0..REDIAL_US);
                    self.schedule(after, Event::LinkUp { dialer, acceptor });
                }
            }
        }
    }

    /// A node's Control at the start of its next run.
    fn machine(&mut self, node: usize, layout: Option<Layout>) -> Control {
        let run = self.nodes[node].run;
        let (id, disk, name) = (id_of(node), DiskId(node as u64 + 1), name_of(node));
        let last = Run { generation: Generation(run + 1), nonce: Nonce(0), trusted_since: Generation(1) };
        let identity =
            Identity { node: id, disk, name: name.clone(), rebuilding: false, refused: None, took_over: Generation(0) };
        let stored = Stored { identity: Some(identity), run: Some(last), layout, ..Stored::default() };
        let draws = Draws { node: id, disk, nonce: Nonce(self.rng.random()) };
        let (start, _) = Start::begin(stored, &name, draws, BatchNumber(run), None).expect("the directory is its own");
        let config = ControlConfig {
            zone: "default".into(),
            weight: 1000,
            address: address_of(node),
            seeds: Vec::new(),
            expect: 2,
            terms: Terms { cluster: "gossip".into(), partitions: self.layout.partitions(), buckets: BTreeMap::new() },
            gossip: self.config.clone(),
        };
        Control::new(config, start, self.rng.random())
    }

    /// The machine is gone: its peers notice when its links have been silent for too long.
    pub fn crash(&mut self, node: usize) {
        self.nodes[node].control = None;
        for link in 0..self.links.len() {
            if self.links[link].ends.contains(&node) && self.stands(link, node) {
                self.schedule_at(self.now + SILENCE, Event::LinkDown { link });
            }
        }
    }

    /// Whether the process that linked is the one that `node` has, or last had.
    fn stands(&self, link: usize, node: usize) -> bool {
        let Link { ends, runs } = self.links[link];
        (0..2).any(|end| ends[end] == node && runs[end] == self.nodes[node].run)
    }

    /// A process is stopped for a while; what comes in the meantime waits.
    pub fn pause(&mut self, node: usize, span: Duration) {
        self.nodes[node].paused_until = self.now + span;
    }

    /// From now on, those below `at` and the others do not hear each other.
    pub fn cut(&mut self, at: Option<usize>) {
        self.cut = at;
    }

    /// A node's machine, if it runs.
    pub fn control(&self, node: usize) -> Option<&Control> {
        self.nodes[node].control.as_ref()
    }

    /// Nodes that run.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Control)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.control.as_ref()?)))
    }

    /// Lets `span` pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = at;
            self.on_event(event);
        }
        self.now = end;
    }

    fn schedule(&mut self, after_micros: u64, event: Event) {
        self.schedule_at(self.now + Duration::from_micros(after_micros), event);
    }

    fn schedule_at(&mut self, at: Time, event: Event) {
        let tie = self.rng.random();
        self.queue.push(at, tie, event);
    }

    fn on_event(&mut self, event: Event) {
        let held = match &event {
            Event::Timer { node, .. } => self.nodes[*node].paused_until,
            Event::Frame { link, to_dialer, .. } => {
                self.nodes[self.links[*link].ends[usize::from(!to_dialer)]].paused_until
            }
            Event::LinkUp { .. } | Event::LinkDown { .. } => Time::ZERO,
        };
        if held > self.now {
            // in the order in which they came
            self.queue.push(held, 0, event);
            return;
        }
        match event {
            Event::Frame { link, to_dialer, bytes } => self.on_frame(link, to_dialer, bytes),
            Event::Timer { node, run } => self.on_timer(node, run),
            Event::LinkUp { dialer, acceptor } => self.link(dialer, acceptor),
            Event::LinkDown { link } => self.on_link_down(link),
        }
    }

    fn on_timer(&mut self, node: usize, run: u64) {
        if self.nodes[node].run != run || self.nodes[node].control.is_none() {
            return;
        }
        self.handle(node, ControlInput::Timer);
        let control = self.nodes[node].control.as_ref().expect("nothing here is fatal");
        let soonest = self.now + Duration::from_millis(1);
        self.schedule_at(control.poll_timeout().max(soonest), Event::Timer { node, run });
    }

    fn link(&mut self, dialer: usize, acceptor: usize) {
        if self.nodes[dialer].control.is_none() || self.nodes[acceptor].control.is_none() {
            return;
        }
        let ends = [dialer, acceptor];
        let link = LinkId(self.links.len() as u64);
        self.links.push(Link { ends, runs: ends.map(|end| self.nodes[end].run) });
        self.handle(acceptor, ControlInput::LinkUp { link, dialed: None, certified: name_of(dialer) });
        let dialed = Some(address_of(acceptor));
        self.handle(dialer, ControlInput::LinkUp { link, dialed, certified: name_of(acceptor) });
    }

    fn on_link_down(&mut self, link: usize) {
        let Link { ends, runs } = self.links[link];
        for (end, run) in ends.into_iter().zip(runs) {
            if self.nodes[end].run == run && self.nodes[end].control.is_some() {
                self.handle(end, ControlInput::LinkDown { link: LinkId(link as u64) });
            }
        }
    }

    fn on_frame(&mut self, link: usize, to_dialer: bool, bytes: Bytes) {
        let Link { ends, runs } = self.links[link];
        let to = usize::from(!to_dialer);
        if self.nodes[ends[to]].run != runs[to] || self.nodes[ends[to]].control.is_none() {
            return;
        }
        let frame = from_bytes(bytes);
        let message = codec::decode_control(&frame).expect("its peer encoded it");
        self.handle(ends[to], ControlInput::Message { link: LinkId(link as u64), id: frame.id, message });
    }

    fn handle(&mut self, node: usize, input: ControlInput) {
        let mut fx = ControlEffects::default();
        let now = Now { time: self.now, wall_ms: 0 };
        self.nodes[node].control.as_mut().expect("only the living are handed anything").handle(now, input, &mut fx);
        assert!(fx.fatal.is_none(), "{} ends itself: {:?}", name_of(node), fx.fatal);
        for (link, id, message) in fx.sends {
            self.transmit(node, link, id, &message);
        }
        for verdict in fx.verdicts {
            let about = index_of(verdict.node);
            let lives = self.nodes[about].control.is_some();
            self.opinions.push(Opinion { at: self.now, by: node, about, convicted: verdict.convicted, lives });
        }
    }

    fn transmit(&mut self, from: usize, link: LinkId, id: u64, message: &ControlMessage) {
        let link = usize::try_from(link.0).expect("links are counted from zero");
        let ends = self.links[link].ends;
        let to_dialer = ends[1] == from;
        let bytes = to_bytes(&codec::encode_control(id, message));
        self.bytes += bytes.len() as u64;
        self.pings += u64::from(matches!(message, ControlMessage::Ping(_)));
        let handshake = matches!(message, ControlMessage::Hello(_) | ControlMessage::HelloAnswer(_));
        let is_cut = self.cut.is_some_and(|at| (ends[0] < at) != (ends[1] < at));
        if is_cut || !handshake && self.rng.random_bool(self.loss) {
            return;
        }
        let delay = self.rng.random_range(DELAY_US.0..=DELAY_US.1);
        self.schedule(delay, Event::Frame { link, to_dialer, bytes });
    }
}
