//! How a command ends.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use dynkv::client::{ClientError, ErrorKind};

/// The exit codes, as in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Ok = 0,
    /// None of the others.
    Error = 1,
    /// The command line, or what it asks for, makes no sense.
    Usage = 2,
    /// No value under the key.
    NotFound = 3,
    /// More than one value, and that was not allowed.
    Siblings = 4,
    /// Too few replicas, too late, or nobody reached.
    Unavailable = 5,
    /// Certificates.
    Auth = 6,
    /// Some of it.
    Partly = 7,
    /// The cluster works, but not all of it.
    Degraded = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Exit {
        match error.kind() {
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Unavailable => Exit::Unavailable,
            ErrorKind::Auth => Exit::Auth,
            ErrorKind::Other => Exit::Error,
        }
    }
}

/// Why a command did not do what it was asked, and what to do next.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Nothing to say: the reader of our output has gone, or all has been said.
    pub fn silent(exit: Exit) -> Failure {
        Failure::new(exit, "")
    }

    /// `what` is put in front.
    pub fn about(what: impl Display, error: &ClientError) -> Failure {
        Failure::new(error.into(), format!("{what}: {error}"))
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr.
    pub fn report(&self) {
        if !self.message.is_empty() {
            // nobody is left to tell if stderr is closed
            let _ = writeln!(std::io::stderr(), "dynkv-cli: {}", self.message);
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::new(Exit::from(&error), error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// Of writing to stdout; whoever reads files names them.
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::silent(Exit::Ok),
            _ => Failure::new(Exit::Error, format!("cannot write the result: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use dynkv::api::ApiError;

    use super::*;

    #[test]
    fn errors_have_their_codes() {
        let refused = |error| Exit::from(&ClientError::Refused { node: "n1".into(), error, trace: None });
        for usage in [
            ApiError::BadRequest { reason: String::new() },
            ApiError::UnknownBucket { bucket: String::new(), known: String::new() },
            ApiError::ValueTooLarge { len: 1, max: 0 },
            ApiError::BadContext { reason: String::new() },
        ] {
            assert_eq!(refused(usage), Exit::Usage);
        }
        assert_eq!(refused(ApiError::Indeterminate { acks: 1, w: 2, detail: String::new() }), Exit::Unavailable);
        assert_eq!(refused(ApiError::TooManySiblings { count: 1, max: 1 }), Exit::Error);
        assert_eq!(Exit::from(&ClientError::Auth { tried: vec![] }), Exit::Auth);
        assert_eq!(Exit::from(&ClientError::Unreachable { tried: vec![] }), Exit::Unavailable);
    }
}
