//! Which faults strike when, and what is promised meanwhile.

mod mixed;

use std::time::Duration;

use clap::ValueEnum;

use super::fault::{Fault, between, others};
use super::proxy::weather::Weather;

/// The nodes of every scenario: one may be away, and each key still has nodes that do not hold it.
pub const NODES: usize = 5;

/// The node whose data may lie on a small disk.
pub const SMALL_DISK: usize = NODES - 1;

/// What happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One of five nodes is killed (SIGKILL), stays away, and comes back
    KillOne,
    /// All nodes are killed at the same moment, three times
    KillAll,
    /// One node after the other is stopped (SIGSTOP) and goes on
    Pause,
    /// Two nodes are cut off from three; then one is heard by nobody, but hears
    Partition,
    /// The links of one node come and go every second
    Flap,
    /// One node's disk is slow, then the network around another
    Slow,
    /// The disk of one node is full
    FullDisk,
    /// Wall clocks jump, forth and back
    Clock,
    /// All of these, drawn from the seed
    Mixed,
    /// Hints by the hundred thousand are delivered; then again, while their holder and their target are killed
    Hints,
}

/// A fault and its time, from the beginning of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Strike {
    /// When it begins.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
    /// What it is.
    pub fault: Fault,
}

/// What is promised while faults are active, besides what always is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Promises {
    /// The least share of requests that succeed once the first fault has been detected.
    pub success: Option<f64>,
    /// The longest time that a client is without a success.
    pub gap: Option<Duration>,
    /// The longest time from the return of the last node to the first success.
    pub served_again: Option<Duration>,
    /// The least share of acknowledged writes, in percent, that were acknowledged during a fault.
    pub under_fault_percent: u64,
}

/// A scenario with its times.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its kind.
    pub kind: Kind,
    /// In the order in which they begin.
    pub strikes: Vec<Strike>,
    /// How long the load goes on.
    pub load: Duration,
    /// What is promised.
    pub promises: Promises,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The load before the first fault.
    pub warm_up: Duration,
    /// The length of a long fault; short ones are parts of it.
    pub fault: Duration,
    /// The load after the last one.
    pub after: Duration,
}

impl Scenario {
    /// The scenario of this kind; `seed` matters to [`Kind::Mixed`] alone. None for [`Kind::Hints`], which has no load.
    pub fn new(kind: Kind, times: Times, seed: u64) -> Option<Scenario> {
        let Times { warm_up, fault, after } = times;
        let plain = Promises { under_fault_percent: 20, ..Promises::default() };
        let (strikes, promises) = match kind {
            Kind::KillOne => {
                let (success, gap) = (Some(0.999), Some(Duration::from_secs(1)));
                (vec![strike(warm_up, fault, Fault::Kill { nodes: vec![1] })], Promises { success, gap, ..plain })
            }
            Kind::KillAll => {
                let served_again = Some(Duration::from_secs(3));
                (kills(warm_up, fault), Promises { served_again, ..Promises::default() })
            }
            Kind::Pause => {
                let half = fault / 2;
                let pause = |from, node| strike(from, half, Fault::Pause { node });
                (vec![pause(warm_up, 2), pause(warm_up + half + half / 4, 3)], plain)
            }
            Kind::Partition => (partitions(warm_up, fault), plain),
            Kind::Flap => (flaps(warm_up, fault), plain),
            Kind::Slow => (slowness(warm_up, fault), plain),
            Kind::FullDisk => (vec![strike(warm_up, fault, Fault::FullDisk { node: SMALL_DISK })], plain),
            Kind::Clock => (clocks(warm_up, fault), plain),
            Kind::Mixed => (mixed::draw(warm_up, fault, seed), Promises { under_fault_percent: 10, ..plain }),
            Kind::Hints => return None,
        };
        let end = strikes.iter().map(|strike| strike.until).max().unwrap_or(warm_up);
        Some(Scenario { kind, strikes, load: end + after, promises })
    }

    /// From the first fault's beginning to the last one's end.
    pub fn under_fault(&self) -> (Duration, Duration) {
        let from = self.strikes.iter().map(|strike| strike.from).min().unwrap_or(self.load);
        (from, self.strikes.iter().map(|strike| strike.until).max().unwrap_or(self.load))
    }
}

impl Kind {
    /// How it is called on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

fn strike(from: Duration, length: Duration, fault: Fault) -> Strike {
    Strike { from, until: from + length, fault }
}

/// Three times a third of the time, of which a second without any process.
fn kills(from: Duration, fault: Duration) -> Vec<Strike> {
    let dead = Duration::from_secs(1).min(fault / 3);
    let kill = |round: u32| strike(from + fault / 3 * round, dead, Fault::Kill { nodes: (0..NODES).collect() });
    (0..3).map(kill).collect()
}

fn partitions(from: Duration, fault: Duration) -> Vec<Strike> {
    let half = fault / 2;
    let mute = others(0, NODES).into_iter().map(|other| (0, other)).collect();
    vec![
        strike(from, half, Fault::Cut { ways: between(&[0, 1], &[2, 3, 4]) }),
        strike(from + half + half / 4, half, Fault::Cut { ways: mute }),
    ]
}

/// A second shut, a second open.
fn flaps(from: Duration, fault: Duration) -> Vec<Strike> {
    let second = Duration::from_secs(1);
    let rounds = u32::try_from(fault.as_secs() / 2).unwrap_or(u32::MAX).max(1);
    let cut =
        |round: u32| strike(from + second * 2 * round, second, Fault::Cut { ways: between(&[1], &others(1, NODES)) });
    (0..rounds).map(cut).collect()
}

/// A slow network as seen by one node.
fn storm(node: usize) -> Fault {
    let ms = Duration::from_millis;
    let weather = Weather { delay: (ms(30), ms(120)), loss: 0.03, duplication: 0.03 };
    Fault::SlowNet { ways: between(&[node], &others(node, NODES)), weather }
}

fn slowness(from: Duration, fault: Duration) -> Vec<Strike> {
    let half = fault / 2;
    let disk = Fault::SlowDisk { node: 1, delay: Duration::from_millis(200) };
    vec![strike(from, half, disk), strike(from + half + half / 4, half, storm(2))]
}

fn clocks(from: Duration, fault: Duration) -> Vec<Strike> {
    let (hour, third) = (3600, fault / 3);
    vec![
        strike(from, third * 2, Fault::ClockJump { node: 1, seconds: hour }),
        strike(from + third, third * 2, Fault::ClockJump { node: 2, seconds: -24 * hour }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times =
        Times { warm_up: Duration::from_secs(5), fault: Duration::from_secs(20), after: Duration::from_secs(10) };

    #[test]
    fn strikes_come_after_the_warm_up_and_end_before_the_load() {
        for kind in Kind::value_variants() {
            let Some(scenario) = Scenario::new(*kind, TIMES, 3) else { continue };
            assert!(!scenario.strikes.is_empty(), "{kind:?}");
            for Strike { from, until, fault } in &scenario.strikes {
                assert!(*from >= TIMES.warm_up && from < until, "{kind:?}: {fault}");
                assert!(*until + TIMES.after <= scenario.load, "{kind:?}: {fault}");
            }
            assert!(scenario.strikes.is_sorted_by_key(|strike| strike.from), "{kind:?}");
        }
    }

    #[test]
    fn one_killed_node_promises_availability() {
        let scenario = Scenario::new(Kind::KillOne, TIMES, 1);
        let Scenario { promises, strikes, .. } = scenario.expect("it has a load");
        assert_eq!((promises.success, promises.gap), (Some(0.999), Some(Duration::from_secs(1))));
        assert_eq!(strikes.len(), 1);
    }
}
