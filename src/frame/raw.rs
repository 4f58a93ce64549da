//! The raw frame: the unit that a lane carries, and the reader that cuts a byte stream into frames.
//!
//! ```text
//! len u32 BE | request id u64 BE | kind u8 | header_len u32 BE | header (msgpack) | body (raw)
//! ```
//!
//! `len` counts what follows it, so a frame takes `4 + len` bytes. Header and body are opaque here. Lengths are checked
//! before anything is allocated for them: a peer cannot make the reader hold more than [`FrameLimits::max_frame`] bytes
//! and the chunks that were pushed since the reader last ran dry.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before the header: the length field, the request id, the kind and the header's length.
pub const PREFIX_LEN: usize = 17;
/// Bytes of the length field.
const LEN_FIELD: usize = 4;
/// The least that a length field may count: an empty header and an empty body.
const MIN_LEN: usize = PREFIX_LEN - LEN_FIELD;
/// A body at least this long travels as a chunk of its own; copying a shorter one costs less than another chunk does.
const OWN_CHUNK_LEN: usize = 2048;

/// One frame, its header and body not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Ties an answer to its request; unique among the requests that are open on the lane.
    pub id: u64,
    /// What the header and body are; the message codec's business.
    pub kind: u8,
    /// The message without its value, in msgpack.
    pub header: Bytes,
    /// The value, or nothing.
    pub body: Bytes,
}

impl RawFrame {
    /// The [`PREFIX_LEN`] bytes that stand before header and body.
    ///
    /// # Panics
    /// If the frame has 4 GiB or more; whoever sends frames checks them against [`FrameLimits::check`].
    pub fn encode_prefix(&self) -> [u8; PREFIX_LEN] {
        let len = u32::try_from(self.encoded_len() - LEN_FIELD).expect("a frame is checked against max_frame before");
        let header_len = u32::try_from(self.header.len()).expect("a header is shorter than its frame");
        let mut prefix = [0; PREFIX_LEN];
        let mut out = &mut prefix[..];
        out.put_u32(len);
        out.put_u64(self.id);
        out.put_u8(self.kind);
        out.put_u32(header_len);
        prefix
    }

    /// Bytes of the whole frame on the wire.
    pub fn encoded_len(&self) -> usize {
        PREFIX_LEN + self.header.len() + self.body.len()
    }

    /// Appends the frame's bytes: prefix, header and a short body are copied to `scratch`, a long body becomes a chunk of
    /// its own in `out`. What is in `scratch` follows what is in `out`; [`flush_scratch`] moves it there.
    pub fn append_chunks(&self, out: &mut Vec<Bytes>, scratch: &mut BytesMut) {
        scratch.put_slice(&self.encode_prefix());
        scratch.put_slice(&self.header);
        if self.body.len() < OWN_CHUNK_LEN {
            scratch.put_slice(&self.body);
        } else {
            flush_scratch(out, scratch);
            out.push(self.body.clone());
        }
    }

    /// Cuts a whole frame, its length already checked, into its parts.
    fn parse(mut whole: Bytes) -> RawFrame {
        whole.advance(LEN_FIELD);
        let id = whole.get_u64();
        let kind = whole.get_u8();
        let header_len = whole.get_u32() as usize;
        let header = whole.split_to(header_len);
        RawFrame { id, kind, header, body: whole }
    }
}

/// Moves what [`RawFrame::append_chunks`] left in `scratch` to the end of `out`.
pub fn flush_scratch(out: &mut Vec<Bytes>, scratch: &mut BytesMut) {
    if !scratch.is_empty() {
        out.push(scratch.split().freeze());
    }
}

/// The longest frames that are sent or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// The longest header in bytes.
    pub max_header: usize,
    /// The longest frame in bytes, its length field included; above the longest value by a header at least.
    pub max_frame: usize,
}

impl Default for FrameLimits {
    /// Headers of 4 MiB (the keys of a page, a large layout), frames of 64 MiB (a key with many large siblings).
    fn default() -> FrameLimits {
        FrameLimits { max_header: 4 << 20, max_frame: 64 << 20 }
    }
}

impl FrameLimits {
    /// Whether a peer with the same limits takes `frame`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] or [`FrameError::HeaderTooLong`].
    pub fn check(&self, frame: &RawFrame) -> Result<(), FrameError> {
        self.check_frame(frame.encoded_len())?;
        self.check_header(frame.header.len())
    }

    fn check_frame(&self, len: usize) -> Result<(), FrameError> {
        if len > self.max_frame { Err(FrameError::TooLong { len, max: self.max_frame }) } else { Ok(()) }
    }

    fn check_header(&self, len: usize) -> Result<(), FrameError> {
        if len > self.max_header { Err(FrameError::HeaderTooLong { len, max: self.max_header }) } else { Ok(()) }
    }
}

/// Why bytes are not frames. None is worth a retry: the stream has lost its framing and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than is taken.
    #[error("a frame of {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes declared, the length field included.
        len: usize,
        /// [`FrameLimits::max_frame`].
        max: usize,
    },
    /// The header is longer than is taken.
    #[error("a frame header of {len} bytes, at most {max} are allowed")]
    HeaderTooLong {
        /// Bytes declared.
        len: usize,
        /// [`FrameLimits::max_header`].
        max: usize,
    },
    /// The lengths contradict each other.
    #[error("a frame of {len} bytes cannot hold a header of {header_len} bytes")]
    BadLength {
        /// Bytes declared, the length field included.
        len: usize,
        /// Bytes declared for the header; zero if the frame is too short to say so.
        header_len: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, {have} bytes after its start")]
    Truncated {
        /// Bytes of the frame that had arrived.
        have: usize,
    },
}

/// Cuts a stream of chunks into frames.
///
/// Call [`push`](Self::push) with what arrived, then [`next`](Self::next) until it yields `None`. A frame that lies in one
/// chunk shares that chunk's memory; any other is assembled, each byte copied once. After an error the reader yields that
/// error for ever: there is no way back into the framing.
#[derive(Debug)]
pub struct FrameReader {
    limits: FrameLimits,
    chunks: VecDeque<Bytes>,
    /// The start of a frame that no single chunk holds.
    partial: BytesMut,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new(limits: FrameLimits) -> FrameReader {
        FrameReader { limits, chunks: VecDeque::new(), partial: BytesMut::new(), failed: None }
    }

    /// Adds the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_none() && !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole frame, or `None` until more is pushed.
    ///
    /// # Errors
    /// Any [`FrameError`] but `Truncated`.
    #[allow(clippy::should_implement_trait, reason = "an iterator's next cannot be resumed after None")]
    pub fn next(&mut self) -> Result<Option<RawFrame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let next = if self.partial.is_empty() { self.cut() } else { self.assemble() };
        if let Err(error) = next {
            self.failed = Some(error);
            self.chunks.clear();
            self.partial = BytesMut::new();
        }
        next
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] inside a frame, or the error met before.
    pub fn finish(&self) -> Result<(), FrameError> {
        let have = self.partial.len() + self.chunks.iter().map(Bytes::len).sum::<usize>();
        match self.failed {
            Some(error) => Err(error),
            None if have > 0 => Err(FrameError::Truncated { have }),
            None => Ok(()),
        }
    }

    /// At a frame's start: takes it out of the first chunk, or begins to assemble it.
    fn cut(&mut self) -> Result<Option<RawFrame>, FrameError> {
        let Some(chunk) = self.chunks.front_mut() else { return Ok(None) };
        if let Some(total) = self.limits.total_len(chunk)?
            && chunk.len() >= total
        {
            let whole = chunk.split_to(total);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            return Ok(Some(RawFrame::parse(whole)));
        }
        self.assemble()
    }

    /// Copies chunks to `partial` until it holds the whole frame: first the prefix, which says how long it is.
    fn assemble(&mut self) -> Result<Option<RawFrame>, FrameError> {
        if !self.fill(PREFIX_LEN) {
            // an absurd length is refused as soon as it is there
            self.limits.total_len(&self.partial)?;
            return Ok(None);
        }
        let total = self.limits.total_len(&self.partial)?.expect("the prefix holds the length");
        if !self.fill(total) {
            return Ok(None);
        }
        Ok(Some(RawFrame::parse(std::mem::take(&mut self.partial).freeze())))
    }

    /// Copies to `partial` until it has `target` bytes; says whether it has.
    fn fill(&mut self, target: usize) -> bool {
        self.partial.reserve(target.saturating_sub(self.partial.len()));
        while self.partial.len() < target
            && let Some(chunk) = self.chunks.front_mut()
        {
            let part = chunk.split_to(chunk.len().min(target - self.partial.len()));
            self.partial.put_slice(&part);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.partial.len() >= target
    }
}

impl FrameLimits {
    /// Bytes of the frame that starts with `start`, its declared lengths checked as far as they are there; `None` if the
    /// length field is not complete.
    fn total_len(&self, start: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(len) = start.first_chunk() else { return Ok(None) };
        let total = LEN_FIELD.saturating_add(u32::from_be_bytes(*len) as usize);
        self.check_frame(total)?;
        if total < LEN_FIELD + MIN_LEN {
            return Err(FrameError::BadLength { len: total, header_len: 0 });
        }
        if let Some(prefix) = start.first_chunk::<PREFIX_LEN>() {
            let [.., a, b, c, d] = *prefix;
            let header_len = u32::from_be_bytes([a, b, c, d]) as usize;
            self.check_header(header_len)?;
            if header_len > total - PREFIX_LEN {
                return Err(FrameError::BadLength { len: total, header_len });
            }
        }
        Ok(Some(total))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: FrameLimits = FrameLimits { max_header: 64, max_frame: 8192 };

    fn frame(id: u64, header: &[u8], body: &[u8]) -> RawFrame {
        RawFrame { id, kind: 7, header: Bytes::copy_from_slice(header), body: Bytes::copy_from_slice(body) }
    }

    fn encode(frames: &[RawFrame]) -> Bytes {
        let (mut out, mut scratch) = (Vec::new(), BytesMut::new());
        for frame in frames {
            frame.append_chunks(&mut out, &mut scratch);
        }
        flush_scratch(&mut out, &mut scratch);
        out.concat().into()
    }

    /// Feeds `bytes` in chunks of the lengths given (over and over), draining after each.
    fn read(bytes: &Bytes, chunk_lens: &[usize]) -> (Vec<RawFrame>, Result<(), FrameError>) {
        let mut reader = FrameReader::new(LIMITS);
        let (mut frames, mut rest) = (Vec::new(), bytes.clone());
        for len in chunk_lens.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            reader.push(rest.split_to((*len).clamp(1, rest.len())));
            loop {
                match reader.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
            let held = reader.partial.capacity() + reader.chunks.iter().map(Bytes::len).sum::<usize>();
            assert!(held <= 2 * LIMITS.max_frame, "a drained reader holds {held} bytes");
        }
        (frames, reader.finish())
    }

    #[track_caller]
    fn check_error(bytes: &[u8], error: FrameError) {
        for chunk_lens in [vec![usize::MAX], vec![1], vec![4], vec![17]] {
            let (frames, end) = read(&Bytes::copy_from_slice(bytes), &chunk_lens);
            assert_eq!((frames, end), (vec![], Err(error)), "in chunks of {chunk_lens:?}");
        }
    }

    #[test]
    fn the_layout_is_what_the_document_says() {
        let bytes = encode(&[frame(0x0102_0304_0506_0708, b"he", b"bod")]);
        assert_eq!(&bytes[..], b"\x00\x00\x00\x12\x01\x02\x03\x04\x05\x06\x07\x08\x07\x00\x00\x00\x02hebod");
    }

    #[test]
    fn a_frame_in_one_chunk_is_not_copied() {
        let bytes = encode(&[frame(1, b"h", b"first"), frame(2, b"h", &[9; 3000])]);
        let mut reader = FrameReader::new(LIMITS);
        reader.push(bytes.clone());
        let range = bytes.as_ptr_range();
        for _ in 0..2 {
            let frame = reader.next().unwrap().unwrap();
            assert!(range.contains(&frame.body.as_ptr()) && range.contains(&frame.header.as_ptr()));
        }
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn long_bodies_travel_as_chunks_of_their_own() {
        let long = frame(1, b"h", &[1; OWN_CHUNK_LEN]);
        let short = frame(2, b"h", &[2; OWN_CHUNK_LEN - 1]);
        let (mut out, mut scratch) = (Vec::new(), BytesMut::new());
        for frame in [&short, &long, &short, &short] {
            frame.append_chunks(&mut out, &mut scratch);
        }
        flush_scratch(&mut out, &mut scratch);
        let one = short.encoded_len();
        let lens: Vec<_> = out.iter().map(Bytes::len).collect();
        assert_eq!(lens, [one + PREFIX_LEN + 1, OWN_CHUNK_LEN, 2 * one]);
        assert_eq!(out[1].as_ptr(), long.body.as_ptr());
    }

    #[test]
    fn absurd_lengths_are_refused_before_anything_is_allocated() {
        check_error(b"\xff\xff\xff\xff", FrameError::TooLong { len: (1 << 32) + 3, max: 8192 });
        check_error(b"\x00\x00\x1f\xfd", FrameError::TooLong { len: 8193, max: 8192 });
        check_error(b"\x00\x00\x00\x0c", FrameError::BadLength { len: 16, header_len: 0 });
        let header = |len: u8| [b"\x00\x00\x00\x50\0\0\0\0\0\0\0\0\0\0\0\0".as_slice(), &[len]].concat();
        check_error(&header(65), FrameError::HeaderTooLong { len: 65, max: 64 });
        let mut tight = header(4);
        tight[3] = 16;
        check_error(&tight, FrameError::BadLength { len: 20, header_len: 4 });
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        let longest = frame(1, &[0; 64], &vec![0; 8192 - PREFIX_LEN - 64]);
        assert_eq!(LIMITS.check(&longest), Ok(()));
        assert_eq!(read(&encode(std::slice::from_ref(&longest)), &[1000]), (vec![longest.clone()], Ok(())));
        let longer = frame(1, &[0; 64], &vec![0; 8192 - PREFIX_LEN - 63]);
        assert_eq!(LIMITS.check(&longer), Err(FrameError::TooLong { len: 8193, max: 8192 }));
        assert_eq!(LIMITS.check(&frame(1, &[0; 65], b"")), Err(FrameError::HeaderTooLong { len: 65, max: 64 }));
    }

    #[test]
    fn an_error_stays() {
        let mut reader = FrameReader::new(LIMITS);
        reader.push(Bytes::from_static(b"\0\0\0\0"));
        let error = reader.next().unwrap_err();
        reader.push(encode(&[frame(1, b"", b"")]));
        assert_eq!((reader.next(), reader.finish()), (Err(error), Err(error)));
    }

    fn frames() -> impl Strategy<Value = Vec<RawFrame>> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
        let body = prop_oneof![4 => bytes(100), 1 => bytes(5000)];
        let one = (any::<u64>(), any::<u8>(), bytes(64), body).prop_map(|(id, kind, header, body)| RawFrame {
            id,
            kind,
            header: header.into(),
            body: body.into(),
        });
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn any_chunking_yields_the_frames_that_were_written(
            frames in frames(), chunk_lens in proptest::collection::vec(1usize..6000, 1..8),
        ) {
            prop_assert_eq!(read(&encode(&frames), &chunk_lens), (frames, Ok(())));
        }

        #[test]
        fn a_cut_stream_yields_the_whole_frames_and_says_that_it_was_cut(
            frames in frames(), chunk_lens in proptest::collection::vec(1usize..6000, 1..8), cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encode(&frames);
            let cut = cut.index(bytes.len() + 1);
            let ends = frames.iter().scan(0, |end, frame| { *end += frame.encoded_len(); Some(*end) });
            let (whole, last) = ends.take_while(|end| *end <= cut).fold((0, 0), |(n, _), end| (n + 1, end));
            let (read, end) = read(&bytes.slice(..cut), &chunk_lens);
            prop_assert_eq!(&read, &frames[..whole]);
            prop_assert_eq!(end, if cut == last { Ok(()) } else { Err(FrameError::Truncated { have: cut - last }) });
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..400),
            chunk_lens in proptest::collection::vec(1usize..50, 1..8),
        ) {
            let _ = read(&bytes.into(), &chunk_lens);
        }
    }
}
