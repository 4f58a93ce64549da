//! Why a local cluster cannot be laid out.

use std::io;
use std::path::PathBuf;

use crate::net::NetError;

/// Why a local cluster cannot be laid out. What was made until then stays, and is gone on with by another try.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file or directory cannot be made.
    #[error("making {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Certificates(#[from] NetError),
    /// A path cannot stand in a configuration.
    #[error("{} is not UTF-8, which a configuration is", path.display())]
    Path {
        /// Which one.
        path: PathBuf,
    },
    /// There are not so many free ports.
    #[error("fewer than {count} of the ports {first} to {last} are free on loopback")]
    Ports {
        /// How many were asked for.
        count: usize,
        /// The first that is looked at,
        first: u16,
        /// and the last.
        last: u16,
    },
}
