//! The daemon: drives the machines of [`node`](crate::node) with real clocks, threads, sockets and disks.
//!
//! | file | what it holds |
//! |---|---|
//! | `startup.rs`, `shutdown.rs` | the two ends of a node's life, each one ordered function |
//! | `supervise.rs` | where every task and thread starts, and what its end means |
//! | `control.rs`, `dial.rs` | the task around `Control`; the tasks that keep peers dialed |
//! | `listener.rs`, `sinks.rs` | who may open which lane; where frames go |
//! | `lanes.rs`, `inbox.rs` | what shards send on; what waits for them |
//! | `shard.rs`, `host.rs`, `read_pool.rs`, `syncer.rs`, `gather.rs` | the shards' tasks, what their drains call, the readers, the thread that syncs, and answers that all shards give together |
//! | `disk.rs`, `mark.rs` | one sync at a time, the verdict on writes; what tells a kill from a power loss |
//! | `memory.rs`, `stalled.rs` | the cap on memory; clients that do not read |
//! | `board.rs`, `http.rs`, `metrics.rs`, `latency.rs` | what the node shows of itself |
//! | `birth_terms.rs`, `sizes.rs`, `own_files.rs`, `shards_start.rs`, `local_ranges.rs`, `repair.rs` | smaller concepts |
//!
//! A request's way: lane's reader task, sink, the shard's inbox, the shard's task, the lane's queue, lane's writer task. All of them run on the
//! same few threads, and each runs once for all that has gathered.

mod birth_terms;
mod board;
mod clock;
mod control;
mod dial;
mod disk;
mod engine;
mod error;
mod gather;
mod host;
mod http;
mod inbox;
mod lanes;
mod latency;
mod listener;
mod local_ranges;
mod mark;
mod memory;
mod mender;
mod metrics;
mod own_files;
mod read_pool;
mod repair;
#[cfg(feature = "rocksdb")]
mod rocks;
mod shard;
mod shards_start;
mod shutdown;
mod sinks;
mod sizes;
mod stalled;
mod startup;
mod supervise;
mod syncer;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use error::ServerError;
pub use mark::MARK_DIR;
#[cfg(feature = "rocksdb")]
pub use rocks::open_engine;
pub use startup::Setup;

use self::disk::Disk;
use self::own_files::PidFile;
use self::sinks::Switch;
use self::startup::StopTimed;
use self::supervise::Supervisor;
use crate::api::StatusReply;
use crate::net::{Endpoint, Tls};

/// What a running node can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain and stop.
    Stop,
    /// Read the certificates again.
    Reload,
}

/// A running node. Dropping it without [`stop`](Server::stop) leaves its parts running.
pub struct Server {
    quic: SocketAddr,
    http: SocketAddr,
    /// How long requests under way are waited for.
    drain_for: Duration,
    tls: ArcSwap<Tls>,
    endpoint: Endpoint,
    switch: Arc<Switch>,
    disk: Arc<Disk>,
    supervisor: Supervisor,
    accepting: CancellationToken,
    failures: mpsc::Receiver<ServerError>,
    stop_timed: StopTimed,
    pid: PidFile,
}

impl Server {
    /// Where peers and clients reach it, the port filled in.
    pub fn quic_addr(&self) -> SocketAddr {
        self.quic
    }

    /// Where HTTP reaches it, the port filled in.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// What it tells of itself.
    pub fn status(&self) -> StatusReply {
        self.switch.board.status()
    }

    /// Why it does not take requests now, if so.
    pub fn not_ready(&self) -> Option<String> {
        self.switch.board.not_ready()
    }

    /// Reads the certificates again; links that stand stay as they are.
    ///
    /// # Errors
    /// [`ServerError::Net`], or [`ServerError::Config`] if they are another node's by now: the old certificates stay in use.
    pub fn reload_tls(&self) -> Result<(), ServerError> {
        let current = self.tls.load();
        let tls = current.reload()?;
        if tls.identity() != current.identity() {
            let reason = format!("the certificate is for {}, this node is {}", tls.identity(), current.identity());
            return Err(ServerError::Config { key: "tls.cert_file", reason });
        }
        self.endpoint.reload_tls(&tls);
        self.tls.store(Arc::new(tls));
        info!("certificates read again");
        Ok(())
    }

    /// Waits for the end of a part without which the node cannot go on, and says why it came. Whoever gets an answer
    /// stops the node.
    pub async fn failed(&mut self) -> ServerError {
        match self.failures.recv().await {
            Some(err) => err,
            // the server holds a supervisor, which holds a sender
            None => std::future::pending().await,
        }
    }
}

/// Runs a node until it is told to stop, or has to. `started` is told where it listens.
///
/// # Errors
/// [`ServerError`]: why it did not start, or why it ended unasked; it has been stopped in order all the same.
pub async fn run(
    setup: Setup,
    mut signals: mpsc::Receiver<Signal>,
    started: impl FnOnce(&Server),
) -> Result<(), ServerError> {
    let mut server = Server::start(setup).await?;
    started(&server);
    let failure = loop {
        tokio::select! {
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => {
                    if let Err(err) = server.reload_tls() {
                        tracing::error!(%err, "the old certificates stay in use");
                    }
                }
                Some(Signal::Stop) | None => break None,
            },
            failure = server.failed() => break Some(failure),
        }
    };
    let stopped = server.stop(failure.is_none()).await;
    failure.map_or(stopped, Err)
}
