//! A cluster of real machines in one thread: what a node promises, under faults that each test chooses.
//!
//! The world is the simulation's (`src/sim/world.rs`), in good weather and with clocks that agree, and each test says what
//! befalls it. What nobody thought of is left to the simulation itself (`make sim`).
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
#[path = "node/durability.rs"]
mod durability;
#[path = "node/exchange.rs"]
mod exchange;
#[path = "node/faults.rs"]
mod faults;
#[path = "node/fences.rs"]
mod fences;
#[path = "node/forwarding.rs"]
mod forwarding;
#[path = "node/hints.rs"]
mod hints;
#[path = "node/identity.rs"]
mod identity;
#[path = "node/misrouted.rs"]
mod misrouted;
#[cfg(feature = "mutants")]
#[path = "node/mutants.rs"]
mod mutants;
#[path = "node/outbox.rs"]
mod outbox;
#[path = "node/overload.rs"]
mod overload;
#[path = "node/owners.rs"]
mod owners;
#[path = "node/plan.rs"]
mod plan;
#[path = "node/quorums.rs"]
mod quorums;
#[path = "node/reads.rs"]
mod reads;
#[path = "node/reaping.rs"]
mod reaping;
#[path = "node/retries.rs"]
mod retries;
#[path = "node/scans.rs"]
mod scans;
#[path = "node/sloppy.rs"]
mod sloppy;
#[path = "node/trace.rs"]
mod trace;
#[path = "node/wiped.rs"]
mod wiped;
#[path = "node/writers.rs"]
mod writers;
