//! A shard's view of the engine: runs operations, each seeing all before it, and gathers what they write into one batch.
//!
//! Records are read from memory only. An operation whose record is not there *parks* its key: the operation and all
//! later ones on that key wait, the caller has the record read elsewhere, and they go on in order when it comes. Since
//! nothing touches a parked key meanwhile, the bytes that come back are current, however long they took: a slow read
//! cannot overwrite a newer write.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::op::{Op, Outcome, apply};
use super::{Batch, Engine, Family, Lookup, ReadTier, Record, StorageError};
use crate::types::BatchNumber;

/// An operation on one key; `purpose` comes back with its outcome.
#[derive(Clone, Debug)]
pub struct Task<P> {
    /// For the caller.
    pub purpose: P,
    /// The object's key, encoded.
    pub key: Bytes,
    /// What to do.
    pub op: Op,
}

/// Why an operation was not done. Nothing was written by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpFailure {
    /// Too many operations wait for the disk already.
    #[error("too many operations wait for the disk")]
    Overloaded,
    /// A commit has failed: nothing more is written until a restart.
    #[error("a write to the disk has failed; nothing more is written until a restart")]
    Stopped,
    /// The record could not be read, or is corrupt: what it holds is unknown, never "nothing".
    #[error("{detail}")]
    Unreadable {
        /// What the engine said.
        detail: String,
    },
}

impl From<StorageError> for OpFailure {
    fn from(error: StorageError) -> OpFailure {
        OpFailure::Unreadable { detail: error.to_string() }
    }
}

/// How much may wait for the disk.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Operations over all parked keys.
    pub parked: usize,
}

/// A finished operation.
pub type Done<P> = (P, Result<Outcome, OpFailure>);

/// See the module.
pub struct Store<E: ?Sized, P> {
    engine: Arc<E>,
    limits: StoreLimits,
    /// Records as this drain has left them; `None`: known to be absent.
    overlay: BTreeMap<Bytes, Option<Record>>,
    batch: Batch,
    parked: BTreeMap<Bytes, VecDeque<Task<P>>>,
    waiting: usize,
    stopped: bool,
}

impl<E: Engine + ?Sized, P> Store<E, P> {
    /// Nothing parked, nothing to write.
    pub fn new(engine: Arc<E>, limits: StoreLimits) -> Store<E, P> {
        Store {
            engine,
            limits,
            overlay: BTreeMap::new(),
            batch: Batch::default(),
            parked: BTreeMap::new(),
            waiting: 0,
            stopped: false,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// Operations that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Runs an operation. Its outcome goes to `done`, now or when its key's record has come; in the latter case, and if
    /// nobody reads that key yet, the key is returned: have it read and call [`Store::resume`].
    pub fn submit(&mut self, task: Task<P>, done: &mut Vec<Done<P>>) -> Option<Bytes> {
        if task.op.is_write() && self.stopped {
            done.push((task.purpose, Err(OpFailure::Stopped)));
            return None;
        }
        let is_parked = self.parked.contains_key(&task.key);
        if !is_parked {
            match self.look_up(&task.key) {
                Ok(true) => {
                    done.push(self.run(task));
                    return None;
                }
                Ok(false) => {}
                Err(error) => {
                    done.push((task.purpose, Err(error.into())));
                    return None;
                }
            }
        }
        if self.waiting >= self.limits.parked {
            done.push((task.purpose, Err(OpFailure::Overloaded)));
            return None;
        }
        self.waiting += 1;
        let key = task.key.clone();
        self.parked.entry(key.clone()).or_default().push_back(task);
        (!is_parked).then_some(key)
    }

    /// Reads a parked key's record from the disk: for the caller's read pool. May block.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn read(engine: &E, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match engine.get(Family::Objects, key, ReadTier::Disk)? {
            Lookup::Found(bytes) => Ok(Some(bytes)),
            Lookup::Absent => Ok(None),
            Lookup::Miss => Err(StorageError::Corrupt { detail: "a read of the disk answered from memory".into() }),
        }
    }

    /// A parked key's record has been read: all that waited for it runs, in order.
    pub fn resume(&mut self, key: &Bytes, read: Result<Option<Bytes>, OpFailure>, done: &mut Vec<Done<P>>) {
        let Some(tasks) = self.parked.remove(key) else { return };
        self.waiting -= tasks.len();
        let record = read.and_then(|bytes| Ok(bytes.map(Record::decode).transpose()?));
        match record {
            Ok(record) => {
                self.overlay.insert(key.clone(), record);
                for task in tasks {
                    if task.op.is_write() && self.stopped {
                        done.push((task.purpose, Err(OpFailure::Stopped)));
                    } else {
                        done.push(self.run(task));
                    }
                }
            }
            Err(failure) => {
                done.extend(tasks.into_iter().map(|task| (task.purpose, Err(failure.clone()))));
            }
        }
    }

    /// Writes what the operations since the last commit have changed, in one unsynced batch. `None`: there was nothing.
    ///
    /// # Errors
    /// The batch may or may not surface after a restart. Nothing of it is shown until then, and nothing more is written.
    pub fn commit(&mut self) -> Result<Option<BatchNumber>, StorageError> {
        self.overlay.clear();
        if self.batch.is_empty() {
            return Ok(None);
        }
        let result = self.engine.commit(&mut self.batch);
        self.stopped |= result.is_err();
        result.map(Some)
    }

    /// Puts the record into the overlay, if memory tells what it is.
    fn look_up(&mut self, key: &Bytes) -> Result<bool, StorageError> {
        if self.overlay.contains_key(key) {
            return Ok(true);
        }
        let record = match self.engine.get(Family::Objects, key, ReadTier::Cached)? {
            Lookup::Found(bytes) => Some(Record::decode(bytes)?),
            Lookup::Absent => None,
            Lookup::Miss => return Ok(false),
        };
        self.overlay.insert(key.clone(), record);
        Ok(true)
    }

    fn run(&mut self, task: Task<P>) -> Done<P> {
        let current = self.overlay.get_mut(&task.key).expect("a task runs only when its record is in the overlay");
        let (changed, outcome) = apply(task.op, current.as_ref());
        if let Some(record) = changed {
            self.batch.put_with(Family::Objects, &task.key, |out| record.encode_into(out));
            *current = Some(record);
        }
        (task.purpose, Ok(outcome))
    }
}
