//! The one ordered way for a node to stop.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::disk::Disk;
use super::shards_start::SHARD_TASK;
use super::startup::{
    DISK_WATCH_THREAD, INTERVAL_SYNC_THREAD, MEMORY_WATCH_THREAD, MENDER_THREAD, READER_THREAD, SYNC_THREAD,
};
use super::{Server, ServerError};
use crate::node::ShardInput;
use crate::node::startup::{Stored, clean_record};

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(10);
/// Clients have this long to take their answers.
const FLUSH: Duration = Duration::from_secs(1);
/// The peers have this long to take note of the end.
const CLOSE: Duration = Duration::from_secs(2);
/// The code with which a stopping node closes its links.
const CLOSE_STOPPING: u32 = 0;

impl Server {
    /// Stops the node, each step waiting for what it names and no longer than it says. `clean`: the node was asked to
    /// stop, so the next start may rely on nothing being lost.
    ///
    /// # Errors
    /// [`ServerError::Storage`] if the last writes or their sync failed: the stop then counts as unclean.
    pub async fn stop(self, clean: bool) -> Result<(), ServerError> {
        let Server { endpoint, switch, disk, supervisor, accepting, stop_timed, pid, drain_for, failures, .. } = self;
        info!(clean, "stopping");
        supervisor.expect_ends();
        // 1. No new links; probes send requests elsewhere.
        accepting.cancel();
        switch.board.drain();
        // 2. No new requests; those under way end by their deadlines.
        switch.shards.notify(&ShardInput::Drain);
        // Before the birth no shard runs, and none would take note.
        let is_born = switch.board.ring().is_some();
        if clean && is_born && !until(drain_for, || switch.shards.are_idle()).await {
            warn!("requests under way have not ended in time: their clients are told nothing");
        }
        // 3. The shards do what waits for them and end; nothing writes data from here on but the mender, which writes anew what stands there.
        switch.shards.close();
        let ended = tokio::time::timeout(drain_for, supervisor.join(SHARD_TASK)).await;
        let clean = clean && ended.is_ok();
        if ended.is_err() {
            warn!("a shard does not end, its disk may hang: the stop counts as unclean");
        }
        // 4. Answers go out, then control, dialers and HTTP end.
        switch.lanes.close();
        // What QUIC has taken is not sent yet, and lost when the link is closed. A client ends its lane once it has read all.
        if !until(FLUSH, || switch.lanes.queued_bytes() == 0 && switch.lanes.count().0 == 0).await {
            warn!("some clients have not taken their last answers in time");
        }
        supervisor.stopping().cancel();
        drop(stop_timed);
        for name in [DISK_WATCH_THREAD, MEMORY_WATCH_THREAD, MENDER_THREAD, INTERVAL_SYNC_THREAD] {
            supervisor.join(name).await;
        }
        // 5. Everything on the disk; the clean record last of all, so that it vouches for the rest.
        let on_disk = disk.clone();
        let synced = supervisor.blocking("last sync", move || finish(&on_disk, clean)).await;
        // 6. The links.
        endpoint.close(CLOSE_STOPPING, "the node stops");
        if tokio::time::timeout(CLOSE, endpoint.wait_closed()).await.is_err() {
            warn!("some peers have not taken note of the end");
        }
        if tokio::time::timeout(CLOSE, supervisor.wait_tasks()).await.is_err() {
            warn!("some tasks have not ended");
        }
        for (name, what) in [(READER_THREAD, "some reads have"), (SYNC_THREAD, "a sync has")] {
            if tokio::time::timeout(CLOSE, supervisor.join(name)).await.is_err() {
                warn!("{what} not ended");
            }
        }
        drop((pid, failures));
        synced??;
        info!("stopped");
        Ok(())
    }
}

fn finish(disk: &Arc<Disk>, clean: bool) -> Result<(), ServerError> {
    disk.sync_all()?;
    if clean && disk.failed().is_none() {
        // control may have raised the generation since the start
        let stored = Stored::load(&**disk.engine())?;
        let run = stored.run.expect("the start has written this run");
        disk.persist(vec![clean_record(run.generation)])?;
    }
    Ok(())
}

/// Looks until it holds; false if it does not within `limit`.
async fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let looking = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(limit, looking).await.is_ok()
}
