//! Real histories of one key, and an oracle that knows nothing of dots.
//!
//! Three replicas take puts and exchange copies while their disks are wiped, fall back to an earlier state, are swapped
//! for old copies, or lose the record of their own actor. Copies once sent arrive late, twice, or after their sender has
//! forgotten them; contexts once shown come back at any time. Beside each object runs the set of writes that it has
//! known; each write keeps the set that its author had been shown. From these sets alone follows what every object and
//! every context must be, and each step is checked against that.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::context;
use crate::types::{Generation, NodeId, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Own, Sibling, Trust, mint};

/// A write's index in [`World::writes`]; the sets of these are causal histories.
type History = BTreeSet<usize>;

const REPLICAS: usize = 3;

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A client writes, with the context shown `shown` contexts ago (wrapping around).
    Put { at: usize, shown: usize, delete: bool },
    /// A client is shown the merge of two replicas' copies.
    Get { from: usize, and: usize },
    /// A replica's copy leaves, and arrives at another; it can arrive again later.
    Sync { from: usize, to: usize },
    /// The copy sent `sent` copies ago arrives.
    Deliver { sent: usize, to: usize },
    /// The disk's state of now is what a later crash or restore goes back to.
    Snapshot { at: usize },
    /// Power is lost, and all since the snapshot `back` snapshots ago with it: trust starts anew.
    Crash { at: usize, back: usize },
    /// The directory is swapped for an old copy of a cleanly stopped one: peers never grant its generation.
    RestoreCopy { at: usize, back: usize },
    /// An empty disk: a generation above all that the peers know.
    Wipe { at: usize },
    /// A clean stop and start: trusted as before once it is granted.
    Restart { at: usize },
    /// A majority of the peers grants the generation, unless the directory is an old copy.
    Grant { at: usize },
    /// A corrupt range was rebuilt: records stay or return without their own actors.
    LoseOwn { at: usize },
}

/// Puts and exchange in three of four actions, forgetting of all kinds in the rest.
pub(super) fn actions() -> impl Strategy<Value = Vec<Action>> {
    let at = || 0..REPLICAS;
    let recent = || prop_oneof![3 => 0usize..3, 1 => 0usize..64];
    let action = prop_oneof![
        8 => (at(), recent(), prop::bool::weighted(0.2)).prop_map(|(at, shown, delete)| Action::Put { at, shown, delete }),
        3 => (at(), at()).prop_map(|(from, and)| Action::Get { from, and }),
        4 => (at(), at()).prop_map(|(from, to)| Action::Sync { from, to }),
        3 => (recent(), at()).prop_map(|(sent, to)| Action::Deliver { sent, to }),
        2 => at().prop_map(|at| Action::Snapshot { at }),
        1 => (at(), 0usize..3).prop_map(|(at, back)| Action::Crash { at, back }),
        1 => (at(), 0usize..3).prop_map(|(at, back)| Action::RestoreCopy { at, back }),
        1 => at().prop_map(|at| Action::Wipe { at }),
        1 => at().prop_map(|at| Action::Restart { at }),
        2 => at().prop_map(|at| Action::Grant { at }),
        1 => at().prop_map(|at| Action::LoseOwn { at }),
    ];
    prop::collection::vec(action, 0..60)
}

struct Write {
    dot: Dot,
    body: Body,
    past: History,
}

/// An object wherever it is, and the writes that it has known.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    pub(super) object: Option<Object>,
    pub(super) known: History,
}

/// What a disk holds.
#[derive(Clone)]
struct Disk {
    copy: Copy,
    own: Option<Own>,
    generation: Generation,
    trusted_since: Generation,
    /// An old copy of a directory, or a descendant of one.
    stale: bool,
}

struct Replica {
    disk: Disk,
    granted: bool,
    snapshots: Vec<Disk>,
    greatest_generation: u64,
}

pub(super) struct World {
    replicas: Vec<Replica>,
    writes: Vec<Write>,
    shown: Vec<(CausalContext, History)>,
    sent: Vec<Copy>,
    actors_drawn: u64,
}

impl World {
    /// Plays a history, checking every step.
    pub(super) fn after(actions: &[Action]) -> World {
        let first = Generation(1);
        let disk = Disk { copy: Copy::default(), own: None, generation: first, trusted_since: first, stale: false };
        let replica =
            || Replica { disk: disk.clone(), granted: true, snapshots: vec![disk.clone()], greatest_generation: 1 };
        let mut world = World {
            replicas: (0..REPLICAS).map(|_| replica()).collect(),
            writes: Vec::new(),
            shown: vec![(CausalContext::new(), History::new())],
            sent: Vec::new(),
            actors_drawn: 0,
        };
        for &action in actions {
            world.step(action);
        }
        world
    }

    /// Every object that is, or was once sent, so may yet arrive.
    pub(super) fn copies(&self) -> impl Iterator<Item = &Copy> {
        let stored = self.replicas.iter().map(|replica| &replica.disk.copy);
        self.sent.iter().chain(stored).filter(|copy| copy.object.is_some())
    }

    /// The objects of [`copies`](World::copies), the latest `most` of them.
    pub(super) fn objects(&self, most: usize) -> Vec<Object> {
        let mut objects: Vec<Object> = self.copies().filter_map(|copy| copy.object.clone()).collect();
        objects.drain(..objects.len().saturating_sub(most));
        objects
    }

    /// Whether the author of `later` had been shown `earlier`.
    pub(super) fn replaced(&self, earlier: usize, later: usize) -> bool {
        self.writes[later].past.contains(&earlier)
    }

    fn step(&mut self, action: Action) {
        match action {
            Action::Put { at, shown, delete } => self.put(at, shown, delete),
            Action::Get { from, and } => {
                let copy = self.merged(&self.replicas[from].disk.copy, &self.replicas[and].disk.copy);
                if let Some(object) = copy.object {
                    self.shown.push((object.context().clone(), copy.known));
                }
            }
            Action::Sync { from, to } => {
                self.sent.push(self.replicas[from].disk.copy.clone());
                self.deliver(self.sent.len() - 1, to);
            }
            Action::Deliver { sent, to } if !self.sent.is_empty() => {
                self.deliver(self.sent.len() - 1 - sent % self.sent.len(), to);
            }
            Action::Deliver { .. } => {}
            _ => self.forget(action),
        }
    }

    fn put(&mut self, at: usize, shown: usize, delete: bool) {
        let (client, past) = self.shown[self.shown.len() - 1 - shown % self.shown.len()].clone();
        let Replica { disk, granted, .. } = &mut self.replicas[at];
        let trust = Trust { generation: disk.generation, trusted_since: disk.trusted_since, granted: *granted };
        self.actors_drawn += 1;
        // An odd factor: distinct, and in no order.
        let fresh = Actor(self.actors_drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (dot, own) = mint(disk.copy.object.as_ref(), disk.own, &client, &trust, fresh);
        assert!(self.writes.iter().all(|write| write.dot != dot), "{dot} is minted twice");

        let id = self.writes.len();
        let body = if delete { Body::Tombstone } else { Body::Value(format!("value {id}").into()) };
        let wall_ms = (id as u64).wrapping_mul(0x1234_5678_9abc) >> (id % 40);
        let sibling =
            Sibling { dot, write_id: WriteId(id as u128), node: NodeId(at as u64), wall_ms, body: body.clone() };
        disk.copy.object = Some(Object::update(disk.copy.object.as_ref(), &client, sibling));
        disk.copy.known.extend(past.iter().copied().chain([id]));
        disk.own = Some(own);
        let copy = disk.copy.clone();

        let (mut handed_back, mut seen) = (client, past.clone());
        handed_back.insert(dot);
        seen.insert(id);
        self.writes.push(Write { dot, body, past });
        assert_eq!(handed_back, self.context_of(&seen), "a put hands back what its client was shown and its own dot");
        self.shown.push((handed_back, seen));
        self.check(&copy);
    }

    fn deliver(&mut self, sent: usize, to: usize) {
        let incoming = self.sent[sent].clone();
        let merged = self.merged(&self.replicas[to].disk.copy, &incoming);
        let disk = &mut self.replicas[to].disk;
        if let (Some(local), Some(incoming)) = (&disk.copy.object, &incoming.object) {
            disk.own = Own::surviving(disk.own, local.context(), incoming.context());
        }
        disk.copy = merged;
    }

    fn merged(&self, a: &Copy, b: &Copy) -> Copy {
        let object = match (&a.object, &b.object) {
            (Some(a), Some(b)) => Some(a.merge(b)),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        let copy = Copy { object, known: a.known.union(&b.known).copied().collect() };
        self.check(&copy);
        copy
    }

    fn forget(&mut self, action: Action) {
        match action {
            Action::Snapshot { at } => {
                let disk = self.replicas[at].disk.clone();
                self.replicas[at].snapshots.push(disk);
            }
            Action::Crash { at, back } => {
                let replica = &mut self.replicas[at];
                let next = Generation(replica.disk.generation.0 + 1);
                let stale = replica.disk.stale;
                let rewound = replica.rewound(back);
                replica.start(Disk { generation: next, trusted_since: next, stale, ..rewound });
            }
            Action::RestoreCopy { at, back } => {
                let old = self.replicas[at].rewound(back);
                let next = Generation(old.generation.0 + 1);
                self.replicas[at].start(Disk { generation: next, stale: true, ..old });
            }
            Action::Wipe { at } => {
                let next = Generation(self.replicas[at].greatest_generation + 1);
                let copy = Copy::default();
                let empty = Disk { copy, own: None, generation: next, trusted_since: next, stale: false };
                self.replicas[at].start(empty);
            }
            Action::Restart { at } => {
                let disk = self.replicas[at].disk.clone();
                self.replicas[at].start(Disk { generation: Generation(disk.generation.0 + 1), ..disk });
            }
            Action::Grant { at } => self.replicas[at].granted |= !self.replicas[at].disk.stale,
            Action::LoseOwn { at } => self.replicas[at].disk.own = None,
            Action::Put { .. } | Action::Get { .. } | Action::Sync { .. } | Action::Deliver { .. } => {
                unreachable!("{action:?} forgets nothing")
            }
        }
    }

    fn context_of(&self, known: &History) -> CausalContext {
        context(known.iter().map(|&id| self.writes[id].dot))
    }

    /// The object's context is what it has known, its siblings what nothing it has known replaced: no more, no less.
    #[track_caller]
    fn check(&self, copy: &Copy) {
        let Some(object) = &copy.object else { return assert!(copy.known.is_empty()) };
        assert_eq!(*object.context(), self.context_of(&copy.known));
        let unreplaced = |&id: &usize| !copy.known.iter().any(|&later| self.replaced(id, later));
        let mut due: Vec<_> = copy.known.iter().copied().filter(unreplaced).collect();
        due.sort_by_key(|&id| self.writes[id].dot);
        let held: Vec<_> = object.siblings().iter().map(|sibling| sibling.write_id.0 as usize).collect();
        assert_eq!(held, due);
        for sibling in object.siblings() {
            let write = &self.writes[sibling.write_id.0 as usize];
            assert_eq!((sibling.dot, &sibling.body), (write.dot, &write.body));
        }
    }
}

impl Replica {
    /// Goes back to the state `back` snapshots ago; later ones are a future that did not happen.
    fn rewound(&mut self, back: usize) -> Disk {
        let at = self.snapshots.len().saturating_sub(1 + back);
        self.snapshots.truncate(at + 1);
        self.snapshots[at].clone()
    }

    fn start(&mut self, disk: Disk) {
        self.greatest_generation = self.greatest_generation.max(disk.generation.0);
        self.disk = disk;
        self.granted = false;
    }
}
