//! What stand-ins keep for primaries, from the moment that a client relies on it: in the end the primary has it, unless the
//! only one of the two that held it has lost it.

use super::disk::Disk;
use super::oracle::Holder;
use super::world::World;
use crate::storage::Record;
use crate::types::{NodeId, Time};
use crate::version::Dot;

/// A write that a stand-in has acknowledged in place of a primary.
#[derive(Clone, Debug)]
pub(super) struct Loan {
    /// The key's name.
    pub(super) name: String,
    pub(super) place: Vec<u8>,
    pub(super) dot: Dot,
    /// The stand-in.
    pub(super) holder: usize,
    /// It said to have it on its disk.
    synced: bool,
    /// The primary.
    pub(super) heir: usize,
    heir_id: NodeId,
    /// A disk has lost it when it was on no other of the two.
    pub(super) is_excused: bool,
}

impl<D: Disk> World<D> {
    /// A client is told that `by` holds the write, which began at `since`, in place of its heir.
    pub(super) fn lend(&mut self, name: &str, dot: Dot, by: Holder, since: Time) {
        let (holder, heir) = (usize::from(by.node), by.heir.map(usize::from));
        let heir = heir.and_then(|heir| Some((heir, *self.ids.iter().find(|(_, node)| **node == heir)?.0)));
        let (Some((heir, heir_id)), Some(place)) = (heir, self.place_of(name)) else { return };
        let synced = by.synced;
        let mut loan = Loan { name: name.to_owned(), place, dot, holder, synced, heir, heir_id, is_excused: false };
        // What was lost before the client was told.
        let lost = self.may_lack(holder, &loan.place, synced, since) || self.may_lack(heir, &loan.place, true, since);
        loan.is_excused = lost && !self.is_kept(&loan);
        self.loans.push(loan);
    }

    /// Whether the heir has it on its disk, or the holder keeps it, on its disk if it has said so, and knows for whom.
    fn is_kept(&self, loan: &Loan) -> bool {
        let Loan { place, dot, holder, synced, heir, heir_id, .. } = loan;
        let lends = |on_disk| self.holds(*holder, place, *dot, on_disk, Some(*heir_id));
        self.holds(*heir, place, *dot, true, None) || lends(false) && (!synced || lends(true))
    }

    /// Where what is left of a key may be: on its primaries and, when the record of one has rotted for good, with those that have a
    /// hint for that one, since they cannot hand it over before the record is rebuilt. A record that cannot be read may say
    /// so too: whoever looks at it reports it.
    pub(super) fn keepers(&self, name: &str, place: &[u8]) -> Vec<usize> {
        let primaries = self.primaries(name);
        let rotten = |node: &usize| primaries.contains(node) && self.is_rotten(*node, place);
        let rotten: Vec<NodeId> = self.ids.iter().filter(|(_, node)| rotten(node)).map(|(id, _)| *id).collect();
        let keeps = |node: &usize| {
            let record = self.nodes[*node].disk.peek(place, false).map(Record::decode);
            record
                .is_some_and(|record| record.map_or(true, |record| rotten.iter().any(|of| record.hint(*of).is_some())))
        };
        let others = (0..self.nodes.len()).filter(|node| !primaries.contains(node) && keeps(node));
        primaries.iter().copied().chain(others).collect()
    }

    /// A node's disk loses something. A loss excuses a loan only if what it took was the loan's last: whoever had handed it
    /// over, or has yet to be handed it, may lose what he likes.
    pub(super) fn losing<R>(&mut self, node: usize, lose: impl FnOnce(&mut World<D>) -> R) -> R {
        let kept = self.kept_loans(node);
        let lost = lose(self);
        self.excuse_loans(kept);
        lost
    }

    /// The loans that a node has a part in and that are still kept.
    pub(super) fn kept_loans(&self, node: usize) -> Vec<usize> {
        let concerned = |loan: &Loan| !loan.is_excused && [loan.holder, loan.heir].contains(&node);
        let all = 0..self.loans.len();
        all.filter(|index| concerned(&self.loans[*index]) && self.is_kept(&self.loans[*index])).collect()
    }

    /// Of these, those that are not kept any more.
    pub(super) fn excuse_loans(&mut self, kept: Vec<usize>) {
        for index in kept {
            self.loans[index].is_excused = !self.is_kept(&self.loans[index]);
        }
    }
}
