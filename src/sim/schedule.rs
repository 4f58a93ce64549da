//! What a run will be: cluster, faults, operations. Drawn from one seed and plain data, so that it can be cut down to
//! the part that matters.

mod draw;

use std::time::Duration;

use crate::quorum::HedgeAfter;

pub use draw::Buggify;

/// One run, in full: the same schedule gives the same run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What it was drawn from, and what the world draws from.
    pub seed: u64,
    /// How long faults may event; healing comes after.
    pub span: Duration,
    /// Who takes part.
    pub cluster: ClusterPlan,
    /// What befalls them, by time.
    pub faults: Vec<FaultEvent>,
    /// What clients do, by time.
    pub operations: Vec<Operation>,
}

/// The cluster, its machines and their temper.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPlan {
    /// Shards of each node; as many nodes as entries, at least 3.
    pub shards: Vec<u16>,
    /// Partitions of the ring.
    pub partitions: u32,
    /// Clients, each a machine of its own.
    pub clients: u8,
    /// Keys in use at a time.
    pub keys: u8,
    /// How long a key is in use before another takes its place.
    pub key_life: Duration,
    /// Acknowledgements promise durability.
    pub sync: bool,
    /// Requests in flight, for each shard.
    pub max_inflight: usize,
    /// Bytes of records that a node keeps in memory.
    pub record_cache: usize,
    /// Siblings of a key.
    pub max_siblings: u32,
    /// Stand-ins take the slots of those that are away.
    pub sloppy: bool,
    /// A request's time.
    pub request_timeout: Duration,
    /// An attempt's time.
    pub attempt_timeout: Duration,
    /// How likely a get asks all replicas.
    pub read_repair_chance: f64,
    /// When a get asks one replica more.
    pub hedge_after: HedgeAfter,
    /// Between gossip exchanges.
    pub gossip_interval: Duration,
    /// How likely a record that is not resident is not in memory.
    pub miss_probability: f64,
    /// Keys that stay in memory.
    pub resident_keys: usize,
    /// Microseconds that a frame takes on a good day, least and most.
    pub delay_us: (u64, u64),
    /// Microseconds of a sync, at most.
    pub sync_us: u64,
    /// Microseconds of a read from the disk, at most.
    pub read_us: u64,
    /// How much each node's clock runs fast, in parts of a million.
    pub drift_ppm: Vec<i32>,
    /// Kills before the cluster is born.
    pub birth_kills: u8,
    /// Everybody loses power once more before the final look.
    pub last_blackout: bool,
    /// Legal but unlikely ways.
    pub buggify: Buggify,
}

/// A fault, when it faults, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultEvent {
    /// From the birth of the cluster.
    pub at: Duration,
    /// Until it is healed: the process restarted, the cut mended.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
}

/// How a cluster may fall apart. Everybody has clients on his side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One node against all others.
    Single,
    /// Two halves.
    Halves,
    /// Two halves that only one node sees both of.
    Bridge,
    /// Everybody sees the two next to him.
    Ring,
    /// Nobody hears one node, who hears all.
    OneWay,
    /// One node, now and then.
    Flapping,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 6] =
        [Shape::Single, Shape::Halves, Shape::Bridge, Shape::Ring, Shape::OneWay, Shape::Flapping];
}

/// What may befall a cluster. Nodes are indices; those beyond the cluster's size wrap around.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// kill -9.
    Kill {
        /// Whom.
        node: u8,
    },
    /// It takes no new requests, and ends when the fault is over.
    Stop {
        /// Whom.
        node: u8,
    },
    /// kill -9 of everybody at once.
    KillAll,
    /// What was not synced is gone but for a torn tail.
    PowerLoss {
        /// Whose.
        node: u8,
    },
    /// Everybody's power at once.
    PowerLossAll {
        /// Each in the middle of its next drain: what has been sent is not synced.
        amid: bool,
    },
    /// The next drain that gets there is the last.
    DieWithin {
        /// Whom.
        node: u8,
        /// 0: behind the write, 1: behind the release, 2: behind the sync.
        step: u8,
        /// The power goes too.
        power: bool,
    },
    /// A new, empty disk.
    Wipe {
        /// Whose.
        node: u8,
    },
    /// The disk as it was at the last backup; once the peers have refused it, a wiped one.
    OldCopy {
        /// Whose.
        node: u8,
    },
    /// The process stands still and then goes on.
    Pause {
        /// Whom.
        node: u8,
    },
    /// The wall clock is off.
    ClockJump {
        /// Whose.
        node: u8,
        /// By how much.
        ms: i64,
    },
    /// The next read of the disk fails.
    ReadError {
        /// Whose.
        node: u8,
    },
    /// The next batch fails; the node is restarted when the fault is over.
    CommitError {
        /// Whose.
        node: u8,
        /// It is in the log all the same.
        in_log: bool,
    },
    /// The next sync fails.
    SyncError {
        /// Whose.
        node: u8,
    },
    /// No room; the node is restarted when there is again.
    FullDisk {
        /// Whose.
        node: u8,
        /// The node notices before a write does.
        noticed: bool,
    },
    /// A bit of a record turns.
    BitFlip {
        /// Whose.
        node: u8,
    },
    /// A part of the disk cannot be read any more.
    RangeRot {
        /// Whose.
        node: u8,
    },
    /// Syncs and reads take long.
    SlowDisk {
        /// Whose.
        node: u8,
    },
    /// Everything takes long.
    SlowNode {
        /// Whose.
        node: u8,
    },
    /// Some do not hear others.
    Partition {
        /// In which way.
        shape: Shape,
        /// Around whom.
        node: u8,
    },
    /// Frames get lost, doubled and late.
    Weather {
        /// How many of 100 get lost.
        loss: u8,
        /// How many of 100 are doubled.
        doubled: u8,
        /// Of 1000, how many take up to 10 s.
        late: u8,
    },
}

impl Fault {
    /// The one node that it befalls.
    pub fn node(self) -> Option<u8> {
        match self {
            Fault::KillAll | Fault::PowerLossAll { .. } | Fault::Partition { .. } | Fault::Weather { .. } => None,
            Fault::Kill { node }
            | Fault::Stop { node }
            | Fault::PowerLoss { node }
            | Fault::DieWithin { node, .. }
            | Fault::Wipe { node }
            | Fault::OldCopy { node }
            | Fault::Pause { node }
            | Fault::ClockJump { node, .. }
            | Fault::ReadError { node }
            | Fault::CommitError { node, .. }
            | Fault::SyncError { node }
            | Fault::FullDisk { node, .. }
            | Fault::BitFlip { node }
            | Fault::RangeRot { node }
            | Fault::SlowDisk { node }
            | Fault::SlowNode { node } => Some(node),
        }
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// From the birth of the cluster.
    pub at: Duration,
    /// Who.
    pub client: u8,
    /// Which of the keys in use.
    pub key: u8,
    /// What.
    pub act: Act,
    /// R or W.
    pub level: u8,
    /// A read demands what its client was shown last.
    pub in_session: bool,
    /// What else it asks for.
    pub extras: Extras,
    /// For the choices that are left: whom to ask first, which of many, how much.
    pub salt: u32,
}

impl Operation {
    /// One that asks for nothing else, of the first client, about the first key.
    pub fn plain(act: Act, level: u8) -> Operation {
        let (at, extras) = (Duration::ZERO, Extras::default());
        Operation { at, client: 0, key: 0, act, level, in_session: false, extras, salt: 1 }
    }
}

/// What a request may ask for besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// No stand-ins.
    pub strict: bool,
    /// A trace.
    pub traced: bool,
    /// A blocking repair: so many primaries have what is read on their disks that any later read meets one of them.
    pub blocking_repair: bool,
    /// PW: all that count towards W must be primaries.
    pub of_primaries: bool,
    /// DW: of those that count towards W, two must have it on their disks; the one, if W is one.
    pub durable: bool,
}

impl Extras {
    /// Each now and then, some together.
    pub fn of(salt: u32) -> Extras {
        Extras {
            strict: salt.is_multiple_of(11),
            traced: salt.is_multiple_of(13),
            blocking_repair: salt.is_multiple_of(17),
            of_primaries: salt.is_multiple_of(3),
            durable: salt.is_multiple_of(13),
        }
    }
}

/// A client's intention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Read.
    Get,
    /// Read the page that the key stands on.
    Scan,
    /// Write without having looked.
    Blind,
    /// Write on what this client was shown last.
    Update,
    /// Write on something that some client was shown once.
    Stale,
    /// Read, and write on what was read.
    Merge,
    /// Delete what this client was shown last.
    Delete,
    /// Write again what this client does not know the fate of.
    Retry,
}
