//! One tree compared with one peer.

use super::*;

#[test]
fn keys_that_only_the_peer_has_are_wanted_and_only_own_ones_pushed() {
    let (mut bench, asked) = Bench::differ(&[3]);
    let k = keys(4);
    assert_eq!(asked, [own_asked(6, &[3], None)]);
    let has = own(&[(&k[0], 1), (&k[2], 1)], None);
    assert_eq!(bench.own_items(6, has.clone()), [peer_asked(7, &[3], None, &has)]);
    let asked = bench.peer_items(7, theirs(&[(&k[0], 1), (&k[1], 1), (&k[3], 1)], None));
    assert_eq!(asked, [want(8, &[k[1].clone(), k[3].clone()])]);
    assert_eq!(bench.wanted(8, 2, 0), [push(9, &[k[2].clone()])], "what was merged changes nothing of these");
    assert_eq!(bench.pushed(9, 1, 0), [agreed(0, OTHER)]);
    let counters = bench.exchange.counters();
    let key = k[0].len() as u64;
    let sums = (72 + 32 * 8) + (72 + 2 * 8);
    let items = 72 + (2 + 2 * 8) + 1 + 2 * (key + 12);
    let (want, push) = (72 + 2 * (2 * key + 64 + 100), key + 64 + 100);
    let bytes = (72 + 20) + sums + items + want + push;
    let expected = ExchangeCounters {
        compared: 1,
        differing: 1,
        agreed: 1,
        begun: 1,
        failed: 0,
        keys_differing: 3,
        objects_sent: 1,
        objects_wanted: 2,
        objects_failed: 0,
        bytes,
    };
    assert_eq!(counters, expected);
    assert_eq!((bench.exchange.poll_timeout(), bench.exchange.status(bench.now).running), (None, vec![]));
}

#[test]
fn what_both_have_otherwise_is_merged_here_and_sent_back_unless_it_is_what_the_peer_has() {
    let (mut bench, _) = Bench::differ(&[3]);
    let k = keys(4);
    bench.own_items(6, own(&[(&k[0], 2), (&k[1], 2), (&k[2], 1), (&k[3], 5)], None));
    let asked = bench.peer_items(7, theirs(&[(&k[0], 1), (&k[1], 1), (&k[2], 1)], None));
    assert_eq!(asked, [want(8, &k[..2])]);
    assert_eq!(bench.wanted(8, 2, 0), [own_asked(9, &[3], None)]);
    let again = own(&[(&k[0], 1), (&k[1], 3), (&k[2], 1), (&k[3], 5)], None);
    assert_eq!(bench.own_items(9, again), [push(10, &[k[1].clone(), k[3].clone()])]);
    assert_eq!(bench.pushed(10, 2, 0), [agreed(0, OTHER)]);
    assert_eq!(bench.exchange.counters().keys_differing, 3, "however often they are looked at");
}

#[test]
fn trees_that_have_become_the_same_agree() {
    let mut bench = Bench::new(1, 2);
    bench.start();
    bench.compared(1, &[TreeVerdict::Differs]);
    bench.peer_sums(2, vec![7; 32]);
    assert_eq!(bench.own_sums(3, vec![7; 32]), [agreed(0, OTHER)]);

    let mut bench = Bench::new(1, 2);
    bench.start();
    bench.compared(1, &[TreeVerdict::Differs]);
    bench.peer_sums(2, vec![1; 32]);
    bench.own_sums(3, vec![0; 32]);
    bench.peer_sums(4, vec![7; 64]);
    assert_eq!(bench.own_sums(5, vec![7; 64]), [agreed(0, OTHER)]);
}

#[test]
fn the_smaller_number_of_leaves_holds() {
    let mut bench = Bench::new(1, 2);
    bench.start();
    bench.compared(1, &[TreeVerdict::Differs]);
    let few = |of| SumsSpec { leaves: leaves(32), ..spec(of) };
    let told = |bench: &mut Bench, step, count, sums: Vec<u64>| {
        bench.act(|exchange, now, out| exchange.on_peer_sums(now, Step(step), Ok((leaves(count), sums)), out))
    };
    let mut theirs = vec![0; 32];
    theirs[5] = 1;
    let asked = told(&mut bench, 2, 64, theirs);
    assert_eq!(asked, [ExchangeCommand::OwnSums { step: Step(3), spec: spec(SumsOf::Branches) }]);
    let of = SumsOf::Leaves(1 << 5);
    let asked = bench.own_sums(3, vec![0; 32]);
    assert_eq!(asked, [ExchangeCommand::PeerSums { step: Step(4), peer: OTHER, spec: spec(of) }]);
    // It has been restarted with fewer.
    let asked = told(&mut bench, 4, 32, vec![1]);
    assert_eq!(asked, [ExchangeCommand::PeerSums { step: Step(5), peer: OTHER, spec: few(of) }]);
    let asked = told(&mut bench, 5, 32, vec![1]);
    assert_eq!(asked, [ExchangeCommand::OwnSums { step: Step(6), spec: few(of) }]);
    let asked = bench.own_sums(6, vec![0]);
    assert!(matches!(&asked[..], [ExchangeCommand::OwnItems { of, leaves, .. }] if *of == [5] && leaves.count() == 32));
}

#[test]
fn branches_are_the_same_with_fewer_leaves() {
    let mut bench = Bench::new(1, 2);
    bench.start();
    bench.compared(1, &[TreeVerdict::Differs]);
    let sums = Ok((leaves(32), vec![1; 32]));
    let asked = bench.act(|exchange, now, out| exchange.on_peer_sums(now, Step(2), sums, out));
    let few = SumsSpec { leaves: leaves(32), ..spec(SumsOf::Branches) };
    assert_eq!(asked, [ExchangeCommand::OwnSums { step: Step(3), spec: few }]);
}

#[test]
fn leaves_are_taken_some_at_a_time() {
    let all: Vec<u32> = (0..40).collect();
    let (mut bench, asked) = Bench::differ(&all);
    assert_eq!(asked, [own_asked(6, &all[..16], None)]);
    let mut step = 6;
    let k = keys(1);
    for next in [&all[16..32], &all[32..]] {
        bench.own_items(step, own(&[], Some(&k[0])));
        bench.peer_items(step + 1, PeerPage::default());
        bench.own_items(step + 2, ItemPage::default());
        let told = bench.peer_items(step + 3, PeerPage::default());
        assert_eq!(told, [own_asked(step + 4, next, None)], "from the beginning");
        step += 4;
    }
    bench.own_items(step, ItemPage::default());
    assert_eq!(bench.peer_items(step + 1, PeerPage::default()), [agreed(0, OTHER)]);
}

/// Whichever side has more keys: the peer's pages are read within the own ones.
#[test]
fn pages_of_both_sides_are_compared_stretch_by_stretch() {
    let (mut bench, _) = Bench::differ(&[3]);
    let k = keys(6);
    let mut has = own(&[(&k[0], 1), (&k[1], 1), (&k[3], 1)], Some(&k[3]));
    assert_eq!(bench.own_items(6, has.clone()), [peer_asked(7, &[3], None, &has)]);
    // Their keys reach less far than own ones, then further.
    let asked = bench.peer_items(7, theirs(&[(&k[1], 1)], Some(&k[1])));
    assert_eq!(asked, [push(8, &k[..1])], "what lies behind the peer's page is not compared yet");
    has.items.drain(..2);
    assert_eq!(bench.pushed(8, 1, 0), [peer_asked(9, &[3], Some(&k[1]), &has)]);
    let asked = bench.peer_items(9, theirs(&[(&k[2], 1), (&k[4], 1)], None));
    assert_eq!(asked, [want(10, &k[2..3])]);
    assert_eq!(bench.wanted(10, 1, 0), [push(11, &k[3..4])]);
    assert_eq!(bench.pushed(11, 1, 0), [own_asked(12, &[3], Some(&k[3]))]);
    let has = own(&[(&k[4], 1)], None);
    assert_eq!(bench.own_items(12, has.clone()), [peer_asked(13, &[3], Some(&k[3]), &has)]);
    assert_eq!(bench.peer_items(13, theirs(&[(&k[4], 1), (&k[5], 1)], None)), [want(14, &k[5..])]);
    assert_eq!(bench.wanted(14, 1, 0), [agreed(0, OTHER)]);
}

/// Pages may end where a key of another tree lies.
#[test]
fn a_page_of_no_keys_is_no_end() {
    let (mut bench, _) = Bench::differ(&[3]);
    let k = keys(4);
    let none = |next: Option<&Bytes>| own(&[], next);
    bench.own_items(6, none(Some(&k[2])));
    let told = bench.peer_items(7, theirs(&[], Some(&k[1])));
    assert_eq!(told, [peer_asked(8, &[3], Some(&k[1]), &none(Some(&k[2])))]);
    assert_eq!(bench.peer_items(8, theirs(&[], None)), [own_asked(9, &[3], Some(&k[2]))]);
    bench.own_items(9, none(None));
    assert_eq!(bench.peer_items(10, theirs(&[], None)), [agreed(0, OTHER)]);
}

/// The newest of so many writes, each of which replaced the one before.
fn newest(count: u64) -> Versions {
    let update = |before: Object, counter| Object::update(Some(&before), before.context(), write(7, counter));
    Versions::of(&(2..=count).fold(blind(7, 1), update))
}

/// It would come over for nothing: what it would be merged to is there already.
#[test]
fn of_two_versions_the_older_one_is_not_sent() {
    let k = keys(3);
    let told = |own_has: [Versions; 3], they_have: [Option<Versions>; 3]| {
        let (mut bench, _) = Bench::differ(&[3]);
        let mut has = own(&[(&k[0], 1), (&k[1], 1), (&k[2], 1)], None);
        has.items.iter_mut().zip(own_has).for_each(|(item, versions)| item.versions = versions);
        bench.own_items(6, has);
        let mut page = theirs(&[(&k[0], 2), (&k[1], 2), (&k[2], 2)], None);
        page.items.iter_mut().zip(they_have).for_each(|(item, versions)| item.versions = versions);
        let first = bench.peer_items(7, page);
        let then = if first == [push(8, &k[..])] { Vec::new() } else { bench.wanted(8, 1, 0) };
        assert_eq!(bench.exchange.counters().keys_differing, 3);
        (first, then)
    };
    let (old, new) = (|| newest(1), || newest(2));
    let some = |versions: [Versions; 3]| versions.map(Some);
    assert_eq!(told([new(), new(), new()], some([old(), old(), old()])), (vec![push(8, &k)], vec![]));
    assert_eq!(told([old(), old(), old()], some([new(), new(), new()])), (vec![want(8, &k)], vec![agreed(0, OTHER)]));
    assert_eq!(told([old(), new(), old()], some([new(), old(), new()])).1, [push(9, &k[1..2])]);
    // Neither has seen the other, or it is not said: they are merged, and what comes of it is looked at.
    for theirs in [Some(versions_of([blind(8, 1)])), None] {
        let (first, then) = told([new(), old(), new()], [theirs.clone(), Some(new()), Some(old())]);
        assert_eq!((first, then), (vec![want(8, &k[..2])], vec![own_asked(9, &[3], None)]), "{theirs:?}");
    }
}

#[test]
fn objects_are_sent_some_at_a_time_in_either_direction() {
    let (mut bench, _) = Bench::differ(&[3]);
    let k = keys(140);
    let all = |keys| Iterator::map(<[Bytes]>::iter(keys), |key| (key, 1)).collect::<Vec<_>>();
    bench.own_items(6, own(&all(&k[70..]), None));
    assert_eq!(bench.peer_items(7, theirs(&all(&k[..70]), None)), [want(8, &k[..64])]);
    assert_eq!(bench.wanted(8, 64, 0), [want(9, &k[64..70])]);
    assert_eq!(bench.wanted(9, 6, 0), [push(10, &k[70..134])]);
    assert_eq!(bench.pushed(10, 64, 0), [push(11, &k[134..])]);
    assert_eq!(bench.pushed(11, 6, 0), [agreed(0, OTHER)]);
}

/// What was wanted has made the page longer.
#[test]
fn own_keys_are_read_again_up_to_where_the_page_ended() {
    let (mut bench, _) = Bench::differ(&[3]);
    let k = keys(5);
    bench.own_items(6, own(&[(&k[0], 2), (&k[2], 1)], Some(&k[2])));
    let asked = bench.peer_items(7, theirs(&[(&k[0], 1), (&k[1], 1), (&k[4], 1)], None));
    assert_eq!(asked, [want(8, &k[..2])]);
    assert_eq!(bench.wanted(8, 2, 0), [own_asked(9, &[3], None)]);
    assert_eq!(bench.own_items(9, own(&[(&k[0], 3), (&k[1], 1)], Some(&k[1]))), [push(10, &k[..1])]);
    assert_eq!(bench.pushed(10, 1, 0), [own_asked(11, &[3], Some(&k[1]))]);
    let rest = own(&[(&k[2], 1), (&k[3], 1)], Some(&k[3]));
    assert_eq!(bench.own_items(11, rest), [push(12, &k[2..3])], "the next page is compared in its turn");
    assert_eq!(bench.pushed(12, 1, 0), [own_asked(13, &[3], Some(&k[2]))]);
}

/// The rest goes on, and the tree has not agreed.
#[test]
fn what_cannot_be_read_or_merged_keeps_a_tree_from_agreeing() {
    let k = keys(3);
    let ends = |bench: &mut Bench, commands: Vec<ExchangeCommand>| {
        assert_eq!(commands, []);
        let status = bench.exchange.status(bench.now);
        assert_eq!((status.counters.agreed, status.counters.objects_failed, status.running), (0, 1, vec![]));
        let pause = bench.exchange.poll_timeout().expect("it is tried again").since(bench.now.time);
        assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&pause), "{pause:?}");
        assert_eq!(bench.wake().len(), 1, "the peer is not left in peace for it");
    };
    let (mut bench, _) = Bench::differ(&[3]);
    bench.own_items(6, own(&[(&k[0], 1)], None));
    let end = bench.peer_items(7, PeerPage { rotten: 1, ..theirs(&[(&k[0], 1)], None) });
    ends(&mut bench, end);

    // What lies behind the peer's page counts with the next one.
    let (mut bench, _) = Bench::differ(&[3]);
    bench.own_items(6, ItemPage { rotten: vec![k[1].clone()], ..ItemPage::default() });
    let told = bench.peer_items(7, theirs(&[], Some(&k[0])));
    assert_eq!(told, [peer_asked(8, &[3], Some(&k[0]), &own(&[], None))]);
    assert_eq!(bench.exchange.counters().objects_failed, 0);
    let end = bench.peer_items(8, theirs(&[(&k[1], 1)], None));
    ends(&mut bench, end);

    let rotten = ItemPage { rotten: vec![k[0].clone()], ..own(&[(&k[2], 1)], None) };
    let newer = ItemPage { newer: vec![k[0].clone()], ..own(&[(&k[2], 1)], None) };
    for page in [rotten, newer] {
        let (mut bench, _) = Bench::differ(&[3]);
        bench.own_items(6, page);
        assert_eq!(bench.peer_items(7, theirs(&[(&k[0], 1), (&k[1], 1)], None)), [want(8, &k[1..2])]);
        assert_eq!(bench.wanted(8, 1, 0), [push(9, &k[2..])]);
        let end = bench.pushed(9, 1, 0);
        ends(&mut bench, end);
    }

    for fails in [0, 1] {
        let (mut bench, _) = Bench::differ(&[3]);
        bench.own_items(6, own(&[(&k[1], 1)], None));
        assert_eq!(bench.peer_items(7, theirs(&[(&k[0], 1)], None)), [want(8, &k[..1])]);
        assert_eq!(bench.wanted(8, 1 - fails, fails), [push(9, &k[1..2])]);
        let end = bench.pushed(9, fails, 1 - fails);
        ends(&mut bench, end);
    }
}

/// Of both sides, those that take writes get what they lack; a session of two that take none is over.
#[test]
fn who_takes_no_writes_is_sent_no_more_and_the_other_still_gets_what_it_lacks() {
    let k = keys(6);
    let refused = Err(ExchangeFailure::ReadOnly);
    let first_page = |bench: &mut Bench| {
        bench.own_items(6, own(&[(&k[1], 1), (&k[2], 2)], Some(&k[2])));
        let asked = bench.peer_items(7, theirs(&[(&k[0], 1), (&k[2], 1)], None));
        assert_eq!(asked, [want(8, &[k[0].clone(), k[2].clone()])]);
    };
    let ends = |bench: &Bench, failed: u64| {
        let (status, counters) = (bench.exchange.status(bench.now), bench.exchange.counters());
        assert_eq!((counters.agreed, counters.failed, counters.objects_failed), (0, 0, failed));
        assert_eq!((status.running, status.waiting), (vec![], None));
    };

    let (mut bench, _) = Bench::differ(&[3]);
    first_page(&mut bench);
    assert_eq!(bench.wanted(8, 2, 0), [own_asked(9, &[3], None)]);
    let again = own(&[(&k[0], 1), (&k[1], 1), (&k[2], 3)], None);
    assert_eq!(bench.own_items(9, again), [push(10, &k[1..3])]);
    let told = bench.act(|exchange, now, out| exchange.on_pushed(now, Step(10), refused, out));
    assert_eq!(told, [own_asked(11, &[3], Some(&k[2]))]);
    bench.own_items(11, own(&[(&k[4], 2), (&k[5], 1)], None));
    assert_eq!(bench.peer_items(12, theirs(&[(&k[3], 1), (&k[4], 1)], None)), [want(13, &k[3..5])]);
    assert_eq!(bench.wanted(13, 2, 0), []);
    ends(&bench, 2);

    for is_known in [false, true] {
        let (mut bench, _) = Bench::differ(&[3]);
        first_page(&mut bench);
        if is_known {
            assert_eq!(bench.act(|exchange, now, out| exchange.set_read_only(now, true, out)), []);
        }
        let told = bench.act(|exchange, now, out| exchange.on_wanted(now, Step(8), refused, out));
        assert_eq!(told, [own_asked(9, &[3], None)]);
        assert_eq!(bench.own_items(9, own(&[(&k[1], 1), (&k[2], 2)], None)), [push(10, &k[1..3])]);
        assert_eq!(bench.pushed(10, 2, 0), [own_asked(11, &[3], Some(&k[2]))]);
        bench.own_items(11, own(&[(&k[4], 1)], None));
        assert_eq!(bench.peer_items(12, theirs(&[(&k[3], 1)], None)), [push(13, &k[4..5])]);
        let told = bench.act(|exchange, now, out| exchange.on_pushed(now, Step(13), refused, out));
        assert_eq!(told, []);
        ends(&bench, 4);
    }
}

type Answer = fn(&mut Exchange, Now, Step, &mut Vec<ExchangeCommand>);

/// A bench whose session waits for the n-th of its kinds of answers, and the step of that.
fn waiting_for(answer: usize) -> (Bench, Step) {
    let k = keys(2);
    let mut bench = Bench::new(1, 2);
    bench.start();
    let mut last = bench.compared(1, &[TreeVerdict::Differs]);
    for at in 0..answer {
        last = match at {
            0 => bench.peer_sums(2, vec![1; 32]),
            1 => {
                bench.own_sums(3, vec![0; 32]);
                bench.peer_sums(4, vec![1; 64]);
                bench.own_sums(5, vec![0; 64])
            }
            2 => bench.own_items(6, own(&[(&k[1], 1)], None)),
            3 => bench.peer_items(7, theirs(&[(&k[0], 1)], None)),
            _ => bench.wanted(8, 1, 0),
        };
    }
    assert_eq!(last.len(), 1);
    (bench, Step([2, 3, 6, 7, 8, 9][answer]))
}

#[test]
fn a_session_that_fails_ends_and_its_tree_is_compared_again_after_a_pause() {
    use ExchangeFailure::{Overloaded, Unanswered};
    let failures: [Answer; 6] = [
        |exchange, now, step, out| exchange.on_peer_sums(now, step, Err(Unanswered), out),
        |exchange, now, step, out| exchange.on_own_sums(now, step, None, out),
        |exchange, now, step, out| exchange.on_own_items(now, step, Err(OpFailure::Overloaded), out),
        |exchange, now, step, out| exchange.on_peer_items(now, step, Err(Unanswered), out),
        |exchange, now, step, out| exchange.on_wanted(now, step, Err(Unanswered), out),
        |exchange, now, step, out| exchange.on_pushed(now, step, Err(Overloaded), out),
    ];
    for (at, fail) in failures.into_iter().enumerate() {
        let (mut bench, step) = waiting_for(at);
        assert_eq!(bench.act(|exchange, now, out| fail(exchange, now, Step(step.0 - 1), out)), [], "that is over");
        assert_eq!(bench.exchange.status(bench.now).running.len(), 1, "{at}");
        let failed = bench.now.time;
        assert_eq!(bench.act(|exchange, now, out| fail(exchange, now, step, out)), []);
        assert_eq!((bench.exchange.status(bench.now).running, bench.exchange.counters().failed), (vec![], 1), "{at}");
        assert_eq!(bench.act(|exchange, now, out| fail(exchange, now, step, out)), [], "nobody waits for it any more");
        let again = std::iter::from_fn(|| Some(bench.wake())).find(|commands| !commands.is_empty());
        assert_eq!(again, Some(vec![compare(step.0 + 1, OTHER, &[0])]), "{at}");
        let pause = bench.now.time.since(failed);
        assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&pause), "{pause:?}");
    }
}

/// Or what takes several sessions would take ever longer.
#[test]
fn a_session_that_brings_something_over_before_it_fails_is_soon_followed_by_another() {
    let k = keys(2);
    for merged in [1, 0] {
        let (mut bench, mut step) = waiting_for(4);
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            bench.wanted(step.0, merged, 1 - merged);
            let pushed = Step(step.0 + 1);
            bench.act(|exchange, now, out| exchange.on_pushed(now, pushed, Err(ExchangeFailure::Unanswered), out));
            let failed = bench.now.time;
            let again = std::iter::from_fn(|| Some(bench.wake())).find(|commands| !commands.is_empty());
            assert_eq!(again, Some(vec![compare(pushed.0 + 1, OTHER, &[0])]));
            last = bench.now.time.since(failed);
            bench.compared(pushed.0 + 1, &[TreeVerdict::Differs]);
            bench.sum_up(pushed.0 + 2, &[3]);
            bench.own_items(pushed.0 + 6, own(&[(&k[1], 1)], None));
            bench.peer_items(pushed.0 + 7, theirs(&[(&k[0], 1)], None));
            step = Step(pushed.0 + 8);
        }
        assert_eq!(last <= Duration::from_secs(2), merged > 0, "{last:?}");
    }
}

#[test]
fn an_engine_that_has_stopped_stops_it() {
    let (mut bench, step) = waiting_for(2);
    bench.act(|exchange, now, out| exchange.on_own_items(now, step, Err(OpFailure::Stopped), out));
    assert_eq!((bench.start(), bench.exchange.poll_timeout()), (vec![], None));
    assert!(!bench.exchange.may_engage(bench.now, tree(0), OTHER));
}

#[test]
fn answers_that_do_not_fit_end_a_session() {
    let k = keys(MAX_PAGE as u64 + 1);
    let misfits: Vec<(usize, Answer)> = vec![
        (0, |exchange, now, step, out| exchange.on_peer_sums(now, step, Ok((leaves(64), vec![1; 31])), out)),
        (0, |exchange, now, step, out| exchange.on_peer_sums(now, step, Ok((leaves(128), vec![1; 32])), out)),
        (0, |exchange, now, step, out| exchange.on_peer_items(now, step, Ok(PeerPage::default()), out)),
        (1, |exchange, now, step, out| exchange.on_own_sums(now, step, Some(vec![1; 31]), out)),
        (2, |exchange, now, step, out| exchange.on_peer_sums(now, step, Ok((leaves(64), vec![1; 32])), out)),
        (3, |exchange, now, step, out| exchange.on_wanted(now, step, Ok(Transferred::default()), out)),
        (4, |exchange, now, step, out| exchange.on_pushed(now, step, Ok(Transferred::default()), out)),
        (5, |exchange, now, step, out| exchange.on_own_items(now, step, Ok(ItemPage::default()), out)),
    ];
    for (at, misfit) in misfits {
        let (mut bench, step) = waiting_for(at);
        assert_eq!(bench.act(|exchange, now, out| misfit(exchange, now, step, out)), []);
        assert_eq!(bench.exchange.counters().failed, 1, "{at}");
    }
    let too_many: Vec<(&Bytes, u64)> = k.iter().map(|key| (key, 1)).collect();
    let told = |same: &[bool], page: PeerPage| PeerPage { same: same.to_vec(), ..page };
    let pages = [
        told(&[false], theirs(&[(&k[1], 1), (&k[0], 1)], None)),
        told(&[false], theirs(&[(&k[0], 1), (&k[0], 1)], None)),
        told(&[false], theirs(&[(&k[0], 1), (&k[2], 1)], Some(&k[1]))),
        told(&[false], theirs(&too_many, None)),
        // Of another number of hashes than it was told.
        told(&[], theirs(&[], None)),
        told(&[false, false], theirs(&[], None)),
    ];
    for page in pages {
        let (mut bench, step) = waiting_for(3);
        assert_eq!(bench.tell_items(step.0, page), []);
        assert_eq!(bench.exchange.counters().failed, 1);
    }
}

/// Or it would be asked for again and again, or pass over what it was not asked about.
#[test]
fn a_page_has_to_lead_on_and_to_end_where_it_was_to() {
    let k = keys(4);
    let pages = [
        theirs(&[], Some(&k[1])),
        theirs(&[(&k[1], 1)], None),
        theirs(&[(&k[2], 1)], Some(&k[1])),
        theirs(&[], Some(&k[3])),
        theirs(&[(&k[3], 1)], None),
    ];
    for page in pages {
        let (mut bench, _) = Bench::differ(&[3]);
        bench.own_items(6, own(&[], Some(&k[2])));
        let told = bench.peer_items(7, theirs(&[], Some(&k[1])));
        assert_eq!(told, [peer_asked(8, &[3], Some(&k[1]), &own(&[], Some(&k[2])))]);
        assert_eq!(bench.tell_items(8, page.clone()), [], "{page:?}");
        assert_eq!(bench.exchange.counters().failed, 1);
    }
    let (mut bench, _) = Bench::differ(&[3]);
    bench.own_items(6, own(&[], Some(&k[1])));
    bench.peer_items(7, theirs(&[], None));
    assert_eq!(bench.own_items(8, own(&[], Some(&k[1]))), []);
    assert_eq!(bench.exchange.counters().failed, 1);
}
