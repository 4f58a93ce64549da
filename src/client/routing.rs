//! Whom the client knows, and which of them hold a key.

use std::sync::Arc;

use super::hub::Network;
use super::peer::Peer;
use super::session::Target;
use crate::ring::RingView;
use crate::types::{Bucket, NodeId, PartitionId, RingVersion, Token};

/// One state of knowledge. A call keeps the one that it began with.
pub(super) struct Routing {
    /// The ring, once a node has told it.
    pub(super) view: Option<Arc<RingView>>,
    /// Members, then the endpoints that are not a member's address; a [`Target`] is an index into them.
    pub(super) peers: Vec<Arc<Peer>>,
    /// The members' places in `peers`, by id.
    members: Vec<(NodeId, Target)>,
}

impl Routing {
    /// Nothing but endpoints.
    pub(super) fn start(endpoints: &[String], network: &Arc<Network>) -> Routing {
        let peers = endpoints.iter().map(|address| Peer::new(address.clone(), network.clone())).collect();
        Routing { view: None, peers, members: Vec::new() }
    }

    /// With another ring; peers at known addresses stay as they are.
    pub(super) fn with_ring(&self, view: Arc<RingView>, endpoints: &[String], network: &Arc<Network>) -> Routing {
        let known = |address: &str| self.peers.iter().find(|peer| peer.address() == address).cloned();
        let peer = |address: &str| known(address).unwrap_or_else(|| Peer::new(address.to_owned(), network.clone()));
        let layout = view.layout();
        let mut peers: Vec<_> = layout.members().iter().map(|member| peer(&member.address)).collect();
        let members = layout.members().iter().map(|member| member.id).zip((0..).map(Target)).collect();
        for endpoint in endpoints {
            if !peers.iter().any(|peer| peer.address() == endpoint) {
                peers.push(peer(endpoint));
            }
        }
        Routing { view: Some(view), peers, members }
    }

    /// The ring's version; 0 without one.
    pub(super) fn version(&self) -> RingVersion {
        self.view.as_ref().map_or(RingVersion(0), |view| view.layout().version())
    }

    pub(super) fn peer(&self, target: Target) -> &Arc<Peer> {
        &self.peers[usize::from(target.0)]
    }

    pub(super) fn member(&self, node: NodeId) -> Option<Target> {
        let place = self.members.binary_search_by_key(&node, |(id, _)| *id).ok()?;
        Some(self.members[place].1)
    }

    /// The primaries of a partition; empty if the ring is not known, or does not know the bucket.
    pub(super) fn primaries(&self, partition: PartitionId, bucket: &Bucket) -> Vec<Target> {
        let list = self.view.as_ref().and_then(|view| view.preference(partition, bucket));
        list.map_or_else(Vec::new, |list| list.slots().iter().filter_map(|node| self.member(*node)).collect())
    }

    /// The primaries of a key, as [`PreferenceList::coordinators`](crate::ring::PreferenceList::coordinators) has them; empty as
    /// [`Routing::primaries`].
    pub(super) fn coordinators(&self, partition: PartitionId, token: Token, bucket: &Bucket) -> Vec<Target> {
        let list = self.view.as_ref().and_then(|view| view.preference(partition, bucket));
        let order = list.map_or_else(Vec::new, |list| list.coordinators(token));
        order.into_iter().filter_map(|node| self.member(node)).collect()
    }

    /// Whom a preference list's target is, for people.
    pub(super) fn label(&self, target: Target) -> String {
        let peer = self.peer(target);
        let node = self.members.iter().find(|(_, place)| *place == target).map(|(node, _)| *node);
        let member = node.and_then(|node| self.view.as_ref()?.layout().member(node));
        member.map_or_else(|| peer.label(), |member| format!("{} ({})", member.name, member.address))
    }

    /// A node's name in the ring, or its id.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let member = self.view.as_ref().and_then(|view| view.layout().member(node));
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    }
}
