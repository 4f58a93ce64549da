//! Accepts links, and the lanes that peers and clients open on them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::ServerError;
use super::control::{ControlEvent, PeerLink};
use super::dial::{CONTROL_PRIORITY, Dialing};
use super::lanes::{Accepted, Client, Other};
use super::sinks::{CLOSE_BROKEN, ClientSink, ControlSink, PeerSink, Switch};
use super::supervise::{OnEnd, Supervisor};
use crate::api::{ApiError, Response};
use crate::frame::codec::{OpenClient, Opening, decode_opening, encode_response};
use crate::message::PROTOCOL;
use crate::net::{IncomingLane, Link, QueueLimits, Role};
use crate::types::NodeRun;

/// See the module.
#[derive(Clone)]
pub struct Listener {
    /// The socket, control, and the links' numbers.
    pub dialing: Dialing,
    /// For the sinks.
    pub switch: Arc<Switch>,
    /// Of lanes that carry data.
    pub queue: QueueLimits,
    /// For tasks.
    pub supervisor: Supervisor,
    /// Cancelled when no more links are to be accepted.
    pub accepting: tokio_util::sync::CancellationToken,
}

impl Listener {
    /// Accepts links until the node drains.
    ///
    /// # Errors
    /// Never; the endpoint's end is the node's.
    pub async fn run(self) -> Result<(), ServerError> {
        loop {
            let incoming = tokio::select! {
                () = self.accepting.cancelled() => break,
                incoming = self.dialing.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            let listener = self.clone();
            self.supervisor.task("link", OnEnd::Ignore, async move {
                let remote = incoming.remote();
                match incoming.finish().await {
                    Ok(link) => listener.serve(link).await,
                    Err(err) => info!(%remote, %err, "connection refused"),
                }
                Ok(())
            });
        }
        // what is accepted already is served on; the part must not end before it is told to
        self.supervisor.stopping().cancelled().await;
        Ok(())
    }

    async fn serve(&self, link: Link) {
        let served = match link.identity().role {
            Role::Node => self.serve_node(&link).await,
            Role::Client => self.serve_client(&link).await,
        };
        if let Err(fault) = served {
            warn!(peer = %link.identity(), fault, "link closed");
            link.close(CLOSE_BROKEN, &fault);
        }
    }

    /// A client may open lanes for requests, and no others.
    async fn serve_client(&self, link: &Link) -> Result<(), String> {
        while let Ok(incoming) = link.accept_lane().await {
            match decode_opening(&incoming.opening) {
                Ok(Opening::Client(open)) => self.start_client(open, incoming, link),
                Ok(_) => return Err("a client may not open a node's lane".to_owned()),
                Err(err) => return Err(err.to_string()),
            }
        }
        Ok(())
    }

    fn start_client(&self, open: OpenClient, incoming: IncomingLane, link: &Link) {
        let number = self.switch.lanes.number();
        let client = Arc::new(Client { link: link.clone(), inflight: AtomicU64::new(0) });
        let sink = Arc::new(ClientSink::new(number, client.clone(), self.switch.clone()));
        let lane = incoming.start(self.queue, sink.clone());
        self.switch.lanes.insert(number, Accepted { lane: lane.clone(), other: Other::Client(client) });
        sink.started(lane.clone());
        if open.protocol != PROTOCOL {
            let reason = format!("this node speaks protocol {PROTOCOL}, you speak {}: upgrade one", open.protocol);
            let tick = self.switch.clock.time().as_micros();
            // closed already: nobody is there to be told
            let _ = lane.try_send_one(encode_response(0, tick, &Response::error(ApiError::BadRequest { reason })));
            lane.close();
        }
    }

    /// A node opens control's lane first, and its shards' lanes once control has let it in.
    async fn serve_node(&self, link: &Link) -> Result<(), String> {
        let Ok(incoming) = link.accept_lane().await else { return Ok(()) };
        match decode_opening(&incoming.opening) {
            Ok(Opening::Control) => {}
            Ok(_) => return Err("the first lane of a node must be control's".to_owned()),
            Err(err) => return Err(err.to_string()),
        }
        let id = self.dialing.number();
        let sink = Arc::new(ControlSink::new(id, link.clone(), self.dialing.events.clone(), self.switch.clone()));
        let lane = incoming.start_with_priority(CONTROL_PRIORITY, self.dialing.queue, sink.clone());
        let peer = PeerLink::new(link.clone(), lane.clone());
        let admitted = peer.admitted.clone();
        let certified = link.identity().name.clone();
        let sent = self.dialing.events.try_send(ControlEvent::LinkUp { link: id, peer, dialed: None, certified });
        sink.started(lane);
        match sent {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err("control is overloaded".to_owned()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err("the node is stopping".to_owned()),
        }
        let mut fault = None;
        while let Ok(incoming) = link.accept_lane().await {
            match (decode_opening(&incoming.opening), admitted.get()) {
                (Ok(Opening::Shard(open)), Some(peer)) => {
                    debug!(peer = %link.identity(), shard = open.shard, "lane accepted");
                    self.start_peer(*peer, incoming);
                }
                (Ok(Opening::Shard(_)), None) => fault = Some("a shard's lane before the handshake".to_owned()),
                (Ok(_), _) => fault = Some("a node opens one control lane and its shards' lanes, no others".to_owned()),
                (Err(err), _) => fault = Some(err.to_string()),
            }
            if fault.is_some() {
                break;
            }
        }
        // fails only when control has ended, and the node with it
        let _ = self.dialing.events.send(ControlEvent::LinkDown { link: id }).await;
        fault.map_or(Ok(()), Err)
    }

    fn start_peer(&self, peer: NodeRun, incoming: IncomingLane) {
        let number = self.switch.lanes.number();
        let sink = Arc::new(PeerSink::new(number, peer, self.switch.clone()));
        let lane = incoming.start(self.queue, sink.clone());
        self.switch.lanes.insert(number, Accepted { lane: lane.clone(), other: Other::Peer });
        sink.started(lane);
    }
}
