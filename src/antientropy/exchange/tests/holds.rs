//! What holds an exchange up: peers that fail, load, orders, rates.

use super::*;

use TreeVerdict::{Differs, NotAReplica, Same};

#[test]
fn a_peer_that_is_busy_with_a_tree_is_asked_about_others() {
    let mut bench = Bench::new(4, 2);
    bench.start();
    assert_eq!(begun(&bench.compared(1, &[Differs, Differs, Differs, Same])), [(0, OTHER), (1, OTHER)]);
    let busy = Err(ExchangeFailure::Busy);
    let told = bench.act(|exchange, now, out| exchange.on_peer_sums(now, Step(2), busy, out));
    assert_eq!(begun(&told), [(2, OTHER)]);
    let wake = bench.exchange.poll_timeout().expect("it is asked again").since(bench.now.time);
    assert!((Duration::from_secs(2)..=Duration::from_secs(4)).contains(&wake), "{wake:?}");
    assert_eq!(bench.wake(), [compare(5, OTHER, &[0])]);
}

#[test]
fn a_peer_that_fails_is_left_in_peace_for_a_while() {
    let too_few = Comparison { shards: 1, rebuilding: false, verdicts: vec![Same] };
    let no_shards = Comparison { shards: 0, rebuilding: false, verdicts: vec![Same; 2] };
    let answers = [Err(ExchangeFailure::Unanswered), Ok(too_few), Ok(no_shards)];
    for answer in answers {
        let mut bench = Bench::new(2, 2);
        bench.start();
        assert_eq!(bench.answered(1, answer), []);
        assert_eq!(bench.exchange.status(bench.now).waiting, None, "nothing is due yet");
        let lost = Some([tree(1)].into());
        assert_eq!(bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out)), []);
        assert_eq!(bench.exchange.status(bench.now).waiting, Some(WaitReason::Failing(vec![OTHER])));
        let wake = bench.exchange.poll_timeout().expect("it tries again").since(bench.now.time);
        assert!((Duration::from_millis(100)..=Duration::from_millis(200)).contains(&wake), "{wake:?}");
        bench.lose(OTHER);
        assert_eq!(bench.reach(OTHER), [compare(2, OTHER, &[1])], "it may have been away");
    }
    let mut bench = Bench::new(2, 2);
    bench.start();
    bench.compared(1, &[Differs, Differs]);
    let fails = |exchange: &mut Exchange, now, out: &mut Vec<_>| {
        exchange.on_peer_sums(now, Step(2), Err(ExchangeFailure::Unanswered), out);
        exchange.on_peer_sums(now, Step(3), Err(ExchangeFailure::Unanswered), out);
    };
    assert_eq!(bench.act(fails), []);
    let wake = bench.exchange.poll_timeout().expect("it tries again").since(bench.now.time);
    assert!((Duration::from_millis(100)..=Duration::from_millis(200)).contains(&wake), "{wake:?}");
    // An order tries at once.
    assert_eq!(bench.start(), [compare(4, OTHER, &[0, 1])]);
}

/// It has nothing to give but what it has got since, and could only refuse what comes.
#[test]
fn what_has_to_be_filled_waits_until_this_node_takes_writes() {
    let mut bench = Bench::new(2, 2);
    let read_only = |bench: &mut Bench, is| bench.act(|exchange, now, out| exchange.set_read_only(now, is, out));
    let lost = Some([tree(1)].into());
    assert_eq!(read_only(&mut bench, true), []);
    assert_eq!(bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out)), []);
    let status = bench.exchange.status(bench.now);
    assert_eq!((status.waiting, bench.exchange.poll_timeout()), (Some(WaitReason::ReadOnly), None));
    assert_eq!(bench.start(), [compare(1, OTHER, &[0])], "it sends what others lack");
    bench.compared(1, &[Same]);
    assert_eq!(read_only(&mut bench, false), [compare(2, OTHER, &[1])]);

    let mut bench = Bench::new(2, 2);
    let unjoined = |bench: &mut Bench, of: &[u16]| {
        let of = of.iter().copied().map(PartitionId).collect();
        bench.act(|exchange, now, out| exchange.set_unjoined(now, of, out))
    };
    assert_eq!(unjoined(&mut bench, &[0, 1]), []);
    assert_eq!(bench.start(), []);
    assert_eq!(bench.exchange.status(bench.now).waiting, Some(WaitReason::Rounds));
    assert_eq!(unjoined(&mut bench, &[0]), [compare(1, OTHER, &[1])]);
    assert_eq!(unjoined(&mut bench, &[]), [], "one batch at a time");
    assert_eq!(bench.compared(1, &[Same]), [agreed(1, OTHER), compare(2, OTHER, &[0])]);
}

/// Or a full node would no longer send its peer what that lacks of others.
#[test]
fn trees_that_wait_to_be_filled_keep_no_others_from_being_compared() {
    let mut bench = Bench::new(256, 2);
    let parts: Vec<u16> = (0..256).collect();
    let lost = Some((0..128).map(tree).collect());
    let first = bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out));
    assert_eq!(first, [compare(1, OTHER, &parts[..64])]);
    let then = bench.compared(1, &[Differs; 64]);
    assert_eq!((begun(&then).len(), then.last()), (2, Some(&compare(4, OTHER, &parts[64..128]))));
    assert_eq!(bench.compared(4, &[Differs; 64]), []);
    assert_eq!(bench.act(|exchange, now, out| exchange.set_read_only(now, true, out)), []);
    assert_eq!(bench.start(), [compare(5, OTHER, &parts[128..192])]);
}

#[test]
fn a_tree_that_cannot_wait_does_not_wait_behind_one_that_cannot_begin() {
    let mut bench = Bench::new(256, 2);
    let parts: Vec<u16> = (0..256).collect();
    let first = bench.act(|exchange, now, out| exchange.set_rebuilding(now, Some([tree(0)].into()), out));
    assert_eq!(first, [compare(1, OTHER, &[0])]);
    bench.exchange.engage(bench.now, tree(0), THIRD);
    assert_eq!(bench.compared(1, &[Differs]), []);
    assert_eq!(bench.start(), [compare(2, OTHER, &parts[1..65])]);
    assert_eq!(bench.compared(2, &[Differs; 64]).last(), Some(&compare(5, OTHER, &parts[65..129])));
    assert_eq!(bench.compared(5, &[Differs; 64]), []);
    let lost = bench.act(|exchange, now, out| exchange.on_lost(now, tree(200), out));
    assert_eq!(lost, [compare(6, OTHER, &[200])]);
}

/// It is no fault of the peer's.
#[test]
fn an_own_tree_that_is_not_known_yet_stands_in_no_other_ones_way() {
    let mut bench = Bench::new(4, 2);
    bench.start();
    bench.compared(1, &[Differs, Differs, Differs, Same]);
    bench.peer_sums(2, vec![0; 32]);
    assert_eq!(begun(&bench.act(|exchange, now, out| exchange.on_own_sums(now, Step(4), None, out))), [(2, OTHER)]);
}

#[test]
fn roots_that_are_not_known_yet_are_no_fault_of_the_peers() {
    let mut bench = Bench::new(2, 2);
    let ordered = BTreeSet::from([PartitionId(0)]);
    let asked = bench.act(|exchange, now, out| exchange.start(now, Some(&ordered), out));
    assert_eq!(asked, [compare(1, OTHER, &[0])]);
    assert_eq!(bench.answered(1, Err(ExchangeFailure::Unknown)), []);
    let lost = Some([tree(1)].into());
    let asked = bench.act(|exchange, now, out| exchange.set_rebuilding(now, lost, out));
    assert_eq!(asked, [compare(2, OTHER, &[1])]);
    assert_eq!(bench.wake(), [], "one batch at a time");
    assert_eq!(bench.compared(2, &[Same]), [agreed(1, OTHER), compare(3, OTHER, &[0])]);
}

#[test]
fn who_says_it_is_no_replica_is_asked_again_later_each_time() {
    let mut bench = Bench::new(1, 2);
    bench.start();
    let mut longest = 2;
    for step in 1..12 {
        assert_eq!(bench.compared(step, &[NotAReplica]), []);
        let pause = bench.exchange.poll_timeout().expect("it is asked again").since(bench.now.time);
        assert!((Duration::from_secs(longest) / 2..=Duration::from_secs(longest)).contains(&pause), "{pause:?}");
        assert_eq!(bench.wake(), [compare(step + 1, OTHER, &[0])]);
        longest = (longest * 2).min(600);
    }
    bench.compared(12, &[NotAReplica]);
    assert_eq!(bench.start(), [compare(13, OTHER, &[0])]);
    bench.compared(13, &[NotAReplica]);
    let pause = bench.exchange.poll_timeout().expect("it is asked again").since(bench.now.time);
    assert!(pause <= Duration::from_secs(2), "an order begins anew: {pause:?}");
}

#[test]
fn under_load_what_runs_ends_its_step_and_nothing_is_begun() {
    let mut bench = Bench::new(2, 2);
    bench.start();
    bench.compared(1, &[Differs, Same]);
    assert_eq!(bench.load(true), []);
    assert_eq!(bench.peer_sums(2, vec![1; 32]), []);
    assert_eq!(bench.start(), []);
    let status = bench.exchange.status(bench.now);
    assert_eq!((status.waiting, status.running.len()), (Some(WaitReason::Load), 1));
    assert_eq!(bench.load(false), [own_step(3), compare(4, OTHER, &[1])]);
    // Its peer does not wait for ever, and neither do others for the tree.
    bench.load(true);
    assert_eq!(bench.own_sums(3, vec![0; 32]), []);
    assert!(!bench.exchange.may_engage(bench.now, tree(0), OTHER));
    assert_eq!(bench.exchange.poll_timeout(), Some(bench.now.time + LEASE));
    assert_eq!(bench.wake(), []);
    assert!(bench.exchange.may_engage(bench.now, tree(0), OTHER));
    assert_eq!((bench.exchange.poll_timeout(), bench.exchange.status(bench.now).running), (None, vec![]));
    assert_eq!(bench.compared(4, &[Same]), [agreed(1, OTHER)], "an answer costs nothing");
    assert_eq!(bench.load(false), [compare(5, OTHER, &[0])]);
}

fn own_step(step: u64) -> ExchangeCommand {
    ExchangeCommand::OwnSums { step: Step(step), spec: spec(SumsOf::Branches) }
}

#[test]
fn an_order_to_pause_holds_until_it_is_taken_back() {
    let mut bench = Bench::new(2, 2);
    bench.start();
    bench.compared(1, &[Differs, Same]);
    assert_eq!(bench.act(Exchange::pause), []);
    assert_eq!(bench.exchange.status(bench.now).running.len(), 1, "its step is under way");
    assert_eq!(bench.peer_sums(2, vec![1; 32]), []);
    assert_eq!(bench.start(), []);
    let status = bench.exchange.status(bench.now);
    assert_eq!((status.paused, status.waiting, status.running), (true, Some(WaitReason::Paused), vec![]));
    assert_eq!((status.due, bench.exchange.poll_timeout()), (2, None));
    assert!(bench.exchange.may_engage(bench.now, tree(0), OTHER), "others may compare what they like");
    assert_eq!(bench.act(Exchange::resume), [compare(3, OTHER, &[0, 1])]);

    let mut bench = Bench::of(settings(ExchangeConfig::default()), view_of(2, 2, &[]));
    bench.reach(OTHER);
    assert!(bench.exchange.poll_timeout().is_some());
    bench.act(Exchange::pause);
    assert_eq!(bench.exchange.poll_timeout(), None);
}

#[test]
fn bytes_are_bounded_over_all_shards() {
    let config = ExchangeConfig { rate: ByteRate(20_000), ..by_order() };
    let mut bench = Bench::of(ExchangeSettings { shards: 2, ..settings(config) }, view_of(1, 2, &[]));
    bench.reach(OTHER);
    bench.start();
    assert_eq!(bench.compared(1, &[Differs]), [sums_of_branches(2)]);
    let k = keys(40);
    let items = bench.sum_up(2, &[3]);
    assert_eq!(items, [own_asked(6, &[3], None)]);
    let mine: Vec<(&Bytes, u64)> = k.iter().map(|key| (key, 1)).collect();
    bench.own_items(6, own(&mine, None));
    assert_eq!(bench.peer_items(7, theirs(&[], None)), [push(8, &k)]);
    // 40 objects of 100 bytes, 64 and a key for each are 7,320 bytes, what came before almost 900: of 10,000 a second.
    let done = bench.pushed(8, 40, 0);
    assert_eq!(done, [agreed(0, OTHER)]);
    assert_eq!(bench.start(), []);
    assert_eq!(bench.exchange.status(bench.now).waiting, Some(WaitReason::Rate));
    let pause = bench.exchange.poll_timeout().expect("it goes on").since(bench.now.time);
    assert!((Duration::from_millis(650)..=Duration::from_millis(750)).contains(&pause), "{pause:?}");
    assert_eq!(bench.wake(), [compare(9, OTHER, &[0])]);

    // A session begins, and goes on, in the same way.
    let config = ExchangeConfig { rate: ByteRate(1000), ..by_order() };
    let mut slow = Bench::of(settings(config), view_of(64, 2, &[]));
    slow.reach(OTHER);
    slow.start();
    assert_eq!(slow.compared(1, &[Differs; 64]), []);
    assert_eq!(begun(&slow.wake()), [(0, OTHER), (1, OTHER)]);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.compared(9, &[Differs]), [sums_of_branches(10)]);
    bench.sum_up(10, &[3]);
    let more = keys(70);
    let mine: Vec<(&Bytes, u64)> = more.iter().map(|key| (key, 1)).collect();
    bench.pass(Duration::from_secs(1));
    bench.own_items(14, own(&mine, None));
    assert_eq!(bench.peer_items(15, theirs(&[], None)), [push(16, &more[..64])]);
    assert_eq!(bench.pushed(16, 64, 0), []);
    assert_eq!(bench.exchange.status(bench.now).waiting, Some(WaitReason::Rate));
    assert_eq!(bench.wake(), [push(17, &more[64..])]);
}

#[test]
fn who_cannot_be_reached_is_waited_for() {
    let mut bench = Bench::new(2, 3);
    bench.start();
    assert_eq!(begun(&bench.compared(1, &[Differs, Differs])), [(0, OTHER), (1, OTHER)]);
    bench.compared(2, &[Same, Same]);
    assert_eq!(bench.lose(OTHER), []);
    assert_eq!(bench.peer_sums(3, vec![0; 32]), [], "too late");
    let status = bench.exchange.status(bench.now);
    assert_eq!((status.waiting, status.due), (Some(WaitReason::Away(vec![OTHER])), 2));
    assert_eq!((status.running, bench.exchange.poll_timeout()), (vec![], None));
    assert_eq!(bench.reach(OTHER), [compare(5, OTHER, &[0, 1])]);
    // Lost while roots are compared.
    bench.lose(OTHER);
    assert_eq!(bench.compared(5, &[Same, Same]), [], "too late");
    assert_eq!(bench.reach(OTHER), [compare(6, OTHER, &[0, 1])]);
}
