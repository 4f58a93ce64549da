//! [`load`]: from files, environment and flags to one checked [`Config`].

use std::path::{Path, PathBuf};
use std::{env, fs, io, thread};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::layers::{self, KeyPath, Layers, Origin, Origins};
use super::{Config, ConfigError, DEFAULT_TOML, keys};
use crate::types::check_label;

/// The file that every node of a host reads, if it is there.
const SYSTEM_FILE: &str = "/etc/dynkv/dynkv.toml";

/// What the host supplies where nobody set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name, whole.
    pub name: String,
    /// Cores that this process may use.
    pub cores: usize,
}

impl Host {
    /// Asks the operating system.
    pub fn ask() -> Host {
        Host {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            // where it cannot tell (no /proc, odd cgroups) one shard is slow but right
            cores: thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The part of its name up to the first dot, in lower case: what a node is called by default.
    fn label(&self) -> String {
        self.name.split('.').next().unwrap_or_default().to_ascii_lowercase()
    }
}

/// Where a configuration comes from, the weakest first.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Read if it is there.
    pub system_file: Option<PathBuf>,
    /// `--config` or `DYNKV_CONFIG`: must be there.
    pub file: Option<PathBuf>,
    /// The environment; only `DYNKV__*` counts.
    pub env: Vec<(String, String)>,
    /// Dotted keys and their values.
    pub flags: Vec<(String, Value)>,
    /// For what nobody set.
    pub host: Host,
}

impl Sources {
    /// Those of this process. Variables that are not UTF-8 are passed over: no key or value of ours is one.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, Value)>) -> Sources {
        let env =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Sources { system_file: Some(SYSTEM_FILE.into()), file, env: env.collect(), flags, host: Host::ask() }
    }
}

/// A checked configuration, and who set what.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The tree.
    pub config: Config,
    /// For `config show --origin`.
    pub origins: Origins,
}

impl Loaded {
    /// Every key that has a value, in order, with where it came from.
    pub fn rows(&self) -> Vec<(KeyPath, Value, Origin)> {
        let tree = Table::try_from(&self.config).expect("every field of the tree is a TOML value");
        let row = |(key, value): (KeyPath, Value)| {
            let origin = self.origins.of(&key);
            (key, value, origin)
        };
        layers::leaves(&tree).into_iter().map(row).collect()
    }
}

/// Reads and merges all layers, fills in what the host supplies, and checks the result.
///
/// # Errors
/// The first [`ConfigError`] met.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    layers.defaults(DEFAULT_TOML)?;
    let system = sources.system_file.as_deref().map(|path| (path, read_if_there(path)));
    let given = sources.file.as_deref().map(|path| (path, fs::read_to_string(path).map(Some)));
    for (path, text) in [system, given].into_iter().flatten() {
        match text {
            Ok(Some(text)) => layers.file(path, &text)?,
            Ok(None) => {}
            Err(source) => return Err(ConfigError::Unreadable { path: path.into(), source }),
        }
    }
    layers.env(&sources.env)?;
    for (key, value) in &sources.flags {
        layers.lay(KeyPath::dotted(key), value.clone(), &Origin::Flag)?;
    }
    let mut loaded = Loaded { config: deserialize(&layers)?, origins: layers.origins() };
    loaded.fill_from(&sources.host)?;
    loaded.config.validate(&loaded.origins)?;
    Ok(loaded)
}

impl Loaded {
    fn fill_from(&mut self, host: &Host) -> Result<(), ConfigError> {
        let node = &mut self.config.node;
        if node.name.is_empty() {
            node.name = host.label();
            if check_label("node", &node.name).is_err() {
                let key = KeyPath::dotted("node.name");
                return Err(ConfigError::Missing {
                    key,
                    reason: "the host's name is no DNS label, so the node needs a name of its own",
                });
            }
            self.origins.set(KeyPath::dotted("node.name"), Origin::Host);
        }
        if node.shards == 0 {
            node.shards = threads(host.cores);
            self.origins.set(KeyPath::dotted("node.shards"), Origin::Host);
        }
        if node.threads == 0 {
            node.threads = node.shards.min(threads(host.cores));
            self.origins.set(KeyPath::dotted("node.threads"), Origin::Host);
        }
        Ok(())
    }
}

fn threads(wanted: usize) -> u16 {
    u16::try_from(wanted.clamp(1, 256)).expect("256 fits")
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn deserialize(layers: &Layers) -> Result<Config, ConfigError> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Value::Table(layers.to_tree()), &mut track);
    let error = match Config::deserialize(tracked) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    let mut key = key_of(&track.path());
    // inside a list, or on a bucket's name, the path goes on beyond the key
    while layers.value(&key).is_none() && key.segments().len() > 1 {
        key = KeyPath::new(key.segments()[..key.segments().len() - 1].iter().cloned());
    }
    let value = layers.value(&key).map(Value::to_string).unwrap_or_default();
    let expected = keys::allowed(&key).map_or_else(|| error.to_string(), str::to_owned);
    Err(ConfigError::BadValue { origin: layers.origins().of(&key), key, value, expected })
}

fn key_of(path: &serde_path_to_error::Path) -> KeyPath {
    KeyPath::new(path.iter().map(|segment| match segment {
        serde_path_to_error::Segment::Map { key } => key.clone(),
        other => other.to_string(),
    }))
}
