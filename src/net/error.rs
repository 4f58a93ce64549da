//! What can go wrong between two processes, worded for whoever runs them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::link::CloseReason;
use crate::frame::raw::FrameError;
use crate::types::NameError;

/// Why the network part failed. `Tls` and the file errors need a person; `Timeout` and `Link` are worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The listening address cannot be had. Not worth a retry.
    #[error("cannot listen on {addr}/udp: {source}{}", bind_advice(source))]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// "read", "create" ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is never overwritten is there already.
    #[error("{} is there already and is not overwritten: move it away first, or choose another directory or name", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A secret that others can read.
    #[error("{} has mode {mode:04o}, others can read it: run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A name that certificates cannot carry.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The endpoint has no certificates yet.
    #[error("this endpoint has no certificates: give it some before it dials")]
    NoTls,
    /// One end refused the other's certificate or name. A retry helps only once somebody changed a file.
    #[error("{peer}: {reason}")]
    Tls {
        /// The other end.
        peer: SocketAddr,
        /// Which check failed, at which end, and what to do.
        reason: String,
    },
    /// Nothing came in time. Worth a retry.
    #[error("{peer}: no {what} in time")]
    Timeout {
        /// The other end.
        peer: SocketAddr,
        /// What was waited for.
        what: &'static str,
    },
    /// The link ended, or never came to be. Worth a retry.
    #[error("{peer}: {reason}")]
    Link {
        /// The other end.
        peer: SocketAddr,
        /// How it ended.
        reason: CloseReason,
    },
    /// The own opening frame is longer than the limits allow.
    #[error("the opening frame of a lane cannot be sent: {0}")]
    Frame(#[from] FrameError),
    /// The endpoint was closed.
    #[error("this endpoint is closed")]
    Closed,
    /// The address cannot be dialed from this endpoint.
    #[error("cannot dial {peer}: {reason}")]
    Dial {
        /// The other end.
        peer: SocketAddr,
        /// Why not.
        reason: String,
    },
}

fn bind_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; another process has this port: stop it, or set net.listen to a free one",
        io::ErrorKind::PermissionDenied => "; use a port above 1023, or grant CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    }
}
