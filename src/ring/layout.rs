//! The layout: the one replicated value that says who is a member, who owns which partition, and which buckets exist.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::claim::claim;
pub use super::member::{Member, Weight};
use super::token::Partitions;
use crate::types::{Bucket, ClusterId, NameError, NodeId, PartitionId, RingVersion, check_label};

/// How a bucket shows concurrent writes to its readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// All of them, with a causal context to supersede them by.
    #[default]
    Siblings,
    /// The one with the latest wall clock.
    Lww,
}

/// What is fixed when a bucket is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketConfig {
    /// Replicas of each key: 1 to [`BucketConfig::MAX_N`]; a smaller cluster keeps one on every member.
    pub n: u8,
    /// What becomes of concurrent writes.
    pub conflict: Conflict,
}

impl BucketConfig {
    /// The most replicas that a bucket may ask for.
    pub const MAX_N: u8 = 16;
}

impl Default for BucketConfig {
    /// Three replicas, siblings.
    fn default() -> BucketConfig {
        BucketConfig { n: 3, conflict: Conflict::Siblings }
    }
}

/// Why a layout, or bytes that claim to be one, were refused. None is worth a retry with the same input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The ring is cut into equal parts by a token's high bits.
    #[error("{count} partitions are not allowed: the count is a power of two from 1 to {}", Partitions::MAX)]
    BadPartitions {
        /// The count given.
        count: u32,
    },
    /// The first committed layout is version 1.
    #[error("a layout's version is at least 1")]
    NoVersion,
    /// A ring needs an owner.
    #[error("a layout has at least one member")]
    NoMembers,
    /// A list is longer than its bound.
    #[error("{count} {what} are too many: at most {max}")]
    TooMany {
        /// What there is too much of: "members", "buckets" ...
        what: &'static str,
        /// The count given.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// Two members under one identity.
    #[error("two members have the id {id}")]
    DuplicateId {
        /// The shared identity.
        id: NodeId,
    },
    /// Two members under one name; a name is bound to one identity.
    #[error("two members are named {name:?}")]
    DuplicateName {
        /// The shared name.
        name: String,
    },
    /// A member's name or zone is no label.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A member's address is empty, too long or not printable ASCII.
    #[error(
        "address {address:?} of member {name:?} is not allowed: 1 to {} printable ASCII characters",
        Member::MAX_ADDRESS_LEN
    )]
    BadAddress {
        /// The member.
        name: String,
        /// Its address.
        address: String,
    },
    /// An identity that left never comes back.
    #[error("node {id} has departed and is listed again")]
    Departed {
        /// The identity.
        id: NodeId,
    },
    /// One owner for each partition.
    #[error("{owners} owners for {partitions} partitions")]
    OwnerCount {
        /// Owners given.
        owners: usize,
        /// Partitions of the ring.
        partitions: u32,
    },
    /// A partition's owner must be a member.
    #[error("partition {} is owned by something that is no member", partition.0)]
    UnknownOwner {
        /// The partition.
        partition: PartitionId,
    },
    /// A bucket needs a replica, and not absurdly many.
    #[error("bucket {bucket:?} has n = {n}: n is 1 to {}", BucketConfig::MAX_N)]
    BadN {
        /// The bucket.
        bucket: Bucket,
        /// The number given.
        n: u8,
    },
    /// Requests that name no bucket use the default one.
    #[error("a layout has the bucket {:?}", Bucket::DEFAULT)]
    NoDefaultBucket,
    /// Another format byte, from a newer version perhaps.
    #[error("layout format {format} is unknown to this version")]
    UnknownFormat {
        /// The byte found.
        format: u8,
    },
    /// Cut short, damaged, or never a layout.
    #[error("these bytes are no layout: {reason}")]
    Malformed {
        /// Where decoding stopped.
        reason: String,
    },
    /// Decodes, but is not what [`Layout::encode`] writes; one layout has one encoding, since its hash names a cluster.
    #[error("these bytes are not the canonical encoding of their layout")]
    NotCanonical,
}

/// Members, owners of partitions, and buckets, at one version. Immutable: a change makes another layout.
///
/// Held only in checked form: every owner is a member, ids and names are unique, counts are within bounds, the default
/// bucket is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    version: RingVersion,
    partitions: Partitions,
    owners: Vec<NodeId>,
    members: Vec<Member>,
    departed: Vec<NodeId>,
    buckets: BTreeMap<Bucket, BucketConfig>,
}

/// What follows the format byte, as an array. Owners are indices into the members.
#[derive(Serialize, Deserialize)]
struct Encoded<O, M, D, B> {
    version: RingVersion,
    partitions: Partitions,
    owners: O,
    members: M,
    departed: D,
    buckets: B,
}

type Decoded = Encoded<Vec<u16>, Vec<Member>, Vec<NodeId>, BTreeMap<Bucket, BucketConfig>>;

impl Layout {
    /// The most members, up or down.
    pub const MAX_MEMBERS: usize = 1000;
    /// The most buckets.
    pub const MAX_BUCKETS: usize = 1000;
    /// The most identities that have ever left.
    pub const MAX_DEPARTED: usize = 10_000;
    /// The first byte of an encoding.
    const FORMAT: u8 = 1;

    /// Checks and holds a layout; members and departed may come in any order, `owners[p]` owns partition `p`.
    ///
    /// # Errors
    /// The first law found broken, see [`LayoutError`].
    pub fn new(
        version: RingVersion,
        partitions: Partitions,
        owners: Vec<NodeId>,
        mut members: Vec<Member>,
        mut departed: Vec<NodeId>,
        buckets: BTreeMap<Bucket, BucketConfig>,
    ) -> Result<Layout, LayoutError> {
        if version < RingVersion(1) {
            return Err(LayoutError::NoVersion);
        }
        members.sort_by_key(|member| member.id);
        departed.sort_unstable();
        check_members(&members)?;
        check_departed(&departed, &members)?;
        check_buckets(&buckets)?;
        if owners.len() != partitions.count() as usize {
            return Err(LayoutError::OwnerCount { owners: owners.len(), partitions: partitions.count() });
        }
        for (partition, owner) in partitions.iter().zip(&owners) {
            if members.binary_search_by_key(owner, |member| member.id).is_err() {
                return Err(LayoutError::UnknownOwner { partition });
            }
        }
        Ok(Layout { version, partitions, owners, members, departed, buckets })
    }

    /// Layout 1: the founding members with owners from [`claim`], the same whatever the order of `members`.
    ///
    /// A default bucket (three replicas, siblings) is added where `buckets` has none. Owners are spaced for the largest
    /// `n` of the buckets.
    ///
    /// # Errors
    /// The first law found broken, see [`LayoutError`].
    pub fn birth(
        partitions: Partitions,
        members: Vec<Member>,
        mut buckets: BTreeMap<Bucket, BucketConfig>,
    ) -> Result<Layout, LayoutError> {
        buckets.entry(Bucket::default()).or_default();
        // a claim over colliding ids would mean nothing, so the checks of `new` come first
        let mut sorted = members;
        sorted.sort_by_key(|member| member.id);
        check_members(&sorted)?;
        check_buckets(&buckets)?;
        let spacing_n = buckets.values().map(|config| config.n).max().unwrap_or_default();
        let owners = claim(partitions, &sorted, None, spacing_n);
        Layout::new(RingVersion(1), partitions, owners, sorted, Vec::new(), buckets)
    }

    /// The version: 1 at birth, raised by every committed change.
    pub fn version(&self) -> RingVersion {
        self.version
    }

    /// How the ring is cut.
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The owner of each partition, in ring order.
    pub fn owners(&self) -> &[NodeId] {
        &self.owners
    }

    /// The owner of a partition; `None` if the ring has no such partition.
    pub fn owner(&self, partition: PartitionId) -> Option<NodeId> {
        self.owners.get(usize::from(partition.0)).copied()
    }

    /// The members, by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this id.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let index = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(index)
    }

    /// The member with this name.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The identities that have left, by id: they never come back.
    pub fn departed(&self) -> &[NodeId] {
        &self.departed
    }

    /// The buckets, by name.
    pub fn buckets(&self) -> &BTreeMap<Bucket, BucketConfig> {
        &self.buckets
    }

    /// A bucket's settings; `None` if there is no such bucket.
    pub fn bucket(&self, bucket: &Bucket) -> Option<BucketConfig> {
        self.buckets.get(bucket).copied()
    }

    /// Replicas that a bucket with this `n` really has: no more than there are members.
    pub fn effective_n(&self, n: u8) -> u8 {
        u8::try_from(self.members.len()).map_or(n, |members| n.min(members))
    }

    /// The first 16 bytes of BLAKE3 of the encoding. A cluster is named by this hash of its layout 1; the hash of a
    /// later layout names nothing.
    pub fn cluster_id(&self) -> ClusterId {
        let mut id = [0; 16];
        blake3::Hasher::new().update(&self.encode()).finalize_xof().fill(&mut id);
        ClusterId(id)
    }

    /// The canonical encoding: a format byte, then MessagePack with structs as arrays. Equal layouts, and no others,
    /// have equal encodings.
    pub fn encode(&self) -> Vec<u8> {
        let index_of = |owner: &NodeId| {
            let index = self.members.binary_search_by_key(owner, |member| member.id);
            index.expect("the constructor checked that every owner is a member") as u16
        };
        let encoded = Encoded {
            version: self.version,
            partitions: self.partitions,
            owners: self.owners.iter().map(index_of).collect::<Vec<u16>>(),
            members: &self.members,
            departed: &self.departed,
            buckets: &self.buckets,
        };
        let mut bytes = vec![Layout::FORMAT];
        rmp_serde::encode::write(&mut bytes, &encoded).expect("plain data written to memory always encodes");
        bytes
    }

    /// Reads what [`Layout::encode`] wrote, and checks it as if it were new: bytes from a disk or a peer are not trusted.
    ///
    /// # Errors
    /// [`LayoutError::UnknownFormat`], [`LayoutError::Malformed`], [`LayoutError::NotCanonical`], or the first law broken.
    pub fn decode(bytes: &[u8]) -> Result<Layout, LayoutError> {
        let body = match bytes.split_first() {
            Some((&Layout::FORMAT, body)) => body,
            Some((&format, _)) => return Err(LayoutError::UnknownFormat { format }),
            None => return Err(LayoutError::Malformed { reason: "no bytes".to_owned() }),
        };
        let decoded: Decoded =
            rmp_serde::from_slice(body).map_err(|error| LayoutError::Malformed { reason: error.to_string() })?;
        let mut owners = Vec::with_capacity(decoded.owners.len());
        for (partition, index) in (0..=u16::MAX).map(PartitionId).zip(&decoded.owners) {
            let member = decoded.members.get(usize::from(*index)).ok_or(LayoutError::UnknownOwner { partition })?;
            owners.push(member.id);
        }
        let Decoded { version, partitions, members, departed, buckets, .. } = decoded;
        let layout = Layout::new(version, partitions, owners, members, departed, buckets)?;
        if layout.encode() == bytes { Ok(layout) } else { Err(LayoutError::NotCanonical) }
    }
}

/// Checks members that are sorted by id.
fn check_members(members: &[Member]) -> Result<(), LayoutError> {
    if members.is_empty() {
        return Err(LayoutError::NoMembers);
    }
    check_count("members", members.len(), Layout::MAX_MEMBERS)?;
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(LayoutError::DuplicateId { id: pair[0].id });
    }
    let mut names = BTreeSet::new();
    for Member { name, zone, address, .. } in members {
        check_label("node", name)?;
        check_label("zone", zone)?;
        if !names.insert(name) {
            return Err(LayoutError::DuplicateName { name: name.clone() });
        }
        let printable = address.bytes().all(|byte| byte.is_ascii_graphic());
        if address.is_empty() || address.len() > Member::MAX_ADDRESS_LEN || !printable {
            return Err(LayoutError::BadAddress { name: name.clone(), address: address.clone() });
        }
    }
    Ok(())
}

/// Checks departed ids that are sorted, against members that are sorted by id.
fn check_departed(departed: &[NodeId], members: &[Member]) -> Result<(), LayoutError> {
    check_count("departed nodes", departed.len(), Layout::MAX_DEPARTED)?;
    let twice = departed.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let back = || members.iter().map(|member| member.id).find(|id| departed.binary_search(id).is_ok());
    match twice.or_else(back) {
        Some(id) => Err(LayoutError::Departed { id }),
        None => Ok(()),
    }
}

fn check_buckets(buckets: &BTreeMap<Bucket, BucketConfig>) -> Result<(), LayoutError> {
    check_count("buckets", buckets.len(), Layout::MAX_BUCKETS)?;
    if !buckets.contains_key(&Bucket::default()) {
        return Err(LayoutError::NoDefaultBucket);
    }
    match buckets.iter().find(|(_, config)| !(1..=BucketConfig::MAX_N).contains(&config.n)) {
        Some((bucket, config)) => Err(LayoutError::BadN { bucket: bucket.clone(), n: config.n }),
        None => Ok(()),
    }
}

fn check_count(what: &'static str, count: usize, max: usize) -> Result<(), LayoutError> {
    if count > max { Err(LayoutError::TooMany { what, count, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
