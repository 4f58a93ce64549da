//! Membership: what each node says of itself reaches all others by reconciling digests and deltas (van Renesse et al.,
//! "Efficient Reconciliation and Flow Control for Anti-Entropy Protocols", 2008: scuttlebutt).
//!
//! A state is ordered by (generation, version) and raised by its owner alone, so the exchange converges whatever is lost,
//! repeated or reordered.

pub mod config;
mod state;

pub use state::{Ballot, Change, Known, MemberState, Members};
