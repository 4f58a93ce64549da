//! What a shard has done, in plain numbers; the driver publishes them.

use crate::storage::Found;

/// Counts since the shard began, and gauges as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Requests of clients that were taken up.
    pub requests: u64,
    /// Requests of clients refused because too many were in flight.
    pub overloaded: u64,
    /// Requests of clients older than their deadline on arrival.
    pub expired: u64,
    /// Requests of clients refused as wrong.
    pub rejected: u64,
    /// Puts and deletes acknowledged.
    pub puts_acknowledged: u64,
    /// Puts and deletes that ended indeterminate.
    pub puts_indeterminate: u64,
    /// Retries of a write that was known already.
    pub puts_repeated: u64,
    /// Puts handed to a primary.
    pub puts_forwarded: u64,
    /// Puts coordinated although the key is not here, since no primary took them.
    pub puts_unowned: u64,
    /// Puts and deletes not begun, since too few nodes could be reached.
    pub puts_unavailable: u64,
    /// Nodes called to stand in for a primary in a put.
    pub stand_ins_called: u64,
    /// Gets answered.
    pub gets_answered: u64,
    /// Gets that too few replicas answered.
    pub gets_timed_out: u64,
    /// Gets not answered, since too few nodes could be reached.
    pub gets_unavailable: u64,
    /// Gets for which no result was found that is as new as what their reader had seen.
    pub stale: u64,
    /// Gets whose answer counts stand-ins.
    pub stand_in_reads: u64,
    /// Replicas that gets have asked beyond those they needed, since others were slow.
    pub hedges_sent: u64,
    /// Replies that said "the same" in place of an object.
    pub digest_hits: u64,
    /// Replicas that gets have sent what they had found, this node included: those behind, and all for a blocking repair.
    pub repairs_sent: u64,
    /// Gets that have waited until the result was on the disks of enough replicas.
    pub repairs_blocking: u64,
    /// Gets whose answer had siblings.
    pub gets_with_siblings: u64,
    /// Scans answered.
    pub scans_answered: u64,
    /// Scans that too few replicas answered.
    pub scans_timed_out: u64,
    /// Answers that came after the client's.
    pub late_answers: u64,
    /// Reaping rounds that have come to their end.
    pub reaping_rounds: u64,
    /// Reaping rounds that somebody was in the way of.
    pub reaping_rounds_given_up: u64,
    /// Tombstones that all members were told to delete.
    pub tombstones_reaped: u64,
    /// Tombstones left to later rounds.
    pub tombstones_left: u64,
    /// Tombstones deleted here.
    pub reaped_here: u64,
    /// Answers to nothing that is known any more.
    pub stray_answers: u64,
    /// What earlier runs of nodes have said than the latest that was granted here; it was not listened to.
    pub outdated: u64,
    /// Requests sent to a replica once more.
    pub resent: u64,
    /// Requests to replicas not sent, as a peer had too many or did not answer.
    pub withheld: u64,
    /// Times that a peer has stopped being asked because it did not answer.
    pub breaker_openings: u64,
    /// Objects of peers merged.
    pub merged: u64,
    /// Requests of peers refused.
    pub refused: u64,
    /// Hints given, renewals apart.
    pub hints_written: u64,
    /// Hints whose objects have come to where they belong.
    pub hints_replayed: u64,
    /// Of these, those whose node owns the object no more: it went to today's owners.
    pub hints_rerouted: u64,
    /// Hints dropped for their age; no acknowledgement rested on them.
    pub hints_expired: u64,
    /// Hints not given since too much waits already; no acknowledgement rests on them.
    pub hints_refused: u64,
    /// Hints dropped on an operator's order.
    pub hints_dropped: u64,
    /// Keys in the index of hints that nobody can have written: removed.
    pub hints_unreadable: u64,
    /// Orders of operators about repair.
    pub repair_orders: u64,
    /// Roots of trees that were compared with a peer's.
    pub trees_compared: u64,
    /// Of these, those that differed.
    pub trees_differing: u64,
    /// How often a tree was the same as a peer's, or was made so.
    pub trees_agreed: u64,
    /// Keys that were found to differ.
    pub keys_differing: u64,
    /// Objects that were sent for that and merged, either way.
    pub objects_exchanged: u64,
    /// Objects, and keys that cannot be read, that were not merged where they should have been.
    pub objects_unexchanged: u64,
    /// Bytes of the lists and objects of comparisons that this node began, both ways.
    pub exchange_bytes: u64,
    /// Records that the scrub has read.
    pub scrubbed_records: u64,
    /// Their bytes.
    pub scrubbed_bytes: u64,
    /// Of these records, those that are not what was written.
    pub records_rotten: u64,
    /// Of these, those that stay since no other node has what they held; counted each time that they are met.
    pub records_hopeless: u64,
    /// Rotten records that were wiped, whoever found them, to come back from other nodes.
    pub records_wiped: u64,
    /// Stretches of keys that could not be read and were wiped, to come back from other nodes.
    pub stretches_wiped: u64,
    /// Leaves of trees whose sums were not those of their data.
    pub leaves_corrected: u64,
    /// Entries of the index of tombstones that were not what their records say.
    pub tombstones_reindexed: u64,
    /// Times that the scrub met a disk that failed to answer.
    pub scrubs_failed: u64,
    /// Partitions to be read by order, or to be counted before their trees say what they hold.
    pub scrubs_left: u64,
    /// Leaves that lack a rotten record which was wiped.
    pub leaves_lacking: u64,
    /// Keys that wait for other nodes.
    pub hints_waiting: u64,
    /// Of these, objects that are on their way.
    pub hints_under_way: u64,
    /// Questions and transfers of the exchange under way.
    pub exchanges_under_way: u64,
    /// Bytes of their objects.
    pub hint_bytes: u64,
    /// Requests of clients waiting for an answer.
    pub in_flight: u64,
    /// Requests answered, of which some replica has not been heard.
    pub lingering: u64,
    /// Requests that are with peers and not answered.
    pub with_peers: u64,
    /// Peers that are not asked because they do not answer.
    pub breakers_open: u64,
    /// Operations that wait for the disk.
    pub parked: u64,
    /// Answers, and copies of this node's own, that wait for a sync.
    pub unsynced: u64,
    /// Where operations have found records.
    pub found: Found,
}
