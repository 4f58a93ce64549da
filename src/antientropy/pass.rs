//! One walk over what waits for one node, in key order, a page at a time.

use std::collections::VecDeque;

use bytes::Bytes;

use super::backlog::Oldest;
use super::handoff::Ticket;
use super::pace::Backoff;
use crate::storage::{HintEntry, HintItem, HintPage};
use crate::types::Time;

/// A walk.
#[derive(Debug)]
pub(super) struct Pass {
    /// Marks its pages: those of an earlier walk are of no use.
    pub ticket: Ticket,
    /// Read and not yet looked at.
    pub items: VecDeque<HintItem>,
    /// What follows was read; the next page begins behind it.
    after: Option<Bytes>,
    /// The last page was read.
    exhausted: bool,
    /// A page is under way.
    pub reading: bool,
    /// Hints that are being worked on.
    pub under_way: usize,
    /// Hints that are gone.
    pub dropped: u64,
    /// Hints that could be brought to their owners of today but for a failure, or an owner that is away.
    pub stuck: u64,
    /// Of what stays.
    pub oldest: Oldest,
    /// Everything goes, whether its target has it or not.
    pub discard: bool,
}

impl Pass {
    pub fn new(ticket: Ticket, discard: bool) -> Pass {
        Pass {
            ticket,
            items: VecDeque::new(),
            after: None,
            exhausted: false,
            reading: false,
            under_way: 0,
            dropped: 0,
            stuck: 0,
            oldest: Oldest::default(),
            discard,
        }
    }

    /// Where the next page begins, if it is time to read it.
    pub fn wants_page(&self) -> Option<Option<Bytes>> {
        (self.items.is_empty() && !self.reading && !self.exhausted).then(|| self.after.clone())
    }

    pub fn on_page(&mut self, page: HintPage) {
        self.reading = false;
        self.items.extend(page.items);
        self.exhausted = page.next.is_none();
        self.after = page.next;
    }

    pub fn is_over(&self) -> bool {
        self.exhausted && self.items.is_empty() && self.under_way == 0
    }

    /// A hint stays.
    pub fn leave(&mut self, entry: &HintEntry) {
        self.oldest.note(entry);
    }
}

/// What is known of a node that something waits for.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub pass: Option<Pass>,
    pub backoff: Backoff,
    /// Passes to be made though the target is away, since some of its hints may have other owners: the ring has changed, or a
    /// hint was met whose key is no more the target's.
    pub reroute: u8,
    /// Everything that waits for it goes.
    pub discard: bool,
    /// When a pass was last begun for the age of hints alone.
    pub aged_at: Option<Time>,
    pub replayed: u64,
    pub speed: Speed,
}

/// Bytes a second over the last whole second or so.
#[derive(Debug, Default)]
pub(super) struct Speed {
    since: Option<Time>,
    bytes: u64,
    pub rate: u64,
}

impl Speed {
    pub fn add(&mut self, now: Time, bytes: u32) {
        let since = *self.since.get_or_insert(now);
        self.bytes += u64::from(bytes);
        let millis = now.since(since).as_millis();
        if millis >= 1000 {
            self.rate = u64::try_from(u128::from(self.bytes) * 1000 / millis).unwrap_or(u64::MAX);
            (self.since, self.bytes) = (Some(now), 0);
        }
    }
}
