//! What happened, in words and as a hash.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Lines that are kept: the last ones.
const LINES_MAX: usize = 400;

/// The events of a run, in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    lines: VecDeque<String>,
    count: u64,
}

impl Trace {
    pub(super) fn note(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}", now.as_secs_f64());
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        self.count += 1;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Of all lines, also of those that are not kept.
    pub fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

/// The last lines.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.count - self.lines.len() as u64;
        if left_out > 0 {
            writeln!(f, "          ({left_out} lines before)")?;
        }
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
