//! What holds across the module: laws over generated histories, the papers' examples, the encoding.

use bytes::Bytes;

use super::{Actor, Body, CausalContext, Dot, Sibling};
use crate::types::{NodeId, WriteId};

mod encoding;
mod examples;
mod history;
mod laws;
#[cfg(feature = "mutants")]
mod mutants;

fn dot(actor: u64, counter: u64) -> Dot {
    Dot { actor: Actor(actor), counter }
}

fn context(dots: impl IntoIterator<Item = Dot>) -> CausalContext {
    let mut context = CausalContext::new();
    dots.into_iter().for_each(|dot| context.insert(dot));
    context
}

/// A write of a value, with a write id and a wall clock made from the dot.
fn sibling(dot: Dot, value: &'static str) -> Sibling {
    let write_id = WriteId(u128::from(dot.actor.0) << 64 | u128::from(dot.counter));
    Sibling {
        dot,
        write_id,
        node: NodeId(1),
        wall_ms: dot.counter,
        body: Body::Value(Bytes::from_static(value.as_bytes())),
    }
}
