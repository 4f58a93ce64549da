//! What this node has lost and has to get back from others: all trees of a lost disk, and leaves with a record that had rotted.
//!
//! A tree is rebuilt once this node has agreed on it with each of its other primaries. Whatever was acknowledged by this node's
//! old disk and by another that is not lost is then here, and that there is nothing of a key counts again. One that has
//! lost its own disk too has no more to give than it holds: what both of them alone acknowledged is lost with both disks.

use std::collections::{BTreeMap, BTreeSet};

use super::Shard;
use super::entry::{Place, Work};
use crate::antientropy::{primaries, tree_shape};
use crate::node::effects::{Effects, Lack};
use crate::ring::RingView;
use crate::storage::keys::token_of;
use crate::storage::merkle::{Place as LeafPlace, TreeId, TreeShape};
use crate::types::{Bucket, NodeId, Now, PartitionId, Token};

/// How far the trees are.
#[derive(Debug, Default)]
pub(super) struct Rebuild {
    shape: Option<TreeShape>,
    /// Trees that were lost with the disk; `None`: none was, or it is not known yet which there are.
    whole: Option<BTreeSet<TreeId>>,
    /// Of these, so many at first.
    of: u64,
    /// Leaves that lack a record which had rotted.
    leaves: BTreeMap<TreeId, BTreeSet<u32>>,
    /// The primaries that each of these trees has not agreed with since.
    missing: BTreeMap<TreeId, BTreeSet<NodeId>>,
    /// Records wiped so far.
    wiped: u64,
}

impl Rebuild {
    /// Whether a bucket's tree was lost with the disk and is not filled yet.
    fn concerns(&self, partition: PartitionId, bucket: &str) -> bool {
        let tree = self.shape.as_ref().and_then(|shape| shape.tree_of(partition, bucket));
        tree.is_none_or(|tree| self.whole.as_ref().is_none_or(|whole| whole.contains(&tree)))
    }

    /// Whether a record was wiped from this leaf and may not be back.
    fn lacks(&self, (tree, leaf): LeafPlace) -> bool {
        self.leaves.get(&tree).is_some_and(|leaves| leaves.contains(&leaf))
    }

    /// The same of some leaf of a bucket's.
    fn lacks_some(&self, partition: PartitionId, bucket: &str) -> bool {
        let tree = self.shape.as_ref().and_then(|shape| shape.tree_of(partition, bucket));
        tree.is_some_and(|tree| self.leaves.contains_key(&tree))
    }

    /// The trees that have to be filled.
    fn trees(&self) -> BTreeSet<TreeId> {
        self.missing.keys().copied().collect()
    }
}

/// Trees that have been filled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// So many,
    pub done: u64,
    /// of so many, and of partitions whose reaping rounds this node has yet to learn.
    pub of: u64,
}

impl Rebuilt {
    /// Whether these are all.
    pub fn is_whole(self) -> bool {
        self.done == self.of
    }
}

impl Shard {
    /// Leaves from which an earlier run wiped records.
    pub(super) fn restore_lacking(&mut self, lacking: impl Iterator<Item = LeafPlace>) {
        for (tree, leaf) in lacking {
            self.rebuild.leaves.entry(tree).or_default().insert(leaf);
        }
    }

    /// How far this shard is; `None` if the node has its disk, or does not know yet what it had.
    pub fn rebuilt(&self) -> Option<Rebuilt> {
        let whole = self.rebuild.whole.as_ref().filter(|_| self.standing.rebuilding)?;
        // A partition whose round is not known may take nothing in: that is something to be waited for too.
        Some(Rebuilt { done: self.rebuild.of - whole.len() as u64, of: self.rebuild.of + self.unjoined() as u64 })
    }

    /// Leaves that lack a record which had rotted.
    pub fn lacking(&self) -> u64 {
        self.rebuild.leaves.values().map(|leaves| leaves.len() as u64).sum()
    }

    /// The trees that have to be filled, and the primaries that each has not agreed with.
    pub fn to_fill(&self) -> &BTreeMap<TreeId, BTreeSet<NodeId>> {
        &self.rebuild.missing
    }

    /// Whether this node may lack what it once acknowledged of a key.
    pub(super) fn may_lack(&self, partition: PartitionId, bucket: &Bucket, token: Token) -> bool {
        self.leaf_of(partition, bucket, token).is_none_or(|leaf| self.rebuild.lacks(leaf))
    }

    /// The leaf of a key; `None` if this node may have lost it with all else that was on its disk.
    pub(super) fn leaf_of(&self, partition: PartitionId, bucket: &Bucket, token: Token) -> Option<LeafPlace> {
        let shape = self.rebuild.shape.as_ref()?;
        let tree = shape.tree_of(partition, bucket.as_str())?;
        let lost = self.standing.rebuilding && self.rebuild.concerns(partition, bucket.as_str());
        (!lost).then(|| (tree, shape.leaf_of(token, self.config.leaves())))
    }

    /// Whether this node may lack what it held of a leaf when that was last asked; `None`: it did.
    pub(super) fn leaf_may_lack(&self, leaf: Option<LeafPlace>) -> bool {
        leaf.is_none_or(|leaf| self.rebuild.lacks(leaf))
    }

    /// What a page may lack that is about to be read.
    pub(super) fn range_lack(&self, partition: PartitionId, bucket: &Bucket) -> Lack {
        let bucket = bucket.as_str();
        let may = self.standing.rebuilding && self.rebuild.concerns(partition, bucket)
            || self.rebuild.lacks_some(partition, bucket);
        Lack { may, wiped: self.rebuild.wiped }
    }

    /// Whether it did lack something, now that it has been read.
    pub(super) fn has_lacked(&self, lack: Lack) -> bool {
        lack.may || lack.wiped != self.rebuild.wiped
    }

    /// The same of what a read is about.
    pub(super) fn entry_may_lack(&self, entry: u64) -> bool {
        let place = match self.entries.get(&entry).map(|known| &known.work) {
            Some(Work::Get(get)) => &get.place,
            Some(Work::Where(asked)) => &asked.place,
            _ => return self.standing.rebuilding,
        };
        self.place_may_lack(place)
    }

    pub(super) fn place_may_lack(&self, place: &Place) -> bool {
        let address = &place.address;
        self.may_lack(address.partition, &address.bucket, token_of(&place.key))
    }

    /// The ring is known, or whether this node has lost its disk.
    pub(super) fn see_to_rebuilding(&mut self, now: Now, fx: &mut Effects) {
        let Some(view) = self.serving_view().cloned() else { return };
        if self.rebuild.shape.is_none() {
            self.rebuild.shape = Some(tree_shape(view.layout()));
            let marked: Vec<TreeId> = self.rebuild.leaves.keys().copied().collect();
            for tree in marked {
                self.seek(&view, tree, fx);
            }
        }
        if self.standing.rebuilding == self.rebuild.whole.is_some() {
            let trees = self.rebuild.trees();
            return self.exchange(now, fx, |exchange, out| exchange.set_rebuilding(now, Some(trees), out));
        }
        if self.standing.rebuilding {
            let shape = tree_shape(view.layout());
            let (shard, shards) = (self.config.shard, self.config.shards.max(1));
            let own = shape.trees().filter(|tree| tree.partition.0 % shards == shard);
            let whole: BTreeSet<TreeId> = own.filter(|tree| self.seek(&view, *tree, fx)).collect();
            (self.rebuild.of, self.rebuild.whole) = (whole.len() as u64, Some(whole));
        } else {
            self.rebuild.whole = None;
            self.rebuild.missing.retain(|tree, _| self.rebuild.leaves.contains_key(tree));
        }
        let trees = self.rebuild.trees();
        self.exchange(now, fx, |exchange, out| exchange.set_rebuilding(now, Some(trees), out));
    }

    /// A tree has to be filled from all its other primaries; whether there are any.
    fn seek(&mut self, view: &RingView, tree: TreeId, fx: &mut Effects) -> bool {
        let primaries = primaries(view, tree);
        let others: BTreeSet<NodeId> = primaries.iter().copied().filter(|node| *node != self.node).collect();
        let is_own = primaries.contains(&self.node) && !others.is_empty();
        if is_own {
            self.rebuild.missing.insert(tree, others);
        } else if self.rebuild.leaves.remove(&tree).is_some() {
            // Nobody reads here what this node holds of it for others.
            fx.healed.push(tree);
        }
        is_own
    }

    /// A record that had rotted is gone from a leaf.
    pub(super) fn on_lack(&mut self, now: Now, (tree, leaf): LeafPlace, fx: &mut Effects) {
        let Some(view) = self.serving_view().cloned() else { return };
        self.rebuild.wiped += 1;
        self.rebuild.leaves.entry(tree).or_default().insert(leaf);
        self.seek(&view, tree, fx);
        let trees = self.rebuild.trees();
        self.exchange(now, fx, |exchange, out| {
            exchange.on_lost(now, tree, out);
            exchange.set_rebuilding(now, Some(trees), out);
        });
    }

    /// Whatever this node and a peer held of a tree is with both.
    pub(super) fn on_agreed(&mut self, now: Now, tree: TreeId, peer: NodeId, fx: &mut Effects) {
        let Some(missing) = self.rebuild.missing.get_mut(&tree) else { return };
        missing.remove(&peer);
        if missing.is_empty() {
            self.rebuild.missing.remove(&tree);
            if let Some(whole) = &mut self.rebuild.whole {
                whole.remove(&tree);
            }
            if self.rebuild.leaves.remove(&tree).is_some() {
                fx.healed.push(tree);
            }
            let left = self.rebuild.trees();
            self.exchange(now, fx, |exchange, out| exchange.set_rebuilding(now, Some(left), out));
        }
    }
}
