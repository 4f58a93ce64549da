//! The files of a node's database, while no node has it open.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rocksdb::{ColumnFamilyDescriptor, DB, Options};

/// All of them.
pub const FAMILIES: [&str; 6] = ["default", "objects", "hints", "merkle", "tombstones", "meta"];
/// Opens a database that no node has open, with tables so small that there are many. `levels`: what was flushed goes to the first level at once,
/// and no further; without, nothing moves by itself.
pub fn offline(dir: &Path, levels: bool) -> Result<DB> {
    let options = || {
        let mut options = Options::default();
        options.set_target_file_size_base(512 << 10);
        options.set_level_compaction_dynamic_level_bytes(!levels);
        options.set_disable_auto_compactions(!levels);
        options.set_level_zero_file_num_compaction_trigger(1);
        options
    };
    let families = FAMILIES.map(|family| ColumnFamilyDescriptor::new(family, options()));
    Ok(DB::open_cf_descriptors(&options(), dir, families)?)
}

/// Moves everything to the lowest level.
pub fn compact(dir: &Path) -> Result<()> {
    let db = offline(dir, false)?;
    for family in FAMILIES {
        db.compact_range_cf(db.cf_handle(family).unwrap(), None::<&[u8]>, None::<&[u8]>);
    }
    Ok(())
}

/// The tables of these families, with their levels.
pub fn tables(dir: &Path, families: &[&str]) -> Result<Vec<(PathBuf, i32)>> {
    let live = offline(dir, false)?.live_files()?;
    let wanted = live.into_iter().filter(|table| families.contains(&table.column_family_name.as_str()));
    Ok(wanted.map(|table| (dir.join(table.name.trim_start_matches('/')), table.level)).collect())
}
