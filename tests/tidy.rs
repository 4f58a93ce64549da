//! What no compiler checks: which module may know which, how long a file is, what may not be left behind.

#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/markers.rs"]
mod markers;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/shipped.rs"]
mod shipped;
#[path = "tidy/tokens.rs"]
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use modules::Source;

/// Files over [`MAX_LINES`], and why they are not split. An entry that is no longer needed is an error.
const LONG_FILES: &[(&str, &str)] = &[];

/// A longer file needs an entry in [`LONG_FILES`].
const MAX_LINES: usize = 500;

/// Names that say nothing: the concept has one of its own.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"];

/// All Rust files under the given directories, paths relative to the package, in order.
/// The sources that are tested, asked for when the test runs: with one target directory for all checkouts of a machine, what
/// was true when it was compiled may be another checkout's.
fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests").into()
}

fn sources(directories: &[&str]) -> Vec<Source> {
    fn walk(directory: &Path, into: &mut Vec<Source>) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries {
            let path = entry.expect("a directory of the package can be listed").path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source of the package can be read");
                let relative = path.strip_prefix(package()).expect("it lies in the package");
                into.push(Source::new(relative.to_str().expect("our paths are UTF-8"), text));
            }
        }
    }
    let mut found = Vec::new();
    for directory in directories {
        walk(&package().join(directory), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources under {directories:?}");
    found
}

/// Fails with all findings at once.
#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn modules_know_only_what_the_table_allows() {
    none(&edges::violations(&sources(&["src"])));
}

#[test]
fn files_are_short() {
    let all = sources(&["src", "tests", "benches"]);
    let lines =
        |path: &str| all.iter().find(|source| source.path == path).map_or(0, |source| source.text.lines().count());
    let mut findings = Vec::new();
    for source in &all {
        let listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines(&source.path) > MAX_LINES && !listed {
            findings.push(format!("{} has over {MAX_LINES} lines: split it, or list it with a reason", source.path));
        }
    }
    for (path, reason) in LONG_FILES {
        if reason.is_empty() || lines(path) <= MAX_LINES {
            findings.push(format!("{path} needs no entry in LONG_FILES, or needs a reason"));
        }
    }
    none(&findings);
}

#[test]
fn nothing_is_left_half_done() {
    let all = sources(&["src", "tests", "benches"]);
    none(&all.iter().flat_map(markers::unfinished).collect::<Vec<_>>());
}

#[test]
fn modules_are_named_after_a_concept() {
    let all = sources(&["src"]);
    let named = |source: &Source, name: &str| format!("{}: module {name:?} names no concept", source.path);
    let empty = |source: &Source| {
        let names = modules::names(source);
        let findings = names.iter().filter(|name| EMPTY_NAMES.contains(&name.as_str())).map(|name| named(source, name));
        findings.collect::<Vec<_>>()
    };
    none(&all.iter().flat_map(empty).collect::<Vec<_>>());
}

#[test]
fn clocks_and_spawns_are_allowed_to_drivers_only() {
    none(&sources(&["src"]).iter().flat_map(markers::misplaced_allows).collect::<Vec<_>>());
}

#[test]
fn nothing_that_is_shipped_has_the_seeded_bugs() {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).expect("the package has a manifest");
    none(&shipped::seeded_by_default(&manifest));
    none(&sources(&["src"]).iter().filter_map(shipped::named_in_a_binary).collect::<Vec<_>>());
}
