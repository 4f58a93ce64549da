//! What came back when all nodes were asked for their status.

use dynkv::api::StatusReply;
use dynkv::client::ClientError;
use serde::Serialize;

/// What each node has said of itself, by its address.
pub type Answers = [(String, Result<StatusReply, ClientError>)];

/// A node that has said nothing.
#[derive(Debug, PartialEq, Serialize)]
pub struct Unreachable {
    pub address: String,
    reason: String,
}

impl Unreachable {
    pub fn among(answers: &Answers) -> Vec<Unreachable> {
        let unreachable = |(address, answer): &(String, Result<StatusReply, ClientError>)| {
            let reason = answer.as_ref().err()?.to_string();
            Some(Unreachable { address: address.clone(), reason })
        };
        answers.iter().filter_map(unreachable).collect()
    }

    pub fn line(&self) -> String {
        format!("no answer from {}: {}", self.address, self.reason)
    }
}
