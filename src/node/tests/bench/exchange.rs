//! What peers ask, and the exchange's part of the bench: several keys of one tree.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ask, Bench, ME};
use crate::message::{
    Address, ExchangeRequest, Fetch, Items, PeerAnswer, PeerRequest, Reason, Refusal, Replicate, Replicated, TreeKey,
    Want,
};
use crate::node::{PeerRef, ShardInput};
use crate::ring::{Partitions, token_of};
use crate::storage::merkle::{Leaves, TreeId};
use crate::storage::object_key;
use crate::types::{Generation, Key, NodeId, NodeRun, RingVersion, Round, WriteId};
use crate::version::{Actor, Body, CausalContext, Digest, Dot, Object, Sibling};

impl Bench {
    /// A peer asks.
    pub fn peer(&mut self, request: PeerRequest) -> Vec<String> {
        self.peer_is(NodeId(2), request)
    }

    fn peer_is(&mut self, node: NodeId, request: PeerRequest) -> Vec<String> {
        let input = self.peer_asks(node, request);
        self.input(input)
    }

    /// What a peer asks.
    pub fn peer_asks(&mut self, node: NodeId, request: PeerRequest) -> ShardInput {
        self.next += 1;
        let from = PeerRef { node, lane: 2, id: self.next };
        ShardInput::Peer { from, generation: Generation(1), arrived: None, request }
    }

    /// A peer sends what it has read in that round.
    pub fn sends(&mut self, object: &Arc<Object>, round: u64) -> Vec<String> {
        let request = self.replicate(object, round);
        self.peer(request)
    }

    pub fn replicate(&self, object: &Arc<Object>, round: u64) -> PeerRequest {
        PeerRequest::Replicate(Replicate {
            to: self.to.clone(),
            reason: Reason::Write,
            hint_for: self.list.slot_of(ME).is_none().then(|| self.node("p0")),
            sync: true,
            round: Round(round),
            trace: false,
            object: object.clone(),
        })
    }

    /// A peer asks what this node holds.
    pub fn fetches(&mut self) -> String {
        let request = self.fetch();
        self.peer(request).join(", ")
    }

    pub fn fetch(&self) -> PeerRequest {
        let of = self.to.clone();
        PeerRequest::Fetch(Fetch { of, known: None, stand_in: false, hedge: false, trace: false })
    }

    /// Which version a peer was told, with its last fetch, that this node has.
    pub fn known_to_have(&self, name: &str) -> Option<Digest> {
        match &self.asked[&self.node(name)].1 {
            PeerRequest::Fetch(fetch) => fetch.known,
            other => panic!("{name} was sent {other:?}"),
        }
    }

    /// Whether operations of inputs before it may wait for those of this one.
    pub fn gathers(&self, input: &ShardInput) -> bool {
        self.core.shard().gathers(input)
    }

    /// The tree of the key, and of all that lie beside it.
    pub fn tree(&self) -> TreeId {
        TreeId { partition: self.to.partition, n: 3 }
    }

    /// So many keys of the tree, as the store has them, in order.
    pub fn keys(&self, count: usize) -> Vec<Bytes> {
        let Address { partition, bucket, .. } = &self.to;
        let token = |number: u32| token_of(bucket, format!("x{number}").as_bytes());
        let fits = (0..).filter(|number| Partitions::default().of(token(*number)) == *partition);
        let key = |number: u32| Key::new(format!("x{number}")).unwrap();
        let mut keys: Vec<Bytes> =
            fits.take(count).map(|number| object_key(*partition, token(number), bucket, &key(number)).into()).collect();
        keys.sort();
        keys
    }

    /// A peer sends what stands under one of these.
    pub fn sends_under(&mut self, key: &Bytes, object: &Arc<Object>) -> Vec<String> {
        let name = crate::storage::parse_object_key(key).unwrap().key.to_vec();
        self.peer(PeerRequest::Replicate(Replicate {
            to: Address { key: Key::new(name).unwrap(), ..self.to.clone() },
            reason: Reason::Exchange,
            hint_for: None,
            sync: false,
            round: Round::default(),
            trace: false,
            object: object.clone(),
        }))
    }

    /// A peer asks for the objects of these.
    pub fn wants(&mut self, from: &str, keys: &[Bytes]) -> Vec<String> {
        let keys = keys.iter().map(TreeKey::of).collect();
        let want = Want { ring: self.to.ring, tree: self.tree(), keys };
        self.peer_is(self.node(from), PeerRequest::Exchange(ExchangeRequest::Want(want)))
    }

    /// Keys that were not sent since no frame holds their objects.
    pub fn too_long(&self) -> &[Bytes] {
        &self.tape.too_long
    }

    /// The ring that all follow.
    pub fn ring(&self) -> RingVersion {
        self.to.ring
    }

    /// What a client is told at once; what peers were asked before may still be answered.
    pub fn ask_beside(&mut self, request: impl Ask) -> Vec<String> {
        let asked = self.asked.clone();
        let mut left = self.ask(request);
        self.asked = asked;
        left.retain(|said| !said.starts_with("write "));
        left
    }

    /// A peer asks for all keys of the tree but those of which it has what has these hashes.
    pub fn asks_items(&mut self, from: &str, known: &[u64]) -> Vec<String> {
        let leaves = Leaves::new(64).unwrap();
        let of = (0..64).collect();
        let (ring, tree, known) = (self.to.ring, self.tree(), known.to_vec());
        let items = Items { ring, tree, leaves, of, after: None, until: None, known, limit: 100 };
        self.peer_is(self.node(from), PeerRequest::Exchange(ExchangeRequest::Items(items)))
    }

    /// A peer has merged an object that it was sent in one of a transfer's slots, or has refused it.
    pub fn merged(&mut self, from: &str, slot: u8, outcome: Result<bool, Refusal>) -> Vec<String> {
        let node = self.node(from);
        let (id, _) = self.asked[&node];
        let answer = PeerAnswer::Replicated(Replicated { outcome, timing: None });
        let from = NodeRun { node, generation: Generation(1) };
        self.input(ShardInput::Answer { from, id: id & !0xff | u64::from(slot), answer })
    }
}

/// A blind delete by `actor`.
pub fn deleted(actor: u64) -> Arc<Object> {
    Arc::new(Object::update(None, &CausalContext::default(), tombstone(actor)))
}

/// What is left once `actor` has seen and deleted it.
pub fn delete_of(object: &Object, actor: u64) -> Arc<Object> {
    Arc::new(Object::update(Some(object), object.context(), tombstone(actor)))
}

fn tombstone(actor: u64) -> Sibling {
    let (dot, write_id) = (Dot { actor: Actor(actor), counter: 1 }, WriteId(actor.into()));
    Sibling { dot, write_id, node: NodeId(2), wall_ms: 0, body: Body::Tombstone }
}
