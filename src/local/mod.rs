//! A cluster of processes on this machine: its authority, its nodes' configurations, and what their probes say.
//!
//! ```text
//! Site       certificates and the cluster's secret    site.rs
//! Founder    one node's configuration                 founder.rs
//! probe      HTTP questions to a node                 probe.rs
//! ```
//!
//! Whoever starts the processes also watches and stops them.

mod error;
mod founder;
pub mod probe;
mod site;

pub use error::LocalError;
pub use founder::Founder;
pub use site::Site;
