//! Answers that all shards of a node give together: their parts are summed up, and the last one sends the whole.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::api::{Reply, Response, TombstoneStats};
use crate::node::ClientRef;

/// Whose answers are being gathered. Every shard answers whatever it is asked, so each comes to its end.
#[derive(Debug, Default)]
pub struct Gathering {
    under_way: Mutex<BTreeMap<ClientRef, Gathered>>,
}

#[derive(Debug)]
struct Gathered {
    missing: usize,
    stats: TombstoneStats,
}

impl Gathering {
    /// All shards, so many, are about to be asked.
    pub fn begin(&self, from: ClientRef, shards: usize) {
        let gathered = Gathered { missing: shards, stats: TombstoneStats::default() };
        self.lock().insert(from, gathered);
    }

    /// What is to be sent for a shard's response: itself, unless it is a part of an answer; then the whole, or nothing as long as
    /// parts are missing.
    pub fn pass(&self, to: ClientRef, response: Response) -> Option<Response> {
        let Ok(Reply::Tombstones(part)) = response.result else { return Some(response) };
        let mut under_way = self.lock();
        let gathered = under_way.get_mut(&to)?;
        gathered.stats.join(*part);
        gathered.missing -= 1;
        if gathered.missing > 0 {
            return None;
        }
        let mut whole = under_way.remove(&to)?.stats;
        whole.conclude();
        Some(Response::plain(Reply::Tombstones(Box::new(whole))))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClientRef, Gathered>> {
        self.under_way.lock().expect("a panic ends the process before the lock is met again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiError;

    fn part(age_ms: u64) -> Response {
        let mut stats = TombstoneStats::default();
        stats.add(age_ms);
        Response::plain(Reply::Tombstones(Box::new(stats)))
    }

    #[test]
    fn the_last_part_brings_the_whole() {
        let gathering = Gathering::default();
        let (one, two) = (ClientRef { lane: 1, id: 7 }, ClientRef { lane: 2, id: 7 });
        gathering.begin(one, 2);
        gathering.begin(two, 2);
        assert_eq!((gathering.pass(one, part(5)), gathering.pass(two, part(6))), (None, None));
        let whole = gathering.pass(one, part(70_000)).unwrap();
        let Ok(Reply::Tombstones(stats)) = whole.result else { panic!("{whole:?}") };
        assert_eq!((stats.count, stats.oldest_ms, stats.ages), (2, Some(70_000), [1, 1, 0, 0, 0]));
        // It is not answered twice, and does not keep the other from being answered.
        assert_eq!(gathering.pass(one, part(1)), None);
        assert!(gathering.pass(two, part(1)).is_some());
        assert!(gathering.lock().is_empty());
    }

    #[test]
    fn whatever_is_no_part_is_sent_as_it_is() {
        let response = Response::error(ApiError::Overloaded);
        assert_eq!(Gathering::default().pass(ClientRef { lane: 1, id: 1 }, response.clone()), Some(response));
    }
}
