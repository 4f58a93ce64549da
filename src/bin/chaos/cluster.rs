//! A cluster of real processes on loopback, all datagrams between them through the proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use dynkv::client::ClientConfig;
use dynkv::local::{Founder, Site, free_ports, probe};
use dynkv::net::TlsFiles;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::clock::{self, FakeClock};
use super::disk::SmallDisk;
use super::effect::Effects;
use super::node::{Node, Place};
use super::proxy::{Fronts, Proxy};
use super::scenario::{NODES, SMALL_DISK};

/// How long the nodes may take to found the cluster.
const FOUNDED_WITHIN: Duration = Duration::from_secs(60);
/// Runs are short, and tombstones are to be reaped in them.
const REAPED_OFTEN: &str = "[antientropy]\nreap_interval = \"1s\"\n";

/// What the scenario needs of the cluster.
#[derive(Clone, Debug)]
pub struct Equipment {
    /// The daemon.
    pub program: PathBuf,
    /// The last node's data lies on a small disk.
    pub small_disk: bool,
    /// Clocks can be steered.
    pub clocks: bool,
    /// Of the proxy.
    pub seed: u64,
    /// The directory stays when all is over.
    pub keep: bool,
}

/// See the module. Dropping it kills the nodes, then removes their directory.
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The proxy.
    pub proxy: Proxy,
    /// The last node's, if it has one.
    pub small_disk: Option<SmallDisk>,
    program: PathBuf,
    endpoints: Vec<SocketAddr>,
    tls: TlsFiles,
    effects: Arc<Effects>,
    dir: TempDir,
}

impl Cluster {
    /// Lays out and starts the nodes, and waits until they serve.
    pub async fn start(equipment: &Equipment, effects: Arc<Effects>) -> Result<Cluster> {
        let mut dir = tempfile::Builder::new().prefix("dynkv-chaos-").tempdir().context("a directory for the nodes")?;
        dir.disable_cleanup(equipment.keep);
        if equipment.keep {
            eprintln!("dynkv-chaos: the nodes' directory is kept: {}", dir.path().display());
        }
        let now = SystemTime::now();
        let site = Site::make(&dir.path().join("certs"), "chaos", now)?;
        let fronts = Fronts::bind(NODES).await?;
        let endpoints = fronts.addresses()?;
        let ports = free_ports(NODES * 2)?;
        let small_disk = equipment.small_disk.then(|| SmallDisk::mount(&data_dir(dir.path(), SMALL_DISK)));
        let small_disk = small_disk.transpose()?;
        let mut nodes = Vec::with_capacity(NODES);
        for (index, front) in endpoints.iter().enumerate() {
            let place = lay_out(dir.path(), &site, index, &ports, *front, &endpoints, now)?;
            let steered = |library| FakeClock::new(library, place.config.with_extension("clock"));
            let clock = clock::library().filter(|_| equipment.clocks).map(steered).transpose()?;
            nodes.push(Node::new(place, clock));
        }
        let listens = nodes.iter().map(|node| node.place.listen).collect();
        let proxy = fronts.open(listens, effects.clone(), equipment.seed);
        let (program, tls) = (equipment.program.clone(), site.client());
        let mut cluster = Cluster { nodes, proxy, small_disk, program, endpoints, tls, effects, dir };
        cluster.start_all()?;
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// Starts one node, if it does not run.
    pub fn start_node(&mut self, index: usize) -> Result<()> {
        self.nodes[index].start(&self.program, &self.effects)
    }

    fn start_all(&mut self) -> Result<()> {
        (0..self.nodes.len()).try_for_each(|index| self.start_node(index))
    }

    /// Where the nodes are.
    pub fn places(&self) -> Vec<Place> {
        self.nodes.iter().map(|node| node.place.clone()).collect()
    }

    /// How clients connect: through the proxy, as the ring would tell them.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::new(self.endpoints.iter().map(ToString::to_string).collect(), self.tls.clone())
    }

    /// Fails if a process has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::check)
    }

    /// A file in the cluster's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + FOUNDED_WITHIN;
        for place in self.places() {
            loop {
                self.check()?;
                let asked = timeout(Duration::from_secs(2), probe::not_ready(place.http)).await;
                let why = match asked {
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(why))) => why,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer".to_owned(),
                };
                if Instant::now() > deadline {
                    bail!("{} is not ready within {FOUNDED_WITHIN:?}: {why}", place.name);
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

fn data_dir(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("n{}", index + 1))
}

fn lay_out(
    dir: &Path,
    site: &Site,
    index: usize,
    ports: &[u16],
    front: SocketAddr,
    seeds: &[SocketAddr],
    now: SystemTime,
) -> Result<Place> {
    let name = format!("n{}", index + 1);
    site.issue(&name, now)?;
    let data_dir = data_dir(dir, index);
    std::fs::create_dir_all(&data_dir).with_context(|| format!("making {}", data_dir.display()))?;
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (listen, http) = (address(ports[index * 2]), address(ports[index * 2 + 1]));
    let founder = Founder {
        name: name.clone(),
        data_dir,
        listen,
        advertise: Some(front),
        http,
        seeds: seeds.to_vec(),
        founders: u16::try_from(seeds.len()).expect("a few nodes"),
    };
    let config = dir.join(format!("{name}.toml"));
    let text = format!("{}\n{REAPED_OFTEN}", founder.config(site)?);
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let log = dir.join(format!("{name}.log"));
    Ok(Place { name, listen, http, config, log, pid: Arc::default() })
}
