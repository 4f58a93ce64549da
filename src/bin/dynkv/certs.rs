//! `dynkv certs`: a cluster's authority, its secret, and certificates for nodes and clients.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use clap::Subcommand;
use dynkv::net::{Validity, init_ca, issue_client, issue_node};

#[derive(Subcommand)]
pub enum CertsVerb {
    /// Makes the authority (ca.pem, ca.key) and cluster.secret of a new cluster.
    Init {
        /// Where; made if it is not there.
        #[arg(long)]
        dir: PathBuf,
        /// The cluster's name, part of every certificate.
        #[arg(long, default_value = "dynkv")]
        cluster: String,
    },
    /// Issues NAME.node.pem and NAME.node.key.
    Node {
        /// The node's name (node.name).
        name: String,
        /// Where the authority is, and the files go.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Issues NAME.client.pem and NAME.client.key.
    Client {
        /// The client's name.
        name: String,
        /// Where the authority is, and the files go.
        #[arg(long)]
        dir: PathBuf,
    },
}

pub fn run(verb: CertsVerb) -> Result<()> {
    match verb {
        CertsVerb::Init { dir, cluster } => {
            init_ca(&dir, &cluster)?;
            print_made(&dir, &["ca.pem", "ca.key", "cluster.secret"]);
            eprintln!("Keep ca.key where no node runs; every node needs ca.pem and cluster.secret.");
        }
        CertsVerb::Node { name, dir } => {
            issue_node(&dir, &name, Validity::leaf(SystemTime::now()))?;
            print_made(&dir, &[&format!("{name}.node.pem"), &format!("{name}.node.key")]);
        }
        CertsVerb::Client { name, dir } => {
            issue_client(&dir, &name, Validity::leaf(SystemTime::now()))?;
            print_made(&dir, &[&format!("{name}.client.pem"), &format!("{name}.client.key")]);
        }
    }
    Ok(())
}

fn print_made(dir: &Path, files: &[&str]) {
    files.iter().for_each(|file| println!("{}", dir.join(file).display()));
}
