//! Preference lists: where a partition's keys live, and who stands in.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::layout::Layout;
use crate::types::{NodeId, Token};

/// One of a key's N places, counted from 0: a quorum counts slots, however many nodes answer for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u8);

/// What a node is to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds a replica.
    Primary {
        /// Which one.
        slot: Slot,
    },
    /// It may hold a hint for a primary that cannot be reached.
    StandIn,
}

/// A node in a preference list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The node.
    pub node: NodeId,
    /// What it is to the partition's keys.
    pub role: Role,
}

/// All members in the order in which a partition's keys turn to them (Dynamo, sections 4.3 and 4.6).
///
/// The walk goes clockwise from the partition and notes each node where it first owns something; members that own
/// nothing come last, by id. The N *slots* are filled in rounds: each round takes, in the walk's order, at most one node
/// of each zone. So they are in distinct zones as far as there are zones, and evenly among zones beyond that; the first
/// is the partition's owner. The rest of the walk, in order, are the *stand-ins*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceList {
    slots: Vec<NodeId>,
    stand_ins: Vec<NodeId>,
}

impl PreferenceList {
    /// The lists of all partitions in ring order, for buckets with this `n`.
    ///
    /// They take 8 bytes a partition and member.
    pub fn all(layout: &Layout, n: u8) -> Vec<PreferenceList> {
        let members = layout.members();
        let zone_of: BTreeMap<NodeId, &str> = members.iter().map(|member| (member.id, member.zone.as_str())).collect();
        let n = usize::from(layout.effective_n(n));
        let mut walk: Vec<NodeId> = members.iter().map(|member| member.id).collect();
        let mut lists = Vec::with_capacity(layout.owners().len());
        // The walk from a partition is its owner and then the walk from the next partition. So going backwards, each
        // step moves one node to the front; the first lap only finds the walk from partition 0.
        for owner in layout.owners().iter().rev() {
            move_to_front(&mut walk, *owner);
        }
        for owner in layout.owners().iter().rev() {
            move_to_front(&mut walk, *owner);
            lists.push(PreferenceList::of_walk(&walk, n, &zone_of));
        }
        lists.reverse();
        lists
    }

    /// Each round takes, in the walk's order, at most one node of each zone.
    fn of_walk(walk: &[NodeId], n: usize, zone_of: &BTreeMap<NodeId, &str>) -> PreferenceList {
        let mut slots = Vec::with_capacity(n);
        let mut rest = walk.to_vec();
        while slots.len() < n && !rest.is_empty() {
            let mut taken: Vec<Option<&&str>> = Vec::new();
            rest.retain(|node| {
                let zone = zone_of.get(node);
                if slots.len() == n || taken.contains(&zone) {
                    return true;
                }
                taken.push(zone);
                slots.push(*node);
                false
            });
        }
        rest.shrink_to_fit();
        PreferenceList { slots, stand_ins: rest }
    }

    /// The nodes of slot 0, 1, ...: distinct, as many as the bucket's effective n.
    pub fn slots(&self) -> &[NodeId] {
        &self.slots
    }

    /// All other members, the first to ask first.
    pub fn stand_ins(&self) -> &[NodeId] {
        &self.stand_ins
    }

    /// The effective n: how many slots there are.
    pub fn n(&self) -> u8 {
        self.slots.len() as u8
    }

    /// The slot that a node is primary for; `None` for a stand-in and for a stranger.
    pub fn slot_of(&self, node: NodeId) -> Option<Slot> {
        self.slots.iter().position(|slot| *slot == node).map(|at| Slot(at as u8))
    }

    /// [`coordinators_of`] the primaries.
    pub fn coordinators(&self, token: Token) -> Vec<NodeId> {
        coordinators_of(&self.slots, token)
    }

    /// Primaries by slot, then stand-ins.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let primaries =
            (0..).zip(&self.slots).map(|(slot, &node)| Entry { node, role: Role::Primary { slot: Slot(slot) } });
        primaries.chain(self.stand_ins.iter().map(|&node| Entry { node, role: Role::StandIn }))
    }
}

/// A key's primaries in the order in which they are to coordinate its writes: the first that can be reached. Each key
/// draws its own (rendezvous hashing; Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
/// The slots' order goes by partitions, as shards do: it might have one shard coordinate all that a node does, and one
/// node all that another leaves undone.
pub fn coordinators_of(primaries: &[NodeId], token: Token) -> Vec<NodeId> {
    let mut order = primaries.to_vec();
    order.sort_by_cached_key(|node| {
        let mut drawn = [0; 16];
        drawn[..8].copy_from_slice(&token.0.to_be_bytes());
        drawn[8..].copy_from_slice(&node.0.to_be_bytes());
        (xxh3_64(&drawn), *node)
    });
    order
}

fn move_to_front(walk: &mut [NodeId], node: NodeId) {
    let at = walk.iter().position(|&other| other == node).expect("the layout checked that every owner is a member");
    walk[..=at].rotate_right(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::claim::tests::{member, members};
    use crate::ring::{BucketConfig, Partitions};
    use crate::types::{Bucket, RingVersion};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Owners as letters, one a partition: node `a` has id 1. Zones likewise, one a node.
    fn layout(owners: &str, zones: &str) -> Layout {
        let id = |letter: char| NodeId(u64::from(letter as u32 - 'a' as u32 + 1));
        let members = zones.chars().zip(1..).map(|(zone, id)| member(id, &format!("zone-{zone}"), 1000)).collect();
        let buckets = [(Bucket::default(), BucketConfig::default())].into();
        let partitions = Partitions::new(owners.len() as u32).unwrap();
        Layout::new(RingVersion(1), partitions, owners.chars().map(id).collect(), members, vec![], buckets).unwrap()
    }

    #[track_caller]
    fn check(owners: &str, zones: &str, partition: usize, n: u8, slots: &str, stand_ins: &str) {
        let list = &PreferenceList::all(&layout(owners, zones), n)[partition];
        let letters = |nodes: &[NodeId]| nodes.iter().map(|node| (b'a' + node.0 as u8 - 1) as char).collect::<String>();
        assert_eq!((letters(list.slots()).as_str(), letters(list.stand_ins()).as_str()), (slots, stand_ins));
    }

    #[test]
    fn the_walk_is_clockwise_and_skips_what_it_has() {
        check("abcdabcd", "1111", 0, 3, "abc", "d");
        check("abcdabcd", "1111", 6, 3, "cda", "b");
        check("aabbccdd", "1111", 0, 3, "abc", "d");
        check("aabbccdd", "1111", 7, 3, "dab", "c");
    }

    #[test]
    fn zones_come_before_nearness() {
        check("abcdabcd", "1122", 0, 2, "ac", "bd");
        check("abcdabcd", "1122", 0, 3, "acb", "d");
        check("abcdefab", "111123", 0, 3, "aef", "bcd");
        check("abcdefab", "111122", 0, 4, "aebf", "cd");
    }

    #[test]
    fn owners_of_nothing_come_last() {
        check("cccc", "1111", 0, 2, "ca", "bd");
        check("acac", "1112", 0, 2, "ad", "cb");
        check("a", "1", 0, 3, "a", "");
    }

    #[test]
    fn entries_name_slots_then_stand_ins() {
        let list = PreferenceList::all(&layout("abcd", "1111"), 2).remove(1);
        let primary = |node, slot| Entry { node: NodeId(node), role: Role::Primary { slot: Slot(slot) } };
        let stand_in = |node| Entry { node: NodeId(node), role: Role::StandIn };
        let entries: Vec<Entry> = list.entries().collect();
        assert_eq!(entries, [primary(2, 0), primary(3, 1), stand_in(4), stand_in(1)]);
        assert_eq!((list.slot_of(NodeId(3)), list.slot_of(NodeId(4)), list.n()), (Some(Slot(1)), None, 2));
    }

    /// In a partition too, and with one of them away: the work of each shard is a part of the whole.
    #[test]
    fn keys_draw_their_coordinators_evenly() {
        let list = PreferenceList::all(&layout("abcdabcd", "1111"), 3).remove(1);
        let (mut firsts, mut seconds) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..3000u64 {
            let token = Token((1 << 61) + index);
            let order = list.coordinators(token);
            assert_eq!(order.iter().collect::<BTreeSet<_>>(), list.slots().iter().collect());
            *firsts.entry(order[0]).or_insert(0) += 1;
            *seconds.entry((order[0], order[1])).or_insert(0) += 1;
            let left: Vec<_> = list.slots().iter().copied().filter(|node| *node != order[0]).collect();
            assert_eq!(coordinators_of(&left, token), order[1..], "those that are left keep their order");
        }
        // clients and nodes of all versions should agree, or a key has more actors than it needs
        let pinned = [1u64 << 61, 1, u64::MAX]
            .map(|token| list.coordinators(Token(token)).iter().map(|node| node.0).collect::<Vec<_>>());
        assert_eq!(pinned, [[4, 2, 3], [3, 2, 4], [2, 4, 3]]);
        assert!(firsts.len() == 3 && firsts.values().all(|count| (900..1100).contains(count)), "{firsts:?}");
        assert!(seconds.len() == 6 && seconds.values().all(|count| (400..600).contains(count)), "{seconds:?}");
    }

    /// The walk as the paper tells it, one partition at a time.
    fn walk_from(layout: &Layout, partition: usize) -> Vec<NodeId> {
        let mut walk = Vec::new();
        let clockwise = layout.owners().iter().cycle().skip(partition).take(layout.owners().len());
        for node in clockwise.copied().chain(layout.members().iter().map(|member| member.id)) {
            if !walk.contains(&node) {
                walk.push(node);
            }
        }
        walk
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_member_is_in_its_place_once(members in members(1..=100), bits in 0u32..=9, n in 1u8..=7) {
            let layout = Layout::birth(Partitions::new(1 << bits).unwrap(), members, BTreeMap::new()).unwrap();
            let lists = PreferenceList::all(&layout, n);
            prop_assert_eq!(lists.len(), 1 << bits);
            let zone = |id: &NodeId| layout.member(*id).unwrap().zone.clone();
            let zones: BTreeSet<String> = layout.members().iter().map(|member| member.zone.clone()).collect();
            for (partition, list) in lists.iter().enumerate() {
                prop_assert_eq!(list.n(), layout.effective_n(n));
                prop_assert_eq!(list.slots().first(), layout.owners().get(partition));
                let nodes: BTreeSet<NodeId> = list.entries().map(|entry| entry.node).collect();
                prop_assert_eq!(nodes.len(), list.entries().count(), "a node stands twice");
                prop_assert_eq!(nodes.len(), layout.members().len());
                let in_zones: BTreeSet<String> = list.slots().iter().map(zone).collect();
                prop_assert_eq!(in_zones.len(), zones.len().min(list.slots().len()));
                let walk = walk_from(&layout, partition);
                let rest: Vec<NodeId> = walk.into_iter().filter(|node| list.slot_of(*node).is_none()).collect();
                prop_assert_eq!(list.stand_ins(), rest);
            }
        }
    }
}
