//! The seam between dynkv and a disk.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::storage::batch::Batch;
use crate::storage::error::StorageError;
use crate::types::BatchNumber;

/// A separately ordered set of keys. All families share one log, so a batch across them is atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Objects, by [`object_key`](crate::storage::keys::object_key).
    Objects,
    /// Hints, by the node they wait for.
    Hints,
    /// Merkle trees: checkpoints and deltas.
    Merkle,
    /// Facts about the node, by [`MetaKey`](crate::storage::keys::MetaKey).
    Meta,
    /// The index of tombstones, by the keys of their objects.
    Tombstones,
}

impl Family {
    /// Every family, in the order of [`Family::index`].
    pub const ALL: [Family; 5] = [Family::Objects, Family::Hints, Family::Merkle, Family::Meta, Family::Tombstones];

    /// The name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Objects => "objects",
            Family::Hints => "hints",
            Family::Merkle => "merkle",
            Family::Meta => "meta",
            Family::Tombstones => "tombstones",
        }
    }

    /// The place in [`Family::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How far a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTier {
    /// Memory only (memtable and block cache): never waits for a disk, may answer [`Lookup::Miss`].
    Cached,
    /// To the disk if need be: may block, never answers [`Lookup::Miss`].
    Disk,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The value, copied out of the engine once.
    Found(Bytes),
    /// There is none.
    Absent,
    /// Memory does not tell; only under [`ReadTier::Cached`].
    Miss,
}

/// When a scan stops of itself. It visits at least one entry, whatever the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimit {
    /// Visit at most so many entries.
    pub entries: usize,
    /// Stop once the visited keys and values hold so many bytes.
    pub bytes: usize,
}

impl ScanLimit {
    /// The whole range: for ranges that the caller knows to be small.
    pub const NONE: ScanLimit = ScanLimit { entries: usize::MAX, bytes: usize::MAX };

    /// At most `entries` entries of any size.
    pub const fn entries(entries: usize) -> ScanLimit {
        ScanLimit { entries, bytes: usize::MAX }
    }

    /// Whether a scan that has visited this much is to stop.
    pub(crate) fn reached(self, entries: usize, bytes: usize) -> bool {
        entries >= self.entries || bytes >= self.bytes
    }
}

/// What a scan calls with each key and value; a break ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An engine's state in numbers, for metrics and status. Estimates, except where said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes of tables on the disk; the log is not in it.
    pub disk_bytes: u64,
    /// Keys in all families.
    pub estimated_keys: u64,
    /// Bytes of memtables.
    pub memtable_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Bytes that compaction has yet to rewrite.
    pub pending_compaction_bytes: u64,
    /// 1 while the engine holds writes back so that compaction can catch up, else 0.
    pub writes_stalled: u64,
    /// Failures of background work since the start.
    pub background_errors: u64,
    /// 1 once a commit or a sync has failed and nothing is written until a restart, else 0. Exact.
    pub stopped: u64,
    /// Bytes that the file system has left for this process, exact; 0 if it does not say, so that doubt refuses writes.
    pub free_bytes: u64,
    /// Bytes that the file system holds in all, exact; 0 if it does not say.
    pub capacity_bytes: u64,
}

/// A part of the disk that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// In which family.
    pub family: Family,
    /// The first key that lies there,
    pub start: Vec<u8>,
    /// and the last.
    pub last: Vec<u8>,
}

/// What an engine has done about what it cannot read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mending {
    /// Met since the last call: nothing in there can be read, but what was written there since.
    pub unreadable: Vec<Unreadable>,
    /// Files that are gone, with nothing in them that anybody could see.
    pub dropped: Vec<String>,
    /// Files that cannot go, and of which nothing is looked at any more that cannot be read: met since the last call.
    pub stuck: Vec<String>,
    /// Files that are left as they are: met since the last call.
    pub kept: Vec<(String, KeptBecause)>,
    /// Files at which an attempt has failed. It is made again.
    pub failed: Vec<(String, StorageError)>,
}

/// Why a file of which something cannot be read is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBecause {
    /// [`MendWith::may_go`] forbids it: no other node has to hold what it holds.
    OnlyHere,
    /// More of its range than is written at once waits for other nodes, or is a deletion.
    NamedTooMuch,
    /// The index of hints cannot be read, which says what waits for other nodes.
    HintsUnreadable,
    /// It is of this family, and what that holds is on no other node.
    NotObjects(Family),
}

/// What an engine needs of others in order to mend.
pub struct MendWith<'a> {
    /// Whether what the keys of `[start, end)` say may be lost here: others hold it too.
    pub may_go: &'a dyn Fn(&[u8], &[u8]) -> bool,
    /// Puts all that was committed on the disk.
    pub sync: &'a mut dyn FnMut() -> Result<(), StorageError>,
    /// Bytes that may be written anew for one file to go, at most.
    pub most_rewritten: u64,
    /// Nothing more is to be begun.
    pub stopping: &'a dyn Fn() -> bool,
}

/// An ordered store of bytes with atomic batches: what the nodes of a cluster keep their data in.
///
/// A commit is in the log and visible to every later read when it returns; it survives the process's death, but a power
/// loss only once a [`sync`](Engine::sync) that began after it has returned. What a power loss leaves is a prefix of the commits, in
/// their order, of whole batches.
///
/// An engine is shared by threads. Reads never wait for writers; commits are serialised by the engine.
pub trait Engine: Send + Sync + 'static {
    /// Reads the newest committed value of `key`.
    ///
    /// # Errors
    /// [`StorageError::Io`] or [`StorageError::Corrupt`]: the value is unknown, never "absent".
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError>;

    /// How often the engine has learnt that it cannot read, or does not have, what was committed: by a read that met it, or because it has given
    /// a range up. What anybody has kept of records from before is no witness of what is on the disk.
    fn damage(&self) -> u64;

    /// Writes `batch` to the log and makes it visible, whole or not at all, unsynced; returns a number at or above the
    /// batch's own. The batch comes back empty, after a failure too: a failed commit is never tried again.
    /// An empty batch writes nothing and raises no number.
    ///
    /// # Errors
    /// [`StorageError::may_be_in_log`] tells whether the batch may surface after a restart; until then no read shows it.
    /// After the first failure every commit is refused with [`StorageError::Stopped`].
    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError>;

    /// Waits until everything committed before the call is on the disk.
    ///
    /// # Errors
    /// [`StorageError::Stopped`]: not tried, since a commit or a sync failed before; what waits for it is indeterminate, and
    /// reads go on. Any other: whatever was not synced before is lost or not, nobody knows, so end the process. The
    /// kernel reports a failed write-back once, hence every later sync and commit is refused.
    fn sync(&self) -> Result<(), StorageError>;

    /// Visits the entries of `[start, end)` in key order (to the family's end without `end`), as they stood when the
    /// scan began, until `visit` breaks or `limit` is reached. Returns the first key not visited, where the next scan
    /// may start; `None` when the range is done. `visit` may use the engine.
    ///
    /// Reads the disk and fills no cache.
    ///
    /// # Errors
    /// [`StorageError::Io`] or [`StorageError::Corrupt`]: entries visited before it are sound, the rest is unknown.
    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the objects of `[start, end)`, which no scan can pass, that stand there nevertheless: those that were written, or kept, since the
    /// engine has given up the rest.
    ///
    /// # Errors
    /// As [`scan`](Engine::scan). [`StorageError::Corrupt`]: it has not been given up yet, and what is newer than the damage cannot be told from
    /// it.
    fn salvage(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        self.scan(Family::Objects, start, Some(end), ScanLimit::NONE, visit).map(drop)
    }

    /// Looks after files that somebody has failed to read: those that hold nothing any more that can be seen are dropped, in small steps
    /// that no reader and no writer notices. Blocks for seconds; to be called again and again.
    ///
    /// # Errors
    /// [`StorageError`]: nothing can be mended any more by this process; what was committed is as it was.
    fn mend(&self, with: &mut MendWith<'_>) -> Result<Mending, StorageError> {
        let _ = with;
        Ok(Mending::default())
    }

    /// The highest number whose writes are in the log: at least what every commit so far returned. It only grows while
    /// the engine is open; opened again, it tells how far the log was recovered.
    fn latest(&self) -> BatchNumber;

    /// The engine's numbers. Cheap enough for every scrape, not for every request.
    fn stats(&self) -> EngineStats;
}
