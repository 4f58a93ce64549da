//! What a run has met: effects of faults, not their injections, and situations that must come up now and then.
//! Over many seeds nothing here may stay at zero: a fault that never bites proves nothing.

/// What kind of mark it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a fault has done.
    Effect,
    /// A situation that is to come up sometimes.
    Probe,
}

macro_rules! marks {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:ident $text:literal,)*) => {
        /// One thing that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $($(#[doc = $doc])* $name,)* }

        impl Mark {
            /// Every mark, in the order of the table.
            pub const ALL: &'static [Mark] = &[$(Mark::$name,)*];

            /// What it is called in the table.
            pub fn name(self) -> &'static str {
                match self { $(Mark::$name => $text,)* }
            }

            /// Whether a fault did it, or it came up.
            pub fn kind(self) -> Kind {
                match self { $(Mark::$name => Kind::$kind,)* }
            }
        }
    };
}

marks! {
    /// A frame that the weather took.
    FrameLost: Effect "frames lost",
    /// A frame that arrived twice.
    FrameDuplicated: Effect "frames duplicated",
    /// A frame that came before one that was sent earlier between the same machines.
    FrameOvertaken: Effect "frames overtaken",
    /// A frame that took a second or more.
    FrameDelayed: Effect "frames delayed by 1 s or more",
    /// A frame that ran into a cut around one node.
    CutSingle: Effect "frames cut: one node alone",
    /// A frame that ran into a cut between two halves.
    CutHalves: Effect "frames cut: halves",
    /// A frame that ran into a cut which one node bridges.
    CutBridge: Effect "frames cut: bridge",
    /// A frame that ran into a cut where everybody sees neighbours only.
    CutRing: Effect "frames cut: ring",
    /// A frame that ran into a cut of one direction.
    CutOneWay: Effect "frames cut: one way",
    /// A frame that ran into a flapping link.
    CutFlapping: Effect "frames cut: flapping",
    /// A link that ended since it was silent for too long.
    LinkSilent: Effect "links ended by silence",
    /// A process that was killed while clients waited for it.
    Killed: Effect "kills with requests under way",
    /// A process that stopped in order.
    Stopped: Effect "ordered stops",
    /// A process that was killed before its cluster was born.
    BirthDisturbed: Effect "kills before the cluster was born",
    /// All processes were killed at once.
    AllKilled: Effect "all nodes killed at once",
    /// A process that died between two steps of a drain.
    DiedWithinDrain: Effect "deaths within a drain",
    /// A power loss that took batches.
    PowerTook: Effect "power losses that took batches",
    /// All nodes lost power at once.
    AllPowerLost: Effect "power lost everywhere at once",
    /// A tombstone that was deleted for good.
    Reaped: Probe "tombstones reaped",
    /// A directory that was emptied with objects in it.
    Wiped: Effect "disks wiped",
    /// An old copy of a directory that the peers refused.
    OldCopyRefused: Effect "old copies refused",
    /// An event that waited for a paused process.
    EventHeld: Effect "events held by a pause",
    /// A write minted while its node's wall clock was off.
    SkewedMint: Effect "writes minted under a wrong clock",
    /// A read of the disk that failed.
    ReadFailed: Effect "disk reads failed",
    /// A batch that could not be written.
    CommitFailed: Effect "commits failed",
    /// A batch that could not be written and was there after a restart.
    FailedSurfaced: Effect "failed commits surfaced",
    /// A sync that failed and ended its process.
    SyncFailed: Effect "syncs failed",
    /// A batch that found no room.
    DiskFull: Effect "commits on a full disk",
    /// A write that was refused before the disk was full.
    ReadOnlyRefused: Effect "writes refused by a read-only node",
    /// A record that had rotted and was wiped.
    RotWiped: Effect "rotten records wiped",
    /// A stretch of keys that could not be read and was wiped.
    StretchWiped: Effect "unreadable stretches wiped",
    /// A sync on a slow disk.
    DiskSlow: Effect "syncs on a slow disk",
    /// A batch that was written while a sync of earlier ones was under way.
    WrittenAmidSync: Probe "batches written amid a sync",
    /// A drain that a slow node began late.
    NodeSlow: Effect "drains begun late by a slow node",
    /// A replicate to the last slot that was left out.
    ReplicateWithheld: Effect "replicates withheld",
    /// A drain that took a part of what was queued.
    TinyBatch: Effect "tiny batches",

    /// A log that was replayed with a part of its unsynced batches.
    TornTail: Probe "log replayed with a torn tail",
    /// A process that could not trust its actors.
    TrustLost: Probe "restart without trust in own actors",
    /// A put to which success was promised: failures were detected, and W nodes well.
    PutPromised: Probe "put promised success",
    /// A node called to stand in for another in a put.
    StandInCalled: Probe "stand-in called",
    /// A receipt that a stand-in counts in.
    StandInCounted: Probe "put acknowledged with a stand-in",
    /// A read that demanded what its client had seen.
    SessionRead: Probe "read in a session",
    /// A read that could not be had as new as was demanded.
    Stale: Probe "read refused as stale",
    /// A key of which two sound replicas or more were compared in the end.
    Compared: Probe "replicas compared when healed",
    /// A tree that differed from another primary's.
    TreeDiffered: Probe "trees found to differ",
    /// An object that came to where it was missed because trees differed.
    Exchanged: Probe "objects exchanged",
    /// A node that has filled all trees of a lost disk again.
    Rebuilt: Probe "lost disks rebuilt",
    /// A record that had rotted and has come back from other nodes.
    RotHealed: Probe "rotten records healed",
    /// A tree of something that was counted from a disk, and compared.
    TreesCounted: Probe "trees counted from the disk",
    /// A tombstone that its index names as its record says.
    TombstonesCounted: Probe "tombstones counted from the disk",
    /// A read that had its result made durable before it was answered.
    Settled: Probe "read with blocking repair",
    /// A put that was not begun for want of nodes.
    PutUnavailable: Probe "put unavailable",
    /// A put that W replicas did not confirm.
    WriteUnconfirmed: Probe "put indeterminate",
    /// A get that asked one replica more than it needed.
    Hedged: Probe "get hedged",
    /// A reply that named a digest in place of an object.
    DigestMatched: Probe "copies compared by digest",
    /// A replica that a get found behind.
    ReadRepaired: Probe "replica repaired by a get",
    /// A get whose answer counts a stand-in.
    StandInRead: Probe "get answered with a stand-in",
    /// A get that was not answered for want of nodes.
    GetUnavailable: Probe "get unavailable",
    /// A get that R replicas did not answer.
    ReadUnanswered: Probe "get without quorum",
    /// A write whose outcome nobody knew, seen later.
    LateWrite: Probe "late unknown write seen",
    /// Three siblings or more, made one.
    Resolved: Probe "three siblings made and resolved",
    /// An operation that found its record in the cache.
    Cached: Probe "operation on a cached record",
    /// An operation that needed no value of the record, and found all else in the cache.
    Hollow: Probe "values replaced unread",
    /// An operation that waited for the disk.
    Parked: Probe "operation parked for a cold read",
    /// A put that was handed to a primary.
    Forwarded: Probe "put forwarded",
    /// A node stopped asking a peer that did not answer.
    LeftAlone: Probe "silent peer left alone",
    /// A put that was coordinated without a slot.
    Unowned: Probe "put coordinated without a slot",
    /// A retry that was recognised.
    RetryKnown: Probe "retry recognised",
    /// An answer for which there was no room.
    AnswerDropped: Probe "answer dropped by a full inbox",
    /// A control frame that came when the cut was over.
    Retransmitted: Probe "control frames held up by a cut",
    /// A request refused for lack of room.
    Shed: Probe "overload shed",
    /// A write refused for its siblings.
    SiblingsRefused: Probe "too many siblings refused",
    /// An answer of a replica that lost its disk.
    RebuildingHeard: Probe "rebuilding replica heard",
    /// A member that another one holds for dead.
    Convicted: Probe "node convicted",
    /// Of these, one whose process was up and not paused.
    FalselyConvicted: Probe "false conviction",
    /// A node that was dead for long and that all others held for dead.
    DeadConvicted: Probe "dead node convicted by all others",
    /// One that was heard of again.
    Acquitted: Probe "node acquitted",
    /// A request that came after its deadline.
    Expired: Probe "request expired on arrival",
}

/// How often each mark was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { counts: vec![0; Mark::ALL.len()] }
    }
}

impl Coverage {
    /// It has been met `times` more.
    pub fn add(&mut self, mark: Mark, times: u64) {
        self.counts[mark as usize] += times;
    }

    /// It has been met.
    pub fn hit(&mut self, mark: Mark) {
        self.add(mark, 1);
    }

    /// How often it was met.
    pub fn of(&self, mark: Mark) -> u64 {
        self.counts[mark as usize]
    }

    /// Adds what another run has met.
    pub fn join(&mut self, other: &Coverage) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }

    /// What has never been met.
    pub fn missing(&self) -> impl Iterator<Item = Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.of(*mark) == 0)
    }
}
