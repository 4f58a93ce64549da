//! Layers of keys and values, merged key by key, each key remembering which layer its value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::ConfigError;
use super::keys::{self, Form, Kind};
use crate::types::Bucket;

/// What environment variables that set a key begin with.
const ENV_PREFIX: &str = "DYNKV__";

/// A key's place in the tree: `cluster`, `buckets`, `carts`, `n`. Printed dotted, as TOML writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// From its parts, outermost first.
    pub fn new(segments: impl IntoIterator<Item = String>) -> KeyPath {
        KeyPath(segments.into_iter().collect())
    }

    /// From `section.key`. Whatever lies between `cluster.buckets.` and the last dot is one bucket's name.
    pub fn dotted(key: &str) -> KeyPath {
        match key.strip_prefix("cluster.buckets.").and_then(|rest| rest.rsplit_once('.')) {
            Some((bucket, last)) => KeyPath::new(["cluster", "buckets", bucket, last].map(str::to_owned)),
            None => KeyPath::new(key.split('.').map(str::to_owned)),
        }
    }

    /// Its parts, outermost first.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    fn child(&self, segment: &str) -> KeyPath {
        KeyPath::new(self.0.iter().cloned().chain([segment.to_owned()]))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        for (at, part) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            if bare(part) { write!(f, "{dot}{part}")? } else { write!(f, "{dot}{part:?}")? }
        }
        Ok(())
    }
}

/// Where a key's value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Env(String),
    /// The command line.
    Flag,
    /// The host: its name, its number of cores.
    Host,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the defaults"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Env(variable) => write!(f, "the environment, {variable}"),
            Origin::Flag => f.write_str("the command line"),
            Origin::Host => f.write_str("the host"),
        }
    }
}

/// Where each key's value came from; a key that is not listed has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<KeyPath, Origin>);

impl Origins {
    /// The origin of one key.
    pub fn of(&self, key: &KeyPath) -> Origin {
        self.0.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn set(&mut self, key: KeyPath, origin: Origin) {
        self.0.insert(key, origin);
    }
}

/// The merged layers. Only leaves are held, and tables that have none (a bucket that is named and nothing else).
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<KeyPath, (Value, Origin)>);

impl Layers {
    /// Lays a file's text over what is there.
    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax { path: path.into(), message: error.to_string() };
        let table = text.parse::<Table>().map_err(syntax)?;
        self.table(&KeyPath(Vec::new()), table, &Origin::File(path.into()))
    }

    /// Lays the defaults.
    pub(super) fn defaults(&mut self, text: &str) -> Result<(), ConfigError> {
        let syntax =
            |error: toml::de::Error| ConfigError::Syntax { path: "defaults".into(), message: error.to_string() };
        self.table(&KeyPath(Vec::new()), text.parse::<Table>().map_err(syntax)?, &Origin::Default)
    }

    /// Lays those variables over what is there that begin with `DYNKV__`; `__` then separates the parts of the key.
    pub(super) fn env(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        // by name, so that one variable for a whole table comes before those for its keys
        let mut variables: Vec<_> = variables.iter().collect();
        variables.sort();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            let key = KeyPath::new(rest.split("__").map(str::to_ascii_lowercase));
            let value = match keys::kind(&key) {
                Kind::Key(known) => env_value(known.form, text),
                Kind::Table | Kind::Unknown => toml_value(text).unwrap_or_else(|| Value::String(text.clone())),
            };
            self.lay(key, value, &Origin::Env(name.clone()))?;
        }
        Ok(())
    }

    /// Lays one value over what is there; a table is laid key by key.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`], or [`ConfigError::BadValue`] for a value where a table belongs.
    pub(super) fn lay(&mut self, key: KeyPath, value: Value, origin: &Origin) -> Result<(), ConfigError> {
        if let [_, _, bucket] = key.segments()
            && let Kind::Table = keys::kind(&key)
            && Bucket::new(bucket).is_err()
        {
            let expected = "a bucket name of 1 to 64 bytes without control characters".to_owned();
            return Err(ConfigError::BadValue { key, value: value.to_string(), origin: origin.clone(), expected });
        }
        match (keys::kind(&key), value) {
            (Kind::Unknown, value) => {
                let nearest = keys::nearest(&key, value.is_table());
                Err(ConfigError::UnknownKey { key, origin: origin.clone(), nearest })
            }
            (Kind::Table, Value::Table(table)) => self.table(&key, table, origin),
            (Kind::Table, value) => Err(ConfigError::BadValue {
                key,
                value: value.to_string(),
                origin: origin.clone(),
                expected: "a table".to_owned(),
            }),
            (Kind::Key(_), value) => {
                self.0.insert(key, (value, origin.clone()));
                Ok(())
            }
        }
    }

    fn table(&mut self, at: &KeyPath, table: Table, origin: &Origin) -> Result<(), ConfigError> {
        if table.is_empty() {
            self.0.entry(at.clone()).or_insert_with(|| (Value::Table(Table::new()), origin.clone()));
        }
        table.into_iter().try_for_each(|(segment, value)| self.lay(at.child(&segment), value, origin))
    }

    /// The value of one key, as it was given.
    pub(super) fn value(&self, key: &KeyPath) -> Option<&Value> {
        self.0.get(key).map(|(value, _)| value)
    }

    /// Where each value came from.
    pub(super) fn origins(&self) -> Origins {
        Origins(self.0.iter().map(|(key, (_, origin))| (key.clone(), origin.clone())).collect())
    }

    /// The tree.
    pub(super) fn to_tree(&self) -> Table {
        let mut root = Table::new();
        for (key, (value, _)) in &self.0 {
            let Some((last, sections)) = key.0.split_last() else { continue };
            let table = sections.iter().fold(&mut root, |table, section| {
                let inner = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
                inner.as_table_mut().expect("`lay` admits values at keys only, and no key lies within a key")
            });
            table.insert(last.clone(), value.clone());
        }
        root
    }
}

/// Every key of a tree with its value, in order.
pub(super) fn leaves(tree: &Table) -> Vec<(KeyPath, Value)> {
    fn walk(at: &KeyPath, table: &Table, into: &mut Vec<(KeyPath, Value)>) {
        for (segment, value) in table {
            match value {
                Value::Table(inner) => walk(&at.child(segment), inner, into),
                leaf => into.push((at.child(segment), leaf.clone())),
            }
        }
    }
    let mut into = Vec::new();
    walk(&KeyPath(Vec::new()), tree, &mut into);
    into
}

/// Reads a variable's text in the form that its key takes; text that does not fit is left for the key's own check to refuse.
fn env_value(form: Form, text: &str) -> Value {
    let parsed = match form {
        Form::Text => None,
        Form::Number | Form::Flag => toml_value(text),
        Form::List if text.trim_start().starts_with('[') => toml_value(text),
        Form::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn toml_value(text: &str) -> Option<Value> {
    // a line break could smuggle a second key in
    let one_line = !text.contains(['\n', '\r']);
    one_line.then(|| format!("value = {text}").parse::<Table>().ok()?.remove("value")).flatten()
}
