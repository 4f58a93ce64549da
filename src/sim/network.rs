//! Links between processes, what the weather does to the frames on them, and who cannot hear whom.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::coverage::{Coverage, Mark};
use super::schedule::Shape;
use crate::frame::raw::{FrameLimits, FrameReader, RawFrame, flush_scratch};
use crate::node::LinkId;
use crate::types::Time;

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Of Control: a stream, so nothing on it is lost or overtaken while the link stands.
    Control,
    /// Of the dialer's shard. A stream too, but a full queue drops frames and senders repeat theirs: here any frame may be
    /// lost, late or doubled.
    Shard(u16),
    /// Of a client.
    Client,
}

/// A connection between two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Who dialed.
    pub dialer: usize,
    /// Who was dialed.
    pub acceptor: usize,
    /// The processes at its ends.
    pub runs: (u64, u64),
    /// When the last frame of the control lane arrives, towards the acceptor and towards the dialer.
    pub(super) last: [Time; 2],
}

impl Link {
    /// Sender, receiver and the receiver's process.
    pub fn ends(&self, to_dialer: bool) -> (usize, usize, u64) {
        if to_dialer { (self.acceptor, self.dialer, self.runs.0) } else { (self.dialer, self.acceptor, self.runs.1) }
    }
}

/// What may happen to a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Microseconds, least and most. Frames overtake one another.
    pub delay: (u64, u64),
    /// How likely it is lost.
    pub loss: f64,
    /// How likely it comes twice.
    pub duplication: f64,
    /// How likely it takes up to 10 s.
    pub late: f64,
}

/// The longest that a late frame takes.
const LATE_US: u64 = 10_000_000;

impl Default for Weather {
    fn default() -> Weather {
        Weather { delay: (100, 300), loss: 0.0, duplication: 0.0, late: 0.0 }
    }
}

impl Weather {
    /// The worse of both in every respect.
    fn worst(self, other: Weather) -> Weather {
        Weather {
            delay: (self.delay.0.min(other.delay.0), self.delay.1.max(other.delay.1)),
            loss: self.loss.max(other.loss),
            duplication: self.duplication.max(other.duplication),
            late: self.late.max(other.late),
        }
    }
}

/// A machine: nodes by their index, clients from here on.
pub const FIRST_CLIENT: usize = 1 << 16;

/// See the module.
#[derive(Default)]
pub struct Network {
    /// What stands.
    pub links: BTreeMap<LinkId, Link>,
    /// The weather on a good day.
    pub weather: Weather,
    /// Storms, by the event that brought them.
    pub(super) storms: BTreeMap<usize, Weather>,
    /// Directions in which nothing passes, and why.
    blocked: BTreeMap<(usize, usize), Vec<Shape>>,
    /// Frames that were handed to it.
    pub frames: u64,
    /// Frames that did not arrive.
    pub lost: u64,
    /// The last link's number.
    pub next_link: u64,
    /// Control frames that wait for a cut to end: a stream loses nothing while its connection stands.
    pub(super) stalled: BTreeMap<(LinkId, bool), VecDeque<Bytes>>,
    /// When the latest shard frame between two machines arrives.
    latest: BTreeMap<(usize, usize), Time>,
    /// Arrivals that were arranged here, by sender.
    pub(super) arranged: BTreeMap<usize, u64>,
}

impl Network {
    /// When copies of a frame that is sent now arrive. A `repeatable` one may come twice.
    pub(super) fn fates(
        &mut self,
        (from, to): (usize, usize),
        lane: Lane,
        repeatable: bool,
        now: Time,
        rng: &mut Xoshiro256PlusPlus,
        coverage: &mut Coverage,
    ) -> [Option<Time>; 2] {
        self.frames += 1;
        let reliable = lane == Lane::Control;
        if self.is_blocked(from, to) && !reliable {
            self.note_cut((from, to), coverage);
            return [None, None];
        }
        let weather = self.storms.values().fold(self.weather, |sum, storm| sum.worst(*storm));
        if !reliable && rng.random_bool(weather.loss) {
            self.lost += 1;
            coverage.hit(Mark::FrameLost);
            return [None, None];
        }
        let twice = repeatable && rng.random_bool(weather.duplication);
        coverage.add(Mark::FrameDuplicated, u64::from(twice));
        let mut fates = [None, None];
        for fate in fates.iter_mut().take(1 + usize::from(twice)) {
            let late = !reliable && rng.random_bool(weather.late);
            let most = if late { LATE_US } else { weather.delay.1 };
            let delay = rng.random_range(weather.delay.0..=most);
            coverage.add(Mark::FrameDelayed, u64::from(delay >= 1_000_000));
            let arrival = Time::from_micros(now.as_micros() + delay);
            if !reliable {
                let latest = self.latest.entry((from, to)).or_default();
                coverage.add(Mark::FrameOvertaken, u64::from(arrival < *latest));
                *latest = arrival.max(*latest);
            }
            if lane != Lane::Client {
                *self.arranged.entry(from).or_default() += 1;
            }
            *fate = Some(arrival);
        }
        fates
    }

    /// A frame ran into a cut, at its start or on its way.
    pub(super) fn note_cut(&mut self, (from, to): (usize, usize), coverage: &mut Coverage) {
        self.lost += 1;
        for shape in self.blocked.get(&(from, to)).into_iter().flatten() {
            coverage.hit(match shape {
                Shape::Single => Mark::CutSingle,
                Shape::Halves => Mark::CutHalves,
                Shape::Bridge => Mark::CutBridge,
                Shape::Ring => Mark::CutRing,
                Shape::OneWay => Mark::CutOneWay,
                Shape::Flapping => Mark::CutFlapping,
            });
        }
    }

    /// Nothing passes from one to the other any more.
    pub(super) fn block(&mut self, from: usize, to: usize, shape: Shape) {
        self.blocked.entry((from, to)).or_default().push(shape);
    }

    /// Takes back one [`block`](Network::block).
    pub(super) fn unblock(&mut self, from: usize, to: usize, shape: Shape) {
        let Some(shapes) = self.blocked.get_mut(&(from, to)) else { return };
        if let Some(at) = shapes.iter().position(|known| *known == shape) {
            shapes.remove(at);
        }
        if shapes.is_empty() {
            self.blocked.remove(&(from, to));
        }
    }

    /// Everybody hears everybody, and the weather is good.
    pub fn mend(&mut self) {
        self.blocked.clear();
        self.storms.clear();
    }

    /// Whether nothing passes from one to the other.
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Whether nothing passes in one direction at least.
    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }
}

/// A frame as it crosses the wire.
///
/// # Panics
/// If it is larger than a frame may be.
pub fn to_bytes(frame: &RawFrame) -> Bytes {
    FrameLimits::default().check(frame).expect("a node sends no frame that its peer refuses");
    let (mut chunks, mut scratch) = (Vec::new(), BytesMut::new());
    frame.append_chunks(&mut chunks, &mut scratch);
    flush_scratch(&mut chunks, &mut scratch);
    match chunks.len() {
        1 => chunks.remove(0),
        _ => chunks.concat().into(),
    }
}

/// What the other end makes of the bytes of one frame.
///
/// # Panics
/// If they are not those of one whole frame.
pub fn from_bytes(bytes: Bytes) -> RawFrame {
    let mut reader = FrameReader::new(FrameLimits::default());
    reader.push(bytes);
    let frame = reader.next().expect("a whole frame").expect("one frame");
    reader.finish().expect("and nothing behind it");
    frame
}
