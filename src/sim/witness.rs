//! What only somebody who sees every machine from within can check: that no dot names two writes, that an
//! acknowledgement is true, that nothing grows beyond its bound, that all frames went through the network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::coverage::Mark;
use super::disk::Disk;
use super::report::Violation;
use super::trace::{node_name, node_of};
use super::world::{Loss, World};
use crate::api::{Ack, Put, Receipt, Request};
use crate::message::{PeerRequest, Replicate};
use crate::node::{Core, PeerRef};
use crate::quorum::Level;
use crate::ring::{PreferenceList, RingView, token_of};
use crate::storage::{Record, object_key};
use crate::types::{Bucket, Key, NodeId, Time, WriteId};
use crate::version::{CausalContext, Dot, Object};

/// Requests answered or parked, for each that may wait for an answer: what the node promises to stay below.
const LINGERING_PER_INFLIGHT: u64 = 4;

/// An answer leaves no later after its drain.
const HELD_UP: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub(super) struct Witness {
    /// What each dot of a key names.
    dots: BTreeMap<Bytes, BTreeMap<Dot, WriteId>>,
    breach: Option<(Time, Violation)>,
    /// Frames that have arrived, by sender.
    delivered: BTreeMap<usize, u64>,
    /// Records that have rotted, a node and a place on its disk: when they did last, and how often.
    damaged: BTreeMap<(usize, Bytes), (Time, usize)>,
    /// What peers have asked to be on the disk.
    pub(super) promises: Promises,
    /// What the tombstones of a place had seen that were reaped, and how many copies of them were.
    reaped: BTreeMap<Bytes, (CausalContext, usize)>,
    /// Nodes that run on an old copy of their disk, which the peers have yet to refuse.
    pub(super) old_copies: BTreeSet<usize>,
    /// Starts of processes, by node.
    starts: BTreeMap<usize, usize>,
    /// Puts of a key that were coordinated without a slot: the node, its run and shard, the entry.
    slotless: BTreeMap<Bytes, BTreeSet<(usize, u64, u16, u64)>>,
}

impl Witness {
    /// Something that must not be; the first one counts.
    pub(super) fn breach(&mut self, now: Time, invariant: &str, key: Option<&str>, evidence: impl FnOnce() -> String) {
        if self.breach.is_none() {
            let violation = Violation { invariant: invariant.into(), key: key.map(Into::into), evidence: evidence() };
            self.breach = Some((now, violation));
        }
    }

    /// The first breach.
    pub(super) fn broken(&self) -> Option<&(Time, Violation)> {
        self.breach.as_ref()
    }

    pub(super) fn started(&mut self, node: usize) {
        *self.starts.entry(node).or_default() += 1;
    }

    /// A node without a slot sends what it has coordinated.
    pub(super) fn slotless(&mut self, key: &Key, by: (usize, u64, u16, u64)) {
        self.slotless.entry(key.bytes().clone()).or_default().insert(by);
    }

    pub(super) fn delivered(&mut self, from: usize) {
        *self.delivered.entry(from).or_default() += 1;
    }

    /// A record rots.
    pub(super) fn damage(&mut self, now: Time, node: usize, place: Bytes) {
        let (last, times) = self.damaged.entry((node, place)).or_insert((now, 0));
        (*last, *times) = (now, *times + 1);
    }

    /// A node has a new disk.
    pub(super) fn replaced(&mut self, node: usize) {
        self.damaged.retain(|(of, _), _| *of != node);
        self.old_copies.remove(&node);
    }

    /// Where a node's records have rotted, whatever has become of them.
    pub(super) fn damages(&self, node: usize) -> impl Iterator<Item = &Bytes> {
        self.damaged.keys().filter(move |(of, _)| *of == node).map(|(_, place)| place)
    }

    /// When this record rotted last.
    pub(super) fn damaged_at(&self, node: usize, place: &[u8]) -> Option<Time> {
        self.damaged.get(&(node, Bytes::copy_from_slice(place))).map(|(last, _)| *last)
    }

    /// A tombstone was reaped.
    pub(super) fn reaped(&mut self, place: &Bytes, object: &Object) {
        let (known, times) = self.reaped.entry(place.clone()).or_default();
        known.join(object.context());
        *times += 1;
    }

    /// Whether a write is gone with a tombstone that was reaped.
    pub(super) fn is_reaped(&self, place: &[u8], dot: Dot) -> bool {
        self.reaped.get(place).is_some_and(|(known, _)| known.contains(dot))
    }

    /// How often copies of an object have rotted.
    fn times_damaged(&self, place: &[u8]) -> usize {
        self.damaged.iter().filter(|((_, of), _)| of[..] == *place).map(|(_, (_, times))| times).sum()
    }

    /// An object was sent, or lies on a disk.
    pub(super) fn saw_object(&mut self, now: Time, key: &[u8], object: &Object) {
        for sibling in object.siblings() {
            self.saw_dot(now, key, sibling.dot, sibling.write_id);
        }
    }

    pub(super) fn saw_dot(&mut self, now: Time, key: &[u8], dot: Dot, write: WriteId) {
        if !self.dots.contains_key(key) {
            self.dots.insert(Bytes::copy_from_slice(key), BTreeMap::new());
        }
        let named = self.dots.get_mut(key).expect("it has just been put there");
        let first = *named.entry(dot).or_insert(write);
        if first != write {
            let name = String::from_utf8_lossy(key).into_owned();
            self.breach(now, "dot uniqueness", Some(&name), || {
                format!("{dot} of {name} names both write {} and write {}", first.0, write.0)
            });
        }
    }

    /// How many copies of an object were reaped.
    fn times_reaped(&self, place: &[u8]) -> usize {
        self.reaped.get(place).map_or(0, |(_, times)| *times)
    }

    /// Dots of a key that were seen with a sibling, actors and all.
    fn actors_of(&self, key: &[u8]) -> usize {
        let dots = self.dots.get(key).into_iter().flatten();
        dots.map(|(dot, _)| dot.actor).collect::<BTreeSet<_>>().len()
    }
}

/// Replicates that are to be acknowledged only when they are on the disk, by who asked.
#[derive(Default)]
pub(super) struct Promises {
    asked: BTreeMap<PeerRef, Asked>,
}

/// What was sent with one id and has not been answered. Whoever asks again may send what his object has become since, and what he sent before
/// may be answered after that, twice too: an answer is to one of these.
#[derive(Default)]
struct Asked {
    unanswered: usize,
    promises: Vec<Promise>,
}

/// An object that is to be on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    place: Vec<u8>,
    dots: Vec<Dot>,
    /// For whom it is kept there: it is true as well once that one has it.
    heir: Option<NodeId>,
}

impl Promises {
    /// A request has arrived.
    pub(super) fn ask(&mut self, from: &PeerRef, request: &PeerRequest) {
        let PeerRequest::Replicate(Replicate { to, sync, object, hint_for, .. }) = request else { return };
        let token = token_of(&to.bucket, to.key.as_bytes());
        let place = object_key(to.partition, token, &to.bucket, &to.key);
        let dots = object.siblings().iter().map(|sibling| sibling.dot).collect();
        let (promise, asked) = (Promise { place, dots, heir: *hint_for }, self.asked.entry(*from).or_default());
        asked.unanswered += 1;
        if *sync && !asked.promises.contains(&promise) {
            asked.promises.push(promise);
        }
    }

    /// One of them has been answered.
    pub(super) fn on_answer(&mut self, from: &PeerRef) {
        if let Some(asked) = self.asked.get_mut(from) {
            asked.unanswered -= 1;
            if asked.unanswered == 0 {
                self.asked.remove(from);
            }
        }
    }

    /// The promise that acknowledging it now breaks; `durable` tells what would survive a power loss.
    pub(super) fn broken(&self, to: &PeerRef, durable: impl Fn(&[u8]) -> Option<Bytes>) -> Option<Promise> {
        let asked = self.asked.get(to)?;
        let is_kept = |promise: &Promise| promise.is_kept(durable(&promise.place));
        if asked.promises.iter().any(is_kept) { None } else { asked.promises.first().cloned() }
    }
}

impl Promise {
    fn is_kept(&self, record: Option<Bytes>) -> bool {
        match record.map(Record::decode) {
            Some(Ok(record)) => self.dots.iter().all(|dot| record.object.context().contains(*dot)),
            // A record that rots while its request is under way.
            Some(Err(_)) => true,
            None => false,
        }
    }
}

/// Where a put's object lies.
fn place_in(view: &RingView, bucket: &Bucket, key: &Key) -> Vec<u8> {
    let (partition, token) = view.partition_of(bucket, key);
    object_key(partition, token, bucket, key)
}

impl<D: Disk> World<D> {
    /// What a node tells a peer to be on its disk is not, unless the one for whom it stood in has it by now.
    pub(super) fn break_promise(&mut self, node: usize, to: &PeerRef, promise: &Promise) {
        let heir = promise.heir.and_then(|heir| self.ids.get(&heir));
        if heir.is_some_and(|heir| promise.is_kept(self.nodes[*heir].disk.peek(&promise.place, true))) {
            return;
        }
        // It has rotted and been wiped, or been reaped, while its answer was held up.
        if promise.dots.iter().all(|dot| self.witness.is_reaped(&promise.place, *dot)) {
            return;
        }
        if self.witness.damaged_at(node, &promise.place).is_some_and(|at| self.now.since(at) < HELD_UP) {
            return;
        }
        let evidence = || format!("{} tells {} that {:?} are on its disk", node_name(node), to.node, promise.dots);
        self.witness.breach(self.now, "ack honesty", None, || evidence() + ", and they are not");
    }

    /// Where an object of the simulation's keys lies: their bucket is told by their first letter.
    pub(super) fn place_of(&self, key: &str) -> Option<Vec<u8>> {
        let view = self.any_view()?;
        Some(place_in(&view, &super::workload::bucket_of(key), &Key::new(key.to_owned()).ok()?))
    }

    /// A put is acknowledged: as many distinct replicas hold it as it says, durably where it says so.
    pub(super) fn check_receipt(&mut self, coordinator: usize, request: &Request, receipt: &Receipt, since: Time) {
        let Request::Put(put) = request else { return };
        let name = String::from_utf8_lossy(put.header.key.as_bytes()).into_owned();
        self.witness.saw_dot(self.now, put.header.key.as_bytes(), receipt.dot, put.header.write_id);
        let minter = self.ids.get(&receipt.coordinator).map(|node| self.nodes[*node].clocks.wall_ahead_ms);
        self.coverage.add(Mark::SkewedMint, u64::from(minter.is_some_and(|ahead| ahead != 0)));
        self.coverage.add(Mark::StandInCounted, u64::from(receipt.acks.iter().any(|ack| ack.stand_in)));
        if let Some(lie) = self.lie_in(coordinator, put, receipt, since) {
            let now = self.now;
            let who = node_name(coordinator);
            self.witness.breach(now, "ack honesty", Some(&name), || {
                format!("{who} acknowledges write {} of {name}, but {lie}", put.header.write_id.0)
            });
        }
    }

    fn lie_in(&self, coordinator: usize, put: &Put, receipt: &Receipt, since: Time) -> Option<String> {
        let sync_by_default = self.nodes[coordinator].config.shard.sync_by_default;
        let header = &put.header;
        let view = self.any_view()?;
        let (partition, _) = view.partition_of(&header.bucket, &header.key);
        let list = view.preference(partition, &header.bucket)?;
        let slots: BTreeSet<u8> = receipt.acks.iter().map(|ack| ack.slot).collect();
        let nodes: BTreeSet<_> = receipt.acks.iter().map(|ack| ack.node).collect();
        let w = match header.w {
            Some(Level::Number(w)) => w,
            other => return Some(format!("the workload asks for numbers, not {other:?}")),
        };
        let distinct = slots.len().min(nodes.len());
        // An attempt that has joined another is told of the stronger of the two.
        if distinct < usize::from(receipt.w) || receipt.w < w {
            return Some(format!("W is {w}, and {distinct} replicas are named for {}", receipt.w));
        }
        let synced = receipt.acks.iter().filter(|ack| ack.synced).count();
        let by_default = if sync_by_default { w } else { 0 };
        let dw = header.dw.unwrap_or(by_default);
        if synced < usize::from(dw) {
            return Some(format!("DW is {dw}, and {synced} are synced"));
        }
        let place = place_in(&view, &header.bucket, &header.key);
        if list.slots().len() < usize::from(receipt.n) {
            return Some(format!("it has {} slots, not {}", list.slots().len(), receipt.n));
        }
        let primaries = receipt.acks.iter().filter(|ack| !ack.stand_in).count();
        let pw = header.pw.map_or(0, |pw| if let Level::Number(pw) = pw { pw } else { 0 });
        if primaries < usize::from(if header.strict { w.max(pw) } else { pw }) {
            return Some(format!("{primaries} primaries are named, {pw} are asked for, strict {}", header.strict));
        }
        receipt.acks.iter().find_map(|ack| self.lie_in_ack(ack, list, &place, receipt.dot, since))
    }

    /// What is untrue about one replica of a receipt: it holds the write, and a stand-in holds it for the slot's primary,
    /// if that has not taken it over since.
    fn lie_in_ack(&self, ack: &Ack, list: &PreferenceList, place: &[u8], dot: Dot, since: Time) -> Option<String> {
        let Some(&primary) = list.slots().get(usize::from(ack.slot)) else {
            return Some(format!("there is no slot {}", ack.slot));
        };
        let is_holder = if ack.stand_in { list.stand_ins().contains(&ack.node) } else { ack.node == primary };
        let (true, Some(&node)) = (is_holder, self.ids.get(&ack.node)) else {
            return Some(format!("{} does not hold slot {}", ack.node, ack.slot));
        };
        // A client that asks again is answered still when what replaced his write, or his delete itself, has been reaped.
        if self.witness.is_reaped(place, dot) {
            return None;
        }
        let hint_for = ack.stand_in.then_some(primary);
        if self.may_lack(node, place, ack.synced, since) || self.holds(node, place, dot, ack.synced, hint_for) {
            return None;
        }
        if let Some(heir) = hint_for.and_then(|target| self.ids.get(&target).copied())
            && (self.may_lack(heir, place, true, since) || self.holds(heir, place, dot, true, None))
        {
            return None;
        }
        let what = if ack.stand_in { "it with a hint" } else { "it" };
        let place = if ack.synced { " on its disk" } else { "" };
        Some(format!("{} does not have {what}{place}", node_name(node)))
    }

    /// Whether a node has lost, since then, what it may have held.
    pub(super) fn may_lack(&self, node: usize, place: &[u8], synced: bool, since: Time) -> bool {
        let lost = |loss: &Loss| loss.node == node && loss.at >= since && (loss.all || !synced);
        let rotted = self.witness.damaged_at(node, place);
        self.losses.iter().any(lost) || rotted.is_some_and(|at| at >= since) || self.is_rotten(node, place)
    }

    /// Whether this record has rotted and lies there still.
    pub(super) fn is_rotten(&self, node: usize, place: &[u8]) -> bool {
        let record = || self.nodes[node].disk.peek(place, false).map(Record::decode);
        self.witness.damaged_at(node, place).is_some() && matches!(record(), Some(Err(_)))
    }

    /// A node's records that have rotted and lie there still.
    pub(super) fn rotten(&self, node: usize) -> impl Iterator<Item = &Bytes> {
        self.witness.damages(node).filter(move |place| self.is_rotten(node, place))
    }

    /// Whether a node's disk has this write, with a counted hint for that node if one is named.
    pub(super) fn holds(&self, node: usize, place: &[u8], dot: Dot, synced: bool, hint_for: Option<NodeId>) -> bool {
        let Some(Ok(record)) = self.nodes[node].disk.peek(place, synced).map(Record::decode) else { return false };
        let hinted = |target: NodeId| record.hint(target).is_some_and(|hint| hint.counted);
        record.object.context().contains(dot) && hint_for.is_none_or(hinted)
    }

    /// Nothing may grow beyond its bound.
    pub(super) fn check_bounds(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(process) = &self.nodes[node].process else { continue };
            let most = self.nodes[node].config.shard.max_inflight as u64;
            let counters: Vec<_> = process.cores().map(Core::counters).collect();
            for counters in counters {
                // A retry that joins a put under way waits with it.
                let bound = LINGERING_PER_INFLIGHT * most;
                let over = [
                    ("requests in flight", counters.in_flight, most),
                    ("requests lingering", counters.lingering, bound),
                    ("operations parked", counters.parked, bound),
                ];
                for (what, count, most) in over.into_iter().filter(|(_, count, most)| count > most) {
                    let now = self.now;
                    self.witness.breach(now, "queue bounds", None, || {
                        format!("{} has {count} {what}, {most} are allowed", node_name(node))
                    });
                }
            }
        }
    }

    /// Every frame that arrived was sent through the network.
    pub(super) fn check_ledger(&mut self) {
        for node in 0..self.nodes.len() {
            let delivered = self.witness.delivered.get(&node).copied().unwrap_or(0);
            let arranged = self.network.arranged.get(&node).copied().unwrap_or(0);
            if delivered > arranged {
                let now = self.now;
                self.witness.breach(now, "network ledger", None, || {
                    format!("{delivered} frames of {} arrived, the network carried {arranged}", node_name(node))
                });
            }
        }
    }

    /// All running nodes follow one ring.
    pub(super) fn check_ring(&mut self) {
        let views = self.nodes.iter().filter_map(|node| node.process.as_ref()?.control.view());
        let rings: BTreeSet<_> = views.map(|view| (view.cluster().0, view.version(), view.digest())).collect();
        if rings.len() > 1 {
            let now = self.now;
            self.witness.breach(now, "one ring", None, || format!("the nodes follow {} rings", rings.len()));
        }
    }

    /// Nobody who runs holds another who runs for dead, and the shards have been told so.
    pub(super) fn check_verdicts(&mut self) {
        let now = self.now;
        for node in 0..self.nodes.len() {
            let Some(process) = &self.nodes[node].process else { continue };
            let held: Vec<_> = process.control.detector().convicted().map(|peer| node_of(&self.ids, peer)).collect();
            let told: Vec<_> =
                process.cores().flat_map(Core::convicted).map(|peer| node_of(&self.ids, *peer)).collect();
            if !held.is_empty() || !told.is_empty() {
                self.witness.breach(now, "nobody convicted when healed", None, || {
                    format!("{} still holds {held:?} for dead, its shards {told:?}", node_name(node))
                });
            }
        }
    }

    /// No key knows more actors than its replicas had runs, and it puts without a slot, that could draw one.
    pub(super) fn check_actors(&mut self, keys: &[String]) {
        for key in keys {
            let starts = |node: &usize| self.witness.starts.get(node).copied().unwrap_or(0);
            let starts: usize = self.primaries(key).iter().map(starts).sum();
            let slotless = self.witness.slotless.get(key.as_bytes()).map_or(0, BTreeSet::len);
            // A run may draw one actor before its generation is granted, and one for what it was granted; and so again once its
            // record has rotted, or been reaped.
            let place = self.place_of(key).unwrap_or_default();
            let forgotten = self.witness.times_damaged(&place) + self.witness.times_reaped(&place);
            let most = 2 * (starts + forgotten) + slotless;
            let actors = self.witness.actors_of(key.as_bytes());
            if actors > most {
                let now = self.now;
                self.witness.breach(now, "actor bound", Some(key), || {
                    format!(
                        "{actors} actors have written {key}, {most} are explained by restarts, rot, reaping and slotless puts"
                    )
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{Address, Reason};
    use crate::types::{PartitionId, RingVersion, Round, WriteId};
    use crate::version::{Actor, Body, Sibling};

    const FROM: PeerRef = PeerRef { node: NodeId(2), lane: 1, id: 7 };

    /// Two writes of one coordinator, one after the other.
    fn objects() -> [Arc<Object>; 2] {
        let sibling = |counter| Sibling {
            dot: Dot { actor: Actor(7), counter },
            write_id: WriteId(counter.into()),
            node: NodeId(2),
            wall_ms: 0,
            body: Body::Tombstone,
        };
        let first = Object::update(None, &CausalContext::default(), sibling(1));
        let second = Object::update(Some(&first), &CausalContext::default(), sibling(2));
        [first, second].map(Arc::new)
    }

    fn asked(object: &Arc<Object>) -> PeerRequest {
        let (bucket, key) = (Bucket::default(), Key::new("k").unwrap());
        let to = Address { ring: RingVersion(1), partition: PartitionId(0), bucket, key };
        let (reason, round, object) = (Reason::Write, Round::default(), object.clone());
        PeerRequest::Replicate(Replicate { to, reason, hint_for: None, sync: true, round, trace: false, object })
    }

    #[test]
    fn what_is_acknowledged_is_one_of_what_was_sent_until_then() {
        let [first, second] = objects();
        let on_disk = |object: &Arc<Object>| {
            let record = Record { own: None, hints: Vec::new(), stands_in: false, object: object.clone() };
            let mut bytes = Vec::new();
            record.encode_into(&mut bytes);
            move |_: &[u8]| Some(Bytes::from(bytes.clone()))
        };
        let mut promises = Promises::default();
        promises.ask(&FROM, &asked(&first));
        assert!(promises.broken(&FROM, |_| None).is_some());
        assert!(promises.broken(&FROM, on_disk(&first)).is_none());
        promises.ask(&FROM, &asked(&second));
        assert!(promises.broken(&FROM, |_| None).is_some());
        assert!(promises.broken(&FROM, on_disk(&first)).is_none(), "that is what is answered, perhaps");
        promises.on_answer(&FROM);
        assert!(promises.broken(&FROM, |_| None).is_some(), "one of them is not answered yet");
        assert!(promises.broken(&FROM, on_disk(&first)).is_none());
        promises.on_answer(&FROM);
        promises.ask(&FROM, &asked(&second));
        assert!(promises.broken(&FROM, on_disk(&first)).is_some());
    }
}
