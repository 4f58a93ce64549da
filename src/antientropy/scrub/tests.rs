//! Whole lists of commands, one input after the other.

use super::*;
use crate::antientropy::config::ByteRate;

const SECOND: u64 = 1_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn config(scrub_interval: Duration) -> ExchangeConfig {
    ExchangeConfig { rate: ByteRate(1 << 40), scrub_interval, ..ExchangeConfig::default() }
}

struct Bench {
    scrub: Scrub,
    now: Now,
}

impl Bench {
    /// Four partitions of 128 leaves.
    fn new(config: ExchangeConfig) -> Bench {
        let settings = ScrubSettings { shard: 0, shards: 1, leaves: Leaves::new(128).unwrap(), config };
        let now = Now { time: Time::from_micros(SECOND), wall_ms: 2000 };
        let mut bench = Bench { scrub: Scrub::new(settings, 1), now };
        assert_eq!(bench.act(|scrub, now, out| scrub.on_ring(now, 4, out)), []);
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Scrub, Now, &mut Vec<ScrubCommand>)) -> Vec<(Step, u16, Option<u32>)> {
        let mut out = Vec::new();
        act(&mut self.scrub, self.now, &mut out);
        out.into_iter().map(|ScrubCommand::Count { step, partition, from }| (step, partition.0, from)).collect()
    }

    fn answer(&mut self, step: Step, scrubbed: Scrubbed) -> Vec<(Step, u16, Option<u32>)> {
        self.act(|scrub, now, out| scrub.on_scrubbed(now, step, Ok(Some(scrubbed)), out))
    }

    /// The timer goes off; how long that took.
    fn wait(&mut self) -> (Duration, Vec<(Step, u16, Option<u32>)>) {
        let due = self.scrub.poll_timeout().expect("it waits for something");
        let waited = due.since(self.now.time);
        self.now.time = self.now.time.max(due);
        (waited, self.act(Scrub::on_timer))
    }

    fn count(&mut self, partitions: &[u16]) -> Vec<(Step, u16, Option<u32>)> {
        let partitions = partitions.iter().copied().map(PartitionId).collect();
        self.act(|scrub, now, out| scrub.on_uncounted(now, &partitions, out))
    }
}

fn through(leaf: u32) -> Scrubbed {
    Scrubbed { through: leaf, records: 10, bytes: 1000, exact: true, ..Scrubbed::default() }
}

#[test]
fn an_order_reads_everything_once_leaf_by_leaf() {
    let mut bench = Bench::new(config(Duration::ZERO));
    assert_eq!(bench.scrub.poll_timeout(), None, "it does not walk");
    let mut next = bench.act(|scrub, now, out| scrub.start(now, None, out));
    let mut seen = Vec::new();
    while let [(step, partition, Some(from))] = next[..] {
        seen.push((partition, from));
        next = bench.answer(step, through(from + 64));
    }
    assert_eq!(next, []);
    assert_eq!(seen, [(0, 0), (0, 64), (1, 0), (1, 64), (2, 0), (2, 64), (3, 0), (3, 64)]);
    assert_eq!((bench.scrub.left(), bench.scrub.counters().records, bench.scrub.counters().bytes), (0, 80, 8000));
}

#[test]
fn an_order_that_comes_again_begins_again() {
    let mut bench = Bench::new(config(Duration::ZERO));
    let one = Some(PartitionId(2));
    let begun = bench.act(|scrub, now, out| scrub.start(now, one, out));
    assert_eq!(begun, [(Step(1), 2, Some(0))]);
    assert_eq!(bench.act(|scrub, now, out| scrub.start(now, one, out)), []);
    assert_eq!(bench.answer(Step(1), through(64)), [(Step(2), 2, Some(0))]);
    assert_eq!(bench.answer(Step(2), through(128)), []);
    assert_eq!(bench.scrub.left(), 0);
}

#[test]
fn an_order_of_one_partition_leaves_the_others_where_they_are() {
    let mut bench = Bench::new(config(Duration::ZERO));
    let done = |bench: &Bench| (bench.scrub.progress().done, bench.scrub.progress().of);
    let order = |partition: u16| {
        move |scrub: &mut Scrub, now, out: &mut Vec<_>| scrub.start(now, Some(PartitionId(partition)), out)
    };
    assert_eq!(bench.act(order(2)), [(Step(1), 2, Some(0))]);
    assert_eq!(bench.answer(Step(1), through(64)), [(Step(2), 2, Some(64))]);
    // Of another shard, one behind it, one before it: what is read now is none of these.
    for other in [9, 3, 1] {
        assert_eq!(bench.act(order(other)), []);
    }
    assert_eq!(done(&bench), (64, 3 * 128));
    assert_eq!(bench.answer(Step(2), through(100)), [(Step(3), 1, Some(0))]);
    assert_eq!(bench.answer(Step(3), through(128)), [(Step(4), 2, Some(100))]);
    assert_eq!(done(&bench), (228, 3 * 128));
    // That one itself is read anew.
    assert_eq!(bench.act(order(2)), []);
    assert_eq!(bench.answer(Step(4), through(128)), [(Step(5), 2, Some(0))]);
    assert_eq!(done(&bench), (128, 3 * 128));
    assert_eq!(bench.answer(Step(5), through(128)), [(Step(6), 3, Some(0))]);
    assert_eq!(bench.act(|scrub, now, out| scrub.start(now, None, out)), []);
    assert_eq!(done(&bench), (0, 4 * 128));
}

#[test]
fn the_walk_takes_an_interval() {
    let mut bench = Bench::new(config(HOUR));
    let (mut taken, mut seen) = (Duration::ZERO, BTreeSet::new());
    for _ in 0..8 {
        let (waited, begun) = bench.wait();
        taken += waited;
        let [(step, partition, Some(from))] = begun[..] else { panic!("{begun:?}") };
        seen.insert((partition, from));
        assert_eq!(bench.answer(step, through(from + 64)), []);
    }
    assert_eq!(seen.len(), 8);
    assert!((HOUR * 9 / 10..=HOUR * 11 / 10).contains(&taken), "{taken:?}");
}

#[test]
fn what_has_to_be_counted_comes_first_whatever_is_paused() {
    let mut bench = Bench::new(config(Duration::ZERO));
    bench.act(|scrub, _, _| scrub.pause());
    assert_eq!(bench.act(|scrub, now, out| scrub.start(now, None, out)), []);
    assert_eq!(bench.count(&[3, 1]), [(Step(1), 1, None)]);
    assert_eq!(bench.answer(Step(1), Scrubbed { uncounted: true, ..through(64) }), [(Step(2), 1, None)]);
    assert_eq!(bench.answer(Step(2), through(128)), [(Step(3), 3, None)]);
    assert_eq!(bench.answer(Step(3), through(128)), []);
    assert_eq!(bench.act(Scrub::resume), [(Step(4), 0, Some(0))]);
}

#[test]
fn nothing_is_begun_while_clients_keep_the_node_busy() {
    let mut bench = Bench::new(config(Duration::ZERO));
    bench.act(|scrub, now, out| scrub.on_load(now, true, out));
    assert_eq!(bench.count(&[0]), []);
    assert_eq!(bench.scrub.poll_timeout(), None);
    assert_eq!(bench.act(|scrub, now, out| scrub.on_load(now, false, out)), [(Step(1), 0, None)]);
}

#[test]
fn it_reads_no_faster_than_it_may() {
    let mut bench = Bench::new(ExchangeConfig { rate: ByteRate(10_000), ..config(Duration::ZERO) });
    bench.act(|scrub, now, out| scrub.start(now, None, out));
    assert_eq!(bench.answer(Step(1), Scrubbed { bytes: 20_000 - COUNT_COST, ..through(64) }), []);
    let (waited, begun) = bench.wait();
    assert_eq!((waited, begun), (Duration::from_millis(1900), vec![(Step(2), 0, Some(64))]));
}

#[test]
fn what_could_not_be_counted_is_tried_again_after_a_pause() {
    let mut bench = Bench::new(config(Duration::ZERO));
    bench.count(&[0]);
    assert_eq!(bench.answer(Step(1), Scrubbed { exact: false, uncounted: true, ..through(64) }), []);
    assert_eq!(bench.wait().1, [(Step(2), 0, None)]);
    // A rotten record is in the way until it is wiped.
    let rotten = vec![bytes::Bytes::from_static(b"k")];
    assert_eq!(bench.answer(Step(2), Scrubbed { rotten, uncounted: true, ..through(64) }), []);
    assert_eq!(bench.wait().1, [(Step(3), 0, None)]);
    assert_eq!(bench.act(|scrub, now, out| scrub.on_scrubbed(now, Step(3), Err(OpFailure::Overloaded), out)), []);
    assert_eq!(bench.wait().1, [(Step(4), 0, None)]);
    assert_eq!(bench.act(|scrub, now, out| scrub.on_scrubbed(now, Step(4), Ok(None), out)), []);
    assert_eq!((bench.scrub.left(), bench.scrub.counters().rotten), (0, 1));
}

#[test]
fn what_cannot_be_counted_keeps_nothing_else_from_being_counted() {
    let mut bench = Bench::new(config(HOUR));
    bench.count(&[0, 1]);
    let uncounted = |leaf| Scrubbed { uncounted: true, ..through(leaf) };
    assert_eq!(bench.answer(Step(1), uncounted(64)), [(Step(2), 0, None)]);
    // It came no further: the other one is counted, after a pause, and then it again.
    assert_eq!(bench.answer(Step(2), uncounted(64)), []);
    assert_eq!(bench.wait().1, [(Step(3), 1, None)]);
    assert_eq!(bench.answer(Step(3), uncounted(64)), [(Step(4), 1, None)]);
    assert_eq!(bench.answer(Step(4), through(128)), [(Step(5), 0, None)]);
    let failed = Err(OpFailure::Unreadable { detail: "no answer".into(), rotten: false });
    assert_eq!(bench.act(|scrub, now, out| scrub.on_scrubbed(now, Step(5), failed, out)), []);
    // What was ordered waits for none of this, and neither does the walk.
    let mut next = bench.act(|scrub, now, out| scrub.start(now, Some(PartitionId(3)), out));
    let mut seen = Vec::new();
    while let [(step, partition, from)] = next[..] {
        seen.push((partition, from));
        next = bench.answer(step, if from.is_some() { through(128) } else { uncounted(64) });
    }
    assert_eq!(seen, [(0, None), (3, Some(0))]);
    // Each stretch of the walk has some seven minutes.
    let mut tries = 0;
    loop {
        match bench.wait().1[..] {
            [(step, 0, None)] => assert_eq!(bench.answer(step, uncounted(64)), []),
            [(_, _, Some(_))] => break,
            ref other => panic!("{other:?}"),
        }
        tries += 1;
    }
    assert!((30..90).contains(&tries), "{tries} more counts until the walk went on");
}

#[test]
fn a_stretch_that_is_never_at_rest_is_left_for_another_time() {
    let mut bench = Bench::new(config(HOUR));
    let hot = Scrubbed { exact: false, ..through(64) };
    let mut next = bench.act(|scrub, now, out| scrub.start(now, Some(PartitionId(2)), out));
    for _ in 0..TRIES {
        let [(step, 2, Some(0))] = next[..] else { panic!("{next:?}") };
        assert_eq!(bench.answer(step, hot.clone()), []);
        next = bench.wait().1;
    }
    // The rest of the order is carried out, and the walk goes everywhere.
    let (mut tries, mut seen) = (0, BTreeSet::new());
    while seen.len() < 8 {
        let [(step, partition, Some(from))] = next[..] else { panic!("{next:?}") };
        seen.insert((partition, from));
        let is_hot = (partition, from) == (2, 0);
        tries += u32::from(is_hot);
        assert!(tries < 1000, "nothing else is read: {seen:?}");
        next = bench.answer(step, if is_hot { hot.clone() } else { through(from + 64) });
        if next.is_empty() {
            next = bench.wait().1;
        }
    }
    assert_eq!((bench.scrub.left(), bench.scrub.progress().of), (1, 0));
    assert!(tries > 100, "it is tried again all the while: {tries}");
    // It comes to rest.
    while bench.scrub.left() > 0 {
        let [(step, _, Some(from))] = next[..] else { panic!("{next:?}") };
        next = bench.answer(step, through(from + 32));
        if next.is_empty() {
            next = bench.wait().1;
        }
    }
}

#[test]
fn the_walk_goes_on_behind_what_is_never_at_rest() {
    let mut bench = Bench::new(config(HOUR));
    let mut seen = Vec::new();
    for _ in 0..=TRIES {
        let [(step, partition, Some(from))] = bench.wait().1[..] else { panic!("it reads") };
        assert_eq!(bench.answer(step, Scrubbed { exact: false, ..through(from + 64) }), []);
        seen.push((partition, from));
    }
    assert_eq!((&seen, bench.scrub.left()), (&vec![seen[0]; TRIES as usize + 1], 1));
    loop {
        let [(step, partition, Some(from))] = bench.wait().1[..] else { panic!("it reads") };
        if (partition, from) != seen[0] {
            break;
        }
        assert!(step < Step(1000), "the walk has stopped");
        bench.answer(step, Scrubbed { exact: false, ..through(from + 64) });
    }
}

#[test]
fn what_cannot_be_read_keeps_nothing_else_from_being_read() {
    let mut bench = Bench::new(config(Duration::ZERO));
    bench.act(|scrub, now, out| scrub.start(now, Some(PartitionId(0)), out));
    let failed = || Err(OpFailure::Unreadable { detail: "a bad block".into(), rotten: true });
    assert_eq!(bench.act(|scrub, now, out| scrub.on_scrubbed(now, Step(1), failed(), out)), []);
    assert_eq!(bench.wait().1, [(Step(2), 0, Some(1))]);
    assert_eq!(bench.scrub.counters().failed, 1);
    let stopped = Err(OpFailure::Stopped);
    assert_eq!(bench.act(|scrub, now, out| scrub.on_scrubbed(now, Step(2), stopped, out)), []);
    assert_eq!(bench.scrub.poll_timeout(), None);
}

#[test]
fn answers_that_nobody_waits_for_are_ignored() {
    let mut bench = Bench::new(config(Duration::ZERO));
    bench.count(&[0]);
    assert_eq!(bench.answer(Step(9), through(64)), []);
    assert_eq!(bench.scrub.counters(), ScrubCounters::default());
}

#[test]
fn an_order_and_the_walk_say_how_far_they_are() {
    let mut bench = Bench::new(config(HOUR));
    let ends = |bench: &Bench| bench.scrub.progress().walk_ends.map(|ends| ends.since(bench.now.time).as_secs());
    assert!((3200..=4000).contains(&ends(&bench).unwrap()), "{:?}", ends(&bench));
    for walked in [64, 128, 192, 256, 320, 384, 448, 0] {
        let (_, begun) = bench.wait();
        assert_eq!(bench.scrub.progress().running, Some(PartitionId(begun[0].1)));
        bench.answer(begun[0].0, through(begun[0].2.unwrap() + 64));
        let progress = bench.scrub.progress();
        assert_eq!((progress.walked, progress.leaves, progress.running), (walked, 512, None));
    }
    let mut next = bench.act(|scrub, now, out| scrub.start(now, None, out));
    let mut seen = Vec::new();
    while let [(step, _, Some(from))] = next[..] {
        let progress = bench.scrub.progress();
        seen.push((progress.done, progress.of));
        next = bench.answer(step, through(from + 64));
    }
    assert_eq!(seen, (0..8).map(|stretch| (stretch * 64, 512)).collect::<Vec<_>>());
    assert_eq!((bench.scrub.progress().done, bench.scrub.progress().of), (0, 0), "the order is carried out");
    assert_eq!(Bench::new(config(Duration::ZERO)).scrub.progress().walk_ends, None);
}

#[test]
fn what_somebody_could_not_read_is_looked_for_at_once() {
    let mut bench = Bench::new(config(Duration::ZERO));
    let met = |partition| {
        move |scrub: &mut Scrub, now, out: &mut Vec<_>| scrub.on_unreadable(now, PartitionId(partition), out)
    };
    assert_eq!(bench.act(met(9)), [], "it is none of this shard's");
    assert_eq!(bench.act(met(2)), [(Step(1), 2, Some(0))]);
    assert_eq!(bench.answer(Step(1), through(64)), [(Step(2), 2, Some(64))]);
    // One before it in order is read before the rest of it.
    assert_eq!((bench.act(met(2)), bench.act(met(1))), (vec![], vec![]));
    assert_eq!(bench.answer(Step(2), through(100)), [(Step(3), 1, Some(0))]);
    assert_eq!(bench.answer(Step(3), through(128)), [(Step(4), 2, Some(100))]);
    let stays = Scrubbed { hopeless: vec![bytes::Bytes::from_static(b"k")], ..through(128) };
    assert_eq!(bench.answer(Step(4), stays), []);
    assert_eq!(bench.act(met(2)), [], "that is known");
    assert_eq!(bench.act(|scrub, now, out| scrub.start(now, Some(PartitionId(2)), out)), [(Step(5), 2, Some(0))]);
}
