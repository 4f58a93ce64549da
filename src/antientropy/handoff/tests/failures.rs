//! What fails, at the target or here, and what is done about the rest.

use super::*;

#[test]
fn a_hint_that_is_not_acknowledged_stays_and_is_tried_again_after_a_pause() {
    let key = keys(false).next().unwrap();
    let mut bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
    bench.read(&[item(&key, true)]);
    let job = JobId(2);
    bench.act(|handoff, now, out| handoff.on_found(now, job, Ok(Some(found())), out));
    assert_eq!(bench.act(|handoff, now, out| handoff.on_failed(now, job, out)), []);
    let wake = bench.handoff.poll_timeout().expect("it tries again");
    let pause = wake.since(bench.now.time);
    assert!((Duration::from_millis(100)..=Duration::from_millis(200)).contains(&pause), "{pause:?}");
    assert_eq!(bench.act(|handoff, now, out| handoff.on_acknowledged(now, job, out)), [], "too late");
    bench.pass(u64::try_from(pause.as_micros()).unwrap());
    let again = bench.act(Handoff::on_timer);
    assert!(Bench::ticket(&again) > CENSUS);
    assert_eq!(bench.handoff.backlog()[0].hints, 1);
}

/// A record that has rotted, here or at the target, is its key's trouble alone.
#[test]
fn a_hint_that_cannot_be_read_or_merged_holds_up_no_other() {
    fn rot() -> OpFailure {
        OpFailure::Unreadable { detail: "bad checksum".into(), rotten: true }
    }
    let look_fails = |handoff: &mut Handoff, now, job, out: &mut Vec<Command>| {
        handoff.on_found(now, job, Err(rot()), out);
    };
    let target_refuses = |handoff: &mut Handoff, now, job, out: &mut Vec<Command>| {
        handoff.on_found(now, job, Ok(Some(found())), &mut Vec::new());
        handoff.on_unreadable(now, job, out);
    };
    let drop_fails = |handoff: &mut Handoff, now, job, out: &mut Vec<Command>| {
        handoff.on_found(now, job, Ok(Some(found())), &mut Vec::new());
        handoff.on_acknowledged(now, job, &mut Vec::new());
        handoff.on_dropped(now, job, Err(rot()), out);
    };
    let all: Vec<HintItem> = keys(false).take(2 * WINDOW).map(|key| item(&key, true)).collect();
    for fails in [look_fails, target_refuses, drop_fails] as [fn(&mut Handoff, Now, JobId, &mut Vec<Command>); 3] {
        let mut bench = Bench::with(HintsConfig::default(), &all);
        assert_eq!(bench.read(&all).len(), WINDOW);
        for (rotten, next) in (2..).map(JobId).zip(&all[WINDOW..]) {
            let begun = bench.act(|handoff, now, out| fails(handoff, now, rotten, out));
            let next_job = rotten.0 + u64::try_from(WINDOW).unwrap();
            assert_eq!(begun, [look(next_job, &next.key)], "those behind it are taken up at once");
        }
        // One of them gets through; for the others there is a pause before the next pass.
        for job in (2 + WINDOW..2 + 2 * WINDOW).map(|job| JobId(job.try_into().unwrap())) {
            let found = if job.0 == 6 { Ok(None) } else { Err(rot()) };
            assert_eq!(bench.act(|handoff, now, out| handoff.on_found(now, job, found, out)), []);
        }
        let pause = bench.handoff.poll_timeout().expect("it tries again").since(bench.now.time);
        assert!((Duration::from_millis(100)..=Duration::from_millis(200)).contains(&pause), "{pause:?}");
    }
}

/// What the disk or the target has no room for now is no word about one key.
#[test]
fn a_failure_of_no_one_key_leaves_the_target_in_peace() {
    let all: Vec<HintItem> = keys(false).take(2 * WINDOW).map(|key| item(&key, true)).collect();
    let mut bench = Bench::with(HintsConfig::default(), &all);
    assert_eq!(bench.read(&all).len(), WINDOW);
    let full = Err(OpFailure::Overloaded);
    assert_eq!(bench.act(|handoff, now, out| handoff.on_found(now, JobId(2), full, out)), []);
    bench.act(|handoff, now, out| handoff.on_found(now, JobId(3), Ok(Some(found())), out));
    assert_eq!(bench.act(|handoff, now, out| handoff.on_failed(now, JobId(3), out)), []);
}

/// As long as its target takes anything, what is old is on its way.
#[test]
fn an_old_hint_of_a_target_that_refuses_for_long_expires() {
    let key = keys(false).next().unwrap();
    let mut bench = Bench::with(HintsConfig { max_age: Duration::from_secs(60), ..HintsConfig::default() }, &[]);
    let given = HintChange { target: NodeId(4), key: key.clone(), old: None, new: Some(entry(false)) };
    bench.act(|handoff, now, out| handoff.on_changes(now, vec![given], out));
    bench.pass(120_000_000);
    let (mut commands, mut refused) = (bench.reach(4), 0);
    let expired = loop {
        if let [Command::Read { ticket, .. }] = commands[..] {
            let page = HintPage { items: vec![item(&key, false)], ..HintPage::default() };
            commands = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page), out));
        }
        match commands[..] {
            [Command::Look { job, .. }] => {
                refused += 1;
                bench.act(|handoff, now, out| handoff.on_found(now, job, Ok(Some(found())), out));
                bench.act(|handoff, now, out| handoff.on_failed(now, job, out));
            }
            [Command::Discard { counted_too: false, .. }] => break bench.now.time,
            _ => {}
        }
        assert!(refused < 20, "it never gives up");
        bench.pass(100_000);
        commands = bench.act(Handoff::on_timer);
    };
    assert!(refused > 5 && expired < Time::from_micros(180_000_000), "{refused} times until {expired:?}");
}

#[test]
fn a_disk_that_fails_to_tell_is_asked_again() {
    let mut bench = Bench::new(HintsConfig::default());
    let failed = Err(OpFailure::Overloaded);
    assert_eq!(bench.act(|handoff, now, out| handoff.on_page(now, CENSUS, failed, out)), []);
    bench.pass(200_000);
    let again = bench.act(Handoff::on_timer);
    assert!(matches!(again[..], [Command::Read { ticket: CENSUS, .. }]), "{again:?}");
}

/// A key of the index that nobody can have written stops neither the census nor a pass, and goes.
#[test]
fn what_cannot_be_read_in_the_index_is_counted_and_forgotten() {
    let key = keys(false).next().unwrap();
    let bad = Bytes::from_static(b"no hint");
    let page = || HintPage { items: vec![item(&key, true)], unreadable: vec![bad.clone()], next: None };
    let forget = Command::Forget { index_key: bad.clone() };
    let mut bench = Bench::new(HintsConfig::default());
    let census = bench.act(|handoff, now, out| handoff.on_page(now, CENSUS, Ok(page()), out));
    assert_eq!(census, std::slice::from_ref(&forget));
    assert_eq!(bench.handoff.backlog()[0].hints, 1);
    let ticket = Bench::ticket(&bench.reach(4));
    let begun = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page()), out));
    assert_eq!(begun, [forget, look(2, &key)]);
    assert_eq!(bench.handoff.counters().unreadable, 2);
}
