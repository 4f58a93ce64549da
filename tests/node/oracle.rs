//! What was promised to clients, kept apart from the core's own bookkeeping: it knows only what was sent and shown.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dynkv::api::{GetReply, Reply, Response, SiblingMeta};
use dynkv::types::WriteId;
use dynkv::version::Dot;

/// A client's write, whatever became of it.
#[derive(Debug)]
pub struct Write {
    pub key: String,
    /// `None`: a delete.
    pub value: Option<String>,
    /// What its author had been shown, and what that had replaced.
    pub past: BTreeSet<WriteId>,
    pub acked: bool,
    /// More than one: a late twin may stand next to what has replaced the first.
    pub attempts: u32,
}

/// A context, and what its holder has been shown with it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub context: Option<Bytes>,
    pub past: BTreeSet<WriteId>,
}

#[derive(Debug, Default)]
pub struct Oracle {
    pub writes: BTreeMap<WriteId, Write>,
    dots: BTreeMap<(String, Dot), WriteId>,
}

impl Oracle {
    pub fn sent(&mut self, id: WriteId, key: &str, value: Option<&str>, after: &Shown) {
        let write = Write {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            past: after.past.clone(),
            acked: false,
            attempts: 0,
        };
        assert!(self.writes.insert(id, write).is_none());
    }

    /// No dot labels two writes, ever.
    pub fn saw_dot(&mut self, key: &str, dot: Dot, id: WriteId) {
        let first = *self.dots.entry((key.to_owned(), dot)).or_insert(id);
        assert_eq!(first, id, "{dot} of {key:?} labels two writes");
    }

    /// A put's answer; returns what its writer may write on.
    pub fn answered(&mut self, id: WriteId, response: &Response) -> Option<Shown> {
        let write = self.writes.get_mut(&id).expect("it was sent");
        let Ok(Reply::Put(receipt)) = &response.result else { return None };
        write.acked = true;
        let mut past = write.past.clone();
        past.insert(id);
        let key = write.key.clone();
        self.saw_dot(&key, receipt.dot, id);
        Some(Shown { context: Some(receipt.context.clone()), past })
    }

    /// A read's answer: nothing but what was written, whole, and nothing that its neighbours replace.
    pub fn read(&mut self, key: &str, reply: &GetReply, values: &[Bytes]) -> Shown {
        let mut values = values.iter();
        let mut past = BTreeSet::new();
        for SiblingMeta { dot, write_id, len, .. } in &reply.siblings {
            let write = self.writes.get(write_id).unwrap_or_else(|| panic!("{write_id:?} was never written"));
            let value = len.map(|_| String::from_utf8(values.next().expect("a value for each").to_vec()).unwrap());
            assert_eq!((write.key.as_str(), &write.value), (key, &value), "{write_id:?} comes back changed");
            past.extend(write.past.iter().copied());
            past.insert(*write_id);
            self.saw_dot(key, *dot, *write_id);
        }
        for SiblingMeta { write_id, .. } in &reply.siblings {
            let replaced = reply.siblings.iter().any(|other| self.writes[&other.write_id].past.contains(write_id));
            let twins = self.writes[write_id].attempts > 1;
            assert!(!replaced || twins, "{write_id:?} is shown next to what replaced it");
        }
        Shown { context: reply.context.clone(), past }
    }

    /// With every replica heard: each acknowledged write is there, or was replaced by one whose author had seen it.
    pub fn check_kept(&self, key: &str, reply: &GetReply) {
        let shown: BTreeSet<WriteId> = reply.siblings.iter().map(|sibling| sibling.write_id).collect();
        for (id, write) in self.writes.iter().filter(|(_, write)| write.acked && write.key == key) {
            let replaced = shown.iter().any(|other| self.writes[other].past.contains(id));
            assert!(
                shown.contains(id) || replaced,
                "{id:?} = {:?} of {key:?} is lost; there is {shown:?}",
                write.value
            );
        }
    }
}
