//! Why a request was not answered with what it asked for.

use serde::{Deserialize, Serialize};

/// Whether to try a failed request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The request itself is wrong.
    Never,
    /// At once, at another node, with the same write id.
    Elsewhere,
    /// After a jittered pause.
    Later,
}

/// Why a request was not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ApiError {
    /// The request makes no sense. Nothing was done.
    #[error("{reason}")]
    BadRequest {
        /// What was wrong and what is allowed.
        reason: String,
    },
    /// No such bucket. Nothing was done.
    #[error("there is no bucket {bucket:?}; this cluster has: {known}")]
    UnknownBucket {
        /// The one asked for.
        bucket: String,
        /// Those there are, comma-separated.
        known: String,
    },
    /// The context token cannot be used. Nothing was written.
    #[error("the context cannot be used: {reason}")]
    BadContext {
        /// Why.
        reason: String,
    },
    /// The value is longer than the cluster takes. Nothing was written.
    #[error("the value has {len} bytes; at most {max} are allowed (net.max_value)")]
    ValueTooLarge {
        /// Bytes given.
        len: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The key has as many concurrent values as it may. Nothing was written: read it, merge, and put with the context.
    #[error("the key has {count} siblings, at most {max} are allowed: get it, resolve, and put with its context")]
    TooManySiblings {
        /// Siblings there would be.
        count: u32,
        /// `replication.max_siblings`.
        max: u32,
    },
    /// The write id has been used for another value. Nothing was written.
    #[error("this write id was used for another value before; draw a new one for a new write")]
    WriteIdReused,
    /// Too few replicas confirmed the write in time. It may have happened, or still happen.
    #[error("indeterminate: {acks} of {w} replicas confirmed the write ({detail}); it may still take effect")]
    Indeterminate {
        /// Replicas that confirmed.
        acks: u8,
        /// Replicas wanted.
        w: u8,
        /// Which kind fell short, and who did not answer.
        detail: String,
    },
    /// Too few nodes can be reached. Nothing was written, or read.
    #[error("unavailable: {able} of {wanted} replicas can be reached ({detail}); nothing was done")]
    Unavailable {
        /// Replicas of the kind that falls short.
        able: u8,
        /// Replicas wanted.
        wanted: u8,
        /// Which kind falls short, and who is away.
        detail: String,
    },
    /// No result as new as the given context could be found in time.
    #[error("stale: what can be read is older than the given context ({detail})")]
    Stale {
        /// Who was asked and did not answer.
        detail: String,
    },
    /// Too few replicas answered the read in time.
    #[error("timeout: {replies} of {r} replicas answered the read ({detail})")]
    ReadTimeout {
        /// Replicas that answered.
        replies: u8,
        /// Replicas wanted.
        r: u8,
        /// Who did not.
        detail: String,
    },
    /// The node has more requests than it may hold. Nothing was done.
    #[error("overloaded: the node holds as many requests as it may; try again")]
    Overloaded,
    /// The deadline had passed on arrival. Nothing was done.
    #[error("the request was older than its deadline when it arrived; it was not executed")]
    Expired,
    /// The node does not take requests now. Nothing was done.
    #[error("the node does not take requests: {reason}")]
    NotReady {
        /// Joining, draining ...
        reason: String,
    },
    /// The node takes no writes now. Nothing was written by it.
    #[error("the node takes no writes: {reason}")]
    ReadOnly {
        /// A full disk, a failed write ...
        reason: String,
    },
}

impl ApiError {
    /// Whether to try again. `Elsewhere` and `Later` keep the write id, so that no attempt makes a twin.
    pub fn retry(&self) -> Retry {
        match self {
            ApiError::BadRequest { .. }
            | ApiError::UnknownBucket { .. }
            | ApiError::BadContext { .. }
            | ApiError::ValueTooLarge { .. }
            | ApiError::TooManySiblings { .. }
            | ApiError::WriteIdReused => Retry::Never,
            ApiError::NotReady { .. } | ApiError::ReadOnly { .. } | ApiError::Unavailable { .. } => Retry::Elsewhere,
            ApiError::Indeterminate { .. }
            | ApiError::ReadTimeout { .. }
            | ApiError::Stale { .. }
            | ApiError::Overloaded
            | ApiError::Expired => Retry::Later,
        }
    }
}
