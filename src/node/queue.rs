//! What waits for a shard, in the order in which it is taken.
//!
//! | queue | what waits in it | when it is full |
//! |---|---|---|
//! | notices | ring, standing, links, drained reads, ends of syncs | bounded by what makes them: few, or as many as the shard has asked for |
//! | answers | peers' answers | the newest is dropped and counted; the request is sent again or times out |
//! | requests | clients' and peers' requests | handed back: the sender answers "overloaded" at once |
//!
//! They are taken in this order, so that overload starves neither acknowledgements nor the news that end it. Requests are
//! refused by their [`Class`], what nobody waits for first. Both counts and bytes are bounded; an empty queue takes any one
//! input, however long, so that none is refused for ever.

use std::collections::VecDeque;

use super::effects::ShardInput;
use crate::api::Request;
use crate::message::{Found, PeerAnswer, PeerRequest};

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Requests of clients and peers.
    pub requests: usize,
    /// Bytes of them.
    pub request_bytes: usize,
    /// Answers of peers.
    pub answers: usize,
    /// Bytes of them.
    pub answer_bytes: usize,
}

/// Answers that may wait, for each request that may: each of `max_inflight` requests asks up to four replicas, and what is
/// with a peer is bounded.
const ANSWERS_PER_REQUEST: usize = 2;

impl InboxLimits {
    /// For a shard that may have `max_inflight` requests of clients under way, and takes as many of peers; requests may hold
    /// `bytes`, and answers as much again.
    pub fn of(max_inflight: usize, bytes: usize) -> InboxLimits {
        let requests = max_inflight.saturating_mul(2);
        let answers = requests.saturating_mul(ANSWERS_PER_REQUEST);
        InboxLimits { requests, request_bytes: bytes, answers, answer_bytes: bytes }
    }
}

/// How short of memory the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    Low,
    /// Little is left: background work and hedges are refused.
    High,
    /// None is left: clients are refused too.
    Over,
}

/// Who waits for a request, those who can wait best first: under load they are refused in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nobody: it comes again.
    Background,
    /// Somebody whose answer is on its way from another replica as well.
    Hedge,
    /// A client of this node, which has no answer of anybody yet.
    Client,
    /// A client of a peer, which has done its part of the work already.
    Peer,
}

impl Class {
    /// The class of a request; of any other input the last to be refused.
    pub fn of(input: &ShardInput) -> Class {
        match input {
            ShardInput::Client { .. } => Class::Client,
            ShardInput::Peer { request, .. } if request.is_background() => Class::Background,
            ShardInput::Peer { request: PeerRequest::Fetch(fetch), .. } if fetch.hedge => Class::Hedge,
            _ => Class::Peer,
        }
    }

    /// Eighths of the room that requests of this class may fill; what is beyond is kept for the classes above.
    fn eighths(self, pressure: Pressure) -> usize {
        match (self, pressure) {
            (Class::Background | Class::Hedge, Pressure::High | Pressure::Over) | (Class::Client, Pressure::Over) => 0,
            (Class::Background, Pressure::Low) => 4,
            (Class::Hedge, Pressure::Low) => 6,
            (Class::Client, _) => 7,
            (Class::Peer, _) => 8,
        }
    }
}

impl ShardInput {
    /// About how many bytes it holds: values, objects and lists of keys, and a little for what is around them.
    pub fn bytes(&self) -> usize {
        const AROUND: usize = 256;
        let carried = match self {
            ShardInput::Client { request: Request::Put(put), .. } => put.value.as_ref().map_or(0, bytes::Bytes::len),
            ShardInput::Peer { request: PeerRequest::Coordinate(coordinate), .. } => {
                coordinate.put.value.as_ref().map_or(0, bytes::Bytes::len)
            }
            ShardInput::Peer { request: PeerRequest::Replicate(replicate), .. } => replicate.object.encoded_len(),
            ShardInput::Peer { request: PeerRequest::Exchange(request), .. } => request.carried(),
            ShardInput::Peer { request: PeerRequest::Reaping(reaping), .. } => reaping.carried(),
            ShardInput::Answer { answer: PeerAnswer::Exchange(answer), .. } => answer.carried(),
            ShardInput::Answer { answer: PeerAnswer::Fetched(fetched), .. } => {
                match fetched.outcome.as_ref().map(|held| &held.found) {
                    Ok(Found::Object(object)) => object.encoded_len(),
                    _ => 0,
                }
            }
            ShardInput::Answer { answer: PeerAnswer::Ranged(ranged), .. } => {
                let items = ranged.outcome.as_ref().map_or(&[][..], |(page, _)| &page.items);
                items.iter().map(|item| item.object.encoded_len()).sum()
            }
            _ => 0,
        };
        AROUND + carried
    }
}

/// Inputs in their order, with their bytes.
#[derive(Debug, Default)]
struct Waiting {
    inputs: VecDeque<ShardInput>,
    bytes: usize,
}

impl Waiting {
    /// Whether one more input of so many bytes is within `count` inputs and `bytes` bytes. Where there is any room at
    /// all, an empty queue has it.
    fn has_room(&self, more: usize, count: usize, bytes: usize) -> bool {
        count > 0 && self.inputs.is_empty() || self.inputs.len() < count && self.bytes + more <= bytes
    }

    fn push(&mut self, input: ShardInput, bytes: usize) {
        self.bytes += bytes;
        self.inputs.push_back(input);
    }

    /// Until `into` holds so many, or so many bytes have been taken.
    fn take(&mut self, into: &mut Vec<ShardInput>, max: usize, max_bytes: usize) {
        let before = self.bytes;
        while into.len() < max && before - self.bytes < max_bytes {
            let Some(input) = self.inputs.pop_front() else { return };
            self.bytes -= input.bytes();
            into.push(input);
        }
    }
}

/// What requests bring to one drain, about: a batch of large values is copied several times, and its buffers are not kept.
const DRAIN_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct InputQueue {
    limits: InboxLimits,
    notices: VecDeque<ShardInput>,
    answers: Waiting,
    requests: Waiting,
}

impl InputQueue {
    /// Empty.
    pub fn new(limits: InboxLimits) -> InputQueue {
        InputQueue { limits, notices: VecDeque::new(), answers: Waiting::default(), requests: Waiting::default() }
    }

    /// Takes those of `inputs` for which there is room, in order; what is left there is refused.
    pub fn push_requests(&mut self, inputs: &mut Vec<ShardInput>, pressure: Pressure) {
        let InboxLimits { requests, request_bytes, .. } = self.limits;
        let mut refused = Vec::new();
        for input in inputs.drain(..) {
            let (eighths, bytes) = (Class::of(&input).eighths(pressure), input.bytes());
            // A few requests are rounded in their favour: where one may wait, one of each class may.
            let (count, most) = ((requests * eighths).div_ceil(8), request_bytes / 8 * eighths);
            if self.requests.has_room(bytes, count, most) {
                self.requests.push(input, bytes);
            } else {
                refused.push(input);
            }
        }
        inputs.append(&mut refused);
    }

    /// Takes answers from the front of `inputs` while there is room; what is left there is lost.
    pub fn push_answers(&mut self, inputs: &mut Vec<ShardInput>) {
        let InboxLimits { answers, answer_bytes, .. } = self.limits;
        let mut lost = Vec::new();
        for input in inputs.drain(..) {
            let bytes = input.bytes();
            if lost.is_empty() && self.answers.has_room(bytes, answers, answer_bytes) {
                self.answers.push(input, bytes);
            } else {
                lost.push(input);
            }
        }
        inputs.append(&mut lost);
    }

    /// Takes what may not be lost.
    pub fn push_notice(&mut self, input: ShardInput) {
        self.notices.push_back(input);
    }

    /// Moves inputs to `into` until that holds `max`, or as many bytes of requests as one batch should have.
    pub fn take(&mut self, into: &mut Vec<ShardInput>, max: usize) {
        let room = max.saturating_sub(into.len()).min(self.notices.len());
        into.extend(self.notices.drain(..room));
        self.answers.take(into, max, usize::MAX);
        self.requests.take(into, max, DRAIN_BYTES);
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.answers.inputs.is_empty() && self.requests.inputs.is_empty()
    }

    /// Requests that wait.
    pub fn requests(&self) -> usize {
        self.requests.inputs.len()
    }

    /// Bytes of the requests and answers that wait.
    pub fn bytes(&self) -> usize {
        self.answers.bytes + self.requests.bytes
    }
}

#[cfg(test)]
mod tests;
