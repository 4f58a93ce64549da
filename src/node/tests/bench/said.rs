//! What leaves a shard, in words that a test can compare.

use super::Bench;
use crate::api::{ApiError, Holding, Reply, Response, Span};
use crate::message::{PeerAnswer, PeerRequest, Reason};
use crate::node::{Output, request_slot};
use crate::quorum::Ack;
use crate::types::NodeId;
use crate::version::{Object, Sibling};

impl Bench {
    /// The trace's spans, each as `who slot role why: outcome` in the order of asking.
    pub fn spans(&self) -> Vec<String> {
        self.trace().spans.iter().map(|span| self.span(span)).collect()
    }

    fn span(&self, span: &Span) -> String {
        let Span { node, slot, role, why, outcome, .. } = span;
        let outcome = outcome.as_ref().map(|outcome| format!(": {outcome:?}")).unwrap_or_default();
        let hint = span.hint_for.map(|target| format!(" for {}", self.name(target))).unwrap_or_default();
        format!("{} {slot} {role:?} {why:?}{hint}{outcome}", self.name(*node))
    }

    pub(super) fn text(&self, output: &Output) -> String {
        match output {
            Output::Request { node, id, request } => {
                let (node, slot) = (self.name(*node), request_slot(*id).0);
                let (word, more) = match request {
                    PeerRequest::Fetch(fetch) => {
                        let flags = [(fetch.stand_in, " standing in"), (fetch.hedge, " hedged")];
                        ("fetch", flags.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect())
                    }
                    PeerRequest::Replicate(replicate) => {
                        let word = if replicate.reason == Reason::Repair { "repair" } else { "write" };
                        let sync = if replicate.sync { " synced" } else { "" };
                        (word, format!("{sync} [{}]", values(&replicate.object)))
                    }
                    PeerRequest::Coordinate(coordinate) => {
                        ("coordinate", format!(" within {} ms", coordinate.put.header.deadline.remaining_ms))
                    }
                    PeerRequest::Range(_) => ("range", String::new()),
                    PeerRequest::Exchange(request) => ("exchange", format!(" {request:?}")),
                    PeerRequest::Reaping(reaping) => {
                        ("reaping", format!(" {:?} {}", reaping.step, reaping.candidates.len()))
                    }
                    PeerRequest::Rounds(asked) => ("rounds", format!(" {:?}", asked.partitions)),
                };
                let as_slot = if node == format!("p{slot}") { String::new() } else { format!(" for {slot}") };
                format!("{word} {node}{as_slot}{more}")
            }
            Output::Answer { answer: PeerAnswer::Replicated(replicated), .. } => match &replicated.outcome {
                Ok(_) => "answer: written".into(),
                Err(refusal) => format!("answer: {refusal}"),
            },
            Output::Answer { answer, .. } => format!("answer: {answer:?}"),
            Output::Respond { response, .. } => self.response(response),
        }
    }

    fn response(&self, response: &Response) -> String {
        let acks = |acks: &[Ack]| acks.iter().map(|ack| self.name(ack.node)).collect::<Vec<_>>().join(",");
        match &response.result {
            Ok(Reply::Get(reply)) => {
                let repaired: String =
                    reply.repaired.iter().map(|node| format!(" repaired {}", self.name(*node))).collect();
                let mut values: Vec<_> = response.values.iter().map(|value| String::from_utf8_lossy(value)).collect();
                values.sort();
                format!("got [{}] of {}{repaired}", values.join(","), acks(&reply.acks))
            }
            Ok(Reply::Put(receipt)) => format!("put on {}", acks(&receipt.acks)),
            Ok(Reply::Where(reply)) => {
                let holding = |(node, holding): &(NodeId, Holding)| match holding {
                    Holding::Nothing => format!("{} nothing", self.name(*node)),
                    Holding::Version { siblings, .. } => format!("{} {}", self.name(*node), siblings.len()),
                    Holding::NoAnswer { reason } => format!("{}: {reason}", self.name(*node)),
                };
                format!("where: {}", reply.slots.iter().map(holding).collect::<Vec<_>>().join(", "))
            }
            Ok(other) => format!("{other:?}"),
            Err(ApiError::Indeterminate { acks, w, .. }) => format!("indeterminate {acks}/{w}"),
            Err(ApiError::Unavailable { able, wanted, .. }) => format!("unavailable {able}/{wanted}"),
            Err(ApiError::ReadTimeout { replies, r, .. }) => format!("timeout {replies}/{r}"),
            Err(ApiError::Stale { .. }) => "stale".into(),
            Err(ApiError::ReadOnly { .. }) => "read-only".into(),
            Err(other) => other.to_string(),
        }
    }
}

fn values(object: &Object) -> String {
    let text =
        |sibling: &Sibling| String::from_utf8_lossy(sibling.body.value().map_or(&b""[..], |value| value)).into_owned();
    let mut values: Vec<String> = object.siblings().iter().map(text).collect();
    values.sort();
    values.join(",")
}
