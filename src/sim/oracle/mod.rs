//! The oracle: judges from a run's history alone whether the store kept its promises.
//!
//! It shares no code with the store: causality here is what clients were shown, never what a version says, and the
//! servers' clocks count for nothing. A write that carries a read's context has for its past all that the read showed
//! and the pasts of that; one that carries an acknowledgement's context, that write and its past; a blind write, none.
//!
//! A write may be tried several times. Each attempt may have its own effect, named by a label; such twins have one past
//! and are never in the past of one another, so what replaced one of them may stand next to the other.

mod history;
mod judge;
mod ledger;
mod losses;
mod past;
mod reaping;
mod sight;
mod verdict;

#[cfg(test)]
mod tests;

pub use history::{Conflict, Ending, Event, History, Holder, KeyId, Label, OpId, Shown};
pub use judge::judge;
pub use verdict::{Findings, Invariant, Sufficiency, Verdict};
