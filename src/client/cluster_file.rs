//! `cluster.json`: how `dynkv dev` tells other programs where its nodes are.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::net::TlsFiles;

/// A local cluster's nodes and the files to speak to them with. Relative paths start at the file's own directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// [`ClusterFile::SCHEMA`].
    pub schema: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The authority, PEM.
    pub ca: PathBuf,
    /// A client's certificate, PEM.
    pub client_cert: PathBuf,
    /// Its key, PEM.
    pub client_key: PathBuf,
    /// The nodes, in the order of their names.
    pub nodes: Vec<ClusterNode>,
}

/// One node's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterNode {
    /// Its name in the layout.
    pub name: String,
    /// Its process, when the file was written.
    pub pid: u32,
    /// Where it takes peers and clients, UDP.
    pub quic: SocketAddr,
    /// Where it serves health and metrics, TCP.
    pub http: SocketAddr,
    /// Its configuration.
    pub config: PathBuf,
    /// Its data.
    pub data_dir: PathBuf,
}

/// Why the file cannot be used. A retry helps once somebody has written another one.
#[derive(Debug, thiserror::Error)]
pub enum ClusterFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; `dynkv dev` writes it", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what `dynkv dev` writes.
    #[error("{}: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// Another version of dynkv wrote it.
    #[error("{} has schema {schema}, this program knows {}: use the dynkv-cli of the dynkv that wrote it", path.display(), ClusterFile::SCHEMA)]
    Schema {
        /// Which file.
        path: PathBuf,
        /// The version found.
        schema: u32,
    },
}

impl ClusterFile {
    /// The version of the format that this program reads and writes.
    pub const SCHEMA: u32 = 1;

    /// Reads `path` and makes the paths in it independent of the working directory's meaning for the file.
    ///
    /// # Errors
    /// [`ClusterFileError`].
    pub fn load(path: &Path) -> Result<ClusterFile, ClusterFileError> {
        let text = std::fs::read(path).map_err(|source| ClusterFileError::Read { path: path.to_owned(), source })?;
        let parsed = |source| ClusterFileError::Parse { path: path.to_owned(), source };
        // the version first: another one's fields would only read as errors
        let Versioned { schema } = serde_json::from_slice(&text).map_err(parsed)?;
        if schema != ClusterFile::SCHEMA {
            return Err(ClusterFileError::Schema { path: path.to_owned(), schema });
        }
        let file: ClusterFile = serde_json::from_slice(&text).map_err(parsed)?;
        Ok(file.based_at(path.parent().unwrap_or(Path::new(""))))
    }

    /// The text to write to `cluster.json`.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("paths given as text always serialize");
        text.push('\n');
        text
    }

    /// Where clients connect to.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.quic.to_string()).collect()
    }

    /// What clients show to be let in.
    pub fn tls(&self) -> TlsFiles {
        TlsFiles { ca: self.ca.clone(), cert: self.client_cert.clone(), key: self.client_key.clone() }
    }

    fn based_at(mut self, dir: &Path) -> ClusterFile {
        let ClusterFile { ca, client_cert, client_key, nodes, .. } = &mut self;
        let in_nodes = nodes.iter_mut().flat_map(|node| [&mut node.config, &mut node.data_dir]);
        for path in [ca, client_cert, client_key].into_iter().chain(in_nodes) {
            *path = dir.join(&*path);
        }
        self
    }
}

#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> ClusterFile {
        ClusterFile {
            schema: 1,
            cluster: "dev".into(),
            ca: "certs/ca.pem".into(),
            client_cert: "certs/cli.client.pem".into(),
            client_key: "/keys/cli.client.key".into(),
            nodes: vec![ClusterNode {
                name: "n1".into(),
                pid: 17,
                quic: "127.0.0.1:7400".parse().unwrap(),
                http: "127.0.0.1:7480".parse().unwrap(),
                config: "n1/dynkv.toml".into(),
                data_dir: "n1/data".into(),
            }],
        }
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        std::fs::write(&path, file().to_json()).unwrap();
        let loaded = ClusterFile::load(&path).unwrap();
        assert_eq!(loaded.tls().ca, dir.path().join("certs/ca.pem"));
        assert_eq!(loaded.tls().key, Path::new("/keys/cli.client.key"));
        assert_eq!(loaded.nodes[0].config, dir.path().join("n1/dynkv.toml"));
        assert_eq!(loaded.endpoints(), ["127.0.0.1:7400"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ClusterFile::load(&path).unwrap_err().to_string()
        };
        assert!(error("{").contains("cluster.json: EOF"));
        assert!(error(r#"{"schema": 2, "shards": 1}"#).contains("has schema 2, this program knows 1"));
        let unknown = file().to_json().replacen("\"cluster\"", "\"claster\"", 1);
        assert!(error(&unknown).contains("claster"));
        std::fs::remove_file(&path).unwrap();
        assert!(ClusterFile::load(&path).unwrap_err().to_string().contains("`dynkv dev` writes it"));
    }
}
