//! Who has answered: the counting that puts, gets and scans share.

use serde::{Deserialize, Serialize};

use crate::ring::Slot;
use crate::types::NodeId;

/// One replica's part in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The slot of the preference list that it counts for.
    pub slot: u8,
    /// The node.
    pub node: NodeId,
    /// For a write: it is on that node's disk, not just in its log's buffer. For a read: always false.
    pub synced: bool,
}

/// Where one slot of the preference list stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Asked, or to be asked; no answer yet.
    Open,
    /// Answered, and counts.
    Counted { synced: bool },
    /// Answered, but a replica that lost its disk counts for nothing.
    Heard,
    /// Refused for now; asking again may help.
    Busy { reason: String },
    /// Refused for good.
    Refused { reason: String },
}

/// One request's slots. A slot counts once, and a node counts once: what makes "W of N" mean W copies.
#[derive(Clone, Debug)]
pub struct Tally {
    slots: Vec<(NodeId, State)>,
}

impl Tally {
    /// No one has answered yet. The nodes of a preference list are distinct.
    pub fn new(slots: &[NodeId]) -> Tally {
        debug_assert!(slots.iter().enumerate().all(|(i, node)| !slots[..i].contains(node)), "a node holds one slot");
        Tally { slots: slots.iter().map(|&node| (node, State::Open)).collect() }
    }

    /// Slots that may be asked (again), with their nodes.
    pub fn open(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        self.slots
            .iter()
            .zip(0u8..)
            .filter(|((_, state), _)| matches!(state, State::Open | State::Busy { .. }))
            .map(|((node, _), slot)| (Slot(slot), *node))
    }

    /// Slots whose answer counts, though not as one on disk.
    pub fn buffered(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let acks = self.slots.iter().zip(0u8..);
        acks.filter(|((_, state), _)| matches!(state, State::Counted { synced: false }))
            .map(|((node, _), slot)| (Slot(slot), *node))
    }

    /// The state of a slot, if `from` is the node that holds it: an answer from anybody else is none.
    fn slot_of(&mut self, slot: Slot, from: NodeId) -> Option<&mut State> {
        self.slots.get_mut(usize::from(slot.0)).filter(|(node, _)| *node == from).map(|(_, state)| state)
    }

    /// Counts an answer; false if it changes nothing (repeated, or not from the slot's node).
    pub fn count(&mut self, slot: Slot, from: NodeId, synced: bool) -> bool {
        if mutant!(DuplicateCounted) {
            let counts = |(node, state): &(NodeId, State)| *node == from && matches!(state, State::Counted { .. });
            // No level asks for more than 16.
            if self.slots.iter().any(counts) && self.slots.len() < 16 {
                self.slots.push((from, State::Counted { synced }));
                return true;
            }
        }
        match self.slot_of(slot, from) {
            None => false,
            Some(State::Counted { synced: before }) => {
                let more = synced && !*before;
                *before |= synced;
                more
            }
            Some(state) => {
                *state = State::Counted { synced };
                true
            }
        }
    }

    /// Notes an answer that does not count; false if it is a repeated one, or not from the slot's node.
    pub fn hear(&mut self, slot: Slot, from: NodeId) -> bool {
        match self.slot_of(slot, from) {
            None | Some(State::Counted { .. } | State::Heard) => false,
            Some(state) => {
                *state = State::Heard;
                true
            }
        }
    }

    /// Notes a refusal; `again` says whether asking again may help. An answer that was counted stays counted.
    pub fn refuse(&mut self, slot: Slot, from: NodeId, reason: String, again: bool) {
        if let Some(state) = self.slot_of(slot, from).filter(|state| !matches!(state, State::Counted { .. })) {
            *state = if again { State::Busy { reason } } else { State::Refused { reason } };
        }
    }

    /// Answers that count.
    pub fn counted(&self) -> u8 {
        self.number(|state| matches!(state, State::Counted { .. }))
    }

    /// Answers that count and are on disk.
    pub fn synced(&self) -> u8 {
        self.number(|state| matches!(state, State::Counted { synced: true }))
    }

    /// Answers that count or still may.
    pub fn possible(&self) -> u8 {
        self.number(|state| matches!(state, State::Counted { .. } | State::Open | State::Busy { .. }))
    }

    /// Whether every slot has given its last word.
    pub fn is_complete(&self) -> bool {
        self.open().next().is_none()
    }

    fn number(&self, which: impl Fn(&State) -> bool) -> u8 {
        u8::try_from(self.slots.iter().filter(|(_, state)| which(state)).count()).expect("n is at most 255")
    }

    /// Who counts.
    pub fn acks(&self) -> Vec<Ack> {
        let mut acks: Vec<Ack> = self
            .slots
            .iter()
            .zip(0u8..)
            .filter_map(|((node, state), slot)| match state {
                State::Counted { synced } => Some(Ack { slot, node: *node, synced: *synced }),
                _ => None,
            })
            .collect();
        if mutant!(DuplicateCounted) {
            let real = |ack: &Ack| self.slots.iter().position(|(node, _)| *node == ack.node) == Some(ack.slot.into());
            acks.retain(real);
        }
        acks
    }

    /// Who does not count, and why, for people; `name` knows the nodes.
    pub fn missing(&self, name: impl Fn(NodeId) -> String) -> String {
        let mut parts = Vec::new();
        for (node, state) in &self.slots {
            let why = match state {
                State::Counted { .. } => continue,
                State::Open => "no answer",
                State::Heard => "it is rebuilding and does not count",
                State::Busy { reason } | State::Refused { reason } => reason,
            };
            parts.push(format!("{}: {why}", name(*node)));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    #[test]
    fn a_duplicate_reply_counts_once() {
        let mut tally = Tally::new(&NODES);
        assert!(tally.count(Slot(0), NodeId(1), false));
        assert!(!tally.count(Slot(0), NodeId(1), false));
        assert_eq!(tally.counted(), 1);
    }

    #[test]
    fn a_node_counts_only_for_its_own_slot() {
        let mut tally = Tally::new(&NODES);
        assert!(!tally.count(Slot(1), NodeId(1), true));
        assert!(!tally.count(Slot(9), NodeId(1), true));
        assert_eq!(tally.counted(), 0);
    }

    #[test]
    fn a_later_sync_raises_what_is_durable() {
        let mut tally = Tally::new(&NODES);
        tally.count(Slot(2), NodeId(3), false);
        assert_eq!(tally.synced(), 0);
        assert!(tally.count(Slot(2), NodeId(3), true));
        assert_eq!((tally.counted(), tally.synced()), (1, 1));
    }

    #[test]
    fn a_rebuilding_replica_is_heard_and_not_counted() {
        let mut tally = Tally::new(&NODES);
        tally.hear(Slot(0), NodeId(1));
        assert_eq!((tally.counted(), tally.possible()), (0, 2));
    }

    #[test]
    fn a_refusal_never_takes_back_what_was_counted() {
        let mut tally = Tally::new(&NODES);
        tally.count(Slot(0), NodeId(1), true);
        tally.refuse(Slot(0), NodeId(1), "late".into(), false);
        assert_eq!(tally.counted(), 1);
    }

    #[test]
    fn the_busy_are_asked_again_and_the_unwilling_are_not() {
        let mut tally = Tally::new(&NODES);
        tally.refuse(Slot(0), NodeId(1), "it is overloaded".into(), true);
        tally.refuse(Slot(1), NodeId(2), "it takes no writes".into(), false);
        assert_eq!(tally.open().collect::<Vec<_>>(), vec![(Slot(0), NodeId(1)), (Slot(2), NodeId(3))]);
        assert_eq!(tally.possible(), 2);
        assert_eq!(
            tally.missing(|node| format!("n{}", node.0)),
            "n1: it is overloaded; n2: it takes no writes; n3: no answer"
        );
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_planted_duplicate_counts_and_is_no_slot_of_the_receipt() {
        use crate::mutant::{Mutant, plant};
        let _planted = plant(Mutant::DuplicateCounted);
        let mut tally = Tally::new(&NODES);
        for repeats in 0..40u8 {
            assert_eq!(tally.counted(), repeats.min(14), "there is a bound to it");
            tally.count(Slot(1), NodeId(2), true);
        }
        assert_eq!(tally.acks(), [Ack { slot: 1, node: NodeId(2), synced: true }]);
        assert_eq!(tally.open().count(), 2);
    }
}
