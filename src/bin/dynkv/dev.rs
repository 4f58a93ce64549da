//! `dynkv dev`: a local cluster of real processes, with an authority and a secret of its own.

#[path = "dev/children.rs"]
mod children;
#[path = "dev/plan.rs"]
mod plan;
#[path = "dev/ready.rs"]
mod ready;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use dynkv::client::cluster_file::ClusterFile;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::children::{Children, Ended};
use self::plan::{CLUSTER_FILE, LAST_CLUSTER_FILE, plan};
use super::SourceArgs;

/// A local cluster: its size, place and ports.
#[derive(Args)]
pub struct DevArgs {
    /// How many nodes; 5 in a new directory.
    #[arg(long)]
    pub nodes: Option<u16>,
    /// Certificates, configurations and data; a second run resumes them.
    #[arg(long, default_value = "dynkv-dev")]
    pub dir: PathBuf,
    /// The first node's QUIC port, counted up for the others; HTTP is 80 above. 7400 in a new directory.
    #[arg(long)]
    pub base_port: Option<u16>,
}

/// What is each node's own, or the whole cluster's.
const OWN_KEYS: [&str; 9] = [
    "node.name",
    "node.data_dir",
    "net.listen",
    "net.advertise",
    "http.listen",
    "cluster.name",
    "cluster.seeds",
    "cluster.secret_file",
    "cluster.bootstrap_expect",
];
const OWN_SECTION: &str = "tls.";

/// What all nodes are given, as arguments.
fn settings(SourceArgs { config, set }: &SourceArgs) -> Result<Vec<String>> {
    ensure!(
        config.is_none(),
        "`dynkv dev` writes each node's configuration itself: change keys of all nodes with --set SECTION.KEY=VALUE, and give no --config \
         (DYNKV_CONFIG)"
    );
    for setting in set {
        let key = setting.key();
        // A whole section may hold one of them.
        let is_own = |own: &&str| *own == key || own.starts_with(&format!("{key}."));
        let is_own = OWN_KEYS.iter().any(is_own) || key.starts_with(OWN_SECTION) || key == "tls";
        ensure!(
            !is_own,
            "{key} is, or holds, what --nodes, --dir and --base-port decide in `dynkv dev`: leave it out, and name other keys one by one"
        );
    }
    Ok(set.iter().flat_map(|setting| ["--set".to_owned(), setting.text().to_owned()]).collect())
}

pub fn run(args: DevArgs, sources: SourceArgs) -> Result<()> {
    let settings = settings(&sources)?;
    std::fs::create_dir_all(&args.dir).with_context(|| format!("creating {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().with_context(|| format!("finding {}", args.dir.display()))?;
    let _lock = lock(&dir)?;
    let file = plan(&dir, args.nodes, args.base_port)?;
    Runtime::new().context("starting the runtime")?.block_on(supervise(&dir, file, &settings))
}

/// Held for as long as this process lives.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let opening = || format!("opening {}", path.display());
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).with_context(opening)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(opening)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).with_context(opening)?;
            let (dir, pid) = (dir.display(), pid.trim());
            bail!("{dir} is in use by another `dynkv dev` (process {pid}): stop it, or choose another --dir")
        }
        Err(TryLockError::Error(err)) => Err(err).with_context(opening),
    }
}

async fn supervise(dir: &Path, mut file: ClusterFile, settings: &[String]) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    put_cluster_file_aside(dir)?;
    let mut children = Children::start(&mut file, settings)?;
    let starting = async {
        tokio::select! {
            ready = ready::all(&file) => ready?,
            ended = children.ended() => bail!("{}\n{}", ended.explain(), ended.last_words()),
        }
        // Who waits for this file finds a cluster that is ready, and may kill nodes of it: until now, that ends them all.
        write_cluster_file(dir, &file)
    };
    let started = tokio::select! {
        started = starting => started.map(|()| true),
        _ = terminate.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
    };
    if matches!(started, Ok(true)) {
        print_table(dir, &file)?;
        loop {
            tokio::select! {
                ended = children.ended() => report(&ended, settings),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
    }
    eprintln!("stopping {} nodes", file.nodes.len());
    tokio::select! {
        () = children.stop() => {}
        _ = async { tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} } } => {
            eprintln!("told to stop twice: killing what is left");
            children.kill();
        }
    }
    started.map(|_| ())
}

fn report(ended: &Ended, settings: &[String]) {
    let settings: String = settings.iter().map(|argument| format!(" {argument}")).collect();
    eprintln!("{}\nto start it again: dynkv --config {}{settings}", ended.explain(), ended.node.config.display());
}

/// The one of an earlier run names processes that are gone, but also what the cluster consists of: should this run be
/// cut short too, the next one reads it there.
fn put_cluster_file_aside(dir: &Path) -> Result<()> {
    let path = dir.join(CLUSTER_FILE);
    match std::fs::rename(&path, dir.join(LAST_CLUSTER_FILE)) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("renaming {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whole or not at all: other programs read it at any time. It takes the place of the one of an earlier run.
fn write_cluster_file(dir: &Path, file: &ClusterFile) -> Result<()> {
    let (new, path, last) = (dir.join("cluster.json.new"), dir.join(CLUSTER_FILE), dir.join(LAST_CLUSTER_FILE));
    std::fs::write(&new, file.to_json())
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("writing {}", path.display()))?;
    match std::fs::remove_file(&last) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("removing {}", last.display()))
        }
        _ => Ok(()),
    }
}

fn print_table(dir: &Path, file: &ClusterFile) -> Result<()> {
    let mut table = Table::new();
    if !std::io::stdout().is_terminal() {
        table.load_style(NOTHING);
    }
    table.set_header(["NAME", "PID", "QUIC", "HTTP"]);
    for node in &file.nodes {
        table.add_row([&node.name, &node.pid.to_string(), &node.quic.to_string(), &node.http.to_string()]);
    }
    let path = dir.join(CLUSTER_FILE);
    let text = format!("{table}\nready: export DYNKV_CLUSTER={}\n", path.display());
    std::io::stdout().write_all(text.as_bytes()).context("writing to the standard output")
}
