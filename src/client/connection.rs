//! One node's lane: requests out, answers matched to the attempts that wait for them.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use bytes::Bytes;
use tracing::{debug, warn};

use super::mailbox::Ticket;
use super::peer::Peer;
use super::session::Loss;
use super::slots::Slots;
use super::tick::TickBound;
use crate::api::{ApiError, Deadline, Request, Response};
use crate::frame::PROTOCOL;
use crate::frame::codec::{OpenClient, Opening};
use crate::frame::codec::{decode_response, encode_client_request, encode_opening};
use crate::frame::raw::{FrameError, RawFrame};
use crate::net::{FrameSink, Lane, LaneClosed, Link, NetError, QueueLimits, SendError};
use crate::types::Time;

/// What may wait for the network: twice the longest frame at least, and as many requests as there are permits.
const QUEUE: QueueLimits = QueueLimits { max_bytes: 16 << 20, max_frames: 16 << 10 };

/// What became of a request that was to be sent.
pub(super) enum Asked {
    /// It is on its way; the answer comes by ticket. [`Connection::forget`] takes the id.
    Sent(Arc<Connection>, u64),
    /// It waits for a connection; whether it is sent, and all else, comes by ticket.
    Waiting,
    /// It is known already what becomes of it, and the ticket said so.
    Settled,
}

/// A lane to one node.
pub(super) struct Connection {
    /// The node's name, as its certificate says.
    pub(super) name: String,
    shared: Arc<Shared>,
    lane: Lane,
    /// Kept so that the link lives as long as this handle.
    link: Link,
}

/// What the lane's reader and the callers share.
struct Shared {
    peer: Weak<Peer>,
    waiting: Mutex<Waiting>,
    lane: OnceLock<Lane>,
}

struct Waiting {
    tickets: Slots<Ticket>,
    tick: TickBound,
    /// Set once, when the lane is closed.
    closed: Option<Loss>,
}

impl Connection {
    /// Opens the client's lane on a link.
    pub(super) async fn open(link: Link, peer: Weak<Peer>) -> Result<Arc<Connection>, NetError> {
        let waiting = Waiting { tickets: Slots::new(), tick: TickBound::default(), closed: None };
        let shared = Arc::new(Shared { peer, waiting: Mutex::new(waiting), lane: OnceLock::new() });
        let opening = encode_opening(&Opening::Client(OpenClient { protocol: PROTOCOL }));
        let lane = link.open_lane(opening, 0, QUEUE, shared.clone()).await?;
        let _ = shared.lane.set(lane.clone());
        Ok(Arc::new(Connection { name: link.identity().name.clone(), shared, lane, link }))
    }

    /// Sends a request with what is left until `until`.
    pub(super) fn ask(self: &Arc<Self>, now: Time, request: &Request, until: Time, ticket: Ticket) -> Asked {
        let (id, tick) = {
            let mut waiting = self.shared.waiting();
            if let Some(loss) = waiting.closed.clone() {
                drop(waiting);
                ticket.lose(loss);
                return Asked::Settled;
            }
            (waiting.tickets.insert(ticket), waiting.tick.at(now))
        };
        let deadline = Deadline::after(until.since(now), tick);
        let frame = encode_client_request(id, &request.with_deadline(deadline));
        let Err(error) = self.lane.try_send_one(frame) else { return Asked::Sent(self.clone(), id) };
        // whoever closed the lane in between may have settled it
        if let Some(ticket) = self.shared.take(id) {
            match error {
                SendError::Full => ticket.full(),
                SendError::Closed => ticket.lose(Loss { reason: "the connection is closing".into(), auth: false }),
                SendError::TooLong(error) => ticket.answer(Response::error(too_long(request, error))),
            }
        }
        Asked::Settled
    }

    /// Stops waiting for an answer.
    pub(super) fn forget(&self, id: u64) {
        if let Some(ticket) = self.shared.take(id) {
            ticket.withdraw();
        }
    }

    /// Lets go of the node, once what is queued has been sent.
    pub(super) fn close(&self) {
        self.lane.close();
    }

    /// The node's address.
    pub(super) fn remote(&self) -> std::net::SocketAddr {
        self.link.remote()
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no code panics while it holds a connection's waiters")
    }

    fn take(&self, id: u64) -> Option<Ticket> {
        self.waiting().tickets.take(id)
    }

    fn label(&self) -> String {
        self.peer.upgrade().map_or_else(String::new, |peer| peer.label())
    }
}

impl FrameSink for Shared {
    fn on_frames(&self, frames: &mut Vec<RawFrame>) {
        let Some(now) = self.peer.upgrade().map(|peer| peer.now()) else { return };
        let mut answers = Vec::with_capacity(frames.len());
        for frame in frames.drain(..) {
            let id = frame.id;
            match decode_response(frame) {
                Ok((tick, response)) => answers.push((id, tick, response)),
                Err(error) => {
                    warn!(node = %self.label(), %error, "the node sent what is no answer, closing the connection");
                    if let Some(lane) = self.lane.get() {
                        lane.close();
                    }
                    break;
                }
            }
        }
        let mut waiting = self.waiting();
        let matched: Vec<_> = answers
            .into_iter()
            .filter_map(|(id, tick, response)| {
                waiting.tick.observe(now, tick);
                // an answer to a call that has gone finds nobody
                waiting.tickets.take(id).map(|ticket| (ticket, response))
            })
            .collect();
        drop(waiting);
        for (ticket, response) in matched {
            ticket.answer(response);
        }
    }

    fn on_closed(&self, reason: &LaneClosed) {
        let loss = Loss { reason: format!("the connection was lost: {reason}").into(), auth: false };
        debug!(node = %self.label(), %reason, "connection closed");
        let tickets = {
            let mut waiting = self.waiting();
            waiting.closed = Some(loss.clone());
            waiting.tickets.drain()
        };
        // the peer first, so that those who retry at once do not find this connection again
        if let Some(peer) = self.peer.upgrade() {
            peer.on_lost(&loss, matches!(reason, LaneClosed::Local));
        }
        for ticket in tickets {
            ticket.lose(loss.clone());
        }
    }
}

/// A frame that no node would take: nothing was sent.
fn too_long(request: &Request, error: FrameError) -> ApiError {
    match (request, error) {
        (Request::Put(put), FrameError::TooLong { len, max }) => {
            let value = put.value.as_ref().map_or(0, Bytes::len);
            let around = len.saturating_sub(value);
            ApiError::ValueTooLarge { len: value as u64, max: max.saturating_sub(around) as u64 }
        }
        _ => ApiError::BadRequest { reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Put, PutHeader};
    use crate::types::{Bucket, Key, WriteId};

    #[test]
    fn a_frame_too_long_is_told_as_a_value_too_large() {
        let header = PutHeader::new(Bucket::default(), Key::new("k").unwrap(), WriteId(1));
        let put = Request::Put(Put { header, value: Some(Bytes::from(vec![0; 1000])) });
        let error = too_long(&put, FrameError::TooLong { len: 1100, max: 500 });
        assert_eq!(error, ApiError::ValueTooLarge { len: 1000, max: 400 });
        let error = too_long(&Request::Ring, FrameError::HeaderTooLong { len: 9, max: 8 });
        assert!(matches!(error, ApiError::BadRequest { .. }));
    }
}
