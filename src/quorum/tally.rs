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
    /// It is not the slot's primary and keeps a hint for it.
    pub stand_in: bool,
    /// For a write: it is on that node's disk, not just in its log's buffer. For a read: always false.
    pub synced: bool,
}

/// Where one holder of a slot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Asked, or to be asked; no answer yet.
    Open,
    /// Answered, and counts.
    Counted { synced: bool },
    /// Answered, but the answer counts for nothing: a replica that lost its disk, a stand-in that has nothing.
    Heard,
    /// Refused for now; asking again may help.
    Busy { reason: String },
    /// Refused for good.
    Refused { reason: String },
}

/// A node that answers for a slot.
#[derive(Clone, Debug)]
struct Holder {
    node: NodeId,
    state: State,
    /// It has let an attempt's time pass: it is still listened to, and no longer relied on.
    late: bool,
}

impl Holder {
    fn new(node: NodeId) -> Holder {
        Holder { node, state: State::Open, late: false }
    }

    fn is_counted(&self) -> bool {
        matches!(self.state, State::Counted { .. })
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Busy { .. })
    }
}

/// A slot: its primary, and whoever stands in for it.
#[derive(Clone, Debug)]
struct SlotHolders {
    primary: Holder,
    stand_ins: Vec<Holder>,
}

impl SlotHolders {
    fn holders(&self) -> impl Iterator<Item = &Holder> {
        std::iter::once(&self.primary).chain(&self.stand_ins)
    }

    fn holders_mut(&mut self) -> impl Iterator<Item = &mut Holder> {
        std::iter::once(&mut self.primary).chain(&mut self.stand_ins)
    }

    /// The holder that the slot counts by: one that has synced before one that has not, the primary before a stand-in.
    fn counted(&self) -> Option<&Holder> {
        let synced = |holder: &&Holder| matches!(holder.state, State::Counted { synced: true });
        self.holders().find(synced).or_else(|| self.holders().find(|holder| holder.is_counted()))
    }

    fn is_synced(&self) -> bool {
        self.holders().any(|holder| matches!(holder.state, State::Counted { synced: true }))
    }

    /// Whether it counts, or somebody is relied on to make it count: not one who has refused, though he may be asked again.
    fn is_promising(&self, usable: impl Fn(NodeId) -> bool) -> bool {
        let relied = |holder: &Holder| holder.state == State::Open && !holder.late && usable(holder.node);
        self.holders().any(|holder| holder.is_counted() || relied(holder))
    }
}

/// One request's slots (Dynamo, section 4.6). A slot counts once, by its primary or a stand-in, and a node counts once,
/// for one slot: what makes "W of N" mean W copies on W nodes.
#[derive(Clone, Debug)]
pub struct Tally {
    places: Vec<SlotHolders>,
    /// Stand-ins that may be called yet.
    spare: usize,
}

impl Tally {
    /// No one has answered yet; up to `spare` nodes beyond the slots' own may be called to stand in. The nodes of a
    /// preference list are distinct.
    pub fn new(slots: &[NodeId], spare: usize) -> Tally {
        debug_assert!(slots.iter().enumerate().all(|(i, node)| !slots[..i].contains(node)), "a node holds one slot");
        let place = |&node: &NodeId| SlotHolders { primary: Holder::new(node), stand_ins: Vec::new() };
        Tally { places: slots.iter().map(place).collect(), spare }
    }

    /// Whether this node answers for a slot.
    pub fn has(&self, node: NodeId) -> bool {
        self.places.iter().any(|place| place.holders().any(|holder| holder.node == node))
    }

    /// Calls a node to stand in for a slot; false if it answers for one already, or if nobody may be called any more.
    pub fn call(&mut self, slot: Slot, stand_in: NodeId) -> bool {
        if self.spare == 0 || self.has(stand_in) {
            return false;
        }
        let Some(place) = self.places.get_mut(usize::from(slot.0)) else { return false };
        place.stand_ins.push(Holder::new(stand_in));
        self.spare -= 1;
        true
    }

    /// Whoever has been asked and has not answered is relied on no longer.
    pub fn give_up_waiting(&mut self) {
        self.give_up_on(|_| true);
    }

    /// Of these nodes, whoever has not answered is relied on no longer.
    pub fn give_up_on(&mut self, which: impl Fn(NodeId) -> bool) {
        let holders = self.places.iter_mut().flat_map(SlotHolders::holders_mut).filter(|holder| which(holder.node));
        holders.for_each(|holder| holder.late |= holder.is_open());
    }

    fn holder(&self, slot: Slot, node: NodeId) -> Option<&Holder> {
        self.places.get(usize::from(slot.0))?.holders().find(|holder| holder.node == node)
    }

    /// Whether nothing at all has been heard of this holder.
    pub fn is_silent(&self, slot: Slot, node: NodeId) -> bool {
        self.holder(slot, node).is_some_and(|holder| holder.state == State::Open)
    }

    /// Whether this holder counts, or is silent and has not let an attempt's time pass yet.
    pub fn relies_on(&self, slot: Slot, node: NodeId) -> bool {
        let relied = |holder: &Holder| holder.is_counted() || holder.state == State::Open && !holder.late;
        self.holder(slot, node).is_some_and(relied)
    }

    /// Slots that count, or have a `usable` holder that may still make them count.
    pub fn able(&self, usable: impl Fn(NodeId) -> bool) -> u8 {
        let able = |holder: &Holder| holder.is_counted() || holder.is_open() && usable(holder.node);
        self.number(|place| place.holders().any(able))
    }

    /// The same by primaries.
    pub fn able_primaries(&self, usable: impl Fn(NodeId) -> bool) -> u8 {
        self.number(|place| place.primary.is_counted() || place.primary.is_open() && usable(place.primary.node))
    }

    /// Slots for which somebody should stand in, so that `wanted` of them may count: the first of those that neither count
    /// nor have a `usable` holder that is relied on.
    pub fn wanting(&self, wanted: u8, usable: impl Fn(NodeId) -> bool) -> Vec<Slot> {
        if self.spare == 0 {
            return Vec::new();
        }
        let promising = self.places.iter().filter(|place| place.is_promising(&usable)).count();
        let missing = usize::from(wanted).saturating_sub(promising);
        let idle = self.places.iter().zip(0u8..).filter(|(place, _)| !place.is_promising(&usable));
        idle.take(missing).map(|(_, slot)| Slot(slot)).collect()
    }

    fn holders(&self) -> impl Iterator<Item = (Slot, &Holder)> {
        self.places.iter().zip(0u8..).flat_map(|(place, slot)| place.holders().map(move |holder| (Slot(slot), holder)))
    }

    /// Slots that may be asked (again), with their nodes.
    pub fn open(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        self.holders().filter(|(_, holder)| holder.is_open()).map(|(slot, holder)| (slot, holder.node))
    }

    /// Slots whose answer counts, though not as one on disk.
    pub fn buffered(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let buffered = |holder: &Holder| matches!(holder.state, State::Counted { synced: false });
        self.holders().filter(move |(_, holder)| buffered(holder)).map(|(slot, holder)| (slot, holder.node))
    }

    /// Slots that a stand-in answers for or is asked to, with that node.
    pub fn stand_ins(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let places = self.places.iter().zip(0u8..);
        places.flat_map(|(place, slot)| place.stand_ins.iter().map(move |holder| (Slot(slot), holder.node)))
    }

    /// Whether this node stands in for the slot.
    pub fn is_stand_in(&self, slot: Slot, node: NodeId) -> bool {
        self.stand_ins().any(|known| known == (slot, node))
    }

    /// Slots that no counted answer of their primary or a stand-in fills, with their primaries: nobody keeps a copy for them.
    pub fn unfilled(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let places = self.places.iter().zip(0u8..);
        places.filter(|(place, _)| place.counted().is_none()).map(|(place, slot)| (Slot(slot), place.primary.node))
    }

    /// The state of a slot's holder, if `from` is one: an answer from anybody else is none.
    fn state_of(&mut self, slot: Slot, from: NodeId) -> Option<&mut State> {
        let place = self.places.get_mut(usize::from(slot.0))?;
        place.holders_mut().find(|holder| holder.node == from).map(|holder| &mut holder.state)
    }

    /// Counts an answer; false if it changes nothing (repeated, or not from one of the slot's nodes).
    pub fn count(&mut self, slot: Slot, from: NodeId, synced: bool) -> bool {
        if mutant!(DuplicateCounted) && self.count_again(from, synced) {
            return true;
        }
        match self.state_of(slot, from) {
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

    /// The seeded bug: a repeated answer counts as another slot's. No level asks for more than 16.
    fn count_again(&mut self, from: NodeId, synced: bool) -> bool {
        let known = |place: &SlotHolders| place.holders().any(|holder| holder.node == from && holder.is_counted());
        let again = self.places.iter().any(known) && self.places.len() < 16;
        if again {
            let primary = Holder { node: from, state: State::Counted { synced }, late: false };
            self.places.push(SlotHolders { primary, stand_ins: Vec::new() });
        }
        again
    }

    /// Notes an answer that does not count; false if it is a repeated one, or not from one of the slot's nodes.
    pub fn hear(&mut self, slot: Slot, from: NodeId) -> bool {
        match self.state_of(slot, from) {
            None | Some(State::Counted { .. } | State::Heard) => false,
            Some(state) => {
                *state = State::Heard;
                true
            }
        }
    }

    /// Notes a refusal; `again` says whether asking again may help. An answer that was counted stays counted.
    pub fn refuse(&mut self, slot: Slot, from: NodeId, reason: String, again: bool) {
        if let Some(state) = self.state_of(slot, from).filter(|state| !matches!(state, State::Counted { .. })) {
            *state = if again { State::Busy { reason } } else { State::Refused { reason } };
        }
    }

    fn number(&self, which: impl Fn(&SlotHolders) -> bool) -> u8 {
        u8::try_from(self.places.iter().filter(|place| which(place)).count()).expect("n is at most 16")
    }

    /// Slots that count.
    pub fn counted(&self) -> u8 {
        if mutant!(SlotCountedTwice) {
            return u8::try_from(self.holders().filter(|(_, holder)| holder.is_counted()).count()).unwrap_or(u8::MAX);
        }
        self.number(|place| place.counted().is_some())
    }

    /// Slots that count by their primary.
    pub fn primaries(&self) -> u8 {
        if mutant!(StandInIsPrimary) {
            return self.counted();
        }
        self.number(|place| place.primary.is_counted())
    }

    /// Slots that count and are on disk.
    pub fn synced(&self) -> u8 {
        self.number(SlotHolders::is_synced)
    }

    /// Slots that count or still may, with the stand-ins that may be called.
    pub fn possible(&self) -> u8 {
        let open = self.number(|place| place.holders().any(|holder| holder.is_counted() || holder.is_open()));
        let all = self.number(|_| true);
        open.saturating_add(u8::try_from(self.spare).unwrap_or(u8::MAX)).min(all)
    }

    /// Slots that count by their primary or still may.
    pub fn possible_primaries(&self) -> u8 {
        self.number(|place| place.primary.is_counted() || place.primary.is_open())
    }

    /// Whether everybody asked has given his last word.
    pub fn is_complete(&self) -> bool {
        self.open().next().is_none()
    }

    /// Who counts, one a slot.
    pub fn acks(&self) -> Vec<Ack> {
        let ack = |(place, slot): (&SlotHolders, u8)| {
            let holder = place.counted()?;
            let synced = matches!(holder.state, State::Counted { synced: true });
            Some(Ack { slot, node: holder.node, stand_in: holder.node != place.primary.node, synced })
        };
        let mut acks: Vec<Ack> = self.places.iter().zip(0u8..).filter_map(ack).collect();
        if mutant!(DuplicateCounted) {
            let real = |ack: &Ack| self.places.iter().position(|place| place.primary.node == ack.node);
            acks.retain(|ack| ack.stand_in || real(ack) == Some(ack.slot.into()));
        }
        acks
    }

    /// Who does not count, and why, for people; `name` knows the nodes.
    pub fn missing(&self, name: impl Fn(NodeId) -> String) -> String {
        self.reasons(name, |_| true)
    }

    /// Who has answered and does not count, and why.
    pub fn failings(&self, name: impl Fn(NodeId) -> String) -> String {
        self.reasons(name, |state| *state != State::Open)
    }

    fn reasons(&self, name: impl Fn(NodeId) -> String, which: impl Fn(&State) -> bool) -> String {
        let mut parts = Vec::new();
        for (_, holder) in self.holders().filter(|(_, holder)| which(&holder.state)) {
            let why = match &holder.state {
                State::Counted { .. } => continue,
                State::Open => "no answer",
                State::Heard => "its answer does not count: it is rebuilding, or stands in and has nothing",
                State::Busy { reason } | State::Refused { reason } => reason,
            };
            parts.push(format!("{}: {why}", name(holder.node)));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests;
