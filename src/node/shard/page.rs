//! Pages of a scan that this node coordinates: the same stretch from all N, merged at R.

use bytes::Bytes;

use super::entry::{Entry, ScanEntry, Work};
use super::request::respond;
use super::{Shard, may_change, refusal_of, request_id};
use crate::api::{self, ApiError, Reply, Response, ScanItem, ScanReply, newest_of, siblings_of};
use crate::message::{PeerRequest, Range, Refusal};
use crate::node::effects::{ClientRef, Effects, Output, Purpose};
use crate::quorum::{ReadQuorum, Scan, ScanVerdict};
use crate::ring::{Conflict, Slot};
use crate::storage::{OpFailure, Page, PageItem, PageSpec, partition_bounds};
use crate::types::{NodeId, Now, Time};

/// The most items that a page is asked for.
const MAX_LIMIT: u32 = 1000;
/// What the items of an answer may take in its header, which holds all but the values; a page with one item may exceed it.
const MAX_HEADER_BYTES: usize = 32 << 10;
/// What one sibling's description takes, at most.
const SIBLING_BYTES: usize = 80;

impl Shard {
    pub(super) fn start_scan(
        &mut self,
        now: Now,
        client: ClientRef,
        scan: api::Scan,
        deadline: Time,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let list = self.preference(scan.partition, &scan.bucket)?;
        let (slots, own) = (list.slots().to_vec(), list.slot_of(self.node));
        let view = self.view.as_ref().expect("there is a preference list, so there is a ring");
        let config = view.layout().bucket(&scan.bucket);
        let last_write_wins = config.is_some_and(|config| config.conflict == Conflict::Lww);
        let n = u8::try_from(slots.len()).expect("a bucket has at most 16 replicas");
        let quorum = ReadQuorum::new(n, scan.r.unwrap_or(self.config.r), None)?;
        if scan.limit == 0 {
            return Err(ApiError::BadRequest { reason: "limit = 0 asks for nothing; it is at least 1".into() });
        }
        let (start, end) = partition_bounds(scan.partition);
        let inside = |after: &Bytes| after[..] >= start[..] && end.as_ref().is_none_or(|end| after[..] < end[..]);
        if scan.after.as_ref().is_some_and(|after| !inside(after)) {
            return Err(ApiError::BadRequest { reason: "the cursor is of another partition".into() });
        }
        let range = Range {
            ring: view.version(),
            partition: scan.partition,
            bucket: scan.bucket,
            prefix: scan.prefix,
            after: scan.after,
            limit: scan.limit.min(MAX_LIMIT),
        };
        let spec = own.is_some().then(|| spec_of(&range));
        let machine = Scan::new(quorum, &slots, range.limit);
        let lack = self.range_lack(range.partition, &range.bucket);
        let work = ScanEntry { client, range, keys_only: scan.keys_only, last_write_wins, own, lack, machine };
        let entry = self.begin(now, deadline, Work::Scan(Box::new(work)));
        fx.pages.extend(spec.map(|spec| (Purpose::Page(entry), spec)));
        self.send_ranges(entry, false, fx);
        Ok(())
    }

    /// Asks every slot that has not answered, but this node's own.
    pub(super) fn send_ranges(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Scan(scan), .. }) = self.entries.get(&entry) else { return };
        for (slot, node) in scan.machine.tally().open().filter(|(slot, _)| Some(*slot) != scan.own) {
            let request = PeerRequest::Range(scan.range.clone());
            self.counters.resent += u64::from(again);
            fx.after_written.push(Output::Request { node, id: request_id(entry, slot), request });
        }
    }

    /// This node's own store has been read.
    pub fn on_own_page(&mut self, entry: u64, page: Result<Page, OpFailure>, fx: &mut Effects) {
        let Some(Entry { work: Work::Scan(scan), .. }) = self.entries.get(&entry) else { return };
        let Some(slot) = scan.own else { return };
        let may_lack = self.has_lacked(scan.lack);
        let outcome = page.map(|page| (page, may_lack)).map_err(|failure| refusal_of(&failure));
        self.on_scan_page(entry, slot, self.node, outcome, fx);
    }

    pub(super) fn on_scan_page(
        &mut self,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<(Page, bool), Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Scan(scan), .. }) = self.entries.get_mut(&entry) else { return };
        let verdict = match outcome {
            Ok((page, rebuilding)) => scan.machine.on_page(slot, from, page, rebuilding),
            Err(refusal) => scan.machine.on_refusal(slot, from, refusal.to_string(), may_change(&refusal)),
        };
        self.tell_scan(entry, verdict, fx);
    }

    pub(super) fn on_scan_deadline(&mut self, entry: u64, fx: &mut Effects) {
        let Some(Entry { work: Work::Scan(scan), .. }) = self.entries.get_mut(&entry) else { return };
        let verdict = scan.machine.on_deadline();
        self.tell_scan(entry, verdict, fx);
    }

    fn tell_scan(&mut self, entry: u64, verdict: Option<ScanVerdict>, fx: &mut Effects) {
        let Some(verdict) = verdict else { return };
        let Some(Entry { work: Work::Scan(scan), .. }) = self.entries.get(&entry) else { return };
        let client = scan.client;
        let response = match verdict {
            ScanVerdict::Answer(page) => {
                self.counters.scans_answered += 1;
                self.page_response(scan, page)
            }
            ScanVerdict::Timeout { replies } => {
                self.counters.scans_timed_out += 1;
                let detail = scan.machine.tally().missing(|node| self.name_of(node));
                Response::error(ApiError::ReadTimeout { replies, r: scan.machine.quorum().needed(), detail })
            }
        };
        respond(client, response, fx);
        self.answered(entry, true);
    }

    /// Keys with at least one value; the tombstones were needed for the merge only.
    fn page_response(&self, scan: &ScanEntry, page: Page) -> Response {
        let mut items = Vec::with_capacity(page.items.len());
        let mut values: Vec<Bytes> = Vec::new();
        let (mut next, mut header_bytes) = (page.next, 0);
        let mut last: Option<Bytes> = None;
        for item in page.items {
            header_bytes += header_len(&item);
            if let (Some(last), true) = (&last, header_bytes > MAX_HEADER_BYTES) {
                next = Some(last.clone());
                break;
            }
            last = Some(item.cursor.clone());
            let (siblings, mut bodies) =
                if scan.last_write_wins { newest_of(&item.object) } else { siblings_of(&item.object) };
            if bodies.is_empty() {
                continue;
            }
            let context = self.sealer.seal(&scan.range.bucket, &item.key, item.object.context());
            items.push(ScanItem { key: item.key, siblings, context });
            if !scan.keys_only {
                values.append(&mut bodies);
            }
        }
        Response::of(Ok(Reply::Scan(ScanReply { items, next })), values)
    }
}

/// What an item takes in the header of the answer, at most.
fn header_len(item: &PageItem) -> usize {
    item.key.as_bytes().len() + item.object.context().encoded_len() + item.object.siblings().len() * SIBLING_BYTES + 64
}

/// The page that a range asks a store for.
pub(super) fn spec_of(range: &Range) -> PageSpec {
    PageSpec {
        partition: range.partition,
        bucket: range.bucket.clone(),
        prefix: range.prefix.clone(),
        after: range.after.clone(),
        limit: range.limit.min(MAX_LIMIT),
    }
}
