//! The last reads: every key, from all of its replicas.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dynkv::client::{Client, GetOptions};
use dynkv::quorum::Level;
use dynkv::types::Bucket;
use tokio::time::sleep;

use super::load::{Record, key_of};

/// Tries of each key.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Reads all keys and puts on record what their replicas hold.
pub async fn read_back(client: &Client, keys: &[String], record: &Record) -> Result<()> {
    for key in keys {
        let mut tries = 0;
        let found = loop {
            tries += 1;
            let options = GetOptions { r: Some(Level::All), ..GetOptions::default() };
            match client.get(&Bucket::default(), &key_of(key), options).await {
                Ok(found) => break found,
                Err(error) if tries == TRIES => {
                    return Err(error).with_context(|| format!("reading {key} from all of its replicas"));
                }
                Err(_) => sleep(PAUSE).await,
            }
        };
        let (mut recorder, now) = record.open();
        recorder.ends(now, key, &found.siblings);
    }
    Ok(())
}
