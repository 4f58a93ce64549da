//! What is done to a key's record: pure, so that the daemon, the simulation and the tests do the same.

use std::sync::Arc;

use super::{Hint, HintDrop, HintFound, NewHint, Record};
use crate::types::{NodeId, WriteId};
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

/// What to do.
#[derive(Clone, Debug)]
pub enum Op {
    /// Nothing: look.
    Read,
    /// Mint a dot for a write.
    Update(Box<Update>),
    /// Merge what another replica sent, or what a node without a slot of the key keeps for others.
    Merge {
        /// What.
        object: Arc<Object>,
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
}

impl Op {
    /// Whether it may write.
    pub fn is_write(&self) -> bool {
        !matches!(self, Op::Read | Op::ReadHint { .. })
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object as it stands; `None` if there is no record.
    Read(Option<Arc<Object>>),
    /// The dot was minted.
    Updated {
        /// The object that now stands.
        object: Arc<Object>,
        /// The write's dot.
        dot: Dot,
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
    /// The hint, if there is one.
    Hint(Option<HintFound>),
    /// What became of the hint.
    HintDropped(HintDrop),
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

/// Applies `op` to the record that stands (`None`: none does).
pub fn apply(op: Op, current: Option<&Record>) -> (Change, Outcome) {
    match op {
        Op::Read => (Change::Keep, Outcome::Read(current.map(|record| record.object.clone()))),
        Op::Update(update) => apply_update(*update, current),
        Op::Merge { object, hints } => {
            (apply_merge(object.clone(), &hints, current), Outcome::Merged { incoming: object })
        }
        Op::ReadHint { target } => {
            let found =
                |record: &Record| Some(HintFound { hint: *record.hint(target)?, object: record.object.clone() });
            (Change::Keep, Outcome::Hint(current.and_then(found)))
        }
        Op::DropHint { target, digest, sent, keep_object } => {
            let (change, end) = drop_hint(
                target,
                current,
                |record, hint| {
                    let orphan = !keep_object && record.hints.len() == 1;
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

fn apply_update(update: Update, current: Option<&Record>) -> (Change, Outcome) {
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
    (Change::Put(Record { own: Some(own), hints, object: object.clone() }), Outcome::Updated { object, dot })
}

fn apply_merge(incoming: Arc<Object>, given: &[NewHint], current: Option<&Record>) -> Change {
    let Some(record) = current else {
        let mut record = Record { own: None, hints: Vec::new(), object: incoming };
        record.give_hints(given);
        return Change::Put(record);
    };
    if record.object.merges_to_self(&incoming) {
        if given.is_empty() {
            return Change::Keep;
        }
        let mut hinted = record.clone();
        return if hinted.give_hints(given) { Change::Put(hinted) } else { Change::Keep };
    }
    // Whoever knows later counters of our actor than we do has met a state that this node forgot.
    let own = Own::surviving(record.own, record.object.context(), incoming.context());
    let object = Arc::new(record.object.merge(&incoming));
    let mut merged = Record { own, hints: record.hints.clone(), object };
    merged.give_hints(given);
    Change::Put(merged)
}

/// Drops the target's hint if it `may` be dropped, and the record with its last hint unless the object is to be kept.
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
    if record.hints.len() == 1 && !keep_object {
        return (Change::Delete, HintDrop::Dropped);
    }
    let mut rest = record.clone();
    rest.hints.retain(|hint| hint.target != target);
    (Change::Put(rest), HintDrop::Dropped)
}

impl Record {
    /// What is kept for a node.
    pub fn hint(&self, target: NodeId) -> Option<&Hint> {
        self.hints.binary_search_by_key(&target, |hint| hint.target).ok().map(|at| &self.hints[at])
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
mod tests {
    use super::*;
    use crate::types::Generation;

    fn trust(generation: u64, trusted_since: u64) -> Trust {
        Trust { generation: Generation(generation), trusted_since: Generation(trusted_since), granted: true }
    }

    fn update(value: &str, client: CausalContext, fresh: u64) -> Update {
        Update {
            client,
            write_id: WriteId(fresh.into()),
            node: NodeId(1),
            wall_ms: 10,
            body: Body::Value(value.to_owned().into()),
            last_write_wins: false,
            max_siblings: 2,
            trust: trust(1, 1),
            fresh: Actor(fresh),
        }
    }

    #[track_caller]
    fn put(change: Change) -> Record {
        match change {
            Change::Put(record) => record,
            other => panic!("nothing is written: {other:?}"),
        }
    }

    fn written(update: Update, current: Option<&Record>) -> (Record, Dot) {
        let (change, outcome) = apply(Op::Update(Box::new(update)), current);
        let Outcome::Updated { dot, .. } = outcome else { panic!("{outcome:?}") };
        (put(change), dot)
    }

    fn merge(object: &Arc<Object>) -> Op {
        Op::Merge { object: object.clone(), hints: Vec::new() }
    }

    #[test]
    fn a_second_write_here_continues_the_actor() {
        let (first, dot) = written(update("a", CausalContext::default(), 7), None);
        assert_eq!(dot, Dot { actor: Actor(7), counter: 1 });
        let (second, dot) = written(update("b", CausalContext::default(), 8), Some(&first));
        assert_eq!(dot, Dot { actor: Actor(7), counter: 2 });
        assert_eq!(second.object.siblings().len(), 2);
    }

    /// Trap 1: a node that forgot its state and was handed it back by merge starts a new actor.
    #[test]
    fn state_that_came_back_by_merge_is_not_continued() {
        let (first, _) = written(update("a", CausalContext::default(), 7), None);
        let (change, outcome) = apply(merge(&first.object), None);
        assert!(matches!(outcome, Outcome::Merged { .. }));
        let (_, dot) = written(update("b", CausalContext::default(), 8), Some(&put(change)));
        assert_eq!(dot, Dot { actor: Actor(8), counter: 1 });
    }

    /// Trap 1: an old copy of the record meets its own later dots.
    #[test]
    fn a_merge_that_knows_more_of_our_actor_ends_it() {
        let (old, _) = written(update("a", CausalContext::default(), 7), None);
        let (newer, _) = written(update("b", CausalContext::default(), 7), Some(&old));
        let (merged, _) = apply(merge(&newer.object), Some(&old));
        let (_, dot) = written(update("c", old.object.context().clone(), 9), Some(&put(merged)));
        assert_eq!(dot, Dot { actor: Actor(9), counter: 1 });
    }

    #[test]
    fn too_many_siblings_are_refused_and_resolving_is_not() {
        let (one, _) = written(update("a", CausalContext::default(), 7), None);
        let (two, _) = written(update("b", CausalContext::default(), 7), Some(&one));
        let outcome = apply(Op::Update(Box::new(update("c", CausalContext::default(), 7))), Some(&two));
        assert_eq!(outcome, (Change::Keep, Outcome::TooManySiblings { count: 3 }));
        let (resolved, _) = written(update("d", two.object.context().clone(), 7), Some(&two));
        assert_eq!(resolved.object.siblings().len(), 1);
    }

    /// Trap 15: last-write-wins inside merge would empty the key; here only the coordinator's update supersedes.
    #[test]
    fn last_write_wins_supersedes_at_the_coordinator_and_never_in_merge() {
        let lww =
            |value: &str, fresh| Update { last_write_wins: true, ..update(value, CausalContext::default(), fresh) };
        let (here, _) = written(lww("a", 7), None);
        let (there, _) = written(lww("b", 8), None);
        let both = put(apply(merge(&there.object), Some(&here)).0);
        assert_eq!(both.object.siblings().len(), 2);
        let (last, _) = written(lww("c", 9), Some(&both));
        assert_eq!(last.object.siblings().len(), 1);
        assert!(last.object.siblings()[0].wall_ms > 10, "a clock that stands still does not lose the write");
    }

    #[test]
    fn a_merge_of_the_known_writes_nothing() {
        let (record, _) = written(update("a", CausalContext::default(), 7), None);
        assert_eq!(apply(merge(&record.object), Some(&record)).0, Change::Keep);
    }

    fn hinted(object: &Arc<Object>, hints: &[(u64, bool, u64)], current: Option<&Record>) -> Change {
        let new = |&(target, counted, wall_ms)| NewHint { target: NodeId(target), counted, wall_ms };
        apply(Op::Merge { object: object.clone(), hints: hints.iter().map(new).collect() }, current).0
    }

    fn hint(target: u64, counted: bool, object: &Object, hinted_ms: u64) -> Hint {
        Hint { target: NodeId(target), counted, digest: object.digest(), hinted_ms }
    }

    fn drop_of(target: u64, digest: Digest, sent: Digest, keep_object: bool, current: &Record) -> (Change, HintDrop) {
        match apply(Op::DropHint { target: NodeId(target), digest, sent, keep_object }, Some(current)) {
            (change, Outcome::HintDropped(end)) => (change, end),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_merge_keeps_a_hint_for_each_target_and_renews_it() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let (b, _) = written(update("b", CausalContext::default(), 8), None);
        let first = put(hinted(&a.object, &[(5, true, 100), (3, false, 100)], None));
        assert_eq!(first.hints, [hint(3, false, &a.object, 100), hint(5, true, &a.object, 100)]);
        assert_eq!(hinted(&a.object, &[(5, false, 200), (3, false, 200)], Some(&first)), Change::Keep);
        let renewed = put(hinted(&b.object, &[(5, false, 200)], Some(&first)));
        let both = &renewed.object;
        assert_eq!(both.siblings().len(), 2);
        assert_eq!(renewed.hints, [hint(3, false, &a.object, 100), hint(5, true, both, 100)], "counted for ever");
        let counted = put(hinted(&b.object, &[(3, true, 300)], Some(&renewed)));
        assert_eq!(counted.hints, [hint(3, true, both, 100), hint(5, true, both, 100)]);
    }

    #[test]
    fn an_update_leaves_hints_alone() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let kept = put(hinted(&a.object, &[(5, true, 100)], Some(&a)));
        let (next, dot) = written(update("b", a.object.context().clone(), 8), Some(&kept));
        assert_eq!((next.hints, dot.actor), (kept.hints, Actor(7)));
    }

    #[test]
    fn a_hint_is_read_with_its_object() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let kept = put(hinted(&a.object, &[(5, true, 100)], None));
        let read = |target, record| apply(Op::ReadHint { target: NodeId(target) }, record);
        let found = HintFound { object: a.object.clone(), hint: hint(5, true, &a.object, 100) };
        assert_eq!(read(5, Some(&kept)), (Change::Keep, Outcome::Hint(Some(found))));
        assert_eq!(read(6, Some(&kept)), (Change::Keep, Outcome::Hint(None)));
        assert_eq!(read(5, None), (Change::Keep, Outcome::Hint(None)));
    }

    #[test]
    fn a_hint_goes_with_what_it_was_given_for_and_the_object_with_its_last() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let kept = put(hinted(&a.object, &[(5, true, 100), (6, true, 100)], None));
        let digest = a.object.digest();
        let (one_left, end) = drop_of(5, digest, digest, false, &kept);
        assert_eq!(end, HintDrop::Dropped);
        let one_left = put(one_left);
        assert_eq!(one_left.hints, [hint(6, true, &a.object, 100)]);
        assert_eq!(drop_of(5, digest, digest, false, &one_left), (Change::Keep, HintDrop::Absent));
        assert_eq!(drop_of(6, digest, digest, false, &one_left), (Change::Delete, HintDrop::Dropped));
        let primary = put(drop_of(6, digest, digest, true, &one_left).0);
        assert_eq!(primary, Record { own: None, hints: Vec::new(), object: a.object.clone() });
    }

    /// Trap 13: more was missed between the sending and the acknowledgement.
    #[test]
    fn a_hint_renewed_since_it_was_sent_stays() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let (b, _) = written(update("b", CausalContext::default(), 8), None);
        let kept = put(hinted(&a.object, &[(5, true, 100)], None));
        let renewed = put(hinted(&b.object, &[(5, true, 100)], Some(&kept)));
        let digest = a.object.digest();
        for keep_object in [false, true] {
            assert_eq!(drop_of(5, digest, digest, keep_object, &renewed), (Change::Keep, HintDrop::Kept));
        }
    }

    /// What came without a hint is nowhere else either, for all that a stand-in knows.
    #[test]
    fn a_stand_ins_object_that_has_grown_since_it_was_sent_stays() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let (b, _) = written(update("b", CausalContext::default(), 8), None);
        let kept = put(hinted(&a.object, &[(5, true, 100)], None));
        let grown = put(apply(merge(&b.object), Some(&kept)).0);
        let digest = a.object.digest();
        assert_eq!(drop_of(5, digest, digest, false, &grown), (Change::Keep, HintDrop::Kept));
        assert_eq!(drop_of(5, digest, grown.object.digest(), false, &grown), (Change::Delete, HintDrop::Dropped));
        assert_eq!(drop_of(5, digest, digest, true, &grown).1, HintDrop::Dropped, "a primary keeps it all");
    }

    #[test]
    fn only_an_operator_discards_a_counted_hint() {
        let (a, _) = written(update("a", CausalContext::default(), 7), None);
        let kept = put(hinted(&a.object, &[(5, true, 100), (6, false, 100)], None));
        let discard = |target, counted_too, current: &Record| {
            apply(Op::DiscardHint { target: NodeId(target), counted_too, keep_object: false }, Some(current))
        };
        assert_eq!(discard(5, false, &kept), (Change::Keep, Outcome::HintDropped(HintDrop::Kept)));
        let (change, _) = discard(6, false, &kept);
        let counted = put(change);
        assert_eq!(counted.hints, [hint(5, true, &a.object, 100)]);
        assert_eq!(discard(5, true, &counted), (Change::Delete, Outcome::HintDropped(HintDrop::Dropped)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_planted_actor_outlives_its_state() {
        use crate::mutant::{Mutant, plant};
        let nothing = CausalContext::default;
        let _planted = plant(Mutant::ActorOutlivesItsState);
        let (first, dot) = written(update("a", nothing(), 7), None);
        assert_eq!(dot, Dot { actor: Actor(1), counter: 1 }, "node 1 is the actor");
        let (_, dot) = written(update("b", nothing(), 8), Some(&first));
        assert_eq!(dot, Dot { actor: Actor(1), counter: 2 });
        let (_, dot) = written(update("c", first.object.context().clone(), 9), None);
        assert_eq!(dot, Dot { actor: Actor(1), counter: 2 }, "it goes on from what the writer knows");
        let (_, dot) = written(update("d", nothing(), 10), None);
        assert_eq!(dot, Dot { actor: Actor(1), counter: 1 }, "what was forgotten is named again");
    }
}
