//! The flags that all verbs have, and what follows from them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ArgAction;
use dynkv::client::cluster_file::ClusterFile;
use dynkv::client::session::Patience;
use dynkv::client::{Client, ClientConfig};
use dynkv::net::TlsFiles;
use dynkv::types::{Bucket, Key};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::encoding::KeyFormat;
use super::exit::Failure;
use super::output::{Format, Out};

/// Flags that may stand before or after the verb.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Nodes to begin with; the others are learnt from them.
    #[arg(short, long, global = true, env = "DYNKV_ENDPOINTS", value_name = "HOST:PORT,..", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// The file that `dynkv dev` wrote: endpoints and certificates of a local cluster.
    #[arg(long, global = true, env = "DYNKV_CLUSTER", value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// How results are printed; without it a table on a terminal and plain text in a pipe.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// How keys are written on the command line and in the output.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub key_format: KeyFormat,
    /// For each request, all its attempts included.
    #[arg(long, global = true, default_value = "5s", value_parser = parse_timeout, value_name = "TIME")]
    pub timeout: Duration,
    /// Certificate of the cluster's authority.
    #[arg(long, global = true, env = "DYNKV_CA", value_name = "PEM")]
    pub ca: Option<PathBuf>,
    /// This client's certificate.
    #[arg(long, global = true, env = "DYNKV_CERT", value_name = "PEM")]
    pub cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long = "key", global = true, env = "DYNKV_KEY", value_name = "PEM")]
    pub client_key: Option<PathBuf>,
    /// Only results and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More of what happens; twice for still more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// No progress bar.
    #[arg(long, global = true)]
    pub no_progress: bool,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout < Duration::from_millis(50) => {
            Err("at least 50ms, or no node can answer in time".into())
        }
        Ok(timeout) if timeout > Duration::from_secs(3600) => Err("at most 1h".into()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(format!("{error}, for example 5s or 300ms")),
    }
}

/// What verbs need.
pub struct Context {
    globals: Globals,
    /// The client, once a verb has asked for it.
    client: OnceLock<Client>,
}

impl Context {
    pub fn new(globals: Globals) -> Context {
        Context { globals, client: OnceLock::new() }
    }

    /// A client that speaks to nobody yet.
    pub fn open(&self) -> Result<Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Client::open(self.config()?)?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// A client that knows the ring.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let client = self.open()?;
        client.refresh_ring().await?;
        Ok(client)
    }

    /// Says goodbye to the nodes.
    pub async fn close(&self) {
        if let Some(client) = self.client.get() {
            // a node that does not answer is not waited for
            let _ = tokio::time::timeout(Duration::from_millis(50), client.clone().close()).await;
        }
    }

    fn config(&self) -> Result<ClientConfig, Failure> {
        let Globals { endpoints, cluster, ca, cert, client_key, timeout, .. } = &self.globals;
        let file =
            cluster.as_deref().map(ClusterFile::load).transpose().map_err(|error| Failure::usage(error.to_string()))?;
        let endpoints = match &file {
            Some(file) if endpoints.is_empty() => file.endpoints(),
            _ => endpoints.clone(),
        };
        if endpoints.is_empty() {
            return Err(Failure::usage(
                "which cluster? give --cluster DIR/cluster.json (DYNKV_CLUSTER) for one of `dynkv dev`, or -e HOST:PORT \
                 (DYNKV_ENDPOINTS) with --ca, --cert and --key",
            ));
        }
        if let Some(bad) = endpoints.iter().find(|endpoint| !is_endpoint(endpoint)) {
            return Err(Failure::usage(format!(
                "endpoint {bad:?} is not HOST:PORT, as in 127.0.0.1:7400 or [::1]:7400"
            )));
        }
        let tls = file.as_ref().map(ClusterFile::tls);
        let either = |flag: &Option<PathBuf>, name: &str, of: fn(&TlsFiles) -> &PathBuf| {
            let path = flag.clone().or_else(|| tls.as_ref().map(|tls| of(tls).clone()));
            path.ok_or_else(|| {
                Failure::usage(format!(
                    "--{name} is missing: dynkv takes no connection without certificates; `dynkv certs client` makes them, \
                     and the cluster.json of `dynkv dev` names some"
                ))
            })
        };
        let tls = TlsFiles {
            ca: either(ca, "ca", |tls| &tls.ca)?,
            cert: either(cert, "cert", |tls| &tls.cert)?,
            key: either(client_key, "key", |tls| &tls.key)?,
        };
        let attempt_timeout = Patience::default().attempt_timeout.min(*timeout / 2);
        Ok(ClientConfig { request_timeout: *timeout, attempt_timeout, ..ClientConfig::new(endpoints, tls) })
    }

    /// The format asked for, or what fits where the output goes.
    pub fn format(&self, on_terminal: Format, in_pipe: Format) -> Format {
        self.globals.output.unwrap_or(if self.is_terminal() { on_terminal } else { in_pipe })
    }

    /// The format of verbs whose plain text is their table without colours.
    pub fn table_format(&self) -> Format {
        self.format(Format::Table, Format::Table)
    }

    pub fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    pub fn out(&self) -> Out {
        Out::stdout()
    }

    /// Prints the one result of a verb: as JSON if that is asked for, else as `people` lays it out.
    pub fn show<T: Serialize>(
        &self,
        document: &T,
        people: impl FnOnce(&T, &mut Out) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.show_as(self.table_format(), document, people)
    }

    /// The same, where the verb decides on the format.
    pub fn show_as<T: Serialize>(
        &self,
        format: Format,
        document: &T,
        people: impl FnOnce(&T, &mut Out) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut out = self.out();
        if format.is_json() {
            out.json(format, document)?;
        } else {
            people(document, &mut out)?;
        }
        out.flush()
    }

    pub fn quiet(&self) -> bool {
        self.globals.quiet
    }

    pub fn key_format(&self) -> KeyFormat {
        self.globals.key_format
    }

    /// A key of the command line.
    pub fn key(&self, text: &str) -> Result<Key, Failure> {
        let bytes =
            self.globals.key_format.parse(text).map_err(|error| Failure::usage(format!("key {text:?}: {error}")))?;
        Key::new(bytes).map_err(|error| Failure::usage(error.to_string()))
    }

    /// A bar on stderr, if that is a terminal and nobody forbade it; `total` in steps, if it is known.
    pub fn progress(&self, total: Option<u64>, what: &'static str) -> ProgressBar {
        let hidden = self.globals.no_progress || self.globals.quiet || !std::io::stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(8) };
        let template = match total {
            Some(_) => "{msg} {bar:30} {pos}/{len}  {elapsed}  about {eta} left",
            None => "{msg} {spinner} {human_pos}  {elapsed}  {per_sec}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
        ProgressBar::with_draw_target(total, target).with_style(style).with_message(what)
    }
}

/// A host, a colon, a port; an IPv6 address in brackets.
fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && (bracketed || !host.contains(':')) && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// The bucket of a data verb.
#[derive(Debug, clap::Args)]
pub struct BucketArg {
    /// The bucket.
    #[arg(short, long, default_value = Bucket::DEFAULT, value_name = "BUCKET")]
    pub bucket: Bucket,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        for good in ["127.0.0.1:7400", "n1.example:1", "[::1]:7400"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["", "n1", ":7400", "n1:", "n1:x", "::1:7400", "n1:0", "n1:70000"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn timeouts_have_bounds() {
        assert_eq!(parse_timeout("5s"), Ok(Duration::from_secs(5)));
        for bad in ["5", "10ms", "2h", "soon"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }
}
