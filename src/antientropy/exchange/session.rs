//! One tree compared with one peer: from its branches to its keys, leaf by leaf.
//!
//! ```text
//!   sums of branches -> sums of the leaves below those that differ -> the keys of those, some leaves at a time
//!
//!   own page of keys, then the peer's pages of the same stretch, of which it tells what is not as it is here:
//!     only theirs, or theirs is newer: want                                         only own, or own is newer: push
//!     both, and neither is newer: want, look again, and push what still differs
//! ```
//! Of two objects that one is newer which merging the two would leave. Whoever takes no writes now is sent nothing more,
//! and the other goes on getting what it lacks.
//!
//! Each step is a command and its answer. All that is kept is a page of own keys and the differences of a page of the peer's, however
//! large a leaf is. Where the peer's pages are shorter, the rest of the own page is told again with each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::command::{ExchangeCommand, ExchangeFailure, PeerItem, PeerPage, Step, Transferred};
use super::{MAX_KEYS, MAX_LEAVES, MAX_PAGE, cost};
use crate::storage::merkle::{BRANCHES, Item, ItemPage, Leaves, SumsOf, SumsSpec, TreeId};
use crate::types::{NodeId, Time};

/// What a session waits for, or does next.
#[derive(Debug)]
enum Stage {
    PeerSums { of: SumsOf },
    OwnSums { of: SumsOf, theirs: Vec<u64> },
    OwnItems,
    PeerItems,
    Want,
    Push,
    LookAgain { after: Option<Bytes> },
    Done,
}

/// A page of own keys, without what has been compared.
#[derive(Debug, Default)]
struct OwnPage {
    /// Keys that can be read.
    items: VecDeque<Item>,
    /// Keys whose records cannot be read here.
    unknown: BTreeSet<Bytes>,
    /// The last key that was looked at; `None`: the chunk's end.
    end: Option<Bytes>,
}

impl OwnPage {
    /// Takes off what lies up to `end`.
    fn take(&mut self, end: Option<&Bytes>) -> (Vec<Item>, BTreeSet<Bytes>) {
        let count = self.items.partition_point(|item| is_within(&item.key, end));
        let behind = self.unknown.iter().find(|key| !is_within(key, end)).cloned();
        let rest = behind.map_or_else(BTreeSet::new, |behind| self.unknown.split_off(&behind));
        (self.items.drain(..count).collect(), std::mem::replace(&mut self.unknown, rest))
    }
}

/// What of a page differs from the peer's.
#[derive(Debug, Default)]
struct Differences {
    /// The page's last key: the peer's, or the own one's; `None`: the chunk's end.
    end: Option<Bytes>,
    /// What the peer has there, where it has something else.
    theirs: BTreeMap<Bytes, u64>,
    /// Hashes of what it has as well.
    same: BTreeSet<u64>,
    /// Keys to be had from the peer, ascending.
    wanted: VecDeque<Bytes>,
    /// Keys to be sent to the peer, ascending.
    pushed: VecDeque<Bytes>,
    /// From where own keys are to be read again.
    again: Option<Option<Bytes>>,
}

/// What a session begins with.
pub(super) struct Began {
    pub step: Step,
    pub time: Time,
    /// The last order to compare everything.
    pub round: u64,
    /// Whether the peer has lost its disk, by its own word.
    pub rebuilding: bool,
    /// Whether this node takes writes.
    pub takes: bool,
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
    own: OwnPage,
    page: Differences,
}

impl Session {
    /// The command of its first step is given out by whoever begins it.
    pub fn new(tree: TreeId, peer: NodeId, leaves: Leaves, began: Began) -> Session {
        let Began { step, time, round, rebuilding, takes } = began;
        Session {
            tree,
            peer,
            began: time,
            round,
            rebuilding,
            step: Some(step),
            answered: time,
            differing: 0,
            bytes: 0,
            failed: 0,
            merged: 0,
            takes,
            peer_takes: true,
            leaves,
            stage: Stage::PeerSums { of: SumsOf::Branches },
            left: VecDeque::new(),
            chunk: Vec::new(),
            passed: None,
            own: OwnPage::default(),
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
                let (after, until) = (self.passed.clone(), self.own.end.clone());
                let known = self.own.items.iter().map(|item| item.hash.short()).collect();
                ExchangeCommand::PeerItems { step, peer, tree, leaves, of: of(), after, until, known, limit }
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

    /// Bytes of the question that it waits for the answer of, and of the keys of the objects that are sent by it.
    pub fn question_cost(&self) -> u64 {
        let keys = |keys: &VecDeque<Bytes>| cost::of_keys(keys.iter().take(MAX_KEYS));
        match &self.stage {
            Stage::PeerSums { .. } => cost::QUESTION,
            Stage::PeerItems => {
                let lists = self.own.items.len() as u64 * cost::SUM + self.chunk.len() as u64 * cost::LEAF;
                cost::QUESTION + lists + cost::of_keys(self.passed.iter().chain(&self.own.end))
            }
            // Each goes there with the question, and comes back with its object.
            Stage::Want => cost::QUESTION + 2 * keys(&self.page.wanted),
            Stage::Push => keys(&self.page.pushed),
            Stage::OwnSums { .. } | Stage::OwnItems | Stage::LookAgain { .. } | Stage::Done => 0,
        }
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
        self.stage = if self.chunk.is_empty() { Stage::Done } else { Stage::OwnItems };
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
            let ItemPage { items, rotten, newer, next } = page;
            // What has rotted is about to be wiped, and then all of it is compared anew. Into what a newer version has written nothing is
            // merged.
            let unknown = rotten.into_iter().chain(newer).collect();
            self.own = OwnPage { items: items.into(), unknown, end: next };
            self.stage = Stage::PeerItems;
        } else {
            self.look_again(page);
            self.go_on();
        }
        Ok(())
    }

    pub fn on_peer_items(&mut self, page: PeerPage) -> Result<(), ExchangeFailure> {
        let is_asked = matches!(self.stage, Stage::PeerItems) && page.same.len() == self.own.items.len();
        if !is_asked || page.items.len() > MAX_PAGE {
            return Err(ExchangeFailure::Malformed);
        }
        let keys = page.items.iter().map(|item| &item.key);
        let in_order = self.passed.iter().chain(keys).is_sorted_by(|key, next| key < next);
        // Without one that lies ahead, the same page would be asked for again and again.
        let last = page.items.last().map(|item| &item.key);
        let goes_on = page.next.as_ref().is_none_or(|next| Some(next) >= last && Some(next) > self.passed.as_ref());
        let is_within_own = page.next.as_ref().into_iter().chain(last).all(|key| is_within(key, self.own.end.as_ref()));
        if !in_order || !goes_on || !is_within_own {
            return Err(ExchangeFailure::Malformed);
        }
        self.failed += u64::from(page.rotten);
        self.compare(page);
        self.go_on();
        Ok(())
    }

    /// What of a page is not as it is here.
    fn compare(&mut self, page: PeerPage) {
        let end = page.next.or_else(|| self.own.end.clone());
        let (items, unknown) = self.own.take(end.as_ref());
        let (mut wanted, mut pushed, mut again) = (Vec::new(), VecDeque::new(), None);
        let mut same = BTreeSet::new();
        let mut unmet = page.items.iter().peekable();
        for (item, is_same) in items.iter().zip(page.same) {
            while let Some(theirs) = unmet.next_if(|theirs| theirs.key < item.key) {
                wanted.push(theirs.key.clone());
            }
            let theirs = unmet.next_if(|theirs| theirs.key == item.key);
            if is_same {
                same.insert(item.hash.short());
                continue;
            }
            match theirs.map(|theirs| newer(item, theirs)) {
                None | Some(Newer::Own) => pushed.push_back(item.key.clone()),
                Some(Newer::Theirs) => wanted.push(item.key.clone()),
                Some(Newer::Neither) => {
                    wanted.push(item.key.clone());
                    again = Some(self.passed.clone());
                }
            }
        }
        wanted.extend(unmet.map(|theirs| theirs.key.clone()));
        wanted.retain(|key| !unknown.contains(key));
        self.failed += unknown.len() as u64;
        self.differing += (wanted.len() + pushed.len()) as u64;
        if again.is_some() {
            pushed.clear();
        }
        let theirs = page.items.into_iter().map(|theirs| (theirs.key, theirs.hash)).collect();
        self.page = Differences { end, theirs, same, wanted: wanted.into(), pushed, again };
    }

    /// What the peer had otherwise has been merged here: the result goes to it, unless it is what the peer has.
    fn look_again(&mut self, page: ItemPage) {
        let end = &self.page.end;
        let is_over = page.next.as_ref().is_none_or(|next| !is_before(next, end.as_ref()));
        self.page.again = if is_over { None } else { Some(page.next) };
        let items = page.items.into_iter().filter(|item| is_within(&item.key, end.as_ref()));
        let Differences { theirs, same, .. } = &self.page;
        let is_theirs = |item: &Item, hash| theirs.get(&item.key) == Some(&hash) || same.contains(&hash);
        let differing = items.filter(|item| !is_theirs(item, item.hash.short()));
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
            if self.passed == self.own.end { Stage::OwnItems } else { Stage::PeerItems }
        };
    }
}

/// Whose object is the newer one.
enum Newer {
    Own,
    Theirs,
    Neither,
}

fn newer(own: &Item, theirs: &PeerItem) -> Newer {
    match &theirs.versions {
        Some(theirs) if own.versions.merges_to_self(theirs) => Newer::Own,
        Some(theirs) if theirs.merges_to_self(&own.versions) => Newer::Theirs,
        _ => Newer::Neither,
    }
}

fn is_within(key: &Bytes, end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| key <= end)
}

fn is_before(key: &Bytes, end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| key < end)
}
