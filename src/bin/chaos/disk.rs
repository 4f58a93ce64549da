//! Disks that misbehave: one that is small and fills up, one whose syncs are held up by `strace`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Enough for a node and a load; little enough to be filled at once.
const SIZE: &str = "size=128m";
/// `strace` attaches to a process, and lets go of it, within this time.
const STRACE_WITHIN: Duration = Duration::from_secs(10);

/// A tmpfs, unmounted when it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at a directory, which is made.
    pub fn mount(at: &Path) -> Result<SmallDisk> {
        std::fs::create_dir_all(at).with_context(|| format!("making {}", at.display()))?;
        let mut mount = Command::new("mount");
        let said = mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(at).output().context("running mount")?;
        ensure!(said.status.success(), "mounting a tmpfs: {}", String::from_utf8_lossy(&said.stderr).trim());
        Ok(SmallDisk(at.to_owned()))
    }

    /// Whether this process may mount one at all.
    pub fn is_allowed() -> bool {
        tempfile::tempdir().is_ok_and(|dir| SmallDisk::mount(&dir.path().join("disk")).is_ok())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no byte free.
    pub fn fill(&self) -> Result<()> {
        let path = self.filler();
        let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        // the last bytes one by one: a write that does not fit as a whole may write nothing
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0x55; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    pub fn clear(&self) -> Result<()> {
        let path = self.filler();
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // what is still open goes with its process
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

/// Holds up each sync of a process; ends when it is dropped.
pub struct SlowSyncs {
    strace: Child,
    output: PathBuf,
}

impl SlowSyncs {
    /// Whether `strace` is there and may attach to a child of this process.
    pub fn is_allowed() -> bool {
        let Ok(mut child) = Command::new("sleep").arg("5").spawn() else { return false };
        let Ok(dir) = tempfile::tempdir() else { return false };
        let attached = SlowSyncs::attach(child.id(), Duration::from_millis(1), &dir.path().join("trace"));
        let allowed = attached.is_ok();
        drop(attached);
        let _ = child.kill();
        let _ = child.wait();
        allowed
    }

    /// Attaches to a process, and waits until it has; `output` is for what `strace` writes.
    pub fn attach(pid: u32, delay: Duration, output: &Path) -> Result<SlowSyncs> {
        let inject = format!("inject=fdatasync,fsync:delay_enter={}", delay.as_micros());
        let log = output.with_extension("log");
        let strace = Command::new("strace")
            .args(["-f", "-e", "trace=fdatasync,fsync", "-e", &inject, "-o"])
            .arg(output)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).with_context(|| format!("making {}", log.display()))?)
            .spawn()
            .context("running strace")?;
        let mut slow = SlowSyncs { strace, output: output.to_owned() };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let attached = || said().contains("attached");
        await_strace(|| attached() || slow.has_ended());
        ensure!(attached(), "strace does not attach to process {pid}: {}", said().trim());
        Ok(slow)
    }

    /// Whether `strace` has; if nobody can tell, it has.
    fn has_ended(&mut self) -> bool {
        !matches!(self.strace.try_wait(), Ok(None))
    }

    /// Syncs that were held up so far.
    pub fn count(&self) -> u64 {
        let said = std::fs::read_to_string(&self.output).unwrap_or_default();
        u64::try_from(said.lines().filter(|line| line.contains("(DELAYED)")).count()).unwrap_or(u64::MAX)
    }
}

impl Drop for SlowSyncs {
    fn drop(&mut self) {
        // asked to end, strace lets its process go on; killed, it may leave it stopped
        if let Some(pid) = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        if !await_strace(|| self.has_ended()) {
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
    }
}

/// Whether something comes to be so within [`STRACE_WITHIN`]. It is looked at again and again: what `strace` has written,
/// and whether it has ended, can both only be asked.
fn await_strace(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + STRACE_WITHIN;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
