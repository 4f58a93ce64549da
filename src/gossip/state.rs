//! What a member says of itself, and the table of everybody's word.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{BatchNumber, DiskId, Generation, NodeId, RingVersion};

/// A founder's stand on the cluster's birth; gone once there is a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// How many founders this node waits for, itself included.
    pub expect: u32,
    /// Hash of what is fixed at birth: cluster name, partitions, buckets.
    pub terms: [u8; 16],
    /// The layout that it durably voted for: its cluster id. A node votes once.
    pub vote: Option<[u8; 16]>,
}

/// One member's own word about itself. Only its owner changes it; everybody passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Who speaks.
    pub node: NodeId,
    /// Which run of its directory.
    pub generation: Generation,
    /// Raised by the owner with every change within a generation.
    pub version: u64,
    /// Its name: a DNS label, as in its certificate.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Thousandths of a share.
    pub weight: u32,
    /// Where peers and clients reach it.
    pub address: String,
    /// Its data directory.
    pub disk: DiskId,
    /// Before birth: its ballot.
    pub ballot: Option<Ballot>,
    /// The ring that it follows, with the digest of its layout.
    pub ring: Option<(RingVersion, [u8; 16])>,
    /// It has a new disk, and what it does not find counts for nothing.
    pub rebuilding: bool,
    /// Everything up to this number is on its disk: a directory that recovers less is an old copy.
    pub synced: BatchNumber,
}

/// How much of one member's word is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whose.
    pub node: NodeId,
    /// Up to which run.
    pub generation: Generation,
    /// Up to which change within it.
    pub version: u64,
}

/// What applying somebody's word has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This member is new or has said something new.
    Updated(NodeId),
    /// Somebody holds a later run of this very node: of the same directory, then this process is the older one and must
    /// end; or of another.
    Superseded {
        /// The later run.
        generation: Generation,
        /// Its directory.
        disk: DiskId,
    },
}

/// Everybody's latest word: each state is ordered by (generation, version), both of which only its owner raises, so
/// applying states in any order, any number of times, leaves the same table.
#[derive(Clone, Debug)]
pub struct Members {
    own: NodeId,
    states: BTreeMap<NodeId, MemberState>,
}

impl Members {
    /// The most members that are remembered; the word of further ones is dropped.
    pub const MAX: usize = 1000;

    /// A table that knows only its owner.
    pub fn new(own: MemberState) -> Members {
        Members { own: own.node, states: BTreeMap::from([(own.node, own)]) }
    }

    /// This node's own word.
    pub fn own(&self) -> &MemberState {
        self.states.get(&self.own).expect("the table is made with the owner's state and never drops it")
    }

    /// Changes this node's own word; the version rises if anything did change.
    pub fn update_own(&mut self, change: impl FnOnce(&mut MemberState)) {
        let own = self.states.get_mut(&self.own).expect("the table is made with the owner's state and never drops it");
        let before = own.clone();
        change(own);
        if *own != before {
            own.version = before.version + 1;
        }
    }

    /// Takes another identity: a node with a new disk has learnt which ring slot its name is bound to.
    pub fn rename_own(&mut self, node: NodeId, generation: Generation) {
        let mut own = self.own().clone();
        self.states.remove(&self.own);
        own.node = node;
        own.generation = generation;
        own.version += 1;
        self.own = node;
        self.states.insert(node, own);
    }

    /// One member's latest word.
    pub fn get(&self, node: NodeId) -> Option<&MemberState> {
        self.states.get(&node)
    }

    /// Everybody's latest word, by id, this node's included.
    pub fn iter(&self) -> impl Iterator<Item = &MemberState> {
        self.states.values()
    }

    /// What this node knows, to ask for what it does not.
    pub fn digest(&self) -> Vec<Known> {
        self.states
            .values()
            .map(|state| Known { node: state.node, generation: state.generation, version: state.version })
            .collect()
    }

    /// The states of which `theirs` shows an older version, or none.
    pub fn delta(&self, theirs: &[Known]) -> Vec<MemberState> {
        let theirs: BTreeMap<NodeId, (Generation, u64)> =
            theirs.iter().map(|known| (known.node, (known.generation, known.version))).collect();
        self.states
            .values()
            .filter(|state| theirs.get(&state.node).is_none_or(|known| *known < (state.generation, state.version)))
            .cloned()
            .collect()
    }

    /// Takes what is newer. `departed` ids are never taken again.
    pub fn apply(&mut self, delta: Vec<MemberState>, departed: &[NodeId]) -> Vec<Change> {
        let mut changes = Vec::new();
        for state in delta {
            if state.node == self.own {
                if state.generation > self.own().generation {
                    changes.push(Change::Superseded { generation: state.generation, disk: state.disk });
                }
                continue;
            }
            if departed.contains(&state.node) {
                continue;
            }
            let newer = match self.states.get(&state.node) {
                Some(known) => (known.generation, known.version) < (state.generation, state.version),
                None => self.states.len() < Members::MAX,
            };
            if newer {
                changes.push(Change::Updated(state.node));
                self.states.insert(state.node, state);
            }
        }
        changes
    }

    /// Drops everybody who is neither this node nor in `keep`: those who never became members, and those who departed.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        let own = self.own;
        self.states.retain(|node, _| *node == own || keep(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn state(node: u64, generation: u64, version: u64) -> MemberState {
        MemberState {
            node: NodeId(node),
            generation: Generation(generation),
            version,
            name: format!("n{node}"),
            zone: "default".into(),
            weight: 1000,
            address: format!("127.0.0.1:{}", 7000 + node),
            disk: DiskId(node),
            ballot: None,
            ring: None,
            rebuilding: false,
            synced: BatchNumber(generation * 1000 + version),
        }
    }

    #[test]
    fn a_delta_holds_just_what_the_other_lacks() {
        let mut members = Members::new(state(1, 1, 1));
        members.apply(vec![state(2, 3, 4), state(3, 1, 1)], &[]);
        let theirs = [
            Known { node: NodeId(2), generation: Generation(3), version: 4 },
            Known { node: NodeId(3), generation: Generation(1), version: 0 },
        ];
        assert_eq!(members.delta(&theirs), vec![state(1, 1, 1), state(3, 1, 1)]);
    }

    #[test]
    fn nobody_but_the_owner_changes_its_state() {
        let mut members = Members::new(state(1, 5, 1));
        let mut forged = state(1, 5, 9);
        forged.address = "elsewhere:1".into();
        assert_eq!(members.apply(vec![forged], &[]), vec![]);
        assert_eq!(members.own(), &state(1, 5, 1));
        assert_eq!(
            members.apply(vec![state(1, 6, 0)], &[]),
            vec![Change::Superseded { generation: Generation(6), disk: DiskId(1) }]
        );
    }

    #[test]
    fn a_departed_member_is_not_taken_back() {
        let mut members = Members::new(state(1, 1, 1));
        assert_eq!(members.apply(vec![state(2, 9, 9)], &[NodeId(2)]), vec![]);
        assert!(members.get(NodeId(2)).is_none());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut members = Members::new(state(0, 1, 1));
        members.apply((1..2000).map(|node| state(node, 1, 1)).collect(), &[]);
        assert_eq!(members.iter().count(), Members::MAX);
        assert_eq!(
            members.apply(vec![state(5, 2, 0)], &[]),
            vec![Change::Updated(NodeId(5))],
            "those known still speak"
        );
    }

    #[test]
    fn a_change_raises_the_version_and_no_change_does_not() {
        let mut members = Members::new(state(1, 1, 7));
        members.update_own(|own| own.rebuilding = true);
        assert_eq!(members.own().version, 8);
        members.update_own(|own| own.rebuilding = true);
        assert_eq!(members.own().version, 8);
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_gives_the_same_table(
            words in proptest::collection::vec((2u64..5, 1u64..4, 0u64..4), 0..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut once = Members::new(state(1, 1, 1));
            once.apply(words.iter().map(|&(n, g, v)| state(n, g, v)).collect(), &[]);
            let mut shuffled = Members::new(state(1, 1, 1));
            if !words.is_empty() {
                for index in &order {
                    let &(n, g, v) = index.get(&words);
                    shuffled.apply(vec![state(n, g, v)], &[]);
                }
            }
            for &(n, g, v) in words.iter().rev() {
                shuffled.apply(vec![state(n, g, v)], &[]);
            }
            prop_assert_eq!(once.iter().collect::<Vec<_>>(), shuffled.iter().collect::<Vec<_>>());
        }
    }
}
