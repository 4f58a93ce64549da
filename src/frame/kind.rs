//! The kind byte of a frame: one table for every lane.

/// What a frame is. The high bit marks answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Opens a lane between controls.
    OpenControl = 0x01,
    /// Opens a lane of one of the dialer's shards.
    OpenShard = 0x02,
    /// Opens a client's lane.
    OpenClient = 0x03,
    /// [`crate::message::Hello`].
    Hello = 0x08,
    /// [`crate::message::GossipSyn`].
    GossipSyn = 0x09,
    /// [`crate::message::GossipDelta`].
    GossipDelta = 0x0a,
    /// [`crate::message::Ping`].
    Ping = 0x0b,
    /// [`crate::message::HelloAnswer`].
    HelloAnswer = 0x88,
    /// [`crate::message::GossipAck`].
    GossipAck = 0x89,
    /// [`crate::message::Pong`].
    Pong = 0x8b,
    /// [`crate::message::Coordinate`].
    Coordinate = 0x10,
    /// [`crate::message::Replicate`].
    Replicate = 0x11,
    /// [`crate::message::Fetch`].
    Fetch = 0x12,
    /// [`crate::message::Range`].
    Range = 0x13,
    /// [`crate::message::Compare`].
    Compare = 0x14,
    /// [`crate::message::Sums`].
    Sums = 0x15,
    /// [`crate::message::Items`].
    Items = 0x16,
    /// [`crate::message::Want`].
    Want = 0x17,
    /// [`crate::message::Reaping`].
    Reaping = 0x18,
    /// [`crate::message::AskRounds`].
    AskRounds = 0x19,
    /// [`crate::message::Coordinated`].
    Coordinated = 0x90,
    /// [`crate::message::Replicated`].
    Replicated = 0x91,
    /// [`crate::message::Fetched`].
    Fetched = 0x92,
    /// [`crate::message::Ranged`].
    Ranged = 0x93,
    /// [`crate::message::Compared`].
    Compared = 0x94,
    /// [`crate::message::Summed`].
    Summed = 0x95,
    /// [`crate::message::Itemized`].
    Itemized = 0x96,
    /// [`crate::message::Wanted`].
    Wanted = 0x97,
    /// [`crate::message::ReapingSaid`].
    ReapingSaid = 0x98,
    /// [`crate::message::RoundsTold`].
    RoundsTold = 0x99,
    /// [`crate::api::Get`].
    Get = 0x20,
    /// [`crate::api::Put`].
    Put = 0x21,
    /// [`crate::api::Scan`].
    Scan = 0x22,
    /// [`crate::api::Where`].
    Where = 0x23,
    /// [`crate::api::Request::Ring`].
    Ring = 0x24,
    /// [`crate::api::Request::Status`].
    Status = 0x25,
    /// [`crate::api::HintOrder`].
    Hints = 0x26,
    /// [`crate::api::Explain`].
    Explain = 0x27,
    /// [`crate::api::RepairOrder`].
    Repair = 0x28,
    /// [`crate::api::TombstoneOrder`].
    Tombstones = 0x29,
    /// [`crate::api::Response`], to any of the requests.
    Response = 0xa0,
}

impl Kind {
    const ALL: [Kind; 41] = [
        Kind::OpenControl,
        Kind::OpenShard,
        Kind::OpenClient,
        Kind::Hello,
        Kind::GossipSyn,
        Kind::GossipDelta,
        Kind::Ping,
        Kind::HelloAnswer,
        Kind::GossipAck,
        Kind::Pong,
        Kind::Coordinate,
        Kind::Replicate,
        Kind::Fetch,
        Kind::Range,
        Kind::Compare,
        Kind::Sums,
        Kind::Items,
        Kind::Want,
        Kind::Reaping,
        Kind::AskRounds,
        Kind::Coordinated,
        Kind::Replicated,
        Kind::Fetched,
        Kind::Ranged,
        Kind::Compared,
        Kind::Summed,
        Kind::Itemized,
        Kind::Wanted,
        Kind::ReapingSaid,
        Kind::RoundsTold,
        Kind::Get,
        Kind::Put,
        Kind::Scan,
        Kind::Where,
        Kind::Ring,
        Kind::Status,
        Kind::Hints,
        Kind::Explain,
        Kind::Repair,
        Kind::Tombstones,
        Kind::Response,
    ];

    /// The kind of this byte, if there is one.
    pub fn of(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}
