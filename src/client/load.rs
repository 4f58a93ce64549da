//! A measured load: closed loops for throughput, an open loop for latency at a given rate.
//!
//! In the open loop requests are due at fixed times, whether or not earlier ones have been answered, and latency counts
//! from the time at which a request was *due*: a cluster that stalls for a second shows a second, not one slow request
//! (no coordinated omission; Tene, "How NOT to Measure Latency"). In the closed loop latency counts from the send.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::client::Client;
use super::error::ClientError;
use super::options::{GetOptions, PutOptions};
use super::session::splitmix;
use crate::types::{Bucket, Key};

mod keys;

pub use keys::{Distribution, KeyPicker};

/// The longest latency told apart, in microseconds: longer ones count as this.
const LONGEST_US: u64 = 600_000_000;
/// Histograms that loops share, so that they rarely wait for each other.
const SHARDS: usize = 8;
/// How often the open loop's pacer looks at the clock.
const PACE: Duration = Duration::from_micros(100);

/// What load to make.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSpec {
    /// Where the keys are.
    pub bucket: Bucket,
    /// Requests under way at one time: kept up in the closed loop, a bound in the open one.
    pub in_flight: usize,
    /// Requests a second of the open loop; `None` for the closed one.
    pub rate: Option<f64>,
    /// For how long requests are made. Those under way at the end are waited for and counted.
    pub duration: Duration,
    /// Reads in a hundred requests; the others are writes.
    pub reads_percent: u8,
    /// Distinct keys.
    pub keys: u64,
    /// How keys are picked.
    pub distribution: Distribution,
    /// Bytes of a value written.
    pub value_size: usize,
    /// How keys are read.
    pub read: GetOptions,
    /// How they are written; contexts and write ids are each write's own.
    pub write: PutOptions,
    /// Writes come after a read of the key and carry its context, so that values replace each other. Without it each is a
    /// sibling of all before it, until the key has as many as it may.
    pub read_before_write: bool,
    /// The same seed makes the same sequence of keys and kinds.
    pub seed: u64,
}

impl Default for LoadSpec {
    /// Ten seconds of a closed loop, 64 in flight, 95 reads to 5 writes of 1 KiB on 100,000 keys picked evenly.
    fn default() -> LoadSpec {
        LoadSpec {
            bucket: Bucket::default(),
            in_flight: 64,
            rate: None,
            duration: Duration::from_secs(10),
            reads_percent: 95,
            keys: 100_000,
            distribution: Distribution::Uniform,
            value_size: 1024,
            read: GetOptions::default(),
            write: PutOptions::default(),
            read_before_write: true,
            seed: 1,
        }
    }
}

/// How the load went.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Requests that succeeded; a read that finds nothing does.
    pub ops: u64,
    /// Reads among them that found nothing.
    pub missing: u64,
    /// Requests that failed, after all attempts that their time allowed.
    pub errors: u64,
    /// Requests of the open loop that were due and never sent, as all in flight were taken until the end.
    pub unsent: u64,
    /// The last failure, for people.
    pub last_error: Option<String>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Microseconds of all requests that succeeded.
    pub latency: Histogram<u64>,
    /// Of the reads.
    pub reads: Histogram<u64>,
    /// Of the writes; the read before a write is not in it.
    pub writes: Histogram<u64>,
}

impl LoadReport {
    /// Requests that succeeded, a second.
    pub fn throughput(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Makes the load and waits for its end.
pub async fn run(client: &Client, spec: &LoadSpec) -> LoadReport {
    let spec = Arc::new(spec.clone());
    let loops = spec.in_flight.max(1);
    let shared = Arc::new(Shared {
        client: client.clone(),
        picker: KeyPicker::new(spec.distribution, spec.keys.max(1)),
        value: value_of(spec.value_size, spec.seed),
        started: Instant::now(),
        stop: AtomicBool::new(false),
        due: Semaphore::new(0),
        taken: AtomicU64::new(0),
        results: (0..SHARDS).map(|_| Mutex::new(Results::new())).collect(),
        spec,
    });
    let mut ends = Vec::with_capacity(loops);
    for index in 0..loops {
        let (shared, (end, ended)) = (shared.clone(), oneshot::channel::<()>());
        client.spawn("load", async move {
            shared.run(index).await;
            drop(end);
        });
        ends.push(ended);
    }
    let due = pace(&shared).await;
    for ended in ends {
        // the end of a loop is the drop of its sender
        let _ = ended.await;
    }
    let taken = shared.taken.load(Ordering::Relaxed);
    shared.report(shared.started.elapsed(), due.saturating_sub(taken))
}

/// Lets requests go when they are due, until the end; returns how many were due in the open loop.
async fn pace(shared: &Arc<Shared>) -> u64 {
    let end = shared.started + shared.spec.duration;
    let Some(rate) = shared.spec.rate else {
        tokio::time::sleep_until(end).await;
        shared.stop.store(true, Ordering::Relaxed);
        return 0;
    };
    let pacer = shared.clone();
    // A thread of its own: the runtime's timer is no finer than a millisecond, and to go there and back for every step costs as much as the
    // load itself.
    let released = tokio::task::spawn_blocking(move || pacer.release_when_due(rate)).await;
    finish(shared, released.expect("pacing does not panic")).await
}

/// Loops that are idle take what was let go last; what no loop has taken by then was never sent.
async fn finish(shared: &Shared, released: u64) -> u64 {
    for _ in 0..10 {
        if shared.taken.load(Ordering::Relaxed) >= released {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shared.stop.store(true, Ordering::Relaxed);
    shared.due.close();
    released
}

struct Shared {
    client: Client,
    spec: Arc<LoadSpec>,
    picker: KeyPicker,
    value: Bytes,
    started: Instant,
    stop: AtomicBool,
    due: Semaphore,
    taken: AtomicU64,
    results: Vec<Mutex<Results>>,
}

struct Results {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    missing: u64,
    errors: u64,
    last_error: Option<String>,
}

enum Done {
    Read { found: bool },
    Written,
}

impl Shared {
    async fn run(&self, index: usize) {
        let mut random = splitmix(self.spec.seed ^ splitmix(index as u64));
        while let Some(due) = self.next_due().await {
            random = splitmix(random);
            let read = random % 100 < u64::from(self.spec.reads_percent);
            let key = self.picker.pick(&mut random);
            let (due, done) = if read { (due, self.read(&key).await) } else { self.write(&key, due).await };
            let mut results = self.results[index % SHARDS].lock().expect("no code panics while it holds results");
            results.add(due.elapsed(), done);
        }
    }

    /// Lets requests go at this rate, until the end; returns how many.
    fn release_when_due(&self, rate: f64) -> u64 {
        let mut released = 0;
        loop {
            let elapsed = self.started.elapsed().min(self.spec.duration);
            let due = (elapsed.as_secs_f64() * rate) as u64;
            self.due.add_permits((due - released) as usize);
            released = due;
            if elapsed >= self.spec.duration {
                return released;
            }
            std::thread::sleep(PACE);
        }
    }

    /// From when the next request's latency counts; `None` at the end.
    async fn next_due(&self) -> Option<Instant> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let Some(rate) = self.spec.rate else { return Some(Instant::now()) };
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.started + Duration::from_secs_f64(number as f64 / rate))
    }

    async fn read(&self, key: &Key) -> Result<Done, ClientError> {
        let result = self.client.get(&self.spec.bucket, key, self.spec.read.clone()).await?;
        Ok(Done::Read { found: !result.is_missing() })
    }

    /// The write, and from when it counts: the read before it is not a part of it.
    async fn write(&self, key: &Key, mut due: Instant) -> (Instant, Result<Done, ClientError>) {
        let mut context = None;
        if self.spec.read_before_write {
            let began = Instant::now();
            match self.client.get(&self.spec.bucket, key, self.spec.read.clone()).await {
                Ok(found) => context = found.context,
                Err(error) => return (due, Err(error)),
            }
            due += began.elapsed();
        }
        let options = PutOptions { context, ..self.spec.write.clone() };
        let result = self.client.put(&self.spec.bucket, key, self.value.clone(), options).await;
        (due, result.map(|_| Done::Written))
    }

    fn report(&self, elapsed: Duration, unsent: u64) -> LoadReport {
        let mut all = Results::new();
        for results in &self.results {
            let results = results.lock().expect("no code panics while it holds results");
            all.reads += &results.reads;
            all.writes += &results.writes;
            all.missing += results.missing;
            all.errors += results.errors;
            all.last_error = all.last_error.or_else(|| results.last_error.clone());
        }
        let Results { reads, writes, missing, errors, last_error } = all;
        let mut latency = reads.clone();
        latency += &writes;
        LoadReport { ops: latency.len(), missing, errors, unsent, last_error, elapsed, latency, reads, writes }
    }
}

impl Results {
    fn new() -> Results {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are far apart");
        Results { reads: histogram(), writes: histogram(), missing: 0, errors: 0, last_error: None }
    }

    fn add(&mut self, latency: Duration, done: Result<Done, ClientError>) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US).max(1);
        match done {
            Ok(Done::Read { found }) => {
                self.missing += u64::from(!found);
                self.reads.saturating_record(micros);
            }
            Ok(Done::Written) => self.writes.saturating_record(micros),
            Err(error) => {
                self.errors += 1;
                self.last_error = Some(error.to_string());
            }
        }
    }
}

/// Bytes that do not compress, so that the disks have as much to do as it seems.
fn value_of(size: usize, seed: u64) -> Bytes {
    let words = (0..size.div_ceil(8) as u64).flat_map(|word| splitmix(seed ^ splitmix(word)).to_le_bytes());
    words.take(size).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut results = Results::new();
        results.add(Duration::from_micros(100), Ok(Done::Read { found: false }));
        results.add(Duration::from_secs(10_000), Ok(Done::Written));
        results.add(Duration::ZERO, Err(ClientError::NoEndpoints));
        assert_eq!((results.reads.len(), results.writes.len(), results.missing, results.errors), (1, 1, 1, 1));
        assert!(results.writes.max() >= LONGEST_US, "what is too long counts as the longest");
    }

    #[test]
    fn values_have_their_size_and_do_not_repeat() {
        let value = value_of(1001, 7);
        assert_eq!(value.len(), 1001);
        assert_ne!(value[..8], value[8..16]);
        assert_eq!(value, value_of(1001, 7));
        assert!(value_of(0, 7).is_empty());
    }
}
