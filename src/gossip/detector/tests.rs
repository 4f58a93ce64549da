//! Silence, probes and verdicts, by the clock.

use super::*;

const PEER: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
const RUN: Generation = Generation(1);
const INTERVAL: Duration = Duration::from_millis(500);
const NOTHING: (Vec<Ping>, Vec<Verdict>) = (Vec::new(), Vec::new());

/// A detector and the time, which goes on in steps of a tenth of an interval.
struct Watcher {
    detector: Detector,
    now: Time,
    heartbeat: u64,
}

impl Watcher {
    fn new(nodes: &[NodeId]) -> Watcher {
        let mut detector = Detector::new(Tuning::new(&GossipConfig::default()));
        let now = Time::from_micros(7_000_000);
        assert_eq!(detector.watch(now, nodes.iter().copied()), vec![]);
        detector.poll(now);
        Watcher { detector, now, heartbeat: 0 }
    }

    /// One that has heard of both for a minute.
    fn settled() -> Watcher {
        let mut watcher = Watcher::new(&[PEER, OTHER]);
        for _ in 0..120 {
            watcher.beat(PEER);
            watcher.beat(OTHER);
            assert_eq!(watcher.pass(INTERVAL), NOTHING);
        }
        watcher
    }

    fn beat(&mut self, node: NodeId) -> Option<Verdict> {
        self.heartbeat += 1;
        self.detector.hear(self.now, node, RUN, self.heartbeat)
    }

    /// Lets `span` pass, looking as often as a node does; everything that came of it.
    fn pass(&mut self, span: Duration) -> (Vec<Ping>, Vec<Verdict>) {
        let (mut pings, mut verdicts) = NOTHING;
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + INTERVAL / 10).min(end);
            let (more, verdict) = self.detector.poll(self.now);
            pings.extend(more);
            verdicts.extend(verdict);
        }
        (pings, verdicts)
    }

    /// The other member's heartbeats come as ever, for so many intervals.
    fn without_peer(&mut self, intervals: u32) -> (Vec<Ping>, Vec<Verdict>) {
        let (mut pings, mut verdicts) = NOTHING;
        for _ in 0..intervals {
            self.beat(OTHER);
            let (more, verdict) = self.pass(INTERVAL);
            pings.extend(more);
            verdicts.extend(verdict);
        }
        (pings, verdicts)
    }
}

fn convicted(node: NodeId) -> Verdict {
    Verdict { node, convicted: true }
}

fn acquitted(node: NodeId) -> Verdict {
    Verdict { node, convicted: false }
}

#[test]
fn a_member_that_falls_silent_is_probed_and_then_convicted_once() {
    let mut watcher = Watcher::settled();
    let (pings, verdicts) = watcher.without_peer(8);
    assert_eq!(verdicts, vec![convicted(PEER)]);
    assert!(pings.len() >= 4, "{pings:?}");
    assert!(pings.iter().all(|ping| ping.node == PEER));
    assert!(pings.is_sorted_by(|a, b| a.number < b.number), "{pings:?}");
    assert_eq!(watcher.without_peer(100), NOTHING);
    assert_eq!(watcher.detector.convicted().collect::<Vec<_>>(), [PEER]);
}

#[test]
fn no_silence_convicts_before_a_probe_has_had_its_time() {
    let mut watcher = Watcher::settled();
    while watcher.pass(INTERVAL / 10).0.is_empty() {
        watcher.beat(OTHER);
    }
    let probed = watcher.now;
    while !watcher.detector.is_convicted(PEER) {
        watcher.pass(INTERVAL / 10);
        watcher.beat(OTHER);
    }
    let Tuning { probe, .. } = watcher.detector.tuning;
    assert!(watcher.now.since(probed) >= probe, "{:?}", watcher.now.since(probed));
}

#[test]
fn no_failed_probe_convicts_before_the_silence_is_unlikely_enough() {
    let mut watcher = Watcher::settled();
    watcher.detector.tuning.convicted_from = 1e9;
    let (pings, verdicts) = watcher.without_peer(100);
    assert!(pings.len() > 100, "it goes on asking");
    assert_eq!(verdicts, vec![]);
}

#[test]
fn a_pong_acquits_before_and_after_the_verdict() {
    let mut watcher = Watcher::settled();
    // a member whose heartbeats reach nobody, and who answers: it is asked again and again, and never convicted
    for _ in 0..400 {
        watcher.beat(OTHER);
        let (pings, verdicts) = watcher.pass(INTERVAL / 5);
        assert_eq!(verdicts, vec![]);
        for ping in pings {
            assert_eq!(watcher.detector.pong(watcher.now, PEER, ping.number), None);
        }
    }
    let (pings, verdicts) = watcher.without_peer(10);
    assert_eq!(verdicts, vec![convicted(PEER)]);
    let last = pings.last().unwrap().number;
    assert_eq!(watcher.detector.pong(watcher.now, PEER, last), Some(acquitted(PEER)));
    assert_eq!(watcher.detector.pong(watcher.now, PEER, last), None);
}

#[test]
fn a_pong_of_an_earlier_silence_says_nothing() {
    let mut watcher = Watcher::settled();
    let (pings, verdicts) = watcher.without_peer(10);
    let (first, verdict) = (pings[0].number, verdicts[0]);
    assert_eq!(verdict, convicted(PEER));
    watcher.beat(PEER);
    assert_eq!(watcher.without_peer(10).1, vec![convicted(PEER)]);
    assert_eq!(watcher.detector.pong(watcher.now, PEER, first), None);
    assert!(watcher.detector.is_convicted(PEER));
}

#[test]
fn a_newer_heartbeat_a_newer_run_and_a_hello_acquit_and_an_old_heartbeat_does_not() {
    let news: [fn(&mut Watcher) -> Option<Verdict>; 3] = [
        |watcher| watcher.beat(PEER),
        |watcher| watcher.detector.hear(watcher.now, PEER, Generation(2), 0),
        |watcher| watcher.detector.meet(watcher.now, PEER),
    ];
    for sign in news {
        let mut watcher = Watcher::settled();
        let known = watcher.heartbeat - 1;
        assert_eq!(watcher.without_peer(10).1, vec![convicted(PEER)]);
        assert_eq!(watcher.detector.hear(watcher.now, PEER, RUN, known), None);
        assert_eq!(watcher.detector.hear(watcher.now, PEER, Generation(0), known + 99), None);
        assert_eq!(sign(&mut watcher), Some(acquitted(PEER)));
        assert_eq!(sign(&mut watcher), None, "once");
        assert_eq!(watcher.pass(INTERVAL).1, vec![]);
    }
}

#[test]
fn who_was_never_heard_of_has_its_time_to_come_and_no_more() {
    let mut watcher = Watcher::new(&[PEER]);
    let Tuning { first_contact, probe, .. } = watcher.detector.tuning;
    assert_eq!(watcher.pass(first_contact - INTERVAL), NOTHING);
    let (pings, verdicts) = watcher.pass(INTERVAL + probe - INTERVAL / 10);
    assert!(!pings.is_empty() && verdicts.is_empty(), "a probe comes first: {verdicts:?}");
    assert_eq!(watcher.pass(INTERVAL).1, vec![convicted(PEER)]);
    assert_eq!(watcher.detector.phi(watcher.now, PEER), None);
}

/// Trap 16: whoever was stopped has heard of nobody, and that is nobody's fault.
#[test]
fn after_a_stall_it_learns_before_it_judges() {
    for stall in [6, 60, 86_400] {
        let mut watcher = Watcher::settled();
        watcher.now = watcher.now + Duration::from_secs(stall);
        assert_eq!(watcher.detector.poll(watcher.now), NOTHING);
        // time enough to hear of all but one again
        assert_eq!(watcher.without_peer(2), NOTHING, "{stall}");
        watcher.beat(PEER);
        assert_eq!(watcher.without_peer(2), NOTHING, "{stall}");
        assert_eq!(watcher.without_peer(8).1, vec![convicted(PEER)], "{stall}: it still judges");
    }
}

/// What came during a stall may be read before the timer is looked at.
#[test]
fn a_stall_is_noticed_by_whatever_comes_first() {
    let mut watcher = Watcher::settled();
    watcher.now = watcher.now + Duration::from_secs(60);
    watcher.beat(OTHER);
    assert_eq!(watcher.detector.poll(watcher.now), NOTHING);
    assert_eq!(watcher.without_peer(2), NOTHING);
}

/// A shorter stop leaves nothing unread that a verdict should have waited for.
#[test]
fn a_probe_that_a_stop_has_cut_is_lengthened() {
    let mut watcher = Watcher::settled();
    while watcher.pass(INTERVAL / 10).0.is_empty() {
        watcher.beat(OTHER);
    }
    watcher.now = watcher.now + Duration::from_secs(4);
    watcher.beat(OTHER);
    let (pings, verdicts) = watcher.detector.poll(watcher.now);
    assert_eq!((pings.iter().filter(|ping| ping.node == PEER).count(), verdicts), (1, vec![]));
    let Tuning { probe, .. } = watcher.detector.tuning;
    assert_eq!(watcher.pass(probe - INTERVAL / 10).1, vec![]);
}

/// Trap 16: a monotonic clock that stands still or steps back convicts nobody.
#[test]
fn a_frozen_clock_convicts_nobody() {
    let mut watcher = Watcher::settled();
    for _ in 0..1000 {
        assert_eq!(watcher.detector.poll(watcher.now), NOTHING);
    }
    assert_eq!(watcher.detector.poll(Time::ZERO), NOTHING);
    assert_eq!(watcher.detector.poll(watcher.now), NOTHING);
}

#[test]
fn who_is_watched_no_longer_is_acquitted_and_forgotten() {
    let mut watcher = Watcher::settled();
    assert_eq!(watcher.without_peer(10).1, vec![convicted(PEER)]);
    assert_eq!(watcher.detector.watch(watcher.now, [OTHER].into_iter()), vec![acquitted(PEER)]);
    assert_eq!(watcher.detector.watch(watcher.now, [OTHER].into_iter()), vec![]);
    assert_eq!(watcher.beat(PEER), None);
    assert_eq!(watcher.detector.phi(watcher.now, PEER), None);
}

/// Whoever drives it by `poll_timeout` alone, and once an interval, sees what somebody sees who looks all the time.
#[test]
fn the_timeout_is_early_enough() {
    let mut watcher = Watcher::settled();
    let begun = watcher.now;
    let mut looks = 0;
    while !watcher.detector.is_convicted(PEER) {
        let due = watcher.detector.poll_timeout().expect("somebody is watched");
        assert!(due > watcher.now, "it never asks to be called at once");
        watcher.now = due.min(watcher.now + INTERVAL);
        watcher.beat(OTHER);
        watcher.detector.poll(watcher.now);
        looks += 1;
    }
    assert!(looks < 30);
    let mut eager = Watcher::settled();
    while !eager.detector.is_convicted(PEER) {
        eager.pass(INTERVAL / 10);
        eager.beat(OTHER);
    }
    assert!(watcher.now.since(begun) <= eager.now.since(begun));
}
