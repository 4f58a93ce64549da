//! One run: birth, a *safety* phase in which anything may befall the cluster, a *liveness* phase in which it has to come
//! together again, and the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::coverage::Mark;
use super::disk::Disk;
use super::oracle::{self, Event, Findings, Shown, Verdict};
use super::report::{HarnessBug, Options, Outcome, Report, Violation};
use super::schedule::{Fault, Schedule, Shape};
use super::workload::{Workload, bucket_of, key_id, shown_by};
use super::world::{BEGINNING, World};
use crate::node::Core;
use crate::storage::{Record, parse_object_key};
use crate::types::{Bucket, Time, WriteId};
use crate::version::{Dot, Object};

/// How long birth and healing may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Late frames are on their way for so long at most.
const LATEST_FRAME: Duration = Duration::from_secs(10);

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
    schedule: &'a Schedule,
    options: &'a Options,
    pub(super) world: World<D>,
    workload: Workload,
    began: Time,
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
        Run { schedule, options, world, workload, began, last_look: None, active: BTreeSet::new() }
    }

    /// Runs it to its end.
    pub(super) fn finish(mut self) -> Report {
        if self.is_born() {
            self.endure();
            self.heal();
        }
        self.report()
    }

    fn is_broken(&self) -> bool {
        self.world.witness.broken().is_some()
    }

    fn fail(&mut self, invariant: &str, key: Option<&str>, evidence: String) {
        let now = self.world.now;
        self.world.witness.breach(now, invariant, key, || evidence);
    }

    /// Something that must not be, at the last look: said if the oracle finds nothing that explains it.
    fn note_last(&mut self, invariant: &str, key: Option<&str>, evidence: String) {
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

    fn run_until(&mut self, due: Time) {
        while !self.is_broken() && self.world.step(due) {
            self.follow();
        }
        self.world.now = self.world.now.max(due);
    }

    /// Takes in what the last event has brought.
    fn follow(&mut self) {
        for loss in std::mem::take(&mut self.world.fresh_losses) {
            let node = u16::try_from(loss.node).expect("few nodes");
            let event = if loss.all { Event::Wiped { node } } else { Event::PowerLost { node } };
            self.workload.note(loss.at, event);
        }
        self.workload.listen(&mut self.world);
    }

    fn inject(&mut self, index: usize) {
        let fault = self.schedule.faults[index].fault;
        if self.world.can_inject(fault) {
            self.active.insert(index);
            self.workload.note(self.world.now, Event::FaultBegan);
        }
        match fault {
            Fault::BitFlip { node } => self.flip(usize::from(node) % self.world.nodes.len()),
            fault => self.world.inject(index, fault),
        }
        self.follow();
    }

    /// A record rots: what it held is lost to its node.
    fn flip(&mut self, node: usize) {
        let Some(place) = self.world.nodes[node].disk.flip_bit(&mut self.world.rng) else { return };
        let parsed = parse_object_key(&place).expect("nodes store under their own keys");
        let name = String::from_utf8_lossy(parsed.key).into_owned();
        self.world.witness.damage(node, place.clone());
        self.world.trace.say(self.world.now, &name, || format!("the record on n{}'s disk rots", node + 1));
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
            self.workload.note(self.world.now, Event::FaultEnded);
        }
    }

    fn flap(&mut self, index: usize, cut: bool) {
        if let Fault::Partition { shape, node } = self.schedule.faults[index].fault {
            let pivot = usize::from(node) % self.world.nodes.len();
            self.world.partition(shape, pivot, cut);
        }
    }

    /// The liveness phase: nothing more befalls the cluster, and it has to come together.
    fn heal(&mut self) {
        if self.is_broken() {
            return;
        }
        self.world.trace.announce(self.world.now, || "nothing more befalls the cluster".into());
        self.world.mend();
        for node in 0..self.world.nodes.len() {
            self.world.resume(node);
            let sick = &mut self.world.nodes[node];
            sick.disk.fill(false);
            sick.disk.disarm();
            sick.die_after = None;
            (sick.pace.node_drag, sick.pace.disk_drag, sick.clocks.wall_ahead_ms) = (0, 0, 0);
        }
        self.come_together();
        self.write_everywhere();
        // Whatever is on its way arrives, and every deadline passes.
        let rest = LATEST_FRAME + self.schedule.cluster.request_timeout * 2;
        self.run_until(self.world.now + rest);
        self.check_rest();
        if self.schedule.cluster.last_blackout && !self.is_broken() {
            self.black_out();
        }
        self.read_everything();
        self.look_at_disks();
    }

    fn come_together(&mut self) {
        let end = self.world.now + PATIENCE;
        loop {
            for node in 0..self.world.nodes.len() {
                if self.world.nodes[node].process.is_some() && !self.world.nodes[node].engine_is_sound() {
                    self.world.kill(node);
                }
                self.world.revive(node);
            }
            self.follow();
            self.run_until(self.world.now + Duration::from_secs(1));
            let all = self.world.nodes.iter().all(|node| node.process.is_some() && node.engine_is_sound());
            if all && self.world.is_settled() || self.is_broken() {
                return;
            }
            if self.world.now >= end {
                let waiting = self.world.waiting_for();
                let down: Vec<_> = self.world.nodes.iter().filter_map(|node| node.start_error.clone()).collect();
                self.fail("healing", None, format!("the cluster does not come together: {waiting:?} {down:?}"));
                return;
            }
        }
    }

    /// Every node takes a put again, and all replicas do.
    fn write_everywhere(&mut self) {
        for node in 0..self.world.nodes.len() {
            if self.is_broken() {
                return;
            }
            let began = self.world.now;
            let write = self.workload.write_at(&mut self.world, node);
            let end = began + self.schedule.cluster.request_timeout;
            while !self.workload.is_acked(write) && self.world.step(end) {
                self.follow();
            }
            if !self.workload.is_acked(write) {
                self.fail("writable when healed", None, format!("n{} takes no put of all replicas", node + 1));
            }
        }
    }

    /// Nothing is left over, and everybody agrees about the ring.
    fn check_rest(&mut self) {
        if self.is_broken() {
            return;
        }
        if let Some((node, attempt)) = self.world.owed().first() {
            let evidence = format!("n{} has never answered attempt {attempt}", node + 1);
            self.fail("every request is answered", None, evidence);
        }
        for node in 0..self.world.nodes.len() {
            let Some(process) = &self.world.nodes[node].process else { continue };
            let counters: Vec<_> = process.cores().map(Core::counters).collect();
            let left: u64 = counters.iter().map(|sum| sum.in_flight + sum.lingering + sum.parked).sum();
            if left > 0 {
                self.fail(
                    "nothing left over",
                    None,
                    format!("n{} has {left} requests left over: {counters:?}", node + 1),
                );
            }
        }
        self.world.check_ring();
        self.world.check_verdicts();
        self.world.check_ledger();
        let keys = self.workload.keys().to_vec();
        self.world.check_actors(&keys);
    }

    /// What is on the disks is all that is left.
    fn black_out(&mut self) {
        (0..self.world.nodes.len()).for_each(|node| self.world.power_loss(node));
        self.come_together();
        self.run_until(self.world.now + Duration::from_secs(1));
    }

    /// Every key is read from all of its replicas that count, and shows what their disks hold.
    fn read_everything(&mut self) {
        for key in 0..self.workload.keys().len() {
            if self.is_broken() {
                return;
            }
            let name = self.workload.keys()[key].clone();
            let Some(place) = self.world.place_of(&name) else { continue };
            let counts =
                |node: &usize| !self.world.is_rebuilding(*node) && !self.world.witness.is_damaged(*node, &place);
            let primaries = self.world.primaries(&name);
            let whole = primaries.iter().filter(|node| counts(node)).count();
            if whole == 0 {
                continue;
            }
            self.workload.read_all(&mut self.world, key, u8::try_from(whole).expect("few replicas"));
            let end = self.world.now + self.schedule.cluster.request_timeout + Duration::from_secs(1);
            while self.workload.is_waiting() && self.world.step(end) {
                self.follow();
            }
            match self.workload.last_shown() {
                None => self.note_last(
                    "readable when healed",
                    Some(&name),
                    format!("{name} cannot be read from {whole} replicas"),
                ),
                Some(shown) if whole == primaries.len() => self.compare(&name, &shown),
                Some(_) => {}
            }
        }
    }

    /// A read of all replicas shows what is on their disks: every write that nothing there replaces.
    fn compare(&mut self, name: &str, shown: &BTreeSet<WriteId>) {
        if bucket_of(name) != Bucket::default() {
            return;
        }
        let held: BTreeSet<WriteId> = self.merged(name).iter().map(|sibling| sibling.write).collect();
        if held != *shown {
            self.note_last(
                "readable when healed",
                Some(name),
                format!("{name} shows {shown:?}, its replicas hold {held:?}"),
            );
        }
    }

    /// What the replicas of a key hold together: each sibling that no other replica has known and dropped. Said here once
    /// more, so that a fault of the store's merge is none of this.
    fn merged(&mut self, name: &str) -> Vec<Shown> {
        let Some(place) = self.world.place_of(name) else { return Vec::new() };
        let mut objects: Vec<Arc<Object>> = Vec::new();
        for node in self.world.primaries(name) {
            let Some(bytes) = self.world.nodes[node].disk.peek(&place, false) else { continue };
            match Record::decode(bytes) {
                Ok(record) => {
                    self.world.witness.saw_object(self.world.now, name.as_bytes(), &record.object);
                    objects.push(record.object);
                }
                Err(_) if self.world.witness.is_damaged(node, &place) => {}
                Err(error) => self.note_last("sound records", Some(name), format!("n{} holds {error}", node + 1)),
            }
        }
        let mut merged: BTreeMap<Dot, Shown> = BTreeMap::new();
        for object in &objects {
            for sibling in object.siblings() {
                let holds = |other: &Arc<Object>| other.siblings().iter().any(|held| held.dot == sibling.dot);
                let dropped = |other: &Arc<Object>| other.context().contains(sibling.dot) && !holds(other);
                if !objects.iter().any(dropped) {
                    merged.insert(sibling.dot, shown_by(sibling));
                }
            }
        }
        merged.into_values().collect()
    }

    /// What is left of each key.
    fn look_at_disks(&mut self) {
        for key in 0..self.workload.keys().len() {
            let name = self.workload.keys()[key].clone();
            let siblings = self.merged(&name);
            self.workload.note(self.world.now, Event::Final { key: key_id(key), siblings });
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
        let World { now, coverage, trace, .. } = self.world;
        Report {
            seed: self.schedule.seed,
            elapsed: now.since(BEGINNING),
            trace_hash: trace.hash(),
            operations: self.workload.operations,
            findings,
            coverage,
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
