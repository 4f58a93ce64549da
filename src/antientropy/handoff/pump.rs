//! What is to be done now: pages to read, hints to take up, and when to look again.

use std::time::Duration;

use rand::RngExt;

use super::{CENSUS, CENSUS_PAGE, Command, Goal, Handoff, Job, JobId, LOOK_AT_AGES, OVERHEAD, PAGE, Stage, Ticket};
use crate::antientropy::backlog::{Oldest, Waiting};
use crate::antientropy::pass::{Pass, Target};
use crate::ring::PreferenceList;
use crate::storage::{HintEntry, HintItem, HintSpec, parse_object_key};
use crate::types::{Bucket, NodeId, Now, Time};

/// What becomes of a hint that a pass has met.
enum Plan {
    /// It goes, whether anybody has it or not.
    Discard,
    /// It has grown too old.
    Expire,
    /// It is replayed.
    Replay,
    /// It stays, as long as its target is away.
    Wait,
    /// It stays, though it could go to others but for one that is away.
    Stuck,
}

impl Handoff {
    /// Begins whatever can be begun.
    pub(super) fn pump(&mut self, now: Now, out: &mut Vec<Command>) {
        if self.stopped || self.view.is_none() {
            return;
        }
        self.take_census(now, out);
        loop {
            self.begin_passes(now);
            if !self.advance(now, out) {
                break;
            }
        }
        self.wake = self.next_wake(now);
    }

    fn spec(&self, target: Option<NodeId>, after: Option<bytes::Bytes>, limit: usize) -> HintSpec {
        let (shard, shards) = (self.settings.shard, self.settings.shards);
        HintSpec { target, after, shard, shards, limit }
    }

    fn take_census(&mut self, now: Now, out: &mut Vec<Command>) {
        if self.census.done || self.census_reading || self.census_retry.until(now.time).is_some() {
            return;
        }
        self.census_reading = true;
        let spec = self.spec(None, self.census.passed.clone(), CENSUS_PAGE);
        out.push(Command::Read { ticket: CENSUS, spec });
    }

    fn begin_passes(&mut self, now: Now) {
        let is_known = |target: &NodeId, known: &mut Target| {
            let (uncertain, waits) = (!self.census.done, self.backlog.get(*target).is_some());
            // an order is about what there is when it comes: with nothing left it is carried out
            known.discard &= waits || uncertain;
            known.pass.is_some() || waits || (known.discard || known.reroute > 0) && uncertain
        };
        self.targets.retain(|target, known| is_known(target, known));
        let wanted = |(target, waiting): (NodeId, &Waiting)| self.wants_pass(now, target, waiting).then_some(target);
        let wanted: Vec<NodeId> = self.backlog.targets().filter_map(wanted).collect();
        for target in wanted {
            self.serial += 1;
            self.backlog.begin_walk(target);
            let known = self.targets.entry(target).or_default();
            known.aged_at = Some(now.time);
            known.reroute = known.reroute.saturating_sub(1);
            known.pass = Some(Pass::new(Ticket(self.serial), known.discard));
        }
    }

    fn wants_pass(&self, now: Now, target: NodeId, waiting: &Waiting) -> bool {
        let is_member = self.view.as_ref().is_some_and(|view| view.layout().member(target).is_some());
        let due = || self.ages_at(waiting).is_some_and(|at| at <= now.wall_ms);
        let Some(known) = self.targets.get(&target) else { return self.reaches(target) || !is_member || due() };
        // While writes go on something is due at any time: a walk for that alone is made now and then.
        let looked = known.aged_at.is_some_and(|at| now.time.since(at) < LOOK_AT_AGES);
        let due = || !looked && due();
        let is_free = known.pass.is_none() && known.backoff.until(now.time).is_none();
        is_free && (known.discard || known.reroute > 0 || self.reaches(target) || !is_member || due())
    }

    fn reaches(&self, node: NodeId) -> bool {
        node == self.settings.node || self.reachable.contains(&node)
    }

    /// By the wall clock, when the first hint of a target will be too old, if one will ever be.
    fn ages_at(&self, waiting: &Waiting) -> Option<u64> {
        let Oldest { any, uncounted } = waiting.oldest;
        let at = |hinted_ms: u64, counted| self.expires_at(&HintEntry { counted, bytes: 0, hinted_ms });
        let (counted, uncounted) = (any.and_then(|any| at(any, true)), uncounted.and_then(|any| at(any, false)));
        counted.into_iter().chain(uncounted).min()
    }

    /// By the wall clock, when a hint is too old: never, if an acknowledgement rests on it.
    fn expires_at(&self, entry: &HintEntry) -> Option<u64> {
        let max_age = match entry.counted {
            true if mutant!(CountedHintExpires) => Duration::from_secs(2),
            true => return None,
            false => self.settings.config.max_age,
        };
        let millis = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        Some(entry.hinted_ms.saturating_add(millis))
    }

    /// Takes up hints, one target after the other, until no more may be; whether a pass has ended.
    fn advance(&mut self, now: Now, out: &mut Vec<Command>) -> bool {
        let mut ended = false;
        loop {
            let under_way = self.targets.iter().filter(|(_, known)| known.pass.is_some());
            let mut turns: Vec<NodeId> = under_way.map(|(target, _)| *target).collect();
            let first = turns.iter().position(|target| Some(*target) > self.turn).unwrap_or(0);
            turns.rotate_left(first);
            let mut any = false;
            for target in turns {
                if self.end_pass(now, target) {
                    ended = true;
                } else if self.step(now, target, out) {
                    any = true;
                    self.turn = Some(target);
                }
            }
            if !any {
                return ended;
            }
        }
    }

    fn end_pass(&mut self, now: Now, target: NodeId) -> bool {
        let Some(known) = self.targets.get_mut(&target) else { return false };
        let Some(pass) = known.pass.take_if(|pass| pass.is_over()) else { return false };
        known.reroute = known.reroute.max(u8::from(pass.stuck > 0));
        known.discard &= !pass.discard || pass.stuck > 0;
        self.backlog.end_walk(target, pass.oldest);
        if pass.dropped == 0 || pass.stuck > 0 {
            // Nothing can be done for what is left, or it is not on the disk yet.
            known.backoff.fail(now.time, self.rng.random());
        }
        true
    }

    /// Looks at a target's next hint; false if that has to wait.
    fn step(&mut self, now: Now, target: NodeId, out: &mut Vec<Command>) -> bool {
        let Some(known) = self.targets.get_mut(&target) else { return false };
        let Some(pass) = known.pass.as_mut().filter(|_| known.backoff.until(now.time).is_none()) else { return false };
        if let Some(after) = pass.wants_page() {
            pass.reading = true;
            let ticket = pass.ticket;
            let spec = self.spec(Some(target), after, PAGE);
            out.push(Command::Read { ticket, spec });
            return false;
        }
        let Some(item) = pass.items.front().cloned().filter(|_| pass.under_way < self.settings.window) else {
            return false;
        };
        let discard = pass.discard;
        let stage = match self.plan(now, &item, discard) {
            Plan::Replay if self.throttle.ready_at() > now.time => return false,
            Plan::Replay => {
                self.throttle.take(now.time, u64::from(item.entry.bytes) + item.key.len() as u64 + OVERHEAD);
                Some(Stage::Looking)
            }
            Plan::Expire => Some(Stage::Expiring),
            Plan::Discard => Some(Stage::Discarding),
            Plan::Wait => None,
            Plan::Stuck => {
                self.pass_of(target).stuck += 1;
                None
            }
        };
        let pass = self.pass_of(target);
        pass.items.pop_front();
        match stage {
            None => pass.leave(&item.entry),
            Some(stage) => {
                pass.under_way += 1;
                self.begin_job(item, stage, out);
            }
        }
        true
    }

    fn pass_of(&mut self, target: NodeId) -> &mut Pass {
        let pass = self.targets.get_mut(&target).and_then(|known| known.pass.as_mut());
        pass.expect("the caller has just met this pass")
    }

    fn plan(&self, now: Now, item: &HintItem, discard: bool) -> Plan {
        if discard {
            return Plan::Discard;
        }
        let is_old = self.expires_at(&item.entry).is_some_and(|at| at <= now.wall_ms);
        match self.goal_of(item) {
            // Who is back may still get what is old: but whoever takes nothing is as good as away.
            Goal::To { .. } if !is_old || !self.is_in_vain(item.target) => Plan::Replay,
            _ if is_old => Plan::Expire,
            Goal::To { .. } | Goal::Wait => Plan::Wait,
            Goal::Stuck => Plan::Stuck,
        }
    }

    /// Whether all that was tried for a target has failed for long.
    fn is_in_vain(&self, target: NodeId) -> bool {
        self.targets.get(&target).is_some_and(|known| known.backoff.is_longest())
    }

    /// A hint has been met or given: if its key is no more its target's, it is sought out, be the target away.
    pub(super) fn note_owners(&mut self, target: NodeId, key: &[u8]) {
        if self.list_of(key).is_some_and(|list| list.slot_of(target).is_none()) {
            // One may be past the key already, and one that begins now may read its page before the hint is on the disk.
            self.targets.entry(target).or_default().reroute = 2;
        }
    }

    fn begin_job(&mut self, item: HintItem, stage: Stage, out: &mut Vec<Command>) {
        self.serial += 1;
        let job = JobId(self.serial);
        let (target, key) = (item.target, item.key.clone());
        out.push(match stage {
            Stage::Looking => Command::Look { job, target, key },
            _ => {
                let counted_too = stage == Stage::Discarding || mutant!(CountedHintExpires);
                let keep_object = self.keeps(&key);
                Command::Discard { job, target, key, counted_too, keep_object }
            }
        });
        self.jobs.insert(job, Job { item, stage, rerouted: false });
    }

    /// Where a hint's object belongs today.
    pub(super) fn goal_of(&self, item: &HintItem) -> Goal {
        let Some(list) = self.list_of(&item.key) else { return Goal::Stuck };
        if list.slot_of(item.target).is_some() {
            let nodes = vec![item.target];
            return if self.reaches(item.target) { Goal::To { nodes, rerouted: false } } else { Goal::Wait };
        }
        if list.slots().iter().all(|node| self.reaches(*node)) {
            Goal::To { nodes: list.slots().to_vec(), rerouted: true }
        } else {
            Goal::Stuck
        }
    }

    fn list_of(&self, key: &[u8]) -> Option<&PreferenceList> {
        let place = parse_object_key(key).ok()?;
        self.view.as_ref()?.preference(place.partition, &Bucket::new(place.bucket).ok()?)
    }

    /// Whether this node keeps an object without hints, too. In doubt it does.
    pub(super) fn keeps(&self, key: &[u8]) -> bool {
        self.list_of(key).is_none_or(|list| list.slot_of(self.settings.node).is_some())
    }

    /// A hint is done with: `gone`, or it stays for another pass.
    pub(super) fn finish(&mut self, job: JobId, gone: bool) {
        let Some(Job { item, stage, .. }) = self.jobs.remove(&job) else { return };
        let Some(known) = self.targets.get_mut(&item.target) else { return };
        let Some(pass) = &mut known.pass else { return };
        pass.under_way -= 1;
        if gone {
            pass.dropped += 1;
            // What is given up is no sign that its target takes anything.
            if !matches!(stage, Stage::Expiring | Stage::Discarding) {
                known.backoff.succeed();
            }
        } else {
            pass.leave(&item.entry);
        }
    }

    /// A hint stays for a reason that is its key's alone: those behind it are tried all the same.
    pub(super) fn pass_by(&mut self, job: JobId) {
        let target = self.jobs.get(&job).map(|job| job.item.target);
        self.finish(job, false);
        let known = target.and_then(|target| self.targets.get_mut(&target));
        known.and_then(|known| known.pass.as_mut()).into_iter().for_each(|pass| pass.stuck += 1);
    }

    /// A hint stays since something went wrong: its target is left in peace for a while.
    pub(super) fn fail(&mut self, now: Now, job: JobId) {
        let target = self.jobs.get(&job).map(|job| job.item.target);
        self.pass_by(job);
        let random = self.rng.random();
        if let Some(known) = target.and_then(|target| self.targets.get_mut(&target)) {
            known.backoff.fail(now.time, random);
        }
    }

    fn next_wake(&self, now: Now) -> Option<Time> {
        let census = self.census_retry.until(now.time).filter(|_| !self.census.done);
        let pauses = self.targets.values().filter_map(|known| known.backoff.until(now.time));
        let has_room = |pass: &Pass| !pass.items.is_empty() && pass.under_way < self.settings.window;
        let held_back = self.targets.values().filter(|known| known.backoff.until(now.time).is_none());
        let held_back = held_back.filter_map(|known| known.pass.as_ref()).any(has_room);
        let throttle = held_back.then(|| self.throttle.ready_at());
        let ages = self.backlog.targets().filter_map(|(_, waiting)| self.ages_at(waiting)).min();
        let ages = ages.map(|at| {
            let left = Duration::from_millis(at.saturating_sub(now.wall_ms));
            // A pass that is under way sees to what is due already.
            now.time + left.clamp(Duration::from_secs(1), LOOK_AT_AGES)
        });
        census.into_iter().chain(pauses).chain(throttle).chain(ages).min()
    }
}
