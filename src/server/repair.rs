//! Orders about the comparison of replicas: taken by the listener, carried out by the shards.

use std::collections::BTreeSet;

use tracing::warn;

use super::sinks::Switch;
use crate::api::{ApiError, RepairOrder, RepairOrdered, Reply, Response};
use crate::node::ShardInput;
use crate::ring::RingView;
use crate::types::{NodeId, PartitionId};

impl Switch {
    /// Hands an operator's order to all shards; they carry it out after the answer.
    pub(super) fn order_repair(&self, order: RepairOrder, ring: &RingView) -> Response {
        let status = self.board.status();
        let (partition, paused) = match order {
            RepairOrder::Start { partition } | RepairOrder::Scrub { partition } | RepairOrder::Reap { partition } => {
                (partition, status.repair.is_some_and(|repair| repair.paused))
            }
            RepairOrder::Pause => (None, true),
            RepairOrder::Resume => (None, false),
        };
        if let Some(reason) = partition.and_then(|partition| objection(ring, status.node, &status.name, partition)) {
            return Response::error(ApiError::BadRequest { reason });
        }
        warn!(?order, "an operator's order about repair");
        self.shards.notify(&ShardInput::Repair(order));
        Response::plain(Reply::Repair(RepairOrdered { trees: trees(ring, status.node, partition), paused }))
    }
}

/// Why this node cannot compare this partition, if so.
fn objection(ring: &RingView, node: NodeId, name: &str, partition: PartitionId) -> Option<String> {
    let count = ring.layout().partitions().count();
    if u32::from(partition.0) >= count {
        return Some(format!("the ring has no partition {}: it has 0 to {}", partition.0, count - 1));
    }
    let primaries = ring.primaries(partition);
    let members = ring.layout().members().iter();
    let names: Vec<&str> =
        members.filter(|member| primaries.contains(&member.id)).map(|member| member.name.as_str()).collect();
    let reason =
        || format!("{name} holds nothing of partition {}: its primaries are {}", partition.0, names.join(", "));
    (!primaries.contains(&node)).then(reason)
}

/// How many trees of a node another one holds too: one for each partition, or this one, and n of its buckets.
fn trees(ring: &RingView, node: NodeId, only: Option<PartitionId>) -> u64 {
    let layout = ring.layout();
    let mut ns = BTreeSet::new();
    let buckets: Vec<_> = layout.buckets().iter().filter(|(_, config)| ns.insert(config.n)).collect();
    let partitions = layout.partitions().iter().filter(|partition| only.is_none_or(|only| only == *partition));
    let lists = partitions
        .flat_map(|partition| buckets.iter().filter_map(move |(bucket, _)| ring.preference(partition, bucket)));
    lists.filter(|list| list.n() > 1 && list.slot_of(node).is_some()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{BucketConfig, Conflict, Layout, Member, Partitions, Weight};
    use crate::types::Bucket;

    /// `n1` to `n4`, and buckets of n 3 (two of them), 2 and 1.
    fn ring(nodes: u64) -> RingView {
        let bucket = |name: &str, n| (Bucket::new(name).unwrap(), BucketConfig { n, conflict: Conflict::Siblings });
        let member = |id| Member {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: format!("z{id}"),
            weight: Weight::ONE,
            address: format!("h:{id}"),
        };
        let buckets = [bucket("three", 3), bucket("two", 2), bucket("one", 1)].into();
        let layout = Layout::birth(Partitions::new(16).unwrap(), (1..=nodes).map(member).collect(), buckets).unwrap();
        let cluster = layout.cluster_id();
        RingView::new(layout, cluster)
    }

    #[test]
    fn trees_are_counted_that_others_hold_too() {
        assert_eq!(trees(&ring(1), NodeId(1), None), 0);
        // Of n 3 and n 2 each node has all.
        assert_eq!(trees(&ring(2), NodeId(1), None), 32);
        let four = ring(4);
        let all: u64 = (1..=4).map(|id| trees(&four, NodeId(id), None)).sum();
        assert_eq!(all, 16 * (3 + 2));
        for partition in four.layout().partitions().iter() {
            let all: u64 = (1..=4).map(|id| trees(&four, NodeId(id), Some(partition))).sum();
            assert_eq!(all, 3 + 2, "{partition:?}");
        }
        assert_eq!(trees(&four, NodeId(5), None), 0);
    }

    #[test]
    fn only_partitions_of_the_node_can_be_asked_for() {
        let four = ring(4);
        let away = |partition| (1..=4).find(|id| !four.primaries(partition).contains(&NodeId(*id))).unwrap();
        for partition in four.layout().partitions().iter() {
            let away = away(partition);
            let names: Vec<String> = (1..=4).filter(|id| *id != away).map(|id| format!("n{id}")).collect();
            let reason =
                format!("me holds nothing of partition {}: its primaries are {}", partition.0, names.join(", "));
            assert_eq!(objection(&four, NodeId(away), "me", partition), Some(reason));
            assert_eq!(objection(&four, NodeId(away % 4 + 1), "me", partition), None);
        }
        let beyond = Some("the ring has no partition 16: it has 0 to 15".to_owned());
        assert_eq!(objection(&four, NodeId(1), "me", PartitionId(16)), beyond);
    }
}
