//! Links between processes, and the bytes on them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use dynkv::frame::raw::{FrameLimits, FrameReader, RawFrame, flush_scratch};
use dynkv::node::LinkId;
use rand::RngExt;
use rand::rngs::StdRng;

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Control,
    /// The dialer's shard.
    Shard(u16),
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub dialer: usize,
    pub acceptor: usize,
    /// The processes at its ends.
    pub runs: (u64, u64),
}

impl Link {
    pub fn ends(&self, to_dialer: bool) -> (usize, usize, u64) {
        if to_dialer { (self.acceptor, self.dialer, self.runs.0) } else { (self.dialer, self.acceptor, self.runs.1) }
    }
}

/// What may happen to a frame.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Microseconds, least and most. Frames overtake one another.
    pub delay: (u64, u64),
    pub loss: f64,
    pub duplication: f64,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { delay: (100, 300), loss: 0.0, duplication: 0.0 }
    }
}

#[derive(Default)]
pub struct Network {
    pub links: BTreeMap<LinkId, Link>,
    /// Directions in which nothing passes.
    pub cuts: BTreeSet<(usize, usize)>,
    pub weather: Weather,
    pub frames: u64,
    pub lost: u64,
    pub next_link: u64,
}

impl Network {
    /// When copies of a frame arrive, in microseconds from now. Control lanes are reliable while the link stands.
    pub fn fates(&mut self, from: usize, to: usize, lane: Lane, rng: &mut StdRng) -> Vec<u64> {
        self.frames += 1;
        let Weather { delay, loss, duplication } = self.weather;
        if self.cuts.contains(&(from, to)) || (lane != Lane::Control && rng.random_bool(loss)) {
            self.lost += 1;
            return Vec::new();
        }
        let copies = if lane != Lane::Control && rng.random_bool(duplication) { 2 } else { 1 };
        (0..copies).map(|_| rng.random_range(delay.0..=delay.1)).collect()
    }

    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a))
    }
}

/// A frame as it crosses the wire.
pub fn to_bytes(frame: &RawFrame) -> Bytes {
    FrameLimits::default().check(frame).expect("a node sends no frame that its peer refuses");
    let (mut chunks, mut scratch) = (Vec::new(), BytesMut::new());
    frame.append_chunks(&mut chunks, &mut scratch);
    flush_scratch(&mut chunks, &mut scratch);
    chunks.concat().into()
}

/// What the other end makes of it.
pub fn from_bytes(bytes: Bytes) -> RawFrame {
    let mut reader = FrameReader::new(FrameLimits::default());
    reader.push(bytes);
    let frame = reader.next().expect("a whole frame").expect("one frame");
    reader.finish().expect("and nothing behind it");
    frame
}
