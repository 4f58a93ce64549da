//! The liveness phase: nothing more befalls the cluster, and it has to come together again, hand on what is kept for others,
//! and agree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::coverage::Mark;
use super::disk::Disk;
use super::loans::Loan;
use super::oracle::{Event, Shown};
use super::process::Process;
use super::run::{PATIENCE, Run};
use super::trace::node_name;
use super::workload::{bucket_of, key_id, shown_by};
use crate::api::RepairOrder;
use crate::node::{Core, ShardCounters, ShardInput};
use crate::storage::{Engine, Family, Record, ScanLimit, parse_hint_key, parse_object_key};
use crate::types::{Bucket, WriteId};
use crate::version::{Dot, Object};

/// Late frames are on their way for so long at most.
const LATEST_FRAME: Duration = Duration::from_secs(10);
/// A shard that has nothing to do but to try hints for rotten records is idle within this time: their pauses grow to 13 s.
const IDLE_WITHIN: Duration = Duration::from_secs(15);
/// After a read of all replicas, those that were behind have been told within this time.
const REPAIRED_WITHIN: Duration = Duration::from_secs(3);

impl<D: Disk> Run<'_, D> {
    /// The liveness phase: nothing more befalls the cluster, and it has to come together.
    pub(super) fn heal(&mut self) {
        if self.is_broken() {
            return;
        }
        self.world.trace.announce(self.world.now, || "nothing more befalls the cluster".into());
        self.world.mend();
        self.world.withhold = 0.0;
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
        self.await_scrub();
        self.await_hints();
        self.check_heirs();
        self.await_exchange();
        self.await_reaping();
        self.check_convergence();
        self.check_rest();
        self.bury();
        if self.schedule.cluster.last_blackout && !self.is_broken() {
            self.black_out();
            self.await_scrub();
            self.await_hints();
            self.await_exchange();
            self.await_reaping();
        }
        self.read_everything();
        self.run_until(self.world.now + REPAIRED_WITHIN);
        self.check_convergence();
        self.look_at_disks();
    }

    pub(super) fn come_together(&mut self) {
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
        self.await_rest();
        for node in 0..self.world.nodes.len() {
            self.world.check_trees(node);
            self.world.check_tombstones(node);
        }
        self.world.check_ring();
        self.world.check_verdicts();
        self.world.check_ledger();
        let keys = self.workload.keys().to_vec();
        self.world.check_actors(&keys);
    }

    /// Every shard is idle at some moment. Not at any moment: hints for rotten records are tried now and then.
    fn await_rest(&mut self) {
        let end = self.world.now + IDLE_WITHIN;
        let mut busy: BTreeSet<(usize, usize)> = (0..self.world.nodes.len())
            .filter_map(|node| Some((node, self.world.nodes[node].process.as_ref()?.cores().count())))
            .flat_map(|(node, cores)| (0..cores).map(move |core| (node, core)))
            .collect();
        loop {
            busy.retain(|(node, core)| self.shard_counters(*node, *core).is_some_and(|shard| left_over(&shard) > 0));
            let Some((node, core)) = busy.first() else { return };
            if self.world.now >= end {
                let counters = self.shard_counters(*node, *core).expect("it was busy a moment ago");
                let evidence = format!("n{} has {} requests left over: {counters:?}", node + 1, left_over(&counters));
                return self.fail("nothing left over", None, evidence);
            }
            self.run_until(self.world.now + Duration::from_millis(100));
        }
    }

    fn shard_counters(&self, node: usize, core: usize) -> Option<ShardCounters> {
        self.world.nodes[node].process.as_ref()?.cores().nth(core).map(Core::counters)
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
            let counts = |node: &usize| !self.world.is_rebuilding(*node) && !self.world.is_rotten(*node, &place);
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

    /// What those that have a key hold together: each sibling that no other replica has known and dropped. Said here once
    /// more, so that a fault of the store's merge is none of this.
    fn merged(&mut self, name: &str) -> Vec<Shown> {
        let Some(place) = self.world.place_of(name) else { return Vec::new() };
        let mut objects: Vec<Arc<Object>> = Vec::new();
        for node in self.world.keepers(name, &place) {
            let Some(bytes) = self.world.nodes[node].disk.peek(&place, false) else { continue };
            match Record::decode(bytes) {
                Ok(record) => {
                    self.world.witness.saw_object(self.world.now, name.as_bytes(), &record.object);
                    objects.push(record.object);
                }
                Err(_) if self.world.is_rotten(node, &place) => {}
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

    /// Convergence, the first half: whatever a node keeps for another is handed on.
    fn await_hints(&mut self) {
        let end = self.world.now + PATIENCE;
        while !self.is_broken() {
            let left: Vec<(usize, usize)> =
                (0..self.world.nodes.len()).map(|node| (node, self.hints_on(node))).collect();
            if left.iter().all(|(_, hints)| *hints == 0) {
                return;
            }
            if self.world.now >= end {
                let left: Vec<String> =
                    left.iter().map(|(node, hints)| format!("{} {hints}", node_name(*node))).collect();
                self.fail("convergence", None, format!("hints are left over: {}", left.join(", ")));
                return;
            }
            self.run_until(self.world.now + Duration::from_secs(1));
        }
    }

    /// What has rotted is found, and is not on any disk any more, but where nobody else has it.
    fn await_scrub(&mut self) {
        if self.is_broken() {
            return;
        }
        let order = ShardInput::Repair(RepairOrder::Scrub { partition: None });
        (0..self.world.nodes.len()).for_each(|node| self.world.input_all(node, &order));
        let end = self.world.now + PATIENCE;
        while !self.is_broken() {
            let left = |node: &usize| self.world.count(*node, |counters| counters.scrubs_left) > 0;
            let left = (0..self.world.nodes.len()).find(left).map(|node| format!("{} reads on", node_name(node)));
            let Some(left) = left.or_else(|| self.curable()) else { return };
            if self.world.now >= end {
                self.fail("convergence", None, format!("what has rotted is not mended: {left}"));
                return;
            }
            self.run_until(self.world.now + Duration::from_secs(1));
        }
    }

    /// A rotten record whose key other nodes hold too, if one is left; for people.
    fn curable(&self) -> Option<String> {
        (0..self.world.nodes.len()).find_map(|node| {
            self.world.rotten(node).find_map(|place| {
                let parsed = parse_object_key(place).expect("nodes store under their own keys");
                let name = String::from_utf8_lossy(parsed.key);
                let primaries = self.world.primaries(&name);
                let curable = primaries != [node];
                curable.then(|| format!("the record of {name} on {}", node_name(node)))
            })
        })
    }

    /// Convergence, the second half: whatever replicas have missed for good is found and brought over, and lost disks are filled
    /// again, before any reader asks.
    fn await_exchange(&mut self) {
        if self.is_broken() {
            return;
        }
        let order = ShardInput::Repair(RepairOrder::Start { partition: None });
        (0..self.world.nodes.len()).for_each(|node| self.world.input_all(node, &order));
        let end = self.world.now + PATIENCE;
        while !self.is_broken() {
            // What has records that have rotted for good agrees with nobody.
            let hopeless = (0..self.world.nodes.len()).any(|node| self.world.rotten(node).next().is_some());
            let lacks = |node: &usize| self.world.is_rebuilding(*node) || self.world.is_lacking(*node);
            let lacking = (0..self.world.nodes.len()).filter(|_| !hopeless).find(lacks);
            let Some(left) = lacking.map(|node| self.lack_of(node)).or_else(|| self.world.differing()) else {
                let damages = |node: usize| self.world.witness.damages(node).map(move |place| (node, place));
                let rotted = (0..self.world.nodes.len()).flat_map(damages);
                let healed = rotted.filter(|(node, place)| self.copy_on(*node, place).is_some()).count();
                self.world.coverage.add(Mark::RotHealed, healed as u64);
                return;
            };
            if self.world.now >= end {
                self.fail("convergence", None, format!("trees differ: {left}"));
                return;
            }
            self.run_until(self.world.now + Duration::from_secs(1));
        }
    }

    /// Deletes come to their end: no tombstone is left on any disk. Where something has rotted for good, its node never knows what it
    /// lacks, and they stay.
    fn await_reaping(&mut self) {
        let order = ShardInput::Repair(RepairOrder::Reap { partition: None });
        let end = self.world.now + PATIENCE;
        while !self.is_broken() {
            let nodes = 0..self.world.nodes.len();
            if nodes.clone().any(|node| self.world.rotten(node).next().is_some() || self.world.is_rebuilding(node)) {
                return;
            }
            let Some(node) = nodes.clone().find(|node| self.tombstones_on(*node) > 0) else { return };
            if self.world.now >= end {
                return self.fail("convergence", None, self.unreaped(node));
            }
            nodes.for_each(|node| self.world.input_all(node, &order));
            self.run_until(self.world.now + Duration::from_secs(1));
        }
    }

    /// What is left on a node, who else holds that, and what reapers wait for; for people.
    fn unreaped(&self, node: usize) -> String {
        let is_deleted = |record: &Bytes| Record::decode(record.clone()).is_ok_and(|record| record.object.is_deleted());
        let survey = self.world.nodes[node].disk.survey();
        let place = survey.iter().find(|(_, record)| is_deleted(record)).map(|(place, _)| place.clone());
        let place = place.unwrap_or_default();
        let copies: Vec<_> = (0..self.world.nodes.len()).map(|of| self.copy_on(of, &place)).collect();
        let waits = self.world.nodes.iter().filter_map(|node| node.process.as_ref());
        let waits: Vec<_> = waits.map(|process| process.cores().map(Core::reaper_waits).collect::<Vec<_>>()).collect();
        let (left, node) = (self.tombstones_on(node), node_name(node));
        format!("{node} still has {left} tombstones, one at {place:?}: {copies:?}; {waits:?}")
    }

    fn tombstones_on(&self, node: usize) -> usize {
        let records = self.world.nodes[node].disk.survey().into_iter();
        records
            .filter(|(_, record)| Record::decode(record.clone()).is_ok_and(|record| record.object.is_deleted()))
            .count()
    }

    /// What a node has lost and not got back, for people.
    fn lack_of(&self, node: usize) -> String {
        let cores = || self.world.nodes[node].process.iter().flat_map(Process::cores);
        let missing: Vec<_> = cores().map(Core::to_fill).collect();
        let status: Vec<_> = cores().map(|core| core.repair_status(self.world.clock(node))).collect();
        format!("{} lacks what it has lost, {missing:?}: {status:?}", node_name(node))
    }

    /// Hints on a node's disk, but for those about a record that has rotted for good here or at the target: it can be read, or
    /// merged into, no more.
    fn hints_on(&self, node: usize) -> usize {
        let mut hints = 0;
        let rotten = |of: usize, place: &[u8]| self.world.is_rotten(of, place);
        let mut count = |index_key: &[u8], _: &[u8]| {
            let (target, place, _) = parse_hint_key(index_key).expect("nodes index under their own keys");
            let target = self.world.ids.get(&target).is_some_and(|target| rotten(*target, place));
            hints += usize::from(!target && !rotten(node, place));
            ControlFlow::Continue(())
        };
        let engine = self.world.nodes[node].disk.engine();
        engine.scan(Family::Hints, &[], None, ScanLimit::NONE, &mut count).expect("a healed disk is read");
        hints
    }

    /// What stand-ins have acknowledged is with those for whom they did, before any reader brings it there.
    fn check_heirs(&mut self) {
        for loan in self.world.loans.clone() {
            let Loan { name, place, dot, holder, heir, is_excused, .. } = &loan;
            // Into a record that has rotted for good nothing can be merged; and one that was wiped comes back by the exchange.
            let may_lack = *is_excused
                || self.world.witness.damaged_at(*heir, place).is_some()
                || self.world.witness.is_reaped(place, *dot);
            let has = |object: Arc<Object>| object.context().contains(*dot);
            if !may_lack && !self.copy_on(*heir, place).is_some_and(has) {
                let (heir, holder) = (node_name(*heir), node_name(*holder));
                let evidence = format!("{heir} has never got {dot} of {name}, which {holder} kept for it");
                self.note_last("convergence", Some(name), evidence);
            }
        }
    }

    /// Convergence, in the bytes: all replicas are the same, and nobody else has a copy. Those apart whose record has rotted
    /// for good: nobody has another.
    fn check_convergence(&mut self) {
        for key in 0..self.workload.keys().len() {
            let name = self.workload.keys()[key].clone();
            let Some(place) = self.world.place_of(&name) else { continue };
            let primaries = self.world.primaries(&name);
            let keepers = self.world.keepers(&name, &place);
            let rotten = |node: usize| self.world.is_rotten(node, &place);
            let copy = |node: usize| (node, self.copy_on(node, &place));
            let strays = (0..self.world.nodes.len()).filter(|node| !keepers.contains(node));
            let stray = strays.map(copy).find(|(_, copy)| copy.is_some());
            let is_sound = |node: &usize| !rotten(*node);
            let sound: Vec<_> = primaries.iter().copied().filter(is_sound).map(copy).collect();
            let first = sound.first().map(|(_, copy)| copy.clone());
            let behind = sound.iter().find(|(_, copy)| Some(copy) != first.as_ref()).cloned();
            self.world.coverage.add(Mark::Compared, u64::from(sound.len() > 1));
            if let Some((node, copy)) = stray.or(behind) {
                let others: Vec<String> = primaries.iter().map(|node| node_name(*node)).collect();
                let node = node_name(node);
                let evidence = format!("{node} holds {copy:?} of {name}, whose replicas are {others:?}; {first:?}");
                self.note_last("convergence", Some(&name), evidence);
            }
        }
    }

    fn copy_on(&self, node: usize, place: &[u8]) -> Option<Arc<Object>> {
        let bytes = self.world.nodes[node].disk.peek(place, false)?;
        Record::decode(bytes).ok().map(|record| record.object)
    }
}

/// Requests and operations that a shard holds.
fn left_over(shard: &ShardCounters) -> u64 {
    shard.in_flight + shard.lingering + shard.parked + shard.with_peers
}
