//! A cluster of real machines in one thread: what a node promises, under every fault that the test can think of.
//!
//! The world (`tests/node/world.rs`) runs Control and shards on modelled disks and passes encoded frames between them, in
//! virtual time. The same seed gives the same run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "node/actors.rs"]
mod actors;
#[path = "node/ask.rs"]
mod ask;
#[path = "node/birth.rs"]
mod birth;
#[path = "node/codec.rs"]
mod codec;
#[path = "node/data.rs"]
mod data;
#[path = "node/drive.rs"]
mod drive;
#[path = "node/durability.rs"]
mod durability;
#[path = "node/faults.rs"]
mod faults;
#[path = "node/forwarding.rs"]
mod forwarding;
#[path = "node/history.rs"]
mod history;
#[path = "node/host.rs"]
mod host;
#[path = "node/identity.rs"]
mod identity;
#[path = "node/misrouted.rs"]
mod misrouted;
#[cfg(feature = "mutants")]
#[path = "node/mutants.rs"]
mod mutants;
#[path = "node/network.rs"]
mod network;
#[path = "node/oracle.rs"]
mod oracle;
#[path = "node/overload.rs"]
mod overload;
#[path = "node/process.rs"]
mod process;
#[path = "node/quorums.rs"]
mod quorums;
#[path = "node/random.rs"]
mod random;
#[path = "node/retries.rs"]
mod retries;
#[path = "node/scans.rs"]
mod scans;
#[path = "node/world.rs"]
mod world;
