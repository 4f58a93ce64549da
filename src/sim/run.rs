//! One run: birth, a *safety* phase in which anything may befall the cluster, a *liveness* phase in which it has to come
//! together again, and the verdict.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::coverage::Mark;
use super::disk::Disk;
use super::oracle::{self, Event, Findings, Verdict};
use super::report::{HarnessBug, Options, Outcome, Report, Violation};
use super::schedule::{Fault, Schedule, Shape};
use super::workload::{Lent, Workload, bucket_of, key_id, key_of, shown_by};
use super::world::{BEGINNING, World};
use crate::storage::parse_object_key;
use crate::types::Time;

/// How long birth and healing may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Something that a run does by the clock.
#[derive(Clone, Copy, Debug)]
enum Item {
    Inject(usize),
    Lift(usize),
    /// A flapping link is cut or mended.
    Flap(usize, bool),
    /// The disk that an old copy is made of is copied.
    BackUp(usize),
    Operate(usize),
    Sample,
}

/// See the module.
pub(super) struct Run<'a, D: Disk> {
    pub(super) schedule: &'a Schedule,
    options: &'a Options,
    pub(super) world: World<D>,
    pub(super) workload: Workload,
    began: Time,
    /// What stand-ins were told to keep and is followed by now.
    lent: usize,
    /// Keys of which the oracle knows that they fall into a reaping round that was raised.
    in_rounds: BTreeSet<usize>,
    /// How many keys and partitions of raised rounds there were when it was last told.
    rounds_told: (usize, usize),
    /// What the last look has found.
    last_look: Option<Violation>,
    /// Faults that have found something to event.
    active: BTreeSet<usize>,
}

impl<'a, D: Disk> Run<'a, D> {
    pub(super) fn new(schedule: &'a Schedule, options: &'a Options, mut world: World<D>) -> Run<'a, D> {
        let mut workload = Workload::new(schedule.cluster.clone());
        workload.forgetful = options.harness_bug == Some(HarnessBug::EmptyHistory);
        world.past_the_network = (options.harness_bug == Some(HarnessBug::PastTheNetwork)).then_some(0);
        world.withhold = schedule.cluster.buggify.withhold;
        let began = world.now;
        Run {
            schedule,
            options,
            world,
            workload,
            began,
            lent: 0,
            in_rounds: BTreeSet::new(),
            rounds_told: (0, 0),
            last_look: None,
            active: BTreeSet::new(),
        }
    }

    /// Runs it to its end.
    pub(super) fn finish(mut self) -> Report {
        if self.is_born() {
            self.endure();
            self.heal();
        }
        self.report()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.world.witness.broken().is_some()
    }

    pub(super) fn fail(&mut self, invariant: &str, key: Option<&str>, evidence: String) {
        let now = self.world.now;
        self.world.witness.breach(now, invariant, key, || evidence);
    }

    /// Something that must not be, at the last look: said if the oracle finds nothing that explains it.
    pub(super) fn note_last(&mut self, invariant: &str, key: Option<&str>, evidence: String) {
        let violation = Violation { invariant: invariant.into(), key: key.map(Into::into), evidence };
        self.last_look.get_or_insert(violation);
    }

    fn is_born(&mut self) -> bool {
        (0..self.world.nodes.len()).for_each(|node| self.world.start(node));
        self.disturb_birth();
        let born = self.world.settles_within(PATIENCE);
        if !born {
            let waiting = self.world.waiting_for();
            self.fail("birth", None, format!("the cluster is not born: {waiting:?}"));
        }
        self.began = self.world.now;
        born
    }

    fn disturb_birth(&mut self) {
        if self.options.harness_bug == Some(HarnessBug::FaultsOff) {
            return;
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.schedule.seed ^ 0xb117);
        for _ in 0..self.schedule.cluster.birth_kills {
            self.world.run_for(Duration::from_millis(rng.random_range(1..400)));
            let node = rng.random_range(0..self.world.nodes.len());
            let born = self.world.nodes[node].process.as_ref().is_some_and(|process| process.control.view().is_some());
            self.world.coverage.add(Mark::BirthDisturbed, u64::from(!born));
            if rng.random_bool(0.5) {
                self.world.power_loss(node);
            } else {
                self.world.kill(node);
            }
            self.world.start(node);
        }
        self.follow();
    }

    /// The safety phase.
    fn endure(&mut self) {
        for (at, item) in self.agenda() {
            let due = self.began + at;
            self.run_until(due);
            if self.is_broken() {
                return;
            }
            match item {
                Item::Operate(index) => {
                    let operation = self.schedule.operations[index];
                    self.workload.operate(&mut self.world, &operation);
                }
                Item::Inject(index) => self.inject(index),
                Item::Lift(index) => self.lift(index),
                Item::Flap(index, cut) => self.flap(index, cut),
                Item::BackUp(node) => self.world.nodes[node].disk.back_up(),
                Item::Sample => self.world.check_bounds(),
            }
        }
    }

    fn agenda(&self) -> Vec<(Duration, Item)> {
        let schedule = self.schedule;
        let mut agenda: Vec<(Duration, Item)> = schedule
            .operations
            .iter()
            .enumerate()
            .map(|(index, operation)| (operation.at, Item::Operate(index)))
            .collect();
        let seconds = schedule.span.as_secs();
        agenda.extend((1..=seconds).map(|second| (Duration::from_secs(second), Item::Sample)));
        if self.options.harness_bug != Some(HarnessBug::FaultsOff) {
            for (index, event) in schedule.faults.iter().enumerate() {
                agenda.push((event.at, Item::Inject(index)));
                agenda.push((event.at + event.lasts, Item::Lift(index)));
                match event.fault {
                    Fault::OldCopy { node } => {
                        let node = usize::from(node) % self.world.nodes.len();
                        agenda.push((event.at / 2, Item::BackUp(node)));
                    }
                    Fault::Partition { shape: Shape::Flapping, .. } => self.plan_flaps(index, &mut agenda),
                    _ => {}
                }
            }
        }
        agenda.sort_by_key(|(at, _)| *at);
        agenda
    }

    fn plan_flaps(&self, index: usize, agenda: &mut Vec<(Duration, Item)>) {
        let event = &self.schedule.faults[index];
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.schedule.seed ^ index as u64);
        let (mut at, mut cut) = (event.at, true);
        while at < event.at + event.lasts {
            at += Duration::from_millis(rng.random_range(100..1500));
            cut = !cut;
            agenda.push((at.min(event.at + event.lasts), Item::Flap(index, cut)));
        }
        if cut {
            agenda.push((event.at + event.lasts, Item::Flap(index, false)));
        }
    }

    pub(super) fn run_until(&mut self, due: Time) {
        while !self.is_broken() && self.world.step(due) {
            self.follow();
        }
        self.world.now = self.world.now.max(due);
    }

    /// Takes in what the last event has brought.
    pub(super) fn follow(&mut self) {
        for loss in std::mem::take(&mut self.world.fresh_losses) {
            let node = u16::try_from(loss.node).expect("few nodes");
            let event = if loss.all { Event::Wiped { node } } else { Event::PowerLost { node } };
            self.workload.note(loss.at, event);
        }
        for (at, place, object) in std::mem::take(&mut self.world.fresh_reaps) {
            let parsed = parse_object_key(&place).expect("nodes store under their own keys");
            let Some(key) = self.workload.key_named(&String::from_utf8_lossy(parsed.key)) else { continue };
            let tombstones = object.siblings().iter().map(shown_by).collect();
            self.workload.note(at, Event::Reaped { key: key_id(key), tombstones });
        }
        self.tell_rounds();
        self.workload.listen(&mut self.world);
        for Lent { key, dot, by, since } in &self.workload.lent[self.lent..] {
            self.world.lend(&self.workload.keys()[*key], *dot, *by, *since);
        }
        self.lent = self.workload.lent.len();
    }

    /// Which keys fall into rounds that were raised, those too that clients have begun to use since.
    fn tell_rounds(&mut self) {
        let now = (self.workload.keys().len(), self.world.rounds_raised.len());
        let Some(view) = self.world.any_view().filter(|_| self.rounds_told != now) else { return };
        self.rounds_told = now;
        for key in 0..self.workload.keys().len() {
            let name = &self.workload.keys()[key];
            let (partition, _) = view.partition_of(&bucket_of(name), &key_of(name));
            if self.world.rounds_raised.contains(&partition) && self.in_rounds.insert(key) {
                self.workload.note(self.world.now, Event::RoundRaised { key: key_id(key) });
            }
        }
    }

    fn inject(&mut self, index: usize) {
        let fault = self.schedule.faults[index].fault;
        if self.world.can_inject(fault) {
            self.active.insert(index);
            self.world.unrest.begin(self.world.now, fault);
            self.workload.note(self.world.now, Event::FaultBegan);
        }
        match fault {
            Fault::BitFlip { node } => self.flip(usize::from(node) % self.world.nodes.len()),
            Fault::RangeRot { node } => self.rot_range(usize::from(node) % self.world.nodes.len()),
            fault => self.world.inject(index, fault),
        }
        self.follow();
    }

    /// A record rots: what it held is lost to its node.
    fn flip(&mut self, node: usize) {
        let flipped = self.world.losing(node, |world| world.nodes[node].disk.flip_bit(&mut world.rng));
        let Some(place) = flipped else { return };
        self.world.witness.damage(self.world.now, node, place.clone());
        self.note_damage(node, &place, "rots");
    }

    /// A part of a disk cannot be read any more: what its records held is lost to its node.
    fn rot_range(&mut self, node: usize) {
        let rotten = self.world.losing(node, |world| world.nodes[node].disk.rot_range(&mut world.rng));
        for place in rotten {
            self.world.witness.damage(self.world.now, node, place.clone());
            self.note_damage(node, &place, "lies where the disk cannot be read any more");
        }
    }

    fn note_damage(&mut self, node: usize, place: &[u8], what: &str) {
        let parsed = parse_object_key(place).expect("nodes store under their own keys");
        let name = String::from_utf8_lossy(parsed.key).into_owned();
        self.world.trace.say(self.world.now, &name, || format!("the record on n{}'s disk {what}", node + 1));
        if let Some(key) = self.workload.key_named(&name) {
            let event = Event::Damaged { node: u16::try_from(node).expect("few nodes"), key: key_id(key) };
            self.workload.note(self.world.now, event);
        }
    }

    fn lift(&mut self, index: usize) {
        let fault = self.schedule.faults[index].fault;
        self.world.lift(index, fault);
        self.follow();
        if self.active.remove(&index) {
            self.world.unrest.end(self.world.now, fault);
            self.workload.note(self.world.now, Event::FaultEnded);
        }
    }

    fn flap(&mut self, index: usize, cut: bool) {
        if let Fault::Partition { shape, node } = self.schedule.faults[index].fault {
            let pivot = usize::from(node) % self.world.nodes.len();
            self.world.partition(shape, pivot, cut);
        }
    }

    fn report(mut self) -> Report {
        for node in 0..self.world.nodes.len() {
            self.world.note_end(node);
            let failures = self.world.nodes[node].disk.failures();
            let coverage = &mut self.world.coverage;
            coverage.add(Mark::ReadFailed, failures.reads);
            coverage.add(Mark::CommitFailed, failures.commits);
            coverage.add(Mark::SyncFailed, failures.syncs);
            coverage.add(Mark::DiskFull, failures.full);
        }
        let (outcome, findings) = self.verdict();
        self.world.coverage.add(Mark::LateWrite, findings.late_surfaced);
        self.world.coverage.add(Mark::Resolved, findings.siblings_resolved);
        let World { now, coverage, availability, trace, .. } = self.world;
        Report {
            seed: self.schedule.seed,
            elapsed: now.since(BEGINNING),
            trace_hash: trace.hash(),
            operations: self.workload.operations,
            findings,
            coverage,
            availability,
            outcome,
            trace: trace.into_lines(),
        }
    }

    fn verdict(&self) -> (Outcome, Findings) {
        if let Some((at, violation)) = self.world.witness.broken() {
            let evidence = format!("at {:.6} s: {}", at.as_micros() as f64 / 1e6, violation.evidence);
            return (Outcome::Violation(Violation { evidence, ..violation.clone() }), Findings::default());
        }
        match (oracle::judge(&self.workload.history, self.options.enough), &self.last_look) {
            (Verdict::Ok(_) | Verdict::Insufficient { .. }, Some(violation)) => {
                (Outcome::Violation(violation.clone()), Findings::default())
            }
            (Verdict::Ok(findings), None) => (Outcome::Ok, findings),
            (Verdict::Insufficient { reason, findings }, None) => (Outcome::Insufficient(reason), findings),
            (Verdict::Violation { invariant, key, evidence, .. }, _) => {
                let key = self.workload.keys().get(key.0 as usize).cloned();
                let invariant = invariant.name().to_owned();
                (Outcome::Violation(Violation { invariant, key, evidence }), Findings::default())
            }
        }
    }
}
