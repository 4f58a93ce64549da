//! What durable copies cost a put (DW: copies on disk before the answer).

use anyhow::Result;
use dynkv::client::PutOptions;
use dynkv::client::load::LoadSpec;
use dynkv::quorum::Level;

use crate::cluster::{Cluster, spec};
use crate::{KEYS, Settings};

const SIZE: usize = 1024;
const IN_FLIGHT: [usize; 2] = [16, 512];
/// Buffered at all; one on disk, the others buffered; as many on disk as answer.
const DURABLE: [u8; 3] = [0, 1, 2];

/// W = 2, and fewer of them durable.
pub async fn run(settings: &Settings) -> Result<()> {
    let cluster = Cluster::filled(3, "always", KEYS, SIZE).await?;
    println!("\nputs of {SIZE} B at W = 2, of which so many are on disk before the answer");
    println!(
        "{:>3} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "DW", "in flight", "ops/s", "CPU us", "p50 us", "p99 us", "p99.9"
    );
    for in_flight in IN_FLIGHT {
        for dw in DURABLE {
            let load = spec(false, KEYS, SIZE, in_flight, settings.span);
            let write = PutOptions { w: Some(Level::Number(2)), dw: Some(dw), ..PutOptions::default() };
            let measured = cluster.run(&LoadSpec { write, ..load }).await?;
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| measured.at(quantile));
            let throughput = measured.report.throughput();
            println!("{dw:>3} {in_flight:>9} {throughput:>10.0} {:>8.1} {p50:>8} {p99:>8} {p999:>8}", measured.cpu_us);
        }
    }
    cluster.close().await;
    Ok(())
}
