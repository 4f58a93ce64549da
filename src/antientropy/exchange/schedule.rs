//! Which trees are to be compared with whom, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::ops::Bound;
use std::time::Duration;

use super::command::Step;
use super::{ExchangeSettings, MAX_TREES};
use crate::antientropy::pace::Backoff;
use crate::antientropy::trees::{primaries, tree_shape};
use crate::ring::RingView;
use crate::storage::merkle::TreeId;
use crate::types::{NodeId, PartitionId, Time};

/// A tree, and another primary of it.
pub(super) type PairId = (TreeId, NodeId);

/// How far a pair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody has ordered it, and it is due at no time.
    #[default]
    Idle,
    /// It is due then.
    Due(Time),
    /// Its roots are being compared.
    Comparing,
    /// Its roots differed then: it waits for its turn to be compared in depth.
    Differs(Time),
    /// It is being compared in depth.
    Running,
}

/// What is known of a pair.
#[derive(Debug, Default)]
pub(super) struct Pair {
    place: Place,
    urgent: bool,
    /// Its roots are being compared, and own data has been lost since.
    void: bool,
    /// How often in a row it has come to nothing.
    pub failures: u32,
    /// They have agreed since everything was last ordered to be compared.
    pub agreed: bool,
}

impl Pair {
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }
}

/// No tree is behind it.
const LAST: TreeId = TreeId { partition: PartitionId(u16::MAX), n: u8::MAX };

/// By time, those first that cannot wait.
#[derive(Debug, Default)]
struct Queue {
    urgent: BTreeSet<(Time, TreeId)>,
    other: BTreeSet<(Time, TreeId)>,
}

impl Queue {
    fn set(&mut self, urgent: bool) -> &mut BTreeSet<(Time, TreeId)> {
        if urgent { &mut self.urgent } else { &mut self.other }
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.other.len()
    }

    fn until(set: &BTreeSet<(Time, TreeId)>, now: Time) -> impl Iterator<Item = TreeId> {
        set.iter().take_while(move |(at, _)| *at <= now).map(|(_, tree)| *tree)
    }

    fn is_due(&self, now: Time) -> bool {
        [&self.urgent, &self.other].into_iter().any(|set| Queue::until(set, now).next().is_some())
    }

    /// The first moment after this one at which something is due.
    fn next(&self, now: Time) -> Option<Time> {
        let rest = (Bound::Excluded((now, LAST)), Bound::Unbounded);
        let later = |set: &BTreeSet<(Time, TreeId)>| set.range(rest).next().map(|(at, _)| *at);
        later(&self.urgent).into_iter().chain(later(&self.other)).min()
    }
}

/// Roots that a peer was told.
#[derive(Debug)]
pub(super) struct Comparing {
    pub step: Step,
    pub trees: Vec<TreeId>,
    /// The order to compare everything that was the last one when they were told.
    pub round: u64,
    /// They are of one shard of a peer with so many; `None`: of any.
    pub grouped: Option<NonZeroU16>,
}

/// What is known of another primary.
#[derive(Debug, Default)]
pub(super) struct Peer {
    due: Queue,
    differing: Queue,
    pub comparing: Option<Comparing>,
    pub backoff: Backoff,
    /// How many shards it has, once it has said so.
    pub shards: Option<NonZeroU16>,
    /// By its own word, it has lost its disk.
    pub rebuilding: bool,
}

impl Peer {
    /// Trees that are due and not begun: to be compared, or found to differ.
    pub fn due(&self, now: Time) -> u64 {
        let due = Queue::until(&self.due.urgent, now).chain(Queue::until(&self.due.other, now));
        (due.count() + self.differing.len()) as u64
    }

    /// Whether there are any such trees.
    pub fn is_due(&self, now: Time) -> bool {
        self.differing.len() > 0 || self.due.is_due(now)
    }

    /// The first moment after this one at which something is due.
    pub fn next(&self, now: Time) -> Option<Time> {
        self.due.next(now)
    }

    /// Trees whose roots are to be told next, of those that are free. No more than can wait to be compared in depth, not counting what waits
    /// for something else than its turn; but those that cannot wait do not wait for others.
    pub fn batch(&self, now: Time, is_free: impl Fn(TreeId) -> bool) -> Vec<TreeId> {
        let waiting = self.differing.urgent.iter().chain(&self.differing.other).filter(|(_, tree)| is_free(*tree));
        let has_room = waiting.take(MAX_TREES).count() < MAX_TREES;
        let urgent_waits = self.differing.urgent.iter().any(|(_, tree)| is_free(*tree));
        let urgent = (has_room || !urgent_waits).then(|| Queue::until(&self.due.urgent, now));
        let other = has_room.then(|| Queue::until(&self.due.other, now));
        let due = urgent.into_iter().flatten().chain(other.into_iter().flatten());
        let shard = |tree: TreeId| self.shards.map(|shards| tree.partition.0 % shards);
        let mut due = due.filter(|tree| is_free(*tree)).peekable();
        let Some(first) = due.peek().map(|tree| shard(*tree)) else { return Vec::new() };
        due.filter(|tree| shard(*tree) == first).take(MAX_TREES).collect()
    }

    /// Of the trees that differ and are free, the one whose turn it is: whether it can wait, and since when it does.
    pub fn first_differing(&self, is_free: impl Fn(TreeId) -> bool) -> Option<(bool, Time, TreeId)> {
        let first = |set: &BTreeSet<(Time, TreeId)>| set.iter().copied().find(|(_, tree)| is_free(*tree));
        let urgent = first(&self.differing.urgent).map(|(since, tree)| (false, since, tree));
        urgent.or_else(|| first(&self.differing.other).map(|(since, tree)| (true, since, tree)))
    }
}

/// All pairs, and all peers.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pairs: BTreeMap<PairId, Pair>,
    peers: BTreeMap<NodeId, Peer>,
}

impl Schedule {
    /// These pairs and no others; `first` says when one is due that is new, if ever. Whatever was under way is due now.
    pub fn set_pairs(&mut self, now: Time, pairs: BTreeSet<PairId>, mut first: impl FnMut(PairId) -> Place) {
        let gone: Vec<PairId> = self.pairs.keys().filter(|id| !pairs.contains(id)).copied().collect();
        for id in gone {
            self.put(id, Place::Idle);
            self.pairs.remove(&id);
        }
        for id in pairs {
            let place = match self.pairs.get(&id) {
                None => first(id),
                Some(pair) => match pair.place {
                    place @ (Place::Idle | Place::Due(_)) => place,
                    Place::Comparing | Place::Differs(_) | Place::Running => Place::Due(now),
                },
            };
            self.pairs.entry(id).or_default();
            self.peers.entry(id.1).or_default();
            self.put(id, place);
        }
        let known: BTreeSet<NodeId> = self.pairs.keys().map(|(_, peer)| *peer).collect();
        self.peers.retain(|peer, _| known.contains(peer));
        self.peers.values_mut().for_each(|peer| peer.comparing = None);
    }

    pub fn pair_mut(&mut self, id: PairId) -> Option<&mut Pair> {
        self.pairs.get_mut(&id)
    }

    pub fn pairs(&self) -> impl Iterator<Item = (PairId, &Pair)> {
        self.pairs.iter().map(|(id, pair)| (*id, pair))
    }

    /// The pairs of one tree.
    pub fn pairs_of(&self, tree: TreeId) -> impl Iterator<Item = PairId> + '_ {
        self.pairs.range((tree, NodeId(0))..=(tree, NodeId(u64::MAX))).map(|(id, _)| *id)
    }

    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    pub fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    pub fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.values_mut()
    }

    /// A pair is that far now.
    pub fn put(&mut self, id: PairId, place: Place) {
        let Some(urgent) = self.pairs.get(&id).map(|pair| pair.urgent) else { return };
        self.change(id, place, urgent);
    }

    /// Comparisons of a tree's roots that are under way say nothing any more.
    pub fn void(&mut self, tree: TreeId) {
        for id in self.pairs_of(tree).collect::<Vec<_>>() {
            let Some(pair) = self.pairs.get_mut(&id) else { continue };
            (pair.void, pair.agreed) = (pair.place == Place::Comparing, false);
        }
    }

    /// Whether the comparison of roots that has ended was void.
    pub fn take_void(&mut self, id: PairId) -> bool {
        self.pairs.get_mut(&id).is_some_and(|pair| std::mem::take(&mut pair.void))
    }

    /// A pair can wait no longer, or it can again.
    pub fn set_urgent(&mut self, id: PairId, urgent: bool) {
        let Some(place) = self.pairs.get(&id).map(|pair| pair.place) else { return };
        self.change(id, place, urgent);
    }

    /// A pair is to be compared now, unless that has begun.
    pub fn hasten(&mut self, id: PairId, now: Time) {
        let place = self.pairs.get(&id).map(|pair| pair.place);
        if matches!(place, Some(Place::Idle)) || matches!(place, Some(Place::Due(at)) if at > now) {
            self.put(id, Place::Due(now));
        }
    }

    fn change(&mut self, (tree, node): PairId, place: Place, urgent: bool) {
        let (Some(pair), Some(peer)) = (self.pairs.get_mut(&(tree, node)), self.peers.get_mut(&node)) else { return };
        match pair.place {
            Place::Due(at) => peer.due.set(pair.urgent).remove(&(at, tree)),
            Place::Differs(since) => peer.differing.set(pair.urgent).remove(&(since, tree)),
            Place::Idle | Place::Comparing | Place::Running => false,
        };
        match place {
            Place::Due(at) => peer.due.set(urgent).insert((at, tree)),
            Place::Differs(since) => peer.differing.set(urgent).insert((since, tree)),
            Place::Idle | Place::Comparing | Place::Running => false,
        };
        pair.void &= place == Place::Comparing;
        (pair.place, pair.urgent) = (place, urgent);
    }
}

/// The trees of which this node is a primary and that fall to this shard, each with its other primaries.
pub(super) fn own_pairs(view: &RingView, settings: &ExchangeSettings) -> BTreeSet<PairId> {
    let shape = tree_shape(view.layout());
    let is_own = |partition: PartitionId| {
        let is_last = u32::from(partition.0) + 1 == shape.partitions();
        partition.0 % settings.shards.max(1) == settings.shard && !(mutant!(ExchangeSkipsLastPartition) && is_last)
    };
    let others = |tree: TreeId| {
        let primaries = primaries(view, tree);
        let is_replica = primaries.contains(&settings.node);
        let others = primaries.iter().filter(move |node| is_replica && **node != settings.node);
        others.map(move |node| (tree, *node))
    };
    shape.trees().filter(|tree| is_own(tree.partition)).flat_map(others).collect()
}

/// A pause after so many failures in a row: it doubles, up to `most`, and half of it is chance.
pub(super) fn retry_after(failures: u32, most: Duration, random: u64) -> Duration {
    const FIRST: Duration = Duration::from_secs(2);
    let full = FIRST.saturating_mul(1 << failures.min(16)).min(most);
    let half = u64::try_from(full.as_micros()).unwrap_or(u64::MAX) / 2;
    Duration::from_micros(half + random % (half + 1))
}
