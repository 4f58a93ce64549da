//! What is written and waits for a sync. Drains go on while one is under way; what they write waits for the next.

use super::super::effects::Output;
use super::super::shard::{OwnShares, Syncing};
use crate::types::Time;

/// What becomes true once batches are on the disk.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// Answers that promise it.
    pub outputs: Vec<Output>,
    /// What this node is to count of its own.
    pub own: OwnShares,
}

impl Rests {
    fn append(&mut self, later: &mut Rests) {
        self.outputs.append(&mut later.outputs);
        self.own.append(&mut later.own);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// What the sync that is under way will have put on the disk.
    under_way: Option<(Syncing, Rests)>,
    /// What was written since that was begun, if any of it has to be synced, and when the first of it was.
    next: Option<(Time, Rests)>,
}

impl Unsynced {
    /// A batch is in the log, and is to be synced.
    pub fn hold(&mut self, now: Time, outputs: &mut Vec<Output>, mut own: OwnShares) {
        let (_, next) = self.next.get_or_insert_with(|| (now, Rests::default()));
        next.outputs.append(outputs);
        next.own.append(&mut own);
    }

    /// Whether a sync is to be begun now: whatever has been held so far rests on it.
    pub fn begin(&mut self, now: Time) -> bool {
        if self.under_way.is_some() {
            return false;
        }
        self.under_way = self.next.take().map(|(held, next)| (Syncing { held, begun: now }, next));
        self.under_way.is_some()
    }

    /// The sync that is under way.
    pub fn syncing(&self) -> Option<Syncing> {
        self.under_way.as_ref().map(|(syncing, _)| *syncing)
    }

    /// The sync that was under way has ended well: what rested on it.
    pub fn end(&mut self) -> Rests {
        let (_, mut ended) = self.under_way.take().expect("a sync ends once, and was begun");
        if mutant!(SyncCoversLater)
            && let Some((_, mut later)) = self.next.take()
        {
            ended.append(&mut later);
        }
        ended
    }

    /// It has failed, and no other will be tried: all that was held.
    pub fn fail(&mut self) -> Rests {
        let mut all = self.end();
        if let Some((_, mut later)) = self.next.take() {
            all.append(&mut later);
        }
        all
    }

    /// How much is held.
    pub fn len(&self) -> usize {
        let under_way = self.under_way.iter().map(|(_, rests)| rests);
        let held = under_way.chain(self.next.iter().map(|(_, rests)| rests));
        held.map(|rests| rests.outputs.len() + rests.own.len()).sum()
    }
}
