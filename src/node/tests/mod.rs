//! One shard alone with its store: what it asks of its peers, what it tells its clients, and when.

mod bench;
mod compared;
mod fences;
mod forwarding;
mod gathering;
mod puts;
mod reads;
mod reaping;
mod repairs;
mod retries;
mod runs;
mod slowness;
mod spans;
mod syncs;
mod tombstones;
mod transfers;
mod vouching;
mod whereabouts;

use self::bench::Bench;
