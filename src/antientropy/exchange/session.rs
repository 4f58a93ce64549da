//! One tree compared with one peer: from its branches to its keys, leaf by leaf.
//!
//! ```text
//!   sums of branches -> sums of the leaves below those that differ -> the keys of those, some leaves at a time
//!
//!   peer's page of keys, then own pages of the same stretch; for each own page:
//!     only theirs: want          both, otherwise: want, look again, and push what still differs          only own: push
//! ```
//! Whoever takes no writes now is sent nothing more, and the other goes on getting what it lacks.
//!
//! Each step is a command and its answer. All that is kept is a page of the peer's keys and the differences of an own
//! page, however large a leaf is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::command::{ExchangeCommand, ExchangeFailure, PeerPage, Step, Transferred};
use super::{MAX_KEYS, MAX_LEAVES, MAX_PAGE};
use crate::storage::merkle::{BRANCHES, ItemPage, Leaves, SumsOf, SumsSpec, TreeId};
use crate::types::{NodeId, Time};

/// What a session waits for, or does next.
#[derive(Debug)]
enum Stage {
    PeerSums { of: SumsOf },
    OwnSums { of: SumsOf, theirs: Vec<u64> },
    PeerItems,
    OwnItems,
    Want,
    Push,
    LookAgain { after: Option<Bytes> },
    Done,
}

/// What of an own page differs from the peer's.
#[derive(Debug, Default)]
struct Differences {
    /// The page's last key, or the last of the peer's page; `None`: the chunk's end.
    end: Option<Bytes>,
    /// Keys to be had from the peer, ascending.
    wanted: VecDeque<Bytes>,
    /// Keys to be sent to the peer, ascending.
    pushed: VecDeque<Bytes>,
    /// From where own keys are to be read again.
    again: Option<Option<Bytes>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub tree: TreeId,
    pub peer: NodeId,
    pub began: Time,
    /// The order to compare everything that was the last one when it began.
    pub round: u64,
    /// By its own word, the peer has lost its disk.
    pub rebuilding: bool,
    /// The answer that it waits for; none while it is held back.
    pub step: Option<Step>,
    /// When the last answer came.
    pub answered: Time,
    /// Keys that differed.
    pub differing: u64,
    /// Bytes of lists and objects, both ways.
    pub bytes: u64,
    /// Keys that one of both cannot read, and objects that were not taken.
    pub failed: u64,
    /// Objects that were merged, at either end.
    pub merged: u64,
    /// This node takes writes now.
    pub takes: bool,
    /// So does the peer, as far as is known.
    peer_takes: bool,
    leaves: Leaves,
    stage: Stage,
    /// Leaves that differ, and are not begun yet.
    left: VecDeque<u32>,
    /// Leaves whose keys are being compared.
    chunk: Vec<u32>,
    /// All keys of the chunk up to this one are done.
    passed: Option<Bytes>,
    /// The peer's page: its keys behind `passed`, up to `bound`.
    theirs: BTreeMap<Bytes, u64>,
    /// `None`: the chunk's end.
    bound: Option<Bytes>,
    page: Differences,
}

impl Session {
    pub fn new(tree: TreeId, peer: NodeId, leaves: Leaves, now: Time, round: u64, rebuilding: bool) -> Session {
        Session {
            tree,
            peer,
            began: now,
            round,
            rebuilding,
            step: None,
            answered: now,
            differing: 0,
            bytes: 0,
            failed: 0,
            merged: 0,
            takes: true,
            peer_takes: true,
            leaves,
            stage: Stage::PeerSums { of: SumsOf::Branches },
            left: VecDeque::new(),
            chunk: Vec::new(),
            passed: None,
            theirs: BTreeMap::new(),
            bound: None,
            page: Differences::default(),
        }
    }

    /// What is to be done next; `None`: nothing more.
    pub fn command(&self, step: Step) -> Option<ExchangeCommand> {
        let Session { tree, peer, leaves, .. } = *self;
        let of = || self.chunk.clone();
        let limit = MAX_PAGE as u32;
        let first = |keys: &VecDeque<Bytes>| keys.iter().take(MAX_KEYS).cloned().collect();
        Some(match &self.stage {
            Stage::PeerSums { of } => ExchangeCommand::PeerSums { step, peer, spec: self.spec(*of) },
            Stage::OwnSums { of, .. } => ExchangeCommand::OwnSums { step, spec: self.spec(*of) },
            Stage::PeerItems => {
                let after = self.passed.clone();
                ExchangeCommand::PeerItems { step, peer, tree, leaves, of: of(), after, limit }
            }
            Stage::OwnItems => {
                let after = self.passed.clone();
                ExchangeCommand::OwnItems { step, tree, leaves, of: of(), after, limit }
            }
            Stage::LookAgain { after } => {
                ExchangeCommand::OwnItems { step, tree, leaves, of: of(), after: after.clone(), limit }
            }
            Stage::Want => ExchangeCommand::Want { step, peer, tree, keys: first(&self.page.wanted) },
            Stage::Push => ExchangeCommand::Push { step, peer, tree, keys: first(&self.page.pushed) },
            Stage::Done => return None,
        })
    }

    /// Whether the peer has not answered yet.
    pub fn has_just_begun(&self) -> bool {
        matches!(self.stage, Stage::PeerSums { of: SumsOf::Branches })
    }

    fn spec(&self, of: SumsOf) -> SumsSpec {
        SumsSpec { tree: self.tree, leaves: self.leaves, of }
    }

    /// The peer's sums, and of how many leaves they are.
    pub fn on_peer_sums(&mut self, leaves: Leaves, sums: Vec<u64>) -> Result<(), ExchangeFailure> {
        let Stage::PeerSums { of } = self.stage else { return Err(ExchangeFailure::Malformed) };
        if leaves > self.leaves {
            return Err(ExchangeFailure::Malformed);
        }
        let fewer = leaves < self.leaves;
        self.leaves = leaves;
        // Branches are the same, however many leaves lie below them.
        if fewer && of != SumsOf::Branches {
            return Ok(());
        }
        if sums.len() != self.spec(of).len() {
            return Err(ExchangeFailure::Malformed);
        }
        self.stage = Stage::OwnSums { of, theirs: sums };
        Ok(())
    }

    pub fn on_own_sums(&mut self, own: Vec<u64>) -> Result<(), ExchangeFailure> {
        let Stage::OwnSums { of, theirs } = &self.stage else { return Err(ExchangeFailure::Malformed) };
        if own.len() != theirs.len() {
            return Err(ExchangeFailure::Malformed);
        }
        let differs = own.iter().zip(theirs).map(|(own, theirs)| own != theirs);
        match of {
            SumsOf::Branches => {
                let branches =
                    (0..BRANCHES).zip(differs).fold(0, |bits, (branch, differs)| bits | u32::from(differs) << branch);
                let of = SumsOf::Leaves(branches);
                self.stage = if branches == 0 { Stage::Done } else { Stage::PeerSums { of } };
            }
            SumsOf::Leaves(_) => {
                let spec = self.spec(*of);
                let leaves = spec.leaf_indices().zip(differs).filter(|(_, differs)| *differs);
                self.left = leaves.map(|(leaf, _)| leaf).collect();
                self.begin_chunk();
            }
        }
        Ok(())
    }

    fn begin_chunk(&mut self) {
        self.chunk = self.left.drain(..self.left.len().min(MAX_LEAVES)).collect();
        self.passed = None;
        self.stage = if self.chunk.is_empty() { Stage::Done } else { Stage::PeerItems };
    }

    pub fn on_peer_items(&mut self, page: PeerPage) -> Result<(), ExchangeFailure> {
        if !matches!(self.stage, Stage::PeerItems) || page.items.len() > MAX_PAGE {
            return Err(ExchangeFailure::Malformed);
        }
        let keys = page.items.iter().map(|(key, _)| key);
        let in_order = self.passed.iter().chain(keys).is_sorted_by(|key, next| key < next);
        // Without one that lies ahead, the same page would be asked for again and again.
        let last = page.items.last().map(|(key, _)| key);
        let goes_on = page.next.as_ref().is_none_or(|next| Some(next) >= last && Some(next) > self.passed.as_ref());
        if !in_order || !goes_on {
            return Err(ExchangeFailure::Malformed);
        }
        self.failed += u64::from(page.rotten);
        self.theirs = page.items.into_iter().collect();
        self.bound = page.next;
        self.stage = Stage::OwnItems;
        Ok(())
    }

    pub fn on_own_items(&mut self, page: ItemPage) -> Result<(), ExchangeFailure> {
        let after = match &self.stage {
            Stage::OwnItems => &self.passed,
            Stage::LookAgain { after } => after,
            _ => return Err(ExchangeFailure::Malformed),
        };
        if page.next.as_ref().is_some_and(|next| Some(next) <= after.as_ref()) {
            return Err(ExchangeFailure::Malformed);
        }
        if matches!(self.stage, Stage::OwnItems) {
            self.compare(page);
        } else {
            self.look_again(page);
        }
        self.go_on();
        Ok(())
    }

    /// What of an own page differs from the peer's.
    fn compare(&mut self, page: ItemPage) {
        let end = earlier(page.next, self.bound.clone());
        let (mut wanted, mut pushed, mut again) = (Vec::new(), VecDeque::new(), None);
        let mut unmet = stretch(&self.theirs, self.passed.as_ref(), end.as_ref()).peekable();
        for item in page.items.iter().filter(|item| is_within(&item.key, end.as_ref())) {
            while let Some((key, _)) = unmet.next_if(|(key, _)| **key < item.key) {
                wanted.push(key.clone());
            }
            match unmet.next_if(|(key, _)| **key == item.key) {
                None => pushed.push_back(item.key.clone()),
                Some((_, hash)) if *hash == item.hash.short() => {}
                Some(_) => {
                    wanted.push(item.key.clone());
                    again = Some(self.passed.clone());
                }
            }
        }
        wanted.extend(unmet.map(|(key, _)| key.clone()));
        // What has rotted is about to be wiped, and then all of it is compared anew. Into what a newer version has written nothing is
        // merged.
        let unknown = page.rotten.iter().chain(&page.newer);
        let unknown: BTreeSet<&Bytes> = unknown.filter(|key| is_within(key, end.as_ref())).collect();
        wanted.retain(|key| !unknown.contains(key));
        self.failed += unknown.len() as u64;
        self.differing += (wanted.len() + pushed.len()) as u64;
        if again.is_some() {
            pushed.clear();
        }
        self.page = Differences { end, wanted: wanted.into(), pushed, again };
    }

    /// What the peer had otherwise has been merged here: the result goes to it, unless it is what the peer has.
    fn look_again(&mut self, page: ItemPage) {
        let end = &self.page.end;
        let is_over = page.next.as_ref().is_none_or(|next| !is_before(next, end.as_ref()));
        self.page.again = if is_over { None } else { Some(page.next) };
        let items = page.items.into_iter().filter(|item| is_within(&item.key, end.as_ref()));
        let differing = items.filter(|item| self.theirs.get(&item.key) != Some(&item.hash.short()));
        self.page.pushed = differing.map(|item| item.key).collect();
    }

    /// The peer has sent what it was asked for.
    pub fn on_wanted(&mut self, done: Result<Transferred, ExchangeFailure>) -> Result<(), ExchangeFailure> {
        if !matches!(self.stage, Stage::Want) {
            return Err(ExchangeFailure::Malformed);
        }
        if done == Err(ExchangeFailure::ReadOnly) {
            self.takes = false;
        } else {
            self.count(done?);
            self.page.wanted.drain(..self.page.wanted.len().min(MAX_KEYS));
        }
        self.go_on();
        Ok(())
    }

    /// The peer has got what it lacked.
    pub fn on_pushed(&mut self, done: Result<Transferred, ExchangeFailure>) -> Result<(), ExchangeFailure> {
        if !matches!(self.stage, Stage::Push) {
            return Err(ExchangeFailure::Malformed);
        }
        if done == Err(ExchangeFailure::ReadOnly) {
            self.peer_takes = false;
        } else {
            self.count(done?);
            self.page.pushed.drain(..self.page.pushed.len().min(MAX_KEYS));
        }
        self.go_on();
        Ok(())
    }

    fn count(&mut self, done: Transferred) {
        self.failed += u64::from(done.failed);
        self.merged += u64::from(done.sent);
    }

    /// What is left of an own page, or what comes behind it.
    fn go_on(&mut self) {
        let page = &mut self.page;
        if !self.takes {
            self.failed += page.wanted.drain(..).count() as u64;
        }
        if !self.peer_takes {
            // What it has otherwise is not looked for either: some object has failed already.
            self.failed += page.pushed.drain(..).count() as u64;
            page.again = None;
        }
        if !self.takes && !self.peer_takes {
            self.stage = Stage::Done;
            return;
        }
        self.stage = if !page.wanted.is_empty() {
            Stage::Want
        } else if !page.pushed.is_empty() {
            Stage::Push
        } else if let Some(after) = page.again.take() {
            Stage::LookAgain { after }
        } else if page.end.is_none() {
            return self.begin_chunk();
        } else {
            self.passed = page.end.take();
            if self.passed == self.bound { Stage::PeerItems } else { Stage::OwnItems }
        };
    }
}

/// Of two ends, the first; `None` is behind all keys.
fn earlier(a: Option<Bytes>, b: Option<Bytes>) -> Option<Bytes> {
    a.into_iter().chain(b).min()
}

fn is_within(key: &Bytes, end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| key <= end)
}

fn is_before(key: &Bytes, end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| key < end)
}

/// The keys behind one and up to another.
fn stretch<'a>(
    keys: &'a BTreeMap<Bytes, u64>,
    after: Option<&'a Bytes>,
    end: Option<&'a Bytes>,
) -> impl Iterator<Item = (&'a Bytes, &'a u64)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let to = end.map_or(Bound::Unbounded, Bound::Included);
    keys.range::<Bytes, _>((from, to))
}
