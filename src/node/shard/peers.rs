//! What is with each peer, and which ones are not asked now: bounded requests, and a circuit breaker.
//!
//! ```text
//!             silent for SILENT_ATTEMPTS attempts          its time is over
//!   closed -----------------------------------> open ------------------------> half-open: one request goes
//!     ^                                          ^                                |            |
//!     |                                          +---- silent for an attempt -----+            |
//!     +----------------------------- any answer, or a new link --------------------------------+
//! ```
//!
//! A peer is *silent* from the first request that it was sent after its last answer. The attempts that time out are not
//! counted: many requests that were sent in one moment say no more of it than one (Nygard, "Release It!", section 5.2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::types::{NodeId, Time};

/// Attempts' time for which a peer may say nothing at all before it is asked no longer.
const SILENT_ATTEMPTS: u32 = 3;
/// For how many attempts' time it is not asked at first; twice as long each time, up to this times two to the power of
/// [`MAX_DOUBLINGS`].
const FIRST_REST: u32 = 2;
const MAX_DOUBLINGS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    Closed,
    /// Nothing is sent until then.
    Open {
        until: Time,
    },
    /// One request went then.
    HalfOpen {
        since: Time,
    },
}

#[derive(Clone, Debug)]
struct Peer {
    /// Requests that it has and has not answered.
    asked: usize,
    /// When the first of those was sent that came after its last answer.
    silent_since: Option<Time>,
    breaker: Breaker,
    /// Times the breaker has opened since the last answer.
    opened: u32,
}

impl Peer {
    const NEW: Peer = Peer { asked: 0, silent_since: None, breaker: Breaker::Closed, opened: 0 };

    /// It is alive: whatever was held against it is forgotten.
    fn heard(&mut self) {
        *self = Peer { asked: self.asked, ..Peer::NEW };
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peers {
    limit: usize,
    attempt: Duration,
    peers: BTreeMap<NodeId, Peer>,
    /// Requests by id and node, not answered yet.
    asked: BTreeSet<(u64, NodeId)>,
    withheld: u64,
    openings: u64,
}

impl Peers {
    /// Nobody has been asked; at most `limit` requests may be with one peer, and an attempt waits for `attempt` at first.
    pub(super) fn new(limit: usize, attempt: Duration) -> Peers {
        Peers { limit, attempt, peers: BTreeMap::new(), asked: BTreeSet::new(), withheld: 0, openings: 0 }
    }

    /// Whether a request to this node would be let go.
    fn may_send(&self, node: NodeId, now: Time) -> bool {
        self.peers.get(&node).is_none_or(|peer| {
            let lets = match peer.breaker {
                Breaker::Closed => true,
                Breaker::Open { until } => until <= now,
                Breaker::HalfOpen { .. } => false,
            };
            lets && peer.asked < self.limit
        })
    }

    /// Whether this node has not answered for so long that it is not to be relied on. It ends with the rest of the node:
    /// whoever asks only those that are relied on must come to probe it.
    pub(super) fn is_silent(&self, node: NodeId, now: Time) -> bool {
        self.peers.get(&node).is_some_and(|peer| match peer.breaker {
            Breaker::Closed => false,
            Breaker::Open { until } => until > now,
            Breaker::HalfOpen { since } => since + self.attempt > now,
        })
    }

    /// Whether a request that is sent once or never would be let go now.
    pub(super) fn would_send(&mut self, node: NodeId, now: Time, rng: &mut StdRng) -> bool {
        self.judge(node, now, rng);
        self.may_send(node, now)
    }

    /// A request is about to go to this node; false if it may not. One that the peer has already and is sent again takes
    /// no more room.
    pub(super) fn on_sent(&mut self, node: NodeId, id: u64, now: Time, rng: &mut StdRng) -> bool {
        self.judge(node, now, rng);
        let again = self.asked.contains(&(id, node));
        let is_closed = self.peers.get(&node).is_some_and(|peer| peer.breaker == Breaker::Closed);
        let lets = self.may_send(node, now) || again && is_closed;
        if !lets {
            self.withheld += 1;
            return false;
        }
        let peer = self.peers.entry(node).or_insert(Peer::NEW);
        if peer.breaker != Breaker::Closed {
            peer.breaker = Breaker::HalfOpen { since: now };
        }
        peer.silent_since.get_or_insert(now);
        if !again {
            peer.asked += 1;
            self.asked.insert((id, node));
        }
        true
    }

    /// The same for a request whose answer nobody waits for: silence on it says nothing.
    pub(super) fn on_sent_untracked(&mut self, node: NodeId, now: Time, rng: &mut StdRng) -> bool {
        // A probe may have failed long ago, and nobody else may have anything to say to the node.
        self.judge(node, now, rng);
        let lets = self.may_send(node, now);
        self.withheld += u64::from(!lets);
        lets
    }

    /// The node has answered, whatever it said.
    pub(super) fn on_answer(&mut self, node: NodeId, id: u64) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.heard();
        if self.asked.remove(&(id, node)) {
            peer.asked -= 1;
        }
    }

    /// There is a new link to the node: perhaps a new process, of which nothing is known.
    pub(super) fn on_link(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard();
        }
    }

    /// An attempt's time is over: whoever has not answered it may have been silent for too long.
    pub(super) fn on_timeout(&mut self, entry: u64, now: Time, rng: &mut StdRng) {
        let late: Vec<NodeId> = self.of(entry).map(|(_, node)| node).collect();
        late.into_iter().for_each(|node| self.judge(node, now, rng));
    }

    /// Nobody waits for the answers to this entry's requests any more.
    pub(super) fn on_ended(&mut self, entry: u64) {
        let asked: Vec<_> = self.of(entry).collect();
        for request in asked {
            self.asked.remove(&request);
            if let Some(peer) = self.peers.get_mut(&request.1) {
                peer.asked -= 1;
                // who is asked nothing is not silent
                peer.silent_since = peer.silent_since.filter(|_| peer.asked > 0);
            }
        }
    }

    /// Requests that are with peers.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Requests that were not let go.
    pub(super) fn withheld(&self) -> u64 {
        self.withheld
    }

    /// Peers that are not asked.
    pub(super) fn open(&self) -> usize {
        self.peers.values().filter(|peer| peer.breaker != Breaker::Closed).count()
    }

    /// Times that a breaker has opened.
    pub(super) fn openings(&self) -> u64 {
        self.openings
    }

    /// Whether a request of this entry is with the node.
    pub(super) fn is_asked(&self, entry: u64, node: NodeId) -> bool {
        self.of(entry).any(|(_, asked)| asked == node)
    }

    fn of(&self, entry: u64) -> impl Iterator<Item = (u64, NodeId)> {
        let (first, last) = ((entry << 8, NodeId(0)), (entry << 8 | 0xff, NodeId(u64::MAX)));
        self.asked.range(first..=last).copied()
    }

    /// Opens the breaker of a node that has been silent for too long.
    fn judge(&mut self, node: NodeId, now: Time, rng: &mut StdRng) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let over = match (peer.breaker, peer.silent_since) {
            (Breaker::Closed, Some(since)) => (since + self.attempt * SILENT_ATTEMPTS <= now).then_some(now),
            // Its rest began when the probe failed, however long ago that was.
            (Breaker::HalfOpen { since }, _) => Some(since + self.attempt).filter(|failed| *failed <= now),
            (Breaker::Closed, None) | (Breaker::Open { .. }, _) => None,
        };
        if let Some(failed) = over {
            let rest = self.attempt * FIRST_REST * (1 << peer.opened.min(MAX_DOUBLINGS));
            // From a half to the whole, so that not all peers ask again in one moment.
            let half = u64::try_from(rest.as_micros() / 2).unwrap_or(u64::MAX / 2);
            let until = failed + Duration::from_micros(half + rng.random_range(0..=half));
            peer.breaker = Breaker::Open { until };
            peer.opened += 1;
            self.openings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    struct Bench {
        peers: Peers,
        rng: StdRng,
        next: u64,
    }

    impl Bench {
        fn new(limit: usize) -> Bench {
            Bench { peers: Peers::new(limit, Duration::from_millis(100)), rng: StdRng::seed_from_u64(1), next: 0 }
        }

        /// Sends a request of an entry of its own; its entry, if it was let go.
        fn send(&mut self, node: NodeId, ms: u64) -> Option<u64> {
            self.next += 1;
            self.peers.on_sent(node, self.next << 8, at(ms), &mut self.rng).then_some(self.next)
        }

        fn answer(&mut self, node: NodeId, entry: u64) {
            self.peers.on_answer(node, entry << 8);
        }

        fn time_out(&mut self, entry: u64, ms: u64) {
            self.peers.on_timeout(entry, at(ms), &mut self.rng);
        }

        /// Whether its breaker is not closed.
        fn is_silent(&self, node: NodeId) -> bool {
            self.peers.peers[&node].breaker != Breaker::Closed
        }

        /// A node goes silent at 300 ms and is asked again once it may be, in vain; when that was.
        fn probe_in_vain(&mut self, node: NodeId) -> u64 {
            let entry = self.send(node, 0).unwrap();
            self.time_out(entry, 300);
            let until = self.rests_until(node, 300);
            let probe = self.send(node, until).unwrap();
            self.peers.on_ended(probe);
            until
        }

        /// When the node is asked again, at the earliest.
        fn rests_until(&self, node: NodeId, from: u64) -> u64 {
            (from..from + 10_000).find(|ms| self.peers.may_send(node, at(*ms))).unwrap()
        }
    }

    #[test]
    fn a_full_peer_is_sent_nothing_more_and_another_one_is() {
        let mut bench = Bench::new(2);
        let (first, second) = (bench.send(A, 0).unwrap(), bench.send(A, 0).unwrap());
        assert_eq!(bench.send(A, 0), None);
        assert!(!bench.peers.may_send(A, at(0)) && bench.peers.may_send(B, at(0)));
        assert!(bench.send(B, 0).is_some());
        assert!(bench.peers.on_sent(A, first << 8, at(1), &mut bench.rng), "once more is not one more");
        bench.answer(A, first);
        let third = bench.send(A, 2).unwrap();
        bench.peers.on_ended(second);
        bench.peers.on_ended(third);
        assert_eq!((bench.peers.asked(), bench.peers.withheld()), (1, 1));
        bench.answer(A, second);
        assert_eq!(bench.peers.asked(), 1, "an answer to what has ended makes no room twice");
    }

    /// Nobody had anything to say to it since its probe failed: the first who has is not held up for that.
    #[test]
    fn a_failed_probe_is_a_matter_of_its_own_time() {
        let mut bench = Bench::new(100);
        let until = bench.probe_in_vain(A);
        assert!(bench.send(A, until + 60_000).is_some());
    }

    #[test]
    fn a_silent_peer_is_left_alone_probed_and_taken_back() {
        let mut bench = Bench::new(100);
        let entry = bench.send(A, 0).unwrap();
        bench.time_out(entry, 100);
        bench.time_out(entry, 299);
        assert!(!bench.is_silent(A));
        bench.time_out(entry, 300);
        assert!(bench.is_silent(A) && bench.peers.openings() == 1);
        let until = bench.rests_until(A, 300);
        assert!((400..=500).contains(&until), "{until}");
        assert_eq!(bench.send(A, until - 1), None);
        assert!(
            bench.peers.is_silent(A, at(until - 1)) && !bench.peers.is_silent(A, at(until)),
            "so that it is probed"
        );
        // one goes, and no other while it is out
        let probe = bench.send(A, until).unwrap();
        assert_eq!((bench.send(A, until), bench.peers.may_send(A, at(until + 50))), (None, false));
        assert!(bench.peers.is_silent(A, at(until + 99)) && !bench.peers.is_silent(A, at(until + 100)));
        bench.answer(A, probe);
        assert!(!bench.is_silent(A) && bench.send(A, until + 1).is_some());
    }

    #[test]
    fn a_probe_in_vain_doubles_the_rest_up_to_a_bound() {
        let mut bench = Bench::new(100);
        let entry = bench.send(A, 0).unwrap();
        bench.time_out(entry, 300);
        let (mut now, mut rests) = (300, Vec::new());
        for _ in 0..8 {
            let until = bench.rests_until(A, now);
            rests.push(until - now);
            let probe = bench.send(A, until).unwrap();
            now = until + 100;
            bench.time_out(probe, now);
        }
        for (rest, most) in rests.iter().zip([200, 400, 800, 1600, 1600, 1600, 1600, 1600]) {
            assert!((most / 2..=most).contains(rest), "{rests:?}");
        }
    }

    /// A thousand requests of one moment are one sign, not a thousand.
    #[test]
    fn a_short_pause_under_load_opens_nothing() {
        let mut bench = Bench::new(10_000);
        let entries: Vec<u64> = (0..1000).map(|_| bench.send(A, 0).unwrap()).collect();
        entries.iter().for_each(|entry| bench.time_out(*entry, 100));
        assert!(!bench.is_silent(A));
        bench.answer(A, entries[0]);
        entries.iter().for_each(|entry| bench.time_out(*entry, 350));
        assert!(!bench.is_silent(A), "it has answered since");
    }

    /// Nobody waits for the answers, so nobody notices that a probe has failed.
    #[test]
    fn a_failed_probe_does_not_hold_up_what_nobody_waits_for() {
        let mut bench = Bench::new(100);
        let until = bench.probe_in_vain(A);
        let Bench { peers, rng, .. } = &mut bench;
        assert!(!peers.on_sent_untracked(A, at(until + 50), rng), "the probe is out");
        assert!((0..100).any(|s| peers.on_sent_untracked(A, at(until + 100 + s * 100), rng)));
    }

    #[test]
    fn a_request_lost_long_ago_is_held_against_nobody() {
        let mut bench = Bench::new(100);
        let entry = bench.send(A, 0).unwrap();
        bench.peers.on_ended(entry);
        let entry = bench.send(A, 5000).unwrap();
        bench.time_out(entry, 5100);
        assert!(!bench.is_silent(A));
    }

    #[test]
    fn any_answer_and_any_new_link_end_the_rest() {
        let mut bench = Bench::new(100);
        let entry = bench.send(A, 0).unwrap();
        bench.time_out(entry, 300);
        bench.answer(A, 999);
        assert!(bench.peers.may_send(A, at(301)), "a late answer is an answer");
        let entry = bench.send(A, 301).unwrap();
        bench.time_out(entry, 601);
        assert!(bench.is_silent(A));
        bench.peers.on_link(A);
        assert!(bench.peers.may_send(A, at(602)));
    }

    /// What it has already says nothing more once it is left alone.
    #[test]
    fn nothing_is_sent_again_to_one_that_is_left_alone() {
        let mut bench = Bench::new(100);
        let entry = bench.send(A, 0).unwrap();
        assert!(bench.peers.on_sent(A, entry << 8, at(299), &mut bench.rng));
        assert!(!bench.peers.on_sent(A, entry << 8, at(300), &mut bench.rng));
    }

    #[test]
    fn the_end_of_one_request_is_no_sign_of_life() {
        let mut bench = Bench::new(100);
        let (ended, waiting) = (bench.send(A, 0).unwrap(), bench.send(A, 10).unwrap());
        bench.peers.on_ended(ended);
        bench.time_out(waiting, 300);
        assert!(bench.is_silent(A));
    }

    #[test]
    fn peers_that_fell_silent_together_are_not_probed_together() {
        let mut bench = Bench::new(100);
        let entries: Vec<u64> = (1..=16).map(|node| bench.send(NodeId(node), 0).unwrap()).collect();
        entries.iter().for_each(|entry| bench.time_out(*entry, 300));
        let mut rests: Vec<u64> = (1..=16).map(|node| bench.rests_until(NodeId(node), 300)).collect();
        rests.sort();
        rests.dedup();
        assert!(rests.len() > 8, "{rests:?}");
    }

    #[test]
    fn the_first_rest_after_an_answer_is_a_short_one() {
        let mut bench = Bench::new(100);
        let mut now = 0;
        for _ in 0..8 {
            let entry = bench.send(A, now).unwrap();
            bench.time_out(entry, now + 300);
            let rest = bench.rests_until(A, now + 300) - (now + 300);
            assert!((100..=200).contains(&rest), "{rest}");
            bench.answer(A, entry);
            now += 1000;
        }
    }
}
