//! Many clients on one key.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dynkv::api::ApiError;
use dynkv::client::{Client, ClientError, GetOptions, PutOptions};
use dynkv::types::{Bucket, Key};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, spec};
use crate::{KEYS, Settings, op, verdict};

const SIZE: usize = 100;
const CLIENTS: usize = 64;
/// Of the rate on evenly picked keys.
const RATE: f64 = 0.8;
/// Members that each client adds to the one set.
const ADDED: usize = 10;
/// Between attempts of a client that was refused because too many wrote at once.
const PAUSE: Duration = Duration::from_millis(20);

pub async fn run(settings: &Settings) -> Result<()> {
    let cluster = Cluster::filled(3, "os", KEYS, SIZE).await?;
    println!();
    // Gets first: they are held to a bound, and find the key as it was filled.
    let gets = hot_over_even(settings, &cluster, true).await?;
    verdict("gets of one hot key over those of many", gets, RATE, false);
    // Puts of one key all have one coordinator: a price, and no bound.
    hot_over_even(settings, &cluster, false).await?;
    let refused = grow_a_set(&cluster.client).await?;
    println!(
        "{CLIENTS} clients added {ADDED} members each to one set; {refused} writes refused as too many siblings, none lost"
    );
    cluster.close().await;
    Ok(())
}

/// The rate on one key over that on many.
async fn hot_over_even(settings: &Settings, cluster: &Cluster, reads: bool) -> Result<f64> {
    let even = cluster.run(&spec(reads, KEYS, SIZE, CLIENTS, settings.span)).await?.report.throughput();
    let hot = cluster.run(&spec(reads, 1, SIZE, CLIENTS, settings.span)).await?.report.throughput();
    println!("{CLIENTS} in flight, {} of {SIZE} B: {hot:.0} a second of one key, {even:.0} of {KEYS}", op(reads));
    Ok(hot / even)
}

/// Every client reads, merges and writes; how many writes were refused. In the end no member may be missing.
async fn grow_a_set(client: &Client) -> Result<u64> {
    let key = Key::new("set")?;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, key) = (client.clone(), key.clone());
        clients.spawn(async move {
            let mut refused = 0;
            for nth in 0..ADDED {
                while !add(&client, &key, &format!("{number}.{nth}")).await? {
                    refused += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            anyhow::Ok(refused)
        });
    }
    let mut refused = 0;
    while let Some(ended) = clients.join_next().await {
        refused += ended??;
    }
    let (members, _) = read(client, &key).await?;
    ensure!(members.len() == CLIENTS * ADDED, "{} members of {}", members.len(), CLIENTS * ADDED);
    Ok(refused)
}

/// Whether the write was taken.
async fn add(client: &Client, key: &Key, member: &str) -> Result<bool> {
    let (mut members, context) = read(client, key).await?;
    members.insert(member.to_owned());
    let value = members.into_iter().collect::<Vec<_>>().join(" ");
    let options = PutOptions { context, ..PutOptions::default() };
    match client.put(&Bucket::default(), key, value.into(), options).await {
        Ok(_) => Ok(true),
        Err(ClientError::Refused { error: ApiError::TooManySiblings { .. }, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The members of all siblings together, and the context that covers them.
async fn read(client: &Client, key: &Key) -> Result<(BTreeSet<String>, Option<bytes::Bytes>)> {
    let found = client.get(&Bucket::default(), key, GetOptions::default()).await?;
    let mut members = BTreeSet::new();
    for value in found.values() {
        let text = std::str::from_utf8(value).context("the members are text")?;
        members.extend(text.split(' ').map(str::to_owned));
    }
    Ok((members, found.context))
}
