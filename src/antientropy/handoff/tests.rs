//! Whole lists of commands, one input after the other.

mod failures;

use bytes::Bytes;
use bytesize::ByteSize;

use super::*;
use crate::antientropy::config::ByteRate;
use crate::ring::{Layout, Member, Partitions, Weight};
use crate::storage::{Hint, HintEntry, HintSpec, object_key};
use crate::types::{Bucket, Key, RingVersion, WriteId};
use crate::version::{Actor, Body, CausalContext, Dot, Object, Sibling};

const SELF: NodeId = NodeId(1);
const WINDOW: usize = 4;

fn settings(config: HintsConfig) -> Settings {
    Settings { node: SELF, shard: 0, shards: 1, window: WINDOW, config }
}

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        zone: "default".into(),
        weight: Weight::default(),
        address: format!("10.0.0.{id}:7400"),
    }
}

/// Four members, three replicas.
fn view() -> Arc<RingView> {
    let layout = Layout::birth(Partitions::default(), (1..=4).map(member).collect(), [].into()).unwrap();
    let cluster = layout.cluster_id();
    Arc::new(RingView::new(layout, cluster))
}

/// The next ring, in which node 4 is no more.
fn next_view() -> Arc<RingView> {
    let view = view();
    let layout = view.layout();
    let heir = |owner: &NodeId| if owner.0 == 4 { NodeId(2) } else { *owner };
    let owners = layout.owners().iter().map(heir).collect();
    let members = (1..=3).map(member).collect();
    let version = RingVersion(2);
    let next = Layout::new(version, layout.partitions(), owners, members, vec![NodeId(4)], layout.buckets().clone());
    Arc::new(RingView::new(next.unwrap(), view.cluster()))
}

/// Keys of which node 4 is a primary, and this node is or is not.
fn keys(own: bool) -> impl Iterator<Item = Bytes> {
    let view = view();
    let name = |number: u32| Key::new(format!("k{number}")).unwrap();
    (0..).map(name).filter_map(move |key| {
        let bucket = Bucket::default();
        let (partition, token) = view.partition_of(&bucket, &key);
        let list = view.preference(partition, &bucket)?;
        let fits = list.slot_of(NodeId(4)).is_some() && list.slot_of(SELF).is_some() == own;
        fits.then(|| object_key(partition, token, &bucket, &key).into())
    })
}

fn object() -> Arc<Object> {
    let dot = Dot { actor: Actor(1), counter: 1 };
    let sibling = Sibling { dot, write_id: WriteId(1), node: SELF, wall_ms: 1, body: Body::Value("v".into()) };
    Arc::new(Object::update(None, &CausalContext::default(), sibling))
}

fn entry(counted: bool) -> HintEntry {
    HintEntry { counted, bytes: 100, hinted_ms: 1000 }
}

fn item(key: &Bytes, counted: bool) -> HintItem {
    HintItem { target: NodeId(4), key: key.clone(), entry: entry(counted) }
}

fn found() -> HintFound {
    let object = object();
    let hint = Hint { target: NodeId(4), counted: true, digest: Digest([7; 16]), hinted_ms: 1000 };
    HintFound { object, hint, round: Round(3) }
}

/// A handoff and the clock it goes by.
struct Bench {
    handoff: Handoff,
    now: Now,
}

impl Bench {
    /// It knows the ring, and has asked for the first page of the census.
    fn new(config: HintsConfig) -> Bench {
        let now = Now { time: Time::from_micros(1_000_000), wall_ms: 2000 };
        let mut bench = Bench { handoff: Handoff::new(settings(config), 1), now };
        let asked = bench.act(|handoff, now, out| handoff.on_ring(now, view(), out));
        let spec = HintSpec { target: None, after: None, shard: 0, shards: 1, limit: CENSUS_PAGE };
        assert_eq!(asked, [Command::Read { ticket: CENSUS, spec }]);
        bench
    }

    /// It has found these on the disk.
    fn with(config: HintsConfig, items: &[HintItem]) -> Bench {
        let mut bench = Bench::new(config);
        let page = HintPage { items: items.to_vec(), ..HintPage::default() };
        assert_eq!(bench.act(|handoff, now, out| handoff.on_page(now, CENSUS, Ok(page), out)), []);
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Handoff, Now, &mut Vec<Command>)) -> Vec<Command> {
        let mut out = Vec::new();
        act(&mut self.handoff, self.now, &mut out);
        out
    }

    fn pass(&mut self, micros: u64) {
        self.now.time = self.now.time + Duration::from_micros(micros);
        self.now.wall_ms += micros / 1000;
    }

    fn reach(&mut self, node: u64) -> Vec<Command> {
        self.act(|handoff, now, out| handoff.on_reach(now, NodeId(node), true, out))
    }

    /// The ticket of the page of node 4's hints that was asked for.
    #[track_caller]
    fn ticket(commands: &[Command]) -> Ticket {
        match commands {
            [Command::Read { ticket, spec: HintSpec { target: Some(NodeId(4)), .. } }] => *ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Node 4 is back, and these are read of its hints; what follows.
    fn read(&mut self, items: &[HintItem]) -> Vec<Command> {
        let ticket = Bench::ticket(&self.reach(4));
        let page = HintPage { items: items.to_vec(), ..HintPage::default() };
        self.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page), out))
    }

    /// The numbers' change that an operation reports when it drops a hint.
    fn gone(&mut self, item: &HintItem) -> Vec<Command> {
        let change = HintChange { target: item.target, key: item.key.clone(), old: Some(item.entry), new: None };
        self.act(|handoff, now, out| handoff.on_changes(now, vec![change], out))
    }
}

fn look(job: u64, key: &Bytes) -> Command {
    Command::Look { job: JobId(job), target: NodeId(4), key: key.clone() }
}

#[test]
fn a_hint_is_looked_at_sent_and_dropped_once_its_target_has_it() {
    for own in [false, true] {
        let key = keys(own).next().unwrap();
        let mut bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
        assert_eq!(bench.read(&[item(&key, true)]), [look(2, &key)]);
        let job = JobId(2);
        let sent = bench.act(|handoff, now, out| handoff.on_found(now, job, Ok(Some(found())), out));
        let send = Command::Send { job, to: vec![NodeId(4)], key: key.clone(), object: object(), round: Round(3) };
        assert_eq!(sent, [send]);
        let acknowledged = bench.act(|handoff, now, out| handoff.on_acknowledged(now, job, out));
        let drop = Command::Drop {
            job,
            target: NodeId(4),
            key: key.clone(),
            digest: Digest([7; 16]),
            sent: object().digest(),
            keep_object: own,
        };
        assert_eq!(acknowledged, [drop]);
        assert_eq!(bench.gone(&item(&key, true)), []);
        assert_eq!(bench.act(|handoff, now, out| handoff.on_dropped(now, job, Ok(HintDrop::Dropped), out)), []);
        assert_eq!((bench.handoff.backlog(), bench.handoff.poll_timeout()), (vec![], None), "nothing is left to do");
        assert_eq!(bench.handoff.counters(), HandoffCounters { replayed: 1, ..Default::default() });
    }
}

#[test]
fn a_target_that_goes_is_forgotten_and_begun_anew_when_it_comes() {
    let all: Vec<HintItem> = keys(false).take(3).map(|key| item(&key, true)).collect();
    let mut bench = Bench::with(HintsConfig::default(), &all);
    assert_eq!(bench.read(&all).len(), 3);
    assert_eq!(bench.act(|handoff, now, out| handoff.on_reach(now, NodeId(4), false, out)), []);
    let late = bench.act(|handoff, now, out| handoff.on_found(now, JobId(2), Ok(Some(found())), out));
    assert_eq!((late, bench.handoff.poll_timeout()), (vec![], None), "it waits for nothing but the target");
    assert_eq!(bench.read(&all).len(), 3, "from the beginning");
}

#[test]
fn no_more_than_a_window_is_under_way_and_pages_follow_one_another() {
    let all: Vec<HintItem> = keys(false).take(WINDOW + 1).map(|key| item(&key, true)).collect();
    let mut bench = Bench::with(HintsConfig { replay_rate: ByteRate(1 << 30), ..HintsConfig::default() }, &all);
    let ticket = Bench::ticket(&bench.reach(4));
    let next = Some(Bytes::from_static(b"here"));
    let page = HintPage { items: all, next: next.clone(), ..HintPage::default() };
    let begun = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page), out));
    assert_eq!(begun.len(), WINDOW);
    let Command::Look { job, .. } = begun[0] else { panic!("{begun:?}") };
    // The hint went its own way: the last one takes its place, and then there is room for a page.
    let last = bench.act(|handoff, now, out| handoff.on_found(now, job, Ok(None), out));
    let [Command::Look { .. }, Command::Read { ticket: again, spec }] = last.as_slice() else { panic!("{last:?}") };
    assert_eq!((*again, &spec.after), (ticket, &next));
}

#[test]
fn a_throttle_holds_back_and_says_until_when() {
    let all: Vec<HintItem> = keys(false).take(9).map(|key| item(&key, true)).collect();
    let mut bench = Bench::with(HintsConfig { replay_rate: ByteRate(1000), ..HintsConfig::default() }, &all);
    assert_eq!(bench.read(&all).len(), 1, "one hint takes more than a tenth of a second");
    let wake = bench.handoff.poll_timeout().expect("the rest is to come");
    let pause = wake.since(bench.now.time);
    assert!(pause > Duration::ZERO && pause < Duration::from_millis(300), "{pause:?}");
    bench.pass(u64::try_from(pause.as_micros()).unwrap());
    assert_eq!(bench.act(Handoff::on_timer).len(), 1);
}

/// Trap 2.
#[test]
fn what_a_departed_node_missed_goes_to_all_owners_of_today_or_stays() {
    let key = keys(false).next().unwrap();
    let mut bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
    bench.reach(2);
    let ring = bench.act(|handoff, now, out| handoff.on_ring(now, next_view(), out));
    let ticket = Bench::ticket(&ring);
    let page = || HintPage { items: vec![item(&key, true)], ..HintPage::default() };
    assert_eq!(bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page()), out)), [], "node 3 is away");
    bench.pass(300_000);
    let ticket = Bench::ticket(&bench.reach(3));
    let begun = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page()), out));
    let [Command::Look { job, .. }] = begun[..] else { panic!("{begun:?}") };
    let sent = bench.act(|handoff, now, out| handoff.on_found(now, job, Ok(Some(found())), out));
    let [Command::Send { to, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    let mut to = to.clone();
    to.sort();
    assert_eq!(to, [1, 2, 3].map(NodeId), "this node too is an owner now");
    let end = bench.act(|handoff, now, out| handoff.on_acknowledged(now, job, out));
    assert!(matches!(end[..], [Command::Drop { keep_object: true, .. }]), "{end:?}");
    bench.act(|handoff, now, out| handoff.on_dropped(now, job, Ok(HintDrop::Dropped), out));
    assert_eq!(bench.handoff.counters(), HandoffCounters { replayed: 1, rerouted: 1, ..Default::default() });
}

/// The next ring, in which node 4 owns nothing any more, though it is a member.
fn view_beside_4() -> Arc<RingView> {
    let view = view();
    let layout = view.layout();
    let heir = |owner: &NodeId| if owner.0 == 4 { NodeId(2) } else { *owner };
    let owners = layout.owners().iter().map(heir).collect();
    let members = (1..=4).map(member).collect();
    let version = RingVersion(2);
    let next = Layout::new(version, layout.partitions(), owners, members, Vec::new(), layout.buckets().clone());
    Arc::new(RingView::new(next.unwrap(), view.cluster()))
}

/// Trap 13: a holder that restarts after the change is told of no change, nor of a target that has been away all along.
#[test]
fn what_was_kept_for_a_former_owner_is_sought_out_at_a_start_though_that_is_away() {
    let key = keys(false).next().unwrap();
    let now = Now { time: Time::from_micros(1_000_000), wall_ms: 2000 };
    let mut bench = Bench { handoff: Handoff::new(settings(HintsConfig::default()), 1), now };
    bench.reach(2);
    bench.reach(3);
    bench.act(|handoff, now, out| handoff.on_ring(now, view_beside_4(), out));
    let page = || HintPage { items: vec![item(&key, true)], ..HintPage::default() };
    let ticket = Bench::ticket(&bench.act(|handoff, now, out| handoff.on_page(now, CENSUS, Ok(page()), out)));
    let begun = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page()), out));
    let [Command::Look { job, .. }] = begun[..] else { panic!("{begun:?}") };
    let sent = bench.act(|handoff, now, out| handoff.on_found(now, job, Ok(Some(found())), out));
    let [Command::Send { to, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    assert!(!to.contains(&NodeId(4)), "{to:?}");
}

/// A put that began under the old ring gives it for whoever was an owner then.
#[test]
fn what_is_given_for_a_former_owner_is_sought_out_too() {
    let key = keys(false).next().unwrap();
    let mut bench = Bench::with(HintsConfig::default(), &[]);
    bench.reach(2);
    bench.reach(3);
    bench.act(|handoff, now, out| handoff.on_ring(now, view_beside_4(), out));
    let given = HintChange { target: NodeId(4), key: key.clone(), old: None, new: Some(entry(true)) };
    let ticket = Bench::ticket(&bench.act(|handoff, now, out| handoff.on_changes(now, vec![given], out)));
    // read before the hint was committed: it is looked for once more
    bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(HintPage::default()), out));
    bench.pass(1_000_000);
    let ticket = Bench::ticket(&bench.act(Handoff::on_timer));
    let page = HintPage { items: vec![item(&key, true)], ..HintPage::default() };
    let begun = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page), out));
    assert!(matches!(begun[..], [Command::Look { target: NodeId(4), .. }]), "{begun:?}");
}

/// What comes after it is no part of it.
#[test]
fn an_order_to_drop_is_over_when_nothing_waits() {
    let key = keys(false).next().unwrap();
    let mut bench = Bench::with(HintsConfig::default(), &[]);
    assert_eq!(bench.act(|handoff, now, out| handoff.discard(now, NodeId(4), out)), []);
    let given = HintChange { target: NodeId(4), key: key.clone(), old: None, new: Some(entry(true)) };
    assert_eq!(bench.act(|handoff, now, out| handoff.on_changes(now, vec![given], out)), []);
    let begun = bench.read(&[item(&key, true)]);
    assert!(matches!(begun[..], [Command::Look { .. }]), "{begun:?}");
}

fn aged(bench: &mut Bench, items: &[HintItem]) -> Vec<Command> {
    bench.pass(20_000_000);
    let wake = bench.act(Handoff::on_timer);
    if wake.is_empty() {
        return wake;
    }
    let ticket = Bench::ticket(&wake);
    let page = HintPage { items: items.to_vec(), ..HintPage::default() };
    bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page), out))
}

#[test]
fn only_uncounted_hints_expire() {
    let config = || HintsConfig { max_age: Duration::from_secs(10), ..HintsConfig::default() };
    let key = keys(false).next().unwrap();
    let mut bench = Bench::with(config(), &[item(&key, true)]);
    assert_eq!(aged(&mut bench, &[item(&key, true)]), []);
    let mut bench = Bench::with(config(), &[item(&key, false)]);
    let discard =
        Command::Discard { job: JobId(2), target: NodeId(4), key: key.clone(), counted_too: false, keep_object: false };
    assert_eq!(aged(&mut bench, &[item(&key, false)]), [discard]);
    bench.act(|handoff, now, out| handoff.on_dropped(now, JobId(2), Ok(HintDrop::Dropped), out));
    assert_eq!(bench.handoff.counters().expired, 1);
}

#[test]
fn bytes_bound_what_counts_for_nothing() {
    let key = keys(false).next().unwrap();
    let config = HintsConfig { max_bytes: ByteSize::b(250), ..HintsConfig::default() };
    let mut bench = Bench::with(config, &[item(&key, false)]);
    assert!(bench.handoff.may_hint_uncounted(150));
    assert!(!bench.handoff.may_hint_uncounted(151));
    assert_eq!(bench.handoff.counters().refused, 1);
}

#[test]
fn an_order_to_drop_spares_nothing_and_a_stop_begins_nothing() {
    let key = keys(true).next().unwrap();
    let mut bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
    let ticket = Bench::ticket(&bench.act(|handoff, now, out| handoff.discard(now, NodeId(4), out)));
    let page = || HintPage { items: vec![item(&key, true)], ..HintPage::default() };
    let begun = bench.act(|handoff, now, out| handoff.on_page(now, ticket, Ok(page()), out));
    let [Command::Discard { counted_too: true, keep_object: true, .. }] = begun[..] else { panic!("{begun:?}") };
    bench.handoff.stop();
    assert_eq!((bench.reach(4), bench.handoff.poll_timeout()), (vec![], None));
}

#[test]
fn what_waits_is_known_when_the_whole_index_was_walked_over() {
    let mut keys = keys(true);
    let mut key = || keys.next().unwrap();
    let mut bench = Bench::new(HintsConfig::default());
    let page =
        HintPage { items: vec![item(&key(), true)], next: Some(Bytes::from_static(b"n")), ..HintPage::default() };
    bench.act(|handoff, now, out| handoff.on_page(now, CENSUS, Ok(page), out));
    assert!(!bench.handoff.is_counted());
    let rest = HintPage { items: vec![item(&key(), true)], ..HintPage::default() };
    bench.act(|handoff, now, out| handoff.on_page(now, CENSUS, Ok(rest), out));
    assert!(bench.handoff.is_counted());
    assert_eq!(bench.handoff.waiting().0, 2);
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_drop_what_was_not_acknowledged() {
    use crate::mutant::{Mutant, plant};
    let key = keys(false).next().unwrap();
    {
        let mut bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
        bench.read(&[item(&key, true)]);
        let _planted = plant(Mutant::HintDroppedOnSend);
        let sent = bench.act(|handoff, now, out| handoff.on_found(now, JobId(2), Ok(Some(found())), out));
        assert!(matches!(sent[..], [Command::Send { .. }, Command::Drop { .. }]), "{sent:?}");
    }
    {
        let _planted = plant(Mutant::HintsLostOnRestart);
        let bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
        assert_eq!(bench.handoff.backlog(), []);
    }
    let _planted = plant(Mutant::CountedHintExpires);
    let mut bench = Bench::with(HintsConfig::default(), &[item(&key, true)]);
    let expired = aged(&mut bench, &[item(&key, true)]);
    assert!(matches!(expired[..], [Command::Discard { counted_too: true, .. }]), "{expired:?}");
}
