//! The network: frames on authenticated lanes. It knows nothing of nodes, shards or what a message means.
//!
//! ```text
//! Endpoint   one UDP socket: dials and accepts            endpoint.rs, transport.rs
//!   Link     one QUIC connection, its peer's name proven   link.rs, identity.rs, tls.rs, verify.rs
//!     Lane   one long-lived two-way stream of frames       lane.rs, lane_queue.rs, lane_tasks.rs
//! Dialer     keeps one link to one address alive           dialer.rs
//! ```
//!
//! A link is up on either end only after both have checked the other's certificate and name. A lane delivers frames in
//! order and at most once; nothing is resent on another lane, and a lane that breaks takes no other with it.
//!
//! Every buffer has a bound in [`Limits`] or [`QueueLimits`]; a full lane refuses ([`SendError::Full`]) and never blocks.

mod budget;
mod certs;
pub mod config;
mod dialer;
mod endpoint;
mod error;
mod identity;
mod lane;
mod lane_queue;
mod lane_tasks;
mod link;
mod secret;
mod spawn;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod verify;

pub use certs::{Validity, init_ca, issue_client, issue_node};
pub use dialer::{DialEvent, Dialer, DialerConfig};
pub use endpoint::{Endpoint, Expect, Incoming};
pub use error::NetError;
pub use identity::{PeerIdentity, Role};
pub use lane::{FrameSink, Lane, LaneClosed, QueueLimits, SendError};
pub use link::{CloseReason, IncomingLane, Link};
pub use secret::load_secret;
pub use spawn::Spawner;
pub use tls::{Tls, TlsFiles};
pub use transport::{Counters, Limits, ResetState};
