//! What clients are told, and what becomes of it: events of the history, and contexts to write on.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Known, Lent, MOST_CONTEXTS, Pending, Read, Workload, Write, key_id, label_of};
use crate::api::{Ack, ApiError, Receipt, Reply, Response, SiblingMeta};
use crate::client::session::Outcome;
use crate::sim::availability::{Availability, Promise};
use crate::sim::coverage::Mark;
use crate::sim::disk::Disk;
use crate::sim::oracle::{Ending, Event, Holder, OpId, Shown};
use crate::sim::schedule::Operation;
use crate::sim::world::World;
use crate::types::NodeId;
use crate::version::{Actor, Dot};

impl Workload {
    /// Takes in what clients have been told.
    pub(in crate::sim) fn listen<D: Disk>(&mut self, world: &mut World<D>) {
        for (call, outcome) in world.clients.take_ended() {
            match self.pending.remove(&call).expect("a call that ends was begun here") {
                Pending::Get { read, then, settles } => {
                    let answered = matches!(outcome, Outcome::Answered { .. });
                    self.on_read(world, read, then, outcome);
                    if let Some(replicas) = settles.filter(|_| answered) {
                        self.note(world.now, Event::Settled { op: read.op, replicas });
                        world.coverage.hit(Mark::Settled);
                    }
                }
                Pending::Scan { client } => self.on_scanned(client, world, outcome),
                Pending::Put { op, client, write, promise } => {
                    if let Some(promise) = promise.filter(|promise| world.still_holds(*promise)) {
                        self.keep(world, write, promise, &outcome);
                    }
                    self.on_written(world, op, client, write, outcome);
                }
            }
        }
    }

    fn on_read<D: Disk>(&mut self, world: &mut World<D>, read: Read, then: Option<Operation>, outcome: Outcome) {
        let (reply, values) = match outcome {
            Outcome::Answered { response: Response { result: Ok(Reply::Get(reply)), values, .. }, .. } => {
                (reply, values)
            }
            outcome => return self.check_unread(world, "a get", &outcome),
        };
        let siblings = shown(&reply.siblings, &mut values.into_iter());
        let stood_in = if siblings.is_empty() { 0 } else { reply.acks.iter().filter(|ack| ack.stand_in).count() as u8 };
        let known = Known { context: reply.context.clone(), basis: read.op };
        self.on_shown(world, read, stood_in, siblings, reply.context);
        if let Some(operation) = then {
            self.write(world, read.client, read.key, &operation, Some(known), false);
        }
    }

    fn on_scanned<D: Disk>(&mut self, client: usize, world: &mut World<D>, outcome: Outcome) {
        let (reply, values) = match outcome {
            Outcome::Answered { response: Response { result: Ok(Reply::Scan(reply)), values, .. }, .. } => {
                (reply, values)
            }
            outcome => return self.check_unread(world, "a scan", &outcome),
        };
        let mut values = values.into_iter();
        for item in reply.items {
            let name = String::from_utf8_lossy(item.key.as_bytes()).into_owned();
            let siblings = shown(&item.siblings, &mut values);
            match self.by_name.get(&name).copied() {
                Some(key) => {
                    let read = Read { op: self.next_op(), client, key };
                    // It began before this, and its page may end before the key.
                    self.note(world.now, Event::Read { op: read.op, key: key_id(key), replicas: 0 });
                    self.on_shown(world, read, 0, siblings, Some(item.context));
                }
                None => {
                    let evidence = || format!("a scan shows key {name}, which nobody has written");
                    world.witness.breach(world.now, "no phantom", Some(&name), evidence);
                }
            }
        }
    }

    /// What a read may come to instead of an answer.
    fn check_unread<D: Disk>(&mut self, world: &mut World<D>, what: &str, outcome: &Outcome) {
        let honest = matches!(
            outcome,
            Outcome::Refused {
                error: ApiError::ReadTimeout { .. }
                    | ApiError::Unavailable { .. }
                    | ApiError::NotReady { .. }
                    | ApiError::Overloaded
                    | ApiError::Expired,
                ..
            } | Outcome::NoAnswer { .. }
                | Outcome::Unreachable { .. }
        );
        let stale = matches!(outcome, Outcome::Refused { error: ApiError::Stale { .. }, .. });
        world.coverage.add(Mark::Stale, u64::from(stale));
        if !honest && !stale {
            let evidence = || format!("{what} is answered by {outcome:?}");
            world.witness.breach(world.now, "honest answers", None, evidence);
        }
    }

    /// A client has been shown a key, by so many stand-ins among the replicas that count.
    fn on_shown<D: Disk>(
        &mut self,
        world: &mut World<D>,
        Read { op, client, key }: Read,
        stood_in: u8,
        siblings: Vec<Shown>,
        context: Option<Bytes>,
    ) {
        self.last_shown = Some(siblings.iter().map(|sibling| sibling.write).collect());
        for sibling in &siblings {
            let dot = Dot { actor: Actor(sibling.label.0.0), counter: sibling.label.0.1 };
            world.witness.saw_dot(world.now, self.keys[key].as_bytes(), dot, sibling.write);
        }
        self.note(world.now, Event::Answered { op, siblings, stood_in });
        self.remember(client, key, Known { context, basis: op });
    }

    fn on_written<D: Disk>(&mut self, world: &mut World<D>, op: OpId, client: usize, write: usize, outcome: Outcome) {
        let ending = match &outcome {
            Outcome::Answered { response: Response { result: Ok(Reply::Put(receipt)), .. }, .. } => {
                let known = Known { context: Some(receipt.context.clone()), basis: op };
                self.remember(client, self.writes[write].key, known);
                self.doubtful.entry(client).or_default().retain(|doubtful| *doubtful != write);
                self.acked.insert(write);
                {
                    let Write { key, since, .. } = self.writes[write];
                    let by = holders(receipt, &world.primaries(&self.keys[key]), &world.ids);
                    let lent = by.iter().filter(|holder| holder.heir.is_some());
                    self.lent.extend(lent.map(|by| Lent { key, dot: receipt.dot, by: *by, since }));
                    Ending::Acked { label: label_of(receipt.dot), by }
                }
            }
            Outcome::Refused { error: ApiError::Indeterminate { .. }, .. } | Outcome::NoAnswer { .. } => {
                self.doubtful.entry(client).or_default().push(write);
                Ending::Unknown
            }
            Outcome::Refused {
                error:
                    ApiError::ReadOnly { .. }
                    | ApiError::Unavailable { .. }
                    | ApiError::NotReady { .. }
                    | ApiError::Overloaded
                    | ApiError::Expired
                    | ApiError::TooManySiblings { .. },
                ..
            }
            | Outcome::Unreachable { .. } => Ending::Refused,
            // Nothing else can be wrong with a put of this workload, a retry included.
            Outcome::Answered { .. } | Outcome::Refused { .. } => {
                let name = self.keys[self.writes[write].key].clone();
                let evidence = || format!("put {} is answered by {outcome:?}", self.writes[write].id.0);
                world.witness.breach(world.now, "honest answers", Some(&name), evidence);
                Ending::Unknown
            }
        };
        self.note(world.now, Event::Wrote { op, ending });
    }

    /// Counts a put to which success was promised.
    fn keep<D: Disk>(&self, world: &mut World<D>, write: usize, promise: Promise, outcome: &Outcome) {
        let failed = match outcome {
            Outcome::Answered { .. } => false,
            // Its own history is what it fails by.
            Outcome::Refused { error: ApiError::TooManySiblings { .. }, .. } => return,
            _ => true,
        };
        world.coverage.hit(Mark::PutPromised);
        world.availability.join(Availability { promised: 1, failed: u64::from(failed) });
        if failed {
            let key = self.keys[self.writes[write].key].clone();
            let line = || format!("was promised success ({promise:?}) and comes to {outcome:?}");
            world.trace.say(world.now, &key, line);
        }
    }

    fn remember(&mut self, client: usize, key: usize, known: Known) {
        let contexts = self.contexts.entry(key).or_default();
        if contexts.len() == MOST_CONTEXTS {
            contexts.remove(0);
        }
        contexts.push(known.clone());
        self.latest.insert((client, key), known);
    }
}

/// Who has a put of which the key's primaries are `slots`.
fn holders(receipt: &Receipt, slots: &[usize], ids: &BTreeMap<NodeId, usize>) -> Vec<Holder> {
    let number = |node: usize| u16::try_from(node).expect("few nodes");
    let holder = |ack: &Ack| {
        let node = number(*ids.get(&ack.node).expect("members acknowledge"));
        let heir = ack.stand_in.then(|| number(slots[usize::from(ack.slot)]));
        Holder { node, synced: ack.synced, heir }
    };
    receipt.acks.iter().map(holder).collect()
}

/// What an answer shows; takes its values from those of the answer.
fn shown(siblings: &[SiblingMeta], values: &mut impl Iterator<Item = Bytes>) -> Vec<Shown> {
    let one = |meta: &SiblingMeta| Shown {
        write: meta.write_id,
        label: label_of(meta.dot),
        body: meta.len.map(|_| values.next().expect("an answer carries the values that it lists")),
    };
    siblings.iter().map(one).collect()
}
