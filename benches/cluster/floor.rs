//! The floor: what the parts cost alone. No cluster can be cheaper than the reads, writes and round trips it is made of.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use dynkv::storage::{Batch, Engine, Family, Lookup, ReadTier, RocksConfig, RocksEngine, ScanLimit};

use crate::cpu;

/// How long each part is measured.
const SPAN: Duration = Duration::from_secs(4);
/// Keys in the raw store.
const KEYS: u64 = 100_000;
/// Operations in a batch, as a drain of a shard under load has them.
const BATCH: usize = 64;

/// CPU of one operation and how many there were a second.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub cpu_us: f64,
    pub per_second: f64,
}

/// CPU of the parts at one value size.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Read a record, write it again, in batches of [`BATCH`] to the log.
    pub rewrite: Cost,
    /// The same with an fsync a batch.
    pub rewrite_synced: Cost,
    /// Read a record.
    pub read: Cost,
    /// Send a value, get a short answer.
    pub send: Cost,
    /// Send a short question, get a value.
    pub fetch: Cost,
}

impl Floor {
    /// A put at N=3: three read-merge-writes, and a value over three hops.
    pub fn put(&self) -> f64 {
        3.0 * self.rewrite.cpu_us + 3.0 * self.send.cpu_us
    }

    /// A get at R=2: two reads, and two values brought over.
    pub fn get(&self) -> f64 {
        2.0 * self.read.cpu_us + 2.0 * self.fetch.cpu_us
    }
}

/// Measures the parts for values of `size` bytes.
pub fn measure(size: usize) -> Result<Floor> {
    let dir = tempfile::tempdir().context("a directory for the raw store")?;
    let store = RawStore::fill(dir.path(), size)?;
    let rewrite = store.rewrite(false)?;
    let rewrite_synced = store.rewrite(true)?;
    let read = store.read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let send = runtime.block_on(round_trips(size, 64))?;
    let fetch = runtime.block_on(round_trips(64, size))?;
    Ok(Floor { rewrite, rewrite_synced, read, send, fetch })
}

/// Runs `work`, which returns how many operations it did, until the span is over.
fn span(mut work: impl FnMut() -> Result<u64>) -> Result<Cost> {
    let (start, before) = (Instant::now(), cpu::used(&[]));
    let mut operations = 0;
    while start.elapsed() < SPAN {
        operations += work()?;
    }
    Ok(cost(operations, start.elapsed(), cpu::used(&[]) - before))
}

fn cost(operations: u64, elapsed: Duration, used: Duration) -> Cost {
    Cost { cpu_us: used.as_secs_f64() * 1e6 / operations as f64, per_second: operations as f64 / elapsed.as_secs_f64() }
}

/// RocksDB with the daemon's options and nothing above it.
struct RawStore {
    engine: RocksEngine,
    size: usize,
}

/// The keys in an order that no cache likes: a full-period walk.
fn key(index: u64) -> [u8; 32] {
    let mut key = [b'k'; 32];
    key[..8].copy_from_slice(&(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    key
}

impl RawStore {
    fn fill(dir: &std::path::Path, size: usize) -> Result<RawStore> {
        let engine = RocksEngine::open(dir, &RocksConfig::default())?;
        let value = vec![0xa5; size];
        let mut batch = Batch::new();
        for index in 0..KEYS {
            batch.put(Family::Objects, &key(index), &value);
            if batch.len() == BATCH {
                engine.commit(&mut batch)?;
            }
        }
        engine.commit(&mut batch)?;
        let mut seen = 0u64;
        engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut |_, _| {
            seen += 1;
            ControlFlow::Continue(())
        })?;
        anyhow::ensure!(seen == KEYS, "{seen} keys of {KEYS}");
        Ok(RawStore { engine, size })
    }

    fn rewrite(&self, sync: bool) -> Result<Cost> {
        let mut next = 0u64;
        let mut batch = Batch::new();
        span(|| {
            for _ in 0..BATCH {
                next = (next + 7919) % KEYS;
                let Lookup::Found(found) = self.engine.get(Family::Objects, &key(next), ReadTier::Disk)? else {
                    anyhow::bail!("key {next} is missing");
                };
                let mut value = found.to_vec();
                value[self.size / 2] ^= 1;
                batch.put(Family::Objects, &key(next), &value);
            }
            self.engine.commit(&mut batch)?;
            if sync {
                self.engine.sync()?;
            }
            Ok(BATCH as u64)
        })
    }

    fn read(&self) -> Result<Cost> {
        let mut next = 0u64;
        span(|| {
            for _ in 0..BATCH {
                next = (next + 7919) % KEYS;
                let found = self.engine.get(Family::Objects, &key(next), ReadTier::Disk)?;
                anyhow::ensure!(matches!(found, Lookup::Found(_)), "key {next} is missing");
            }
            Ok(BATCH as u64)
        })
    }
}

/// Messages in flight over one raw QUIC stream, both ends in this process: `ask` bytes there, `answer` bytes back.
const IN_FLIGHT: u64 = 512;

async fn round_trips(ask: usize, answer: usize) -> Result<Cost> {
    let (server, client) = endpoints()?;
    let to = server.local_addr()?;
    let echo = async {
        let connection = server.accept().await.context("the client dials")?.await?;
        let (mut send, mut recv) = connection.accept_bi().await?;
        let (mut held, reply) = (0usize, Bytes::from(vec![7; answer]));
        while let Some(chunk) = recv.read_chunk(1 << 20, true).await? {
            held += chunk.bytes.len();
            let mut replies = vec![reply.clone(); held / ask];
            held %= ask;
            if send.write_all_chunks(&mut replies).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let drive = async {
        let connection = client.connect(to, "floor.test")?.await?;
        let (mut send, mut recv) = connection.open_bi().await?;
        let question = Bytes::from(vec![9; ask]);
        send.write_all_chunks(&mut vec![question.clone(); IN_FLIGHT as usize]).await?;
        let (start, before) = (Instant::now(), cpu::used(&[]));
        let (mut done, mut held) = (0u64, 0usize);
        while start.elapsed() < SPAN {
            let chunk = recv.read_chunk(1 << 20, true).await?.context("the echo goes on")?;
            held += chunk.bytes.len();
            let answered = held / answer;
            held %= answer;
            done += answered as u64;
            send.write_all_chunks(&mut vec![question.clone(); answered]).await?;
        }
        let measured = cost(done, start.elapsed(), cpu::used(&[]) - before);
        connection.close(0u32.into(), b"measured");
        anyhow::Ok(measured)
    };
    let (echoed, measured) = tokio::join!(echo, drive);
    // Closing the connection is how the measurement ends the echo.
    drop(echoed);
    measured
}

fn endpoints() -> Result<(quinn::Endpoint, quinn::Endpoint)> {
    let certified = rcgen::generate_simple_self_signed(["floor.test".to_owned()])?;
    let cert = certified.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let listen: SocketAddr = "127.0.0.1:0".parse()?;
    let server = quinn::Endpoint::server(quinn::ServerConfig::with_single_cert(vec![cert.clone()], key)?, listen)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert)?;
    let mut client = quinn::Endpoint::client(listen)?;
    client.set_default_client_config(quinn::ClientConfig::with_root_certificates(Arc::new(roots))?);
    Ok((server, client))
}
