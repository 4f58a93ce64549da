//! When trees are walked over.

use super::*;
use crate::ring::{Layout, Member, Partitions, Weight};

const SELF: NodeId = NodeId(1);

/// A reaper of one tree, that does nothing but by order.
struct Bench {
    reaper: Reaper,
    now: Now,
}

impl Bench {
    fn new() -> Bench {
        let settings = ReaperSettings { node: SELF, shard: 0, shards: 1, interval: Duration::ZERO };
        let (zone, weight) = ("default".into(), Weight::default());
        let member = Member { id: SELF, name: "n1".into(), zone, weight, address: "10.0.0.1:7400".into() };
        let layout = Layout::birth(Partitions::new(1).unwrap(), vec![member], [].into()).unwrap();
        let cluster = layout.cluster_id();
        let view = Arc::new(RingView::new(layout, cluster));
        let now = Now { time: Time::from_micros(1_000_000), wall_ms: 0 };
        let mut bench = Bench { reaper: Reaper::new(settings, 1), now };
        assert_eq!(bench.act(|reaper, now, out| reaper.on_ring(now, view, out)), []);
        bench
    }

    fn act(&mut self, act: impl FnOnce(&mut Reaper, Now, &mut Vec<ReaperCommand>)) -> Vec<ReaperCommand> {
        let mut out = Vec::new();
        act(&mut self.reaper, self.now, &mut out);
        out
    }

    fn order(&mut self) -> Vec<ReaperCommand> {
        self.act(|reaper, now, out| reaper.start(now, None, out))
    }

    /// The store has been searched: there is nothing, or it cannot be read.
    fn found(&mut self, step: u64, read: bool) -> Vec<ReaperCommand> {
        let found = read.then(|| Tombstones { candidates: Vec::new(), next: None });
        self.act(|reaper, now, out| reaper.on_found(now, Step(step), found, out))
    }
}

fn find(step: u64) -> ReaperCommand {
    let tree = TreeId { partition: PartitionId(0), n: 3 };
    ReaperCommand::Find { step: Step(step), tree, after: None, limit: MAX_CANDIDATES }
}

#[test]
fn what_is_ordered_during_a_walk_is_walked_over_once_more() {
    let mut bench = Bench::new();
    assert_eq!(bench.order(), [find(1)]);
    assert_eq!(bench.order(), []);
    assert_eq!(bench.found(1, true), [find(2)]);
    assert_eq!(bench.found(2, true), []);
    assert_eq!(bench.reaper.poll_timeout(), None);
}

/// The walk that follows is the one that was ordered.
#[test]
fn an_order_during_a_walk_that_fails_is_carried_out_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.order(), [find(1)]);
    assert_eq!(bench.order(), []);
    assert_eq!(bench.found(1, false), []);
    bench.now.time = bench.reaper.poll_timeout().expect("it tries again");
    assert_eq!(bench.act(Reaper::on_timer), [find(2)]);
    assert_eq!(bench.found(2, true), []);
    assert_eq!(bench.reaper.poll_timeout(), None);
}
