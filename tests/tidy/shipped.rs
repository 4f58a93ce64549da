//! What may not be in a binary that is shipped: the seeded bugs.

use std::collections::BTreeSet;

use crate::modules::Source;

/// The feature that plants the seeded bugs.
const SEEDED: &str = "mutants";

/// The simulation's own binary, which activates them.
const SIMULATION: &[&str] = &["src/bin/dynkv-sim.rs", "src/bin/sim/"];

/// The features that a plain build has; `manifest` is the text of a `Cargo.toml`.
fn default_features(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("cargo has read it too");
    let features = manifest.get("features").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let mut reached = BTreeSet::new();
    let mut next = vec!["default".to_owned()];
    while let Some(feature) = next.pop() {
        if reached.insert(feature.clone()) {
            let implied = features.get(&feature).and_then(toml::Value::as_array).into_iter().flatten();
            next.extend(implied.filter_map(toml::Value::as_str).map(str::to_owned));
        }
    }
    reached
}

/// Fails if a plain build would have the seeded bugs, or if there is no such feature to look for.
pub fn seeded_by_default(manifest: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if default_features(manifest).contains(SEEDED) {
        findings.push(format!("Cargo.toml: the default features include `{SEEDED}`"));
    }
    let known: toml::Table = manifest.parse().expect("cargo has read it too");
    if known.get("features").and_then(|features| features.get(SEEDED)).is_none() {
        findings.push(format!("Cargo.toml: there is no feature `{SEEDED}`: what is looked for has another name"));
    }
    findings
}

/// Binaries that speak of the seeded bugs, but for the simulation.
pub fn named_in_a_binary(source: &Source) -> Option<String> {
    let shipped =
        source.path.starts_with("src/bin/") && !SIMULATION.iter().any(|simulation| source.path.starts_with(simulation));
    let named = source.text.to_lowercase().contains("mutant");
    (shipped && named).then(|| format!("{}: a shipped binary knows no seeded bugs", source.path))
}

#[test]
fn a_default_that_leads_to_the_seeded_bugs_is_found() {
    let found = |features: &str| seeded_by_default(&format!("[features]\n{features}")).len();
    assert_eq!(found("default = [\"a\"]\na = []\nmutants = []"), 0);
    assert_eq!(found("mutants = []"), 0);
    assert_eq!(found("default = [\"mutants\"]\nmutants = []"), 1);
    assert_eq!(found("default = [\"a\"]\na = [\"dep:x\", \"b\"]\nb = [\"a\", \"mutants\"]\nmutants = []"), 1);
    assert_eq!(found("default = []\nseeded = []"), 1, "it was renamed");
}

#[test]
fn a_binary_that_activates_a_seeded_bug_is_found() {
    for (path, text, expected) in [
        ("src/bin/dynkv.rs", "use dynkv::mutant::activate;", true),
        ("src/bin/cli/get.rs", "#[cfg(feature = \"mutants\")] fn f() {}", true),
        ("src/bin/dynkv.rs", "fn f() {}", false),
        ("src/bin/dynkv-sim.rs", "use dynkv::mutant::Mutant;", false),
        ("src/bin/sim/run.rs", "use dynkv::mutant::Mutant;", false),
        ("src/bin/simple.rs", "use dynkv::mutant::Mutant;", true),
        ("src/version/object.rs", "fn f() -> bool { mutant!(TwinsShown) }", false),
    ] {
        assert_eq!(named_in_a_binary(&Source::new(path, text.to_owned())).is_some(), expected, "{path}: {text}");
    }
}
