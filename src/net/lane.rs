//! A lane: one long-lived two-way stream of frames.
//!
//! A writer task takes what is queued, many frames at a time, and hands it to QUIC as chunks; a reader task hands all frames
//! of one wake to the [`FrameSink`]. Either end closes a lane by finishing its direction; the other then flushes, finishes
//! and closes as well, so nothing queued is lost. Bytes that are not frames, or an end that does not flush in time, abort
//! both directions. The link and its other lanes go on.

use std::fmt;
use std::sync::Arc;

use quinn::{RecvStream, SendStream};
use tokio_util::sync::CancellationToken;

use super::endpoint::Shared;
use super::lane_queue::LaneQueue;
use super::lane_tasks::{read, write};
use super::link::CloseReason;
use crate::frame::raw::{FrameError, FrameReader, RawFrame};

/// Takes what arrives on a lane. Called from the lane's reader task, on a thread that others need too: hand on and return.
pub trait FrameSink: Send + Sync {
    /// All whole frames that had arrived, in order; at least one. What is left in `frames` is dropped, its memory kept.
    fn on_frames(&self, frames: &mut Vec<RawFrame>);

    /// The lane is closed: called once, and nothing after it.
    fn on_closed(&self, reason: &LaneClosed);
}

/// Why a lane is closed; the first cause is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneClosed {
    /// [`Lane::close`] was called.
    Local,
    /// The peer closed it.
    Peer,
    /// The peer broke it off.
    Aborted {
        /// The code it gave.
        code: u64,
    },
    /// The peer sent bytes that are not frames.
    BadFrame(FrameError),
    /// The link ended.
    Link(CloseReason),
}

impl fmt::Display for LaneClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaneClosed::Local => f.write_str("closed by this end"),
            LaneClosed::Peer => f.write_str("closed by the other end"),
            LaneClosed::Aborted { code } => write!(f, "broken off by the other end (code {code})"),
            LaneClosed::BadFrame(error) => write!(f, "the other end sent {error}"),
            LaneClosed::Link(reason) => write!(f, "the link ended: {reason}"),
        }
    }
}

/// How much may wait to be sent on a lane. At the bound, [`Lane::try_send`] says [`SendError::Full`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Encoded bytes. A batch longer than this never fits: not below the longest frame.
    pub max_bytes: usize,
    /// Frames.
    pub max_frames: usize,
}

/// Why frames were not queued; none of the batch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is full: the peer or the path is slower than the sender. Worth a retry, later.
    #[error("the lane's queue is full")]
    Full,
    /// The lane is closed. Not worth a retry on this lane.
    #[error("the lane is closed")]
    Closed,
    /// A frame is longer than the peer would take. Not worth a retry.
    #[error(transparent)]
    TooLong(#[from] FrameError),
}

/// A handle to a lane; cheap to clone. Dropping it changes nothing: a lane lives until either end closes it or the link ends.
#[derive(Clone)]
pub struct Lane {
    core: Arc<LaneCore>,
}

/// What handles and tasks share.
pub(super) struct LaneCore {
    pub(super) queue: LaneQueue,
    /// Set when the lane is closed, however: what is queued may still go out.
    pub(super) closing: CancellationToken,
    /// Set when nothing more is to be sent or read.
    pub(super) abort: CancellationToken,
    pub(super) shared: Arc<Shared>,
}

/// A stream that becomes a lane.
pub(super) struct LaneParts {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    /// May hold frames that came with the opening one.
    pub(super) reader: FrameReader,
    pub(super) shared: Arc<Shared>,
}

impl Lane {
    /// Starts the two tasks. `opening` goes first, whatever the queue's limits.
    pub(super) fn start(
        parts: LaneParts,
        opening: Option<RawFrame>,
        limits: QueueLimits,
        sink: Arc<dyn FrameSink>,
    ) -> Lane {
        let LaneParts { send, recv, reader, shared } = parts;
        let core = Arc::new(LaneCore {
            queue: LaneQueue::new(limits, shared.budget.clone(), opening),
            closing: CancellationToken::new(),
            abort: CancellationToken::new(),
            shared,
        });
        core.shared.spawner.spawn("lane writer", write(core.clone(), send));
        core.shared.spawner.spawn("lane reader", read(core.clone(), recv, reader, sink));
        Lane { core }
    }

    /// Queues all of `frames`, in order, or none. Never blocks; callable from any thread.
    ///
    /// # Errors
    /// [`SendError`]; the frames are dropped.
    pub fn try_send(&self, frames: Vec<RawFrame>) -> Result<(), SendError> {
        let limits = &self.core.shared.limits.frame;
        frames.iter().try_for_each(|frame| limits.check(frame))?;
        self.core.queue.push(frames)
    }

    /// Queues, in order, those of `frames` that fit, and returns the others.
    ///
    /// # Errors
    /// [`SendError::Closed`] or [`SendError::TooLong`]; the frames are dropped.
    pub fn try_send_fitting(&self, frames: Vec<RawFrame>) -> Result<Vec<RawFrame>, SendError> {
        let limits = &self.core.shared.limits.frame;
        frames.iter().try_for_each(|frame| limits.check(frame))?;
        self.core.queue.push_fitting(frames)
    }

    /// Queues one frame; as [`try_send`](Self::try_send), without a `Vec`.
    ///
    /// # Errors
    /// [`SendError`]; the frame is dropped.
    pub fn try_send_one(&self, frame: RawFrame) -> Result<(), SendError> {
        self.core.shared.limits.frame.check(&frame)?;
        self.core.queue.push([frame])
    }

    /// Encoded bytes that QUIC has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        self.core.queue.bytes()
    }

    /// Grows whenever QUIC takes something: a lane with bytes queued on which it stands still has nobody reading at its other
    /// end.
    pub fn progress(&self) -> u64 {
        self.core.queue.progress()
    }

    /// Takes no more frames; those queued are sent, then the peer is told. The sink hears
    /// [`on_closed`](FrameSink::on_closed) when the peer has closed its direction too, or
    /// [`Limits::linger`](super::Limits::linger) is over.
    pub fn close(&self) {
        self.core.close(LaneClosed::Local);
    }

    /// Whether the lane takes no more frames.
    pub fn is_closed(&self) -> bool {
        self.core.queue.closed().is_some()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("queued_bytes", &self.queued_bytes())
            .field("closed", &self.core.queue.closed())
            .finish()
    }
}

impl LaneCore {
    /// Closes the lane; the first reason given is kept.
    pub(super) fn close(&self, reason: LaneClosed) {
        self.queue.close(reason);
        self.closing.cancel();
    }

    /// Closes the lane and gives up what is queued and what might still come.
    pub(super) fn break_off(&self, reason: LaneClosed) {
        self.queue.break_off(reason);
        self.closing.cancel();
        self.abort.cancel();
    }

    /// Ends when the tasks must: broken off, or closed for too long.
    pub(super) async fn overdue(&self) {
        let lingered = async {
            self.closing.cancelled().await;
            tokio::time::sleep(self.shared.limits.linger).await;
        };
        tokio::select! {
            () = self.abort.cancelled() => {}
            () = lingered => {}
        }
    }
}
