//! What became of one request, step by step: for people who ask why it was slow.
//!
//! All times are microseconds from the request's arrival at the node that coordinates it, by that node's clock. A shard
//! handles what is queued in one go (a drain) and reads the clock at its start: what a peer answered is dated by the drain that
//! took the answer, so an answer that waited for the shard counts as time on the way. Around the store, the write and the
//! sync, and where anything leaves, the clock is read anew for as long as something is traced. No clock is compared with
//! another node's: a replica names the lengths of its own waiting and working, and what is left of a span is the network, both
//! ways, and the coordinator's queue.

use serde::{Deserialize, Serialize};

use super::HintKept;
use crate::types::NodeId;

/// What a replica says about its own share of a traced request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From the request's arrival to the start of the drain that took it, in microseconds.
    pub queue_us: u64,
    /// From there until the answer left: reading, merging, the batch's write, and its sync with the wait for an earlier one, in microseconds.
    pub store_us: u64,
}

/// As what a node was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It coordinates, and asks its own store.
    #[serde(rename = "self")]
    Own,
    /// It has the slot.
    Primary,
    /// It has not, and stands in for whoever has.
    StandIn,
}

/// Why a node was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its answer was needed from the start.
    First,
    /// The others took longer than replies should.
    Hedge,
    /// A slot had nobody to answer for it.
    StandIn,
    /// Who was asked before has failed, or what they hold is not enough.
    Widened,
    /// It was behind what a read has found.
    Repair,
    /// To coordinate in the asker's place.
    Coordinate,
}

/// What an answer was good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanOutcome {
    /// It counts.
    Counted,
    /// It counts, and its object was spared: the asker has the same.
    SameDigest,
    /// It was merged and does not count: the node lost its disk, or stands in and has nothing.
    Heard,
    /// It did not do it.
    Refused {
        /// Why.
        reason: String,
    },
}

/// One node that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which.
    pub node: NodeId,
    /// The slot of the preference list that it was asked for.
    pub slot: u8,
    /// As what.
    pub role: Role,
    /// Why.
    pub why: Why,
    /// When the request left (for [`Role::Own`]: when it was taken up).
    pub asked_us: u64,
    /// When it was asked once more: attempts that got no answer in time.
    pub again_us: Vec<u64>,
    /// When the answer was taken up; `None`: not before the client was answered.
    pub answered_us: Option<u64>,
    /// Its own share of that time; `None` for [`Role::Own`], and where it has not answered.
    pub timing: Option<Timing>,
    /// What the answer was good for; refused without an answer: there was no link to it.
    pub outcome: Option<SpanOutcome>,
    /// It was to keep a hint for this node, for which it stands in.
    pub hint_for: Option<NodeId>,
}

impl Span {
    /// Time that is neither the replica's queue nor its store, in microseconds: the network, both ways, and the asker's
    /// queue. `None` without an answer from elsewhere.
    pub fn network_us(&self) -> Option<u64> {
        let (answered, timing) = (self.answered_us?, self.timing?);
        Some(answered.saturating_sub(self.asked_us).saturating_sub(timing.queue_us).saturating_sub(timing.store_us))
    }

    /// Whether it had not answered when the client was, although it could be reached.
    pub fn is_late(&self) -> bool {
        self.answered_us.is_none() && self.outcome.is_none() && self.why != Why::Repair
    }
}

/// A put went through a node that has no slot of its key; times from its arrival there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOn {
    /// By whom.
    pub by: NodeId,
    /// When it was taken up.
    pub queued_us: u64,
    /// When it left for the coordinator.
    pub sent_us: u64,
    /// When the client was answered.
    pub answered_us: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Whose clock the times are of.
    pub coordinator: NodeId,
    /// Who had it first.
    pub handed_on: Option<HandedOn>,
    /// It was taken up.
    pub queued_us: u64,
    /// The coordinator's own store was done; `None`: it had no part, or has not come that far.
    pub store_us: Option<u64>,
    /// Of a put: its batch was in the log.
    pub written_us: Option<u64>,
    /// Of a put: its batch was on the disk.
    pub synced_us: Option<u64>,
    /// The answer left.
    pub answered_us: u64,
    /// Everybody who was asked by then, in that order.
    pub spans: Vec<Span>,
    /// Hints that the coordinator keeps, for primaries that nobody stands for.
    pub hints: Vec<HintKept>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked at 100 microseconds, and not heard of since.
    fn span() -> Span {
        Span {
            node: NodeId(1),
            slot: 0,
            role: Role::Primary,
            why: Why::First,
            asked_us: 100,
            again_us: vec![],
            answered_us: None,
            timing: None,
            outcome: None,
            hint_for: None,
        }
    }

    #[test]
    fn the_network_took_what_neither_queue_nor_store_did() {
        let timing = Some(Timing { queue_us: 20, store_us: 50 });
        let answered = |us| Span { answered_us: Some(us), timing, ..span() }.network_us();
        assert_eq!((answered(300), answered(170), answered(120)), (Some(130), Some(0), Some(0)));
        let (unanswered, own) = (Span { timing, ..span() }, Span { answered_us: Some(300), ..span() });
        assert_eq!((unanswered.network_us(), own.network_us()), (None, None));
    }

    #[test]
    fn late_is_whose_answer_was_waited_for_and_may_come() {
        assert!(span().is_late());
        let answered = Span { answered_us: Some(300), ..span() };
        let without_link = Span { outcome: Some(SpanOutcome::Refused { reason: "no link".into() }), ..span() };
        for other in [answered, without_link, Span { why: Why::Repair, ..span() }] {
            assert!(!other.is_late(), "{other:?}");
        }
    }
}
