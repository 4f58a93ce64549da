//! A get: replies merged as they come, answered once R of them count.

use std::sync::Arc;

use super::{Ack, ReadQuorum, Tally};
use crate::ring::Slot;
use crate::types::NodeId;
use crate::version::Object;

/// What the client is told; each get says it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetVerdict {
    /// The merge of what the counted (and the merely heard) replicas hold.
    Answer {
        /// `None`: none of them has a record.
        object: Option<Arc<Object>>,
        /// Who counted.
        acks: Vec<Ack>,
    },
    /// Too few answers.
    Timeout {
        /// Replies that counted.
        replies: u8,
    },
}

/// The get machine: `on_*` takes what happened and returns the verdict when it falls.
#[derive(Clone, Debug)]
pub struct Get {
    quorum: ReadQuorum,
    tally: Tally,
    merged: Option<Arc<Object>>,
    told: bool,
}

impl Get {
    /// Nobody has answered yet.
    pub fn new(quorum: ReadQuorum, slots: &[NodeId]) -> Get {
        Get { quorum, tally: Tally::new(slots, 0), merged: None, told: false }
    }

    /// The parameters.
    pub fn quorum(&self) -> ReadQuorum {
        self.quorum
    }

    /// The count.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A replica has said what it holds. A rebuilding one's word is merged but does not count: what it lost, it does not know.
    pub fn on_reply(
        &mut self,
        slot: Slot,
        from: NodeId,
        object: Option<Arc<Object>>,
        rebuilding: bool,
    ) -> Option<GetVerdict> {
        let new = if rebuilding { self.tally.hear(slot, from) } else { self.tally.count(slot, from, false) };
        if let (true, false, Some(object)) = (new, self.told, object) {
            self.merged = Some(match self.merged.take() {
                None => object,
                Some(merged) if merged.merges_to_self(&object) => merged,
                Some(merged) => Arc::new(merged.merge(&object)),
            });
        }
        self.judge()
    }

    /// A replica does not say; `again`: unless it is asked once more.
    pub fn on_refusal(&mut self, slot: Slot, from: NodeId, reason: String, again: bool) -> Option<GetVerdict> {
        self.tally.refuse(slot, from, reason, again);
        self.judge()
    }

    /// The client waits no longer.
    pub fn on_deadline(&mut self) -> Option<GetVerdict> {
        self.judge().or_else(|| self.tell(|get| GetVerdict::Timeout { replies: get.tally.counted() }))
    }

    /// Whether nothing more is to come.
    pub fn is_finished(&self) -> bool {
        self.told && self.tally.is_complete()
    }

    fn judge(&mut self) -> Option<GetVerdict> {
        let needed = if mutant!(ReadAnsweredEarly) { 1 } else { self.quorum.needed() };
        if self.tally.counted() >= needed {
            return self.tell(|get| GetVerdict::Answer { object: get.merged.take(), acks: get.tally.acks() });
        }
        if self.tally.possible() < self.quorum.needed() {
            return self.tell(|get| GetVerdict::Timeout { replies: get.tally.counted() });
        }
        None
    }

    fn tell(&mut self, verdict: impl FnOnce(&mut Get) -> GetVerdict) -> Option<GetVerdict> {
        if std::mem::replace(&mut self.told, true) { None } else { Some(verdict(self)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Level;
    use crate::types::WriteId;
    use crate::version::{Actor, Body, CausalContext, Dot, Sibling};

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn get(r: u8) -> Get {
        Get::new(ReadQuorum::new(3, Level::Number(r), None).unwrap(), &NODES)
    }

    fn object(actor: u64) -> Arc<Object> {
        let sibling = Sibling {
            dot: Dot { actor: Actor(actor), counter: 1 },
            write_id: WriteId(actor.into()),
            node: NodeId(1),
            wall_ms: 0,
            body: Body::Value(actor.to_string().into()),
        };
        Arc::new(Object::update(None, &CausalContext::default(), sibling))
    }

    #[test]
    fn replies_of_r_replicas_are_merged() {
        let mut get = get(2);
        assert_eq!(get.on_reply(Slot(1), NodeId(2), Some(object(7)), false), None);
        let verdict = get.on_reply(Slot(0), NodeId(1), Some(object(8)), false);
        let Some(GetVerdict::Answer { object: Some(merged), acks }) = verdict else { panic!("{verdict:?}") };
        assert_eq!(*merged, object(7).merge(&object(8)));
        assert_eq!(acks.iter().map(|ack| ack.node).collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
    }

    #[test]
    fn a_rebuilding_replica_is_merged_and_not_counted() {
        let mut get = get(2);
        assert_eq!(get.on_reply(Slot(0), NodeId(1), Some(object(7)), true), None);
        assert_eq!(get.on_reply(Slot(1), NodeId(2), None, false), None);
        let verdict = get.on_reply(Slot(2), NodeId(3), None, false);
        let Some(GetVerdict::Answer { object: Some(merged), acks }) = verdict else { panic!("{verdict:?}") };
        assert_eq!((*merged).clone(), (*object(7)).clone());
        assert_eq!(acks.len(), 2);
    }

    #[test]
    fn a_read_error_is_not_an_absence() {
        let mut get = get(2);
        assert_eq!(get.on_reply(Slot(0), NodeId(1), None, false), None);
        assert_eq!(get.on_refusal(Slot(1), NodeId(2), "its disk failed".into(), false), None);
        assert_eq!(
            get.on_refusal(Slot(2), NodeId(3), "its disk failed".into(), false),
            Some(GetVerdict::Timeout { replies: 1 })
        );
    }

    #[test]
    fn late_replies_change_nothing() {
        let mut get = get(1);
        assert!(get.on_reply(Slot(0), NodeId(1), None, false).is_some());
        assert_eq!(get.on_reply(Slot(1), NodeId(2), Some(object(7)), false), None);
        assert!(!get.is_finished());
        assert_eq!(get.on_reply(Slot(2), NodeId(3), None, false), None);
        assert!(get.is_finished());
    }
}
