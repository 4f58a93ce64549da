//! What is done to a key's record: pure, so that the daemon, the simulation and the tests do the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hint, HintDrop, HintFound, NewHint, Record};
use crate::types::{NodeId, Round, WriteId};
use crate::version::{Actor, Body, CausalContext, Digest, Dot, Object, Own, Sibling, Trust, mint};

/// A write that this node coordinates.
#[derive(Clone, Debug)]
pub struct Update {
    /// What the writer had been shown.
    pub client: CausalContext,
    /// The writer's id of the write.
    pub write_id: WriteId,
    /// This node.
    pub node: NodeId,
    /// This node's wall clock.
    pub wall_ms: u64,
    /// A value or a tombstone.
    pub body: Body,
    /// The bucket keeps only the latest write.
    pub last_write_wins: bool,
    /// The most siblings that a write may leave.
    pub max_siblings: u32,
    /// How far this node may trust what it remembers of its own actors.
    pub trust: Trust,
    /// An actor never used before, should it need one.
    pub fresh: Actor,
}

#[cfg(test)]
impl Update {
    /// A blind delete by a trusted node; its id, its time and its fresh actor are `nth`.
    pub(crate) fn nth(nth: u64) -> Update {
        let generation = crate::types::Generation(1);
        Update {
            client: CausalContext::default(),
            write_id: WriteId(nth.into()),
            node: NodeId(1),
            wall_ms: nth,
            body: Body::Tombstone,
            last_write_wins: false,
            max_siblings: 100,
            trust: Trust { generation, trusted_since: generation, granted: true },
            fresh: Actor(nth),
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Op {
    /// Nothing: look.
    Read,
    /// Mint a dot for a write.
    Update(Box<Update>),
    /// Mint a dot for a write of a key that has no slot here: nothing is read, and nothing is written.
    Mint(Box<Update>),
    /// Merge what another replica sent, or what a node without a slot of the key keeps for others; unless it was read before
    /// a round that this store has met since.
    Merge {
        /// What.
        object: Arc<Object>,
        /// The round of the store that it was read from, then; of a merge, the lowest of its parts'.
        round: Round,
        /// For whom it is to be kept: each gets a hint, or has it renewed.
        hints: Vec<NewHint>,
    },
    /// Look at what is kept for a node.
    ReadHint {
        /// The node.
        target: NodeId,
    },
    /// The target holds `sent` on its disk: drop its hint, unless more was missed since.
    DropHint {
        /// The target.
        target: NodeId,
        /// The hint's digest when `sent` was read.
        digest: Digest,
        /// The digest of the object that the target holds.
        sent: Digest,
        /// The object stays without hints too: this node is a primary of the key.
        keep_object: bool,
    },
    /// Give up what is kept for a node, though nobody has acknowledged it.
    DiscardHint {
        /// The node.
        target: NodeId,
        /// Even if a write was acknowledged because of it: the operator's decision, never this node's.
        counted_too: bool,
        /// As for [`Op::DropHint`].
        keep_object: bool,
    },
    /// Raise the round of the key's partition to this one, unless it is there already, and look.
    Adopt {
        /// Another store's round.
        round: Round,
    },
    /// Say what stands, apart from a tombstone that is to be reaped.
    Inspect {
        /// The tombstone's object.
        digest: Digest,
    },
    /// The same as [`Op::Adopt`], and delete the record if nothing is in it but a tombstone that all members were asked about.
    Reap {
        /// The round that they were asked in.
        round: Round,
        /// The tombstone's object.
        digest: Digest,
    },
}

impl Op {
    /// Whether it may write.
    pub fn is_write(&self) -> bool {
        !matches!(self, Op::Read | Op::ReadHint { .. } | Op::Inspect { .. } | Op::Mint(_))
    }

    /// Whether it writes a record in which no value of this one's is left: whoever runs it need not know them.
    pub(super) fn replaces_all_of(&self, old: &Object) -> bool {
        match self {
            Op::Update(update) if update.last_write_wins => true,
            Op::Update(update) => old.siblings().iter().all(|sibling| update.client.contains(sibling.dot)),
            Op::Merge { object, .. } => old.is_replaced_by(object),
            _ => false,
        }
    }

    /// The round that the store is to have met before it is applied.
    pub(super) fn raises_to(&self) -> Option<Round> {
        match self {
            Op::Adopt { round } | Op::Reap { round, .. } => Some(*round),
            _ => None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What stands.
    Read {
        /// `None` if there is no record.
        object: Option<Arc<Object>>,
        /// The partition's round.
        round: Round,
    },
    /// The dot was minted.
    Updated {
        /// The object that now stands.
        object: Arc<Object>,
        /// The write's dot.
        dot: Dot,
        /// The partition's round.
        round: Round,
    },
    /// The write would leave too many siblings; nothing was written.
    TooManySiblings {
        /// How many there would be.
        count: u32,
    },
    /// Merged; it may have changed nothing.
    Merged {
        /// What was merged into the record.
        incoming: Arc<Object>,
    },
    /// It was read before a round that this store has met, and may hold what has been reaped since: nothing was written.
    Fenced {
        /// This store's round.
        round: Round,
    },
    /// What stands.
    Inspected {
        /// That.
        holds: Holds,
        /// The partition's round.
        round: Round,
    },
    /// The record of this object is gone; or (`None`) there is none, or it is not what all members were asked about.
    Reaped(Option<Arc<Object>>),
    /// The hint, if there is one.
    Hint(Option<HintFound>),
    /// What became of the hint.
    HintDropped(HintDrop),
}

/// What stands under a key whose tombstone is to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// No record.
    Nothing,
    /// This tombstone, and nobody waits for it.
    Tombstone,
    /// Anything else, or it cannot be told.
    Other,
}

/// What becomes of a key's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    Keep,
    /// This one takes its place.
    Put(Record),
    /// There is none any more.
    Delete,
}

/// Applies `op` to the record that stands (`None`: none does), in a store whose round of the key's partition is `at`.
pub fn apply(op: Op, current: Option<&Record>, at: Round) -> (Change, Outcome) {
    match op {
        Op::Read | Op::Adopt { .. } => {
            (Change::Keep, Outcome::Read { object: current.map(|record| record.object.clone()), round: at })
        }
        Op::Update(update) => apply_update(*update, current, at),
        Op::Mint(update) => (Change::Keep, apply_update(*update, None, at).1),
        Op::Merge { round, object, hints } if round < at && !is_only_hinted(&object, &hints, current) => {
            (Change::Keep, Outcome::Fenced { round: at })
        }
        Op::Merge { object, hints, .. } => {
            (apply_merge(object.clone(), &hints, current), Outcome::Merged { incoming: object })
        }
        Op::Inspect { digest } => {
            (Change::Keep, Outcome::Inspected { holds: Record::holds(current, digest), round: at })
        }
        Op::Reap { digest, .. } => {
            let reaped = current.filter(|record| record.is_only_tombstone(digest));
            let change = if reaped.is_some() { Change::Delete } else { Change::Keep };
            (change, Outcome::Reaped(reaped.map(|record| record.object.clone())))
        }
        Op::ReadHint { target } => {
            let found = |record: &Record| {
                Some(HintFound { hint: *record.hint(target)?, object: record.object.clone(), round: at })
            };
            (Change::Keep, Outcome::Hint(current.and_then(found)))
        }
        Op::DropHint { target, digest, sent, keep_object } => {
            let (change, end) = drop_hint(
                target,
                current,
                |record, hint| {
                    let orphan = !keep_object && record.stands_in && record.hints.len() == 1;
                    // Whoever deletes the object must know that all of it is elsewhere.
                    hint.digest == digest && (!orphan || record.object.digest() == sent)
                },
                keep_object,
            );
            (change, Outcome::HintDropped(end))
        }
        Op::DiscardHint { target, counted_too, keep_object } => {
            let (change, end) = drop_hint(target, current, |_, hint| counted_too || !hint.counted, keep_object);
            (change, Outcome::HintDropped(end))
        }
    }
}

/// Whether a merge brings nothing but hints: what it holds stands here already.
fn is_only_hinted(object: &Object, hints: &[NewHint], current: Option<&Record>) -> bool {
    !hints.is_empty() && current.is_some_and(|record| record.object.merges_to_self(object))
}

fn apply_update(update: Update, current: Option<&Record>, at: Round) -> (Change, Outcome) {
    let local = current.map(|record| &*record.object);
    let own = current.and_then(|record| record.own);
    let (mut dot, mut own) = mint(local, own, &update.client, &update.trust, update.fresh);
    if mutant!(ActorOutlivesItsState) {
        let actor = Actor(update.node.0);
        let known = local.map_or(0, |local| local.context().counter_of(actor));
        dot = Dot { actor, counter: known.max(update.client.counter_of(actor)) + 1 };
        own.actor = actor;
    }
    let sibling =
        Sibling { dot, write_id: update.write_id, node: update.node, wall_ms: update.wall_ms, body: update.body };
    let object = if update.last_write_wins {
        Object::update_lww(local, &update.client, sibling)
    } else {
        Object::update(local, &update.client, sibling)
    };
    let count = u32::try_from(object.siblings().len()).unwrap_or(u32::MAX);
    let before = local.map_or(0, |local| local.siblings().len());
    // A write that resolves some of too many is let through: refusing it would leave no way out.
    if count > update.max_siblings && object.siblings().len() > before {
        return (Change::Keep, Outcome::TooManySiblings { count });
    }
    let object = Arc::new(object);
    // What the hints were given for is in this object too.
    let hints = current.map_or_else(Vec::new, |record| record.hints.clone());
    let record = Record { own: Some(own), hints, stands_in: false, object: object.clone() };
    (Change::Put(record), Outcome::Updated { object, dot, round: at })
}

fn apply_merge(incoming: Arc<Object>, given: &[NewHint], current: Option<&Record>) -> Change {
    let Some(record) = current else {
        let mut record = Record { own: None, hints: Vec::new(), stands_in: !given.is_empty(), object: incoming };
        record.give_hints(given);
        return Change::Put(record);
    };
    // What comes without hints comes to a primary, which keeps it.
    let stands_in = record.stands_in && !given.is_empty();
    if record.object.merges_to_self(&incoming) {
        if given.is_empty() && !record.stands_in {
            return Change::Keep;
        }
        let mut hinted = Record { stands_in, ..record.clone() };
        let changed = hinted.give_hints(given) || record.stands_in != stands_in;
        return if changed { Change::Put(hinted) } else { Change::Keep };
    }
    // Whoever knows later counters of our actor than we do has met a state that this node forgot.
    let own = Own::surviving(record.own, record.object.context(), incoming.context());
    let object = Arc::new(record.object.merge(&incoming));
    let mut merged = Record { own, hints: record.hints.clone(), stands_in, object };
    merged.give_hints(given);
    Change::Put(merged)
}

/// Drops the target's hint if it `may` be dropped. The record goes with its last hint only where it was there for hints
/// alone: what was written or merged as a primary may be the only copy, whoever is a primary today.
fn drop_hint(
    target: NodeId,
    current: Option<&Record>,
    may: impl FnOnce(&Record, &Hint) -> bool,
    keep_object: bool,
) -> (Change, HintDrop) {
    let found = current.and_then(|record| Some((record, record.hint(target)?)));
    let Some((record, hint)) = found else { return (Change::Keep, HintDrop::Absent) };
    if !may(record, hint) {
        return (Change::Keep, HintDrop::Kept);
    }
    let is_last = record.hints.len() == 1;
    if is_last && record.stands_in && !keep_object {
        return (Change::Delete, HintDrop::Dropped);
    }
    let mut rest = record.clone();
    rest.stands_in &= !keep_object;
    rest.hints.retain(|hint| hint.target != target);
    (Change::Put(rest), HintDrop::Dropped)
}

impl Record {
    /// What is kept for a node.
    pub fn hint(&self, target: NodeId) -> Option<&Hint> {
        self.hints.binary_search_by_key(&target, |hint| hint.target).ok().map(|at| &self.hints[at])
    }

    /// What stands, apart from the tombstone of this object.
    pub(super) fn holds(current: Option<&Record>, digest: Digest) -> Holds {
        match current {
            None => Holds::Nothing,
            Some(record) if record.is_only_tombstone(digest) => Holds::Tombstone,
            Some(_) => Holds::Other,
        }
    }

    /// Whether nothing is here but the tombstones of this object: no value next to them, and nobody who waits for it.
    pub(super) fn is_only_tombstone(&self, digest: Digest) -> bool {
        self.object.is_deleted() && self.hints.is_empty() && self.object.digest() == digest
    }

    /// Gives each of these a hint for the object as it stands, or renews it; whether that changed anything.
    fn give_hints(&mut self, given: &[NewHint]) -> bool {
        // A digest is a hash of all versions: only what is hinted pays for it.
        if given.is_empty() {
            return false;
        }
        let digest = self.object.digest();
        let mut changed = false;
        for &NewHint { target, counted, wall_ms } in given {
            match self.hints.binary_search_by_key(&target, |hint| hint.target) {
                Ok(at) => {
                    let renewed = Hint { digest, counted: self.hints[at].counted || counted, ..self.hints[at] };
                    changed |= renewed != self.hints[at];
                    self.hints[at] = renewed;
                }
                Err(at) => {
                    self.hints.insert(at, Hint { target, counted, digest, hinted_ms: wall_ms });
                    changed = true;
                }
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests;
