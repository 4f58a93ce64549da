//! What an exchange does, and why it does not.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::Exchange;
use crate::storage::merkle::TreeId;
use crate::types::{NodeId, Now, Time};

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounters {
    /// Roots compared with a peer's.
    pub compared: u64,
    /// Of these, those that differed.
    pub differing: u64,
    /// How often a tree was the same as a peer's, or was made so.
    pub agreed: u64,
    /// Comparisons in depth that were begun.
    pub begun: u64,
    /// Steps that came to nothing.
    pub failed: u64,
    /// Keys that differed.
    pub keys_differing: u64,
    /// Objects that peers merged.
    pub objects_sent: u64,
    /// Objects that peers sent for this node to merge.
    pub objects_wanted: u64,
    /// Objects that were not merged where they should have been, each for a reason of its own, and keys that cannot be read.
    pub objects_failed: u64,
    /// Bytes of lists and objects, both ways.
    pub bytes: u64,
}

/// Why nothing is begun although something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// An operator's order.
    Paused,
    /// Clients keep the node busy.
    Load,
    /// As many bytes were sent as may be.
    Rate,
    /// Who is to be compared with cannot be reached.
    Away(Vec<NodeId>),
    /// Who is to be compared with has failed to answer, or has no time, a moment ago.
    Failing(Vec<NodeId>),
    /// Trees have to be filled, and this node takes no writes.
    ReadOnly,
    /// Reaping rounds have to be learnt first.
    Rounds,
    /// Others compare these trees with this node.
    Engaged,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
        match self {
            WaitReason::Paused => f.write_str("paused by order"),
            WaitReason::Load => f.write_str("clients keep the node busy"),
            WaitReason::Rate => f.write_str("its rate is used up"),
            WaitReason::Away(nodes) => write!(f, "away: {}", list(nodes)),
            WaitReason::Failing(nodes) => write!(f, "failed a moment ago: {}", list(nodes)),
            WaitReason::ReadOnly => f.write_str("this node takes no writes"),
            WaitReason::Rounds => f.write_str("no other node has told its reaping rounds yet"),
            WaitReason::Engaged => f.write_str("others compare these trees with this node"),
        }
    }
}

/// A tree that is being compared in depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningExchange {
    /// The tree.
    pub tree: TreeId,
    /// With whom.
    pub peer: NodeId,
    /// Keys that differed so far.
    pub keys_differing: u64,
    /// Bytes of lists and objects so far, both ways.
    pub bytes: u64,
    /// When it began.
    pub began: Time,
}

/// How far the last order to compare everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundProgress {
    /// Trees that have agreed with all their other primaries since the order.
    pub done: u64,
    /// Of so many.
    pub of: u64,
    /// When the rest is done, if it goes on as it went; `None` before the first is done.
    pub eta: Option<Duration>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeStatus {
    /// By an operator's order.
    pub paused: bool,
    /// Why nothing is begun, if something is due.
    pub waiting: Option<WaitReason>,
    /// What is being compared in depth.
    pub running: Vec<RunningExchange>,
    /// Comparisons of a tree with one peer that are due and not begun, or found to differ and waiting for their turn.
    pub due: u64,
    /// What has been done.
    pub counters: ExchangeCounters,
    /// `None` if nobody has ordered anything since the start.
    pub round: Option<RoundProgress>,
}

impl Exchange {
    /// What it does, and why it does not.
    pub fn status(&self, now: Now) -> ExchangeStatus {
        let running = self.sessions.values().map(|session| RunningExchange {
            tree: session.tree,
            peer: session.peer,
            keys_differing: session.differing,
            bytes: session.bytes,
            began: session.began,
        });
        ExchangeStatus {
            paused: self.paused,
            waiting: self.wait_reason(now),
            running: running.collect(),
            due: self.schedule.peers().map(|(_, peer)| peer.due(now.time)).sum(),
            counters: self.counters,
            round: self.round_progress(now),
        }
    }

    fn wait_reason(&self, now: Now) -> Option<WaitReason> {
        let waits: Vec<NodeId> = {
            let peers = self.schedule.peers().filter(|(_, peer)| peer.is_due(now.time));
            peers.map(|(node, _)| node).collect()
        };
        let is_held = self.sessions.values().any(|session| session.step.is_none());
        if self.paused {
            return Some(WaitReason::Paused);
        }
        if waits.is_empty() && !is_held {
            return None;
        }
        if self.busy {
            return Some(WaitReason::Load);
        }
        if self.throttle.ready_at() > now.time {
            return Some(WaitReason::Rate);
        }
        if !self.sessions.is_empty() || self.schedule.peers().any(|(_, peer)| peer.comparing.is_some()) {
            return None;
        }
        let (there, away): (Vec<NodeId>, Vec<NodeId>) =
            waits.into_iter().partition(|node| self.reachable.contains(node));
        if !away.is_empty() {
            return Some(WaitReason::Away(away));
        }
        let fails =
            |node: &NodeId| self.schedule.peer(*node).is_some_and(|peer| peer.backoff.until(now.time).is_some());
        let failing: Vec<NodeId> = there.into_iter().filter(fails).collect();
        Some(match failing {
            failing if !failing.is_empty() => WaitReason::Failing(failing),
            _ if self.read_only && !self.rebuilding.is_empty() => WaitReason::ReadOnly,
            _ if !self.unjoined.is_empty() => WaitReason::Rounds,
            _ => WaitReason::Engaged,
        })
    }

    fn round_progress(&self, now: Now) -> Option<RoundProgress> {
        let round = self.round.as_ref()?;
        let missing = self.schedule.pairs().filter(|((tree, _), pair)| !pair.agreed && round.trees.contains(tree));
        let missing: BTreeSet<TreeId> = missing.map(|((tree, _), _)| tree).collect();
        let (of, left) = (round.trees.len() as u64, missing.len() as u64);
        let done = of - left;
        let took = now.time.since(round.began).as_micros();
        let eta = (took * u128::from(left)).checked_div(u128::from(done));
        let eta = eta.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
        Some(RoundProgress { done, of, eta })
    }
}
