//! How long requests take, from the network to the answer's release: histograms for metrics, and a log of the slow ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use crate::api::{Request, Response};
use crate::node::{ClientRef, ShardInput};
use crate::types::Time;

/// What clients ask shards for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A get.
    Get,
    /// A put.
    Put,
    /// A delete.
    Delete,
    /// A page of a scan.
    Scan,
    /// A where.
    Where,
}

impl Operation {
    /// All of them, in order.
    pub const ALL: [Operation; 5] =
        [Operation::Get, Operation::Put, Operation::Delete, Operation::Scan, Operation::Where];

    /// As in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Delete => "delete",
            Operation::Scan => "scan",
            Operation::Where => "where",
        }
    }

    fn of(request: &Request) -> Option<Operation> {
        match request {
            Request::Get(_) => Some(Operation::Get),
            Request::Put(put) if put.header.delete => Some(Operation::Delete),
            Request::Put(_) => Some(Operation::Put),
            Request::Scan(_) => Some(Operation::Scan),
            Request::Where(_) => Some(Operation::Where),
            Request::Ring
            | Request::Status
            | Request::Hints(_)
            | Request::Repair(_)
            | Request::Tombstones(_)
            | Request::Explain(_) => None,
        }
    }
}

/// Upper bounds of the histogram's buckets in microseconds; what is longer has a bucket of its own.
pub const BOUNDS: [u64; 16] = [
    100, 200, 400, 700, 1_000, 2_000, 4_000, 7_000, 10_000, 20_000, 50_000, 100_000, 300_000, 1_000_000, 3_000_000,
    10_000_000,
];

/// Counts by operation, outcome and bucket: written by one shard, read by metrics.
#[derive(Debug, Default)]
pub struct Latencies {
    buckets: [[AtomicU64; BOUNDS.len() + 1]; Operation::ALL.len()],
    errors: [AtomicU64; Operation::ALL.len()],
}

impl Latencies {
    fn record(&self, operation: Operation, took: Duration, ok: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        let at = operation as usize;
        self.buckets[at][bucket].fetch_add(1, Ordering::Relaxed);
        if !ok {
            self.errors[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests answered, by bucket.
    pub fn buckets(&self, operation: Operation) -> [u64; BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[operation as usize][bucket].load(Ordering::Relaxed))
    }

    /// Requests answered with an error.
    pub fn errors(&self, operation: Operation) -> u64 {
        self.errors[operation as usize].load(Ordering::Relaxed)
    }
}

/// A shard's requests under way. Bounded by what the shard takes: it answers every request once.
#[derive(Debug)]
pub struct Stopwatch {
    slow: Duration,
    running: BTreeMap<ClientRef, (Time, Operation)>,
}

impl Stopwatch {
    /// Logs what takes longer than `slow`.
    pub fn new(slow: Duration) -> Stopwatch {
        Stopwatch { slow, running: BTreeMap::new() }
    }

    /// Requests are about to be handled.
    pub fn start(&mut self, inputs: &[ShardInput]) {
        for input in inputs {
            if let ShardInput::Client { from, arrived, request } = input
                && let Some(operation) = Operation::of(request)
            {
                self.running.insert(*from, (*arrived, operation));
            }
        }
    }

    /// One has been answered.
    pub fn stop(&mut self, from: ClientRef, now: Time, response: &Response, latencies: &Latencies) {
        let Some((arrived, operation)) = self.running.remove(&from) else { return };
        let took = now.since(arrived);
        latencies.record(operation, took, response.result.is_ok());
        if took >= self.slow {
            let error = response.result.as_ref().err().map(ToString::to_string);
            warn!(operation = operation.word(), ?took, lane = from.lane, id = from.id, error, "slow operation");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let latencies = Latencies::default();
        for (micros, bucket) in [(0, 0), (100, 0), (101, 1), (10_000_000, 15), (10_000_001, 16)] {
            let before = latencies.buckets(Operation::Get)[bucket];
            latencies.record(Operation::Get, Duration::from_micros(micros), true);
            assert_eq!(latencies.buckets(Operation::Get)[bucket], before + 1, "{micros}");
        }
        assert_eq!(latencies.errors(Operation::Get), 0);
    }
}
