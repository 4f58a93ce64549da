//! Claim: which member owns which partition.
//!
//! What is guaranteed, with Q partitions, N = `spacing_n`, at most the number of members:
//!
//! - **Shares.** Every member owns its due, Q * weight / total weight, rounded down or up, and so does every zone. Shares
//!   come first: what follows is as good as shares allow.
//! - **Spacing at birth** (no `previous`). Any N consecutive partitions, around the end too, are on distinct nodes
//!   whenever no member's share is above Q/N, which is exactly when it is possible. With N zones or more they are also in
//!   distinct zones whenever no zone's share is above Q/N: again exactly when it is possible. With Z < N zones, any Z
//!   consecutive ones are in distinct zones whenever no zone's share is above Q/Z and no member's above its zone's share
//!   divided by N/Z rounded up. What is impossible is approached: a bounded search keeps the pairs of partitions that are
//!   too close few, pairs of one node before pairs of one zone. So N equal nodes on Q partitions not divisible by
//!   N, such as three on 256, are spaced everywhere but around the one place where the leftover partition goes.
//! - **A change** (with `previous`) moves the partitions that the new shares force to move, and at most
//!   [`most_extra_moves`] more, spent only on spacing; usually none. Where shares stay the same, nothing moves. Equal members of one zone, N + 2 of them or more,
//!   stay perfectly spaced on 256 partitions in every join and leave that the tests try. With N + 1, what a leaver
//!   leaves behind can be too tangled for that budget, and some windows repeat a node until members join. With N or
//!   fewer, every preference list holds every member whatever the spacing, and nothing extra is moved. Zones are
//!   spaced as well as the budget allows.
//!
//! Spacing is never needed for safety: a preference list skips nodes and zones that it already has. Spacing spreads the
//! replicas as evenly as the partitions.
//!
//! Sources: Dynamo (SOSP'07) section 6.2, strategy 3; shares by largest remainder (Hamilton), for zones first and then
//! within each; the arrangement at birth is McNaughton's wrap-around rule, dealt down columns and read along rows.

use super::arrangement::{Arrangement, Index, NOBODY, Spacing};
use super::member::Member;
use super::token::Partitions;
use crate::types::NodeId;

/// Moves that a change may make for spacing's sake, beyond those that the new shares force.
pub fn most_extra_moves(partitions: Partitions) -> usize {
    partitions.count() as usize / 16
}

/// Assigns every partition an owner; `previous[p]` owned partition `p` before, by members that may have left.
///
/// The result depends on the members as a set, not on their order. The module says what it guarantees.
///
/// # Panics
/// Without members, or if `previous` is not as long as the ring.
pub fn claim(partitions: Partitions, members: &[Member], previous: Option<&[NodeId]>, spacing_n: u8) -> Vec<NodeId> {
    assert!(!members.is_empty(), "a ring needs a member");
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by_key(|member| member.id);
    let count = partitions.count() as usize;
    let index_of = |id: &NodeId| members.binary_search_by_key(id, |member| member.id).map_or(NOBODY, |at| at as Index);
    let before: Vec<Index> = previous.unwrap_or_default().iter().map(index_of).collect();
    assert!(before.is_empty() || before.len() == count, "one previous owner a partition");

    let zone_of = zones(&members);
    let shares = shares(count, &members, &zone_of, &before, usize::from(spacing_n));
    let spacing = spacing(count, zone_of, &shares, usize::from(spacing_n));
    let owners = if before.is_empty() {
        at_birth(&spacing, &shares)
    } else {
        after_change(&spacing, &shares, before, most_extra_moves(partitions))
    };
    owners.into_iter().map(|owner| members[usize::from(owner)].id).collect()
}

/// The zone of each member, as an index into the zones' sorted names.
fn zones(members: &[&Member]) -> Vec<u16> {
    let mut names: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let index = |member: &&Member| names.binary_search(&member.zone.as_str()).map_or(0, |at| at as u16);
    members.iter().map(index).collect()
}

/// Distances that can be asked for at all: no more than there are owners, and zones of owners.
fn spacing(count: usize, zone_of: Vec<u16>, shares: &[usize], spacing_n: usize) -> Spacing {
    let owners = shares.iter().filter(|&&share| share > 0).count();
    let mut zones: Vec<u16> =
        zone_of.iter().zip(shares).filter(|(_, share)| **share > 0).map(|(zone, _)| *zone).collect();
    zones.sort_unstable();
    zones.dedup();
    let nodes = spacing_n.min(owners).min(count).max(1);
    Spacing { zone_of, nodes, zones: nodes.min(zones.len()) }
}

/// A claimant to a whole number of partitions: a zone among zones, or a member within its zone.
struct Claimant {
    weight: u64,
    /// Partitions owned before.
    held: usize,
}

/// Partitions for each member: zones by largest remainder, then members within theirs.
fn shares(count: usize, members: &[&Member], zone_of: &[u16], before: &[Index], spacing_n: usize) -> Vec<usize> {
    let mut held = vec![0; members.len()];
    for &owner in before.iter().filter(|&&owner| owner != NOBODY) {
        held[usize::from(owner)] += 1;
    }
    let zone_count = zone_of.iter().max().map_or(0, |&last| usize::from(last) + 1);
    let mut zones: Vec<Claimant> = (0..zone_count).map(|_| Claimant { weight: 0, held: 0 }).collect();
    let mut within: Vec<Vec<usize>> = vec![Vec::new(); zone_count];
    for (member, &zone) in zone_of.iter().enumerate() {
        let zone = usize::from(zone);
        zones[zone].weight += u64::from(members[member].weight.thousandths());
        zones[zone].held += held[member];
        within[zone].push(member);
    }
    let total: u64 = zones.iter().map(|zone| zone.weight).sum();
    let zone_cap = count / spacing_n.clamp(1, zone_count);
    let member_cap = count / spacing_n.clamp(1, members.len());

    let mut shares = vec![0; members.len()];
    let zone_shares = apportion(count, count, total, &zones, zone_cap);
    for (zone_share, inside) in zone_shares.into_iter().zip(within) {
        let claimants: Vec<Claimant> = inside
            .iter()
            .map(|&member| Claimant { weight: u64::from(members[member].weight.thousandths()), held: held[member] })
            .collect();
        for (member, share) in inside.into_iter().zip(apportion(zone_share, count, total, &claimants, member_cap)) {
            shares[member] = share;
        }
    }
    shares
}

/// Splits `available` so that each gets `count * weight / total` rounded down or up. Rounded up first is whoever stays
/// within `cap`, then whoever held as much before (and so need not move), then the largest remainder.
fn apportion(available: usize, count: usize, total: u64, claimants: &[Claimant], cap: usize) -> Vec<usize> {
    let due = |claimant: &Claimant| count as u64 * claimant.weight;
    let mut shares: Vec<usize> = claimants.iter().map(|claimant| (due(claimant) / total) as usize).collect();
    let mut fractional: Vec<usize> = (0..claimants.len()).filter(|&at| due(&claimants[at]) % total > 0).collect();
    fractional.sort_by_key(|&at| {
        let remainder = due(&claimants[at]) % total;
        (shares[at] >= cap, claimants[at].held <= shares[at], std::cmp::Reverse(remainder), at)
    });
    let left = available - shares.iter().sum::<usize>();
    for &at in fractional.iter().take(left) {
        shares[at] += 1;
    }
    shares
}

fn at_birth(spacing: &Spacing, shares: &[usize]) -> Vec<Index> {
    let plans = [dealt_by_node(shares), dealt_by_zone(&spacing.zone_of, shares)];
    let mut best = plans
        .into_iter()
        .map(|owners| Arrangement::new(spacing, Vec::new(), owners))
        .min_by_key(Arrangement::badness)
        .expect("there are two plans");
    best.repair(0);
    best.shuffle();
    best.into_owners()
}

/// Deals without regard to zones: nodes are as far apart as their largest share allows.
fn dealt_by_node(shares: &[usize]) -> Vec<Index> {
    deal(shares).into_iter().map(|node| node as Index).collect()
}

/// Deals partitions to zones, then those of each zone to its nodes: zones are as far apart as their largest share allows.
fn dealt_by_zone(zone_of: &[u16], shares: &[usize]) -> Vec<Index> {
    let zone_count = zone_of.iter().max().map_or(0, |&last| usize::from(last) + 1);
    let mut zone_shares = vec![0; zone_count];
    for (&zone, share) in zone_of.iter().zip(shares) {
        zone_shares[usize::from(zone)] += share;
    }
    let mut within: Vec<_> = (0..zone_count)
        .map(|zone| {
            let inside: Vec<usize> = (0..shares.len()).filter(|&node| usize::from(zone_of[node]) == zone).collect();
            let dealt = deal(&inside.iter().map(|&node| shares[node]).collect::<Vec<_>>());
            dealt.into_iter().map(move |at| inside[at] as Index)
        })
        .collect();
    let next = |zone: usize| within[zone].next().expect("a zone's share is the sum of its nodes' shares");
    deal(&zone_shares).into_iter().map(next).collect()
}

/// Arranges `shares[i]` times each `i` around a circle so that equal ones are at least `len / largest` apart.
///
/// The circle is cut into as many rows as the largest share, and filled column by column, the largest shares first.
/// Then nothing is twice in a row; a share as large as the number of rows fills whole columns; and a smaller one that
/// runs on in the next column stops two rows or more above where it began.
fn deal(shares: &[usize]) -> Vec<usize> {
    let count: usize = shares.iter().sum();
    let rows = shares.iter().copied().max().unwrap_or(0);
    if rows == 0 {
        return Vec::new();
    }
    let (length, longer) = (count / rows, count % rows);
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(shares[at]), at));
    let cells = (0..=length).flat_map(|column| (0..rows).map(move |row| (row, column)));
    // the last column is there in the longer rows only, which come first
    let cells = cells.filter(|&(row, column)| column < length || row < longer);
    let dealt = order.into_iter().flat_map(|at| std::iter::repeat_n(at, shares[at]));
    let mut circle = vec![0; count];
    for ((row, column), at) in cells.zip(dealt) {
        circle[row * length + row.min(longer) + column] = at;
    }
    circle
}

fn after_change(spacing: &Spacing, shares: &[usize], before: Vec<Index>, most_extra_moves: usize) -> Vec<Index> {
    let mut held = vec![0; shares.len()];
    for &owner in before.iter().filter(|&&owner| owner != NOBODY) {
        held[usize::from(owner)] += 1;
    }
    let count = before.len();
    let mut takers: Vec<usize> = (0..shares.len()).filter(|&node| held[node] < shares[node]).collect();
    takers.sort_by_key(|&node| (std::cmp::Reverse(shares[node] - held[node]), node));
    if takers.is_empty() {
        return before;
    }
    let mut arrangement = Arrangement::new(spacing, before.clone(), before);
    for taker in takers {
        let wanted = shares[taker] - held[taker];
        for turn in 0..wanted {
            let partition = next_for(&arrangement, taker as Index, turn * count / wanted, |owner| {
                owner == NOBODY || held[usize::from(owner)] > shares[usize::from(owner)]
            });
            if let Some(giver) = held.get_mut(usize::from(arrangement.owners()[partition])) {
                *giver -= 1;
            }
            arrangement.assign(partition, taker as Index);
        }
        held[taker] = shares[taker];
    }
    // where every list holds every member, spacing spreads nothing
    let extra = if spacing.nodes < shares.len() { most_extra_moves } else { 0 };
    arrangement.repair(arrangement.moves() + extra);
    arrangement.give_back();
    arrangement.into_owners()
}

/// The partition to give to `taker`: of those that `free` owners give up, the first from `start` on with no bad
/// neighbour, or the one with the least.
fn next_for(arrangement: &Arrangement<'_>, taker: Index, start: usize, free: impl Fn(Index) -> bool) -> usize {
    let count = arrangement.owners().len();
    let mut least = None;
    for partition in (start..start + count).map(|at| if at >= count { at - count } else { at }) {
        if !free(arrangement.owners()[partition]) {
            continue;
        }
        let badness = arrangement.badness_of(partition, taker);
        if badness == 0 {
            return partition;
        }
        if least.is_none_or(|(least, _)| badness < least) {
            least = Some((badness, partition));
        }
    }
    least
        .map(|(_, partition)| partition)
        .expect("shares and partitions both sum to Q, so what one lacks another gives up")
}

#[cfg(test)]
pub(super) mod tests;
