//! Files that hold secrets: made once, for their owner alone, and refused when others can read them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::error::NetError;

/// The permission bits that let others than the owner at a file.
const OTHERS: u32 = 0o077;

/// Reads the 32 bytes of a `cluster.secret` file: 64 hexadecimal digits.
///
/// # Errors
/// [`NetError::File`], [`NetError::Exposed`] if others can read it, [`NetError::BadFile`] if it is not 64 digits.
pub fn load_secret(path: &Path) -> Result<[u8; 32], NetError> {
    let text = read_private(path)?;
    let digits = text.trim_ascii();
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(digits)
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or_else(|| NetError::BadFile {
            path: path.to_owned(),
            reason: format!(
                "{} bytes that are not 64 hexadecimal digits: copy the file that `dynkv certs init` made",
                digits.len()
            ),
        })
}

/// Reads a file that only its owner may read.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, NetError> {
    let file = |source| NetError::File { action: "read", path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(NetError::Exposed { path: path.to_owned(), mode });
    }
    fs::read(path).map_err(file)
}

/// Reads a file that anyone may read.
pub(super) fn read_public(path: &Path) -> Result<Vec<u8>, NetError> {
    fs::read(path).map_err(|source| NetError::File { action: "read", path: path.to_owned(), source })
}

/// Makes a file that must not exist, with `mode` from the start, and syncs it.
pub(super) fn create(path: &Path, mode: u32, content: &[u8]) -> Result<(), NetError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => NetError::Exists { path: path.to_owned() },
        _ => NetError::File { action: "create", path: path.to_owned(), source },
    })
}

/// Refuses if any of the files is there, so that a set of files is made whole or not at all.
pub(super) fn check_absent<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), NetError> {
    match paths.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(NetError::Exists { path: path.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.secret");
        create(&path, 0o600, &b"00ff".repeat(16)).unwrap();
        assert_eq!(load_secret(&path).unwrap(), [0, 255].repeat(16)[..]);
        for mode in [0o640, 0o604, 0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = load_secret(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("mode {mode:04o}")) && text.contains("chmod 600"), "{text}");
        }
    }

    #[test]
    fn a_secret_has_64_digits() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("short", "00ff"), ("empty", ""), ("long", &"0".repeat(66)), ("text", &"x".repeat(64))]
        {
            let path = dir.path().join(name);
            create(&path, 0o600, content.as_bytes()).unwrap();
            assert!(matches!(load_secret(&path), Err(NetError::BadFile { .. })), "{name}");
        }
        let path = dir.path().join("newline");
        create(&path, 0o600, format!("{}\n", "Ab".repeat(32)).as_bytes()).unwrap();
        assert_eq!(load_secret(&path).unwrap(), [0xab; 32]);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, 0o600, b"first").unwrap();
        assert!(matches!(create(&path, 0o600, b"second"), Err(NetError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }
}
