//! Waits until every node says that it is ready.

use std::time::Duration;

use anyhow::{Result, bail};
use dynkv::client::cluster_file::ClusterFile;
use dynkv::local::probe;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const ONE_ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Asks all nodes until each has said yes.
pub async fn all(file: &ClusterFile) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for node in &file.nodes {
        loop {
            let why = match timeout(ONE_ANSWER, probe::not_ready(node.http)).await {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(why))) => why,
                Ok(Err(err)) => err.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > deadline {
                bail!("{} is not ready within {PATIENCE:?}: {why}", node.name);
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}
