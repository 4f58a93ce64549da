//! What waits to be sent on a lane: bounded, filled from any thread, emptied by the lane's writer task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::budget::Budget;
use super::lane::{LaneClosed, QueueLimits, SendError};
use crate::frame::raw::RawFrame;

/// Bytes that the writer takes at a time: enough to amortise a write, little enough that room is made steadily.
const BATCH_BYTES: usize = 128 << 10;

/// The queue of one lane.
pub(super) struct LaneQueue {
    limits: QueueLimits,
    /// Shared by all lanes of the endpoint.
    budget: Arc<Budget>,
    state: Mutex<State>,
    /// Woken when the queue stops being empty, and when it is closed.
    filled: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<RawFrame>,
    /// Encoded bytes of `frames` and of the batch that is being written.
    bytes: usize,
    /// Frames, the batch included.
    count: usize,
    /// Times that QUIC has taken something.
    progress: u64,
    closed: Option<LaneClosed>,
    /// Closed, and what was queued is given up.
    broken: bool,
}

/// What the writer is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write the batch, of so many bytes.
    Write(usize),
    /// Finish the stream: closed and empty.
    Finish,
    /// Reset the stream: broken off.
    Reset,
}

impl LaneQueue {
    /// A queue that holds `opening`.
    pub(super) fn new(limits: QueueLimits, budget: Arc<Budget>, opening: Option<RawFrame>) -> LaneQueue {
        let mut state = State::default();
        state.add(opening);
        budget.add(state.bytes);
        LaneQueue { limits, budget, state: Mutex::new(state), filled: Notify::new() }
    }

    /// Whether the lane may have so many more frames, of so many bytes, of which `bodies` are values. Beyond the budget of
    /// all lanes, answers without values still go, and one frame where nothing else waits: no lane starves another.
    fn has_room(&self, state: &State, frames: usize, bytes: usize, bodies: usize) -> bool {
        let within = state.bytes + bytes <= self.limits.max_bytes && state.count + frames <= self.limits.max_frames;
        within && (bodies == 0 || self.budget.has_room(bytes) || frames == 1 && state.count == 0)
    }

    /// Adds all frames or none.
    pub(super) fn push<I>(&self, frames: I) -> Result<(), SendError>
    where
        I: IntoIterator<Item = RawFrame> + AsRef<[RawFrame]>,
    {
        let (count, bytes) = (frames.as_ref().len(), encoded_len(frames.as_ref()));
        let bodies = frames.as_ref().iter().map(|frame| frame.body.len()).sum();
        let mut state = self.state();
        if state.closed.is_some() {
            return Err(SendError::Closed);
        }
        if !self.has_room(&state, count, bytes, bodies) {
            return Err(SendError::Full);
        }
        self.budget.add(bytes);
        let was_empty = state.frames.is_empty();
        state.add(frames);
        drop(state);
        if was_empty && count > 0 {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Adds the frames that fit, in order, and returns the others.
    pub(super) fn push_fitting(&self, frames: Vec<RawFrame>) -> Result<Vec<RawFrame>, SendError> {
        let mut state = self.state();
        if state.closed.is_some() {
            return Err(SendError::Closed);
        }
        let was_empty = state.frames.is_empty();
        let mut left = Vec::new();
        for frame in frames {
            if self.has_room(&state, 1, frame.encoded_len(), frame.body.len()) {
                self.budget.add(frame.encoded_len());
                state.add([frame]);
            } else {
                left.push(frame);
            }
        }
        let wake = was_empty && !state.frames.is_empty();
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(left)
    }

    /// Waits for frames and moves a batch of them to `batch`.
    pub(super) async fn next(&self, batch: &mut Vec<RawFrame>) -> Next {
        loop {
            if let Some(next) = self.take(batch) {
                return next;
            }
            self.filled.notified().await;
            // The first frame of many has woken this task, often in the midst of those who bring the others: it waits until the thread
            // has nothing else to do, or has done a few dozen things, so that all go in one packet.
            tokio::task::yield_now().await;
        }
    }

    fn take(&self, batch: &mut Vec<RawFrame>) -> Option<Next> {
        let mut state = self.state();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(frame) = state.frames.pop_front()
        {
            bytes += frame.encoded_len();
            batch.push(frame);
        }
        match (bytes, &state.closed) {
            (0, None) => None,
            (0, Some(_)) if state.broken => Some(Next::Reset),
            (0, Some(_)) => Some(Next::Finish),
            _ => Some(Next::Write(bytes)),
        }
    }

    /// The batch is in QUIC's hands: makes room for as much.
    pub(super) fn written(&self, count: usize, bytes: usize) {
        let mut state = self.state();
        state.count -= count;
        state.bytes -= bytes;
        self.budget.give_back(bytes);
    }

    /// QUIC has taken some of the batch.
    pub(super) fn progressed(&self) {
        self.state().progress += 1;
    }

    /// Times that it has.
    pub(super) fn progress(&self) -> u64 {
        self.state().progress
    }

    /// Takes no more frames; keeps the first reason.
    pub(super) fn close(&self, reason: LaneClosed) {
        self.state().closed.get_or_insert(reason);
        self.filled.notify_one();
    }

    /// Why no more frames are taken.
    pub(super) fn closed(&self) -> Option<LaneClosed> {
        self.state().closed.clone()
    }

    /// Closes, and gives up what is queued.
    pub(super) fn break_off(&self, reason: LaneClosed) {
        let mut state = self.state();
        let bytes = state.frames.iter().map(RawFrame::encoded_len).sum::<usize>();
        state.bytes -= bytes;
        self.budget.give_back(bytes);
        state.count -= state.frames.len();
        state.frames = VecDeque::new();
        state.broken = true;
        state.closed.get_or_insert(reason);
        drop(state);
        self.filled.notify_one();
    }

    /// Encoded bytes not yet written.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic ends the process before the lock is met again")
    }
}

impl Drop for LaneQueue {
    /// A batch whose writing was broken off is in nobody's hands.
    fn drop(&mut self) {
        let left = self.state().bytes;
        self.budget.give_back(left);
    }
}

impl State {
    fn add(&mut self, frames: impl IntoIterator<Item = RawFrame>) {
        for frame in frames {
            self.bytes += frame.encoded_len();
            self.count += 1;
            self.frames.push_back(frame);
        }
    }
}

fn encoded_len(frames: &[RawFrame]) -> usize {
    frames.iter().map(RawFrame::encoded_len).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::raw::PREFIX_LEN;

    fn frame(id: u64, body: usize) -> RawFrame {
        RawFrame { id, kind: 0, header: Bytes::new(), body: vec![0; body].into() }
    }

    fn queue(max_bytes: usize, max_frames: usize, opening: Option<RawFrame>) -> LaneQueue {
        LaneQueue::new(QueueLimits { max_bytes, max_frames }, Arc::new(Budget::new(usize::MAX)), opening)
    }

    #[test]
    fn all_lanes_together_are_bounded_and_none_starves_another() {
        let budget = Arc::new(Budget::new(1000));
        let lane = || LaneQueue::new(QueueLimits { max_bytes: 1 << 20, max_frames: 100 }, budget.clone(), None);
        let (hog, other) = (lane(), lane());
        let left = hog.push_fitting((0..10).map(|id| frame(id, 300)).collect()).unwrap();
        assert_eq!(left.len(), 7);
        assert_eq!(other.push([frame(1, 300)]), Ok(()), "one frame goes on a lane of its own");
        assert_eq!(other.push([frame(2, 300)]), Err(SendError::Full));
        assert_eq!(other.push([frame(3, 0)]), Ok(()), "what carries no value is short");
        let used = budget.used();
        hog.break_off(LaneClosed::Local);
        assert_eq!(budget.used(), used - 3 * (PREFIX_LEN + 300));
        let mut batch = Vec::new();
        other.take(&mut batch);
        drop((hog, other));
        assert_eq!(budget.used(), 0, "a batch in writing is given back too");
    }

    #[test]
    fn both_bounds_hold_until_the_batch_is_written() {
        let one = PREFIX_LEN + 83;
        let queue = queue(3 * one, 4, None);
        assert_eq!(queue.push(vec![frame(1, 83), frame(2, 83)]), Ok(()));
        assert_eq!(queue.push(vec![frame(3, 83), frame(4, 83)]), Err(SendError::Full));
        assert_eq!(queue.bytes(), 2 * one, "a refused batch leaves nothing behind");
        assert_eq!(queue.push([frame(3, 83)]), Ok(()));
        assert_eq!(queue.push([frame(4, 0)]), Err(SendError::Full));

        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch), Some(Next::Write(3 * one)));
        assert_eq!(batch.iter().map(|frame| frame.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(queue.push([frame(4, 0)]), Err(SendError::Full));
        queue.written(3, 3 * one);
        assert_eq!(queue.bytes(), 0);
        assert_eq!(queue.push((0..4).map(|id| frame(id, 0)).collect::<Vec<_>>()), Ok(()));
        assert_eq!(queue.push([frame(4, 0)]), Err(SendError::Full), "four frames are the most");
    }

    #[test]
    fn of_a_batch_longer_than_the_queue_as_much_is_taken_as_fits() {
        let one = PREFIX_LEN + 100;
        let queue = queue(2 * one, 4, None);
        let left = queue.push_fitting(vec![frame(1, 100), frame(2, 101), frame(3, 100), frame(4, 100)]).unwrap();
        assert_eq!(left.iter().map(|frame| frame.id).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(queue.bytes(), 2 * one);
        queue.close(LaneClosed::Local);
        assert_eq!(queue.push_fitting(vec![frame(5, 0)]), Err(SendError::Closed));
    }

    #[test]
    fn a_closed_queue_is_emptied_and_then_finished() {
        let queue = queue(1000, 10, Some(frame(1, 0)));
        queue.close(LaneClosed::Local);
        queue.close(LaneClosed::Peer);
        assert_eq!(queue.push([frame(2, 0)]), Err(SendError::Closed));
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch), Some(Next::Write(PREFIX_LEN)));
        assert_eq!(queue.take(&mut batch), Some(Next::Finish));
        queue.break_off(LaneClosed::Peer);
        assert_eq!(queue.take(&mut batch), Some(Next::Reset));
        assert_eq!(queue.closed(), Some(LaneClosed::Local), "the first reason is kept");
    }

    #[test]
    fn the_writer_takes_bounded_batches() {
        let queue = queue(usize::MAX, 10, None);
        queue.push(vec![frame(1, BATCH_BYTES - 100), frame(2, 1000), frame(3, 1)]).unwrap();
        let mut batch = Vec::new();
        assert!(matches!(queue.take(&mut batch), Some(Next::Write(_))));
        assert_eq!(batch.len(), 2);
        queue.break_off(LaneClosed::Peer);
        assert_eq!(queue.bytes(), encoded_len(&batch), "what the writer holds still counts");
        assert_eq!(queue.take(&mut batch), Some(Next::Reset));
    }
}
