//! Seeded bugs: a simulation that finds nothing proves nothing until it has found bugs that are known to be there.
//!
//! Each bug is one `if mutant!(Name)` where a programmer could have made that mistake. Only the feature `mutants` plants
//! them, and no shipped binary has it: without it, `mutant!` is the literal `false`, and nothing else of this module exists.

#[cfg(feature = "mutants")]
mod catalogue;

#[cfg(feature = "mutants")]
pub use catalogue::{Mutant, activate, is_active};

#[cfg(all(test, feature = "mutants"))]
pub(crate) use catalogue::plant;

/// Whether a seeded bug is active on this thread.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_active($crate::mutant::Mutant::$name)
    };
}

/// Nothing is seeded.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}
