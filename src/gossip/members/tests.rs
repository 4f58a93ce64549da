//! Tables of words that come in any order, in small parts, from anybody.

use proptest::prelude::*;

use super::*;

const ALL: usize = usize::MAX;

fn state(node: u64, generation: u64, version: u64) -> MemberState {
    beating(node, generation, version, 0)
}

fn beating(node: u64, generation: u64, version: u64, heartbeat: u64) -> MemberState {
    MemberState {
        node: NodeId(node),
        generation: Generation(generation),
        version,
        heartbeat,
        name: format!("n{node}"),
        zone: "default".into(),
        weight: 1000,
        address: format!("127.0.0.1:{}", 7000 + node),
        disk: DiskId(node),
        ballot: None,
        ring: None,
        rebuilding: false,
        synced: BatchNumber(generation * 1000 + heartbeat),
    }
}

fn anybody(_: NodeId) -> bool {
    true
}

fn knowing(states: impl IntoIterator<Item = MemberState>) -> Members {
    let mut members = Members::new(state(1, 1, 1));
    members.apply(states.into_iter().collect(), anybody);
    members
}

fn nodes(delta: &[MemberState]) -> Vec<u64> {
    delta.iter().map(|state| state.node.0).collect()
}

#[test]
fn a_delta_holds_just_what_the_other_lacks() {
    let members = knowing([state(2, 3, 4), state(3, 1, 1)]);
    let theirs = [state(2, 3, 4).known(), state(3, 1, 0).known()];
    assert_eq!(members.delta(&theirs, ALL), vec![state(1, 1, 1), state(3, 1, 1)]);
}

#[test]
fn a_bounded_delta_brings_what_the_other_is_furthest_behind_on() {
    let members = knowing([state(2, 2, 5), state(3, 1, 90), state(4, 1, 3), state(5, 1, 1)]);
    let theirs = [(1, 1, 1), (2, 1, 9), (3, 1, 10), (4, 1, 2)].map(|(n, g, v)| state(n, g, v).known());
    let two = state(1, 1, 1).size_bound() * 2;
    assert_eq!(nodes(&members.delta(&theirs, two)), [2, 5], "an unknown run first, and nodes never heard of");
    let theirs = [(1, 1, 1), (2, 2, 5), (3, 1, 10), (4, 1, 2), (5, 1, 1)].map(|(n, g, v)| state(n, g, v).known());
    assert_eq!(nodes(&members.delta(&theirs, two)), [3, 4]);
    assert_eq!(nodes(&members.delta(&theirs, 0)), [3], "one in any case");
}

#[test]
fn nobody_but_the_owner_changes_its_state() {
    let mut members = Members::new(state(1, 5, 1));
    let mut forged = beating(1, 5, 9, 7);
    forged.address = "elsewhere:1".into();
    assert_eq!(members.hear(&[forged.known()]), vec![]);
    assert_eq!(members.apply(vec![forged], anybody), vec![]);
    assert_eq!(members.own(), &state(1, 5, 1));
    assert_eq!(
        members.apply(vec![state(1, 6, 0)], anybody),
        vec![Change::Superseded { generation: Generation(6), disk: DiskId(1) }]
    );
}

/// Trap 9.
#[test]
fn whoever_is_not_admitted_is_not_taken_back_and_not_heard() {
    let mut members = Members::new(state(1, 1, 1));
    let departed = beating(2, 9, 9, 9);
    assert_eq!(members.apply(vec![departed.clone()], |node| node != NodeId(2)), vec![]);
    assert_eq!(members.hear(&[departed.known()]), vec![]);
    assert!(members.get(NodeId(2)).is_none());
    assert_eq!(members.digest(), vec![state(1, 1, 1).known()]);
}

#[test]
fn the_table_is_bounded() {
    let mut members = Members::new(state(0, 1, 1));
    members.apply((1..2000).map(|node| state(node, 1, 1)).collect(), anybody);
    assert_eq!(members.iter().count(), Members::MAX);
    let changes = members.apply(vec![state(5, 2, 0)], anybody);
    assert_eq!(changes, vec![Change::Updated(NodeId(5))], "those known still speak");
}

#[test]
fn a_change_raises_the_version_and_no_change_does_not() {
    let mut members = Members::new(state(1, 1, 7));
    members.update_own(|own| own.rebuilding = true);
    assert_eq!(members.own().version, 8);
    members.update_own(|own| own.rebuilding = true);
    assert_eq!(members.own().version, 8);
}

/// A round without news costs digests, and no states.
#[test]
fn heartbeats_and_synced_travel_in_digests_alone() {
    let mut sender = Members::new(state(2, 1, 3));
    let mut members = knowing([state(2, 1, 3)]);
    sender.beat();
    sender.note_synced(BatchNumber(5000));
    assert_eq!((sender.own().version, sender.own().heartbeat), (3, 1));
    assert!(nodes(&sender.delta(&members.digest(), ALL)).is_empty());
    assert_eq!(members.hear(&sender.digest()), vec![NodeId(2)]);
    assert_eq!(members.get(NodeId(2)), Some(sender.own()));
    assert_eq!(members.hear(&sender.digest()), vec![], "no news");
}

#[test]
fn a_heartbeat_of_another_run_says_nothing() {
    let mut members = knowing([beating(2, 3, 1, 10)]);
    for generation in [2, 4] {
        assert_eq!(members.hear(&[beating(2, generation, 1, 99).known()]), vec![]);
    }
    members.apply(vec![beating(2, 4, 1, 2)], anybody);
    assert_eq!(members.get(NodeId(2)).map(|state| state.heartbeat), Some(2), "a new run counts from its own start");
}

#[test]
fn no_state_is_larger_than_its_bound() {
    let mut large = MemberState {
        node: NodeId(u64::MAX),
        generation: Generation(u64::MAX),
        version: u64::MAX,
        weight: u32::MAX,
        disk: DiskId(u64::MAX),
        name: "n".repeat(63),
        zone: "z".repeat(63),
        address: "a".repeat(300),
        heartbeat: u64::MAX,
        ..state(1, 1, 1)
    };
    large.synced = BatchNumber(u64::MAX);
    large.ring = Some((crate::types::RingVersion(u64::MAX), [255; 16]));
    large.ballot = Some(crate::gossip::Ballot { expect: u32::MAX, terms: [255; 16], vote: Some([255; 16]) });
    let size = rmp_serde::to_vec(&large).unwrap().len();
    assert!(size <= large.size_bound(), "{size} > {}", large.size_bound());
}

/// One exchange as Control makes it: digest, delta and digest, delta.
fn exchange(tables: &mut [Members], asker: usize, answerer: usize, max_bytes: usize) {
    let digest = tables[asker].digest();
    tables[answerer].hear(&digest);
    let (delta, back) = (tables[answerer].delta(&digest, max_bytes), tables[answerer].digest());
    tables[asker].apply(delta, anybody);
    tables[asker].hear(&back);
    let delta = tables[asker].delta(&back, max_bytes);
    tables[answerer].apply(delta, anybody);
}

fn alike(tables: &[Members]) -> bool {
    let all = |table: &Members| table.iter().cloned().collect::<Vec<_>>();
    tables.iter().all(|table| all(table) == all(&tables[0]))
}

proptest! {
    #[test]
    fn any_order_and_repetition_gives_the_same_table(
        words in proptest::collection::vec((2u64..5, 1u64..4, 0u64..4, 0u64..4), 0..20),
        order in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..40),
    ) {
        let word = |&(n, g, v, h): &(u64, u64, u64, u64)| beating(n, g, v, h);
        let once = knowing(words.iter().map(word));
        let mut shuffled = Members::new(state(1, 1, 1));
        if !words.is_empty() {
            for (index, as_digest) in &order {
                let state = word(index.get(&words));
                if *as_digest {
                    shuffled.hear(&[state.known()]);
                } else {
                    shuffled.apply(vec![state], anybody);
                }
            }
        }
        for index in words.iter().rev() {
            shuffled.apply(vec![word(index)], anybody);
        }
        prop_assert_eq!(once.iter().collect::<Vec<_>>(), shuffled.iter().collect::<Vec<_>>());
    }

    /// However little fits into a message, and whoever meets whom: a chain of tables that meet their neighbours becomes
    /// alike, each exchange bringing one state at least.
    #[test]
    fn bounded_deltas_converge(
        words in proptest::collection::vec(proptest::collection::vec((0u64..6, 1u64..3, 0u64..9, 0u64..9), 0..8), 2..6),
        states_a_message in 0usize..4,
    ) {
        let max_bytes = states_a_message * state(1, 1, 1).size_bound();
        let mut tables: Vec<Members> = words.iter().zip(100..).map(|(words, own)| {
            let mut table = Members::new(state(own, 1, 1));
            table.apply(words.iter().map(|&(n, g, v, h)| beating(n, g, v, h)).collect(), anybody);
            table
        }).collect();
        // each of at most 11 states crosses each of at most 4 gaps, one at a time, and heartbeats once more
        for _ in 0..60 {
            for node in 1..tables.len() {
                exchange(&mut tables, node - 1, node, max_bytes);
            }
        }
        prop_assert!(alike(&tables));
    }
}
