//! Requests in few words, and what tests want to know of the answers.

use std::time::Duration;

use bytes::Bytes;
use dynkv::api::{self, ApiError, Deadline, GetReply, Put, PutHeader, Receipt, Reply, Request, Response};
use dynkv::quorum::Level;
use dynkv::ring::PreferenceList;
use dynkv::sim::World;
use dynkv::types::{Bucket, Key, NodeId, Token, WriteId};

pub const PATIENCE: Duration = Duration::from_secs(2);

pub fn key(name: &str) -> Key {
    Key::new(Bytes::copy_from_slice(name.as_bytes())).unwrap()
}

fn within(patience: Duration) -> Deadline {
    Deadline::after(patience, 0)
}

/// A put; its write id comes from `id`.
pub fn put(name: &str, value: &str, id: u128) -> Put {
    let header = PutHeader { deadline: within(PATIENCE), ..PutHeader::new(Bucket::default(), key(name), WriteId(id)) };
    Put { header, value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

pub fn delete(name: &str, id: u128) -> Put {
    let mut put = put(name, "", id);
    put.header.delete = true;
    put.value = None;
    put
}

/// Changes to a put, one after the other.
pub trait With: Sized {
    fn w(self, w: u8) -> Self;
    fn dw(self, dw: u8) -> Self;
    fn pw(self, pw: u8) -> Self;
    fn strict(self) -> Self;
    fn traced(self) -> Self;
    fn after(self, context: &Bytes) -> Self;
    fn within(self, patience: Duration) -> Self;
    fn bucket(self, bucket: &str) -> Self;
}

impl With for Put {
    fn w(mut self, w: u8) -> Put {
        self.header.w = Some(Level::Number(w));
        self
    }
    fn dw(mut self, dw: u8) -> Put {
        self.header.dw = Some(dw);
        self
    }
    fn pw(mut self, pw: u8) -> Put {
        self.header.pw = Some(Level::Number(pw));
        self
    }
    fn strict(mut self) -> Put {
        self.header.strict = true;
        self
    }
    fn traced(mut self) -> Put {
        self.header.trace = true;
        self
    }
    fn after(mut self, context: &Bytes) -> Put {
        self.header.context = Some(context.clone());
        self
    }
    fn within(mut self, patience: Duration) -> Put {
        self.header.deadline = within(patience);
        self
    }
    fn bucket(mut self, bucket: &str) -> Put {
        self.header.bucket = Bucket::new(bucket).unwrap();
        self
    }
}

pub fn get(name: &str, r: u8) -> Request {
    get_of(Bucket::DEFAULT, name, r)
}

pub fn get_of(bucket: &str, name: &str, r: u8) -> Request {
    Request::Get(api::Get {
        r: Some(Level::Number(r)),
        deadline: within(PATIENCE),
        ..api::Get::new(Bucket::new(bucket).unwrap(), key(name))
    })
}

/// Changes to a get, one after the other.
pub trait ReadWith: Sized {
    fn pr(self, pr: u8) -> Self;
    fn strict(self) -> Self;
    fn traced(self) -> Self;
    fn blocking(self) -> Self;
    fn after(self, token: &Bytes) -> Self;
}

impl ReadWith for Request {
    fn pr(mut self, pr: u8) -> Request {
        get_in(&mut self).pr = Some(Level::Number(pr));
        self
    }
    fn strict(mut self) -> Request {
        get_in(&mut self).strict = true;
        self
    }
    fn traced(mut self) -> Request {
        get_in(&mut self).trace = true;
        self
    }
    fn blocking(mut self) -> Request {
        get_in(&mut self).blocking_repair = true;
        self
    }
    fn after(mut self, token: &Bytes) -> Request {
        get_in(&mut self).after = Some(token.clone());
        self
    }
}

fn get_in(request: &mut Request) -> &mut api::Get {
    let Request::Get(get) = request else { panic!("not a get: {request:?}") };
    get
}

pub fn whereabouts(name: &str) -> Request {
    Request::Where(api::Where { bucket: Bucket::default(), key: key(name), deadline: within(PATIENCE) })
}

/// What a response turned out to be; anything else fails the test.
pub trait Expect {
    fn receipt(self) -> Receipt;
    fn found(self) -> Found;
    fn refused(self) -> ApiError;
}

/// A get's answer.
#[derive(Debug)]
pub struct Found {
    pub reply: GetReply,
    pub values: Vec<String>,
}

impl Found {
    pub fn context(&self) -> &Bytes {
        self.reply.context.as_ref().expect("there is something to follow")
    }
}

impl Expect for Response {
    #[track_caller]
    fn receipt(self) -> Receipt {
        match self.result {
            Ok(Reply::Put(receipt)) => receipt,
            other => panic!("no receipt: {other:?}"),
        }
    }

    #[track_caller]
    fn found(self) -> Found {
        match self.result {
            Ok(Reply::Get(reply)) => {
                let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
                Found { reply, values: self.values.iter().map(text).collect() }
            }
            other => panic!("no answer: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(self) -> ApiError {
        match self.result {
            Err(error) => error,
            Ok(reply) => panic!("not refused: {reply:?}"),
        }
    }
}

/// Both a request and a put can be asked.
pub trait Ask {
    fn request(self) -> Request;
}

impl Ask for Request {
    fn request(self) -> Request {
        self
    }
}

impl Ask for Put {
    fn request(self) -> Request {
        Request::Put(self)
    }
}

/// Clients of a world.
pub trait Asking {
    /// A client sends a request to a node; nothing has happened yet.
    fn begin(&mut self, node: usize, request: impl Ask) -> u64;

    /// A client sends a request and waits for the answer.
    fn ask(&mut self, node: usize, request: impl Ask) -> Response;

    /// The nodes that hold a key of the default bucket, by slot, and then the others.
    fn replicas(&self, name: &str) -> (Vec<usize>, Vec<usize>);

    /// The same, the first in the order in which they are to coordinate its writes.
    fn coordinators(&self, name: &str) -> (Vec<usize>, Vec<usize>);
}

impl Asking for World {
    fn begin(&mut self, node: usize, request: impl Ask) -> u64 {
        self.send(node, &request.request())
    }

    #[track_caller]
    fn ask(&mut self, node: usize, request: impl Ask) -> Response {
        let id = self.begin(node, request);
        self.wait(id)
    }

    fn replicas(&self, name: &str) -> (Vec<usize>, Vec<usize>) {
        holders(self, name, |list, _| list.slots().to_vec())
    }

    fn coordinators(&self, name: &str) -> (Vec<usize>, Vec<usize>) {
        holders(self, name, PreferenceList::coordinators)
    }
}

fn holders(
    world: &World,
    name: &str,
    primaries: impl Fn(&PreferenceList, Token) -> Vec<NodeId>,
) -> (Vec<usize>, Vec<usize>) {
    let view = world.view();
    let bucket = Bucket::default();
    let (partition, token) = view.partition_of(&bucket, &key(name));
    let list = view.preference(partition, &bucket).unwrap();
    let id_of = |node: &str| view.layout().member_named(node).unwrap().id;
    let index = |id: &NodeId| world.nodes.iter().position(|node| id_of(&node.config.name) == *id);
    (primaries(list, token).iter().filter_map(index).collect(), list.stand_ins().iter().filter_map(index).collect())
}
