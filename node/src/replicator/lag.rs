//! How far a peer is behind, measured here, where its lack is known: a dead link shows growing lag.
//!
//! Of each shard's own log it is kept in memory what stands in the part that some peer lacks, in
//! entries that grow coarser with age: a peer that is away for long costs no more memory, and what is
//! said of its lag is off by half a percent at most.

use std::collections::VecDeque;

use whimbrel_replication::id::{Origin, ShardId, Stamp};
use whimbrel_replication::limits::LOG_READ_BYTES_MAX;
use whimbrel_replication::op::Batch;

use crate::apply::corrupt;
use crate::apply::remote::{self, LogPage};
use crate::store::{Store, StoreError};

/// An entry holds at most such a part of what comes after it. Larger: finer, and more memory.
const FINENESS: u64 = 400;
/// Entries of one shard, before they are joined; more than `FINENESS * ln(batches)`.
const ENTRIES_MAX: usize = 8 * 1024;

/// What a peer lacks of our log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lag {
    /// Age of the oldest op that it lacks.
    pub seconds: f64,
    /// How many batches it lacks.
    pub batches: u64,
    /// How many ops are in them.
    pub ops: u64,
    /// Their bytes, as they stand in the log.
    pub bytes: u64,
}

impl Lag {
    /// Adds that of another shard.
    pub(super) fn add(&mut self, other: Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.batches += other.batches;
        self.ops += other.ops;
        self.bytes += other.bytes;
    }
}

/// Some batches that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    to: Stamp,
    batches: u64,
    ops: u64,
    bytes: u64,
    /// When the first of their ops was stamped.
    since_unix_ms: i64,
}

impl Entry {
    fn of(to: Stamp, bytes: &[u8]) -> Result<Self, whimbrel_replication::error::DecodeError> {
        let batch = Batch::decode(bytes)?;
        let since = batch.ops.first().map(|op| op.position.hlc().unix_ms());
        Ok(Self {
            to,
            batches: 1,
            ops: batch.ops.len() as u64,
            bytes: bytes.len() as u64,
            since_unix_ms: since.unwrap_or(i64::MAX),
        })
    }

    fn join(self, next: Self) -> Self {
        Self {
            to: next.to,
            batches: self.batches + next.batches,
            ops: self.ops + next.ops,
            bytes: self.bytes + next.bytes,
            since_unix_ms: self.since_unix_ms.min(next.since_unix_ms),
        }
    }
}

/// The end of a shard's own log.
#[derive(Debug)]
pub(super) struct Backlog {
    /// All that stands in the log after it is counted.
    since: Stamp,
    /// Before the first entry; what was before it, down to `since`, is trimmed.
    floor: Stamp,
    entries: VecDeque<Entry>,
}

impl Backlog {
    /// Of a log that ends here.
    pub(super) const fn new(floor: Stamp) -> Self {
        Self {
            since: floor,
            floor,
            entries: VecDeque::new(),
        }
    }

    /// After what and up to what the log is to be read, where a peer holds it only up to `held`: at the start,
    /// and when a peer turns out to hold less than it did, for its store is another.
    pub(super) fn is_to_be_read(&self, held: Stamp) -> Option<(Stamp, Stamp)> {
        (held < self.since).then_some((held, self.floor))
    }

    /// The last batch.
    pub(super) fn end(&self) -> Stamp {
        self.entries.back().map_or(self.floor, |entry| entry.to)
    }

    /// The log has grown by a batch.
    pub(super) fn push(&mut self, to: Stamp, bytes: Option<&[u8]>) {
        if to <= self.end() {
            return;
        }
        let entry = bytes.and_then(|bytes| Entry::of(to, bytes).ok());
        // A batch that was trimmed at once, or that is none, counts as nothing.
        self.add(entry.unwrap_or(Entry {
            to,
            batches: 0,
            ops: 0,
            bytes: 0,
            since_unix_ms: i64::MAX,
        }));
    }

    fn add(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        if self.entries.len() > ENTRIES_MAX {
            self.coarsen();
        }
    }

    /// Joins entries, the older the more of them, so that each stays small beside what follows it.
    fn coarsen(&mut self) {
        let mut coarse: VecDeque<Entry> = VecDeque::with_capacity(self.entries.len());
        let mut after = 0;
        for entry in std::mem::take(&mut self.entries).into_iter().rev() {
            match coarse.front_mut() {
                Some(next) if (entry.batches + next.batches) * FINENESS <= after => {
                    *next = entry.join(*next);
                }
                next => {
                    after += next.map_or(0, |next| next.batches);
                    coarse.push_front(entry);
                }
            }
        }
        self.entries = coarse;
    }

    /// All peers hold the log up to here.
    pub(super) fn let_go(&mut self, held: Stamp) {
        while let Some(entry) = self.entries.front().filter(|entry| entry.to <= held) {
            (self.since, self.floor) = (entry.to, entry.to);
            self.entries.pop_front();
        }
    }

    /// Puts before it what was read of the log; nothing if it was let go of meanwhile.
    pub(super) fn put_before(&mut self, before: Self) {
        if before.end() < self.floor {
            return;
        }
        if before.end() > self.floor {
            // All that it lacked is trimmed, and more.
            self.since = before.since;
            return;
        }
        let after = std::mem::replace(self, before);
        for entry in after.entries {
            self.add(entry);
        }
    }

    /// Of a peer that holds the log up to `held`.
    pub(super) fn lag(&self, held: Stamp, now_unix_ms: i64) -> Lag {
        let lacking = self.entries.iter().filter(|entry| entry.to > held);
        let Some(all) = lacking.copied().reduce(Entry::join) else {
            return Lag::default();
        };
        let ms = now_unix_ms.saturating_sub(all.since_unix_ms).max(0);
        Lag {
            seconds: f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1_000.0,
            batches: all.batches,
            ops: all.ops,
            bytes: all.bytes,
        }
    }

    /// Reads what stands in a log after `from` and up to `to`.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub(super) async fn read(
        store: &Store,
        shard: ShardId,
        own: Origin,
        from: Stamp,
        to: Stamp,
    ) -> Result<Self, StoreError> {
        let mut backlog = Self::new(from);
        while backlog.end() < to {
            let from = backlog.end();
            let page = remote::log_after(store, shard, own, from, LOG_READ_BYTES_MAX).await?;
            match page {
                LogPage::Trimmed(floor) => {
                    backlog = Self {
                        since: backlog.since,
                        ..Self::new(floor)
                    };
                }
                LogPage::Batches(batches) => {
                    for (stamp, bytes) in batches.iter().filter(|(stamp, _)| *stamp <= to) {
                        backlog.add(Entry::of(*stamp, bytes).map_err(corrupt)?);
                    }
                    if backlog.end() == from {
                        backlog.push(to, None);
                    }
                }
            }
        }
        Ok(backlog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(to: u64, ops: u64, since_unix_ms: i64) -> Entry {
        Entry {
            to: Stamp::new(to, 0),
            batches: 1,
            ops,
            bytes: ops * 100,
            since_unix_ms,
        }
    }

    fn lag(backlog: &Backlog, held: u64, now_unix_ms: i64) -> (f64, u64, u64, u64) {
        let lag = backlog.lag(Stamp::new(held, 0), now_unix_ms);
        (lag.seconds, lag.batches, lag.ops, lag.bytes)
    }

    #[test]
    fn g15_it_counts_what_a_peer_lacks() {
        let mut backlog = Backlog::new(Stamp::new(3, 0));
        assert_eq!(lag(&backlog, 0, 9_000), (0.0, 0, 0, 0));
        for (to, ops) in [(5, 2), (6, 3), (9, 4)] {
            backlog.add(entry(to, ops, i64::try_from(to).unwrap() * 1_000));
        }
        assert_eq!(lag(&backlog, 3, 9_500), (4.5, 3, 9, 900));
        assert_eq!(lag(&backlog, 5, 9_500), (3.5, 2, 7, 700));
        assert_eq!(lag(&backlog, 8, 9_500), (0.5, 1, 4, 400));
        assert_eq!(lag(&backlog, 9, 9_500), (0.0, 0, 0, 0));
        // A clock that was ahead when it stamped.
        assert_eq!(lag(&backlog, 8, 1_000), (0.0, 1, 4, 400));
        backlog.let_go(Stamp::new(6, 0));
        assert_eq!(lag(&backlog, 6, 9_500), (0.5, 1, 4, 400));
        assert_eq!(backlog.entries.len(), 1);
    }

    #[test]
    fn what_was_there_before_the_start_comes_first() {
        let mut backlog = Backlog::new(Stamp::new(5, 0));
        backlog.add(entry(7, 1, 0));
        let mut before = Backlog::new(Stamp::new(2, 0));
        before.add(entry(4, 10, 0));
        backlog.put_before(before);
        assert_eq!(lag(&backlog, 0, 0).2, 1, "it does not join on");
        let mut before = Backlog::new(Stamp::new(2, 0));
        before.add(entry(5, 10, 0));
        backlog.put_before(before);
        assert_eq!(lag(&backlog, 2, 0).2, 11);
        assert_eq!(lag(&backlog, 5, 0).2, 1);
    }

    /// A peer whose disk was destroyed lacks again what all held: it is read once more, and once only.
    #[test]
    fn g15_what_a_rebuilt_peer_lacks_is_read_again() {
        let at = |number| Stamp::new(number, 0);
        let mut backlog = Backlog::new(at(5));
        assert_eq!(backlog.is_to_be_read(at(5)), None);
        backlog.add(entry(7, 1, 0));
        backlog.let_go(at(7));
        assert_eq!(backlog.is_to_be_read(at(7)), None);
        assert_eq!(backlog.is_to_be_read(at(3)), Some((at(3), at(7))));
        backlog.add(entry(9, 1, 0));
        let mut before = Backlog::new(at(3));
        before.add(entry(5, 10, 0));
        before.add(entry(7, 1, 0));
        backlog.put_before(before);
        assert_eq!(backlog.is_to_be_read(at(3)), None);
        assert_eq!(lag(&backlog, 3, 0).2, 12);
        // Of another peer that holds even less some is trimmed.
        assert_eq!(backlog.is_to_be_read(at(0)), Some((at(0), at(3))));
        backlog.put_before(Backlog {
            since: at(0),
            ..Backlog::new(at(4))
        });
        assert_eq!(backlog.is_to_be_read(at(0)), None);
        assert_eq!(lag(&backlog, 0, 0).2, 12);
        // What all hold was let go of while it was read.
        let mut backlog = Backlog::new(at(5));
        backlog.add(entry(7, 1, 0));
        let mut before = Backlog::new(at(3));
        before.add(entry(5, 10, 0));
        backlog.let_go(at(7));
        backlog.put_before(before);
        assert_eq!(lag(&backlog, 0, 0).2, 0);
        assert_eq!(backlog.is_to_be_read(at(7)), None);
    }

    /// A peer that lacks a million batches costs a bounded number of entries, and its lag is right but
    /// for half a percent, wherever it stands.
    #[test]
    fn a_long_backlog_is_bounded_and_about_right() {
        const ALL: u64 = 1_000_000;
        let mut backlog = Backlog::new(Stamp::MIN);
        for to in 1..=ALL {
            backlog.add(entry(to, 1, 0));
        }
        assert!(backlog.entries.len() <= ENTRIES_MAX);
        for held in [
            0,
            1,
            1_000,
            ALL / 3,
            ALL / 2,
            ALL - 100_000,
            ALL - 3_000,
            ALL - 1,
            ALL,
        ] {
            let (_, batches, ops, _) = lag(&backlog, held, 0);
            let right = ALL - held;
            assert_eq!(batches, ops);
            assert!(ops >= right, "{ops} of {right}");
            assert!(ops - right <= right / 200, "{ops} of {right}");
        }
    }
}
