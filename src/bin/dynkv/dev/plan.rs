//! What a local cluster consists of: as its directory says, or made there.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use dynkv::client::cluster_file::{ClusterFile, ClusterNode};
use dynkv::local::{Founder, Site};

/// What clients read while the cluster is up.
pub const CLUSTER_FILE: &str = "cluster.json";
/// The same of the run before, from a start until the cluster is ready.
pub const LAST_CLUSTER_FILE: &str = "cluster.json.last";
const CLUSTER: &str = "dev";
const NODES: u16 = 5;
const MAX_NODES: u16 = 80;
const BASE_PORT: u16 = 7400;
/// From a node's QUIC port to its HTTP port; more nodes than this would collide.
const HTTP_OFFSET: u16 = 80;

/// The cluster of `dir`: the one that is there, or a new one.
pub fn plan(dir: &Path, nodes: Option<u16>, base_port: Option<u16>) -> Result<ClusterFile> {
    let files = [CLUSTER_FILE, LAST_CLUSTER_FILE].map(|name| dir.join(name));
    let Some(path) = files.into_iter().find(|path| path.exists()) else {
        return make(dir, nodes.unwrap_or(NODES), base_port.unwrap_or(BASE_PORT));
    };
    let file = ClusterFile::load(&path)?;
    let has = u16::try_from(file.nodes.len()).unwrap_or(u16::MAX);
    let port = file.nodes.first().map_or(0, |node| node.quic.port());
    let elsewhere = "choose another --dir, or remove this one";
    ensure!(nodes.is_none_or(|nodes| nodes == has), "{} holds a cluster of {has} nodes: {elsewhere}", dir.display());
    ensure!(
        base_port.is_none_or(|base| base == port),
        "{} holds a cluster whose ports begin at {port}: {elsewhere}",
        dir.display()
    );
    Ok(file)
}

fn make(dir: &Path, nodes: u16, base_port: u16) -> Result<ClusterFile> {
    if !(1..=MAX_NODES).contains(&nodes) || base_port == 0 || base_port.checked_add(HTTP_OFFSET + nodes).is_none() {
        bail!("1 to {MAX_NODES} nodes, whose ports all lie below 65536");
    }
    let now = SystemTime::now();
    // an earlier run may have been cut short: what is there is kept
    let site = Site::make(&dir.join("certs"), CLUSTER, now)?;
    let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let seeds: Vec<SocketAddr> = (0..nodes).filter(|_| nodes > 1).map(|seed| address(base_port + seed)).collect();
    let mut made = Vec::new();
    for index in 0..nodes {
        let name = format!("n{}", index + 1);
        site.issue(&name, now)?;
        let data_dir = dir.join(&name);
        fs::create_dir_all(&data_dir).with_context(|| format!("creating {}", data_dir.display()))?;
        let config = dir.join(format!("{name}.toml"));
        let (quic, http) = (address(base_port + index), address(base_port + HTTP_OFFSET + index));
        let founder = Founder {
            name: name.clone(),
            data_dir: data_dir.clone(),
            listen: quic,
            advertise: None,
            http,
            seeds: seeds.clone(),
            founders: nodes,
        };
        fs::write(&config, founder.config(&site)?).with_context(|| format!("writing {}", config.display()))?;
        made.push(ClusterNode { name, pid: 0, quic, http, config, data_dir });
    }
    let client = site.client();
    Ok(ClusterFile {
        schema: ClusterFile::SCHEMA,
        cluster: CLUSTER.to_owned(),
        ca: client.ca,
        client_cert: client.cert,
        client_key: client.key,
        nodes: made,
    })
}

#[cfg(test)]
mod tests {
    use dynkv::config::{Host, Sources, load};

    use super::*;

    #[test]
    fn a_made_cluster_is_found_again_and_its_configurations_are_good() {
        let dir = tempfile::tempdir().unwrap();
        let made = plan(dir.path(), Some(3), Some(9000)).unwrap();
        fs::write(dir.path().join("cluster.json"), made.to_json()).unwrap();
        assert_eq!(plan(dir.path(), None, None).unwrap(), made);
        assert_eq!(plan(dir.path(), Some(3), Some(9000)).unwrap(), made);
        assert!(plan(dir.path(), Some(4), None).unwrap_err().to_string().contains("a cluster of 3 nodes"));
        assert!(plan(dir.path(), None, Some(9001)).unwrap_err().to_string().contains("ports begin at 9000"));
        for node in &made.nodes {
            let host = Host { name: "host".into(), cores: 1 };
            let file = Some(node.config.clone());
            let sources = Sources { system_file: None, file, env: Vec::new(), flags: Vec::new(), host };
            let config = load(&sources).unwrap().config;
            assert_eq!((config.node.name, config.net.listen), (node.name.clone(), node.quic));
            assert_eq!(config.cluster.seeds.len(), 3);
        }
    }

    #[test]
    fn a_run_that_was_cut_short_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        plan(dir.path(), Some(2), None).unwrap();
        let made = plan(dir.path(), Some(3), None).unwrap();
        assert_eq!(made.nodes.len(), 3);
        // this one was up once, and is cut short while it resumes
        fs::write(dir.path().join(LAST_CLUSTER_FILE), made.to_json()).unwrap();
        assert_eq!(plan(dir.path(), None, None).unwrap(), made);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (nodes, port) in [(0, 7400), (81, 7400), (5, 65500), (5, 0)] {
            assert!(plan(dir.path(), Some(nodes), Some(port)).is_err(), "{nodes} {port}");
        }
    }
}
