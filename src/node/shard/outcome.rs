//! What those who wait for a put are told.

use super::Shard;
use super::entry::{Entry, Mint, Origin, Work};
use super::request::respond;
use crate::api::{ApiError, Receipt, Reply, Response};
use crate::message::{Coordinated, PeerAnswer};
use crate::node::effects::{Effects, Output};
use crate::quorum::PutVerdict;
use crate::storage::OpFailure;

impl Shard {
    /// The client waits no longer. The put ends, unless its mint still waits for the disk: until that is known it has to be
    /// found, since a retry would mint a second dot.
    pub(super) fn on_put_deadline(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let verdict = put.machine.on_deadline();
        let awaits_mint = matches!(put.mint, Mint::Awaited);
        self.tell_put(entry, verdict, fx);
        if awaits_mint {
            self.wake_at(entry, None);
        } else {
            self.end(entry);
        }
    }

    /// Tells all who wait for a put what became of it.
    pub(super) fn tell_put(&mut self, entry: u64, verdict: Option<PutVerdict>, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(verdict) = verdict else {
            if put.is_finished() {
                self.end(entry);
            }
            return;
        };
        let finished = put.is_finished();
        let origins = std::mem::take(&mut put.origins);
        let result = self.put_result(entry, verdict);
        match &result {
            Ok(_) => self.counters.puts_acknowledged += origins.len() as u64,
            Err(_) => self.counters.puts_indeterminate += origins.len() as u64,
        }
        for origin in origins {
            answer_put(origin, result.clone(), fx);
        }
        self.answered(entry, finished);
    }

    fn put_result(&self, entry: u64, verdict: PutVerdict) -> Result<Receipt, ApiError> {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get(&entry) else {
            unreachable!("the caller holds this put");
        };
        let quorum = put.machine.quorum();
        match (verdict, put.dot()) {
            (PutVerdict::Acknowledged(acks), Some(dot)) => {
                let mut context = put.client.clone();
                context.insert(dot);
                if mutant!(ContextCoversUnseen)
                    && let Some(minted) = put.minted()
                {
                    context.join(minted.object.context());
                }
                let context = self.seal(&put.place, &context);
                let (hints, coordinator) = (put.hints_kept(&acks, self.node), self.node);
                Ok(Receipt { acks, n: quorum.n(), w: quorum.w(), hints, context, dot, coordinator })
            }
            (PutVerdict::Indeterminate { .. }, _) if mutant!(UnknownCalledRefused) => Err(ApiError::Overloaded),
            (PutVerdict::Indeterminate { acks, wanted, kind }, _) => {
                let missing = put.machine.tally().missing(|node| self.name_of(node));
                Err(ApiError::Indeterminate { acks, w: wanted, detail: format!("{kind}{missing}") })
            }
            (PutVerdict::Acknowledged(acks), None) => {
                unreachable!("{} replicas acknowledged a write that was not minted", acks.len());
            }
        }
    }

    /// Ends a put that nobody else is to decide: it has been sent to nobody, or this node's copy of it is in doubt.
    pub(super) fn refuse_put(&mut self, entry: u64, error: &ApiError, fx: &mut Effects) {
        let Some(Entry { work: Work::Put(put), .. }) = self.entries.get_mut(&entry) else { return };
        let origins = std::mem::take(&mut put.origins);
        match error {
            ApiError::Indeterminate { .. } => self.counters.puts_indeterminate += origins.len() as u64,
            _ => self.counters.rejected += origins.len() as u64,
        }
        if !origins.is_empty() {
            self.waiting -= 1;
        }
        for origin in origins {
            answer_put(origin, Err(error.clone()), fx);
        }
        self.end(entry);
    }
}

/// What a client is told of what its coordinator's store said.
pub(super) fn store_error(failure: &OpFailure) -> ApiError {
    match failure {
        OpFailure::Overloaded => ApiError::Overloaded,
        OpFailure::Stopped => ApiError::ReadOnly { reason: failure.to_string() },
        OpFailure::Unreadable { detail, .. } => ApiError::NotReady { reason: format!("its disk failed: {detail}") },
        OpFailure::Newer { detail } => ApiError::NotReady { reason: detail.clone() },
    }
}

/// Answers whoever waits for a put.
pub(super) fn answer_put(origin: Origin, outcome: Result<Receipt, ApiError>, fx: &mut Effects) {
    match origin {
        Origin::Client(client) => {
            let response = Response::of(outcome.map(Reply::Put), Vec::new());
            respond(client, response, fx);
        }
        Origin::Peer(to) => {
            let answer = PeerAnswer::Coordinated(Coordinated { outcome, trace: None });
            fx.after_written.push(Output::Answer { to, answer });
        }
    }
}
