//! What happened: a hash of all of it, so that two runs can be compared, and lines about a key for people.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::Xxh3Default;

use super::report::TraceFilter;
use crate::types::{NodeId, Time};
use crate::version::{Body, Object, Sibling};

/// A request to a replica, so that its answer can be told by the key: the asker, its run's shard and request id.
pub(super) type RequestRef = (usize, u16, u64);

/// What kind of thing happened, in the hash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    Drain,
    Frame,
    Start,
    End,
    Request,
    Answer,
    Fault,
}

/// See the module.
pub(super) struct Trace {
    hash: Xxh3Default,
    filter: Option<TraceFilter>,
    lines: VecDeque<String>,
    left_out: u64,
    /// What a request to a replica is about.
    topics: BTreeMap<RequestRef, Topic>,
}

/// What a request to a replica is about.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) key: String,
    pub(super) what: String,
}

/// So many of the last lines are kept: what went wrong is at the end.
const MOST_LINES: usize = 100_000;

impl Trace {
    pub(super) fn new(filter: Option<TraceFilter>) -> Trace {
        Trace { hash: Xxh3Default::new(), filter, lines: VecDeque::new(), left_out: 0, topics: BTreeMap::new() }
    }

    /// Something happened at a machine.
    pub(super) fn event(&mut self, now: Time, kind: Happening, machine: usize, bytes: &[u8]) {
        let mut head = [0; 16];
        head[..8].copy_from_slice(&now.as_micros().to_le_bytes());
        head[8] = kind as u8;
        head[9..].copy_from_slice(&machine.to_le_bytes()[..7]);
        self.hash.update(&head);
        self.hash.update(bytes);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// Whether lines are written at all.
    pub(super) fn is_on(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether lines about this key are written.
    pub(super) fn wants(&self, key: &str) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.key.as_ref().is_none_or(|wanted| wanted == key))
    }

    /// A line about a key.
    pub(super) fn say(&mut self, now: Time, key: &str, line: impl FnOnce() -> String) {
        if self.wants(key) {
            let line = format!("{key}  {}", line());
            self.push(now, &line);
        }
    }

    /// A line about everybody.
    pub(super) fn announce(&mut self, now: Time, line: impl FnOnce() -> String) {
        if self.is_on() {
            self.push(now, &line());
        }
    }

    fn push(&mut self, now: Time, line: &str) {
        if self.lines.len() == MOST_LINES {
            self.lines.pop_front();
            self.left_out += 1;
        }
        let micros = now.as_micros();
        self.lines.push_back(format!("{:4}.{:06} s  {line}", micros / 1_000_000, micros % 1_000_000));
    }

    /// Remembers what a request is about; whether it is the first of its entry.
    pub(super) fn ask(&mut self, request: RequestRef, topic: Topic) -> bool {
        let (node, shard, id) = request;
        let entry = (node, shard, id & !0xff)..=(node, shard, id | 0xff);
        let first = self.topics.range(entry).next().is_none();
        self.topics.insert(request, topic);
        first
    }

    /// What a request was about.
    pub(super) fn topic(&self, request: RequestRef) -> Option<&Topic> {
        self.topics.get(&request)
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        let note = (self.left_out > 0).then(|| format!("{} earlier lines are left out", self.left_out));
        note.into_iter().chain(self.lines).collect()
    }
}

/// A write, as traces and evidence call it.
pub(super) fn name_of(sibling: &Sibling) -> String {
    match sibling.body {
        Body::Value(_) => format!("{}", sibling.write_id.0),
        Body::Tombstone => format!("{} (delete)", sibling.write_id.0),
    }
}

/// The siblings of an object, by the numbers of their writes.
pub(super) fn names_of(object: Option<&Object>) -> String {
    let Some(object) = object else { return "nothing".into() };
    let names: Vec<String> = object.siblings().iter().map(name_of).collect();
    format!("{{{}}}", names.join(", "))
}

/// A node by its index.
pub(super) fn node_name(index: usize) -> String {
    format!("n{}", index + 1)
}

/// A node's id among those of the cluster.
pub(super) fn node_of(ids: &BTreeMap<NodeId, usize>, id: NodeId) -> String {
    ids.get(&id).map_or_else(|| id.to_string(), |index| node_name(*index))
}
