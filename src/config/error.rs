//! [`ConfigError`].

use std::io;
use std::path::PathBuf;

use super::layers::{KeyPath, Origin};

/// Why there is no configuration. Each names the place to correct; retrying without a correction fails alike.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or that is there, cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not TOML.
    #[error("{} is not TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// A key that no one knows.
    #[error("unknown key {key} (from {origin}); the nearest known key is {nearest}")]
    UnknownKey {
        /// The key given.
        key: KeyPath,
        /// Where it stands.
        origin: Origin,
        /// What was probably meant.
        nearest: KeyPath,
    },
    /// A value of a wrong type, in a wrong unit or out of its range.
    #[error("{key} = {value} (from {origin}): expected {expected}")]
    BadValue {
        /// The key.
        key: KeyPath,
        /// Its value, as TOML.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What it may be.
        expected: String,
    },
    /// A key that this configuration needs has no value.
    #[error("{key} is not set: {reason}")]
    Missing {
        /// The key.
        key: KeyPath,
        /// Why it is needed, and where to get it.
        reason: &'static str,
    },
}
