//! Which Merkle trees a ring has.

use crate::ring::{Layout, RingView};
use crate::storage::Healing;
use crate::storage::merkle::{TreeId, TreeShape};
use crate::types::NodeId;

/// How the keys of a layout's buckets fall into trees.
pub fn tree_shape(layout: &Layout) -> TreeShape {
    let buckets = layout.buckets().iter().map(|(bucket, config)| (bucket.as_str().to_owned(), config.n));
    TreeShape::new(layout.partitions().count(), buckets.collect())
}

/// The nodes that hold a tree's keys; none if the ring has no such tree.
pub fn primaries(view: &RingView, tree: TreeId) -> &[NodeId] {
    let layout = view.layout();
    let bucket = layout.buckets().iter().find(|(_, config)| config.n == tree.n).map(|(bucket, _)| bucket);
    let list = bucket.filter(|_| layout.partitions().contains(tree.partition));
    list.and_then(|bucket| view.preference(tree.partition, bucket)).map_or(&[], |list| list.slots())
}

/// What a node may wipe once it has rotted: of its own trees those that another node holds too, and whatever it keeps for others.
pub fn healing(view: &RingView, node: NodeId) -> Healing {
    let mut healing =
        Healing { members: view.layout().members().iter().map(|member| member.id).collect(), ..Healing::default() };
    for tree in tree_shape(view.layout()).trees() {
        let primaries = primaries(view, tree);
        if !primaries.contains(&node) {
            healing.foreign.insert(tree);
        } else if primaries.len() > 1 {
            healing.shared.insert(tree);
        }
    }
    healing
}
