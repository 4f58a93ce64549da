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

/// A watcher that has just begun to probe its peer.
fn probing() -> Watcher {
    let mut watcher = Watcher::settled();
    while watcher.pass(INTERVAL / 10).0.is_empty() {
        watcher.beat(OTHER);
    }
    watcher
}

fn convicted(node: NodeId) -> Verdict {
    Verdict { node, convicted: true }
}

fn acquitted(node: NodeId) -> Verdict {
    Verdict { node, convicted: false }
}

#[track_caller]
fn check_tuning(interval: u64, times: [u64; 4], longest: u64, first_contact: u64) {
    let ms = Duration::from_millis;
    let config = GossipConfig { interval: ms(interval), phi_threshold: 6.0, phi_window: 50 };
    let [min_deviation, pause, probe, ping] = times.map(ms);
    let (estimate, longest) = (ms(interval), ms(longest));
    let expected = Tuning {
        expectation: Expectation { window: 50, min_deviation, pause, estimate, longest },
        interval: ms(interval),
        probed_from: deviations_of(3.0),
        convicted_from: deviations_of(6.0),
        probe,
        ping,
        first_contact: ms(first_contact),
    };
    assert_eq!(Tuning::new(&config), expected);
}

/// Times grow with the interval, down to what a busy host and its network need.
#[test]
fn patience_follows_from_the_settings() {
    check_tuning(4000, [1000, 2000, 8000, 1600], 40_000, 40_000);
    check_tuning(500, [125, 250, 1000, 200], 5000, 5000);
    check_tuning(50, [100, 250, 1000, 200], 500, 5000);
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
    let mut watcher = probing();
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
    for pick in [<[Ping]>::first, <[Ping]>::last] {
        let (pings, verdicts) = watcher.without_peer(10);
        assert_eq!(verdicts, vec![convicted(PEER)]);
        let number = pick(&pings).unwrap().number;
        assert_eq!(watcher.detector.pong(watcher.now, PEER, number), Some(acquitted(PEER)));
        assert_eq!(watcher.detector.pong(watcher.now, PEER, number), None);
    }
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
    let mut watcher = probing();
    watcher.now = watcher.now + Duration::from_secs(4);
    // however much waits to be read, it is lengthened once
    (0..3).for_each(|_| assert_eq!(watcher.beat(OTHER), None));
    let (pings, verdicts) = watcher.detector.poll(watcher.now);
    assert_eq!((pings.iter().filter(|ping| ping.node == PEER).count(), verdicts), (1, vec![]));
    let Tuning { probe, .. } = watcher.detector.tuning;
    assert_eq!(watcher.pass(probe - INTERVAL / 10).1, vec![]);
    assert_eq!(watcher.pass(INTERVAL / 5).1, vec![convicted(PEER)]);
}

/// Were it measured from the look before to the look after, it would pass for a stall, of which a probe says nothing.
#[test]
fn a_stop_is_as_long_as_until_whatever_comes_first() {
    let signs: [fn(&mut Watcher) -> Option<Verdict>; 2] =
        [|watcher| watcher.beat(OTHER), |watcher| watcher.detector.meet(watcher.now, OTHER)];
    for sign in signs {
        let mut watcher = probing();
        watcher.now = watcher.now + Tuning::STALL + INTERVAL / 2;
        assert_eq!(sign(&mut watcher), None);
        watcher.now = watcher.now + INTERVAL;
        let Tuning { probe, .. } = watcher.detector.tuning;
        assert_eq!(watcher.pass(probe - INTERVAL / 2).1, vec![convicted(PEER)]);
    }
}

#[test]
fn a_process_that_is_held_up_again_and_again_convicts_all_the_same() {
    let mut watcher = probing();
    let mut verdicts = Vec::new();
    for _ in 0..20 {
        watcher.now = watcher.now + Duration::from_millis(1600);
        watcher.beat(OTHER);
        verdicts.extend(watcher.pass(INTERVAL / 5).1);
    }
    assert_eq!(verdicts, vec![convicted(PEER)]);
}

#[test]
fn a_stall_ends_probes_and_gives_the_unheard_their_time_anew() {
    let mut watcher = probing();
    watcher.now = watcher.now + Duration::from_secs(60);
    assert_eq!(watcher.detector.poll(watcher.now), NOTHING);
    let mut watcher = Watcher::new(&[PEER]);
    watcher.pass(INTERVAL);
    watcher.now = watcher.now + Duration::from_secs(60);
    let Tuning { first_contact, .. } = watcher.detector.tuning;
    assert_eq!(watcher.pass(first_contact - INTERVAL / 10), NOTHING);
    assert_eq!(watcher.pass(INTERVAL / 5).0, [Ping { node: PEER, number: 1 }]);
}

/// How unlikely it is, after `what`, that the peer is silent for two and a half intervals from its next heartbeat on.
fn phi_after(what: impl Fn(&mut Watcher)) -> f64 {
    let mut watcher = Watcher::settled();
    what(&mut watcher);
    watcher.detector.phi(watcher.now + INTERVAL * 5 / 2, PEER).expect("it has been heard of")
}

#[track_caller]
fn check_no_interval(what: impl Fn(&mut Watcher)) {
    let usual = phi_after(|watcher| assert_eq!(watcher.beat(PEER), None));
    let found = phi_after(what);
    assert!((found - usual).abs() < 0.1, "{found}, not {usual}");
}

/// What cuts the wait for a heartbeat does not change what is usual.
#[test]
fn only_what_lies_between_two_heartbeats_of_one_run_is_remembered_as_an_interval() {
    fn stall(watcher: &mut Watcher) {
        watcher.now = watcher.now + Duration::from_secs(60);
    }
    check_no_interval(|watcher| {
        stall(watcher);
        watcher.beat(PEER);
    });
    check_no_interval(|watcher| {
        stall(watcher);
        watcher.detector.poll(watcher.now);
        watcher.beat(PEER);
    });
    check_no_interval(|watcher| {
        assert_eq!(watcher.without_peer(10).1, vec![convicted(PEER)]);
        assert_eq!(watcher.beat(PEER), Some(acquitted(PEER)));
    });
    check_no_interval(|watcher| {
        assert_eq!(watcher.without_peer(3).1, vec![]);
        assert_eq!(watcher.detector.hear(watcher.now, PEER, Generation(2), 0), None);
    });
    check_no_interval(|watcher| {
        for _ in 0..60 {
            watcher.beat(PEER);
            watcher.pass(INTERVAL / 10);
            watcher.detector.meet(watcher.now, PEER);
            watcher.pass(INTERVAL - INTERVAL / 10);
        }
        watcher.beat(PEER);
    });
}

#[test]
fn a_sign_of_life_ends_the_probe() {
    let mut watcher = probing();
    watcher.beat(PEER);
    watcher.beat(OTHER);
    assert_eq!(watcher.pass(INTERVAL), NOTHING);
}

#[test]
fn a_probe_asks_again_when_the_timeout_says_so() {
    let watcher = probing();
    let Tuning { ping, .. } = watcher.detector.tuning;
    assert_eq!(watcher.detector.poll_timeout(), Some(watcher.now + ping));
}

#[test]
fn a_member_was_heard_of_when_its_latest_heartbeat_came() {
    let mut watcher = Watcher::new(&[PEER]);
    assert_eq!(watcher.detector.heard(PEER), None);
    watcher.beat(PEER);
    let came = watcher.now;
    watcher.pass(INTERVAL);
    assert_eq!(watcher.detector.hear(watcher.now, PEER, RUN, watcher.heartbeat), None);
    assert_eq!(watcher.detector.meet(watcher.now, PEER), None);
    assert_eq!((watcher.detector.heard(PEER), watcher.detector.heard(OTHER)), (Some(came), None));
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
    assert_eq!(watcher.detector.watch(watcher.now, [OTHER].into_iter()), vec![], "it was held for alive");
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
