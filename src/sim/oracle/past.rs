//! Causal pasts as bit sets, and the effects of a key that they are sets of.

use std::collections::BTreeMap;

use super::history::Label;
use crate::types::WriteId;

/// An effect's index within its key, given in the order in which effects became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EffectId(pub(super) u32);

/// The known effects of one key.
#[derive(Debug, Default)]
pub(super) struct Effects {
    by_label: BTreeMap<Label, EffectId>,
    writes: Vec<WriteId>,
}

impl Effects {
    /// The effect that `label` names, which is one of `write`.
    ///
    /// # Errors
    /// The other write that the label named before: a label names one effect of one write.
    pub(super) fn name(&mut self, label: Label, write: WriteId) -> Result<EffectId, WriteId> {
        let next = EffectId(u32::try_from(self.writes.len()).expect("a history has fewer than 2^32 events"));
        let effect = *self.by_label.entry(label).or_insert(next);
        if effect == next {
            self.writes.push(write);
        }
        let named = self.write_of(effect);
        if named == write { Ok(effect) } else { Err(named) }
    }

    /// The effect that a label names.
    pub(super) fn known(&self, label: Label) -> Option<EffectId> {
        self.by_label.get(&label).copied()
    }

    /// The write that an effect belongs to.
    pub(super) fn write_of(&self, effect: EffectId) -> WriteId {
        self.writes[effect.0 as usize]
    }
}

/// A set of effects of one key. It grows with its largest member, so it costs a bit for each effect known by then.
#[derive(Clone, Debug, Default)]
pub(super) struct EffectSet(Vec<u64>);

impl EffectSet {
    const WORD: u32 = u64::BITS;

    pub(super) fn insert(&mut self, effect: EffectId) {
        let word = (effect.0 / Self::WORD) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (effect.0 % Self::WORD);
    }

    pub(super) fn contains(&self, effect: EffectId) -> bool {
        let word = self.0.get((effect.0 / Self::WORD) as usize);
        word.is_some_and(|word| word & (1 << (effect.0 % Self::WORD)) != 0)
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: &EffectSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = EffectId> + '_ {
        let bits = |(word, bits): (u32, &u64)| {
            let bits = *bits;
            (0..Self::WORD).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| EffectId(word * Self::WORD + bit))
        };
        (0..).zip(&self.0).flat_map(bits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(members: &BTreeSet<u32>) -> EffectSet {
        let mut set = EffectSet::default();
        members.iter().for_each(|effect| set.insert(EffectId(*effect)));
        set
    }

    fn members(set: &EffectSet) -> BTreeSet<u32> {
        set.iter().map(|effect| effect.0).collect()
    }

    proptest! {
        #[test]
        fn an_effect_set_is_a_set(
            a in proptest::collection::btree_set(0_u32..300, 0..40),
            b in proptest::collection::btree_set(0_u32..300, 0..40),
        ) {
            let mut both = set(&a);
            both.merge(&set(&b));
            prop_assert_eq!(members(&set(&a)), a.clone());
            prop_assert_eq!(members(&both), &a | &b);
            for effect in 0..320 {
                prop_assert_eq!(set(&a).contains(EffectId(effect)), a.contains(&effect));
            }
        }
    }

    #[test]
    fn a_label_keeps_naming_the_write_it_named_first() {
        let mut effects = Effects::default();
        let (first, second) = (WriteId(0), WriteId(1));
        assert_eq!(effects.name(Label((1, 1)), first), Ok(EffectId(0)));
        assert_eq!(effects.name(Label((1, 2)), first), Ok(EffectId(1)));
        assert_eq!(effects.name(Label((1, 1)), first), Ok(EffectId(0)));
        assert_eq!(effects.name(Label((1, 1)), second), Err(first));
        assert_eq!(effects.name(Label((1, 3)), second), Ok(EffectId(2)));
        assert_eq!(effects.write_of(EffectId(2)), second);
    }
}
