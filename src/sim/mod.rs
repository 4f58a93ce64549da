//! The whole cluster in one thread, from one seed: the production machines, client sessions, frames and storage
//! operations, under faults that no test bed gives, judged by an oracle that knows nothing of how they work.
//!
//! ```text
//! Schedule    cluster, faults and operations, drawn from a seed        schedule.rs, schedule/draw.rs
//! Run         safety phase, liveness phase, verdict                    run.rs, inject.rs, workload.rs
//!   World     nodes, network, clients and their events                 world.rs, drive.rs, wire.rs, client.rs, lifecycle.rs
//!     Network links, weather, cuts                                     network.rs
//!     Node    a disk, clocks, and a process on them                    process.rs, disk.rs, host.rs
//!   Witness   what only somebody within can check                      witness.rs
//!   oracle    what clients saw, judged                                 oracle/
//! gossip    hundreds of Controls alone, measured                       gossip.rs, gossip/measure.rs
//! shrink      cuts a failing schedule down to what matters             shrink.rs
//! ```
//!
//! Only network, disk and clock differ from production. Nothing here reads a clock or entropy: equal schedules give equal
//! runs, down to the hash of everything that happened.

mod availability;
mod burial;
mod client;
mod cluster;
mod coverage;
mod disk;
mod drive;
pub mod gossip;
mod host;
mod inject;
mod lifecycle;
mod liveness;
mod loans;
mod network;
pub mod oracle;
mod process;
mod queue;
mod report;
mod run;
mod schedule;
pub mod shrink;
mod trace;
mod trees;
mod wire;
mod witness;
mod workload;
mod world;

#[cfg(test)]
mod tests;

pub use availability::Availability;
pub use coverage::{Coverage, Kind, Mark};
pub use disk::{Disk, MemoryDisk};
pub use host::Step;
pub use network::{Network, Weather, from_bytes, to_bytes};
pub use process::{Clocks, Node, NodeConfig, Pace, Process};
pub use report::{HarnessBug, Options, Outcome, Report, TraceFilter, Violation};
pub use schedule::{Act, Buggify, ClusterPlan, Extras, Fault, FaultEvent, Operation, Schedule, Shape};
pub use world::{Asked, HeldRead, Loss, Reads, World};

use crate::storage::MemoryConfig;

/// Runs a schedule on modelled disks.
pub fn run(schedule: &Schedule, options: &Options) -> Report {
    let disk = |node: usize| {
        MemoryDisk::new(MemoryConfig {
            seed: schedule.seed.wrapping_mul(1000).wrapping_add(node as u64),
            miss_probability: schedule.cluster.miss_probability,
            resident_keys: schedule.cluster.resident_keys,
            ..MemoryConfig::default()
        })
    };
    let world = cluster::assemble(schedule, options, disk);
    run::Run::new(schedule, options, world).finish()
}

/// Runs a schedule on RocksDB, in directories below `dir`. What only the modelled disk can do does not happen: see
/// `disk/rocks.rs`.
///
/// # Panics
/// If a database cannot be made there.
#[cfg(feature = "rocksdb")]
pub fn run_on_rocks(schedule: &Schedule, options: &Options, dir: &std::path::Path) -> Report {
    let disk = |node: usize| disk::rocks::RocksDisk::new(&dir.join(format!("n{}", node + 1)));
    let world = cluster::assemble(schedule, options, disk);
    run::Run::new(schedule, options, world).finish()
}
