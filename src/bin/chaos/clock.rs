//! Wall clocks that jump: `libfaketime`, which reads its offset from a file anew each time that somebody asks for the time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::time::timeout;

/// Where Debian keeps the library, by architecture.
const PLACES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];
/// The flavour for programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";
/// A clock is where it was told to be if it is no further from there.
const TOLERANCE: Duration = Duration::from_secs(60);
/// A program says its version within this time, or never.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// The library, if it is there.
pub fn library() -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(LIBRARY)).find(|path| path.exists())
}

/// Whether a program starts with its clock steered. One that brings an allocator of its own may not: the library allocates when it is first
/// asked for the time, and jemalloc asks it while it starts itself, so that each waits for the other.
pub async fn can_steer(library: PathBuf, program: &Path) -> Result<bool> {
    let dir = tempfile::tempdir().context("a directory for a clock")?;
    let clock = FakeClock::new(library, dir.path().join("clock"))?;
    let mut command = Command::new(program);
    command.arg("--version").envs(clock.environment());
    ends_well(command, STARTED_WITHIN).await.with_context(|| format!("starting {}", program.display()))
}

/// Whether it ends in time, and without a complaint; else it is killed.
async fn ends_well(mut command: Command, within: Duration) -> std::io::Result<bool> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    timeout(within, command.status()).await.map_or(Ok(false), |status| Ok(status?.success()))
}

/// A node's clock.
#[derive(Clone, Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// A clock that is right, steered by `file`.
    pub fn new(library: PathBuf, file: PathBuf) -> Result<FakeClock> {
        let clock = FakeClock { library, file };
        clock.set(0)?;
        Ok(clock)
    }

    /// What the node's process has to have in its environment. The monotonic clock stays as it is.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Puts it off by so many seconds; whole or not at all, since it is read at any time.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n"))
            .and_then(|()| std::fs::rename(&new, &self.file))
            .with_context(|| format!("writing {}", self.file.display()))
    }
}

/// Which nodes' clocks are off now, and by how many seconds.
#[derive(Debug, Default)]
pub struct Jumps(Mutex<BTreeMap<u16, i64>>);

impl Jumps {
    /// A node's clock is off from now on; by nothing, it is right again.
    pub fn set(&self, node: u16, seconds: i64) {
        let mut jumps = self.0.lock().expect("nobody panics while noting a jump");
        if seconds == 0 {
            jumps.remove(&node)
        } else {
            jumps.insert(node, seconds)
        };
    }

    /// Whether `wall` is what the clock of `node`, off as it is, shows at about `now` (both since 1970).
    pub fn shows(&self, node: u16, wall: Duration, now: Duration) -> bool {
        let jumps = self.0.lock().expect("nobody panics while noting a jump");
        let Some(seconds) = jumps.get(&node) else { return false };
        let off = Duration::from_secs(seconds.unsigned_abs());
        let expected = if *seconds < 0 { now.saturating_sub(off) } else { now + off };
        expected.abs_diff(wall) <= TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_while_it_is_and_by_what_it_is() {
        let (jumps, now, day) = (Jumps::default(), Duration::from_secs(1_000_000), Duration::from_secs(86_400));
        assert!(!jumps.shows(1, now, now));
        jumps.set(1, 86_400);
        assert!(jumps.shows(1, now + day, now) && !jumps.shows(1, now, now) && !jumps.shows(2, now + day, now));
        jumps.set(1, -86_400);
        assert!(jumps.shows(1, now - day, now) && !jumps.shows(1, now + day, now));
        jumps.set(1, 0);
        assert!(!jumps.shows(1, now, now));
    }

    #[tokio::test]
    async fn a_program_that_never_starts_cannot_be_steered() {
        let ended = async |program: &str, word: &str, within| {
            let mut command = Command::new(program);
            command.arg(word);
            ends_well(command, within).await
        };
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
        assert!(ended("true", "", long).await.unwrap());
        assert!(!ended("false", "", long).await.unwrap());
        assert!(!ended("sleep", "600", short).await.unwrap());
        assert!(ended("/no/such/program", "", long).await.is_err());
    }

    #[test]
    fn the_file_says_a_signed_offset() {
        let dir = tempfile::tempdir().unwrap();
        let clock = FakeClock::new("/lib".into(), dir.path().join("clock")).unwrap();
        let said = || std::fs::read_to_string(dir.path().join("clock")).unwrap();
        assert_eq!(said(), "+0\n");
        clock.set(-86_400).unwrap();
        assert_eq!(said(), "-86400\n");
    }
}
