//! An object that goes to several nodes is encoded once.

use std::sync::Arc;

use bytes::Bytes;

use crate::version::Object;

/// The bytes of the object that was encoded last: all replicas are sent the same one, one after the other.
#[derive(Debug, Default)]
pub struct LastObject(Option<(Arc<Object>, Bytes)>);

impl LastObject {
    pub(super) fn encode(&mut self, object: &Arc<Object>) -> Bytes {
        if let Some((last, bytes)) = &self.0
            && Arc::ptr_eq(last, object)
        {
            return bytes.clone();
        }
        let bytes = object.encode();
        self.0 = Some((object.clone(), bytes.clone()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, WriteId};
    use crate::version::{Actor, Body, CausalContext, Dot, Sibling};

    fn object(actor: u64) -> Arc<Object> {
        let (dot, body) = (Dot { actor: Actor(actor), counter: 1 }, Body::Value("v".into()));
        let sibling = Sibling { dot, write_id: WriteId(1), node: NodeId(1), wall_ms: 0, body };
        Arc::new(Object::update(None, &CausalContext::default(), sibling))
    }

    #[test]
    fn the_same_object_is_encoded_once_and_another_anew() {
        let (mut last, first, second) = (LastObject::default(), object(1), object(2));
        let bytes = last.encode(&first);
        assert_eq!(last.encode(&first).as_ptr(), bytes.as_ptr());
        assert_eq!([last.encode(&second), last.encode(&first)], [second.encode(), first.encode()]);
    }
}
