//! Versions: which write replaced which, without clocks, locks or a leader.
//!
//! A key is a set of concurrent [siblings](Sibling) and a [causal context](CausalContext) of every write known of it;
//! together they are a dotted version vector set. A write replaces exactly the siblings that its author was shown, and
//! a merge of two copies keeps exactly what neither has seen replaced. Everything here is pure: randomness comes in as
//! an argument, and no wall clock or write id decides what survives.
//!
//! Sources: DeCandia et al., "Dynamo" (SOSP 2007), section 4.4, for versions that fork and are reconciled by readers;
//! Preguiça, Baquero, Almeida, Fonte and Gonçalves, "Dotted Version Vectors" (2010; brief announcement at PODC 2012), for
//! the dot that tells apart concurrent writes through one server; Almeida, Baquero, Gonçalves, Preguiça and Fonte,
//! "Scalable and Accurate Causality Tracking for Eventually Consistent Stores" (DAIS 2014), for the set with one shared
//! context, `update` and `sync`. Beyond them: the context has a cloud, so it is exact even where writes were seen out of
//! order, and [`mint`] keeps dots unique across lost disks and restored backups.

mod actor;
mod codec;
mod context;
mod digest;
mod object;
mod own;
mod token;
mod versions;

#[cfg(test)]
mod tests;

pub use actor::{Actor, Dot};
pub use codec::DecodeError;
pub use context::CausalContext;
pub use digest::Digest;
pub use object::{Body, Object, Sibling};
pub use own::{Own, Trust, mint};
pub use token::{ContextError, ContextSealer};
pub use versions::Versions;
