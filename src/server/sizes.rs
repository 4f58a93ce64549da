//! How much of everything a node holds, derived from its configuration in one place.

use super::memory::host_memory;
use crate::config::Config;
use crate::frame::raw::FrameLimits;
use crate::net::{Limits, QueueLimits};
use crate::types::{Bucket, Key};

/// Room in a frame for what is not value: dots, contexts, names.
const OVERHEAD: usize = 1 << 20;
/// Room in a frame that brings an object for all but that: lengths, and where the object belongs.
const ADDRESS: usize = Key::MAX_LEN + Bucket::MAX_LEN + 1024;
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

/// Bytes of records that one shard keeps in memory.
pub fn record_cache(config: &Config) -> usize {
    let share = config.storage.record_cache.bytes_of(host_memory()) / u64::from(config.node.shards.max(1));
    usize::try_from(share).unwrap_or(usize::MAX)
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

/// The longest object that a frame brings to a peer.
pub fn object(config: &Config) -> usize {
    frame(config).max_frame - ADDRESS
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::codec::encode_request;
    use crate::message::{Address, PeerRequest, Reason, Replicate};
    use crate::types::{NodeId, PartitionId, RingVersion, Round, WriteId};
    use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling};

    #[test]
    fn the_longest_object_of_the_longest_key_fits_a_frame() {
        let dot = Dot { actor: Actor(u64::MAX), counter: u64::MAX };
        let body = Body::Value(vec![7; 100_000].into());
        let sibling = Sibling { dot, write_id: WriteId(u128::MAX), node: NodeId(u64::MAX), wall_ms: u64::MAX, body };
        let object = Object::update(None, &CausalContext::default(), sibling);
        let to = Address {
            ring: RingVersion(u64::MAX),
            partition: PartitionId(u16::MAX),
            bucket: Bucket::new(&"b".repeat(Bucket::MAX_LEN)).unwrap(),
            key: Key::new(vec![255; Key::MAX_LEN]).unwrap(),
        };
        let object = std::sync::Arc::new(object);
        let hint_for = Some(NodeId(u64::MAX));
        let (len, round, reason) = (object.encoded_len(), Round(u64::MAX), Reason::Exchange);
        let request = Replicate { to, reason, hint_for, sync: true, round, trace: true, object };
        let frame = encode_request(u64::MAX, &PeerRequest::Replicate(request));
        assert!(frame.encoded_len() <= len + ADDRESS, "{} of {len}", frame.encoded_len());
    }
}
