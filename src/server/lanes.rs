//! The lanes that shards send on: accepted ones by number, dialed ones by the node they lead to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use tracing::warn;

use super::stalled::Standing;
use crate::frame::raw::FrameLimits;
use crate::net::{Lane, Link};
use crate::types::NodeId;

/// The code with which a client's link is closed that does not take its answers.
const CLOSE_SLOW_CLIENT: u32 = 2;

/// Who is at the other end of an accepted lane.
#[derive(Clone, Debug)]
pub enum Other {
    /// A client. Values that its queue does not hold are answered "overloaded"; when not even short answers fit, it is
    /// closed, link and all.
    Client(Arc<Client>),
    /// A peer's shard. Answers that do not fit are dropped: it asks again.
    Peer,
}

/// A client's end of a lane.
#[derive(Debug)]
pub struct Client {
    /// The link.
    pub link: Link,
    /// Requests that have been taken and not answered.
    pub inflight: AtomicU64,
}

/// An accepted lane.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// To send on.
    pub lane: Lane,
    /// Who listens.
    pub other: Other,
}

/// What has happened on lanes, for metrics.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// Frames that shards have sent.
    pub frames: AtomicU64,
    /// Frames dropped because the lane was full.
    pub dropped_full: AtomicU64,
    /// Frames dropped because there was no lane any more.
    pub dropped_gone: AtomicU64,
    /// Answers replaced or dropped because they were longer than a frame may be.
    pub dropped_long: AtomicU64,
    /// Clients closed because they did not take their answers.
    pub closed_clients: AtomicU64,
    /// Lanes closed because a frame on them was no message.
    pub bad_frames: AtomicU64,
    /// Client requests answered "overloaded" by the listener.
    pub overloaded_clients: AtomicU64,
    /// Peer requests refused as "overloaded" by the listener.
    pub overloaded_peers: AtomicU64,
}

impl LaneCounters {
    /// Adds to one of them.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// One shard's way to its peers.
pub type Routes = BTreeMap<NodeId, Lane>;

/// All lanes of a node that carry data.
#[derive(Debug)]
pub struct Lanes {
    next: AtomicU64,
    accepted: RwLock<BTreeMap<u64, Accepted>>,
    /// By shard.
    routes: Vec<ArcSwap<Routes>>,
    /// The longest frames that peers and clients take.
    pub limits: FrameLimits,
    /// What has happened.
    pub counters: LaneCounters,
}

impl Lanes {
    /// No lanes, for so many shards.
    pub fn new(shards: u16, limits: FrameLimits) -> Lanes {
        let routes = std::iter::repeat_with(ArcSwap::default).take(usize::from(shards)).collect();
        Lanes {
            next: AtomicU64::new(1),
            accepted: RwLock::default(),
            routes,
            limits,
            counters: LaneCounters::default(),
        }
    }

    /// A number for a lane that is about to be accepted.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A lane has been accepted.
    pub fn insert(&self, number: u64, accepted: Accepted) {
        self.write().insert(number, accepted);
    }

    /// It is closed.
    pub fn remove(&self, number: u64) {
        self.write().remove(&number);
    }

    /// Calls `visit` with the lane of each number in `numbers`, `None` for those that are gone.
    pub fn look_up(&self, numbers: impl Iterator<Item = u64>, mut visit: impl FnMut(u64, Option<Accepted>)) {
        let found: Vec<_> = {
            let accepted = self.accepted.read().expect("a panic ends the process before the lock is met again");
            numbers.map(|number| (number, accepted.get(&number).cloned())).collect()
        };
        found.into_iter().for_each(|(number, lane)| visit(number, lane));
    }

    /// A shard's routes as they are now.
    pub fn routes(&self, shard: u16) -> Arc<Routes> {
        self.routes[usize::from(shard)].load_full()
    }

    /// A peer can be reached: by the lane at each shard's index. To be called by one task only.
    pub fn add_route(&self, node: NodeId, lanes: Vec<Lane>) {
        for (routes, lane) in self.routes.iter().zip(lanes) {
            let mut changed = Routes::clone(&routes.load());
            changed.insert(node, lane);
            routes.store(Arc::new(changed));
        }
    }

    /// A peer cannot be reached any more. To be called by one task only.
    pub fn remove_route(&self, node: NodeId) {
        for routes in &self.routes {
            let mut changed = Routes::clone(&routes.load());
            changed.remove(&node);
            routes.store(Arc::new(changed));
        }
    }

    /// Accepted lanes that are open: of clients, and of peers.
    pub fn count(&self) -> (usize, usize) {
        let accepted = self.accepted.read().expect("a panic ends the process before the lock is met again");
        let clients = accepted.values().filter(|accepted| matches!(accepted.other, Other::Client(_))).count();
        (clients, accepted.len() - clients)
    }

    /// Bytes that wait to be sent, over all lanes.
    pub fn queued_bytes(&self) -> usize {
        let accepted = self.accepted.read().expect("a panic ends the process before the lock is met again");
        let dialed = self.routes.iter().map(|routes| routes.load().values().map(Lane::queued_bytes).sum::<usize>());
        accepted.values().map(|accepted| accepted.lane.queued_bytes()).sum::<usize>() + dialed.sum::<usize>()
    }

    /// How the clients' lanes stand.
    pub fn clients(&self) -> Vec<Standing> {
        let accepted = self.accepted.read().expect("a panic ends the process before the lock is met again");
        let clients = accepted.iter().filter(|(_, accepted)| matches!(accepted.other, Other::Client(_)));
        let standing = |(number, Accepted { lane, .. }): (&u64, &Accepted)| Standing {
            lane: *number,
            queued: lane.queued_bytes(),
            progress: lane.progress(),
        };
        clients.map(standing).collect()
    }

    /// Closes a client, link and all, that does not take its answers.
    pub fn close_slow(&self, number: u64) {
        self.look_up(std::iter::once(number), |_, accepted| {
            if let Some(Accepted { other: Other::Client(client), .. }) = accepted {
                warn!(client = %client.link.identity(), "closed: it does not take its answers");
                LaneCounters::add(&self.counters.closed_clients, 1);
                client.link.close(CLOSE_SLOW_CLIENT, "you do not take your answers");
            }
        });
    }

    /// Takes nothing more to be sent; what is queued goes out.
    pub fn close(&self) {
        let accepted = self.accepted.read().expect("a panic ends the process before the lock is met again");
        accepted.values().for_each(|accepted| accepted.lane.close());
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u64, Accepted>> {
        self.accepted.write().expect("a panic ends the process before the lock is met again")
    }
}
