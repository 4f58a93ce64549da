//! What becomes of letters: lost, late, doubled, or taken and answered.

use super::*;

impl World {
    /// Mostly in order; some letters are lost, some come twice, and some long after all others.
    pub(super) fn deliver(&mut self) {
        let late = self.late.len();
        let mail = if late > 0 && self.chance(10) {
            let nth = self.pick(late);
            if self.chance(4) { self.late[nth].clone() } else { self.late.swap_remove(nth) }
        } else {
            let Some(mail) = self.mail.pop_front() else { return };
            match self.pick(100) {
                0 => return,
                1..4 => self.late.push(mail.clone()),
                4..10 => return self.late.push(mail),
                _ => {}
            }
            mail
        };
        let Mail { from, generation, to, letter } = mail;
        if from != to && self.members[to].runs[from] > generation && !self.drops(Rule::NewestRun) {
            return;
        }
        let known = &mut self.members[to].runs[from];
        *known = (*known).max(generation);
        self.take(from, to, letter);
    }

    pub(super) fn take(&mut self, from: usize, to: usize, letter: Letter) {
        let partition = self.partition();
        match letter {
            Letter::Write { .. } if !self.is_joined(to) => {}
            Letter::Write { object, round, hint_for, hint } => {
                let hints = hint_for.map(|target| NewHint::counted(self.nodes[target], 1)).into_iter().collect();
                let at = if self.drops(Rule::Refuse) { Round(u64::MAX) } else { round };
                let answer = match self.run(to, Op::Merge { object: object.clone(), round: at, hints }) {
                    Outcome::Merged { .. } => Letter::Merged { sent: object.digest(), hint },
                    Outcome::Fenced { round } => Letter::Fenced { round, object, hint },
                    other => panic!("{other:?}"),
                };
                self.send(to, from, answer);
            }
            Letter::Merged { sent, hint: Some(digest) } => {
                let op = Op::DropHint { target: self.nodes[from], digest, sent, keep_object: to < PRIMARIES };
                let end = self.run(to, op);
                assert!(matches!(end, Outcome::HintDropped(HintDrop::Dropped | HintDrop::Kept | HintDrop::Absent)));
            }
            Letter::Merged { hint: None, .. } => {}
            Letter::Fenced { round, object, hint } => {
                if let Outcome::Read { object: held, round } = self.run(to, Op::Adopt { round }) {
                    let again = if self.drops(Rule::ReadAgain) { Some(object) } else { held };
                    // What was sent for a hint is looked up by it, the next time that it is handed off.
                    if let (Some(object), None) = (again, hint) {
                        self.write(to, from, &object, round);
                    }
                }
            }
            Letter::Meet => {
                let round = self.members[to].store.rounds().of(partition);
                if self.is_joined(to) || self.members.iter().all(|member| !member.joined) {
                    self.send(to, from, Letter::Met(round));
                }
            }
            Letter::Met(round) => {
                self.members[to].joined = true;
                self.run(to, Op::Adopt { round });
            }
            Letter::Command(command) => self.obey(from, to, command),
            Letter::Inquired(step, said) => {
                self.tell(|reaper, now, node, out| reaper.on_inquired(now, step, node, Some(said), out), from);
            }
            Letter::Vouched(step, said) => {
                self.tell(|reaper, now, node, out| reaper.on_vouched(now, step, node, Some(said), out), from);
            }
            Letter::Reaped(step) => {
                self.tell(|reaper, now, node, out| reaper.on_reaped(now, step, node, true, out), from);
            }
        }
    }

    /// Which runs of others a member listens to.
    fn met(&self, who: usize) -> Vec<NodeRun> {
        let others = (0..MEMBERS).filter(|of| *of != who);
        let run = |of: usize| match self.drops(Rule::AllHaveMet) {
            true => self.members[of].generation,
            false => self.members[who].runs[of],
        };
        others.map(|of| NodeRun { node: self.nodes[of], generation: Generation(run(of)) }).collect()
    }

    /// A member does what the runner asks.
    pub(super) fn obey(&mut self, runner: usize, who: usize, command: ReaperCommand) {
        let (ring, partition) = (self.view.version(), self.partition());
        let generation = Generation(self.members[who].generation);
        let holds_now = |object: Option<&Arc<Object>>, digest: Digest| match object {
            None => Holds::Nothing,
            Some(object) if is_tombstone(object) && object.digest() == digest => Holds::Tombstone,
            Some(_) => Holds::Other,
        };
        let answer = match command {
            ReaperCommand::Inquire { step, candidates, .. } => {
                let Outcome::Read { object, round } = self.run(who, Op::Read) else { panic!("it was a read") };
                let holds = candidates.iter().map(|(_, digest)| match holds_now(object.as_ref(), *digest) {
                    Holds::Other if self.drops(Rule::NothingElse) => Holds::Tombstone,
                    _ if self.drops(Rule::AllMembers) && who == PRIMARIES => Holds::Nothing,
                    holds => holds,
                });
                let may_lack = !self.is_joined(who);
                let holds = holds.collect();
                Letter::Inquired(step, Inquired { generation, ring, round, may_lack, met: self.met(who), holds })
            }
            ReaperCommand::Fence { step, candidates, .. } if self.drops(Rule::AllMembers) && who == PRIMARIES => {
                Letter::Vouched(step, Vouched { generation, ring, yes: vec![true; candidates.len()] })
            }
            ReaperCommand::Fence { step, round, candidates, .. } => {
                if !self.is_joined(who) {
                    return;
                }
                let member = &mut self.members[who];
                let was_there = member.store.rounds().of(partition) >= round;
                let inspect = |(key, digest)| Task { purpose: (), key, op: Op::Inspect { digest } };
                let (inspections, mut done) = (candidates.into_iter().map(inspect).collect(), Vec::new());
                assert!(member.store.fence(partition, round, inspections, &mut done).is_empty(), "all is in memory");
                let vouches = |end: &Outcome| !matches!(end, Outcome::Inspected { holds: Holds::Other, .. });
                let mut yes: Vec<bool> = done.into_iter().map(|((), end)| vouches(&end.unwrap())).collect();
                Self::settle(&mut self.members[who].store, false);
                if self.drops(Rule::NothingElse) {
                    yes.fill(!was_there);
                }
                Letter::Vouched(step, Vouched { generation, ring, yes })
            }
            ReaperCommand::Reap { step, round, candidates, .. } => {
                for (_, digest) in candidates {
                    self.run(who, Op::Reap { round, digest });
                }
                Letter::Reaped(step)
            }
            ReaperCommand::Find { .. } => panic!("that is the runner's own"),
        };
        self.send(who, runner, answer);
    }

    /// Lets the runner act, and carries out what it says.
    pub(super) fn tell(&mut self, act: impl FnOnce(&mut Reaper, Now, NodeId, &mut Vec<ReaperCommand>), from: usize) {
        let mut out = Vec::new();
        act(&mut self.reaper, self.now, self.nodes[from], &mut out);
        while let Some(command) = out.pop() {
            match command {
                ReaperCommand::Find { step, .. } => {
                    let object = self.read(0).map(|(object, _)| object).filter(|object| is_tombstone(object));
                    let candidates = object.iter().map(|object| (self.key.clone(), object.digest())).collect();
                    let found = Some(Tombstones { candidates, next: None });
                    self.reaper.on_found(self.now, step, found, &mut out);
                }
                ReaperCommand::Reap { ref candidates, .. } => {
                    let held = self.read(0).map(|(object, _)| object);
                    let reaped = held.filter(|object| candidates.iter().any(|(_, digest)| object.digest() == *digest));
                    self.dead.extend(reaped.map(|object| object.context().clone()));
                    self.post(command);
                }
                command => self.post(command),
            }
        }
    }

    pub(super) fn post(&mut self, command: ReaperCommand) {
        let (ReaperCommand::Inquire { member, .. }
        | ReaperCommand::Fence { member, .. }
        | ReaperCommand::Reap { member, .. }) = &command
        else {
            panic!("it is for no member")
        };
        let to = self.nodes.iter().position(|node| node == member).unwrap();
        self.send(0, to, Letter::Command(command));
    }
}
