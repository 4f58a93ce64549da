//! Nodes in this process, over loopback, their disks in memory. Everything is awaited under a deadline.

mod client;
mod cluster;
mod faults;
pub(super) mod hanging;
mod hints;
mod lifecycle;
mod repair;
mod syncs;
mod tombstones;
mod trace;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toml::Value;

use super::{Server, ServerError, Setup};
use crate::config::{Host, Loaded, Sources, load};
use crate::net::{Tls, TlsFiles, Validity, init_ca, issue_client, issue_node};
use crate::storage::{Engine, MemoryConfig, MemoryEngine};

const DEADLINE: Duration = Duration::from_secs(30);

/// Panics if `future` takes longer than any machine needs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("the deadline of the test is over")
}

/// Looks until it holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("it never came about that {what}"));
}

/// The third of three nodes has stopped.
async fn both_miss_the_third(one: &Server, other: &Server) {
    let up = |server: &Server| server.status().members.iter().filter(|member| member.up).count();
    eventually("the two notice", || up(one) == 2 && up(other) == 2).await;
}

fn memory() -> Arc<MemoryEngine> {
    Arc::new(MemoryEngine::new(MemoryConfig::default()))
}

/// Certificates and directories of one cluster.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), "test").unwrap();
        issue_client(dir.path(), "app", Validity::leaf(SystemTime::now())).unwrap();
        Site { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration of a node, from flags over the defaults.
    fn config(&self, name: &str, more: &[(&str, Value)]) -> Loaded {
        let text = |path: PathBuf| Value::from(path.to_str().unwrap());
        if !self.file(&format!("{name}.node.pem")).exists() {
            issue_node(self.dir.path(), name, Validity::leaf(SystemTime::now())).unwrap();
        }
        let mut flags: Vec<(String, Value)> = [
            ("node.name", name.into()),
            ("node.shards", 2.into()),
            ("node.data_dir", text(self.file(name))),
            ("cluster.name", "test".into()),
            ("cluster.secret_file", text(self.file("cluster.secret"))),
            ("net.listen", "127.0.0.1:0".into()),
            ("http.listen", "127.0.0.1:0".into()),
            ("tls.ca_file", text(self.file("ca.pem"))),
            ("tls.cert_file", text(self.file(&format!("{name}.node.pem")))),
            ("tls.key_file", text(self.file(&format!("{name}.node.key")))),
            ("gossip.interval", "20ms".into()),
            // tombstones are reaped by order
            ("antientropy.reap_interval", "0s".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        flags.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let host = Host { name: "host".into(), cores: 2 };
        load(&Sources { system_file: None, file: None, env: Vec::new(), flags, host }).unwrap()
    }

    async fn try_start<E: Engine + 'static>(
        &self,
        name: &str,
        engine: &Arc<E>,
        more: &[(&str, Value)],
    ) -> Result<Server, ServerError> {
        let Loaded { config, origins } = self.config(name, more);
        let mark_dir = self.dir.path().to_owned();
        soon(Server::start(Setup { config, origins, engine: engine.clone(), mark_dir })).await
    }

    async fn start<E: Engine + 'static>(&self, name: &str, engine: &Arc<E>, more: &[(&str, Value)]) -> Server {
        self.try_start(name, engine, more).await.unwrap()
    }

    /// A cluster of one node, ready.
    async fn single(&self, more: &[(&str, Value)]) -> Server {
        let server = self.start("n1", &memory(), more).await;
        eventually("the node is ready", || server.not_ready().is_none()).await;
        server
    }

    /// A cluster of three nodes, ready.
    async fn three(&self) -> [Server; 3] {
        self.three_and(&memory()).await
    }

    /// The same; the third has this disk.
    async fn three_and<E: Engine + 'static>(&self, third: &Arc<E>) -> [Server; 3] {
        // the first has no other's address yet: a port where nobody answers
        let birth = |seed: String| [("cluster.seeds", vec![seed].into()), ("cluster.bootstrap_expect", 3.into())];
        let n1 = self.start("n1", &memory(), &birth("127.0.0.1:9".to_owned())).await;
        let seeds = birth(n1.quic_addr().to_string());
        let n2 = self.start("n2", &memory(), &seeds).await;
        let n3 = self.start("n3", third, &seeds).await;
        let servers = [n1, n2, n3];
        eventually("all nodes are ready", || servers.iter().all(|server| server.not_ready().is_none())).await;
        servers
    }

    fn tls(&self, file: &str) -> Tls {
        let part = |end: &str| self.file(&format!("{file}.{end}"));
        Tls::load(&TlsFiles { ca: self.file("ca.pem"), cert: part("pem"), key: part("key") }).unwrap()
    }
}

/// Status line and body.
async fn http(server: &Server, path: &str) -> (String, String) {
    let mut stream = soon(TcpStream::connect(server.http_addr())).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
