//! [`ServerError`].

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::net::NetError;
use crate::node::Fatal;
use crate::node::startup::StartError;
use crate::storage::StorageError;

/// Why a node did not start, or had to end. None is worth a retry without a correction, unless its text says so.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error("{}: {source}{}", dir.display(), source.advice())]
    DataDir {
        /// Which.
        dir: PathBuf,
        /// Why not.
        source: StorageError,
    },
    /// The disk failed later.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the directory holds about the node cannot be started from.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another process has a copy of this directory open.
    #[error("another process on this host runs with the identity of this data directory ({} is locked): it is a copy", mark.display())]
    Twin {
        /// The locked file.
        mark: PathBuf,
    },
    /// Certificates, secrets or the UDP socket.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The HTTP address cannot be had.
    #[error("cannot listen on {addr}/tcp (http.listen): {source}")]
    Http {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the node's own cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// "read", "write" ...
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value of the configuration that no node could run with.
    #[error("{key}: {reason}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong, and what would do.
        reason: String,
    },
    /// The configuration says otherwise than what was fixed at the cluster's birth.
    #[error(
        "{key} = {configured}, but this cluster was born with {fixed}: it is fixed for good, remove the key or set it to {fixed}"
    )]
    FixedAtBirth {
        /// The key.
        key: String,
        /// Its value here.
        configured: String,
        /// The cluster's.
        fixed: String,
    },
    /// The cluster, or another process of this node, wants this one to end.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// A part that a node cannot run without has ended.
    #[error("{part} has ended: {reason}")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
}
