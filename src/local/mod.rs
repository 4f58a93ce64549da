//! A cluster of processes on this machine: its authority, its nodes' configurations, and what their probes say.
//!
//! ```text
//! Site       certificates and the cluster's secret    site.rs
//! Founder    one node's configuration                 founder.rs
//! probe      HTTP questions to a node                 probe.rs
//! free_ports where its nodes may listen               ports.rs
//! ```
//!
//! Whoever starts the processes also watches and stops them.

mod error;
mod founder;
mod ports;
pub mod probe;
mod site;

pub use error::LocalError;
pub use founder::Founder;
pub use ports::free_ports;
pub use site::Site;
