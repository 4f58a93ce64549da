//! All keys of a bucket: every partition, page by page, in ring order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;

use super::client::Client;
use super::error::ClientError;
use super::join::Step;
use super::options::{PageQuery, ScanEntry, ScanPage};
use crate::quorum::Level;
use crate::types::{Bucket, PartitionId};

/// Where a scan stands: everything before it has been given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The partition to go on in.
    pub partition: PartitionId,
    /// The node's cursor within it; `None` at its start.
    pub after: Option<Bytes>,
}

impl Cursor {
    /// The start.
    pub const START: Cursor = Cursor { partition: PartitionId(0), after: None };

    /// As text that fits in a command line: the partition, a dot, and what is left in base64url.
    pub fn encode(&self) -> String {
        let after = self.after.as_deref().map(|after| data_encoding::BASE64URL_NOPAD.encode(after));
        format!("{}.{}", self.partition.0, after.unwrap_or_default())
    }

    /// Reads what [`Cursor::encode`] wrote; `None` for anything else.
    pub fn decode(text: &str) -> Option<Cursor> {
        let (partition, after) = text.split_once('.')?;
        let after = data_encoding::BASE64URL_NOPAD.decode(after.as_bytes()).ok()?;
        let after = (!after.is_empty()).then(|| Bytes::from(after));
        Some(Cursor { partition: PartitionId(partition.parse().ok()?), after })
    }
}

/// What to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Only this bucket's keys.
    pub bucket: Bucket,
    /// Only keys that start with this. Keys lie in ring order, so that a prefix saves no reading of the others.
    pub prefix: Bytes,
    /// Leave the values out.
    pub keys_only: bool,
    /// Replicas that must answer for each page; the node's default if absent.
    pub r: Option<Level>,
    /// Where to begin.
    pub start: Cursor,
    /// Keys a page. A page's values are in memory at one time.
    pub page: u32,
    /// Pages that are fetched at the same time, of different partitions.
    pub concurrency: usize,
}

impl ScanOptions {
    /// A whole bucket with its values: 256 keys a page, 8 pages at a time.
    pub fn new(bucket: Bucket) -> ScanOptions {
        ScanOptions {
            bucket,
            prefix: Bytes::new(),
            keys_only: false,
            r: None,
            start: Cursor::START,
            page: 256,
            concurrency: 8,
        }
    }
}

/// A scan under way. Not a snapshot: a key written meanwhile shows its old or its new state.
pub struct Scan {
    client: Client,
    options: ScanOptions,
    /// The partition that is to be fetched next, if there is one.
    ahead: Option<PartitionId>,
    partitions: u32,
    /// The partitions that are being fetched, in order. The first one's pages are given out.
    fetching: VecDeque<(PartitionId, Step<'static, Result<ScanPage, ClientError>>)>,
    cursor: Option<Cursor>,
    /// Where the page given last begins.
    given_from: Option<Cursor>,
}

impl Scan {
    /// Begins; fetches the ring if it is not known.
    ///
    /// # Errors
    /// Those of [`Client::refresh_ring`].
    pub async fn start(client: &Client, options: ScanOptions) -> Result<Scan, ClientError> {
        let view = match client.ring() {
            Some(view) => view,
            None => client.refresh_ring().await?,
        };
        let start = options.start.clone();
        let mut scan = Scan {
            client: client.clone(),
            options,
            ahead: None,
            partitions: view.layout().partitions().count(),
            fetching: VecDeque::new(),
            cursor: None,
            given_from: None,
        };
        if u32::from(start.partition.0) < scan.partitions {
            scan.ahead = scan.after(start.partition);
            scan.fetch(start.clone(), true);
            scan.cursor = Some(start);
        }
        Ok(scan)
    }

    /// The next page's keys, never none of them; `None` at the end. After an error the same page is tried again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScanEntry>>, ClientError> {
        loop {
            self.fill();
            if self.fetching.is_empty() {
                return Ok(None);
            }
            poll_fn(|cx| {
                // all move on, though only the first is waited for
                let done = self
                    .fetching
                    .iter_mut()
                    .map(|(_, step)| step.poll(cx))
                    .fold(None, |first, done| first.or(Some(done)));
                if done == Some(true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let Some((partition, Step::Done(page))) = self.fetching.pop_front() else {
                unreachable!("the first fetch is done")
            };
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    let again = self.cursor.clone().expect("there is a cursor while something is fetched");
                    self.fetch(again, true);
                    return Err(error);
                }
            };
            let from = self.cursor.take();
            self.cursor = match page.next {
                Some(after) => {
                    let next = Cursor { partition, after: Some(after) };
                    self.fetch(next.clone(), true);
                    Some(next)
                }
                None => self.after(partition).map(|partition| Cursor { partition, after: None }),
            };
            if !page.entries.is_empty() {
                self.given_from = from;
                return Ok(Some(page.entries));
            }
        }
    }

    /// What is scanned.
    pub fn options(&self) -> &ScanOptions {
        &self.options
    }

    /// Where to go on after the last page given; `None` at the end.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Where the last page given begins: a page query from there yields its keys again, perhaps fewer of them.
    pub fn last_page(&self) -> Option<&Cursor> {
        self.given_from.as_ref()
    }

    /// Partitions given entirely, and partitions in all: how far it has come.
    pub fn progress(&self) -> (u32, u32) {
        (self.cursor.as_ref().map_or(self.partitions, |cursor| u32::from(cursor.partition.0)), self.partitions)
    }

    fn after(&self, partition: PartitionId) -> Option<PartitionId> {
        let next = partition.0.checked_add(1)?;
        (u32::from(next) < self.partitions).then_some(PartitionId(next))
    }

    fn fill(&mut self) {
        while self.fetching.len() < self.options.concurrency.max(1)
            && let Some(partition) = self.ahead
        {
            self.ahead = self.after(partition);
            self.fetch(Cursor { partition, after: None }, false);
        }
    }

    fn fetch(&mut self, from: Cursor, first: bool) {
        let ScanOptions { bucket, prefix, keys_only, r, page, .. } = &self.options;
        let Cursor { partition, after } = from;
        let query = PageQuery {
            bucket: bucket.clone(),
            partition,
            after,
            prefix: prefix.clone(),
            limit: *page,
            keys_only: *keys_only,
            r: *r,
        };
        let client = self.client.clone();
        let step = (partition, Step::new(async move { client.scan_page(query).await }));
        if first { self.fetching.push_front(step) } else { self.fetching.push_back(step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_the_command_line() {
        for cursor in [
            Cursor::START,
            Cursor { partition: PartitionId(255), after: None },
            Cursor { partition: PartitionId(7), after: Some(Bytes::from_static(&[0, 255, 46])) },
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
        for bad in ["", "7", "x.", "70000.", "1.!", "-1."] {
            assert_eq!(Cursor::decode(bad), None, "{bad:?}");
        }
    }
}
