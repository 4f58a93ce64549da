//! What a shard's drain calls: the disk, the lanes, the read pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use super::clock::Clock;
use super::disk::Disk;
use super::gather::Gathering;
use super::inbox::Inbox;
use super::lanes::{Accepted, LaneCounters, Lanes, Other};
use super::latency::{Latencies, Stopwatch};
use super::read_pool::ReadPool;
use super::syncer::Syncer;
use crate::api::{ApiError, Response};
use crate::frame::codec::{LastObject, encode_answer, encode_request_after, encode_response};
use crate::frame::raw::RawFrame;
use crate::net::{Lane, SendError};
use crate::node::{ColdRead, Host, Output};
use crate::storage::{StorageError, parse_object_key};
use crate::types::{BatchNumber, NodeId, Time};

/// How often objects that no frame holds are told of, at most: they are met by every comparison.
const TOO_LONG_EVERY: Duration = Duration::from_secs(60);

/// One shard's host.
pub struct ShardHost {
    pub(super) shard: u16,
    pub(super) clock: Clock,
    pub(super) disk: Arc<Disk>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) gathering: Arc<Gathering>,
    pub(super) reads: ReadPool,
    pub(super) inbox: Arc<Inbox>,
    pub(super) syncer: Syncer,
    pub(super) stopwatch: Stopwatch,
    pub(super) latencies: Arc<Latencies>,
    /// The highest batch that this shard has written.
    pub(super) number: BatchNumber,
    /// When it was told last that an object is too long.
    pub(super) too_long_at: Option<Time>,
    /// Frames by destination; emptied by every release.
    pub(super) to_peers: BTreeMap<NodeId, Vec<RawFrame>>,
    /// Frames by accepted lane; emptied by every release.
    pub(super) to_lanes: BTreeMap<u64, Vec<RawFrame>>,
}

impl Host for ShardHost {
    fn time(&mut self) -> Time {
        self.clock.time()
    }

    fn written(&mut self, number: BatchNumber) {
        self.number = number;
        self.disk.written(number);
    }

    fn release(&mut self, outputs: &mut Vec<Output>) {
        let (now, mut last) = (self.clock.time(), LastObject::default());
        for output in outputs.drain(..) {
            match output {
                Output::Request { node, id, request } => {
                    self.to_peers.entry(node).or_default().push(encode_request_after(id, &request, &mut last));
                }
                Output::Answer { to, answer } => {
                    self.to_lanes.entry(to.lane).or_default().push(encode_answer(to.id, &answer));
                }
                Output::Respond { to, response } => {
                    let Some(response) = self.gathering.pass(to, response) else { continue };
                    self.stopwatch.stop(to, now, &response, &self.latencies);
                    let frame = encode_response(to.id, now.as_micros(), &response);
                    self.to_lanes.entry(to.lane).or_default().push(frame);
                }
            }
        }
        self.send_to_peers();
        self.send_to_lanes(now.as_micros());
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.disk.sync_to(self.number)
    }

    fn begin_sync(&mut self) -> Option<Result<(), StorageError>> {
        self.syncer.begin(self.number, &self.inbox)
    }

    fn write_failed(&mut self, error: &StorageError) {
        self.disk.fail(error);
    }

    fn hopeless(&mut self, keys: &[Bytes]) {
        for ((partition, bucket), records) in by_bucket(keys) {
            warn!(partition, %bucket, records, "records that cannot be read stay, since no other node holds them: write their keys anew in a directory that was wiped, from a backup");
        }
    }

    fn too_long(&mut self, keys: &[Bytes]) {
        let now = self.clock.time();
        let is_new = self.too_long_at.is_none_or(|at| now.since(at) >= TOO_LONG_EVERY);
        if is_new && let Some(place) = keys.first().and_then(|key| parse_object_key(key).ok()) {
            self.too_long_at = Some(now);
            let (partition, bucket, key) = (place.partition.0, place.bucket, place.key.escape_ascii());
            warn!(partition, %bucket, %key, objects = keys.len(), "an object is longer than any frame, and its other replicas do not get it: write it anew with its context, so that fewer siblings are left, or raise net.max_value on all nodes");
        }
    }

    fn read(&mut self, read: ColdRead) {
        self.reads.submit(read, &self.inbox);
    }
}

/// How many of these keys are of which partition and bucket.
fn by_bucket(keys: &[Bytes]) -> BTreeMap<(u16, String), u64> {
    let mut counts = BTreeMap::new();
    for place in keys.iter().filter_map(|key| parse_object_key(key).ok()) {
        *counts.entry((place.partition.0, place.bucket.to_owned())).or_default() += 1;
    }
    counts
}

impl ShardHost {
    fn send_to_peers(&mut self) {
        if self.to_peers.is_empty() {
            return;
        }
        let routes = self.lanes.routes(self.shard);
        while let Some((node, frames)) = self.to_peers.pop_first() {
            match routes.get(&node) {
                Some(lane) => drop(send(lane, frames, &self.lanes)),
                None => LaneCounters::add(&self.lanes.counters.dropped_gone, frames.len() as u64),
            }
        }
    }

    fn send_to_lanes(&mut self, tick: u64) {
        if self.to_lanes.is_empty() {
            return;
        }
        let mut batches = std::mem::take(&mut self.to_lanes);
        self.lanes.look_up(batches.keys().copied().collect::<Vec<_>>().into_iter(), |number, accepted| {
            let Some(frames) = batches.remove(&number) else { return };
            match accepted {
                Some(accepted) => send_to_accepted(number, &accepted, frames, tick, &self.lanes),
                None => LaneCounters::add(&self.lanes.counters.dropped_gone, frames.len() as u64),
            }
        });
    }
}

fn send_to_accepted(number: u64, Accepted { lane, other }: &Accepted, frames: Vec<RawFrame>, tick: u64, lanes: &Lanes) {
    match other {
        Other::Peer => drop(send(lane, frames, lanes)),
        Other::Client(client) => {
            client.inflight.fetch_sub(frames.len() as u64, Ordering::Relaxed);
            let Unsent { too_long, full } = send(lane, frames, lanes);
            let refused = too_long.iter().map(|frame| (frame.id, too_long_for(frame)));
            // Values are not read into a queue without end. An answer without one is short, and nothing stands in for it.
            let takes_none = full.iter().any(|frame| frame.body.is_empty());
            let refused = refused.chain(full.iter().map(|frame| (frame.id, ApiError::Overloaded)));
            let errors = refused.map(|(id, error)| encode_response(id, tick, &Response::error(error))).collect();
            if takes_none || lane.try_send(errors) == Err(SendError::Full) {
                lanes.close_slow(number);
            }
        }
    }
}

/// What a client is told instead of an answer that no frame can hold.
fn too_long_for(frame: &RawFrame) -> ApiError {
    ApiError::ReadTimeout {
        replies: 0,
        r: 0,
        detail: format!(
            "the answer has {} bytes, more than a frame holds: ask for less at a time",
            frame.encoded_len()
        ),
    }
}

/// Frames that a lane did not take.
struct Unsent {
    /// Longer than any frame may be.
    too_long: Vec<RawFrame>,
    /// More than the queue holds now.
    full: Vec<RawFrame>,
}

/// Sends what the lane takes, and counts the rest.
fn send(lane: &Lane, frames: Vec<RawFrame>, Lanes { limits, counters, .. }: &Lanes) -> Unsent {
    let (fit, too_long): (Vec<_>, Vec<_>) = frames.into_iter().partition(|frame| limits.check(frame).is_ok());
    LaneCounters::add(&counters.dropped_long, too_long.len() as u64);
    let count = fit.len() as u64;
    match lane.try_send_fitting(fit) {
        Ok(full) => {
            LaneCounters::add(&counters.dropped_full, full.len() as u64);
            LaneCounters::add(&counters.frames, count - full.len() as u64);
            Unsent { too_long, full }
        }
        Err(_) => {
            LaneCounters::add(&counters.dropped_gone, count);
            Unsent { too_long: Vec::new(), full: Vec::new() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::object_key;
    use crate::types::{Bucket, Key, PartitionId, Token};

    #[test]
    fn what_cannot_be_healed_is_told_by_partition_and_bucket() {
        let key = |partition, bucket: &str, name: &str| {
            let (bucket, name) = (Bucket::new(bucket).unwrap(), Key::new(name.to_owned()).unwrap());
            Bytes::from(object_key(PartitionId(partition), Token(7), &bucket, &name))
        };
        let keys = [key(3, "carts", "a"), key(3, "carts", "b"), key(3, "users", "a"), key(9, "carts", "c")];
        let told: Vec<((u16, String), u64)> = by_bucket(&keys).into_iter().collect();
        assert_eq!(told, [((3, "carts".into()), 2), ((3, "users".into()), 1), ((9, "carts".into()), 1)]);
    }
}
