//! What it takes to answer a session token with "there is nothing".
//!
//! A write that a reader has seen, and that no primary holds, may be with a stand-in still; or it was deleted, and its tombstone has been
//! reaped. The latter is certain once every stand-in, and after that every primary, has said that it holds nothing: what is kept for
//! others goes from stand-ins to primaries, and never back. Hence two passes. Where nothing was ever reaped, there is no need for
//! the second.

use super::{Get, GetTerms};
use crate::types::Round;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Absence {
    /// The stand-ins of this read are all other members.
    pub everybody: bool,
    /// This is the second pass: all stand-ins have said that they hold nothing.
    pub second: bool,
    /// How many stand-ins there are.
    pub of: usize,
    /// Those of them that hold nothing, and have lost nothing.
    pub without: usize,
    /// The highest reaping round that any replica has met.
    pub round: Round,
}

impl Get {
    /// Whether nothing is an answer to a reader who has seen something.
    pub(super) fn is_known_absent(&self) -> bool {
        self.absence.second && self.merged.is_none() && self.tally.primaries() == self.quorum.n()
    }

    /// Whether it may be known after one more look at all primaries.
    pub(super) fn may_have_been_reaped(&self) -> bool {
        let Absence { everybody, second, of, without, round } = self.absence;
        let reaped = everybody && !second && without == of && round > Round::default();
        reaped && self.merged.is_none() && self.tally.primaries() == self.quorum.n()
    }

    /// What is asked of the replicas in the second pass.
    pub fn terms_to_look_again(&self) -> GetTerms {
        GetTerms {
            quorum: self.quorum,
            order: self.primaries.iter().map(|primary| primary.slot).collect(),
            own: self.own,
            stand_ins: Vec::new(),
            all: true,
            blocking: self.blocking,
            after: self.after.clone(),
            everybody: false,
            second: true,
        }
    }
}
