//! A put, once its dot is minted: which slots have it, and when that is enough.

use super::{Ack, Tally, WriteQuorum};
use crate::ring::Slot;
use crate::types::NodeId;

/// What the client is told; each put says it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutVerdict {
    /// Enough replicas have it, durably where that was asked.
    Acknowledged(Vec<Ack>),
    /// They have not confirmed in time, or can no longer do so. The write may surface all the same.
    Indeterminate {
        /// Replicas of the kind that fell short.
        acks: u8,
        /// Replicas of that kind that were wanted.
        wanted: u8,
        /// Which kind fell short.
        kind: &'static str,
    },
}

/// The put machine: `on_*` takes what happened and returns the verdict when it falls.
#[derive(Clone, Debug)]
pub struct Put {
    quorum: WriteQuorum,
    tally: Tally,
    told: bool,
}

impl Put {
    /// Nobody has confirmed yet; up to `spare` nodes may be called to stand in for the slots' own.
    pub fn new(quorum: WriteQuorum, slots: &[NodeId], spare: usize) -> Put {
        Put { quorum, tally: Tally::new(slots, spare), told: false }
    }

    /// The parameters.
    pub fn quorum(&self) -> WriteQuorum {
        self.quorum
    }

    /// The count.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Slots for which somebody should stand in: W needs them, and nobody `usable` is relied on to fill them.
    pub fn wanting(&self, usable: impl Fn(NodeId) -> bool) -> Vec<Slot> {
        self.tally.wanting(self.quorum.w().max(self.quorum.dw()), usable)
    }

    /// Calls a node to stand in for a slot; false if it cannot.
    pub fn call(&mut self, slot: Slot, stand_in: NodeId) -> bool {
        self.tally.call(slot, stand_in)
    }

    /// An attempt's time is over: who has not answered is relied on no longer.
    pub fn on_attempt_timeout(&mut self) {
        self.tally.give_up_waiting();
    }

    /// A replica has written it (`synced`: and it is on its disk).
    pub fn on_ack(&mut self, slot: Slot, from: NodeId, synced: bool) -> Option<PutVerdict> {
        self.tally.count(slot, from, synced);
        self.judge()
    }

    /// A replica will not write it; `again`: unless it is asked once more.
    pub fn on_refusal(&mut self, slot: Slot, from: NodeId, reason: String, again: bool) -> Option<PutVerdict> {
        self.tally.refuse(slot, from, reason, again);
        self.judge()
    }

    /// Another attempt at the same write waits too: the verdict falls (again) once both are satisfied.
    pub fn on_joined(&mut self, quorum: WriteQuorum) -> Option<PutVerdict> {
        self.quorum = self.quorum.stronger(quorum);
        self.told = false;
        self.judge()
    }

    /// Slots to be asked (again): those that have not answered, and, while too few copies are on disk, those whose copy is
    /// not: a stronger attempt has joined, and they have not been asked to sync.
    pub fn unsatisfied(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        let durable = self.tally.synced() >= self.quorum.dw();
        self.tally.open().chain(self.tally.buffered().filter(move |_| !durable))
    }

    /// The client waits no longer.
    pub fn on_deadline(&mut self) -> Option<PutVerdict> {
        self.judge().or_else(|| self.tell(self.shortfall()))
    }

    /// Whether the verdict has fallen.
    pub fn is_told(&self) -> bool {
        self.told
    }

    fn judge(&mut self) -> Option<PutVerdict> {
        let (tally, quorum) = (&self.tally, self.quorum);
        if tally.counted() >= quorum.w() && tally.primaries() >= quorum.pw() && tally.synced() >= quorum.dw() {
            return self.tell(PutVerdict::Acknowledged(tally.acks()));
        }
        if tally.possible() < quorum.w().max(quorum.dw()) || tally.possible_primaries() < quorum.pw() {
            return self.tell(self.shortfall());
        }
        None
    }

    fn shortfall(&self) -> PutVerdict {
        let (counted, primaries, quorum) = (self.tally.counted(), self.tally.primaries(), self.quorum);
        let (acks, wanted, kind) = if counted < quorum.w() {
            (counted, quorum.w(), "")
        } else if primaries < quorum.pw() {
            (primaries, quorum.pw(), "primaries; ")
        } else {
            (self.tally.synced(), quorum.dw(), "on disk; ")
        };
        PutVerdict::Indeterminate { acks, wanted, kind }
    }

    fn tell(&mut self, verdict: PutVerdict) -> Option<PutVerdict> {
        (!std::mem::replace(&mut self.told, true)).then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Level;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn put(w: u8, dw: Option<u8>) -> Put {
        Put::new(WriteQuorum::new(3, Level::Number(w), None, dw, false).unwrap(), &NODES, 0)
    }

    fn ack(slot: u8, synced: bool) -> Ack {
        Ack { slot, node: NodeId(u64::from(slot) + 1), stand_in: false, synced }
    }

    #[test]
    fn it_is_acknowledged_once_at_w() {
        let mut put = put(2, None);
        assert_eq!(put.on_ack(Slot(0), NodeId(1), false), None);
        assert_eq!(put.on_ack(Slot(0), NodeId(1), false), None, "the same replica again is not a second one");
        assert_eq!(
            put.on_ack(Slot(2), NodeId(3), false),
            Some(PutVerdict::Acknowledged(vec![ack(0, false), ack(2, false)]))
        );
        assert_eq!(put.on_ack(Slot(1), NodeId(2), false), None);
        assert!(put.is_told() && put.tally().is_complete());
    }

    #[test]
    fn a_joined_attempt_is_told_too_and_gets_what_it_asked_for() {
        let mut put = put(1, None);
        assert!(put.on_ack(Slot(0), NodeId(1), false).is_some());
        let quorum = WriteQuorum::new(3, Level::Number(2), None, None, false).unwrap();
        assert_eq!(put.on_joined(quorum), None, "one replica is not two");
        assert_eq!(
            put.on_ack(Slot(1), NodeId(2), false),
            Some(PutVerdict::Acknowledged(vec![ack(0, false), ack(1, false)]))
        );
    }

    #[test]
    fn an_attempt_that_asks_for_more_copies_on_disk_has_the_buffered_ones_asked_again() {
        let mut put = put(1, None);
        assert!(put.on_ack(Slot(0), NodeId(1), false).is_some());
        assert!(put.on_ack(Slot(1), NodeId(2), false).is_none());
        assert_eq!(put.unsatisfied().collect::<Vec<_>>(), [(Slot(2), NodeId(3))]);
        let durable = WriteQuorum::new(3, Level::One, None, Some(2), false).unwrap();
        assert_eq!(put.on_joined(durable), None);
        let asked: Vec<_> = put.unsatisfied().collect();
        assert_eq!(asked, [(Slot(2), NodeId(3)), (Slot(0), NodeId(1)), (Slot(1), NodeId(2))]);
        assert_eq!(put.on_ack(Slot(1), NodeId(2), true), None);
        assert!(put.on_ack(Slot(0), NodeId(1), true).is_some());
    }

    #[test]
    fn buffered_replicas_do_not_make_it_durable() {
        let mut put = put(1, Some(2));
        assert_eq!(put.on_ack(Slot(0), NodeId(1), true), None);
        assert_eq!(put.on_ack(Slot(1), NodeId(2), false), None);
        assert_eq!(put.on_deadline(), Some(PutVerdict::Indeterminate { acks: 1, wanted: 2, kind: "on disk; " }));
    }

    #[test]
    fn at_the_deadline_it_is_indeterminate_never_failed() {
        let mut put = put(2, None);
        put.on_ack(Slot(0), NodeId(1), false);
        assert_eq!(put.on_deadline(), Some(PutVerdict::Indeterminate { acks: 1, wanted: 2, kind: "" }));
        assert_eq!(put.on_ack(Slot(1), NodeId(2), false), None, "a late ack changes no verdict");
        assert!(!put.tally().is_complete(), "the third slot is still open");
    }

    #[test]
    fn refusals_that_leave_too_few_end_it_at_once() {
        let mut put = put(2, None);
        assert_eq!(put.on_refusal(Slot(1), NodeId(2), "full".into(), false), None);
        assert_eq!(put.on_refusal(Slot(2), NodeId(3), "busy".into(), true), None);
        assert_eq!(
            put.on_refusal(Slot(2), NodeId(3), "full".into(), false),
            Some(PutVerdict::Indeterminate { acks: 0, wanted: 2, kind: "" })
        );
    }

    /// A stand-in makes W, and never PW.
    #[test]
    fn a_stand_in_counts_to_w_and_not_to_pw() {
        let sloppy = |pw| {
            let quorum = WriteQuorum::new(3, Level::Number(2), pw, None, false).unwrap();
            let mut put = Put::new(quorum, &NODES, 1);
            assert_eq!(put.on_ack(Slot(0), NodeId(1), false), None);
            assert!(put.wanting(|_| false) == [Slot(1)] && put.call(Slot(1), NodeId(4)));
            (put.on_ack(Slot(1), NodeId(4), false), put)
        };
        let stood_in = Ack { slot: 1, node: NodeId(4), stand_in: true, synced: false };
        assert_eq!(sloppy(None).0, Some(PutVerdict::Acknowledged(vec![ack(0, false), stood_in])));
        let (verdict, mut put) = sloppy(Some(Level::Number(2)));
        assert_eq!(verdict, None);
        assert_eq!(put.on_deadline(), Some(PutVerdict::Indeterminate { acks: 1, wanted: 2, kind: "primaries; " }));
    }

    #[test]
    fn who_is_late_is_replaced_and_counts_all_the_same() {
        let quorum = WriteQuorum::new(3, Level::Number(3), None, None, false).unwrap();
        let mut put = Put::new(quorum, &NODES, 2);
        put.on_ack(Slot(0), NodeId(1), false);
        assert_eq!(put.wanting(|_| true), []);
        put.on_attempt_timeout();
        assert_eq!(put.wanting(|_| true), [Slot(1), Slot(2)]);
        assert!(put.call(Slot(1), NodeId(4)) && put.call(Slot(2), NodeId(5)));
        put.on_ack(Slot(1), NodeId(2), false);
        let Some(PutVerdict::Acknowledged(acks)) = put.on_ack(Slot(2), NodeId(5), false) else {
            panic!("W is reached")
        };
        assert_eq!(acks.iter().map(|ack| ack.node.0).collect::<Vec<_>>(), [1, 2, 5]);
        assert!(!put.tally().is_complete(), "primary 3 and stand-in 4 are listened to");
    }
}
