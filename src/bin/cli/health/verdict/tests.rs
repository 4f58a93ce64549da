//! What is said of a cluster, by what its nodes say.

use dynkv::api::MemberStatus;
use dynkv::client::ClientError;
use dynkv::ring::{BucketConfig, Layout, Member, Partitions, Weight};
use dynkv::types::{Bucket, ClusterId, Generation, RingVersion};

use super::super::super::status::tests::{backlog, lost, member, reply};
use super::*;

fn members() -> Vec<MemberStatus> {
    (1..=3).map(|id| member(id, true, "aa")).collect()
}

/// Three members, of whom the third is seen so.
fn with_third(change: impl Fn(&mut MemberStatus)) -> Vec<MemberStatus> {
    let mut seen = members();
    change(&mut seen[2]);
    seen
}

fn well(id: u64) -> StatusReply {
    reply(id, members())
}

/// What is wrong, apart from the ring, which nobody has told.
#[track_caller]
fn check(answers: Vec<Result<StatusReply, ClientError>>, problems: &[&str]) {
    let answers: Vec<_> = answers.into_iter().map(|answer| ("h".to_owned(), answer)).collect();
    let mut found = Health::of(None, &answers);
    let without_ring = found.problems.iter().position(|problem| problem == "no node tells the ring");
    found.problems.remove(without_ring.expect("a ring that nobody tells is a problem"));
    assert_eq!(found.problems, problems);
    assert!(!found.healthy);
}

/// One node is so, the two others are well.
#[track_caller]
fn check_one(one: StatusReply, problems: &[&str]) {
    let mut answers: Vec<_> = (1..=3).filter(|id| *id != one.node.0).map(|id| Ok(well(id))).collect();
    answers.push(Ok(one));
    check(answers, problems);
}

#[test]
fn a_whole_cluster_has_no_problems() {
    check((1..=3).map(|id| Ok(well(id))).collect(), &[]);
}

#[test]
fn the_majority_of_views_says_who_is_up() {
    let unseen = |id| Ok(reply(id, with_third(|third| third.up = false)));
    let convicts = |id| Ok(reply(id, with_third(|third| third.convicted = true)));
    check(vec![unseen(1), unseen(2), lost()], &["n3 is down: 0 of 2 nodes hold it to be up"]);
    check(vec![convicts(1), unseen(2), lost()], &["n3 is down: 0 of 2 nodes hold it to be up"]);
    check(vec![convicts(1), Ok(well(2)), lost()], &["n3 is down: 1 of 2 nodes hold it to be up"]);
    check(vec![unseen(1), Ok(well(2)), Ok(well(3))], &["n3 is up, and 1 of 3 nodes do not reach it"]);
    check(vec![convicts(1), Ok(well(2)), Ok(well(3))], &["n3 is up, and 1 of 3 nodes do not reach it"]);
    check(vec![Ok(well(1)), Ok(well(2)), lost()], &["n3 answers its peers and not this client"]);
}

#[test]
fn a_node_without_a_ring_has_no_say_in_who_is_up() {
    let blank = || StatusReply { ring_version: None, phase: Phase::Joining, ..reply(3, vec![]) };
    check(vec![Ok(well(1)), Ok(well(2)), Ok(blank())], &["n3 is joining"]);
    let unborn = |id| Ok(StatusReply { ring_version: None, phase: Phase::Joining, ..well(id) });
    check(vec![unborn(1), unborn(2), unborn(3)], &["n1 is joining", "n2 is joining", "n3 is joining"]);
    let unseen = || Ok(reply(1, with_third(|third| third.up = false)));
    let one_of_two = "n3 is down: 1 of 2 nodes hold it to be up";
    check(vec![unseen(), Ok(well(2)), Ok(blank())], &[one_of_two, "n3 is joining"]);
}

#[test]
fn what_a_node_says_of_itself_is_looked_at() {
    let disk = |free_bytes, capacity_bytes| StatusReply { free_bytes, capacity_bytes, ..well(1) };
    check_one(disk(9, 100), &["n1's disk is nearly full: 9 B of 100 B left"]);
    check_one(disk(10, 100), &[]);
    check_one(disk(0, 0), &[]);
    let phase = |phase, note: &str| StatusReply { phase, waiting_for: note.into(), ..well(2) };
    check_one(phase(Phase::ReadOnly, ""), &["n2 takes no writes"]);
    check_one(phase(Phase::Draining, "2 requests"), &["n2 is draining: 2 requests"]);
    let counts = |reply| StatusReply { hints_counted: false, ..reply };
    check_one(counts(well(1)), &["n1 still counts the hints that it keeps"]);
    // it has not begun to
    check_one(counts(phase(Phase::Joining, "n9")), &["n2 is joining: n9"]);
    let keeps = StatusReply { hints: vec![backlog(2, 1, 0), backlog(3, 2, 0)], ..well(1) };
    check_one(keeps, &["3 hints of 300 B wait for nodes that missed writes"]);
    check_one(reply(1, with_third(|third| third.rebuilding = true)), &["n3 is rebuilding its disk"]);
}

#[test]
fn members_that_are_up_follow_one_ring() {
    let strays = |id| Ok(reply(id, with_third(|third| third.ring = Some("bb".into()))));
    check((1..=3).map(strays).collect(), &["members follow 2 different rings"]);
    let gone = |third: &mut MemberStatus| (third.up, third.ring) = (false, Some("bb".into()));
    let down = |id| Ok(reply(id, with_third(gone)));
    check(vec![down(1), down(2), lost()], &["n3 is down: 0 of 2 nodes hold it to be up"]);
}

/// Whoever has not heard of a member since its restart knows an old ring of it.
#[test]
fn a_members_ring_is_that_of_its_latest_run() {
    let old = |third: &mut MemberStatus| (third.generation, third.ring) = (Some(Generation(2)), Some("bb".into()));
    check(vec![Ok(well(3)), Ok(well(2)), Ok(reply(1, with_third(old)))], &[]);
    check(vec![Ok(reply(1, with_third(old))), Ok(well(2)), Ok(well(3))], &[]);
}

#[test]
fn the_newest_ring_says_who_is_a_member() {
    let newer = StatusReply { ring_version: Some(RingVersion(2)), ..well(1) };
    let older = reply(2, members()[..2].to_vec());
    check(vec![Ok(newer), Ok(older)], &["n3 is down: 1 of 2 nodes hold it to be up"]);
}

/// How a node is.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Down,
    Rebuilding,
    In(Phase),
}

const WELL: Is = Is::In(Phase::Serving);

/// Eight partitions of a bucket with three replicas, and of one with a single replica.
fn ring() -> RingView {
    let member = |id: u64| Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "z".into(),
        weight: Weight::ONE,
        address: format!("h:{id}"),
    };
    let single = (Bucket::new("single").unwrap(), BucketConfig { n: 1, ..BucketConfig::default() });
    let layout = Layout::birth(Partitions::new(8).unwrap(), (1..=3).map(member).collect(), [single].into()).unwrap();
    RingView::new(layout, ClusterId([1; 16]))
}

/// Ranges of `n1`, `n2` and `n3`, each of which is as it is, that have no quorum of readers, and of writers.
fn lacking(nodes: [Is; 3]) -> Health {
    let all = || (1..).zip(nodes);
    let seen =
        |(id, is): (u64, Is)| MemberStatus { rebuilding: is == Is::Rebuilding, ..member(id, is != Is::Down, "aa") };
    let answer = |(id, is): (u64, Is)| {
        let phase = if let Is::In(phase) = is { phase } else { Phase::Serving };
        let answer =
            if is == Is::Down { lost() } else { Ok(StatusReply { phase, ..reply(id, all().map(seen).collect()) }) };
        (format!("h:{id}"), answer)
    };
    Health::of(Some(&ring()), &all().map(answer).collect::<Vec<_>>())
}

/// Whether the ranges with three replicas lack a quorum, and whose ranges with a single replica do: of readers, of writers.
#[track_caller]
fn check_ranges(nodes: [Is; 3], reads: (bool, &[u64]), writes: (bool, &[u64])) {
    let view = ring();
    let owned = |nodes: &[u64]| view.layout().owners().iter().filter(|owner| nodes.contains(&owner.0)).count() as u64;
    let [reads, writes] = [reads, writes].map(|(shared, single)| u64::from(shared) * 8 + owned(single));
    let Health { ranges, ranges_without_read_quorum, ranges_without_write_quorum, problems, .. } = lacking(nodes);
    assert_eq!((ranges, ranges_without_read_quorum, ranges_without_write_quorum), (16, reads, writes));
    let say = |lacking: u64, what: &str| {
        (lacking > 0).then(|| format!("{lacking} of 16 ranges have no {what} quorum of live primaries"))
    };
    let said: Vec<String> = problems.into_iter().filter(|problem| problem.contains("ranges")).collect();
    assert_eq!(said, say(reads, "read").into_iter().chain(say(writes, "write")).collect::<Vec<_>>());
}

#[test]
fn a_range_has_a_quorum_as_long_as_most_of_its_primaries_serve() {
    use Is::{Down, In, Rebuilding};
    check_ranges([WELL, WELL, WELL], (false, &[]), (false, &[]));
    check_ranges([WELL, WELL, Down], (false, &[3]), (false, &[3]));
    check_ranges([WELL, WELL, Rebuilding], (false, &[3]), (false, &[]));
    check_ranges([WELL, WELL, In(Phase::ReadOnly)], (false, &[]), (false, &[3]));
    check_ranges([WELL, WELL, In(Phase::Joining)], (false, &[3]), (false, &[3]));
    check_ranges([WELL, WELL, In(Phase::Draining)], (false, &[]), (false, &[]));
    check_ranges([WELL, Rebuilding, Down], (true, &[2, 3]), (false, &[3]));
    check_ranges([WELL, In(Phase::ReadOnly), Down], (false, &[3]), (true, &[2, 3]));
    check_ranges([WELL, Down, Down], (true, &[2, 3]), (true, &[2, 3]));
}

#[test]
fn a_cluster_without_problems_is_healthy() {
    assert!(lacking([WELL; 3]).healthy);
    assert!(!lacking([WELL, WELL, Is::Down]).healthy);
}
