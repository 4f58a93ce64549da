//! What is left to be said once a batch could not be written, or not be synced.

use super::{Effects, Output};
use crate::api::{ApiError, Reply, Response};
use crate::message::{Fetched, PeerAnswer, Ranged, Refusal, Replicated};

impl Effects {
    /// Takes back all that rests on a batch that could not be written: what is left to be released claims nothing.
    pub fn revoke(&mut self) {
        self.sync = false;
        let outputs = self.after_written.drain(..).chain(self.after_durable.drain(..));
        self.unbound.extend(outputs.filter_map(revoked));
    }
}

/// The output without what a failed batch or sync has made untrue; requests to peers are dropped, since they would spread it.
pub(in crate::node) fn revoked(output: Output) -> Option<Output> {
    match output {
        Output::Request { .. } => None,
        Output::Answer { to, answer } => {
            let answer = match answer {
                PeerAnswer::Replicated(_) => {
                    PeerAnswer::Replicated(Replicated { outcome: Err(Refusal::Storage), timing: None })
                }
                PeerAnswer::Fetched(_) => PeerAnswer::Fetched(Fetched { outcome: Err(Refusal::Storage), timing: None }),
                PeerAnswer::Ranged(_) => PeerAnswer::Ranged(Ranged { outcome: Err(Refusal::Storage) }),
                PeerAnswer::Exchange(answer) => PeerAnswer::Exchange(answer.refused(Refusal::Storage)),
                PeerAnswer::Reaping(_) => PeerAnswer::Reaping(Err(Refusal::Storage)),
                PeerAnswer::Rounds(_) => PeerAnswer::Rounds(Err(Refusal::Storage)),
                PeerAnswer::Coordinated(mut coordinated) => {
                    coordinated.outcome = coordinated.outcome.and_then(|receipt| Err(indeterminate(receipt.w)));
                    PeerAnswer::Coordinated(coordinated)
                }
            };
            Some(Output::Answer { to, answer })
        }
        Output::Respond { to, response } => {
            let response = match response.result {
                Ok(Reply::Put(receipt)) => Response::error(indeterminate(receipt.w)),
                Ok(Reply::Get(reply)) => read_failed(reply.r),
                Ok(Reply::Where(_)) => read_failed(1),
                _ => response,
            };
            Some(Output::Respond { to, response })
        }
    }
}

/// The answer to a reader who would have been shown what could not be written.
pub(in crate::node) fn read_failed(r: u8) -> Response {
    Response::error(ApiError::ReadTimeout { replies: 0, r, detail: "the coordinator's disk failed".into() })
}

fn indeterminate(w: u8) -> ApiError {
    ApiError::Indeterminate { acks: 0, w, detail: "the coordinator's disk failed".into() }
}
