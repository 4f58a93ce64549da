//! Clients that read and write one key at random nodes, and whether what they were told held.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use dynkv::api::{ApiError, GetReply, Put, Receipt, Reply, Response, SiblingMeta};
use dynkv::sim::oracle::{
    Conflict, Ending, Event, History, Holder, KeyId, Label, OpId, Shown, Sufficiency, Verdict, judge,
};
use dynkv::sim::{Disk, World};
use dynkv::storage::{Engine, Family, Record, ScanLimit};
use dynkv::types::WriteId;
use dynkv::version::Dot;
use rand::RngExt;

use crate::ask::{Asking, With, delete, get, put};

const KEY: &str = "k";
const THE_KEY: KeyId = KeyId(0);
/// Runs with fewer acknowledged writes prove nothing.
const ENOUGH: Sufficiency = Sufficiency { acked: 10, under_fault_percent: 0 };

/// What a request under way is.
enum Open {
    Read(OpId),
    Write(OpId, WriteId),
}

/// See the module.
pub struct Writers {
    history: History,
    open: BTreeMap<u64, Open>,
    /// The writes so far, without what is drawn anew for each attempt; the number of a write is its place, from 1.
    writes: Vec<(Put, Option<OpId>)>,
    /// What the last reader or writer was handed, and by which operation.
    known: Option<(Bytes, OpId)>,
    dots: BTreeMap<Dot, WriteId>,
    ops: u32,
}

impl Writers {
    pub fn new() -> Writers {
        let history = History { keys: vec![Conflict::Siblings], replicas: 3, ..History::default() };
        let (open, writes, known, dots) = Default::default();
        Writers { history, open, writes, known, dots, ops: 0 }
    }

    fn note(&mut self, world: &World, event: Event) {
        self.history.events.push((world.now, event));
    }

    fn next_op(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }

    /// One client does something at `node`.
    pub fn act(&mut self, world: &mut World, node: usize) {
        match world.rng.random_range(0..10) {
            0..=2 => {
                let r = world.rng.random_range(1..=3);
                self.read(world, node, r);
            }
            3 if !self.writes.is_empty() => {
                let write = world.rng.random_range(0..self.writes.len());
                self.attempt(world, node, write);
            }
            _ => self.write(world, node),
        }
    }

    fn read(&mut self, world: &mut World, node: usize, r: u8) -> u64 {
        let op = self.next_op();
        self.note(world, Event::Read { op, key: THE_KEY, replicas: r });
        let sent = world.begin(node, get(KEY, r));
        self.open.insert(sent, Open::Read(op));
        sent
    }

    fn write(&mut self, world: &mut World, node: usize) {
        let id = self.writes.len() as u128 + 1;
        let blind = world.rng.random_bool(0.4);
        let put = match self.known.clone().filter(|_| !blind) {
            None => (put(KEY, &id.to_string(), id), None),
            Some((context, basis)) => {
                let deletes = world.rng.random_bool(0.2);
                let put = if deletes { delete(KEY, id) } else { put(KEY, &id.to_string(), id) };
                (put.after(&context), Some(basis))
            }
        };
        self.writes.push(put);
        self.attempt(world, node, self.writes.len() - 1);
    }

    fn attempt(&mut self, world: &mut World, node: usize, write: usize) {
        let op = self.next_op();
        let (put, basis) = self.writes[write].clone();
        let (id, body) = (put.header.write_id, put.value.clone());
        self.note(world, Event::Write { op, key: THE_KEY, write: id, body, basis });
        let patience = Duration::from_millis(world.rng.random_range(200..1500));
        let put = put.w(world.rng.random_range(1..=3)).within(patience);
        let sent = world.begin(node, put);
        self.open.insert(sent, Open::Write(op, id));
    }

    /// Takes in what has been answered.
    pub fn listen(&mut self, world: &World) {
        let answered: Vec<u64> = self.open.keys().copied().filter(|id| world.answer(*id).is_some()).collect();
        for sent in answered {
            let open = self.open.remove(&sent).expect("it is open");
            let response = world.answer(sent).expect("it is answered").clone();
            self.take(world, &open, response);
        }
    }

    fn take(&mut self, world: &World, open: &Open, response: Response) {
        match (open, response.result) {
            (Open::Read(op), Ok(Reply::Get(reply))) => {
                let siblings = self.shown(&reply, response.values);
                self.note(world, Event::Answered { op: *op, siblings, stood_in: 0 });
                self.known = reply.context.map(|context| (context, *op));
            }
            (Open::Read(_), Err(_)) => {}
            (Open::Write(op, id), Ok(Reply::Put(receipt))) => {
                self.saw_dot(receipt.dot, *id);
                self.note(world, Event::Wrote { op: *op, ending: acked(world, &receipt) });
                self.known = Some((receipt.context, *op));
            }
            (Open::Write(op, _), Err(error)) => self.note(world, Event::Wrote { op: *op, ending: failed(&error) }),
            (Open::Read(_) | Open::Write(..), other) => panic!("an answer to something else: {other:?}"),
        }
    }

    fn shown(&mut self, reply: &GetReply, values: Vec<Bytes>) -> Vec<Shown> {
        let mut values = values.into_iter();
        let mut one = |SiblingMeta { dot, write_id, len, .. }: &SiblingMeta| {
            self.saw_dot(*dot, *write_id);
            let body = len.map(|_| values.next().expect("a value for each"));
            Shown { write: *write_id, label: label_of(*dot), body }
        };
        reply.siblings.iter().map(&mut one).collect()
    }

    /// No dot labels two writes, ever.
    fn saw_dot(&mut self, dot: Dot, id: WriteId) {
        let first = *self.dots.entry(dot).or_insert(id);
        assert_eq!(first, id, "{dot} labels two writes");
    }

    /// Looks at every disk, reads the key from all of its replicas, and has all that was told judged. No loss excuses
    /// anything: what was acknowledged has to be there.
    pub fn check_end(mut self, world: &mut World) {
        for node in &world.nodes {
            let mut visit = |_: &[u8], bytes: &[u8]| {
                let record = Record::decode(Bytes::copy_from_slice(bytes)).unwrap();
                record.object.siblings().iter().for_each(|sibling| self.saw_dot(sibling.dot, sibling.write_id));
                ControlFlow::Continue(())
            };
            node.disk.engine().scan(Family::Objects, &[], None, ScanLimit::NONE, &mut visit).unwrap();
        }
        let last = self.read(world, 0, 3);
        assert!(world.wait(last).result.is_ok(), "{:?}", world.answer(last));
        self.listen(world);
        let Some((_, Event::Answered { siblings, .. })) = self.history.events.last().cloned() else {
            unreachable!("it is the latest request, and nobody else still waits");
        };
        self.note(world, Event::Final { key: THE_KEY, siblings });
        assert_eq!(world.breach(), None);
        let verdict = judge(&self.history, ENOUGH);
        assert!(matches!(verdict, Verdict::Ok(_)), "{verdict:?}");
    }
}

fn label_of(dot: Dot) -> Label {
    Label((dot.actor.0, dot.counter))
}

fn acked(world: &World, receipt: &Receipt) -> Ending {
    let view = world.view();
    let node_of = |id| {
        let member = view.layout().members().iter().find(|member| member.id == id).expect("members acknowledge");
        world.nodes.iter().position(|node| node.config.name == member.name).unwrap()
    };
    let holder = |ack: &dynkv::api::Ack| Holder { node: node_of(ack.node) as u16, synced: ack.synced, heir: None };
    Ending::Acked { label: label_of(receipt.dot), by: receipt.acks.iter().map(holder).collect() }
}

/// What a put may fail with when nothing is wrong with it.
fn failed(error: &ApiError) -> Ending {
    match error {
        ApiError::Indeterminate { .. } => Ending::Unknown,
        ApiError::ReadOnly { .. } | ApiError::NotReady { .. } | ApiError::Overloaded | ApiError::Expired => {
            Ending::Refused
        }
        other => panic!("a good put is refused: {other}"),
    }
}
