//! Waits until every node says that it is ready.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use dynkv::client::cluster_file::ClusterFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const ONE_ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Asks all nodes until each has said yes.
pub async fn all(file: &ClusterFile) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for node in &file.nodes {
        loop {
            let why = match timeout(ONE_ANSWER, ask(node.http)).await {
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

/// `None` if ready, else the reason why not.
async fn ask(addr: SocketAddr) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    Ok((!answer.starts_with("HTTP/1.1 200")).then(|| body.to_owned()))
}
