//! Certificates and the secret of a local cluster.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::LocalError;
use crate::net::{TlsFiles, Validity, init_ca, issue_client, issue_node};

/// The client's name that every site has a certificate for.
const CLIENT: &str = "cli";

/// A directory with an authority, the cluster's secret and a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    certs: PathBuf,
    cluster: String,
}

impl Site {
    /// Makes what is missing in `certs`; certificates hold from `now` on.
    ///
    /// # Errors
    /// [`LocalError::Certificates`].
    pub fn make(certs: &Path, cluster: &str, now: SystemTime) -> Result<Site, LocalError> {
        // an earlier run may have been cut short: what is there is kept
        if !certs.join("ca.pem").exists() {
            init_ca(certs, cluster)?;
        }
        if !certs.join(format!("{CLIENT}.client.pem")).exists() {
            issue_client(certs, CLIENT, Validity::leaf(now))?;
        }
        Ok(Site { certs: certs.to_owned(), cluster: cluster.to_owned() })
    }

    /// Makes a node's certificate, if there is none.
    ///
    /// # Errors
    /// [`LocalError::Certificates`].
    pub fn issue(&self, node: &str, now: SystemTime) -> Result<(), LocalError> {
        if !self.certs.join(format!("{node}.node.pem")).exists() {
            issue_node(&self.certs, node, Validity::leaf(now))?;
        }
        Ok(())
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The cluster's secret.
    pub fn secret(&self) -> PathBuf {
        self.certs.join("cluster.secret")
    }

    /// What the client shows to be let in.
    pub fn client(&self) -> TlsFiles {
        self.files(&format!("{CLIENT}.client"))
    }

    /// What a node shows.
    pub fn node(&self, name: &str) -> TlsFiles {
        self.files(&format!("{name}.node"))
    }

    fn files(&self, stem: &str) -> TlsFiles {
        TlsFiles {
            ca: self.certs.join("ca.pem"),
            cert: self.certs.join(format!("{stem}.pem")),
            key: self.certs.join(format!("{stem}.key")),
        }
    }
}
