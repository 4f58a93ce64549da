//! Operators' orders, and what becomes of them.

use dynkv::api::{
    HintOrder, HintsOrdered, ReaperStatus, Rebuilding, RepairOrder, RepairOrdered, RunnerShare, RunningRepair,
    ScrubStatus, TombstoneOrder, TombstoneStats, TombstoneWait,
};

use super::*;

pub fn order() -> impl Strategy<Value = Request> {
    let target = || any::<u64>().prop_map(NodeId);
    let order = prop_oneof![
        proptest::option::of(target()).prop_map(|target| HintOrder::Flush { target }),
        target().prop_map(|target| HintOrder::Drop { target }),
    ];
    let repair = prop_oneof![
        proptest::option::of(any::<u16>())
            .prop_map(|partition| RepairOrder::Start { partition: partition.map(PartitionId) }),
        proptest::option::of(any::<u16>())
            .prop_map(|partition| RepairOrder::Scrub { partition: partition.map(PartitionId) }),
        proptest::option::of(any::<u16>())
            .prop_map(|partition| RepairOrder::Reap { partition: partition.map(PartitionId) }),
        Just(RepairOrder::Pause),
        Just(RepairOrder::Resume),
    ];
    let tombstones = Just(Request::Tombstones(TombstoneOrder::Stats));
    prop_oneof![order.prop_map(Request::Hints), repair.prop_map(Request::Repair), tombstones]
}

pub fn ordered() -> impl Strategy<Value = Response> {
    let hints = any::<(u64, u64, u64)>()
        .prop_map(|(hints, counted, bytes)| Response::plain(Reply::Hints(HintsOrdered { hints, counted, bytes })));
    let repair = any::<(u64, bool)>()
        .prop_map(|(trees, paused)| Response::plain(Reply::Repair(RepairOrdered { trees, paused })));
    let tombstones = tombstones().prop_map(|stats| Response::plain(Reply::Tombstones(Box::new(stats))));
    prop_oneof![hints, repair, tombstones]
}

fn tombstones() -> impl Strategy<Value = TombstoneStats> {
    let words = || proptest::option::of(".{0,8}");
    let runner = (any::<(u64, bool, u64, u64)>(), ".{0,8}").prop_map(|((node, is_asked, partitions, count), name)| {
        RunnerShare { node: NodeId(node), name, is_asked, partitions, count }
    });
    let wait = (".{0,8}", any::<u64>()).prop_map(|(reason, count)| TombstoneWait { reason, count });
    let lists = (proptest::collection::vec(runner, 0..3), proptest::collection::vec(wait, 0..3));
    let numbers = any::<(u64, [u64; 5], Option<u64>, u64)>();
    (numbers, lists, words(), words()).prop_map(|(numbers, (runners, waits), waiting, incomplete)| {
        let (count, ages, oldest_ms, unreadable) = numbers;
        let reaper = ReaperStatus { waiting };
        TombstoneStats { count, ages, oldest_ms, runners, unreadable, reaper, waits, incomplete }
    })
}

pub fn repair() -> impl Strategy<Value = RepairStatus> {
    let running = any::<(u16, u8, u64, u64, u64)>().prop_map(|(partition, n, peer, keys_differing, bytes)| {
        RunningRepair { partition: PartitionId(partition), n, peer: NodeId(peer), keys_differing, bytes }
    });
    let words = (any::<bool>(), proptest::option::of(".{0,8}"), proptest::collection::vec(running, 0..3));
    let rebuilding = proptest::option::of(any::<(u64, u64)>().prop_map(|(done, of)| Rebuilding { done, of }));
    let numbers = (any::<[u64; 7]>(), any::<Option<u64>>(), rebuilding, scrub());
    (words, numbers).prop_map(|((paused, waiting, running), (numbers, eta_s, rebuilding, scrub))| {
        let [due, compared, differing, keys_differing, bytes, done, of] = numbers;
        RepairStatus {
            paused,
            waiting,
            running,
            due,
            compared,
            differing,
            keys_differing,
            bytes,
            done,
            of,
            eta_s,
            rebuilding,
            scrub,
        }
    })
}

fn scrub() -> impl Strategy<Value = ScrubStatus> {
    let running = proptest::collection::vec(any::<u16>().prop_map(PartitionId), 0..3);
    (running, any::<[u64; 13]>(), any::<Option<u64>>()).prop_map(|(running, numbers, walk_ends_s)| {
        let [done, of, walked, leaves, records, bytes, rotten, hopeless, wiped, stretches, lacking, corrected, failed] =
            numbers;
        ScrubStatus {
            running,
            done,
            of,
            walked,
            leaves,
            walk_ends_s,
            records,
            bytes,
            rotten,
            hopeless,
            wiped,
            stretches,
            lacking,
            corrected,
            failed,
        }
    })
}
