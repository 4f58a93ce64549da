//! Drawing a schedule from a seed.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::{Act, ClusterPlan, Extras, Fault, FaultEvent, Operation, Schedule, Shape};
use crate::quorum::HedgeAfter;

/// Legal but unlikely ways, "buggify" (FoundationDB): a real network or scheduler could do each of them, and seldom would.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Buggify {
    /// Inputs that a drain takes at most; the rest waits for the next.
    pub batch: Option<usize>,
    /// How likely a replicate to the last of three slots is left out, so that W has to be met by the others.
    pub withhold: f64,
    /// How likely a client asks a node first that holds no copy of the key.
    pub misroute: f64,
    /// Microseconds between the log and what leaves after it, at most.
    pub release_us: u64,
}

/// Between two faults, so that a seed is calm or wild.
const FAULT_GAPS_MS: [u64; 4] = [1200, 1800, 2700, 4000];
/// Most disks that a run may lose: nothing rebuilds them yet.
const MOST_WIPES: usize = 1;

impl Schedule {
    /// The run of a seed.
    pub fn draw(seed: u64, span: Duration) -> Schedule {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let cluster = ClusterPlan { record_cache: draw_record_cache(seed), ..draw_cluster(&mut rng) };
        let faults = draw_faults(&mut rng, &cluster, span);
        let operations = draw_operations(&mut rng, &cluster, span);
        Schedule { seed, span, cluster, faults, operations }
    }
}

/// None; a few records, without their values; more, only the long ones without; all. Drawn by itself, so that it could be added without changing
/// what else seeds mean.
fn draw_record_cache(seed: u64) -> usize {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(!seed);
    *[0, 3_000, 24_000, 1 << 20].choose(&mut rng).expect("a choice of sizes")
}

fn draw_cluster(rng: &mut Xoshiro256PlusPlus) -> ClusterPlan {
    let nodes = *[3, 4, 5, 5, 5, 5, 5, 7].choose(rng).expect("a choice of sizes");
    let mut pick = |choices: &[u64]| *choices.choose(rng).expect("there is a choice");
    let request_timeout = Duration::from_millis(pick(&[1000, 2000, 5000]));
    let attempt_timeout = Duration::from_millis(pick(&[40, 100, 300]));
    let gossip_interval = Duration::from_millis(pick(&[200, 500, 500]));
    let key_life = Duration::from_secs(pick(&[8, 20, 45]));
    let partitions = u32::try_from(pick(&[8, 16, 64])).expect("a small number");
    let max_inflight = usize::try_from(pick(&[3, 16, 256, 256])).expect("a small number");
    let max_siblings = u32::try_from(pick(&[4, 12, 50, 50])).expect("a small number");
    let (sync_us, read_us) = (pick(&[300, 2000, 8000]), pick(&[200, 5000, 40_000]));
    let most_delay = pick(&[300, 2000, 20_000]);
    let misses = rng.random_bool(0.6);
    ClusterPlan {
        shards: (0..nodes).map(|_| rng.random_range(1..=3)).collect(),
        partitions,
        clients: rng.random_range(3..=8),
        keys: rng.random_range(2..=8),
        key_life,
        sync: rng.random_bool(0.8),
        max_inflight,
        record_cache: 0,
        max_siblings,
        sloppy: rng.random_bool(0.8),
        request_timeout,
        attempt_timeout,
        read_repair_chance: if rng.random_bool(0.3) { 0.5 } else { 0.1 },
        hedge_after: if rng.random_bool(0.5) { HedgeAfter::P95 } else { HedgeAfter::Fixed(Duration::from_millis(3)) },
        gossip_interval,
        miss_probability: if misses { 0.5 } else { 0.0 },
        resident_keys: rng.random_range(0..=6),
        delay_us: (50, most_delay),
        sync_us,
        read_us,
        drift_ppm: (0..nodes).map(|_| rng.random_range(-300..=300)).collect(),
        birth_kills: if rng.random_bool(0.3) { rng.random_range(1..=4) } else { 0 },
        last_blackout: rng.random_bool(0.5),
        buggify: Buggify {
            batch: rng.random_bool(0.3).then(|| rng.random_range(1..=3)),
            withhold: if rng.random_bool(0.4) { 0.3 } else { 0.0 },
            misroute: if rng.random_bool(0.4) { 0.3 } else { 0.02 },
            release_us: if rng.random_bool(0.3) { 5000 } else { 0 },
        },
    }
}

/// A kind of fault that a seed may enable.
const KINDS: usize = 18;

fn draw_faults(rng: &mut Xoshiro256PlusPlus, cluster: &ClusterPlan, span: Duration) -> Vec<FaultEvent> {
    let enabled: Vec<usize> = loop {
        let kinds: Vec<usize> = (0..KINDS).filter(|_| rng.random_bool(0.5)).collect();
        if kinds.len() >= 4 {
            break kinds;
        }
    };
    let gap = *FAULT_GAPS_MS.choose(rng).expect("a choice of gaps");
    let (mut faults, mut wipes) = (Vec::new(), 0);
    let mut at = Duration::from_millis(rng.random_range(0..2000));
    while at < span {
        let kind = *enabled.choose(rng).expect("some are enabled");
        let node = rng.random_range(0..u8::try_from(cluster.shards.len()).expect("few nodes"));
        let fault = draw_fault(rng, kind, node);
        let loses_disk = matches!(fault, Fault::Wipe { .. } | Fault::OldCopy { .. });
        wipes += usize::from(loses_disk);
        if !loses_disk || wipes <= MOST_WIPES {
            faults.push(FaultEvent { at, lasts: draw_length(rng, fault, gap), fault });
        }
        at += Duration::from_millis(rng.random_range(gap / 4..gap * 2));
    }
    faults
}

fn draw_fault(rng: &mut Xoshiro256PlusPlus, kind: usize, node: u8) -> Fault {
    match kind {
        0 => Fault::Kill { node },
        1 => Fault::Stop { node },
        2 => Fault::KillAll,
        3 => Fault::PowerLoss { node },
        4 => Fault::PowerLossAll { amid: rng.random_bool(0.5) },
        5 => Fault::DieWithin { node, step: rng.random_range(0..3), power: rng.random_bool(0.5) },
        6 => Fault::Wipe { node },
        7 => Fault::OldCopy { node },
        8 => Fault::Pause { node },
        9 => Fault::ClockJump { node, ms: rng.random_range(-600_000..=600_000) },
        10 => Fault::ReadError { node },
        11 => Fault::CommitError { node, in_log: rng.random_bool(0.5) },
        12 => Fault::SyncError { node },
        13 => Fault::FullDisk { node, noticed: rng.random_bool(0.5) },
        14 if rng.random_bool(0.3) => match rng.random_bool(0.5) {
            true => Fault::BitFlip { node },
            false => Fault::RangeRot { node },
        },
        14 => Fault::SlowDisk { node },
        15 => Fault::SlowNode { node },
        16 => Fault::Partition { shape: *Shape::ALL.choose(rng).expect("there are shapes"), node },
        _ => Fault::Weather {
            loss: rng.random_range(0..=20),
            doubled: rng.random_range(0..=15),
            late: rng.random_range(0..=20),
        },
    }
}

/// How long a fault lasts: as long as it is to the next one, more or less, so that most writes meet one.
fn draw_length(rng: &mut Xoshiro256PlusPlus, fault: Fault, gap: u64) -> Duration {
    let ms = match fault {
        Fault::KillAll | Fault::PowerLossAll { .. } => rng.random_range(100..2000),
        Fault::Weather { .. } => rng.random_range(3000..20_000),
        Fault::Partition { .. } => rng.random_range(500..10_000),
        _ => rng.random_range(gap / 2..gap * 2 + 2000),
    };
    Duration::from_millis(ms)
}

fn draw_operations(rng: &mut Xoshiro256PlusPlus, cluster: &ClusterPlan, span: Duration) -> Vec<Operation> {
    let gap_us = 1_000_000 / rng.random_range(11..=18);
    // Each seed has a taste of its own: mostly blind writes, mostly merges, many deletes.
    let taste: Vec<u32> = (0..8).map(|_| rng.random_range(1..=4)).collect();
    let (mut operations, mut at) = (Vec::new(), Duration::ZERO);
    while at < span {
        let burst = if rng.random_bool(0.01) { rng.random_range(5..25) } else { 1 };
        for _ in 0..burst {
            operations.push(draw_operation(rng, cluster, at, &taste));
        }
        at += Duration::from_micros(rng.random_range(1..2 * gap_us));
    }
    operations
}

fn draw_operation(rng: &mut Xoshiro256PlusPlus, cluster: &ClusterPlan, at: Duration, taste: &[u32]) -> Operation {
    let acts = [Act::Get, Act::Scan, Act::Blind, Act::Update, Act::Stale, Act::Merge, Act::Delete, Act::Retry];
    let weights = [8, 1, 4, 8, 2, 6, 2, 1];
    let total: u32 = weights.iter().zip(taste).map(|(weight, taste)| weight * taste).sum();
    let mut draw = rng.random_range(0..total);
    let chosen = weights.iter().zip(taste).position(|(weight, taste)| {
        let share = weight * taste;
        let here = draw < share;
        draw = draw.saturating_sub(share);
        here
    });
    let act = acts[chosen.expect("the draw lies within the total")];
    let (client, key) = (rng.random_range(0..cluster.clients), rng.random_range(0..cluster.keys));
    let level = *[1, 1, 2, 2, 2, 2, 3].choose(rng).expect("a choice of levels");
    let in_session = rng.random_bool(0.2);
    let salt = rng.random();
    Operation { at, client, key, act, level, in_session, extras: Extras::of(salt), salt }
}
