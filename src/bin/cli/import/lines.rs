//! Lines of any bytes, counted.

use std::io::BufRead;

/// Longer lines are refused: no value is as long, and memory is not without end.
const LONGEST: u64 = 64 << 20;

/// Why a file cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadInput {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Reads line by line, the line's end included.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    line: u64,
}

impl Lines {
    pub fn new(reader: Box<dyn BufRead + Send>) -> Lines {
        Lines { reader, line: 0 }
    }

    /// The number of the line given last.
    pub fn number(&self) -> u64 {
        self.line
    }

    /// Appends the next line to `into`; false at the end.
    pub fn next_into(&mut self, into: &mut Vec<u8>) -> Result<bool, BadInput> {
        self.line += 1;
        let bad = |reason: String| BadInput { line: self.line, reason };
        let mut bounded = std::io::Read::take(&mut self.reader, LONGEST);
        let read = bounded.read_until(b'\n', into).map_err(|error| bad(format!("cannot be read: {error}")))?;
        if read as u64 == LONGEST && !into.ends_with(b"\n") {
            return Err(bad(format!("longer than {} MiB", LONGEST >> 20)));
        }
        Ok(read > 0)
    }
}
