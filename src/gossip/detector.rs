//! Who lives, in this node's opinion. Sans-IO: heartbeats, pongs and the time go in, pings and verdicts come out.
//!
//! ```text
//!            silence: phi >= half of the threshold            phi >= threshold, and the probe's time is over
//!   trusted --------------------------------------> probed ------------------------------------------------> convicted
//!      ^                                              |                                                          |
//!      +----------------------------------------------+---- a newer heartbeat, a pong, a hello ------------------+
//! ```
//!
//! Heartbeats come by gossip, from anybody; a probe asks the member itself, so one needs both: that nobody has heard of it
//! for an unlikely time, and that it does not answer. Nobody is removed for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::GossipConfig;
use super::phi::{Arrivals, Expectation, deviations_of};
use crate::types::{Generation, NodeId, Time};

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// About whom.
    pub node: NodeId,
    /// Held for dead, or no longer.
    pub convicted: bool,
}

/// To be sent to a member, if there is a way; its pong carries the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// To whom.
    pub node: NodeId,
    /// Never used before.
    pub number: u64,
}

/// How patient a detector is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    expectation: Expectation,
    /// Between two looks.
    interval: Duration,
    /// Deviations beyond the expected from which on a member is probed, and from which on it may be convicted.
    probed_from: f64,
    convicted_from: f64,
    /// How long a probe takes at least, and between two pings of it.
    probe: Duration,
    ping: Duration,
    /// How long a member may take to be heard of for the first time.
    first_contact: Duration,
}

impl Tuning {
    /// Without a look for so long, this process has been stopped: it knows nothing of anybody.
    const STALL: Duration = Duration::from_secs(5);
    /// Pings of a probe: with a twentieth of all messages lost, one healthy probe in 10^5 fails.
    const PINGS: u32 = 5;

    /// What follows from the settings.
    pub fn new(config: &GossipConfig) -> Tuning {
        let interval = config.interval;
        // a host that is busy with something else holds up a process for some tenths of a second, however short the interval
        let pause = (interval / 2).max(Duration::from_millis(250));
        let probe = (interval * 2).max(Duration::from_secs(1));
        Tuning {
            expectation: Expectation {
                window: config.phi_window as usize,
                min_deviation: (interval / 4).max(Duration::from_millis(100)),
                pause,
                estimate: interval,
                longest: interval * 10,
            },
            interval,
            probed_from: deviations_of(config.phi_threshold / 2.0),
            convicted_from: deviations_of(config.phi_threshold),
            probe,
            ping: probe / Tuning::PINGS,
            first_contact: (interval * 10).max(Tuning::STALL),
        }
    }
}

/// A member that is asked itself.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// Until then it may answer.
    ends: Time,
    next: Time,
}

/// One member, as it is seen from here.
#[derive(Clone, Debug)]
struct Peer {
    arrivals: Arrivals,
    /// The latest heartbeat.
    word: Option<(Generation, u64)>,
    /// When it came.
    heard: Option<Time>,
    /// Before this nobody is suspected who has not been heard of.
    grace: Time,
    probe: Option<Probe>,
    /// The first ping of the last probe: older pongs are of another silence.
    asked_from: u64,
    convicted: bool,
}

impl Peer {
    fn new(now: Time, tuning: &Tuning) -> Peer {
        Peer {
            arrivals: Arrivals::new(now, tuning.expectation),
            word: None,
            heard: None,
            grace: now + tuning.first_contact,
            probe: None,
            asked_from: u64::MAX,
            convicted: false,
        }
    }

    /// When its silence becomes so unlikely.
    fn reaches(&self, deviations: f64) -> Time {
        let silent = self.arrivals.reaches(deviations);
        if self.word.is_none() { silent.max(self.grace) } else { silent }
    }

    /// It lives. Whether that is a change of opinion.
    fn acquit(&mut self) -> bool {
        self.probe = None;
        std::mem::take(&mut self.convicted)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Detector {
    tuning: Tuning,
    peers: BTreeMap<NodeId, Peer>,
    /// When this node was last known to be awake.
    looked: Option<Time>,
    next_ping: u64,
    due: Option<Time>,
}

impl Detector {
    /// A detector that watches nobody.
    pub fn new(tuning: Tuning) -> Detector {
        Detector { tuning, peers: BTreeMap::new(), looked: None, next_ping: 1, due: None }
    }

    /// From now on these are watched and nobody else. Whoever was convicted and is watched no longer is acquitted.
    pub fn watch(&mut self, now: Time, nodes: impl Iterator<Item = NodeId>) -> Vec<Verdict> {
        let mut before = std::mem::take(&mut self.peers);
        for node in nodes {
            let peer = before.remove(&node).unwrap_or_else(|| Peer::new(now, &self.tuning));
            self.peers.insert(node, peer);
        }
        let gone = before.into_iter().filter(|(_, peer)| peer.convicted);
        gone.map(|(node, _)| Verdict { node, convicted: false }).collect()
    }

    /// Somebody has said that a member's heartbeat is this. An old one is no news.
    pub fn hear(&mut self, now: Time, node: NodeId, generation: Generation, heartbeat: u64) -> Option<Verdict> {
        self.wake(now);
        let peer = self.peers.get_mut(&node)?;
        let word = (generation, heartbeat);
        if peer.word.is_some_and(|known| known >= word) && !mutant!(OldHeartbeatIsNews) {
            return None;
        }
        // a silence that ended in a conviction, or in another run, is no interval between two heartbeats
        if peer.convicted || peer.word.is_none_or(|(known, _)| known != generation) {
            peer.arrivals.rebase(now);
        }
        peer.word = Some(word);
        peer.heard = Some(now);
        peer.arrivals.arrive(now);
        peer.acquit().then_some(Verdict { node, convicted: false })
    }

    /// A member has completed a handshake, or answered: it lives.
    pub fn meet(&mut self, now: Time, node: NodeId) -> Option<Verdict> {
        self.wake(now);
        let peer = self.peers.get_mut(&node)?;
        peer.arrivals.attest(now);
        peer.acquit().then_some(Verdict { node, convicted: false })
    }

    /// A member has answered a ping.
    pub fn pong(&mut self, now: Time, node: NodeId, number: u64) -> Option<Verdict> {
        let asked = self.peers.get(&node).is_some_and(|peer| number >= peer.asked_from);
        if asked { self.meet(now, node) } else { None }
    }

    /// Looks at everybody; to be called at least once each interval, and when [`poll_timeout`](Detector::poll_timeout)
    /// says so.
    pub fn poll(&mut self, now: Time) -> (Vec<Ping>, Vec<Verdict>) {
        self.wake(now);
        self.looked = Some(now);
        self.due = None;
        let (mut pings, mut verdicts) = (Vec::new(), Vec::new());
        let Tuning { probed_from, convicted_from, .. } = self.tuning;
        for (&node, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.convicted) {
            let begins = peer.reaches(probed_from);
            if peer.probe.is_none() && now >= begins {
                peer.probe = Some(Probe { ends: now + self.tuning.probe, next: now });
                peer.asked_from = self.next_ping;
            }
            let Some(probe) = &mut peer.probe else {
                self.due = earlier(self.due, begins);
                continue;
            };
            if now >= probe.next {
                probe.next = now + self.tuning.ping;
                pings.push(Ping { node, number: self.next_ping });
                self.next_ping += 1;
            }
            if mutant!(ProbeNeverFails) {
                probe.ends = now + self.tuning.probe;
            }
            let Probe { ends, next } = *probe;
            let verdict = ends.max(peer.reaches(convicted_from));
            if now >= verdict {
                (peer.probe, peer.convicted) = (None, true);
                verdicts.push(Verdict { node, convicted: true });
            } else {
                self.due = earlier(self.due, verdict.min(next));
            }
        }
        (pings, verdicts)
    }

    /// When [`poll`](Detector::poll) has something to do, as of its last call; what has come since only puts it off.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Notices that this process has not looked for longer than it should have: what came in the meantime waits to be
    /// read, so nobody may be judged by it.
    fn wake(&mut self, now: Time) {
        let Some(late) = self.looked.map(|looked| now.since(looked)) else { return };
        let tuning = &self.tuning;
        if late > tuning.interval + Tuning::STALL {
            for peer in self.peers.values_mut() {
                peer.arrivals.rebase(now);
                peer.grace = now + tuning.first_contact;
                peer.probe = None;
            }
        } else if late > tuning.interval.max(tuning.probe) {
            // Lengthened and not begun anew: a process that is held up again and again gets there all the same.
            for probe in self.peers.values_mut().filter_map(|peer| peer.probe.as_mut()) {
                *probe = Probe { ends: probe.ends + late, next: now };
            }
        } else {
            return;
        }
        self.looked = Some(now);
    }

    /// Whether a member is held for dead.
    pub fn is_convicted(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.convicted)
    }

    /// Who is held for dead.
    pub fn convicted(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.convicted).map(|(node, _)| *node)
    }

    /// How unlikely a member's silence is; `None` of one that is not watched or has not been heard of.
    pub fn phi(&self, now: Time, node: NodeId) -> Option<f64> {
        let peer = self.peers.get(&node).filter(|peer| peer.word.is_some())?;
        Some(peer.arrivals.phi(now))
    }

    /// When a member's latest heartbeat came.
    pub fn heard(&self, node: NodeId) -> Option<Time> {
        self.peers.get(&node)?.heard
    }
}

fn earlier(known: Option<Time>, other: Time) -> Option<Time> {
    Some(known.map_or(other, |known| known.min(other)))
}

#[cfg(test)]
mod tests;
