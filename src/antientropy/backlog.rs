//! What waits for other nodes, in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::storage::HintEntry;
use crate::types::NodeId;

/// What one shard, or all of a node together, keeps for one other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintBacklog {
    /// Who waits.
    pub target: NodeId,
    /// Keys that wait.
    pub hints: u64,
    /// Of these, those by which a write was acknowledged: they stay until their target holds them.
    pub counted: u64,
    /// Bytes of the objects.
    pub bytes: u64,
    /// The holder's wall clock, in milliseconds since 1970, when the longest-waiting one was given, or earlier: it is
    /// renewed by each walk over them.
    pub oldest_wall_ms: u64,
    /// Keys that the target has got since it was last away, or the holder's process began.
    pub replayed: u64,
    /// Bytes a second that it got lately; 0 while nothing is sent.
    pub rate: u64,
}

impl HintBacklog {
    /// Adds what another shard keeps for the same node.
    pub fn join(&mut self, other: &HintBacklog) {
        debug_assert_eq!(self.target, other.target, "backlogs of one target are added up");
        self.hints += other.hints;
        self.counted += other.counted;
        self.bytes += other.bytes;
        self.oldest_wall_ms = self.oldest_wall_ms.min(other.oldest_wall_ms);
        self.replayed += other.replayed;
        self.rate += other.rate;
    }

    /// For how long the replay goes on at today's rate; `None` while nothing is sent.
    pub fn drains_in(&self) -> Option<Duration> {
        (self.rate > 0).then(|| Duration::from_secs(self.bytes.div_ceil(self.rate)))
    }
}

/// The earliest moments at which hints were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Oldest {
    pub any: Option<u64>,
    pub uncounted: Option<u64>,
}

impl Oldest {
    pub fn note(&mut self, entry: &HintEntry) {
        let uncounted = (!entry.counted).then_some(entry.hinted_ms);
        self.join(Oldest { any: Some(entry.hinted_ms), uncounted });
    }

    pub fn join(&mut self, other: Oldest) {
        let earlier = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        *self = Oldest { any: earlier(self.any, other.any), uncounted: earlier(self.uncounted, other.uncounted) };
    }
}

/// One target's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub hints: u64,
    pub counted: u64,
    pub bytes: u64,
    pub uncounted_bytes: u64,
    /// A lower bound: what is dropped does not raise it.
    pub oldest: Oldest,
    /// Of what has come since a walk began.
    fresh: Oldest,
    /// Of what had come since the one before: of that, the walk does not see what was not committed when it began.
    recent: Oldest,
}

impl Waiting {
    fn add(&mut self, entry: &HintEntry) {
        self.hints += 1;
        self.bytes += u64::from(entry.bytes);
        self.oldest.note(entry);
        self.fresh.note(entry);
        if entry.counted {
            self.counted += 1;
        } else {
            self.uncounted_bytes += u64::from(entry.bytes);
        }
    }

    /// Saturates: an entry that could not be read was counted without its size.
    fn remove(&mut self, entry: &HintEntry) {
        self.hints = self.hints.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes.into());
        if entry.counted {
            self.counted = self.counted.saturating_sub(1);
        } else {
            self.uncounted_bytes = self.uncounted_bytes.saturating_sub(entry.bytes.into());
        }
    }
}

/// All targets' numbers; bounded by the nodes there ever were.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    targets: BTreeMap<NodeId, Waiting>,
}

impl Backlog {
    /// An entry has come (`new`), gone (`old`), or changed (both).
    pub fn on_change(&mut self, target: NodeId, old: Option<&HintEntry>, new: Option<&HintEntry>) {
        let waiting = self.targets.entry(target).or_default();
        old.into_iter().for_each(|entry| waiting.remove(entry));
        new.into_iter().for_each(|entry| waiting.add(entry));
        if waiting.hints == 0 {
            self.targets.remove(&target);
        }
    }

    pub fn get(&self, target: NodeId) -> Option<&Waiting> {
        self.targets.get(&target)
    }

    /// All that waits is about to be walked over.
    pub fn begin_walk(&mut self, target: NodeId) {
        self.targets.entry(target).and_modify(|waiting| waiting.recent = std::mem::take(&mut waiting.fresh));
    }

    /// All that waited has been walked over, and this is the oldest that stays.
    pub fn end_walk(&mut self, target: NodeId, mut oldest: Oldest) {
        if let Some(waiting) = self.targets.get_mut(&target) {
            oldest.join(waiting.recent);
            oldest.join(waiting.fresh);
            waiting.oldest = oldest;
        }
    }

    /// Who waits for anything.
    pub fn targets(&self) -> impl Iterator<Item = (NodeId, &Waiting)> {
        self.targets.iter().map(|(target, waiting)| (*target, waiting))
    }

    pub fn uncounted_bytes(&self) -> u64 {
        self.targets.values().map(|waiting| waiting.uncounted_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(counted: bool, bytes: u32, hinted_ms: u64) -> HintEntry {
        HintEntry { counted, bytes, hinted_ms }
    }

    #[test]
    fn what_does_not_move_has_no_end() {
        let backlog = |bytes, rate| HintBacklog {
            target: NodeId(1),
            hints: 1,
            counted: 0,
            bytes,
            oldest_wall_ms: 0,
            replayed: 0,
            rate,
        };
        assert_eq!(backlog(1000, 0).drains_in(), None);
        assert_eq!(backlog(1001, 100).drains_in(), Some(Duration::from_secs(11)));
        assert_eq!(backlog(u64::MAX, 1).drains_in(), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn numbers_follow_what_comes_changes_and_goes() {
        let mut backlog = Backlog::default();
        let (a, b, grown) = (entry(true, 10, 100), entry(false, 5, 90), entry(true, 8, 90));
        backlog.on_change(NodeId(1), None, Some(&a));
        backlog.on_change(NodeId(1), None, Some(&b));
        let oldest = Oldest { any: Some(90), uncounted: Some(90) };
        let both = Waiting {
            hints: 2,
            counted: 1,
            bytes: 15,
            uncounted_bytes: 5,
            oldest,
            fresh: oldest,
            recent: Oldest::default(),
        };
        assert_eq!(backlog.get(NodeId(1)), Some(&both));
        assert_eq!(backlog.uncounted_bytes(), 5);
        backlog.on_change(NodeId(1), Some(&b), Some(&grown));
        let counted = Waiting { counted: 2, bytes: 18, uncounted_bytes: 0, ..both };
        assert_eq!(backlog.get(NodeId(1)), Some(&counted));
        backlog.on_change(NodeId(1), Some(&grown), None);
        assert_eq!(backlog.get(NodeId(1)).map(|waiting| (waiting.hints, waiting.bytes)), Some((1, 10)));
        backlog.on_change(NodeId(1), Some(&a), None);
        assert_eq!(backlog.targets().count(), 0);
    }

    /// A hint given as a walk begins is not on the disk yet, and may be missing from its pages.
    #[test]
    fn the_oldest_is_of_what_a_walk_has_left_and_of_what_it_may_have_missed() {
        let mut backlog = Backlog::default();
        backlog.on_change(NodeId(1), None, Some(&entry(false, 1, 50)));
        backlog.on_change(NodeId(1), None, Some(&entry(true, 1, 70)));
        backlog.begin_walk(NodeId(1));
        backlog.on_change(NodeId(1), Some(&entry(false, 1, 50)), None);
        backlog.on_change(NodeId(1), None, Some(&entry(false, 1, 90)));
        assert_eq!(backlog.get(NodeId(1)).unwrap().oldest.any, Some(50));
        backlog.end_walk(NodeId(1), Oldest { any: Some(70), uncounted: None });
        assert_eq!(backlog.get(NodeId(1)).unwrap().oldest, Oldest { any: Some(50), uncounted: Some(50) });
        backlog.begin_walk(NodeId(1));
        backlog.end_walk(NodeId(1), Oldest { any: Some(70), uncounted: None });
        assert_eq!(backlog.get(NodeId(1)).unwrap().oldest, Oldest { any: Some(70), uncounted: Some(90) });
        backlog.begin_walk(NodeId(1));
        backlog.end_walk(NodeId(1), Oldest { any: Some(70), uncounted: None });
        assert_eq!(backlog.get(NodeId(1)).unwrap().oldest, Oldest { any: Some(70), uncounted: None });
    }
}
