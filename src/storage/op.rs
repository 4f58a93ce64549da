//! What is done to a key's record: pure, so that the daemon, the simulation and the tests do the same.

use std::sync::Arc;

use super::Record;
use crate::types::{NodeId, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Own, Sibling, Trust, mint};

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
    /// Merge what another replica sent.
    Merge(Arc<Object>),
}

impl Op {
    /// Whether it may write.
    pub fn is_write(&self) -> bool {
        !matches!(self, Op::Read)
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
}

/// Applies `op` to the record that stands (`None`: none does). Returns the record that replaces it, if one does.
pub fn apply(op: Op, current: Option<&Record>) -> (Option<Record>, Outcome) {
    match op {
        Op::Read => (None, Outcome::Read(current.map(|record| record.object.clone()))),
        Op::Update(update) => apply_update(*update, current),
        Op::Merge(incoming) => (apply_merge(incoming.clone(), current), Outcome::Merged { incoming }),
    }
}

fn apply_update(update: Update, current: Option<&Record>) -> (Option<Record>, Outcome) {
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
        return (None, Outcome::TooManySiblings { count });
    }
    let object = Arc::new(object);
    (Some(Record { own: Some(own), object: object.clone() }), Outcome::Updated { object, dot })
}

fn apply_merge(incoming: Arc<Object>, current: Option<&Record>) -> Option<Record> {
    let Some(record) = current else { return Some(Record { own: None, object: incoming }) };
    if record.object.merges_to_self(&incoming) {
        return None;
    }
    // Whoever knows later counters of our actor than we do has met a state that this node forgot.
    let own = Own::surviving(record.own, record.object.context(), incoming.context());
    Some(Record { own, object: Arc::new(record.object.merge(&incoming)) })
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

    fn written(update: Update, current: Option<&Record>) -> (Record, Dot) {
        let (record, outcome) = apply(Op::Update(Box::new(update)), current);
        let Outcome::Updated { dot, .. } = outcome else { panic!("{outcome:?}") };
        (record.expect("an update writes"), dot)
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
        let (record, outcome) = apply(Op::Merge(first.object.clone()), None);
        assert!(matches!(outcome, Outcome::Merged { .. }));
        let (_, dot) = written(update("b", CausalContext::default(), 8), record.as_ref());
        assert_eq!(dot, Dot { actor: Actor(8), counter: 1 });
    }

    /// Trap 1: an old copy of the record meets its own later dots.
    #[test]
    fn a_merge_that_knows_more_of_our_actor_ends_it() {
        let (old, _) = written(update("a", CausalContext::default(), 7), None);
        let (newer, _) = written(update("b", CausalContext::default(), 7), Some(&old));
        let (merged, _) = apply(Op::Merge(newer.object), Some(&old));
        let (_, dot) = written(update("c", old.object.context().clone(), 9), merged.as_ref());
        assert_eq!(dot, Dot { actor: Actor(9), counter: 1 });
    }

    #[test]
    fn too_many_siblings_are_refused_and_resolving_is_not() {
        let (one, _) = written(update("a", CausalContext::default(), 7), None);
        let (two, _) = written(update("b", CausalContext::default(), 7), Some(&one));
        let (record, outcome) = apply(Op::Update(Box::new(update("c", CausalContext::default(), 7))), Some(&two));
        assert_eq!((record, outcome), (None, Outcome::TooManySiblings { count: 3 }));
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
        let (both, _) = apply(Op::Merge(there.object), Some(&here));
        let both = both.expect("there is something new");
        assert_eq!(both.object.siblings().len(), 2);
        let (last, _) = written(lww("c", 9), Some(&both));
        assert_eq!(last.object.siblings().len(), 1);
        assert!(last.object.siblings()[0].wall_ms > 10, "a clock that stands still does not lose the write");
    }

    #[test]
    fn a_merge_of_the_known_writes_nothing() {
        let (record, _) = written(update("a", CausalContext::default(), 7), None);
        assert_eq!(apply(Op::Merge(record.object.clone()), Some(&record)).0, None);
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
