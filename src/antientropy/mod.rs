//! What brings replicas together again: hinted handoff (Dynamo, section 4.6), and the exchange of what differs (4.7).
//!
//! Sans-IO: the machines say what is to be read, sent and dropped, and `node` sees to it. They know neither messages nor
//! liveness; they are told who can be reached.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.rs` | `[hints]` and `[antientropy]` |
//! | `handoff.rs` | [`Handoff`]: replays what waits for other nodes, and drops it once they hold it |
//! | `pass.rs` | one walk over what waits for one node |
//! | `backlog.rs` | what waits, in numbers |
//! | `census.rs` | learns these numbers from the disk at a start, while they change |
//! | `trees.rs` | the Merkle trees that a ring has |
//! | `exchange.rs`, `exchange/` | [`Exchange`]: compares what this node holds with its other holders, and makes it the same |
//! | `reaper.rs` | [`Reaper`]: has tombstones deleted that nothing is left to be deleted by |
//! | `scrub.rs` | [`Scrub`]: reads what this node holds, and looks whether it is what was written |
//! | `pace.rs` | how fast, and how soon again after a failure |

mod backlog;
mod census;
pub mod config;
pub mod exchange;
mod handoff;
mod pace;
mod pass;
mod reaper;
mod scrub;
mod trees;

pub use backlog::HintBacklog;
pub use exchange::{
    Comparison, Exchange, ExchangeCommand, ExchangeCounters, ExchangeFailure, ExchangeSettings, ExchangeStatus,
    MAX_KEYS, MAX_LEAVES, MAX_PAGE, OBJECT_COST, PeerItem, PeerPage, QUESTION_COST, Step, Transferred, TreeVerdict,
};
pub use handoff::{Command, Handoff, HandoffCounters, JobId, MAX_WINDOW, Settings, Ticket};
pub use reaper::{
    Candidate, Inquired, MAX_CANDIDATES, ReapWait, Reaper, ReaperCommand, ReaperCounters, ReaperSettings, ReaperStatus,
    Tombstones, Vouched,
};
pub use scrub::{Scrub, ScrubCommand, ScrubCounters, ScrubProgress, ScrubSettings};
pub use trees::{healing, primaries, tree_shape};
