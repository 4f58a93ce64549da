//! One encoding for each object, and nothing else is taken.

use bytes::Bytes;
use proptest::prelude::*;

use super::history::{World, actions};
use super::{Body, CausalContext, Sibling, context, dot, sibling};
use crate::version::{DecodeError, Object};

/// The bytes of a context and siblings as given, canonical or not.
fn raw(context: &CausalContext, siblings: &[Sibling]) -> Vec<u8> {
    let mut out = Vec::new();
    context.encode_into(&mut out);
    out.push(siblings.len() as u8);
    for sibling in siblings {
        let mut alone = Vec::new();
        Object::update(None, &CausalContext::new(), sibling.clone()).encode_into(&mut alone);
        // The context of one dot has 11 bytes, the count of siblings one.
        out.extend_from_slice(&alone[12..]);
    }
    out
}

fn three_siblings() -> Object {
    let deleted = Sibling { body: Body::Tombstone, ..sibling(dot(3, 1), "") };
    let writes = [sibling(dot(1, 1), "a value"), sibling(dot(2, 1), ""), deleted];
    let one = |write| Object::update(None, &CausalContext::new(), write);
    writes.into_iter().map(one).reduce(|a, b| a.merge(&b)).expect("three writes")
}

proptest! {
    #[test]
    fn objects_round_trip(actions in actions()) {
        for object in World::after(&actions).objects(8) {
            let bytes = object.encode();
            prop_assert_eq!(bytes.len(), object.encoded_len());
            let decoded = Object::decode(bytes.clone());
            prop_assert_eq!(decoded.as_ref().map(Object::encode), Ok(bytes));
            prop_assert_eq!(decoded, Ok(object));
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_refused(actions in actions(), more in any::<u8>()) {
        for object in World::after(&actions).objects(2) {
            let bytes = object.encode();
            for cut in 0..bytes.len() {
                prop_assert!(Object::decode(bytes.slice(..cut)).is_err());
            }
            let longer = [&bytes[..], &[more]].concat();
            prop_assert_eq!(Object::decode(longer.into()), Err(DecodeError::TrailingBytes { len: 1 }));
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_canonical(actions in actions(), at: prop::sample::Index, flip in 1u8..) {
        for object in World::after(&actions).objects(4) {
            let mut bytes = object.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(decoded) = Object::decode(bytes.clone().into()) {
                prop_assert_eq!(decoded.encode(), bytes);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        if let Ok(decoded) = Object::decode(bytes.clone().into()) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }
}

#[test]
fn each_departure_from_the_canonical_form_is_refused() {
    #[track_caller]
    fn check(context: &CausalContext, siblings: &[Sibling], error: DecodeError) {
        assert_eq!(Object::decode(raw(context, siblings).into()), Err(error));
    }
    let all = context([dot(1, 1), dot(2, 1)]);
    let (one, two) = (sibling(dot(1, 1), "one"), sibling(dot(2, 1), "two"));
    assert!(Object::decode(raw(&all, &[one.clone(), two.clone()]).into()).is_ok());
    check(&all, &[two.clone(), one.clone()], DecodeError::Unsorted);
    check(&all, &[one.clone(), one.clone()], DecodeError::Unsorted);
    check(&context([dot(1, 1)]), &[one.clone(), two], DecodeError::UncoveredSibling);
    check(&all, &[], DecodeError::NoSiblings);

    let mut unknown = raw(&all, &[Sibling { body: Body::Tombstone, ..one }]);
    *unknown.last_mut().unwrap() = 2;
    assert_eq!(Object::decode(unknown.into()), Err(DecodeError::UnknownBody { kind: 2 }));
}

#[test]
fn huge_counts_and_lengths_are_refused_before_anything_is_allocated() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let refused = Err(DecodeError::CountTooLarge { claimed: u64::MAX, possible: 0 });

    let mut siblings = raw(&context([dot(1, 1)]), &[]);
    siblings.pop();
    siblings.extend(huge);
    assert_eq!(Object::decode(siblings.into()), refused);

    let mut value = raw(&context([dot(1, 1)]), &[sibling(dot(1, 1), "")]);
    value.pop();
    value.extend(huge);
    assert_eq!(Object::decode(value.into()), refused);
}

#[test]
fn decoded_bodies_lie_in_the_buffer_unless_they_are_copied() {
    let object = three_siblings();
    let buffer = object.encode();
    let lies_in_buffer = |object: &Object| {
        object.siblings().iter().any(|sibling| match &sibling.body {
            Body::Value(value) => !value.is_empty() && buffer.as_ptr_range().contains(&value.as_ptr()),
            Body::Tombstone => false,
        })
    };
    let (decoded, copied) = (Object::decode(buffer.clone()).unwrap(), Object::decode_copied(&buffer).unwrap());
    assert_eq!((lies_in_buffer(&decoded), lies_in_buffer(&copied)), (true, false));
    assert_eq!((&decoded, &copied), (&object, &object));
}

/// The bytes are on disks and on wires: a change of them is a new version of records and frames.
#[test]
fn the_encoding_and_the_digest_are_what_they_were() {
    let mut known = context([dot(1, 1), dot(2, 3)]);
    known.insert(dot(1, 2));
    let write = Sibling { wall_ms: 300, ..sibling(dot(1, 3), "hi") };
    let object = Object::update(None, &known, write);
    let expected = [
        &[1][..],
        &[0, 0, 0, 0, 0, 0, 0, 1, 3],
        &[1],
        &[0, 0, 0, 0, 0, 0, 0, 2, 3],
        &[1],
        &[0, 0, 0, 0, 0, 0, 0, 1, 3],
        &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 0, 0, 0, 0, 0, 0, 1],
        &[0xac, 2],
        &[1, 2, b'h', b'i'],
    ];
    assert_eq!(object.encode(), Bytes::from(expected.concat()));
    assert_eq!(object.digest().to_string(), "d5d86c7ff5586b7296aa34325bfea091");
}

/// What the digest hashes, and nothing else: a dot names one write.
#[test]
fn a_version_is_its_context_and_its_dots() {
    let write = |known: &[_], value| Object::update(None, &context(known.iter().copied()), sibling(dot(1, 3), value));
    let object = write(&[dot(1, 1)], "hi");
    for (other, same) in [
        (write(&[dot(1, 1)], "another"), true),
        (write(&[dot(1, 1), dot(2, 3)], "hi"), false),
        (write(&[], "hi"), false),
        (Object::update(None, &context([dot(1, 1)]), sibling(dot(2, 3), "hi")), false),
    ] {
        assert_eq!(object.is_same_version_as(&other), same, "{other:?}");
        assert_eq!(object.digest() == other.digest(), same, "{other:?}");
    }
}
