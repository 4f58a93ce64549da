//! Consistency parameters, parsed into types that cannot hold nonsense.

use super::Level;

/// Why consistency parameters are refused. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// More or fewer than a key has replicas.
    #[error(
        "{what} = {given} is out of range: this bucket has {n} replicas here, so {what} is {least} to {n}, one, quorum or all"
    )]
    OutOfRange {
        /// r, w, pr, pw or dw.
        what: &'static str,
        /// As asked.
        given: u8,
        /// The least that makes sense.
        least: u8,
        /// The bucket's effective n.
        n: u8,
    },
}

/// Turns a level into a count of `n` replicas, at least `least`.
fn count(what: &'static str, level: Level, least: u8, n: u8) -> Result<u8, QuorumError> {
    let given = match level {
        Level::One => 1,
        Level::Quorum => n / 2 + 1,
        Level::All => n,
        Level::Number(given) => given,
    };
    if (least..=n).contains(&given) { Ok(given) } else { Err(QuorumError::OutOfRange { what, given, least, n }) }
}

/// How many replicas a write must reach before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteQuorum {
    n: u8,
    w: u8,
    pw: u8,
    dw: u8,
}

impl WriteQuorum {
    /// W, primaries-only PW and durable DW out of `n` replicas; `always` says that a write is by default durable at W of them.
    ///
    /// # Errors
    /// [`QuorumError`] for a count that no write could reach, and for W = 0.
    pub fn new(n: u8, w: Level, pw: Option<Level>, dw: Option<u8>, always: bool) -> Result<WriteQuorum, QuorumError> {
        let w = count("w", w, 1, n)?;
        let pw = pw.map_or(Ok(0), |pw| count("pw", pw, 0, n))?;
        let dw = match dw {
            Some(dw) => count("dw", Level::Number(dw), 0, n)?,
            None if always => w,
            None => 0,
        };
        Ok(WriteQuorum { n, w, pw, dw })
    }

    /// What satisfies both.
    #[must_use]
    pub fn stronger(self, other: WriteQuorum) -> WriteQuorum {
        WriteQuorum { n: self.n, w: self.w.max(other.w), pw: self.pw.max(other.pw), dw: self.dw.max(other.dw) }
    }

    /// The same of primaries alone: nobody stands in.
    #[must_use]
    pub fn of_primaries(self) -> WriteQuorum {
        WriteQuorum { pw: self.pw.max(self.w).max(self.dw), ..self }
    }

    /// Whether no stand-in could help to reach it.
    pub fn is_strict(self) -> bool {
        self.pw >= self.w.max(self.dw)
    }

    /// Replicas of the key.
    pub fn n(self) -> u8 {
        self.n
    }

    /// Replicas that must have written.
    pub fn w(self) -> u8 {
        self.w
    }

    /// Primaries among them.
    pub fn pw(self) -> u8 {
        self.pw
    }

    /// Replicas that must have it on disk.
    pub fn dw(self) -> u8 {
        self.dw
    }

    /// The replicas without which no acknowledgement is possible, whatever kind asks for them.
    pub fn needed(self) -> u8 {
        self.w.max(self.pw).max(self.dw)
    }

    /// Whether a replica is asked to sync before it acknowledges. One durable copy is the coordinator's own, if it is a
    /// replica; any more, and all are asked, since any of them may turn out to be the one that answers.
    pub fn must_sync(self, own: bool, coordinator_is_replica: bool) -> bool {
        match self.dw {
            0 => false,
            1 if coordinator_is_replica => own,
            _ => true,
        }
    }
}

/// How many replicas must answer a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadQuorum {
    n: u8,
    r: u8,
    pr: u8,
}

impl ReadQuorum {
    /// The same of primaries alone.
    #[must_use]
    pub fn of_primaries(self) -> ReadQuorum {
        ReadQuorum { pr: self.pr.max(self.r), ..self }
    }

    /// R and primaries-only PR out of `n` replicas.
    ///
    /// # Errors
    /// [`QuorumError`] for a count that no read could reach, and for R = 0.
    pub fn new(n: u8, r: Level, pr: Option<Level>) -> Result<ReadQuorum, QuorumError> {
        let r = count("r", r, 1, n)?;
        let pr = pr.map_or(Ok(0), |pr| count("pr", pr, 0, n))?;
        Ok(ReadQuorum { n, r, pr })
    }

    /// Replicas of the key.
    pub fn n(self) -> u8 {
        self.n
    }

    /// Replicas that must answer.
    pub fn r(self) -> u8 {
        self.r
    }

    /// Primaries among them.
    pub fn pr(self) -> u8 {
        self.pr
    }

    /// The replicas without which there is no answer.
    pub fn needed(self) -> u8 {
        self.r.max(self.pr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_resolve_against_n() {
        for (n, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let put = WriteQuorum::new(n, Level::Quorum, Some(Level::One), None, false).unwrap();
            assert_eq!((put.w(), put.pw(), put.dw()), (quorum, 1, 0));
            assert_eq!(ReadQuorum::new(n, Level::All, None).unwrap().r(), n);
        }
    }

    #[test]
    fn durable_defaults_to_w_under_always() {
        assert_eq!(WriteQuorum::new(3, Level::Number(2), None, None, true).unwrap().dw(), 2);
        assert_eq!(WriteQuorum::new(3, Level::Number(2), None, Some(0), true).unwrap().dw(), 0);
        assert_eq!(WriteQuorum::new(3, Level::Number(2), None, Some(3), false).unwrap().needed(), 3);
    }

    #[test]
    fn nonsense_is_named() {
        let error = WriteQuorum::new(3, Level::Number(4), None, None, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "w = 4 is out of range: this bucket has 3 replicas here, so w is 1 to 3, one, quorum or all"
        );
        for bad in [
            WriteQuorum::new(3, Level::Number(0), None, None, true),
            WriteQuorum::new(3, Level::One, Some(Level::Number(4)), None, true),
            WriteQuorum::new(3, Level::One, None, Some(4), true),
        ] {
            assert!(bad.is_err());
        }
        assert!(ReadQuorum::new(3, Level::Number(0), None).is_err());
        assert!(ReadQuorum::new(3, Level::Number(4), None).is_err());
        assert!(ReadQuorum::new(3, Level::One, Some(Level::Number(4))).is_err());
    }

    #[test]
    fn one_durable_copy_is_the_coordinators() {
        let one = WriteQuorum::new(3, Level::Number(2), None, Some(1), false).unwrap();
        assert!(one.must_sync(true, true) && !one.must_sync(false, true));
        assert!(one.must_sync(false, false), "a coordinator without the key has no copy of its own");
        let two = WriteQuorum::new(3, Level::Number(2), None, Some(2), false).unwrap();
        assert!(two.must_sync(true, true) && two.must_sync(false, true));
    }
}
