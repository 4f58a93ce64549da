//! The driver of [`Control`]: one task that feeds it and does what it asks, records first.
//!
//! ```text
//!   listener, dialers --ControlEvent--> ControlTask --> disk, then: control lanes, links, routes, dialers
//!                                            |
//!                                            +--> shards (ring, standing, links, verdicts), board (ring, status)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::ServerError;
use super::board::{Board, View};
use super::clock::Clock;
use super::dial::Dialing;
use super::disk::Disk;
use super::local_ranges::lacking_quorum;
use super::shards_start::ShardsStart;
use super::sinks::{AnswerSink, CLOSE_BROKEN, Switch};
use super::supervise::{OnEnd, Supervisor};
use crate::antientropy::tree_shape;
use crate::frame::codec::{OpenShard, Opening, encode_control, encode_opening};
use crate::gossip::Verdict;
use crate::message::ControlMessage;
use crate::net::{Lane, Link, QueueLimits};
use crate::node::{Control, ControlEffects, ControlInput, LinkId, Route, ShardInput};
use crate::storage::merkle::Forest;
use crate::storage::{Rounds, StorageError};
use crate::types::{NodeId, NodeRun};

/// Events that may wait for control; the senders say what they do when it is full.
pub const MAX_EVENTS: usize = 4096;
/// The code with which control closes links.
const CLOSE_CONTROL: u32 = 1;
/// How long a link's last words may take to go out before it is closed.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often control hears how far the disk has come.
const TELL_SYNCED: Duration = Duration::from_secs(1);

/// One link to a peer, with its control lane.
#[derive(Clone, Debug)]
pub struct PeerLink {
    /// The link.
    pub link: Link,
    /// Control's lane on it.
    pub lane: Lane,
    /// Who the peer is, once control has let it in: its shards may open lanes then.
    pub admitted: Arc<OnceLock<NodeRun>>,
}

impl PeerLink {
    /// A link whose handshake is still to come.
    pub fn new(link: Link, lane: Lane) -> PeerLink {
        PeerLink { link, lane, admitted: Arc::default() }
    }
}

/// What control's task hears.
#[derive(Debug)]
pub enum ControlEvent {
    /// A link stands.
    LinkUp {
        /// Its number.
        link: LinkId,
        /// To speak on.
        peer: PeerLink,
        /// The address that this node dialed, if it did.
        dialed: Option<String>,
        /// The peer's name by its certificate.
        certified: String,
    },
    /// A link is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A peer's control has said something.
    Message {
        /// Where.
        link: LinkId,
        /// The frame's id.
        id: u64,
        /// What.
        message: ControlMessage,
    },
    /// The shards' lanes to a peer are open, or could not be opened.
    Lanes {
        /// On which link.
        link: LinkId,
        /// To whom.
        node: NodeId,
        /// One for each shard.
        lanes: Result<Vec<Lane>, String>,
    },
}

/// See the module.
pub struct ControlTask {
    /// The machine.
    pub control: Control,
    /// The clocks.
    pub clock: Clock,
    /// For records.
    pub disk: Arc<Disk>,
    /// What others see.
    pub board: Arc<Board>,
    /// For the sinks of the shards' lanes.
    pub switch: Arc<Switch>,
    /// For tasks.
    pub supervisor: Supervisor,
    /// For dialers.
    pub dialing: Dialing,
    /// Of the shards' lanes.
    pub queue: QueueLimits,
    /// Starts the shards when there is a ring; then `None`.
    pub shards: Option<ShardsStart>,
    /// Seeds the dialers.
    pub seed: u64,
    /// Links that stand.
    pub links: BTreeMap<LinkId, PeerLink>,
    /// By address.
    pub dialers: BTreeMap<String, CancellationToken>,
    /// Peers whose lanes are open.
    pub reachable: BTreeSet<NodeId>,
}

impl ControlTask {
    /// Runs until the node stops, or control wants it to.
    ///
    /// # Errors
    /// [`ServerError::Fatal`] or [`ServerError::FixedAtBirth`] from control, [`ServerError::Storage`] if a record could not
    /// be written.
    pub async fn run(mut self, mut events: mpsc::Receiver<ControlEvent>) -> Result<(), ServerError> {
        let stopping = self.supervisor.stopping().clone();
        let mut synced = tokio::time::interval(TELL_SYNCED);
        self.handle(ControlInput::Timer).await?;
        loop {
            let due = self.clock.instant(self.control.poll_timeout());
            tokio::select! {
                () = stopping.cancelled() => break,
                () = tokio::time::sleep_until(due) => self.handle(ControlInput::Timer).await?,
                _ = synced.tick() => {
                    let synced = self.disk.synced();
                    if synced > self.control.synced() {
                        self.handle(ControlInput::Synced(synced)).await?;
                    }
                    if self.switch.shards.are_rebuilt() {
                        self.handle(ControlInput::Rebuilt).await?;
                    }
                }
                event = events.recv() => match event {
                    Some(event) => self.on_event(event).await?,
                    None => break,
                },
            }
        }
        self.dialers.values().for_each(CancellationToken::cancel);
        Ok(())
    }

    async fn on_event(&mut self, event: ControlEvent) -> Result<(), ServerError> {
        match event {
            ControlEvent::LinkUp { link, peer, dialed, certified } => {
                self.links.insert(link, peer);
                self.handle(ControlInput::LinkUp { link, dialed, certified }).await
            }
            ControlEvent::LinkDown { link } => {
                if self.links.remove(&link).is_none() {
                    return Ok(());
                }
                self.handle(ControlInput::LinkDown { link }).await
            }
            ControlEvent::Message { link, id, message } => {
                self.handle(ControlInput::Message { link, id, message }).await
            }
            ControlEvent::Lanes { link, node, lanes } => {
                self.on_lanes(link, node, lanes);
                self.publish();
                Ok(())
            }
        }
    }

    async fn handle(&mut self, input: ControlInput) -> Result<(), ServerError> {
        let mut fx = ControlEffects::default();
        self.control.handle(self.clock.now(), input, &mut fx);
        self.execute(fx).await?;
        self.publish();
        Ok(())
    }

    /// In this order: a peer hears of nothing that a crash could undo, and is let in before it hears so.
    async fn execute(&mut self, fx: ControlEffects) -> Result<(), ServerError> {
        let ControlEffects { persist, sends, met, admit, close, routes, dial, ring, standing, verdicts, fatal } = fx;
        if !persist.is_empty() {
            let disk = self.disk.clone();
            self.supervisor.blocking("control records", move || disk.persist(persist)).await??;
        }
        for run in met {
            self.switch.shards.notify(&ShardInput::Met(run));
        }
        for (link, run) in admit {
            if let Some(peer) = self.links.get(&link) {
                peer.admitted.get_or_init(|| run);
            }
        }
        for (link, id, message) in sends {
            let Some(peer) = self.links.get(&link) else { continue };
            if let Err(err) = peer.lane.try_send_one(encode_control(id, &message)) {
                debug!(peer = %peer.link.identity(), %err, "control message not sent");
            }
        }
        close.into_iter().for_each(|(link, reason)| self.close(link, &reason));
        routes.into_iter().for_each(|route| self.on_route(route));
        if let Some(wanted) = dial {
            self.dial(&wanted);
        }
        let mut told = None;
        if let Some(ring) = ring {
            if let Some(start) = self.shards.take() {
                info!(node = %self.control.node(), ring = ring.version().0, members = ring.layout().members().len(), "part of the ring");
                start.check_birth(ring.layout())?;
                let (disk, leaves, layout) = (self.disk.clone(), start.config.leaves(), ring.layout().clone());
                let load = move || {
                    let forest = Forest::load(&**disk.engine(), leaves, Some(&tree_shape(&layout)))?;
                    Ok::<_, StorageError>((forest, Rounds::load(&**disk.engine())?))
                };
                let (forest, rounds) = self.supervisor.blocking("Merkle trees", load).await??;
                start.start(self.control.node(), (&forest, &rounds), &self.supervisor);
            }
            self.switch.shards.notify(&ShardInput::Ring(ring.clone()));
            told = Some(ring);
        }
        if let Some(standing) = standing {
            self.switch.shards.notify(&ShardInput::Standing(standing));
        }
        if let Some(ring) = told {
            // Whoever has seen it may give the shards orders: they serve it by then.
            self.board.set_ring(ring);
        }
        for Verdict { node, convicted } in verdicts {
            if convicted {
                warn!(%node, "silent and answers no probe: held for dead");
            } else {
                info!(%node, "heard of again");
            }
            self.switch.shards.notify(&ShardInput::Verdict { node, convicted });
        }
        fatal.map_or(Ok(()), |fatal| Err(fatal.into()))
    }

    /// Closes a link once what control has said on it is out.
    fn close(&self, link: LinkId, reason: &str) {
        let Some(PeerLink { link, lane, .. }) = self.links.get(&link).cloned() else { return };
        warn!(peer = %link.identity(), reason, "closing link");
        let reason = reason.to_owned();
        self.supervisor.task("farewell", OnEnd::Ignore, async move {
            lane.close();
            // the peer has read it all when it closes the link itself
            let _ = tokio::time::timeout(FAREWELL, link.closed()).await;
            link.close(CLOSE_CONTROL, &reason);
            Ok(())
        });
    }

    fn on_route(&mut self, route: Route) {
        match route {
            Route::Up { peer: run, link } => {
                if let Some(peer) = self.links.get(&link) {
                    self.open_lanes(run, link, peer.link.clone());
                }
            }
            Route::Down { node } => self.on_unreachable(node),
        }
    }

    fn open_lanes(&self, peer: NodeRun, id: LinkId, link: Link) {
        let (switch, queue, events) = (self.switch.clone(), self.queue, self.dialing.events.clone());
        self.supervisor.task("lanes to a peer", OnEnd::Ignore, async move {
            let lanes = open_lanes(&switch, queue, peer, &link).await;
            // fails only when control has ended, and the node with it
            let _ = events.send(ControlEvent::Lanes { link: id, node: peer.node, lanes }).await;
            Ok(())
        });
    }

    fn on_lanes(&mut self, link: LinkId, node: NodeId, lanes: Result<Vec<Lane>, String>) {
        let Some(peer) = self.links.get(&link) else { return };
        match lanes {
            Ok(lanes) => {
                info!(peer = %peer.link.identity(), "peer reachable");
                self.switch.lanes.add_route(node, lanes);
                self.switch.shards.notify(&ShardInput::Link { node, up: true });
                self.reachable.insert(node);
            }
            Err(reason) => {
                warn!(peer = %peer.link.identity(), reason, "no lanes, closing the link");
                peer.link.close(CLOSE_BROKEN, "it grants no lanes");
            }
        }
    }

    fn on_unreachable(&mut self, node: NodeId) {
        if self.reachable.remove(&node) {
            info!(%node, "peer not reachable");
            self.switch.lanes.remove_route(node);
            self.switch.shards.notify(&ShardInput::Link { node, up: false });
        }
    }

    fn dial(&mut self, wanted: &BTreeSet<String>) {
        self.dialers.retain(|address, cancel| {
            let keep = wanted.contains(address);
            if !keep {
                cancel.cancel();
            }
            keep
        });
        for address in wanted {
            if self.dialers.contains_key(address) {
                continue;
            }
            let cancel = self.supervisor.stopping().child_token();
            self.dialers.insert(address.clone(), cancel.clone());
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (dialing, address, seed) = (self.dialing.clone(), address.clone(), self.seed);
            self.supervisor.task("dialing", OnEnd::Ignore, async move {
                dialing.run(address, seed, cancel).await;
                Ok(())
            });
        }
    }

    fn publish(&self) {
        let lacking = self.control.view().and_then(|view| lacking_quorum(view, self.control.node(), &self.reachable));
        self.board.set_view(View { status: self.control.status(), lacking, strangers: self.control.strangers() });
    }
}

async fn open_lanes(switch: &Arc<Switch>, queue: QueueLimits, peer: NodeRun, link: &Link) -> Result<Vec<Lane>, String> {
    let mut lanes = Vec::new();
    for shard in 0..u16::try_from(switch.shards.all().len()).expect("shards are counted by a u16") {
        let sink = Arc::new(AnswerSink::new(peer, shard, link.clone(), switch.clone()));
        let opening = encode_opening(&Opening::Shard(OpenShard { shard }));
        let lane = link.open_lane(opening, 0, queue, sink.clone()).await.map_err(|err| err.to_string())?;
        sink.started(lane.clone());
        lanes.push(lane);
    }
    Ok(lanes)
}
