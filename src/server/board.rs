//! What a node shows of itself: the ring and the status, published by control, read by listeners and HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::clock::Clock;
use super::disk::Disk;
use super::shard::Shards;
use crate::api::{Phase, StatusReply};
use crate::ring::RingView;
use crate::types::NodeId;

/// What control knows at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// As control tells it, without what only the driver knows.
    pub status: StatusReply,
    /// Why requests for local ranges would fail now, if so.
    pub lacking: Option<String>,
    /// Links closed because no member was at the other end.
    pub strangers: u64,
}

/// See the module.
pub struct Board {
    clock: Clock,
    disk: Arc<Disk>,
    shards: Arc<Shards>,
    ring: ArcSwapOption<RingView>,
    view: ArcSwap<View>,
    read_only: ArcSwapOption<String>,
    draining: AtomicBool,
}

impl Board {
    /// A node that is not part of a ring yet.
    pub fn new(clock: Clock, disk: Arc<Disk>, shards: Arc<Shards>, view: View) -> Board {
        Board {
            clock,
            disk,
            shards,
            ring: ArcSwapOption::empty(),
            view: ArcSwap::from_pointee(view),
            read_only: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
        }
    }

    /// The ring, once the shards have it.
    pub fn ring(&self) -> Option<Arc<RingView>> {
        self.ring.load_full()
    }

    /// The shards have this ring.
    pub fn set_ring(&self, ring: Arc<RingView>) {
        self.ring.store(Some(ring));
    }

    /// The node itself.
    pub fn node(&self) -> NodeId {
        self.view.load().status.node
    }

    /// Control has something new to tell.
    pub fn set_view(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    /// The disk takes no writes, and why; or takes them again.
    pub fn set_read_only(&self, reason: Option<String>) {
        self.read_only.store(reason.map(Arc::new));
    }

    /// The node is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Links closed because no member was at the other end, since the start.
    pub fn strangers(&self) -> u64 {
        self.view.load().strangers
    }

    /// The node as it tells others.
    pub fn status(&self) -> StatusReply {
        let mut status = self.view.load().status.clone();
        let stats = self.disk.stats();
        status.uptime_s = self.clock.time().as_micros() / 1_000_000;
        (status.keys, status.disk_bytes, status.free_bytes) =
            (stats.estimated_keys, stats.disk_bytes, stats.free_bytes);
        status.capacity_bytes = stats.capacity_bytes;
        status.hints_counted = self.shards.hints_are_counted();
        status.hints = self.shards.hints();
        status.repair = self.shards.repair();
        if self.draining.load(Ordering::Acquire) {
            status.phase = Phase::Draining;
            status.waiting_for = "requests under way".to_owned();
        } else if let Some(reason) = self.read_only.load_full()
            && status.phase == Phase::Serving
        {
            status.phase = Phase::ReadOnly;
            status.waiting_for = reason.to_string();
        }
        status
    }

    /// Why requests had better go to another node, if so.
    pub fn not_ready(&self) -> Option<String> {
        let status = self.status();
        match status.phase {
            Phase::Joining => Some(format!("joining: waits for {}", status.waiting_for)),
            Phase::Draining => Some("draining: about to stop".to_owned()),
            Phase::ReadOnly => Some(format!("read-only: {}", status.waiting_for)),
            Phase::Serving if self.ring.load().is_none() => Some("joining: the shards are starting".to_owned()),
            Phase::Serving => self.view.load().lacking.clone(),
        }
    }
}
