//! What was shown where, and how evidence words it for a person.

use std::fmt;

use bytes::Bytes;

use super::history::{Holder, KeyId, OpId, Shown};
use super::ledger::Write;
use crate::types::{Time, WriteId};

/// An answer to a read, or what the replicas hold at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'h> {
    /// The read; none at the end.
    pub(super) read: Option<OpId>,
    pub(super) at: Time,
    /// The index of the event.
    pub(super) event: usize,
    pub(super) key: KeyId,
    pub(super) siblings: &'h [Shown],
}

impl fmt::Display for Sight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sight { read, at, siblings, .. } = self;
        let siblings = List(siblings);
        match read {
            Some(op) => write!(f, "the read op {} was answered at {} with {siblings}", op.0, Seconds(*at)),
            None => write!(f, "the replicas hold {siblings} at the end"),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown { write, label, body } = self;
        write!(f, "{} ({}, label {}/{})", Id(*write), Body(body), label.0.0, label.0.1)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}{}", self.node + 1, if self.synced { " (synced)" } else { "" })?;
        self.heir.map_or(Ok(()), |heir| write!(f, " for n{}", heir + 1))
    }
}

impl fmt::Display for Write<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Write { id, op, begun, body, .. } = self;
        write!(f, "write {} (op {}, begun at {}, {})", Id(*id), op.0, Seconds(*begun), Body(body))
    }
}

/// A write's number.
pub(super) struct Id(pub(super) WriteId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.0)
    }
}

/// A time in seconds, to the millisecond.
pub(super) struct Seconds(pub(super) Time);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_micros() / 1_000;
        write!(f, "{}.{:03} s", millis / 1_000, millis % 1_000)
    }
}

/// A value's beginning, as text.
pub(super) struct Body<'a>(pub(super) &'a Option<Bytes>);

impl Body<'_> {
    /// The bytes that are printed.
    const LIMIT: usize = 40;
}

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str("a tombstone") };
        let start = &bytes[..bytes.len().min(Self::LIMIT)];
        write!(f, "{:?}", String::from_utf8_lossy(start))?;
        if start.len() < bytes.len() { write!(f, "... of {} bytes", bytes.len()) } else { Ok(()) }
    }
}

/// Things with commas between them; "nothing" for none.
pub(super) struct List<'a, T>(pub(super) &'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else { return f.write_str("nothing") };
        write!(f, "{first}")?;
        others.iter().try_for_each(|other| write!(f, ", {other}"))
    }
}
