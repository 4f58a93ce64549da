//! Rows and problems, by what nodes say; and what other tests build answers of.

use dynkv::antientropy::HintBacklog;
use dynkv::client::ClientError;
use dynkv::types::{ClusterId, DiskId, Generation, NodeId, RingVersion};

use super::*;

pub fn member(id: u64, up: bool, ring: &str) -> MemberStatus {
    MemberStatus {
        node: NodeId(id),
        name: format!("n{id}"),
        zone: "z".into(),
        address: format!("h:{id}"),
        up,
        convicted: false,
        phi: Some(0.25),
        heartbeat_age_ms: Some(400),
        rebuilding: false,
        generation: Some(Generation(3)),
        disk: Some(DiskId(id)),
        partitions: 128,
        ring: Some(ring.into()),
    }
}

pub fn reply(id: u64, members: Vec<MemberStatus>) -> StatusReply {
    StatusReply {
        node: NodeId(id),
        name: format!("n{id}"),
        cluster: Some(ClusterId([1; 16])),
        cluster_name: "dev".into(),
        ring_version: Some(RingVersion(1)),
        phase: Phase::Serving,
        waiting_for: String::new(),
        uptime_s: 5,
        keys: 7,
        disk_bytes: 9,
        free_bytes: 11,
        capacity_bytes: 20,
        members,
        hints: Vec::new(),
        hints_counted: true,
        repair: None,
    }
}

/// Of 100 bytes each, given in the sixth second of 1970.
pub fn backlog(target: u64, hints: u64, rate: u64) -> HintBacklog {
    let (target, bytes, oldest_wall_ms) = (NodeId(target), hints * 100, 5000);
    HintBacklog { target, hints, counted: 1, bytes, oldest_wall_ms, replayed: 0, rate }
}

pub fn lost() -> Result<StatusReply, ClientError> {
    Err(ClientError::Unreachable { tried: vec!["h:2: no".into()] })
}

#[test]
fn a_whole_cluster_is_not_degraded() {
    let members = || vec![member(10, true, "aa"), member(2, true, "aa")];
    let document = assemble(&[("h:10".into(), Ok(reply(10, members()))), ("h:2".into(), Ok(reply(2, members())))]);
    assert!(!document.degraded, "{:?}", document.problems);
    let rows: Vec<_> = document.members.iter().map(|row| (&*row.state, &*row.name, row.owned_percent)).collect();
    assert_eq!(rows, [("UN", "n2", 50.0), ("UN", "n10", 50.0)]);
}

#[test]
fn a_member_that_is_down_is_told_from_one_that_only_this_client_misses() {
    let answers = |up| {
        vec![
            ("h:1".to_owned(), Ok(reply(1, vec![member(1, true, "aa"), member(2, up, "aa")]))),
            ("h:2".to_owned(), lost()),
        ]
    };
    let document = assemble(&answers(false));
    assert_eq!((document.members[1].state.as_str(), document.problems.clone()), ("DN", vec!["n2 is down".to_owned()]));
    let document = assemble(&answers(true));
    assert_eq!(document.members[1].state, "U?");
    assert_eq!(document.problems, ["n2 answers its peers and not this client"]);
    assert_eq!(document.unreachable[0].address, "h:2");
}

#[test]
fn who_is_held_for_dead_is_down_unless_it_answers() {
    let convicted = || MemberStatus { convicted: true, phi: Some(9.5), ..member(2, true, "aa") };
    let first = || ("h:1".to_owned(), Ok(reply(1, vec![member(1, true, "aa"), convicted()])));
    let document = assemble(&[first(), ("h:2".to_owned(), lost())]);
    assert_eq!((document.members[1].state.as_str(), document.members[1].phi), ("DN", Some(9.5)));
    assert_eq!(document.problems, ["n2 is down"]);
    let second = reply(2, vec![member(1, true, "aa"), member(2, true, "aa")]);
    let document = assemble(&[first(), ("h:2".to_owned(), Ok(second))]);
    assert_eq!(document.members[1].state, "UN");
    assert_eq!(document.problems, ["n2 is up, and held for dead by n1"]);
}

#[test]
fn rings_that_differ_and_unborn_nodes_are_problems() {
    let document = assemble(&[("h:1".into(), Ok(reply(1, vec![member(1, true, "aa"), member(2, true, "bb")])))]);
    assert!(document.problems.contains(&"members follow 2 different rings".to_owned()));
    let mut waiting = reply(4, vec![]);
    (waiting.phase, waiting.waiting_for, waiting.ring_version) = (Phase::Joining, "2 more founders".into(), None);
    let document = assemble(&[("h:4".into(), Ok(waiting))]);
    assert_eq!(document.problems, ["n4 is joining or rebuilding (2 more founders)"]);
    assert_eq!(document.members[0].address, "h:4");
}

/// What `n1` and `n3` say of `n2`, which says nothing itself.
fn row_of_second(one: MemberStatus, three: MemberStatus) -> Row {
    let say = |id, second| (format!("h:{id}"), Ok(reply(id, vec![member(1, true, "aa"), second])));
    assemble(&[say(1, one), ("h:2".to_owned(), lost()), say(3, three)]).members.remove(1)
}

#[test]
fn the_letters_say_what_a_node_does() {
    let letter = |phase, rebuilding| {
        let members = vec![MemberStatus { rebuilding, ..member(1, true, "aa") }];
        assemble(&[("h:1".to_owned(), Ok(StatusReply { phase, ..reply(1, members) }))]).members.remove(0).state
    };
    let letters = [Phase::Serving, Phase::Joining, Phase::Draining, Phase::ReadOnly].map(|phase| letter(phase, false));
    assert_eq!((letters, letter(Phase::Serving, true)), (["UN", "UJ", "UL", "UX"].map(str::to_owned), "UJ".to_owned()));
    let lost = |up, rebuilding| {
        let seen = || MemberStatus { rebuilding, ..member(2, up, "aa") };
        row_of_second(seen(), seen()).state
    };
    assert_eq!([lost(true, true), lost(false, true), lost(true, false), lost(false, false)], ["UJ", "DJ", "U?", "DN"]);
}

#[test]
fn who_answers_is_up_although_it_knows_no_ring_yet() {
    let one = reply(1, vec![member(1, true, "aa"), member(2, false, "aa")]);
    let two = StatusReply { phase: Phase::Joining, ring_version: None, ..reply(2, vec![]) };
    let document = assemble(&[("h:1".to_owned(), Ok(one)), ("h:2".to_owned(), Ok(two))]);
    assert_eq!(document.problems, ["n2 is joining or rebuilding"]);
}

#[test]
fn of_what_others_say_of_a_node_the_newest_and_the_worst_is_shown() {
    let newer = || MemberStatus { generation: Some(Generation(4)), disk: Some(DiskId(8)), ..member(2, true, "bb") };
    let worse = || MemberStatus { phi: Some(3.5), heartbeat_age_ms: Some(900), ..member(2, true, "aa") };
    for row in [row_of_second(newer(), worse()), row_of_second(worse(), newer())] {
        let disk = Some(DiskId(8).to_string());
        assert_eq!((row.generation, row.disk, row.ring.as_deref()), (Some(4), disk, Some("bb")));
        assert_eq!((row.phi, row.heartbeat_age_ms), (Some(3.5), Some(400)));
    }
}

#[test]
fn the_newest_ring_says_who_is_a_member_and_owns_what() {
    let whole = MemberStatus { partitions: 192, ..member(1, true, "aa") };
    let small = MemberStatus { partitions: 64, ..member(2, true, "aa") };
    let newer = StatusReply { ring_version: Some(RingVersion(2)), ..reply(1, vec![whole, small]) };
    let older = reply(2, vec![member(2, true, "aa")]);
    let document = assemble(&[("h:1".to_owned(), Ok(newer)), ("h:2".to_owned(), Ok(older))]);
    let rows: Vec<_> = document.members.iter().map(|row| (&*row.name, row.owned_percent)).collect();
    assert_eq!((document.ring_version, rows), (Some(2), vec![("n1", 75.0), ("n2", 25.0)]));
    // a ring is cut into any power of two
    let half = || MemberStatus { partitions: 8, ..member(1, true, "aa") };
    let document =
        assemble(&[("h:1".to_owned(), Ok(reply(1, vec![half(), MemberStatus { node: NodeId(2), ..half() }])))]);
    assert_eq!(document.members[0].owned_percent, 50.0);
}

#[test]
fn hints_are_added_up_by_holder_and_by_target() {
    let members = || vec![member(1, true, "aa"), member(2, true, "aa")];
    let one = StatusReply { hints: vec![backlog(2, 3, 0), backlog(9, 4, 0)], ..reply(1, members()) };
    let two = StatusReply { hints: vec![backlog(1, 5, 0)], hints_counted: false, ..reply(2, members()) };
    let document = assemble(&[("h:1".to_owned(), Ok(one)), ("h:2".to_owned(), Ok(two))]);
    let rows: Vec<_> = document.members.iter().map(|row| (row.hints_kept, row.hints_for)).collect();
    assert_eq!(rows, [(Some(7), 5), (None, 3)]);
    assert_eq!((document.hints, document.hint_bytes, document.exit()), (12, 1200, Exit::Ok));
    let said = "12 hints of 1.2 KiB wait for nodes that missed writes: see `dynkv-cli hints list`";
    assert_eq!(document.hints_line().as_deref(), Some(said));
    let without = assemble(&[("h:1".to_owned(), Ok(reply(1, members()))), ("h:2".to_owned(), lost())]);
    assert_eq!((without.hints_line(), without.exit()), (None, Exit::Degraded));
}
