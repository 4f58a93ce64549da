//! What a shard tells of the tombstones that it holds.

use super::Bench;
use crate::api::{Reply, Response, TombstoneOrder, TombstoneStats};
use crate::node::{ClientRef, ShardInput, TombstonePurpose};
use crate::storage::{Batch, Engine, Family, Fault, OpFailure, TombstoneEntry, object_key};
use crate::types::{Bucket, Key, NodeId, PartitionId, Token};
use crate::version::Digest;

const PARTITIONS: u16 = 256;

fn asks(id: u64) -> ShardInput {
    ShardInput::Tombstones { from: ClientRef { lane: 1, id }, order: TombstoneOrder::Stats }
}

fn stats(response: &Response) -> &TombstoneStats {
    match &response.result {
        Ok(Reply::Tombstones(stats)) => stats,
        other => panic!("{other:?}"),
    }
}

impl Bench {
    /// The index names so many keys of a partition, deleted then.
    fn deleted(&self, partition: u16, keys: u32, wall_ms: u64) {
        let mut batch = Batch::new();
        let entry = TombstoneEntry { wall_ms, digest: Digest([1; 16]) };
        for nth in 0..keys {
            let token = Token(u64::from(partition) << 56 | u64::from(nth));
            let key = Key::new(nth.to_be_bytes().to_vec()).unwrap();
            let key = object_key(PartitionId(partition), token, &Bucket::default(), &key);
            batch.put_with(Family::Tombstones, &key, |out| entry.encode_into(out));
        }
        self.engine.commit(&mut batch).unwrap();
    }

    /// What those are told who ask in one drain.
    fn told_of_tombstones(&mut self, inputs: Vec<ShardInput>) -> Vec<TombstoneStats> {
        self.responses.clear();
        self.drain(inputs);
        self.responses.iter().map(|response| stats(response).clone()).collect()
    }

    fn all_tombstones(&mut self) -> TombstoneStats {
        self.told_of_tombstones(vec![asks(1)]).pop().unwrap()
    }
}

#[test]
fn all_partitions_are_walked_and_each_tombstone_counted_by_who_runs_its_rounds() {
    let mut bench = Bench::new();
    assert_eq!(bench.all_tombstones(), TombstoneStats::default());
    let (own, last) = (bench.partition().0, PARTITIONS - 1);
    assert!(own != last);
    // More than a page, and one in another partition; the clock shows 1.
    bench.deleted(own, 5000, 0);
    bench.deleted(last, 2, 7);
    let told = bench.all_tombstones();
    assert_eq!((told.count, told.ages, told.oldest_ms), (5002, [5002, 0, 0, 0, 0], Some(1)));
    assert_eq!((told.unreadable, &told.incomplete, told.waits.len()), (0, &None, 0));
    let mine = told.runners.iter().find(|share| share.is_asked).unwrap();
    assert_eq!((mine.node, mine.name.as_str()), (NodeId(1), "n1"));
    let sum = |of: fn(&crate::api::RunnerShare) -> u64| told.runners.iter().map(of).sum::<u64>();
    assert_eq!((sum(|share| share.count), sum(|share| share.partitions)), (5002, 2));
    assert!(mine.count >= 5000);
}

#[test]
fn a_shard_counts_its_own_partitions() {
    for shard in 0..3 {
        let mut bench = Bench::with(true, |config| (config.shard, config.shards) = (shard, 3));
        (0..PARTITIONS).for_each(|partition| bench.deleted(partition, u32::from(partition % 3) + 1, 0));
        let own = (0..PARTITIONS).filter(|partition| partition % 3 == shard).count() as u64;
        let told = bench.all_tombstones();
        assert_eq!((told.count, told.incomplete), (own * u64::from(shard + 1), None));
        assert_eq!(told.runners.iter().map(|share| share.partitions).sum::<u64>(), own);
    }
    let mut idle = Bench::with(true, |config| (config.shard, config.shards) = (300, 301));
    idle.deleted(0, 1, 0);
    assert_eq!(idle.all_tombstones(), TombstoneStats::default());
}

#[test]
fn who_asks_meanwhile_is_told_the_same_and_no_more_than_may_wait() {
    let mut bench = Bench::new();
    bench.deleted(3, 4, 0);
    let told = bench.told_of_tombstones((1..=65).map(asks).collect());
    let reasons: Vec<_> = told.iter().filter_map(|told| told.incomplete.as_deref()).collect();
    assert_eq!((told.len(), reasons), (65, vec!["too many ask for that at once"]));
    assert_eq!(told.iter().filter(|told| told.count == 4).count(), 64);
}

#[test]
fn a_walk_has_an_end() {
    let mut bench = Bench::new();
    bench.deleted(3, 9000, 0);
    bench.deleted(4, 1000, 0);
    bench.deleted(5, 1, 0);
    let told = bench.all_tombstones();
    assert_eq!((told.count, told.incomplete.as_deref()), (10_000, Some("a shard counts no more than 10000")));
    // The last partition is followed by nothing.
    let mut bench = Bench::new();
    bench.deleted(PARTITIONS - 1, 10_000, 0);
    assert_eq!((bench.all_tombstones().count, bench.all_tombstones().incomplete), (10_000, None));
}

#[test]
fn what_cannot_be_read_is_named_and_hides_no_other() {
    let mut bench = Bench::new();
    bench.deleted(3, 4, 0);
    bench.engine.arm(Fault::Read);
    let told = bench.all_tombstones();
    let reason = told.incomplete.unwrap();
    assert!(told.count == 4 && reason.starts_with("partition 0 cannot be read: "), "{reason}");
    let mut batch = Batch::new();
    let key = object_key(PartitionId(3), Token(3 << 56), &Bucket::default(), &Key::new("rot").unwrap());
    batch.put(Family::Tombstones, &key, b"rot");
    bench.engine.commit(&mut batch).unwrap();
    let told = bench.all_tombstones();
    assert_eq!((told.count, told.unreadable, told.incomplete), (4, 1, None));
}

#[test]
fn a_pool_that_is_full_ends_the_walk() {
    let mut bench = Bench::new();
    let page = Err(OpFailure::Overloaded);
    let refused = ShardInput::TombstonesRead { purpose: TombstonePurpose::Stats, partition: PartitionId(0), page };
    let told = bench.told_of_tombstones(vec![asks(1), refused]);
    assert_eq!(told[0].incomplete.as_deref(), Some("too many operations wait for the disk"));
    assert_eq!((told.len(), bench.counters().stray_answers), (1, 1), "nobody waits for the page");
}

#[test]
fn a_node_that_is_about_to_stop_says_so_to_all() {
    let mut bench = Bench::new();
    bench.deleted(3, 4, 0);
    let told = bench.told_of_tombstones(vec![asks(1), ShardInput::Drain, asks(2)]);
    let reasons: Vec<_> = told.iter().map(|told| told.incomplete.as_deref()).collect();
    assert_eq!(reasons, [Some("it is about to stop"); 2]);
}
