//! What waits for a shard, in the order in which it is taken.
//!
//! | queue | what waits in it | when it is full |
//! |---|---|---|
//! | notices | ring, standing, links, drained reads | bounded by what makes them: few, or as many as the shard has asked for |
//! | answers | peers' answers | the newest is dropped and counted; the request is sent again or times out |
//! | requests | clients' and peers' requests | handed back: the sender answers "overloaded" at once |
//!
//! They are taken in this order, so that overload starves neither acknowledgements nor the news that end it.

use std::collections::VecDeque;

use super::effects::ShardInput;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Requests of clients and peers.
    pub requests: usize,
    /// Answers of peers.
    pub answers: usize,
}

/// Answers that may wait, for each request that may: a request asks several replicas.
const ANSWERS_PER_REQUEST: usize = 8;

impl InboxLimits {
    /// For a shard that may have `max_inflight` requests of clients under way, and takes as many of peers.
    pub fn of(max_inflight: usize) -> InboxLimits {
        let requests = max_inflight.saturating_mul(2);
        InboxLimits { requests, answers: requests.saturating_mul(ANSWERS_PER_REQUEST) }
    }
}

/// See the module.
#[derive(Debug)]
pub struct InputQueue {
    limits: InboxLimits,
    notices: VecDeque<ShardInput>,
    answers: VecDeque<ShardInput>,
    requests: VecDeque<ShardInput>,
}

impl InputQueue {
    /// Empty.
    pub fn new(limits: InboxLimits) -> InputQueue {
        InputQueue { limits, notices: VecDeque::new(), answers: VecDeque::new(), requests: VecDeque::new() }
    }

    /// Takes requests from the front of `inputs` while there is room; what is left there is refused.
    pub fn push_requests(&mut self, inputs: &mut Vec<ShardInput>) {
        let taken = self.limits.requests.saturating_sub(self.requests.len()).min(inputs.len());
        self.requests.extend(inputs.drain(..taken));
    }

    /// Takes answers from the front of `inputs` while there is room; what is left there is lost.
    pub fn push_answers(&mut self, inputs: &mut Vec<ShardInput>) {
        let taken = self.limits.answers.saturating_sub(self.answers.len()).min(inputs.len());
        self.answers.extend(inputs.drain(..taken));
    }

    /// Takes what may not be lost.
    pub fn push_notice(&mut self, input: ShardInput) {
        self.notices.push_back(input);
    }

    /// Moves inputs to `into` until that holds `max`.
    pub fn take(&mut self, into: &mut Vec<ShardInput>, max: usize) {
        for queue in [&mut self.notices, &mut self.answers, &mut self.requests] {
            let room = max.saturating_sub(into.len()).min(queue.len());
            into.extend(queue.drain(..room));
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.answers.is_empty() && self.requests.is_empty()
    }

    /// Requests that wait.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn links(nodes: std::ops::Range<u64>) -> Vec<ShardInput> {
        nodes.map(|node| ShardInput::Link { node: NodeId(node), up: true }).collect()
    }

    fn ids(inputs: &[ShardInput]) -> Vec<u64> {
        let id = |input: &ShardInput| match input {
            ShardInput::Link { node, .. } => node.0,
            other => panic!("{other:?} was never put in"),
        };
        inputs.iter().map(id).collect()
    }

    #[test]
    fn a_full_queue_of_requests_hands_back_and_starves_no_answer() {
        let mut queue = InputQueue::new(InboxLimits { requests: 2, answers: 2 });
        let (mut requests, mut answers) = (links(1..5), links(11..14));
        queue.push_requests(&mut requests);
        queue.push_answers(&mut answers);
        queue.push_notice(links(21..22).remove(0));
        assert_eq!((ids(&requests), ids(&answers), queue.requests()), (vec![3, 4], vec![13], 2));
        let mut taken = Vec::new();
        queue.take(&mut taken, 4);
        assert_eq!(ids(&taken), [21, 11, 12, 1]);
        taken.clear();
        queue.take(&mut taken, 4);
        assert_eq!(ids(&taken), [2]);
        assert!(queue.is_empty());
    }
}
