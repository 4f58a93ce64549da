//! Whether a cluster is well, from what its nodes say.

use std::collections::BTreeSet;

use bytesize::ByteSize;
use dynkv::api::{Phase, StatusReply};
use dynkv::ring::RingView;
use dynkv::types::NodeId;
use serde::Serialize;

use super::super::answers::Answers;
use super::super::output::count;

/// A disk with less than this part of it free is nearly full; writes end at `storage.min_free`, 5 % by default.
const NEARLY_FULL_PERCENT: u64 = 10;

/// See the module.
#[derive(Debug, Serialize)]
pub struct Health {
    pub healthy: bool,
    pub nodes: Vec<Node>,
    /// Partitions of buckets.
    pub ranges: u64,
    /// Of these, those whose live primaries are too few for a quorum of readers.
    pub ranges_without_read_quorum: u64,
    /// The same for writers; stand-ins may still take writes that do not ask for primaries.
    pub ranges_without_write_quorum: u64,
    /// Keys kept for nodes that missed writes.
    pub hints: u64,
    pub hint_bytes: u64,
    pub problems: Vec<String>,
}

/// A member, by the majority of those who answered.
#[derive(Debug, PartialEq, Serialize)]
pub struct Node {
    pub name: String,
    pub up: bool,
    /// Nodes that answered and hold it to be up, itself included.
    pub held_up_by: usize,
    /// Nodes that answered; once there is a ring, only those that know it.
    pub of: usize,
    #[serde(skip)]
    id: NodeId,
    /// It serves reads and has its disk.
    #[serde(skip)]
    reads: bool,
    #[serde(skip)]
    writes: bool,
}

impl Health {
    /// What the answers come to; without a ring no ranges are known.
    pub fn of(ring: Option<&RingView>, answers: &Answers) -> Health {
        let replies: Vec<&StatusReply> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
        let nodes = nodes(&replies);
        let kept = || replies.iter().flat_map(|reply| &reply.hints);
        let mut health = Health {
            healthy: false,
            ranges: 0,
            ranges_without_read_quorum: 0,
            ranges_without_write_quorum: 0,
            hints: kept().map(|kept| kept.hints).sum(),
            hint_bytes: kept().map(|kept| kept.bytes).sum(),
            problems: problems(&nodes, &replies),
            nodes,
        };
        if let Some(ring) = ring {
            health.look_at_ranges(ring);
        } else {
            health.problems.push("no node tells the ring".to_owned());
        }
        if health.hints > 0 {
            let (hints, bytes) = (count(health.hints, "hint"), ByteSize(health.hint_bytes));
            health.problems.push(format!("{hints} of {bytes} wait for nodes that missed writes"));
        }
        health.healthy = health.problems.is_empty();
        health
    }

    fn look_at_ranges(&mut self, ring: &RingView) {
        for bucket in ring.layout().buckets().keys() {
            for partition in ring.layout().partitions().iter() {
                let Some(list) = ring.preference(partition, bucket) else { continue };
                let quorum = usize::from(list.n() / 2 + 1);
                let live = |which: fn(&Node) -> bool| {
                    let is_live = |slot: &&NodeId| self.nodes.iter().any(|node| node.id == **slot && which(node));
                    list.slots().iter().filter(is_live).count()
                };
                let (reads, writes) = (live(|node| node.reads), live(|node| node.writes));
                self.ranges += 1;
                self.ranges_without_read_quorum += u64::from(reads < quorum);
                self.ranges_without_write_quorum += u64::from(writes < quorum);
            }
        }
        for (lacking, what) in [(self.ranges_without_read_quorum, "read"), (self.ranges_without_write_quorum, "write")]
        {
            if lacking > 0 {
                let all = self.ranges;
                self.problems.push(format!("{lacking} of {all} ranges have no {what} quorum of live primaries"));
            }
        }
    }
}

fn nodes(replies: &[&StatusReply]) -> Vec<Node> {
    // Whoever has yet to learn the ring knows no member, and its silence on them says nothing.
    let is_born = replies.iter().any(|reply| reply.ring_version.is_some());
    let observers = || replies.iter().filter(|reply| reply.ring_version.is_some() == is_born);
    let of = observers().count();
    let newest = replies.iter().max_by_key(|reply| reply.ring_version);
    let members = newest.map_or(&[][..], |reply| &reply.members[..]);
    let node = |member: &dynkv::api::MemberStatus| {
        let own = replies.iter().find(|reply| reply.node == member.node);
        let seen = || observers().flat_map(|reply| &reply.members).filter(|seen| seen.node == member.node);
        let held_up_by = seen().filter(|seen| seen.up && !seen.convicted).count();
        let up = held_up_by * 2 > of;
        let rebuilding = seen().any(|seen| seen.rebuilding);
        let phase = own.map(|own| own.phase);
        // one that this client does not reach is taken for what its peers say
        let reads = up && !rebuilding && !matches!(phase, Some(Phase::Joining));
        let writes = up && !matches!(phase, Some(Phase::Joining | Phase::ReadOnly));
        Node { name: member.name.clone(), up, held_up_by, of, id: member.node, reads, writes }
    };
    members.iter().map(node).collect()
}

fn problems(nodes: &[Node], replies: &[&StatusReply]) -> Vec<String> {
    let mut problems = Vec::new();
    for Node { name, held_up_by, of, .. } in nodes.iter().filter(|node| !node.up) {
        problems.push(format!("{name} is down: {held_up_by} of {of} nodes hold it to be up"));
    }
    for node in nodes.iter().filter(|node| node.up && node.held_up_by < node.of) {
        problems.push(format!(
            "{} is up, and {} of {} nodes do not reach it",
            node.name,
            node.of - node.held_up_by,
            node.of
        ));
    }
    for node in nodes.iter().filter(|node| node.up && replies.iter().all(|reply| reply.node != node.id)) {
        problems.push(format!("{} answers its peers and not this client", node.name));
    }
    for reply in replies {
        let note = if reply.waiting_for.is_empty() { String::new() } else { format!(": {}", reply.waiting_for) };
        let what = match reply.phase {
            Phase::Serving => None,
            Phase::Joining => Some("is joining"),
            Phase::Draining => Some("is draining"),
            Phase::ReadOnly => Some("takes no writes"),
        };
        problems.extend(what.map(|what| format!("{} {what}{note}", reply.name)));
        if !reply.hints_counted && reply.phase != Phase::Joining {
            problems.push(format!("{} still counts the hints that it keeps", reply.name));
        }
        if u128::from(reply.free_bytes) * 100 < u128::from(reply.capacity_bytes) * u128::from(NEARLY_FULL_PERCENT) {
            let (free, all) = (ByteSize(reply.free_bytes), ByteSize(reply.capacity_bytes));
            problems.push(format!("{}'s disk is nearly full: {free} of {all} left", reply.name));
        }
    }
    let rebuilding = |node: &&Node| {
        replies.iter().flat_map(|reply| &reply.members).any(|seen| seen.node == node.id && seen.rebuilding)
    };
    problems.extend(nodes.iter().filter(rebuilding).map(|node| format!("{} is rebuilding its disk", node.name)));
    let told = |node: &Node| {
        let seen = replies.iter().flat_map(|reply| &reply.members).filter(|seen| seen.node == node.id);
        seen.max_by_key(|seen| seen.generation).and_then(|seen| seen.ring.clone())
    };
    let rings: BTreeSet<String> = nodes.iter().filter(|node| node.up).filter_map(told).collect();
    if rings.len() > 1 {
        problems.push(format!("members follow {} different rings", rings.len()));
    }
    problems
}

#[cfg(test)]
mod tests;
