//! What a node must refuse to start from or to go on with: a clear word, the right exit code, nothing lost.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes")]

#[path = "processes/cli.rs"]
#[allow(dead_code, reason = "shared by tests that need different parts of it")]
mod cli;
#[path = "processes/nodes.rs"]
#[allow(dead_code, reason = "shared with the benchmark")]
mod nodes;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use dynkv::net::{Validity, init_ca, issue_client};

use self::cli::cli;
use self::nodes::{Nodes, settings};

/// Runs a node that is expected to end by itself.
fn run_to_end(config: &Path) -> Result<(i32, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dynkv"))
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            let output = child.wait_with_output()?;
            bail!("the node did not end:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Checks that a node ends with an error that has all these words.
#[track_caller]
fn check_refused(config: &Path, words: &[&str]) {
    let (code, err) = run_to_end(config).expect("the node ends");
    assert_ne!(code, 0, "{err}");
    assert!(!err.contains("panicked"), "{err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in: {err}");
    }
}

/// Changes a configuration's text.
fn edit(config: &Path, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(config)?;
    anyhow::ensure!(text.contains(from), "{from:?} is not in {text}");
    Ok(std::fs::write(config, text.replace(from, to))?)
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("cp")?;
    anyhow::ensure!(status.success(), "cp failed");
    Ok(())
}

#[test]
fn configurations_that_make_no_sense() -> Result<()> {
    let nodes = Nodes::lay_out(1, &settings(&[]))?;
    let config = &nodes.nodes[0].config;
    let good = std::fs::read_to_string(config)?;
    for (from, to, words) in [
        ("[net]", "[net]\nmax_valeu = \"1MiB\"", &["max_valeu", "max_value"][..]),
        ("[net]", "[net]\nrequest_timeout = 5", &["net.request_timeout", "5"]),
        ("[net]", "[net]\nattempt_timeout = \"3 parsecs\"", &["net.attempt_timeout", "3 parsecs"]),
        ("[node]", "[node]\nshards = 1000", &["node.shards", "256"]),
        ("[cluster]", "[cluster]\npartitions = 100", &["cluster.partitions", "power of two"]),
    ] {
        std::fs::write(config, good.replacen(from, to, 1))?;
        check_refused(config, words);
    }
    Ok(())
}

#[tokio::test]
async fn a_birth_is_not_changed_by_configuration() -> Result<()> {
    let mut nodes = Nodes::start(1, &settings(&[("cluster", "partitions = 64")])).await?;
    nodes.kill(0);
    let config = nodes.nodes[0].config.clone();
    edit(&config, "partitions = 64", "partitions = 128")?;
    check_refused(&config, &["partitions", "64", "128"]);
    Ok(())
}

#[tokio::test]
async fn a_directory_or_a_port_in_use() -> Result<()> {
    let mut nodes = Nodes::start(1, &settings(&[])).await?;
    let (config, endpoint) = (nodes.nodes[0].config.clone(), nodes.nodes[0].endpoint.clone());
    let second = config.with_file_name("second.toml");
    std::fs::copy(&config, &second)?;
    edit(&second, &endpoint, "127.0.0.1:0")?;
    check_refused(&second, &["data", "another process"]);
    nodes.kill(0);
    let taken = std::net::UdpSocket::bind(&endpoint)?;
    check_refused(&config, &[&endpoint]);
    drop(taken);
    Ok(())
}

#[tokio::test]
async fn an_old_copy_of_a_directory_is_refused() -> Result<()> {
    let mut nodes = Nodes::start(3, &settings(&[])).await?;
    nodes.kill(2);
    let data = nodes.nodes[2].dir.join("data");
    let backup = nodes.nodes[2].dir.join("backup");
    copy_dir(&data, &backup)?;
    nodes.start_node(2)?;
    nodes.wait_until_served().await?;
    cli(&nodes, &["put", "k", "v", "-w", "all"]).ends(0);
    nodes.kill(2);
    std::fs::remove_dir_all(&data)?;
    copy_dir(&backup, &data)?;
    let config = nodes.nodes[2].config.clone();
    check_refused(&config, &["old copy", "wipe"]);
    cli(&nodes, &["get", "k", "-r", "2"]).ends(0);
    Ok(())
}

#[tokio::test]
async fn a_wiped_node_takes_its_slot_back_and_does_not_count() -> Result<()> {
    let mut nodes = Nodes::start(3, &settings(&[])).await?;
    cli(&nodes, &["put", "k", "v", "-w", "all"]).ends(0);
    nodes.kill(1);
    nodes.kill(2);
    std::fs::remove_dir_all(nodes.nodes[2].dir.join("data"))?;
    nodes.start_node(2)?;
    nodes.wait_until_served().await?;
    assert!(cli(&nodes, &["-o", "json", "get", "k", "-r", "1"]).ends(0).text().contains("\"v\""));
    // While another primary is away it cannot have got back all that it had.
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let said = cli(&nodes, &["get", "k", "-r", "2", "--timeout", "1s"]).ends(5);
        if said.err.contains("rebuilding") {
            break;
        }
        anyhow::ensure!(Instant::now() < deadline, "it is not heard as rebuilding: {}", said.err);
    }
    nodes.start_node(1)?;
    nodes.wait_until_served().await?;
    cli(&nodes, &["put", "k2", "v2", "-w", "3"]).ends(0);
    Ok(())
}

#[tokio::test]
async fn another_clusters_node_is_refused() -> Result<()> {
    let mut nodes = Nodes::lay_out(3, &settings(&[]))?;
    // The third founds a cluster of its own, with the same certificates and the same name.
    let config = nodes.nodes[2].config.clone();
    let good = std::fs::read_to_string(&config)?;
    let seeds = good.lines().find(|line| line.starts_with("seeds")).context("there are seeds")?.to_owned();
    std::fs::write(&config, good.replace(&seeds, "seeds = []").replace("bootstrap_expect = 3", ""))?;
    nodes.start_node(2)?;
    nodes.wait_until_served().await?;
    nodes.kill(2);
    std::fs::write(&config, good)?;
    for index in [0, 1] {
        edit(&nodes.nodes[index].config, "bootstrap_expect = 3", "bootstrap_expect = 2")?;
        nodes.start_node(index)?;
    }
    nodes.wait_until_served().await?;
    check_refused(&config, &["cluster"]);
    Ok(())
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() -> Result<()> {
    let mut nodes = Nodes::start(1, &settings(&[])).await?;
    let other = nodes.dir.path().join("other");
    let now = SystemTime::now();
    init_ca(&other, "test")?;
    issue_client(&other, "cli", Validity::days(now, 1))?;
    let good = nodes.tls.clone();
    (nodes.tls.cert, nodes.tls.key) = (other.join("cli.client.pem"), other.join("cli.client.key"));
    cli(&nodes, &["get", "k", "--timeout", "2s"]).ends(6);
    nodes.tls = good.clone();
    nodes.tls.ca = other.join("ca.pem");
    cli(&nodes, &["get", "k", "--timeout", "2s"]).ends(6);
    nodes.tls = good;
    cli(&nodes, &["get", "k"]).ends(3);
    Ok(())
}

/// A file system of its own, if this process may make one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Option<SmallDisk>> {
        std::fs::create_dir_all(at)?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(at).output();
        Ok(mount.is_ok_and(|output| output.status.success()).then(|| SmallDisk(at.to_owned())))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The directory goes with the test's; a mount that stays behind is only untidy.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_reads() -> Result<()> {
    for min_free in ["min_free = \"20%\"", "min_free = \"0%\""] {
        let mut nodes = Nodes::lay_out(1, &settings(&[("storage", min_free), ("storage", "block_cache = \"8MiB\"")]))?;
        let Some(_disk) = SmallDisk::mount(&nodes.nodes[0].dir.join("data"))? else {
            eprintln!("SKIPPED: this process may not mount a tmpfs");
            return Ok(());
        };
        nodes.start_all()?;
        nodes.wait_until_served().await?;
        cli(&nodes, &["put", "k", "v"]).ends(0);
        let big = nodes.dir.path().join("big");
        std::fs::write(&big, (0..900_000u32).map(|n| n.wrapping_mul(2_654_435_761) as u8).collect::<Vec<u8>>())?;
        let file = format!("@{}", big.display());
        let refused = (0..80).find_map(|number| {
            let said = cli(&nodes, &["put", &format!("big{number}"), &file, "--timeout", "2s"]);
            (said.code != 0).then_some(said)
        });
        let refused = refused.context("72 MB fit on a disk of 48 MB")?;
        assert!(refused.err.contains("disk") || refused.err.contains("indeterminate"), "{}", refused.err);
        assert!(cli(&nodes, &["-o", "raw", "get", "k"]).ends(0).text() == "v");
        assert_eq!(cli(&nodes, &["-o", "raw", "get", "big0"]).ends(0).out.len(), 900_000);
    }
    Ok(())
}
