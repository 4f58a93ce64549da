//! Bytes that all lanes of an endpoint may have queued together: each has a limit of its own, but there may be many.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    /// Nothing is queued yet.
    pub(super) fn new(max: usize) -> Budget {
        Budget { max, used: AtomicUsize::new(0) }
    }

    /// Whether so many bytes more are within it. Threads that ask in one moment may exceed it together by what they ask.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.max
    }

    /// Bytes are queued, within the budget or not.
    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They have been sent, or given up.
    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes queued.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
