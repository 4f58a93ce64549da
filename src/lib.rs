//! dynkv: a Dynamo-style, leaderless, always-writable key-value store.
//!
//! The modules in reading order; each uses only those above it (`ARCHITECTURE.md` has the map).
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
pub mod mutant;

pub mod types;

pub mod version;

pub mod gossip;
pub mod ring;
pub mod storage;

pub mod antientropy;
pub mod quorum;

pub mod api;
pub mod message;

pub mod frame;

pub mod node;

#[allow(
    clippy::disallowed_methods,
    reason = "a driver: certificates have dates, and tests of real sockets have threads"
)]
pub mod net;

pub mod client;

pub mod sim;

pub mod config;

pub mod local;

#[allow(clippy::disallowed_methods, reason = "a driver: it reads the clocks and starts the threads for the core")]
pub mod server;
