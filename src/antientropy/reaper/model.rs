//! A walk at random over a few members with real stores: late, lost and doubled messages, crashes that lose what was not synced, wiped
//! disks, old processes that wake up. Nothing that was reaped comes back; and it does if one of these rules is dropped.

mod letters;

use std::collections::VecDeque;

use rand::rngs::Xoshiro256PlusPlus;

use super::*;
use crate::ring::{Layout, Member as Named, Partitions, Weight};
use crate::storage::merkle::{Forest, ItemHasher, Leaves, Trees};
use crate::storage::{
    HintDrop, MemoryConfig, MemoryEngine, NewHint, Op, Outcome, Rounds, Store, StoreLimits, Task, Update, object_key,
};
use crate::types::{Bucket, Generation, Key, NodeRun};
use crate::version::{Body, CausalContext, Digest, Object};

/// What nothing comes back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A store refuses what was read before its round.
    Refuse,
    /// Bytes carry the round of when they were read, not of when they are sent.
    LabelOfTheRead,
    /// Whoever is refused reads again.
    ReadAgain,
    /// A member vouches only if nothing else stands there.
    NothingElse,
    /// All members are asked, not only the primaries.
    AllMembers,
    /// A new disk takes nothing in, and vouches for nothing, before it has taken over another member's round.
    TakeOver,
    /// What an older run of a node sends is dropped.
    NewestRun,
    /// All members listen to the runs that were asked, and to no earlier ones.
    AllHaveMet,
}

const MEMBERS: usize = 4;
/// Of these, the rest stands in.
const PRIMARIES: usize = 3;

/// One process on one disk.
struct Process {
    store: Store<MemoryEngine, ()>,
    generation: u64,
    /// It has a round: at once, unless the disk is new.
    joined: bool,
    /// The newest run of each other that it has heard of.
    runs: [u64; MEMBERS],
}

/// What one process tells another.
#[derive(Clone, Debug)]
enum Letter {
    Write { object: Arc<Object>, round: Round, hint_for: Option<usize>, hint: Option<Digest> },
    Merged { sent: Digest, hint: Option<Digest> },
    Fenced { round: Round, object: Arc<Object>, hint: Option<Digest> },
    Meet,
    Met(Round),
    Command(ReaperCommand),
    Inquired(Step, Inquired),
    Vouched(Step, Vouched),
    Reaped(Step),
}

#[derive(Clone, Debug)]
struct Mail {
    from: usize,
    /// The run that sent it.
    generation: u64,
    to: usize,
    letter: Letter,
}

struct World {
    without: Option<Rule>,
    rng: Xoshiro256PlusPlus,
    view: Arc<RingView>,
    tree: TreeId,
    key: Bytes,
    /// By their place in the walk from the partition: the first is the runner.
    nodes: Vec<NodeId>,
    members: Vec<Process>,
    /// Old processes of members whose disks were lost; they only wake up.
    ghosts: Vec<(usize, Process)>,
    reaper: Reaper,
    now: Now,
    mail: VecDeque<Mail>,
    late: Vec<Mail>,
    /// How many of 200 steps are a client's, a crash, a lost disk; and how many of 100 of the rest an old process's.
    weather: [usize; 4],
    /// What clients were shown.
    shown: Vec<CausalContext>,
    writes: u64,
    /// What reaped tombstones had deleted.
    dead: Vec<CausalContext>,
}

pub(super) fn view() -> Arc<RingView> {
    let member = |id: u64| Named {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "default".into(),
        weight: Weight::default(),
        address: format!("10.0.0.{id}:7400"),
    };
    let members = (1..=MEMBERS as u64).map(member).collect();
    let layout = Layout::birth(Partitions::new(16).unwrap(), members, [].into()).unwrap();
    let cluster = layout.cluster_id();
    Arc::new(RingView::new(layout, cluster))
}

fn store(engine: Arc<MemoryEngine>, view: &RingView) -> Store<MemoryEngine, ()> {
    let mut trees = Trees::of(&Forest::default(), 0, 1, Leaves::default(), ItemHasher::new(&[0; 32]));
    trees.set_shape(Arc::new(tree_shape(view.layout())));
    let rounds = Rounds::load(&*engine).unwrap();
    Store::new(engine, StoreLimits { parked: 1, cached: 0 }, trees, rounds)
}

fn is_tombstone(object: &Object) -> bool {
    matches!(object.siblings(), [only] if only.body == Body::Tombstone)
}

impl World {
    fn new(seed: u64, without: Option<Rule>) -> World {
        let view = view();
        let bucket = Bucket::default();
        let name = Key::new("k").unwrap();
        let (partition, token) = view.partition_of(&bucket, &name);
        let list = view.preference(partition, &bucket).unwrap();
        let nodes: Vec<NodeId> = list.slots().iter().chain(list.stand_ins()).copied().collect();
        let process = |_| Process {
            store: store(Arc::new(MemoryEngine::new(MemoryConfig::default())), &view),
            generation: 1,
            joined: true,
            runs: [1; MEMBERS],
        };
        let members = (0..MEMBERS).map(process).collect();
        let settings =
            ReaperSettings { node: nodes[0], shard: partition.0, shards: 16, interval: Duration::from_secs(1) };
        let mut world = World {
            without,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            tree: TreeId { partition, n: 3 },
            key: object_key(partition, token, &bucket, &name).into(),
            members,
            ghosts: Vec::new(),
            reaper: Reaper::new(settings, seed),
            now: Now { time: Time::ZERO, wall_ms: 0 },
            mail: VecDeque::new(),
            late: Vec::new(),
            weather: [0; 4],
            shown: vec![CausalContext::default()],
            writes: 0,
            dead: Vec::new(),
            view,
            nodes,
        };
        // In half of the walks disks are lost all the time, and the others go on listening to the processes that were on them.
        let stormy = usize::from(world.chance(2));
        world.weather = [1 + world.pick(8), world.pick(4), world.pick(3) + stormy, 2 + stormy * world.pick(12)];
        world.start_reaper();
        world
    }

    fn partition(&self) -> PartitionId {
        self.tree.partition
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.random::<u32>().is_multiple_of(of)
    }

    fn pick(&mut self, of: usize) -> usize {
        (self.rng.random::<u64>() % of as u64) as usize
    }

    fn drops(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    fn start_reaper(&mut self) {
        let settings = self.reaper.settings.clone();
        self.reaper = Reaper::new(settings, self.rng.random());
        let mut out = Vec::new();
        let (view, nodes) = (self.view.clone(), self.nodes.clone());
        self.reaper.on_ring(self.now, view, &mut out);
        nodes.iter().for_each(|node| self.reaper.on_reach(self.now, *node, true, &mut out));
        assert!(out.is_empty(), "the first walk is not due yet");
    }

    /// Runs an operation, as a drain does: nothing is told of it before it is written, nor of a round before that is synced.
    fn run(&mut self, who: usize, op: Op) -> Outcome {
        let sync = self.chance(4);
        let key = self.key.clone();
        Self::run_on(&mut self.members[who].store, key, op, sync)
    }

    fn run_on(store: &mut Store<MemoryEngine, ()>, key: Bytes, op: Op, sync: bool) -> Outcome {
        let mut done = Vec::new();
        assert_eq!(store.submit(Task { purpose: (), key, op }, &mut done), None);
        Self::settle(store, sync);
        done.pop().unwrap().1.unwrap()
    }

    fn settle(store: &mut Store<MemoryEngine, ()>, sync: bool) {
        use crate::storage::Engine;
        store.commit().unwrap();
        if sync || store.owes_sync() {
            store.engine().sync().unwrap();
            store.on_synced();
        }
    }

    fn read(&mut self, who: usize) -> Option<(Arc<Object>, Round)> {
        match self.run(who, Op::Read) {
            Outcome::Read { object, round } => object.map(|object| (object, self.label(round))),
            other => panic!("{other:?}"),
        }
    }

    fn label(&self, round: Round) -> Round {
        if self.drops(Rule::LabelOfTheRead) { Round(u64::MAX) } else { round }
    }

    fn send(&mut self, from: usize, to: usize, letter: Letter) {
        let generation = self.members[from].generation;
        self.mail.push_back(Mail { from, generation, to, letter });
    }

    fn write(&mut self, from: usize, to: usize, object: &Arc<Object>, round: Round) {
        self.send(from, to, Letter::Write { object: object.clone(), round, hint_for: None, hint: None });
    }

    /// A client writes or deletes, with something that it or another was shown some time.
    fn act_of_a_client(&mut self) {
        let who = self.pick(PRIMARIES);
        if !self.is_joined(who) {
            return;
        }
        let nth = self.pick(self.shown.len());
        let mut client = self.shown[nth].clone();
        if self.chance(2)
            && let Some((object, _)) = self.read(who)
        {
            client = object.context().clone();
        }
        self.writes += 1;
        let mut update = Update { client, node: self.nodes[who], ..Update::nth(self.writes) };
        update.trust.granted = false;
        if self.chance(3) {
            update.body = Body::Value("v".into());
        }
        let mut context = update.client.clone();
        let Outcome::Updated { object, dot, round } = self.run(who, Op::Update(Box::new(update))) else {
            panic!("there is no bound on siblings")
        };
        let round = self.label(round);
        context.insert(dot);
        self.shown.push(context);
        for to in (0..PRIMARIES).filter(|to| *to != who) {
            if self.chance(4) {
                let letter = Letter::Write { object: object.clone(), round, hint_for: Some(to), hint: None };
                self.send(who, PRIMARIES, letter);
            } else {
                self.write(who, to, &object, round);
            }
        }
    }

    /// A client reads at one or two, is shown it, and all primaries are repaired: now, or much later.
    fn repair(&mut self) {
        let (one, other) = (self.pick(PRIMARIES), self.pick(PRIMARIES));
        let (Some((a, at)), Some((b, then))) = (self.read(one), self.read(other)) else { return };
        let (object, round) = (Arc::new(a.merge(&b)), at.min(then));
        self.shown.push(object.context().clone());
        (0..PRIMARIES).for_each(|to| self.write(one, to, &object, round));
    }

    /// The stand-in brings back what it holds for others.
    fn hand_off(&mut self) {
        let to = self.pick(PRIMARIES);
        let target = self.nodes[to];
        if let Outcome::Hint(Some(found)) = self.run(PRIMARIES, Op::ReadHint { target }) {
            let (round, hint) = (self.label(found.round), Some(found.hint.digest));
            self.send(PRIMARIES, to, Letter::Write { object: found.object, round, hint_for: None, hint });
        }
    }

    /// A process dies and starts anew; with the power goes what was not synced.
    fn crash(&mut self, who: usize) {
        let power = self.rng.random::<bool>();
        let engine = self.members[who].store.engine().clone();
        if power {
            engine.power_loss(&mut self.rng);
        } else {
            engine.kill();
        }
        self.members[who].store = store(engine.clone(), &self.view);
        self.members[who].generation += 1;
        // The batch that holds the generation is synced.
        crate::storage::Engine::sync(&*engine).unwrap();
        if who == 0 {
            self.start_reaper();
        }
    }

    /// A node gets a new disk; its old process may wake up again.
    fn wipe(&mut self, who: usize) {
        let generation = self.members[who].generation + 1;
        let joined = self.drops(Rule::TakeOver);
        let mut runs = [0; MEMBERS];
        runs[who] = generation;
        let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
        let new = Process { store: store(engine, &self.view), generation, joined, runs };
        let old = std::mem::replace(&mut self.members[who], new);
        self.ghosts.push((who, old));
        if who == 0 {
            self.start_reaper();
        }
    }

    fn is_joined(&self, who: usize) -> bool {
        self.members[who].joined
    }

    /// An old process sends what it holds, to somebody who may not know that it is old; refused for its round, it takes that over.
    fn wake_ghost(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let nth = self.pick(self.ghosts.len());
        let to = self.pick(PRIMARIES);
        let met = self.members[to].store.rounds().of(self.partition());
        let of = self.ghosts[nth].0;
        let generation = self.ghosts[nth].1.generation;
        if of == to || !self.drops(Rule::NewestRun) && self.members[to].runs[of] > generation {
            return;
        }
        let op = if self.rng.random() { Op::Adopt { round: met } } else { Op::Read };
        let outcome = Self::run_on(&mut self.ghosts[nth].1.store, self.key.clone(), op, true);
        if let Outcome::Read { object: Some(object), round } = outcome {
            let letter = Letter::Write { object, round: self.label(round), hint_for: None, hint: None };
            self.late.push(Mail { from: of, generation, to, letter });
        }
    }

    fn step(&mut self) {
        let [clients, crashes, wipes, ghosts] = self.weather;
        let at = self.pick(200);
        if at < clients {
            return self.act_of_a_client();
        }
        if at < clients + crashes {
            // Now and then the power fails everywhere.
            let first = self.pick(MEMBERS);
            let all = if self.chance(4) { 0..MEMBERS } else { first..first + 1 };
            return all.for_each(|who| self.crash(who));
        }
        if at < clients + crashes + wipes && self.ghosts.len() < 6 {
            let who = self.pick(MEMBERS);
            return self.wipe(who);
        }
        if self.pick(100) < ghosts {
            return self.wake_ghost();
        }
        match self.pick(100) {
            0..3 => self.repair(),
            3..8 => {
                let (from, to) = (self.pick(MEMBERS), self.pick(PRIMARIES));
                if let Some((object, round)) = self.read(from) {
                    self.write(from, to, &object, round);
                }
            }
            8..10 => self.hand_off(),
            10..14 => {
                // Some listen to its old process for a while longer.
                let who = self.pick(MEMBERS);
                let to = (who + 1 + self.pick(MEMBERS - 1)) % MEMBERS;
                if !self.is_joined(who) || self.members[to].runs[who] < self.members[who].generation {
                    self.send(who, to, Letter::Meet);
                }
            }
            14..20 => {
                self.now.time = self.now.time + Duration::from_secs(1);
                // Who asks gives up some time.
                if self.chance(8) {
                    self.tell(|reaper, now, node, out| reaper.on_reach(now, node, false, out), 1);
                    self.tell(|reaper, now, node, out| reaper.on_reach(now, node, true, out), 1);
                }
                self.tell(|reaper, now, _, out| reaper.on_timer(now, out), 0);
            }
            _ => self.deliver(),
        }
    }

    /// A value stands somewhere that a reaped tombstone had deleted.
    fn is_haunted(&mut self) -> bool {
        (0..MEMBERS).any(|who| {
            let Some((object, _)) = self.read(who) else { return false };
            let mut values = object.siblings().iter().filter(|sibling| sibling.body != Body::Tombstone);
            values.any(|value| self.dead.iter().any(|dead| dead.contains(value.dot)))
        })
    }
}

/// How many of these walks have reaped something, and how many of those were haunted.
fn walk(seeds: std::ops::Range<u64>, steps: u32, without: Option<Rule>) -> (u64, u64) {
    let (mut reaping, mut haunted) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, without);
        for _ in 0..steps {
            world.step();
            if !world.dead.is_empty() && world.is_haunted() {
                haunted += 1;
                break;
            }
        }
        reaping += u64::from(!world.dead.is_empty());
    }
    (reaping, haunted)
}

#[test]
fn nothing_that_was_reaped_comes_back() {
    let walks = std::env::var("REAPER_WALKS").map_or(200, |walks| walks.parse().expect("a number of walks"));
    let (reaping, haunted) = walk(0..walks, 1500, None);
    eprintln!("{reaping} of {walks} walks reap");
    assert!(reaping > walks / 20, "{reaping}");
    assert_eq!(haunted, 0);
}

#[test]
fn it_comes_back_without_a_rule() {
    for rule in [Rule::NothingElse, Rule::AllMembers] {
        let (reaping, haunted) = walk(0..200, 1500, Some(rule));
        assert!(haunted > 0, "{rule:?} is not missed in {reaping} runs");
    }
}

#[test]
fn it_comes_back_without_a_rule_that_is_seldom_missed() {
    for rule in [Rule::NewestRun, Rule::Refuse, Rule::LabelOfTheRead, Rule::ReadAgain, Rule::TakeOver, Rule::AllHaveMet]
    {
        let haunted = (0..20).any(|part| walk(part * 200..(part + 1) * 200, 1500, Some(rule)).1 > 0);
        assert!(haunted, "{rule:?} is not missed");
    }
}
