//! A shard's inbox: its queue of inputs under one lock, which is held for moves only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::node::{InboxLimits, InputQueue, Pressure, ShardInput};

/// What an inbox has seen, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxCounters {
    /// Requests handed back.
    pub refused: u64,
    /// Answers dropped.
    pub dropped: u64,
    /// Requests that wait now.
    pub waiting: u64,
    /// Bytes of the requests and answers that wait now.
    pub bytes: u64,
}

/// Whether a closed inbox, which takes notices yet, is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No: what is in it is all there is.
    Ends,
    /// Something is on its way to it.
    Expects,
}

/// See the module. Filled from any thread, emptied by the shard's task.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    filled: Notify,
    refused: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    queue: InputQueue,
    /// The shard waits for `filled`; only then is it woken.
    waiting: bool,
    /// The shard has taken something, or has something under way.
    busy: bool,
    closed: bool,
}

impl Inbox {
    /// Empty.
    pub fn new(limits: InboxLimits) -> Inbox {
        let state = State { queue: InputQueue::new(limits), waiting: false, busy: false, closed: false };
        Inbox {
            state: Mutex::new(state),
            filled: Notify::new(),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Takes those of `inputs` for which there is room; what is left there is refused.
    pub fn push_requests(&self, inputs: &mut Vec<ShardInput>, pressure: Pressure) {
        let mut state = self.lock();
        if !state.closed {
            state.queue.push_requests(inputs, pressure);
        }
        self.wake(state);
        self.refused.fetch_add(inputs.len() as u64, Ordering::Relaxed);
    }

    /// Takes answers while there is room, and drops the rest.
    pub fn push_answers(&self, inputs: &mut Vec<ShardInput>) {
        let mut state = self.lock();
        state.queue.push_answers(inputs);
        self.wake(state);
        self.dropped.fetch_add(inputs.len() as u64, Ordering::Relaxed);
        inputs.clear();
    }

    /// Takes what may not be lost.
    pub fn push_notice(&self, input: ShardInput) {
        let mut state = self.lock();
        state.queue.push_notice(input);
        self.wake(state);
    }

    /// Waits until there is something to take, but no longer than `timeout`; at a closed inbox as `closed` says. It may end for nothing.
    pub async fn filled(&self, timeout: Option<Duration>, closed: Closed) {
        if timeout == Some(Duration::ZERO) || !self.begins_to_wait(closed) {
            return;
        }
        match timeout {
            // What came meanwhile is seen by whoever takes.
            Some(timeout) => drop(tokio::time::timeout(timeout, self.filled.notified()).await),
            None => self.filled.notified().await,
        }
    }

    /// Has whoever fills it wake the shard from now on; false if there is no need to wait.
    fn begins_to_wait(&self, closed: Closed) -> bool {
        let mut state = self.lock();
        state.waiting = state.queue.is_empty() && (!state.closed || closed == Closed::Expects);
        state.waiting
    }

    /// Moves up to `max` inputs to `into`. False once the inbox is closed and empty.
    pub fn take(&self, into: &mut Vec<ShardInput>, max: usize) -> bool {
        let mut state = self.lock();
        state.waiting = false;
        let open = !(state.closed && state.queue.is_empty());
        state.queue.take(into, max);
        state.busy = true;
        open
    }

    /// Refuses requests from now on; [`take`](Self::take) ends once it is empty.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Whether it has been closed.
    #[cfg(test)]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// What it has seen.
    pub fn counters(&self) -> InboxCounters {
        let (waiting, bytes) = {
            let state = self.lock();
            (state.queue.requests() as u64, state.queue.bytes() as u64)
        };
        let (refused, dropped) = (self.refused.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed));
        InboxCounters { refused, dropped, waiting, bytes }
    }

    /// The shard has done what it has taken; `busy`: and has something under way.
    pub fn rest(&self, busy: bool) {
        self.lock().busy = busy;
    }

    /// Whether nothing waits and the shard has nothing to do.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && !state.busy
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wake = state.waiting && (state.closed || !state.queue.is_empty());
        // Once a wait: whatever else comes before the shard takes it would only wake it again for nothing.
        state.waiting &= !wake;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic ends the process before the lock is met again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn link(node: u64) -> ShardInput {
        ShardInput::Link { node: NodeId(node), up: true }
    }

    fn links(nodes: std::ops::Range<u64>) -> Vec<ShardInput> {
        nodes.map(link).collect()
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
        let inbox = Inbox::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 2, answer_bytes: 1 << 20 });
        let mut requests = links(1..5);
        inbox.push_requests(&mut requests, Pressure::Low);
        assert_eq!(ids(&requests), [3, 4]);
        inbox.push_answers(&mut links(11..14));
        inbox.push_notice(link(21));
        assert_eq!(
            inbox.counters(),
            InboxCounters { refused: 2, dropped: 1, waiting: 2, bytes: inbox.counters().bytes }
        );
        let mut taken = Vec::new();
        assert!(inbox.take(&mut taken, 4));
        assert_eq!(ids(&taken), [21, 11, 12, 1]);
        taken.clear();
        assert!(inbox.take(&mut taken, 4));
        assert_eq!(ids(&taken), [2]);
    }

    #[test]
    fn a_closed_inbox_is_emptied_first() {
        let inbox = Inbox::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 2, answer_bytes: 1 << 20 });
        inbox.push_requests(&mut links(1..2), Pressure::Low);
        inbox.close();
        let mut late = links(2..3);
        inbox.push_requests(&mut late, Pressure::Low);
        assert_eq!(ids(&late), [2], "a closed inbox takes no requests");
        let mut taken = Vec::new();
        assert!(inbox.take(&mut taken, 8));
        assert_eq!(ids(&taken), [1]);
        assert!(!inbox.take(&mut taken, 8));
    }

    #[tokio::test]
    async fn a_closed_inbox_is_waited_for_if_something_is_sure_to_come() {
        let inbox = Inbox::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 2, answer_bytes: 1 << 20 });
        inbox.close();
        filled(&inbox, None).await;
        assert!(inbox.begins_to_wait(Closed::Expects), "or the shard would ask again and again");
        let wait = tokio::time::timeout(Duration::from_secs(10), inbox.filled(None, Closed::Expects));
        let (waited, ()) = tokio::join!(biased; wait, async { inbox.push_notice(link(1)) });
        waited.expect("a closed inbox takes notices");
    }

    /// Fails if it waits in vain.
    async fn filled(inbox: &Inbox, timeout: Option<Duration>) {
        let soon = tokio::time::timeout(Duration::from_secs(10), inbox.filled(timeout, Closed::Ends));
        soon.await.expect("it ends once there is something to take");
    }

    #[tokio::test]
    async fn a_waiting_shard_is_woken_from_any_thread() {
        let inbox = Inbox::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 2, answer_bytes: 1 << 20 });
        let mut taken = Vec::new();
        for (node, timeout) in [(1, None), (2, Some(Duration::from_secs(3600)))] {
            let take = async {
                filled(&inbox, timeout).await;
                assert!(inbox.take(&mut taken, 8));
            };
            let fill = async {
                assert!(inbox.lock().waiting, "the shard was asked first, and found nothing");
                std::thread::scope(|scope| {
                    scope.spawn(|| inbox.push_requests(&mut links(node..node + 1), Pressure::Low));
                });
            };
            tokio::join!(biased; take, fill);
        }
        assert_eq!(ids(&taken), [1, 2]);
        tokio::join!(biased; filled(&inbox, None), async { inbox.close() });
        assert!(!inbox.take(&mut taken, 8));
        filled(&inbox, None).await;
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_time_and_no_time_is_no_wait() {
        let inbox = Inbox::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 2, answer_bytes: 1 << 20 });
        filled(&inbox, Some(Duration::ZERO)).await;
        assert!(!inbox.lock().waiting);
        filled(&inbox, Some(Duration::from_millis(1))).await;
        assert!(inbox.lock().waiting);
        inbox.take(&mut Vec::new(), 8);
        assert!(!inbox.lock().waiting);
    }

    #[tokio::test]
    async fn a_wait_is_ended_once_however_much_comes_and_none_is_slept_through() {
        let inbox = Inbox::new(InboxLimits { requests: 2, request_bytes: 1 << 20, answers: 2, answer_bytes: 1 << 20 });
        assert!(inbox.begins_to_wait(Closed::Ends));
        inbox.push_notice(link(1));
        inbox.push_notice(link(2));
        inbox.filled.notified().await;
        inbox.push_notice(link(3));
        tokio::select! {
            biased;
            () = inbox.filled.notified() => panic!("it would wake a shard that is awake"),
            () = std::future::ready(()) => {}
        }
        filled(&inbox, None).await;
    }
}
