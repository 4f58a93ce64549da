//! A proxy of datagrams between nodes, in user space: no kernel module, no root.
//!
//! Each node advertises the proxy's address for it, its *front*. A node dials from the socket that it listens on, so the source
//! of a datagram at a front tells which node sent it; any other source is a client, and passes untouched. Towards the node
//! every source has a socket of its own, its *back*: what the node answers comes back there. So each pair of nodes keeps its
//! addresses for as long as the proxy lives, restarts included, and no connection seems to migrate.
//!
//! ```text
//! n1 ---> [front of n2] --- fate of n1 -> n2 ---> [back of n1 at n2] ---> n2
//! n1 <--- [front of n2] <-- fate of n2 -> n1 ---- [back of n1 at n2] <--- n2
//! ```

pub mod weather;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use self::weather::{Climate, Fate, Weather};
use super::effect::{Effect, Effects};

/// The longest datagram there is.
const LONGEST: usize = 1 << 16;

/// Sockets that take datagrams, not listened to yet: their addresses go into the nodes' configurations.
pub struct Fronts(Vec<UdpSocket>);

impl Fronts {
    /// One for each of so many nodes.
    pub async fn bind(nodes: usize) -> Result<Fronts> {
        let mut fronts = Vec::with_capacity(nodes);
        for _ in 0..nodes {
            fronts.push(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a socket of the proxy")?);
        }
        Ok(Fronts(fronts))
    }

    /// Where others reach each node.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.0.iter().map(|front| front.local_addr().context("a socket of the proxy")).collect()
    }

    /// Starts to pass datagrams on; `nodes` are the addresses that the nodes listen on.
    pub fn open(self, nodes: Vec<SocketAddr>, effects: Arc<Effects>, seed: u64) -> Proxy {
        let climate = Arc::new(Mutex::new(Climate::new(nodes.len(), seed)));
        let shared = Arc::new(Shared { nodes, climate: climate.clone(), effects });
        let mut tasks = JoinSet::new();
        for (node, front) in self.0.into_iter().enumerate() {
            let gate = Gate { node, front: Arc::new(front), shared: shared.clone(), backs: BTreeMap::new() };
            tasks.spawn(gate.run());
        }
        Proxy { climate, _tasks: tasks }
    }
}

/// All fronts at work, until it is dropped.
pub struct Proxy {
    climate: Arc<Mutex<Climate>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Cuts these directions, each from a sender to a receiver.
    pub fn cut(&self, ways: &[(usize, usize)]) {
        let mut climate = self.climate.lock().expect("nobody panics while drawing fates");
        ways.iter().for_each(|(from, to)| climate.cut(*from, *to));
    }

    /// Takes [`Proxy::cut`] back.
    pub fn mend(&self, ways: &[(usize, usize)]) {
        let mut climate = self.climate.lock().expect("nobody panics while drawing fates");
        ways.iter().for_each(|(from, to)| climate.mend(*from, *to));
    }

    /// Sets the weather of these directions.
    pub fn set(&self, ways: &[(usize, usize)], weather: Weather) {
        let mut climate = self.climate.lock().expect("nobody panics while drawing fates");
        ways.iter().for_each(|(from, to)| climate.set(*from, *to, weather));
    }
}

struct Shared {
    nodes: Vec<SocketAddr>,
    climate: Arc<Mutex<Climate>>,
    effects: Arc<Effects>,
}

impl Shared {
    /// When copies of a datagram arrive; with a client at one end, at once.
    fn arrivals(&self, from: Option<usize>, to: Option<usize>) -> Vec<Duration> {
        let (Some(from), Some(to)) = (from, to) else { return vec![Duration::ZERO] };
        let fate = self.climate.lock().expect("nobody panics while drawing fates").fate(from, to);
        match fate {
            Fate::Cut => self.effects.saw(Effect::Cut),
            Fate::Lost => self.effects.saw(Effect::Lost),
            Fate::Arrives(delays) => {
                self.effects.add(Effect::Doubled, delays.len() as u64 - 1);
                self.effects.add(Effect::Delayed, u64::from(delays.iter().any(|delay| !delay.is_zero())));
                return delays;
            }
        }
        Vec::new()
    }
}

/// One front, and its backs by the source of what came to it.
struct Gate {
    node: usize,
    front: Arc<UdpSocket>,
    shared: Arc<Shared>,
    backs: BTreeMap<SocketAddr, Back>,
}

struct Back {
    /// The node behind the source; none is a client.
    peer: Option<usize>,
    socket: Arc<UdpSocket>,
    /// Ends with the gate.
    _returns: JoinSet<()>,
}

impl Gate {
    async fn run(mut self) {
        let mut buffer = vec![0; LONGEST];
        loop {
            // errors are about datagrams sent before, which may be lost
            let Ok((len, source)) = self.front.recv_from(&mut buffer).await else { continue };
            let (node, target, shared) = (self.node, self.shared.nodes[self.node], self.shared.clone());
            let Some(Back { peer, socket, .. }) = self.back(source).await else { continue };
            deliver(socket, target, &buffer[..len], shared.arrivals(*peer, Some(node))).await;
        }
    }

    /// The back of a source; without a socket left, its datagram is lost.
    async fn back(&mut self, source: SocketAddr) -> Option<&Back> {
        if !self.backs.contains_key(&source) {
            let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?);
            let peer = self.shared.nodes.iter().position(|node| *node == source);
            let mut returns = JoinSet::new();
            let (node, front, shared) = (self.node, self.front.clone(), self.shared.clone());
            returns.spawn(come_back(node, peer, source, socket.clone(), front, shared));
            self.backs.insert(source, Back { peer, socket, _returns: returns });
        }
        self.backs.get(&source)
    }
}

/// Passes on what `node` sends to the source of a back.
async fn come_back(
    node: usize,
    peer: Option<usize>,
    source: SocketAddr,
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    shared: Arc<Shared>,
) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let Ok((len, from)) = back.recv_from(&mut buffer).await else { continue };
        if from == shared.nodes[node] {
            deliver(&front, source, &buffer[..len], shared.arrivals(Some(node), peer)).await;
        }
    }
}

/// Sends copies after their delays. What cannot be sent is lost, as datagrams are.
async fn deliver(socket: &Arc<UdpSocket>, target: SocketAddr, datagram: &[u8], arrivals: Vec<Duration>) {
    for delay in arrivals {
        if delay.is_zero() {
            let _ = socket.send_to(datagram, target).await;
        } else {
            let (socket, datagram) = (socket.clone(), datagram.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = socket.send_to(&datagram, target).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    async fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 64];
        let (len, from) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        (buffer[..len].to_vec(), from)
    }

    #[tokio::test]
    async fn a_pair_is_told_by_its_source_and_clients_pass_untouched() {
        let (n1, n2, client) = (socket().await, socket().await, socket().await);
        let fronts = Fronts::bind(2).await.unwrap();
        let at = fronts.addresses().unwrap();
        let effects = Arc::new(Effects::default());
        let nodes = [&n1, &n2].map(|node| node.local_addr().unwrap());
        let proxy = fronts.open(nodes.to_vec(), effects.clone(), 1);

        n1.send_to(b"hello", at[1]).await.unwrap();
        let (hello, back) = next(&n2).await;
        assert_eq!(hello, b"hello");
        n2.send_to(b"welcome", back).await.unwrap();
        assert_eq!(next(&n1).await, (b"welcome".to_vec(), at[1]), "the answer comes from where was asked");

        proxy.cut(&[(0, 1)]);
        n1.send_to(b"swallowed", at[1]).await.unwrap();
        client.send_to(b"client", at[1]).await.unwrap();
        let (first, other) = next(&n2).await;
        assert_eq!(first, b"client");
        assert_ne!(other, back);
        n2.send_to(b"still open", back).await.unwrap();
        assert_eq!(next(&n1).await.0, b"still open", "the other direction is not cut");

        proxy.mend(&[(0, 1)]);
        proxy.set(&[(0, 1)], Weather { duplication: 1.0, ..Weather::default() });
        n1.send_to(b"twice", at[1]).await.unwrap();
        assert_eq!([next(&n2).await, next(&n2).await], [(b"twice".to_vec(), back), (b"twice".to_vec(), back)]);
        let counts = effects.counts();
        assert_eq!((counts[Effect::Cut as usize], counts[Effect::Doubled as usize]), (1, 1));
    }
}
