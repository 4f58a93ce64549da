//! What came of a run.

use std::fmt;
use std::time::Duration;

use super::availability::Availability;
use super::coverage::Coverage;
use super::oracle::{Findings, Sufficiency};

/// How a run is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Write down what happens, for people.
    pub trace: Option<TraceFilter>,
    /// What makes a run worth anything.
    pub enough: Sufficiency,
    /// A fault of the simulation itself.
    pub harness_bug: Option<HarnessBug>,
}

/// What a trace shows.
#[derive(Clone, Debug, Default)]
pub struct TraceFilter {
    /// Only what concerns this key; all keys otherwise.
    pub key: Option<String>,
}

/// Ways in which a simulation may prove nothing; each has to be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarnessBug {
    /// No fault faults.
    FaultsOff,
    /// Nobody writes down what clients saw.
    EmptyHistory,
    /// The frames of one node go past the network.
    PastTheNetwork,
}

impl HarnessBug {
    /// All of them.
    pub const ALL: [HarnessBug; 3] = [HarnessBug::FaultsOff, HarnessBug::EmptyHistory, HarnessBug::PastTheNetwork];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            HarnessBug::FaultsOff => "faults-off",
            HarnessBug::EmptyHistory => "empty-history",
            HarnessBug::PastTheNetwork => "past-the-network",
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every invariant held.
    Ok,
    /// Too little happened to say so.
    Insufficient(String),
    /// One did not.
    Violation(Violation),
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: those of the oracle, of the white-box checks, or "panic".
    pub invariant: String,
    /// The key, where there is one.
    pub key: Option<String>,
    /// What was seen, for people.
    pub evidence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.evidence)
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// A hash of everything that happened, in order: equal hashes, equal runs.
    pub trace_hash: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// What the oracle counted.
    pub findings: Findings,
    /// What was met.
    pub coverage: Coverage,
    /// Puts that had to succeed.
    pub availability: Availability,
    /// How it ended.
    pub outcome: Outcome,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
}
