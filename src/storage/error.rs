//! What can go wrong at the disk, and what each failure leaves behind.

use std::io;
use std::path::PathBuf;

/// A storage failure. None of them ever means "absent": the operation failed and its answer is unknown.
///
/// After a failed commit or sync the engine writes no more ([`StorageError::Stopped`]): RocksDB may have put the failed
/// batch into its log and may replay it at the next start, so a later write could come to stand before an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A read, commit, sync or open met an I/O error. *A failed commit may be in the log* and surface after a
    /// restart: answer "indeterminate". After a failed sync nothing unsynced may be trusted: end the process.
    #[error("storage: {action} failed: {detail}")]
    Io {
        /// What was tried: "get", "commit", "sync" ...
        action: &'static str,
        /// The engine's or the kernel's words.
        detail: String,
    },
    /// The disk is full. *A failed commit may be in the log.* Reads go on; free space, then restart the node.
    #[error("storage: the disk is full ({action}: {detail}); free space, then restart the node")]
    Full {
        /// What was tried.
        action: &'static str,
        /// The engine's or the kernel's words.
        detail: String,
    },
    /// Bytes on the disk are not what was written: a checksum or a structure is wrong. Nothing was written. The key
    /// range is to be wiped and rebuilt from the other replicas; it is not absent.
    #[error("storage: corrupt: {detail}")]
    Corrupt {
        /// What was found, and where.
        detail: String,
    },
    /// A record is what was written, by its checksum, and this version does not know what it says. Nothing was written. The record stays,
    /// and is not absent; start the version that has written it.
    #[error("storage: {detail}: a newer dynkv has written that, start it to read it")]
    NewerRecord {
        /// What was found.
        detail: String,
    },
    /// Another process, or another engine of this one, has the directory open. Nothing was written. Stop it, or
    /// choose another directory.
    #[error("storage: {} is in use by another process; one directory serves one node", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was written by a later dynkv. Nothing was written. Start that version instead.
    #[error("storage: the directory has format {found}, this version reads up to {supported}: start a newer dynkv")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest that this version understands.
        supported: u32,
    },
    /// An earlier commit or sync failed, so nothing is written until a restart. *This* write is surely not in the log.
    #[error("storage: no more writes until a restart, since an earlier one failed: {cause}")]
    Stopped {
        /// The first failure.
        cause: Box<StorageError>,
    },
}

impl StorageError {
    /// Whether a full disk is the reason, at first or second hand.
    pub fn is_full(&self) -> bool {
        match self {
            StorageError::Full { .. } => true,
            StorageError::Stopped { cause } => cause.is_full(),
            _ => false,
        }
    }

    /// Whether a commit that ended so may yet surface after a restart.
    pub fn may_be_in_log(&self) -> bool {
        matches!(self, StorageError::Io { .. } | StorageError::Full { .. } | StorageError::Corrupt { .. })
    }

    /// What to do about a directory that cannot be started from, for people; empty if the error says it.
    pub fn advice(&self) -> &'static str {
        match self {
            StorageError::Corrupt { .. } => {
                "; if other nodes hold the replicas, wipe the directory, the node rebuilds from its peers"
            }
            _ => "",
        }
    }

    /// An error of the kernel's met while trying `action`.
    pub fn from_io(action: &'static str, error: &io::Error) -> StorageError {
        let detail = error.to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { action, detail },
            _ => StorageError::Io { action, detail },
        }
    }

    /// This failure, seen by a later write.
    pub(crate) fn stopped(&self) -> StorageError {
        StorageError::Stopped { cause: Box::new(self.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_at_second_hand_and_only_the_first_write_may_be_in_the_log() {
        let full = StorageError::from_io("commit", &io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.is_full() && full.may_be_in_log());
        assert!(full.stopped().is_full() && !full.stopped().may_be_in_log());
        let other = StorageError::from_io("commit", &io::Error::other("cable"));
        assert!(!other.is_full() && !other.stopped().is_full());
    }
}
