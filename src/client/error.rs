//! Why a call has no result.

use std::time::Duration;

use crate::api::{ApiError, Retry, Trace};
use crate::net::NetError;
use crate::types::NameError;

/// What kind of failure it is, for programs that only branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong; the same one will fail again.
    Usage,
    /// Too few replicas, too late, or nobody there.
    Unavailable,
    /// Certificates do not fit.
    Auth,
    /// Something else.
    Other,
}

/// Why a call has no result. All attempts that its time allowed have been made; [`ClientError::retry`] says whether another
/// call makes sense. To repeat a write whose fate is unknown, use its write id again
/// ([`PutOptions::write_id`](super::PutOptions::write_id)).
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A node answered so.
    #[error("{node}: {error}")]
    Refused {
        /// Which node.
        node: String,
        /// What it said.
        error: ApiError,
        /// What became of the request there, if that was asked for.
        trace: Option<Box<Trace>>,
    },
    /// A write was sent, and nothing decisive came back.
    #[error(
        "indeterminate: 0 of W replicas are known to have confirmed the write; no answer within {} from {}; it may still \
         take effect: read the key before writing again",
        humantime::format_duration(*timeout), asked.join(", ")
    )]
    Indeterminate {
        /// The call's deadline.
        timeout: Duration,
        /// Who may have it.
        asked: Vec<String>,
    },
    /// A read was sent, and nothing came back.
    #[error("timeout: no answer within {} from {}", humantime::format_duration(*timeout), asked.join(", "))]
    Timeout {
        /// The call's deadline.
        timeout: Duration,
        /// Who was asked.
        asked: Vec<String>,
    },
    /// No node could be reached; nothing was sent.
    #[error("no node could be reached, nothing was sent: {}; check that they run and that UDP gets through", tried.join("; "))]
    Unreachable {
        /// Who was tried, and how it failed.
        tried: Vec<String>,
    },
    /// This client and the cluster do not accept each other's certificates; nothing was sent.
    #[error("not let in: {}; `dynkv certs client` makes a certificate that the cluster's authority has signed", tried.join("; "))]
    Auth {
        /// Who was tried, and how it failed.
        tried: Vec<String>,
    },
    /// As many calls as may be are under way already; nothing was sent.
    #[error("this client has as many calls under way as it may, and none ended within {}; start fewer at a time", humantime::format_duration(*timeout))]
    Busy {
        /// The call's deadline.
        timeout: Duration,
    },
    /// A node answered with something that is no answer to this.
    #[error("{node}: {reason}; do its version and this client's fit?")]
    BadAnswer {
        /// Which node.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate files cannot be used, or no socket can be had.
    #[error(transparent)]
    Setup(NetError),
    /// A key or bucket that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A session keeps tokens itself.
    #[error("a session keeps the {what} token itself: leave it out, or use the client for this request")]
    InSession {
        /// Which option was given.
        what: &'static str,
    },
    /// There is nobody to ask.
    #[error("no endpoint is given: name at least one node's HOST:PORT")]
    NoEndpoints,
}

impl ClientError {
    /// Whether another call makes sense. `Elsewhere` is never said: the call has been there.
    pub fn retry(&self) -> Retry {
        match self {
            ClientError::Refused { error, .. } if error.retry() != Retry::Never => Retry::Later,
            ClientError::Indeterminate { .. }
            | ClientError::Timeout { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Busy { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    /// Whether a write that failed so may have taken effect, or still take effect.
    pub fn is_indeterminate(&self) -> bool {
        matches!(
            self,
            ClientError::Indeterminate { .. } | ClientError::Refused { error: ApiError::Indeterminate { .. }, .. }
        )
    }

    /// What became of the request, if that was asked for and a node answered.
    pub fn trace(&self) -> Option<&Trace> {
        match self {
            ClientError::Refused { trace, .. } => trace.as_deref(),
            _ => None,
        }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Refused { error, .. } => kind_of(error),
            ClientError::Indeterminate { .. }
            | ClientError::Timeout { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Busy { .. } => ErrorKind::Unavailable,
            ClientError::Auth { .. } => ErrorKind::Auth,
            ClientError::Setup(NetError::Bind { .. }) | ClientError::BadAnswer { .. } => ErrorKind::Other,
            ClientError::Setup(_) => ErrorKind::Auth,
            ClientError::Name(_) | ClientError::InSession { .. } | ClientError::NoEndpoints => ErrorKind::Usage,
        }
    }
}

fn kind_of(error: &ApiError) -> ErrorKind {
    match error {
        ApiError::BadRequest { .. }
        | ApiError::UnknownBucket { .. }
        | ApiError::BadContext { .. }
        | ApiError::ValueTooLarge { .. }
        | ApiError::WriteIdReused => ErrorKind::Usage,
        ApiError::TooManySiblings { .. } => ErrorKind::Other,
        ApiError::Indeterminate { .. }
        | ApiError::ReadTimeout { .. }
        | ApiError::Unavailable { .. }
        | ApiError::Stale { .. }
        | ApiError::Overloaded
        | ApiError::Expired
        | ApiError::NotReady { .. }
        | ApiError::ReadOnly { .. } => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_retries() {
        let refused = |error| ClientError::Refused { node: "n1".into(), error, trace: None };
        let asked = || vec!["n1 (h:1)".to_owned(), "n2 (h:2)".to_owned()];
        let timeout = Duration::from_secs(5);
        for (error, kind, retry, indeterminate) in [
            (refused(ApiError::Overloaded), ErrorKind::Unavailable, Retry::Later, false),
            (refused(ApiError::WriteIdReused), ErrorKind::Usage, Retry::Never, false),
            (
                refused(ApiError::Indeterminate { acks: 1, w: 2, detail: String::new() }),
                ErrorKind::Unavailable,
                Retry::Later,
                true,
            ),
            (ClientError::Indeterminate { timeout, asked: asked() }, ErrorKind::Unavailable, Retry::Later, true),
            (ClientError::Timeout { timeout, asked: asked() }, ErrorKind::Unavailable, Retry::Later, false),
            (ClientError::Auth { tried: asked() }, ErrorKind::Auth, Retry::Never, false),
            (ClientError::NoEndpoints, ErrorKind::Usage, Retry::Never, false),
        ] {
            assert_eq!(
                (error.kind(), error.retry(), error.is_indeterminate()),
                (kind, retry, indeterminate),
                "{error}"
            );
        }
    }

    #[test]
    fn a_silent_write_is_indeterminate_in_words() {
        let asked = vec!["n1 (h:1)".to_owned()];
        let text = ClientError::Indeterminate { timeout: Duration::from_secs(5), asked }.to_string();
        assert_eq!(
            text,
            "indeterminate: 0 of W replicas are known to have confirmed the write; no answer within 5s from n1 (h:1); it may \
             still take effect: read the key before writing again"
        );
    }
}
