//! `dynkv config`, and how every verb reads the configuration.

use std::io::Write;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use dynkv::config::{DEFAULT_TOML, Loaded, Sources, load};
use toml::Value;

use super::SourceArgs;

/// One key set on the command line.
#[derive(Clone, Debug)]
pub struct Setting {
    key: String,
    value: Value,
    /// As it was given.
    text: String,
}

impl Setting {
    /// Which key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// For the command line of another process.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Setting {
    type Err = String;

    /// The value is TOML if it can be, and text otherwise, so that addresses and durations need no second quotes.
    fn from_str(text: &str) -> Result<Setting, String> {
        let (key, value) = text.split_once('=').ok_or("SECTION.KEY=VALUE, e.g. net.listen=127.0.0.1:7400")?;
        let line = format!("value = {value}");
        let parsed = if value.contains(['\n', '\r']) { None } else { line.parse::<toml::Table>().ok() };
        let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::from(value));
        Ok(Setting { key: key.trim().to_owned(), value, text: text.to_owned() })
    }
}

#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Prints every key with its default and its meaning, as a file to start from.
    Default,
    /// Reads all sources as a node would, and says what is wrong, or where each value came from.
    Check,
}

/// Reads and checks the configuration.
pub fn read(SourceArgs { config, set }: &SourceArgs) -> Result<Loaded> {
    let flags = set.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect();
    Ok(load(&Sources::of_process(config.clone(), flags))?)
}

pub fn run(verb: ConfigVerb, sources: SourceArgs) -> Result<()> {
    let text = match verb {
        ConfigVerb::Default => DEFAULT_TOML.to_owned(),
        ConfigVerb::Check => {
            let loaded = read(&sources)?;
            let rows = loaded.rows().into_iter().map(|(key, value, origin)| format!("{key} = {value}  # {origin}\n"));
            rows.collect()
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("writing to the standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_where_they_can_be() {
        let value = |text: &str| text.parse::<Setting>().unwrap().value;
        assert_eq!(value("net.max_inflight=7"), Value::from(7));
        assert_eq!(value("net.listen=127.0.0.1:7400"), Value::from("127.0.0.1:7400"));
        assert_eq!(value("node.name=\"7\""), Value::from("7"));
        assert_eq!(value("cluster.seeds=[\"a:1\"]"), Value::from(vec!["a:1"]));
        assert!("net.listen".parse::<Setting>().is_err());
    }
}
