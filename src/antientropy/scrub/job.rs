//! What is being counted.

use crate::types::PartitionId;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Whichever leaves of the partition have to be.
    Uncounted(PartitionId),
    /// From this leaf on, by order.
    Ordered(PartitionId, u32),
    /// The same by the slow walk.
    Walk(PartitionId, u32),
    /// The same once more, since it could not be read to the end.
    Left(PartitionId, u32),
}

impl Job {
    /// Of which partition.
    pub fn partition(self) -> PartitionId {
        match self {
            Job::Uncounted(of) | Job::Ordered(of, _) | Job::Walk(of, _) | Job::Left(of, _) => of,
        }
    }

    /// The first leaf, if it is the job's to say.
    pub fn from(self) -> Option<u32> {
        match self {
            Job::Uncounted(_) => None,
            Job::Ordered(_, from) | Job::Walk(_, from) | Job::Left(_, from) => Some(from),
        }
    }
}
