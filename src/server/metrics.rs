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
use super::shard::Shards;
use crate::api::Phase;
use crate::net::Endpoint;

/// Counters of shards: name, what it counts.
const SHARD_COUNTERS: [(&str, &str); 36] = [
    ("dynkv_requests_total", "Requests of clients that shards took up"),
    ("dynkv_requests_overloaded_total", "Requests of clients that shards refused as too many"),
    ("dynkv_requests_expired_total", "Requests of clients older than their deadline on arrival"),
    ("dynkv_requests_rejected_total", "Requests of clients refused as wrong"),
    ("dynkv_puts_acknowledged_total", "Puts and deletes acknowledged"),
    ("dynkv_puts_indeterminate_total", "Puts and deletes that ended indeterminate"),
    ("dynkv_puts_repeated_total", "Retries of writes that were known already"),
    ("dynkv_puts_forwarded_total", "Puts handed to a primary"),
    ("dynkv_puts_unowned_total", "Puts coordinated without holding the key"),
    ("dynkv_gets_answered_total", "Gets answered"),
    ("dynkv_gets_timed_out_total", "Gets that too few replicas answered"),
    ("dynkv_gets_unavailable_total", "Gets not answered because too few nodes could be reached"),
    ("dynkv_gets_stale_total", "Gets for which nothing as new as their session token was found"),
    ("dynkv_gets_stood_in_total", "Gets whose answer counts stand-ins"),
    ("dynkv_read_hedges_total", "Replicas asked by gets beyond those needed, since others were slow"),
    ("dynkv_read_digest_hits_total", "Replies to gets that named a digest in place of an object"),
    ("dynkv_read_repairs_total", "Replicas that gets found behind and sent the result"),
    ("dynkv_read_repairs_blocking_total", "Gets that waited for the disks of the replicas they repaired"),
    ("dynkv_gets_with_siblings_total", "Gets whose answer had siblings"),
    ("dynkv_scans_answered_total", "Pages of scans answered"),
    ("dynkv_scans_timed_out_total", "Pages of scans that too few replicas answered"),
    ("dynkv_answers_late_total", "Answers of replicas after the client's"),
    ("dynkv_answers_stray_total", "Answers of replicas to nothing known"),
    ("dynkv_replica_requests_resent_total", "Requests sent to a replica once more"),
    ("dynkv_replica_requests_withheld_total", "Requests not sent, as a peer had too many or did not answer"),
    ("dynkv_breaker_openings_total", "Times that a peer has stopped being asked because it did not answer"),
    ("dynkv_objects_merged_total", "Objects of peers merged"),
    ("dynkv_peer_requests_refused_total", "Requests of peers refused"),
    ("dynkv_hints_written_total", "Hints given for nodes that missed a write"),
    ("dynkv_hints_replayed_total", "Hints whose objects have come to where they belong"),
    ("dynkv_hints_rerouted_total", "Hints replayed to today's owners instead of the node they were given for"),
    ("dynkv_hints_expired_total", "Hints dropped for their age; no acknowledgement rested on them"),
    ("dynkv_hints_refused_total", "Hints not given because too much waits; no acknowledgement rests on them"),
    ("dynkv_hints_dropped_total", "Hints dropped on an operator's order"),
    ("dynkv_inbox_requests_refused_total", "Requests handed back because a shard's queue was full"),
    ("dynkv_inbox_answers_dropped_total", "Answers of peers dropped because a shard's queue was full"),
];

/// Gauges of shards.
const SHARD_GAUGES: [(&str, &str); 9] = [
    ("dynkv_requests_in_flight", "Requests of clients waiting for an answer"),
    ("dynkv_requests_lingering", "Requests answered, with replicas still to be heard"),
    ("dynkv_operations_parked", "Operations waiting for the disk"),
    ("dynkv_inbox_requests", "Requests waiting in a shard's queue"),
    ("dynkv_inbox_bytes", "Bytes of the requests and answers waiting in a shard's queue"),
    ("dynkv_replica_requests_in_flight", "Requests that peers have and have not answered"),
    ("dynkv_breakers_open", "Peers that are not asked because they do not answer"),
    ("dynkv_hints", "Keys kept for other nodes"),
    ("dynkv_hint_bytes", "Bytes of the objects kept for other nodes"),
];

/// Counters of the whole node.
const NODE_COUNTERS: [(&str, &str); 19] = [
    ("dynkv_frames_sent_total", "Frames sent by shards"),
    ("dynkv_frames_dropped_full_total", "Frames dropped because their lane was full"),
    ("dynkv_frames_dropped_gone_total", "Frames dropped because their lane was gone"),
    ("dynkv_frames_dropped_long_total", "Frames dropped because they were too long"),
    ("dynkv_clients_closed_total", "Clients closed because they did not take their answers"),
    ("dynkv_lanes_bad_message_total", "Lanes closed because a frame was no message"),
    ("dynkv_listener_overloaded_clients_total", "Requests of clients answered overloaded by the listener"),
    ("dynkv_listener_overloaded_peers_total", "Requests of peers refused as overloaded by the listener"),
    ("dynkv_links_total", "Links that came up"),
    ("dynkv_connections_refused_total", "Connections refused because there were too many"),
    ("dynkv_handshakes_failed_total", "Accepted connections that did not become links"),
    ("dynkv_lanes_bad_opening_total", "Lanes closed because they opened with no good frame"),
    ("dynkv_lanes_bad_frame_total", "Lanes closed because their bytes were not frames"),
    ("dynkv_storage_batches_total", "Batches written"),
    ("dynkv_storage_syncs_total", "Syncs that went to the disk"),
    ("dynkv_storage_syncs_covered_total", "Syncs that another one had covered"),
    ("dynkv_storage_background_errors_total", "Failures of the engine's background work"),
    ("dynkv_storage_reads_refused_total", "Reads refused because too many waited for the disk"),
    ("dynkv_memory_exhausted_total", "Times that clients began to be refused for lack of memory"),
];

/// Gauges of the whole node.
const NODE_GAUGES: [(&str, &str); 22] = [
    ("dynkv_ready", "1 if the node takes requests"),
    ("dynkv_read_only", "1 if the node takes no writes"),
    ("dynkv_ring_version", "The ring that the node follows"),
    ("dynkv_members", "Members of the ring"),
    ("dynkv_members_up", "Members with a live link, this node included"),
    ("dynkv_members_convicted", "Members that this node holds for dead"),
    ("dynkv_uptime_seconds", "Since the process started"),
    ("dynkv_lanes_clients", "Open lanes of clients"),
    ("dynkv_lanes_peers", "Open lanes of peers"),
    ("dynkv_lanes_queued_bytes", "Bytes waiting to be sent"),
    ("dynkv_storage_sync_seconds_longest", "The longest sync"),
    ("dynkv_storage_reads_waiting", "Reads waiting for the disk"),
    ("dynkv_storage_keys", "Keys on the disk, estimated"),
    ("dynkv_storage_disk_bytes", "Bytes of tables on the disk"),
    ("dynkv_storage_free_bytes", "Bytes free on the disk"),
    ("dynkv_storage_memtable_bytes", "Bytes of memtables"),
    ("dynkv_storage_cache_bytes", "Bytes in the block cache"),
    ("dynkv_storage_pending_compaction_bytes", "Bytes that compaction has yet to rewrite"),
    ("dynkv_storage_writes_stalled", "1 while writes wait for compaction"),
    ("dynkv_memory_resident_bytes", "Memory of the process"),
    ("dynkv_memory_limit_bytes", "Memory that the process may take (limits.memory)"),
    ("dynkv_memory_pressure", "0: enough memory; 1: background work is refused; 2: clients too"),
];

/// From a request's arrival to the release of its answer, by operation.
const LATENCY: &str = "dynkv_request_seconds";
/// Requests answered with an error, by operation.
const ERRORS: &str = "dynkv_request_errors_total";
/// Seconds spent in syncs.
const SYNC_SECONDS: &str = "dynkv_storage_sync_seconds_total";

/// How unlikely a member's silence is, by member.
const PHI: &str = "dynkv_member_phi";
/// Whether it is held for dead, by member.
const CONVICTED: &str = "dynkv_member_convicted";

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
        let metrics = Metrics { recorder, sources, published: Mutex::new(published) };
        metrics.describe();
        Ok(metrics)
    }

    fn describe(&self) {
        let name = |name: &'static str| KeyName::from_const_str(name);
        for (counter, what) in SHARD_COUNTERS.into_iter().chain(NODE_COUNTERS) {
            self.recorder.describe_counter(name(counter), None, SharedString::const_str(what));
        }
        for (gauge, what) in SHARD_GAUGES.into_iter().chain(NODE_GAUGES) {
            self.recorder.describe_gauge(name(gauge), None, SharedString::const_str(what));
        }
        let what = "From a request's arrival to its answer";
        self.recorder.describe_histogram(name(LATENCY), Some(Unit::Seconds), SharedString::const_str(what));
        self.recorder.describe_counter(name(ERRORS), None, SharedString::const_str("Requests answered with an error"));
        for (gauge, what) in
            [(PHI, "How unlikely a member's silence is"), (CONVICTED, "1 if a member is held for dead")]
        {
            self.recorder.describe_gauge(name(gauge), None, SharedString::const_str(what));
        }
        let what = "Time spent in syncs";
        self.recorder.describe_gauge(name(SYNC_SECONDS), Some(Unit::Seconds), SharedString::const_str(what));
    }

    /// Reads all numbers and writes them as Prometheus text.
    pub fn render(&self) -> String {
        self.publish_shards();
        self.publish_node();
        self.recorder.handle().run_upkeep();
        self.recorder.handle().render()
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>, value: u64) {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA).absolute(value);
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>, value: f64) {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA).set(value);
    }

    fn publish_shards(&self) {
        let mut published = self.published.lock().expect("nothing panics while it holds this lock");
        for (index, (shard, published)) in self.sources.shards.all().iter().zip(published.iter_mut()).enumerate() {
            let label = || vec![Label::new("shard", index.to_string())];
            let (core, inbox) = (shard.counters(), shard.inbox.counters());
            let counters = [
                core.requests,
                core.overloaded,
                core.expired,
                core.rejected,
                core.puts_acknowledged,
                core.puts_indeterminate,
                core.puts_repeated,
                core.puts_forwarded,
                core.puts_unowned,
                core.gets_answered,
                core.gets_timed_out,
                core.gets_unavailable,
                core.stale,
                core.stand_in_reads,
                core.hedges_sent,
                core.digest_hits,
                core.repairs_sent,
                core.repairs_blocking,
                core.gets_with_siblings,
                core.scans_answered,
                core.scans_timed_out,
                core.late_answers,
                core.stray_answers,
                core.resent,
                core.withheld,
                core.breaker_openings,
                core.merged,
                core.refused,
                core.hints_written,
                core.hints_replayed,
                core.hints_rerouted,
                core.hints_expired,
                core.hints_refused,
                core.hints_dropped,
                inbox.refused,
                inbox.dropped,
            ];
            let gauges = [
                core.in_flight,
                core.lingering,
                core.parked,
                inbox.waiting,
                inbox.bytes,
                core.with_peers,
                core.breakers_open,
                core.hints_waiting,
                core.hint_bytes,
            ];
            SHARD_COUNTERS.iter().zip(counters).for_each(|((name, _), value)| self.counter(name, label(), value));
            SHARD_GAUGES.iter().zip(gauges).for_each(|((name, _), value)| self.gauge(name, label(), value as f64));
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
            let labels = || vec![Label::new("shard", shard.to_string()), Label::new("operation", operation.word())];
            let histogram = self.recorder.register_histogram(&Key::from_parts(LATENCY, labels()), &METADATA);
            let buckets = latencies.buckets(operation);
            for (bucket, (now, before)) in buckets.into_iter().zip(published.iter_mut()).enumerate() {
                // a bucket's upper bound stands for what is in it: sums err upwards by at most a bucket's width
                let value = BOUNDS.get(bucket).map_or(f64::INFINITY, |bound| seconds(*bound));
                let value = if value.is_finite() { value } else { seconds(BOUNDS[BOUNDS.len() - 1]) * 2.0 };
                histogram.record_many(value, usize::try_from(now - *before).unwrap_or(usize::MAX));
                *before = now;
            }
            self.counter(ERRORS, labels(), latencies.errors(operation));
        }
    }

    fn publish_node(&self) {
        let Sources { lanes, disk, reads, board, memory, endpoint, .. } = &self.sources;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (sync, stats, net, lane) = (disk.sync_counters(), disk.stats(), endpoint.counters(), &lanes.counters);
        let counters = [
            load(&lane.frames),
            load(&lane.dropped_full),
            load(&lane.dropped_gone),
            load(&lane.dropped_long),
            load(&lane.closed_clients),
            load(&lane.bad_frames),
            load(&lane.overloaded_clients),
            load(&lane.overloaded_peers),
            net.links(),
            net.refused(),
            net.failed_handshakes(),
            net.bad_openings(),
            net.bad_frames(),
            disk.batches(),
            sync.syncs,
            sync.covered,
            stats.background_errors,
            load(&reads.refused),
            memory.overs(),
        ];
        let status = board.status();
        let (clients, peers) = lanes.count();
        let gauges = [
            f64::from(u8::from(board.not_ready().is_none())),
            f64::from(u8::from(status.phase == Phase::ReadOnly)),
            status.ring_version.map_or(0, |ring| ring.0) as f64,
            status.members.len() as f64,
            status.members.iter().filter(|member| member.up).count() as f64,
            status.members.iter().filter(|member| member.convicted).count() as f64,
            status.uptime_s as f64,
            clients as f64,
            peers as f64,
            lanes.queued_bytes() as f64,
            seconds(sync.longest),
            load(&reads.waiting) as f64,
            stats.estimated_keys as f64,
            stats.disk_bytes as f64,
            stats.free_bytes as f64,
            stats.memtable_bytes as f64,
            stats.cache_bytes as f64,
            stats.pending_compaction_bytes as f64,
            stats.writes_stalled as f64,
            memory.resident() as f64,
            memory.cap() as f64,
            f64::from(memory.pressure() as u8),
        ];
        NODE_COUNTERS.iter().zip(counters).for_each(|((name, _), value)| self.counter(name, Vec::new(), value));
        NODE_GAUGES.iter().zip(gauges).for_each(|((name, _), value)| self.gauge(name, Vec::new(), value));
        self.gauge(SYNC_SECONDS, Vec::new(), seconds(sync.micros));
        for member in status.members.iter().filter(|member| member.node != status.node) {
            let label = || vec![Label::new("member", member.name.clone())];
            self.gauge(PHI, label(), member.phi.unwrap_or(0.0));
            self.gauge(CONVICTED, label(), f64::from(u8::from(member.convicted)));
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
