//! A scan's page: the same stretch of a partition from R replicas, merged.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ReadQuorum, Tally};
use crate::ring::Slot;
use crate::storage::{Page, PageItem};
use crate::types::NodeId;

/// What the client is told; each scan says it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanVerdict {
    /// The merged page.
    Answer(Page),
    /// Too few answers.
    Timeout {
        /// Replies that counted.
        replies: u8,
    },
}

/// The scan machine: `on_*` takes what happened and returns the verdict when it falls.
#[derive(Clone, Debug)]
pub struct Scan {
    quorum: ReadQuorum,
    /// Items that the page may hold.
    limit: usize,
    tally: Tally,
    pages: Vec<Page>,
    told: bool,
}

impl Scan {
    /// Nobody has answered yet; the page is to hold at most `limit` items.
    pub fn new(quorum: ReadQuorum, slots: &[NodeId], limit: u32) -> Scan {
        Scan { quorum, limit: limit as usize, tally: Tally::new(slots, 0), pages: Vec::new(), told: false }
    }

    /// The parameters.
    pub fn quorum(&self) -> ReadQuorum {
        self.quorum
    }

    /// The count.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A replica has sent its page; a repeated one changes nothing.
    pub fn on_page(&mut self, slot: Slot, from: NodeId, page: Page, rebuilding: bool) -> Option<ScanVerdict> {
        let new = if rebuilding { self.tally.hear(slot, from) } else { self.tally.count(slot, from, false) };
        if new && !self.told {
            self.pages.push(page);
        }
        self.judge()
    }

    /// A replica does not say; `again`: unless it is asked once more.
    pub fn on_refusal(&mut self, slot: Slot, from: NodeId, reason: String, again: bool) -> Option<ScanVerdict> {
        self.tally.refuse(slot, from, reason, again);
        self.judge()
    }

    /// The client waits no longer.
    pub fn on_deadline(&mut self) -> Option<ScanVerdict> {
        self.judge().or_else(|| self.tell(|scan| ScanVerdict::Timeout { replies: scan.tally.counted() }))
    }

    fn judge(&mut self) -> Option<ScanVerdict> {
        if self.tally.counted() >= self.quorum.needed() {
            return self.tell(|scan| ScanVerdict::Answer(merge_pages(std::mem::take(&mut scan.pages), scan.limit)));
        }
        if self.tally.possible() < self.quorum.needed() {
            return self.tell(|scan| ScanVerdict::Timeout { replies: scan.tally.counted() });
        }
        None
    }

    fn tell(&mut self, verdict: impl FnOnce(&mut Scan) -> ScanVerdict) -> Option<ScanVerdict> {
        if std::mem::replace(&mut self.told, true) { None } else { Some(verdict(self)) }
    }
}

/// Merges pages that begin at one place. The result ends where the shortest of them does: behind it, not all have looked;
/// or at its limit, since replicas may hold different keys.
fn merge_pages(pages: Vec<Page>, limit: usize) -> Page {
    let horizon: Option<Bytes> = pages.iter().filter_map(|page| page.next.clone()).min();
    let mut merged: BTreeMap<Bytes, PageItem> = BTreeMap::new();
    for item in pages.into_iter().flat_map(|page| page.items) {
        if horizon.as_ref().is_some_and(|horizon| item.cursor > *horizon) {
            continue;
        }
        match merged.get_mut(&item.cursor) {
            Some(known) => known.object = known.object.merge(&item.object),
            None => {
                merged.insert(item.cursor.clone(), item);
            }
        }
    }
    let mut page = Page { items: merged.into_values().collect(), next: horizon };
    if page.items.len() > limit {
        page.items.truncate(limit);
        page.next = page.items.last().map(|item| item.cursor.clone());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Level;
    use crate::types::{Key, WriteId};
    use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling};

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn item(key: &'static str, actor: u64) -> PageItem {
        let sibling = Sibling {
            dot: Dot { actor: Actor(actor), counter: 1 },
            write_id: WriteId(actor.into()),
            node: NodeId(1),
            wall_ms: 0,
            body: Body::Value(key.into()),
        };
        let object = Object::update(None, &CausalContext::default(), sibling);
        PageItem { cursor: key.into(), key: Key::new(key).unwrap(), object }
    }

    fn page(items: Vec<PageItem>, next: Option<&'static str>) -> Page {
        Page { items, next: next.map(Bytes::from) }
    }

    fn scan(r: u8) -> Scan {
        Scan::new(ReadQuorum::new(3, Level::Number(r), None).unwrap(), &NODES, 3)
    }

    #[test]
    fn a_page_ends_where_the_shortest_replica_page_does() {
        let mut scan = scan(2);
        assert_eq!(scan.on_page(Slot(0), NodeId(1), page(vec![item("a", 1), item("d", 4)], None), false), None);
        let verdict = scan.on_page(Slot(1), NodeId(2), page(vec![item("a", 1), item("b", 2)], Some("b")), false);
        assert_eq!(verdict, Some(ScanVerdict::Answer(page(vec![item("a", 1), item("b", 2)], Some("b")))));
    }

    #[test]
    fn what_only_one_replica_has_is_shown_and_what_both_have_is_merged() {
        let mut scan = scan(2);
        scan.on_page(Slot(0), NodeId(1), page(vec![item("a", 1)], None), false);
        let verdict = scan.on_page(Slot(2), NodeId(3), page(vec![item("a", 2), item("b", 3)], None), false);
        let Some(ScanVerdict::Answer(page)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(page.items.len(), 2);
        assert_eq!(page.items[0].object.siblings().len(), 2);
    }

    #[test]
    fn a_page_of_different_keys_keeps_its_limit() {
        let mut scan = scan(2);
        scan.on_page(Slot(0), NodeId(1), page(vec![item("a", 1), item("c", 3)], None), false);
        let verdict = scan.on_page(Slot(1), NodeId(2), page(vec![item("b", 2), item("d", 4)], None), false);
        let expected = page(vec![item("a", 1), item("b", 2), item("c", 3)], Some("c"));
        assert_eq!(verdict, Some(ScanVerdict::Answer(expected)));
    }

    #[test]
    fn a_repeated_page_counts_once() {
        let mut scan = scan(2);
        assert_eq!(scan.on_page(Slot(0), NodeId(1), page(vec![], None), false), None);
        assert_eq!(scan.on_page(Slot(0), NodeId(1), page(vec![], None), false), None);
        assert_eq!(scan.on_deadline(), Some(ScanVerdict::Timeout { replies: 1 }));
    }
}
