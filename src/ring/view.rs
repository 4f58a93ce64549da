//! The layout with everything worked out that routing asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::preference::PreferenceList;
use super::token::token_of;
use crate::types::{Bucket, ClusterId, Key, NodeId, PartitionId, RingVersion, Token};

/// A layout of a cluster and its preference lists: immutable, shared as `Arc<RingView>`, replaced whole.
///
/// Holds 8 bytes a partition and member for each distinct effective n of the buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingView {
    layout: Layout,
    cluster: ClusterId,
    digest: [u8; 16],
    /// By effective n, then by partition.
    lists: BTreeMap<u8, Vec<PreferenceList>>,
}

impl RingView {
    /// Works out the lists; `cluster` is the id of the cluster's layout 1.
    pub fn new(layout: Layout, cluster: ClusterId) -> RingView {
        let mut lists = BTreeMap::new();
        for config in layout.buckets().values() {
            let n = layout.effective_n(config.n);
            lists.entry(n).or_insert_with(|| PreferenceList::all(&layout, n));
        }
        let mut digest = [0; 16];
        blake3::Hasher::new().update(&cluster.0).update(&layout.encode()).finalize_xof().fill(&mut digest);
        RingView { layout, cluster, digest, lists }
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The cluster that the layout belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The layout's version.
    pub fn version(&self) -> RingVersion {
        self.layout.version()
    }

    /// Where a key lies.
    pub fn partition_of(&self, bucket: &Bucket, key: &Key) -> (PartitionId, Token) {
        let token = token_of(bucket, key.as_bytes());
        (self.layout.partitions().of(token), token)
    }

    /// Who holds the partition's keys of this bucket; `None` for a bucket or a partition that the layout does not have.
    pub fn preference(&self, partition: PartitionId, bucket: &Bucket) -> Option<&PreferenceList> {
        let n = self.layout.effective_n(self.layout.bucket(bucket)?.n);
        self.lists.get(&n)?.get(usize::from(partition.0))
    }

    /// All that hold keys of the partition, of whatever bucket; none for a partition that the layout does not have.
    pub fn primaries(&self, partition: PartitionId) -> BTreeSet<NodeId> {
        let lists = self.lists.values().filter_map(|lists| lists.get(usize::from(partition.0)));
        lists.flat_map(PreferenceList::slots).copied().collect()
    }

    /// BLAKE3 over cluster and layout, first 16 bytes: equal on nodes that agree on the ring.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// The part of all partitions that a node owns, 0 to 1.
    pub fn owned_share(&self, node: NodeId) -> f64 {
        let owned = self.layout.owners().iter().filter(|owner| **owner == node).count();
        owned as f64 / f64::from(self.layout.partitions().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::claim::tests::member;
    use crate::ring::{BucketConfig, Conflict, Partitions};

    fn bucket(name: &str) -> Bucket {
        Bucket::new(name).unwrap()
    }

    fn view(nodes: u64) -> RingView {
        let config = |n| BucketConfig { n, conflict: Conflict::Lww };
        let buckets = [(bucket("two"), config(2)), (bucket("five"), config(5)), (bucket("six"), config(6))].into();
        let members = (1..=nodes).map(|id| member(id, "zone", 1000)).collect();
        let layout = Layout::birth(Partitions::default(), members, buckets).unwrap();
        let cluster = layout.cluster_id();
        RingView::new(layout, cluster)
    }

    #[test]
    fn each_bucket_has_lists_of_its_effective_n() {
        let view = view(4);
        for (name, n) in [("default", 3), ("two", 2), ("five", 4), ("six", 4)] {
            for partition in view.layout().partitions().iter() {
                assert_eq!(view.preference(partition, &bucket(name)).unwrap().n(), n, "{name}");
            }
        }
        assert_eq!(view.lists.keys().collect::<Vec<_>>(), [&2, &3, &4]);
    }

    #[test]
    fn what_the_layout_lacks_has_no_list() {
        let view = view(3);
        assert_eq!(view.preference(PartitionId(0), &bucket("unheard-of")), None);
        assert_eq!(view.preference(PartitionId(256), &bucket("two")), None);
        assert_eq!(view.primaries(PartitionId(256)), [].into());
    }

    #[test]
    fn primaries_are_those_of_the_bucket_with_the_greatest_n() {
        let view = view(6);
        for partition in view.layout().partitions().iter() {
            let six = view.preference(partition, &bucket("six")).unwrap();
            assert_eq!(view.primaries(partition), six.slots().iter().copied().collect());
        }
    }

    #[test]
    fn a_key_lies_in_the_partition_of_its_token() {
        let view = view(3);
        let (partition, token) = view.partition_of(&bucket("two"), &Key::new("alice").unwrap());
        assert_eq!(token, token_of(&bucket("two"), b"alice"));
        assert_eq!(partition, PartitionId((token.0 >> 56) as u16));
    }

    #[test]
    fn shares_sum_to_one_and_strangers_own_nothing() {
        let view = view(3);
        let shares: Vec<f64> = (0..=3).map(|id| view.owned_share(NodeId(id))).collect();
        assert_eq!(shares[0], 0.0);
        assert_eq!(shares.iter().sum::<f64>(), 1.0);
        assert!(shares[1..].iter().all(|share| (share - 1.0 / 3.0).abs() < 1.0 / 256.0), "{shares:?}");
    }

    #[test]
    fn the_digest_tells_clusters_and_layouts_apart() {
        let (three, four) = (view(3), view(4));
        assert_eq!(three.digest(), view(3).digest());
        assert_ne!(three.digest(), four.digest());
        assert_ne!(three.digest(), RingView::new(three.layout().clone(), four.cluster()).digest());
    }
}
