//! What a member says of itself, and how much of it somebody knows.

use serde::{Deserialize, Serialize};

use crate::types::{BatchNumber, DiskId, Generation, NodeId, RingVersion};

/// A founder's stand on the cluster's birth; gone once there is a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// How many founders this node waits for, itself included.
    pub expect: u32,
    /// Hash of what is fixed at birth: cluster name, partitions, buckets.
    pub terms: [u8; 16],
    /// The layout that it durably voted for: its cluster id. A node votes once.
    pub vote: Option<[u8; 16]>,
}

/// One member's own word about itself. Only its owner changes it; everybody passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Who speaks.
    pub node: NodeId,
    /// Which run of its directory.
    pub generation: Generation,
    /// Raised by the owner with every change within a generation, but for those of `heartbeat` and `synced`, which
    /// travel in digests.
    pub version: u64,
    /// Raised by the owner with every round of gossip: the sign that it lives.
    pub heartbeat: u64,
    /// Its name: a DNS label, as in its certificate.
    pub name: String,
    /// Its failure domain.
    pub zone: String,
    /// Thousandths of a share.
    pub weight: u32,
    /// Where peers and clients reach it.
    pub address: String,
    /// Its data directory.
    pub disk: DiskId,
    /// Before birth: its ballot.
    pub ballot: Option<Ballot>,
    /// The ring that it follows, with the digest of its layout.
    pub ring: Option<(RingVersion, [u8; 16])>,
    /// It has a new disk, and what it does not find counts for nothing.
    pub rebuilding: bool,
    /// Everything up to this number is on its disk: a directory that recovers less is an old copy.
    pub synced: BatchNumber,
}

/// How much of one member's word is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whose.
    pub node: NodeId,
    /// Of which data directory: the numbers of one say nothing about another.
    pub disk: DiskId,
    /// Up to which run.
    pub generation: Generation,
    /// Up to which change within it.
    pub version: u64,
    /// The latest heartbeat of that run.
    pub heartbeat: u64,
    /// How much of that run is said to be on its disk.
    pub synced: BatchNumber,
}

impl MemberState {
    /// How much of it is known to whoever holds it.
    pub fn known(&self) -> Known {
        let MemberState { node, disk, generation, version, heartbeat, synced, .. } = *self;
        Known { node, disk, generation, version, heartbeat, synced }
    }

    /// No more bytes than this does it take on the wire.
    pub fn size_bound(&self) -> usize {
        /// Numbers, hashes and what frames the texts, at their longest.
        const FIXED: usize = 256;
        FIXED + self.name.len() + self.zone.len() + self.address.len()
    }

    /// Takes the heartbeat and `synced` of the same run where they are greater; whether one of them was.
    pub(super) fn keep_up(&mut self, heartbeat: u64, synced: BatchNumber) -> bool {
        let news = heartbeat > self.heartbeat || synced > self.synced;
        self.heartbeat = self.heartbeat.max(heartbeat);
        self.synced = self.synced.max(synced);
        news
    }
}
