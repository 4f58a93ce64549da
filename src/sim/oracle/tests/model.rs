//! Histories of a store that is right, and of the same store with one thing broken.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A step of the store's client: a read, or a write on the basis of one of the operations so far.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    Write { basis: Option<prop::sample::Index>, acked: bool },
}

/// One copy that keeps what no context covered; write `id` has label `id`. A context is the set of labels it covers.
#[derive(Default)]
struct Model {
    siblings: BTreeSet<u64>,
    contexts: Vec<(OpId, BTreeSet<u64>)>,
    pasts: Vec<BTreeSet<u64>>,
    acked: BTreeSet<u64>,
}

impl Model {
    fn shown(&self) -> Vec<(u128, u64)> {
        self.siblings.iter().map(|id| (u128::from(*id), *id)).collect()
    }

    fn take(&mut self, step: Step, story: &mut Story) {
        match step {
            Step::Read => {
                let op = story.read(&self.shown());
                let pasts = self.siblings.iter().flat_map(|id| self.pasts[*id as usize].iter());
                self.contexts.push((op, self.siblings.iter().chain(pasts).copied().collect()));
            }
            Step::Write { basis, acked } => {
                let id = self.pasts.len() as u64;
                let basis = basis.filter(|_| !self.contexts.is_empty());
                let basis = basis.map(|basis| basis.get(&self.contexts).clone());
                let (basis, past) = basis.map_or((None, BTreeSet::new()), |(op, past)| (Some(op), past));
                let op = story.begin(id.into(), basis);
                self.siblings.retain(|other| !past.contains(other));
                self.siblings.insert(id);
                if acked {
                    story.ack(op, id, SYNCED);
                    self.acked.insert(id);
                    self.contexts.push((op, past.iter().copied().chain([id]).collect()));
                }
                self.pasts.push(past);
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let basis = proptest::option::weighted(0.7, any::<prop::sample::Index>());
    let write = (basis, proptest::bool::weighted(0.8)).prop_map(|(basis, acked)| Step::Write { basis, acked });
    prop_oneof![Just(Step::Read), write]
}

fn run(steps: &[Step]) -> (Model, Story) {
    let (mut model, mut story) = (Model::default(), Story::siblings());
    steps.iter().for_each(|step| model.take(*step, &mut story));
    (model, story)
}

proptest! {
    #[test]
    fn a_store_that_is_right_passes(steps in proptest::collection::vec(step(), 0..150)) {
        let (model, mut story) = run(&steps);
        let findings = story.end(&model.shown()).holds();
        prop_assert_eq!(findings.acked as usize, model.acked.len());
    }

    #[test]
    fn any_sibling_that_is_dropped_is_missed(
        steps in proptest::collection::vec(step(), 1..150),
        dropped in any::<prop::sample::Index>(),
    ) {
        let (mut model, mut story) = run(&steps);
        let candidates: Vec<u64> = model.siblings.intersection(&model.acked).copied().collect();
        prop_assume!(!candidates.is_empty());
        let dropped = *dropped.get(&candidates);
        model.siblings.remove(&dropped);
        story.end(&model.shown());
        // what only the dropped write had replaced is gone with it
        match judge(&story.history, FEW) {
            Verdict::Violation { invariant: Invariant::NoLostWrite, .. } => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn whatever_was_replaced_and_comes_back_is_seen(
        steps in proptest::collection::vec(step(), 1..150),
        back in any::<prop::sample::Index>(),
    ) {
        let (mut model, mut story) = run(&steps);
        let covered: Vec<u64> = model.siblings.iter().flat_map(|id| model.pasts[*id as usize].clone()).collect();
        prop_assume!(!covered.is_empty());
        let back = *back.get(&covered);
        model.siblings.insert(back);
        story.end(&model.shown());
        match judge(&story.history, FEW) {
            Verdict::Violation { invariant: Invariant::Antichain, writes, .. } => {
                prop_assert_eq!(writes[0], WriteId(back.into()));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
