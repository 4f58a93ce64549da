//! The mark: how much this node had written when its process ended, in a file that a power loss clears.
//!
//! A process that is killed loses nothing that it wrote to the log, a machine that loses power may. At the next start the
//! two are told apart: a directory that has recovered at least the batch in the mark is whole, and the node may go on with
//! its actors (see [`Start::begin`](crate::node::Start::begin)). Hence the number is raised before anything that rests on
//! the batch leaves the node.
//!
//! A mark speaks for one run under one boot of the machine, and names both. An older one may be about: of a directory that
//! ran on another host since, of a run that could not open the file, in a directory that is not in memory after all. It is
//! too low, and to believe it would be to mint dots twice.
//!
//! ```text
//! boot id [36] | nonce of the run u64 BE | batch number u64 BE
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

use tracing::warn;

use super::ServerError;
use crate::types::{BatchNumber, DiskId, Nonce};

/// Where Linux keeps files in memory.
pub const MARK_DIR: &str = "/dev/shm";

/// Where Linux names the boot: 36 characters.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_LEN: usize = 36;
const LEN: usize = BOOT_LEN + 16;

/// See the module. Locked for as long as it is open.
#[derive(Debug)]
pub struct Mark {
    file: Option<File>,
    boot: [u8; BOOT_LEN],
    run: Nonce,
    /// What this run has written. Also keeps a lower number from being written after a higher one.
    written: Mutex<Option<BatchNumber>>,
}

impl Mark {
    /// Opens and locks the mark of `disk` in `dir` for the run `run`, and reads what the run `last` left there under this
    /// boot. Where there can be no such file the node runs without: it then takes every end that was not clean for a power
    /// loss.
    ///
    /// # Errors
    /// [`ServerError::Twin`] if another process holds it.
    pub fn open(
        dir: &Path,
        disk: DiskId,
        last: Option<Nonce>,
        run: Nonce,
    ) -> Result<(Mark, Option<BatchNumber>), ServerError> {
        let path = dir.join(format!("dynkv-{disk}"));
        let boot = boot_id().map_err(TryLockError::Error);
        let opened = boot.and_then(|boot| Ok((boot, Mark::try_open(&path)?)));
        let (file, boot, survived) = match opened {
            Ok((boot, (file, found))) => (Some(file), boot, survived(&found, &boot, last)),
            Err(TryLockError::WouldBlock) => return Err(ServerError::Twin { mark: path }),
            Err(TryLockError::Error(err)) => {
                warn!(path = %path.display(), %err, "no mark: an unclean stop will count as a loss of power");
                (None, [0; BOOT_LEN], None)
            }
        };
        Ok((Mark { file, boot, run, written: Mutex::default() }, survived))
    }

    fn try_open(path: &Path) -> Result<(File, [u8; LEN]), TryLockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(TryLockError::Error)?;
        file.try_lock()?;
        let mut found = [0; LEN];
        match file.read_exact_at(&mut found, 0) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => found = [0; LEN],
            Err(err) => return Err(TryLockError::Error(err)),
        }
        // takes the page, so that a full file system shows now and not at the first batch
        file.write_all_at(&found, 0).map_err(TryLockError::Error)?;
        Ok((file, found))
    }

    /// Everything up to `number` is in the log.
    pub fn raise(&self, number: BatchNumber) {
        let Some(file) = &self.file else { return };
        let mut written = self.written.lock().expect("a panic ends the process before the lock is met again");
        if Some(number) > *written {
            *written = Some(number);
            let mut bytes = [0; LEN];
            bytes[..BOOT_LEN].copy_from_slice(&self.boot);
            bytes[BOOT_LEN..LEN - 8].copy_from_slice(&self.run.0.to_be_bytes());
            bytes[LEN - 8..].copy_from_slice(&number.0.to_be_bytes());
            // a write to a page that is there does not fail; if it did, the mark would be too low, and a later start could
            // trust a directory that it should not
            if let Err(err) = file.write_all_at(&bytes, 0) {
                tracing::error!(%err, "the mark cannot be written: ending, since a later start would trust too much");
                std::process::abort();
            }
        }
    }
}

fn boot_id() -> io::Result<[u8; BOOT_LEN]> {
    let text = std::fs::read(BOOT_ID)?;
    text.first_chunk().copied().ok_or_else(|| io::Error::other(format!("{BOOT_ID} is too short")))
}

/// The number, if the mark is the last run's and of this boot.
fn survived(found: &[u8; LEN], boot: &[u8; BOOT_LEN], last: Option<Nonce>) -> Option<BatchNumber> {
    let (found_boot, numbers) = found.split_first_chunk::<BOOT_LEN>()?;
    let (nonce, number) = numbers.split_first_chunk::<8>()?;
    let nonce = Nonce(u64::from_be_bytes(*nonce));
    let number = BatchNumber(u64::from_be_bytes(*number.first_chunk()?));
    (found_boot == boot && Some(nonce) == last).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DiskId = DiskId(7);

    fn open(dir: &Path, last: u64, run: u64) -> (Mark, Option<BatchNumber>) {
        Mark::open(dir, DISK, Some(Nonce(last)), Nonce(run)).unwrap()
    }

    #[test]
    fn the_highest_number_survives_and_a_new_disk_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, survived) = open(dir.path(), 0, 1);
        assert_eq!(survived, None);
        for number in [3, 9, 5] {
            mark.raise(BatchNumber(number));
        }
        drop(mark);
        assert_eq!(open(dir.path(), 1, 2).1, Some(BatchNumber(9)));
        assert_eq!(Mark::open(dir.path(), DiskId(8), Some(Nonce(1)), Nonce(2)).unwrap().1, None);
    }

    /// The directory has run elsewhere since, and lost pages there: this host's mark is too low to tell.
    #[test]
    fn the_mark_of_an_earlier_run_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 0, 1).0.raise(BatchNumber(9));
        assert_eq!(open(dir.path(), 2, 3).1, None);
    }

    #[test]
    fn the_mark_of_another_boot_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 0, 1).0.raise(BatchNumber(9));
        let path = dir.path().join(format!("dynkv-{DISK}"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(open(dir.path(), 1, 2).1, None);
    }

    #[test]
    fn a_run_that_recovered_less_than_the_last_one_wrote_leaves_its_own_number() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 0, 1).0.raise(BatchNumber(9));
        open(dir.path(), 1, 2).0.raise(BatchNumber(4));
        assert_eq!(open(dir.path(), 2, 3).1, Some(BatchNumber(4)));
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path(), 0, 1);
        assert!(matches!(Mark::open(dir.path(), DISK, None, Nonce(2)), Err(ServerError::Twin { .. })));
    }

    #[test]
    fn without_a_directory_in_memory_the_node_runs_without_a_mark() {
        let (mark, survived) = open(Path::new("/nonexistent"), 0, 1);
        mark.raise(BatchNumber(1));
        assert_eq!(survived, None);
    }
}
