//! Membership: what each node says of itself reaches all others by reconciling digests and deltas (van Renesse et al.,
//! "Efficient Reconciliation and Flow Control for Anti-Entropy Protocols", 2008: scuttlebutt), and who has fallen silent is
//! told from when heartbeats arrive (Hayashibara et al., "The phi Accrual Failure Detector", 2004).
//!
//! A state is ordered by (generation, version) and raised by its owner alone, so the exchange converges whatever is lost,
//! repeated or reordered. Suspicion is each node's own opinion, and removes nobody.

pub mod config;
mod detector;
mod members;
mod phi;
mod state;

pub use detector::{Detector, Ping, Tuning, Verdict};
pub use members::{Change, Members};
pub use phi::{Arrivals, phi_of};
pub use state::{Ballot, Known, MemberState};
