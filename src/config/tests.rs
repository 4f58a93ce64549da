//! The layers, the errors, and that table, file and tree agree.

use std::fs;

use toml::{Table, Value};

use super::*;
use crate::quorum::Level;
use crate::storage::config::SyncMode;
use crate::types::Bucket;

/// A source of everything that a node needs and nothing more.
fn bare() -> Sources {
    let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
    Sources {
        system_file: None,
        file: None,
        env: Vec::new(),
        flags: vec![
            text("tls.ca_file", "/x/ca.crt"),
            text("tls.cert_file", "/x/node.crt"),
            text("tls.key_file", "/x/node.key"),
            text("cluster.secret_file", "/x/cluster.secret"),
        ],
        host: Host { name: "Alpha.example.com".into(), cores: 4 },
    }
}

fn with_env(variables: &[(&str, &str)]) -> Sources {
    Sources { env: variables.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(), ..bare() }
}

/// Loads one file's text; errors show the file as `F`.
fn load_text(text: &str) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dynkv.toml");
    fs::write(&file, text).unwrap();
    load(&Sources { file: Some(file.clone()), ..bare() })
        .map_err(|error| error.to_string().replace(file.to_str().unwrap(), "F"))
}

#[track_caller]
fn refuses(text: &str, error: &str) {
    assert_eq!(load_text(text).map(|loaded| loaded.config), Err(error.to_owned()), "{text}");
}

#[test]
fn the_default_file_is_exactly_the_default_tree() {
    assert_eq!(toml::from_str::<Config>(DEFAULT_TOML).unwrap(), Config::default());
}

#[test]
fn the_default_file_names_every_key_and_only_those() {
    // keys without a default stand there commented out
    let uncommented: String = DEFAULT_TOML
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_key(line)).unwrap_or(line).to_owned() + "\n")
        .collect();
    let tree = uncommented.parse::<Table>().unwrap();
    let mut named: Vec<String> = layers::leaves(&tree).iter().map(|(key, _)| key.to_string()).collect();
    let mut known: Vec<String> = keys::KEYS.iter().map(|known| known.path.join(".").replace('*', "default")).collect();
    named.sort();
    known.sort();
    assert_eq!(named, known);

    // and the tree has the same: it takes them all, and writes them all
    let full = toml::from_str::<Config>(&uncommented).unwrap();
    let mut fields: Vec<String> =
        layers::leaves(&Table::try_from(&full).unwrap()).iter().map(|(key, _)| key.to_string()).collect();
    fields.sort();
    assert_eq!(fields, known);
}

fn is_key(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[test]
fn each_layer_overrides_the_one_before_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (system, given) = (dir.path().join("system.toml"), dir.path().join("given.toml"));
    fs::write(&system, "[limits]\nmax_connections = 1\n[net]\nmax_inflight = 1\n[node]\nshards = 1\nzone = 'a'\n")
        .unwrap();
    fs::write(&given, "[net]\nmax_inflight = 2\n[node]\nshards = 2\nzone = 'b'\n").unwrap();
    let mut sources = with_env(&[("DYNKV__NODE__SHARDS", "3"), ("DYNKV__NODE__ZONE", "c"), ("HOME", "/root")]);
    sources.system_file = Some(system.clone());
    sources.file = Some(given.clone());
    sources.flags.push(("node.zone".into(), Value::String("d".into())));
    let Loaded { config, origins } = load(&sources).unwrap();

    assert_eq!(config.limits.max_connections, 1);
    assert_eq!(config.net.max_inflight, 2);
    assert_eq!(config.node.shards, 3);
    assert_eq!(config.node.zone, "d");
    let origin = |key: &str| origins.of(&KeyPath::dotted(key));
    assert_eq!(origin("limits.max_connections"), Origin::File(system));
    assert_eq!(origin("net.max_inflight"), Origin::File(given));
    assert_eq!(origin("node.shards"), Origin::Env("DYNKV__NODE__SHARDS".into()));
    assert_eq!(origin("node.zone"), Origin::Flag);
    assert_eq!(origin("replication.r"), Origin::Default);
    assert_eq!((config.node.name.as_str(), origin("node.name")), ("alpha", Origin::Host));
}

/// Shards and threads on a host with so many cores.
fn cores(cores: usize) -> (u16, u16) {
    let node = load(&Sources { host: Host { cores, ..bare().host }, ..bare() }).unwrap().config.node;
    (node.shards, node.threads)
}

#[test]
fn the_host_fills_in_what_nobody_set() {
    let loaded = load(&bare()).unwrap();
    assert_eq!((loaded.config.node.name.as_str(), loaded.config.node.shards), ("alpha", 4));
    assert_eq!((loaded.config.node.threads, cores(1), cores(3), cores(5000)), (4, (1, 1), (3, 3), (256, 256)));
    let mut one = bare();
    one.flags.push(("node.shards".into(), Value::Integer(1)));
    assert_eq!(load(&one).unwrap().config.node.threads, 1, "a thread without a shard would only wake others");

    let odd = load(&Sources { host: Host { name: "my_host".into(), cores: 1000 }, ..bare() }).unwrap_err();
    assert_eq!(
        odd.to_string(),
        "node.name is not set: the host's name is no DNS label, so the node needs a name of its own"
    );
}

#[test]
fn rows_show_every_key_with_its_origin() {
    let rows = load(&with_env(&[("DYNKV__REPLICATION__R", "1")])).unwrap().rows();
    let row = |key: &str| rows.iter().find(|(path, ..)| path.to_string() == key).cloned().unwrap();
    assert_eq!(row("replication.r").1, Value::Integer(1));
    assert_eq!(row("replication.r").2.to_string(), "the environment, DYNKV__REPLICATION__R");
    assert_eq!(row("net.request_timeout").1, Value::String("5s".into()));
    // all but `bootstrap_expect`, which has no value
    assert_eq!(rows.len(), keys::KEYS.len() - 1);
}

#[test]
fn the_environment_reads_lists_numbers_and_bucket_tables() {
    let sources = with_env(&[
        ("DYNKV__CLUSTER__SEEDS", "a:7400, b:7400"),
        ("DYNKV__CLUSTER__BOOTSTRAP_EXPECT", "3"),
        ("DYNKV__CLUSTER__NAME", "123"),
        ("DYNKV__CLUSTER__BUCKETS__CARTS__N", "5"),
        ("DYNKV__CLUSTER__BUCKETS", r#"{ "Log.Lines" = { conflict = "lww" }, carts = { n = 1 }, plain = {} }"#),
        ("DYNKV__STORAGE__SYNC", "200ms"),
        ("DYNKV__REPLICATION__W", "all"),
        ("DYNKV__NODE__WEIGHT", "2"),
    ]);
    let config = load(&sources).unwrap().config;
    assert_eq!(config.cluster.seeds, ["a:7400", "b:7400"]);
    assert_eq!(config.cluster.bootstrap_expect, Some(3));
    assert_eq!(config.cluster.name, "123");
    assert_eq!(config.storage.sync, SyncMode::Interval(std::time::Duration::from_millis(200)));
    assert_eq!(config.replication.w, Level::All);
    assert!((config.node.weight - 2.0).abs() < f64::EPSILON);
    // the variable of one key wins over that of its table, in whatever order they come
    let buckets: Vec<(&str, u8, Conflict)> =
        config.cluster.buckets.iter().map(|(name, fixed)| (name.as_str(), fixed.n, fixed.conflict)).collect();
    assert_eq!(
        buckets,
        [
            ("Log.Lines", 3, Conflict::Lww),
            ("carts", 5, Conflict::Siblings),
            ("default", 3, Conflict::Siblings),
            ("plain", 3, Conflict::Siblings)
        ]
    );

    let array = with_env(&[("DYNKV__CLUSTER__SEEDS", r#"["[::1]:7400"]"#), ("DYNKV__CLUSTER__BOOTSTRAP_EXPECT", "1")]);
    assert_eq!(load(&array).unwrap().config.cluster.seeds, ["[::1]:7400"]);
}

#[test]
fn a_bucket_of_a_file_stands_beside_the_default_one() {
    let config = load_text("[cluster.buckets.carts]\n").unwrap().config;
    let names: Vec<&str> = config.cluster.buckets.keys().map(Bucket::as_str).collect();
    assert_eq!(names, ["carts", "default"]);
    assert_eq!(config.cluster.buckets[&Bucket::new("carts").unwrap()], BucketConfig::default());
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    for (text, key, nearest) in [
        ("[node]\nshard = 1", "node.shard", "node.shards"),
        ("[nodes]\nshards = 1", "nodes", "node"),
        ("[storage]\nshards = 1", "storage.shards", "node.shards"),
        ("[net]\nmaxvalue = '1MiB'", "net.maxvalue", "net.max_value"),
        ("[replication]\nW = 2", "replication.W", "replication.w"),
        ("[cluster.bucket.carts]\nn = 3", "cluster.bucket", "cluster.buckets"),
        ("[cluster.buckets.carts]\nnn = 3", "cluster.buckets.carts.nn", "cluster.buckets.carts.n"),
    ] {
        refuses(text, &format!("unknown key {key} (from F); the nearest known key is {nearest}"));
    }
    let typo = load(&with_env(&[("DYNKV__NET__LISTN", "[::]:1")])).unwrap_err();
    assert_eq!(
        typo.to_string(),
        "unknown key net.listn (from the environment, DYNKV__NET__LISTN); the nearest known key is net.listen"
    );
}

/// A file's text, and the error it meets.
const BAD_VALUES: &[(&str, &str)] = &[
    (
        "[log.level]\ntop = 'a'",
        r#"log.level = { top = "a" } (from F): expected "error", "warn", "info", "debug" or "trace""#,
    ),
    (
        "[node]\nshards = 'many'",
        r#"node.shards = "many" (from F): expected a whole number from 1 to 256, or 0 for one a core"#,
    ),
    ("[node]\nshards = 257", "node.shards = 257 (from F): expected a whole number from 1 to 256, or 0 for one a core"),
    (
        "[node]\nthreads = 300",
        "node.threads = 300 (from F): expected a whole number from 1 to 256, or 0 for one a core, but no more than shards",
    ),
    ("[node]\nshards = -1", "node.shards = -1 (from F): expected a whole number from 1 to 256, or 0 for one a core"),
    ("[node]\nweight = nan", "node.weight = NaN (from F): expected a number above 0, at most 1000"),
    (
        "[node]\nzone = 'A'",
        r#"node.zone = "A" (from F): expected a DNS label: 1 to 63 of a-z, 0-9 and '-', not '-' at either end"#,
    ),
    ("node = 3", "node = 3 (from F): expected a table"),
    ("[cluster]\nbuckets = [3]", "cluster.buckets = [3] (from F): expected a table"),
    ("[cluster]\nseeds = 'a:1'", r#"cluster.seeds = "a:1" (from F): expected a list of "host:port""#),
    ("[cluster]\nseeds = ['a:1', 2]", r#"cluster.seeds = ["a:1", 2] (from F): expected a list of "host:port""#),
    ("[cluster]\nseeds = ['a']", r#"cluster.seeds = "a" (from F): expected a list of "host:port""#),
    ("[cluster]\nseeds = ['::1:7400']", r#"cluster.seeds = "::1:7400" (from F): expected a list of "host:port""#),
    ("[cluster]\npartitions = 100", "cluster.partitions = 100 (from F): expected a power of two from 1 to 32768"),
    ("[cluster]\npartitions = 65536", "cluster.partitions = 65536 (from F): expected a power of two from 1 to 32768"),
    ("[cluster.buckets.carts]\nn = 17", "cluster.buckets.carts.n = 17 (from F): expected a whole number from 1 to 16"),
    ("[cluster.buckets.'a.b']\nn = 0", r#"cluster.buckets."a.b".n = 0 (from F): expected a whole number from 1 to 16"#),
    (
        "[cluster.buckets.a]\nconflict = 'x'",
        r#"cluster.buckets.a.conflict = "x" (from F): expected "siblings" or "lww""#,
    ),
    (
        "[cluster.buckets.\"\"]\nn = 3",
        r#"cluster.buckets."" = { n = 3 } (from F): expected a bucket name of 1 to 64 bytes without control characters"#,
    ),
    (
        "[replication]\nr = 17",
        r#"replication.r = 17 (from F): expected a number from 1 to 16, "one", "quorum" or "all""#,
    ),
    (
        "[replication]\nw = 'two'",
        r#"replication.w = "two" (from F): expected a number from 1 to 16, "one", "quorum" or "all""#,
    ),
    (
        "[net]\nlisten = ':7400'",
        r#"net.listen = ":7400" (from F): expected an IP address and a port, such as "127.0.0.1:7400" or "[::]:7400""#,
    ),
    ("[net]\nrequest_timeout = 5", r#"net.request_timeout = 5 (from F): expected a duration from "10ms" to "10m""#),
    (
        "[net]\nrequest_timeout = '5 parsecs'",
        r#"net.request_timeout = "5 parsecs" (from F): expected a duration from "10ms" to "10m""#,
    ),
    (
        "[net]\nattempt_timeout = '6s'",
        r#"net.attempt_timeout = "6s" (from F): expected a duration from "1ms" to net.request_timeout"#,
    ),
    ("[net]\nmax_value = '65MiB'", r#"net.max_value = "65MiB" (from F): expected a size from "1B" to "64MiB""#),
    ("[net]\nmax_value = 'big'", r#"net.max_value = "big" (from F): expected a size from "1B" to "64MiB""#),
    ("[gossip]\ninterval = '1ms'", r#"gossip.interval = "1ms" (from F): expected a duration from "10ms" to "1m""#),
    ("[gossip]\nphi_threshold = 0.5", "gossip.phi_threshold = 0.5 (from F): expected a number from 1 to 100"),
    ("[gossip]\nphi_threshold = nan", "gossip.phi_threshold = NaN (from F): expected a number from 1 to 100"),
    ("[gossip]\nphi_window = 9", "gossip.phi_window = 9 (from F): expected a whole number from 10 to 100000"),
    ("[gossip]\nphi_window = -1", "gossip.phi_window = -1 (from F): expected a whole number from 10 to 100000"),
    (
        "[storage]\nsync = '2m'",
        r#"storage.sync = "2m" (from F): expected "always", an interval from "1ms" to "1m", or "os""#,
    ),
    (
        "[storage]\nsync = true",
        r#"storage.sync = true (from F): expected "always", an interval from "1ms" to "1m", or "os""#,
    ),
    (
        "[storage]\nblock_cache = '95%'",
        r#"storage.block_cache = "95%" (from F): expected "0%" to "90%", or a size such as "8GiB""#,
    ),
    ("[log]\nlevel = 'loud'", r#"log.level = "loud" (from F): expected "error", "warn", "info", "debug" or "trace""#),
    ("[limits]\nmax_connections = 0", "limits.max_connections = 0 (from F): expected a whole number from 1 to 1000000"),
];

#[test]
fn a_wrong_value_names_key_value_origin_and_what_is_allowed() {
    for (text, error) in BAD_VALUES {
        refuses(text, error);
    }
}

#[test]
fn a_table_in_the_environment_is_checked_key_by_key() {
    let sources = Sources { flags: Vec::new(), ..with_env(&[("DYNKV__TLS", "{ ca_file = 1 }")]) };
    assert_eq!(
        load(&sources).unwrap_err().to_string(),
        "tls.ca_file = 1 (from the environment, DYNKV__TLS): expected the path of a PEM file"
    );
}

#[test]
fn birth_needs_seeds_and_their_number_together() {
    refuses(
        "[cluster]\nseeds = ['a:7400']",
        "cluster.bootstrap_expect is not set: with cluster.seeds it says how many nodes must agree before a new cluster is born, alike on all nodes",
    );
    refuses(
        "[cluster]\nbootstrap_expect = 3",
        "cluster.bootstrap_expect = 3 (from F): expected 1 or nothing, since cluster.seeds is empty: a cluster of one node",
    );
    refuses(
        "[cluster]\nbootstrap_expect = 0",
        "cluster.bootstrap_expect = 0 (from F): expected a whole number from 1 to 1000",
    );
    assert!(load_text("[cluster]\nbootstrap_expect = 1").is_ok());
    assert!(load_text("[cluster]\nseeds = ['a:7400', 'b.example:1', '[::1]:7400']\nbootstrap_expect = 3").is_ok());
}

#[test]
fn a_node_does_not_run_without_its_secrets() {
    for (key, error) in [
        ("tls.ca_file", "tls.ca_file is not set: `dynkv certs init` makes the CA's certificate"),
        ("tls.cert_file", "tls.cert_file is not set: `dynkv certs node` makes a node's certificate"),
        ("tls.key_file", "tls.key_file is not set: `dynkv certs node` makes a node's key"),
        ("cluster.secret_file", "cluster.secret_file is not set: `dynkv certs init` makes the cluster's secret"),
    ] {
        let mut sources = bare();
        sources.flags.retain(|(flag, _)| flag != key);
        assert_eq!(load(&sources).unwrap_err().to_string(), error);
    }
}

#[test]
fn files_that_are_missing_or_broken_are_named() {
    let absent = Sources { system_file: Some("/nonexistent/system.toml".into()), ..bare() };
    assert!(load(&absent).is_ok(), "the system's file may be missing");

    let named = load(&Sources { file: Some("/nonexistent/given.toml".into()), ..bare() }).unwrap_err();
    assert_eq!(named.to_string(), "cannot read /nonexistent/given.toml: No such file or directory (os error 2)");

    let broken = load_text("[node]\nshards = 'one").unwrap_err();
    assert!(broken.starts_with("F is not TOML: TOML parse error at line 2, column"), "{broken}");
}
