//! Bugs that are seeded on purpose, in builds that have them.

#[cfg(feature = "mutants")]
pub use dynkv::mutant::{Mutant, activate};

/// No build without the feature has one.
#[cfg(not(feature = "mutants"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {}

#[cfg(not(feature = "mutants"))]
impl Mutant {
    pub fn name(self) -> &'static str {
        match self {}
    }
}

/// Which one runs on this thread from now on.
#[cfg(not(feature = "mutants"))]
pub fn activate(_: Option<Mutant>) {}

/// The seeded bug of this name.
///
/// # Errors
/// What is wrong with the name, or with the build.
#[cfg(feature = "mutants")]
pub fn parse(name: &str) -> Result<Mutant, String> {
    Mutant::parse(name).ok_or_else(|| {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!("it is one of: {}", names.join(", "))
    })
}

/// The seeded bug of this name.
///
/// # Errors
/// This build has none.
#[cfg(not(feature = "mutants"))]
pub fn parse(_: &str) -> Result<Mutant, String> {
    Err(format!("it {NEEDS_FEATURE}"))
}

/// What a build without seeded bugs says when it is asked for one.
#[cfg(not(feature = "mutants"))]
pub const NEEDS_FEATURE: &str =
    "needs a build with the feature mutants: cargo run --profile sim --no-default-features --features mutants";
