//! What a reader is shown of an object.

use bytes::Bytes;

use super::SiblingMeta;
use crate::version::{Object, Sibling};

/// The siblings of `object` as a client sees them, twins collapsed, and their values in the same order.
pub fn siblings_of(object: &Object) -> (Vec<SiblingMeta>, Vec<Bytes>) {
    show(object.collapsed())
}

/// The one sibling that last-write-wins shows, in the same form.
pub fn newest_of(object: &Object) -> (Vec<SiblingMeta>, Vec<Bytes>) {
    show(object.newest().into_iter().collect())
}

fn show(siblings: Vec<&Sibling>) -> (Vec<SiblingMeta>, Vec<Bytes>) {
    let mut metas = Vec::with_capacity(siblings.len());
    let mut values = Vec::with_capacity(siblings.len());
    for sibling in siblings {
        let value = sibling.body.value();
        metas.push(SiblingMeta {
            dot: sibling.dot,
            write_id: sibling.write_id,
            node: sibling.node,
            wall_ms: sibling.wall_ms,
            len: value.map(|value| {
                u32::try_from(value.len()).expect("a value is shorter than a frame, which has a u32 length")
            }),
        });
        values.extend(value.cloned());
    }
    (metas, values)
}
