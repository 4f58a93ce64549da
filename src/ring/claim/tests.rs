use super::*;
use crate::ring::Weight;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// A member with this id, named after it, with a weight in thousandths.
pub(in crate::ring) fn member(id: u64, zone: &str, thousandths: u32) -> Member {
    let weight = Weight::try_from(thousandths).unwrap();
    Member { id: NodeId(id), name: format!("n{id}"), zone: zone.to_owned(), weight, address: format!("n{id}:7400") }
}

/// Members in 1 to 5 zones with weights from 0.1 to 4, half of the time all equal.
pub(in crate::ring) fn members(count: RangeInclusive<usize>) -> impl Strategy<Value = Vec<Member>> {
    let weight = prop_oneof![Just(1000u32..=1000), Just(100..=4000)];
    (count, 1u32..=5, weight).prop_flat_map(|(count, zones, weight)| {
        let ids = proptest::collection::btree_set(any::<u64>(), count);
        let rest = proptest::collection::vec((0..zones, weight), count);
        (ids, rest).prop_map(|(ids, rest)| {
            let each = ids.into_iter().zip(rest);
            each.map(|(id, (zone, weight))| member(id, &format!("zone-{zone}"), weight)).collect()
        })
    })
}

fn equal(count: u64) -> Vec<Member> {
    // scattered ids, so that order by id is not order by name
    (1..=count).map(|at| member(at.wrapping_mul(0x9e37_79b9_7f4a_7c15), "zone", 1000)).collect()
}

fn shares_of(owners: &[NodeId]) -> BTreeMap<NodeId, usize> {
    let mut shares = BTreeMap::new();
    for owner in owners {
        *shares.entry(*owner).or_insert(0) += 1;
    }
    shares
}

/// Windows of `n` consecutive partitions, around the end too, that show anything twice.
fn crowded<T: Ord>(owners: &[NodeId], n: usize, label: impl Fn(&NodeId) -> T) -> usize {
    let n = n.min(owners.len());
    let window = |at: usize| owners.iter().cycle().skip(at).take(n).map(&label).collect::<BTreeSet<T>>();
    (0..owners.len()).filter(|&at| window(at).len() < n).count()
}

fn crowded_nodes(owners: &[NodeId], n: usize) -> usize {
    crowded(owners, n, |node| *node)
}

fn crowded_zones(owners: &[NodeId], n: usize, members: &[Member]) -> usize {
    let zone_of: BTreeMap<NodeId, &str> = members.iter().map(|member| (member.id, member.zone.as_str())).collect();
    crowded(owners, n, |node| zone_of[node])
}

#[track_caller]
fn assert_shares(partitions: Partitions, members: &[Member], owners: &[NodeId]) {
    let shares = shares_of(owners);
    let total: u64 = members.iter().map(|member| u64::from(member.weight.thousandths())).sum();
    let weights = |of: &dyn Fn(&Member) -> bool| -> u64 {
        members.iter().filter(|member| of(member)).map(|member| u64::from(member.weight.thousandths())).sum()
    };
    let within_one = |weight: u64, share: usize| {
        let due = u64::from(partitions.count()) * weight;
        (due / total..=due.div_ceil(total)).contains(&(share as u64))
    };
    for member in members {
        let share = shares.get(&member.id).copied().unwrap_or(0);
        assert!(within_one(member.weight.thousandths().into(), share), "{member:?} owns {share}");
        let zone = |other: &Member| other.zone == member.zone;
        let zone_share: usize =
            members.iter().filter(|other| zone(other)).filter_map(|other| shares.get(&other.id)).sum();
        assert!(within_one(weights(&zone), zone_share), "zone {} owns {zone_share}", member.zone);
    }
    assert_eq!(shares.values().sum::<usize>(), partitions.count() as usize);
}

/// Partitions that had to move, given the shares after, and those that did.
fn moves(before: &[NodeId], after: &[NodeId]) -> (usize, usize) {
    let (held, holds) = (shares_of(before), shares_of(after));
    let forced = held.iter().map(|(node, share)| share.saturating_sub(holds.get(node).copied().unwrap_or(0))).sum();
    (forced, before.iter().zip(after).filter(|(before, after)| before != after).count())
}

#[track_caller]
fn assert_change(before: &[NodeId], members: &[Member], n: u8) -> Vec<NodeId> {
    let partitions = Partitions::new(before.len() as u32).unwrap();
    let after = claim(partitions, members, Some(before), n);
    assert_shares(partitions, members, &after);
    let (forced, moved) = moves(before, &after);
    let extra = if forced == 0 || members.len() <= usize::from(n) { 0 } else { most_extra_moves(partitions) };
    assert!((forced..=forced + extra).contains(&moved), "{moved} moves where {forced} are forced");
    after
}

/// The module's guarantee of spacing at birth, from the shares alone.
#[track_caller]
fn assert_spaced_at_birth(members: &[Member], owners: &[NodeId], n: usize) {
    let shares = shares_of(owners);
    let mut zone_shares: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for member in members.iter().filter(|member| shares.contains_key(&member.id)) {
        let (sum, largest) = zone_shares.entry(&member.zone).or_default();
        *sum += shares[&member.id];
        *largest = shares[&member.id].max(*largest);
    }
    let n = n.min(shares.len()).min(owners.len());
    let zones = n.min(zone_shares.len());
    if shares.values().all(|share| share * n <= owners.len()) {
        assert_eq!(crowded_nodes(owners, n), 0, "nodes, n = {n}, {shares:?}");
    }
    let zones_fit = zone_shares.values().all(|(sum, _)| sum * zones <= owners.len());
    let nodes_fit = zone_shares.values().all(|(sum, largest)| largest * n.div_ceil(zones) <= *sum);
    if zones_fit && nodes_fit {
        assert_eq!(crowded_zones(owners, zones, members), 0, "zones, n = {n}, {zone_shares:?}");
        assert_eq!(crowded_nodes(owners, n), 0, "nodes in zones, n = {n}, {zone_shares:?}");
    }
}

#[test]
fn equal_nodes_are_perfectly_spaced_at_birth_from_one_to_a_hundred() {
    for count in (1..=100).filter(|&count| count != 3) {
        let owners = claim(Partitions::default(), &equal(count), None, 3);
        assert_shares(Partitions::default(), &equal(count), &owners);
        assert_eq!(crowded_nodes(&owners, 3.min(count as usize)), 0, "{count} nodes");
    }
}

#[test]
fn three_nodes_on_256_partitions_repeat_only_around_the_leftover() {
    let owners = claim(Partitions::default(), &equal(3), None, 3);
    assert_eq!(crowded_nodes(&owners, 3), 2);
}

#[test]
fn three_even_zones_repeat_only_around_the_leftover() {
    let members: Vec<Member> = (0..9).map(|id| member(id, &format!("z{}", id % 3), 1000)).collect();
    let owners = claim(Partitions::default(), &members, None, 3);
    assert_eq!((crowded_nodes(&owners, 3), crowded_zones(&owners, 3, &members)), (0, 2));
}

#[test]
fn a_node_heavier_than_a_third_gets_its_due_all_the_same() {
    let members = [member(1, "z", 2000), member(2, "z", 1000), member(3, "z", 500), member(4, "z", 500)];
    let owners = claim(Partitions::default(), &members, None, 3);
    assert_eq!(shares_of(&owners).into_values().collect::<Vec<_>>(), [128, 64, 32, 32]);
    // the heavy node has to be every other one, and the light ones between are mostly spaced
    let rest: Vec<NodeId> = owners.iter().copied().filter(|owner| *owner != NodeId(1)).collect();
    assert_eq!(crowded_nodes(&owners, 2), 0);
    assert!(crowded_nodes(&rest, 2) < rest.len() / 10);
}

#[test]
fn a_joiner_takes_its_share_and_a_leaver_gives_its_own() {
    for count in 5..100 {
        let before = claim(Partitions::default(), &equal(count), None, 3);
        let joined = assert_change(&before, &equal(count + 1), 3);
        let shares = shares_of(&joined);
        let joiner = equal(count + 1).pop().unwrap().id;
        assert_eq!(moves(&before, &joined).0, shares[&joiner]);
        assert_eq!(crowded_nodes(&joined, 3), 0, "{count} and one more");
        let left = assert_change(&joined, &equal(count), 3);
        assert_eq!(moves(&joined, &left).0, shares[&joiner]);
        assert_eq!(crowded_nodes(&left, 3), 0, "{count} after one left");
    }
}

#[test]
fn rounding_up_goes_first_to_where_spacing_stays_possible() {
    // dues of 2.9 and thrice 1.7 of 8: three of the first could not be three apart
    let members = [member(1, "z", 2900), member(2, "z", 1700), member(3, "z", 1700), member(4, "z", 1700)];
    let owners = claim(Partitions::new(8).unwrap(), &members, None, 3);
    assert_eq!(shares_of(&owners).into_values().collect::<Vec<_>>(), [2, 2, 2, 2]);
    assert_eq!(crowded_nodes(&owners, 3), 0);
}

#[test]
fn rounding_up_goes_next_to_who_holds_as_much_already() {
    let before = claim(Partitions::default(), &[2, 3, 4].map(|id| member(id, "z", 1000)), None, 3);
    assert_eq!(shares_of(&before)[&NodeId(2)], 86);
    let after = assert_change(&before, &[1, 2, 3].map(|id| member(id, "z", 1000)), 3);
    assert_eq!(moves(&before, &after), (85, 85));
}

#[test]
fn nodes_without_slack_are_spaced_whatever_their_zones() {
    for zones in [["x", "x", "y", "y"], ["x", "x", "x", "y"], ["x", "y", "x", "y"], ["y", "x", "x", "x"]] {
        let members: Vec<Member> =
            (0..4).zip(zones).zip([85, 85, 85, 1]).map(|((id, zone), weight)| member(id, zone, weight)).collect();
        let owners = claim(Partitions::default(), &members, None, 3);
        assert_eq!(crowded_nodes(&owners, 3), 0, "{zones:?}");
    }
}

#[test]
fn as_few_members_as_replicas_move_nothing_for_spacing() {
    let before = claim(Partitions::default(), &equal(4), None, 3);
    let after = assert_change(&before, &equal(3), 3);
    let (forced, moved) = moves(&before, &after);
    assert_eq!((forced, moved), (64, 64));
}

#[test]
fn neighbours_vary_around_the_ring() {
    let owners = claim(Partitions::default(), &equal(10), None, 3);
    let pairs: BTreeSet<(NodeId, NodeId)> = owners.iter().copied().zip(owners.iter().copied().skip(1)).collect();
    assert!(pairs.len() > 80, "{} of 90 ordered pairs are neighbours somewhere", pairs.len());
}

#[test]
#[should_panic(expected = "one previous owner a partition")]
fn another_rings_owners_are_a_programmers_error() {
    claim(Partitions::default(), &equal(3), Some(&[NodeId(1)]), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_birth_shares_are_due_and_spacing_is_as_promised(members in members(1..=100), bits in 0u32..=9, n in 1u8..=6) {
        let partitions = Partitions::new(1 << bits).unwrap();
        let owners = claim(partitions, &members, None, n);
        assert_shares(partitions, &members, &owners);
        assert_spaced_at_birth(&members, &owners, usize::from(n));
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        members in members(1..=20),
        shuffled in any::<prop::sample::Index>(),
        leaver in any::<prop::sample::Index>(),
    ) {
        let mut turned = members.clone();
        turned.rotate_left(shuffled.index(members.len()));
        let owners = claim(Partitions::default(), &members, None, 3);
        prop_assert_eq!(&owners, &claim(Partitions::default(), &turned, None, 3));
        if members.len() > 1 {
            let mut rest = members.clone();
            let gone = rest.remove(leaver.index(members.len())).id;
            turned.retain(|member| member.id != gone);
            let after = claim(Partitions::default(), &rest, Some(&owners), 3);
            prop_assert_eq!(after, claim(Partitions::default(), &turned, Some(&owners), 3));
        }
    }

    #[test]
    fn any_change_moves_what_it_must_and_a_little(from in members(1..=60), to in members(1..=60), kept in 0usize..=60) {
        // some stay, with the weight and the zone of `to`; the others leave, and new ones join
        let mut to = to;
        for (new, old) in to.iter_mut().zip(from.iter().take(kept)) {
            (new.id, new.name) = (old.id, old.name.clone());
        }
        let before = claim(Partitions::default(), &from, None, 3);
        let after = assert_change(&before, &to, 3);
        prop_assert_eq!(&after, &assert_change(&after, &to, 3), "nothing changed, and partitions moved");
    }

    #[test]
    fn spacing_lasts_through_joins_and_leaves(start in 5u64..=40, steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..12)) {
        let mut pool = equal(100);
        let mut members = pool.split_off(100 - start as usize);
        let mut owners = claim(Partitions::default(), &members, None, 3);
        for (join, which) in steps {
            match pool.pop() {
                Some(joiner) if join || members.len() == 5 => members.push(joiner),
                _ => drop(members.remove(which.index(members.len()))),
            }
            owners = assert_change(&owners, &members, 3);
            prop_assert_eq!(crowded_nodes(&owners, 3), 0, "{} members", members.len());
        }
    }

    #[test]
    fn dealt_shares_are_as_far_apart_as_the_largest_allows(shares in prop_oneof![
            prop::collection::vec(0usize..=4, 1..=30),
            prop::collection::vec(0usize..=40, 1..=30),
        ]) {
        let circle = deal(&shares);
        let counts: Vec<usize> = (0..shares.len()).map(|at| circle.iter().filter(|dealt| **dealt == at).count()).collect();
        prop_assert_eq!(&counts, &shares);
        if let Some(apart) = circle.len().checked_div(shares.iter().copied().max().unwrap_or(0)) {
            let ids: Vec<NodeId> = circle.iter().map(|at| NodeId(*at as u64)).collect();
            prop_assert_eq!(crowded_nodes(&ids, apart), 0);
        }
    }
}
