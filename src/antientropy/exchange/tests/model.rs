//! Two replicas of one tree, brought together by the commands whatever is lost on the way.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::storage::merkle::{Tree, TreeShape};

/// What a replica holds: under each key a set, and sets merge by union: a blind write for each member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Replica(BTreeMap<Bytes, u8>);

fn hash(key: &Bytes, set: u8) -> ItemHash {
    let mut bytes = [0; 16];
    blake3::Hasher::new().update(key).update(&[set]).finalize_xof().fill(&mut bytes);
    ItemHash(u128::from_be_bytes(bytes))
}

/// A sibling for each member.
fn versions(set: u8) -> Versions {
    let members = (0..8).filter(|bit| set >> bit & 1 == 1);
    versions_of(members.map(|bit| blind(bit + 1, 1)))
}

fn shape() -> TreeShape {
    TreeShape::new(1, [(Bucket::DEFAULT.to_owned(), 3)].into())
}

impl Replica {
    fn tree(&self, leaves: Leaves) -> Tree {
        let mut tree = Tree::new(leaves);
        for (key, set) in &self.0 {
            let (_, token) = shape().place(key).unwrap();
            tree.add(shape().leaf_of(token, leaves), hash(key, *set).0);
        }
        tree
    }

    fn page(
        &self,
        leaves: Leaves,
        of: &[u32],
        (after, until): (Option<&Bytes>, Option<&Bytes>),
        limit: usize,
    ) -> ItemPage {
        let mut page = ItemPage::default();
        for leaf in of {
            let (start, end) = shape().leaf_bounds(PartitionId(0), *leaf, leaves);
            for (key, set) in self.0.range(Bytes::from(start)..Bytes::from(end)) {
                if after.is_some_and(|after| key <= after) || until.is_some_and(|until| key > until) {
                    continue;
                }
                page.items.push(Item { key: key.clone(), hash: hash(key, *set), versions: versions(*set) });
                if page.items.len() == limit {
                    page.next = Some(key.clone());
                    return page;
                }
            }
        }
        page
    }

    fn merge(&mut self, key: &Bytes, set: u8) {
        *self.0.entry(key.clone()).or_default() |= set;
    }

    fn holds(&self, other: &Replica) -> bool {
        other.0.iter().all(|(key, set)| self.0.get(key).is_some_and(|own| own & set == *set))
    }
}

/// How much goes wrong, and what is written meanwhile.
#[derive(Clone, Copy, Debug)]
struct Weather {
    failures: u32,
    writes: u32,
    /// Keys of a page, at most.
    page: usize,
    /// The peer's leaves.
    leaves: u32,
    /// Whether it tells what its objects have seen.
    versions: bool,
    seed: u64,
}

struct World {
    bench: Bench,
    own: Replica,
    peer: Replica,
    /// What they held when they began to compare.
    before: (Replica, Replica),
    weather: Weather,
    rng: StdRng,
    queue: VecDeque<ExchangeCommand>,
    agreed: u64,
}

impl World {
    fn new(items: &[(u16, u8, u8)], weather: Weather) -> World {
        let mut bench = Bench::new(1, 2);
        bench.exchange.settings.leaves = leaves(LEAVES);
        let (mut own, mut peer) = (Replica::default(), Replica::default());
        for (at, one, other) in items {
            let key = key_of(*at);
            [(&mut own, *one), (&mut peer, *other)].into_iter().filter(|(_, set)| *set != 0).for_each(
                |(replica, set)| {
                    replica.merge(&key, set);
                },
            );
        }
        let rng = StdRng::seed_from_u64(weather.seed);
        let before = (own.clone(), peer.clone());
        World { bench, own, peer, before, weather, rng, queue: VecDeque::new(), agreed: 0 }
    }

    fn fails(&mut self) -> bool {
        let fails = self.weather.failures > 0 && self.rng.random::<u32>().is_multiple_of(5);
        self.weather.failures -= u32::from(fails);
        fails
    }

    fn write(&mut self) {
        if self.weather.writes > 0 && self.rng.random::<u32>().is_multiple_of(3) {
            self.weather.writes -= 1;
            let (key, set) = (key_of(self.rng.random::<u16>() % 300), 1 << (self.rng.random::<u32>() % 8));
            if self.rng.random() { self.own.merge(&key, set) } else { self.peer.merge(&key, set) }
        }
    }

    /// Objects that go from one to the other: some may fail alone, and the step may fail after any of them.
    fn transfer(&mut self, keys: &[Bytes], to_peer: bool) -> Result<Transferred, ExchangeFailure> {
        assert!(!keys.is_empty() && keys.len() <= MAX_KEYS);
        let mut done = Transferred::default();
        for key in keys {
            let set = if to_peer { self.own.0.get(key) } else { self.peer.0.get(key) };
            let set = *set.expect("only what is there is sent");
            match self.fails() {
                true if self.rng.random() => return Err(ExchangeFailure::Unanswered),
                true if self.rng.random() => return Err(ExchangeFailure::ReadOnly),
                true => done.failed += 1,
                false => {
                    if to_peer {
                        self.peer.merge(key, set);
                    } else {
                        self.own.merge(key, set);
                    }
                    (done.sent, done.bytes) = (done.sent + 1, done.bytes + 10);
                }
            }
        }
        Ok(done)
    }

    /// Carries out one command, whatever became of the others.
    fn act(&mut self, command: ExchangeCommand) {
        let (page, fails) = (self.weather.page, ExchangeFailure::Unanswered);
        let told = match command {
            ExchangeCommand::Compare { step, .. } => {
                self.before = (self.own.clone(), self.peer.clone());
                let same = self.own.tree(leaves(LEAVES)).root() == self.peer.tree(leaves(LEAVES)).root();
                let verdicts = vec![if same { TreeVerdict::Same } else { TreeVerdict::Differs }];
                let answer = Comparison { shards: 1, rebuilding: false, verdicts };
                let answer = if self.fails() { Err(fails) } else { Ok(answer) };
                self.bench.act(|exchange, now, out| exchange.on_compared(now, step, answer, out))
            }
            ExchangeCommand::PeerSums { step, spec, .. } => {
                if spec.of == SumsOf::Branches {
                    self.before = (self.own.clone(), self.peer.clone());
                }
                let leaves = spec.leaves.common(leaves(self.weather.leaves));
                let sums = self.peer.tree(leaves).sums(&SumsSpec { leaves, ..spec }).unwrap();
                let answer = if self.fails() { Err(fails) } else { Ok((leaves, sums)) };
                self.bench.act(|exchange, now, out| exchange.on_peer_sums(now, step, answer, out))
            }
            ExchangeCommand::OwnSums { step, spec } => {
                let sums = self.own.tree(leaves(LEAVES)).sums(&spec).filter(|_| !self.fails());
                self.bench.act(|exchange, now, out| exchange.on_own_sums(now, step, sums, out))
            }
            ExchangeCommand::PeerItems { step, leaves, of, after, until, known, limit, .. } => {
                let bounds = (after.as_ref(), until.as_ref());
                let page = self.peer.page(leaves, &of, bounds, page.min(limit as usize));
                let hashes: BTreeSet<u64> = page.items.iter().map(|item| item.hash.short()).collect();
                let others = page.items.into_iter().filter(|item| !known.contains(&item.hash.short()));
                let is_told = self.weather.versions;
                let item = |Item { key, hash, versions }| PeerItem {
                    key,
                    hash: hash.short(),
                    versions: is_told.then_some(versions),
                };
                let page = PeerPage {
                    same: known.iter().map(|hash| hashes.contains(hash)).collect(),
                    items: others.map(item).collect(),
                    rotten: 0,
                    next: page.next,
                };
                let answer = if self.fails() { Err(fails) } else { Ok(page) };
                self.bench.act(|exchange, now, out| exchange.on_peer_items(now, step, answer, out))
            }
            ExchangeCommand::OwnItems { step, leaves, of, after, limit, .. } => {
                let page = self.own.page(leaves, &of, (after.as_ref(), None), page.min(limit as usize));
                let answer = if self.fails() { Err(OpFailure::Overloaded) } else { Ok(page) };
                self.bench.act(|exchange, now, out| exchange.on_own_items(now, step, answer, out))
            }
            ExchangeCommand::Want { step, keys, .. } => {
                let done = self.transfer(&keys, false);
                self.bench.act(|exchange, now, out| exchange.on_wanted(now, step, done, out))
            }
            ExchangeCommand::Push { step, keys, .. } => {
                let done = self.transfer(&keys, true);
                self.bench.act(|exchange, now, out| exchange.on_pushed(now, step, done, out))
            }
            ExchangeCommand::Agreed { .. } => {
                self.agreed += 1;
                for replica in [&self.own, &self.peer] {
                    assert!(replica.holds(&self.before.0) && replica.holds(&self.before.1), "{:?}", self.before);
                }
                Vec::new()
            }
        };
        self.queue.extend(told);
    }

    /// Until they have agreed.
    fn run(&mut self) {
        let (started, agreed) = (self.bench.start(), self.agreed);
        self.queue.extend(started);
        for _ in 0..20_000 {
            self.write();
            if let Some(command) = self.queue.pop_front() {
                self.act(command);
            } else if self.agreed > agreed {
                return;
            } else {
                let told = self.bench.wake();
                self.queue.extend(told);
            }
        }
        panic!("they never agree: {:?}", self.bench.exchange.status(self.bench.now));
    }
}

/// Keys of a few leaves, several in each.
fn key_of(at: u16) -> Bytes {
    let leaf = u64::from(at % 20) * 3;
    key_at(Token(leaf << 58 | u64::from(at)))
}

fn items(most: usize) -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    // The same on both sides, on one of them only, or anything.
    let sets = prop_oneof![
        4 => any::<u8>().prop_map(|set| (set, set)),
        1 => any::<u8>().prop_map(|set| (set, 0)),
        1 => any::<u8>().prop_map(|set| (0, set)),
        1 => any::<(u8, u8)>(),
    ];
    let items = (0u16..300, sets).prop_map(|(at, (one, other))| (at, one, other));
    proptest::collection::vec(items, 0..most)
}

fn weather(failures: u32, writes: u32) -> impl Strategy<Value = Weather> {
    let drawn = (0..=failures, 0..=writes, 1usize..20, 5u32..=7, any::<bool>(), any::<u64>());
    drawn.prop_map(|(failures, writes, page, leaves, versions, seed)| Weather {
        failures,
        writes,
        page,
        leaves: 1 << leaves,
        versions,
        seed,
    })
}

proptest! {
    /// On a quiet day nothing is sent that the other side has.
    #[test]
    fn replicas_become_equal_and_no_more_is_sent_than_differs(items in items(200), weather in weather(0, 0)) {
        let mut world = World::new(&items, weather);
        let mut expected = world.own.clone();
        world.peer.0.iter().for_each(|(key, set)| expected.merge(key, *set));
        let (own, peer) = (world.own.clone(), world.peer.clone());
        let lacks = |replica: &Replica, of: &Replica| {
            of.0.iter().filter(|(key, set)| replica.0.get(*key) != Some(*set)).count() as u64
        };
        let differing = lacks(&own, &peer) + own.0.keys().filter(|key| !peer.0.contains_key(*key)).count() as u64;
        world.run();
        prop_assert_eq!(&world.own, &expected);
        prop_assert_eq!(&world.peer, &expected);
        let counters = world.bench.exchange.counters();
        prop_assert_eq!(counters.keys_differing, differing);
        // What has been seen already is not sent.
        let is_news = |(key, set): &(&Bytes, &u8)| own.0.get(*key).is_none_or(|own| *own | **set != *own);
        let news = peer.0.iter().filter(is_news).count() as u64;
        let wanted = if weather.versions { news } else { lacks(&own, &peer) };
        prop_assert_eq!(counters.objects_wanted, wanted);
        prop_assert_eq!(counters.objects_sent, lacks(&peer, &expected));
    }

    /// Whatever fails and whatever is written meanwhile: what they say they agree about is with both, and in the end they
    /// are equal.
    #[test]
    fn replicas_become_equal_whatever_fails(items in items(100), weather in weather(40, 20)) {
        let mut world = World::new(&items, weather);
        world.run();
        world.weather = Weather { failures: 0, writes: 0, ..weather };
        world.run();
        prop_assert_eq!(&world.own, &world.peer);
    }
}
