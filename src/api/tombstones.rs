//! What an operator sees of deletions that wait to be forgotten.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// What an operator wants of the tombstones that the asked node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TombstoneOrder {
    /// Count them now, by walking over their index; answered with [`TombstoneStats`].
    Stats,
}

/// The classes of ages: younger than so many milliseconds each, and the last one older than all.
pub const TOMBSTONE_AGES_MS: [u64; 4] = [60_000, 3_600_000, 86_400_000, 604_800_000];

/// The tombstones of a node, or of one of its shards: keys of which nothing is left but that they were deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneStats {
    /// How many there are.
    pub count: u64,
    /// By age, as [`TOMBSTONE_AGES_MS`] has it: under a minute, an hour, a day, a week, and older. An age is from the deletion, by the
    /// clock of the node that took it, to the count, by this node's; what lies ahead is zero.
    pub ages: [u64; 5],
    /// The greatest age in milliseconds; `None` if there are none.
    pub oldest_ms: Option<u64>,
    /// Who runs the rounds that they wait for, by node.
    pub runners: Vec<RunnerShare>,
    /// Entries of the index that nobody can read, which are in no other number. The scrub puts them right.
    pub unreadable: u64,
    /// Of this node's own rounds.
    pub reaper: ReaperStatus,
    /// What they wait for; empty for a shard's.
    pub waits: Vec<TombstoneWait>,
    /// Why there may be more, for people; `None`: these are all.
    pub incomplete: Option<String>,
}

/// Tombstones whose partitions' rounds one node runs: the first primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerShare {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// It is the node that was asked.
    pub is_asked: bool,
    /// Partitions with such tombstones.
    pub partitions: u64,
    /// The tombstones.
    pub count: u64,
}

/// How far a node, or one of its shards, has come with the rounds that it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaperStatus {
    /// Why nothing is reaped although something could be, for people.
    pub waiting: Option<String>,
}

/// Some tombstones, and what they wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneWait {
    /// For people.
    pub reason: String,
    /// How many.
    pub count: u64,
}

impl TombstoneStats {
    /// Counts one that was deleted so long ago.
    pub fn add(&mut self, age_ms: u64) {
        self.count += 1;
        self.ages[TOMBSTONE_AGES_MS.partition_point(|bound| *bound <= age_ms)] += 1;
        self.oldest_ms = self.oldest_ms.max(Some(age_ms));
    }

    /// Adds another shard's of the same node; their partitions are others.
    pub fn join(&mut self, other: TombstoneStats) {
        self.count += other.count;
        self.ages.iter_mut().zip(other.ages).for_each(|(sum, part)| *sum += part);
        self.oldest_ms = self.oldest_ms.max(other.oldest_ms);
        for share in other.runners {
            match self.runners.binary_search_by_key(&share.node, |known| known.node) {
                Ok(at) => {
                    self.runners[at].partitions += share.partitions;
                    self.runners[at].count += share.count;
                }
                Err(at) => self.runners.insert(at, share),
            }
        }
        self.unreadable += other.unreadable;
        join_words(&mut self.reaper.waiting, other.reaper.waiting);
        join_words(&mut self.incomplete, other.incomplete);
    }

    /// All shards have told theirs: says what the tombstones wait for.
    pub fn conclude(&mut self) {
        let reaper = &self.reaper;
        let wait = |share: &RunnerShare| {
            let RunnerShare { name, partitions, .. } = share;
            let partitions =
                if *partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
            let mut reason = format!("{name} runs the rounds of {partitions}");
            if let Some(why) = reaper.waiting.as_ref().filter(|_| share.is_asked) {
                reason.push_str(": ");
                reason.push_str(why);
            }
            TombstoneWait { reason, count: share.count }
        };
        let mut runners: Vec<&RunnerShare> = self.runners.iter().collect();
        runners.sort_by(|a, b| a.name.cmp(&b.name));
        self.waits = runners.into_iter().map(wait).collect();
    }
}

fn join_words(whole: &mut Option<String>, part: Option<String>) {
    *whole = match (whole.take(), part) {
        (Some(one), Some(two)) if !one.split("; ").any(|known| known == two) => Some(format!("{one}; {two}")),
        (one, two) => one.or(two),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_class(age_ms: u64, class: usize) {
        let mut stats = TombstoneStats::default();
        stats.add(age_ms);
        let mut ages = [0; 5];
        ages[class] = 1;
        assert_eq!((stats.count, stats.ages, stats.oldest_ms), (1, ages, Some(age_ms)));
    }

    #[test]
    fn ages_fall_into_classes() {
        check_class(0, 0);
        check_class(59_999, 0);
        check_class(60_000, 1);
        check_class(3_600_000 - 1, 1);
        check_class(3_600_000, 2);
        check_class(86_400_000, 3);
        check_class(604_800_000 - 1, 3);
        check_class(604_800_000, 4);
        check_class(u64::MAX, 4);
    }

    fn share(node: u64, is_asked: bool, partitions: u64, count: u64) -> RunnerShare {
        RunnerShare { node: NodeId(node), name: format!("n{node}"), is_asked, partitions, count }
    }

    fn part(oldest_ms: Option<u64>, runners: Vec<RunnerShare>) -> TombstoneStats {
        TombstoneStats {
            count: 7,
            ages: [1, 2, 3, 0, 1],
            oldest_ms,
            runners,
            unreadable: 2,
            reaper: ReaperStatus { waiting: Some("n3 is away".into()) },
            waits: Vec::new(),
            incomplete: None,
        }
    }

    #[test]
    fn a_node_holds_what_its_shards_hold() {
        let mut whole = part(Some(5), vec![share(1, true, 2, 4), share(3, false, 1, 3)]);
        whole.join(part(None, vec![share(2, false, 9, 1), share(3, false, 4, 6)]));
        whole.conclude();
        assert_eq!((whole.count, whole.ages, whole.oldest_ms, whole.unreadable), (14, [2, 4, 6, 0, 2], Some(5), 4));
        assert_eq!(whole.runners, [share(1, true, 2, 4), share(2, false, 9, 1), share(3, false, 5, 9)]);
        let wait = |reason: &str, count| TombstoneWait { reason: reason.into(), count };
        let waits = [
            wait("n1 runs the rounds of 2 partitions: n3 is away", 4),
            wait("n2 runs the rounds of 9 partitions", 1),
            wait("n3 runs the rounds of 5 partitions", 9),
        ];
        assert_eq!(whole.waits, waits);
        // By name, whatever the ids are.
        let anna = RunnerShare { name: "anna".into(), ..share(9, false, 1, 8) };
        let mut two = part(None, vec![share(2, false, 1, 1), anna]);
        two.conclude();
        assert_eq!(
            two.waits,
            [wait("anna runs the rounds of 1 partition", 8), wait("n2 runs the rounds of 1 partition", 1)]
        );
    }

    #[test]
    fn it_is_as_incomplete_as_its_shards() {
        let part = |incomplete: Option<&str>| TombstoneStats {
            incomplete: incomplete.map(str::to_owned),
            ..TombstoneStats::default()
        };
        let mut whole = TombstoneStats::default();
        for (told, known) in [(None, None), (Some("a"), Some("a")), (Some("a"), Some("a")), (Some("b"), Some("a; b"))] {
            whole.join(part(told));
            assert_eq!(whole.incomplete.as_deref(), known);
        }
        whole.join(part(None));
        assert_eq!(whole.incomplete.as_deref(), Some("a; b"));
    }
}
