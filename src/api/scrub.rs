//! What an operator sees of the scrub.

use serde::{Deserialize, Serialize};

use crate::types::PartitionId;

/// How far a node, or one of its shards, has come with reading what it holds. A leaf is a part of a partition; counts are since it
/// started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Partitions that are being read now.
    pub running: Vec<PartitionId>,
    /// Leaves that were read by the order under way,
    pub done: u64,
    /// of so many; 0 without an order.
    pub of: u64,
    /// Leaves that were read by itself since everything was read last, or since the start,
    pub walked: u64,
    /// of so many.
    pub leaves: u64,
    /// Seconds until everything will have been read by itself; `None` if it reads by order only.
    pub walk_ends_s: Option<u64>,
    /// Records read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records found not to be what was written.
    pub rotten: u64,
    /// Of these, those that stay since no other node has what they held; each time they were met.
    pub hopeless: u64,
    /// Rotten records that were wiped, whoever found them, to come back from other nodes.
    pub wiped: u64,
    /// Stretches of keys that could not be read and were wiped likewise.
    pub stretches: u64,
    /// Leaves that lack what was wiped, until all replicas agree.
    pub lacking: u64,
    /// Leaves whose sums were not those of their data.
    pub corrected: u64,
    /// Times that the disk failed to answer.
    pub failed: u64,
}

impl ScrubStatus {
    /// Adds another shard's of the same node.
    pub fn join(&mut self, other: ScrubStatus) {
        self.running.extend(other.running);
        self.done += other.done;
        self.of += other.of;
        self.walked += other.walked;
        self.leaves += other.leaves;
        self.walk_ends_s = self.walk_ends_s.max(other.walk_ends_s);
        self.records += other.records;
        self.bytes += other.bytes;
        self.rotten += other.rotten;
        self.hopeless += other.hopeless;
        self.wiped += other.wiped;
        self.stretches += other.stretches;
        self.lacking += other.lacking;
        self.corrected += other.corrected;
        self.failed += other.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_read_what_its_shards_have_read() {
        let part = |partition, ends: Option<u64>, each: u64| ScrubStatus {
            running: vec![PartitionId(partition)],
            done: each,
            of: 2 * each,
            walked: 3 * each,
            leaves: 4 * each,
            walk_ends_s: ends,
            records: 5 * each,
            bytes: 6 * each,
            rotten: 7 * each,
            hopeless: 8 * each,
            wiped: 9 * each,
            stretches: 13 * each,
            lacking: 10 * each,
            corrected: 11 * each,
            failed: 12 * each,
        };
        let mut whole = part(4, Some(50), 100);
        whole.join(part(5, Some(20), 11));
        whole.join(part(6, None, 0));
        let running = [4, 5, 6].map(PartitionId).to_vec();
        assert_eq!(whole, ScrubStatus { running, ..part(0, Some(50), 111) });
    }
}
