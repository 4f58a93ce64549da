//! `dynkv dev`: a local cluster of real processes, resumed on its data, stopped as a whole.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dynkv::client::ClusterFile;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A stretch of ports that is free now, of those from here on: QUIC from the base up, HTTP eighty above. Tests that run at the same time begin
/// at different ones.
fn free_base_port(from: u16) -> Result<u16> {
    let is_free =
        |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut bases = (from..from + 6000).step_by(100);
    bases.find(|base| (0..3).chain(80..83).all(|offset| is_free(base + offset))).context("no free ports")
}

/// Starts it and waits until it says that the cluster is ready.
fn start_dev(dir: &Path, base_port: u16) -> Result<Child> {
    start_dev_with(dir, base_port, &[])
}

fn start_dev_with(dir: &Path, base_port: u16, settings: &[&str]) -> Result<Child> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dynkv"))
        .args(["dev", "--nodes", "3", "--base-port", &base_port.to_string(), "--dir"])
        .arg(dir)
        .args(settings.iter().flat_map(|setting| ["--set", setting]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let said = BufReader::new(child.stdout.take().context("its output")?);
    let (sender, ready) = mpsc::channel();
    std::thread::spawn(move || {
        // to the end, so that the output never fills up; nobody listens after the first
        for _ in said.lines().map_while(Result::ok).filter(|line| line.starts_with("ready:")) {
            let _ = sender.send(());
        }
    });
    if ready.recv_timeout(Duration::from_secs(30)).is_err() {
        let status = child.try_wait()?;
        stop(child)?;
        bail!("no cluster within 30 s, or the end of `dynkv dev`: {status:?}");
    }
    Ok(child)
}

fn cli(dir: &Path, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynkv-cli"));
    Ok(command.args(args).env("DYNKV_CLUSTER", dir.join("cluster.json")).output()?)
}

fn stop(mut dev: Child) -> Result<()> {
    kill_process(pid(dev.id())?, Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while dev.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "dynkv dev does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn pid(raw: u32) -> Result<Pid> {
    Pid::from_raw(raw.try_into()?).context("a process id")
}

#[test]
fn a_cluster_starts_resumes_and_stops() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let base_port = free_base_port(20_000)?;
    let dev = start_dev(dir.path(), base_port)?;
    let file = ClusterFile::load(&dir.path().join("cluster.json"))?;
    assert_eq!(file.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    for node in &file.nodes {
        test_kill_process(pid(node.pid)?).context("each node is a process of its own")?;
    }
    assert!(cli(dir.path(), &["put", "kept", "across a restart"])?.status.success());

    let second = Command::new(env!("CARGO_BIN_EXE_dynkv")).args(["dev", "--dir"]).arg(dir.path()).output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("another"),
        "a second dev on a live directory is refused: {said}"
    );

    stop(dev)?;
    for node in &file.nodes {
        assert!(test_kill_process(pid(node.pid)?).is_err(), "{} outlives dynkv dev", node.name);
    }
    let dev = start_dev(dir.path(), base_port)?;
    let probe = cli(dir.path(), &["put", "probe", "v", "-w", "all"])?;
    assert!(probe.status.success(), "it is ready when it says so: {}", String::from_utf8_lossy(&probe.stderr));
    let kept = cli(dir.path(), &["-o", "raw", "get", "kept"])?;
    let said = String::from_utf8_lossy(&kept.stderr);
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "across a restart", "{said}");
    assert!(!dir.path().join("cluster.json.last").exists(), "it stands in for the other one until that is written");
    stop(dev)
}

#[test]
fn settings_reach_the_nodes_or_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let wrong = |arguments: &[&str], says: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynkv"));
        let output = command.args(["dev", "--dir"]).arg(dir.path()).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
        anyhow::Ok(())
    };
    wrong(&["--set", "net.listen=127.0.0.1:1"], "net.listen is, or holds, what --nodes, --dir and --base-port decide")?;
    wrong(&["--set", "net={listen=\"127.0.0.1:1\"}"], "net is, or holds, what")?;
    wrong(&["--set", "tls.ca_file=x"], "tls.ca_file is, or holds, what")?;
    wrong(&["--config", "dynkv.toml"], "--set SECTION.KEY=VALUE")?;

    let dev = start_dev_with(dir.path(), free_base_port(26_000)?, &["storage.sync=os"])?;
    // Nothing is on a disk before the answer, so the receipt does not say so.
    let receipt = cli(dir.path(), &["put", "key", "value"])?;
    let said = String::from_utf8_lossy(&receipt.stdout);
    ensure!(receipt.status.success() && !said.contains("synced"), "{said}");
    stop(dev)
}
