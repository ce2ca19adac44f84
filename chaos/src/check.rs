//! Judges a [`History`] by what was promised.
//!
//! Pure functions: the same history and the same end give the same report. They know nothing of how
//! Whimbrel works, only what clients sent and what regions showed.

mod index;
mod markers;
mod sessions;
mod settled;
mod shown;
mod streams;
mod tail;
mod violation;

use std::fmt;

use serde::Serialize;

use crate::history::{Answer, Call, History, Outcome, Settled, Told};
use index::Index;
pub use tail::{Judged, Tail, check_without};
pub use violation::{At, Cited, Violation};

/// What a check found, and how much there was to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All promises that were broken.
    pub violations: Vec<Violation>,
    /// What happened: a clean report of nothing says nothing.
    pub counts: Counts,
}

/// How much happened in a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations, each try counted.
    pub operations: usize,
    /// Posts that were acked.
    pub posts: usize,
    /// Edits that were acked.
    pub edits: usize,
    /// Redactions that were acked.
    pub redactions: usize,
    /// Other writes that were acked.
    pub other_writes: usize,
    /// Tries that were refused.
    pub refused: usize,
    /// Tries of writes whose outcome is unknown.
    pub unknown: usize,
    /// Writes that were acked by one region after a try in another whose outcome is unknown.
    pub retried_elsewhere: usize,
    /// Writes that their region said it had done before.
    pub replayed: usize,
    /// Pages that were read.
    pub pages: usize,
    /// Pages that were read in another region than the one before, in the same session.
    pub hops: usize,
    /// Pages of which the region said that it lacks something.
    pub stale: usize,
    /// Times that a stream was taken up again.
    pub resumptions: usize,
    /// Events that streams told.
    pub told: usize,
    /// Times that a region said that it is behind a stream.
    pub behind: usize,
}

/// Checks what clients saw, and what all regions show in the end.
pub fn check(history: &History, settled: &Settled) -> Report {
    let index = Index::new(history, settled);
    let mut violations = Vec::new();
    shown::check(&index, &mut violations);
    settled::check(&index, settled, &mut violations);
    let held = sessions::check(&index, &mut violations);
    sessions::check_causes(&index, &held, &mut violations);
    streams::check(&index, &held, settled, &mut violations);
    markers::check(&index, &held, settled, &mut violations);
    Report {
        violations,
        counts: count(&index),
    }
}

fn count(index: &Index<'_>) -> Counts {
    let mut counts = Counts::default();
    for operations in index.sessions.values() {
        let mut listened = false;
        let mut page_of = None;
        for operation in operations {
            counts.operations += 1;
            let answer = match &operation.outcome {
                Outcome::Done(answer) => answer,
                Outcome::Refused(_) => {
                    counts.refused += 1;
                    continue;
                }
                Outcome::Unknown(_) => {
                    counts.unknown += usize::from(operation.call.key().is_some());
                    continue;
                }
            };
            match answer {
                Answer::Page(page) => {
                    counts.pages += 1;
                    counts.stale += usize::from(!page.stale.is_empty());
                    let before = page_of.replace(&operation.region);
                    counts.hops += usize::from(before.is_some_and(|b| *b != operation.region));
                }
                Answer::Told(told) => {
                    counts.resumptions += usize::from(listened);
                    listened = true;
                    counts.told += told.len();
                    counts.behind += told.iter().filter(|t| matches!(t, Told::Behind)).count();
                }
                Answer::Nothing | Answer::Created(_) | Answer::Message { .. } => {}
            }
        }
    }
    for write in index.writes.values() {
        let Some(acked) = write.acked() else {
            continue;
        };
        *match write.call() {
            Call::Post { .. } => &mut counts.posts,
            Call::Edit { .. } => &mut counts.edits,
            Call::Redact { .. } => &mut counts.redactions,
            _ => &mut counts.other_writes,
        } += 1;
        let tried = write.possible().take_while(|operation| *operation != acked);
        let elsewhere = tried.filter(|operation| operation.region != acked.region);
        counts.retried_elsewhere += usize::from(elsewhere.count() > 0);
        let replayed =
            |(_, answer): (_, &Answer)| matches!(answer, Answer::Message { replayed: true, .. });
        counts.replayed += usize::from(write.done().any(replayed));
    }
    counts
}

impl fmt::Display for Report {
    /// The first violations, and what happened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for violation in self.violations.iter().take(SHOWN) {
            writeln!(f, "{violation}")?;
        }
        if self.violations.len() > SHOWN {
            writeln!(f, "and {} more", self.violations.len() - SHOWN)?;
        }
        write!(f, "{:?}", self.counts)
    }
}

#[cfg(test)]
mod tests;
