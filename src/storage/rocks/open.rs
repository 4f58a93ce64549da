//! Taking a directory: its lock, its format, its families.

use std::fs::{self, File};
use std::path::Path;

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, Options, WriteOptions};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::{debug, warn};

use super::yielding::lower_compactions;
use super::{RocksConfig, classify};
use crate::storage::engine::Family;
use crate::storage::error::StorageError;
use crate::storage::keys::{FORMAT, MetaKey};

/// Makes `dir` if need be and locks it for as long as the file is open. RocksDB has a lock of its own, but takes it only
/// when it opens for writing; this one comes before the look at the format.
pub(super) fn lock(dir: &Path) -> Result<File, StorageError> {
    let io = |error: std::io::Error| StorageError::from_io("open", &error);
    let made: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    fs::create_dir_all(dir).map_err(io)?;
    let file = File::open(dir).map_err(io)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => StorageError::Locked { dir: dir.to_owned() },
        errno => io(errno.into()),
    })?;
    for parent in made.into_iter().filter_map(Path::parent) {
        // Otherwise a power loss could take the directory and all that was synced in it.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
    }
    Ok(file)
}

/// Opens the database in the locked `dir`.
pub(super) fn open(dir: &Path, config: &RocksConfig, cache: &Cache) -> Result<DB, StorageError> {
    let mut options = config.database();
    let new = is_new(dir, &options)?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let failed = |error: rocksdb::Error| classify_open(dir, &error);
    let families = |compacts: bool| {
        Family::ALL.map(|family| {
            let mut options = config.family(family, cache);
            options.set_disable_auto_compactions(!compacts);
            ColumnFamilyDescriptor::new(family.name(), options)
        })
    };
    // Twice: the log has to be replayed by one that stops at the first record that is damaged. It looks at no table, so that a damaged one
    // does not keep it from that.
    let db =
        DB::open_cf_descriptors(&replaying(&mut options).map_err(failed)?, dir, families(false)).map_err(failed)?;
    if new {
        write_format(&db)?;
    }
    drop(db);
    // A compaction that meets a damaged table must not stop all writes, since nothing but a restart would let them go on. A failed write or
    // sync is seen, and stops them, without RocksDB's help.
    options.set_paranoid_checks(false);
    let db = DB::open_cf_descriptors(&options, dir, families(true)).map_err(failed)?;
    match lower_compactions() {
        Ok(0) => warn!("compactions do not yield to requests: no thread has RocksDB's name for them"),
        Ok(threads) => debug!(threads, "compactions yield to requests"),
        Err(error) => warn!(%error, "compactions do not yield to requests"),
    }
    Ok(db)
}

/// Options with which tables are not looked at before the database is open.
fn replaying(options: &mut Options) -> Result<Options, rocksdb::Error> {
    options.get_options_from_string("skip_stats_update_on_db_open=true;open_files_async=true")
}

/// Whether the directory holds no database, or one whose making was cut short before its format was written. Opens it
/// for reading only, so that a format that this version does not understand is left as it was found.
fn is_new(dir: &Path, options: &Options) -> Result<bool, StorageError> {
    let marker = dir.join("CURRENT");
    if !marker.try_exists().map_err(|error| StorageError::from_io("open", &error))? {
        return Ok(true);
    }
    let failed = |error: rocksdb::Error| classify_open(dir, &error);
    let found = DB::list_cf(options, dir).map_err(failed)?;
    let meta = Family::Meta.name();
    let readable = [DEFAULT_COLUMN_FAMILY_NAME, meta].into_iter().filter(|name| found.iter().any(|has| has == name));
    let db = DB::open_cf_for_read_only(options, dir, readable, false).map_err(failed)?;
    let format = match db.cf_handle(meta) {
        Some(handle) => db.get_cf(handle, MetaKey::Format.bytes()).map_err(failed)?,
        None => None,
    };
    let corrupt = |what: String| StorageError::Corrupt { detail: format!("{}: {what}", dir.display()) };
    match format.map(<[u8; 4]>::try_from) {
        None if db.latest_sequence_number() == 0 => return Ok(true),
        None => return Err(corrupt("a RocksDB database without dynkv's format: not dynkv's, or damaged".into())),
        Some(Err(bytes)) => return Err(corrupt(format!("a format of {} bytes", bytes.len()))),
        Some(Ok(bytes)) => match u32::from_be_bytes(bytes) {
            FORMAT => {}
            found if found > FORMAT => return Err(StorageError::Newer { found, supported: FORMAT }),
            found => return Err(corrupt(format!("format {found}, which never was"))),
        },
    }
    let ours =
        |name: &str| name == DEFAULT_COLUMN_FAMILY_NAME || Family::ALL.iter().any(|family| family.name() == name);
    match found.iter().find(|name| !ours(name)) {
        Some(name) => Err(corrupt(format!("column family {name:?} does not belong to format {FORMAT}"))),
        None => Ok(false),
    }
}

fn write_format(db: &DB) -> Result<(), StorageError> {
    let meta = db.cf_handle(Family::Meta.name()).expect("the database was opened with every family");
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.put_cf_opt(meta, MetaKey::Format.bytes(), FORMAT.to_be_bytes(), &synced)
        .map_err(|error| classify("open", &error))
}

/// RocksDB's own lock is held by programs that do not know ours, such as `ldb`.
fn classify_open(dir: &Path, error: &rocksdb::Error) -> StorageError {
    let text = error.as_ref();
    if text.contains("lock hold by current process") || text.contains("While lock file") {
        return StorageError::Locked { dir: dir.to_owned() };
    }
    classify("open", error)
}
