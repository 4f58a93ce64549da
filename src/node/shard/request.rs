//! Requests of clients: checked, placed on the ring, and handed on to their machine.

use std::time::Duration;

use bytes::Bytes;

use super::entry::{Origin, Place};
use super::{MAX_DEADLINE, Shard};
use crate::api::{ApiError, Deadline, Request, Response};
use crate::message::Address;
use crate::node::effects::{ClientRef, Effects, Output};
use crate::quorum::QuorumError;
use crate::ring::{Conflict, PreferenceList, RingView};
use crate::storage::object_key;
use crate::types::{Bucket, Key, Now, Time};
use crate::version::CausalContext;

impl From<QuorumError> for ApiError {
    fn from(error: QuorumError) -> ApiError {
        ApiError::BadRequest { reason: error.to_string() }
    }
}

/// Refuses a bucket that the layout does not have.
pub(super) fn unknown_bucket(view: &RingView, bucket: &Bucket) -> ApiError {
    let known: Vec<&str> = view.layout().buckets().keys().map(Bucket::as_str).collect();
    ApiError::UnknownBucket { bucket: bucket.to_string(), known: known.join(", ") }
}

impl Shard {
    pub(super) fn handle_client(
        &mut self,
        now: Now,
        from: ClientRef,
        arrived: Time,
        request: Request,
        fx: &mut Effects,
    ) {
        if request.is_traced() {
            self.tracer.begin(now.time, Origin::Client(from), arrived);
        }
        if let Err(error) = self.take_up(now, from, arrived, request, fx) {
            match &error {
                ApiError::Overloaded => self.counters.overloaded += 1,
                ApiError::Expired => self.counters.expired += 1,
                ApiError::Unavailable { .. } => self.counters.puts_unavailable += 1,
                _ => self.counters.rejected += 1,
            }
            respond(from, Response::error(error), fx);
        }
        self.tracer.taken_up();
    }

    fn take_up(
        &mut self,
        now: Now,
        from: ClientRef,
        arrived: Time,
        request: Request,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        if self.draining {
            return Err(ApiError::NotReady { reason: "it is about to stop".into() });
        }
        if self.waiting >= self.config.max_inflight {
            return Err(ApiError::Overloaded);
        }
        match request {
            Request::Get(get) => {
                let deadline = expiry(now, arrived, get.deadline)?;
                self.start_get(now, from, get, deadline, fx)?;
            }
            Request::Put(put) => {
                let deadline = expiry(now, arrived, put.header.deadline)?;
                self.start_put(now, from, put, deadline, fx)?;
            }
            Request::Scan(scan) => {
                let deadline = expiry(now, arrived, scan.deadline)?;
                self.start_scan(now, from, scan, deadline, fx)?;
            }
            Request::Where(whereabouts) => {
                let deadline = expiry(now, arrived, whereabouts.deadline)?;
                self.start_where(now, from, whereabouts, deadline, fx)?;
            }
            Request::Explain(explain) => self.explain(now, from, &explain, fx)?,
            Request::Ring | Request::Status | Request::Hints(_) | Request::Repair(_) | Request::Tombstones(_) => {
                return Err(ApiError::BadRequest { reason: "a question for the node, not for a shard".into() });
            }
        }
        self.counters.requests += 1;
        Ok(())
    }

    /// Where a key lives.
    pub(super) fn place(&self, bucket: &Bucket, key: &Key) -> Result<Place, ApiError> {
        let view = self.serving_view().ok_or_else(|| ApiError::NotReady { reason: "it has no ring yet".into() })?;
        let config = view.layout().bucket(bucket).ok_or_else(|| unknown_bucket(view, bucket))?;
        let (partition, token) = view.partition_of(bucket, key);
        let list = view.preference(partition, bucket).ok_or_else(|| unknown_bucket(view, bucket))?;
        Ok(Place {
            address: Address { ring: view.version(), partition, bucket: bucket.clone(), key: key.clone() },
            key: Bytes::from(object_key(partition, token, bucket, key)),
            token,
            slots: list.slots().to_vec(),
            own: list.slot_of(self.node),
            last_write_wins: config.conflict == Conflict::Lww,
        })
    }

    /// The preference list of a partition for a bucket.
    pub(super) fn preference(
        &self,
        partition: crate::types::PartitionId,
        bucket: &Bucket,
    ) -> Result<&PreferenceList, ApiError> {
        let view = self.serving_view().ok_or_else(|| ApiError::NotReady { reason: "it has no ring yet".into() })?;
        if u32::from(partition.0) >= view.layout().partitions().count() {
            let last = view.layout().partitions().count() - 1;
            return Err(ApiError::BadRequest {
                reason: format!("there is no partition {}; the last is {last}", partition.0),
            });
        }
        view.preference(partition, bucket).ok_or_else(|| unknown_bucket(view, bucket))
    }

    /// The context that a client hands back.
    pub(super) fn open_context(
        &self,
        bucket: &Bucket,
        key: &Key,
        token: Option<&Bytes>,
    ) -> Result<CausalContext, ApiError> {
        match token {
            None => Ok(CausalContext::default()),
            Some(token) => {
                self.sealer.open(bucket, key, token).map_err(|error| ApiError::BadContext { reason: error.to_string() })
            }
        }
    }

    /// The context that a client is handed.
    pub(super) fn seal(&self, place: &Place, context: &CausalContext) -> Bytes {
        self.sealer.seal(&place.address.bucket, &place.address.key, context)
    }
}

/// When a request that arrived with `deadline` stops being of use, by this node's clock.
pub(super) fn expiry(now: Now, arrived: Time, deadline: Deadline) -> Result<Time, ApiError> {
    let remaining = Duration::from_millis(deadline.remaining_ms.into()).min(MAX_DEADLINE);
    let sent = match deadline.server_tick {
        0 => arrived,
        tick => arrived.min(Time::from_micros(tick)),
    };
    let expiry = sent + remaining;
    if expiry > now.time { Ok(expiry) } else { Err(ApiError::Expired) }
}

/// Answers a client, once all that stands in this drain's batch is written.
pub(super) fn respond(to: ClientRef, response: Response, fx: &mut Effects) {
    fx.after_written.push(Output::Respond { to, response });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    #[track_caller]
    fn check(now: u64, arrived: u64, tick: u64, remaining_ms: u32, expected: Result<u64, ApiError>) {
        let now = Now { time: at(now), wall_ms: 0 };
        let deadline = Deadline { remaining_ms, server_tick: tick * 1000 };
        assert_eq!(expiry(now, at(arrived), deadline), expected.map(at));
    }

    #[test]
    fn a_deadline_runs_from_the_moment_of_sending() {
        check(10, 10, 0, 100, Ok(110));
        check(10, 10, 4, 100, Ok(104));
        check(10, 10, 40, 100, Ok(110));
    }

    #[test]
    fn a_request_that_lay_in_a_buffer_past_its_deadline_is_not_executed() {
        check(500, 499, 300, 150, Err(ApiError::Expired));
        check(500, 300, 0, 200, Err(ApiError::Expired));
    }

    #[test]
    fn deadlines_are_bounded() {
        check(0, 0, 0, u32::MAX, Ok(60_000));
    }
}
