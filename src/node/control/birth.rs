//! The birth of a cluster: founders vote for the first layout, each once and durably; it holds when all have voted for it.

use std::collections::BTreeMap;

use crate::gossip::MemberState;
use crate::ring::{BucketConfig, Layout, Member, Partitions, Weight, WeightError};
use crate::types::{Bucket, NodeId};

/// What is fixed at birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The cluster's name.
    pub cluster: String,
    /// How many partitions.
    pub partitions: Partitions,
    /// The buckets.
    pub buckets: BTreeMap<Bucket, BucketConfig>,
}

impl Terms {
    /// Hash of the terms: founders with other terms do not found this cluster.
    pub fn digest(&self) -> [u8; 16] {
        let terms = rmp_serde::to_vec(&(&self.cluster, self.partitions.count(), &self.buckets))
            .expect("names and numbers are always encodable");
        let hash = blake3::hash(&terms);
        hash.as_bytes()[..16].try_into().expect("a BLAKE3 hash has 32 bytes")
    }
}

/// Where the founding stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Not all founders have been met.
    Waiting(String),
    /// It cannot go on as configured.
    Stuck(String),
    /// All have been met: this is the layout to vote for.
    Proposal(Box<Layout>),
}

/// Proposes the first layout once exactly the expected number of founders is known, `own` included.
pub fn found<'a>(own: &MemberState, all: impl Iterator<Item = &'a MemberState>, terms: &Terms) -> Founding {
    let Some(ballot) = own.ballot else { return Founding::Waiting("this node is no founder".into()) };
    let founders: Vec<&MemberState> = all.filter(|state| state.ballot.is_some()).collect();
    for state in &founders {
        let theirs = state.ballot.as_ref().expect("founders have a ballot");
        if (theirs.terms, theirs.expect) != (ballot.terms, ballot.expect) {
            return Founding::Stuck(format!(
                "node {} was configured for another birth (cluster.name, bootstrap_expect, partitions or buckets differ)",
                state.name
            ));
        }
    }
    let names: BTreeMap<&str, NodeId> = founders.iter().map(|state| (state.name.as_str(), state.node)).collect();
    if names.len() < founders.len() {
        return Founding::Stuck(format!("two founders have one name; there are: {}", listed(names.keys())));
    }
    let expect = ballot.expect as usize;
    if founders.len() < expect {
        let missing = expect - founders.len();
        return Founding::Waiting(format!(
            "{missing} of {expect} founders (bootstrap_expect); met: {}",
            listed(names.keys())
        ));
    }
    if founders.len() > expect {
        return Founding::Stuck(format!(
            "{} founders, but bootstrap_expect = {expect}; there are: {}",
            founders.len(),
            listed(names.keys())
        ));
    }
    let members: Result<Vec<Member>, _> = founders.iter().map(|state| member(state)).collect();
    let layout = members.map_err(|error| error.to_string()).and_then(|members| {
        Layout::birth(terms.partitions, members, terms.buckets.clone()).map_err(|error| error.to_string())
    });
    match layout {
        Ok(layout) => Founding::Proposal(Box::new(layout)),
        Err(reason) => Founding::Stuck(reason),
    }
}

/// Whether every member of `layout` has voted for it.
pub fn elected(layout: &Layout, mut state_of: impl FnMut(NodeId) -> Option<MemberState>) -> bool {
    let id = layout.cluster_id().0;
    layout
        .members()
        .iter()
        .all(|member| state_of(member.id).and_then(|state| state.ballot).is_some_and(|ballot| ballot.vote == Some(id)))
}

fn member(state: &MemberState) -> Result<Member, WeightError> {
    Ok(Member {
        id: state.node,
        name: state.name.clone(),
        zone: state.zone.clone(),
        weight: Weight::try_from(state.weight)?,
        address: state.address.clone(),
    })
}

fn listed<'a>(names: impl Iterator<Item = &'a &'a str>) -> String {
    names.copied().collect::<Vec<_>>().join(", ")
}
