//! The floor: what the parts cost alone, the reads, writes and round trips that a request is made of.

mod quic;
mod store;

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

pub use self::quic::{Echo, Other, stream_bytes};
pub use self::store::Stores;

/// How long each part is measured.
const SPAN: Duration = Duration::from_secs(3);

/// CPU of one operation and how many there were a second.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub cpu_us: f64,
    pub per_second: f64,
}

impl Cost {
    pub fn of(operations: u64, elapsed: Duration, used: Duration) -> Cost {
        let operations = operations.max(1) as f64;
        Cost { cpu_us: used.as_secs_f64() * 1e6 / operations, per_second: operations / elapsed.as_secs_f64() }
    }
}

/// CPU of the parts at one value size and number of keys.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Read a record, write it again, in batches to the log.
    pub rewrite: Cost,
    /// Read a record.
    pub read: Cost,
    /// Send a value, get a short answer.
    pub send: Cost,
    /// Send a short question, get a value.
    pub fetch: Cost,
}

/// Bytes of a question, and of an answer without a value.
const SHORT: usize = 64;

impl Floor {
    /// Measures the parts for values of `size` bytes, and stores that were filled with such.
    pub fn of(stores: &Stores, size: usize) -> Result<Floor> {
        let (rewrite, read) = (stores.rewrite(SPAN)?, stores.read(SPAN)?);
        let runtime = crate::runtime()?;
        let send = runtime.block_on(Echo { ask: size, answer: SHORT }.closed(SPAN))?;
        let fetch = runtime.block_on(Echo { ask: SHORT, answer: size }.closed(SPAN))?;
        Ok(Floor { rewrite, read, send, fetch })
    }

    /// A put at N=3: three read-merge-writes, and a value over three hops.
    pub fn put(&self) -> f64 {
        3.0 * self.rewrite.cpu_us + 3.0 * self.send.cpu_us
    }

    /// A get at R=2: two reads, and two values brought over.
    pub fn get(&self) -> f64 {
        2.0 * self.read.cpu_us + 2.0 * self.fetch.cpu_us
    }
}

/// Microseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are far apart")
}
