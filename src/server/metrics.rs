//! Every metric of a node, by name: read from where it is counted when somebody asks, so that counting costs an addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::ServerError;
use super::board::Board;
use super::disk::Disk;
use super::lanes::Lanes;
use super::latency::{BOUNDS, Latencies, Operation};
use super::memory::Memory;
use super::read_pool::ReadCounters;
use super::shard::{Shard, Shards};
use crate::api::{MemberStatus, Phase, StatusReply};
use crate::net::Endpoint;

/// A metric: its name, what it is, and its value.
type Number<V> = (&'static str, &'static str, V);

/// From a request's arrival to the release of its answer, by shard and operation.
const LATENCY: &str = "dynkv_request_seconds";

const METADATA: Metadata<'static> = Metadata::new("dynkv", Level::INFO, None);

/// Where a node's numbers are.
pub struct Metrics {
    recorder: PrometheusRecorder,
    sources: Sources,
    /// Buckets published so far, by shard and operation: the exporter takes increments only.
    published: Mutex<Vec<[[u64; BOUNDS.len() + 1]; Operation::ALL.len()]>>,
}

/// What metrics are read from.
pub struct Sources {
    /// Shards.
    pub shards: Arc<Shards>,
    /// Lanes.
    pub lanes: Arc<Lanes>,
    /// The disk.
    pub disk: Arc<Disk>,
    /// The read pool.
    pub reads: Arc<ReadCounters>,
    /// Status.
    pub board: Arc<Board>,
    /// Memory.
    pub memory: Arc<Memory>,
    /// Links.
    pub endpoint: Endpoint,
}

impl Metrics {
    /// A recorder of the node's own: several nodes may live in one process.
    ///
    /// # Errors
    /// [`ServerError::Ended`] if the exporter refuses the histogram's bounds.
    pub fn new(sources: Sources) -> Result<Metrics, ServerError> {
        let bounds = BOUNDS.map(seconds);
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(LATENCY.to_owned()), &bounds)
            .map_err(|err| ServerError::Ended { part: "metrics", reason: err.to_string() })?
            .build_recorder();
        let published = vec![Default::default(); sources.shards.all().len()];
        let what = SharedString::const_str("From a request's arrival to its answer");
        recorder.describe_histogram(KeyName::from_const_str(LATENCY), Some(Unit::Seconds), what);
        Ok(Metrics { recorder, sources, published: Mutex::new(published) })
    }

    /// Reads all numbers and writes them as Prometheus text.
    pub fn render(&self) -> String {
        self.publish_shards();
        self.publish_node();
        self.recorder.handle().run_upkeep();
        self.recorder.handle().render()
    }

    fn counters(&self, labels: &[Label], numbers: Vec<Number<u64>>) {
        for (name, what, value) in numbers {
            self.recorder.describe_counter(KeyName::from_const_str(name), None, SharedString::const_str(what));
            self.recorder.register_counter(&Key::from_parts(name, labels.to_vec()), &METADATA).absolute(value);
        }
    }

    fn gauges(&self, labels: &[Label], numbers: Vec<Number<f64>>) {
        for (name, what, value) in numbers {
            self.recorder.describe_gauge(KeyName::from_const_str(name), None, SharedString::const_str(what));
            self.recorder.register_gauge(&Key::from_parts(name, labels.to_vec()), &METADATA).set(value);
        }
    }

    fn publish_shards(&self) {
        let mut published = self.published.lock().expect("nothing panics while it holds this lock");
        for (index, (shard, published)) in self.sources.shards.all().iter().zip(published.iter_mut()).enumerate() {
            let labels = [Label::new("shard", index.to_string())];
            self.counters(&labels, request_counters(shard));
            self.counters(&labels, peer_counters(shard));
            self.counters(&labels, scrub_counters(shard));
            self.gauges(&labels, shard_gauges(shard));
            self.publish_latencies(index, &shard.latencies, published);
        }
    }

    fn publish_latencies(
        &self,
        shard: usize,
        latencies: &Latencies,
        published: &mut [[u64; BOUNDS.len() + 1]; Operation::ALL.len()],
    ) {
        for (operation, published) in Operation::ALL.into_iter().zip(published) {
            let labels = [Label::new("shard", shard.to_string()), Label::new("operation", operation.word())];
            let histogram = self.recorder.register_histogram(&Key::from_parts(LATENCY, labels.to_vec()), &METADATA);
            let buckets = latencies.buckets(operation);
            for (bucket, (now, before)) in buckets.into_iter().zip(published.iter_mut()).enumerate() {
                // a bucket's upper bound stands for what is in it: sums err upwards by at most a bucket's width
                let value = BOUNDS.get(bucket).map_or(f64::INFINITY, |bound| seconds(*bound));
                let value = if value.is_finite() { value } else { seconds(BOUNDS[BOUNDS.len() - 1]) * 2.0 };
                histogram.record_many(value, usize::try_from(now - *before).unwrap_or(usize::MAX));
                *before = now;
            }
            let errors = latencies.errors(operation);
            self.counters(&labels, vec![("dynkv_request_errors_total", "Requests answered with an error", errors)]);
        }
    }

    fn publish_node(&self) {
        let status = self.sources.board.status();
        self.counters(&[], node_counters(&self.sources));
        self.gauges(&[], node_gauges(&self.sources, &status));
        for member in status.members.iter().filter(|member| member.node != status.node) {
            self.gauges(&[Label::new("member", member.name.clone())], member_gauges(member));
        }
    }
}

/// Of what clients have asked a shard.
fn request_counters(shard: &Shard) -> Vec<Number<u64>> {
    let core = shard.counters();
    vec![
        ("dynkv_requests_total", "Requests of clients that shards took up", core.requests),
        ("dynkv_requests_overloaded_total", "Requests of clients that shards refused as too many", core.overloaded),
        ("dynkv_requests_expired_total", "Requests of clients older than their deadline on arrival", core.expired),
        ("dynkv_requests_rejected_total", "Requests of clients refused as wrong", core.rejected),
        ("dynkv_puts_acknowledged_total", "Puts and deletes acknowledged", core.puts_acknowledged),
        ("dynkv_puts_indeterminate_total", "Puts and deletes that ended indeterminate", core.puts_indeterminate),
        ("dynkv_puts_repeated_total", "Retries of writes that were known already", core.puts_repeated),
        ("dynkv_puts_forwarded_total", "Puts handed to a primary", core.puts_forwarded),
        ("dynkv_puts_unowned_total", "Puts coordinated without holding the key", core.puts_unowned),
        ("dynkv_gets_answered_total", "Gets answered", core.gets_answered),
        ("dynkv_gets_timed_out_total", "Gets that too few replicas answered", core.gets_timed_out),
        (
            "dynkv_gets_unavailable_total",
            "Gets not answered because too few nodes could be reached",
            core.gets_unavailable,
        ),
        ("dynkv_record_cache_hits_total", "Operations whose record was found in the record cache", core.found.hits),
        ("dynkv_record_cache_misses_total", "Operations for whose record the engine was asked", core.found.misses),
        ("dynkv_gets_stale_total", "Gets for which nothing as new as their session token was found", core.stale),
        ("dynkv_gets_stood_in_total", "Gets whose answer counts stand-ins", core.stand_in_reads),
        (
            "dynkv_read_hedges_total",
            "Replicas asked by gets beyond those needed, since others were slow",
            core.hedges_sent,
        ),
        ("dynkv_read_digest_hits_total", "Replies to gets that named a digest in place of an object", core.digest_hits),
        (
            "dynkv_read_repairs_total",
            "Replicas that gets sent what they had found, this node included",
            core.repairs_sent,
        ),
        (
            "dynkv_read_repairs_blocking_total",
            "Gets that waited for the disks of the replicas they repaired",
            core.repairs_blocking,
        ),
        ("dynkv_gets_with_siblings_total", "Gets whose answer had siblings", core.gets_with_siblings),
        ("dynkv_scans_answered_total", "Pages of scans answered", core.scans_answered),
        ("dynkv_scans_timed_out_total", "Pages of scans that too few replicas answered", core.scans_timed_out),
    ]
}

/// Of what a shard and its peers have asked each other.
fn peer_counters(shard: &Shard) -> Vec<Number<u64>> {
    let (core, inbox) = (shard.counters(), shard.inbox.counters());
    vec![
        ("dynkv_answers_late_total", "Answers of replicas after the client's", core.late_answers),
        ("dynkv_outdated_frames_total", "Frames of earlier runs of nodes, not listened to", core.outdated),
        ("dynkv_answers_stray_total", "Answers of replicas to nothing known", core.stray_answers),
        ("dynkv_replica_requests_resent_total", "Requests sent to a replica once more", core.resent),
        (
            "dynkv_replica_requests_withheld_total",
            "Requests not sent, as a peer had too many or did not answer",
            core.withheld,
        ),
        (
            "dynkv_breaker_openings_total",
            "Times that a peer has stopped being asked because it did not answer",
            core.breaker_openings,
        ),
        ("dynkv_objects_merged_total", "Objects of peers merged", core.merged),
        ("dynkv_peer_requests_refused_total", "Requests of peers refused", core.refused),
        ("dynkv_hints_written_total", "Hints given for nodes that missed a write", core.hints_written),
        ("dynkv_hints_replayed_total", "Hints whose objects have come to where they belong", core.hints_replayed),
        (
            "dynkv_hints_rerouted_total",
            "Hints replayed to today's owners instead of the node they were given for",
            core.hints_rerouted,
        ),
        (
            "dynkv_hints_expired_total",
            "Hints dropped for their age; no acknowledgement rested on them",
            core.hints_expired,
        ),
        (
            "dynkv_hints_refused_total",
            "Hints not given because too much waits; no acknowledgement rests on them",
            core.hints_refused,
        ),
        ("dynkv_hints_dropped_total", "Hints dropped on an operator's order", core.hints_dropped),
        (
            "dynkv_trees_compared_total",
            "Merkle trees whose roots were compared with another node's",
            core.trees_compared,
        ),
        ("dynkv_trees_differing_total", "Merkle trees that differed from another node's", core.trees_differing),
        ("dynkv_trees_agreed_total", "Merkle trees that were as another node's, or made so", core.trees_agreed),
        ("dynkv_exchange_keys_differing_total", "Keys that differed from another node's", core.keys_differing),
        ("dynkv_exchange_objects_total", "Objects sent or fetched because replicas differed", core.objects_exchanged),
        (
            "dynkv_exchange_objects_failed_total",
            "Objects not brought to where they were missed, or unreadable",
            core.objects_unexchanged,
        ),
        ("dynkv_exchange_bytes_total", "Bytes of comparisons begun here, both ways", core.exchange_bytes),
        ("dynkv_inbox_requests_refused_total", "Requests handed back because a shard's queue was full", inbox.refused),
        (
            "dynkv_inbox_answers_dropped_total",
            "Answers of peers dropped because a shard's queue was full",
            inbox.dropped,
        ),
    ]
}

/// Of the scrub, and of what it, or whoever else, has found.
fn scrub_counters(shard: &Shard) -> Vec<Number<u64>> {
    let core = shard.counters();
    vec![
        ("dynkv_reaping_rounds_total", "Reaping rounds that have come to their end", core.reaping_rounds),
        (
            "dynkv_reaping_rounds_given_up_total",
            "Reaping rounds that somebody was in the way of",
            core.reaping_rounds_given_up,
        ),
        ("dynkv_tombstones_reaped_total", "Tombstones that all members were told to delete", core.tombstones_reaped),
        ("dynkv_tombstones_left_total", "Tombstones left to later reaping rounds", core.tombstones_left),
        ("dynkv_tombstones_deleted_total", "Tombstones deleted here", core.reaped_here),
        ("dynkv_scrub_records_total", "Records read to see whether they are what was written", core.scrubbed_records),
        ("dynkv_scrub_bytes_total", "Bytes of these records", core.scrubbed_bytes),
        ("dynkv_scrub_rotten_total", "Of these records, those that were not what was written", core.records_rotten),
        (
            "dynkv_scrub_hopeless_total",
            "Of the rotten ones, those that stay since no other node has what they held; each time met",
            core.records_hopeless,
        ),
        ("dynkv_scrub_wiped_total", "Rotten records wiped, to come back from other nodes", core.records_wiped),
        (
            "dynkv_scrub_stretches_wiped_total",
            "Stretches of keys that could not be read, wiped to come back from other nodes",
            core.stretches_wiped,
        ),
        (
            "dynkv_scrub_leaves_corrected_total",
            "Leaves of Merkle trees whose sums were not those of their data",
            core.leaves_corrected,
        ),
        (
            "dynkv_scrub_tombstones_reindexed_total",
            "Entries of the index of tombstones that were not what their records say",
            core.tombstones_reindexed,
        ),
        ("dynkv_scrub_failed_total", "Times that the disk failed to answer the scrub", core.scrubs_failed),
    ]
}

fn shard_gauges(shard: &Shard) -> Vec<Number<f64>> {
    let (core, inbox) = (shard.counters(), shard.inbox.counters());
    vec![
        ("dynkv_requests_in_flight", "Requests of clients waiting for an answer", core.in_flight as f64),
        ("dynkv_requests_lingering", "Requests answered, with replicas still to be heard", core.lingering as f64),
        ("dynkv_operations_parked", "Operations waiting for the disk", core.parked as f64),
        ("dynkv_acknowledgements_unsynced", "Acknowledgements waiting for a sync", core.unsynced as f64),
        ("dynkv_record_cache_bytes", "Bytes of the records kept in memory", core.found.cached_bytes as f64),
        ("dynkv_inbox_requests", "Requests waiting in a shard's queue", inbox.waiting as f64),
        ("dynkv_inbox_bytes", "Bytes of the requests and answers waiting in a shard's queue", inbox.bytes as f64),
        ("dynkv_replica_requests_in_flight", "Requests that peers have and have not answered", core.with_peers as f64),
        ("dynkv_breakers_open", "Peers that are not asked because they do not answer", core.breakers_open as f64),
        ("dynkv_hints", "Keys kept for other nodes", core.hints_waiting as f64),
        ("dynkv_hints_under_way", "Keys on their way to other nodes", core.hints_under_way as f64),
        (
            "dynkv_exchanges_under_way",
            "Questions and transfers of comparisons under way",
            core.exchanges_under_way as f64,
        ),
        (
            "dynkv_scrub_partitions_left",
            "Partitions to be read by order, or to be counted before they can be compared",
            core.scrubs_left as f64,
        ),
        (
            "dynkv_scrub_leaves_lacking",
            "Parts of partitions that lack a rotten record which was wiped, until replicas agree",
            core.leaves_lacking as f64,
        ),
        ("dynkv_hint_bytes", "Bytes of the objects kept for other nodes", core.hint_bytes as f64),
    ]
}

fn node_counters(sources: &Sources) -> Vec<Number<u64>> {
    let Sources { lanes, disk, reads, board, memory, endpoint, .. } = sources;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sync, stats, net, lane) = (disk.sync_counters(), disk.stats(), endpoint.counters(), &lanes.counters);
    vec![
        ("dynkv_frames_sent_total", "Frames sent by shards", load(&lane.frames)),
        ("dynkv_frames_dropped_full_total", "Frames dropped because their lane was full", load(&lane.dropped_full)),
        ("dynkv_frames_dropped_gone_total", "Frames dropped because their lane was gone", load(&lane.dropped_gone)),
        ("dynkv_frames_dropped_long_total", "Frames dropped because they were too long", load(&lane.dropped_long)),
        (
            "dynkv_clients_closed_total",
            "Clients closed because they did not take their answers",
            load(&lane.closed_clients),
        ),
        ("dynkv_lanes_bad_message_total", "Lanes closed because a frame was no message", load(&lane.bad_frames)),
        (
            "dynkv_listener_overloaded_clients_total",
            "Requests of clients answered overloaded by the listener",
            load(&lane.overloaded_clients),
        ),
        (
            "dynkv_listener_overloaded_peers_total",
            "Requests of peers refused as overloaded by the listener",
            load(&lane.overloaded_peers),
        ),
        (
            "dynkv_strangers_total",
            "Links given up since who was dialed, or met before the birth, is no member",
            board.strangers(),
        ),
        ("dynkv_links_total", "Links that came up", net.links()),
        ("dynkv_connections_refused_total", "Connections refused because there were too many", net.refused()),
        ("dynkv_handshakes_failed_total", "Accepted connections that did not become links", net.failed_handshakes()),
        ("dynkv_lanes_bad_opening_total", "Lanes closed because they opened with no good frame", net.bad_openings()),
        ("dynkv_lanes_bad_frame_total", "Lanes closed because their bytes were not frames", net.bad_frames()),
        ("dynkv_storage_batches_total", "Batches written", disk.batches()),
        ("dynkv_storage_syncs_total", "Syncs that went to the disk", sync.syncs),
        ("dynkv_storage_syncs_covered_total", "Syncs that another one had covered", sync.covered),
        ("dynkv_storage_background_errors_total", "Failures of the engine's background work", stats.background_errors),
        (
            "dynkv_storage_reads_refused_total",
            "Reads refused because too many waited for the disk",
            load(&reads.refused),
        ),
        ("dynkv_memory_exhausted_total", "Times that clients began to be refused for lack of memory", memory.overs()),
    ]
}

fn node_gauges(sources: &Sources, status: &StatusReply) -> Vec<Number<f64>> {
    let Sources { lanes, disk, reads, board, memory, .. } = sources;
    let (clients, peers) = lanes.count();
    let (sync, stats, waiting) = (disk.sync_counters(), disk.stats(), reads.waiting.load(Ordering::Relaxed));
    let members = |which: fn(&&MemberStatus) -> bool| status.members.iter().filter(which).count() as f64;
    vec![
        ("dynkv_ready", "1 if the node takes requests", flag(board.not_ready().is_none())),
        ("dynkv_read_only", "1 if the node takes no writes", flag(status.phase == Phase::ReadOnly)),
        ("dynkv_ring_version", "The ring that the node follows", status.ring_version.map_or(0, |ring| ring.0) as f64),
        ("dynkv_members", "Members of the ring", status.members.len() as f64),
        ("dynkv_members_up", "Members with a live link, this node included", members(|member| member.up)),
        ("dynkv_members_convicted", "Members that this node holds for dead", members(|member| member.convicted)),
        ("dynkv_uptime_seconds", "Since the process started", status.uptime_s as f64),
        ("dynkv_lanes_clients", "Open lanes of clients", clients as f64),
        ("dynkv_lanes_peers", "Open lanes of peers", peers as f64),
        ("dynkv_lanes_queued_bytes", "Bytes waiting to be sent", lanes.queued_bytes() as f64),
        ("dynkv_storage_sync_seconds_total", "Time spent in syncs", seconds(sync.micros)),
        ("dynkv_storage_sync_seconds_longest", "The longest sync", seconds(sync.longest)),
        ("dynkv_storage_reads_waiting", "Reads waiting for the disk", waiting as f64),
        ("dynkv_storage_keys", "Keys on the disk, estimated", stats.estimated_keys as f64),
        ("dynkv_storage_disk_bytes", "Bytes of tables on the disk", stats.disk_bytes as f64),
        ("dynkv_storage_free_bytes", "Bytes free on the disk", stats.free_bytes as f64),
        ("dynkv_storage_memtable_bytes", "Bytes of memtables", stats.memtable_bytes as f64),
        ("dynkv_storage_cache_bytes", "Bytes in the block cache", stats.cache_bytes as f64),
        (
            "dynkv_storage_pending_compaction_bytes",
            "Bytes that compaction has yet to rewrite",
            stats.pending_compaction_bytes as f64,
        ),
        ("dynkv_storage_writes_stalled", "1 while writes wait for compaction", stats.writes_stalled as f64),
        ("dynkv_memory_resident_bytes", "Memory of the process", memory.resident() as f64),
        ("dynkv_memory_limit_bytes", "Memory that the process may take (limits.memory)", memory.cap() as f64),
        (
            "dynkv_memory_pressure",
            "0: enough memory; 1: background work is refused; 2: clients too",
            f64::from(memory.pressure() as u8),
        ),
    ]
}

/// Of another member, as this node finds it.
fn member_gauges(member: &MemberStatus) -> Vec<Number<f64>> {
    vec![
        ("dynkv_member_phi", "How unlikely a member's silence is", member.phi.unwrap_or(0.0)),
        ("dynkv_member_convicted", "1 if a member is held for dead", flag(member.convicted)),
    ]
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
