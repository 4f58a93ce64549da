//! Whole lists of commands, one input after the other.

mod holds;
mod model;
mod sessions;
mod turns;

use bytes::Bytes;

use super::*;
use crate::antientropy::config::ByteRate;
use crate::ring::{BucketConfig, Layout, Member, Partitions, Weight};
use crate::storage::merkle::{Item, ItemHash, SumsOf, SumsSpec};
use crate::storage::{object_key, parse_object_key};
use crate::types::{Bucket, Key, Token, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling, Versions};

const SELF: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const THIRD: NodeId = NodeId(3);
const LEAVES: u32 = 64;
const SECOND: u64 = 1_000_000;

fn leaves(count: u32) -> Leaves {
    Leaves::new(count).unwrap()
}

fn tree(partition: u16) -> TreeId {
    TreeId { partition: PartitionId(partition), n: 3 }
}

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "default".into(),
        weight: Weight::default(),
        address: format!("10.0.0.{id}:7400"),
    }
}

/// So many members, of which each is a primary of all keys of the default bucket, if there are at most three.
fn view_of(partitions: u32, members: u64, ns: &[(&str, u8)]) -> Arc<RingView> {
    let config = |n| BucketConfig { n, ..BucketConfig::default() };
    let buckets = ns.iter().map(|(name, n)| (Bucket::new(name).unwrap(), config(*n))).collect();
    let partitions = Partitions::new(partitions).unwrap();
    let layout = Layout::birth(partitions, (1..=members).map(member).collect(), buckets).unwrap();
    let cluster = layout.cluster_id();
    Arc::new(RingView::new(layout, cluster))
}

fn settings(config: ExchangeConfig) -> ExchangeSettings {
    ExchangeSettings { node: SELF, shard: 0, shards: 1, leaves: leaves(LEAVES), max_object: 64 << 20, config }
}

/// Nothing is due but by order, and nothing waits for bytes.
fn by_order() -> ExchangeConfig {
    ExchangeConfig { interval: Duration::ZERO, rate: ByteRate(1 << 40), ..ExchangeConfig::default() }
}

/// An exchange and the clock it goes by.
struct Bench {
    exchange: Exchange,
    now: Now,
    /// With which the peer was asked last for what is not as here.
    known: Vec<u64>,
    until: Option<Bytes>,
}

impl Bench {
    fn blank(settings: ExchangeSettings, now: Now) -> Bench {
        Bench { exchange: Exchange::new(settings, 1), now, known: Vec::new(), until: None }
    }

    /// It knows the ring.
    fn of(settings: ExchangeSettings, view: Arc<RingView>) -> Bench {
        let now = Now { time: Time::from_micros(SECOND), wall_ms: 2000 };
        let mut bench = Bench::blank(settings, now);
        assert_eq!(bench.act(|exchange, now, out| exchange.on_ring(now, view, out)), []);
        bench
    }

    /// All of so many members can be reached, and nothing is due but by order.
    fn new(partitions: u32, members: u64) -> Bench {
        let mut bench = Bench::of(settings(by_order()), view_of(partitions, members, &[]));
        for id in 2..=members {
            assert_eq!(bench.reach(NodeId(id)), []);
        }
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Exchange, Now, &mut Vec<ExchangeCommand>)) -> Vec<ExchangeCommand> {
        let mut out = Vec::new();
        act(&mut self.exchange, self.now, &mut out);
        for command in &out {
            if let ExchangeCommand::PeerItems { known, until, .. } = command {
                (self.known, self.until) = (known.clone(), until.clone());
            }
        }
        out
    }

    fn pass(&mut self, span: Duration) {
        self.now.time = self.now.time + span;
    }

    /// The moment that it named, and what it does then.
    #[track_caller]
    fn wake(&mut self) -> Vec<ExchangeCommand> {
        let at = self.exchange.poll_timeout().expect("it waits for a moment");
        assert!(at > self.now.time, "a moment that has passed");
        self.now.time = at;
        self.act(Exchange::on_timer)
    }

    fn reach(&mut self, node: NodeId) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_reach(now, node, true, out))
    }

    fn lose(&mut self, node: NodeId) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_reach(now, node, false, out))
    }

    fn start(&mut self) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.start(now, None, out))
    }

    fn load(&mut self, busy: bool) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_load(now, busy, out))
    }

    fn compared(&mut self, step: u64, verdicts: &[TreeVerdict]) -> Vec<ExchangeCommand> {
        let answer = Comparison { shards: 1, rebuilding: false, verdicts: verdicts.to_vec() };
        self.answered(step, Ok(answer))
    }

    fn answered(&mut self, step: u64, answer: Result<Comparison, ExchangeFailure>) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_compared(now, Step(step), answer, out))
    }

    fn peer_sums(&mut self, step: u64, sums: Vec<u64>) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_peer_sums(now, Step(step), Ok((leaves(LEAVES), sums)), out))
    }

    fn own_sums(&mut self, step: u64, sums: Vec<u64>) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_own_sums(now, Step(step), Some(sums), out))
    }

    /// Of a page of all that the peer has, it tells what it was asked for.
    fn peer_items(&mut self, step: u64, mut page: PeerPage) -> Vec<ExchangeCommand> {
        page.items.retain(|item| self.until.as_ref().is_none_or(|until| item.key <= *until));
        let has = |hash: &u64| page.items.iter().any(|item| item.hash == *hash);
        page.same = self.known.iter().map(has).collect();
        page.items.retain(|item| !self.known.contains(&item.hash));
        self.tell_items(step, page)
    }

    fn tell_items(&mut self, step: u64, page: PeerPage) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_peer_items(now, Step(step), Ok(page), out))
    }

    fn own_items(&mut self, step: u64, page: ItemPage) -> Vec<ExchangeCommand> {
        self.act(|exchange, now, out| exchange.on_own_items(now, Step(step), Ok(page), out))
    }

    fn wanted(&mut self, step: u64, sent: u32, failed: u32) -> Vec<ExchangeCommand> {
        let done = Transferred { sent, failed, bytes: u64::from(sent) * 100 };
        self.act(|exchange, now, out| exchange.on_wanted(now, Step(step), Ok(done), out))
    }

    fn pushed(&mut self, step: u64, sent: u32, failed: u32) -> Vec<ExchangeCommand> {
        let done = Transferred { sent, failed, bytes: u64::from(sent) * 100 };
        self.act(|exchange, now, out| exchange.on_pushed(now, Step(step), Ok(done), out))
    }

    /// The only tree of a ring of one partition differs in these leaves: it asks for the keys of the first. Takes steps 1 to 5.
    #[track_caller]
    fn differ(leaves: &[u32]) -> (Bench, Vec<ExchangeCommand>) {
        let mut bench = Bench::new(1, 2);
        assert_eq!(bench.start(), [compare(1, OTHER, &[0])]);
        assert_eq!(bench.compared(1, &[TreeVerdict::Differs]), [sums_of_branches(2)]);
        let items = bench.sum_up(2, leaves);
        (bench, items)
    }

    /// Sums as they are asked for, that differ in these leaves; the first was asked for with this step.
    #[track_caller]
    fn sum_up(&mut self, step: u64, differing: &[u32]) -> Vec<ExchangeCommand> {
        let per_branch = leaves(LEAVES).per_branch();
        let is_in = |branch: u32| differing.iter().any(|leaf| leaf / per_branch == branch);
        let theirs: Vec<u64> = (0..32).map(|branch| u64::from(is_in(branch))).collect();
        let own = self.peer_sums(step, theirs);
        let of = SumsOf::Branches;
        assert_eq!(own, [ExchangeCommand::OwnSums { step: Step(step + 1), spec: spec(of) }]);
        let asked = self.own_sums(step + 1, vec![0; 32]);
        let of = SumsOf::Leaves((0..32).fold(0, |bits, branch| bits | u32::from(is_in(branch)) << branch));
        assert_eq!(asked, [ExchangeCommand::PeerSums { step: Step(step + 2), peer: OTHER, spec: spec(of) }]);
        let theirs: Vec<u64> = spec(of).leaf_indices().map(|leaf| u64::from(differing.contains(&leaf))).collect();
        let own = vec![0; theirs.len()];
        let asked = self.peer_sums(step + 2, theirs);
        assert_eq!(asked, [ExchangeCommand::OwnSums { step: Step(step + 3), spec: spec(of) }]);
        self.own_sums(step + 3, own)
    }
}

fn spec(of: SumsOf) -> SumsSpec {
    SumsSpec { tree: tree(0), leaves: leaves(LEAVES), of }
}

fn compare(step: u64, peer: NodeId, partitions: &[u16]) -> ExchangeCommand {
    ExchangeCommand::Compare { step: Step(step), peer, trees: partitions.iter().copied().map(tree).collect() }
}

fn sums_of_branches(step: u64) -> ExchangeCommand {
    ExchangeCommand::PeerSums { step: Step(step), peer: OTHER, spec: spec(SumsOf::Branches) }
}

/// This node has told what it has on a page.
fn peer_asked(step: u64, of: &[u32], after: Option<&Bytes>, has: &ItemPage) -> ExchangeCommand {
    let (after, until, limit) = (after.cloned(), has.next.clone(), MAX_PAGE as u32);
    let known = has.items.iter().map(|item| item.hash.short()).collect();
    let (step, leaves) = (Step(step), leaves(LEAVES));
    ExchangeCommand::PeerItems { step, peer: OTHER, tree: tree(0), leaves, of: of.to_vec(), after, until, known, limit }
}

fn own_asked(step: u64, of: &[u32], after: Option<&Bytes>) -> ExchangeCommand {
    let (after, limit) = (after.cloned(), MAX_PAGE as u32);
    ExchangeCommand::OwnItems { step: Step(step), tree: tree(0), leaves: leaves(LEAVES), of: of.to_vec(), after, limit }
}

fn want(step: u64, keys: &[Bytes]) -> ExchangeCommand {
    ExchangeCommand::Want { step: Step(step), peer: OTHER, tree: tree(0), keys: keys.to_vec() }
}

fn push(step: u64, keys: &[Bytes]) -> ExchangeCommand {
    ExchangeCommand::Push { step: Step(step), peer: OTHER, tree: tree(0), keys: keys.to_vec() }
}

fn agreed(partition: u16, peer: NodeId) -> ExchangeCommand {
    ExchangeCommand::Agreed { tree: tree(partition), peer }
}

/// Keys of the only partition, in order.
fn keys(count: u64) -> Vec<Bytes> {
    (0..count).map(|at| key_at(Token(at))).collect()
}

fn key_at(token: Token) -> Bytes {
    object_key(PartitionId(0), token, &Bucket::default(), &Key::new("k").unwrap()).into()
}

fn write(actor: u64, counter: u64) -> Sibling {
    let dot = Dot { actor: Actor(actor), counter };
    Sibling { dot, write_id: WriteId(counter.into()), node: SELF, wall_ms: 1, body: Body::Tombstone }
}

/// What a coordinator that knew of nothing wrote.
fn blind(actor: u64, counter: u64) -> Object {
    Object::update(None, &CausalContext::default(), write(actor, counter))
}

/// Of what these merge to.
fn versions_of(objects: impl IntoIterator<Item = Object>) -> Versions {
    let merged = objects.into_iter().reduce(|merged, object| merged.merge(&object));
    Versions::of(&merged.expect("there is no object of none"))
}

/// Of a version of what stands under a key.
fn hash_of(key: &Bytes, version: u64) -> u64 {
    parse_object_key(key).unwrap().token.0 * 1000 + version
}

/// All that the peer has; of no version it is told what it has seen.
fn theirs(items: &[(&Bytes, u64)], next: Option<&Bytes>) -> PeerPage {
    let item =
        |(key, version): &(&Bytes, u64)| PeerItem { key: (*key).clone(), hash: hash_of(key, *version), versions: None };
    PeerPage { items: items.iter().map(item).collect(), next: next.cloned(), ..PeerPage::default() }
}

fn own(items: &[(&Bytes, u64)], next: Option<&Bytes>) -> ItemPage {
    let item = |(key, version): &(&Bytes, u64)| {
        let hash = ItemHash(hash_of(key, *version).into());
        Item { key: (*key).clone(), hash, versions: versions_of([blind(1, 1)]) }
    };
    ItemPage { items: items.iter().map(item).collect(), next: next.cloned(), ..ItemPage::default() }
}

/// Trees whose roots a peer is told with these commands.
fn compared(commands: &[ExchangeCommand]) -> Vec<TreeId> {
    let trees = |command: &ExchangeCommand| match command {
        ExchangeCommand::Compare { trees, .. } => trees.clone(),
        _ => Vec::new(),
    };
    commands.iter().flat_map(trees).collect()
}

/// Trees that are begun in depth with these commands, and with whom.
fn begun(commands: &[ExchangeCommand]) -> Vec<(u16, NodeId)> {
    let begun = |command: &ExchangeCommand| match command {
        ExchangeCommand::PeerSums { peer, spec, .. } => Some((spec.tree.partition.0, *peer)),
        _ => None,
    };
    commands.iter().filter_map(begun).collect()
}
