//! The two tasks of a lane. They share no more than the queue: the reader alone speaks to the sink, and is the last to.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tracing::{debug, warn};

use super::lane::{FrameSink, LaneClosed, LaneCore};
use super::lane_queue::Next;
use super::link::CloseReason;
use crate::frame::raw::{FrameError, FrameReader, RawFrame, flush_scratch};

/// Breaks a lane off without blaming the peer: what was queued did not go out in time.
const LANE_GIVEN_UP: u32 = 1;
/// Breaks a lane off because its bytes are not frames.
pub(super) const LANE_BAD_FRAME: u32 = 2;

/// Chunks read at a time.
const READ_CHUNKS: usize = 64;

/// Writes what is queued until the lane is closed and empty, or broken off.
pub(super) async fn write(core: Arc<LaneCore>, mut send: SendStream) {
    let ended = tokio::select! {
        ended = write_queued(&core, &mut send) => ended,
        () = core.overdue() => Ok(Next::Reset),
    };
    match ended {
        Ok(Next::Finish) => {
            // an error means that the peer has stopped the stream already
            let _ = send.finish();
            return;
        }
        Err(WriteError::Stopped(code)) => core.break_off(LaneClosed::Aborted { code: code.into_inner() }),
        Err(WriteError::ConnectionLost(error)) => core.break_off(LaneClosed::Link(CloseReason::of(error))),
        // the lane is closed already and the reason kept
        Ok(_) | Err(WriteError::ClosedStream | WriteError::ZeroRttRejected) => core.break_off(LaneClosed::Local),
    }
    let bad_frame = matches!(core.queue.closed(), Some(LaneClosed::BadFrame(_)));
    let code = if bad_frame { LANE_BAD_FRAME } else { LANE_GIVEN_UP };
    // an error means that the stream has ended already
    let _ = send.reset(VarInt::from_u32(code));
}

/// Moves batches from the queue to QUIC; says how the stream is to end.
async fn write_queued(core: &LaneCore, send: &mut SendStream) -> Result<Next, WriteError> {
    let (mut batch, mut chunks, mut scratch) = (Vec::new(), Vec::new(), BytesMut::new());
    loop {
        let bytes = match core.queue.next(&mut batch).await {
            Next::Write(bytes) => bytes,
            end => return Ok(end),
        };
        for frame in &batch {
            frame.append_chunks(&mut chunks, &mut scratch);
        }
        flush_scratch(&mut chunks, &mut scratch);
        let written = write_all(core, send, &mut chunks).await;
        core.queue.written(batch.len(), bytes);
        written?;
        batch.clear();
        chunks.clear();
    }
}

/// Hands chunks to QUIC as it takes them.
async fn write_all(core: &LaneCore, send: &mut SendStream, mut chunks: &mut [Bytes]) -> Result<(), WriteError> {
    while !chunks.is_empty() {
        let written = send.write_chunks(chunks).await?;
        core.queue.progressed();
        chunks = &mut chunks[written.chunks..];
    }
    Ok(())
}

/// Hands the peer's frames to the sink until the peer finishes, the lane is broken off, or its bytes are not frames.
pub(super) async fn read(core: Arc<LaneCore>, mut recv: RecvStream, mut reader: FrameReader, sink: Arc<dyn FrameSink>) {
    let mut overdue = pin!(core.overdue());
    let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
    let mut frames = Vec::new();
    let ended = loop {
        if let Err(error) = deliver(&mut reader, &mut frames, &*sink) {
            break Err(error);
        }
        tokio::select! {
            read = recv.read_chunks(&mut chunks) => match read {
                Ok(Some(count)) => chunks[..count].iter_mut().for_each(|chunk| reader.push(std::mem::take(chunk))),
                Ok(None) => break reader.finish().map(|()| LaneClosed::Peer),
                Err(error) => break Ok(read_error(error)),
            },
            // the reason is in the queue already
            () = &mut overdue => break Ok(LaneClosed::Local),
        }
    };
    match ended {
        Ok(LaneClosed::Peer) => core.close(LaneClosed::Peer),
        Ok(reason) => core.break_off(reason),
        Err(error) => {
            core.shared.counters.add_bad_frame();
            warn!(%error, "lane broken off: the peer's bytes are not frames");
            let _ = recv.stop(VarInt::from_u32(LANE_BAD_FRAME));
            core.break_off(LaneClosed::BadFrame(error));
        }
    }
    let reason = core.queue.closed().unwrap_or(LaneClosed::Local);
    debug!(%reason, "lane closed");
    sink.on_closed(&reason);
}

/// All whole frames in one call, those before an error included.
fn deliver(reader: &mut FrameReader, frames: &mut Vec<RawFrame>, sink: &dyn FrameSink) -> Result<(), FrameError> {
    let end = loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if !frames.is_empty() {
        sink.on_frames(frames);
        frames.clear();
    }
    end
}

fn read_error(error: ReadError) -> LaneClosed {
    match error {
        ReadError::Reset(code) => LaneClosed::Aborted { code: code.into_inner() },
        ReadError::ConnectionLost(error) => LaneClosed::Link(CloseReason::of(error)),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => LaneClosed::Local,
    }
}
