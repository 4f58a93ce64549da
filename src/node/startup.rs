//! What a node is when its process starts: its identity, the run that this is, and how far it may trust its own records.
//!
//! Everything here is decided from what the directory holds, what a file in memory says of the last run, and fresh random
//! numbers; it is written in one synced batch before the first hello.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ring::{Layout, LayoutError};
use crate::storage::{Batch, Engine, Family, Lookup, MetaKey, ReadTier, ScanLimit, StorageError};
use crate::types::{BatchNumber, DiskId, Generation, NodeId, Nonce};

/// Why a directory cannot be started from.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine failed.
    #[error("{0}{advice}", advice = .0.advice())]
    Storage(#[from] StorageError),
    /// A record about the node is not what it should be.
    #[error(
        "the data directory's {what} record is damaged: {reason}; wipe the directory, the node rebuilds from its peers"
    )]
    Damaged {
        /// Which record.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A peer has refused the directory for good. Starting it again would raise its generation until nobody could tell.
    #[error("the data directory has been refused: {reason}; wipe the directory, the node rebuilds from its peers")]
    Refused {
        /// What the peer said.
        reason: String,
    },
    /// The directory belongs to a node of another name.
    #[error("the data directory belongs to node {stored:?}, this node is {configured:?} (node.name)")]
    OtherNode {
        /// In the directory.
        stored: String,
        /// In the configuration.
        configured: String,
    },
}

/// Whose directory this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The ring slot.
    pub node: NodeId,
    /// The directory.
    pub disk: DiskId,
    /// The name that the slot is bound to.
    pub name: String,
    /// The slot had another directory before, and this one is not rebuilt yet.
    pub rebuilding: bool,
    /// Why a peer has refused the directory for good.
    #[serde(default)]
    pub refused: Option<String>,
    /// With which generation it took the place of a lost directory, so that of two the later one is known; 0: of none.
    #[serde(default)]
    pub took_over: Generation,
}

/// Which run of it was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its generation.
    pub generation: Generation,
    /// Its process.
    pub nonce: Nonce,
    /// Nothing that was written in this generation or later is missing.
    pub trusted_since: Generation,
}

/// What a peer's directory was last granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its directory.
    pub disk: DiskId,
    /// The highest generation.
    pub generation: Generation,
    /// To which process.
    pub nonce: Nonce,
    /// The highest batch that it said to have synced.
    pub synced: BatchNumber,
    /// As in [`Identity::took_over`].
    #[serde(default)]
    pub took_over: Generation,
}

/// What a directory holds about the node.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Absent in a new directory.
    pub identity: Option<Identity>,
    /// The last run.
    pub run: Option<Run>,
    /// The generation that stopped cleanly, if the last stop was clean.
    pub clean: Option<Generation>,
    /// The ring.
    pub layout: Option<Layout>,
    /// The birth that the node voted for.
    pub vote: Option<[u8; 16]>,
    /// What was granted to peers.
    pub grants: BTreeMap<NodeId, Grant>,
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("records about the node have no maps with odd keys and no failing serializers")
}

fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StartError> {
    rmp_serde::from_slice(bytes).map_err(|error| StartError::Damaged { what, reason: error.to_string() })
}

impl Stored {
    /// Reads it all.
    ///
    /// # Errors
    /// [`StartError::Storage`] or [`StartError::Damaged`]; nothing is taken for absent because it cannot be read.
    pub fn load(engine: &dyn Engine) -> Result<Stored, StartError> {
        fn record<T: DeserializeOwned>(
            engine: &dyn Engine,
            what: &'static str,
            key: MetaKey,
        ) -> Result<Option<T>, StartError> {
            match engine.get(Family::Meta, &key.bytes(), ReadTier::Disk)? {
                Lookup::Found(bytes) => decode(what, &bytes).map(Some),
                Lookup::Absent | Lookup::Miss => Ok(None),
            }
        }
        let layout = match engine.get(Family::Meta, &MetaKey::Layout.bytes(), ReadTier::Disk)? {
            Lookup::Found(bytes) => Some(
                Layout::decode(&bytes)
                    .map_err(|error: LayoutError| StartError::Damaged { what: "layout", reason: error.to_string() })?,
            ),
            Lookup::Absent | Lookup::Miss => None,
        };
        let mut grants = BTreeMap::new();
        let mut damaged = None;
        let (start, end) = MetaKey::grant_bounds();
        engine.scan(Family::Meta, start, Some(end), ScanLimit::NONE, &mut |key, value| match (
            MetaKey::parse_grant(key),
            decode("grant", value),
        ) {
            (Some(node), Ok(grant)) => {
                grants.insert(node, grant);
                std::ops::ControlFlow::Continue(())
            }
            (_, Err(error)) => {
                damaged = Some(error);
                std::ops::ControlFlow::Break(())
            }
            (None, Ok(_)) => std::ops::ControlFlow::Continue(()),
        })?;
        match damaged {
            Some(error) => Err(error),
            None => Ok(Stored {
                identity: record(engine, "identity", MetaKey::Identity)?,
                run: record(engine, "generation", MetaKey::Generation)?,
                clean: record(engine, "clean stop", MetaKey::Clean)?,
                layout,
                vote: record(engine, "birth vote", MetaKey::BirthVote)?,
                grants,
            }),
        }
    }
}

/// Random numbers for a start, drawn by the driver.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    /// For a new directory: a ring slot's identity, until another turns out to be bound to the name.
    pub node: NodeId,
    /// For a new directory.
    pub disk: DiskId,
    /// For this process.
    pub nonce: Nonce,
}

/// A node at the start of its process.
#[derive(Clone, Debug)]
pub struct Start {
    /// Whose directory.
    pub identity: Identity,
    /// The generation that the directory held.
    pub stored: Generation,
    /// This run.
    pub run: Run,
    /// The batch number that the directory recovered.
    pub recovered: BatchNumber,
    /// The ring, if there is one.
    pub layout: Option<Layout>,
    /// The birth that the node voted for.
    pub vote: Option<[u8; 16]>,
    /// What was granted to peers.
    pub grants: BTreeMap<NodeId, Grant>,
}

impl Start {
    /// Decides what this run is. `survived` is what the last run left in a file that a power loss clears: the number of
    /// the last batch that it wrote. A directory that has recovered that much has lost nothing, although nobody stopped
    /// it cleanly. The batch returned is to be written and synced before the first hello.
    ///
    /// # Errors
    /// [`StartError::OtherNode`] or [`StartError::Refused`].
    pub fn begin(
        stored: Stored,
        name: &str,
        draws: Draws,
        recovered: BatchNumber,
        survived: Option<BatchNumber>,
    ) -> Result<(Start, Batch), StartError> {
        let identity = match stored.identity {
            Some(identity) if identity.name != name => {
                return Err(StartError::OtherNode { stored: identity.name, configured: name.to_owned() });
            }
            Some(Identity { refused: Some(reason), .. }) => return Err(StartError::Refused { reason }),
            // Before it was said when, a replacement was never done with its rebuilding.
            Some(identity) if identity.rebuilding && identity.took_over == Generation(0) => {
                Identity { took_over: Generation(1), ..identity }
            }
            Some(identity) => identity,
            None => Identity {
                node: draws.node,
                disk: draws.disk,
                name: name.to_owned(),
                rebuilding: false,
                refused: None,
                took_over: Generation(0),
            },
        };
        let last = stored.run.map_or(Generation(0), |run| run.generation);
        let generation = Generation(last.0 + 1);
        let clean = stored.run.is_some() && stored.clean == Some(last);
        let whole = survived.is_some_and(|survived| recovered >= survived);
        let trusted_since = match stored.run {
            Some(run) if clean || whole || mutant!(TrustsLostPages) => run.trusted_since,
            _ => generation,
        };
        let start = Start {
            identity,
            stored: last,
            run: Run { generation, nonce: draws.nonce, trusted_since },
            recovered,
            layout: stored.layout,
            vote: stored.vote,
            grants: stored.grants,
        };
        let mut batch = Batch::default();
        for (key, value) in start.identity_records() {
            batch.put(Family::Meta, &key.bytes(), &value);
        }
        batch.delete(Family::Meta, &MetaKey::Clean.bytes());
        Ok((start, batch))
    }

    /// The records that say who this node is and which run this is.
    pub fn identity_records(&self) -> [(MetaKey, Vec<u8>); 2] {
        [(MetaKey::Identity, encode(&self.identity)), (MetaKey::Generation, encode(&self.run))]
    }
}

/// The record of a clean stop of `generation`: written and synced last of all.
pub fn clean_record(generation: Generation) -> (MetaKey, Vec<u8>) {
    (MetaKey::Clean, encode(&generation))
}

/// The record of a vote.
pub fn vote_record(vote: [u8; 16]) -> (MetaKey, Vec<u8>) {
    (MetaKey::BirthVote, encode(&vote))
}

/// The record of a layout.
pub fn layout_record(layout: &Layout) -> (MetaKey, Vec<u8>) {
    (MetaKey::Layout, layout.encode())
}

/// The record of a grant.
pub fn grant_record(node: NodeId, grant: Grant) -> (MetaKey, Vec<u8>) {
    (MetaKey::Grant(node), encode(&grant))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: Draws = Draws { node: NodeId(1), disk: DiskId(2), nonce: Nonce(3) };

    fn after(run: Run, clean: Option<Generation>) -> Stored {
        let identity = Identity {
            node: NodeId(7),
            disk: DiskId(8),
            name: "n1".into(),
            rebuilding: false,
            refused: None,
            took_over: Generation(0),
        };
        Stored { identity: Some(identity), run: Some(run), clean, ..Stored::default() }
    }

    fn run(generation: u64, trusted_since: u64) -> Run {
        Run { generation: Generation(generation), nonce: Nonce(9), trusted_since: Generation(trusted_since) }
    }

    #[track_caller]
    fn check(stored: Stored, recovered: u64, survived: Option<u64>, trusted_since: u64) {
        let survived = survived.map(BatchNumber);
        let (start, _) = Start::begin(stored, "n1", DRAWS, BatchNumber(recovered), survived).unwrap();
        assert_eq!(start.run.trusted_since, Generation(trusted_since));
    }

    #[test]
    fn a_new_directory_draws_its_identity() {
        let (start, _) = Start::begin(Stored::default(), "n1", DRAWS, BatchNumber(0), None).unwrap();
        assert_eq!((start.identity.node, start.identity.disk), (NodeId(1), DiskId(2)));
        assert_eq!(
            (start.stored, start.run.generation, start.run.trusted_since),
            (Generation(0), Generation(1), Generation(1))
        );
    }

    #[test]
    fn trust_survives_a_clean_stop_and_a_kill_but_not_lost_pages() {
        check(after(run(4, 2), Some(Generation(4))), 10, None, 2);
        check(after(run(4, 2), Some(Generation(3))), 10, None, 5);
        check(after(run(4, 2), None), 10, Some(10), 2);
        check(after(run(4, 2), None), 9, Some(10), 5);
        check(after(run(4, 2), None), 10, None, 5);
    }

    /// As directories had them that were written before `took_over` was.
    #[test]
    fn older_records_are_read() {
        let identity = |rebuilding: bool| encode(&(NodeId(7), DiskId(8), "n1", rebuilding, None::<String>));
        for (rebuilding, took_over) in [(false, 0), (true, 1)] {
            let read: Identity = decode("identity", &identity(rebuilding)).unwrap();
            let stored = Stored { identity: Some(read), run: Some(run(4, 2)), ..Stored::default() };
            let (start, _) = Start::begin(stored, "n1", DRAWS, BatchNumber(0), None).unwrap();
            assert_eq!((start.identity.rebuilding, start.identity.took_over), (rebuilding, Generation(took_over)));
        }
        let grant = encode(&(DiskId(8), Generation(4), Nonce(9), BatchNumber(10)));
        assert_eq!(decode::<Grant>("grant", &grant).unwrap().took_over, Generation(0));
    }

    #[test]
    fn a_refused_directory_is_not_started_again() {
        let mut stored = after(run(4, 2), None);
        stored.identity.as_mut().unwrap().refused = Some("it is an old copy".into());
        let error = Start::begin(stored, "n1", DRAWS, BatchNumber(0), None).unwrap_err();
        assert!(matches!(error, StartError::Refused { .. }));
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let error = Start::begin(after(run(1, 1), None), "n2", DRAWS, BatchNumber(0), None).unwrap_err();
        assert_eq!(error.to_string(), "the data directory belongs to node \"n1\", this node is \"n2\" (node.name)");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_planted_trust_survives_lost_pages() {
        use crate::mutant::{Mutant, plant};
        let _planted = plant(Mutant::TrustsLostPages);
        check(after(run(4, 2), None), 9, Some(10), 2);
        check(after(run(4, 2), None), 10, None, 2);
    }
}
