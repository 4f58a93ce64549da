//! How much of everything a node holds, derived from its configuration in one place.

use super::memory::host_memory;
use crate::config::Config;
use crate::frame::raw::FrameLimits;
use crate::net::{Limits, QueueLimits};

/// Room in a frame for what is not value: dots, contexts, names.
const OVERHEAD: usize = 1 << 20;
/// Lanes that a peer may have open: one for each of its shards, of which there are 256 at most, control's, and some that
/// are just closing.
const MAX_LANES: u32 = 320;
/// No frame is longer, however large the configured values.
const MAX_FRAME: usize = 1 << 30;
/// Frames that may wait on a lane.
const LANE_FRAMES: usize = 1 << 16;
/// Control messages that may wait on a lane.
const CONTROL_FRAMES: usize = 256;

/// The part of the cap on memory that requests may hold while they wait for shards, and answers as much again.
const INBOXES: u64 = 16;
/// The part that may wait to be sent, over all lanes.
const LANES: u64 = 8;
/// The least that may wait for one shard, in bytes.
const LEAST_INBOX: u64 = 1 << 20;

/// What the process may take of memory, in bytes.
pub fn memory(config: &Config) -> u64 {
    config.limits.memory.bytes_of(host_memory())
}

/// Bytes of requests that may wait for one shard.
pub fn inbox_bytes(config: &Config) -> usize {
    let share = memory(config) / INBOXES / u64::from(config.node.shards.max(1));
    usize::try_from(share.max(LEAST_INBOX)).unwrap_or(usize::MAX)
}

/// The longest frames: a key's siblings travel together.
pub fn frame(config: &Config) -> FrameLimits {
    let value = usize::try_from(config.net.max_value.as_u64()).unwrap_or(MAX_FRAME);
    let siblings = config.replication.max_siblings as usize + 1;
    let wanted = value.saturating_mul(siblings).saturating_add(OVERHEAD).min(MAX_FRAME);
    // The default is the least: nodes and clients with smaller values still take each other's frames.
    let FrameLimits { max_header, max_frame } = FrameLimits::default();
    FrameLimits { max_header, max_frame: max_frame.max(wanted) }
}

/// The endpoint's limits.
pub fn limits(config: &Config) -> Limits {
    let max_connections = usize::try_from(config.limits.max_connections).unwrap_or(usize::MAX);
    let max_queued = usize::try_from(memory(config) / LANES).unwrap_or(usize::MAX);
    Limits { max_connections, max_lanes: MAX_LANES, frame: frame(config), max_queued, ..Limits::default() }
}

/// What may wait on a lane that carries data. Values are shared, not copied, while they wait.
pub fn lane_queue(config: &Config) -> QueueLimits {
    QueueLimits { max_bytes: frame(config).max_frame, max_frames: LANE_FRAMES }
}

/// What may wait on a control lane.
pub fn control_queue(config: &Config) -> QueueLimits {
    QueueLimits { max_bytes: frame(config).max_frame, max_frames: CONTROL_FRAMES }
}

/// Reads that may wait for the disk: no shard has more parked keys and pages than this over all.
pub fn reads(config: &Config) -> usize {
    (config.net.max_inflight as usize).saturating_mul(4).clamp(1024, 1 << 20)
}
