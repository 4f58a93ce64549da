//! The storage engine: ordered families of bytes, atomic batches, and a sync that is separate from the commit.
//!
//! | file | what it holds |
//! |---|---|
//! | `engine.rs` | the [`Engine`] trait: the one seam between dynkv and a disk |
//! | `batch.rs` | [`Batch`]: what one commit writes, whole or not at all |
//! | `error.rs` | [`StorageError`]: what failed, and whether a write may be in the log all the same |
//! | `keys.rs` | how objects and facts about the node are keyed |
//! | `record.rs`, `op.rs` | what stands under an object's key, and what is done to it: pure |
//! | `hint.rs` | who waits for what a record holds, and the index of that |
//! | `tombstone.rs` | the index of tombstones, so that whoever reaps them finds them |
//! | `store.rs` | a shard's view of the engine: parking, overlay, one batch a drain |
//! | `rounds.rs` | [`Rounds`]: how far reaping has come, and which copies are therefore too old to be merged |
//! | `page.rs`, `hint_page.rs`, `tombstone_page.rs` | pages of a partition, and of the indices of hints and tombstones |
//! | `merkle.rs`, `merkle/` | Merkle trees over what the node holds, kept in the batches that change it |
//! | `memory.rs`, `memory/` | [`MemoryEngine`]: a modelled disk for the simulation, with faults |
//! | `rocks.rs`, `rocks/` | `RocksEngine`: the daemon's engine (feature `rocksdb`) |
//! | `conformance.rs` | one suite of tests for both engines |
//!
//! No engine reads a clock, and none retries: an error goes up, and the caller answers "indeterminate".

pub mod batch;
pub mod config;
pub mod engine;
pub mod error;
mod hint;
mod hint_page;
pub mod keys;
pub mod memory;
pub mod merkle;
pub mod op;
mod page;
mod record;
#[cfg(feature = "rocksdb")]
pub mod rocks;
mod rounds;
mod store;
mod tombstone;
mod tombstone_page;

#[cfg(test)]
mod conformance;

pub use batch::Batch;
pub use engine::{
    Engine, EngineStats, Family, KeptBecause, Lookup, MendWith, Mending, ReadTier, ScanLimit, Unreadable, Visit,
};
pub use error::StorageError;
pub use hint::{Hint, HintChange, HintDrop, HintEntry, HintFound, NewHint};
pub use hint_page::{HintItem, HintPage, HintSpec, read_hint_page};
pub use keys::{MetaKey, hint_bounds, hint_key, object_key, parse_hint_key, parse_object_key, partition_bounds};
pub use memory::{Crash, Failures, Fault, MemoryConfig, MemoryEngine};
pub use op::{Change, Holds, Op, Outcome, Update, apply};
pub use page::{Page, PageItem, PageSpec, read_page};
pub use record::Record;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksConfig, RocksEngine};
pub use rounds::Rounds;
pub use store::{Done, Found, Healing, OpFailure, Scrubbed, Store, StoreLimits, Task, Wiped};
pub use tombstone::TombstoneEntry;
pub use tombstone_page::{TombstoneItem, TombstonePage, TombstoneSpec, read_tombstone_page};
