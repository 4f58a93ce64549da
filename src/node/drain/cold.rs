//! Reads that may wait for the disk, away from the drain.

use std::sync::Arc;

use bytes::Bytes;

use crate::antientropy::{Step, Ticket};
use crate::node::effects::{ItemPurpose, Purpose, ShardInput, TombstonePurpose};
use crate::storage::merkle::{CountSpec, ItemSpec, TreeShape, count_leaves, read_items};
use crate::storage::{
    Engine, HintSpec, OpFailure, PageSpec, Store, TombstoneSpec, read_hint_page, read_page, read_tombstone_page,
};

/// A read that may wait for the disk.
#[derive(Clone, Debug)]
pub enum ColdRead {
    /// A parked key's record.
    Record {
        /// The object's key.
        key: Bytes,
    },
    /// A page of a scan.
    Page {
        /// Who wants it.
        purpose: Purpose,
        /// Which.
        spec: PageSpec,
    },
    /// Keys of leaves of a Merkle tree.
    Items {
        /// Who wants them.
        purpose: ItemPurpose,
        /// Which.
        spec: ItemSpec,
    },
    /// Leaves, to be counted.
    Count {
        /// Of the scrub.
        step: Step,
        /// Which.
        spec: CountSpec,
    },
    /// A page of the index of hints.
    Hints {
        /// Which one it is.
        ticket: Ticket,
        /// Which part of the index.
        spec: HintSpec,
    },
    /// A page of the index of tombstones.
    Tombstones {
        /// What for.
        purpose: TombstonePurpose,
        /// Which part of the index.
        spec: TombstoneSpec,
        /// How keys fall into trees.
        shape: Arc<TreeShape>,
    },
}

impl ColdRead {
    /// Reads; may block.
    pub fn run<E: Engine>(self, engine: &E) -> ShardInput {
        match self {
            ColdRead::Record { key } => {
                let read = Store::<E, Purpose>::read(engine, &key).map_err(OpFailure::from);
                ShardInput::Fetched { key, read }
            }
            ColdRead::Page { purpose, spec } => {
                ShardInput::Paged { purpose, partition: spec.partition, page: read_page(engine, &spec) }
            }
            ColdRead::Items { purpose, spec } => {
                ShardInput::ItemsRead { purpose, partition: spec.tree.partition, page: read_items(engine, spec) }
            }
            ColdRead::Count { step, spec } => {
                ShardInput::Counted { step, counted: count_leaves(engine, spec).map(Box::new) }
            }
            ColdRead::Hints { ticket, spec } => ShardInput::HintsRead { ticket, page: read_hint_page(engine, &spec) },
            ColdRead::Tombstones { purpose, spec, shape } => {
                let page = read_tombstone_page(engine, &spec, &shape);
                ShardInput::TombstonesRead { purpose, partition: spec.partition, page }
            }
        }
    }

    /// The outcome where too many reads wait already.
    pub fn refused(self) -> ShardInput {
        match self {
            ColdRead::Record { key } => ShardInput::Fetched { key, read: Err(OpFailure::Overloaded) },
            ColdRead::Page { purpose, spec } => {
                ShardInput::Paged { purpose, partition: spec.partition, page: Err(OpFailure::Overloaded) }
            }
            ColdRead::Items { purpose, spec } => {
                ShardInput::ItemsRead { purpose, partition: spec.tree.partition, page: Err(OpFailure::Overloaded) }
            }
            ColdRead::Count { step, .. } => ShardInput::Counted { step, counted: Err(OpFailure::Overloaded) },
            ColdRead::Hints { ticket, .. } => ShardInput::HintsRead { ticket, page: Err(OpFailure::Overloaded) },
            ColdRead::Tombstones { purpose, spec, .. } => {
                let page = Err(OpFailure::Overloaded);
                ShardInput::TombstonesRead { purpose, partition: spec.partition, page }
            }
        }
    }
}
