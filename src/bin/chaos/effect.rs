//! What faults did, and what clients did about it: counted where it shows, never where it was ordered.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that a fault brings about, or a client because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Processes that SIGKILL ended.
    Killed,
    /// Milliseconds for which a killed node had no process.
    DeadMs,
    /// Looks at /proc that found a process stopped.
    SeenStopped,
    /// Datagrams that a cut swallowed.
    Cut,
    /// Datagrams that were lost by chance.
    Lost,
    /// Datagrams that came twice.
    Doubled,
    /// Datagrams that came late.
    Delayed,
    /// Syncs that were held up.
    SlowSyncs,
    /// Statuses and refusals that tell of a full disk.
    SeenFull,
    /// Answers with a write whose coordinator's clock was far off.
    SeenClockOff,
    /// Requests that more than one node was asked for.
    FailedOver,
    /// Statuses that show a node as down.
    SeenDown,
    /// Looks that found hints with a node.
    SeenHints,
    /// Writes of unknown fate that were tried again, with their write ids.
    Retried,
    /// Tombstones that nodes deleted, by what they say at the end.
    Reaped,
}

impl Effect {
    /// All of them, in the order of their declaration.
    pub const ALL: [Effect; 15] = [
        Effect::Killed,
        Effect::DeadMs,
        Effect::SeenStopped,
        Effect::Cut,
        Effect::Lost,
        Effect::Doubled,
        Effect::Delayed,
        Effect::SlowSyncs,
        Effect::SeenFull,
        Effect::SeenClockOff,
        Effect::FailedOver,
        Effect::SeenDown,
        Effect::SeenHints,
        Effect::Retried,
        Effect::Reaped,
    ];

    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Effect::Killed => "processes killed",
            Effect::DeadMs => "milliseconds without a process",
            Effect::SeenStopped => "looks that found a process stopped",
            Effect::Cut => "datagrams cut off",
            Effect::Lost => "datagrams lost",
            Effect::Doubled => "datagrams doubled",
            Effect::Delayed => "datagrams delayed",
            Effect::SlowSyncs => "syncs held up",
            Effect::SeenFull => "signs of a full disk",
            Effect::SeenClockOff => "writes with a clock far off",
            Effect::FailedOver => "requests that failed over",
            Effect::SeenDown => "statuses that show a node down",
            Effect::SeenHints => "looks that found hints kept",
            Effect::Retried => "writes tried again",
            Effect::Reaped => "tombstones deleted for good",
        }
    }
}

/// Counts at one moment.
pub type Counts = [u64; Effect::ALL.len()];

/// Counters that all parts of a run share.
#[derive(Debug, Default)]
pub struct Effects {
    counts: [AtomicU64; Effect::ALL.len()],
}

impl Effects {
    /// It happened once.
    pub fn saw(&self, effect: Effect) {
        self.add(effect, 1);
    }

    /// It happened so often.
    pub fn add(&self, effect: Effect, times: u64) {
        self.counts[effect as usize].fetch_add(times, Ordering::Relaxed);
    }

    /// So far.
    pub fn counts(&self) -> Counts {
        Effect::ALL.map(|effect| self.counts[effect as usize].load(Ordering::Relaxed))
    }
}

/// Those of `wanted` that did not grow from `before` to `after`.
pub fn missing(wanted: &[Effect], before: &Counts, after: &Counts) -> Vec<Effect> {
    wanted.iter().copied().filter(|effect| after[*effect as usize] <= before[*effect as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_that_did_not_grow_is_missing() {
        let effects = Effects::default();
        effects.add(Effect::Cut, 5);
        let before = effects.counts();
        effects.saw(Effect::Lost);
        let after = effects.counts();
        assert_eq!(missing(&[Effect::Cut, Effect::Lost], &before, &after), [Effect::Cut]);
        assert_eq!((after[Effect::Cut as usize], after[Effect::Lost as usize]), (5, 1));
    }

    #[test]
    fn the_list_is_in_the_order_of_the_numbers() {
        assert!(Effect::ALL.iter().enumerate().all(|(index, effect)| *effect as usize == index));
    }
}
