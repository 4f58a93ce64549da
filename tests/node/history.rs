//! Clients that read and write at random, and the oracle that listens.

use std::collections::BTreeMap;
use std::time::Duration;

use dynkv::api::{ApiError, Reply, Response};
use dynkv::storage::{Engine, Family, Record, ScanLimit, parse_object_key};
use dynkv::types::WriteId;
use rand::RngExt;

use crate::ask::{Ask, PATIENCE, With, delete, get, put};
use crate::oracle::{Oracle, Shown};
use crate::world::World;

enum Asking {
    Get(String),
    Put(WriteId),
}

/// What clients did, and what they know.
pub struct History {
    pub oracle: Oracle,
    open: BTreeMap<u64, Asking>,
    /// What the last reader or writer of a key was handed.
    known: BTreeMap<String, Shown>,
    next_write: u128,
    pub keys: u32,
    pub acked: usize,
    pub asked: usize,
}

impl History {
    pub fn new(keys: u32) -> History {
        let (oracle, open, known) = Default::default();
        History { oracle, open, known, next_write: 0, keys, acked: 0, asked: 0 }
    }

    fn key(&self, world: &mut World) -> String {
        format!("k{}", world.rng.random_range(0..self.keys))
    }

    /// One client does something at `node`.
    pub fn act(&mut self, world: &mut World, node: usize) {
        self.asked += 1;
        let key = self.key(world);
        match world.rng.random_range(0..10) {
            0..=2 => {
                let r = world.rng.random_range(1..=3);
                let id = world.send(node, get(&key, r));
                self.open.insert(id, Asking::Get(key));
            }
            3 if !self.oracle.writes.is_empty() => self.retry(world, node),
            _ => self.write(world, node, &key),
        }
    }

    fn write(&mut self, world: &mut World, node: usize, key: &str) {
        self.next_write += 1;
        let id = WriteId(self.next_write);
        let blind = world.rng.random_bool(0.4);
        let after = if blind { Shown::default() } else { self.known.get(key).cloned().unwrap_or_default() };
        let value = format!("{key}={}", id.0);
        let deletes = after.context.is_some() && world.rng.random_bool(0.2);
        self.oracle.sent(id, key, (!deletes).then_some(value.as_str()), &after);
        self.attempt(world, node, id, after.context.as_ref());
    }

    /// Another attempt at an earlier write: without its context, for an attempt may not replace more than the first.
    fn retry(&mut self, world: &mut World, node: usize) {
        let id = WriteId(world.rng.random_range(1..=self.next_write));
        let blind = self.oracle.writes[&id].past.is_empty();
        if blind {
            self.attempt(world, node, id, None);
        }
    }

    fn attempt(&mut self, world: &mut World, node: usize, id: WriteId, context: Option<&bytes::Bytes>) {
        // A node that hands a put on may come to make an attempt of its own.
        let attempts = if world.nodes.len() > 3 { 2 } else { 1 };
        let write = self.oracle.writes.get_mut(&id).expect("it was noted before it is sent");
        write.attempts += attempts;
        let mut put = match &write.value {
            Some(value) => put(&write.key, value, id.0),
            None => delete(&write.key, id.0),
        };
        if let Some(context) = context {
            put = put.after(context);
        }
        let patience = Duration::from_millis(world.rng.random_range(200..1500));
        let put = put.w(world.rng.random_range(1..=3)).within(patience);
        let sent = world.send(node, put.request());
        self.open.insert(sent, Asking::Put(id));
    }

    /// Takes in what has been answered.
    pub fn listen(&mut self, world: &World) {
        let answered: Vec<u64> = self.open.keys().copied().filter(|id| world.answer(*id).is_some()).collect();
        for sent in answered {
            let asking = self.open.remove(&sent).expect("it is open");
            let response = world.answer(sent).expect("it is answered");
            self.take(&asking, response);
        }
    }

    fn take(&mut self, asking: &Asking, response: &Response) {
        match (asking, &response.result) {
            (Asking::Get(key), Ok(Reply::Get(reply))) => {
                let shown = self.oracle.read(key, reply, &response.values);
                self.known.insert(key.clone(), shown);
            }
            (Asking::Put(id), Ok(_)) => {
                self.acked += 1;
                let shown = self.oracle.answered(*id, response).expect("a put is answered by a receipt");
                self.known.insert(self.oracle.writes[id].key.clone(), shown);
            }
            (Asking::Put(_), Err(error)) => {
                let honest = matches!(
                    error,
                    ApiError::Indeterminate { .. }
                        | ApiError::ReadOnly { .. }
                        | ApiError::NotReady { .. }
                        | ApiError::Overloaded
                        | ApiError::Expired
                );
                assert!(honest, "{error}");
            }
            (Asking::Get(_), Err(_)) => {}
            (asking, result) => panic!("{} is answered by {result:?}", matches!(asking, Asking::Get(_))),
        }
    }

    /// Every request was answered once, by its deadline, unless its process died.
    pub fn check_answers(&self, world: &World) {
        for (id, asked) in &world.answers {
            let survived = world.nodes[asked.node].process.is_some() && world.nodes[asked.node].run == asked.run;
            assert!(asked.answers.len() <= 1, "request {id} is answered twice: {:?}", asked.answers);
            assert!(asked.answers.len() == 1 || !survived, "request {id} is never answered");
            if let Some((at, response)) = asked.answers.first() {
                let waited = at.since(asked.at);
                assert!(waited <= PATIENCE + Duration::from_millis(5), "after {waited:?}: {response:?}");
            }
        }
    }

    /// Reads every key from all of its replicas, and every replica's disk.
    pub fn check_end(&mut self, world: &mut World) {
        for index in 0..self.keys {
            let key = format!("k{index}");
            let response = world.ask(0, get(&key, 3));
            let Ok(Reply::Get(reply)) = &response.result else { panic!("{key}: {response:?}") };
            self.oracle.read(&key, reply, &response.values);
            self.oracle.check_kept(&key, reply);
        }
        for node in &world.nodes {
            let oracle = &mut self.oracle;
            let mut visit = |place: &[u8], bytes: &[u8]| {
                let key = String::from_utf8(parse_object_key(place).unwrap().key.to_vec()).unwrap();
                let record = Record::decode(bytes::Bytes::copy_from_slice(bytes)).unwrap();
                for sibling in record.object.siblings() {
                    oracle.saw_dot(&key, sibling.dot, sibling.write_id);
                }
                std::ops::ControlFlow::Continue(())
            };
            node.engine.scan(Family::Objects, &[], None, ScanLimit::NONE, &mut visit).unwrap();
        }
    }
}
