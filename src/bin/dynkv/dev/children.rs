//! The nodes' processes.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dynkv::client::cluster_file::{ClusterFile, ClusterNode};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// What a node writes its process's id to, in its data directory.
const PID_FILE: &str = "pid";
const LOG_FILE: &str = "log";
/// A node drains for a few seconds at most; after this long it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// How much of a log is shown when its node has ended too soon.
const LAST_WORDS: u64 = 2000;

/// The end of a node's process.
#[derive(Debug)]
pub struct Ended {
    pub node: ClusterNode,
    pub status: std::io::Result<ExitStatus>,
}

impl Ended {
    /// One line.
    pub fn explain(&self) -> String {
        let ClusterNode { name, pid, .. } = &self.node;
        match &self.status {
            Ok(status) => format!("{name} (process {pid}) has ended: {status}"),
            Err(err) => format!("{name} (process {pid}) is lost: {err}"),
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let path = self.node.data_dir.join(LOG_FILE);
        let read = || {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(LAST_WORDS)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|err| format!("{}: {err}", path.display()))
    }
}

/// All of them; the processes of nodes that somebody has started again are found by their pid files.
pub struct Children {
    nodes: Vec<ClusterNode>,
    ends: mpsc::Receiver<Ended>,
}

impl Children {
    /// Starts every node of `file` with these arguments besides its configuration, and notes the process ids there.
    pub fn start(file: &mut ClusterFile, settings: &[String]) -> Result<Children> {
        for node in &file.nodes {
            if let Some(pid) = running(node) {
                let pid = pid.as_raw_nonzero();
                bail!("{} still runs as process {pid}, left by an earlier run: stop it first (kill {pid})", node.name);
            }
        }
        let (sender, ends) = mpsc::channel(file.nodes.len());
        let program = std::env::current_exe().context("finding this program")?;
        let mut started = Children { nodes: Vec::new(), ends };
        for node in &mut file.nodes {
            let spawned = spawn(&program, node, settings).with_context(|| format!("starting {}", node.name));
            let child = spawned.inspect_err(|_| started.kill())?;
            node.pid = child.id().unwrap_or_default();
            started.nodes.push(node.clone());
            let (node, sender) = (node.clone(), sender.clone());
            tokio::spawn(wait(child, node, sender));
        }
        Ok(started)
    }

    /// The next end of a process that was started here.
    pub async fn ended(&mut self) -> Ended {
        match self.ends.recv().await {
            Some(ended) => ended,
            // all have ended; somebody may have started some of them again
            None => std::future::pending().await,
        }
    }

    /// Stops all, in order, and waits for them; kills those that take too long.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let Children { nodes, ends } = self;
        let gone = async {
            // Told by their ends, not by their command lines: what nobody has waited for has none and is still there.
            while ends.recv().await.is_some() {}
            while nodes.iter().any(|node| running(node).is_some()) {
                sleep(LOOK).await;
            }
        };
        if timeout(STOP_WITHIN, gone).await.is_err() {
            eprintln!("some nodes do not stop: killing them");
            self.kill();
        }
    }

    /// Ends all at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        for node in &self.nodes {
            let own = Pid::from_raw(i32::try_from(node.pid).unwrap_or(0)).filter(|_| is_ours(node.pid, &node.config));
            let restarted = running(node).filter(|pid| Some(*pid) != own);
            for pid in own.into_iter().chain(restarted) {
                // it has ended in this very moment
                let _ = kill_process(pid, signal);
            }
        }
    }
}

fn spawn(program: &Path, node: &ClusterNode, settings: &[String]) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(node.data_dir.join(LOG_FILE))?;
    let child = Command::new(program)
        .arg("--config")
        .arg(&node.config)
        .args(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C reaches this program only: it stops the others, once
        .process_group(0)
        .spawn()?;
    Ok(child)
}

async fn wait(mut child: Child, node: ClusterNode, ends: mpsc::Sender<Ended>) {
    let status = child.wait().await;
    debug!(name = node.name, "ended");
    // nobody listens once all are being stopped
    let _ = ends.send(Ended { node, status }).await;
}

/// The node's process by its pid file, if it lives.
fn running(node: &ClusterNode) -> Option<Pid> {
    let text = fs::read_to_string(node.data_dir.join(PID_FILE)).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    is_ours(pid, &node.config).then(|| Pid::from_raw(i32::try_from(pid).ok()?)).flatten()
}

/// Whether the process runs this node: a pid file may outlive its process, and the number be another's by now.
fn is_ours(pid: u32, config: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let Ok(line) = fs::read(proc.join("cmdline")) else { return false };
    // relative paths start where the process did
    let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
    let names_it = |argument: &[u8]| !argument.is_empty() && cwd.join(OsStr::from_bytes(argument)) == config;
    line.split(|byte| *byte == 0).any(names_it)
}
