//! A node: one Control and some Shards, sans-IO, and the only place where the subsystems meet.
//!
//! Control decides who the members are and which ring holds; a shard coordinates and stores the keys of its partitions. They
//! share nothing: what Control decides reaches the shards as inputs.

mod control;
mod drain;
mod effects;
mod queue;
mod shard;
pub mod startup;
#[cfg(test)]
mod tests;

pub use control::{Control, ControlConfig, ControlEffects, ControlInput, Fatal, LinkId, Route, Terms};
pub use drain::{ColdRead, Core, Host};
pub use effects::{ClientRef, Effects, Feedback, Output, PeerRef, Purpose, ShardInput, Standing, TombstonePurpose};
pub use queue::{Class, InboxLimits, InputQueue, Pressure};
pub use shard::{Rebuilt, Shard, ShardConfig, ShardCounters, request_slot};
