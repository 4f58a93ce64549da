//! Who may speak as whom: generations granted to peers, so that a copy of a directory, or a second process on it, is
//! told apart from the node itself.

use std::collections::BTreeMap;

use crate::gossip::MemberState;
use crate::message::{Hello, HelloRefusal};
use crate::node::startup::Grant;
use crate::types::{BatchNumber, Generation, NodeId, NodeRun};

/// The grants that this node has made, as its directory holds them.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    granted: BTreeMap<NodeId, Grant>,
}

impl Grants {
    /// As stored.
    pub fn new(granted: BTreeMap<NodeId, Grant>) -> Grants {
        Grants { granted }
    }

    /// The last grant to a node.
    pub fn get(&self, node: NodeId) -> Option<Grant> {
        self.granted.get(&node).copied()
    }

    /// The latest run of each node that was ever granted one.
    pub fn runs(&self) -> impl Iterator<Item = NodeRun> {
        self.granted.iter().map(|(node, grant)| NodeRun { node: *node, generation: grant.generation })
    }

    /// Remembers, until the next grant stores it, how much a node says to have on its disk. The word of another disk says
    /// nothing about the granted one, and that of a run which is yet to be granted nothing about what it started from.
    pub fn saw(&mut self, state: &MemberState) {
        let granted = self.granted.get_mut(&state.node);
        if let Some(grant) = granted.filter(|grant| grant.disk == state.disk && state.generation <= grant.generation) {
            grant.synced = grant.synced.max(state.synced);
        }
    }

    /// Grants a hello's generation to its nonce. `heard`: the node's word as gossip has brought it, maybe of runs that this
    /// node has never granted. `Ok(Some)`: a new grant, to be stored before the answer.
    ///
    /// # Errors
    /// [`HelloRefusal`] if the directory or the process is not the latest that this node knows of.
    pub fn grant(&mut self, hello: &Hello, heard: Option<&MemberState>) -> Result<Option<Grant>, HelloRefusal> {
        if let Some(heard) = heard.filter(|_| !mutant!(OldCopyGranted)) {
            check_heard(hello, heard)?;
        }
        let fresh = Grant {
            disk: hello.disk,
            generation: hello.generation,
            nonce: hello.nonce,
            synced: BatchNumber(0),
            took_over: hello.took_over,
        };
        let known = self.granted.get(&hello.node).copied().filter(|_| !mutant!(OldCopyGranted));
        let Some(known) = known else {
            self.granted.insert(hello.node, fresh);
            return Ok(Some(fresh));
        };
        if known.disk != hello.disk {
            // Of two disks the later one has taken the place of the other. A lost one that comes back has something stored, and
            // however often it is started, its generation does not make it new.
            if !is_blank(hello) && hello.took_over <= known.took_over {
                return Err(old_copy(hello, known.generation, known.synced));
            }
            if hello.generation <= known.generation {
                return Err(HelloRefusal::RaiseGeneration { granted: known.generation });
            }
            self.granted.insert(hello.node, fresh);
            return Ok(Some(fresh));
        }
        if hello.generation == known.generation {
            return if hello.nonce == known.nonce {
                Ok(None)
            } else {
                Err(HelloRefusal::Twin { generation: known.generation })
            };
        }
        // A new disk's first process may rise more than once, from peer to peer.
        let same_process = hello.nonce == known.nonce && hello.generation > known.generation;
        if !same_process && (hello.stored < known.generation || hello.recovered < known.synced) {
            return Err(old_copy(hello, known.generation, known.synced));
        }
        let grant = Grant { synced: known.synced, ..fresh };
        self.granted.insert(hello.node, grant);
        Ok(Some(grant))
    }

    /// Drops the grants of those who never became members.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.granted.retain(|node, _| keep(*node));
    }
}

/// Measures a hello by what others have told of its node. Whoever speaks for the latest run is never behind it: a node's
/// generation is on its disk before anybody hears of it, and so is what it says to have synced.
fn check_heard(hello: &Hello, heard: &MemberState) -> Result<(), HelloRefusal> {
    // A replacement takes what generation it is told to, more than once, and had nothing when it began.
    let may_rise = is_blank(hello) || hello.rebuilding;
    let of_this_disk = heard.disk == hello.disk;
    let is_behind = if of_this_disk {
        hello.generation < heard.generation
    } else {
        // Of two disks the later one has started above the other.
        hello.generation <= heard.generation
    };
    if is_behind && may_rise {
        return Err(HelloRefusal::RaiseGeneration { granted: heard.generation });
    }
    let of_an_earlier_run = of_this_disk && heard.generation < hello.generation;
    let lacks = of_an_earlier_run && !may_rise && hello.recovered < heard.synced;
    if is_behind || lacks { Err(old_copy(hello, heard.generation, heard.synced)) } else { Ok(()) }
}

/// Whether a directory holds nothing of any ring: it is new, or its process was killed before it had met anybody.
fn is_blank(hello: &Hello) -> bool {
    hello.stored.0 == 0 || hello.cluster.is_none()
}

fn old_copy(hello: &Hello, granted: Generation, synced: BatchNumber) -> HelloRefusal {
    HelloRefusal::OldCopy { stored: hello.stored, recovered: hello.recovered, granted, synced }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::PROTOCOL;
    use crate::types::{ClusterId, DiskId, Nonce};

    fn hello(disk: u64, stored: u64, nonce: u64, recovered: u64) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: (stored > 0).then_some(ClusterId([1; 16])),
            node: NodeId(1),
            name: "n1".into(),
            disk: DiskId(disk),
            stored: Generation(stored),
            generation: Generation(stored + 1),
            nonce: Nonce(nonce),
            recovered: BatchNumber(recovered),
            rebuilding: false,
            took_over: Generation(0),
        }
    }

    fn said(disk: u64, generation: u64, synced: u64) -> MemberState {
        MemberState {
            node: NodeId(1),
            generation: Generation(generation),
            version: 1,
            heartbeat: 0,
            name: "n1".into(),
            zone: "default".into(),
            weight: 1000,
            address: "n1:1".into(),
            disk: DiskId(disk),
            ballot: None,
            ring: None,
            rebuilding: false,
            synced: BatchNumber(synced),
        }
    }

    fn granted(first: &Hello) -> Grants {
        let mut grants = Grants::default();
        assert!(grants.grant(first, None).unwrap().is_some());
        grants
    }

    #[test]
    fn the_same_process_is_granted_again_and_nothing_new_is_stored() {
        let mut grants = granted(&hello(1, 4, 7, 100));
        assert_eq!(grants.grant(&hello(1, 4, 7, 100), None), Ok(None));
    }

    #[test]
    fn the_next_run_is_granted() {
        let mut grants = granted(&hello(1, 4, 7, 100));
        assert!(grants.grant(&hello(1, 5, 8, 120), None).unwrap().is_some());
    }

    #[test]
    fn a_second_process_of_one_generation_is_a_twin() {
        let mut grants = granted(&hello(1, 4, 7, 100));
        assert_eq!(grants.grant(&hello(1, 4, 8, 100), None), Err(HelloRefusal::Twin { generation: Generation(5) }));
    }

    /// Trap 7: a restored backup.
    #[test]
    fn an_old_copy_is_refused_by_generation_and_by_batch() {
        let mut grants = granted(&hello(1, 4, 7, 100));
        assert!(matches!(grants.grant(&hello(1, 3, 8, 100), None), Err(HelloRefusal::OldCopy { .. })));
        assert!(matches!(grants.grant(&hello(1, 2, 8, 100), None), Err(HelloRefusal::OldCopy { .. })));
        grants.saw(&said(1, 5, 150));
        assert!(matches!(grants.grant(&hello(1, 5, 8, 149), None), Err(HelloRefusal::OldCopy { .. })));
        assert!(grants.grant(&hello(1, 5, 8, 150), None).unwrap().is_some());
    }

    /// Gossip of the new run may come before its hello, and speaks of what it has synced since.
    #[test]
    fn a_run_is_measured_only_by_what_earlier_ones_had_synced() {
        let mut grants = granted(&hello(1, 4, 7, 100));
        grants.saw(&said(2, 5, 500));
        grants.saw(&said(1, 6, 140));
        assert!(grants.grant(&hello(1, 5, 8, 120), None).unwrap().is_some());
        grants.saw(&said(1, 6, 140));
        assert!(matches!(grants.grant(&hello(1, 6, 9, 139), None), Err(HelloRefusal::OldCopy { .. })));
    }

    #[test]
    fn a_new_disk_starts_above_what_the_old_one_was_granted() {
        let mut grants = granted(&hello(1, 4, 7, 100));
        assert_eq!(
            grants.grant(&hello(2, 0, 8, 0), None),
            Err(HelloRefusal::RaiseGeneration { granted: Generation(5) })
        );
        let mut raised = hello(2, 0, 8, 0);
        raised.generation = Generation(6);
        assert!(grants.grant(&raised, None).unwrap().is_some());
        raised.generation = Generation(8);
        assert!(grants.grant(&raised, None).unwrap().is_some(), "another peer has asked for more");
        for stored in [5, 50] {
            let back = grants.grant(&hello(1, stored, 9, 1000), None);
            assert!(matches!(back, Err(HelloRefusal::OldCopy { .. })), "the old disk is back");
        }
    }

    /// Others have granted later runs, and this node has only heard of them.
    #[test]
    fn an_old_copy_is_refused_by_whoever_has_only_heard_of_later_runs() {
        for mut grants in [Grants::default(), granted(&hello(1, 4, 7, 100))] {
            let later = said(1, 8, 300);
            for stored in [4, 5, 6] {
                let copy = grants.grant(&hello(1, stored, 8, 1000), Some(&later));
                assert!(matches!(copy, Err(HelloRefusal::OldCopy { granted: Generation(8), .. })), "{copy:?}");
            }
            let torn = grants.grant(&hello(1, 8, 9, 299), Some(&later));
            assert!(matches!(torn, Err(HelloRefusal::OldCopy { synced: BatchNumber(300), .. })), "{torn:?}");
            // The latest run itself has synced more since it started; and the next one has all of that.
            assert!(grants.grant(&hello(1, 7, 10, 200), Some(&later)).unwrap().is_some());
            assert!(grants.grant(&hello(1, 8, 11, 300), Some(&later)).unwrap().is_some());
        }
    }

    #[test]
    fn a_disk_that_others_know_to_be_replaced_is_refused_and_a_new_one_is_told_to_rise() {
        let mut grants = Grants::default();
        let newer = said(2, 8, 0);
        assert!(matches!(grants.grant(&hello(1, 7, 8, 900), Some(&newer)), Err(HelloRefusal::OldCopy { .. })));
        let raise = Err(HelloRefusal::RaiseGeneration { granted: Generation(8) });
        assert_eq!(grants.grant(&hello(3, 0, 9, 0), Some(&newer)), raise);
        // A replacement that has risen since this hello, and one that restarts with less than it has been heard to hold.
        assert_eq!(grants.grant(&hello(2, 0, 10, 0), Some(&newer)), raise);
        let mut rebuilding = Hello { rebuilding: true, took_over: Generation(8), ..hello(2, 8, 11, 0) };
        assert!(grants.grant(&rebuilding, Some(&said(2, 8, 50))).unwrap().is_some());
        rebuilding.generation = Generation(10);
        assert!(grants.grant(&rebuilding, Some(&said(2, 9, 50))).unwrap().is_some());
        let mut grants = Grants::default();
        assert!(
            grants.grant(&hello(3, 10, 12, 0), Some(&newer)).unwrap().is_some(),
            "what is heard is of the old disk"
        );
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_planted_bug_lets_every_copy_in() {
        use crate::mutant::{Mutant, plant};
        let _planted = plant(Mutant::OldCopyGranted);
        let mut grants = granted(&hello(1, 4, 7, 100));
        grants.saw(&said(1, 5, 150));
        for copy in [hello(1, 2, 8, 100), hello(1, 4, 9, 0), hello(2, 1, 10, 0)] {
            assert!(grants.grant(&copy, Some(&said(1, 9, 500))).unwrap().is_some());
        }
    }
}
