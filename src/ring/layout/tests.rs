use super::*;
use crate::ring::claim::tests::{member, members};
use proptest::prelude::*;

fn bucket(name: &str) -> Bucket {
    Bucket::new(name).unwrap()
}

fn three() -> Vec<Member> {
    (1..=3).map(|id| member(id, &format!("zone-{id}"), 1000)).collect()
}

fn birth(members: Vec<Member>) -> Result<Layout, LayoutError> {
    Layout::birth(Partitions::new(8).unwrap(), members, BTreeMap::new())
}

/// Layout 1 of three, with one field changed, as bytes that nothing has checked.
fn forged(forge: impl FnOnce(&mut Decoded)) -> Vec<u8> {
    let mut decoded = rmp_serde::from_slice(&birth(three()).unwrap().encode()[1..]).unwrap();
    forge(&mut decoded);
    let mut bytes = vec![Layout::FORMAT];
    rmp_serde::encode::write(&mut bytes, &decoded).unwrap();
    bytes
}

#[track_caller]
fn check_refused(forge: impl FnOnce(&mut Decoded), error: LayoutError) {
    assert_eq!(Layout::decode(&forged(forge)), Err(error));
}

#[test]
fn birth_is_version_one_with_a_default_bucket() {
    let layout = birth(three()).unwrap();
    assert_eq!(layout.version(), RingVersion(1));
    assert_eq!(layout.bucket(&Bucket::default()), Some(BucketConfig { n: 3, conflict: Conflict::Siblings }));
    assert_eq!(layout.bucket(&bucket("other")), None);
    assert_eq!((layout.owners().len(), layout.departed()), (8, &[][..]));
}

#[test]
fn birth_keeps_a_configured_default_bucket() {
    let config = BucketConfig { n: 2, conflict: Conflict::Lww };
    let layout = Layout::birth(Partitions::default(), three(), [(Bucket::default(), config)].into()).unwrap();
    assert_eq!(layout.bucket(&Bucket::default()), Some(config));
}

#[test]
fn birth_refuses_members_that_collide_or_are_misnamed() {
    let with = |change: fn(&mut Member)| {
        let mut members = three();
        change(&mut members[2]);
        birth(members).unwrap_err()
    };
    assert_eq!(birth(vec![]), Err(LayoutError::NoMembers));
    assert_eq!(with(|member| member.id = NodeId(1)), LayoutError::DuplicateId { id: NodeId(1) });
    assert_eq!(with(|member| member.name = "n1".into()), LayoutError::DuplicateName { name: "n1".into() });
    assert!(matches!(with(|member| member.name = "N1".into()), LayoutError::Name(_)));
    assert!(matches!(with(|member| member.zone = String::new()), LayoutError::Name(_)));
    for bad in ["", "a b:1", "a\n", "ü:1"] {
        let mut members = three();
        members[0].address = bad.to_owned();
        assert!(matches!(birth(members), Err(LayoutError::BadAddress { .. })), "{bad:?}");
    }
}

#[test]
fn counts_are_bounded() {
    let many: Vec<Member> = (0..=1000).map(|id| member(id, "z", 1000)).collect();
    assert!(birth(many[..1000].to_vec()).is_ok());
    assert_eq!(birth(many), Err(LayoutError::TooMany { what: "members", count: 1001, max: 1000 }));
    let buckets = |count| (1..count).map(|at| (bucket(&format!("b{at}")), BucketConfig::default())).collect();
    assert!(Layout::birth(Partitions::default(), three(), buckets(1000)).is_ok());
    let error = Layout::birth(Partitions::default(), three(), buckets(1001)).unwrap_err();
    assert_eq!(error, LayoutError::TooMany { what: "buckets", count: 1001, max: 1000 });
    let departed = (0..10_001).map(|id| NodeId(100 + id)).collect();
    let error = LayoutError::TooMany { what: "departed nodes", count: 10_001, max: 10_000 };
    check_refused(|layout| layout.departed = departed, error);
}

#[test]
fn effective_n_is_bounded_by_the_members() {
    let layout = birth(three()).unwrap();
    assert_eq!([1, 3, 4, 16].map(|n| layout.effective_n(n)), [1, 3, 3, 3]);
    let many = birth((0..300).map(|id| member(id, "z", 1000)).collect()).unwrap();
    assert_eq!(many.effective_n(16), 16);
}

#[test]
fn members_are_found_by_id_and_by_name() {
    let layout = birth(three()).unwrap();
    assert_eq!(layout.member(NodeId(2)), layout.member_named("n2"));
    assert_eq!(layout.member(NodeId(2)).map(|member| member.zone.as_str()), Some("zone-2"));
    assert_eq!((layout.member(NodeId(9)), layout.member_named("n9")), (None, None));
    assert_eq!(layout.owner(PartitionId(7)), layout.owners().last().copied());
    assert_eq!(layout.owner(PartitionId(8)), None);
}

/// Clusters on disk are named by this hash: it must never change for the same members.
#[test]
fn the_cluster_id_of_a_known_layout_stands() {
    assert_eq!(birth(three()).unwrap().cluster_id().to_string(), "78874378ab14376c82e8cc2c6e67c742");
}

#[test]
fn a_decoded_layout_obeys_every_law() {
    check_refused(|layout| layout.version = RingVersion(0), LayoutError::NoVersion);
    check_refused(|layout| layout.owners[5] = 3, LayoutError::UnknownOwner { partition: PartitionId(5) });
    check_refused(|layout| layout.owners.truncate(7), LayoutError::OwnerCount { owners: 7, partitions: 8 });
    check_refused(|layout| layout.owners.push(0), LayoutError::OwnerCount { owners: 9, partitions: 8 });
    check_refused(|layout| layout.members[1].name = "n1".into(), LayoutError::DuplicateName { name: "n1".into() });
    check_refused(|layout| layout.members[1].id = NodeId(1), LayoutError::DuplicateId { id: NodeId(1) });
    check_refused(|layout| layout.departed = vec![NodeId(2)], LayoutError::Departed { id: NodeId(2) });
    check_refused(|layout| layout.departed = vec![NodeId(7); 2], LayoutError::Departed { id: NodeId(7) });
    check_refused(|layout| layout.buckets.clear(), LayoutError::NoDefaultBucket);
    for n in [0, 17] {
        let config = BucketConfig { n, conflict: Conflict::Lww };
        let bad = LayoutError::BadN { bucket: bucket("b"), n };
        check_refused(|layout| layout.buckets.extend([(bucket("b"), config)]), bad);
    }
    check_refused(|layout| layout.members.swap(0, 2), LayoutError::NotCanonical);
    check_refused(|layout| layout.departed = vec![NodeId(9), NodeId(8)], LayoutError::NotCanonical);
    assert!(Layout::decode(&forged(|layout| layout.departed = vec![NodeId(8), NodeId(9)])).is_ok());
}

#[test]
fn an_owner_that_is_no_member_is_refused() {
    let layout = birth(three()).unwrap();
    let mut owners = layout.owners().to_vec();
    owners[6] = NodeId(4);
    let buckets = layout.buckets().clone();
    let refused = Layout::new(RingVersion(2), layout.partitions(), owners, three(), vec![], buckets);
    assert_eq!(refused, Err(LayoutError::UnknownOwner { partition: PartitionId(6) }));
}

#[test]
fn bytes_cut_short_or_run_over_are_refused() {
    let bytes = birth(three()).unwrap().encode();
    for len in 0..bytes.len() {
        assert!(matches!(Layout::decode(&bytes[..len]), Err(LayoutError::Malformed { .. })), "{len}");
    }
    assert_eq!(Layout::decode(&[bytes.as_slice(), &[0]].concat()), Err(LayoutError::NotCanonical));
    let newer = [&[2], &bytes[1..]].concat();
    assert_eq!(Layout::decode(&newer), Err(LayoutError::UnknownFormat { format: 2 }));
}

#[test]
fn conflict_is_spelt_as_in_the_config() {
    assert_eq!(serde_json::to_string(&[Conflict::Siblings, Conflict::Lww]).unwrap(), r#"["siblings","lww"]"#);
    let partial: BucketConfig = serde_json::from_str(r#"{"conflict":"lww"}"#).unwrap();
    assert_eq!(partial, BucketConfig { n: 3, conflict: Conflict::Lww });
    assert!(serde_json::from_str::<BucketConfig>(r#"{"copies":3}"#).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_decoded(members in members(1..=40), n in 1u8..=3) {
        let buckets = [(bucket("b"), BucketConfig { n, conflict: Conflict::Lww })].into();
        let layout = Layout::birth(Partitions::default(), members, buckets).unwrap();
        prop_assert_eq!(Layout::decode(&layout.encode()), Ok(layout));
    }

    #[test]
    fn founders_in_any_order_found_the_same_cluster(members in members(1..=20).prop_flat_map(|founders| (Just(founders.clone()), Just(founders).prop_shuffle()))) {
        let (one, other) = (birth(members.0).unwrap(), birth(members.1).unwrap());
        prop_assert_eq!(one.cluster_id(), other.cluster_id());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn random_bytes_are_no_layout(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Layout::decode(&bytes).is_err());
        prop_assert!(Layout::decode(&[&[Layout::FORMAT], bytes.as_slice()].concat()).is_err());
    }

    #[test]
    fn a_damaged_layout_is_refused_or_another(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let layout = birth(three()).unwrap();
        let mut bytes = layout.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Layout::decode(&bytes) {
            prop_assert_ne!(&other, &layout);
            prop_assert_eq!(other.encode(), bytes);
        }
    }
}
