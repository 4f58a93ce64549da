//! What a start makes of what the last run left: the trees, with the records of its batches folded in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::disk::{
    BATCH, CHECKPOINT, FORMAT_KEY, Mark, UNKNOWN, WIPED, decode_checkpoint, decode_differences, decode_format,
    decode_mark, encode_checkpoint, encode_format, encode_mark, mark_key, parse_batch_key, parse_mark_key,
    parse_tree_key, tree_key,
};
use super::marks::rescale;
use super::{Leaves, Tree, TreeId, TreeShape};
use crate::storage::{Batch, Engine, Family, Lookup, ReadTier, ScanLimit, StorageError};

/// All trees of a node, at its start.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Those of which anything was ever written.
    pub(super) trees: BTreeMap<TreeId, Tree>,
    /// Those that have to be counted from the data before they say anything.
    pub(super) unknown: BTreeSet<TreeId>,
    /// The number of the last batch of any run.
    pub(super) last: u64,
    /// Leaves from which records were wiped.
    pub(super) marks: BTreeMap<(TreeId, u32), Mark>,
}

impl Forest {
    /// Reads all trees, and writes them back with nothing left to be replayed, in one batch that needs no sync: without it
    /// the next start does the same again. `shape`: by the ring that the directory holds, if it holds one.
    ///
    /// What is damaged, or missing since the directory is older than trees, or of fewer `leaves` than wanted, is unknown: it is counted
    /// from the data while the node runs.
    ///
    /// # Errors
    /// [`StorageError`] if the engine cannot write, or not even tell whether it has trees.
    pub fn load(engine: &dyn Engine, leaves: Leaves, shape: Option<&TreeShape>) -> Result<Forest, StorageError> {
        let format = match engine.get(Family::Merkle, FORMAT_KEY, ReadTier::Disk) {
            Ok(Lookup::Found(bytes)) => decode_format(&bytes),
            Ok(Lookup::Absent | Lookup::Miss) | Err(StorageError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut batch = Batch::new();
        let replayed = match format.map(|before| Replay::run(engine, before)) {
            Some(Err(error)) if !matches!(error, StorageError::Corrupt { .. }) => return Err(error),
            replayed => replayed,
        };
        let mut forest = match replayed {
            Some(Ok(replay)) => replay.finish(leaves, &mut batch),
            None if is_empty(engine)? => Forest::default(),
            None | Some(Err(_)) => {
                // All of it, so that nothing is looked at any more that cannot be read.
                batch.delete_range(Family::Merkle, &[], &[0xff]);
                let unknown = shape.into_iter().flat_map(TreeShape::trees).collect();
                Forest { unknown, ..Forest::default() }
            }
        };
        forest.marks = load_marks(engine, leaves, &forest.unknown, shape, &mut batch)?;
        batch.put(Family::Merkle, FORMAT_KEY, &encode_format(leaves));
        forest.unknown.iter().for_each(|tree| batch.put(Family::Merkle, &tree_key(UNKNOWN, *tree), &[]));
        engine.commit(&mut batch)?;
        Ok(forest)
    }
}

/// Reads the marks on leaves, and writes them back where the trees have other leaves now, or are counted as a whole. One that is damaged
/// may have stood for anything in its tree.
fn load_marks(
    engine: &dyn Engine,
    leaves: Leaves,
    unknown: &BTreeSet<TreeId>,
    shape: Option<&TreeShape>,
    batch: &mut Batch,
) -> Result<BTreeMap<(TreeId, u32), Mark>, StorageError> {
    let (mut marks, mut found) = (BTreeMap::<(TreeId, u32), Mark>::new(), BTreeSet::new());
    let scanned = scan(engine, WIPED, &mut |key, value| {
        let Some((tree, leaf)) = parse_mark_key(key) else { return };
        found.insert((tree, leaf));
        let (of, mark) = match decode_mark(value) {
            Some((mark, before)) => (rescale(leaf, before, leaves), mark),
            None => (0..leaves.count(), Mark::WORST),
        };
        for leaf in of {
            let known = marks.entry((tree, leaf)).or_default();
            known.uncounted |= mark.uncounted && !unknown.contains(&tree);
            known.lacks |= mark.lacks;
        }
    });
    match (scanned, shape) {
        (Ok(()), _) => {}
        // Any leaf may have been marked: as after a lost disk.
        (Err(StorageError::Corrupt { .. }), Some(shape)) => {
            batch.delete_range(Family::Merkle, &[WIPED], &[WIPED + 1]);
            for place in shape.trees().flat_map(|tree| (0..leaves.count()).map(move |leaf| (tree, leaf))) {
                let known = marks.entry(place).or_default();
                *known = Mark { uncounted: !unknown.contains(&place.0), lacks: true };
            }
        }
        (Err(error), _) => return Err(error),
    }
    marks.retain(|_, mark| *mark != Mark::default());
    for (tree, leaf) in found.iter().filter(|place| !marks.contains_key(place)) {
        batch.delete(Family::Merkle, &mark_key(*tree, *leaf));
    }
    for ((tree, leaf), mark) in &marks {
        batch.put(Family::Merkle, &mark_key(*tree, *leaf), &encode_mark(*mark, leaves));
    }
    Ok(marks)
}

fn is_empty(engine: &dyn Engine) -> Result<bool, StorageError> {
    let mut empty = true;
    let mut visit = |_: &[u8], _: &[u8]| {
        empty = false;
        ControlFlow::Break(())
    };
    match engine.scan(Family::Objects, &[], None, ScanLimit::entries(1), &mut visit) {
        Ok(_) => Ok(empty),
        // There is something, which cannot be read.
        Err(StorageError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What has been read so far.
#[derive(Default)]
struct Replay {
    trees: BTreeMap<TreeId, (u64, Tree)>,
    /// Changed since their checkpoints.
    changed: BTreeSet<TreeId>,
    unknown: BTreeSet<TreeId>,
    last: u64,
    /// A batch cannot be read: which trees it has changed is unknown.
    lost: bool,
}

impl Replay {
    /// Reads checkpoints and batches; whatever was first changed by a batch had so many `leaves`.
    fn run(engine: &dyn Engine, leaves: Leaves) -> Result<Replay, StorageError> {
        let mut replay = Replay::default();
        scan(engine, CHECKPOINT, &mut |key, value| {
            let Some(tree) = parse_tree_key(CHECKPOINT, key) else { return };
            match decode_checkpoint(value) {
                Ok((through, sums)) => replay.on_checkpoint(tree, through, sums),
                Err(_) => drop(replay.unknown.insert(tree)),
            }
        })?;
        scan(engine, UNKNOWN, &mut |key, _| replay.unknown.extend(parse_tree_key(UNKNOWN, key)))?;
        scan(engine, BATCH, &mut |key, value| match (parse_batch_key(key), decode_differences(value)) {
            (Some(number), Ok(differences)) => {
                replay.last = replay.last.max(number);
                for difference in differences {
                    let sums = || (0, Tree::new(leaves));
                    let (through, sums) = replay.trees.entry(difference.tree).or_insert_with(sums);
                    if number > *through && difference.leaf < sums.leaves().count() {
                        sums.add(difference.leaf, difference.by);
                        replay.changed.insert(difference.tree);
                    }
                }
            }
            _ => replay.lost = true,
        })?;
        if replay.lost {
            return Err(StorageError::Corrupt { detail: "a batch's record of trees is damaged".into() });
        }
        Ok(replay)
    }

    fn on_checkpoint(&mut self, tree: TreeId, through: u64, sums: Tree) {
        self.last = self.last.max(through);
        self.trees.insert(tree, (through, sums));
    }

    /// The forest, and what is to be written so that the next start has nothing to replay.
    fn finish(mut self, leaves: Leaves, batch: &mut Batch) -> Forest {
        for (tree, (_, sums)) in &mut self.trees {
            if sums.leaves() > leaves {
                *sums = sums.coarser(leaves);
                self.changed.insert(*tree);
            } else if sums.leaves() < leaves {
                self.unknown.insert(*tree);
            }
        }
        let Replay { mut trees, changed, unknown, last, .. } = self;
        for tree in &unknown {
            trees.remove(tree);
            batch.delete(Family::Merkle, &tree_key(CHECKPOINT, *tree));
        }
        for tree in changed.difference(&unknown) {
            let key = tree_key(CHECKPOINT, *tree);
            batch.put_with(Family::Merkle, &key, |out| encode_checkpoint(last, &trees[tree].1, out));
        }
        batch.delete_range(Family::Merkle, &[BATCH], &[BATCH + 1]);
        let trees = trees.into_iter().map(|(tree, (_, sums))| (tree, sums)).collect();
        Forest { trees, unknown, last, marks: BTreeMap::new() }
    }
}

fn scan(engine: &dyn Engine, kind: u8, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
    let mut visit = |key: &[u8], value: &[u8]| {
        each(key, value);
        ControlFlow::Continue(())
    };
    engine.scan(Family::Merkle, &[kind], Some(&[kind + 1]), ScanLimit::NONE, &mut visit).map(drop)
}
