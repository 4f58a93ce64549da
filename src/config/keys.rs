//! The keys there are: for each how its environment variable is read and what its value may be. Errors quote this table,
//! and `tests` holds it to the tree's fields.

use super::layers::KeyPath;

/// How the text of an environment variable becomes a TOML value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Taken as it stands.
    Text,
    /// A number, as TOML writes it.
    Number,
    /// `true` or `false`.
    Flag,
    /// A TOML array, or items separated by commas.
    List,
}

/// One key of the tree. `*` in a path stands for a name that the user chose.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: &'static [&'static str],
    pub(super) form: Form,
    /// What a value may be, as a noun phrase after "expected".
    pub(super) allowed: &'static str,
}

const LABEL: &str = "a DNS label: 1 to 63 of a-z, 0-9 and '-', not '-' at either end";
const LEVEL: &str = "a number from 1 to 16, \"one\", \"quorum\" or \"all\"";
const PEM: &str = "the path of a PEM file";
const SOCKET: &str = "an IP address and a port, such as \"127.0.0.1:7400\" or \"[::]:7400\"";

/// Shorthand for a row of [`KEYS`].
const fn key(path: &'static [&'static str], form: Form, allowed: &'static str) -> Known {
    Known { path, form, allowed }
}

pub(super) const KEYS: &[Known] = &[
    key(
        &["node", "name"],
        Form::Text,
        "a DNS label (1 to 63 of a-z, 0-9 and '-', not '-' at either end), or \"\" for the host's name",
    ),
    key(&["node", "shards"], Form::Number, "a whole number from 1 to 256, or 0 for one a core"),
    key(
        &["node", "threads"],
        Form::Number,
        "a whole number from 1 to 256, or 0 for one a core, but no more than shards",
    ),
    key(&["node", "zone"], Form::Text, LABEL),
    key(&["node", "weight"], Form::Number, "a number above 0, at most 1000"),
    key(&["node", "data_dir"], Form::Text, "the path of a directory"),
    key(&["cluster", "name"], Form::Text, LABEL),
    key(&["cluster", "seeds"], Form::List, "a list of \"host:port\""),
    key(&["cluster", "bootstrap_expect"], Form::Number, "a whole number from 1 to 1000"),
    key(&["cluster", "secret_file"], Form::Text, "the path of a file"),
    key(&["cluster", "partitions"], Form::Number, "a power of two from 1 to 32768"),
    key(&["cluster", "buckets", "*", "n"], Form::Number, "a whole number from 1 to 16"),
    key(&["cluster", "buckets", "*", "conflict"], Form::Text, "\"siblings\" or \"lww\""),
    key(&["replication", "r"], Form::Text, LEVEL),
    key(&["replication", "w"], Form::Text, LEVEL),
    key(&["replication", "sloppy"], Form::Flag, "true or false"),
    key(&["replication", "read_repair_chance"], Form::Number, "a number from 0 to 1"),
    key(&["replication", "max_siblings"], Form::Number, "a whole number from 1 to 10000"),
    key(&["net", "listen"], Form::Text, SOCKET),
    key(&["net", "advertise"], Form::Text, "\"host:port\", or \"\" for the address it listens on"),
    key(&["net", "request_timeout"], Form::Text, "a duration from \"10ms\" to \"10m\""),
    key(&["net", "attempt_timeout"], Form::Text, "a duration from \"1ms\" to net.request_timeout"),
    key(&["net", "hedge_after"], Form::Text, "\"p95\", a duration from \"1ms\" to \"1m\", or \"never\""),
    key(&["net", "max_value"], Form::Text, "a size from \"1B\" to \"64MiB\""),
    key(&["net", "max_inflight"], Form::Number, "a whole number from 1 to 1000000"),
    key(&["tls", "ca_file"], Form::Text, PEM),
    key(&["tls", "cert_file"], Form::Text, PEM),
    key(&["tls", "key_file"], Form::Text, PEM),
    key(&["gossip", "interval"], Form::Text, "a duration from \"10ms\" to \"1m\""),
    key(&["gossip", "phi_threshold"], Form::Number, "a number from 1 to 100"),
    key(&["gossip", "phi_window"], Form::Number, "a whole number from 10 to 100000"),
    key(&["hints", "max_age"], Form::Text, "a duration from \"1s\" to \"365d\""),
    key(&["hints", "max_bytes"], Form::Text, "a size such as \"10GiB\"; \"0B\" for none"),
    key(&["hints", "replay_rate"], Form::Text, "bytes a second from \"1KiB/s\" to \"1TiB/s\""),
    key(&["antientropy", "interval"], Form::Text, "a duration from \"1s\" to \"365d\", or \"0s\" for only by order"),
    key(&["antientropy", "concurrency"], Form::Number, "a whole number from 1 to 64"),
    key(&["antientropy", "rate"], Form::Text, "bytes a second from \"1KiB/s\" to \"1TiB/s\""),
    key(&["antientropy", "leaves"], Form::Number, "a power of two from 32 to 65536"),
    key(
        &["antientropy", "scrub_interval"],
        Form::Text,
        "a duration from \"1m\" to \"365d\", or \"0s\" for only by order",
    ),
    key(
        &["antientropy", "reap_interval"],
        Form::Text,
        "a duration from \"1s\" to \"365d\", or \"0s\" for only by order",
    ),
    key(&["storage", "sync"], Form::Text, "\"always\", an interval from \"1ms\" to \"1m\", or \"os\""),
    key(&["storage", "block_cache"], Form::Text, "\"0%\" to \"90%\", or a size such as \"8GiB\""),
    key(&["storage", "record_cache"], Form::Text, "\"0%\" to \"90%\", or a size such as \"8GiB\""),
    key(&["storage", "compression"], Form::Text, "\"lz4\", \"zstd\" or \"none\""),
    key(&["storage", "min_free"], Form::Text, "\"0%\" to \"90%\", or a size such as \"8GiB\""),
    key(&["http", "listen"], Form::Text, SOCKET),
    key(&["log", "level"], Form::Text, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\""),
    key(&["log", "format"], Form::Text, "\"auto\", \"text\" or \"json\""),
    key(&["log", "slow_op"], Form::Text, "a duration such as \"100ms\""),
    key(&["limits", "max_connections"], Form::Number, "a whole number from 1 to 1000000"),
    key(&["limits", "memory"], Form::Text, "\"1%\" to \"90%\", or a size of at least \"64MiB\""),
];

/// What a path of keys is to the tree.
#[derive(Debug)]
pub(super) enum Kind {
    /// It has a value.
    Key(&'static Known),
    /// It holds keys.
    Table,
    /// Nobody knows it.
    Unknown,
}

/// Looks a path up.
pub(super) fn kind(path: &KeyPath) -> Kind {
    let segments = path.segments();
    let fits = |known: &&Known| segments.iter().zip(known.path).all(|(given, known)| *known == "*" || given == known);
    if let Some(known) = KEYS.iter().filter(|known| known.path.len() == segments.len()).find(fits) {
        return Kind::Key(known);
    }
    let inner = KEYS.iter().filter(|known| known.path.len() > segments.len()).any(|known| fits(&known));
    if inner { Kind::Table } else { Kind::Unknown }
}

/// What a key's value may be.
pub(super) fn allowed(path: &KeyPath) -> Option<&'static str> {
    match kind(path) {
        Kind::Key(known) => Some(known.allowed),
        Kind::Table => Some("a table"),
        Kind::Unknown => None,
    }
}

/// What a typing error is likeliest to have made `path` of: the fewest edits of the whole, or of the last part for a key
/// put into a wrong section. For a table that is a table, for a value a key.
pub(super) fn nearest(path: &KeyPath, is_table: bool) -> KeyPath {
    let last = |path: &KeyPath| path.segments().last().map_or_else(String::new, |last| last.to_lowercase());
    let cost = |known: &KeyPath| {
        let whole = strsim::damerau_levenshtein(&path.to_string().to_lowercase(), &known.to_string());
        let misplaced = 1 + strsim::damerau_levenshtein(&last(path), &last(known));
        (whole.min(misplaced), whole)
    };
    let lengths = |known: &Known| if is_table { 1..known.path.len() } else { known.path.len()..known.path.len() + 1 };
    let named = |parts: &[&str]| {
        let name = |at: usize| path.segments().get(at).cloned().unwrap_or_else(|| "NAME".into());
        KeyPath::new(parts.iter().enumerate().map(|(at, part)| if *part == "*" { name(at) } else { (*part).into() }))
    };
    let candidates = KEYS.iter().flat_map(|known| lengths(known).map(|length| named(&known.path[..length])));
    candidates.min_by_key(cost).expect("the table of keys is not empty")
}
