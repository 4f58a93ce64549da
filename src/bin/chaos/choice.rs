//! What a client does next: pure, drawn from its own seed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dynkv::sim::oracle::OpId;
use rand::RngExt;
use rand::rngs::StdRng;

use super::recorder::Intent;

/// Keys that all clients use at one time.
const HOT: u32 = 4;
/// How long before they give way to others.
const HOT_LIFE: Duration = Duration::from_secs(4);
/// How likely a client deletes a key of its own instead of writing it anew.
const DELETED: f64 = 0.5;
/// With that many siblings a client merges them instead of adding one.
const MANY_SIBLINGS: usize = 8;

/// What a client was handed last for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The context; none if there was nothing.
    pub context: Option<Bytes>,
    /// The operation that gave it.
    pub basis: OpId,
    /// How many siblings it showed.
    pub siblings: usize,
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Reads a key.
    Read(String),
    /// Reads a key and replaces what it is shown.
    Merge(String),
    /// Writes a key without a context, or on what it knew of it; or deletes that.
    Write {
        /// The key.
        key: String,
        /// Whether what it knew is replaced.
        known: bool,
        /// Whether by nothing.
        delete: bool,
    },
    /// Tries a write again whose fate it does not know.
    Retry,
}

/// A client's memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// By key.
    pub known: BTreeMap<String, Known>,
    /// Writes that may have happened, with the contexts that they carried.
    pub doubtful: Vec<(Intent, Option<Bytes>)>,
    /// How many keys of its own it has begun.
    fresh: u32,
}

/// Draws what a client does, so long after the load began.
pub fn draw(rng: &mut StdRng, client: usize, at: Duration, memory: &mut Memory) -> Act {
    let epoch = at.as_millis() / HOT_LIFE.as_millis();
    let hot = format!("hot-{}-{epoch}", rng.random_range(0..HOT));
    let known = memory.known.get(&hot);
    let crowded = known.is_some_and(|known| known.siblings >= MANY_SIBLINGS);
    let write = |key, known, delete| Act::Write { key, known, delete };
    match rng.random_range(0..100) {
        0..25 => Act::Read(hot),
        25..50 => Act::Merge(hot),
        50..62 if !crowded => write(hot, false, false),
        62..72 if known.is_some() => write(hot, true, false),
        72..78 if known.is_some_and(|known| known.context.is_some()) => write(hot, true, true),
        78..85 if !memory.doubtful.is_empty() => Act::Retry,
        85..90 if memory.fresh > 0 => {
            let own = own(client, rng.random_range(0..memory.fresh));
            let is_there = memory.known.get(&own).is_some_and(|known| known.context.is_some());
            if is_there && rng.random_bool(DELETED) { write(own, true, true) } else { Act::Merge(own) }
        }
        90..95 if memory.fresh > 0 => Act::Read(own(client, rng.random_range(0..memory.fresh))),
        95..100 => {
            memory.fresh += 1;
            write(own(client, memory.fresh - 1), false, false)
        }
        _ => Act::Merge(hot),
    }
}

fn own(client: usize, number: u32) -> String {
    format!("own-{client}-{number}")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_act_is_drawn_and_none_that_cannot_be() {
        let (mut rng, mut memory) = (StdRng::seed_from_u64(1), Memory::default());
        let mut seen = [0; 7];
        for round in 0..2000 {
            let act = draw(&mut rng, 0, Duration::from_millis(round), &mut memory);
            seen[match &act {
                Act::Read(_) => 0,
                Act::Merge(_) => 1,
                Act::Write { known: false, .. } => 2,
                Act::Write { delete: false, .. } => 3,
                Act::Write { key, .. } if key.starts_with("hot") => 4,
                Act::Write { .. } => 5,
                Act::Retry => 6,
            }] += 1;
            match act {
                Act::Retry => assert!(!memory.doubtful.is_empty()),
                Act::Write { key, known: true, .. } => assert!(memory.known.contains_key(&key)),
                Act::Read(key) => {
                    let known = Known { context: Some(Bytes::new()), basis: OpId(1), siblings: 1 };
                    memory.known.insert(key.clone(), known);
                    memory.doubtful =
                        vec![(Intent { key, id: dynkv::types::WriteId(1), body: None, basis: None }, None)];
                }
                _ => {}
            }
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn a_crowded_key_is_merged() {
        let (mut rng, mut memory) = (StdRng::seed_from_u64(1), Memory::default());
        for slot in 0..HOT {
            let known = Known { context: None, basis: OpId(1), siblings: MANY_SIBLINGS };
            memory.known.insert(format!("hot-{slot}-0"), known);
        }
        for _ in 0..500 {
            let act = draw(&mut rng, 0, Duration::ZERO, &mut memory);
            let blind = matches!(&act, Act::Write { key, known: false, .. } if key.starts_with("hot"));
            assert!(!blind, "{act:?}");
        }
    }
}
