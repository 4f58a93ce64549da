//! What the oracle says of a history.

use std::fmt;

use super::history::KeyId;
use crate::types::WriteId;

/// A promise of the store that a history can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// An acknowledged write is there at the end, or something that replaced it is.
    NoLostWrite,
    /// A read that takes in enough replicas shows each write that was acknowledged before it began, or what replaced it.
    QuorumRead,
    /// What is shown was written: that body, to that key, before, and not by a write that was refused.
    NoPhantom,
    /// Nothing is shown next to what replaced it.
    Antichain,
    /// A read shows each write once, so no more siblings than there are concurrent writes.
    SiblingBound,
    /// A label never names two writes of a key.
    DotUniqueness,
    /// A read that demands what a session has seen shows it, or what replaced it.
    Sessions,
    /// What a tombstone had replaced is shown by no read that began after it was reaped, and is nowhere at the end.
    NoResurrection,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 8] = [
        Invariant::NoLostWrite,
        Invariant::QuorumRead,
        Invariant::NoPhantom,
        Invariant::Antichain,
        Invariant::SiblingBound,
        Invariant::DotUniqueness,
        Invariant::Sessions,
        Invariant::NoResurrection,
    ];
}

impl Invariant {
    /// Its number in the list of all invariants of the simulation.
    pub const fn number(self) -> u8 {
        match self {
            Invariant::NoLostWrite | Invariant::QuorumRead => 1,
            Invariant::NoPhantom => 2,
            Invariant::Antichain => 3,
            Invariant::NoResurrection => 5,
            Invariant::Sessions => 6,
            Invariant::SiblingBound => 7,
            Invariant::DotUniqueness => 8,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::NoLostWrite => "no lost write",
            Invariant::QuorumRead => "quorum read",
            Invariant::NoPhantom => "no phantom",
            Invariant::Antichain => "antichain",
            Invariant::SiblingBound => "sibling bound",
            Invariant::DotUniqueness => "dot uniqueness",
            Invariant::Sessions => "sessions",
            Invariant::NoResurrection => "no resurrection",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} ({})", self.number(), self.name())
    }
}

/// How much a history held: counts of writes (not of attempts) and of reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Writes with an acknowledged attempt.
    pub acked: u64,
    /// Those of them that were acknowledged while a fault was active.
    pub acked_under_fault: u64,
    /// Writes with every attempt refused.
    pub refused: u64,
    /// All other writes.
    pub unknown: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Writes of unknown ending that a read or the end showed.
    pub late_surfaced: u64,
    /// The most siblings that a read showed, tombstones included.
    pub most_siblings: u32,
    /// Acknowledged writes whose basis is a read that showed three siblings or more.
    pub siblings_resolved: u64,
}

/// How much a history has to hold for its silence to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sufficiency {
    /// The fewest acknowledged writes.
    pub acked: u64,
    /// The fewest of them, in percent, that were acknowledged while a fault was active; 0 for runs without faults.
    pub under_fault_percent: u64,
}

impl Default for Sufficiency {
    fn default() -> Sufficiency {
        Sufficiency { acked: 200, under_fault_percent: 20 }
    }
}

/// The oracle's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise was kept, and tried.
    Ok(Findings),
    /// No promise was seen broken, but too little happened to say that they hold.
    Insufficient {
        /// What there was too little of.
        reason: String,
        /// What there was.
        findings: Findings,
    },
    /// A promise was broken; the first one, in the order of events.
    Violation {
        /// The promise.
        invariant: Invariant,
        /// The key at which it was broken.
        key: KeyId,
        /// The writes involved.
        writes: Vec<WriteId>,
        /// What was expected and what was seen instead, for a person.
        evidence: String,
    },
}
