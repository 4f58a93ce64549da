//! The client: goes straight to a key's primaries, tries others when one fails, and never says more than it knows.
//!
//! ```text
//! CausalSession a client that never reads backwards        causal_session.rs
//! Client        the handle that programs hold                client.rs, options.rs, error.rs
//!   Call        one request: a session and what it needs     call.rs
//!     Session   whom to ask when: pure                       session.rs, route.rs
//!   Hub         ring, peers, permits: shared by all calls    hub.rs, routing.rs, retries.rs
//!     Peer      one node: dialed when needed                 peer.rs
//!       Connection   one lane, answers matched to calls      connection.rs, slots.rs, mailbox.rs, tick.rs
//! Scan          a bucket's keys, page by page                scan.rs
//! load          open and closed loops against a cluster      load.rs
//! ```
//!
//! A call runs in its caller's own task: thousands at a time cost one lane a node, and no task each.

mod call;
mod causal_session;
#[expect(clippy::module_inception, reason = "the type that the module is about")]
mod client;
pub mod cluster_file;
mod connection;
mod error;
mod hub;
mod join;
pub mod load;
mod mailbox;
mod operate;
mod options;
mod peer;
mod retries;
mod route;
mod routing;
pub mod scan;
pub mod session;
mod slots;
mod tick;

#[cfg(test)]
mod tests;

pub use causal_session::CausalSession;
pub use client::{Client, ClientConfig, Coordinator};
pub use cluster_file::{ClusterFile, ClusterFileError, ClusterNode};
pub use error::{ClientError, ErrorKind};
pub use options::{GetOptions, GetResult, PageQuery, PutOptions, PutResult, ScanEntry, ScanPage, Value, WhereResult};
pub use route::{Order, Standing, route};
pub(crate) use tick::TickBound;
