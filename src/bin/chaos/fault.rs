//! What can be done to a cluster.

use std::fmt;
use std::time::Duration;

use super::effect::Effect;
use super::proxy::weather::Weather;

/// A fault; nodes by their index.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL, all at the same moment; started again at the end.
    Kill {
        /// Which nodes.
        nodes: Vec<usize>,
    },
    /// SIGSTOP; SIGCONT at the end.
    Pause {
        /// Which node.
        node: usize,
    },
    /// No datagram gets through.
    Cut {
        /// In which directions, from a sender to a receiver.
        ways: Vec<(usize, usize)>,
    },
    /// Datagrams are late, lost and doubled.
    SlowNet {
        /// In which directions.
        ways: Vec<(usize, usize)>,
        /// How much.
        weather: Weather,
    },
    /// Every sync of the disk takes longer.
    SlowDisk {
        /// Of which node.
        node: usize,
        /// By how much.
        delay: Duration,
    },
    /// The disk is full; at the end there is room again, and the node is started anew, as an operator would.
    FullDisk {
        /// Of which node: the one whose data lies on a small disk of its own.
        node: usize,
    },
    /// The wall clock jumps, and back at the end.
    ClockJump {
        /// Of which node.
        node: usize,
        /// How far, forth or back.
        seconds: i64,
    },
}

/// Something that not every machine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// `strace`, and the right to attach to processes.
    Strace,
    /// The right to mount a tmpfs.
    SmallDisk,
    /// `libfaketime`.
    FakeTime,
    /// A daemon whose clock `libfaketime` can steer.
    Steerable,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Strace => "strace and the right to trace processes (apt-get install strace)",
            Need::SmallDisk => "the right to mount a tmpfs (run it as root)",
            Need::FakeTime => "libfaketime (apt-get install faketime)",
            Need::Steerable => {
                "a daemon that starts under libfaketime: with jemalloc, the default, it does not \
                 (cargo build --release --no-default-features --features rocksdb)"
            }
        })
    }
}

impl Fault {
    /// What has to be seen of it, or it was none.
    pub fn wanted(&self, cluster: usize) -> &'static [Effect] {
        match self {
            Fault::Kill { nodes } if nodes.len() < cluster => {
                &[Effect::Killed, Effect::DeadMs, Effect::FailedOver, Effect::SeenHints]
            }
            Fault::Kill { .. } => &[Effect::Killed, Effect::DeadMs],
            Fault::Pause { .. } => &[Effect::SeenStopped, Effect::FailedOver, Effect::SeenHints],
            Fault::Cut { .. } => &[Effect::Cut],
            Fault::SlowNet { .. } => &[Effect::Delayed, Effect::Lost, Effect::Doubled],
            Fault::SlowDisk { .. } => &[Effect::SlowSyncs],
            Fault::FullDisk { .. } => &[Effect::SeenFull],
            Fault::ClockJump { .. } => &[Effect::SeenClockOff],
        }
    }

    /// What it takes to inject it.
    pub fn needs(&self) -> &'static [Need] {
        match self {
            Fault::SlowDisk { .. } => &[Need::Strace],
            Fault::FullDisk { .. } => &[Need::SmallDisk],
            Fault::ClockJump { .. } => &[Need::FakeTime, Need::Steerable],
            Fault::Kill { .. } | Fault::Pause { .. } | Fault::Cut { .. } | Fault::SlowNet { .. } => &[],
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill { nodes } => {
                f.write_str("kill")?;
                nodes.iter().try_for_each(|node| write!(f, " n{}", node + 1))
            }
            Fault::Pause { node } => write!(f, "pause n{}", node + 1),
            Fault::Cut { ways } => {
                f.write_str("cut")?;
                ways.iter().try_for_each(|(from, to)| write!(f, " {}>{}", from + 1, to + 1))
            }
            Fault::SlowNet { ways, weather: Weather { delay: (least, most), loss, duplication } } => {
                let percent = |share: &f64| share * 100.0;
                write!(f, "slow network: {} directions, {least:?} to {most:?}, ", ways.len())?;
                write!(f, "{:.0} % lost, {:.0} % doubled", percent(loss), percent(duplication))
            }
            Fault::SlowDisk { node, delay } => write!(f, "slow disk of n{}: {delay:?} a sync", node + 1),
            Fault::FullDisk { node } => write!(f, "full disk of n{}", node + 1),
            Fault::ClockJump { node, seconds } => write!(f, "clock of n{} jumps by {seconds} s", node + 1),
        }
    }
}

/// Both directions between each node of one side and each of the other.
pub fn between(one: &[usize], other: &[usize]) -> Vec<(usize, usize)> {
    one.iter().flat_map(|a| other.iter().flat_map(|b| [(*a, *b), (*b, *a)])).collect()
}

/// All other nodes of a cluster.
pub fn others(node: usize, cluster: usize) -> Vec<usize> {
    (0..cluster).filter(|other| *other != node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_between_sides() {
        assert_eq!(between(&[0], &[1, 2]), [(0, 1), (1, 0), (0, 2), (2, 0)]);
        assert_eq!(others(1, 3), [0, 2]);
    }

    #[test]
    fn each_fault_has_an_effect_to_be_seen() {
        let weather = Weather::default();
        for fault in [
            Fault::Kill { nodes: vec![0] },
            Fault::Kill { nodes: vec![0, 1, 2] },
            Fault::Pause { node: 0 },
            Fault::Cut { ways: vec![(0, 1)] },
            Fault::SlowNet { ways: vec![(0, 1)], weather },
            Fault::SlowDisk { node: 0, delay: Duration::ZERO },
            Fault::FullDisk { node: 0 },
            Fault::ClockJump { node: 0, seconds: 1 },
        ] {
            assert!(!fault.wanted(3).is_empty(), "{fault}");
        }
    }
}
