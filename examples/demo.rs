//! `make demo`: five nodes keep every record while one of them is killed.
//!
//! Real processes, real files: each stanza of `/var/lib/dpkg/status` (or of the file given) becomes a record.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use dynkv::client::{Client, ClientConfig, ClusterFile, GetOptions, PutOptions};
use dynkv::quorum::Level;
use dynkv::types::{Bucket, Key};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Requests under way at a time.
const CONCURRENCY: usize = 64;
/// How long the cluster may take to be born, and a restarted node to serve.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a key ought to hold; `None`: deleted.
type Expected = BTreeMap<Key, Option<Bytes>>;

#[tokio::main]
async fn main() -> Result<()> {
    let source = std::env::args().nth(1).unwrap_or_else(|| "/var/lib/dpkg/status".to_owned());
    let start = Instant::now();
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(dir.path()).await?;
    let summary = run(&cluster, Path::new(&source)).await;
    cluster.stop()?;
    let Summary { keys, siblings, lost } = summary?;
    let verdict = if lost == 0 { "OK" } else { "FAILED" };
    println!(
        "demo: {verdict} {keys} keys, {siblings} with siblings, {lost} lost, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    ensure!(lost == 0, "{lost} records are not what was acknowledged");
    Ok(())
}

struct Summary {
    keys: usize,
    siblings: usize,
    lost: usize,
}

async fn run(cluster: &Cluster, source: &Path) -> Result<Summary> {
    let mut expected = records(source)?;
    let keys = expected.len();
    let client = cluster.client().await?;
    step(&format!("importing {keys} records of {} at W=quorum", source.display()));
    write_all(&client, &expected).await?;
    step("reading all back at R=quorum");
    let mut lost = read_all(&client, &expected).await?.lost;

    step("killing n3 with SIGKILL, reading all again");
    cluster.kill("n3")?;
    lost += read_all(&client, &expected).await?.lost;
    step("overwriting each with its context, deleting a tenth, still without n3");
    overwrite_all(&client, &mut expected).await?;
    lost += read_all(&client, &expected).await?.lost;

    step("restarting n3, reading all again");
    let mut restarted = cluster.restart("n3")?;
    let up = cluster.wait_until_up("n3").await;
    let last = read_all(&client, &expected).await?;
    lost += last.lost;
    let shown = expected.iter().find(|(_, value)| value.is_some()).context("not all records are deleted")?.0.clone();
    cluster.show(&["status"])?;
    cluster.show(&["where", &String::from_utf8_lossy(shown.as_bytes())])?;
    client.close().await;
    terminate(&mut restarted)?;
    up?;
    Ok(Summary { keys, siblings: last.siblings, lost })
}

fn step(what: &str) {
    println!("demo: {what}");
}

/// The stanzas of a Debian control file, by `package:architecture`, their bytes as they are.
fn records(source: &Path) -> Result<Expected> {
    let text = std::fs::read(source).with_context(|| format!("reading {}", source.display()))?;
    let text = Bytes::from(text);
    let mut records = Expected::new();
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |end| end + 1);
        let stanza = text.slice(start..start + end);
        let key = [field(&stanza, "Package")?, field(&stanza, "Architecture")?].join(&b':');
        records.insert(Key::new(key)?, Some(stanza));
        start += end;
        start += text[start..].iter().take_while(|byte| **byte == b'\n').count();
    }
    ensure!(!records.is_empty(), "{} has no records", source.display());
    Ok(records)
}

fn field(stanza: &[u8], name: &str) -> Result<Vec<u8>> {
    let prefix = format!("{name}: ");
    let line = stanza.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(prefix.as_bytes()));
    Ok(line.with_context(|| format!("a stanza without {name}"))?.to_vec())
}

/// Runs `work` for every record, some at a time.
async fn each<T, F>(expected: &Expected, work: impl Fn(Key, Option<Bytes>) -> F) -> Result<Vec<(Key, T)>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut tasks = JoinSet::new();
    for (key, value) in expected {
        let place = places.clone().acquire_owned().await?;
        let (key, call) = (key.clone(), work(key.clone(), value.clone()));
        tasks.spawn(async move {
            let result = call.await.with_context(|| format!("key {}", String::from_utf8_lossy(key.as_bytes())));
            drop(place);
            result.map(|result| (key, result))
        });
    }
    tasks.join_all().await.into_iter().collect()
}

fn quorum() -> PutOptions {
    PutOptions { w: Some(Level::Quorum), ..PutOptions::default() }
}

fn read_quorum() -> GetOptions {
    GetOptions { r: Some(Level::Quorum), ..GetOptions::default() }
}

async fn write_all(client: &Client, expected: &Expected) -> Result<()> {
    each(expected, |key, value| {
        let client = client.clone();
        async move {
            let value = value.context("records begin with a value")?;
            Ok(client.put(&Bucket::default(), &key, value, quorum()).await?)
        }
    })
    .await?;
    Ok(())
}

#[derive(Default)]
struct Seen {
    lost: usize,
    siblings: usize,
}

/// Reads every record and compares it byte for byte.
async fn read_all(client: &Client, expected: &Expected) -> Result<Seen> {
    let results = each(expected, |key, value| {
        let client = client.clone();
        async move {
            let found = client.get(&Bucket::default(), &key, read_quorum()).await?;
            let values: Vec<&Bytes> = found.values().collect();
            let as_expected = match &value {
                Some(value) => values.contains(&value),
                None => values.is_empty(),
            };
            Ok((as_expected, values.len() > 1))
        }
    })
    .await?;
    let mut seen = Seen::default();
    for (key, (as_expected, has_siblings)) in results {
        if !as_expected {
            println!("demo: LOST {}", String::from_utf8_lossy(key.as_bytes()));
        }
        seen.lost += usize::from(!as_expected);
        seen.siblings += usize::from(has_siblings);
    }
    Ok(seen)
}

/// Every record gets a line more; every tenth is deleted.
async fn overwrite_all(client: &Client, expected: &mut Expected) -> Result<()> {
    for (index, value) in expected.values_mut().enumerate() {
        let longer = value.take().map(|value| Bytes::from([&value[..], b"X-Dynkv: overwritten\n"].concat()));
        *value = longer.filter(|_| index % 10 != 0);
    }
    each(expected, |key, value| {
        let client = client.clone();
        async move {
            let bucket = Bucket::default();
            let context =
                client.get(&bucket, &key, read_quorum()).await?.context.context("the record has a context")?;
            match value {
                Some(value) => {
                    let options = PutOptions { context: Some(context), ..quorum() };
                    client.put(&bucket, &key, value, options).await?
                }
                None => client.delete(&bucket, &key, context, quorum()).await?,
            };
            Ok(())
        }
    })
    .await?;
    Ok(())
}

/// `dynkv dev` and what it wrote about its nodes.
struct Cluster {
    dev: Child,
    dir: PathBuf,
    bins: PathBuf,
    file: ClusterFile,
}

impl Cluster {
    async fn start(dir: &Path) -> Result<Cluster> {
        let own = std::env::current_exe()?;
        let bins = own.parent().and_then(Path::parent).context("examples lie beside the programs")?.to_owned();
        step("starting five nodes");
        let mut dev = Command::new(bins.join("dynkv"))
            .args(["dev", "--nodes", "5", "--dir"])
            .arg(dir)
            .args(["--base-port", &free_base_port()?.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting dynkv dev")?;
        let path = dir.join("cluster.json");
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            if let Some(status) = dev.try_wait()? {
                bail!("dynkv dev ended early: {status}");
            }
            ensure!(Instant::now() < deadline, "no cluster within {PATIENCE:?}; see {}/*/log", dir.display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let file = ClusterFile::load(&path)?;
        Ok(Cluster { dev, dir: dir.to_owned(), bins, file })
    }

    async fn client(&self) -> Result<Client> {
        Ok(Client::connect(ClientConfig::new(self.file.endpoints(), self.file.tls())).await?)
    }

    fn node(&self, name: &str) -> Result<&dynkv::client::ClusterNode> {
        self.file.nodes.iter().find(|node| node.name == name).with_context(|| format!("there is no node {name}"))
    }

    fn kill(&self, name: &str) -> Result<()> {
        Ok(kill_process(pid(self.node(name)?.pid)?, Signal::KILL)?)
    }

    fn restart(&self, name: &str) -> Result<Child> {
        let config = &self.node(name)?.config;
        let mut command = Command::new(self.bins.join("dynkv"));
        command.arg("--config").arg(config).stdin(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("restarting a node")
    }

    /// Waits until the other nodes reach it again.
    async fn wait_until_up(&self, name: &str) -> Result<()> {
        let other = self.file.nodes.iter().find(|node| node.name != name).context("there are others")?;
        let client = self.client().await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = client.status(&other.quic.to_string()).await?;
            if status.members.iter().any(|member| member.name == name && member.up) {
                client.close().await;
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{name} does not come back within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn show(&self, command: &[&str]) -> Result<()> {
        println!("\n$ dynkv-cli {}", command.join(" "));
        // Its exit code tells of the cluster's health; here it is shown, not judged.
        Command::new(self.bins.join("dynkv-cli"))
            .env("DYNKV_CLUSTER", self.dir.join("cluster.json"))
            .args(["-o", "table"])
            .args(command)
            .status()?;
        println!();
        Ok(())
    }

    fn stop(mut self) -> Result<()> {
        step("stopping everything");
        terminate(&mut self.dev)
    }
}

fn terminate(child: &mut Child) -> Result<()> {
    kill_process(pid(child.id())?, Signal::TERM)?;
    child.wait()?;
    Ok(())
}

fn pid(raw: u32) -> Result<Pid> {
    i32::try_from(raw).ok().and_then(Pid::from_raw).context("a process id")
}

/// A stretch of ports that is free now: QUIC from the base up, HTTP eighty above.
fn free_base_port() -> Result<u16> {
    let taken = |port: u16| {
        std::net::UdpSocket::bind(("127.0.0.1", port)).is_err()
            || std::net::TcpListener::bind(("127.0.0.1", port)).is_err()
    };
    (17400u16..40000)
        .step_by(200)
        .find(|base| (0..10).chain(80..90).all(|offset| !taken(base + offset)))
        .context("no free ports")
}
