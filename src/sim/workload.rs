//! What clients do and what they are told: drawn operations become requests, answers become the oracle's history.

mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::availability::{self, Promise};
use super::client::Asking;
use super::coverage::Mark;
use super::disk::Disk;
use super::oracle::{Conflict, Event, History, Holder, KeyId, Label, OpId, Shown};
use super::schedule::{Act, ClusterPlan, Operation};
use super::world::World;
use crate::api::{Deadline, Get, Put, PutHeader, Request, Scan};
use crate::client::session::{Patience, Target};
use crate::client::{Order, Standing, route};
use crate::quorum::Level;
use crate::types::{Bucket, Key, Time, WriteId};
use crate::version::{Dot, Sibling};

/// The bucket that keeps the latest write only.
pub(super) const LATEST: &str = "latest";
/// The slot of the keys that are written when all is healed.
const HEALED: u8 = 99;
/// Replicas of each key.
const REPLICAS: u8 = 3;
/// Contexts of a key that are kept for clients with old ones.
const MOST_CONTEXTS: usize = 12;

/// The bucket of a key of the simulation, told by its first letter.
pub(super) fn bucket_of(key: &str) -> Bucket {
    if key.starts_with('l') { Bucket::new(LATEST).expect("it is a good name") } else { Bucket::default() }
}

/// How a history calls a dot: as something opaque.
pub(super) fn label_of(dot: Dot) -> Label {
    Label((dot.actor.0, dot.counter))
}

/// A context that some client was handed, and by which operation.
#[derive(Clone, Debug)]
struct Known {
    context: Option<Bytes>,
    basis: OpId,
}

/// A client's look at a key, as the history numbers it.
#[derive(Clone, Copy, Debug)]
struct Read {
    op: OpId,
    client: usize,
    key: usize,
}

/// A write that some client intends.
#[derive(Clone, Debug)]
struct Write {
    id: WriteId,
    key: usize,
    body: Option<Bytes>,
    after: Option<Known>,
    since: Time,
}

/// A write that a stand-in has acknowledged for a primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent {
    pub(super) key: usize,
    pub(super) dot: Dot,
    pub(super) by: Holder,
    /// When it began.
    pub(super) since: Time,
}

/// What a request under way is for.
enum Pending {
    Get { read: Read, then: Option<Operation>, settles: Option<u8> },
    Scan { client: usize },
    Put { op: OpId, client: usize, write: usize, promise: Option<Promise> },
}

/// See the module.
pub(super) struct Workload {
    plan: ClusterPlan,
    pub(super) history: History,
    /// Nothing is written down: a fault of the simulation itself.
    pub(super) forgetful: bool,
    pub(super) operations: u64,
    keys: Vec<String>,
    by_name: BTreeMap<String, usize>,
    writes: Vec<Write>,
    pending: BTreeMap<u64, Pending>,
    /// What a client was handed last, by client and key.
    latest: BTreeMap<(usize, usize), Known>,
    /// What clients were handed, by key.
    contexts: BTreeMap<usize, Vec<Known>>,
    /// Writes whose fate their client does not know.
    doubtful: BTreeMap<usize, Vec<usize>>,
    next_op: u32,
    /// Whom the next request goes to first, whatever holds its key.
    first: Option<usize>,
    /// What the last answered read showed.
    last_shown: Option<BTreeSet<WriteId>>,
    /// Acknowledged writes, by their places.
    acked: BTreeSet<usize>,
    /// What stand-ins have acknowledged.
    pub(super) lent: Vec<Lent>,
}

impl Workload {
    pub(super) fn new(plan: ClusterPlan) -> Workload {
        let grace = plan.request_timeout * 2;
        Workload {
            plan,
            history: History { replicas: REPLICAS, grace, ..History::default() },
            forgetful: false,
            operations: 0,
            keys: Vec::new(),
            by_name: BTreeMap::new(),
            writes: Vec::new(),
            pending: BTreeMap::new(),
            latest: BTreeMap::new(),
            contexts: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            next_op: 0,
            first: None,
            last_shown: None,
            acked: BTreeSet::new(),
            lent: Vec::new(),
        }
    }

    /// The keys so far, by their number in the history.
    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The number of a key, if it is one of the history.
    pub(super) fn key_named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn note(&mut self, at: Time, event: Event) {
        if !self.forgetful {
            self.history.events.push((at, event));
        }
    }

    /// The key that stands in a slot at some time: it gives way to another when it has been in use for a while.
    fn key_at(&mut self, slot: u8, at: Duration) -> usize {
        let slot = slot % self.plan.keys;
        let epoch = at.as_micros() / self.plan.key_life.as_micros();
        let kind = if slot > 0 && slot.is_multiple_of(5) { 'l' } else { 'k' };
        let conflict = if kind == 'l' { Conflict::LastWriteWins } else { Conflict::Siblings };
        self.key_called(format!("{kind}{slot}.{epoch}"), conflict)
    }

    fn key_called(&mut self, name: String, conflict: Conflict) -> usize {
        if let Some(key) = self.by_name.get(&name) {
            return *key;
        }
        let key = self.keys.len();
        self.history.keys.push(conflict);
        self.by_name.insert(name.clone(), key);
        self.keys.push(name);
        key
    }

    fn next_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    /// A client does something.
    pub(super) fn operate<D: Disk>(&mut self, world: &mut World<D>, operation: &Operation) {
        let client = usize::from(operation.client % self.plan.clients);
        let key = self.key_at(operation.key, operation.at);
        let latest = self.latest.get(&(client, key)).cloned();
        match operation.act {
            Act::Get => self.read(world, client, key, operation, None),
            Act::Scan => self.scan(world, client, key, operation),
            Act::Merge => self.read(world, client, key, operation, Some(*operation)),
            Act::Blind => self.write(world, client, key, operation, None, false),
            Act::Update => self.write(world, client, key, operation, latest, false),
            Act::Delete => self.write(world, client, key, operation, latest.clone(), latest.is_some()),
            Act::Stale => {
                let known = self.contexts.get(&key).map_or(&[][..], |known| known);
                let chosen = known.get(operation.salt as usize % known.len().max(1)).cloned();
                self.write(world, client, key, operation, chosen, false);
            }
            Act::Retry => {
                let doubtful = self.doubtful.get(&client).map_or(&[][..], |doubtful| doubtful);
                match doubtful.get(operation.salt as usize % doubtful.len().max(1)).copied() {
                    Some(write) => self.put(world, client, write, operation),
                    None => self.read(world, client, key, operation, None),
                }
            }
        }
    }

    fn read<D: Disk>(
        &mut self,
        world: &mut World<D>,
        client: usize,
        key: usize,
        operation: &Operation,
        then: Option<Operation>,
    ) {
        let op = self.next_op();
        let name = self.keys[key].clone();
        self.note(world.now, Event::Read { op, key: key_id(key), replicas: operation.level });
        let seen = self.latest.get(&(client, key)).filter(|_| operation.in_session).cloned();
        let seen = seen.and_then(|known| Some((known.context?, known.basis)));
        if let Some((_, after)) = &seen {
            self.note(world.now, Event::Demanded { op, after: *after });
            world.coverage.hit(Mark::SessionRead);
        }
        let request = Request::Get(Get {
            bucket: bucket_of(&name),
            key: key_of(&name),
            r: Some(Level::Number(operation.level)),
            pr: None,
            strict: operation.extras.strict,
            trace: operation.extras.traced,
            blocking_repair: operation.extras.blocking_repair,
            after: seen.map(|(context, _)| context),
            deadline: Deadline::default(),
        });
        let what = format!("get {name}, r={}", operation.level);
        let call = self.call(world, client, &name, request, what, world.now, operation.salt);
        let settles = operation.extras.blocking_repair.then(|| REPLICAS - operation.level + 1);
        self.pending.insert(call, Pending::Get { read: Read { op, client, key }, then, settles });
    }

    /// A page from the beginning of the key's partition: what it shows of each key was read as by a get.
    fn scan<D: Disk>(&mut self, world: &mut World<D>, client: usize, key: usize, operation: &Operation) {
        let name = self.keys[key].clone();
        let Some(view) = world.any_view() else { return };
        let bucket = bucket_of(&name);
        let (partition, _) = view.partition_of(&bucket, &key_of(&name));
        let request = Request::Scan(Scan {
            bucket,
            partition,
            after: None,
            prefix: Bytes::new(),
            limit: 1 + operation.salt % 20,
            keys_only: false,
            r: Some(Level::Number(operation.level)),
            deadline: Deadline::default(),
        });
        let what = format!("scan of partition {}, r={}", partition.0, operation.level);
        let call = self.call(world, client, &name, request, what, world.now, operation.salt);
        self.pending.insert(call, Pending::Scan { client });
    }

    fn write<D: Disk>(
        &mut self,
        world: &mut World<D>,
        client: usize,
        key: usize,
        operation: &Operation,
        after: Option<Known>,
        deletes: bool,
    ) {
        let id = WriteId(u128::try_from(self.writes.len() + 1).expect("a usize fits"));
        let padding = "x".repeat(operation.salt as usize % 97);
        let body = (!deletes).then(|| Bytes::from(format!("{}:{padding}", id.0)));
        self.writes.push(Write { id, key, body, after, since: world.now });
        self.put(world, client, self.writes.len() - 1, operation);
    }

    fn put<D: Disk>(&mut self, world: &mut World<D>, client: usize, write: usize, operation: &Operation) {
        let op = self.next_op();
        let Write { id, key, body, after, since } = self.writes[write].clone();
        let name = self.keys[key].clone();
        let basis = after.as_ref().map(|known| known.basis);
        self.note(world.now, Event::Write { op, key: key_id(key), write: id, body: body.clone(), basis });
        let extras = operation.extras;
        let pw = extras.of_primaries.then_some(Level::Number(operation.level));
        let dw = extras.durable.then_some(operation.level.min(2));
        let header = PutHeader {
            bucket: bucket_of(&name),
            key: key_of(&name),
            write_id: id,
            context: after.as_ref().and_then(|known| known.context.clone()),
            delete: body.is_none(),
            w: Some(Level::Number(operation.level)),
            pw,
            dw,
            strict: extras.strict,
            trace: extras.traced,
            deadline: Deadline::default(),
        };
        let easy = self.plan.sloppy
            && self.plan.max_inflight >= availability::ROOM
            && self.plan.max_siblings >= availability::SIBLINGS
            && !header.strict;
        let promise = world.promise(usize::from(operation.level)).filter(|_| easy && header.pw.is_none());
        let what = self.describe(write, operation.level);
        let request = Request::Put(Put { header, value: body });
        let call = self.call(world, client, &name, request, what, since, operation.salt);
        self.pending.insert(call, Pending::Put { op, client, write, promise });
    }

    fn describe(&self, write: usize, level: u8) -> String {
        let Write { id, key, body, after, .. } = &self.writes[write];
        let verb = if body.is_some() { "put" } else { "delete" };
        let basis =
            after.as_ref().map_or("blind".into(), |known| format!("on what operation {} was shown", known.basis.0));
        format!("{verb} {} = {}, {basis}, w={level}", self.keys[*key], id.0)
    }

    #[expect(clippy::too_many_arguments, reason = "what a request is about, said once")]
    fn call<D: Disk>(
        &mut self,
        world: &mut World<D>,
        client: usize,
        name: &str,
        request: Request,
        what: String,
        since: Time,
        salt: u32,
    ) -> u64 {
        let patience =
            Patience { request_timeout: self.plan.request_timeout, attempt_timeout: self.plan.attempt_timeout };
        self.operations += 1;
        let targets = self.targets(world, name, request.is_write(), salt);
        let what = format!("operation {}: {what}", self.next_op);
        world.call(Asking { client, request, targets, patience, key: name.to_owned(), what, since })
    }

    /// Whom to ask, best first; now and then the other way round. Half of the writes too go to any primary: coordinators of one key that know
    /// nothing of each other find more faults.
    fn targets<D: Disk>(&self, world: &World<D>, name: &str, writes: bool, salt: u32) -> Vec<usize> {
        let count = u16::try_from(world.nodes.len()).expect("few nodes");
        let primaries: Vec<Target> =
            world.coordinators(name).into_iter().map(|node| Target(u16::try_from(node).expect("few nodes"))).collect();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(salt.into());
        let is_misled = random.random_bool(self.plan.buggify.misroute);
        let order = if writes && random.random_bool(0.5) { Order::Given } else { Order::Random };
        let order = route(count, &primaries, order, |_| Standing::Good, u64::from(salt));
        let mut order: Vec<usize> = order.into_iter().map(|target| usize::from(target.0)).collect();
        if is_misled {
            order.reverse();
        }
        if let Some(first) = self.first {
            order.retain(|node| *node != first);
            order.insert(0, first);
        }
        order
    }

    /// Reads a key from all of its replicas, once more.
    pub(super) fn read_all<D: Disk>(&mut self, world: &mut World<D>, key: usize, level: u8) {
        self.last_shown = None;
        // the salt as well: keys differ in whom they ask first
        let operation = Operation { salt: key_id(key).0, ..Operation::plain(Act::Get, level) };
        self.read(world, 0, key, &operation, None);
    }

    /// What the last read showed, if it was answered.
    pub(super) fn last_shown(&mut self) -> Option<BTreeSet<WriteId>> {
        self.last_shown.take()
    }

    /// Whether a write has been acknowledged.
    pub(super) fn is_acked(&self, write: usize) -> bool {
        self.acked.contains(&write)
    }

    /// Writes a key of its own, of which all replicas have to take it, through one node first; the write's place.
    pub(super) fn write_at<D: Disk>(&mut self, world: &mut World<D>, node: usize) -> usize {
        let name = format!("k{HEALED}.{node}");
        let key = self.key_called(name, Conflict::Siblings);
        self.first = Some(node);
        self.write(world, 0, key, &Operation::plain(Act::Blind, REPLICAS), None, false);
        self.first = None;
        self.writes.len() - 1
    }

    /// Whether a client still waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }
}

pub(super) fn key_of(name: &str) -> Key {
    Key::new(name.to_owned()).expect("the simulation's keys are short")
}

/// A key's number in the history.
pub(super) fn key_id(key: usize) -> KeyId {
    KeyId(u32::try_from(key).expect("few keys"))
}

/// A sibling as a history has it.
pub(super) fn shown_by(sibling: &Sibling) -> Shown {
    Shown { write: sibling.write_id, label: label_of(sibling.dot), body: sibling.body.value().cloned() }
}
