//! A client that knows the ring against one that goes anywhere (paper, section 6.4).

use anyhow::Result;
use dynkv::client::{Client, ClientConfig, Coordinator};

use crate::cluster::{Cluster, spec};
use crate::{KEYS, Settings};

const SIZE: usize = 100;
/// Three of these hold a key: anywhere else a request takes one hop more.
const NODES: usize = 9;
const IN_FLIGHT: [usize; 2] = [1, 512];

pub async fn run(settings: &Settings) -> Result<()> {
    let cluster = Cluster::filled(NODES, "os", KEYS, SIZE).await?;
    println!("\n{NODES} nodes, {SIZE} B: requests to a primary of the key, or to any node");
    println!(
        "{:<4} {:<8} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "op", "to", "in flight", "ops/s", "CPU us", "p50 us", "p99 us", "p99.9"
    );
    for in_flight in IN_FLIGHT {
        for reads in [true, false] {
            for (to, coordinator) in [("primary", Coordinator::Primary), ("any", Coordinator::Any)] {
                let client = Client::connect(ClientConfig { coordinator, ..cluster.nodes.client_config() }).await?;
                let load = spec(reads, KEYS, SIZE, in_flight, settings.span);
                let measured = cluster.run_by(&client, &load).await?;
                client.close().await;
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| measured.at(quantile));
                let (op, throughput) = (if reads { "get" } else { "put" }, measured.report.throughput());
                let cpu_us = measured.cpu_us;
                println!("{op:<4} {to:<8} {in_flight:>9} {throughput:>10.0} {cpu_us:>8.1} {p50:>8} {p99:>8} {p999:>8}");
            }
        }
    }
    cluster.close().await;
    Ok(())
}
