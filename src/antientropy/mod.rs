//! What brings replicas together again: hinted handoff (Dynamo, section 4.6).
//!
//! Sans-IO: the machine says what is to be read, sent and dropped, and `node` sees to it. It knows neither messages nor
//! liveness; it is told who can be reached.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.rs` | `[hints]` |
//! | `handoff.rs` | [`Handoff`]: replays what waits for other nodes, and drops it once they hold it |
//! | `pass.rs` | one walk over what waits for one node |
//! | `backlog.rs` | what waits, in numbers |
//! | `census.rs` | learns these numbers from the disk at a start, while they change |
//! | `pace.rs` | how fast, and how soon again after a failure |

mod backlog;
mod census;
pub mod config;
mod handoff;
mod pace;
mod pass;

pub use backlog::HintBacklog;
pub use handoff::{Command, Handoff, HandoffCounters, JobId, MAX_WINDOW, Settings, Ticket};
