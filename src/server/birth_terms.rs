//! What the configuration says of things that were fixed when the cluster was born.

use std::collections::BTreeMap;

use super::ServerError;
use crate::config::{Config, Conflict as ConfiguredConflict, KeyPath, Origin, Origins};
use crate::node::Terms;
use crate::ring::{BucketConfig, Conflict, Layout, Partitions};
use crate::types::Bucket;

/// The terms of a birth, and which of them somebody has set.
#[derive(Clone, Debug)]
pub struct BirthTerms {
    terms: Terms,
    origins: Origins,
}

impl BirthTerms {
    /// From the configuration.
    ///
    /// # Errors
    /// [`ServerError::Config`] for a number of partitions that no ring can have.
    pub fn new(config: &Config, origins: &Origins) -> Result<BirthTerms, ServerError> {
        let cluster = &config.cluster;
        let partitions = Partitions::new(cluster.partitions)
            .map_err(|err| ServerError::Config { key: "cluster.partitions", reason: err.to_string() })?;
        let conflict = |conflict| match conflict {
            ConfiguredConflict::Siblings => Conflict::Siblings,
            ConfiguredConflict::Lww => Conflict::Lww,
        };
        let buckets: BTreeMap<Bucket, BucketConfig> = cluster
            .buckets
            .iter()
            .map(|(name, bucket)| (name.clone(), BucketConfig { n: bucket.n, conflict: conflict(bucket.conflict) }))
            .collect();
        let terms = Terms { cluster: cluster.name.clone(), partitions, buckets };
        Ok(BirthTerms { terms, origins: origins.clone() })
    }

    /// For a cluster that is yet to be born.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Compares what was set with what the cluster has.
    ///
    /// # Errors
    /// [`ServerError::FixedAtBirth`] for the first difference.
    pub fn check(&self, layout: &Layout) -> Result<(), ServerError> {
        let partitions = (self.terms.partitions.count(), layout.partitions().count());
        self.same("cluster.partitions".to_owned(), partitions.0, partitions.1)?;
        for (bucket, config) in &self.terms.buckets {
            let key = |last: &str| format!("cluster.buckets.{bucket}.{last}");
            match layout.bucket(bucket) {
                Some(fixed) => {
                    self.same(key("n"), config.n, fixed.n)?;
                    self.same(key("conflict"), word(config.conflict), word(fixed.conflict))?;
                }
                None => self.same(key("n"), config.n.to_string(), "no such bucket".to_owned())?,
            }
        }
        Ok(())
    }

    fn same<T: PartialEq + std::fmt::Display>(&self, key: String, configured: T, fixed: T) -> Result<(), ServerError> {
        let is_default = self.origins.of(&KeyPath::dotted(&key)) == Origin::Default;
        if is_default || configured == fixed {
            return Ok(());
        }
        Err(ServerError::FixedAtBirth { key, configured: configured.to_string(), fixed: fixed.to_string() })
    }
}

const fn word(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::Siblings => "siblings",
        Conflict::Lww => "lww",
    }
}
