//! A shard's trees: changed by what its batches write, and written with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::count::{COUNTED_LEAVES, CountSpec, Counted, Place, Watch};
use super::disk::{
    CHECKPOINT, DIFFERENCE, Difference, UNKNOWN, batch_key, encode_checkpoint, encode_differences, tree_key,
};
use super::index::mend_index;
use super::marks::Marks;
use super::{Forest, ItemHash, ItemHasher, Leaves, SumsSpec, Tree, TreeId, TreeShape};
use crate::storage::{Batch, Family, Record};
use crate::types::PartitionId;

/// Bytes of batches' records beyond which each batch takes a checkpoint of one tree with it. It bounds what a start replays, and
/// is as much as the checkpoints of 256 trees of 1024 leaves: so these cost as much to write as the records do.
const MAX_RECORDS: usize = 4 << 20;

#[derive(Debug)]
struct Kept {
    tree: Tree,
    /// The first batch that its checkpoint lacks.
    lacks: Option<u64>,
}

/// An unknown tree that is being counted, leaf by leaf: those before `counted` are, and are kept up to date.
#[derive(Debug)]
struct Counting {
    sums: Tree,
    counted: u32,
}

/// The leaves of which something could not be read and has not been wiped.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// It is wiped another time.
    pub for_now: Vec<Range<u32>>,
    /// It is never wiped: of some of it no other node is a primary.
    pub for_good: Vec<Range<u32>>,
}

fn holds(stretches: &[Range<u32>], leaf: u32) -> bool {
    stretches.iter().any(|leaves| leaves.contains(&leaf))
}

/// What a count has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Leaves whose sums were wrong.
    pub corrected: u64,
    /// Entries of the index of tombstones that were not what the records say.
    pub reindexed: u64,
    /// Whether it was of use: not if too much has changed meanwhile.
    pub exact: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Trees {
    shard: u16,
    leaves: Leaves,
    hasher: ItemHasher,
    /// None before the ring is known.
    shape: Option<Arc<TreeShape>>,
    trees: BTreeMap<TreeId, Kept>,
    unknown: BTreeSet<TreeId>,
    /// Of the unknown ones, those whose count has begun.
    counting: BTreeMap<TreeId, Counting>,
    marks: Marks,
    /// Of the count under way.
    watch: Option<Watch>,
    /// What the batch that is being gathered changes.
    pending: BTreeMap<(TreeId, u32), u128>,
    /// The number of the last batch.
    last: u64,
    /// Bytes of the batches' records that are still there, up to the last.
    records: VecDeque<usize>,
    record_bytes: usize,
    max_records: usize,
    /// A batch has failed: what is in memory is not what is on the disk.
    failed: bool,
}

impl Trees {
    /// The trees of shard `shard` of `shards` out of a node's.
    pub fn of(forest: &Forest, shard: u16, shards: u16, leaves: Leaves, hasher: ItemHasher) -> Trees {
        let is_own = |tree: &TreeId| tree.partition.0 % shards.max(1) == shard;
        let own = forest.trees.iter().filter(|(tree, _)| is_own(tree));
        Trees {
            shard,
            leaves,
            hasher,
            shape: None,
            trees: own.map(|(tree, sums)| (*tree, Kept { tree: sums.clone(), lacks: None })).collect(),
            unknown: forest.unknown.iter().copied().filter(is_own).collect(),
            counting: BTreeMap::new(),
            marks: Marks::new(
                forest.marks.iter().filter(|((tree, _), _)| is_own(tree)).map(|(at, mark)| (*at, *mark)).collect(),
            ),
            watch: None,
            pending: BTreeMap::new(),
            last: forest.last,
            records: VecDeque::new(),
            record_bytes: 0,
            max_records: MAX_RECORDS,
            failed: false,
        }
    }

    /// The ring is known, or another one.
    pub fn set_shape(&mut self, shape: Arc<TreeShape>) {
        self.shape = Some(shape);
    }

    /// How keys fall into trees, once the ring is known.
    pub fn shape(&self) -> Option<&Arc<TreeShape>> {
        self.shape.as_ref()
    }

    /// How items are hashed.
    pub fn hasher(&self) -> &ItemHasher {
        &self.hasher
    }

    /// How many leaves each has.
    pub fn leaves(&self) -> Leaves {
        self.leaves
    }

    /// The root of a tree; `None` if it is not known what the tree holds.
    pub fn root(&self, tree: TreeId) -> Option<u128> {
        self.is_known(tree).then(|| self.trees.get(&tree).map_or(0, |kept| kept.tree.root()))
    }

    /// Sums of a tree; `None` if it is not known what the tree holds, or for more leaves than it has.
    pub fn sums(&self, spec: &SumsSpec) -> Option<Vec<u64>> {
        if !self.is_known(spec.tree) || spec.leaves > self.leaves {
            return None;
        }
        self.trees.get(&spec.tree).map_or_else(|| Some(vec![0; spec.len()]), |kept| kept.tree.sums(spec))
    }

    fn is_known(&self, tree: TreeId) -> bool {
        !self.failed && self.shape.is_some() && !self.unknown.contains(&tree) && !self.marks.is_uncounted(tree)
    }

    /// A record is about to change, with the batch that is being gathered. Before the ring is known nobody writes any.
    pub fn on_change(&mut self, key: &[u8], old: Option<&Record>, new: Option<&Record>) {
        let Some(shape) = &self.shape else { return };
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(&old.object, &new.object)
        {
            // Hints and actors change records, and no object.
            return;
        }
        let Some((tree, token)) = shape.place(key) else {
            debug_assert!(false, "a key that is none of the ring's is written");
            return;
        };
        let leaf = shape.leaf_of(token, self.leaves);
        let mut hash = |record: Option<&Record>| record.map(|record| self.hasher.hash(key, &record.object));
        let (old, record, new) = (hash(old), new, hash(new));
        if let Some(watch) = &mut self.watch {
            watch.note(key, (tree, leaf), new, record);
        }
        let sum = |item: Option<ItemHash>| item.map_or(0, |item| item.0);
        let difference = sum(new).wrapping_sub(sum(old));
        if difference == 0 {
            return;
        }
        if !self.unknown.contains(&tree) {
            self.add((tree, leaf), difference);
        } else if let Some(counting) = self.counting.get_mut(&tree).filter(|counting| leaf < counting.counted) {
            counting.sums.add(leaf, difference);
        }
    }

    /// The leaf of a key, once the ring is known.
    fn place_of(&self, key: &[u8]) -> Option<Place> {
        let shape = self.shape.as_ref()?;
        let (tree, token) = shape.place(key)?;
        Some((tree, shape.leaf_of(token, self.leaves)))
    }

    /// Adds to a leaf of a known tree, with the batch that is being gathered.
    fn add(&mut self, (tree, leaf): Place, difference: u128) {
        let leaves = self.leaves;
        let kept = self.trees.entry(tree).or_insert_with(|| Kept { tree: Tree::new(leaves), lacks: None });
        kept.tree.add(leaf, difference);
        let pending = self.pending.entry((tree, leaf)).or_default();
        *pending = pending.wrapping_add(difference);
    }

    /// A record that nobody can read goes with the batch: what it added to its leaf is not known, so the leaf has to be counted.
    /// `lacks`: this node is to get back from others what it held. Says which leaf it was.
    pub fn on_wipe(&mut self, key: &[u8], lacks: bool, batch: &mut Batch) -> Option<Place> {
        let place = self.place_of(key)?;
        if let Some(watch) = &mut self.watch {
            watch.note(key, place, None, None);
        }
        self.mark_wiped(place, lacks, batch);
        Some(place)
    }

    /// A leaf has to be counted since something unreadable goes from it with the batch.
    fn mark_wiped(&mut self, place: Place, lacks: bool, batch: &mut Batch) {
        let (tree, leaf) = place;
        let is_known = !self.unknown.contains(&tree);
        if self.counting.get(&tree).is_some_and(|counting| leaf < counting.counted) {
            self.counting.remove(&tree);
        }
        let change = |mark: &mut super::disk::Mark| {
            mark.uncounted |= is_known;
            mark.lacks |= lacks;
        };
        self.marks.set(place, change, self.leaves, batch);
    }

    /// A stretch of keys goes with the batch, which nobody can list: as [`Trees::on_wipe`], of each leaf of each tree that it may
    /// have been of. Says which these are, and which of them lack something.
    pub fn on_stretch_wiped(
        &mut self,
        partition: PartitionId,
        leaves: Range<u32>,
        lacks: impl Fn(TreeId) -> bool,
        batch: &mut Batch,
    ) -> Vec<(Place, bool)> {
        let trees = self.shape.iter().flat_map(|shape| shape.trees_of(partition));
        let places: Vec<(Place, bool)> =
            trees.flat_map(|tree| leaves.clone().map(move |leaf| (tree, leaf))).map(|at| (at, lacks(at.0))).collect();
        for (place, lacks) in &places {
            self.mark_wiped(*place, *lacks, batch);
        }
        places
    }

    /// Whether the leaf of a key waits to be counted, and is marked as lacking something if `lacks` asks for that.
    pub fn is_wiped_from(&self, key: &[u8], lacks: bool) -> bool {
        self.place_of(key).is_some_and(|place| {
            let is_uncounted = self.unknown.contains(&place.0) || self.marks.is_leaf_uncounted(place);
            is_uncounted && (!lacks || self.marks.is_leaf_lacking(place))
        })
    }

    /// A record stays of a stretch that goes with the batch: the count under way could not read it where it stood.
    pub fn on_kept(&mut self, key: &[u8], record: &Record) {
        let (Some(place), Some(watch)) = (self.place_of(key), &mut self.watch) else { return };
        watch.note(key, place, Some(self.hasher.hash(key, &record.object)), Some(record));
    }

    /// Whether nothing between these keys has changed since the count began that is under way; false if that is not known.
    pub fn is_untouched(&self, start: &Bytes, end: &Bytes) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_untouched(start, end))
    }

    /// Begins to count leaves of a partition from `from` on, or the next ones that have to be counted. All that was written must be
    /// in the engine, and the scan has to begin after this. `None`: nothing has to be, or no tree says anything any more.
    pub fn begin_count(&mut self, partition: PartitionId, from: Option<u32>) -> Option<CountSpec> {
        debug_assert!(self.pending.is_empty(), "a count begins between batches");
        let shape = self.shape.clone().filter(|_| !self.failed)?;
        let from = from.or_else(|| self.first_uncounted(partition))?;
        let of = from..(from + COUNTED_LEAVES).min(self.leaves.count());
        self.watch = Some(Watch::new(partition, of.clone()));
        Some(CountSpec { partition, leaves: self.leaves, of, shape, hasher: self.hasher.clone() })
    }

    /// The first leaf of a partition that has to be counted: an unknown tree's by their order, then those that were wiped from.
    fn first_uncounted(&self, partition: PartitionId) -> Option<u32> {
        let of = TreeId { partition, n: 0 }..=TreeId { partition, n: u8::MAX };
        let begun = |tree: &TreeId| self.counting.get(tree).map_or(0, |counting| counting.counted);
        let unknown = self.unknown.range(of).map(begun).min();
        let mut marked = self.marks.uncounted().filter(|(tree, _)| tree.partition == partition);
        unknown.or_else(|| marked.next().map(|(_, leaf)| leaf))
    }

    /// Whether something of a partition has to be counted.
    pub fn has_uncounted(&self, partition: PartitionId) -> bool {
        !self.failed && self.first_uncounted(partition).is_some()
    }

    /// The partitions of which something has to be counted before all trees say what they hold.
    pub fn uncounted(&self) -> BTreeSet<PartitionId> {
        let unknown = self.unknown.iter().map(|tree| tree.partition);
        unknown.chain(self.marks.partitions()).collect()
    }

    /// Gives up the count that is under way.
    pub fn drop_count(&mut self) {
        self.watch = None;
    }

    /// What leaves were counted to hold, with the batch that is being gathered: what is wrong is put right, and what was unknown comes
    /// to be known. A leaf with a rotten record that is about to be wiped (`is_wiped`) is left for later, and so are leaves of which
    /// something could not be read and is wiped later. Where it stays for good, a sum keeps what that has added, as long as it is known.
    pub fn settle(
        &mut self,
        counted: &Counted,
        unread: &Unread,
        is_wiped: impl Fn(TreeId) -> bool,
        batch: &mut Batch,
    ) -> Settled {
        let Some(watch) = self.watch.take().filter(|_| !self.failed) else { return Settled::default() };
        let (Some(sums), Some(shape)) = (watch.sums(counted), self.shape.clone()) else { return Settled::default() };
        let reindexed = mend_index(counted, &watch, batch);
        let rotten: BTreeSet<Place> = watch.rotten(counted).map(|(_, place)| *place).collect();
        let newer: BTreeSet<Place> = counted.newer.iter().map(|(_, place)| *place).collect();
        let mut corrected = 0;
        for tree in shape.trees_of(counted.partition) {
            let sum = |leaf: u32| sums.get(&(tree, leaf)).copied().unwrap_or(0);
            if self.unknown.contains(&tree) {
                self.go_on_counting(tree, counted, sum, batch);
                continue;
            }
            for leaf in counted.of.clone() {
                let place = (tree, leaf);
                let uncounted = self.marks.is_leaf_uncounted(place);
                let is_rotten = rotten.contains(&place);
                let waits = holds(&unread.for_now, leaf) || is_rotten && is_wiped(tree);
                // As long as a record stays that nobody can read, so does what it has added. Once that is not known any more, no later
                // count would find it either.
                let stays = holds(&unread.for_good, leaf) || is_rotten || newer.contains(&place);
                if waits || stays && !uncounted {
                    continue;
                }
                let kept = self.trees.get(&tree).map_or(0, |kept| kept.tree.leaf_sums()[leaf as usize]);
                let difference = sum(leaf).wrapping_sub(kept);
                if difference != 0 {
                    corrected += u64::from(!uncounted);
                    self.add(place, difference);
                }
                self.marks.set(place, |mark| mark.uncounted = false, self.leaves, batch);
            }
        }
        Settled { corrected, reindexed, exact: true }
    }

    fn go_on_counting(&mut self, tree: TreeId, counted: &Counted, sum: impl Fn(u32) -> u128, batch: &mut Batch) {
        let leaves = self.leaves;
        let counting = self.counting.entry(tree).or_insert_with(|| Counting { sums: Tree::new(leaves), counted: 0 });
        if counting.counted != counted.of.start {
            return;
        }
        counted.of.clone().for_each(|leaf| counting.sums.add(leaf, sum(leaf)));
        counting.counted = counted.of.end;
        if counting.counted == leaves.count()
            && let Some(Counting { sums, .. }) = self.counting.remove(&tree)
        {
            self.make_known(tree, sums, batch);
        }
    }

    /// Leaves that lack what was wiped from them.
    pub fn lacking(&self) -> impl Iterator<Item = Place> {
        self.marks.lacking()
    }

    /// A tree has got back what its other replicas hold: with the batch, it lacks nothing more.
    pub fn heal(&mut self, tree: TreeId, batch: &mut Batch) {
        self.marks.heal(tree, self.leaves, batch);
    }

    /// Adds to the batch what it changes of trees, and a checkpoint if there are too many records.
    pub fn write_into(&mut self, batch: &mut Batch) {
        let pending = std::mem::take(&mut self.pending);
        let differences = pending.into_iter().filter(|(_, by)| *by != 0);
        let differences: Vec<Difference> =
            differences.map(|((tree, leaf), by)| Difference { tree, leaf, by }).collect();
        if differences.is_empty() {
            return;
        }
        self.last += 1;
        for difference in &differences {
            let kept = self.trees.get_mut(&difference.tree).expect("whatever is pending was added to its tree");
            kept.lacks.get_or_insert(self.last);
        }
        let bytes = differences.len() * DIFFERENCE;
        self.records.push_back(bytes);
        self.record_bytes += bytes;
        let key = batch_key(self.shard, self.last);
        batch.put_with(Family::Merkle, &key, |out| encode_differences(differences.iter().copied(), out));
        // As much as all checkpoints hold: then these cost as much to write as the records do.
        let checkpoints = self.trees.len() * self.leaves.count() as usize * size_of::<u128>();
        if self.record_bytes > self.max_records.max(checkpoints) {
            self.check_point(batch);
        }
    }

    /// Writes the tree whose checkpoint is the oldest, and drops the records that no tree needs any more.
    fn check_point(&mut self, batch: &mut Batch) {
        let oldest = self
            .trees
            .iter_mut()
            .filter_map(|(tree, kept)| Some((kept.lacks?, *tree, kept)))
            .min_by_key(|(lacks, tree, _)| (*lacks, *tree));
        let Some((_, tree, kept)) = oldest else { return };
        batch.put_with(Family::Merkle, &tree_key(CHECKPOINT, tree), |out| {
            encode_checkpoint(self.last, &kept.tree, out);
        });
        kept.lacks = None;
        let needed = self.trees.values().filter_map(|kept| kept.lacks).min().unwrap_or(self.last + 1);
        let first = self.last + 1 - self.records.len() as u64;
        if first < needed {
            batch.delete_range(Family::Merkle, &batch_key(self.shard, first), &batch_key(self.shard, needed));
            for _ in first..needed {
                self.record_bytes -=
                    self.records.pop_front().expect("there is a record for each number from the first");
            }
        }
    }

    /// The batch could not be written: nothing more is said of any tree until a restart.
    pub fn fail(&mut self) {
        self.failed = true;
        self.pending.clear();
    }

    /// A tree that had to be counted has these sums: with the next batch it is known.
    pub fn make_known(&mut self, tree: TreeId, sums: Tree, batch: &mut Batch) {
        if self.unknown.remove(&tree) {
            batch.delete(Family::Merkle, &tree_key(UNKNOWN, tree));
            batch.put_with(Family::Merkle, &tree_key(CHECKPOINT, tree), |out| encode_checkpoint(self.last, &sums, out));
            self.trees.insert(tree, Kept { tree: sums, lacks: None });
        }
    }

    /// A change to the watch, for tests of its bound.
    #[cfg(test)]
    pub(crate) fn set_max_touched(&mut self, most: usize) {
        self.watch.iter_mut().for_each(|watch| watch.set_most(most));
    }

    /// Trees that have to be counted from the data.
    pub fn unknown(&self) -> impl Iterator<Item = TreeId> {
        self.unknown.iter().copied()
    }

    /// Bytes of records beyond which checkpoints are made.
    #[cfg(test)]
    pub(crate) fn set_max_records(&mut self, bytes: usize) {
        self.max_records = bytes;
    }

    /// Of a ring of one partition, in which there is nothing yet.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Trees {
        let mut trees = Trees::of(&Forest::default(), 0, 1, Leaves::default(), ItemHasher::new(&[0; 32]));
        trees.set_shape(Arc::new(TreeShape::new(1, [("default".to_owned(), 3)].into())));
        trees
    }
}
