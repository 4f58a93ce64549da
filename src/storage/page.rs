//! Pages of a partition, in key order: read from one engine here, merged over replicas by the quorum.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Engine, Family, OpFailure, Record, ScanLimit, StorageError, parse_object_key, partition_bounds};
use crate::types::{Bucket, Key, PartitionId};
use crate::version::Object;

/// One key of a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageItem {
    /// Its place: what a following page starts behind.
    pub cursor: Bytes,
    /// The key.
    pub key: Key,
    /// What the replica holds.
    pub object: Object,
}

/// Part of a partition's keys, tombstones included, in the order of their place on the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub items: Vec<PageItem>,
    /// Everything up to and including this place has been looked at; `None`: up to the partition's end.
    pub next: Option<Bytes>,
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSpec {
    /// The partition.
    pub partition: PartitionId,
    /// Only this bucket's keys.
    pub bucket: Bucket,
    /// Only keys that start with this.
    pub prefix: Bytes,
    /// Only what lies behind this place.
    pub after: Option<Bytes>,
    /// At most so many items.
    pub limit: u32,
}

/// Records looked at for one page, whether they match or not: what one page may cost.
const MAX_LOOKED_AT: u32 = 4096;
/// Bytes of records that one page may hold before it ends; one record more may exceed it.
const MAX_BYTES: usize = 256 << 10;

/// Reads one page at one snapshot.
///
/// # Errors
/// [`OpFailure`] if the engine fails or a record is corrupt: nothing is left out silently.
pub fn read_page(engine: &dyn Engine, spec: &PageSpec) -> Result<Page, OpFailure> {
    let (mut start, end) = partition_bounds(spec.partition);
    // A cursor from before the partition leads to its beginning, never into another partition.
    if let Some(after) = spec.after.as_ref().filter(|after| after[..] >= start[..]) {
        start = after.to_vec();
        start.push(0);
    }
    let mut page = Page::default();
    let (mut looked_at, mut bytes) = (0u32, 0usize);
    let mut failure = None;
    let mut visit = |cursor: &[u8], record: &[u8]| {
        looked_at += 1;
        match match_record(spec, cursor, record) {
            Ok(Some(item)) => {
                bytes += cursor.len() + record.len();
                page.items.push(item);
            }
            Ok(None) => {}
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        }
        let full = page.items.len() >= spec.limit as usize || bytes >= MAX_BYTES || looked_at >= MAX_LOOKED_AT;
        if full {
            page.next = Some(Bytes::copy_from_slice(cursor));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    engine.scan(Family::Objects, &start, end.as_deref(), ScanLimit::NONE, &mut visit)?;
    match failure {
        Some(error) => Err(error),
        None => Ok(page),
    }
}

fn match_record(spec: &PageSpec, cursor: &[u8], record: &[u8]) -> Result<Option<PageItem>, OpFailure> {
    let place = parse_object_key(cursor).map_err(|error| StorageError::Corrupt { detail: error.to_string() })?;
    if place.bucket != spec.bucket.as_str() || !place.key.starts_with(&spec.prefix) {
        return Ok(None);
    }
    let key = Key::new(Bytes::copy_from_slice(place.key))
        .map_err(|error| StorageError::Corrupt { detail: error.to_string() })?;
    let record = Record::decode(Bytes::copy_from_slice(record))?;
    let object = std::sync::Arc::unwrap_or_clone(record.object);
    Ok(Some(PageItem { cursor: Bytes::copy_from_slice(cursor), key, object }))
}
