//! A client that knows the ring against one that goes anywhere (paper, section 6.4).

use std::time::Duration;

use anyhow::Result;
use dynkv::client::{Client, ClientConfig, Coordinator};

use crate::cluster::{Cluster, spec};
use crate::{KEYS, Settings, op};

const SIZE: usize = 100;
/// Three of these hold a key: anywhere else a request takes one hop more.
const NODES: usize = 9;
const IN_FLIGHT: [usize; 2] = [1, 512];
const WARMING: Duration = Duration::from_secs(1);

pub async fn run(settings: &Settings) -> Result<()> {
    let cluster = Cluster::filled(NODES, "os", KEYS, SIZE).await?;
    println!("\n{NODES} nodes, {SIZE} B: requests to a primary of the key, or to any node");
    println!(
        "{:<4} {:<8} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "op", "to", "in flight", "ops/s", "CPU us", "p50 us", "p99 us", "p99.9"
    );
    let config = |coordinator| ClientConfig { coordinator, ..cluster.nodes.client_config() };
    let primary = Client::connect(config(Coordinator::Primary)).await?;
    let any = Client::connect(config(Coordinator::Any)).await?;
    for client in [&primary, &any] {
        // So that nobody waits for a handshake later.
        cluster.run_by(client, &spec(true, KEYS, SIZE, 64, WARMING)).await?;
    }
    for in_flight in IN_FLIGHT {
        for reads in [true, false] {
            // Each goes first once.
            for (to, client) in [("primary", &primary), ("any", &any), ("any", &any), ("primary", &primary)] {
                let load = spec(reads, KEYS, SIZE, in_flight, settings.span);
                let measured = cluster.run_by(client, &load).await?;
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| measured.at(quantile));
                let (op, throughput, cpu_us) = (op(reads), measured.report.throughput(), measured.cpu_us);
                println!("{op:<4} {to:<8} {in_flight:>9} {throughput:>10.0} {cpu_us:>8.1} {p50:>8} {p99:>8} {p999:>8}");
            }
        }
    }
    primary.close().await;
    any.close().await;
    cluster.close().await;
    Ok(())
}
