//! Whether the keys that this node is a replica of can be read and written now.

use std::collections::BTreeSet;

use crate::ring::RingView;
use crate::types::NodeId;

/// Says which local partitions lack a quorum of reachable replicas, `None` if none does.
pub fn lacking_quorum(view: &RingView, own: NodeId, reachable: &BTreeSet<NodeId>) -> Option<String> {
    let up = |node: &NodeId| *node == own || reachable.contains(node);
    if view.layout().members().iter().all(|member| up(&member.id)) {
        return None;
    }
    let (mut local, mut lacking) = (0, 0);
    for bucket in view.layout().buckets().keys() {
        for partition in view.layout().partitions().iter() {
            let Some(list) = view.preference(partition, bucket) else { continue };
            if list.slot_of(own).is_none() {
                continue;
            }
            local += 1;
            let quorum = usize::from(list.n() / 2 + 1);
            let alive = list.slots().iter().filter(|node| up(node)).count();
            lacking += usize::from(alive < quorum);
        }
    }
    (lacking > 0).then(|| format!("{lacking} of {local} local ranges have no quorum of reachable replicas"))
}
