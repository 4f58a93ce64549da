//! Real nodes on loopback, each a process, with certificates and data in a directory of their own.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use dynkv::client::{Client, ClientConfig};
use dynkv::local::free_ports;
use dynkv::net::{TlsFiles, Validity, init_ca, issue_client, issue_node};

/// How long nodes may take to found a cluster, or to serve again.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What differs from node to node and from test to test: lines of a configuration by section.
pub type Settings = BTreeMap<&'static str, Vec<String>>;

/// Settings from `section.key = value` lines.
pub fn settings(lines: &[(&'static str, &str)]) -> Settings {
    let mut settings = Settings::new();
    for (section, line) in lines {
        settings.entry(section).or_default().push((*line).to_owned());
    }
    settings
}

/// One node: what it is started from, and its process while it runs.
pub struct Node {
    pub name: String,
    /// Its address: of UDP for nodes and clients, of TCP for HTTP.
    pub endpoint: String,
    pub dir: PathBuf,
    pub config: PathBuf,
    child: Option<Child>,
}

/// A cluster. Dropping it kills the nodes.
pub struct Nodes {
    pub nodes: Vec<Node>,
    pub tls: TlsFiles,
    pub dir: tempfile::TempDir,
}

impl Nodes {
    /// Starts `count` nodes and waits until they serve.
    pub async fn start(count: usize, settings: &Settings) -> Result<Nodes> {
        let mut nodes = Nodes::lay_out(count, settings)?;
        nodes.start_all()?;
        nodes.wait_until_served().await?;
        Ok(nodes)
    }

    /// Makes certificates and configurations, and starts nothing.
    pub fn lay_out(count: usize, settings: &Settings) -> Result<Nodes> {
        let dir = tempfile::tempdir().context("a directory for the nodes")?;
        let certs = dir.path().join("certs");
        let now = SystemTime::now();
        init_ca(&certs, "test")?;
        issue_client(&certs, "cli", Validity::days(now, 1))?;
        let ports = free_ports(count)?;
        let endpoints: Vec<String> = ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut nodes = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let name = format!("n{}", index + 1);
            issue_node(&certs, &name, Validity::days(now, 1))?;
            let node_dir = dir.path().join(&name);
            std::fs::create_dir(&node_dir)?;
            let config = node_dir.join("dynkv.toml");
            std::fs::write(&config, configuration(&certs, &node_dir, &name, endpoint, &endpoints, settings))?;
            nodes.push(Node { name, endpoint: endpoint.clone(), dir: node_dir, config, child: None });
        }
        let tls = TlsFiles {
            ca: certs.join("ca.pem"),
            cert: certs.join("cli.client.pem"),
            key: certs.join("cli.client.key"),
        };
        Ok(Nodes { nodes, tls, dir })
    }

    /// Starts one node's process; its log is appended to.
    pub fn start_node(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let log = File::options().create(true).append(true).open(node.dir.join("log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_dynkv"))
            .arg("--config")
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting a node")?;
        node.child = Some(child);
        Ok(())
    }

    /// Starts all nodes that do not run.
    pub fn start_all(&mut self) -> Result<()> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].child.is_none() {
                self.start_node(index)?;
            }
        }
        Ok(())
    }

    /// Kills one node with SIGKILL, if it runs.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.nodes[index].child.take() {
            // Already dead is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops one node as an operator does, and waits for its end.
    pub fn stop(&mut self, index: usize) -> Result<()> {
        let Some(mut child) = self.nodes[index].child.take() else { return Ok(()) };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = child.wait()?;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.nodes[index].name);
        Ok(())
    }

    /// Kills all nodes with SIGKILL, then waits for them: no node sees another die for long.
    pub fn kill_all(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
        }
        (0..self.nodes.len()).for_each(|index| self.kill(index));
    }

    /// The processes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()).map(Child::id).collect()
    }

    /// Waits until every running node has a ring and reaches every other running one.
    pub async fn wait_until_served(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in &mut self.nodes {
                if let Some(child) = &mut node.child
                    && let Some(status) = child.try_wait()?
                {
                    let log = std::fs::read_to_string(node.dir.join("log")).unwrap_or_default();
                    bail!("{} ended with {status}:\n{log}", node.name);
                }
            }
            if self.all_see_all().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the nodes do not serve within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn all_see_all(&self) -> bool {
        let Ok(client) = Client::open(self.client_config()) else { return false };
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.child.is_some()).collect();
        let mut seen = true;
        for node in &running {
            let up = match client.status(&node.endpoint).await {
                Ok(status) if status.ring_version.is_some() => status.members.iter().filter(|member| member.up).count(),
                _ => 0,
            };
            seen &= up >= running.len();
        }
        client.close().await;
        seen
    }

    /// How clients connect.
    pub fn client_config(&self) -> ClientConfig {
        let endpoints = self.nodes.iter().map(|node| node.endpoint.clone()).collect();
        ClientConfig::new(endpoints, self.tls.clone())
    }

    /// A client of its own.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.client_config()).await?)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn configuration(certs: &Path, dir: &Path, name: &str, listen: &str, seeds: &[String], settings: &Settings) -> String {
    let certs = certs.display();
    // A single node needs no seeds; it founds a cluster of its own.
    let seeds: Vec<String> = seeds.iter().filter(|_| seeds.len() > 1).map(|seed| format!("{seed:?}")).collect();
    let expect = seeds.len().max(1);
    let mut all = Settings::new();
    let mut set = |section, lines: &[String]| all.entry(section).or_default().extend_from_slice(lines);
    set("node", &[format!("name = {name:?}"), format!("data_dir = \"{}/data\"", dir.display())]);
    set(
        "cluster",
        &[
            "name = \"test\"".into(),
            format!("seeds = [{}]", seeds.join(", ")),
            format!("bootstrap_expect = {expect}"),
            format!("secret_file = \"{certs}/cluster.secret\""),
        ],
    );
    set("net", &[format!("listen = {listen:?}")]);
    set(
        "tls",
        &[
            format!("ca_file = \"{certs}/ca.pem\""),
            format!("cert_file = \"{certs}/{name}.node.pem\""),
            format!("key_file = \"{certs}/{name}.node.key\""),
        ],
    );
    set("http", &[format!("listen = {listen:?}")]);
    for (section, lines) in settings {
        set(section, lines);
    }
    all.iter().map(|(section, lines)| format!("[{section}]\n{}\n", lines.join("\n"))).collect()
}
