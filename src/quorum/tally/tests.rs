use super::*;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

#[test]
fn a_duplicate_reply_counts_once() {
    let mut tally = Tally::new(&NODES, 0);
    assert!(tally.count(Slot(0), NodeId(1), false));
    assert!(!tally.count(Slot(0), NodeId(1), false));
    assert_eq!(tally.counted(), 1);
}

#[test]
fn a_node_counts_only_for_its_own_slot() {
    let mut tally = Tally::new(&NODES, 0);
    assert!(!tally.count(Slot(1), NodeId(1), true));
    assert!(!tally.count(Slot(9), NodeId(1), true));
    assert_eq!(tally.counted(), 0);
}

#[test]
fn a_later_sync_raises_what_is_durable() {
    let mut tally = Tally::new(&NODES, 0);
    tally.count(Slot(2), NodeId(3), false);
    assert_eq!(tally.synced(), 0);
    assert!(tally.count(Slot(2), NodeId(3), true));
    assert_eq!((tally.counted(), tally.synced()), (1, 1));
}

#[test]
fn a_rebuilding_replica_is_heard_and_not_counted() {
    let mut tally = Tally::new(&NODES, 0);
    tally.hear(Slot(0), NodeId(1));
    assert_eq!((tally.counted(), tally.possible()), (0, 2));
}

#[test]
fn a_refusal_never_takes_back_what_was_counted() {
    let mut tally = Tally::new(&NODES, 0);
    tally.count(Slot(0), NodeId(1), true);
    tally.refuse(Slot(0), NodeId(1), "late".into(), false);
    assert_eq!(tally.counted(), 1);
}

#[test]
fn the_busy_are_asked_again_and_the_unwilling_are_not() {
    let mut tally = Tally::new(&NODES, 0);
    tally.refuse(Slot(0), NodeId(1), "it is overloaded".into(), true);
    tally.refuse(Slot(1), NodeId(2), "it takes no writes".into(), false);
    assert_eq!(tally.open().collect::<Vec<_>>(), vec![(Slot(0), NodeId(1)), (Slot(2), NodeId(3))]);
    assert_eq!(tally.possible(), 2);
    assert_eq!(
        tally.missing(|node| format!("n{}", node.0)),
        "n1: it is overloaded; n2: it takes no writes; n3: no answer"
    );
}

/// Trap 14: a slot is counted once, whoever answers for it.
#[test]
fn a_slot_counts_once_by_its_primary_or_its_stand_in() {
    let mut tally = Tally::new(&NODES, 2);
    assert!(tally.call(Slot(0), NodeId(4)));
    assert!(tally.count(Slot(0), NodeId(4), true));
    assert_eq!((tally.counted(), tally.primaries(), tally.synced()), (1, 0, 1));
    assert_eq!(tally.acks(), [Ack { slot: 0, node: NodeId(4), stand_in: true, synced: true }]);
    assert!(tally.count(Slot(0), NodeId(1), true));
    assert_eq!((tally.counted(), tally.primaries(), tally.synced()), (1, 1, 1));
    assert_eq!(tally.acks(), [Ack { slot: 0, node: NodeId(1), stand_in: false, synced: true }]);
}

/// Trap 3: one host is one replica.
#[test]
fn a_node_stands_in_for_one_slot_only_and_never_beside_its_own() {
    let mut tally = Tally::new(&NODES, 3);
    assert!(tally.call(Slot(0), NodeId(4)));
    assert!(!tally.call(Slot(1), NodeId(4)));
    assert!(!tally.call(Slot(0), NodeId(2)));
    assert!(!tally.count(Slot(1), NodeId(4), true), "it answers for slot 0");
}

#[test]
fn stand_ins_are_wanted_only_as_far_as_the_quorum_needs_them() {
    let mut tally = Tally::new(&NODES, 2);
    let up = |node: NodeId| node != NodeId(1);
    assert_eq!(tally.wanting(2, up), []);
    assert_eq!(tally.wanting(3, up), [Slot(0)]);
    tally.count(Slot(1), NodeId(2), false);
    tally.give_up_waiting();
    assert_eq!(tally.wanting(2, up), [Slot(0)], "the third is late, the second counts");
    tally.call(Slot(0), NodeId(4));
    assert_eq!(tally.wanting(2, up), []);
    assert_eq!(tally.wanting(3, up), [Slot(2)]);
    tally.refuse(Slot(0), NodeId(4), "it takes no writes".into(), false);
    assert_eq!(tally.wanting(2, up), [Slot(0)], "the next one");
    assert!(Tally::new(&NODES, 0).wanting(3, |_| false).is_empty());
}

/// Who is overloaded may be asked again, and is not waited for meanwhile.
#[test]
fn somebody_stands_in_at_once_for_the_busy() {
    let mut tally = Tally::new(&NODES, 2);
    assert_eq!(tally.wanting(3, |_| true), []);
    tally.refuse(Slot(1), NodeId(2), "it is overloaded".into(), true);
    assert_eq!(tally.wanting(3, |_| true), [Slot(1)]);
    assert_eq!(tally.wanting(2, |_| true), [], "two others are enough");
    tally.call(Slot(1), NodeId(4));
    tally.refuse(Slot(1), NodeId(4), "it is overloaded".into(), true);
    assert_eq!(tally.wanting(3, |_| true), [Slot(1)], "the next one");
    assert!(tally.open().any(|known| known == (Slot(1), NodeId(2))));
}

#[test]
fn stand_ins_keep_a_quorum_possible() {
    let mut tally = Tally::new(&NODES, 1);
    for (slot, node) in [(0, 1), (1, 2)] {
        tally.refuse(Slot(slot), NodeId(node), "it takes no writes".into(), false);
    }
    assert_eq!((tally.possible(), tally.possible_primaries()), (2, 1));
    tally.call(Slot(0), NodeId(4));
    assert_eq!(tally.possible(), 2);
    tally.refuse(Slot(0), NodeId(4), "it takes no writes".into(), false);
    assert_eq!(tally.possible(), 1);
    assert_eq!(
        tally.unfilled().collect::<Vec<_>>(),
        [(Slot(0), NodeId(1)), (Slot(1), NodeId(2)), (Slot(2), NodeId(3))]
    );
}

#[cfg(feature = "mutants")]
#[test]
fn a_planted_duplicate_counts_and_is_no_slot_of_the_receipt() {
    use crate::mutant::{Mutant, plant};
    let _planted = plant(Mutant::DuplicateCounted);
    let mut tally = Tally::new(&NODES, 0);
    for repeats in 0..40u8 {
        assert_eq!(tally.counted(), repeats.min(14), "there is a bound to it");
        tally.count(Slot(1), NodeId(2), true);
    }
    assert_eq!(tally.acks(), [Ack { slot: 1, node: NodeId(2), stand_in: false, synced: true }]);
    assert_eq!(tally.open().count(), 2);
}

#[cfg(feature = "mutants")]
#[test]
fn planted_miscounts_of_stand_ins() {
    use crate::mutant::{Mutant, plant};
    let mut tally = Tally::new(&NODES, 2);
    tally.call(Slot(0), NodeId(4));
    tally.count(Slot(0), NodeId(4), true);
    let counts = |tally: &Tally| (tally.counted(), tally.primaries());
    {
        let _planted = plant(Mutant::StandInIsPrimary);
        assert_eq!(counts(&tally), (1, 1));
    }
    tally.count(Slot(0), NodeId(1), true);
    assert_eq!(counts(&tally), (1, 1));
    let _planted = plant(Mutant::SlotCountedTwice);
    assert_eq!(counts(&tally), (2, 1));
    assert_eq!(tally.acks().len(), 1, "the receipt names one for the slot");
}
