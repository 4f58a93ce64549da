//! Every node is killed with SIGKILL during a load of puts, twenty times; every acknowledged put is there afterwards.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "shared with the benchmark")]
mod nodes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use dynkv::client::{Client, ClientConfig, GetOptions, PutOptions};
use dynkv::quorum::Level;
use dynkv::types::{Bucket, Key};
use tokio::task::JoinSet;

use self::nodes::{Nodes, settings};

const CYCLES: u32 = 20;
const WRITERS: u32 = 16;

/// The last acknowledged write of each key, and the last one whose fate is unknown.
#[derive(Clone, Debug, Default)]
struct Written {
    acknowledged: Option<Bytes>,
    unknown: Vec<Bytes>,
}

type Ledger = Arc<Mutex<BTreeMap<String, Written>>>;

#[tokio::test]
async fn acknowledged_puts_survive_the_death_of_all_nodes() -> Result<()> {
    let mut nodes = Nodes::start(3, &settings(&[("node", "shards = 2"), ("log", "level = \"warn\"")])).await?;
    let ledger = Ledger::default();
    for cycle in 0..CYCLES {
        // Short of patience: nobody answers the last writes.
        let config = ClientConfig { request_timeout: Duration::from_secs(1), ..nodes.client_config() };
        let client = Client::connect(config).await?;
        let writers = start_writers(&client, &ledger, cycle);
        // Let some writes through before the lights go out, at another moment each time.
        wait_for_acknowledged(&ledger, (cycle as usize + 1) * 40).await?;
        nodes.kill_all();
        writers.join_all().await;
        drop(client);
        nodes.start_all()?;
        nodes.wait_until_served().await?;
        check(&nodes, &ledger, cycle).await?;
    }
    Ok(())
}

/// Each writer puts one key after the other, and overwrites each once with its context, until a put fails.
fn start_writers(client: &Client, ledger: &Ledger, cycle: u32) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (client, ledger) = (client.clone(), ledger.clone());
        writers.spawn(async move {
            for number in 0.. {
                let key = format!("{cycle}/{writer}/{number}");
                let Some(context) = put(&client, &ledger, &key, "first", None).await else { return };
                if put(&client, &ledger, &key, "second", Some(context)).await.is_none() {
                    return;
                }
            }
        });
    }
    writers
}

async fn put(client: &Client, ledger: &Ledger, key: &str, value: &str, context: Option<Bytes>) -> Option<Bytes> {
    let value = Bytes::from(format!("{value} of {key}"));
    let options = PutOptions { context, w: Some(Level::Quorum), ..PutOptions::default() };
    let name = Key::new(key.to_owned()).expect("the key is short");
    let result = client.put(&Bucket::default(), &name, value.clone(), options).await;
    let mut ledger = ledger.lock().expect("no writer panics while it holds the ledger");
    let written = ledger.entry(key.to_owned()).or_default();
    match result {
        Ok(put) => {
            written.acknowledged = Some(value);
            Some(put.receipt.context)
        }
        Err(_) => {
            written.unknown.push(value);
            None
        }
    }
}

async fn wait_for_acknowledged(ledger: &Ledger, least: usize) -> Result<()> {
    for _ in 0..600 {
        let count = {
            let ledger = ledger.lock().expect("no writer panics while it holds the ledger");
            ledger.values().filter(|written| written.acknowledged.is_some()).count()
        };
        if count >= least {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("fewer than {least} puts were acknowledged within 15 s")
}

/// Every acknowledged value is read at R=quorum, or a later write of its author's, which replaced it.
async fn check(nodes: &Nodes, ledger: &Ledger, cycle: u32) -> Result<()> {
    let client = nodes.client().await?;
    let ledger = ledger.lock().expect("no writer is left").clone();
    for (key, written) in &ledger {
        let name = Key::new(key.clone())?;
        let options = GetOptions { r: Some(Level::Quorum), ..GetOptions::default() };
        let found = client.get(&Bucket::default(), &name, options).await.with_context(|| format!("reading {key}"))?;
        let values: Vec<&Bytes> = found.values().collect();
        let known = |value: &&Bytes| written.acknowledged.as_ref() == Some(*value) || written.unknown.contains(*value);
        ensure!(values.iter().all(known), "cycle {cycle}: {key} holds what nobody wrote: {values:?}, {written:?}");
        if written.acknowledged.is_some() {
            ensure!(!values.is_empty(), "cycle {cycle}: {key} is lost: {written:?}");
        }
    }
    client.close().await;
    Ok(())
}
