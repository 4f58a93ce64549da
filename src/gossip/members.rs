//! The table of everybody's word, and how two tables are reconciled.
//!
//! ```text
//!   A                                          B
//!   | -- digest of A ------------------------> |   B hears A's heartbeats
//!   | <-- delta for A, digest of B ----------- |   A hears B's heartbeats, takes the states
//!   | -- delta for B, if it lacks something -> |
//! ```

use std::collections::BTreeMap;

use super::state::{Known, MemberState};
use crate::types::{BatchNumber, DiskId, Generation, NodeId};

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

/// Everybody's latest word: each state is ordered by (generation, version), and within one generation heartbeat and
/// `synced` only grow; only its owner raises any of them, so applying words in any order, any number of times, leaves the
/// same table.
#[derive(Clone, Debug)]
pub struct Members {
    own: NodeId,
    states: BTreeMap<NodeId, MemberState>,
}

impl Members {
    /// The most members that are remembered; the word of further ones is dropped.
    pub const MAX: usize = 1000;
    /// The most bytes of states in one message. A table of 500 members that somebody lacks crosses in three rounds, and no
    /// message of control keeps others waiting for long.
    pub const MAX_DELTA_BYTES: usize = 64 * 1024;

    /// A table that knows only its owner.
    pub fn new(own: MemberState) -> Members {
        Members { own: own.node, states: BTreeMap::from([(own.node, own)]) }
    }

    /// This node's own word.
    pub fn own(&self) -> &MemberState {
        self.states.get(&self.own).expect("the table is made with the owner's state and never drops it")
    }

    fn own_mut(&mut self) -> &mut MemberState {
        self.states.get_mut(&self.own).expect("the table is made with the owner's state and never drops it")
    }

    /// Changes this node's own word; the version rises if anything did change.
    pub fn update_own(&mut self, change: impl FnOnce(&mut MemberState)) {
        let own = self.own_mut();
        let before = own.clone();
        change(own);
        if *own != before {
            own.version = before.version + 1;
        }
    }

    /// This node lives: once each round.
    pub fn beat(&mut self) {
        self.own_mut().heartbeat += 1;
    }

    /// Everything up to here is on this node's disk.
    pub fn note_synced(&mut self, synced: BatchNumber) {
        let own = self.own_mut();
        own.synced = own.synced.max(synced);
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

    /// What this node knows: to ask for what it does not, and to pass on who lives.
    pub fn digest(&self) -> Vec<Known> {
        self.states.values().map(MemberState::known).collect()
    }

    /// Takes the greater heartbeats and `synced`s of a digest, for members whose run is known here; a run that is not comes
    /// as a state. Who had news, this node never.
    pub fn hear(&mut self, digest: &[Known]) -> Vec<NodeId> {
        let own = self.own;
        let mut heard = Vec::new();
        for known in digest.iter().filter(|known| known.node != own) {
            if let Some(state) = self.states.get_mut(&known.node)
                && (state.generation, state.disk) == (known.generation, known.disk)
                && (state.keep_up(known.heartbeat, known.synced) || mutant!(OldHeartbeatIsNews))
            {
                heard.push(known.node);
            }
        }
        heard
    }

    /// The states of which `theirs` shows an older version, or none: of those that the other is furthest behind on as many
    /// as `max_bytes` hold, and one in any case, so that every exchange brings the other further (van Renesse et al.,
    /// section 3: scuttle-depth).
    pub fn delta(&self, theirs: &[Known], max_bytes: usize) -> Vec<MemberState> {
        let theirs: BTreeMap<NodeId, (Generation, u64)> =
            theirs.iter().map(|known| (known.node, (known.generation, known.version))).collect();
        let behind = |state: &MemberState| match theirs.get(&state.node) {
            Some(known) if *known >= (state.generation, state.version) => None,
            Some((generation, version)) if *generation == state.generation => Some(state.version - version),
            _ => Some(u64::MAX),
        };
        let mut lacking: Vec<(u64, &MemberState)> =
            self.states.values().filter_map(|state| Some((behind(state)?, state))).collect();
        lacking.sort_by_key(|(gap, _)| std::cmp::Reverse(*gap));
        let mut left = max_bytes;
        let mut delta = Vec::new();
        for (_, state) in lacking {
            let size = state.size_bound();
            if size > left && !delta.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            delta.push(state.clone());
        }
        delta
    }

    /// Takes what is newer, of those whom `admits` lets in: neither departed ids nor another cluster's nodes.
    pub fn apply(&mut self, delta: Vec<MemberState>, admits: impl Fn(NodeId) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for mut state in delta {
            if state.node == self.own {
                if state.generation > self.own().generation {
                    changes.push(Change::Superseded { generation: state.generation, disk: state.disk });
                }
                continue;
            }
            if !admits(state.node) {
                continue;
            }
            let node = state.node;
            let has_room = self.states.len() < Members::MAX;
            let updated = match self.states.get_mut(&node) {
                Some(known) if (known.generation, known.version) < (state.generation, state.version) => {
                    if known.generation == state.generation {
                        state.keep_up(known.heartbeat, known.synced);
                    }
                    *known = state;
                    true
                }
                Some(known) => {
                    (known.generation, known.disk) == (state.generation, state.disk)
                        && known.keep_up(state.heartbeat, state.synced)
                }
                None if has_room => {
                    self.states.insert(node, state);
                    true
                }
                None => false,
            };
            if updated {
                changes.push(Change::Updated(node));
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
mod tests;
