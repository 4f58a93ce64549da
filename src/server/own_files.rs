//! The node's own small files in its data directory: the process id, and what makes a restarted socket recognisable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::ServerError;
use crate::net::ResetState;

/// The file of [`ResetState`].
const RESET_FILE: &str = "quic.reset";
/// The file of the process id.
const PID_FILE: &str = "pid";
/// Bytes of the reset key.
const KEY_LEN: usize = 64;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::File { action, path, source }
}

/// Makes the directory if it is not there.
///
/// # Errors
/// [`ServerError::File`].
pub fn make_dir(dir: &Path) -> Result<(), ServerError> {
    fs::create_dir_all(dir).map_err(failed("create", dir))
}

/// Reads the reset state, or keeps `first` as the one from now on, as it does for a file of another length. What the file
/// says outlives a change of the certificate, and a certificate outlives a lost directory: only after both peers notice
/// one restart by their idle timeout.
///
/// # Errors
/// [`ServerError::File`].
pub fn reset_state(dir: &Path, first: ResetState) -> Result<ResetState, ServerError> {
    let path = dir.join(RESET_FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            if let Some(state) = decode(&bytes) {
                return Ok(state);
            }
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(failed("read", &path)(err)),
    }
    let bytes = [&first.reset_key[..], &first.cid_seed.to_be_bytes()].concat();
    write_private(&path, &bytes).map_err(failed("write", &path))?;
    Ok(first)
}

fn decode(bytes: &[u8]) -> Option<ResetState> {
    let (key, seed) = bytes.split_at_checked(KEY_LEN)?;
    let cid_seed = u64::from_be_bytes(seed.try_into().ok()?);
    Some(ResetState { reset_key: key.try_into().ok()?, cid_seed })
}

/// Whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// The file with the process's id, there for as long as the node runs. A killed process leaves it behind.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// [`ServerError::File`].
    pub fn write(dir: &Path) -> Result<PidFile, ServerError> {
        let path = dir.join(PID_FILE);
        fs::write(&path, format!("{}\n", std::process::id())).map_err(failed("write", &path))?;
        Ok(PidFile { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // gone already, or the directory is: nobody is misled
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_reset_state_is_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let of = |byte| ResetState { reset_key: [byte; KEY_LEN], cid_seed: u64::from(byte) };
        assert!(reset_state(dir.path(), of(1)).unwrap() == of(1));
        assert!(reset_state(dir.path(), of(2)).unwrap() == of(1), "another certificate changes nothing");
        let mode = fs::metadata(dir.path().join(RESET_FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::write(dir.path().join(RESET_FILE), b"short").unwrap();
        assert!(reset_state(dir.path(), of(2)).unwrap() == of(2), "a damaged one is replaced");
        assert!(reset_state(dir.path(), of(3)).unwrap() == of(2));
    }

    #[test]
    fn the_pid_is_there_while_the_node_runs() {
        let dir = tempfile::tempdir().unwrap();
        let file = PidFile::write(dir.path()).unwrap();
        let pid = fs::read_to_string(dir.path().join(PID_FILE)).unwrap();
        assert_eq!(pid.trim().parse::<u32>().unwrap(), std::process::id());
        drop(file);
        assert!(!dir.path().join(PID_FILE).exists());
    }
}
