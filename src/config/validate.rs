//! Ranges of values and relations between them.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;

use super::layers::{KeyPath, Origins};
use super::{Config, ConfigError, keys};
use crate::quorum::{HedgeAfter, Level};
use crate::storage::config::{SizeOrPercent, SyncMode};
use crate::types::check_label;

/// Refuses values, naming their key, their origin and what the table of keys allows.
struct Check<'a>(&'a Origins);

impl Check<'_> {
    /// `value` is printed as TOML would write it.
    fn that(&self, holds: bool, key: &str, value: impl fmt::Display) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        let key = KeyPath::dotted(key);
        let expected = keys::allowed(&key).expect("only keys of the table are checked").to_owned();
        Err(ConfigError::BadValue { origin: self.0.of(&key), key, value: value.to_string(), expected })
    }

    fn text(&self, holds: bool, key: &str, value: impl fmt::Display) -> Result<(), ConfigError> {
        self.that(holds, key, format_args!("\"{value}\""))
    }

    fn duration(&self, value: Duration, from: Duration, to: Duration, key: &str) -> Result<(), ConfigError> {
        self.text((from..=to).contains(&value), key, humantime::format_duration(value))
    }

    fn level(&self, level: Level, key: &str) -> Result<(), ConfigError> {
        self.text(!matches!(level, Level::Number(count) if !(1..=Level::MAX).contains(&count)), key, level)
    }

    fn share(&self, share: SizeOrPercent, key: &str) -> Result<(), ConfigError> {
        self.text(!matches!(share, SizeOrPercent::Percent(91..)), key, share)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

impl Config {
    /// Checks ranges, relations, and that what a node cannot run without is there. `origins` only dresses the errors.
    ///
    /// # Errors
    /// [`ConfigError::BadValue`] or [`ConfigError::Missing`] for the first key that fails.
    pub fn validate(&self, origins: &Origins) -> Result<(), ConfigError> {
        let check = Check(origins);
        self.validate_node(&check)?;
        self.validate_cluster(&check)?;
        self.validate_replication(&check)?;
        self.validate_net(&check)?;
        self.validate_rest(&check)?;
        self.validate_secrets()
    }

    fn validate_node(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let node = &self.node;
        check.text(check_label("node", &node.name).is_ok(), "node.name", &node.name)?;
        check.that((1..=256).contains(&node.shards), "node.shards", node.shards)?;
        check.that((1..=256).contains(&node.threads), "node.threads", node.threads)?;
        check.text(check_label("zone", &node.zone).is_ok(), "node.zone", &node.zone)?;
        check.that(node.weight > 0.0 && node.weight <= 1000.0, "node.weight", node.weight)?;
        check.text(!node.data_dir.as_os_str().is_empty(), "node.data_dir", node.data_dir.display())
    }

    fn validate_cluster(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let cluster = &self.cluster;
        check.text(check_label("cluster", &cluster.name).is_ok(), "cluster.name", &cluster.name)?;
        for seed in &cluster.seeds {
            check.text(is_host_and_port(seed), "cluster.seeds", seed)?;
        }
        let birth = KeyPath::dotted("cluster.bootstrap_expect");
        match cluster.bootstrap_expect {
            None if !cluster.seeds.is_empty() => Err(ConfigError::Missing {
                key: birth,
                reason: "with cluster.seeds it says how many nodes must agree before a new cluster is born, alike on all nodes",
            }),
            Some(nodes @ 2..) if cluster.seeds.is_empty() => Err(ConfigError::BadValue {
                origin: check.0.of(&birth),
                key: birth,
                value: nodes.to_string(),
                expected: "1 or nothing, since cluster.seeds is empty: a cluster of one node".to_owned(),
            }),
            expect => {
                let nodes = expect.unwrap_or(1);
                check.that((1..=1000).contains(&nodes), "cluster.bootstrap_expect", nodes)
            }
        }?;
        let partitions = cluster.partitions;
        let in_range = partitions.is_power_of_two() && partitions <= 32_768;
        check.that(in_range, "cluster.partitions", partitions)?;
        for (bucket, fixed) in &cluster.buckets {
            check.that((1..=Level::MAX).contains(&fixed.n), &format!("cluster.buckets.{bucket}.n"), fixed.n)?;
        }
        Ok(())
    }

    fn validate_replication(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let replication = &self.replication;
        check.level(replication.r, "replication.r")?;
        check.level(replication.w, "replication.w")?;
        let chance = replication.read_repair_chance;
        check.that((0.0..=1.0).contains(&chance), "replication.read_repair_chance", chance)?;
        let siblings = replication.max_siblings;
        check.that((1..=10_000).contains(&siblings), "replication.max_siblings", siblings)
    }

    fn validate_net(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let net = &self.net;
        let advertise = &net.advertise;
        check.text(advertise.is_empty() || is_host_and_port(advertise), "net.advertise", advertise)?;
        check.duration(net.request_timeout, MILLI * 10, MINUTE * 10, "net.request_timeout")?;
        check.duration(net.attempt_timeout, MILLI, net.request_timeout, "net.attempt_timeout")?;
        if let HedgeAfter::Fixed(after) = net.hedge_after {
            check.duration(after, MILLI, MINUTE, "net.hedge_after")?;
        }
        let size = net.max_value.as_u64();
        check.text((1..=ByteSize::mib(64).as_u64()).contains(&size), "net.max_value", SizeOrPercent::Bytes(size))?;
        check.that((1..=1_000_000).contains(&net.max_inflight), "net.max_inflight", net.max_inflight)
    }

    fn validate_rest(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        let gossip = &self.gossip;
        check.duration(gossip.interval, MILLI * 10, MINUTE, "gossip.interval")?;
        check.that((1.0..=100.0).contains(&gossip.phi_threshold), "gossip.phi_threshold", gossip.phi_threshold)?;
        check.that((10..=100_000).contains(&gossip.phi_window), "gossip.phi_window", gossip.phi_window)?;
        check.duration(self.hints.max_age, Duration::from_secs(1), MINUTE * 60 * 24 * 365, "hints.max_age")?;
        let rate = self.hints.replay_rate;
        check.text((1 << 10..=1 << 40).contains(&rate.0), "hints.replay_rate", rate)?;
        let compare = &self.antientropy;
        let least = if compare.interval.is_zero() { Duration::ZERO } else { Duration::from_secs(1) };
        check.duration(compare.interval, least, MINUTE * 60 * 24 * 365, "antientropy.interval")?;
        check.that((1..=64).contains(&compare.concurrency), "antientropy.concurrency", compare.concurrency)?;
        check.text((1 << 10..=1 << 40).contains(&compare.rate.0), "antientropy.rate", compare.rate)?;
        check.that(compare.tree_leaves().is_some(), "antientropy.leaves", compare.leaves)?;
        let scrub = compare.scrub_interval;
        let least = if scrub.is_zero() { Duration::ZERO } else { MINUTE };
        check.duration(scrub, least, MINUTE * 60 * 24 * 365, "antientropy.scrub_interval")?;
        let reap = compare.reap_interval;
        let least = if reap.is_zero() { Duration::ZERO } else { Duration::from_secs(1) };
        check.duration(reap, least, MINUTE * 60 * 24 * 365, "antientropy.reap_interval")?;
        if let SyncMode::Interval(interval) = self.storage.sync {
            check.duration(interval, MILLI, MINUTE, "storage.sync")?;
        }
        check.share(self.storage.block_cache, "storage.block_cache")?;
        check.share(self.storage.record_cache, "storage.record_cache")?;
        check.share(self.storage.min_free, "storage.min_free")?;
        let connections = self.limits.max_connections;
        check.that((1..=1_000_000).contains(&connections), "limits.max_connections", connections)?;
        let memory = self.limits.memory;
        let is_enough = match memory {
            SizeOrPercent::Percent(percent) => (1..=90).contains(&percent),
            SizeOrPercent::Bytes(bytes) => bytes >= ByteSize::mib(64).as_u64(),
        };
        check.text(is_enough, "limits.memory", memory)
    }

    /// Every connection is mutual TLS and every context token is keyed, so no node runs without these.
    fn validate_secrets(&self) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let needed = [
            ("tls.ca_file", &tls.ca_file, "`dynkv certs init` makes the CA's certificate"),
            ("tls.cert_file", &tls.cert_file, "`dynkv certs node` makes a node's certificate"),
            ("tls.key_file", &tls.key_file, "`dynkv certs node` makes a node's key"),
            ("cluster.secret_file", &self.cluster.secret_file, "`dynkv certs init` makes the cluster's secret"),
        ];
        match needed.into_iter().find(|(_, path, _)| path.is_none()) {
            Some((key, _, reason)) => Err(ConfigError::Missing { key: KeyPath::dotted(key), reason }),
            None => Ok(()),
        }
    }
}

/// `name:7400`, `10.0.0.1:7400` or `[::1]:7400`. Names are looked up later, by whoever dials.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '[', ']']) && !host.contains(char::is_whitespace),
    };
    host_fits && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}
