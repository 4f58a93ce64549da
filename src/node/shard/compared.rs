//! The other side of an exchange: what peers ask of this node's trees.

use std::collections::BTreeMap;

use super::transfer::For;
use super::{Shard, refusal_of};
use crate::antientropy::primaries;
use crate::message::{
    Compare, Compared, ExchangeAnswer, ExchangeRequest, Itemized, OtherItem, PeerAnswer, Refusal, Summed, TreeKey,
    TreeVerdict,
};
use crate::node::effects::{Effects, ItemPurpose, ItemQuery, Output, PeerRef, TreePurpose, TreeQuery};
use crate::storage::OpFailure;
use crate::storage::merkle::{Item, ItemPage, Leaves, SumsSpec, TreeId};
use crate::types::{NodeId, Now, RingVersion};

impl Shard {
    /// A peer compares a tree with this node.
    pub(super) fn on_exchange_request(&mut self, now: Now, from: PeerRef, request: ExchangeRequest, fx: &mut Effects) {
        if let Err(refusal) = self.take_part(now, from, &request, fx) {
            self.counters.refused += 1;
            answer(from, request.refuse(refusal), fx);
        }
    }

    fn take_part(
        &mut self,
        now: Now,
        from: PeerRef,
        request: &ExchangeRequest,
        fx: &mut Effects,
    ) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::NotReady);
        }
        match request {
            ExchangeRequest::Compare(Compare { ring, trees, .. }) => {
                self.check_ring(*ring)?;
                let asked = trees.iter().map(|(tree, _)| *tree).collect();
                let purpose = TreePurpose::Compared { asker: from, trees: trees.clone() };
                fx.tree_queries.push((purpose, TreeQuery::Roots(asked)));
            }
            ExchangeRequest::Sums(sums) => {
                self.engage(now, from.node, sums.ring, sums.tree)?;
                let leaves = self.config.leaves().common(sums.leaves);
                let spec = SumsSpec { tree: sums.tree, leaves, of: sums.of };
                fx.tree_queries.push((TreePurpose::Summed { asker: from, leaves }, TreeQuery::Sums(spec)));
            }
            ExchangeRequest::Items(items) => {
                self.engage(now, from.node, items.ring, items.tree)?;
                let query = ItemQuery {
                    tree: items.tree,
                    leaves: items.leaves,
                    of: items.of.iter().map(|leaf| u32::from(*leaf)).collect(),
                    after: items.after.as_ref().map(|after| after.whole(items.tree.partition)),
                    until: items.until.as_ref().map(|until| until.whole(items.tree.partition)),
                    limit: items.limit as usize,
                };
                fx.item_reads.push((ItemPurpose::Peer { asker: from, known: items.known.clone() }, query));
            }
            ExchangeRequest::Want(want) => {
                self.engage(now, from.node, want.ring, want.tree)?;
                // It was asked again because the objects take their time.
                if self.is_transferring_for(from) {
                    return Ok(());
                }
                let keys = want.keys.iter().map(|key| key.whole(want.tree.partition)).collect();
                self.transfer(now, from.node, For::Peer(from), keys, fx);
            }
        }
        Ok(())
    }

    pub(super) fn check_ring(&self, ring: RingVersion) -> Result<(), Refusal> {
        let view = self.serving_view().ok_or(Refusal::NotReady)?;
        if view.version() == ring { Ok(()) } else { Err(Refusal::Ring(view.version())) }
    }

    /// Takes part in a peer's exchange of a tree, of which both are primaries, unless it takes part in another.
    fn engage(&mut self, now: Now, peer: NodeId, ring: RingVersion, tree: TreeId) -> Result<(), Refusal> {
        self.check_ring(ring)?;
        if !self.has_tree(tree) || !self.shares(tree, peer) {
            return Err(Refusal::NotAReplica);
        }
        if !self.exchange.may_engage(now, tree, peer) {
            return Err(Refusal::Busy);
        }
        self.exchange.engage(now, tree, peer);
        Ok(())
    }

    /// Whether this shard has the tree's partition.
    pub(super) fn has_tree(&self, tree: TreeId) -> bool {
        tree.partition.0 % self.config.shards.max(1) == self.config.shard
    }

    /// Whether this node and a peer are primaries of a tree.
    fn shares(&self, tree: TreeId, peer: NodeId) -> bool {
        let Some(view) = self.serving_view() else { return false };
        let primaries = primaries(view, tree);
        primaries.contains(&self.node) && primaries.contains(&peer)
    }

    /// Own roots have been looked up for a peer.
    pub(super) fn answer_compare(
        &self,
        asker: PeerRef,
        trees: &[(TreeId, u128)],
        roots: &[Option<u128>],
        fx: &mut Effects,
    ) {
        let verdict = |((tree, theirs), own): (&(TreeId, u128), &Option<u128>)| match own {
            _ if !self.has_tree(*tree) => TreeVerdict::Elsewhere,
            _ if !self.shares(*tree, asker.node) => TreeVerdict::NotAReplica,
            None => TreeVerdict::Unknown,
            Some(own) if own == theirs => TreeVerdict::Same,
            Some(_) => TreeVerdict::Differs,
        };
        let verdicts = trees.iter().zip(roots).map(verdict).collect();
        let (shards, rebuilding) = (self.config.shards, self.standing.rebuilding);
        answer(asker, ExchangeAnswer::Compared(Ok(Compared { shards, rebuilding, verdicts })), fx);
    }

    /// Own sums have been looked up for a peer.
    pub(super) fn answer_sums(&self, asker: PeerRef, leaves: Leaves, sums: Option<Vec<u64>>, fx: &mut Effects) {
        let summed = sums.map(|sums| Summed { leaves, sums }).ok_or(Refusal::NotReady);
        answer(asker, ExchangeAnswer::Summed(summed), fx);
    }

    /// Own keys have been read for a peer, who has what has these hashes.
    pub(super) fn answer_items(
        &mut self,
        asker: PeerRef,
        known: &[u64],
        page: Result<ItemPage, OpFailure>,
        fx: &mut Effects,
    ) {
        let itemized = page.map(|page| itemize(known, page));
        self.counters.refused += u64::from(itemized.is_err());
        answer(asker, ExchangeAnswer::Itemized(itemized.map_err(|failure| refusal_of(&failure))), fx);
    }
}

/// What of a page a peer has as well, by its hashes, and the rest.
fn itemize(known: &[u64], page: ItemPage) -> Itemized {
    let places: BTreeMap<u64, usize> = known.iter().enumerate().map(|(at, hash)| (*hash, at)).collect();
    let mut same = vec![false; known.len()];
    let (rotten, next) = (u32::try_from(page.unknown()).unwrap_or(u32::MAX), page.next.as_ref().map(TreeKey::of));
    let mut items = Vec::new();
    for Item { key, hash, versions } in page.items {
        match places.get(&hash.short()) {
            Some(at) => same[*at] = true,
            None => {
                let versions = Some(versions).filter(|versions| versions.encoded_len() <= OtherItem::MAX_VERSIONS);
                items.push(OtherItem { key: TreeKey::of(&key), hash: hash.short(), versions });
            }
        }
    }
    Itemized { same, items, rotten, next }
}

/// Answers a peer once what it rests on is written.
pub(super) fn answer(to: PeerRef, said: ExchangeAnswer, fx: &mut Effects) {
    fx.after_written.push(Output::Answer { to, answer: PeerAnswer::Exchange(said) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::merkle::ItemHash;
    use crate::types::WriteId;
    use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling, Versions};

    /// A key and what so many coordinators wrote there, each without knowing of the others.
    fn item(key: u8, actors: u64) -> Item {
        let write = |actor| {
            let dot = Dot { actor: Actor(actor), counter: 1 };
            let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: 1, body: Body::Tombstone };
            Object::update(None, &CausalContext::default(), sibling)
        };
        let merged = (1..=actors).map(write).reduce(|merged, object| merged.merge(&object));
        let versions = Versions::of(&merged.unwrap());
        Item { key: vec![0, 0, key].into(), hash: ItemHash(key.into()), versions }
    }

    #[test]
    fn a_peer_is_told_what_it_does_not_have() {
        let page = || ItemPage {
            items: vec![item(1, 1), item(2, 1), item(3, 300)],
            rotten: vec!["r".into()],
            newer: vec!["n".into()],
            next: Some("..next".into()),
        };
        let told = |known: &[u64]| {
            let Itemized { same, items, rotten, next } = itemize(known, page());
            assert_eq!((rotten, next), (2, TreeKey::new("next".into())));
            (same, items.iter().map(|item| (item.hash, item.versions.is_some())).collect::<Vec<_>>())
        };
        // Versions that are too long are not told.
        assert_eq!(told(&[]), (vec![], vec![(1, true), (2, true), (3, false)]));
        assert_eq!(told(&[3, 7, 1]), (vec![true, false, true], vec![(2, true)]));
    }
}
