//! Which actor a replica may write as: minting dots so that none is ever minted twice.
//!
//! A replica that lost its latest writes (a wiped disk, a restored backup, a failed batch) and counts on from what it
//! still has gives a dot to a second write. Copies that know the first then take the second for old, and an
//! acknowledged write vanishes. So an actor is not a node: it is continued only where nothing can have been forgotten,
//! and whoever is in doubt draws a new one.

use super::{Actor, CausalContext, Dot, Object};
use crate::types::Generation;

/// The actor under which this node last minted a dot for this key.
///
/// A local field of a stored record; never on the wire; set only when this node mints a dot here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The actor, all of whose dots were minted here and lie in the record's context.
    pub actor: Actor,
    /// The generation in which the actor was last drawn or continued.
    pub minted_in: Generation,
}

/// How far this process may trust that its data directory has forgotten nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The running generation.
    pub generation: Generation,
    /// Nothing written in this generation or later is missing from the directory, if the directory is not an old copy.
    pub trusted_since: Generation,
    /// Whether a majority of the other members has granted this generation, so that the directory is no old copy.
    pub granted: bool,
}

impl Trust {
    /// Whether a record whose own actor was last used in `minted_in` still knows every dot of it.
    fn covers(&self, minted_in: Generation) -> bool {
        let this_run = minted_in == self.generation;
        mutant!(OldCopyGranted)
            || this_run
            || (self.granted && (self.trusted_since..self.generation).contains(&minted_in))
    }
}

/// Names a new write to a record: the next dot of its own actor, or the first of `fresh`. With it comes what the
/// record's `own` becomes when the write is stored.
///
/// `own` is continued only if it is there, `trust` covers it, and nobody has heard of a dot of it that the record does
/// not know. `fresh` is 64 random bits drawn for this call.
///
/// # Panics
/// If a fresh actor is needed and a context knows `fresh`: by chance that is one in 2^64 for each actor of the key, so
/// the source of randomness is broken and would name two writes alike elsewhere, unseen. Counting on behind the dots
/// known here would be no cure: there may be later ones that are not known here.
pub fn mint(
    local: Option<&Object>,
    own: Option<Own>,
    client: &CausalContext,
    trust: &Trust,
    fresh: Actor,
) -> (Dot, Own) {
    let counter_of = |actor| local.map_or(0, |object| object.context().counter_of(actor));
    let next_of = |own: Own| {
        let last = counter_of(own.actor);
        let whole = last > 0 && client.counter_of(own.actor) <= last && trust.covers(own.minted_in);
        let counter = if whole { last.checked_add(1)? } else { return None };
        Some(Dot { actor: own.actor, counter })
    };
    let own = own.filter(|_| !mutant!(ActorsNeverContinued));
    let dot = own.and_then(next_of).unwrap_or_else(|| {
        let unknown = counter_of(fresh) == 0 && client.counter_of(fresh) == 0;
        assert!(unknown, "fresh actor {fresh} is known already: the source of randomness is broken");
        Dot { actor: fresh, counter: 1 }
    });
    (dot, Own { actor: dot.actor, minted_in: trust.generation })
}

impl Own {
    /// What is left of a record's `own` when `incoming` is merged into it: nothing if `incoming` knows a dot of the
    /// actor beyond those in `local`, for then the record has forgotten writes of its own.
    ///
    /// To be applied at every merge into a stored record, with `local` the context before it: afterwards the gap is
    /// closed and can no longer be seen.
    pub fn surviving(own: Option<Own>, local: &CausalContext, incoming: &CausalContext) -> Option<Own> {
        own.filter(|own| incoming.counter_of(own.actor) <= local.counter_of(own.actor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, WriteId};
    use crate::version::{Body, Sibling};

    const OWN: Actor = Actor(1);
    const FRESH: Actor = Actor(2);
    const TRUST: Trust = Trust { generation: Generation(9), trusted_since: Generation(5), granted: true };

    fn knowing(dots: &[(Actor, u64)]) -> CausalContext {
        let mut context = CausalContext::new();
        dots.iter().for_each(|&(actor, counter)| context.insert(Dot { actor, counter }));
        context
    }

    /// A record after `counter` writes of `OWN`.
    fn record(counter: u64) -> Object {
        let before: Vec<_> = (1..counter).map(|i| (OWN, i)).collect();
        let dot = Dot { actor: OWN, counter };
        let sibling = Sibling { dot, write_id: WriteId(0), node: NodeId(0), wall_ms: 0, body: Body::Tombstone };
        Object::update(None, &knowing(&before), sibling)
    }

    fn own(minted_in: u64) -> Option<Own> {
        Some(Own { actor: OWN, minted_in: Generation(minted_in) })
    }

    #[track_caller]
    fn check(own: Option<Own>, client: &[(Actor, u64)], trust: Trust, actor: Actor, counter: u64) {
        let minted = mint(Some(&record(3)), own, &knowing(client), &trust, FRESH);
        assert_eq!(minted, (Dot { actor, counter }, Own { actor, minted_in: trust.generation }));
    }

    #[test]
    fn the_own_actor_is_continued_where_it_is_trusted() {
        check(own(9), &[], TRUST, OWN, 4);
        check(own(5), &[], TRUST, OWN, 4);
        check(own(9), &[(OWN, 1), (OWN, 3)], TRUST, OWN, 4);
        check(own(9), &[], Trust { granted: false, ..TRUST }, OWN, 4);
    }

    #[test]
    fn a_fresh_actor_is_drawn_in_every_doubt() {
        check(None, &[], TRUST, FRESH, 1);
        check(own(4), &[], TRUST, FRESH, 1);
        check(own(8), &[], Trust { granted: false, ..TRUST }, FRESH, 1);
        check(own(10), &[], TRUST, FRESH, 1);
        check(own(9), &[(OWN, 4)], TRUST, FRESH, 1);
        check(own(9), &[(OWN, 7)], TRUST, FRESH, 1);
        let unwritten = mint(None, own(9), &CausalContext::new(), &TRUST, FRESH);
        assert_eq!(unwritten.0, Dot { actor: FRESH, counter: 1 });
        let absent = mint(None, None, &knowing(&[(OWN, 4)]), &TRUST, FRESH);
        assert_eq!(absent.0, Dot { actor: FRESH, counter: 1 });
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn no_actor_is_continued_where_that_is_planted() {
        let _planted = crate::mutant::plant(crate::mutant::Mutant::ActorsNeverContinued);
        check(own(9), &[], TRUST, FRESH, 1);
    }

    #[test]
    #[should_panic(expected = "randomness is broken")]
    fn a_known_fresh_actor_is_no_fresh_actor() {
        mint(Some(&record(3)), None, &knowing(&[(FRESH, 2)]), &TRUST, FRESH);
    }

    #[test]
    fn a_merge_that_knows_more_of_the_own_actor_voids_it() {
        let local = knowing(&[(OWN, 1), (OWN, 2)]);
        assert_eq!(Own::surviving(own(9), &local, &knowing(&[(OWN, 1), (FRESH, 6)])), own(9));
        assert_eq!(Own::surviving(own(9), &local, &local), own(9));
        assert_eq!(Own::surviving(own(9), &local, &knowing(&[(OWN, 1), (OWN, 2), (OWN, 3)])), None);
        assert_eq!(Own::surviving(own(9), &local, &knowing(&[(OWN, 5)])), None);
        assert_eq!(Own::surviving(None, &local, &local), None);
    }
}
