//! Orders to single nodes: who is meant, and what became of them.

use dynkv::client::ClientError;
use dynkv::ring::Member;
use serde::Serialize;

use super::exit::{Exit, Failure};

/// What a node has answered to an order.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row<T> {
    pub node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The answers, by the name of who was asked.
///
/// # Errors
/// Nobody took the order.
pub fn rows<T>(results: Vec<(String, Result<T, ClientError>)>) -> Result<Vec<Row<T>>, Failure> {
    if results.iter().all(|(_, result)| result.is_err())
        && let Some((name, Err(error))) = results.first()
    {
        return Err(Failure::about(format!("no node took the order; {name}"), error));
    }
    let row = |(node, result): (String, Result<T, ClientError>)| {
        let error = result.as_ref().err().map(ToString::to_string);
        Row { node, ordered: result.ok(), error }
    };
    Ok(results.into_iter().map(row).collect())
}

/// Whether all have taken it.
pub fn exit<T>(rows: &[Row<T>]) -> Exit {
    if rows.iter().all(|row| row.error.is_none()) { Exit::Ok } else { Exit::Partly }
}

/// Nobody has this name.
pub fn unknown(what: &str, name: &str, members: &[Member]) -> Failure {
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    Failure::usage(format!("{what} {name:?} is not known; members are {}", names.join(", ")))
}
