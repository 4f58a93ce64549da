//! Flags that say how many replicas.

use clap::Args;
use dynkv::client::{GetOptions, PutOptions};
use dynkv::quorum::Level;

/// For reads.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ReadQuorum {
    /// Replicas that must answer a read: a number, one, quorum or all.
    #[arg(short, long, value_name = "R")]
    pub r: Option<Level>,
    /// How many of them must be primaries.
    #[arg(long, value_name = "PR")]
    pub pr: Option<Level>,
}

impl ReadQuorum {
    pub fn options(self) -> GetOptions {
        GetOptions { r: self.r, pr: self.pr, ..GetOptions::default() }
    }
}

/// For writes.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct WriteQuorum {
    /// Replicas that must have a write: a number, one, quorum or all.
    #[arg(short, long, value_name = "W")]
    pub w: Option<Level>,
    /// How many of them must be primaries.
    #[arg(long, value_name = "PW")]
    pub pw: Option<Level>,
    /// How many must have it on disk.
    #[arg(long, value_name = "DW", value_parser = clap::value_parser!(u8).range(0..=16))]
    pub dw: Option<u8>,
    /// Write to primaries only: nobody stands in for one that is away.
    #[arg(long)]
    pub strict: bool,
}

impl WriteQuorum {
    pub fn options(self) -> PutOptions {
        PutOptions { w: self.w, pw: self.pw, dw: self.dw, strict: self.strict, ..PutOptions::default() }
    }
}
