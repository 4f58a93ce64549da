//! Carries faults out, takes them back, and asks for each whether anything came of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::cluster::Cluster;
use super::disk::SlowSyncs;
use super::effect::{Counts, Effect, missing};
use super::fault::Fault;
use super::load::Shared;
use super::proxy::weather::Weather;
use super::scenario::{NODES, Strike};

/// See the module.
pub struct Injector {
    /// What faults befall.
    pub cluster: Cluster,
    shared: Shared,
    /// By strike, what holds syncs up.
    slow: BTreeMap<usize, SlowSyncs>,
    /// By strike, the counts when it began.
    before: BTreeMap<usize, Counts>,
    /// Strikes that had no effect, and what was not seen of them.
    pub idle: Vec<String>,
    /// Faults are announced and not carried out: sabotage of the suite itself.
    pretends: bool,
}

impl Injector {
    /// For a cluster.
    pub fn new(cluster: Cluster, shared: Shared, pretends: bool) -> Injector {
        Injector { cluster, shared, slow: BTreeMap::new(), before: BTreeMap::new(), idle: Vec::new(), pretends }
    }

    /// A strike begins.
    pub fn begin(&mut self, index: usize, strike: &Strike) -> Result<()> {
        self.cluster.check()?;
        self.before.insert(index, self.shared.effects.counts());
        {
            let (mut recorder, now) = self.shared.record.open();
            recorder.fault_began(now);
        }
        eprintln!("dynkv-chaos: {:>5.1} s  {}", self.shared.record.elapsed().as_secs_f64(), strike.fault);
        if self.pretends { Ok(()) } else { self.carry_out(index, &strike.fault) }
    }

    /// A strike ends.
    pub fn end(&mut self, index: usize, strike: &Strike) -> Result<()> {
        if !self.pretends {
            self.take_back(index, &strike.fault)?;
        }
        self.cluster.check()?;
        {
            let (mut recorder, now) = self.shared.record.open();
            recorder.fault_ended(now);
        }
        let seconds = self.shared.record.elapsed().as_secs_f64();
        eprintln!("dynkv-chaos: {seconds:>5.1} s  end of: {}", strike.fault);
        let before = self.before.remove(&index).context("a strike ends after it began")?;
        let unseen = missing(strike.fault.wanted(NODES), &before, &self.shared.effects.counts());
        if !unseen.is_empty() {
            let names: Vec<&str> = unseen.into_iter().map(Effect::name).collect();
            self.idle.push(format!("{}: no {}", strike.fault, names.join(", no ")));
        }
        Ok(())
    }

    fn carry_out(&mut self, index: usize, fault: &Fault) -> Result<()> {
        let Cluster { nodes, proxy, small_disk, .. } = &mut self.cluster;
        match fault {
            Fault::Kill { nodes } => self.kill(nodes),
            Fault::Pause { node } => nodes[*node].signal(Signal::STOP),
            Fault::Cut { ways } => {
                proxy.cut(ways);
                Ok(())
            }
            Fault::SlowNet { ways, weather } => {
                proxy.set(ways, *weather);
                Ok(())
            }
            Fault::SlowDisk { node, delay } => {
                let pid = nodes[*node].pid().context("a node whose disk is to be slow runs")?;
                let output = self.cluster.file(&format!("syncs-{index}"));
                self.slow.insert(index, SlowSyncs::attach(pid, *delay, &output)?);
                Ok(())
            }
            Fault::FullDisk { .. } => small_disk.as_ref().context("the cluster has a small disk")?.fill(),
            Fault::ClockJump { node, seconds } => self.set_clock(*node, *seconds),
        }
    }

    fn take_back(&mut self, index: usize, fault: &Fault) -> Result<()> {
        let Cluster { nodes, proxy, small_disk, .. } = &mut self.cluster;
        match fault {
            Fault::Kill { nodes } => nodes.iter().try_for_each(|node| self.cluster.start_node(*node)),
            Fault::Pause { node } => nodes[*node].signal(Signal::CONT),
            Fault::Cut { ways } => {
                proxy.mend(ways);
                Ok(())
            }
            Fault::SlowNet { ways, .. } => {
                proxy.set(ways, Weather::default());
                Ok(())
            }
            Fault::SlowDisk { .. } => {
                let slow = self.slow.remove(&index).context("syncs are held up until the end")?;
                self.shared.effects.add(Effect::SlowSyncs, slow.count());
                Ok(())
            }
            Fault::FullDisk { node } => {
                small_disk.as_ref().context("the cluster has a small disk")?.clear()?;
                // a failed write leaves it read-only until it is started again
                self.kill(&[*node])?;
                self.cluster.start_node(*node)
            }
            Fault::ClockJump { node, .. } => self.set_clock(*node, 0),
        }
    }

    /// All at the same moment: none sees another die for long.
    fn kill(&mut self, nodes: &[usize]) -> Result<()> {
        nodes.iter().try_for_each(|node| self.cluster.nodes[*node].signal(Signal::KILL))?;
        nodes.iter().try_for_each(|node| self.cluster.nodes[*node].bury(&self.shared.effects))
    }

    fn set_clock(&mut self, node: usize, seconds: i64) -> Result<()> {
        let clock = self.cluster.nodes[node].clock.as_ref().context("a clock that jumps can be steered")?;
        clock.set(seconds)?;
        self.shared.jumps.set(u16::try_from(node).expect("a few nodes"), seconds);
        Ok(())
    }
}
