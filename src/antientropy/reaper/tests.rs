//! Whole lists of commands, one input after the other.

use super::*;
use crate::types::{Generation, NodeRun};

const MEMBERS: u64 = 4;
/// The phases of a round in which members are asked, in order, with the step that their answers are for.
const PHASES: [(Phase, u64); 4] =
    [(Phase::Inquiring, 2), (Phase::Fencing, 3), (Phase::Confirming, 4), (Phase::Reaping, 5)];

/// Two deletes.
fn candidates() -> Vec<Candidate> {
    [1, 2].map(|nth| (Bytes::from(vec![nth]), crate::version::Digest([nth; 16]))).to_vec()
}

/// A reaper of one tree, and the clock it goes by.
struct Bench {
    reaper: Reaper,
    now: Now,
    view: Arc<RingView>,
    tree: TreeId,
}

impl Bench {
    /// Nothing is due but by order, and nobody can be reached.
    fn alone() -> Bench {
        let view = model::view();
        let tree = TreeId { partition: PartitionId(0), n: 3 };
        let node = primaries(&view, tree)[0];
        let settings = ReaperSettings { node, shard: 0, shards: 16, interval: Duration::ZERO };
        let now = Now { time: Time::from_micros(1_000_000), wall_ms: 2000 };
        let mut bench = Bench { reaper: Reaper::new(settings, 1), now, view: view.clone(), tree };
        assert_eq!(bench.act(|reaper, now, out| reaper.on_ring(now, view, out)), []);
        bench
    }

    fn new() -> Bench {
        let mut bench = Bench::alone();
        for member in bench.others() {
            assert_eq!(bench.reach(member, true), []);
        }
        bench
    }

    /// All members have answered up to this phase.
    fn in_phase(phase: Phase) -> Bench {
        let mut bench = Bench::new();
        assert_eq!(bench.start(), bench.find());
        bench.found();
        for (_, step) in PHASES.iter().take_while(|(of, _)| *of != phase) {
            bench.members().into_iter().for_each(|member| drop(bench.answers(*step, member)));
        }
        assert_eq!(bench.reaper.session.as_ref().map(|session| session.phase), Some(phase));
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Reaper, Now, &mut Vec<ReaperCommand>)) -> Vec<ReaperCommand> {
        let mut out = Vec::new();
        act(&mut self.reaper, self.now, &mut out);
        out
    }

    fn members(&self) -> Vec<NodeId> {
        self.view.layout().members().iter().map(|member| member.id).collect()
    }

    fn others(&self) -> Vec<NodeId> {
        self.members().into_iter().filter(|member| *member != self.reaper.settings.node).collect()
    }

    fn start(&mut self) -> Vec<ReaperCommand> {
        self.act(|reaper, now, out| reaper.start(now, None, out))
    }

    fn reach(&mut self, member: NodeId, reachable: bool) -> Vec<ReaperCommand> {
        self.act(|reaper, now, out| reaper.on_reach(now, member, reachable, out))
    }

    fn find(&self) -> [ReaperCommand; 1] {
        searches(self, 1)
    }

    fn found(&mut self) -> Vec<ReaperCommand> {
        let found = Tombstones { candidates: candidates(), next: None };
        self.act(|reaper, now, out| reaper.on_found(now, Step(1), Some(found), out))
    }

    /// What a member says of itself and of the candidates, if nothing is in the way.
    fn said(&self, member: NodeId) -> Inquired {
        let run = |node: &NodeId| NodeRun { node: *node, generation: Generation(node.0) };
        let is_primary = primaries(&self.view, self.tree).contains(&member);
        let holds = if is_primary { Holds::Tombstone } else { Holds::Nothing };
        Inquired {
            generation: Generation(member.0),
            ring: self.view.version(),
            round: Round(member.0),
            may_lack: false,
            met: self.members().iter().filter(|other| **other != member).map(run).collect(),
            holds: vec![holds; 2],
        }
    }

    fn vouched(&self, member: NodeId) -> Vouched {
        Vouched { generation: Generation(member.0), ring: self.view.version(), yes: vec![true; 2] }
    }

    fn inquired(&mut self, step: u64, member: NodeId, said: Option<Inquired>) -> Vec<ReaperCommand> {
        self.act(|reaper, now, out| reaper.on_inquired(now, Step(step), member, said, out))
    }

    fn vouches(&mut self, member: NodeId, said: Option<Vouched>) -> Vec<ReaperCommand> {
        self.act(|reaper, now, out| reaper.on_vouched(now, Step(3), member, said, out))
    }

    fn reaps(&mut self, member: NodeId, done: bool) -> Vec<ReaperCommand> {
        self.act(|reaper, now, out| reaper.on_reaped(now, Step(5), member, done, out))
    }

    /// A member answers, and nothing is in the way.
    fn answers(&mut self, step: u64, member: NodeId) -> Vec<ReaperCommand> {
        match step {
            3 => self.vouches(member, Some(self.vouched(member))),
            5 => self.reaps(member, true),
            _ => self.inquired(step, member, Some(self.said(member))),
        }
    }

    /// A member says nothing.
    fn is_silent(&mut self, step: u64, member: NodeId) -> Vec<ReaperCommand> {
        match step {
            3 => self.vouches(member, None),
            5 => self.reaps(member, false),
            _ => self.inquired(step, member, None),
        }
    }

    /// The round is over for this reason, and nothing that is said later begins anything.
    #[track_caller]
    fn gave_up(&mut self, out: &[ReaperCommand], why: ReapWait) {
        assert_eq!(out, []);
        assert!(self.reaper.session.is_none(), "{why:?}");
        assert_eq!((self.reaper.obstacle.clone(), self.reaper.counters().given_up), (Some(why), 1));
        for (_, step) in PHASES {
            for member in self.members() {
                assert_eq!(self.answers(step, member), []);
            }
        }
        assert_eq!(self.reaper.counters().rounds, 0);
    }
}

/// What every member is asked.
fn ask(bench: &Bench, command: impl Fn(NodeId) -> ReaperCommand) -> Vec<ReaperCommand> {
    bench.members().into_iter().map(command).collect()
}

#[test]
fn each_step_of_a_round_asks_every_member_and_waits_for_all() {
    let mut bench = Bench::new();
    let (tree, round) = (bench.tree, Round(MEMBERS + 1));
    assert_eq!(bench.start(), bench.find());
    let inquire = |step, candidates: Vec<Candidate>| {
        move |member| ReaperCommand::Inquire { step: Step(step), member, tree, candidates: candidates.clone() }
    };
    let fence = |member| ReaperCommand::Fence { step: Step(3), member, tree, round, candidates: candidates() };
    let reap = |member| ReaperCommand::Reap { step: Step(5), member, tree, round, candidates: candidates() };
    assert_eq!(bench.found(), ask(&bench, inquire(2, candidates())));
    let next = [ask(&bench, fence), ask(&bench, inquire(4, Vec::new())), ask(&bench, reap), Vec::new()];
    for ((_, step), next) in PHASES.into_iter().zip(next) {
        let members = bench.members();
        let (last, before) = members.split_last().unwrap();
        for member in before {
            assert_eq!(bench.answers(step, *member), [], "step {step} waits for all");
            assert_eq!(bench.answers(step, *member), [], "step {step} counts nobody twice");
        }
        assert_eq!(bench.answers(step, *last), next, "step {step}");
    }
    let counters = ReaperCounters { rounds: 1, given_up: 0, reaped: 2, left: 0 };
    assert_eq!(bench.reaper.counters(), counters);
}

#[test]
fn a_member_that_is_silent_ends_the_round_whatever_it_was_asked() {
    for (phase, step) in PHASES {
        for silent in Bench::new().members() {
            let mut bench = Bench::in_phase(phase);
            let before: Vec<NodeId> = bench.members().into_iter().filter(|member| *member != silent).collect();
            before.iter().for_each(|member| assert_eq!(bench.answers(step, *member), []));
            let out = bench.is_silent(step, silent);
            bench.gave_up(&out, ReapWait::Silent(silent));
        }
    }
}

#[test]
fn a_member_that_is_waited_for_and_cannot_be_reached_ends_the_round() {
    for (phase, step) in PHASES {
        let mut bench = Bench::in_phase(phase);
        let away = bench.others()[1];
        let out = bench.reach(away, false);
        bench.gave_up(&out, ReapWait::Silent(away));
        // One that has answered is needed for the next step, and not before.
        let mut bench = Bench::in_phase(phase);
        bench.answers(step, away);
        assert_eq!(bench.reach(away, false), []);
        assert!(bench.reaper.session.is_some());
    }
}

#[test]
fn whoever_may_have_lost_something_or_is_another_ends_the_round() {
    for (phase, step) in [(Phase::Inquiring, 2), (Phase::Confirming, 4)] {
        let check = |change: &dyn Fn(&mut Inquired), why: &dyn Fn(NodeId) -> ReapWait| {
            let mut bench = Bench::in_phase(phase);
            let member = bench.others()[0];
            let mut said = bench.said(member);
            change(&mut said);
            let out = bench.inquired(step, member, Some(said));
            bench.gave_up(&out, why(member));
        };
        check(&|said| said.may_lack = true, &ReapWait::Lacks);
        check(&|said| said.ring.0 += 1, &ReapWait::OtherRing);
        if phase == Phase::Confirming {
            check(&|said| said.generation = Generation(99), &ReapWait::Restarted);
        }
    }
    let changes: [fn(&mut Vouched); 2] = [|said| said.generation = Generation(99), |said| said.ring.0 += 1];
    for change in changes {
        let mut bench = Bench::in_phase(Phase::Fencing);
        let member = bench.others()[0];
        let mut said = bench.vouched(member);
        change(&mut said);
        let out = bench.vouches(member, Some(said));
        bench.gave_up(&out, ReapWait::Restarted(member));
    }
}

/// What that one's predecessor sends might still be let in.
#[test]
fn a_member_that_listens_to_another_run_of_a_member_ends_the_round() {
    for (phase, step) in [(Phase::Inquiring, 2), (Phase::Confirming, 4)] {
        for is_older in [false, true] {
            let mut bench = Bench::in_phase(phase);
            let (member, of) = (bench.others()[0], bench.others()[1]);
            let mut said = bench.said(member);
            let met = said.met.iter().position(|run| run.node == of).unwrap();
            if is_older {
                said.met[met].generation = Generation(of.0 - 1);
            } else {
                said.met.remove(met);
            }
            assert_eq!(bench.inquired(step, member, Some(said)), []);
            let rest: Vec<NodeId> = bench.members().into_iter().filter(|other| *other != member).collect();
            let out: Vec<_> = rest.into_iter().flat_map(|other| bench.answers(step, other)).collect();
            bench.gave_up(&out, ReapWait::Unmet { member, of });
        }
    }
}

/// The first of two candidates has something in its way, and is left; the round goes on with the second.
#[test]
fn what_somebody_speaks_against_is_left_for_another_round() {
    let view = model::view();
    let owners = primaries(&view, TreeId { partition: PartitionId(0), n: 3 });
    let stand_in = view.layout().members().iter().map(|member| member.id).find(|id| !owners.contains(id)).unwrap();
    for (member, holds) in [(owners[1], Holds::Nothing), (owners[1], Holds::Other), (stand_in, Holds::Other)] {
        let mut bench = Bench::in_phase(Phase::Inquiring);
        let mut said = bench.said(member);
        said.holds[0] = holds;
        assert_eq!(bench.inquired(2, member, Some(said)), []);
        let rest: Vec<NodeId> = bench.members().into_iter().filter(|other| *other != member).collect();
        let out: Vec<_> = rest.into_iter().flat_map(|other| bench.answers(2, other)).collect();
        check_left(&bench, &out);
    }
    // What nobody tells of is spoken against too.
    for yes in [vec![false, true], Vec::new()] {
        let mut bench = Bench::in_phase(Phase::Fencing);
        let none = yes.is_empty();
        let said = Vouched { yes, ..bench.vouched(stand_in) };
        assert_eq!(bench.vouches(stand_in, Some(said)), []);
        let out: Vec<_> = owners.iter().flat_map(|other| bench.answers(3, *other)).collect();
        if none {
            assert_eq!((out, bench.reaper.counters().left), (Vec::new(), 2));
        } else {
            assert_eq!(out.len(), MEMBERS as usize);
            assert_eq!(bench.reaper.session.as_ref().unwrap().candidates, candidates()[1..]);
        }
    }
}

#[track_caller]
fn check_left(bench: &Bench, out: &[ReaperCommand]) {
    let (tree, round, rest) = (bench.tree, Round(MEMBERS + 1), candidates()[1..].to_vec());
    let fence = |member| ReaperCommand::Fence { step: Step(3), member, tree, round, candidates: rest.clone() };
    assert_eq!(out, ask(bench, fence));
    assert_eq!(bench.reaper.counters().left, 1);
}

#[test]
fn nothing_is_begun_while_somebody_is_away() {
    let mut bench = Bench::alone();
    assert_eq!(bench.start(), []);
    let others = bench.others();
    let (last, before) = others.split_last().unwrap();
    before.iter().for_each(|member| assert_eq!(bench.reach(*member, true), []));
    assert_eq!(bench.reaper.status().unwrap().waiting, Some(ReapWait::Away(vec![*last])));
    assert_eq!(bench.reach(*last, true), bench.find());
}

#[test]
fn nothing_is_begun_while_it_is_paused_or_clients_keep_the_shard_busy() {
    let mut bench = Bench::new();
    bench.reaper.pause();
    assert_eq!((bench.start(), bench.reaper.poll_timeout()), (Vec::new(), None));
    assert_eq!(bench.reaper.status().unwrap().waiting, Some(ReapWait::Paused));
    assert_eq!(bench.act(Reaper::resume), bench.find());

    let mut bench = Bench::new();
    assert_eq!(bench.act(|reaper, now, out| reaper.on_load(now, true, out)), []);
    assert_eq!((bench.start(), bench.reaper.poll_timeout()), (Vec::new(), None));
    assert_eq!(bench.reaper.status().unwrap().waiting, Some(ReapWait::Load));
    assert_eq!(bench.act(|reaper, now, out| reaper.on_load(now, false, out)), bench.find());
}

/// A walk that finds nothing, or whose search cannot read.
fn walked(bench: &mut Bench, step: u64, read: bool) -> Vec<ReaperCommand> {
    let found = read.then(|| Tombstones { candidates: Vec::new(), next: None });
    bench.act(|reaper, now, out| reaper.on_found(now, Step(step), found, out))
}

fn searches(bench: &Bench, step: u64) -> [ReaperCommand; 1] {
    [ReaperCommand::Find { step: Step(step), tree: bench.tree, after: None, limit: MAX_CANDIDATES }]
}

#[test]
fn what_is_ordered_during_a_walk_is_walked_over_once_more() {
    let mut bench = Bench::new();
    assert_eq!(bench.start(), searches(&bench, 1));
    assert_eq!(bench.start(), []);
    assert_eq!(walked(&mut bench, 1, true), searches(&bench, 2));
    assert_eq!(walked(&mut bench, 2, true), []);
    assert_eq!(bench.reaper.poll_timeout(), None);
}

/// The walk that follows is the one that was ordered.
#[test]
fn an_order_during_a_walk_that_fails_is_carried_out_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.start(), searches(&bench, 1));
    assert_eq!(bench.start(), []);
    assert_eq!(walked(&mut bench, 1, false), []);
    bench.now.time = bench.reaper.poll_timeout().expect("it tries again");
    assert_eq!(bench.act(Reaper::on_timer), searches(&bench, 2));
    assert_eq!(walked(&mut bench, 2, true), []);
    assert_eq!(bench.reaper.poll_timeout(), None);
}
