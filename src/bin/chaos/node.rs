//! One node's process.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::FakeClock;
use super::effect::{Effect, Effects};

/// How much of a log is shown when its node has ended by itself.
const LAST_WORDS: usize = 2000;

/// Where a node is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name: n1, n2 ...
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Its configuration.
    pub config: PathBuf,
    /// What it logs to.
    pub log: PathBuf,
    /// Its process, 0 for none: for those who watch it.
    pub pid: Arc<AtomicU32>,
}

/// A node; dropping it kills its process.
pub struct Node {
    /// Where it is.
    pub place: Place,
    /// Its clock, if that can be steered.
    pub clock: Option<FakeClock>,
    child: Option<Child>,
    dead_since: Option<Instant>,
}

impl Node {
    /// A node that does not run.
    pub fn new(place: Place, clock: Option<FakeClock>) -> Node {
        Node { place, clock, child: None, dead_since: None }
    }

    /// Starts its process, if it has none.
    pub fn start(&mut self, program: &Path, effects: &Effects) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let Place { name, config, log, pid, .. } = &self.place;
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .envs(self.clock.iter().flat_map(FakeClock::environment))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C reaches this program only: it stops the others
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name} from {}", program.display()))?;
        pid.store(child.id(), Ordering::Relaxed);
        self.child = Some(child);
        if let Some(since) = self.dead_since.take() {
            effects.add(Effect::DeadMs, u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Sends a signal to its process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.with_context(|| format!("{} has no process", self.place.name))?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.place.name))
    }

    /// Waits for the end of a process that was killed.
    pub fn bury(&mut self, effects: &Effects) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = child.wait()?;
        self.place.pid.store(0, Ordering::Relaxed);
        self.dead_since = Some(Instant::now());
        effects.add(Effect::Killed, u64::from(status.signal() == Some(Signal::KILL.as_raw())));
        Ok(())
    }

    /// Its process's id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Fails if its process has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            let log = std::fs::read_to_string(&self.place.log).unwrap_or_default();
            let from = log.char_indices().rev().nth(LAST_WORDS).map_or(0, |(index, _)| index);
            bail!("{} has ended by itself: {status}\n{}", self.place.name, &log[from..]);
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // it may have ended already; a stopped process is killed all the same
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
