//! Who is meant, who is asked, and what comes of it.

use dynkv::ring::Weight;

use super::super::super::status::tests::{backlog, lost, member, reply};
use super::*;

/// `n1`, `n2` and `n3`.
fn three() -> Vec<Member> {
    let member = |id| Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "z".into(),
        weight: Weight::ONE,
        address: format!("h:{id}"),
    };
    (1..=3).map(member).collect()
}

/// `n1` keeps something for `n3` and for node 9, which has left; `n2` for `n1` and for `n3`; `n3` does not answer.
fn answers() -> Vec<(String, Result<StatusReply, ClientError>)> {
    let keeps = |id, targets: [u64; 2]| {
        let members = (1..=3).map(|id| member(id, true, "aa")).collect();
        let hints = targets.map(|target| backlog(target, 10 * target, 0)).to_vec();
        (format!("h:{id}"), Ok(StatusReply { hints, ..reply(id, members) }))
    };
    vec![keeps(1, [3, 9]), keeps(2, [1, 3]), ("h:3".to_owned(), lost())]
}

#[test]
fn acknowledged_writes_are_not_dropped_unasked() {
    let asks = |yes, on_terminal| DropArgs { target: "n3".into(), node: None, yes }.asks(on_terminal);
    assert_eq!((asks(true, false), asks(true, true), asks(false, true)), (Ok(false), Ok(false), Ok(true)));
    assert_eq!(asks(false, false).unwrap_err().exit, Exit::Usage);
    for (answer, yes) in [("y\n", true), (" Y ", true), ("yes\n", true), ("\n", false), ("n\n", false), ("yup", false)]
    {
        assert_eq!(is_yes(answer), yes, "{answer:?}");
    }
}

#[track_caller]
fn check_target(name: &str, meant: Option<u64>) {
    let found = target(&three(), &answers(), name);
    assert_eq!(found.as_ref().ok().copied(), meant.map(NodeId));
    if let Err(failure) = found {
        let but = "n3 has not said for whom it keeps hints: try again when it has";
        let said = format!("target {name:?} is not known; members are n1, n2, n3; {but}");
        assert_eq!((failure.exit, failure.message()), (Exit::Usage, said.as_str()));
    }
}

#[test]
fn a_target_is_a_member_or_one_that_has_left_and_is_waited_for() {
    check_target("n3", Some(3));
    check_target(&NodeId(3).to_string(), Some(3));
    check_target(&NodeId(9).to_string(), Some(9));
    check_target(&NodeId(8).to_string(), None);
    check_target("n9", None);
}

#[track_caller]
fn check_holders(target: Option<u64>, node: Option<&str>, asked: &[u64]) {
    let found = holders(&three(), &answers(), target.map(NodeId), node).unwrap();
    let named: Vec<_> = asked.iter().map(|id| (NodeId(*id), format!("n{id}"))).collect();
    assert_eq!(found, named);
}

/// A member that does not answer may keep something all the same.
#[test]
fn every_member_is_asked_and_for_who_has_left_only_who_may_keep_something() {
    check_holders(None, None, &[1, 2, 3]);
    check_holders(Some(1), None, &[1, 2, 3]);
    check_holders(Some(9), None, &[1, 3]);
    check_holders(None, Some("n2"), &[2]);
    check_holders(Some(3), Some("n3"), &[3]);
    check_holders(Some(9), Some("n2"), &[2]);
    let failure = holders(&three(), &answers(), None, Some("n9")).unwrap_err();
    assert_eq!(failure.message(), "node \"n9\" is not known; members are n1, n2, n3");
}

#[track_caller]
fn check_question(target: u64, holders: &[u64], said: &str) {
    let holders: Vec<_> = holders.iter().map(|id| (NodeId(*id), format!("n{id}"))).collect();
    let asked = question("X", NodeId(target), &answers(), &holders);
    assert_eq!(asked, format!("Drop all that waits for X, {said}?"));
}

/// Neither one that does not answer nor one that still counts has said that nothing is lost.
#[test]
fn what_is_at_stake_are_the_counted_hints_for_the_target_on_those_asked() {
    check_question(3, &[1, 2], "2 hints of acknowledged writes included");
    check_question(3, &[2], "1 hint of acknowledged writes included");
    check_question(9, &[2], "0 hints of acknowledged writes included");
    check_question(9, &[1, 2, 3], "1 hint of acknowledged writes included, and those of n3 unknown");
    let counting = StatusReply { hints_counted: false, ..reply(4, vec![]) };
    let answers = [("h:4".to_owned(), Ok(counting))];
    let asked = question("X", NodeId(3), &answers, &[(NodeId(4), "n4".into())]);
    assert_eq!(asked, "Drop all that waits for X, 0 hints of acknowledged writes included, and those of n4 unknown?");
}

#[track_caller]
fn check_outcome(results: Vec<Result<u64, ()>>, hints: u64, exit: Exit) {
    let result = |result: Result<u64, ()>| {
        result.map(|hints| HintsOrdered { hints, ..HintsOrdered::default() }).map_err(|()| lost().unwrap_err())
    };
    let results = (1..).zip(results).map(|(id, one): (u32, _)| (format!("n{id}"), result(one))).collect();
    let document = Document::new(results).unwrap();
    assert_eq!((document.hints, document.exit()), (hints, exit));
}

#[test]
fn an_order_that_some_did_not_take_is_carried_out_in_part_and_one_that_nobody_took_has_failed() {
    check_outcome(vec![Ok(2), Ok(3)], 5, Exit::Ok);
    check_outcome(vec![Err(()), Ok(3)], 3, Exit::Partly);
    let failure = Document::new(vec![("n1".into(), Err(lost().unwrap_err()))]).unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message().starts_with("no node took the order; n1: "), "{}", failure.message());
}
