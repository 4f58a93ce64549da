//! The seeded bugs, what must catch each, and which one is active.

use std::cell::Cell;

/// One table of all there is to a bug, so that none is left out of a list.
macro_rules! catalogue {
    ($($(#[doc = $doc:literal])+ $mutant:ident = $name:literal, caught by $invariants:expr;)+) => {
        /// A seeded bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $mutant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$mutant),+];

            /// Its name on a command line, in kebab-case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $name,)+
                }
            }

            /// The invariants that it can break: it is caught by a violation of any of these, and by no other failure.
            pub fn caught_by(self) -> &'static [&'static str] {
                match self {
                    $(Mutant::$mutant => &$invariants,)+
                }
            }
        }
    };
}

const LOST: &str = "no lost write";
const RESURRECTION: &str = "no resurrection";
const QUORUM: &str = "quorum read";
const PHANTOM: &str = "no phantom";
const ANTICHAIN: &str = "antichain";
const SIBLINGS: &str = "sibling bound";
const DOTS: &str = "dot uniqueness";
const ACTORS: &str = "actor bound";
const ACKS: &str = "ack honesty";
const CONVERGENCE: &str = "convergence";
const SESSIONS: &str = "sessions";
const BURIED: &str = "the dead are convicted";

catalogue! {
    /// A merge that should keep several siblings keeps the first.
    MergeKeepsOne = "merge-keeps-one", caught by [LOST, SESSIONS];
    /// A merge drops siblings whose wall clock is behind the newest one's.
    WallClockDominates = "wall-clock-dominates", caught by [LOST, SESSIONS];
    /// A merge drops a delete where there is also a value.
    TombstoneYields = "tombstone-yields", caught by [LOST];
    /// A merge keeps a local sibling although the other copy has seen it replaced.
    ReplacedReturns = "replaced-returns", caught by [ANTICHAIN, SIBLINGS, CONVERGENCE];
    /// Versions have no dots: a write replaces what its author was shown only if that was all there is.
    PlainVersionVector = "plain-version-vector", caught by [ANTICHAIN, SIBLINGS];
    /// A get is answered by whoever answers first, whatever R says.
    ReadAnsweredEarly = "read-answered-early", caught by [QUORUM];
    /// Readers are shown both of two twins.
    TwinsShown = "twins-shown", caught by [SIBLINGS];
    /// A node writes as one actor for ever and counts on from what it knows, whatever it may have forgotten.
    ActorOutlivesItsState = "actor-outlives-its-state", caught by [DOTS, LOST];
    /// Every write draws an actor of its own, so that contexts grow with each.
    ActorsNeverContinued = "actors-never-continued", caught by [ACTORS];
    /// A process trusts its own actors although the power may have failed since.
    TrustsLostPages = "trusts-lost-pages", caught by [DOTS, LOST];
    /// Peers let in old copies of a directory, and a node trusts all its own actors.
    OldCopyGranted = "old-copy-granted", caught by [DOTS, LOST];
    /// A record that cannot be read is taken for none. Dots stay unique: without a record, a new actor is drawn.
    ReadErrorIsAbsent = "read-error-is-absent", caught by [LOST, QUORUM];
    /// Operations overtake those that wait for a slow read of the same key, which is applied when it comes.
    StaleReadApplied = "stale-read-applied", caught by [DOTS, LOST];
    /// A write leaves the key's cached record as it was.
    CacheFallsBehind = "cache-falls-behind", caught by [ACKS, DOTS, LOST];
    /// What the cache keeps of a long record, all but its values, is taken for the record by whoever writes it anew.
    HollowForWhole = "hollow-for-whole", caught by [PHANTOM];
    /// The context of a put's receipt covers siblings that the writer was never shown.
    ContextCoversUnseen = "context-covers-unseen", caught by [LOST];
    /// A replica that answers twice counts as two.
    DuplicateCounted = "duplicate-counted", caught by [ACKS];
    /// A slot counts by its primary and by whoever stands in for it.
    SlotCountedTwice = "slot-counted-twice", caught by [ACKS];
    /// A stand-in counts where primaries are asked for.
    StandInIsPrimary = "stand-in-is-primary", caught by [ACKS];
    /// A stand-in keeps the object and forgets for whom.
    StandInKeepsNoHint = "stand-in-keeps-no-hint", caught by [ACKS, LOST, CONVERGENCE];
    /// What promises durability leaves before the sync.
    AckBeforeSync = "ack-before-sync", caught by [ACKS, LOST];
    /// What was written while a sync was under way leaves when that ends.
    SyncCoversLater = "sync-covers-later", caught by [ACKS, LOST];
    /// What rests on a batch that could not be written leaves as if it had been.
    FailedBatchAcked = "failed-batch-acked", caught by [ACKS, LOST];
    /// A read repair sends one of several siblings with the context of all.
    RepairKeepsOne = "repair-keeps-one", caught by [LOST];
    /// That a stand-in has nothing counts as a replica's answer.
    StandInAbsenceCounts = "stand-in-absence-counts", caught by [QUORUM];
    /// A get does not look at the session token that it was given.
    SessionTokenIgnored = "session-token-ignored", caught by [SESSIONS];
    /// A put that fell short is answered as if it had not been done, although it may surface.
    UnknownCalledRefused = "unknown-called-refused", caught by [PHANTOM];
    /// A hint is dropped when its object is sent, and not when its target has it on its disk.
    HintDroppedOnSend = "hint-dropped-on-send", caught by [ACKS, LOST, CONVERGENCE];
    /// A process takes what its predecessor kept for others for nothing.
    HintsLostOnRestart = "hints-lost-on-restart", caught by [LOST, CONVERGENCE];
    /// Hints grow too old although a write was acknowledged because of them, and soon.
    CountedHintExpires = "counted-hint-expires", caught by [ACKS, LOST, CONVERGENCE];
    /// Replicas never compare the ring's last partition.
    ExchangeSkipsLastPartition = "exchange-skips-last-partition", caught by [CONVERGENCE];
    /// Whoever compares replicas passes over deleted keys.
    ExchangeSkipsTombstones = "exchange-skips-tombstones", caught by [CONVERGENCE];
    /// Tombstones are deleted once all members have said what they hold, and no store is closed to what is on its way.
    ReapWithoutFence = "reap-without-fence", caught by [RESURRECTION];
    /// Shards are told who lives again, and never who is dead.
    VerdictKeptFromShards = "verdict-kept-from-shards", caught by [BURIED];
    /// A heartbeat that was heard before is a sign of life: whoever passes it on keeps the dead alive.
    OldHeartbeatIsNews = "old-heartbeat-is-news", caught by [BURIED];
    /// A member that does not answer is asked for ever.
    ProbeNeverFails = "probe-never-fails", caught by [BURIED];
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Makes one bug active on this thread, or none.
///
/// A thread and not a field of each machine: the signatures of production code stay free of test hooks. It is enough,
/// since a thread runs one simulated cluster at a time.
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

/// Whether the bug is active on this thread.
pub fn is_active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

impl Mutant {
    /// The bug of that name.
    pub fn parse(name: &str) -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

/// Keeps a bug active for as long as it lives.
#[cfg(test)]
#[must_use]
pub(crate) struct Planted(());

/// Makes a bug active until what is returned is dropped, be it by a panic.
#[cfg(test)]
pub(crate) fn plant(mutant: Mutant) -> Planted {
    activate(Some(mutant));
    Planted(())
}

#[cfg(test)]
impl Drop for Planted {
    fn drop(&mut self) {
        activate(None);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_kebab_case_and_lead_back() {
        for &mutant in Mutant::ALL {
            let kebab = format!("{mutant:?}").chars().fold(String::new(), |mut kebab, letter| {
                if letter.is_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.push(letter.to_ascii_lowercase());
                kebab
            });
            assert_eq!(mutant.name(), kebab);
            assert_eq!(Mutant::parse(&kebab), Some(mutant));
        }
        assert_eq!(Mutant::parse("no-such-bug"), None);
    }

    #[test]
    fn each_invariant_has_a_bug_to_catch() {
        let caught: BTreeSet<&str> = Mutant::ALL.iter().flat_map(|mutant| mutant.caught_by()).copied().collect();
        assert_eq!(
            caught,
            BTreeSet::from([
                LOST,
                QUORUM,
                PHANTOM,
                RESURRECTION,
                ANTICHAIN,
                SIBLINGS,
                DOTS,
                ACTORS,
                ACKS,
                CONVERGENCE,
                SESSIONS,
                BURIED
            ])
        );
        assert!(Mutant::ALL.iter().all(|mutant| !mutant.caught_by().is_empty()));
    }

    #[test]
    fn one_is_active_at_a_time_on_its_thread_and_none_afterwards() {
        assert!(Mutant::ALL.iter().all(|mutant| !is_active(*mutant)));
        {
            let _planted = plant(Mutant::TwinsShown);
            let active: Vec<_> = Mutant::ALL.iter().filter(|mutant| is_active(**mutant)).collect();
            assert_eq!(active, [&Mutant::TwinsShown]);
            let elsewhere = std::thread::scope(|scope| scope.spawn(|| is_active(Mutant::TwinsShown)).join());
            assert!(!elsewhere.expect("nothing panics there"));
        }
        assert!(!is_active(Mutant::TwinsShown));
    }
}
