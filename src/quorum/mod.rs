//! Quorums (Dynamo, section 4.5): the parameters, the counting, and the machines of a put, a get and a scan.
//!
//! Pure: the machines are told what happened and say what the client is to be told; who sends what is the node's business.
//! R and W count distinct slots of the preference list, each by one node.

pub mod config;
mod explain;
mod get;
mod latency;
mod level;
mod params;
mod put;
mod scan;
mod tally;

pub use explain::{Candidate, Condition, Forecast, explain_read, explain_write};
pub use get::{Ask, Found, Get, GetStep, GetTerms, GetVerdict, Repair};
pub use latency::{HedgeAfter, HedgeAfterError, ReplyTimes};
pub use level::{Level, LevelError};
pub use params::{QuorumError, ReadQuorum, WriteQuorum};
pub use put::{Put, PutVerdict};
pub use scan::{Scan, ScanVerdict};
pub use tally::{Ack, Tally};
