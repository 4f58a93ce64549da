//! What is begun when.

use super::*;

use TreeVerdict::{Differs, Elsewhere, Same, Unknown};

#[test]
fn each_tree_is_compared_once_an_interval_more_or_less_and_not_all_at_once() {
    let mut bench = Bench::of(settings(ExchangeConfig::default()), view_of(64, 2, &[]));
    let mut last: BTreeMap<TreeId, Vec<Time>> = BTreeMap::new();
    let (began, mut largest) = (bench.now.time, 0);
    let mut commands = bench.reach(OTHER);
    while bench.now.time.since(began) < Duration::from_secs(1800) {
        if let [ExchangeCommand::Compare { step, trees, .. }] = &commands[..] {
            largest = largest.max(trees.len());
            trees.iter().for_each(|tree| last.entry(*tree).or_default().push(bench.now.time));
            let told = bench.compared(step.0, &vec![Same; trees.len()]);
            let all: Vec<_> = trees.iter().map(|tree| agreed(tree.partition.0, OTHER)).collect();
            assert_eq!(told, all);
        }
        commands = bench.wake();
    }
    assert_eq!((last.len(), largest), (64, 1));
    for times in last.values() {
        assert!(times[0].since(began) <= Duration::from_secs(600), "{times:?}");
        let pauses = times.windows(2).map(|pair| pair[1].since(pair[0]));
        assert!(pauses.into_iter().all(|pause| (540..=660).contains(&pause.as_secs())), "{times:?}");
    }
    let pauses: BTreeSet<u64> = last.values().map(|times| times[1].since(times[0]).as_secs()).collect();
    assert!(pauses.len() >= 16, "{pauses:?}");
    let firsts: BTreeSet<u64> = last.values().map(|times| times[0].since(began).as_secs() / 60).collect();
    assert!(firsts.len() >= 8, "{firsts:?}");
}

#[test]
fn without_an_interval_only_an_order_has_trees_compared_once() {
    let mut bench = Bench::new(2, 3);
    assert_eq!((bench.exchange.poll_timeout(), bench.exchange.status(bench.now).round), (None, None));
    assert_eq!(bench.start(), [compare(1, OTHER, &[0, 1]), compare(2, THIRD, &[0, 1])]);
    assert_eq!(bench.compared(1, &[Same, Same]), [agreed(0, OTHER), agreed(1, OTHER)]);
    let round = |bench: &Bench| bench.exchange.status(bench.now).round;
    assert_eq!(round(&bench), Some(RoundProgress { done: 0, of: 2, eta: None }), "the third has not agreed yet");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.compared(2, &[Same, Unknown]), [agreed(0, THIRD)]);
    let half = RoundProgress { done: 1, of: 2, eta: Some(Duration::from_secs(3)) };
    assert_eq!(round(&bench), Some(half));
    assert_eq!(bench.wake(), [compare(3, THIRD, &[1])], "what is not known yet is asked again");
    assert_eq!(bench.compared(3, &[Same]), [agreed(1, THIRD)]);
    assert_eq!(round(&bench).map(|round| (round.done, round.eta)), Some((2, Some(Duration::ZERO))));
    assert_eq!(bench.exchange.poll_timeout(), None);
    bench.start();
    assert_eq!(round(&bench).map(|round| round.done), Some(0), "all anew");
}

#[test]
fn an_order_may_be_about_some_partitions() {
    let mut bench = Bench::new(4, 2);
    let some = BTreeSet::from([PartitionId(1), PartitionId(3), PartitionId(77)]);
    let asked = bench.act(|exchange, now, out| exchange.start(now, Some(&some), out));
    assert_eq!(asked, [compare(1, OTHER, &[1, 3])]);
    assert_eq!(bench.exchange.status(bench.now).round.map(|round| round.of), Some(2));
}

/// What was told before the order says nothing of what has been written since.
#[test]
fn what_had_begun_before_an_order_is_done_again() {
    let mut bench = Bench::new(1, 2);
    bench.start();
    assert_eq!(bench.start(), []);
    assert_eq!(bench.compared(1, &[Same]), [agreed(0, OTHER), compare(2, OTHER, &[0])]);
    assert_eq!(bench.exchange.status(bench.now).round.map(|round| round.done), Some(0));
    bench.compared(2, &[Differs]);
    bench.start();
    assert_eq!(bench.exchange.status(bench.now).due, 0, "it is under way");
    bench.peer_sums(3, vec![0; 32]);
    assert_eq!(bench.own_sums(4, vec![0; 32]), [agreed(0, OTHER), compare(5, OTHER, &[0])]);
    bench.compared(5, &[Same]);
    assert_eq!(bench.exchange.status(bench.now).round.map(|round| round.done), Some(1));
}

#[test]
fn roots_are_told_by_the_batch_and_no_more_than_can_wait_their_turn() {
    let mut bench = Bench::new(256, 2);
    let partitions: Vec<u16> = (0..256).collect();
    assert_eq!(bench.start(), [compare(1, OTHER, &partitions[..64])]);
    assert_eq!((bench.load(true), bench.load(false)), (vec![], vec![]), "one batch at a time");
    let told = bench.compared(1, &[Same; 64]);
    assert_eq!(told.last(), Some(&compare(2, OTHER, &partitions[64..128])));
    let told = bench.compared(2, &[Differs; 64]);
    assert_eq!((told.len(), begun(&told)), (3, vec![(64, OTHER), (65, OTHER)]));
    assert_eq!(told.last(), Some(&compare(5, OTHER, &partitions[128..192])), "two are under way");
    let told = bench.compared(5, &[Differs; 64]);
    assert_eq!(told, [], "126 wait for their turn");
    assert_eq!(bench.exchange.status(bench.now).due, 126 + 64);
    // What cannot wait waits for no others.
    let lost = Some([tree(250)].into());
    let told = bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out));
    assert_eq!(told, [compare(6, OTHER, &[250])]);
    // Others of its kind it does wait for.
    let mut bench = Bench::new(256, 2);
    let lost = Some((0..256).map(tree).collect());
    bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out));
    assert_eq!(bench.compared(1, &[Differs; 64]).last(), Some(&compare(4, OTHER, &partitions[64..128])));
    assert_eq!(bench.compared(4, &[Differs; 64]), []);
}

#[test]
fn trees_are_asked_of_the_shards_that_have_them() {
    let mut bench = Bench::new(8, 2);
    let answer =
        |verdicts: &[TreeVerdict], shards| Ok(Comparison { shards, rebuilding: false, verdicts: verdicts.to_vec() });
    assert_eq!(bench.start(), [compare(1, OTHER, &[0, 1, 2, 3, 4, 5, 6, 7])]);
    let mixed = [Same, Elsewhere, Elsewhere, Same, Elsewhere, Elsewhere, Same, Elsewhere];
    let told = bench.answered(1, answer(&mixed, 3));
    assert_eq!(told[3..], [compare(2, OTHER, &[1, 4, 7])]);
    let told = bench.answered(2, answer(&[Same, Same, Elsewhere], 3));
    assert_eq!(told[2..], [compare(3, OTHER, &[2, 5])], "one that asked in vain is not asked again at once");
    // It has been restarted with other shards.
    let told = bench.answered(3, answer(&[Same, Elsewhere], 2));
    assert_eq!(told[1..], [compare(4, OTHER, &[5])]);
    bench.answered(4, answer(&[Same], 2));
    assert_eq!(bench.wake(), [compare(5, OTHER, &[7])]);
}

#[test]
fn a_shard_has_its_own_trees_and_a_tree_is_of_one_n() {
    let of = ExchangeSettings { shard: 1, shards: 2, ..settings(by_order()) };
    let mut bench = Bench::of(of, view_of(4, 4, &[("one", 1), ("two", 2), ("more", 2)]));
    let view = view_of(4, 4, &[("one", 1), ("two", 2), ("more", 2)]);
    [OTHER, THIRD, NodeId(4)].into_iter().for_each(|node| assert_eq!(bench.reach(node), []));
    let mut asked: Vec<(TreeId, NodeId)> = Vec::new();
    for command in bench.start() {
        let ExchangeCommand::Compare { peer, trees, .. } = command else { panic!("{command:?}") };
        asked.extend(trees.into_iter().map(|tree| (tree, peer)));
    }
    let mut expected = Vec::new();
    for (partition, (name, n)) in [1, 3].into_iter().flat_map(|at| [("two", 2), ("default", 3)].map(|of| (at, of))) {
        let list = view.preference(PartitionId(partition), &Bucket::new(name).unwrap()).unwrap();
        let others = list.slots().iter().filter(|node| list.slot_of(SELF).is_some() && **node != SELF);
        expected.extend(others.map(|node| (TreeId { partition: PartitionId(partition), n }, *node)));
    }
    asked.sort_unstable();
    expected.sort_unstable();
    assert_eq!(asked, expected);
    assert!(!asked.is_empty());
}

#[test]
fn so_many_trees_are_compared_in_depth_at_a_time() {
    for (concurrency, shards, most) in [(2, 1, 2), (3, 2, 2), (0, 1, 1), (2, 8, 1)] {
        let config = ExchangeConfig { concurrency, ..by_order() };
        let mut bench = Bench::of(ExchangeSettings { shards, ..settings(config) }, view_of(32, 2, &[]));
        bench.reach(OTHER);
        bench.start();
        let told = bench.compared(1, &vec![Differs; 32 / usize::from(shards)]);
        assert_eq!(begun(&told).len(), most, "{concurrency} over {shards}");
    }
}

#[test]
fn a_tree_is_compared_with_one_peer_at_a_time() {
    let mut bench = Bench::new(2, 3);
    bench.start();
    assert_eq!(begun(&bench.compared(1, &[Differs, Same])), [(0, OTHER)]);
    assert_eq!(begun(&bench.compared(2, &[Differs, Same])), []);
    bench.peer_sums(3, vec![0; 32]);
    let told = bench.own_sums(4, vec![0; 32]);
    assert_eq!((&told[0], begun(&told)), (&agreed(0, OTHER), vec![(0, THIRD)]));
}

#[test]
fn a_tree_that_a_peer_compares_is_left_to_it_for_a_while() {
    let mut bench = Bench::new(2, 3);
    assert!(bench.exchange.may_engage(bench.now, tree(0), THIRD));
    bench.exchange.engage(bench.now, tree(0), THIRD);
    bench.load(true);
    bench.load(false);
    assert_eq!(bench.exchange.poll_timeout(), None, "nothing waits for the tree");
    assert!(bench.exchange.may_engage(bench.now, tree(0), THIRD), "it goes on");
    assert!(!bench.exchange.may_engage(bench.now, tree(0), OTHER));
    assert_eq!(bench.start(), [compare(1, OTHER, &[1]), compare(2, THIRD, &[1])]);
    bench.compared(1, &[Same]);
    bench.compared(2, &[Same]);
    assert_eq!(bench.exchange.status(bench.now).waiting, Some(WaitReason::Engaged));
    bench.pass(LEASE - Duration::from_micros(1));
    assert_eq!(bench.act(Exchange::on_timer), []);
    assert!(!bench.exchange.may_engage(bench.now, tree(0), OTHER));
    bench.pass(Duration::from_micros(1));
    assert!(bench.exchange.may_engage(bench.now, tree(0), OTHER));
    assert_eq!(bench.act(Exchange::on_timer), [compare(3, OTHER, &[0]), compare(4, THIRD, &[0])]);
    // Found to differ, engaged in the meantime.
    bench.exchange.engage(bench.now, tree(0), THIRD);
    assert_eq!(bench.compared(3, &[Differs]), []);
    assert_eq!(begun(&bench.lose(THIRD)), [(0, OTHER)], "who is gone compares nothing");
    assert!(!bench.exchange.may_engage(bench.now, tree(0), THIRD), "it is compared with another");
    assert!(bench.exchange.may_engage(bench.now, tree(1), THIRD));
}

/// Both would refuse, and try again, and refuse.
#[test]
fn of_two_that_begin_with_each_other_the_lesser_goes_on() {
    let running = |bench: &Bench| bench.exchange.status(bench.now).running.len();
    let mut greater = Bench::of(ExchangeSettings { node: OTHER, ..settings(by_order()) }, view_of(1, 3, &[]));
    [SELF, THIRD].into_iter().for_each(|node| assert_eq!(greater.reach(node), []));
    greater.start();
    assert_eq!(begun(&greater.compared(1, &[Differs])), [(0, SELF)]);
    assert!(!greater.exchange.may_engage(greater.now, tree(0), THIRD));
    assert!(greater.exchange.may_engage(greater.now, tree(0), SELF));
    greater.exchange.engage(greater.now, tree(0), SELF);
    assert_eq!(running(&greater), 0);
    assert_eq!(greater.peer_sums(3, vec![0; 32]), [], "its own comes to nothing");

    // A third party is not given way to.
    let mut third = Bench::of(ExchangeSettings { node: THIRD, ..settings(by_order()) }, view_of(1, 3, &[]));
    third.reach(OTHER);
    third.start();
    assert_eq!(begun(&third.compared(1, &[Differs])), [(0, OTHER)]);
    assert!(third.exchange.may_engage(third.now, tree(0), OTHER));
    assert!(!third.exchange.may_engage(third.now, tree(0), SELF));

    let mut lesser = Bench::new(1, 2);
    lesser.start();
    lesser.compared(1, &[Differs]);
    assert!(!lesser.exchange.may_engage(lesser.now, tree(0), OTHER));

    let mut late = Bench::of(ExchangeSettings { node: OTHER, ..settings(by_order()) }, view_of(1, 2, &[]));
    late.reach(SELF);
    late.start();
    late.compared(1, &[Differs]);
    late.peer_sums(2, vec![1; 32]);
    assert!(!late.exchange.may_engage(late.now, tree(0), SELF), "its peer has taken part already");
}

#[test]
fn trees_of_a_lost_disk_come_first_and_again_until_they_agree() {
    let mut bench = Bench::of(settings(by_order()), view_of(128, 2, &[]));
    assert_eq!(bench.start(), []);
    let lost = |trees: &[u16]| Some(trees.iter().copied().map(tree).collect());
    let rebuild = |bench: &mut Bench, trees| bench.act(|exchange, now, out| exchange.set_rebuilding(now, trees, out));
    assert_eq!(rebuild(&mut bench, lost(&[100, 120])), []);
    let asked = compared(&bench.reach(OTHER));
    assert_eq!((asked.len(), &asked[..3]), (64, &[tree(100), tree(120), tree(0)][..]));
    let mut verdicts = [Same; 64];
    (verdicts[1], verdicts[2], verdicts[3]) = (Differs, Differs, Differs);
    let answer = Comparison { shards: 1, rebuilding: true, verdicts: verdicts.to_vec() };
    let told = bench.answered(1, Ok(answer));
    assert_eq!(begun(&told), [(120, OTHER), (0, OTHER)], "in depth, too");
    assert!(told.contains(&agreed(100, OTHER)));
    let step = told.iter().find_map(|command| match command {
        ExchangeCommand::Compare { step, .. } => Some(step.0),
        _ => None,
    });
    let answer = Comparison { shards: 1, rebuilding: false, verdicts: vec![Same; 64] };
    bench.answered(step.unwrap(), Ok(answer));
    // A peer that has lost its own disk has said nothing by that.
    let again = bench.wake();
    let pause = bench.now.time.since(Time::from_micros(SECOND));
    assert_eq!(compared(&again), [tree(100)]);
    assert!((Duration::from_secs(3)..=Duration::from_secs(5)).contains(&pause), "{pause:?}");
    let [ExchangeCommand::Compare { step, .. }] = again[..] else { panic!("{again:?}") };
    assert_eq!(bench.compared(step.0, &[Unknown]), []);
    let again = bench.wake();
    assert_eq!(compared(&again), [tree(100)]);
    let [ExchangeCommand::Compare { step, .. }] = again[..] else { panic!("{again:?}") };
    assert_eq!(bench.compared(step.0, &[Same]), [agreed(100, OTHER)]);
    assert_eq!(bench.exchange.poll_timeout(), None, "that was all");
    assert_eq!(rebuild(&mut bench, lost(&[100, 120])), [], "nothing new");
}

/// It may be known before the ring is.
#[test]
fn trees_of_a_lost_disk_are_due_as_soon_as_the_ring_is_known() {
    let now = Now { time: Time::from_micros(SECOND), wall_ms: 2000 };
    let mut bench = Bench::blank(settings(ExchangeConfig::default()), now);
    bench.reach(OTHER);
    let lost = Some([tree(1)].into());
    bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out));
    let told = bench.act(|exchange, now, out| exchange.on_ring(now, view_of(2, 2, &[]), out));
    assert_eq!(told, [compare(1, OTHER, &[1])]);
}

#[test]
fn failures_put_off_a_tree_of_a_lost_disk_for_seconds_only() {
    let mut bench = Bench::new(1, 2);
    let trees = Some([tree(0)].into());
    let asked = bench.act(|exchange, now, out| exchange.set_rebuilding(now, trees, out));
    assert_eq!(asked, [compare(1, OTHER, &[0])]);
    for step in 1..10 {
        bench.compared(step, &[Unknown]);
        let pause = bench.exchange.poll_timeout().expect("it is asked again").since(bench.now.time);
        assert!(pause <= Duration::from_secs(4), "{pause:?}");
        assert_eq!(bench.wake(), [compare(step + 1, OTHER, &[0])]);
    }
    // It is filled, for others at least.
    bench.act(|exchange, now, out| exchange.set_rebuilding(now, None, out));
    bench.compared(10, &[Unknown]);
    let pause = bench.exchange.poll_timeout().expect("it is asked again").since(bench.now.time);
    assert!(pause > Duration::from_secs(60), "{pause:?}");
}

#[test]
fn by_a_new_ring_everything_under_way_is_begun_anew() {
    let mut bench = Bench::new(2, 2);
    bench.start();
    bench.compared(1, &[Differs, Same]);
    let view = view_of(2, 2, &[]);
    let same = view.clone();
    assert_eq!(bench.act(|exchange, now, out| exchange.on_ring(now, same, out)), []);
    assert_eq!(bench.exchange.status(bench.now).running.len(), 1, "the same ring changes nothing");
    let layout = view.layout();
    let (owners, members) = (layout.owners().to_vec(), (1..=3).map(member).collect());
    let next = Layout::new(
        RingVersion(2),
        layout.partitions(),
        owners,
        members,
        Vec::new(),
        [(Bucket::default(), BucketConfig::default())].into(),
    );
    let next = Arc::new(RingView::new(next.unwrap(), view.cluster()));
    let told = bench.act(|exchange, now, out| exchange.on_ring(now, next.clone(), out));
    assert_eq!(told, [compare(3, OTHER, &[0])]);
    assert_eq!(bench.peer_sums(2, vec![1; 32]), [], "it went by the old ring");
    // The same while roots are being compared.
    bench.exchange.planned = None;
    let told = bench.act(|exchange, now, out| exchange.on_ring(now, next, out));
    assert_eq!(told, [compare(4, OTHER, &[0])]);
    assert_eq!(bench.compared(3, &[Same]), [], "it went by the old ring");
    assert_eq!(bench.compared(4, &[Same]), [agreed(0, OTHER)]);
    // Those with a new replica belong to the round as before.
    let status = bench.exchange.status(bench.now);
    assert_eq!((status.waiting, status.due), (Some(WaitReason::Away(vec![THIRD])), 2));
    assert_eq!(status.round, Some(RoundProgress { done: 0, of: 2, eta: None }));
    assert_eq!(bench.reach(THIRD), [compare(5, THIRD, &[0, 1])]);
    bench.compared(5, &[Same, Same]);
    assert_eq!(bench.exchange.status(bench.now).round.map(|round| round.done), Some(2));
    // A ring without this node.
    bench.exchange.set_node(NodeId(9));
    assert_eq!(bench.act(|exchange, now, out| exchange.on_ring(now, view, out)), []);
    assert_eq!(bench.exchange.status(bench.now).round.map(|round| round.of), Some(0));
    assert_eq!(bench.start(), []);
}

#[test]
fn a_node_alone_has_nobody_to_compare_with() {
    let mut bench = Bench::new(2, 1);
    assert_eq!((bench.start(), bench.exchange.poll_timeout()), (vec![], None));
    let status = bench.exchange.status(bench.now);
    assert_eq!((status.due, status.waiting), (0, None));
    assert_eq!(status.round, Some(RoundProgress { done: 0, of: 0, eta: None }));
}

#[cfg(feature = "mutants")]
#[test]
fn a_planted_bug_leaves_out_the_last_partition() {
    use crate::mutant::{Mutant, plant};
    let _planted = plant(Mutant::ExchangeSkipsLastPartition);
    assert_eq!(Bench::new(4, 2).start(), [compare(1, OTHER, &[0, 1, 2])]);
}

/// A session that a peer's has put an end to goes on once the peer's is over, though nothing else ever happens.
#[test]
fn what_a_lease_has_ended_is_begun_again_after_it() {
    let mut bench = Bench::new(1, 2);
    bench.start();
    assert_eq!(begun(&bench.compared(1, &[Differs])), [(0, OTHER)]);
    let now = bench.now;
    bench.exchange.engage(now, tree(0), OTHER);
    let wake = bench.exchange.poll_timeout().expect("it waits for the lease to end");
    assert_eq!(wake, now.time + LEASE);
}

/// What was compared before something was lost says nothing.
#[test]
fn a_comparison_from_before_a_loss_agrees_with_nobody() {
    let mut bench = Bench::new(1, 2);
    assert_eq!(bench.start(), [compare(1, OTHER, &[0])]);
    let lose = |exchange: &mut Exchange, now, out: &mut Vec<_>| exchange.on_lost(now, tree(0), out);
    assert_eq!(bench.act(lose), []);
    assert_eq!(bench.compared(1, &[Same]), [compare(2, OTHER, &[0])]);
    assert_eq!(bench.compared(2, &[Same]), [agreed(0, OTHER)]);
}
